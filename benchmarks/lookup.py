"""Prompt look-up decoding beside plain greedy decoding: tokens per second, tokens per pass, and acceptance.

    pip install -e ".[gguf]" && minilora models get smollm2 && python -m benchmarks.lookup [--bits 4]

SmolLM2-135M on answers of a chat, on texts to correct, to summarize or to repeat, and on code. Both ways take turns
on each prompt. A row has the medians over the prompts of its kind, the median of the prompts' ratios, and the worst of
them. The tokens are compared; where they differ, two logits were equal to rounding (see `generate`). Passes: the
milliseconds of a forward pass of so many tokens after 256, in multiples of one of a single token.
"""

import argparse
import inspect
import json
import os
import statistics
import sys
import textwrap
from time import perf_counter

import numpy as np

from benchmarks.harness import median_ratio
from benchmarks.smollm2_checks import BEGINNINGS, QUESTIONS, TEXT
from minilora import no_grad
from minilora.errors import MiniloraError
from minilora.models.cache import KVCache
from minilora.models.lookup import NUM_TOKENS, Drafts, lookup_stream
from minilora.train import answers, recipes

TEXTS = [
    TEXT,
    "Their going to the libary tomorow becuase the books is due. The libary opens at nine and closes at five, and they "
    "dont want to pay a fine. After that they will eat lunch at the cafe near the station.",
    "The river Thames rises in Gloucestershire and flows through Oxford, Reading, Windsor and London before it reaches "
    "the North Sea. It is the longest river that lies entirely in England. The tidal part begins at Teddington Lock. "
    "Its floods are held back by the Thames Barrier, which was opened in 1984.",
]
TASKS = [
    "Correct the spelling and grammar of this text. Give the whole text back.",
    "Summarize this text in two sentences.",
    "Repeat this text with every sentence on a line of its own.",
]
CODE = [inspect.getsource(f)[:900] for f in (statistics.mean, statistics.median, textwrap.dedent, statistics.mode)]
PASSES = (1, 2, 3, 4, 6, 8)


def prompts(tokenizer, model) -> dict[str, list[tuple[np.ndarray, list[int]]]]:
    """By kind, the ids (T,) of each prompt and the tokens that end its answer."""
    ends = answers.end_token_ids(tokenizer, model.config)
    asked = {
        "chat": QUESTIONS,
        "edits and summaries": [f"{task}\n\n{text}" for text in TEXTS for task in TASKS],
    }
    found = {kind: [(answers.question_ids(tokenizer, q), ends) for q in texts] for kind, texts in asked.items()}
    return found | {
        "code": [(tokenizer.encode_prompt(text), []) for text in CODE],
        "beginnings": [(tokenizer.encode_prompt(text), []) for text in BEGINNINGS],
    }


def timed(stream) -> tuple[list[int], float]:
    """The tokens of a stream, and the seconds from the first to the last: the prompt is read before."""
    tokens = [int(next(stream)[0])]
    started = perf_counter()
    tokens += [int(token) for (token,) in stream]
    return tokens, perf_counter() - started


def compare(model, ids: np.ndarray, ends: list[int], new_tokens: int, most: int) -> dict:
    """One prompt, plain and with look-up."""
    plain, plain_seconds = timed(model.generate_stream(ids[None], new_tokens, temperature=0, eos_token_id=ends))
    drafts, cache = Drafts(ids.tolist(), most), KVCache(len(ids) + new_tokens)
    mask, passes = np.ones((1, len(ids)), dtype=np.int64), []
    drafts.report = lambda *counts: passes.append(counts) or Drafts.report(drafts, *counts)
    found, seconds = timed(lookup_stream(model, drafts, mask, new_tokens, np.array(ends, dtype=np.int64), cache))
    return {
        "plain": plain_seconds / max(len(plain) - 1, 1),
        "lookup": seconds / max(len(found) - 1, 1),
        "passes": len(passes),
        "tokens": len(found),
        "drafted": drafts.drafted,
        "accepted": drafts.accepted,
        "same": plain == found,
    }


def time_passes(model, rounds: int) -> dict[int, float]:
    """Seconds of a pass of so many tokens after 256, medians of the rounds, in which all lengths take turns."""
    ids = np.random.default_rng(0).integers(100, 40_000, (1, 256))
    cache, seconds = KVCache(300), {count: [] for count in PASSES}
    with no_grad():
        model.body(ids, past_key_values=cache)
        for count in PASSES * rounds:
            cache.length = 256
            started = perf_counter()
            model.logits(model.body(ids[:, :count], past_key_values=cache))
            seconds[count].append(perf_counter() - started)
    return {count: statistics.median(of_one) for count, of_one in seconds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, choices=(4, 32), default=32, help="of the weights (default: 32)")
    parser.add_argument("--new-tokens", type=int, default=128, help="of an answer at most (default: %(default)s)")
    parser.add_argument("--most", type=int, default=NUM_TOKENS, help="tokens of a draft (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=9, help="of each kind at most (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    arguments = parser.parse_args()
    try:
        quantization = {"quant_type": "nf4"} if arguments.bits == 4 else None
        model, tokenizer = recipes.load_model("smollm2", quantization=quantization)
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    say = (lambda line: None) if arguments.json else (lambda line: print(line, flush=True))
    passes = time_passes(model, 9)
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    say(f"SmolLM2-135M in {arguments.bits} bits, drafts of at most {arguments.most} tokens, BLAS threads: {threads}")
    costs = ", ".join(f"{count}: {seconds / passes[1]:.2f}" for count, seconds in passes.items())
    say(f"A pass of 1 token: {1000 * passes[1]:.0f} ms. Of more, in multiples: {costs}")
    head = f"{'tokens per second':<22}{'plain':>8}{'look-up':>9}{'ratio':>7}{'worst':>7}"
    say(f"{head}{'per pass':>10}{'accepted':>10}{'same':>9}")
    found = {"passes": passes, "kinds": {}}
    for kind, of_kind in prompts(tokenizer, model).items():
        rows = [
            compare(model, *prompt, arguments.new_tokens, arguments.most) for prompt in of_kind[: arguments.prompts]
        ]
        found["kinds"][kind] = rows
        plain, lookup = ([row[way] for row in rows] for way in ("plain", "lookup"))
        total = {key: sum(row[key] for row in rows) for key in ("tokens", "passes", "drafted", "accepted", "same")}
        rates = "".join(f"{1 / statistics.median(of_way):>{n}.1f}" for of_way, n in ((plain, 8), (lookup, 9)))
        ratios = f"{median_ratio(plain, lookup):>7.2f}{min(a / b for a, b in zip(plain, lookup, strict=True)):>7.2f}"
        share = f"{total['accepted'] / max(total['drafted'], 1):>10.0%}"
        same = f"{total['same']} of {len(rows)}"
        say(f"{kind:<22}{rates}{ratios}{total['tokens'] / total['passes']:>10.2f}{share}{same:>9}")
    if arguments.json:
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
