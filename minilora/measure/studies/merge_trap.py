"""What is left of an update that is merged into a 4-bit base and rounded to 4 bits again?"""

from dataclasses import replace

from minilora.backend import xp
from minilora.measure.records import Records
from minilora.measure.studies.study import FULL, QUICK, Bench, Plan, Study, base_in_words, listed, spread
from minilora.peft.lora import LoraLinear
from minilora.quant import dequantize_4bit, dequantize_model, quantize_4bit, quantize_model
from minilora.show.grids import Grid, Spread, seeds_in_words
from minilora.show.style import GREY, LOOKS, figure_of, log_ticks, styled, with_legend

EXPECTED = {0.02: 2, 0.05: 32, 0.1: 84, 0.3: 99}  # percent of Δ that survive, for weights and updates that are normal
TRAINED = 0.0  # among the values: the update as large as training made it


def cells(plan: Plan) -> list[tuple]:
    return [("base",), *(("merged", size, seed) for seed in plan.seeds for size in plan.values)]


def measure(bench: Bench, kind: str, size: float = TRAINED, seed: int = 0) -> dict:
    lab = bench.lab
    if kind == "base":
        return {"domain": lab.bits(quantize_model(lab.base()), lab.domain_test)}
    rate = bench.text_rate("qlora")
    model, trained = bench.once(seed, lambda: with_updates(bench.adapt("qlora", rate, seed)[0]))
    layers = layers_of(model)
    kept = total = weights = 0.0
    for path, layer in layers.items():
        base = layer.base_layer.dequantize()
        layer.lora_B.weight.data = trained[path]
        delta = layer.changed_weight() - base
        if size != TRAINED:
            layer.lora_B.weight.data = trained[path] * xp.float32(size * norm(base) / norm(delta))
            delta = layer.changed_weight() - base
        kept += float((remains(base, delta) * delta).sum())
        total += float((delta * delta).sum())
        weights += float((base * base).sum())
    plain = quantize_model(lab.base())
    for path, layer in layers.items():
        plain.replace(path, layer.merged())
    plain = dequantize_model(plain)
    facts = {"lr": rate, "relative": (total / weights) ** 0.5, "survives": kept / total}
    facts |= {"adapter": lab.bits(model, lab.domain_test), "float": lab.bits(plain, lab.domain_test)}
    return facts | {"requantized": lab.bits(quantize_model(plain), lab.domain_test)}


def layers_of(model) -> dict[str, LoraLinear]:
    """The adapted layers by their path in the plain model."""
    found = {path: module for path, module in model.named_modules() if isinstance(module, LoraLinear)}
    return {path.removeprefix("base_model."): layer for path, layer in found.items()}


def with_updates(model):
    """The model and copies of its B, by path."""
    return model, {path: layer.lora_B.weight.data.copy() for path, layer in layers_of(model).items()}


def remains(base, delta):
    """What is left of an update after base + delta is rounded to NF4. base: values that NF4 has."""
    return dequantize_4bit(*quantize_4bit(base + delta)) - base


def norm(array) -> float:
    return float(xp.sqrt((array * array).sum()))


def sizes(records: Records) -> list[float]:
    """By size, the trained one where it falls."""
    values = records.header["settings"]["values"]
    return sorted(values, key=lambda size: spread(records, "relative", "merged", size).mean)


def percent(records: Records, size: float) -> Spread:
    """Of the update that survives."""
    return Spread.of(100 * row["survives"] for row in records.of("merged", size))


def grid(records: Records) -> Grid:
    rows = []
    for size in sizes(records):
        relative = 100 * spread(records, "relative", "merged", size).mean
        name = f"{relative:.0f} %" + (" (trained)" if size == TRAINED else "")
        numbers = [spread(records, column, "merged", size).show(3) for column in ("adapter", "float", "requantized")]
        expected = f"{EXPECTED[size]} %" if size in EXPECTED else "–"
        rows.append((name, f"{percent(records, size).show(0)} %", expected, *numbers))
    counts = [spread(records, "adapter", "merged", size).count for size in sizes(records)]
    base = next(records.of("base"))["domain"]
    return Grid(
        "An update merged into a 4-bit base",
        ("‖Δ‖/‖W‖", "survives", "normal", "adapter", "float", "4 bits"),
        rows,
        "A LoRA update over NF4, scaled to a share of each weight's norm. Survives: ⟨what requantizing leaves, "
        "Δ⟩/‖Δ‖², and what it is for normal weights and updates. Bits/char on held-out numpy-docs of the adapter on "
        f"its 4-bit base ({base:.3f} without), merged into floats, and rounded to 4 bits again. "
        f"{base_in_words(records)} {seeds_in_words(counts)}",
    )


@styled
def figure(records: Records):
    """What survives of an update by its size, and what the model then is."""
    figure = figure_of("The merge trap: an update rounded to 4 bits", 4.4)
    left, right = figure.subplots(1, 2)
    shown = [size for size in sizes(records) if size != TRAINED]
    x = [100 * size for size in shown]
    kept = [percent(records, size) for size in shown]
    look = LOOKS["qlora"]
    left.errorbar(x, [one.mean for one in kept], [one.half_range for one in kept], **look, label="survives")
    normal = [size for size in shown if size in EXPECTED]
    left.plot([100 * size for size in normal], [EXPECTED[size] for size in normal], color="#E69F00", marker="x",
              linestyle=":", markersize=9, label="of normal numbers")  # fmt: skip
    left.set(ylabel="survives of the update (%)", ylim=(-3, 105))
    looks = {"float": LOOKS["lora"], "requantized": LOOKS["scratch"]}
    words = {"float": "merged into floats", "requantized": "rounded to 4 bits again"}
    for column, of_column in looks.items():
        found = [spread(records, column, "merged", size) for size in shown]
        bars = [one.half_range for one in found]
        right.errorbar(x, [one.mean for one in found], bars, **of_column, label=words[column])
    base = next(records.of("base"))["domain"]
    right.axhline(base, color=GREY, linestyle=LOOKS["base"]["linestyle"], linewidth=1.4, label="4-bit base")
    right.set(ylabel="domain, bits/character\n(less is better)")
    for axes in (left, right):
        log_ticks(axes, x)
        axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.set_xlabel("size of the update (% of ‖W‖)")
    return with_legend(figure)


def sentence(records: Records) -> str:
    shown = [size for size in sizes(records) if size != TRAINED]
    kept = [percent(records, size).mean for size in shown]
    far = [size for size in shown if size in EXPECTED and abs(percent(records, size).mean - EXPECTED[size]) > 10]
    parts = listed(f"{value:.0f} % at {100 * size:g} %" for value, size in zip(kept, shown, strict=True))
    said = f"Of an update of a given share of ‖W‖, requantizing leaves {parts}: "
    said += "the larger, the more survives" if kept == sorted(kept) else "not always more of a larger one"
    if far:
        said += f", more than 10 points from what normal numbers give at {listed(f'{100 * s:g} %' for s in far)}. "
    else:
        said += ", as normal numbers give. "
    if (TRAINED,) not in [key[1:2] for key in records.rows]:
        return said.strip()
    base = next(records.of("base"))["domain"]
    whole, rounded = (spread(records, column, "merged", TRAINED) for column in ("float", "requantized"))
    size = 100 * spread(records, "relative", "merged", TRAINED).mean
    lost = "is level with that" if rounded.overlaps(whole) else f"comes to {rounded.show(3)}"
    return said + (
        f"As training left it, the update is {size:.1f} % of ‖W‖: it brings the base from {base:.3f} to "
        f"{whole.show(3)} bits/character merged into floats, and {lost} rounded to 4 bits again."
    )


STUDY = Study(
    name="merge-trap",
    question="What is left of an update that is merged into a 4-bit base and rounded to 4 bits again?",
    published="No published figure; for normal weights and updates, arithmetic gives 2, 32, 84 and 99 % of an update "
    "of 2, 5, 10 and 30 % of the weight's norm. Rounding moves a weight only where the update passes half the distance "
    "between two codes.",
    full=replace(FULL, values=(TRAINED, 0.02, 0.05, 0.1, 0.3)),
    quick=replace(QUICK, values=(TRAINED, 0.02, 0.05, 0.1, 0.3)),
    cells=cells,
    measure=measure,
    grid=grid,
    figure=figure,
    sentence=sentence,
)
