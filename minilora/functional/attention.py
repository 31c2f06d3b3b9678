"""Scaled dot-product attention with masks, grouped heads and a cache, and rotary position embeddings."""

from collections.abc import Iterator
from math import inf, prod, sqrt
from typing import Any

from minilora import backend, kernels, ops
from minilora.backend import Array, xp
from minilora.functional.activations import plain_softmax
from minilora.functional.rows import is_selective
from minilora.ops import number, raw
from minilora.tensor import Operand, Tensor, record, wrap

# The plain forms


def plain_rotary(x: Tensor, cos: Array, sin: Array) -> Tensor:
    """Compute x cos + rotate_half(x) sin, with x of shape (B, T, H, D)."""
    half = x.shape[-1] // 2
    rotated = ops.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    out: Tensor = x * cos[..., None, :] + rotated * sin[..., None, :]
    return out


def plain_scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Operand = None, is_causal: bool = False, scale: float | None = None
) -> Tensor:
    """Compute softmax(q kᵀ · scale + mask) v, all scores at once. q: (B, H, T, D); k, v: (B, H, S, D), with as many
    heads as q. No row may be fully masked.
    """
    scores = q @ k.swapaxes(-1, -2) * (1 / sqrt(q.shape[-1]) if scale is None else scale)  # (B, H, T, S)
    if is_causal:
        length, span = scores.shape[-2:]
        scores = ops.where(wrap(xp.tri(length, span, span - length, dtype=bool)), scores, -inf)
    if mask is not None:
        mask = raw(mask)
        scores = ops.where(wrap(mask), scores, -inf) if mask.dtype.kind == "b" else scores + mask
    return plain_softmax(scores) @ v


# The fused forms


def rotary(x: Operand, cos: Operand, sin: Operand) -> Tensor:
    """Rotate each pair (x_i, x_{i+D/2}) by its position's angle (Su et al. 2021; Llama pairs halves, not neighbours).

    x: (B, T, H, D). cos, sin: constants (T, D) or (B, T, D), whose second half repeats the first.
    """
    a = raw(x)
    cos, sin = (t._data if isinstance(t, Tensor) else backend.asarray(t) for t in (cos, sin))
    heads, size = a.shape[-2:]
    half = size // 2

    def rotate(rows: Array, cos: Array, sin: Array, sign: int) -> Array:
        """Compute x cos + swap(x) (-sin, sin) · sign."""
        if not backend.is_cpu():
            out = xp.empty(rows.shape, dtype=rows.dtype)
            cos, sin = (t.astype(rows.dtype, copy=False)[..., None, :half] for t in (cos, sin))  # (…, T, 1, D/2)
            kernels.rotate(rows[..., :half], rows[..., half:], cos, sin, sign, out[..., :half], out[..., half:])
            return out
        sin = sin if sign > 0 else -sin
        # One factor per element, so that NumPy's inner loops run over the whole sequence instead of half a head.
        # Backward builds these tables again: at this width, they would be a large part of the memory saved for it.
        times = heads if cos.ndim == 2 and rows.shape[1] > 1 else 1
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

    return record(rotate(a, cos, sin, 1), (x, lambda g: rotate(g, cos, sin, -1)))


def scaled_dot_product_attention(
    q: Operand, k: Operand, v: Operand, mask: Operand = None, is_causal: bool = False, scale: float | None = None
) -> Tensor:
    """Compute softmax(q kᵀ · scale + mask) v (Vaswani et al. 2017, section 3.2.1), a block of queries at a time.

    q: (..., H, T, D); k, v: (..., H_kv, S, D) with H a multiple of H_kv (grouped-query attention, Ainslie et al. 2023);
    result: (..., H, T, D). mask: a constant that broadcasts to (..., H, T, S), either booleans, True for a key to
    attend to, or numbers that are added to the scores. is_causal: query i attends to keys up to i + S - T, which is the
    causal mask when the first S - T keys come from a cache; it combines with `mask`. scale: 1/sqrt(D) by default. A
    row with nothing to attend to gives zeros and zero gradients.
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
    # The query heads of a group get an axis of their own, over which keys and values broadcast.
    batch = prod(lead)
    queries = queries.reshape(batch, kv_heads, group, length, q_shape[-1])  # (B, H_kv, G, T, D)
    keys = keys.reshape(batch, kv_heads, 1, span, k_shape[-1])  # (B, H_kv, 1, S, D)
    values = values.reshape(batch, kv_heads, 1, span, v_shape[-1])
    dtype = queries.dtype
    bias = None if mask is None else _mask_as_bias(raw(mask), (*lead, heads, length, span), (kv_heads, group), dtype)

    offset = span - length
    blocks = list(_query_blocks(batch, heads, length, span, is_causal, dtype.itemsize))
    is_masked = is_causal and length > 1  # a single query attends to every key
    block_rows = max((rows.stop - rows.start for _, rows, _ in blocks), default=0)
    triangle: Array = xp.triu(xp.full((block_rows, block_rows), -inf, dtype=dtype), 1) if is_masked else None
    out = _heads_inside((batch, kv_heads, group, length, v_shape[-1]), dtype)
    out_shape, ones = out.shape, xp.ones((span, 1), dtype=dtype)

    def exponentials(b: slice, rows: slice, num_keys: int, scaled: Array, top: Array = None) -> tuple[Array, Array]:
        """Compute exp(scores - max) of a block (b, H_kv, G, t, s), and the max of each row if it is not given."""
        scores = scaled @ keys[b, :, :, :num_keys].swapaxes(-1, -2)
        if bias is not None:
            of_batch, of_rows = b if bias.shape[0] > 1 else slice(None), rows if bias.shape[3] > 1 else slice(None)
            scores += bias[of_batch, :, :, of_rows, :num_keys]
        if is_masked:
            first, width = rows.start + offset, rows.stop - rows.start  # first: the key where the triangle begins
            scores[..., max(first, 0) :] += triangle[:width, max(-first, 0) : width]
        if top is None:
            top = scores.max(axis=-1, keepdims=True)
        kernels.exp_below(scores, top, scores)
        return scores, top

    recompute = is_selective()
    saved = []  # for each block: the exponentials, or each row's max; and 1 / the sum of each row's exponentials
    for b, rows, num_keys in blocks:
        exps, top = exponentials(b, rows, num_keys, queries[b, :, :, rows] * scale)
        total = exps @ ones[:num_keys]  # row sums; a product is several times faster than sum() on short rows
        inverse = kernels.inverse_or_one(total)
        xp.multiply(exps @ values[b, :, :, :num_keys], inverse, out=out[b, :, :, rows])
        saved.append((top if recompute else exps, inverse))

    def rule(g: Array) -> tuple[Array, Array, Array]:
        g = g.reshape(out_shape)
        dq = _heads_inside(queries.shape, dtype)
        dk = _heads_inside(keys.shape, dtype)
        dv = _heads_inside(values.shape, dtype)
        while blocks:
            b, rows, num_keys = blocks.pop()
            exps, inverse = saved.pop()
            scaled = queries[b, :, :, rows] * scale
            if recompute:
                exps, _ = exponentials(b, rows, num_keys, scaled, top=exps)
            grad = g[b, :, :, rows] * inverse  # normalized here, where rows are short: D instead of S
            dv[b, :, :, :num_keys] += _over_group(exps.swapaxes(-1, -2) @ grad)
            dscores = grad @ values[b, :, :, :num_keys].swapaxes(-1, -2)
            dscores *= exps
            kernels.softmax_slope(dscores @ ones[:num_keys], inverse, exps, dscores)
            xp.multiply(dscores @ keys[b, :, :, :num_keys], scale, out=dq[b, :, :, rows])
            dk[b, :, :, :num_keys] += _over_group(dscores.swapaxes(-1, -2) @ scaled)
        return dq.reshape(q_shape), dk.reshape(k_shape), dv.reshape(v_shape)

    return record(out.reshape(*q_shape[:-1], v_shape[-1]), ((q, k, v), rule))


def _over_group(grads: Array) -> Array:
    """Sum gradients (b, H_kv, G, S, D) over the G query heads that share a key head."""
    return grads if grads.shape[2] == 1 else grads.sum(axis=2, keepdims=True)


def _mask_as_bias(mask: Array, full_shape: tuple[int, ...], head_shape: tuple[int, int], dtype: Any) -> Array:
    """Return a mask as numbers to add to the scores, with 5 axes, each full or 1; a copy if backward reads it again."""
    fits = all(m in (1, n) for m, n in zip(reversed(mask.shape), reversed(full_shape), strict=False))
    if mask.dtype.kind not in "bf" or mask.ndim > len(full_shape) or not fits:
        raise ValueError(
            f"a mask must be booleans or floats that broadcast to {full_shape}, not {mask.dtype} {mask.shape}"
        )
    if mask.dtype.kind == "b":
        mask = xp.where(mask, xp.asarray(0, dtype=dtype), xp.asarray(-inf, dtype=dtype))
    mask = mask.astype(dtype, copy=is_selective())
    mask = mask.reshape((1,) * (len(full_shape) - mask.ndim) + mask.shape)
    if len(full_shape) > 4 or mask.shape[-1] != full_shape[-1]:
        mask = xp.broadcast_to(mask, full_shape)
    heads = head_shape if mask.shape[-3] > 1 else (1, 1)
    return mask.reshape(prod(mask.shape[:-3]), *heads, *mask.shape[-2:])


def _query_blocks(
    batch: int, heads: int, length: int, span: int, is_causal: bool, itemsize: int
) -> Iterator[tuple[slice, slice, int]]:
    """Yield (sequences, queries, number of keys they attend to) for each block. Under a causal mask, this leaves out
    keys that no query of the block attends to.
    """
    step = min(length, 64) if backend.is_cpu() and is_causal else length
    for start in range(0, length, max(step, 1)):
        rows = slice(start, min(start + step, length))
        num_keys = rows.stop + span - length if is_causal else span
        if num_keys > 0:
            for b in backend.row_blocks(batch, heads * step * span * itemsize // 2):
                yield b, rows, num_keys


def _heads_inside(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return zeros of shape (B, H_kv, G, T, D), stored in the order (B, T, H_kv, G, D), so that joining the heads later
    needs no copy.
    """
    b, h, g, t, d = shape
    return xp.zeros((b, t, h, g, d), dtype=dtype).transpose(0, 2, 3, 1, 4)
