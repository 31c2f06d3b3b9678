"""The operations of `minilora.functional`, written from `minilora.ops` the way a paper prints them.

Slower, and what the fast forms are tested against; the place to read first. Arguments and results are the same.
"""

from math import inf, sqrt

from minilora import ops
from minilora.backend import xp
from minilora.ops import raw
from minilora.tensor import Tensor, wrap


def linear(x, weight, bias=None) -> Tensor:
    y = x @ weight.T
    return y if bias is None else y + bias


def low_rank_linear(x, weight, bias, a, b, scaling: float) -> Tensor:
    """W x + s B A x (Hu et al. 2021, equation 3)."""
    return linear(x, weight, bias) + (x @ a.T) @ b.T * scaling


def rms_norm(x, weight=None, eps: float = 1e-6) -> Tensor:
    y = x / ops.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return y if weight is None else y * weight


def layer_norm(x, weight=None, bias=None, eps: float = 1e-5) -> Tensor:
    y = (x - x.mean(axis=-1, keepdims=True)) / ops.sqrt(x.var(axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def silu(x) -> Tensor:
    return x * ops.sigmoid(x)


def swiglu(gate, up) -> Tensor:
    return silu(gate) * up


def gelu_tanh(x) -> Tensor:
    return 0.5 * x * (1 + ops.tanh(sqrt(2 / xp.pi) * (x + 0.044715 * x**3)))


def softmax(x, axis: int = -1) -> Tensor:
    return ops.exp(x - ops.logsumexp(x, axis=axis, keepdims=True))


def log_softmax(x, axis: int = -1) -> Tensor:
    return x - ops.logsumexp(x, axis=axis, keepdims=True)


def rotary(x, cos, sin) -> Tensor:
    """x cos + rotate_half(x) sin, with x of shape (B, T, H, D)."""
    half = x.shape[-1] // 2
    rotated = ops.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    return x * cos[..., None, :] + rotated * sin[..., None, :]


def scaled_dot_product_attention(q, k, v, mask=None, is_causal: bool = False, scale: float | None = None) -> Tensor:
    """All scores at once, with equal numbers of heads: q (B, H, T, D), k and v (B, H, S, D); no row may be fully
    masked.
    """
    scores = q @ k.swapaxes(-1, -2) * (1 / sqrt(q.shape[-1]) if scale is None else scale)  # (B, H, T, S)
    if is_causal:
        length, span = scores.shape[-2:]
        scores = ops.where(wrap(xp.tri(length, span, span - length, dtype=bool)), scores, -inf)
    if mask is not None:
        mask = raw(mask)
        scores = ops.where(wrap(mask), scores, -inf) if mask.dtype.kind == "b" else scores + mask
    return softmax(scores) @ v


def cross_entropy(logits, targets) -> Tensor:
    """logits (N, V), targets (N,); every target counts."""
    return -log_softmax(logits)[wrap(xp.arange(logits.shape[0])), targets].mean()


def adamw_step(p, g, m, v, step: int, lr: float, betas, eps: float, weight_decay: float):
    """One AdamW step (Loshchilov & Hutter 2019, algorithm 2) on arrays; returns the new parameter and both moments."""
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    return p - lr * weight_decay * p - lr * m_hat / (xp.sqrt(v_hat) + eps), m, v
