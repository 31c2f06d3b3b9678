"""Linear maps: x Wᵀ + b, the same with a low-rank update, and rows of a table by id."""

from collections.abc import Callable

from minilora import backend
from minilora.backend import Array, xp
from minilora.functional.rows import as_rows, saved_rows
from minilora.ops import number, raw
from minilora.tensor import Operand, Tensor, record

# The plain forms


def plain_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b."""
    y = x @ weight.T
    return y if bias is None else y + bias


def plain_low_rank_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float
) -> Tensor:
    """W x + s B A x (Hu et al. 2021, equation 3)."""
    return plain_linear(x, weight, bias) + (x @ a.T) @ b.T * scaling


# The fused forms


def _weight_maker(weight: Operand) -> Callable[[], Array]:
    """A function that returns the array of a weight: the one that a Tensor holds, or one made anew at each call."""
    if callable(weight):
        return weight  # type: ignore[no-any-return]
    array = raw(weight)
    return lambda: array


_FEW_ROWS, _LARGE_WEIGHT = 6, 2**16  # rows and elements between which `few_rows_product` was measured to be faster


def few_rows_product(rows: Array, weight: Array) -> Array:
    """rows @ weight.T, each row times a block of the weight that stays in a core's cache: (N, in) to (N, out).

    For 2 to 6 rows: the tokens that a decoding step verifies, or a small batch. BLAS copies a weight into another order
    for a product of more than one row, and has no use for that copy here. Blocks are of 8 rows of the weight or more,
    as BLAS groups them itself, so that a row is rounded as it is alone.
    """
    out_features = weight.shape[0]
    y, columns = xp.empty((rows.shape[0], out_features), dtype=rows.dtype), rows[:, :, None]
    for s in backend.row_blocks(-(-out_features // 8), 8 * weight[:1].nbytes):
        part = slice(8 * s.start, 8 * s.stop)
        y[:, part] = (weight[part] @ columns)[..., 0]  # (N, part, 1)
    return y


def _product(rows: Array, weight: Array) -> Array:
    """rows @ weight.T by the faster way. ValueError if the rows do not have the weight's width."""
    if rows.shape[1:] != weight.shape[1:]:
        raise ValueError(f"an input of width {rows.shape[1]} does not fit a weight of shape {weight.shape}, (out, in)")
    is_few = 1 < rows.shape[0] <= _FEW_ROWS and weight.size >= _LARGE_WEIGHT and backend.is_cpu()
    if is_few and weight.flags.c_contiguous and rows.dtype == weight.dtype:
        return few_rows_product(rows, weight)
    return rows @ weight.T


def linear(x: Operand, weight: Operand, bias: Operand = None) -> Tensor:
    """x Wᵀ + b. x: (..., in); weight: (out, in); bias: (out,); result: (..., out).

    weight may also be a function that makes the array of a frozen weight (from 4 bits, say). Backward calls it again,
    so that the array does not live in between.
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
    """Row `ids[...]` of the weight for each id. ids: integers (...); weight: (V, C); result: (..., C).

    Raises IndexError for an id outside 0 … V-1.
    """
    w = raw(weight)
    ids = ids._data if isinstance(ids, Tensor) else ids
    index = backend.checked_indices(ids, w.shape[0], "token id")
    size, width = w.shape
    return record(w[index], (weight, lambda g: backend.add_rows(size, index.reshape(-1), g.reshape(-1, width))))


def low_rank_linear(x: Operand, weight: Operand, bias: Operand, a: Operand, b: Operand, scaling: float) -> Tensor:
    """x (W + s B A)ᵀ + bias: a linear map with a low-rank update, as one node (LoRA, Hu et al. 2021, section 4.1).

    x: (..., in); weight: (out, in); bias: (out,) or None; a: (r, in); b: (out, r); result: (..., out).
    With many rows the update is added to the weight first, which costs r products an element of W and saves a pass over
    the result; with few rows the two thin products are cheaper. The sum W + s B A is computed again in backward, not
    saved. As in `linear`, weight may be a function that makes the frozen array.
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
