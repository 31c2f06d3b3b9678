"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import gc
import tracemalloc

import numpy as np

from minilora import Tensor, nn
from minilora.quant import quantize_4bit


def product(student, x, W, blocksize, compress_statistics):
    """packed, state = quantize_4bit(W, blocksize, "nf4", compress_statistics); product(x, packed, state)"""
    return student.product(x, *quantize_4bit(W, blocksize, "nf4", compress_statistics))


def product_gradient(student, g, W, blocksize, compress_statistics):
    """packed, state = quantize_4bit(W, blocksize, "nf4", compress_statistics); product_gradient(g, packed, state)"""
    return student.product_gradient(g, *quantize_4bit(W, blocksize, "nf4", compress_statistics))


def gradient(tensor: Tensor):
    """Return the array of the gradient, or None."""
    return None if tensor.grad is None else tensor.grad


def alive() -> int:
    """Return the bytes that are alive of those allocated since tracemalloc started."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def products_keep(student, W):
    """the bytes that product and product_gradient leave alive"""
    held = {}
    for weight in (W[:2, :2], W):  # a first time, for what Python keeps of a function that runs
        packed, state = quantize_4bit(weight)
        tracemalloc.start()
        try:
            student.product(np.ones_like(weight[:1]), packed, state)
            held["product"] = alive()
            student.product_gradient(np.ones_like(weight[:, :1].T), packed, state)
            held["product_gradient"] = alive() - held["product"]
        finally:
            tracemalloc.stop()
    return held


def layer_keeps(student, W):
    """the bytes that a QLoraLayer keeps: "made", after y = layer(x), after y.sum().backward(), and so on"""
    held = {}
    for weight in (W[:2, :2], W):
        A, B = np.ones_like(weight[:1]), np.ones_like(weight[:, :1])
        x = Tensor(np.ones_like(A), requires_grad=True)
        tracemalloc.start()
        try:
            layer = student.QLoraLayer(nn.Linear.from_arrays(weight.copy()), A, B, 1.0)
            held["made"] = alive()
            y = layer(x)
            held["y = layer(x)"] = alive()
            y.sum().backward()
            del y
            held["backward"] = alive()
            y = layer.eval()(x).numpy().copy()
            held["y = layer.eval()(x)"] = alive() - y.nbytes
        finally:
            tracemalloc.stop()
    return held


def kinds_of(layer) -> dict:
    return {name: type(getattr(layer, name)).__name__ for name in ("A", "B", "bias")}


def trained_by(layer) -> list[str]:
    """Return A and B if they train, and the paths of all other trainable parameters."""
    names = {id(layer.A): "A", id(layer.B): "B"}
    return sorted({names.get(id(p), name) for name, p in layer.named_parameters() if p.requires_grad})


def observed(student, x, W, b, A, B, scaling):
    """layer = QLoraLayer(linear, A, B, scaling); y = layer(x); (y * y).sum().backward()"""
    linear = nn.Linear.from_arrays(W.copy(), None if b is None else b.copy())
    layer = student.QLoraLayer(linear, A, B, scaling)
    student.QLoraLayer(nn.Linear.from_arrays(W + 1, b), A + 1, B - 1, scaling + 1)
    facts = {"kinds": kinds_of(layer)}
    if facts["kinds"] != {"A": "Tensor", "B": "Tensor", "bias": "NoneType" if b is None else "Tensor"}:
        return facts
    facts |= {name: getattr(layer, name) for name in ("packed", "bias", "A", "B", "scaling")}
    facts |= {"absmax": layer.state.absmax, "linear's weight": linear.weight, "linear's bias": linear.bias}
    facts["bias of its own"] = layer.bias is None or layer.bias is not linear.bias
    facts["linear trains"] = {name: p.requires_grad for name, p in linear.named_parameters()}
    facts["trains"] = trained_by(layer)
    x = Tensor(x, requires_grad=True)
    y = layer(x)
    if not isinstance(y, Tensor):
        return {"kinds": facts["kinds"] | {"y": type(y).__name__}}
    facts["y"] = y.data.copy()
    if y.requires_grad:
        (y * y).sum().backward()
    return facts | {"dx": gradient(x), "dA": gradient(layer.A), "dB": gradient(layer.B)}


def used_twice(student, x, W, A, B, scaling, mode):
    """y1 = layer(x); then A and B become A + 1 and B - 1; y2 = layer(-x); (y1 * y2).sum().backward()"""
    layer = student.QLoraLayer(nn.Linear.from_arrays(W), A, B, scaling).train(mode == "training")
    y1 = layer(Tensor(x))  # which needs no gradient
    layer.A.data, layer.B.data = A + 1, B - 1
    y2 = layer(Tensor(-x))
    if y2.requires_grad:
        (y1.detach() * y2).sum().backward()
    codes = {"packed": layer.packed, "absmax": layer.state.absmax}
    end = "" if mode == "training" else ", in evaluation mode"
    return codes | {f"y1{end}": y1, f"y2{end}": y2, "dA": gradient(layer.A), "dB": gradient(layer.B)}
