"""How figures look, and the parts that they share.

They are plain matplotlib Figures, made without pyplot: no window opens, and the reader's own settings are as before.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from minilora.formats.atomic import remove_file, write_atomic
from minilora.peft import METHODS
from minilora.show.grids import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One colour, marker and line for each method, the same in every figure: a colour for a family, told apart in grey by
# the markers and lines. What is compared with the methods has looks of its own.
LOOKS: dict[str, dict[str, Any]] = {
    "base": {"color": "#555555", "marker": "", "linestyle": (0, (6, 2))},
    "few-shot": {"color": "#555555", "marker": "X", "linestyle": ":"},
    "scratch": {"color": "#D55E00", "marker": "s", "linestyle": (0, (1, 1.2))},
}
LOOKS |= {name: method.look for name, method in METHODS.items()}
GREY = LOOKS["base"]["color"]
# Colours in an order whose neighbours differ in grey, each with a line and a marker of its own.
SERIES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#000000", "linestyle": ":", "marker": "D"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
    {"color": "#E69F00", "linestyle": (0, (2, 1)), "marker": "P"},
)
WIDTH, HEIGHT, TALL = 6.4, 4.6, 5.8  # inches: small, so that the letters stay large on a telephone
STYLE: dict[str, Any] = {
    "font.size": 11,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.5,
    "errorbar.capsize": 3,
}
BITS = "bits/character (less is better)"


def styled(draw: Callable) -> Callable:
    """Run `draw` under matplotlib's defaults and STYLE; the reader's own settings come back afterwards."""

    @wraps(draw)
    def styled(*arguments: Any, **named: Any) -> Any:
        if "matplotlib" not in sys.modules:  # it warns of a home that it cannot write into, and does without
            logging.getLogger("matplotlib").setLevel(logging.ERROR)
        from matplotlib import style

        with style.context(STYLE, after_reset=True):
            return draw(*arguments, **named)

    return styled


def save_all(figures: Mapping[str, Callable], measured: Any, folder: Path | str, dpi: int = 150) -> list[Path]:
    """Write NAME.png for each of the figures, {NAME: function of `measured`}; returns the paths.

    A figure that is None for lack of measurements is left out, and an older file of its name is removed. The same
    measurements give the same bytes under the same matplotlib. MiniloraError where the folder cannot be written.
    """
    written = []
    for name, draw in figures.items():
        path, figure = Path(folder) / f"{name}.png", draw(measured)
        if figure is None:
            remove_file(path)
        else:
            write_atomic(path, partial(write_png, figure, dpi=dpi))
            written.append(path)
    return written


@styled
def write_png(figure: Figure, file: BinaryIO, dpi: int) -> None:
    """Write the figure as a PNG that says nothing of when and by what it was made."""
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})


def printable(text: str) -> str:
    """Put text on one line, with a replacement sign for what the figures' font may lack."""
    return "".join(c if c.isprintable() and c < "\u0250" else "\ufffd" for c in " ".join(text.split()))


def figure_of(title: str, height: float) -> Figure:
    """Return an empty figure of the common width, its title at the left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left", parse_math=False)
    return figure


def single(title: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return a figure with one plot."""
    figure = figure_of(title, height)
    return figure, figure.subplots()


def with_legend(figure: Figure, columns: int = 2) -> Figure:
    """Put the legend below the axes, where it covers no data."""
    figure.legend(loc="outside lower center", ncols=columns, handlelength=3.2 if columns < 3 else 2.2)
    return figure


def errorbar(axes: Axes, method: str, x: Sequence[float], spreads: list[Spread], label: str, **look: Any) -> None:
    """Draw means and half ranges in the method's look."""
    bars = [one.half_range for one in spreads]
    axes.errorbar(x, [one.mean for one in spreads], bars, **LOOKS[method] | look, label=label)


def base_line(axes: Axes, value: float, label: str | None = None) -> None:
    """Draw a level that nothing was trained for: the base's, or chance."""
    axes.axhline(value, color=GREY, linestyle=LOOKS["base"]["linestyle"], linewidth=1.4, label=label)


def log_ticks(axes: Axes, amounts: Sequence[float]) -> None:
    """Make the axis logarithmic, with a tick at each amount that was measured, and nowhere else."""
    axes.set_xscale("log")
    axes.set_xticks(amounts, [f"{amount:,}" for amount in amounts])
    axes.set_xticks([], minor=True)


def label_curves(
    axes: Axes,
    curves: Mapping[str, Mapping[int, Spread]],
    looks: Sequence[Mapping[str, Any]],
    chance: float | None,
    spacing: float = 1.03,
) -> None:
    """Draw accuracy in percent by the number of labels per class, {name: {labels: spread}}, and that of a guess.

    spacing: how far, as a factor, the error bars of two curves stand from each other.
    """
    for index, (look, (name, curve)) in enumerate(zip(looks, curves.items(), strict=False)):
        aside = spacing ** (index - (len(curves) - 1) / 2)
        heights, bars = [one.mean for one in curve.values()], [one.half_range for one in curve.values()]
        axes.errorbar([labels * aside for labels in curve], heights, bars, **look, label=name)
    if chance is not None:
        base_line(axes, chance, "chance")
    log_ticks(axes, sorted({labels for curve in curves.values() for labels in curve}))
    axes.set(xlabel="labels per class (logarithmic)", ylabel="accuracy on held-out sentences (%)")
