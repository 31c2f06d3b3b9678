"""Linear maps: x Wᵀ + b, the same with a low-rank update, and embedding lookup."""

from collections.abc import Callable

from minilora import backend
from minilora.backend import Array, xp
from minilora.functional.rows import as_rows, saved_rows
from minilora.ops import number, raw
from minilora.tensor import Operand, Tensor, record

# The plain forms


def plain_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x Wᵀ + b."""
    y = x @ weight.T
    return y if bias is None else y + bias


def plain_low_rank_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float
) -> Tensor:
    """Compute W x + s B A x (Hu et al. 2021, equation 3)."""
    return plain_linear(x, weight, bias) + (x @ a.T) @ b.T * scaling


# The fused forms


def _weight_maker(weight: Operand) -> Callable[[], Array]:
    """Return a function that returns the weight's array: a Tensor's own, or one made anew at each call."""
    if callable(weight):
        return weight  # type: ignore[no-any-return]
    array = raw(weight)
    return lambda: array


_FEW_ROWS, _LARGE_WEIGHT = 6, 2**16  # measured: up to these rows, from these elements, `few_rows_product` is faster


def few_rows_product(rows: Array, weight: Array) -> Array:
    """Compute rows @ weight.T, (N, in) to (N, out), in blocks of the weight that stay in a core's cache.

    For 2 to 6 rows: the tokens that a decoding step verifies, or a small batch. For a product of more than one row,
    BLAS first copies the weight into another order, which does not pay for so few rows. Blocks have 8 rows of the
    weight or more, as in BLAS itself, so that each row of the result is rounded as if it were computed alone.
    """
    out_features = weight.shape[0]
    y, columns = xp.empty((rows.shape[0], out_features), dtype=rows.dtype), rows[:, :, None]
    for s in backend.row_blocks(-(-out_features // 8), 8 * weight[:1].nbytes):
        part = slice(8 * s.start, 8 * s.stop)
        y[:, part] = (weight[part] @ columns)[..., 0]  # (N, part, 1)
    return y


def _product(rows: Array, weight: Array) -> Array:
    """Compute rows @ weight.T in the faster way. Raises ValueError if the rows do not have the weight's width."""
    if rows.shape[1:] != weight.shape[1:]:
        raise ValueError(f"an input of width {rows.shape[1]} does not fit a weight of shape {weight.shape}, (out, in)")
    is_few = 1 < rows.shape[0] <= _FEW_ROWS and weight.size >= _LARGE_WEIGHT and backend.is_cpu()
    if is_few and weight.flags.c_contiguous and rows.dtype == weight.dtype:
        return few_rows_product(rows, weight)
    return rows @ weight.T


def linear(x: Operand, weight: Operand, bias: Operand = None) -> Tensor:
    """Compute x Wᵀ + b. x: (..., in); weight: (out, in); bias: (out,); result: (..., out).

    weight may also be a function that makes the array of a frozen weight, for example from 4 bits. Backward calls it
    again, so that the array need not be kept in between.
    """
    a, w, rows = raw(x), _weight_maker(weight), saved_rows(x)
    y = _product(as_rows(a), w())  # (N, in) to (N, out): one large product instead of many small ones
    if bias is not None:
        y += raw(bias)
    shape = a.shape
    return record(
        y.reshape(*shape[:-1], y.shape[1]),
        (x, lambda g: (as_rows(g) @ w()).reshape(shape)),
        (weight, lambda g: as_rows(g).T @ rows()),
        (bias, lambda g: as_rows(g).sum(axis=0)),
    )


def embedding(ids: Operand, weight: Operand) -> Tensor:
    """Look up the weight's row for each id. ids: integers (...); weight: (V, C); result: (..., C).

    Raises IndexError for an id outside 0 … V-1.
    """
    w = raw(weight)
    ids = ids._data if isinstance(ids, Tensor) else ids
    index = backend.checked_indices(ids, w.shape[0], "token id")
    size, width = w.shape
    return record(w[index], (weight, lambda g: backend.add_rows(size, index.reshape(-1), g.reshape(-1, width))))


def low_rank_linear(x: Operand, weight: Operand, bias: Operand, a: Operand, b: Operand, scaling: float) -> Tensor:
    """Compute x (W + s B A)ᵀ + bias as one node: a linear map with a low-rank update (Hu et al. 2021, section 4.1).

    x: (..., in); weight: (out, in); bias: (out,) or None; a: (r, in); b: (out, r); result: (..., out).
    With many rows, the update is added to the weight first: that costs r products per element of W, and saves a pass
    over the result. With few rows, the two thin products are cheaper. The sum W + s B A is not saved but computed again
    in backward. As in `linear`, weight may be a function that makes the frozen array.
    """
    inputs, w, down, up, scaling = raw(x), _weight_maker(weight), raw(a), raw(b), number(scaling)
    out_features, shape = up.shape[0], inputs.shape
    rows, saved = as_rows(inputs), saved_rows(x)  # (N, in)
    merge = 2 * rows.shape[0] > out_features

    def merged() -> Array:
        total = (up * scaling) @ down  # (out, in)
        total += w()
        return total

    if merge:
        y = rows @ merged().T
    else:
        y = _product(rows, w())
        y += (rows @ down.T) @ (up.T * scaling)
    if bias is not None:
        y += raw(bias)

    def rule_x(g: Array) -> Array:
        g = as_rows(g)
        dx = g @ merged() if merge else g @ w() + (g @ (up * scaling)) @ down
        return dx.reshape(shape)

    def rule_ab(g: Array) -> tuple[Array, Array]:
        g, rows = as_rows(g), saved()
        da = (g @ (up * scaling)).T @ rows  # (r, in)
        db = (rows @ down.T).T @ g  # (r, out): faster than its transpose, gᵀ (x Aᵀ)
        return da, (db * scaling).T.copy()

    return record(
        y.reshape(*shape[:-1], out_features),
        (x, rule_x),
        (weight, lambda g: as_rows(g).T @ saved()),
        (bias, lambda g: as_rows(g).sum(axis=0)),
        ((a, b), rule_ab),
    )
