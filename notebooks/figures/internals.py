"""Pictures of what is inside a model: attention, weights, singular values, a loss over two weights, places of adapters.

Each is a function of plain arrays and gives a matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from minilora.palette import ORANGE
from minilora.peft.method import METHODS
from minilora.show.style import GREY, figure_of, single, styled, with_legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUES = "cividis"  # a map of colours whose brightness rises evenly
CHANGES = (METHODS["full"].look, METHODS["lora"].look, {"color": GREY, "linestyle": ":", "marker": "s"})


@styled
def matrices(title: str, shown: Mapping[str, np.ndarray], label: str) -> Figure:
    """Draw matrices {name: (rows, columns)} of one shape side by side, in colours on one scale, even around zero."""
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
def attention_map(weights: ArrayLike, tokens: Sequence[str], title: str, first: int = 0) -> Figure:
    """Draw attention weights (queries, keys) as a map.

    tokens: names of the keys; first: the key that query 0 stands at, if more keys come before, such as a prefix.
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
    """Draw several maps {name: weights (queries, keys)} in one scale of colours, `columns` in a row.

    tokens: names of queries and keys, the same in each; without them, small maps that show their pattern alone.
    """
    rows, named, names = -(-len(maps) // columns), tokens is not None, list(tokens or [])
    figure = figure_of(title, 0.9 + rows * (6.0 / columns + (0.3 if named else 0.1)))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, weights) in zip(grid.flat, maps.items(), strict=False):
        image = axes.imshow(weights, cmap=BLUES, vmin=0, vmax=1, aspect="equal")
        axes.set_title(name, fontsize=10 if named else 8, pad=3)
        axes.grid(visible=False)
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
def weight_histogram(weights: ArrayLike, levels: Sequence[float], title: str) -> Figure:
    """Draw a histogram of weights that were divided by the absmax of their block, with the levels as lines."""
    figure, axes = single(title)
    axes.hist(np.ravel(weights), bins=120, color="#9DB8CC", edgecolor="none", label="weights / absmax")
    for number, level in enumerate(levels):
        axes.axvline(level, color=ORANGE, linewidth=1.1, label="values of the codebook" if not number else None)
    axes.set(xlabel="weight / absmax of its block", ylabel="how many")
    return with_legend(figure)


@styled
def singular_values(matrices: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw the first 64 singular values, each over the largest, of full fine-tuning's change, LoRA's and the weight."""
    figure, axes = single(title)
    for look, (name, matrix) in zip(CHANGES, matrices.items(), strict=True):
        values = np.linalg.svd(np.asarray(matrix, dtype="float64"), compute_uv=False)[:64]
        axes.plot(range(1, len(values) + 1), values / values[0], **look, markersize=4, label=name)
    axes.set(xlabel="number of the singular value", ylabel="size, over the largest")
    return with_legend(figure)


@styled
def surface(
    title: str,
    x: Sequence[float],
    y: Sequence[float],
    values: ArrayLike,  # (len(y), len(x))
    names: tuple[str, str],
    path: Sequence[tuple[float, float]],
) -> Figure:
    """Draw contours of `values`, with a path ((x, y) pairs) that descends on them and is cut off where they end."""
    figure, axes = single(title)
    drawn = axes.contourf(x, y, values, levels=20, cmap=BLUES)
    figure.colorbar(drawn, ax=axes, label="loss")
    axes.plot(*zip(*path, strict=True), color="white", marker="o", markersize=3.5, markeredgecolor="black")
    axes.set(xlabel=names[0], ylabel=names[1], xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.grid(visible=False)
    return figure


BLOCK = {"self_attn": "attention", "mlp": "MLP"}  # a block's modules, from the bottom up, and what they are called
TRAINS = {"boxstyle": "round,pad=0.4", "facecolor": "#F6C9A8", "edgecolor": ORANGE, "linewidth": 2.2}
PLUS = {"boxstyle": "circle,pad=0.15", "facecolor": "white"}
FROZEN = {"boxstyle": "round,pad=0.4", "facecolor": "#E8F0F7", "edgecolor": "#333333", "linewidth": 0.8}


@styled
def adapter_places(places: Mapping[str, Collection[str]], d: int, m: int, title: str) -> Figure:
    """Draw a column per placement, and one for the inside of an adapter, d to m to d.

    places: {name: which of a block's modules have an adapter behind them}. The stream runs upward; what trains has a
    thick edge.
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
                axes.text(0, y, "+", ha="center", va="center", bbox=PLUS)
                before = (0, y + 0.4)
            elif part:
                axes.plot([before[0], 1], [before[1], y], color=GREY, linewidth=1, zorder=1)
                trains = part.startswith(("adapter", "down", "up"))
                axes.text(1, y, part, ha="center", va="center", bbox=TRAINS if trains else FROZEN, fontsize=10)
                before = (1, y)
        axes.set(xlim=(-0.4, 1.75), ylim=(-1, 8))
        axes.axis("off")
    return figure
