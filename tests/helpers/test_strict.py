"""pytest tests/helpers/test_strict.py

The stand-in for CuPy rejects what CuPy rejects, and counts when CuPy would wait."""

import copy
import operator

import numpy as np
import pytest

from tests.helpers import strict
from tests.helpers.strict import SilentWrap, StrictArray

pytestmark = pytest.mark.host

device = strict.load()
xp = device.namespace


def on_device(values, dtype=np.float32) -> StrictArray:
    return device.from_host(np.array(values, dtype=dtype))


def fetch(a) -> np.ndarray:
    assert type(a) is StrictArray
    return device.to_host(a)


@pytest.fixture
def a():
    return on_device([[1, 2, 3], [4, 5, 6]])


# Nothing leaves or enters by itself


@pytest.mark.parametrize("host", [np.ones((2, 3), np.float32), np.float32(2), np.float64(2), np.int64(2), np.True_])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "lt", "eq", "iadd", "imul"])
def test_operators_refuse_numpys_arrays_and_scalars(a, name, host):
    with pytest.raises(TypeError, match="backend.asarray"):
        getattr(operator, name)(a, host)
    if not name.startswith("i"):
        with pytest.raises(TypeError, match="backend.asarray"):
            getattr(operator, name)(host, a)


@pytest.mark.parametrize(
    "call",
    [
        # implicit conversion, and NumPy's own functions, which CuPy would pass on to its own
        lambda a, host: np.asarray(a),
        lambda a, host: np.array([a, a]),
        lambda a, host: np.float32(a[0, 0]),
        lambda a, host: np.sum(a),
        lambda a, host: np.shape(a),
        lambda a, host: np.where(a, 1, 0),
        # NumPy's arrays and scalars
        lambda a, host: a @ host.T,
        lambda a, host: host.T @ a,
        lambda a, host: xp.add(a, host),
        lambda a, host: xp.add(host, host),
        lambda a, host: xp.exp(host),
        lambda a, host: xp.exp(a, out=host),
        lambda a, host: xp.sum(host),
        lambda a, host: xp.concatenate([a, host]),
        lambda a, host: xp.concatenate((host, host)),
        lambda a, host: xp.where(a > 0, a, host),
        lambda a, host: xp.where(a > 0, a, np.float32(0)),
        lambda a, host: xp.where(host > 0, a, a),
        lambda a, host: xp.maximum(a, np.float64(0)),
        lambda a, host: xp.einsum("ij,ij->i", a, host),
        lambda a, host: xp.matmul(a, host.T),
        lambda a, host: xp.full((2,), np.float32(1)),
        lambda a, host: xp.array(host),
        lambda a, host: xp.linalg.norm(host),
        lambda a, host: a.dot(host.T),
        lambda a, host: a.clip(min=host),
        lambda a, host: xp.add.at(a, 0, host[0]),
        lambda a, host: xp.add.at(host, 0, a[0]),
        lambda a, host: xp.clip(a, xp.finfo(xp.float32).min, 0),
        lambda a, host: operator.setitem(a, 0, host[0]),
        lambda a, host: operator.setitem(a, 0, np.float32(1)),
        # lists and objects
        lambda a, host: xp.sum([1.0, 2.0]),
        lambda a, host: xp.exp([1.0]),
        lambda a, host: xp.stack([[1.0], [2.0]]),
        lambda a, host: operator.setitem(a, 0, [1.0, 2.0, 3.0]),
        lambda a, host: xp.exp(object()),
        lambda a, host: xp.asarray([object()]),
        lambda a, host: a + object(),
        # parameters that CuPy lacks
        lambda a, host: xp.sum(a, where=a > 0),
        lambda a, host: xp.max(a, initial=0.0),
        lambda a, host: a.mean(where=a > 0),
        lambda a, host: xp.einsum("ij->i", a, out=a[:, 0]),
        lambda a, host: xp.exp(a, order="C"),
        lambda a, host: xp.sum(a, 0, None, None, False, 0.0),
    ],
)
def test_what_cupy_does_not_take_is_refused(a, call):
    with pytest.raises(TypeError):
        call(a, np.ones((2, 3), np.float32))


def test_the_host_gets_and_gives_copies():
    host = np.zeros(3, np.float32)
    a = device.from_host(host)
    host[0] = 1
    fetched = fetch(a)
    fetched[1] = 2
    assert fetch(a).tolist() == [0, 0, 0]


# Python's protocols


def test_iteration_is_refused(a):
    for iterate in (iter, list, lambda a: [*a], lambda a: dict(zip(a, a, strict=True))):
        with pytest.raises(TypeError, match="iteration"):
            iterate(a)
    with pytest.raises(TypeError):
        1.0 in a  # noqa: B015


def test_an_array_is_no_index(a):
    n = on_device(2, np.int64)
    for call in (range, operator.index, lambda n: [1, 2, 3][n], lambda n: a[:n], xp.zeros, xp.arange, a.reshape):
        with pytest.raises(TypeError):
            call(n)
    with pytest.raises(TypeError):
        xp.sum(a, axis=on_device(0, np.int64))


def test_what_is_known_without_the_device(a):
    strict.reset_syncs()
    assert (a.shape, a.ndim, a.size, len(a), a.dtype, a.itemsize, a.nbytes) == ((2, 3), 2, 6, 2, np.float32, 4, 24)
    assert a.flags.c_contiguous and not a.T.flags.c_contiguous
    assert not hasattr(a.flags, "writeable")
    assert a.base is None and a[0].base is not None
    with pytest.raises(TypeError):
        len(a.sum())
    with pytest.raises(TypeError):
        hash(a)
    assert strict.sync_count() == 0


@pytest.mark.parametrize(
    "wait",
    [bool, int, float, complex, str, repr, lambda x: x.item(), lambda x: x.get(), lambda x: x.tolist(), device.to_host]
    + [lambda x: 1 if x > 0 else 2, lambda x: xp.where(x[None]), xp.flatnonzero, xp.unique, lambda x: x[x > 0]],
)
def test_what_waits_is_counted(wait):
    x = on_device(3)
    strict.reset_syncs()
    wait(x)
    assert strict.sync_count() == 1
    wait(x)
    assert strict.sync_count() == 2
    strict.reset_syncs()
    assert strict.sync_count() == 0


def test_assigning_through_a_mask_waits(a):
    strict.reset_syncs()
    a[a > 2] = 0
    assert strict.sync_count() == 1
    assert fetch(a).tolist() == [[1, 2, 0], [0, 0, 0]]


def test_arithmetic_does_not_wait(a):
    strict.reset_syncs()
    ids = on_device([1, 1, 0], np.int64)
    b = xp.where(a > 2, a, 0.0) @ a.T + xp.exp(-a).sum(axis=1, keepdims=True)
    b += a[ids][:2, :2]
    b[ids] = 1.0
    xp.add.at(b, ids, 1.0)
    xp.matmul(a, a.T, out=b)
    xp.allclose(a, a)
    copy.deepcopy(b)
    assert strict.sync_count() == 0


# Values


def test_numbers_are_weak_and_arrays_are_not(a):
    assert all(x.dtype == np.float32 for x in (a + 1, 2.0 * a, a**2, 1 / a, xp.maximum(a, 0.0)))
    assert (a + on_device(1, np.float64)).dtype == np.float64
    b = a
    b *= 0.5
    assert b is a and fetch(a)[0].tolist() == [0.5, 1.0, 1.5]
    with pytest.raises(TypeError):
        c = on_device([1], np.int64)
        c += 0.5


def test_results_are_arrays_where_numpy_gives_scalars(a):
    row = a[0]
    reduced = [a.sum(), xp.sum(a), a.max(), xp.linalg.norm(a), xp.dot(row, row), row @ row]
    compared = [xp.allclose(a, a), xp.array_equal(a, a), xp.count_nonzero(a)]
    for result in [*reduced, *compared, a[0, 1], xp.exp(1.0)]:
        assert type(result) is StrictArray and result.shape == ()
    assert type(xp.split(a, 3, axis=1)[2]) is StrictArray
    assert xp.result_type(a, xp.float64) == np.float64 and xp.broadcast_shapes((2, 1), (3,)) == (2, 3)


def test_one_element_is_a_view(a):
    a[1, 2].fill(0)
    assert fetch(a)[1].tolist() == [4, 5, 0]


def test_an_array_that_comes_back_is_the_same_object(a):
    out = xp.empty((2, 3), dtype=xp.float32)
    assert xp.add(a, a, out=out) is out and a.sum(axis=0, out=out[0]) is not out
    assert xp.asarray(a) is a and a.astype(xp.float32, copy=False) is a and a.astype(xp.float32) is not a


def test_floating_point_warnings_are_silent(a):
    assert fetch(xp.log(a * 0.0) / 0.0)[0, 0] == -np.inf
    big = on_device([3e38])
    big *= 10
    assert fetch(big)[0] == np.inf


# Indices


@pytest.mark.parametrize("bad", [[0, 2], [-3]])
@pytest.mark.parametrize(
    "use",
    [
        lambda a, i: a[i],
        lambda a, i: a[i, :],
        lambda a, i: a.T[..., i],
        lambda a, i: a.T[1, i],
        lambda a, i: a.T[:, ..., i],
        lambda a, i: a.T[None, ..., i],
        lambda a, i: xp.stack([a, a])[:, i, ...],
        lambda a, i: a[None, i],
        lambda a, i: a.T[a.T[:, 0] > 0, i],
        lambda a, i: operator.setitem(a, i, 0.0),
        lambda a, i: xp.add.at(a, i, 1.0),
    ],
)
def test_index_arrays_out_of_range_are_caught(a, use, bad):
    with pytest.raises(SilentWrap):
        use(a, on_device(bad, np.int64))
    assert not issubclass(SilentWrap, IndexError)


def test_numbers_out_of_range_are_index_errors(a):
    for key in (2, -3, (0, 3), (slice(None), None, 3)):
        with pytest.raises(IndexError):
            a[key]


@pytest.mark.parametrize("key", [np.array([0, 1]), np.array([True, False]), [0, 1], True, 1.0, (0, [1]), "0"])
def test_what_is_no_index(a, key):
    with pytest.raises(TypeError):
        a[key]
    with pytest.raises(TypeError):
        a[key] = 0.0
    with pytest.raises(TypeError):
        xp.add.at(a, key, 1.0)


def test_repeated_indices_add_up_where_cupy_can(a):
    xp.add.at(a, on_device([0, 0], np.int64), on_device([[1, 1, 1], [2, 2, 2]]))
    assert fetch(a)[0].tolist() == [4, 5, 6]
    with pytest.raises(TypeError, match="int64"):
        xp.add.at(on_device([0, 0], np.int64), on_device([0], np.int64), 1)
    with pytest.raises(NotImplementedError):
        xp.multiply.at(a, on_device([0], np.int64), 2.0)


# Names


def test_names_that_cupy_lacks_are_not_there(a):
    for name in ("errstate", "nditer", "block", "random", "frombuffer", "set_printoptions", "asnumpy", "take"):
        assert not hasattr(xp, name), name
    for name in ("setflags", "strides", "ctypes", "__index__", "__array_interface__", "__imatmul__", "newbyteorder"):
        assert not hasattr(a, name), name
