"""The style of figures, and the parts that they share.

Figures are plain matplotlib Figures, made without pyplot, so no window opens and the user's settings do not change.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from minilora.formats.atomic import write_atomic
from minilora.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, YELLOW
from minilora.peft import METHODS
from minilora.show.grids import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One colour, marker and line style per method, the same in every figure. Methods of a family share a colour; markers
# and lines distinguish them, also in black and white. Baselines have a style of their own.
LOOKS: dict[str, dict[str, Any]] = {
    "base": {"color": GREY, "marker": "", "linestyle": (0, (6, 2))},
    "few-shot": {"color": GREY, "marker": "X", "linestyle": ":"},
    "scratch": {"color": ORANGE, "marker": "s", "linestyle": (0, (1, 1.2))},
}
LOOKS |= {name: method.look for name, method in METHODS.items()}
# Colours ordered so that neighbours also differ in black and white, each with its own line and marker.
SERIES: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": ORANGE, "linestyle": "--", "marker": "s"},
    {"color": GREEN, "linestyle": "-.", "marker": "^"},
    {"color": BLACK, "linestyle": ":", "marker": "D"},
    {"color": PINK, "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
    {"color": YELLOW, "linestyle": (0, (2, 1)), "marker": "P"},
)
WIDTH, HEIGHT, TALL = 6.4, 4.6, 5.8  # inches; small, so that text stays readable on a phone
GRID = "#e4e4e4"
STYLE: dict[str, Any] = {
    "font.size": 11,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "svg.hashsalt": "minilora",  # so that equal figures give equal files
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.5,
    "errorbar.capsize": 3,
}
BITS = "bits/character (less is better)"


def styled(draw: Callable) -> Callable:
    """Make `draw` run with matplotlib's defaults and STYLE, and restore the user's settings afterwards."""

    @wraps(draw)
    def styled(*arguments: Any, **named: Any) -> Any:
        if "matplotlib" not in sys.modules:  # hide its harmless warning about a home folder that is not writable
            logging.getLogger("matplotlib").setLevel(logging.ERROR)
        from matplotlib import style

        with style.context(STYLE, after_reset=True):
            return draw(*arguments, **named)

    return styled


@styled
def write_png(figure: Figure, file: BinaryIO, dpi: int = 150) -> None:
    """Write the figure as a PNG without a date or the name of the software, so that equal figures give equal files."""
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})


def save(figure: Figure, path: Path) -> Path:
    """Write the figure to a PNG file and return its path. Raises MiniloraError if it cannot be written."""
    write_atomic(path, partial(write_png, figure))
    return path


def printable(text: str) -> str:
    """Put text on one line, and replace characters that the figures' font may not have."""
    return "".join(c if c.isprintable() and c < "\u0250" else "\ufffd" for c in " ".join(text.split()))


def figure_of(title: str, height: float) -> Figure:
    """Return an empty figure of the common width, with its title at the left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left", parse_math=False)
    return figure


def single(title: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return a figure with one plot."""
    figure = figure_of(title, height)
    return figure, figure.subplots()


def with_legend(figure: Figure, columns: int = 2) -> Figure:
    """Put the legend below the axes, so that it covers no data."""
    figure.legend(loc="outside lower center", ncols=columns, handlelength=3.2 if columns < 3 else 2.2)
    return figure


def errorbar(axes: Axes, method: str, x: Sequence[float], spreads: list[Spread], label: str, **look: Any) -> None:
    """Draw means and standard deviations in the method's style."""
    deviations = [spread.deviation for spread in spreads]
    axes.errorbar(x, [spread.mean for spread in spreads], deviations, **LOOKS[method] | look, label=label)


def base_line(axes: Axes, value: float, label: str | None = None) -> None:
    """Draw a horizontal line at a level reached without training: the base's, or chance."""
    axes.axhline(value, color=GREY, linestyle=LOOKS["base"]["linestyle"], linewidth=1.4, label=label)


def log_ticks(axes: Axes, amounts: Sequence[float]) -> None:
    """Make the x axis logarithmic, with ticks only at the measured amounts."""
    axes.set_xscale("log")
    axes.set_xticks(amounts, [f"{amount:,}" for amount in amounts])
    axes.set_xticks([], minor=True)
