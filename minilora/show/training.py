"""A training's course: a figure, and lines for the terminal. Both take {name: {step: number}}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from minilora.errors import escape
from minilora.show import style
from minilora.show.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Mapping[int, float]
LABELS = {"loss": "loss", "evaluation": "validation", "lr": "learning rate", "norm": "gradient norm"}
BLOCKS = "▁▂▃▄▅▆▇█"  # from low to high
_HEIGHTS = {"loss": 2.0, "evaluation": 2.0, "lr": 1.0, "norm": 1.2}  # inches, about
_RAW, _LINE = "#bbbbbb", "#0072B2"


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return the mean of (N,) numbers over a window of a twentieth of them, centred."""
    half = len(values) // 40
    sums = np.append(0, np.cumsum(values))
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


@styled
def run_figure(series: Mapping[str, Points], title: str, unit: str = "") -> Figure | None:
    """Draw loss and gradient norm of each step and smoothed, validation with its start and its best, learning rate.

    unit: of the validation. None where there is no number at all.
    """
    shown = [name for name in LABELS if series.get(name)]
    if not shown:
        return None
    heights, units = [_HEIGHTS[name] for name in shown], {"loss": "nats/token", "evaluation": unit}
    figure = style.figure_of(title, sum(heights) + 1)
    rows = figure.subplots(len(shown), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for name, axes in zip(shown, rows, strict=True):
        steps, values = np.array([*series[name]]), np.array([*series[name].values()])
        axes.set_ylabel(LABELS[name].replace(" ", "\n") + (f"\n({units[name]})" if units.get(name) else ""))
        if name == "evaluation":
            axes.plot(steps, values, color=_LINE, marker="o", markersize=4)
            best = int(values.argmin())
            label = f"best: {values[best]:.4g} at step {steps[best]:,}"
            axes.plot(steps[best], values[best], "*", color="#D55E00", markersize=13, label=label)
            if steps[0] == 0:
                style.base_line(axes, values[0], f"start: {values[0]:.4g}")
            axes.legend(loc="best")
        elif name == "lr":
            axes.plot(steps, values, color=_LINE)
        else:
            axes.plot(steps, values, color=_RAW, linewidth=1, label="each step")
            axes.plot(steps, smoothed(values), color=_LINE, marker="" if len(steps) > 1 else "o", label="smoothed")
    if rows[0].get_legend_handles_labels()[0]:
        rows[0].legend(loc="upper right")
    rows[-1].set_xlabel("training step")
    rows[-1].locator_params(axis="x", integer=True)
    figure.align_ylabels()
    return figure


def summary(series: Mapping[str, Points]) -> dict[str, dict[str, float]]:
    """Summarize each series that has a number: first, last, min, max, and the step of the min."""
    facts = {}
    for name, points in series.items():
        if points:
            values, best = list(points.values()), min(points, key=points.__getitem__)
            facts[name] = {"first": values[0], "last": values[-1], "min": points[best], "max": max(values)}
            facts[name]["min_step"] = best
    return facts


def run_lines(series: Mapping[str, Points], width: int = 30) -> list[str]:
    """Write a line for each series that has a number: its course over the steps, the smallest, the largest and the
    last.
    """
    last = max((step for points in series.values() for step in points), default=0)
    width = min(width, last + 1)
    lines = []
    for name, label in LABELS.items():
        if numbers := series.get(name):
            values = list(numbers.values())
            figures = "".join(f"{value:>11.4g}" for value in (min(values), max(values), values[-1]))
            lines.append(f"{label:<14}  {_course(numbers, last, width):<{width}}{figures}")
    return [f"{'':<14}  {'':<{width}}{'min':>11}{'max':>11}{'last':>11}", *lines] if lines else []


def sample_lines(samples: Sequence[Mapping[str, Any]], width: int = 80) -> list[str]:
    """Write what the model wrote before and after training, in lines of at most `width`."""
    lines = []
    if samples:
        lines = ["", *fill(f"after {escape(str(samples[0]['prompt'])[-100:], 100)!r} it writes", width).splitlines()]
    for one in samples:
        sample = f"step {one['step']:<6,} {escape(str(one['continuation']), 200)}"
        lines += fill(sample, width, initial_indent="  ", subsequent_indent=" " * 14).splitlines()
    return lines


def _course(numbers: Points, last: int, width: int) -> str:
    """Draw the means of the steps that fall into each column, as marks from the lowest to the highest; a blank for
    none.
    """
    columns: dict[int, list[float]] = {}
    for step, value in numbers.items():
        columns.setdefault(step * width // (last + 1), []).append(value)
    means = {column: sum(values) / len(values) for column, values in columns.items()}
    low, high = min(means.values()), max(means.values())
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0
    marks = {column: BLOCKS[round((mean - low) * scale) if scale else 3] for column, mean in means.items()}
    return "".join(marks.get(column, " ") for column in range(width))
