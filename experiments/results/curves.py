"""Training speed by the shape of the model: depth, width, length, batch and vocabulary.

    python -m benchmarks.curves --resume

measures it: the machine's rates for each method, and one cell per axis, whose sizes take turns. Growth from one size to
the next is the median of the rounds' ratios, so that a disturbance in one round does not count. It is compared with the
growth that the cost model (`step_time`) expects.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from experiments.step_time import Rates, step_seconds
from minilora.measure.records import Records
from minilora.palette import ORANGE
from minilora.plan.activations import Step
from minilora.plan.shapes import Shape
from minilora.show.grids import IN_SENTENCES
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
NEAR = 0.10  # largest relative distance from the expected growth that counts as agreement
LINES = {
    "minilora": LOOKS["full"],
    "PyTorch": {"color": ORANGE, "marker": "s", "linestyle": (0, (1, 1.2))},
    "cost model": {"color": GREY, "marker": "", "linestyle": (0, (6, 2))},
}


def size_at(middle: dict, axis: str, value: int) -> dict:
    """Return the middle size with one axis changed. The MLP and the number of heads grow with the width."""
    size = middle | {axis: value}
    if axis == "hidden":
        for name in ("intermediate", "heads"):
            size[name] = middle[name] * value // middle["hidden"]
    return size


@dataclass(frozen=True)
class Point:
    """One size: seconds per step, medians over the rounds. Growth is relative to the size before; None for the
    first.
    """

    value: int
    tokens: int  # per step
    minilora: float
    torch: float
    theory: float  # the cost model's seconds
    growth: float | None = None
    expected: float | None = None  # growth by the cost model

    @property
    def off(self) -> float | None:
        """The relative distance of the growth from the expected one."""
        return None if self.growth is None or self.expected is None else self.growth / self.expected - 1

    @property
    def is_near(self) -> bool:
        """True if the growth, as it is printed, agrees with the cost model."""
        return self.off is None or abs(round(self.off, 2)) <= NEAR


def curve(records: Records, method: str, axis: str) -> list[Point]:
    """Return the points of a cell, small to large."""
    settings, cores = records.header["settings"], records.header["machine"]["cores"]
    rates = Rates(**{f.name: median(records.rows[method, "rates"][f.name]) for f in fields(Rates)})
    ours, torch = (records.rows[method, axis][name] for name in ("minilora", "torch"))
    points: list[Point] = []
    for i, value in enumerate(settings["axes"][axis]):
        size = size_at(settings["middle"], axis, value)
        names = ("layers", "hidden", "intermediate", "heads", "vocab")
        shape = Shape(**{name: size[name] for name in names}, kv_heads=size["heads"], tied=True)
        step = Step(size["batch"], size["length"], workers=cores)
        theory = sum(step_seconds(shape, method, Options(rank=settings["rank"]), step, rates).values())
        point = Point(value, size["batch"] * size["length"], median(ours[i]), median(torch[i]), theory)
        if points:
            growth = median(b / a for a, b in zip(ours[i - 1], ours[i], strict=True))
            point = replace(point, growth=growth, expected=theory / points[-1].theory)
        points.append(point)
    return points


def curves(records: Records, method: str) -> dict[str, list[Point]]:
    """Return the points of each axis that was measured."""
    axes = records.header["settings"]["axes"]
    return {axis: curve(records, method, axis) for axis in axes if (method, axis) in records}


def in_words(records: Records) -> str:
    """Say how many growths agree with the cost model, and which is farthest from it."""
    measured = {(method, axis): ps for method in METHODS for axis, ps in curves(records, method).items()}
    growths = [(*pair, *where) for where, points in measured.items() for pair in pairwise(points)]
    near = sum(point.is_near for _, point, *_ in growths)
    before, point, method, axis = max(growths, key=lambda growth: abs(growth[1].off or 0))
    shares = [p.theory / p.minilora for points in measured.values() for p in points]
    off = f"{round(point.off or 0, 2) + 0:+.0%}".replace("-", "−")  # + 0: no −0
    return (
        f"Each axis is doubled four times. Of {len(growths)} doublings, {near} lengthen a step as the cost model "
        f"expects, give or take {NEAR:.0%}. The largest deviation is {off}: {IN_SENTENCES[method]}, {LABELS[axis]} "
        f"{before.value:,} to {point.value:,}. Nothing in the cost model is fitted to a step; it accounts for "
        f"{min(shares):.0%} to {max(shares):.0%} of a step's seconds."
    ).replace("%", " %")


@styled
def figure(records: Records, method: str) -> Figure:
    """Tokens per second as one axis of the model's shape is doubled: minilora, PyTorch, and the cost model."""
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
