"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

from minilora import Tensor, nn
from minilora.measure.memory import live_bytes
from minilora.quant import quantize_4bit


def product(student, x, W):
    """packed, state = quantize_4bit(W); y = product(x, packed, state)"""
    return student.product(x, *quantize_4bit(W))


def product_gradient(student, g, W):
    """packed, state = quantize_4bit(W); dx = product_gradient(g, packed, state)"""
    return student.product_gradient(g, *quantize_4bit(W))


def gradient(tensor: Tensor):
    """The array, or None."""
    return None if tensor.grad is None else tensor.grad


def attributes_of(layer) -> nn.Module:
    """A module of the library's own with the layer's attributes, so that what it holds can be counted."""
    shell = nn.Module()
    vars(shell).update(vars(layer))
    return shell


def observed(student, x, W, b, A, B, scaling):
    """layer = QLoraLayer(linear, A, B, scaling); y = layer(x); (y * y).sum().backward()"""
    layer = student.QLoraLayer(nn.Linear.from_arrays(W, b), A, B, scaling)
    kinds = {name: type(getattr(layer, name, None)).__name__ for name in ("A", "B")}
    if set(kinds.values()) != {"Tensor"}:
        return {"kinds": kinds}
    x = Tensor(x, requires_grad=True)
    y = layer(x)
    facts = {
        "kinds": kinds,
        "y": y.data.copy(),
        "trains": [name for name, p in layer.named_parameters() if p.requires_grad],
        "held": live_bytes(attributes_of(layer))["weights"],
        "kept": live_bytes(nn.Module(), None, y)["activations"],
    }
    if y.requires_grad:
        (y * y).sum().backward()
    return facts | {"dx": gradient(x), "dA": gradient(layer.A), "dB": gradient(layer.B)}


def trained(student, x, target, W, A, B, scaling):
    """20 steps of gradient descent on what trains in the layer, towards layer(x) = target"""
    layer = student.QLoraLayer(nn.Linear.from_arrays(W), A, B, scaling)
    x, losses = Tensor(x), []
    before = layer.packed.copy()
    for _ in range(20):
        error = layer(x) - target
        loss = (error * error).mean()
        loss.backward()
        losses.append(loss.item())
        for p in layer.parameters():
            if p.requires_grad and p.grad is not None:
                p.data = p.data - 0.02 * p.grad
                p.grad = None
    return {"before": before, "after": layer.packed, "losses": losses}
