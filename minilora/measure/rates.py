"""The learning rates that `minilora finetune` takes: python -m minilora.measure.rates --model base --method lora

Each method is trained as `finetune` trains it where no flag is given, at rates a factor of 3 apart around its default,
until the best is not outermost. Each rate is a record of assets/results/rates.jsonl; what is there is not measured
again. For SmolLM2, the searches of `minilora compare --model smollm2` on film reviews are taken. The best of them all
stand in the methods' records (`lr` and `large_lr` in `minilora.peft`).
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
ROWS = {"bottleneck": "pfeiffer", "bitfit": "norms"}  # of a comparison; a Llama has no biases


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


def tried(records: Records, on_task: Records, model: str, name: str) -> dict[float, float | None]:
    """{rate: loss} of what was tried for a method; None where training diverged.

    records: bits per character of a text, by `measure`. on_task: of a comparison on SmolLM2 (`compare_model`), nats per
    label, which speak for that model: on a text that it knows half, rates are told apart less well.
    """
    if model == MODELS[1]:
        rows = on_task.of("rate", ROWS.get(name, name))
        return {row["key"][2]: row["loss"] for row in rows}
    return {key[3]: row["loss"] for key, row in records.rows.items() if (key[0], key[2]) == (model, name)}


def grid(records: Records, on_task: Records) -> Grid:
    """The rate that each method takes, by the size of the model, and the validation losses that it was chosen by."""
    rows = []
    for name, method in METHODS.items():
        cells = [method.label]
        for size, model in zip(SIZES, MODELS, strict=True):
            found = tried(records, on_task, model, name)
            words = [
                f"{rate:g}: {'diverged' if found[rate] is None else f'{found[rate]:.3f}'}" for rate in sorted(found)
            ]
            cells += [f"{method.rate(size):g}", ", ".join(words) or "not measured"]
        rows.append(tuple(cells))
    settings = on_task.header["settings"]
    caption = (
        f"For models of {' and '.join(f'{size:,}' for size in SIZES)} parameters; in between, the rate's logarithm is "
        "interpolated. Each is trained as `finetune` trains. Tried on the base: bits per character of the validation "
        f"part. On SmolLM2, trained on {settings['examples']} film reviews: nats per label of "
        f"{settings['validation_examples']} others, at the temperature that suits it best."
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
