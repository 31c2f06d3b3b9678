"""The learning rates that `minilora finetune` takes: python -m minilora.measure.rates --model base --method lora

Each method is trained as `finetune` trains it where no flag is given, at rates a factor of 3 apart around its default,
until the best is not outermost. Each rate is a record of assets/results/rates.jsonl; what is there is not measured
again. The best of them stand in the methods' records (`lr` and `large_lr` in `minilora.peft`).
"""

import argparse
from pathlib import Path

from minilora import threads
from minilora.measure.lr_search import SEED, best_rate, measured, rate_loss
from minilora.measure.records import Records
from minilora.peft import METHODS
from minilora.peft.method import SIZES, find
from minilora.show.grids import Grid
from minilora.train import defaults, methods, recipes

MOST = 9  # rates of a method
KIND, FILE = "rates", "rates.jsonl"
MODELS = ("base", "smollm2")  # of SIZES


def measure(records: Records, source: str, name: str, data: str) -> float:
    """The best learning rate of a method on a model and data; each rate that is tried becomes a record."""
    method, options = METHODS[name], methods.Options()
    model, tokenizer = recipes.load_model(source, quantization=options.quantization if method.is_quantized else None)
    text = recipes.read_data(data, tokenizer)
    model = methods.adapt(model, name, options, text.train.ids, SEED)
    config = defaults.finetune_config(model, method, text, seed=SEED)
    loss = rate_loss(model, text, config)
    parameters = defaults.base_size(model)

    def tried(rate: float) -> float | None:
        key = (source, Path(data).name, name, rate)
        if key not in records:
            facts = {"steps": config.steps, "parameters": parameters, "text_sha256": text.sha256}
            print(records.add(key, **measured(lambda: loss(rate)), **facts), flush=True)
        return records.rows[key]["loss"]

    return best_rate(method.rate(parameters), 3, tried, MOST)


def grid(records: Records) -> Grid:
    """The rate that each method takes, by the size of the model, and the validation losses that it was chosen by."""
    rows = []
    for name, method in METHODS.items():
        cells = [method.label]
        for size, model in zip(SIZES, MODELS, strict=True):
            tried = {key[3]: row["loss"] for key, row in records.rows.items() if (key[0], key[2]) == (model, name)}
            words = [
                f"{rate:g}: {'diverged' if tried[rate] is None else f'{tried[rate]:.3f}'}" for rate in sorted(tried)
            ]
            cells += [f"{method.rate(size):g}", ", ".join(words) or "not measured"]
        rows.append(tuple(cells))
    caption = (
        f"For models of {' and '.join(f'{size:,}' for size in SIZES)} parameters; in between, the rate's logarithm is "
        "interpolated. Tried: bits per character of the validation part at each rate, trained as `finetune` trains."
    )
    return Grid("Learning rates", ("method", *(word for model in MODELS for word in (model, "tried"))), rows, caption)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--method", nargs="*", default=list(METHODS), type=find, help="(default: all)")
    parser.add_argument("--data", default="numpy-docs")
    parser.add_argument("--out", type=Path, default=Path("minilora/assets/results", FILE))
    parser.add_argument("--threads", type=int, help="(default: one per core)")
    arguments = parser.parse_args()
    records = Records.open(arguments.out, KIND, {}, resume=True)
    with threads.using(arguments.threads):
        for name in arguments.method:
            print(name, measure(records, arguments.model, name, arguments.data), flush=True)


if __name__ == "__main__":
    main()
