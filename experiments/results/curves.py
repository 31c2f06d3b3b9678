"""How a training step's speed changes with the shape: depth, width, length, batch and vocabulary.

    python -m benchmarks.curves --resume

measures it: of each method the rates of the machine, and a cell an axis, whose sizes took turns. Growth is the median
of the rounds' ratios, which what slows the machine in one round does not touch. Beside each growth stands that of the
cost model (`step_time`), and again with the seconds of the products as they were measured alone: where the second is
near and the first is not, it is the products that do not keep the rate of a large one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from experiments.step_time import Rates, product_cores, step_seconds
from minilora.measure.records import Records
from minilora.measure.results import Column
from minilora.palette import ORANGE
from minilora.plan.activations import Step
from minilora.plan.shapes import Shape
from minilora.show.grids import IN_SENTENCES, Grid
from minilora.show.style import GREY, LOOKS, figure_of, log_ticks, styled
from minilora.train.methods import Options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND, FILE = "curves", "curves.jsonl"
LABELS = {
    "layers": "layers",
    "hidden": "hidden size",
    "length": "tokens per sequence",
    "batch": "sequences per batch",
    "vocab": "vocabulary",
}
METHODS = ("full", "lora")
NEAR = 0.10  # how far from the model's a growth may be without a cause
CAUSES = {  # found by profiling, see docs/log.md
    "hidden": (
        "A width of 64 is worth one thread, 128 is worth two. NumPy lets go of Python's lock in each call, and where a "
        "call takes a few microseconds, the two threads hand it back and forth. The model has this as a constant a "
        "layer, measured at a width of 32. At 128 it is a third of the step, which is too much: longer calls run side "
        "by side."
    ),
    "batch": (
        "One sequence of 128 tokens is computed on one thread, two on two. What grows otherwise is products: those of "
        "few rows miss the rate of large ones, and with their seconds as measured alone the model is near. PyTorch "
        "shares out the products of one sequence and is ahead there, on a machine that has nothing else to do: beside "
        "other work its threads wait for one another."
    ),
}
LINES = {
    "minilora": LOOKS["full"],
    "PyTorch": {"color": ORANGE, "marker": "s", "linestyle": (0, (1, 1.2))},
    "cost model": {"color": GREY, "marker": "", "linestyle": (0, (6, 2))},
}


def size_at(middle: dict, axis: str, value: int) -> dict:
    """The size in the middle with another value on one axis. With the width grow the MLP and the number of heads."""
    size = middle | {axis: value}
    if axis == "hidden":
        for name in ("intermediate", "heads"):
            size[name] = middle[name] * value // middle["hidden"]
    return size


@dataclass(frozen=True)
class Point:
    """One size: seconds per step, medians over the rounds. Growth is from the size before it, None for the first."""

    value: int
    tokens: int  # of a step
    minilora: float
    torch: float
    ratio: float  # of PyTorch's seconds to minilora's
    theory: float
    growth: float | None = None
    expected: float | None = None  # growth of the theory
    with_products: float | None = None  # the same with the products as they were measured

    @property
    def off(self) -> float | None:
        """How far the growth is from the theory's, relative to it."""
        return None if self.growth is None or self.expected is None else self.growth / self.expected - 1

    @property
    def is_near(self) -> bool:
        """Whether that is what the theory says, as far as it is shown."""
        return self.off is None or abs(round(self.off, 2)) <= NEAR


def curve(records: Records, method: str, axis: str) -> list[Point]:
    """Return the points of a cell, small to large."""
    settings, cores = records.header["settings"], records.header["machine"]["cores"]
    rates = Rates(**{f.name: median(records.rows[method, "rates"][f.name]) for f in fields(Rates)})
    ours, torch, products = (records.rows[method, axis][name] for name in ("minilora", "torch", "products"))
    points: list[Point] = []
    measured: list[float] = []  # the theory, with the products as they were measured
    for i, value in enumerate(settings["axes"][axis]):
        size = size_at(settings["middle"], axis, value)
        names = ("layers", "hidden", "intermediate", "heads", "vocab")
        shape = Shape(**{name: size[name] for name in names}, kv_heads=size["heads"], tied=True)
        step = Step(size["batch"], size["length"], workers=cores)
        parts = step_seconds(shape, method, Options(rank=settings["rank"]), step, rates)
        theory = sum(parts.values())
        measured.append(theory - parts["products"] + median(products[i]) * cores / product_cores(shape, step))
        ratio = median(t / s for t, s in zip(torch[i], ours[i], strict=True))
        point = Point(value, size["batch"] * size["length"], median(ours[i]), median(torch[i]), ratio, theory)
        if points:
            growth = median(b / a for a, b in zip(ours[i - 1], ours[i], strict=True))
            grown = {"growth": growth, "expected": theory / points[-1].theory}
            point = replace(point, **grown, with_products=measured[-1] / measured[-2])
        points.append(point)
    return points


def curves(records: Records, method: str) -> dict[str, list[Point]]:
    """By axis, what was measured of it."""
    axes = records.header["settings"]["axes"]
    return {axis: curve(records, method, axis) for axis in axes if (method, axis) in records}


def in_words(records: Records) -> str:
    """How many growths are as the cost model has them, and which is the farthest."""
    found = {(method, axis): ps for method in METHODS for axis, ps in curves(records, method).items()}
    growths = [(*pair, *where) for where, points in found.items() for pair in pairwise(points)]
    near = sum(point.is_near for _, point, *_ in growths)
    before, point, method, axis = max(growths, key=lambda growth: abs(growth[1].off or 0))
    shares = [p.theory / p.minilora for points in found.values() for p in points]
    return (
        f"Of {len(growths)} doublings, {near} make a step longer by what the cost model says, give or take "
        f"{NEAR:.0%}. The farthest is {_off(point.off)}: {IN_SENTENCES[method]}, {LABELS[axis]} {before.value:,} to "
        f"{point.value:,}. Nothing in the model is fitted to a step; it accounts for {min(shares):.0%} to "
        f"{max(shares):.0%} of a step's seconds, at half of the sizes for more than {median(shares):.0%}."
    ).replace("%", " %")


def causes(records: Records) -> str:
    """Of each axis with a growth that is further from the model's, why, as a list."""
    found = [curves(records, method) for method in METHODS]
    axes = records.header["settings"]["axes"]
    far = [axis for axis in axes if not all(point.is_near for one in found for point in one.get(axis, []))]
    return "\n".join(f"- **{LABELS[axis].capitalize()}.** {CAUSES.get(axis, 'Not known yet.')}" for axis in far)


def _off(off: float | None) -> str:
    return f"{round(off or 0, 2) + 0:+.0%}".replace("-", "−")  # no −0


COLUMNS = (
    Column("size", lambda p: p.value, "{:,}".format),
    Column("minilora", lambda p: p.tokens / p.minilora, "{:,.0f}".format),
    Column("PyTorch", lambda p: p.tokens / p.torch, "{:,.0f}".format),
    Column("ratio", lambda p: p.ratio, "{:.2f}".format),
    Column("growth", lambda p: p.growth, "{:.2f}".format),
    Column("model", lambda p: p.expected, "{:.2f}".format),
    Column("with products", lambda p: p.with_products, "{:.2f}".format),
    Column("off", lambda p: p.off, lambda off: _off(off).replace("%", " %")),
)


def grid(records: Records, method: str) -> Grid:
    """Speed and growth at each size."""
    rows = [
        ("" if i else LABELS[axis], *(column.cell(point) for column in COLUMNS))
        for axis, points in curves(records, method).items()
        for i, point in enumerate(points)
    ]
    caption = (
        "Tokens per second, and minilora's beside PyTorch's; how many times as long a step takes as at the size "
        "before, by measurement, by the cost model, and by the model with the products as they were measured alone, "
        "over all cores (where fewer work, for as many times as long); how far the first is from the second."
    )
    return Grid(f"Curves, {IN_SENTENCES[method]}", ("axis", *(c.header for c in COLUMNS)), rows, caption)


@styled
def figure(records: Records, method: str) -> Figure:
    """Tokens per second on each axis."""
    drawn = figure_of(f"Training speed by shape, {IN_SENTENCES[method]}", 7.2)
    places = drawn.subplots(3, 2)
    for axes, (axis, points) in zip(places.flat, curves(records, method).items(), strict=False):
        sizes = [p.value for p in points]
        for name, seconds in (("minilora", "minilora"), ("PyTorch", "torch"), ("cost model", "theory")):
            speeds = [p.tokens / getattr(p, seconds) / 1000 for p in points]
            axes.plot(sizes, speeds, **LINES[name], label=name)
        axes.set_yscale("log")
        log_ticks(axes, sizes)
        axes.set_xlabel(LABELS[axis])
        low, high = axes.get_ylim()
        leading = (1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        ticks = [t for power in (0.1, 1, 10, 100) for digits in leading if low <= (t := digits * power) <= high]
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axes.set_yticks([], minor=True)
    for axes in places[:, 0]:
        axes.set_ylabel("1,000 tokens/s")
    last = places.flat[-1]
    last.axis("off")
    last.legend(*places.flat[0].get_legend_handles_labels(), loc="center")
    return drawn


FIGURES = {f"curves-{method}": partial(figure, method=method) for method in METHODS}
