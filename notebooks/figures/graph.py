"""Pictures of the graph behind a result, as `backward` walks it, with values and gradients of small arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from minilora.backend import to_numpy, xp
from minilora.show.style import GREY, figure_of, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minilora.tensor import Tensor


@styled
def graph_of(
    result: Tensor, names: Mapping[Tensor, str], title: str = "The graph behind a result", numbers: bool = False
) -> Figure:
    """Draw the graph that backward would walk: parameters and operations as boxes, the result at the right.

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


def _layout(
    result: Tensor, names: Mapping[Tensor, str]
) -> tuple[dict[int, tuple[int, float]], list[tuple[int, int]], dict[int, str]]:
    """Return places {id: (column, row)}, edges (from, to) and labels {id: text} of the graph behind `result`."""
    depth: dict[int, int] = {}
    labels: dict[int, str] = {}
    edges: list[tuple[int, int]] = []
    named = {id(tensor._node or tensor): name for tensor, name in names.items()}

    def visit(item: Any) -> int:
        """Return the number of steps from the leaves to `item`, a leaf Tensor or a Node."""
        if id(item) not in depth:
            inputs = parents(item)
            depth[id(item)] = max((visit(parent) + 1 for parent in inputs), default=0)
            name = named.get(id(item))
            labels[id(item)] = "\n".join(filter(None, (operation(item), name))) if inputs else name or str(item.shape)
            edges.extend((id(parent), id(item)) for parent in dict.fromkeys(inputs))
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
    """Add a value behind each name and a gradient under each label."""
    for tensor in names:
        if (key := id(tensor._node or tensor)) in labels:
            labels[key] += f" = {_short(tensor.numpy())}"
    for key, gradient in _all_gradients(result).items():
        labels[key] += f"\ngradient {_short(gradient)}"


def _short(array: ArrayLike) -> str:
    """Write small arrays by their numbers, others by their shape."""
    array = np.asarray(array)
    if array.size > 4:
        return "×".join(map(str, array.shape))
    text = ", ".join(f"{round(float(x), 2):g}" for x in array.ravel()).replace("-", "\N{MINUS SIGN}")
    return f"[{text}]" if array.ndim else text


def _all_gradients(result: Tensor) -> dict[int, np.ndarray]:
    """Return the gradient of result.sum() with respect to each node and leaf {id: array}; the graph is not used up."""
    nodes: dict[int, Any] = {id(result._node): result._node}
    gradients: dict[int, Any] = {id(result._node): xp.ones(result.shape, dtype=result.dtype)}
    while nodes:
        node = nodes.pop(max(nodes, key=lambda key: nodes[key].index))  # newest first: all that used it were there
        for group, rule in node.edges:
            parts = rule(gradients[id(node)])
            for parent, part in zip(group, parts if type(parts) is tuple else (parts,), strict=True):
                if parent is None or part is None:
                    continue
                gradients[id(parent)] = part if id(parent) not in gradients else gradients[id(parent)] + part
                if parents(parent):
                    nodes[id(parent)] = parent
    return {key: to_numpy(array) for key, array in gradients.items()}


def parents(item: Any) -> list[Any]:
    """Return the parents of a Node; nothing for a leaf."""
    return [parent for group, _ in getattr(item, "edges", None) or [] for parent in group if parent is not None]


def operation(node: Any) -> str:
    """Return the name of the function in which the Node's rules were written; x - constant is "add a constant", too."""
    names = [rule.__qualname__.split(".")[0].strip("_") for _, rule in node.edges]
    own = [name for name in names if name != "unbroadcast_to"]  # a sum's rule: it only hands the gradient on
    return own[0] if own else "add" if len(names) == 2 else "add a constant"
