"""The learning rates that `minilora finetune` takes: python -m experiments.rates --model base --method lora

Each method is trained as `finetune` trains it where no flag is given, at rates a factor of 3 apart around its default,
until the best is not outermost. Rates within 0.1 bits per character of the best get two more seeds, and the mean
decides. Each rate and seed is a record of records/rates.jsonl; what is there is not measured again. For SmolLM2, the
searches of `python -m experiments compare --model smollm2` are taken, on film reviews, Reuters' topics and a text. What
is best stands in the methods' records (`lr` and `large_lr` in `minilora.peft`).
"""

import argparse
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from statistics import fmean

from experiments.bench import measured
from experiments.compare_model import BASE, row_of
from minilora.measure.lr_search import SEED, best_rate, rate_loss
from minilora.measure.records import Records
from minilora.peft import METHODS
from minilora.peft.method import SIZES, find
from minilora.show.grids import Grid
from minilora.train import defaults, load, methods
from minilora.train.text import read_data

MOST = 9  # rates of a method
CLOSE = 0.1  # bits per character: rates so near the best are trained with more seeds
MORE_SEEDS = (SEED + 1, SEED + 2)
KIND, FILE = "rates", "rates.jsonl"
MODELS = ("base", "smollm2")  # of SIZES
Losses = Mapping[float, float]  # by learning rate; infinite where training diverged


def measure(records: Records, source: str, name: str, data: str) -> float:
    """Return the best learning rate of a method on a model and data; each rate that is tried becomes a record."""
    method, options = METHODS[name], methods.Options()
    quantization = options.quantization if method.is_quantized else None

    def tried(rate: float, *seed: int) -> float | None:
        model, tokenizer = load.load_model(source, quantization=quantization)
        text = read_data(data, tokenizer)
        config = defaults.finetune_config(model, method, text, seed=seed[0] if seed else SEED)
        facts = {"steps": config.steps, "parameters": defaults.base_size(model), "text_sha256": text.sha256}
        model = methods.adapt(model, name, options, text.train.ids, config.seed)
        key, loss = (source, Path(data).name, name, rate, *seed), rate_loss(model, text, config)
        return records.measured(key, lambda: measured(lambda: loss(rate)) | facts)["loss"]

    best_rate(method.rate(defaults.base_size(load.load_model(source)[0])), 3, tried, MOST)
    for rate in close(tried_on_base(records, name)):
        for seed in MORE_SEEDS:
            tried(rate, seed)
    losses = tried_on_base(records, name)
    return min(losses, key=losses.__getitem__)


def close(losses: Losses) -> list[float]:
    """Return the rates whose losses are within CLOSE of the least, if there are several."""
    rates = [rate for rate, loss in losses.items() if loss <= min(losses.values()) + CLOSE]
    return rates if len(rates) > 1 else []


def tried_on_base(records: Records, name: str) -> Losses:
    """Return bits per character of the validation part, by `measure`: means, where several seeds were trained."""
    found: dict[float, list[float]] = {}
    for row in records.of(MODELS[0]):
        if row["key"][2] == name:
            found.setdefault(row["key"][3], []).append(_loss(row))
    return {rate: fmean(losses) for rate, losses in found.items()}


def tried_on_large(records: Records, name: str) -> Losses:
    """What a comparison on SmolLM2 (`compare_model`) searched: nats per label, or bits per character of a text; those
    of the model as it is at a rate of 0. Nothing where nothing was tried.
    """
    found = {row["key"][2]: _loss(row) for row in records.of("rate", row_of(name))}
    return {row["key"][2]: row["loss"] for row in records.of("rate", BASE)} | found if found else {}


def regrets(*found: Losses) -> Losses:
    """Of the rates that were tried on each of several data: the shares, added, of what training can win there (from the
    loss at a rate of 0 to the least) that they do not win. Data on which nothing was tried do not count.
    """
    searched = [losses for losses in found if losses]
    common = set.intersection(*map(set, searched)) - {0}

    def lost(losses: Losses, rate: float) -> float:
        least = min(losses.values())
        return (losses[rate] - least) / (losses[0] - least)

    return {rate: sum(lost(losses, rate) for losses in searched) for rate in sorted(common)}


def _loss(row: dict) -> float:
    return inf if row["loss"] is None else row["loss"]  # it diverged


def grid(on_base: Records, on_large: Sequence[Records]) -> Grid:
    """The rate that each method takes, by the size of the model, and the validation losses that it was chosen by."""
    rows = []
    for name, method in METHODS.items():
        small, *large = (tried_on_base(on_base, name), *(tried_on_large(records, name) for records in on_large))
        rates_of = [f"{method.rate(size):g}" for size in SIZES]
        rows.append((method.label, rates_of[0], _in_words(small), rates_of[1], *map(_in_words, large)))
    examples, *_, characters = (records.header["settings"] for records in on_large)
    caption = (
        f"For models of {' and '.join(f'{size:,}' for size in SIZES)} parameters; in between, the rate's logarithm is "
        "interpolated. Tried on the base: bits per character of the validation part, trained as `finetune` trains. On "
        f"SmolLM2: nats per label of {examples['validation_examples']} film reviews, and for some methods of as many "
        f"news of Reuters, after training on {examples['examples']} others as `finetune` trains, at the temperature "
        "that suits the model best; and bits per character of NumPy's documentation after "
        f"{characters['text_steps']} steps. At 0: the model as it is. Taken is the rate that was tried on all and wins "
        "most of what can be won (from the loss at 0 to the least), the shares added up."
    )
    header = ("method", "base", "tried", "smollm2", "tried on reviews", "tried on topics", "tried on text")
    return Grid("Learning rates", header, rows, caption)


def _in_words(losses: Losses) -> str:
    words = (f"{rate:g}: {'diverged' if loss == inf else f'{loss:.3f}'}" for rate, loss in sorted(losses.items()))
    return ", ".join(words) or "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--method", nargs="*", default=list(METHODS), type=find, help="(default: all)")
    parser.add_argument("--data", default="numpy-docs")
    arguments = parser.parse_args()
    records = Records.open(Path("experiments/records", FILE), KIND, {}, resume=True)
    for name in arguments.method:
        print(name, measure(records, arguments.model, name, arguments.data), flush=True)


if __name__ == "__main__":
    main()
