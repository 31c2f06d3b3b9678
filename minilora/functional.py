"""The fused operations of a transformer: one node each, with few passes over memory.

The same mathematics, written the way a paper prints it, stands in `minilora.plain`; tests hold each function here to
its plain form. What makes these faster on a CPU: elementwise chains run over blocks of rows that stay in a core's
cache, intermediate results are overwritten in place, and the backward pass keeps no array that it can do without.
Shapes are written (..., C) for any number of leading axes; B batch, T queries, S keys, H heads, D head size, V
classes.
"""

from contextlib import contextmanager
from contextvars import ContextVar
from math import inf, pi, prod, sqrt

from minilora import backend
from minilora.backend import xp
from minilora.ops import number, raw, sigmoid_array
from minilora.tensor import Tensor, is_recording, record

# What is not kept

_selective = ContextVar("selective", default=False)


@contextmanager
def selective_recomputation():
    """Within the block (and this thread), what takes much room and little time is made again in backward, in place of
    being kept: the exponentials of attention, and the results of norms and activations that a linear map reads
    (Korthikanti et al. 2022, "Reducing activation recomputation in large transformer models", section 5). The bits are
    the same.
    """
    token = _selective.set(True)
    try:
        yield
    finally:
        _selective.reset(token)


def _remade(out: Tensor, remake) -> Tensor:
    """`out`, whose array `remake()` can make anew until its rule has run."""
    if out._node is not None and _selective.get():
        out._node.remake = remake
    return out


class _Once:
    """Calls `make` at the first call, and gives the same result from then on; `forget` drops it."""

    def __init__(self, make):
        self.make, self.made = make, None

    def __call__(self):
        if self.made is None:
            self.made = self.make()
        return self.made

    def forget(self) -> None:
        self.made = None


def _kept(x):
    """A function that gives the array of an input (..., C) in backward, as rows (N, C): kept until then, or made anew
    where the operation that it came from can do that.
    """
    node = x._node if isinstance(x, Tensor) else None
    if node is not None and node.remake is not None:
        return node.remake
    rows = _as_rows(raw(x))
    return lambda: rows


# Linear maps


def _maker(weight):
    """A function that gives the array of a weight: the one that a Tensor holds, or one made anew at each call."""
    if callable(weight):
        return weight
    array = raw(weight)
    return lambda: array


def linear(x, weight, bias=None) -> Tensor:
    """x Wᵀ + b. x: (..., in); weight: (out, in); bias: (out,); result: (..., out).

    weight may also be a function that makes the array of a frozen weight (from 4 bits, say). It is called again in
    backward, so that the array does not live in between.
    """
    a, w, rows = raw(x), _maker(weight), _kept(x)
    y = _as_rows(a) @ w().T  # (N, in) to (N, out): one large product instead of many small ones
    if bias is not None:
        y += raw(bias)
    shape = a.shape
    return record(
        y.reshape(*shape[:-1], y.shape[1]),
        (x, lambda g: (_as_rows(g) @ w()).reshape(shape)),
        (weight, lambda g: _as_rows(g).T @ rows()),
        (bias, lambda g: _as_rows(g).sum(axis=0)),
    )


def embedding(ids, weight) -> Tensor:
    """Row `ids[...]` of the weight for each id. ids: integers (...); weight: (V, C); result: (..., C).

    Raises IndexError for an id outside 0 … V-1.
    """
    w = raw(weight)
    ids = ids._data if isinstance(ids, Tensor) else ids
    index = backend.checked_indices(ids, w.shape[0], "token id")
    size, width = w.shape
    return record(w[index], (weight, lambda g: backend.add_rows(size, index.reshape(-1), g.reshape(-1, width))))


def low_rank_linear(x, weight, bias, a, b, scaling: float) -> Tensor:
    """x (W + s B A)ᵀ + bias: a linear map with a low-rank update, as one node (LoRA, Hu et al. 2021, section 4.1).

    x: (..., in); weight: (out, in); bias: (out,) or None; a: (r, in); b: (out, r); result: (..., out).
    With many rows the update is added to the weight first, which costs r products an element of W and saves a pass over
    the result; with few rows the two thin products are cheaper. The sum W + s B A is made again in backward, not kept.
    As in `linear`, weight may be a function that makes the frozen array.
    """
    inputs, w, down, up, scaling = raw(x), _maker(weight), raw(a), raw(b), number(scaling)
    out_features, shape = up.shape[0], inputs.shape
    rows, rows_again = _as_rows(inputs), _kept(x)  # (N, in)
    merge = 2 * rows.shape[0] > out_features

    def merged():
        total = (up * scaling) @ down  # (out, in)
        total += w()
        return total

    if merge:
        y = rows @ merged().T
    else:
        y = rows @ w().T
        y += (rows @ down.T) @ (up.T * scaling)
    if bias is not None:
        y += raw(bias)

    def rule_x(g):
        g = _as_rows(g)
        dx = g @ merged() if merge else g @ w() + (g @ (up * scaling)) @ down
        return dx.reshape(shape)

    def rule_ab(g):
        g, rows = _as_rows(g), rows_again()
        da = (g @ (up * scaling)).T @ rows  # (r, in)
        db = (rows @ down.T).T @ g  # (r, out): faster than its transpose, gᵀ (x Aᵀ)
        return da, (db * scaling).T.copy()

    return record(
        y.reshape(*shape[:-1], out_features),
        (x, rule_x),
        (weight, lambda g: _as_rows(g).T @ rows_again()),
        (bias, lambda g: _as_rows(g).sum(axis=0)),
        ((a, b), rule_ab),
    )


# Normalization


def rms_norm(x, weight=None, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x²) + eps) · w over the last axis (Zhang & Sennrich 2019). x: (..., C); weight: (C,)."""
    a, eps = raw(x), number(eps)
    w = None if weight is None else raw(weight)
    width = a.shape[-1]
    rows = _as_rows(a)
    inverse = xp.empty((rows.shape[0], 1), dtype=a.dtype)  # 1 / rms of each row

    def normalized(first: bool):
        y = xp.empty(rows.shape, dtype=a.dtype)
        for s in _row_blocks(rows):
            if first:
                inverse[s, 0] = xp.einsum("ij,ij->i", rows[s], rows[s])
                inverse[s] = 1 / xp.sqrt(inverse[s] / width + eps)
            xp.multiply(rows[s], inverse[s], out=y[s])
            if w is not None:
                y[s] *= w
        return y

    y = normalized(first=True)
    again = _Once(lambda: normalized(first=False))
    weight_is_live = isinstance(weight, Tensor) and weight.requires_grad

    def rule(g):
        again.forget()
        g = g.reshape(rows.shape)
        dx = xp.empty(rows.shape, dtype=a.dtype)
        dw = xp.zeros(width, dtype=a.dtype) if weight_is_live else None
        for s in _row_blocks(rows):
            if weight_is_live:
                dw += (inverse[s].T @ (g[s] * rows[s]))[0]
            scaled = g[s] * inverse[s] if w is None else xp.multiply(g[s], w) * inverse[s]
            along = xp.einsum("ij,ij->i", scaled, rows[s])[:, None]  # how much of it changes the row's length
            along *= inverse[s] * inverse[s] / width
            xp.multiply(rows[s], along, out=dx[s])
            xp.subtract(scaled, dx[s], out=dx[s])
        return dx.reshape(a.shape), dw

    return _remade(record(y.reshape(a.shape), ((x, weight), rule)), again)


def layer_norm(x, weight=None, bias=None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) · w + b over the last axis (Ba et al. 2016). x: (..., C); weight, bias: (C,)."""
    a, eps = raw(x), number(eps)
    w = None if weight is None else raw(weight)
    rows = _as_rows(a)
    normal = rows - rows.mean(axis=1, keepdims=True)
    inverse = 1 / xp.sqrt((normal * normal).mean(axis=1, keepdims=True) + eps)
    normal *= inverse  # (N, C): mean 0, variance 1
    shift = None if bias is None else raw(bias)

    def scaled():
        y = normal.copy() if w is None else normal * w
        if shift is not None:
            y += shift
        return y

    y, again = scaled(), _Once(scaled)

    def rule_x(g):
        again.forget()
        g = g.reshape(normal.shape) if w is None else g.reshape(normal.shape) * w
        g = g - g.mean(axis=1, keepdims=True) - normal * (g * normal).mean(axis=1, keepdims=True)
        g *= inverse
        return g.reshape(shape)

    shape = a.shape
    out = record(
        y.reshape(shape),
        (x, rule_x),
        (weight, lambda g: (g.reshape(normal.shape) * normal).sum(axis=0)),
        (bias, lambda g: _as_rows(g).sum(axis=0)),
    )
    return _remade(out, again)


# Activations


def relu(x) -> Tensor:
    """max(x, 0); the gradient at 0 is 0."""
    a = raw(x)
    return record(xp.maximum(a, 0), (x, lambda g: g * (a > 0)))


def silu(x) -> Tensor:
    """x · sigmoid(x) (Elfwing et al. 2017)."""
    a = raw(x)
    gate = sigmoid_array(a)
    return record(a * gate, (x, lambda g: g * gate * (1 + a * (1 - gate))))


def swiglu(gate, up) -> Tensor:
    """silu(gate) · up, the gated activation of a Llama MLP (Shazeer 2020). gate, up and result: (..., F)."""
    a, b = raw(gate), raw(up)
    rows_a, rows_b = _as_rows(a), _as_rows(b)

    def activated(sigma=None):
        """The result (N, F); the sigmoids are left in `sigma`."""
        y = xp.empty(rows_a.shape, dtype=a.dtype)
        for s in _row_blocks(rows_a):
            with backend.errstate():  # exp may overflow to inf, which gives the right 0
                below = xp.exp(-rows_a[s])
            below += 1
            xp.divide(rows_a[s], below, out=y[s])
            y[s] *= rows_b[s]
            if sigma is not None:
                xp.divide(1, below, out=sigma[s])
        return y

    sigma = _Once(lambda: xp.empty(rows_a.shape, dtype=a.dtype))  # backward comes just after the result is made again

    def rule(g):
        g = g.reshape(rows_a.shape)
        da, db = xp.empty(rows_a.shape, dtype=a.dtype), xp.empty(rows_b.shape, dtype=b.dtype)
        for s in _row_blocks(rows_a):
            sigmoids = sigmoid_array(rows_a[s]) if sigma.made is None else sigma.made[s]
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
    return _remade(record(y.reshape(a.shape), ((gate, up), rule)), lambda: activated(sigma()))


def gelu(x, approximate: str = "none") -> Tensor:
    """x · Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016); "tanh" is their approximation of it.

    Raises ValueError for another value of `approximate`.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}")
    a = raw(x)
    rows = _as_rows(a)

    def activated(factor=None):
        """The result (N, F); what x was multiplied by is left in `factor`."""
        y = xp.empty(rows.shape, dtype=a.dtype)
        for s in _row_blocks(rows):
            phi = _phi(rows[s], approximate)
            xp.multiply(rows[s], phi, out=y[s])
            if factor is not None:
                factor[s] = phi
        return y

    factor = _Once(lambda: xp.empty(rows.shape, dtype=a.dtype))  # as in `swiglu`

    def rule(g):
        g = g.reshape(rows.shape)
        dx = xp.empty(rows.shape, dtype=a.dtype)
        for s in _row_blocks(rows):
            phi = _phi(rows[s], approximate) if factor.made is None else factor.made[s]
            xp.multiply(rows[s], _phi_slope(rows[s], phi, approximate), out=dx[s])
            dx[s] += phi
            dx[s] *= g[s]
        factor.forget()
        return dx.reshape(a.shape)

    y = activated()
    return _remade(record(y.reshape(a.shape), (x, rule)), lambda: activated(factor()))


def _phi(a, approximate: str):
    """Φ(a), or its tanh approximation."""
    if approximate == "none":
        return 0.5 * (1 + erf(a / sqrt(2)))
    return 0.5 * (1 + xp.tanh(sqrt(2 / pi) * (a + 0.044715 * a * a * a)))


def _phi_slope(a, phi, approximate: str):
    """The derivative of `_phi` at a, where it is phi."""
    if approximate == "none":
        return xp.exp(-0.5 * a * a) / sqrt(2 * pi)
    return 2 * phi * (1 - phi) * sqrt(2 / pi) * (1 + 3 * 0.044715 * a * a)  # 1 - tanh² is 4 Φ (1 - Φ)


# Rational approximations of erf: below 0.46875 as x R(x²), above as 1 - exp(-x²) R(x) (Cody 1969, tables I and II).
_ERF_SMALL = (
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_ERF_LARGE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)


def erf(a):
    """The error function of an array, to the last digit or two of its dtype (NumPy has none)."""
    magnitude = xp.minimum(abs(a), 6)  # erf(6) is 1 in float64
    square = magnitude * magnitude
    small = magnitude * _ratio(_ERF_SMALL, square)
    large = 1 - xp.exp(-square) * _ratio(_ERF_LARGE, magnitude)
    return xp.copysign(xp.where(magnitude < 0.46875, small, large), a)


def _ratio(coefficients, x):
    top, bottom = (coefficients[0][0] * x + coefficients[0][1], x + coefficients[1][1])
    for p, q in zip(coefficients[0][2:], coefficients[1][2:], strict=True):
        top = top * x + p
        bottom = bottom * x + q
    return top / bottom


def dropout(x, p: float, rng) -> Tensor:
    """Each element is 0 with probability p, else divided by 1 - p (Srivastava et al. 2014).

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


def softmax(x, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along the axis."""
    a = raw(x)
    y = xp.exp(a - a.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)

    def rule(g):
        weighted = g * y
        return weighted - y * weighted.sum(axis=axis, keepdims=True)

    return record(y, (x, rule))


def log_softmax(x, axis: int = -1) -> Tensor:
    """log(softmax(x)) along the axis, exact where softmax itself rounds to 0."""
    a = raw(x)
    y = a - a.max(axis=axis, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
    return record(y, (x, lambda g: g - xp.exp(y) * g.sum(axis=axis, keepdims=True)))


# Attention


def rotary(x, cos, sin) -> Tensor:
    """Rotate each pair (x_i, x_{i+D/2}) by its position's angle (Su et al. 2021; Llama pairs halves, not neighbours).

    x: (B, T, H, D); cos, sin: (T, D) or (B, T, D), the angles of the first half repeated in the second. Constants.
    """
    a, cos, sin = raw(x), raw(cos), raw(sin)
    heads, size = a.shape[-2:]
    half = size // 2

    def rotate(rows, cos, sin):
        """x cos + swap(x) (-sin, sin)."""
        # A factor for each number of a sequence, so that NumPy's inner loops run over all of it, not over half a head.
        # The tables are made again in backward: as wide as this, they would be a large part of what is kept.
        times = heads if cos.ndim == 2 and rows.shape[1] > 1 and backend.is_cpu() else 1
        cos, sin = (xp.repeat(t[..., None, :], times, axis=-2) for t in (cos, sin))  # (…, T, H, D)
        sin[..., :half] *= -1
        out = xp.empty(rows.shape, dtype=rows.dtype)
        for s in backend.row_blocks(rows.shape[0], rows[:1].size * rows.dtype.itemsize):
            part, own_cos, own_sin = (rows[s], cos, sin) if cos.ndim == 3 else (rows[s], cos[s], sin[s])
            swapped = xp.empty(part.shape, dtype=rows.dtype)
            xp.multiply(part[..., half:], own_sin[..., :half], out=swapped[..., :half])
            xp.multiply(part[..., :half], own_sin[..., half:], out=swapped[..., half:])
            xp.multiply(part, own_cos, out=out[s])
            out[s] += swapped
        return out

    return record(rotate(a, cos, sin), (x, lambda g: rotate(g, cos, -sin)))


def scaled_dot_product_attention(q, k, v, mask=None, is_causal: bool = False, scale: float | None = None) -> Tensor:
    """softmax(q kᵀ · scale + mask) v (Vaswani et al. 2017, section 3.2.1), a block of queries at a time.

    q: (..., H, T, D); k, v: (..., H_kv, S, D) with H a multiple of H_kv (grouped heads, Ainslie et al. 2023); result:
    (..., H, T, D). mask: a constant that broadcasts to (..., H, T, S); booleans: True takes part; numbers are added.
    is_causal: query i sees the keys up to i + S - T, so that with a cache the triangle is aligned to the end; a mask
    applies as well. scale: 1/sqrt(D) by default. A row with nothing to attend to gives zeros and zero gradients.
    """
    if isinstance(mask, Tensor) and mask.requires_grad:
        raise ValueError("attention treats its mask as a constant; this one requires a gradient")
    queries, keys, values = raw(q), raw(k), raw(v)
    q_shape, k_shape, v_shape = queries.shape, keys.shape, values.shape
    (*lead, heads), (*kv_lead, kv_heads) = q_shape[:-2] or (1,), k_shape[:-2] or (1,)
    if lead != kv_lead or k_shape[:-1] != v_shape[:-1] or q_shape[-1] != k_shape[-1] or heads % kv_heads:
        raise ValueError(f"attention cannot pair queries {q_shape} with keys {k_shape} and values {v_shape}")
    length, span, group = q_shape[-2], k_shape[-2], heads // kv_heads
    scale = 1 / sqrt(q_shape[-1]) if scale is None else number(scale)
    # Grouped heads become an axis of their own, over which keys and values broadcast.
    batch = prod(lead)
    queries = queries.reshape(batch, kv_heads, group, length, q_shape[-1])  # (B, H_kv, G, T, D)
    keys = keys.reshape(batch, kv_heads, 1, span, k_shape[-1])  # (B, H_kv, 1, S, D)
    values = values.reshape(batch, kv_heads, 1, span, v_shape[-1])
    dtype = queries.dtype
    bias = None if mask is None else _mask_as_bias(raw(mask), (*lead, heads, length, span), (kv_heads, group), dtype)

    offset = span - length
    blocks = list(_query_blocks(batch, heads, length, span, is_causal, dtype.itemsize))
    hides = is_causal and length > 1  # one query sees every key
    triangle = _causal_bias(max((rows.stop - rows.start for _, rows, _ in blocks), default=0), dtype) if hides else None
    out = _heads_inside((batch, kv_heads, group, length, v_shape[-1]), dtype)
    out_shape, ones = out.shape, xp.ones((span, 1), dtype=dtype)

    def exponentials(b, rows, seen, scaled, top=None):
        """exp(scores - max) of a block (b, H_kv, G, t, s), and the max of each row where it is not known."""
        scores = scaled @ keys[b, :, :, :seen].swapaxes(-1, -2)
        if bias is not None:
            scores += _part(bias, b, rows, seen)
        if hides:
            first, width = rows.start + offset, rows.stop - rows.start  # the first key that part of it must not see
            scores[..., max(first, 0) :] += triangle[:width, max(-first, 0) : width]
        if top is None:
            top = scores.max(axis=-1, keepdims=True)
            top = xp.where(top > -inf, top, 0)
        scores -= top
        return xp.exp(scores, out=scores), top

    again = _selective.get()
    kept = []  # of each block: the exponentials or the max of each row, and 1 / the sum of its exponentials
    for b, rows, seen in blocks:
        exps, top = exponentials(b, rows, seen, queries[b, :, :, rows] * scale)
        total = exps @ ones[:seen]  # row sums; a product is several times faster than sum() on short rows
        inverse = 1 / xp.where(total > 0, total, 1)
        xp.multiply(exps @ values[b, :, :, :seen], inverse, out=out[b, :, :, rows])
        kept.append((top if again else exps, inverse))

    def rule(g):
        g = g.reshape(out_shape)
        dq = _heads_inside(queries.shape, dtype)
        dk = _heads_inside(keys.shape, dtype)
        dv = _heads_inside(values.shape, dtype)
        while blocks:
            b, rows, seen = blocks.pop()
            exps, inverse = kept.pop()
            scaled = queries[b, :, :, rows] * scale
            if again:
                exps, _ = exponentials(b, rows, seen, scaled, top=exps)
            grad = g[b, :, :, rows] * inverse  # divides by the row sums here, where rows are short
            dv[b, :, :, :seen] += _over_group(exps.swapaxes(-1, -2) @ grad)
            dscores = grad @ values[b, :, :, :seen].swapaxes(-1, -2)
            dscores *= exps
            exps *= (dscores @ ones[:seen]) * inverse
            dscores -= exps
            xp.multiply(dscores @ keys[b, :, :, :seen], scale, out=dq[b, :, :, rows])
            dk[b, :, :, :seen] += _over_group(dscores.swapaxes(-1, -2) @ scaled)
        return dq.reshape(q_shape), dk.reshape(k_shape), dv.reshape(v_shape)

    return record(out.reshape(*q_shape[:-1], v_shape[-1]), ((q, k, v), rule))


def _over_group(grads):
    """(b, H_kv, G, S, D) summed over the query heads that share a key head; where it is one alone, nothing is added."""
    return grads if grads.shape[2] == 1 else grads.sum(axis=2, keepdims=True)


def _mask_as_bias(mask, full_shape, head_shape, dtype):
    """A mask as numbers to add to the scores, of 5 axes that are full or 1."""
    fits = all(m in (1, n) for m, n in zip(reversed(mask.shape), reversed(full_shape), strict=False))
    if mask.dtype.kind not in "bf" or mask.ndim > len(full_shape) or not fits:
        raise ValueError(f"a mask is booleans or floats that broadcast to {full_shape}, not {mask.dtype} {mask.shape}")
    if mask.dtype.kind == "b":
        mask = xp.where(mask, xp.asarray(0, dtype=dtype), xp.asarray(-inf, dtype=dtype))
    mask = mask.astype(dtype, copy=False)
    mask = mask.reshape((1,) * (len(full_shape) - mask.ndim) + mask.shape)
    if len(full_shape) > 4 or mask.shape[-1] != full_shape[-1]:
        mask = xp.broadcast_to(mask, full_shape)
    heads = head_shape if mask.shape[-3] > 1 else (1, 1)
    return mask.reshape(prod(mask.shape[:-3]), *heads, *mask.shape[-2:])


def _part(bias, b: slice, rows: slice, seen: int):
    """The part of a 5-axis bias for one block; axes of length 1 stay."""
    return bias[b if bias.shape[0] > 1 else slice(None), :, :, rows if bias.shape[3] > 1 else slice(None), :seen]


def _query_blocks(batch: int, heads: int, length: int, span: int, is_causal: bool, itemsize: int):
    """(sequences, queries, number of keys seen) of each block; under a causal mask, keys that no query sees are left
    out.
    """
    step = min(length, 64) if backend.is_cpu() and is_causal else length
    for start in range(0, length, max(step, 1)):
        rows = slice(start, min(start + step, length))
        seen = rows.stop + span - length if is_causal else span
        if seen > 0:
            for b in backend.row_blocks(batch, heads * step * span * itemsize // 2):
                yield b, rows, seen


def _causal_bias(width: int, dtype):
    """(width, width): 0 on and below the diagonal, -inf above."""
    return xp.triu(xp.full((width, width), -inf, dtype=dtype), 1)


def _heads_inside(shape, dtype):
    """Zeros of shape (B, H_kv, G, T, D), in memory (B, T, H_kv, G, D), so that joining the heads later copies
    nothing.
    """
    b, h, g, t, d = shape
    return xp.zeros((b, t, h, g, d), dtype=dtype).transpose(0, 2, 3, 1, 4)


# Losses


def cross_entropy(logits, targets, ignore_index: int = -100, num_items: int | None = None) -> Tensor:
    """Mean of -log softmax(logits)[target] over the targets that count, in nats.

    logits: (..., V); targets: integers (...), of which `ignore_index` does not count. num_items: what the sum is
    divided by, by default the number of targets that count; a part of a larger batch passes the whole batch's number.
    Raises IndexError for a target outside 0 … V-1 and ValueError where the shapes do not fit or no target counts.
    """
    a = raw(logits)
    shape, dtype = a.shape, a.dtype
    valid, target, num_items = _valid_targets(targets, shape, ignore_index, num_items)
    rows = _as_rows(a)
    used = rows if valid is None else rows[valid]
    exps = xp.empty(used.shape, dtype=dtype)
    total, sums = _exp_rows(used, exps, target)

    def rule(g):
        exps[xp.arange(len(target)), target] -= sums
        return _put_rows(xp.multiply(exps, (g / num_items / sums)[:, None], out=exps), valid, shape)

    return record(total / num_items, (logits, rule))


def linear_cross_entropy(x, weight, targets, ignore_index: int = -100, num_items: int | None = None) -> Tensor:
    """Cross-entropy of the logits x Wᵀ, which are made a chunk at a time and never all held (the head of a language
    model).

    x: (..., C); weight: (V, C); targets: integers (...). num_items: what the sum is divided by, by default the number
    of targets that count; a part of a larger batch passes the whole batch's number. Where it is recorded, the
    gradients are made in the forward pass, while a chunk is at hand. Errors as for `cross_entropy`.
    """
    a, w = raw(x), raw(weight)
    shape, classes = a.shape, w.shape[0]
    valid, target, num_items = _valid_targets(targets, (*shape[:-1], classes), ignore_index, num_items)
    rows = _as_rows(a)
    used = rows if valid is None else rows[valid]
    x_is_live = is_recording() and isinstance(x, Tensor) and x.requires_grad
    weight_is_live = is_recording() and isinstance(weight, Tensor) and weight.requires_grad

    total = xp.zeros((), dtype=a.dtype)
    dx = xp.empty(used.shape, dtype=a.dtype) if x_is_live else None
    dw = xp.zeros(w.shape, dtype=w.dtype) if weight_is_live and not len(target) else None
    chunk = chunk_rows(classes, shape[-1], a.dtype.itemsize)
    room = xp.empty((min(chunk, len(target)), classes), dtype=xp.result_type(a.dtype, w.dtype))
    for start in range(0, len(target), chunk):
        s = slice(start, start + chunk)
        logits = xp.matmul(used[s], w.T, out=room[: len(target) - start])  # (chunk, V)
        more, sums = _exp_rows(logits, logits, target[s])
        total = total + more
        if x_is_live or weight_is_live:
            # d loss / d logits, times num_items, is these rows over their sums: divided by those where rows are short.
            logits[xp.arange(logits.shape[0]), target[s]] -= sums
            inverse = (1 / sums)[:, None]
            if x_is_live:
                xp.matmul(logits, w, out=dx[s])
                dx[s] *= inverse
            if weight_is_live:
                part = logits.T @ (used[s] * inverse)
                dw = part if dw is None else xp.add(dw, part, out=dw)
                del part  # before the next is made

    def rule_x(g):
        return _put_rows(xp.multiply(dx, g / num_items, out=dx), valid, shape)

    def rule_w(g):
        return xp.multiply(dw, g / num_items, out=dw)

    return record(total / num_items, (x, rule_x), (weight, rule_w))


CHUNK_BYTES = 2 * 2**20, 8 * 2**20  # logits held at a time: at least, at most


def chunk_rows(classes: int, width: int, itemsize: int) -> int:
    """How many rows of logits `linear_cross_entropy` makes at a time, for a weight (classes, width).

    Few stay in a cache, but each chunk goes over the whole weight and over its gradient.
    """
    least, most = CHUNK_BYTES
    return max(64, min(max(least, 4 * classes * width * itemsize), most) // (classes * itemsize))


def _valid_targets(targets, shape, ignore_index: int, num_items: int | None):
    """For logits of `shape`: the flat positions of the targets that count (None where all do), those targets, and the
    number to divide by.
    """
    host = backend.to_numpy(targets._data if isinstance(targets, Tensor) else targets)
    if host.shape != tuple(shape[:-1]):
        raise ValueError(f"targets of shape {host.shape} do not fit logits of shape {tuple(shape)}")
    flat = host.reshape(-1)
    valid = (flat != ignore_index).nonzero()[0]
    if num_items is None and not len(valid):
        raise ValueError(f"cross_entropy has no target that counts: all are {ignore_index}")
    target = backend.checked_indices(flat[valid], shape[-1], "target")
    return None if len(valid) == len(flat) else backend.asarray(valid), target, number(num_items) or len(valid)


def _put_rows(rows, valid, shape):
    """`rows` as an array of `shape`, or, where only `valid` rows were used, among rows of zeros."""
    if valid is None:
        return rows.reshape(shape)
    out = xp.zeros((prod(shape[:-1]), shape[-1]), dtype=rows.dtype)
    out[valid] = rows
    return out.reshape(shape)


def _exp_rows(logits, out, target):
    """Write exp(logits - the row's largest) to `out` (may be `logits`); returns the sum of -log softmax at the targets,
    and the sum of each written row, by which it is a softmax.
    """
    total, sums = xp.zeros((), dtype=logits.dtype), xp.empty(logits.shape[0], dtype=logits.dtype)
    ones = xp.ones(logits.shape[1], dtype=logits.dtype)
    for s in _row_blocks(logits):
        rows, index = logits[s], xp.arange(logits[s].shape[0])
        chosen = rows[index, target[s]]
        top = rows.max(axis=1)
        exps = xp.subtract(rows, top[:, None], out=out[s])
        xp.exp(exps, out=exps)
        sums[s] = exps @ ones
        total = total + (xp.log(sums[s]) + top - chosen).sum()
    return total, sums


def _as_rows(a):
    """(..., C) as (N, C); a single number as one row of one."""
    return a.reshape(prod(a.shape[:-1]), a.shape[-1]) if a.ndim else a.reshape(1, 1)


def _row_blocks(rows):
    return backend.row_blocks(rows.shape[0], rows.shape[1] * rows.dtype.itemsize)
