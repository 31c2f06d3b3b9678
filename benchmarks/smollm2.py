"""SmolLM2-135M in minilora beside transformers and PEFT: equal results, files both ways, loading, and memory.

    pip install -e ".[parity,gguf]" && minilora models get smollm2 && python -m benchmarks.smollm2

Equal and out again: see `benchmarks.smollm2_checks`. Load: from the GGUF file in a fresh process, its tokenizer
included in minilora, in medians over the rounds and the median of the rounds' ratios; "from the shell" is that with the
start of Python and the imports. Memory: fresh processes that load, do three steps of 512 tokens with adapters of rank 8
on all linears, and say the peak of their resident set ("ckpt": with gradient checkpointing). The speed of steps and of
decoding is measured by `benchmarks.speed`, what a step keeps alive by `benchmarks.memory`.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from benchmarks import step
from benchmarks.harness import fresh, median_ratio

NEEDED = ("torch", "transformers", "peft", "bitsandbytes", "gguf")  # the extras parity and gguf
SIZE = step.SMOLLM2 | {"pretrained": "smollm2", "targets": step.ALL_LINEAR}
GOALS = {"load": 3.0, "memory": 700e6}  # seconds, bytes
say = partial(print, flush=True)


# In a process of its own


def load(library: str, method: str) -> dict:
    """Seconds of loading in this process, once everything is imported. method: "lora" for float32, or "qlora"."""
    if library == "minilora":
        import gguf.quants  # noqa: F401

        from minilora.train.load import load_model

        started = perf_counter()
        load_model(SIZE["pretrained"], quantization={"quant_type": "nf4"} if method == "qlora" else None)
    else:
        import torch
        from transformers import AutoModelForCausalLM  # noqa: F401

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        started = perf_counter()
        step.transformers_model(SIZE)
    return {"seconds": perf_counter() - started}


def memory(library: str, method: str, rows: int, workers: int = 2, checkpointing: bool = False) -> dict:
    """Return the peak of this process after three steps of 512 tokens in so many rows."""
    from minilora import threads

    size = SIZE | {"batch": rows, "length": 512 // rows}
    if library == "minilora":
        model = step.minilora_model(size, method)  # before the first step, from which on the process keeps freed memory
        one_step = step.minilora_loop(model.gradient_checkpointing_enable(checkpointing), step.token_ids(size))
    else:
        one_step = step.transformers_step(size, method)
    with threads.using(workers):
        for _ in range(3):
            one_step()
    return {"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


# The parts


def show_equal(rounds: int) -> None:
    from benchmarks import smollm2_checks as checks

    with tempfile.TemporaryDirectory() as folder:
        found = checks.equal(Path(folder))
    say(f"Equal: logits (goal {checks.GOAL:.0e} of the largest) and {checks.NEW_TOKENS} greedy tokens")
    say(f"{'transformers has its weights from':<36}{'bits':>6}{'10 answers':>12}{'long text':>11}{'texts':>10}")
    names = {"saved": "the folder that minilora saved", "gguf": "the GGUF file, read by itself"}
    for key, row in found["transformers"].items():
        texts = f"{row['texts'] - len(row['differing'])} of {row['texts']}"
        bits = "equal" if row["weights_equal"] else "differ"
        say(f"{names[key]:<36}{bits:>6}{row['answers']:>12.1e}{row['long']:>11.1e}{texts:>10}")
        for other in row["differing"]:
            say(f"  prompt {other['prompt']} differs at token {other['token']}, its two best {other['gap']:.1e} apart")
    say(f"{checks.QUESTION} {found['answer']}")


def show_out(rounds: int) -> None:
    from benchmarks import smollm2_checks as checks

    say(f"Out again: logits apart (goal {checks.GOAL:.0e}), and how far training had moved them")
    say(f"{'what':<22}{'from':<14}{'opens in':<14}{'apart':>10}{'moved':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for row in checks.out_again(Path(folder)):
            what = f"{row['kind']}, {row['what']}"
            say(f"{what:<22}{row['from']:<14}{row['to']:<14}{row['distance']:>10.1e}{row['moved']:>10.1e}")


def show_load(rounds: int) -> None:
    from minilora import blas

    kinds = {"load": ("minilora", "lora"), "load in 4 bits": ("minilora", "qlora"), "other": ("transformers", "lora")}
    turns = [
        {kind: fresh("benchmarks.smollm2.load", *of_kind) for kind, of_kind in kinds.items()} for _ in range(rounds)
    ]
    say(f"Load: seconds, medians of {rounds} rounds, {blas.cores()} cores")
    say(f"{'work':<32}{'minilora':>10}{'transformers':>14}{'ratio':>8}{'goal':>12}")
    for name, key in (("", "seconds"), (", from the shell", "process")):
        of_kind = {kind: [turn[kind][key] for turn in turns] for kind in kinds}
        for kind in ("load", "load in 4 bits"):
            ours, theirs = (statistics.median(of_kind[one]) for one in (kind, "other"))
            ratio = median_ratio(of_kind["other"], of_kind[kind])
            goal = f"{GOALS['load']:.0f} s" if kind + name == "load" else ""
            say(f"{kind + name:<32}{ours:>10.2f}{theirs:>14.2f}{ratio:>8.2f}{goal:>12}")


def show_memory(rounds: int) -> None:
    say(f"Memory: MB of the process, 512 tokens, rank {step.RANK} on all linears (goal: {GOALS['memory'] / 1e6:.0f})")
    for rows, workers, checkpointing in ((1, 1, False), (4, 1, False), (4, 2, False), (1, 1, True), (4, 2, True)):
        peak = fresh("benchmarks.smollm2.memory", "minilora", "qlora", rows, workers, checkpointing)["peak"] / 1e6
        name = f"QLoRA, {rows} x {512 // rows}, {workers} worker{'s' * (workers > 1)}{', ckpt' * checkpointing}"
        say(f"{name:<44}{peak:>12,.0f}")
    for method in ("lora", "qlora"):
        peak = fresh("benchmarks.smollm2.memory", "transformers", method, 4)["peak"] / 1e6
        say(f"{f'transformers + PEFT, {method}, 4 x 128':<44}{peak:>12,.0f}")


PARTS = {"equal": show_equal, "out": show_out, "load": show_load, "memory": show_memory}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=7, help="of the loading (default: 7)")
    arguments = parser.parse_args()

    from minilora.errors import MiniloraError

    if missing := [name for name in NEEDED if find_spec(name) is None]:
        print(f'{", ".join(missing)} missing: pip install -e ".[parity,gguf]"', file=sys.stderr)
        return 2
    try:
        step.file_of_model(SIZE)
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")  # PEFT's and transformers', of which none is ours to mend
    for part in [arguments.only] if arguments.only else PARTS:
        PARTS[part](arguments.rounds)
        say("")
    return 0


if __name__ == "__main__":
    sys.exit(main())
