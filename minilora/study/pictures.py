"""Pictures that teach: attention, graphs, blocks, weights and their 16 levels, singular values, loss surfaces.

Each is a function of plain arrays and gives a matplotlib Figure; `show` puts it into a notebook. The look is that of
`drawing.py`: readable in grey and by colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from .drawing import GREY, figure_of, single, styled, with_legend, write_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..tensor import Tensor

# Colours in an order whose neighbours differ in grey, each with a line and a marker of its own.
SERIES = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#000000", "linestyle": ":", "marker": "D"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
    {"color": "#E69F00", "linestyle": (0, (2, 1)), "marker": "P"},
)
BLUES = "cividis"  # a map of colours whose brightness rises evenly


def show(figure: Figure):
    """The figure as a picture in a notebook, the same bytes each time."""
    from IPython.display import Image, display

    file = BytesIO()
    write_png(figure, file, 110)
    display(Image(file.getvalue(), width=round(figure.get_figwidth() * 100)))


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
def attention_map(weights, tokens: Sequence[str], title: str = "Who looks at whom", first: int = 0) -> Figure:
    """Attention weights (queries, keys) as a map. tokens: names of the keys; first: the key that query 0 stands at,
    where more keys come before the queries, such as a prefix.
    """
    weights = np.asarray(weights)
    queries, keys = weights.shape
    longer = max(queries, keys)
    figure = figure_of(title, 2.2 + min(0.3 * longer, 5.3) * queries / longer)
    axes = figure.subplots()
    image = axes.imshow(weights, cmap=BLUES, vmin=0, vmax=max(weights.max(), 1e-12), aspect="equal")
    axes.set_xticks(range(keys), tokens, rotation=90, parse_math=False)
    axes.set_yticks(range(queries), tokens[first : first + queries], parse_math=False)
    axes.set(xlabel="is looked at", ylabel="looks")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="attention weight", shrink=0.8)
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
def graph_of(result: Tensor, names: Mapping[Tensor, str], title: str = "The graph behind a result") -> Figure:
    """The graph that backward would walk: parameters and operations as boxes, the result at the right.

    names: what to call the leaves. An operation is called as the function that made its rule is.
    """
    places, edges, labels = _layout(result, names)
    deepest = max(x for x, _ in places.values())
    rows = max(y for _, y in places.values()) + 1
    figure = figure_of(title, max(2.2, 0.75 * rows + 1.2))
    axes = figure.subplots()
    for start, end in edges:
        arrow = {"arrowstyle": "->", "color": GREY, "shrinkA": 22, "shrinkB": 22}
        axes.annotate("", places[end], places[start], arrowprops=arrow)
    for key, (x, y) in places.items():
        is_leaf = not any(end == key for _, end in edges)
        box = {"boxstyle": "round,pad=0.4", "facecolor": "#E8F0F7" if is_leaf else "#FFFFFF", "edgecolor": "#333333"}
        axes.text(x, y, labels[key], ha="center", va="center", bbox=box, fontsize=10, parse_math=False)
    axes.set_xlim(-0.6, deepest + 0.6)
    axes.set_ylim(-0.7, rows - 0.3)
    axes.axis("off")
    return figure


def _layout(result: Tensor, names: Mapping[Tensor, str]):
    """Places {id: (column, row)}, edges (from, to) and labels {id: text} of the graph behind `result`."""
    depth: dict[int, int] = {}
    labels: dict[int, str] = {}
    edges: list[tuple[int, int]] = []
    named = {id(tensor): name for tensor, name in names.items()}

    def visit(item) -> int:
        """Number of steps from the leaves to `item`, a leaf Tensor or a Node."""
        if id(item) not in depth:
            found = parents(item)
            depth[id(item)] = max((visit(parent) + 1 for parent in found), default=0)
            labels[id(item)] = operation(item) if found else named.get(id(item), str(item.shape))
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


def parents(item) -> list:
    """What a Node was made from; nothing for a leaf."""
    return [parent for group, _ in getattr(item, "edges", None) or [] for parent in group]


def operation(node) -> str:
    """The name of the function in which the Node's rule was written."""
    name = node.edges[0][1].__qualname__.split(".")[0].strip("_")
    return {"unbroadcast_to": "add"}.get(name, name)
