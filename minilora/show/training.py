"""The progress of a training run, as a figure and as lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from minilora.palette import BLUE, ORANGE
from minilora.show import style
from minilora.show.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Mapping[int, float]  # {step: number}
LABELS = {"loss": "loss", "evaluation": "validation", "test": "test", "lr": "learning rate", "norm": "gradient norm"}
_HEIGHTS = {"loss": 2.0, "evaluation": 2.0, "test": 2.0, "lr": 1.0, "norm": 1.2}  # inches, approximately
_RAW, _LINE = "#bbbbbb", BLUE


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return the moving average of (N,) values over a centred window of about N / 20."""
    window = np.ones(2 * (len(values) // 40) + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


@styled
def run_figure(series: Mapping[str, Points], title: str, unit: str = "") -> Figure | None:
    """Draw the loss and gradient norm, per step and smoothed, the evaluations, and the learning rate.

    series: "evaluation", of the validation part, shows its best step; "test", if there are too few rows for a
    validation part, shows the last. unit: that of both. Returns None if there are no numbers to draw.
    """
    shown = [name for name in LABELS if series.get(name)]
    if not shown:
        return None
    heights, units = [_HEIGHTS[name] for name in shown], {"loss": "nats/token", "evaluation": unit, "test": unit}
    figure = style.figure_of(title, sum(heights) + 1)
    rows = figure.subplots(len(shown), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for name, axes in zip(shown, rows, strict=True):
        steps, values = np.array([*series[name]]), np.array([*series[name].values()])
        axes.set_ylabel(LABELS[name].replace(" ", "\n") + (f"\n({units[name]})" if units.get(name) else ""))
        if name in ("evaluation", "test"):
            axes.plot(steps, values, color=_LINE, marker="o", markersize=4)
            marked, word = (int(values.argmin()), "best") if name == "evaluation" else (-1, "last")
            label = f"{word}: {values[marked]:.4g} at step {steps[marked]:,}"
            axes.plot(steps[marked], values[marked], "*", color=ORANGE, markersize=13, label=label)
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
    """Summarize each series that has numbers: first, last, min, max, and the step of the min."""
    facts = {}
    for name, points in series.items():
        if points:
            values, best = list(points.values()), min(points, key=points.__getitem__)
            facts[name] = {"first": values[0], "last": values[-1], "min": points[best], "max": max(values)}
            facts[name]["min_step"] = best
    return facts


def run_lines(summary: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a table of the smallest, largest and last number of each series that has numbers, as lines."""
    rows = [(LABELS[name], *(f"{facts[key]:.4g}" for key in ("min", "max", "last"))) for name, facts in summary.items()]
    return ["{:<14}{:>11}{:>11}{:>11}".format(*row) for row in [("", "min", "max", "last"), *rows] if rows]
