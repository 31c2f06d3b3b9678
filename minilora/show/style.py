"""The style of figures, and the parts that they share.

Figures are plain matplotlib Figures, made without pyplot, so no window opens and the user's settings do not change.
"""

from __future__ import annotations

import logging
import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import partial, wraps
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from minilora.formats.atomic import write_atomic
from minilora.palette import BLACK, BLUE, DARK_GREEN, GREEN, GREY, ORANGE, PINK, YELLOW
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
# The colours of an SVG that change if the reader's system is dark.
DARK = {BLACK: "#e6edf3", "#ffffff": "#161b22", GREY: "#a9b4c0", GRID: "#3a3f46", "#333333": "#a9b4c0"}
DARK |= {DARK_GREEN.lower(): "#3fae86"}
DARK |= {"#e8f0f7": "#22344a", "#fbefe3": "#4a3418", "#f6c9a8": "#7a3f12"}  # colours of boxes with text in them
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


@styled
def svg(figure: Figure, words: str) -> str:
    """Draw the figure as an SVG with light ink on a dark ground where the reader's system is dark.

    It has a ground of its own, since the page around it may not follow the system. Equal figures give equal text.
    words: its title, for readers who hear the page.
    """
    no_facts = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file := BytesIO(), format="svg", metadata=no_facts)
    rules = [
        f'[style*="{part}: {light}"] {{ {part}: {dark} !important }}'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    ]
    look = f"@media (prefers-color-scheme: dark) {{ svg {{ fill: {DARK[BLACK]} }} {' '.join(rules)} }}</style>"
    title = f"<title>{escape(words)}</title>\n <defs>"
    return file.getvalue().decode().replace("<defs>", title, 1).replace("</style>", look, 1)


def image(figure: Figure, words: str, png: bytes = b"") -> str:
    """Return the figure as an HTML image: `png` if there is one, else an SVG. words: the alternative text."""
    kind, data = ("png", png) if png else ("svg+xml", svg(figure, words).encode())
    source, width = f"data:image/{kind};base64,{b64encode(data).decode()}", round(figure.get_figwidth() * 100)
    return f'<img src="{source}" width="{width}" alt="{escape(words)}">'


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
