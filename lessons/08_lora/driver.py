"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor, nn


def gradient(tensor: Tensor):
    """The array, or None."""
    return None if tensor.grad is None else tensor.grad


def observe(layer, x) -> dict:
    y = layer(Tensor(x))
    if y.requires_grad:
        (y * y).sum().backward()
    return {
        "y": y,
        "A": layer.A,
        "B": layer.B,
        "trains": [name for name, p in layer.named_parameters() if p.requires_grad],
        "dA": gradient(layer.A),
        "dB": gradient(layer.B),
    }


def fresh(student, x, W, b, r, alpha):
    """layer = LoraLayer(linear, r, alpha, seed=0); y = layer(x); (y * y).sum().backward()"""
    layer = student.LoraLayer(nn.Linear.from_arrays(W, b), r, alpha, 0)
    kinds = {name: type(getattr(layer, name, None)).__name__ for name in ("base", "A", "B")}
    return {"kinds": kinds} | (observe(layer, x) if kinds["A"] == kinds["B"] == "Tensor" else {})


def trained(student, x, W, b, A, B, r, alpha):
    """the same, after A and B have been set"""
    layer = student.LoraLayer(nn.Linear.from_arrays(W, b), r, alpha, 0)
    layer.A.data, layer.B.data = A, B
    return observe(layer, x)


class Block(nn.Module):
    """x (n, 4) -> (n, 4). One linear map's name ends in another's."""

    def __init__(self, rng):
        self.q_proj = nn.Linear(4, 4, rng=rng)
        self.v_proj = nn.Linear(4, 4, bias=False, rng=rng)
        self.kv_proj = nn.Linear(4, 4, rng=rng)
        self.norm = nn.RMSNorm(4)

    def forward(self, x):
        return self.norm(x + self.kv_proj(self.v_proj(self.q_proj(x)).tanh()))


class Model(nn.Module):
    """Two blocks and a head."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.layers = [Block(rng), Block(rng)]
        self.head = nn.Linear(4, 3, rng=rng)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def described(model, x) -> dict:
    return {
        "kinds": {name: type(module).__name__ for name, module in model.named_modules() if "proj" in name[-6:]},
        "trains": [name for name, p in model.named_parameters() if p.requires_grad],
        "y": model(Tensor(x)),
    }


def injected(student, targets, x):
    """paths = inject(model, targets, r=2, alpha=4); y = model(x)"""
    model = Model()
    before = model(Tensor(x))
    paths = student.inject(model, targets, 2, 4.0)
    return {"before": before, "paths": paths} | described(model, x)


def one_layer(student, W, b, A, B, r, alpha, x):
    """merge(model), where model.layer is a LoraLayer with A and B set; then model.layer(x)"""
    model = nn.Module()
    linear = nn.Linear.from_arrays(W.copy(), b)
    model.layer = student.LoraLayer(linear, r, alpha, 0)
    model.layer.A.data, model.layer.B.data = A, B
    paths = student.merge(model)
    facts = {"paths": paths, "kind": type(model.layer).__name__, "base": linear.weight}
    return facts | {"y": model.layer(Tensor(x))}


def two_blocks(student, x):
    """merge(model), for a model with four LoraLayers"""
    model = Model()
    rng = np.random.default_rng(2)
    for block in model.layers:
        for name in ("q_proj", "v_proj"):
            setattr(block, name, layer := student.LoraLayer(getattr(block, name), 2, 4.0, 0))
            layer.B.data = rng.standard_normal((4, 2)).astype("float32")
    before = model(Tensor(x))
    return {"before": before, "paths": student.merge(model)} | described(model, x)


def merge_twice(student):
    """merge(model); merge(model)"""
    model = nn.Module()
    model.layer = student.LoraLayer(nn.Linear(3, 2), 1, 1.0, 0)
    student.merge(model)
    return student.merge(model)
