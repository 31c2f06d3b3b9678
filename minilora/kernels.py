"""Chains of elementwise operations as one kernel each, for a GPU, where every call like NumPy's costs a launch.

A kernel is C in the terms of CuPy's ElementwiseKernel. Beside it stands the same in NumPy, which runs where a backend
has no kernels, and which tests hold the C to. Arrays are broadcast; T is their dtype, of which there is one to a call.
On a CPU, chains over large arrays run in blocks of rows instead.
"""

from collections.abc import Callable
from typing import Any

from minilora import backend
from minilora.backend import Array, xp

KERNELS: list["Kernel"] = []


class Kernel:
    """A function of arrays, by its `source` (parameters, results, C, name) where the backend compiles it, else `plain`.

    Called with the arguments and, where it writes to arrays that there are, those.
    """

    def __init__(self, plain: Callable[..., Any], *source: str) -> None:
        self.plain, self.source = plain, (*source, plain.__name__)
        KERNELS.append(self)

    def __call__(self, *arguments: Any) -> Any:
        compiled = backend.elementwise_kernel(*self.source)
        return (self.plain if compiled is None else compiled)(*arguments)


def elementwise(in_params: str, out_params: str, body: str) -> Callable[[Callable[..., Any]], Kernel]:
    """A decorator that makes a `Kernel` of a function in NumPy and of its C, the body of a loop over the elements."""
    return lambda plain: Kernel(plain, in_params, out_params, body)


# Norms


@elementwise("T squares, T width, T eps", "T inverse", "inverse = 1 / sqrt(squares / width + eps)")
def rms_inverse(squares: Array, width: int, eps: float, inverse: Array) -> None:
    """1 / rms of rows, by the sums of their squares."""
    inverse[...] = 1 / xp.sqrt(squares / width + eps)


@elementwise("T x, T first, T second", "T y", "y = x * first * second")
def scale_rows(x: Array, first: Array | int, second: Array | int, y: Array) -> None:
    """x (N, C) times two factors: one for each row (N, 1), and one for each column (C,)."""
    xp.multiply(x, first, out=y)
    y *= second


@elementwise(
    "T scaled, T x, T along, T inverse, T width",
    "T dx",
    "dx = scaled - x * (along * (inverse * inverse / width))",
)
def rms_slope(scaled: Array, x: Array, along: Array, inverse: Array, width: int, dx: Array) -> None:
    """The gradient (N, C) of RMSNorm's input: `scaled` without what would change the length of the row x."""
    xp.multiply(x, along * (inverse * inverse / width), out=dx)
    xp.subtract(scaled, dx, out=dx)


# Activations


@elementwise("T a, T b", "T y", "y = a / (1 + exp(-a)) * b")
def swiglu(a: Array, b: Array) -> Array:
    """silu(a) · b."""
    return a / (1 + xp.exp(-a)) * b


@elementwise(
    "T g, T a, T b",
    "T da, T db",
    "const T sigma = 1 / (1 + exp(-a)); da = g * b * sigma * (1 + a - a * sigma); db = g * a * sigma",
)
def swiglu_slopes(g: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """The gradients of both arguments of `swiglu`."""
    sigma = 1 / (1 + xp.exp(-a))
    return g * b * sigma * (1 + a - a * sigma), g * a * sigma


# Attention


@elementwise(
    "T x, T y, T cos, T sin, T sign",
    "T left, T right",
    "left = x * cos - y * sin * sign; right = y * cos + x * sin * sign",
)
def rotate(x: Array, y: Array, cos: Array, sin: Array, sign: int, left: Array, right: Array) -> None:
    """Turn pairs (x, y) by angles, with sign -1 back again, into `left` and `right`."""
    left[...] = x * cos - y * sin * sign
    right[...] = y * cos + x * sin * sign


@elementwise("T x, T top", "T y", "y = exp(x - (isinf(top) && top < 0 ? T(0) : top))")
def exp_below(x: Array, top: Array, y: Array) -> None:
    """y = exp(x - top), of rows and their largest; of a row that is all -inf, zeros. y may be x."""
    xp.exp(xp.subtract(x, xp.where(top > -xp.inf, top, 0), out=y), out=y)


@elementwise("T total", "T inverse", "inverse = 1 / (total > 0 ? total : T(1))")
def inverse_or_one(total: Array) -> Array:
    """1 / total; 1 where that is 0."""
    return 1 / xp.where(total > 0, total, 1)


@elementwise("T along, T inverse", "T exps, T grad", "exps *= along * inverse; grad -= exps")
def softmax_slope(along: Array, inverse: Array, exps: Array, grad: Array) -> None:
    """Take from the gradient of scores what would change the sum of their row; `exps` is used up."""
    exps *= along * inverse
    grad -= exps


# Losses


@elementwise("T total, T top, T chosen", "T loss", "loss = log(total) + (top - chosen)")
def row_losses(total: Array, top: Array, chosen: Array) -> Array:
    """-log softmax at the chosen logit, by the sum of the row's exp(logit - top)."""
    return xp.log(total) + (top - chosen)  # logits may be large, their distance is not


# Optimizers


@elementwise(
    "T g, T lr, T eps, T keep, T beta1, T beta2",
    "T p, T m, T v",
    "m += (1 - beta1) * (g - m); v += (1 - beta2) * (g * g - v); p = p * keep - lr * m / (sqrt(v) + eps)",
)
def adamw(
    g: Array, lr: float, eps: float, keep: float, beta1: float, beta2: float, p: Array, m: Array, v: Array
) -> None:
    """A step of AdamW in place, with the bias corrections in `lr` and `eps`; keep: 1 - lr · weight_decay."""
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
