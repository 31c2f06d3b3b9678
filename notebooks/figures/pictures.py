"""Pictures of numbers: curves, bars, methods at their cost. (Those of a model are in `internals` and `graph`.)

Each is a function of plain numbers and gives a matplotlib Figure; `show` puts it into a notebook. The look is that of
`minilora.show.style`: readable in grey and by colour-blind readers.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from html import escape
from io import BytesIO
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from minilora.palette import BLACK, DARK_GREEN, MEMORY
from minilora.peft import METHODS
from minilora.show import style
from minilora.show.grids import NAMES, Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 220  # of a figure in a notebook
HATCHES = ("", "//", "..", "", "xx", "--")  # of stacked bars, so that neighbours differ in grey
Curve = tuple[Sequence[float], Sequence[float]]  # x and y values
# The colours of an SVG that change if the reader's system is dark.
DARK = {BLACK: "#e6edf3", "#ffffff": "#161b22", style.GREY: "#a9b4c0", style.GRID: "#3a3f46", "#333333": "#a9b4c0"}
DARK |= {DARK_GREEN.lower(): "#3fae86"}
DARK |= {"#e8f0f7": "#22344a", "#fbefe3": "#4a3418", "#f6c9a8": "#7a3f12"}  # colours of boxes with text in them


def show(figure: Figure, caption: str) -> None:
    """Show the figure in a notebook, with a caption under it and `in_words` as its alternative text.

    Lines and bars are an SVG, which suits a dark page too; maps are a PNG. Either is shown as HTML, since JupyterLab
    takes no alternative text for a picture of any other kind; as plain text it is its title. The same figure gives the
    same bytes each time.
    """
    from IPython.display import display

    layers = [layer for axes in figure.axes for layer in (*axes.images, *axes.collections)]
    is_map = any(layer.get_array() is not None for layer in layers)  # whose colours stand for numbers
    picture = image(figure, in_words(figure), _in_few_colours(figure) if is_map else b"")
    page = f'<figure style="margin: 0">{picture}<figcaption>{escape(caption, quote=False)}</figcaption></figure>'
    display({"text/plain": figure.get_suptitle(), "text/html": page}, raw=True)


@style.styled
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


def in_words(figure: Figure) -> str:
    """Return the figure for those who hear the page: its title, what is on the axes, and all that is written in it."""
    texts: list[str] = []
    for axes in figure.axes:
        texts += [axes.get_title(), " by ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))]
        for axis in (axes.yaxis, axes.xaxis):
            if type(axis.get_major_formatter()).__name__ == "StrCategoryFormatter":  # names
                texts += [label.get_text() for label in axis.get_ticklabels()]
        texts += [text.get_text() for text in axes.texts]
    texts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    words = [" ".join(text.split()) for text in texts]
    return f"{figure.get_suptitle()}: {', '.join(dict.fromkeys(filter(None, words)))}"


def _in_few_colours(figure: Figure) -> bytes:
    """Return a PNG at DPI with at most 256 colours, which takes less than half the bytes of all of them."""
    from PIL import Image

    drawn, few = BytesIO(), BytesIO()
    style.write_png(figure, drawn, DPI)
    picture = Image.open(drawn).convert("RGB")
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(few, "png", optimize=True)
    return few.getvalue()


def looks_of(runs: Sequence[str]) -> list[dict[str, Any]]:
    """Return a style for each run: its method's, if its name begins with one, hollow and dotted from the second on.

    Runs that name no method get the styles of `style.SERIES`.
    """
    names = {METHODS[name].label.lower(): name for name in METHODS}
    methods = [names.get(run.split(",")[0].removesuffix(" fine-tuning").lower(), "") for run in runs]
    if not all(methods):
        return [*style.SERIES[: len(runs)]]
    variant = {"linestyle": ":", "markerfacecolor": "white"}
    return [style.LOOKS[one] | (variant if one in methods[:i] else {}) for i, one in enumerate(methods)]


def stack_bars(
    axes: Axes, names: Sequence[str], kinds: Mapping[str, Sequence[float]], looks: Mapping[str, Any]
) -> list:
    """Draw horizontal bars, each made of its kinds {kind: a width for each name}, the first name at the top.

    looks: {kind: arguments of `barh`}; a kind without a look leaves its place empty. Returns the whole widths.
    """
    left = [0.0] * len(names)
    for kind, widths in kinds.items():
        if kind in looks:
            axes.barh(names, widths, left=left, label=kind, **looks[kind])
        left = [start + width for start, width in zip(left, widths, strict=True)]
    bars_downward(axes)
    return left


def bars_downward(axes: Axes) -> None:
    """Turn horizontal bars so that the first is at the top, and draw no lines across."""
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def origin_lines(axes: Axes) -> None:
    """Draw lines through zero, where nothing is gained or lost."""
    axes.axhline(0, color=style.GREY, linewidth=1)
    axes.axvline(0, color=style.GREY, linewidth=1)


def name_far_point(axes: Axes, points: Mapping[str, tuple[float, Spread]], levels: Collection[float] = ()) -> None:
    """End the axis below a point of {method: (x, height)} that lies so far up that it would squeeze all the others and
    the levels, and name it at the edge with an arrow.
    """
    far = max(points, key=lambda method: points[method][1].mean)
    x, one = points[far]
    others = [other for method, (_, other) in points.items() if method != far]
    heights = [other.mean for other in others] + list(levels)
    if len(heights) < 2 or one.mean <= 2 * max(heights) - min(heights):
        return
    low = min([other.mean - other.deviation for other in others] + list(levels))
    room = max(heights) - low
    axes.set_ylim(low - 0.1 * room, max(heights) + 0.25 * room)
    text, edge = f"{NAMES[far]}: {one.show(2)} ↑", ("data", "axes fraction")
    axes.annotate(text, (x, 1), (8, -4), xycoords=edge, textcoords="offset points", ha="right", va="top")


@style.styled
def curves(
    title: str, series: Mapping[str, Curve], x: str, y: str, log: str = "", spreads: Mapping[str, Sequence[float]] = {}
) -> Figure:
    """Draw lines {name: (x values, y values)}. log: "x", "y" or "xy"; spreads: {name: deviations}, as error bars."""
    figure, axes = style.single(title)
    for look, (name, (xs, ys)) in zip(style.SERIES, series.items(), strict=False):
        marker = look["marker"] if len(xs) <= 30 else ""
        axes.errorbar(xs, ys, spreads.get(name), **look | {"marker": marker}, label=name)
    axes.set(xlabel=x, ylabel=y, **{f"{axis}scale": "log" for axis in log})
    return style.with_legend(figure) if len(series) > 1 else figure


@style.styled
def step_times(
    title: str,
    lines: Mapping[str, Mapping[str, Curve]],
    points: Mapping[str, Mapping[str, Curve]] = {},
) -> Figure:
    """Draw the seconds of a step over the number of ranks, a panel a method: {method: {link: (ranks, seconds)}}.

    lines: what a model says; points: what was measured, in the look of their link. Both axes are logarithmic, and the
    seconds have one scale for all panels.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    links = list(dict.fromkeys(link for panels in (lines, points) for panel in panels.values() for link in panel))
    figure = style.figure_of(title, 4.4)
    panels = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
    ranks = sorted({n for panel in lines.values() for line, _ in panel.values() for n in line})
    for axes, (method, panel) in zip(panels, lines.items(), strict=True):
        for look, link in zip(style.SERIES, links, strict=False):
            label = link if axes is panels[0] else None  # once in the legend
            axes.plot(*panel.get(link, ([], [])), **look | {"marker": ""}, label=label)
            axes.plot(*points.get(method, {}).get(link, ([], [])), **look | {"linestyle": ""})
        axes.set_title(method, fontsize=11)
        axes.set(xlabel="ranks", yscale="log")
        style.log_ticks(axes, ranks[:: -(-len(ranks) // 6)])
    panels[0].set_ylabel("seconds per step")
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # 0.1, not a power of ten
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    if points:
        panels[0].plot([], [], color=style.GREY, marker="o", linestyle="", label="measured")
    return style.with_legend(figure)


@style.styled
def learning_curve(title: str, curve: Curve, samples: Sequence[tuple[int, str]], levels: Mapping[str, float]) -> Figure:
    """Draw a loss by steps, (steps, losses), with what the model wrote at some of them, (step, text), below it. levels:
    {name: loss} as lines across.
    """
    figure = style.figure_of(title, style.HEIGHT + 0.24 * len(samples))
    axes, below = figure.subplots(2, 1, height_ratios=(style.HEIGHT, 0.05 + 0.24 * len(samples)))
    steps, losses = curve
    axes.plot(steps, losses, color=style.SERIES[0]["color"])
    for name, level in levels.items():
        axes.axhline(level, color=style.GREY, linestyle="--", linewidth=1.2)
        named = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
        axes.annotate(name, (1, level), (0, 3), **named, color=style.GREY)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.margins(y=0.12)
    below.axis("off")
    for number, (step, text) in enumerate(samples, start=1):
        point = (step, float(np.interp(step, steps, losses)))
        look = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": style.SERIES[1]["color"]}
        axes.annotate(str(number), point, ha="center", va="center", fontsize=9, bbox=look)
        height = 1 - (number - 0.5) / len(samples)
        line = "".join(c if c.isprintable() else " " for c in text.replace("\ufffd", "·"))  # half a character
        line = f"{number}  step {step:,}: " + " ".join(line.split())
        line = line if len(line) <= 78 else f"{line[:77]}…"
        written = below.text(0, height, line, transform=below.transAxes, va="center", fontsize=9, parse_math=False)
        written.set_in_layout(False)  # a long line is cut off, and does not narrow the plot
    return figure


@style.styled
def paths(title: str, series: Mapping[str, Curve], x: str, y: str) -> Figure:
    """Draw ways {name: (x values, y values)} through a plane that begin at one point; a large mark ends each."""
    figure, axes = style.single(title)
    origin_lines(axes)
    for look, (name, (xs, ys)) in zip(looks_of([*series]), series.items(), strict=False):
        axes.plot(xs, ys, **look, markersize=5, label=name)
        axes.plot(xs[-1], ys[-1], **look | {"linestyle": ""}, markersize=12)
    beginning = next(iter(series.values()))
    axes.plot(
        beginning[0][0], beginning[1][0], color=style.GREY, marker="X", markersize=10, linestyle="", label="the base"
    )
    axes.set(xlabel=x, ylabel=y)
    axes.margins(0.12)
    return style.with_legend(figure)


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
        heights, bars = [one.mean for one in curve.values()], [one.deviation for one in curve.values()]
        axes.errorbar([labels * aside for labels in curve], heights, bars, **look, label=name)
    if chance is not None:
        style.base_line(axes, chance, "chance")
    style.log_ticks(axes, sorted({labels for curve in curves.values() for labels in curve}))
    axes.set(xlabel="labels per class (logarithmic)", ylabel="accuracy on held-out sentences (%)")


@style.styled
def label_budgets(title: str, accuracies: Mapping[str, Mapping[int, Sequence[float]]], chance: float) -> Figure:
    """Draw accuracy against labels on a logarithmic axis: {name: {labels per class: accuracy of each seed}}.

    Points are means over seeds, bars their standard deviation. chance: the accuracy of a guess.
    """
    figure, axes = style.single(title)
    curves = {
        name: {labels: Spread.of(100 * share for share in shares) for labels, shares in points.items()}
        for name, points in accuracies.items()
    }
    label_curves(axes, curves, style.SERIES, 100 * chance, spacing=1.05)
    axes.set_ylabel("accuracy on the test (%)")
    return style.with_legend(figure)


@style.styled
def methods_at_cost(
    title: str,
    points: Mapping[str, tuple[float, Spread]],
    x: str,
    y: str,
    levels: Mapping[str, float] = {},
    frontier: Sequence[str] = (),
) -> Figure:
    """Draw every method {name: (cost, quality)} as one point in its own look; less is better in both.

    levels: of methods that have no such cost, as lines. frontier: methods to join by a staircase. A point that lies so
    far up that it would squeeze all the others is named at the upper edge.
    """
    figure, axes = style.single(title, style.TALL)
    for method, (cost, quality) in points.items():
        style.errorbar(axes, method, [cost], [quality], NAMES[method], linestyle="", markersize=8)
    for method, level in levels.items():
        axes.axhline(level, **style.LOOKS[method] | {"marker": ""}, label=NAMES[method])
    steps = sorted((points[method][0], points[method][1].mean) for method in frontier)
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color="#BBBBBB", linewidth=4, zorder=0, label="frontier")
    axes.set_xlim(0, 1.08 * max(cost for cost, _ in points.values()))
    axes.set(xlabel=x, ylabel=y)
    name_far_point(axes, points, levels.values())
    return style.with_legend(figure, 3)


@style.styled
def bars(title: str, values: Mapping[str, float], x: str, log: bool = False) -> Figure:
    """Draw horizontal bars {name: value}, the first at the top, each with its value."""
    figure, axes = style.single(title, 1.2 + 0.42 * len(values))
    drawn = axes.barh(list(values), list(values.values()), color=style.SERIES[0]["color"], height=0.65)
    axes.bar_label(drawn, fmt=lambda value: f"{value:,.0f}" if value >= 1000 else f"{value:.3g}", padding=4)
    bars_downward(axes)
    axes.set(xlabel=x, xscale="log" if log else "linear")
    axes.margins(x=0.15)
    return figure


@style.styled
def stacked_bars(title: str, parts: Mapping[str, Mapping[str, float]], x: str) -> Figure:
    """Draw horizontal bars {name: {kind: value}}, the first at the top, each made of its kinds, their sum behind it."""
    figure, axes = style.single(title, 1.8 + 0.5 * len(parts))
    kinds = list(dict.fromkeys(kind for values in parts.values() for kind in values))
    looks = {
        kind: {"color": MEMORY.get(kind, look["color"]), "hatch": hatch, "height": 0.65, "edgecolor": "white"}
        for kind, look, hatch in zip(kinds, cycle(style.SERIES), cycle(HATCHES), strict=False)
    }
    widths = {kind: [of_name.get(kind, 0) for of_name in parts.values()] for kind in kinds}
    sums = stack_bars(axes, list(parts), widths, looks)
    labels = [f"{total:,.0f}" if total >= 1000 else f"{total:.3g}" for total in sums]
    last: Any = axes.containers[-1]
    axes.bar_label(last, labels, padding=4)
    axes.set_xlabel(x)
    axes.margins(x=0.15)
    return style.with_legend(figure)


@style.styled
def grouped_bars(title: str, groups: Mapping[str, Mapping[str, float]], x: str, top: float | None = None) -> Figure:
    """Draw horizontal bars {group: {name: value}}, the first at the top, its names side by side, each with its value.

    top: where the axis ends at least.
    """
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    figure, axes = style.single(title, 1.6 + 0.36 * len(groups) * len(names))
    height = 0.8 / len(names)
    for number, (name, look, hatch) in enumerate(zip(names, cycle(style.SERIES), cycle(HATCHES), strict=False)):
        places = [row + (number - (len(names) - 1) / 2) * height for row in range(len(groups))]
        heights = [values.get(name, 0) for values in groups.values()]
        drawn = axes.barh(
            places, heights, 0.9 * height, color=look["color"], hatch=hatch, edgecolor="white", label=name
        )
        axes.bar_label(drawn, fmt=lambda value: f"{value:.0f}", padding=4)
    axes.set_yticks(range(len(groups)), list(groups))
    bars_downward(axes)
    axes.set_xlabel(x)
    axes.margins(x=0.12)
    if top is not None:
        axes.set_xlim(0, 1.05 * max(top, *(value for values in groups.values() for value in values.values())))
    return style.with_legend(figure)
