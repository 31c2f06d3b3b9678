"""Pictures that teach: attention, graphs, blocks, weights and their levels, singular values, loss surfaces, methods.

Each is a function of plain arrays and gives a matplotlib Figure; `show` puts it into a notebook. The look is that of
`drawing.py`: readable in grey and by colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from minilora.backend import to_numpy, xp
from minilora.show.grids import NAMES, Spread
from minilora.show.style import (
    GREY,
    HEIGHT,
    LOOKS,
    base_line,
    errorbar,
    figure_of,
    log_ticks,
    single,
    styled,
    with_legend,
    write_png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minilora.tensor import Tensor

# Colours in an order whose neighbours differ in grey, each with a line and a marker of its own.
SERIES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#000000", "linestyle": ":", "marker": "D"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
    {"color": "#E69F00", "linestyle": (0, (2, 1)), "marker": "P"},
)
HATCHES = ("", "//", "..", "", "xx", "--")  # of stacked bars, so that neighbours differ in grey
BLUES = "cividis"  # a map of colours whose brightness rises evenly


def show(figure: Figure):
    """The figure as a picture in a notebook, the same bytes each time."""
    from IPython.display import Image, display

    file = BytesIO()
    write_png(figure, file, 110)
    display(Image(file.getvalue(), width=round(figure.get_figwidth() * 100), alt=figure.get_suptitle()))


@styled
def curves(
    title: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    log: str = "",
    spreads: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Lines {name: (x values, y values)}. log: "x", "y" or "xy"; spreads: {name: half ranges}, drawn as error bars."""
    figure, axes = single(title)
    for look, (name, (xs, ys)) in zip(SERIES, series.items(), strict=False):
        marker = look["marker"] if len(xs) <= 30 else ""
        bars = (spreads or {}).get(name)
        axes.errorbar(xs, ys, bars, **look | {"marker": marker}, label=name)
    axes.set(xlabel=x, ylabel=y)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    return with_legend(figure) if len(series) > 1 else figure


@styled
def step_times(
    title: str,
    lines: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]],
    points: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]] | None = None,
) -> Figure:
    """Seconds of a step over the number of ranks, a panel a method: {method: {link: (ranks, seconds)}}.

    lines: what a model says; points: what was measured, in the look of their link. Both axes are logarithmic, and the
    seconds have one scale for all panels.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    points = points or {}
    links = list(dict.fromkeys(link for panels in (lines, points) for panel in panels.values() for link in panel))
    figure = figure_of(title, 4.4)
    panels = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
    ranks = sorted({n for panel in lines.values() for line, _ in panel.values() for n in line})
    for axes, (method, panel) in zip(panels, lines.items(), strict=True):
        for look, link in zip(SERIES, links, strict=False):
            label = link if axes is panels[0] else None  # once in the legend
            axes.plot(*panel.get(link, ([], [])), **look | {"marker": ""}, label=label)
            axes.plot(*points.get(method, {}).get(link, ([], [])), **look | {"linestyle": ""})
        axes.set_title(method, fontsize=11)
        axes.set(xlabel="ranks", yscale="log")
        log_ticks(axes, ranks[:: -(-len(ranks) // 6)])
    panels[0].set_ylabel("seconds a step")
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # 0.1, not a power of ten
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    if points:
        panels[0].plot([], [], color=GREY, marker="o", linestyle="", label="measured")
    return with_legend(figure)


@styled
def learning_curve(
    title: str,
    curve: tuple[Sequence[float], Sequence[float]],
    samples: Sequence[tuple[int, str]],
    levels: Mapping[str, float],
    y: str = "loss (nats a token)",
) -> Figure:
    """A loss by steps, (steps, losses), with what the model wrote at some of them, (step, text), below it. levels:
    {name: loss} as lines across.
    """
    figure = figure_of(title, HEIGHT + 0.24 * len(samples))
    axes, below = figure.subplots(2, 1, height_ratios=(HEIGHT, 0.05 + 0.24 * len(samples)))
    steps, losses = curve
    axes.plot(steps, losses, color=SERIES[0]["color"])
    for name, level in levels.items():
        axes.axhline(level, color=GREY, linestyle="--", linewidth=1.2)
        axes.annotate(name, (1, level), (0, 3), ("axes fraction", "data"), "offset points", ha="right", color=GREY)
    axes.set(xlabel="step", ylabel=y)
    axes.margins(y=0.12)
    below.axis("off")
    for number, (step, text) in enumerate(samples, start=1):
        point = (step, float(np.interp(step, steps, losses)))
        look = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": SERIES[1]["color"]}
        axes.annotate(str(number), point, ha="center", va="center", fontsize=9, bbox=look)
        height = 1 - (number - 0.5) / len(samples)
        line = "".join(
            "·" if c == "\ufffd" else c if c.isprintable() else " " for c in text
        )  # U+FFFD: half a character
        line = f"{number}  step {step:,}: " + " ".join(line.split())
        line = line if len(line) <= 78 else f"{line[:77]}…"
        written = below.text(0, height, line, transform=below.transAxes, va="center", fontsize=9, parse_math=False)
        written.set_in_layout(False)  # a long line is cut off, and does not narrow the plot
    return figure


@styled
def paths(
    title: str, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, start: str = "the base"
) -> Figure:
    """Ways {name: (x values, y values)} through a plane that begin at one point; the end of each is a large mark."""
    figure, axes = single(title)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axvline(0, color=GREY, linewidth=1)
    for look, (name, (xs, ys)) in zip(SERIES, series.items(), strict=False):
        axes.plot(xs, ys, **look, markersize=5, label=name)
        axes.plot(xs[-1], ys[-1], color=look["color"], marker=look["marker"], markersize=12, markeredgecolor="white")
    beginning = next(iter(series.values()))
    axes.plot(beginning[0][0], beginning[1][0], color=GREY, marker="X", markersize=10, linestyle="", label=start)
    axes.set(xlabel=x, ylabel=y)
    axes.margins(0.12)
    return with_legend(figure)


@styled
def label_budgets(title: str, accuracies: Mapping[str, Mapping[int, Sequence[float]]], chance: float) -> Figure:
    """Accuracy against labels on a logarithmic axis: {name: {labels a class: accuracy of each seed}}, shares of one.

    Points are means over seeds, bars half their range. chance: the accuracy of a guess.
    """
    figure, axes = single(title)
    for index, (look, (name, points)) in enumerate(zip(SERIES, accuracies.items(), strict=False)):
        aside = 1.05 ** (index - (len(accuracies) - 1) / 2)  # so that error bars stand beside each other
        spreads = [Spread.of(100 * share for share in shares) for shares in points.values()]
        bars = [spread.half_range for spread in spreads]
        axes.errorbar([n * aside for n in points], [spread.mean for spread in spreads], bars, **look, label=name)
    base_line(axes, 100 * chance, "chance")
    log_ticks(axes, sorted({labels for points in accuracies.values() for labels in points}))
    axes.set(xlabel="labels a class (logarithmic)", ylabel="accuracy on the test (%)")
    return with_legend(figure)


@styled
def methods_at_cost(
    title: str,
    points: Mapping[str, tuple[float, Spread]],
    x: str,
    y: str,
    levels: Mapping[str, float] | None = None,
    frontier: Sequence[str] = (),
) -> Figure:
    """Every method {name: (cost, quality)} one point in its own look; less is better in both.

    levels: of methods that have no such cost, as lines. frontier: methods to join by a staircase. A point that lies so
    far up that it would squeeze all the others is named at the upper edge.
    """
    figure = figure_of(title, 5.8)
    axes = figure.subplots()
    for method, (cost, quality) in points.items():
        errorbar(axes, method, [cost], [quality], NAMES[method], linestyle="", markersize=8)
    for method, level in (levels or {}).items():
        axes.axhline(level, **LOOKS[method] | {"marker": ""}, label=NAMES[method])
    steps = sorted((points[method][0], points[method][1].mean) for method in frontier)
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color="#BBBBBB", linewidth=4, zorder=0, label="frontier")
    axes.set_xlim(0, 1.08 * max(cost for cost, _ in points.values()))
    axes.set(xlabel=x, ylabel=y)
    name_far_point(axes, points, (levels or {}).values())
    return with_legend(figure, 3)


def name_far_point(axes: Axes, points: Mapping[str, tuple[float, Spread]], levels: Collection[float] = ()) -> None:
    """Where one of the points {method: (x, height)} lies so far up that it would squeeze all the others and the levels,
    end the axis below it, and name it at the edge with an arrow.
    """
    far = max(points, key=lambda method: points[method][1].mean)
    x, one = points[far]
    others = [other for method, (_, other) in points.items() if method != far]
    heights = [other.mean for other in others] + list(levels)
    if len(heights) < 2 or one.mean <= 2 * max(heights) - min(heights):
        return
    low = min([other.mean - other.half_range for other in others] + list(levels))
    room = max(heights) - low
    axes.set_ylim(low - 0.1 * room, max(heights) + 0.25 * room)
    text, edge = f"{NAMES[far]}: {one.show(2)} ↑", ("data", "axes fraction")
    axes.annotate(text, (x, 1), (8, -4), xycoords=edge, textcoords="offset points", ha="right", va="top")


@styled
def bars(title: str, values: Mapping[str, float], x: str, log: bool = False) -> Figure:
    """Horizontal bars {name: value}, the first at the top, each with its value."""
    figure = figure_of(title, 1.2 + 0.42 * len(values))
    axes = figure.subplots()
    drawn = axes.barh(list(values), list(values.values()), color=SERIES[0]["color"], height=0.65)
    axes.bar_label(drawn, fmt=lambda value: f"{value:,.0f}" if value >= 1000 else f"{value:.3g}", padding=4)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(x)
    axes.margins(x=0.15)
    if log:
        axes.set_xscale("log")
    return figure


@styled
def stacked_bars(title: str, parts: Mapping[str, Mapping[str, float]], x: str) -> Figure:
    """Horizontal bars {name: {kind: value}}, the first at the top, each made of its kinds, with their sum behind it."""
    figure = figure_of(title, 1.8 + 0.5 * len(parts))
    axes = figure.subplots()
    kinds = list(dict.fromkeys(kind for values in parts.values() for kind in values))
    left = np.zeros(len(parts))
    for number, kind in enumerate(kinds):
        values = np.array([of_name.get(kind, 0) for of_name in parts.values()])
        look = {"color": SERIES[number % len(SERIES)]["color"], "hatch": HATCHES[number % len(HATCHES)]}
        drawn = axes.barh(list(parts), values, left=left, height=0.65, edgecolor="white", label=kind, **look)
        left = left + values
    axes.bar_label(drawn, [f"{total:,.0f}" if total >= 1000 else f"{total:.3g}" for total in left], padding=4)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(x)
    axes.margins(x=0.15)
    return with_legend(figure)


@styled
def grouped_bars(title: str, groups: Mapping[str, Mapping[str, float]], x: str, top: float | None = None) -> Figure:
    """Horizontal bars {group: {name: value}}, the first group at the top, its names side by side, each with its value.

    top: where the axis ends at least.
    """
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    figure = figure_of(title, 1.6 + 0.36 * len(groups) * len(names))
    axes = figure.subplots()
    height = 0.8 / len(names)
    for number, name in enumerate(names):
        look = {"color": SERIES[number % len(SERIES)]["color"], "hatch": HATCHES[number % len(HATCHES)]}
        places = [row + (number - (len(names) - 1) / 2) * height for row in range(len(groups))]
        heights = [values.get(name, 0) for values in groups.values()]
        drawn = axes.barh(places, heights, height=0.9 * height, edgecolor="white", label=name, **look)
        axes.bar_label(drawn, fmt=lambda value: f"{value:.0f}", padding=4)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(x)
    axes.margins(x=0.12)
    if top is not None:
        axes.set_xlim(0, 1.05 * max(top, *(value for values in groups.values() for value in values.values())))
    return with_legend(figure)


@styled
def matrices(title: str, shown: Mapping[str, np.ndarray], label: str) -> Figure:
    """Matrices {name: (rows, columns)} of one shape side by side, in colours on one scale that is even around zero."""
    figure = figure_of(title, 3.6)
    largest = max(float(np.abs(matrix).max()) for matrix in shown.values()) or 1.0
    row = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, (name, matrix) in zip(row, shown.items(), strict=True):
        image = axes.imshow(matrix, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
        axes.set_title(name, fontsize=11)
        axes.grid(visible=False)
        axes.set_xlabel("input")
    row[0].set_ylabel("output")
    figure.colorbar(image, ax=list(row), label=label, shrink=0.9)
    return figure


@styled
def attention_map(weights, tokens: Sequence[str], title: str = "Who looks at whom", first: int = 0) -> Figure:
    """Attention weights (queries, keys) as a map. tokens: names of the keys; first: the key that query 0 stands at,
    where more keys come before the queries, such as a prefix.
    """
    weights = np.asarray(weights)
    queries, keys = weights.shape
    longer = max(queries, keys)
    figure = figure_of(title, 1.9 + min(0.3 * longer, 4.2) * queries / longer)
    figure.set_layout_engine("compressed")  # the bar of colours is as high as the map
    axes = figure.subplots()
    image = axes.imshow(weights, cmap=BLUES, vmin=0, vmax=max(weights.max(), 1e-12), aspect="equal")
    axes.set_xticks(range(keys), tokens, rotation=90, parse_math=False)
    axes.set_yticks(range(queries), tokens[first : first + queries], parse_math=False)
    axes.set(xlabel="is looked at", ylabel="looks")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="attention weight")
    return figure


@styled
def attention_maps(
    maps: Mapping[str, np.ndarray], title: str, tokens: Sequence[str] | None = None, columns: int = 2
) -> Figure:
    """Several maps {name: weights (queries, keys)} in one scale of colours, `columns` in a row.

    tokens: names of queries and keys, the same in each; without them, small maps that show their pattern alone.
    """
    rows = -(-len(maps) // columns)
    named = tokens is not None
    figure = figure_of(title, 0.9 + rows * (6.0 / columns + (0.3 if named else 0.1)))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, weights) in zip(grid.flat, maps.items(), strict=False):
        image = axes.imshow(weights, cmap=BLUES, vmin=0, vmax=1, aspect="equal")
        axes.set_title(name, fontsize=10 if named else 8, pad=3)
        axes.grid(visible=False)
        names = list(tokens or [])
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False, fontsize=8)
        axes.set_yticks(range(len(names)), names, parse_math=False, fontsize=8)
    for axes in list(grid.flat)[len(maps) :]:
        axes.axis("off")
    for axes in grid[:, 0] if named else grid[-1:, 0]:
        axes.set_ylabel("looks", fontsize=9)
    for axes in grid[-1] if named else grid[-1, :1]:
        axes.set_xlabel("is looked at", fontsize=9)
    figure.colorbar(image, ax=grid, label="attention weight", location="bottom", shrink=0.6, aspect=40)
    return figure


@styled
def weight_histogram(weights, levels=None, title: str = "Weights, and the levels they are rounded to") -> Figure:
    """A histogram of weights that were divided by the absmax of their block, with the levels as lines."""
    figure, axes = single(title)
    axes.hist(np.ravel(weights), bins=120, color="#9DB8CC", edgecolor="none", label="weights / absmax")
    for number, level in enumerate([] if levels is None else levels):
        axes.axvline(level, color="#D55E00", linewidth=1.1, label="levels" if not number else None)
    axes.set(xlabel="weight / absmax of its block", ylabel="how many")
    return with_legend(figure)


@styled
def singular_values(matrices: Mapping[str, np.ndarray], title: str = "Singular values", most: int = 64) -> Figure:
    """The singular values of matrices, each divided by its largest."""
    figure, axes = single(title)
    for look, (name, matrix) in zip(SERIES, matrices.items(), strict=False):
        values = np.linalg.svd(np.asarray(matrix, dtype="float64"), compute_uv=False)[:most]
        axes.plot(range(1, len(values) + 1), values / values[0], **look, markersize=4, label=name)
    axes.set(xlabel="number of the singular value", ylabel="size, over the largest")
    return with_legend(figure)


@styled
def surface(title: str, x: Sequence[float], y: Sequence[float], values, names: tuple[str, str], path=None) -> Figure:
    """Contours of `values` (len(y), len(x)), with a path ((x, y) pairs) that descends on them."""
    figure, axes = single(title)
    drawn = axes.contourf(x, y, values, levels=20, cmap=BLUES)
    figure.colorbar(drawn, ax=axes, label="loss")
    if path is not None:
        axes.plot(*zip(*path, strict=True), color="white", marker="o", markersize=3.5, markeredgecolor="black")
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.grid(visible=False)
    return figure


BLOCK = {"self_attn": "attention", "mlp": "MLP"}  # a block's modules, from the bottom up, and what they are called
TRAINS = {"boxstyle": "round,pad=0.4", "facecolor": "#F6C9A8", "edgecolor": "#D55E00", "linewidth": 2.2}
FROZEN = {"boxstyle": "round,pad=0.4", "facecolor": "#E8F0F7", "edgecolor": "#333333", "linewidth": 0.8}


@styled
def adapter_places(places: Mapping[str, Collection[str]], d: int, m: int, title: str) -> Figure:
    """A column a placement, {name: which of a block's modules have an adapter behind them}, and one for the inside of
    an adapter, d to m to d. The stream runs upward; what trains has a thick edge.
    """
    figure = figure_of(title, 5.6)
    rows = {
        name: [part for module, word in BLOCK.items() for part in ("norm", word, "adapter" * (module in has), "+")]
        for name, has in places.items()
    }
    rows["inside an adapter"] = [f"down: {d} to {m}", "f", f"up: {m} to {d}", "+"]
    arrow = {"arrowstyle": "->", "color": GREY}
    for axes, (name, parts) in zip(figure.subplots(1, len(rows)), rows.items(), strict=True):
        axes.set_title(name, fontsize=11)
        axes.annotate("", (0, len(parts) - 0.2), (0, -0.9), arrowprops=arrow | {"linewidth": 1.6}, zorder=1)
        before = (0, -0.6)
        for y, part in enumerate(parts):
            if part == "+":
                axes.annotate("", (0, y), before, arrowprops=arrow | {"shrinkA": 0, "shrinkB": 9}, zorder=1)
                axes.text(
                    0, y, "+", ha="center", va="center", bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white"}
                )
                before = (0, y + 0.4)
            elif part:
                axes.plot([before[0], 1], [before[1], y], color=GREY, linewidth=1, zorder=1)
                trains = part.startswith(("adapter", "down", "up"))
                axes.text(1, y, part, ha="center", va="center", bbox=TRAINS if trains else FROZEN, fontsize=10)
                before = (1, y)
        axes.set(xlim=(-0.4, 1.75), ylim=(-1, 8))
        axes.axis("off")
    return figure


@styled
def graph_of(
    result: Tensor, names: Mapping[Tensor, str], title: str = "The graph behind a result", numbers: bool = False
) -> Figure:
    """The graph that backward would walk: parameters and operations as boxes, the result at the right.

    names: what to call the leaves, and computed Tensors where they have names. An operation is called as `operation`
    says. numbers: write into each box its value, where it is in `names`, and the gradient of the result with respect to
    it, of arrays with at most four elements. The graph stays whole for `backward`.
    """
    places, edges, labels = _layout(result, names)
    if numbers:
        _add_numbers(labels, result, names)
    deepest = max(x for x, _ in places.values())
    rows = max(y for _, y in places.values()) + 1
    figure = figure_of(title, max(2.0, (0.9 if numbers else 0.7) * rows + 0.7))
    axes = figure.subplots()
    size = 8.5 if numbers and deepest > 4 else 10
    starts = {start for start, _ in edges}
    ends = {end for _, end in edges}
    boxes = {}
    for key, (x, y) in places.items():
        color = "#E8F0F7" if key not in ends else "#FFFFFF" if key in starts else "#FBEFE3"
        box = {"boxstyle": "round,pad=0.4", "facecolor": color, "edgecolor": "#333333"}
        boxes[key] = axes.text(x, y, labels[key], ha="center", va="center", bbox=box, fontsize=size, parse_math=False)
    for start, end in edges:  # from box to box, and under the boxes where the way leads past one
        (x0, y0), (x1, y1) = places[start], places[end]
        bend = 0.0 if x1 - x0 <= 1 else -0.15 if y0 > y1 else 0.15
        arrow = {"arrowstyle": "->", "color": GREY, "connectionstyle": f"arc3,rad={bend}", "zorder": 0}
        arrow |= {"patchA": boxes[start].get_bbox_patch(), "patchB": boxes[end].get_bbox_patch()}
        axes.annotate("", (x1, y1), (x0, y0), arrowprops=arrow | {"shrinkA": 2, "shrinkB": 2})
    axes.set_xlim(-0.5, deepest + 0.5)
    axes.set_ylim(-0.5, rows - 0.5)
    axes.axis("off")
    return figure


def _layout(result: Tensor, names: Mapping[Tensor, str]):
    """Places {id: (column, row)}, edges (from, to) and labels {id: text} of the graph behind `result`."""
    depth: dict[int, int] = {}
    labels: dict[int, str] = {}
    edges: list[tuple[int, int]] = []
    named = {id(tensor._node or tensor): name for tensor, name in names.items()}

    def visit(item) -> int:
        """Number of steps from the leaves to `item`, a leaf Tensor or a Node."""
        if id(item) not in depth:
            found = parents(item)
            depth[id(item)] = max((visit(parent) + 1 for parent in found), default=0)
            name = named.get(id(item))
            labels[id(item)] = "\n".join(filter(None, (operation(item), name))) if found else name or str(item.shape)
            edges.extend((id(parent), id(item)) for parent in dict.fromkeys(found))
        return depth[id(item)]

    visit(result._node or result)
    columns: dict[int, list[int]] = {}
    for key, column in depth.items():
        columns.setdefault(column, []).append(key)
    most = max(map(len, columns.values()))
    places = {
        key: (column, row + (most - len(keys)) / 2) for column, keys in columns.items() for row, key in enumerate(keys)
    }
    return places, edges, labels


def _add_numbers(labels: dict[int, str], result: Tensor, names: Mapping[Tensor, str]) -> None:
    """A value behind each name and a gradient under each label."""
    for tensor in names:
        if (key := id(tensor._node or tensor)) in labels:
            labels[key] += f" = {_short(tensor.numpy())}"
    for key, gradient in _all_gradients(result).items():
        labels[key] += f"\ngradient {_short(gradient)}"


def _short(array) -> str:
    """Small arrays by their numbers, others by their shape."""
    array = np.asarray(array)
    if array.size > 4:
        return "×".join(map(str, array.shape))
    text = ", ".join(f"{round(float(x), 2):g}" for x in array.ravel()).replace("-", "\N{MINUS SIGN}")
    return f"[{text}]" if array.ndim else text


def _all_gradients(result: Tensor) -> dict[int, np.ndarray]:
    """The gradient of result.sum() with respect to each node and leaf {id: array}; the graph is not used up."""
    found: dict[int, Any] = {}
    nodes: dict[int, Any] = {id(result._node): result._node}
    found[id(result._node)] = xp.ones(result.shape, dtype=result.dtype)
    while nodes:
        node = nodes.pop(max(nodes, key=lambda key: nodes[key].index))  # newest first: all that used it were there
        for group, rule in node.edges:
            parts = rule(found[id(node)])
            for parent, part in zip(group, parts if type(parts) is tuple else (parts,), strict=True):
                if parent is None or part is None:
                    continue
                found[id(parent)] = part if id(parent) not in found else found[id(parent)] + part
                if parents(parent):
                    nodes[id(parent)] = parent
    return {key: to_numpy(array) for key, array in found.items()}


def parents(item) -> list:
    """What a Node was made from; nothing for a leaf."""
    return [parent for group, _ in getattr(item, "edges", None) or [] for parent in group if parent is not None]


def operation(node) -> str:
    """The name of the function in which the Node's rules were written.

    A rule that only hands the gradient on names no function. Two of them are an addition; one alone is that of
    x + constant and of x - constant, which backward need not tell apart.
    """
    names = [rule.__qualname__.split(".")[0].strip("_") for _, rule in node.edges]
    own = [name for name in names if name != "unbroadcast_to"]
    return own[0] if own else "add" if len(names) == 2 else "add a constant"
