"""Activations: ReLU, SiLU, GELU, the gated SwiGLU, softmax, and dropout."""

from math import pi, sqrt
from typing import Any

from minilora import backend, kernels, ops
from minilora.backend import Array, xp
from minilora.functional.rows import Lazy, as_rows, recomputable, row_blocks
from minilora.functional.special import erf
from minilora.ops import check_axis_is_not_empty, number, raw, sigmoid_array
from minilora.tensor import Operand, Tensor, record

# The plain forms


def plain_silu(x: Tensor) -> Tensor:
    """Compute x · sigmoid(x)."""
    return x * ops.sigmoid(x)


def plain_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Compute silu(gate) · up."""
    return plain_silu(gate) * up


def plain_gelu_tanh(x: Tensor) -> Tensor:
    """Compute the tanh approximation of x · Φ(x)."""
    return 0.5 * x * (1 + ops.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


def plain_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Compute exp(x) / sum(exp(x))."""
    return ops.exp(x - ops.logsumexp(x, axis=axis, keepdims=True))


def plain_log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Compute x - log(sum(exp(x)))."""
    return x - ops.logsumexp(x, axis=axis, keepdims=True)


# The fused forms


def relu(x: Operand) -> Tensor:
    """Compute max(x, 0). The gradient at 0 is 0."""
    a = raw(x)
    return record(xp.maximum(a, 0), (x, lambda g: g * (a > 0)))


def silu(x: Operand) -> Tensor:
    """Compute x · sigmoid(x) (Elfwing et al. 2017)."""
    a = raw(x)
    gate = sigmoid_array(a)
    return record(a * gate, (x, lambda g: g * gate * (1 + a * (1 - gate))))


def swiglu(gate: Operand, up: Operand) -> Tensor:
    """Compute silu(gate) · up, the gated activation of a Llama MLP (Shazeer 2020). gate, up and result: (..., F)."""
    a, b = raw(gate), raw(up)
    rows_a, rows_b = as_rows(a), as_rows(b)

    def activated(sigma: Array = None) -> Array:
        """Return the result (N, F). On a CPU, also write the sigmoids to `sigma`, if given."""
        if not backend.is_cpu():
            return kernels.swiglu(rows_a, rows_b.astype(a.dtype, copy=False))
        y = xp.empty(rows_a.shape, dtype=a.dtype)
        for s in row_blocks(rows_a):
            with backend.errstate():  # exp may overflow to inf, which correctly gives 0
                below = xp.exp(-rows_a[s])
            below += 1
            xp.divide(rows_a[s], below, out=y[s])
            y[s] *= rows_b[s]
            if sigma is not None:
                xp.divide(1, below, out=sigma[s])
        return y

    # If the result is recomputed, the rule runs right after that, and can use the sigmoids again.
    sigma = Lazy(lambda: xp.empty(rows_a.shape, dtype=a.dtype))

    def rule(g: Array) -> tuple[Array, Array]:
        g = g.reshape(rows_a.shape)
        if not backend.is_cpu():
            da, db = kernels.swiglu_slopes(g, rows_a, rows_b.astype(a.dtype, copy=False))
            return da.reshape(a.shape), db.reshape(b.shape)
        da, db = xp.empty(rows_a.shape, dtype=a.dtype), xp.empty(rows_b.shape, dtype=b.dtype)
        for s in row_blocks(rows_a):
            sigmoids = sigmoid_array(rows_a[s]) if sigma.value is None else sigma.value[s]
            silu = rows_a[s] * sigmoids
            xp.multiply(g[s], silu, out=db[s])
            # d silu(a) = sigma (1 + a - a sigma)
            slope = xp.subtract(rows_a[s], silu)
            slope += 1
            slope *= sigmoids
            slope *= rows_b[s]
            xp.multiply(slope, g[s], out=da[s])
        sigma.forget()
        return da.reshape(a.shape), db.reshape(b.shape)

    y = activated()
    return recomputable(
        record(y.reshape(a.shape), ((gate, up), rule)), lambda: activated(sigma() if backend.is_cpu() else None)
    )


def gelu(x: Operand, approximate: str = "none") -> Tensor:
    """Compute x · Φ(x) (Hendrycks & Gimpel 2016), with Φ the normal cumulative distribution function.

    approximate: "none", or "tanh" for their approximation. Raises ValueError for another value of `approximate`.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}")
    a = raw(x)
    rows = as_rows(a)

    def activated(factor: Array = None) -> Array:
        """Return the result (N, F). Also write Φ(x), the factor of x, to `factor`, if given."""
        y = xp.empty(rows.shape, dtype=a.dtype)
        for s in row_blocks(rows):
            phi = _phi(rows[s], approximate)
            xp.multiply(rows[s], phi, out=y[s])
            if factor is not None:
                factor[s] = phi
        return y

    factor = Lazy(lambda: xp.empty(rows.shape, dtype=a.dtype))  # as in `swiglu`

    def rule(g: Array) -> Array:
        g = g.reshape(rows.shape)
        dx = xp.empty(rows.shape, dtype=a.dtype)
        for s in row_blocks(rows):
            phi = _phi(rows[s], approximate) if factor.value is None else factor.value[s]
            xp.multiply(rows[s], _phi_slope(rows[s], phi, approximate), out=dx[s])
            dx[s] += phi
            dx[s] *= g[s]
        factor.forget()
        return dx.reshape(a.shape)

    y = activated()
    return recomputable(record(y.reshape(a.shape), (x, rule)), lambda: activated(factor()))


def _phi(a: Array, approximate: str) -> Array:
    """Compute Φ(a), or its tanh approximation."""
    if approximate == "none":
        return 0.5 * (1 + erf(a / sqrt(2)))
    return 0.5 * (1 + xp.tanh(sqrt(2 / pi) * (a + 0.044715 * a * a * a)))


def _phi_slope(a: Array, phi: Array, approximate: str) -> Array:
    """Compute the derivative of `_phi` at a. phi: _phi(a)."""
    if approximate == "none":
        return xp.exp(-0.5 * a * a) / sqrt(2 * pi)
    return 2 * phi * (1 - phi) * sqrt(2 / pi) * (1 + 3 * 0.044715 * a * a)  # 1 - tanh² is 4 Φ (1 - Φ)


def dropout(x: Operand, p: float, rng: Any) -> Tensor:
    """Set each element to 0 with probability p, and divide the others by 1 - p (Srivastava et al. 2014).

    rng: a NumPy Generator; the mask is drawn on the host, so that one seed gives one result on every backend.
    Raises ValueError unless 0 <= p < 1.
    """
    p = number(p)
    if not 0 <= p < 1:
        raise ValueError(f"dropout needs 0 <= p < 1, not {p}")
    a = raw(x)
    if p == 0:
        return record(a.copy(), (x, lambda g: g))
    keep = backend.asarray(rng.random(a.shape, dtype="float32") >= p)
    scale = 1 / (1 - p)
    return record(xp.where(keep, a * scale, 0), (x, lambda g: xp.where(keep, g * scale, 0)))


def softmax(x: Operand, axis: int = -1) -> Tensor:
    """Compute exp(x) / sum(exp(x)) along the axis."""
    a = raw(x)
    check_axis_is_not_empty("softmax", a.shape, axis)
    y = xp.exp(a - a.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)

    def rule(g: Array) -> Array:
        weighted = g * y
        return weighted - y * weighted.sum(axis=axis, keepdims=True)

    return record(y, (x, rule))


def log_softmax(x: Operand, axis: int = -1) -> Tensor:
    """Compute log(softmax(x)) along the axis, accurate even where softmax itself rounds to 0."""
    a = raw(x)
    check_axis_is_not_empty("log_softmax", a.shape, axis)
    y = a - a.max(axis=axis, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
    return record(y, (x, lambda g: g - xp.exp(y) * g.sum(axis=axis, keepdims=True)))
