"""Normalization of each row: RMSNorm and LayerNorm."""

from minilora import kernels, ops
from minilora.backend import Array, xp
from minilora.functional.rows import Lazy, as_rows, in_blocks, recomputable
from minilora.ops import number, raw
from minilora.tensor import Operand, Tensor, record

# The plain forms


def plain_rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """Compute x / sqrt(mean(x²) + eps) · w."""
    y = x / ops.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return y if weight is None else y * weight


def plain_layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Compute (x - mean) / sqrt(var + eps) · w + b."""
    y = (x - x.mean(axis=-1, keepdims=True)) / ops.sqrt(x.var(axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


# The fused forms


def _factor(x: Operand, width: int, name: str) -> Array:
    """Return the array of a weight or bias, or None. Raises ValueError if its shape is not (width,)."""
    array = None if x is None else raw(x)
    if array is not None and array.shape != (width,):  # such as PyTorch's normalized_shape
        raise ValueError(f"a {name} of shape {array.shape} does not fit rows of width {width}")
    return array


def rms_norm(x: Operand, weight: Operand = None, eps: float = 1e-6) -> Tensor:
    """Compute x / sqrt(mean(x²) + eps) · w over the last axis (Zhang & Sennrich 2019). x: (..., C); weight: (C,)."""
    a, eps = raw(x), number(eps)
    if a.dtype.kind != "f":  # integers become float64, as in NumPy's mean and sqrt
        a = a.astype(xp.float64)
    width = a.shape[-1]
    w = _factor(weight, width, "weight")
    rows = as_rows(a)
    factor = 1 if w is None else w.astype(a.dtype, copy=False)
    inverse = xp.empty((rows.shape[0], 1), dtype=a.dtype)  # 1 / rms of each row

    def normalized(first: bool = False) -> Array:
        y = xp.empty(rows.shape, dtype=a.dtype)
        for x_, inverse_, y_ in in_blocks(rows, inverse, y):
            if first:
                kernels.rms_inverse(xp.einsum("ij,ij->i", x_, x_)[:, None], width, eps, inverse_)
            kernels.scale_rows(x_, inverse_, factor, y_)
        return y

    y, recompute = normalized(first=True), Lazy(normalized)
    weight_is_live = isinstance(weight, Tensor) and weight.requires_grad

    def rule(g: Array) -> tuple[Array, Array]:
        recompute.forget()
        dx = xp.empty(rows.shape, dtype=a.dtype)
        dw = xp.zeros(width, dtype=a.dtype) if weight_is_live else None
        for g_, x_, inverse_, dx_ in in_blocks(g.reshape(rows.shape), rows, inverse, dx):
            if weight_is_live:
                dw += (inverse_.T @ (g_ * x_))[0]
            scaled = xp.empty(x_.shape, dtype=a.dtype)
            kernels.scale_rows(g_, factor, inverse_, scaled)
            along = xp.einsum("ij,ij->i", scaled, x_)[:, None]  # the component that changes the row's length
            kernels.rms_slope(scaled, x_, along, inverse_, width, dx_)
        return dx.reshape(a.shape), dw

    return recomputable(record(y.reshape(a.shape), ((x, weight), rule)), recompute)


def layer_norm(x: Operand, weight: Operand = None, bias: Operand = None, eps: float = 1e-5) -> Tensor:
    """Compute (x - mean) / sqrt(var + eps) · w + b over the last axis (Ba et al. 2016). x: (..., C); w, b: (C,)."""
    a, eps = raw(x), number(eps)
    w, shift = _factor(weight, a.shape[-1], "weight"), _factor(bias, a.shape[-1], "bias")
    rows = as_rows(a)
    normal = rows - rows.mean(axis=1, keepdims=True)
    inverse = 1 / xp.sqrt((normal * normal).mean(axis=1, keepdims=True) + eps)
    normal *= inverse  # (N, C): mean 0, variance 1

    def scaled() -> Array:
        y = normal.copy() if w is None else normal * w
        if shift is not None:
            y += shift
        return y

    y, recompute = scaled(), Lazy(scaled)

    def rule_x(g: Array) -> Array:
        recompute.forget()
        g = g.reshape(normal.shape) if w is None else g.reshape(normal.shape) * w
        g = g - g.mean(axis=1, keepdims=True) - normal * (g * normal).mean(axis=1, keepdims=True)
        g *= inverse
        return g.reshape(shape)

    shape = a.shape
    out = record(
        y.reshape(shape),
        (x, rule_x),
        (weight, lambda g: (g.reshape(normal.shape) * normal).sum(axis=0)),
        (bias, lambda g: as_rows(g).sum(axis=0)),
    )
    return recomputable(out, recompute)
