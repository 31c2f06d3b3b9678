"""Runs beside the student's code, where Tensors live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

from minilora import Tensor


def with_gradients(function, g, **arrays) -> dict:
    """Call the function with the arrays as Tensors; return its result and the gradients that backward(g) leaves."""
    tensors = {name: Tensor(array, requires_grad=True) for name, array in arrays.items()}
    y = function(*tensors.values())
    facts = {"kind": type(y).__name__, "y": y} | dict.fromkeys([f"d{name}" for name in arrays])
    if isinstance(y, Tensor) and y.requires_grad and y.shape == g.shape:
        (y * 1.0).backward(g)  # y may be one of the tensors
        facts |= {f"d{name}": tensor.grad for name, tensor in tensors.items()}
    return facts


def normed(student, x, weight, eps, g):
    """y = rms_norm(x, weight, eps); y.backward(g)"""
    return with_gradients(lambda x, weight: student.rms_norm(x, weight, eps), g, x=x, weight=weight)


def last_angles(student, length, head_dim, theta):
    """y = rotary_angles(length, head_dim, theta)[length - 1]"""
    return {"y": student.rotary_angles(length, head_dim, theta)[length - 1]}


def rotated(student, x, angles, g):
    """y = rotate(x, angles); y.backward(g)"""
    return with_gradients(lambda x: student.rotate(x, angles), g, x=x)


def attended(student, q, k, v, g):
    """y = causal_attention(q, k, v); y.backward(g)"""
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


def made_block(student, x, heads, kv_heads, weights):
    made = student.Block(x.shape[-1], weights["up_proj"].shape[0], heads, kv_heads, 0)
    for name, array in weights.items():
        part = getattr(made, name)
        (part if isinstance(part, Tensor) else part.weight).data = array
    return made


def block(student, x, heads, kv_heads, weights, g):
    """block = Block(…), with the weights below; y = block(x); y.backward(g)"""
    made = made_block(student, x, heads, kv_heads, weights)
    facts = with_gradients(made, g, x=x)
    return facts | {"dweights": {name: parameter.grad for name, parameter in made.named_parameters()}}


def texts(student, x, heads, kv_heads, weights, lengths):
    """block = Block(…), with the weights below; block(x[:, :length]) for several lengths; once more, weights halved"""
    made = made_block(student, x, heads, kv_heads, weights)
    outputs = [made(Tensor(x[:, :length])) for length in lengths]
    for parameter in made.parameters():
        parameter.data = parameter.data * 0.5
    return {"texts": outputs, "after a step": made(Tensor(x[:, : lengths[-1]]))}
