"""Operations on tensors, each with its gradient rules directly under it.

Arguments are Tensors, arrays of the backend or Python numbers; names and semantics are NumPy's. A rule takes the
gradient `g` of the result and returns the gradient of one input. It closes over raw arrays, so they are freed when the
rule is dropped.
"""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

from minilora import backend
from minilora.backend import Array, xp
from minilora.tensor import Axis, Operand, Tensor, is_recording, record, wrap

# Helpers


def raw(x: Operand) -> Array:
    """Return a Tensor's array, or an array-like as an array of the backend; Python numbers and float16 become float32.

    A Tensor's array is read-only while a graph needs it. A plain array is copied if operations are being recorded,
    because the caller may write into it before backward.
    """
    if isinstance(x, Tensor):
        return x._data
    if not hasattr(x, "dtype"):
        return Tensor(x)._data
    array = backend.asarray(x)
    if array.dtype == xp.float16:
        return array.astype(xp.float32)
    return array.copy() if array is x and is_recording() else array


def number(x: Any) -> Any:
    """Turn a NumPy scalar into a Python number, which never widens a float32 array; return anything else unchanged."""
    is_scalar = getattr(x, "shape", None) == () and not isinstance(x, Tensor) and not backend.is_array(x)
    return x.item() if is_scalar else x


def raw_pair(a: Operand, b: Operand) -> tuple[Array, Array]:
    """Return the arrays of two inputs; a number beside an array stays a Python number, to take the array's dtype."""
    a, b = number(a), number(b)
    x = a if isinstance(a, (bool, int, float)) else raw(a)
    y = b if isinstance(b, (bool, int, float)) else raw(b)
    return (x, y) if hasattr(x, "dtype") or hasattr(y, "dtype") else (raw(x), y)


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum `g` over the axes along which an array of `shape` was repeated to give the shape of `g`."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1)
    return g.sum(axis=axes, keepdims=True).reshape(shape)


def unbroadcast_to(x: Array) -> Callable[[Array], Array]:
    """Return `unbroadcast` to the shape of `x`, without keeping `x` alive."""
    shape = getattr(x, "shape", ())
    return lambda g: unbroadcast(g, shape)


def _positive_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return tuple(a + ndim if a < 0 else a for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))


def restore_axes(shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Callable[[Array], Array]:
    """Return a function that gives a reduced array its reduced axes back, with length 1."""
    axes = _positive_axes(axis, len(shape))
    with_ones = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return lambda g: g if keepdims else g.reshape(with_ones)


def check_axis_is_not_empty(what: str, shape: tuple[int, ...], axis: Axis) -> None:
    """Raise ValueError if the axis has no elements, for an operation `what` that is not defined then."""
    if 0 in shape and not _count(shape, axis):
        raise ValueError(f"{what} over an axis without elements: axis {axis} of shape {shape}")


def compare(relation: Callable[[Any, Any], Any], a: Tensor, b: object) -> Tensor:
    """Compare elementwise by `relation` (such as `operator.lt`); returns a boolean Tensor outside every graph, or
    NotImplemented, which leaves the answer to Python, if b is not a tensor, an array or numbers.
    """
    if not isinstance(b, (Tensor, bool, int, float, list, tuple)) and not hasattr(b, "dtype"):
        return NotImplemented  # type: ignore[no-any-return]
    return wrap(relation(*raw_pair(a, b)))


# Elementwise, two inputs


def add(a: Operand, b: Operand) -> Tensor:
    x, y = raw_pair(a, b)
    return record(x + y, (a, unbroadcast_to(x)), (b, unbroadcast_to(y)))


def subtract(a: Operand, b: Operand) -> Tensor:
    x, y = raw_pair(a, b)
    to_b = unbroadcast_to(y)
    return record(x - y, (a, unbroadcast_to(x)), (b, lambda g: to_b(-g)))


def multiply(a: Operand, b: Operand) -> Tensor:
    x, y = raw_pair(a, b)
    to_a, to_b = unbroadcast_to(x), unbroadcast_to(y)
    return record(x * y, (a, lambda g: to_a(g * y)), (b, lambda g: to_b(g * x)))


def divide(a: Operand, b: Operand) -> Tensor:
    x, y = raw_pair(a, b)
    to_a, to_b = unbroadcast_to(x), unbroadcast_to(y)
    return record(x / y, (a, lambda g: to_a(g / y)), (b, lambda g: to_b(-g * x / (y * y))))


def power(a: Operand, b: Operand) -> Tensor:
    """Compute a ** b. The gradient of a is 0 where b is 0; the gradient of b is 0 where a is 0 and b >= 0."""
    x, y = raw_pair(a, b)
    out = x**y
    to_a, to_b = unbroadcast_to(x), unbroadcast_to(y)

    def rule_a(g: Array) -> Array:
        with backend.errstate():
            return to_a(xp.where(xp.asarray(y) == 0, 0, g * y * x ** (y - 1)))

    def rule_b(g: Array) -> Array:
        with backend.errstate():
            x_array = xp.asarray(x, dtype=out.dtype)
            return to_b(g * xp.where((x_array == 0) & (xp.asarray(y) >= 0), 0, out * xp.log(x_array)))

    return record(out, (a, rule_a), (b, rule_b))


def maximum(a: Operand, b: Operand) -> Tensor:
    """Take the larger of both, elementwise. Where they are equal, each gets half of the gradient."""
    x, y = raw_pair(a, b)
    return _pick(xp.maximum(x, y), a, b, x, y)


def minimum(a: Operand, b: Operand) -> Tensor:
    """Take the smaller of both, elementwise. Where they are equal, each gets half of the gradient."""
    x, y = raw_pair(a, b)
    return _pick(xp.minimum(x, y), a, b, x, y)


def _pick(out: Array, a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    to_a, to_b = unbroadcast_to(x), unbroadcast_to(y)

    def share(mine: Array, other: Array, g: Array) -> Array:  # 1 where `mine` was picked, 1/2 where both were
        return g * ((mine == out).astype(g.dtype) / ((mine == out).astype(g.dtype) + (other == out)).clip(1))

    return record(out, (a, lambda g: to_a(share(x, y, g))), (b, lambda g: to_b(share(y, x, g))))


def where(condition: Operand, a: Operand, b: Operand) -> Tensor:
    """Select `a` where `condition` (booleans) is True, and `b` elsewhere."""
    chosen = raw(condition)
    x, y = raw_pair(a, b)
    to_a, to_b = unbroadcast_to(x), unbroadcast_to(y)
    return record(
        xp.where(chosen, x, y),
        (a, lambda g: to_a(xp.where(chosen, g, 0))),
        (b, lambda g: to_b(xp.where(chosen, 0, g))),
        (condition, lambda g: None),  # no gradient; listed so that its array is locked as well
    )


# Elementwise, one input


def negative(a: Operand) -> Tensor:
    return record(-raw(a), (a, lambda g: -g))


def exp(a: Operand) -> Tensor:
    y = xp.exp(raw(a))
    return record(y, (a, lambda g: g * y))


def log(a: Operand) -> Tensor:
    x = raw(a)
    return record(xp.log(x), (a, lambda g: g / x))


def sqrt(a: Operand) -> Tensor:
    y = xp.sqrt(raw(a))
    return record(y, (a, lambda g: g / (2 * y)))


def tanh(a: Operand) -> Tensor:
    y = xp.tanh(raw(a))
    return record(y, (a, lambda g: g * (1 - y * y)))


def sigmoid_array(x: Array) -> Array:
    """Compute 1 / (1 + exp(-x)) of an array; exp may overflow to inf, which correctly gives 0."""
    with backend.errstate():
        return 1 / (1 + xp.exp(-x))


def sigmoid(a: Operand) -> Tensor:
    y = sigmoid_array(raw(a))
    return record(y, (a, lambda g: g * y * (1 - y)))


def absolute(a: Operand) -> Tensor:
    """Compute |a|. The gradient at 0 is 0."""
    x = raw(a)
    return record(abs(x), (a, lambda g: g * xp.sign(x)))


def clip(a: Operand, min: float | None = None, max: float | None = None) -> Tensor:
    """Limit a to [min, max], two numbers. The gradient passes where a lies within, bounds included."""
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise TypeError("clip takes numbers; ops.maximum and ops.minimum take tensors and compute their gradients")
    x, minimum, maximum = raw(a), number(min), number(max)

    def rule(g: Array) -> Array:
        inside = xp.ones(x.shape, dtype=bool)
        if minimum is not None:
            inside &= x >= minimum
        if maximum is not None:
            inside &= x <= maximum
        return g * inside

    return record(xp.clip(x, minimum, maximum), (a, rule))


# Reductions: `axis` is a number, a tuple, or None for all axes


def sum(a: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:  # noqa: A001 (NumPy's name)
    x = raw(a)
    shape, restore = x.shape, restore_axes(x.shape, axis, keepdims)
    return record(x.sum(axis=axis, keepdims=keepdims), (a, lambda g: xp.broadcast_to(restore(g), shape)))


def mean(a: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    x = raw(a)
    shape, restore = x.shape, restore_axes(x.shape, axis, keepdims)
    count = _count(shape, axis)
    return record(x.mean(axis=axis, keepdims=keepdims), (a, lambda g: xp.broadcast_to(restore(g) / count, shape)))


def var(a: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Compute the mean squared distance from the mean: divides by n, not n - 1."""
    x = raw(a)
    restore = restore_axes(x.shape, axis, keepdims)
    centred = x - x.mean(axis=axis, keepdims=True)
    count = _count(x.shape, axis)
    return record(
        (centred * centred).mean(axis=axis, keepdims=keepdims), (a, lambda g: restore(g) * centred * (2 / (count or 1)))
    )


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    return prod(shape[i] for i in _positive_axes(axis, len(shape)))


def max(a: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:  # noqa: A001
    """Reduce to the largest element. Elements that tie share the gradient evenly."""
    x = raw(a)
    return _extreme(a, x, x.max(axis=axis, keepdims=True), axis, keepdims)


def min(a: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:  # noqa: A001
    """Reduce to the smallest element. Elements that tie share the gradient evenly."""
    x = raw(a)
    return _extreme(a, x, x.min(axis=axis, keepdims=True), axis, keepdims)


def _extreme(a: Operand, x: Array, extreme: Array, axis: Axis, keepdims: bool) -> Tensor:
    restore = restore_axes(x.shape, axis, keepdims)
    out = extreme if keepdims else extreme.squeeze(axis=_positive_axes(axis, x.ndim))

    def rule(g: Array) -> Array:
        ties = (x == extreme).astype(g.dtype)
        return restore(g) * (ties / ties.sum(axis=axis, keepdims=True))

    return record(out, (a, rule))


def logsumexp(a: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Compute log(sum(exp(a))) so that large values neither overflow nor lose digits."""
    x = raw(a)
    check_axis_is_not_empty("logsumexp", x.shape, axis)
    restore = restore_axes(x.shape, axis, keepdims)
    top = x.max(axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0)
    exps = xp.exp(x - top)
    total = exps.sum(axis=axis, keepdims=True)
    with backend.errstate():
        result = xp.log(total) + top
    out = result if keepdims else result.squeeze(axis=_positive_axes(axis, x.ndim))
    return record(out, (a, lambda g: restore(g) * (exps / total)))


# Shapes


def reshape(a: Operand, *shape: Any) -> Tensor:
    x = raw(a)
    old = x.shape
    return record(x.reshape(*shape), (a, lambda g: g.reshape(old)))


def transpose(a: Operand, *axes: Any) -> Tensor:
    """Permute the axes into the given order (a tuple or separate numbers); by default, reverse them."""
    x = raw(a)
    order = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))) else axes
    order = tuple(order) if order else tuple(reversed(range(x.ndim)))
    back = [0] * x.ndim
    for new, old in enumerate(_positive_axes(order, x.ndim)):
        back[old] = new
    return record(x.transpose(order), (a, lambda g: g.transpose(back)))


def swapaxes(a: Operand, axis1: int, axis2: int) -> Tensor:
    return record(raw(a).swapaxes(axis1, axis2), (a, lambda g: g.swapaxes(axis1, axis2)))


def squeeze(a: Operand, axis: Axis = None) -> Tensor:
    x = raw(a)
    old = x.shape
    return record(x.squeeze(axis=axis), (a, lambda g: g.reshape(old)))


def expand_dims(a: Operand, axis: int | tuple[int, ...]) -> Tensor:
    x = raw(a)
    old = x.shape
    return record(xp.expand_dims(x, axis), (a, lambda g: g.reshape(old)))


def broadcast_to(a: Operand, shape: int | tuple[int, ...]) -> Tensor:
    x = raw(a)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return record(xp.broadcast_to(x, shape), (a, unbroadcast_to(x)))


def concatenate(tensors: Iterable[Operand], axis: int = 0) -> Tensor:
    tensors = [number(t) for t in tensors]
    arrays = [raw(t) for t in tensors]
    out = xp.concatenate(arrays, axis=axis)
    axis %= out.ndim
    edges, start = [], 0
    for tensor, array in zip(tensors, arrays, strict=True):
        part = (slice(None),) * axis + (slice(start, start + array.shape[axis]),)
        edges.append((tensor, lambda g, part=part: g[part]))
        start += array.shape[axis]
    return record(out, *edges)


def stack(tensors: Iterable[Operand], axis: int = 0) -> Tensor:
    tensors = [number(t) for t in tensors]
    out = xp.stack([raw(t) for t in tensors], axis=axis)
    before = (slice(None),) * (axis % out.ndim)
    return record(out, *[(tensor, lambda g, i=i: g[(*before, i)]) for i, tensor in enumerate(tensors)])


# Indexing


def getitem(a: Operand, index: Any) -> Tensor:
    """Index with slices, numbers, None, ... and arrays of integers or booleans; gradients of repeated indices add up.

    Raises IndexError for an integer out of range, on both backends.
    """
    x = raw(a)
    index, is_basic = _checked_index(index, x.shape)
    shape, dtype = x.shape, x.dtype

    def rule(g: Array) -> Array:
        out = xp.zeros(shape, dtype=dtype)
        if is_basic:
            out[index] = g
        else:
            xp.add.at(out, index, g)  # repeated indices add up
        return out

    return record(x[index], (a, rule))


def _checked_index(index: Any, shape: tuple[int, ...]) -> tuple[tuple[Any, ...], bool]:
    """Return (index for an array of the backend, True if no array is in it). Raises IndexError if it does not fit."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [item._data if isinstance(item, Tensor) else item for item in items]
    arrays = [hasattr(item, "dtype") or isinstance(item, list | tuple | range) for item in items]
    if not any(arrays):
        return tuple(items), True
    host = [_host_index(item) if array else item for item, array in zip(items, arrays, strict=True)]
    backend.check_index(tuple(host), shape)
    copies = [backend.asarray(item.copy()) if array else item for item, array in zip(host, arrays, strict=True)]
    return tuple(copies), False  # copies: the caller's arrays may change before backward


def _host_index(item: Any) -> Array:
    host = backend.to_numpy(item)
    return host.astype(int) if not hasattr(item, "dtype") and not host.size else host


# Products


def matmul(a: Operand, b: Operand) -> Tensor:
    """Multiply as NumPy's `@`: matrices in the last two axes, the others broadcast; 1-d inputs are vectors."""
    x, y = raw(a), raw(b)
    out = x @ y
    to_a, to_b = unbroadcast_to(x), unbroadcast_to(y)
    x_is_vector, y_is_vector = x.ndim == 1, y.ndim == 1
    left = x[None, :] if x_is_vector else x  # (…, M, K)
    right = y[:, None] if y_is_vector else y  # (…, K, N)

    def matrix(g: Array) -> Array:  # the gradient as (…, M, N)
        if y_is_vector:
            g = g[..., None]
        return g[..., None, :] if x_is_vector else g

    def rule_a(g: Array) -> Array:
        da = matrix(g) @ right.swapaxes(-1, -2)  # (…, M, K)
        return to_a(da[..., 0, :] if x_is_vector else da)

    def rule_b(g: Array) -> Array:
        db = left.swapaxes(-1, -2) @ matrix(g)  # (…, K, N)
        return to_b(db[..., 0] if y_is_vector else db)

    return record(out, (a, rule_a), (b, rule_b))
