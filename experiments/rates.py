"""Search the default learning rates of `minilora finetune`: python -m experiments.rates --model base --method lora

Each method is trained as `finetune` does by default, at rates a factor of 3 apart around its default, until the best is
not at either end. Rates within 0.1 bits per character of the best get two more seeds, and the mean decides. Each rate
and seed is a record of records/rates.jsonl and is not measured again. For SmolLM2, the searches of
`python -m experiments compare --model smollm2` are used, on film reviews, Reuters' topics and a text. The best rates
are `lr` and `large_lr` of the methods in `minilora.peft`.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from math import inf
from pathlib import Path
from statistics import fmean

from experiments.bench import measured
from experiments.compare_model import BASE, row_of
from minilora.measure.lr_search import FACTOR, SEED, best_rate, rate_loss
from minilora.measure.records import Records
from minilora.peft import METHODS
from minilora.peft.method import SIZES, find
from minilora.show.grids import Grid
from minilora.train import defaults, load, methods
from minilora.train.text import read_data

MOST = 9  # rates per method
CLOSE = 0.1  # bits per character: rates this near the best are trained with more seeds
MORE_SEEDS = (SEED + 1, SEED + 2)
KIND, FILE = "rates", "rates.jsonl"
DATA = "numpy-docs"
MODELS = ("base", "smollm2")  # of SIZES
Losses = Mapping[float, float]  # by learning rate; infinite if training diverged


def measure(records: Records, source: str, name: str, data: str) -> float:
    """Search the best learning rate of a method on a model and data; each rate that is tried becomes a record."""
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
    search = (source, Path(data).name, name)
    while True:
        for rate, seed in product(close(records, *search), MORE_SEEDS):
            tried(rate, seed)
        losses = mean_losses(records, *search)
        best = min(close(records, *search) or losses, key=losses.__getitem__)
        if min(losses) < best < max(losses) or len(losses) >= MOST:
            return best
        # the means may have made a rate at an end the best
        beyond = best * FACTOR if best == max(losses) else best / FACTOR
        tried(float(f"{beyond:.2g}"))


def close(records: Records, *search: str) -> list[float]:
    """Return the rates within CLOSE of the best one, by the first seed, if there are several.

    search: a model, a data set and a method.
    """
    losses = {row["key"][3]: _loss(row) for row in records.of(*search) if len(row["key"]) == len(search) + 1}
    rates = [rate for rate, loss in losses.items() if inf > loss <= min(losses.values()) + CLOSE]
    return rates if len(rates) > 1 else []


def mean_losses(records: Records, *search: str) -> Losses:
    """Return the bits per character of the validation part by learning rate, means over the seeds that were trained."""
    losses: dict[float, list[float]] = {}
    for row in records.of(*search):
        losses.setdefault(row["key"][3], []).append(_loss(row))
    return {rate: fmean(values) for rate, values in losses.items()}


def tried_on_base(records: Records, name: str) -> Losses:
    """Return what `measure` recorded for a method on the package's base."""
    return mean_losses(records, MODELS[0], DATA, name)


def tried_on_large(records: Records, name: str) -> Losses:
    """Return {rate: loss} as searched by a comparison on SmolLM2: nats per label, or bits per character of a text.

    The loss of the model as it is stands at a rate of 0. Empty if nothing was searched.
    """
    losses = {row["key"][2]: _loss(row) for row in records.of("rate", row_of(name))}
    return {row["key"][2]: row["loss"] for row in records.of("rate", BASE)} | losses if losses else {}


def regrets(*by_data: Losses) -> Losses:
    """Return the regret of each rate that was tried on all data: the share of the possible gain that it misses, summed.

    The possible gain goes from the loss at a rate of 0 to the least. Data without a search do not count.
    """
    searched = [losses for losses in by_data if losses]
    common = set.intersection(*map(set, searched)) - {0}

    def lost(losses: Losses, rate: float) -> float:
        least = min(losses.values())
        return (losses[rate] - least) / (losses[0] - least)

    return {rate: sum(lost(losses, rate) for losses in searched) for rate in sorted(common)}


def _loss(row: dict) -> float:
    return inf if row["loss"] is None else row["loss"]  # it diverged


def grid(on_base: Records, on_large: Sequence[Records]) -> Grid:
    """Tabulate each method's default rate by the size of the model, and the best rate on each data set."""
    rows = []
    for name, method in METHODS.items():
        if name == "bitfit":  # a Llama has no biases, so there BitFit trains the norms
            continue
        large = (tried_on_large(records, name) for records in on_large)
        defaults_of = [f"{method.rate(size):g}" for size in SIZES]
        rows.append((method.label, defaults_of[0], defaults_of[1], *map(_best, (tried_on_base(on_base, name), *large))))
    sizes = " and ".join(f"{size:,}" for size in SIZES)
    caption = (
        f"Default: the rate for models of {sizes} parameters; between these sizes, its logarithm is interpolated. The "
        "other columns have the rate with the least validation loss. SmolLM2's default is the rate that reaches most "
        "of the possible gain over all data sets on which the method's rate was searched."
    )
    columns = ("on NumPy's docs", "SmolLM2 on reviews", "on topics", "on NumPy's docs")
    return Grid("Learning rates", ("method", "default, base", "default, SmolLM2", *columns), rows, caption)


def _best(losses: Losses) -> str:
    rates = [rate for rate in losses if rate]
    return f"{min(rates, key=losses.__getitem__):g}" if rates else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--method", nargs="*", default=list(METHODS), type=find, help="(default: all)")
    parser.add_argument("--data", default=DATA)
    arguments = parser.parse_args()
    records = Records.open(Path("experiments/records", FILE), KIND, {}, resume=True)
    for name in arguments.method:
        print(name, measure(records, arguments.model, name, arguments.data), flush=True)


if __name__ == "__main__":
    main()
