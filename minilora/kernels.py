"""Chains of elementwise operations, each fused into one kernel for a GPU, where every array operation costs a launch.

A kernel is C code as CuPy's ElementwiseKernel takes it. Below it is the same in NumPy, which runs on backends without
kernels and which tests compare the C code with. Arrays are broadcast; T is their dtype, the same for all arrays of a
call. On a CPU, chains over large arrays run in blocks of rows instead.
"""

from collections.abc import Callable
from typing import Any

from minilora import backend
from minilora.backend import Array, xp

KERNELS: list["Kernel"] = []


class Kernel:
    """A function of arrays: compiled from `source` (parameters, results, C, name) if the backend can, else `plain`.

    It is called with its arguments, followed by the output arrays if it writes to existing ones.
    """

    def __init__(self, plain: Callable[..., Any], *source: str) -> None:
        self.plain, self.source = plain, (*source, plain.__name__)
        KERNELS.append(self)

    def __call__(self, *arguments: Any) -> Any:
        compiled = backend.elementwise_kernel(*self.source)
        return (self.plain if compiled is None else compiled)(*arguments)


def elementwise(in_params: str, out_params: str, body: str) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorate a function in NumPy to make a `Kernel` of it and of its C code, the body of a loop over the elements."""
    return lambda plain: Kernel(plain, in_params, out_params, body)


# Norms


@elementwise("T squares, T width, T eps", "T inverse", "inverse = 1 / sqrt(squares / width + eps)")
def rms_inverse(squares: Array, width: int, eps: float, inverse: Array) -> None:
    """Compute 1 / rms of each row from the sum of its squares."""
    inverse[...] = 1 / xp.sqrt(squares / width + eps)


@elementwise("T x, T first, T second", "T y", "y = x * first * second")
def scale_rows(x: Array, first: Array | int, second: Array | int, y: Array) -> None:
    """Multiply x (N, C) by two factors: one for each row (N, 1) and one for each column (C,)."""
    xp.multiply(x, first, out=y)
    y *= second


@elementwise(
    "T scaled, T x, T along, T inverse, T width",
    "T dx",
    "dx = scaled - x * (along * (inverse * inverse / width))",
)
def rms_slope(scaled: Array, x: Array, along: Array, inverse: Array, width: int, dx: Array) -> None:
    """Compute the gradient (N, C) of RMSNorm's input: `scaled` minus its component along the row x."""
    xp.multiply(x, along * (inverse * inverse / width), out=dx)
    xp.subtract(scaled, dx, out=dx)


# Activations


@elementwise("T a, T b", "T y", "y = a / (1 + exp(-a)) * b")
def swiglu(a: Array, b: Array) -> Array:
    """Compute silu(a) · b."""
    return a / (1 + xp.exp(-a)) * b


@elementwise(
    "T g, T a, T b",
    "T da, T db",
    "const T sigma = 1 / (1 + exp(-a)); da = g * b * sigma * (1 + a - a * sigma); db = g * a * sigma",
)
def swiglu_slopes(g: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Compute the gradients of both arguments of `swiglu`."""
    sigma = 1 / (1 + xp.exp(-a))
    return g * b * sigma * (1 + a - a * sigma), g * a * sigma


# Attention


@elementwise(
    "T x, T y, T cos, T sin, T sign",
    "T left, T right",
    "left = x * cos - y * sin * sign; right = y * cos + x * sin * sign",
)
def rotate(x: Array, y: Array, cos: Array, sin: Array, sign: int, left: Array, right: Array) -> None:
    """Rotate pairs (x, y) by angles, or back again with sign -1, and write them to `left` and `right`."""
    left[...] = x * cos - y * sin * sign
    right[...] = y * cos + x * sin * sign


@elementwise("T x, T top", "T y", "y = exp(x - (isinf(top) && top < 0 ? T(0) : top))")
def exp_below(x: Array, top: Array, y: Array) -> None:
    """Compute y = exp(x - top), where top is the maximum of each row. A row of -inf gives zeros. y may be x."""
    xp.exp(xp.subtract(x, xp.where(top > -xp.inf, top, 0), out=y), out=y)


@elementwise("T total", "T inverse", "inverse = 1 / (total > 0 ? total : T(1))")
def inverse_or_one(total: Array) -> Array:
    """Compute 1 / total, or 1 where total is 0."""
    return 1 / xp.where(total > 0, total, 1)


@elementwise("T along, T inverse", "T exps, T grad", "exps *= along * inverse; grad -= exps")
def softmax_slope(along: Array, inverse: Array, exps: Array, grad: Array) -> None:
    """Subtract from the gradient of the scores the part that would change a row's sum. Overwrites `exps`."""
    exps *= along * inverse
    grad -= exps


# Losses


@elementwise("T total, T top, T chosen", "T loss", "loss = log(total) + (top - chosen)")
def row_losses(total: Array, top: Array, chosen: Array) -> Array:
    """Compute -log softmax at the chosen logit, from the sum of the row's exp(logit - top)."""
    return xp.log(total) + (top - chosen)  # in this order: logits may be large, but their difference is not


# Optimizers


@elementwise(
    "T g, T lr, T eps, T keep, T beta1, T beta2",
    "T p, T m, T v",
    "m += (1 - beta1) * (g - m); v += (1 - beta2) * (g * g - v); p = p * keep - lr * m / (sqrt(v) + eps)",
)
def adamw(
    g: Array, lr: float, eps: float, keep: float, beta1: float, beta2: float, p: Array, m: Array, v: Array
) -> None:
    """Take a step of AdamW in place. lr and eps include the bias corrections; keep is 1 - lr · weight_decay."""
    work = g * (1 - beta1)
    m *= beta1
    m += work
    xp.multiply(g, g, out=work)
    work *= 1 - beta2
    v *= beta2
    v += work
    xp.sqrt(v, out=work)
    work += eps
    xp.divide(m, work, out=work)
    work *= lr
    p *= keep
    p -= work
