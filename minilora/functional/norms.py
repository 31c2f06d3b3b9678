"""Normalization of each row: RMSNorm and LayerNorm."""

from minilora import backend, kernels, ops
from minilora.backend import Array, xp
from minilora.functional.rows import Lazy, as_rows, recomputable, row_blocks
from minilora.ops import number, raw
from minilora.tensor import Operand, Tensor, record

# The plain forms


def plain_rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x²) + eps) · w."""
    y = x / ops.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return y if weight is None else y * weight


def plain_layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) · w + b."""
    y = (x - x.mean(axis=-1, keepdims=True)) / ops.sqrt(x.var(axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


# The fused forms


def _factor(x: Operand, width: int, name: str) -> Array:
    """The array of a weight or a bias, None if there is none. ValueError if it does not have the rows' width."""
    array = None if x is None else raw(x)
    if array is not None and array.shape != (width,):  # PyTorch's normalized_shape, say, or what would broadcast
        raise ValueError(f"a {name} of shape {array.shape} does not fit rows of width {width}")
    return array


def rms_norm(x: Operand, weight: Operand = None, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x²) + eps) · w over the last axis (Zhang & Sennrich 2019). x: (..., C); weight: (C,)."""
    a, eps = raw(x), number(eps)
    if a.dtype.kind != "f":  # integers: as NumPy's mean and root have them
        a = a.astype(xp.float64)
    width = a.shape[-1]
    w = _factor(weight, width, "weight")
    rows = as_rows(a)
    factor = 1 if w is None else w.astype(a.dtype, copy=False)
    inverse = xp.empty((rows.shape[0], 1), dtype=a.dtype)  # 1 / rms of each row

    def normalized(first: bool) -> Array:
        if not backend.is_cpu():
            if first:
                kernels.rms_inverse(xp.einsum("ij,ij->i", rows, rows)[:, None], width, eps, inverse)
            return kernels.scale_rows(rows, inverse, factor)
        y = xp.empty(rows.shape, dtype=a.dtype)
        for s in row_blocks(rows):
            if first:
                inverse[s, 0] = xp.einsum("ij,ij->i", rows[s], rows[s])
                inverse[s] = 1 / xp.sqrt(inverse[s] / width + eps)
            xp.multiply(rows[s], inverse[s], out=y[s])
            if w is not None:
                y[s] *= w
        return y

    y = normalized(first=True)
    recompute = Lazy(lambda: normalized(first=False))
    weight_is_live = isinstance(weight, Tensor) and weight.requires_grad

    def rule(g: Array) -> tuple[Array, Array]:
        recompute.forget()
        g = g.reshape(rows.shape)
        if not backend.is_cpu():
            dw = (inverse.T @ (g * rows))[0] if weight_is_live else None
            scaled = kernels.scale_rows(g, inverse, factor)
            along = xp.einsum("ij,ij->i", scaled, rows)[:, None]
            return kernels.rms_slope(scaled, rows, along, inverse, width).reshape(a.shape), dw
        dx = xp.empty(rows.shape, dtype=a.dtype)
        dw = xp.zeros(width, dtype=a.dtype) if weight_is_live else None
        for s in row_blocks(rows):
            if weight_is_live:
                dw += (inverse[s].T @ (g[s] * rows[s]))[0]
            scaled = g[s] * inverse[s] if w is None else xp.multiply(g[s], w) * inverse[s]
            along = xp.einsum("ij,ij->i", scaled, rows[s])[:, None]  # how much of it changes the row's length
            along *= inverse[s] * inverse[s] / width
            xp.multiply(rows[s], along, out=dx[s])
            xp.subtract(scaled, dx[s], out=dx[s])
        return dx.reshape(a.shape), dw

    return recomputable(record(y.reshape(a.shape), ((x, weight), rule)), recompute)


def layer_norm(x: Operand, weight: Operand = None, bias: Operand = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) · w + b over the last axis (Ba et al. 2016). x: (..., C); weight, bias: (C,)."""
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
