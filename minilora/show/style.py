"""How figures look, and the parts that they share. They are plain matplotlib Figures, made without pyplot: no window
opens, and the reader's own settings are as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilora.formats.atomic import make_folder, remove_file, write_atomic
from minilora.show.grids import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One colour, marker and line a method, the same in every figure. The colours are those of Okabe and Ito (2008), which
# the colour-blind tell apart; the markers and lines tell them apart in grey.
LOOKS: dict[str, dict[str, Any]] = {
    "base": {"color": "#555555", "marker": "", "linestyle": (0, (6, 2))},
    "few-shot": {"color": "#555555", "marker": "X", "linestyle": ":"},
    "scratch": {"color": "#D55E00", "marker": "s", "linestyle": (0, (1, 1.2))},
    "feature-extraction": {"color": "#CC79A7", "marker": "D", "linestyle": "-."},
    "full": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "norms": {"color": "#E69F00", "marker": "v", "linestyle": (0, (3, 1, 1, 1))},
    "bitfit": {"color": "#E69F00", "marker": "<", "linestyle": (0, (4, 1))},
    "ia3": {"color": "#E69F00", "marker": ">", "linestyle": (0, (2, 1))},
    "prompt": {"color": "#56B4E9", "marker": "p", "linestyle": (0, (1, 2))},
    "prefix": {"color": "#56B4E9", "marker": "P", "linestyle": (0, (5, 1, 1, 1))},
    "bottleneck": {"color": "#000000", "marker": "h", "linestyle": "-"},
    "lora": {"color": "#009E73", "marker": "^", "linestyle": "--"},
    "rslora": {"color": "#009E73", "marker": "1", "linestyle": (0, (2, 2))},
    "lora-plus": {"color": "#009E73", "marker": "*", "linestyle": (0, (6, 1))},
    "pissa": {"color": "#009E73", "marker": "8", "linestyle": (0, (1, 1))},
    "dora": {"color": "#009E73", "marker": "d", "linestyle": (0, (4, 1, 1, 1))},
    "qlora": {"color": "#0B5D44", "marker": "H", "linestyle": "-."},
}
GREY = LOOKS["base"]["color"]
WIDTH, HEIGHT = 6.4, 4.6  # inches: small, so that the letters stay large on a telephone
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
    """`draw` under matplotlib's defaults and STYLE, whatever the reader's own settings, which come back afterwards."""

    @wraps(draw)
    def styled(*arguments, **named):
        from matplotlib import style

        with style.context(STYLE, after_reset=True):
            return draw(*arguments, **named)

    return styled


def save_all(figures: Mapping[str, Callable], measured, folder: Path | str, dpi: int = 150) -> list[Path]:
    """Write NAME.png for each of the figures, {NAME: function of `measured`}; returns the paths.

    A figure that is None for lack of measurements is left out, and an older file of its name is removed. The same
    measurements give the same bytes under the same matplotlib. MiniloraError where the folder cannot be written.
    """
    make_folder(folder)
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
def write_png(figure: Figure, file, dpi: int) -> None:
    """The figure as a PNG that says nothing of when and by what it was made."""
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})


# Parts


def figure_of(title: str, height: float) -> Figure:
    """An empty figure of the common width, its title at the left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left")
    return figure


def single(title: str) -> tuple[Figure, Axes]:
    """A figure with one plot."""
    figure = figure_of(title, HEIGHT)
    return figure, figure.subplots()


def with_legend(figure: Figure, columns: int = 2) -> Figure:
    """Below the axes, where it covers no data."""
    figure.legend(loc="outside lower center", ncols=columns, handlelength=3.2 if columns < 3 else 2.2)
    return figure


def errorbar(axes: Axes, method: str, x: list[float], spreads: list[Spread], label: str, **look) -> None:
    """Means and half ranges in the method's look."""
    bars = [one.half_range for one in spreads]
    axes.errorbar(x, [one.mean for one in spreads], bars, **LOOKS[method] | look, label=label)


def base_line(axes: Axes, value: float, label: str | None = None) -> None:
    """A level that nothing was trained for: the base's, or chance."""
    axes.axhline(value, color=GREY, linestyle=LOOKS["base"]["linestyle"], linewidth=1.4, label=label)


def log_ticks(axes: Axes, amounts: list[int]) -> None:
    """A logarithmic axis with a tick at each amount that was measured, and nowhere else."""
    axes.set_xscale("log")
    axes.set_xticks(amounts, [f"{amount:,}" for amount in amounts])
    axes.set_xticks([], minor=True)
