"""pytest tests/test_ops.py: every operation against NumPy, central differences and its own float32 form.

A line of a table is an operation: how minilora says it, how NumPy says it, and on which numbers. Shapes, memory layouts
and values are drawn by Hypothesis.
"""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minilora import Tensor, backend, ops
from minilora.gradcheck import gradcheck
from minilora.tensor import gradients, wrap

# Inputs

LAYOUTS = ("C", "transposed", "reversed", "strided", "read-only")
layouts = st.sampled_from(LAYOUTS)
seeds = st.integers(0, 2**32 - 1)


def laid_out(a: np.ndarray, layout: str):
    """Return the values of `a` as an array of the backend, in memory as `layout` says."""
    if layout == "transposed":
        return backend.asarray(a.T.copy()).T
    if layout == "reversed" and a.ndim:
        back = (slice(None, None, -1),) * a.ndim
        return backend.asarray(a[back].copy())[back]
    if layout == "strided" and a.ndim:
        return backend.asarray(np.repeat(a, 2, axis=-1))[..., ::2]
    array = backend.asarray(a.copy())
    if layout == "read-only":
        backend.lock(array)
    return array


def leaf(a: np.ndarray, layout: str = "C") -> Tensor:
    """Return a Tensor that requires a gradient, with the values of `a` laid out in memory as `layout` says."""
    t = wrap(laid_out(a, layout))
    t.requires_grad = True
    return t


def draw(rng: np.random.Generator, shape, domain: str) -> np.ndarray:
    """Draw values for an operation: "any" real numbers, "positive" ones, or "apart": all different and none of them 0.

    "apart" keeps clear of the places where |x|, a clip at -0.5 or 0.7 and a maximum have no derivative.
    """
    if domain == "positive":
        return rng.uniform(0.5, 2, shape)
    if domain == "apart":
        size = int(np.prod(shape, dtype=int))
        return (rng.permutation(size).reshape(shape) - size // 2 + 0.25) * 0.3
    return rng.standard_normal(shape)


# The check


def check(ours, theirs, arrays: list[np.ndarray], layout: str = "C", tolerance: float = 1e-12) -> None:
    """Check values against NumPy, gradients against central differences, and that float32 stays float32."""
    tensors = [leaf(a, layout) for a in arrays]
    out, expected = ours(*tensors), np.asarray(theirs(*arrays))
    assert out.shape == expected.shape and out.dtype == np.float64
    np.testing.assert_allclose(out.numpy(), expected, rtol=tolerance, atol=tolerance)
    gradcheck(ours, *tensors)

    flow = np.random.default_rng(0).standard_normal(out.shape)
    wide = gradients(ours(*tensors), flow)
    narrow_tensors = [leaf(a.astype("float32"), layout) for a in arrays]
    narrow_out = ours(*narrow_tensors)
    assert narrow_out.dtype == np.float32
    np.testing.assert_allclose(narrow_out.numpy(), expected, rtol=1e-4, atol=1e-5)
    narrow = gradients(narrow_out, flow)
    assert len(narrow) == len(wide)
    for t64, t32 in zip(tensors, narrow_tensors, strict=True):
        if t64 in wide:
            assert narrow[t32].dtype == np.float32 and narrow[t32].shape == t32.shape
            np.testing.assert_allclose(backend.to_numpy(narrow[t32]), backend.to_numpy(wide[t64]), rtol=1e-3, atol=1e-4)


# Elementwise, one input. The same tensor may stand on both sides.

UNARY = {
    "-t": (lambda t: -t, np.negative, "any"),
    "exp": (lambda t: t.exp(), np.exp, "any"),
    "log": (lambda t: t.log(), np.log, "positive"),
    "sqrt": (lambda t: t.sqrt(), np.sqrt, "positive"),
    "tanh": (lambda t: t.tanh(), np.tanh, "any"),
    "sigmoid": (lambda t: t.sigmoid(), lambda a: 1 / (1 + np.exp(-a)), "any"),
    "abs": (lambda t: t.abs(), np.abs, "apart"),
    "abs()": (abs, np.abs, "apart"),
    "clip": (lambda t: t.clip(-0.5, 0.7), lambda a: np.clip(a, -0.5, 0.7), "apart"),
    "clip below": (lambda t: t.clip(-0.5), lambda a: np.clip(a, -0.5, None), "apart"),
    "clip above": (lambda t: t.clip(None, 0.7), lambda a: np.clip(a, None, 0.7), "apart"),
    "t + 2": (lambda t: t + 2, lambda a: a + 2, "any"),
    "2 + t": (lambda t: 2 + t, lambda a: a + 2, "any"),
    "t - 2.5": (lambda t: t - 2.5, lambda a: a - 2.5, "any"),
    "2 - t": (lambda t: 2 - t, lambda a: 2 - a, "any"),
    "t * 3": (lambda t: t * 3, lambda a: a * 3, "any"),
    "0.1 * t": (lambda t: 0.1 * t, lambda a: 0.1 * a, "any"),
    "t / 7": (lambda t: t / 7, lambda a: a / 7, "any"),
    "1 / t": (lambda t: 1 / t, lambda a: 1 / a, "apart"),
    "t ** 2": (lambda t: t**2, lambda a: a**2, "any"),
    "t ** 3.0": (lambda t: t**3.0, lambda a: a**3.0, "any"),
    "t ** 1": (lambda t: t**1, lambda a: a, "any"),
    "t ** 0": (lambda t: t**0, lambda a: a**0, "any"),
    "t ** -1": (lambda t: t**-1, lambda a: a**-1.0, "apart"),
    "t ** 0.5": (lambda t: t**0.5, np.sqrt, "positive"),
    "2 ** t": (lambda t: 2**t, lambda a: 2**a, "any"),
    "0.5 ** t": (lambda t: 0.5**t, lambda a: 0.5**a, "any"),
    "t + t": (lambda t: t + t, lambda a: a + a, "any"),
    "t - t": (lambda t: t - t, lambda a: a - a, "any"),
    "t * t": (lambda t: t * t, lambda a: a * a, "any"),
    "t / t": (lambda t: t / t, lambda a: a / a, "apart"),
    "t ** t": (lambda t: t**t, lambda a: a**a, "positive"),
    "maximum(t, t)": (lambda t: ops.maximum(t, t), lambda a: a, "any"),
    "maximum(t, 0.1)": (lambda t: ops.maximum(t, 0.1), lambda a: np.maximum(a, 0.1), "apart"),
    "minimum(0.1, t)": (lambda t: ops.minimum(0.1, t), lambda a: np.minimum(0.1, a), "apart"),
    "where(t, t * t, 1)": (lambda t: ops.where(t, t * t, 1), lambda a: np.where(a, a * a, 1), "apart"),
    "where(t > 0, t, 0)": (lambda t: ops.where(t > 0, t, 0), lambda a: np.where(a > 0, a, 0), "apart"),
    "t.T * t.T": (lambda t: t.T * t.T, lambda a: a.T * a.T, "any"),
    "concatenate(t, t)": (lambda t: ops.concatenate([t, t]), lambda a: np.concatenate([a, a]), "any"),
    "stack(t, t)": (lambda t: ops.stack([t, t]), lambda a: np.stack([a, a]), "any"),
}


@pytest.mark.parametrize("name", UNARY)
@given(shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), layout=layouts, seed=seeds)
def test_one_input(name, shape, layout, seed):
    ours, theirs, domain = UNARY[name]
    if name.startswith("concatenate") and not shape:
        shape = (2,)
    check(ours, theirs, [draw(np.random.default_rng(seed), shape, domain)], layout)


# Elementwise, two inputs that broadcast

BINARY = {
    "a + b": (lambda a, b: a + b, np.add, "any"),
    "a - b": (lambda a, b: a - b, np.subtract, "any"),
    "a * b": (lambda a, b: a * b, np.multiply, "any"),
    "a / b": (lambda a, b: a / b, np.divide, "apart"),
    "a ** b": (lambda a, b: a**b, np.power, "positive"),
    "maximum": (ops.maximum, np.maximum, "apart"),
    "minimum": (ops.minimum, np.minimum, "apart"),
}


@pytest.mark.parametrize("name", BINARY)
@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=3, min_side=0, max_side=3),
    layout=layouts,
    seed=seeds,
)
def test_two_inputs_broadcast(name, shapes, layout, seed):
    ours, theirs, domain = BINARY[name]
    rng = np.random.default_rng(seed)
    a, b = (draw(rng, shape, domain) for shape in shapes.input_shapes)
    if domain == "apart":
        b = b + 0.12  # halfway between neighbours: no element of a is one of b
    check(ours, theirs, [a, b], layout)


@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, min_dims=0, max_dims=3, min_side=0, max_side=3),
    layout=layouts,
    seed=seeds,
)
def test_where(shapes, layout, seed):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.standard_normal(shape) for shape in shapes.input_shapes)
    for condition in (Tensor(c > 0), laid_out(np.asarray(c > 0), layout)):
        check(lambda *ab, c=condition: ops.where(c, *ab), lambda *ab: np.where(c > 0, *ab), [a, b], layout)


# Reductions

REDUCTIONS = {
    "sum": (lambda t, **k: t.sum(**k), np.sum, "any"),
    "mean": (lambda t, **k: t.mean(**k), np.mean, "any"),
    "var": (lambda t, **k: t.var(**k), np.var, "any"),
    "max": (lambda t, **k: t.max(**k), np.max, "apart"),
    "min": (lambda t, **k: t.min(**k), np.min, "apart"),
    "logsumexp": (ops.logsumexp, lambda a, **k: np.log(np.sum(np.exp(a), **k)), "any"),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    keepdims=st.booleans(),
    layout=layouts,
    seed=seeds,
)
def test_reductions(name, data, shape, keepdims, layout, seed):
    ours, theirs, domain = REDUCTIONS[name]
    axes = st.none()
    if shape:
        axes |= st.integers(-len(shape), len(shape) - 1) | hnp.valid_tuple_axes(len(shape), min_size=1)
    axis = data.draw(axes)
    reduced = np.arange(len(shape))[list(np.atleast_1d(axis))] if axis is not None else range(len(shape))
    if name != "sum" and 0 in [shape[i] for i in reduced]:
        shape = tuple(n or 1 for n in shape)  # only a sum is defined over nothing
    a = draw(np.random.default_rng(seed), shape, domain)
    check(
        lambda t: ours(t, axis=axis, keepdims=keepdims), lambda a: theirs(a, axis=axis, keepdims=keepdims), [a], layout
    )


def test_var_divides_by_n():
    assert Tensor([1.0, 3.0]).var().item() == 1.0
    nothing = Tensor(np.empty((0, 2)), requires_grad=True)
    nothing.var(axis=1).sum().backward()
    assert nothing.grad.shape == (0, 2)


CORNERS = {  # where there is no derivative: calls, the inputs, and the sums of the gradient to each
    "max": (lambda t: t.max(), [[2.0, 2.0, 2.0]], 1),
    "min": (lambda t: t.min(), [[2.0, 2.0, 2.0]], 1),
    "max(axis)": (lambda t: t.max(axis=0), [[2.0, 2.0, 2.0]], 1),
    "min(axes)": (lambda t: t.min(axis=(0,)), [[2.0, 2.0, 2.0]], 1),
    "maximum": (ops.maximum, [[1.0, 1.0], [1.0, 1.0]], 2),
    "minimum": (ops.minimum, [[1.0, 1.0], [1.0, 1.0]], 2),
    "clip": (lambda t: t.clip(-1, 1) + 0 * t, [[2.0, -2.0]], 0),
}


@pytest.mark.parametrize("name", CORNERS)
def test_ties_give_a_subgradient(name):
    op, values, total = CORNERS[name]
    tensors = [Tensor(value, requires_grad=True) for value in values]
    op(*tensors).sum().backward()
    grads = np.concatenate([backend.to_numpy(t.grad) for t in tensors])
    assert ((grads >= 0) & (grads <= 1)).all() and grads.sum() == pytest.approx(total)


def test_logsumexp_neither_overflows_nor_vanishes():
    t = Tensor(np.array([[1000.0, 1000.0], [-1000.0, -1001.0], [0.0, -np.inf]]), requires_grad=True)
    out = ops.logsumexp(t, axis=1)
    np.testing.assert_allclose(out.numpy(), [1000 + np.log(2), -1000 + np.log1p(np.exp(-1)), 0.0], rtol=1e-15)
    out.sum().backward()
    np.testing.assert_allclose(backend.to_numpy(t.grad).sum(axis=1), 1)
    assert ops.logsumexp(Tensor([-np.inf, -np.inf]), axis=0).item() == -np.inf


def test_sigmoid_and_tanh_are_quiet_at_the_ends():
    """Limits are exact and there is no overflow warning (warnings are errors here)."""
    t = Tensor(np.array([-1e4, -90.0, 90.0, 1e4], dtype=np.float32), requires_grad=True)
    out = t.sigmoid()
    np.testing.assert_array_equal(out.numpy()[[0, 2, 3]], [0, 1, 1])
    out.sum().backward()
    assert np.isfinite(backend.to_numpy(t.grad)).all()
    np.testing.assert_array_equal(t.tanh().numpy(), [-1, -1, 1, 1])


def test_power_at_zero():
    """If a formula divides by zero, the gradient is its limit: there is no NaN and no warning."""
    a = Tensor(np.array([0.0, 0.0, 0.0, 2.0]), requires_grad=True)
    b = Tensor(np.array([0.0, 1.0, 2.0, 3.0]), requires_grad=True)
    (a**b).sum().backward()
    np.testing.assert_allclose(backend.to_numpy(a.grad), [0, 1, 0, 12])
    np.testing.assert_allclose(backend.to_numpy(b.grad), [0, 0, 0, 8 * np.log(2)])
    c = Tensor(np.array([-2.0, 0.0]), requires_grad=True)
    (c**2).sum().backward()
    np.testing.assert_allclose(backend.to_numpy(c.grad), [-4, 0])


def test_abs_and_clip_at_their_corners():
    t = Tensor([0.0, -0.0, -1.0, 1.0], requires_grad=True)
    (t.abs()[:2].sum() + t.clip(-1, 1)[2:].sum()).backward()
    assert (np.abs(backend.to_numpy(t.grad)) <= 1).all()


# Shapes


def of_shape(draw_more):
    """Draw (shape, parameter) such that the parameter fits the shape."""
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)
    return shapes.flatmap(lambda shape: st.tuples(st.just(shape), draw_more(shape)))


def permuted(shape):
    return st.permutations(range(len(shape))).flatmap(
        lambda order: st.tuples(*[st.sampled_from([i, i - len(shape)]) for i in order])
    )


def axis_pair(shape):
    return st.tuples(*[st.integers(-len(shape), len(shape) - 1)] * 2)


def refactored(shape):
    """Draw other shapes of the same size, with and without a -1."""
    size = int(np.prod(shape))
    others = [shape[::-1], (size,), (1, size), (size, 1, 1), (*shape, 1)]
    return st.sampled_from(others + ([(-1,), (1, -1), (-1, shape[-1])] if size else []))


def new_axes(shape):
    return st.integers(-len(shape) - 1, len(shape)) | st.sampled_from([(0, 2), (0, -1), (1, 0)])


def wider(shape):
    """Draw shapes that `shape` broadcasts to."""
    grown = tuple(3 if n == 1 else n for n in shape)
    return st.sampled_from([shape, grown, (2, *grown), (0, *shape), (2, 1, *shape)])


def joined(shape):
    return st.integers(-len(shape), len(shape) - 1)


SHAPES = {
    "reshape": (refactored, lambda t, p: t.reshape(*p), lambda a, p: a.reshape(p)),
    "reshape(tuple)": (refactored, lambda t, p: t.reshape(p), lambda a, p: a.reshape(p)),
    "transpose": (permuted, lambda t, p: t.transpose(*p), lambda a, p: a.transpose(p)),
    "transpose(tuple)": (permuted, lambda t, p: t.transpose(p), lambda a, p: a.transpose(p)),
    "transpose()": (st.just, lambda t, p: t.transpose(), lambda a, p: a.transpose()),
    "T": (st.just, lambda t, p: t.T, lambda a, p: a.T),
    "swapaxes": (axis_pair, lambda t, p: t.swapaxes(*p), lambda a, p: a.swapaxes(*p)),
    "expand_dims": (new_axes, lambda t, p: t.expand_dims(p), np.expand_dims),
    "squeeze": (st.just, lambda t, p: t.squeeze(), lambda a, p: a.squeeze()),
    "squeeze(axis)": (
        new_axes,
        lambda t, p: t.expand_dims(p).squeeze(axis=p),
        lambda a, p: np.expand_dims(a, p).squeeze(axis=p),
    ),
    "broadcast_to": (wider, lambda t, p: t.broadcast_to(p), np.broadcast_to),
    "concatenate": (
        joined,
        lambda t, p: ops.concatenate([t, 2 * t, backend.asarray(np.ones(t.shape, t.dtype)), t * t], axis=p),
        lambda a, p: np.concatenate([a, 2 * a, np.ones_like(a), a * a], axis=p),
    ),
    "stack": (
        lambda shape: st.integers(-len(shape) - 1, len(shape)),
        lambda t, p: ops.stack([t, t * t, 3 * t], axis=p),
        lambda a, p: np.stack([a, a * a, 3 * a], axis=p),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data(), layout=layouts, seed=seeds)
def test_shapes(name, data, layout, seed):
    parameters, ours, theirs = SHAPES[name]
    shape, p = data.draw(of_shape(parameters))
    if isinstance(p, tuple) and name.startswith(("expand", "squeeze")) and len(shape) + 2 <= max(p):
        p = 0
    a = draw(np.random.default_rng(seed), shape, "any")
    check(lambda t: ours(t, p), lambda a: theirs(a, p), [a], layout)


def test_shapes_of_one_number():
    calls = [lambda t: t.reshape(1, 1), lambda t: t.T, lambda t: t.squeeze(), lambda t: t.expand_dims(0)]
    for call in (*calls, lambda t: t.broadcast_to((2, 3)), lambda t: t.broadcast_to(3)):
        check(call, lambda a, call=call: np.broadcast_to(a, call(Tensor(1.0)).shape), [np.array(1.5)])


def test_joined_parts_may_differ_in_length_and_be_frozen_and_come_from_any_iterable():
    a, b, c = (Tensor(np.ones((2, length)), requires_grad=length != 3) for length in (1, 3, 2))
    out = ops.concatenate((t for t in (a, b, c)), axis=1)
    out.backward(backend.asarray(np.arange(12.0).reshape(2, 6)))
    np.testing.assert_array_equal(backend.to_numpy(a.grad), [[0], [6]])
    np.testing.assert_array_equal(backend.to_numpy(c.grad), [[4, 5], [10, 11]])
    assert b.grad is None and ops.stack(t for t in (a, a)).shape == (2, 2, 1)


# Indexing

basic = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3).flatmap(
    lambda shape: st.tuples(
        st.just(shape), hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True, max_dims=4)
    )
)
integers = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3).flatmap(
    lambda shape: st.tuples(
        st.just(shape),
        hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, min_side=0, max_side=4)),
    )
)
masks = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3).flatmap(
    lambda shape: st.tuples(st.just(shape), hnp.arrays(bool, shape))
)


@pytest.mark.parametrize("indices", [basic, integers, masks], ids=["basic", "integers", "masks"])
@given(data=st.data(), layout=layouts, seed=seeds)
def test_indexing(indices, data, layout, seed):
    shape, index = data.draw(indices)
    a = draw(np.random.default_rng(seed), shape, "any")
    check(lambda t: t[index], lambda a: a[index], [a], layout)


class Where:
    """An object with which `Where()[…]` is the index between the brackets."""

    def __getitem__(self, index):
        return index


at = Where()
MIXED = [
    at[[0, 2, 2]],
    at[np.array([0, 0, 0])],
    at[:, [1, 1, 3]],
    at[..., np.array([-1, -1])],
    at[None, 1, np.array([[0, 1], [1, 1]])],
    at[[0, 1], :, [0, 4]],
    at[[0, 1], 2, ::2],
    at[1:, [3, 3], ..., None],
    at[[[0], [1]], [2, 2, 3]],
    at[np.array([True, False, True])],
    at[:, np.array([True, False, True, True]), 0],
    at[np.arange(12).reshape(3, 4) % 3 == 0],
    at[np.arange(12).reshape(3, 4) % 3 == 0, 1:3],
    at[np.array([True, False, True]), [1, 1]],
    at[np.int64(1)],
    at[np.int64(1), np.array([2, 2])],
    at[np.array(2)],
    at[np.array([], dtype=int)],
    at[[]],
    at[-1],
    at[()],
    at[...],
    at[np.array([1, 2], dtype=np.uint8)],
    at[np.array([2, 0], dtype=np.uint64)],
    at[np.uint64(1), np.array([[3, 3]], dtype=np.uint64)],
    at[(0, 0, 1), (1, 1, 2)],
    at[range(2), (1, 1)],
    at[1:, (0, 0)],
]


@pytest.mark.parametrize("index", MIXED, ids=repr)
def test_indexing_mixed(index):
    check(lambda t: t[index], lambda a: a[index], [np.random.default_rng(0).standard_normal((3, 4, 5))])


def test_indexing_by_tensors_and_arrays_of_the_backend():
    a = np.random.default_rng(0).standard_normal((3, 4))
    for host in (np.array([2, 0, 2]), np.array([True, False, True])):
        for index in (host, backend.asarray(host), Tensor(host)):
            check(lambda t, index=index: t[index], lambda a, host=host: a[host], [a])
            check(lambda t, index=index: t[index, 1:], lambda a, host=host: a[host, 1:], [a])


@pytest.mark.parametrize(
    "index",
    [at[3], at[-4], at[np.array([0, 3])], at[np.array([-4])], at[[0, 3]], at[:, np.array([4])], at[0, [0], 0],
    at[..., [4]], at[None, [3]], at[np.array([True, False, True]), np.array([0, 4])],
    at[np.array([0, 2**63], dtype=np.uint64)], at[np.array([0.0])]], ids=repr,
)  # fmt: skip
def test_an_index_out_of_range_is_refused(index):
    t = Tensor(np.zeros((3, 4)), requires_grad=True)
    with pytest.raises(IndexError):
        t[index]


# Products


@given(
    shapes=hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, min_side=0, max_side=3),
    layout=layouts,
    seed=seeds,
)
def test_matmul(shapes, layout, seed):
    rng = np.random.default_rng(seed)
    check(lambda a, b: a @ b, np.matmul, [draw(rng, shape, "any") for shape in shapes.input_shapes], layout)


def test_matmul_of_a_tensor_with_itself():
    check(lambda t: t @ t, lambda a: a @ a, [np.random.default_rng(0).standard_normal((3, 3))])
    check(lambda t: t @ t.T, lambda a: a @ a.T, [np.random.default_rng(0).standard_normal((2, 3))])


@pytest.mark.parametrize(
    "bad", [lambda t: t @ 2, lambda t: t @ Tensor(np.ones((3, 3))), lambda t: t + Tensor(np.ones(4))]
)
def test_shapes_that_do_not_fit_are_refused(bad):
    with pytest.raises((ValueError, TypeError)):
        bad(Tensor(np.ones((3, 2))))


# What goes in


@pytest.mark.parametrize("bad", [None, "2", "two"])
def test_what_is_no_number_is_refused(bad):
    t = Tensor(np.ones(3))
    for use in (lambda: t + bad, lambda: bad * t, lambda: t @ bad, lambda: Tensor(bad)):
        with pytest.raises(TypeError, match=f"numbers or booleans, not {bad!r}"):
            use()


def test_float16_is_computed_with_in_float32():
    half = backend.asarray(np.full((1, 4), 300, "float16"))
    for product in (ops.multiply(half, half), Tensor(np.full(4, 300.0)) * half, ops.add(half, half) * 150.0):
        np.testing.assert_array_equal(product.numpy(), np.full((1, 4), 90_000, "float32"))
        assert product.dtype.kind == "f" and product.dtype != "float16"


SCALARS = [2, 2.0, True, np.float64(2), np.float32(2), np.float16(2), np.int64(2), np.int32(2), np.bool_(True)]
WITH_A_SCALAR = {
    "t + s": lambda t, s: t + s,
    "s + t": lambda t, s: s + t,
    "t - s": lambda t, s: t - s,
    "s - t": lambda t, s: s - t,
    "t * s": lambda t, s: t * s,
    "s * t": lambda t, s: s * t,
    "t / s": lambda t, s: t / s,
    "s / t": lambda t, s: s / t,
    "t ** s": lambda t, s: t**s,
    "s ** t": lambda t, s: s**t,
    "maximum": ops.maximum,
    "minimum": lambda t, s: ops.minimum(s, t),
    "where": lambda t, s: ops.where(t > 1, t, s),
    "clip": lambda t, s: t.clip(0, s),
    "concatenate": lambda t, s: ops.concatenate([t, t * s]),
    "backward": lambda t, s: Tensor(gradients((t * t)[0], s)[t]),
}


@pytest.mark.parametrize("name", WITH_A_SCALAR)
@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: f"{type(s).__name__}")
def test_a_scalar_never_widens(name, scalar):
    t = Tensor(np.array([1.5, 2.5], dtype=np.float32), requires_grad=True)
    out = WITH_A_SCALAR[name](t, scalar)
    assert isinstance(out, Tensor) and out.dtype == np.float32
    np.testing.assert_array_equal(out.numpy(), WITH_A_SCALAR[name](t, float(scalar)).numpy())
    if out.requires_grad:
        out.sum().backward()
        assert t.grad.dtype == np.float32


def test_python_numbers_become_float32():
    results = [ops.where(Tensor([1.0]) > 0, 1.0, 0.0), ops.exp(1.0), ops.maximum(1.0, 2.0), ops.add(1.0, 2.0)]
    assert {out.dtype for out in (*results, ops.exp([1.0]))} == {np.dtype("float32")}


@pytest.mark.parametrize("op", "add sub mul truediv pow matmul lt ge".split())
@pytest.mark.parametrize("on_device", [False, True])
def test_an_array_on_the_left(op, on_device):
    """NumPy must leave `array + tensor` to the tensor, not iterate over its elements."""
    op = getattr(operator, op)
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 1.0], [2.0, 4.0]])
    out = op(backend.asarray(a) if on_device else a, Tensor(b, requires_grad=True))
    assert isinstance(out, Tensor)
    np.testing.assert_allclose(out.numpy(), op(a, b))


def test_comparisons_give_booleans_without_a_graph():
    t = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    for out, expected in [(t < 2, [1, 0, 0]), (t <= 2, [1, 1, 0]), (t > 2, [0, 0, 1]), (2 <= t, [0, 1, 1])]:
        assert out.dtype == bool and not out.requires_grad
        np.testing.assert_array_equal(out.numpy(), np.array(expected, dtype=bool))


@pytest.mark.parametrize("other", [np.float32, np.float64, np.int64, bool])
@pytest.mark.parametrize("op", [ops.add, ops.subtract, ops.multiply, ops.maximum, ops.matmul])
def test_gradients_keep_their_leafs_dtype(op, other):
    a = Tensor(np.array([[1.5, 2.0], [0.5, 3.0]], dtype=np.float32), requires_grad=True)
    b = Tensor(np.array([[1, 0], [1, 1]]).astype(other), requires_grad=other in (np.float32, np.float64))
    op(a, b).sum().backward()
    assert a.grad.dtype == np.float32
    if b.requires_grad:
        assert b.grad.dtype == other
