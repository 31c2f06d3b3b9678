"""The graph as a picture: `pytest tests/show/test_graph.py`."""

import numpy as np
import pytest

from minilora import Tensor
from minilora import functional as F
from notebooks.figures import graph

pytestmark = pytest.mark.host


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_boxes_carry_operation_name_value_and_gradient():
    x, w = (Tensor(value, requires_grad=True) for value in (2.0, -0.5))
    u = w * x
    y = x + u.tanh()
    root = y * y
    boxes = texts(graph.graph_of(root, {x: "x", w: "w", u: "u", root: "L"}, numbers=True))
    height = 2 + np.tanh(-1)
    slope = 2 * height * (1 - np.tanh(-1) ** 2)
    assert f"w = \N{MINUS SIGN}0.5\ngradient {2 * slope:.2f}" in boxes
    assert f"x = 2\ngradient {2 * height - 0.5 * slope:.2f}" in boxes  # both parts
    assert f"multiply\nu = \N{MINUS SIGN}1\ngradient {slope:.2f}" in boxes
    assert f"multiply\nL = {height**2:.2f}\ngradient 1" in boxes
    assert f"tanh\ngradient {2 * height:.2f}" in boxes  # it has no name, and so no value
    named = [(x + w, "add"), (1 - x, "subtract"), (x / w, "divide"), (x - 1, "add a constant")]
    assert [graph.operation(result._node) for result, _ in named] == [name for _, name in named]
    root.backward()  # the graph is whole
    assert x.grad == pytest.approx(2 * height - 0.5 * slope, rel=1e-5)


def test_large_arrays_show_their_shapes_and_frozen_inputs_are_left_out():
    x, frozen, weight = Tensor(np.ones((2, 3))), Tensor(np.ones((4, 3))), Tensor(np.ones((4, 3)), requires_grad=True)
    root = F.linear(x, weight + frozen).sum()
    boxes = texts(graph.graph_of(root, {weight: "W"}, numbers=True))
    assert "W = 4×3\ngradient 4×3" in boxes and len(boxes) == 4
