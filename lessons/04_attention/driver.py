"""Runs beside the student's code, where Tensors live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor


def with_gradients(function, g, **arrays) -> dict:
    """The result of the function on Tensors of the arrays, and what backward leaves in each when g flows in."""
    tensors = {name: Tensor(array, requires_grad=True) for name, array in arrays.items()}
    y = function(*tensors.values())
    found = {"kind": type(y).__name__, "y": y} | dict.fromkeys([f"d{name}" for name in arrays])
    if isinstance(y, Tensor) and y.requires_grad and y.shape == g.shape:
        y.backward(g)
        found |= {f"d{name}": tensor.grad for name, tensor in tensors.items()}
    return found


def normed(student, x, weight, eps, g):
    """y = rms_norm(x, weight, eps); y.backward(g)"""
    return with_gradients(lambda x, weight: student.rms_norm(x, weight, eps), g, x=x, weight=weight)


def rotated(student, x, angles, g):
    """y = rotate(x, angles); y.backward(g)"""
    return with_gradients(lambda x: student.rotate(x, angles), g, x=x)


def attended(student, q, k, v, g):
    """y = causal_attention(q, k, v); y.backward(g)"""
    return with_gradients(student.causal_attention, g, q=q, k=k, v=v)


def from_one_token(student, q, k, v, t):
    """y = causal_attention(q, k, v); y[:, :, t].sum().backward()"""
    g = np.zeros(q.shape)
    g[:, :, t] = 1
    return with_gradients(student.causal_attention, g, q=q, k=k, v=v)


def split(student, x, heads, g):
    """y = split_heads(x, heads); y.backward(g)"""
    return with_gradients(lambda x: student.split_heads(x, heads), g, x=x)


def shared(student, x, heads, g):
    """y = share_heads(x, heads); y.backward(g)"""
    return with_gradients(lambda x: student.share_heads(x, heads), g, x=x)


def joined(student, x, g):
    """y = join_heads(x); y.backward(g)"""
    return with_gradients(student.join_heads, g, x=x)


def gated(student, x, gate, up, down, g):
    """y = swiglu(x, gate, up, down); y.backward(g)"""
    return with_gradients(student.swiglu, g, x=x, gate=gate, up=up, down=down)


def block(student, x, heads, kv_heads, weights, t):
    """block = Block(…), with the weights below; y = block(x); y[:, t].sum().backward()"""
    hidden, intermediate = x.shape[-1], weights["up_proj"].shape[0]
    made = student.Block(hidden, intermediate, heads, kv_heads, 0)
    for name, array in weights.items():
        part = getattr(made, name)
        (part if isinstance(part, Tensor) else part.weight).data = array
    x = Tensor(x, requires_grad=True)
    y = made(x)
    if isinstance(y, Tensor) and y.shape == x.shape and y.requires_grad:
        y[:, t].sum().backward()
    learns = [name for name, parameter in made.named_parameters() if parameter.grad is not None]
    return {"kind": type(y).__name__, "y": y, "dx": x.grad, "learns": learns}
