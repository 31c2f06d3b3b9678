"""pytest tests/test_backend.py: the switch between array libraries, the border to the host, and the quirks behind."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilora.backend
from minilora import backend
from minilora.backend import xp
from minilora.errors import MiniloraError

# The switch


@pytest.mark.host
def test_use_as_a_call_stays_and_as_a_block_comes_back():
    def active(name):
        return backend.name == name and isinstance(xp.zeros(2), np.ndarray) == (name == "numpy")

    backend.use("strict")
    assert active("strict")
    backend.use("numpy")
    assert active("numpy")
    with backend.use("strict"):
        with backend.use("numpy"):
            with backend.use("numpy"):
                pass
            assert active("numpy")
        assert active("strict")
    assert active("numpy")
    with pytest.raises(KeyError), backend.use("strict"):
        raise KeyError
    assert active("numpy")


def test_xp_stays_valid_and_public(backend_name):
    assert backend.name == backend_name
    assert xp is backend.xp is minilora.backend.xp
    assert not [name for name in vars(xp) if name.startswith("_")]
    with backend.use("numpy"):
        assert xp.errstate is np.errstate
    assert hasattr(xp, "errstate") == (backend_name == "numpy")  # what NumPy alone has is gone, not left behind


@pytest.mark.host
@pytest.mark.parametrize("name, near", [("numpi", "numpy"), ("cuppy", "cupy"), ("\x1b[31m\n" + "q" * 500, None)])
def test_an_unknown_name_is_refused_with_the_nearest(name, near):
    with pytest.raises(MiniloraError, match=f"did you mean '{near}'" if near else "choose from .*cupy") as caught:
        backend.use(name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300 and backend.name == "numpy"


def start(variable: str | None) -> subprocess.CompletedProcess:
    """Run a fresh Python with MINILORA_BACKEND set that imports the backend and prints the choice."""
    environment = {key: value for key, value in os.environ.items() if key != "MINILORA_BACKEND"}
    if variable is not None:
        environment["MINILORA_BACKEND"] = variable
    code = "from minilora import backend; print(backend.name, type(backend.xp.zeros(1)).__module__)"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.host
def test_the_environment_names_the_backend():
    assert start(None).stdout == start("numpy").stdout == "numpy numpy\n"
    process = start("nunpy")
    assert process.returncode != 0 and process.stdout == ""
    last = process.stderr.rstrip().splitlines()[-1]
    assert "MiniloraError" in last and "'nunpy'" in last and "did you mean 'numpy'" in last


def refuse():
    raise RuntimeError("cudaErrorNoDevice:\nno CUDA-capable device is detected")


@pytest.mark.host
@pytest.mark.parametrize(
    "cupy, message",
    [
        (None, "pip install"),
        (SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=refuse))), "cudaErrorNoDevice"),
        (SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 0))), "no GPU"),
    ],
    ids=["not installed", "no driver", "no device"],
)
def test_cupy_without_a_gpu_says_one_clear_line(monkeypatch, cupy, message):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(MiniloraError) as caught:
        backend.use("cupy")
    assert message in str(caught.value) and str(caught.value).isprintable()
    assert backend.name == "numpy"


# The border to the host


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int32", "uint8", "bool"])
def test_round_trip(dtype):
    whole = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    for host in (whole, whole.T, whole[::-1], whole[:, 1:2], whole[:0], whole[1, 1]):
        array = backend.asarray(host)
        assert backend.is_array(array) and array.dtype == dtype and array.shape == host.shape
        back = backend.to_numpy(array)
        assert type(back) is np.ndarray and back.dtype == dtype
        np.testing.assert_array_equal(back, host)


def test_asarray_of_lists_and_numbers():
    for value, shape in (([[1.5, 2.0]], (1, 2)), (3.0, ()), (True, ()), ([], (0,))):
        array = backend.asarray(value, dtype=xp.float32)
        assert backend.is_array(array) and array.shape == shape and array.dtype == np.float32
        np.testing.assert_array_equal(backend.to_numpy(array), np.float32(value))


def test_asarray_copies_only_for_another_dtype():
    array = backend.asarray(np.ones(3, np.float32))
    assert backend.asarray(array) is array and backend.asarray(array, dtype=xp.float32) is array
    wide = backend.asarray(array, dtype=xp.float64)
    assert wide.dtype == np.float64 and array.dtype == np.float32


@pytest.mark.host
def test_arrays_cross_a_switch():
    with backend.use("strict"):
        elsewhere = backend.asarray([1.0, 2.0])
    assert backend.asarray(elsewhere).tolist() == [1.0, 2.0]
    with backend.use("strict"):
        assert backend.to_numpy(backend.asarray(np.ones(2))).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("indices", [[0, 4, 2], [[3], [0]], [], 4])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_checked_indices_come_back_on_the_device(indices, dtype):
    host = np.array(indices, dtype=dtype)
    for given_as in (host, backend.asarray(host)):
        checked = backend.checked_indices(given_as, 5, "token id")
        assert backend.is_array(checked) and checked.dtype == dtype
        np.testing.assert_array_equal(backend.to_numpy(checked), host)


@pytest.mark.parametrize(
    "indices, error, words",
    [
        ([0, 5, 6], IndexError, "token id 5 is out of range for size 5$"),
        ([3, -1], IndexError, "token id -1 is out of range"),
        ([-7, 9], IndexError, "token id -7 is out of range"),
        (5, IndexError, "token id 5 is out of range"),
        ([0.0, 1.0], TypeError, "token id must be integers, not float"),
        ([True, False], TypeError, "token id must be integers, not bool"),
        ([1j], TypeError, "token id must be integers, not complex"),
    ],
)
def test_checked_indices_name_the_first_bad_one(indices, error, words):
    for given_as in (np.array(indices), backend.asarray(np.array(indices))):
        with pytest.raises(error, match=words):
            backend.checked_indices(given_as, 5, "token id")


# Quirks


@given(rows=st.integers(0, 3000), row_bytes=st.integers(0, 10**7))
def test_row_blocks_cover_every_row_once(rows, row_bytes):
    blocks = list(backend.row_blocks(rows, row_bytes))
    assert [row for block in blocks for row in range(rows)[block]] == list(range(rows))
    assert all(block.stop > block.start and block.stop <= rows for block in blocks)


def test_row_blocks_fit_a_cache_on_a_cpu_alone():
    blocks = list(backend.row_blocks(1024, 4096))
    if backend.is_cpu():
        assert len(blocks) > 1 and all((b.stop - b.start) * 4096 <= 2**20 for b in blocks)
    else:
        assert blocks == [slice(0, 1024)]


@given(st.data())
def test_add_rows_is_add_at(data):
    rows, n, d = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 20)), data.draw(st.integers(0, 4))
    ids = np.array(data.draw(st.lists(st.integers(0, rows - 1), min_size=n, max_size=n)), dtype=np.int64)
    values = np.random.default_rng(n).integers(-9, 9, (n, d)).astype("float32")
    expected = np.zeros((rows, d))
    np.add.at(expected, ids, values)
    given_values = backend.asarray(values.copy())
    got = backend.add_rows(rows, backend.asarray(ids), given_values)
    assert backend.is_array(got) and got.dtype == np.float32
    np.testing.assert_array_equal(backend.to_numpy(got), expected)
    np.testing.assert_array_equal(backend.to_numpy(given_values), values)


def test_there_is_a_kernel_on_a_gpu_alone():
    kernel = backend.elementwise_kernel("float32 x", "float32 y", "y = 2 * x", "twice")
    assert (kernel is None) == (backend.name in ("numpy", "strict"))
    if kernel is not None:
        assert backend.to_numpy(kernel(backend.asarray(np.ones(3, np.float32)))).tolist() == [2, 2, 2]


@pytest.mark.host
def test_a_kernel_is_made_once_a_backend(monkeypatch):
    made, source = [], ("float32 x", "float32 y", "y = x", "same")
    loaded = vars(backend._loaders["numpy"]())
    for name in ("one", "two"):
        make = lambda *arguments, name=name: made.append((name, arguments)) or (lambda x: x)  # noqa: E731
        own = backend.Backend(**{**loaded, "kernel": make})
        monkeypatch.setitem(backend._loaders, name, lambda own=own: own)
    with backend.use("one"):
        first = backend.elementwise_kernel(*source)
        with backend.use("two"):
            assert backend.elementwise_kernel(*source) is not first
        assert backend.elementwise_kernel(*source) is first
        assert backend.elementwise_kernel(*source[:3], "other") is not first
    assert backend.elementwise_kernel(*source) is None
    assert made == [("one", source), ("two", source), ("one", (*source[:3], "other"))]


def test_lock_and_unlock():
    array = xp.zeros(3, dtype=xp.float32)
    lockable = backend.is_lockable(array)
    assert lockable == (backend.name == "numpy") and backend.is_writable(array)
    backend.lock(array)
    assert not backend.is_lockable(array) and backend.is_writable(array) != lockable
    if lockable:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    backend.unlock(array)
    array[0] = 1
    assert backend.is_writable(array) and backend.to_numpy(array).tolist() == [1, 0, 0]


def test_errstate_silences_warnings():
    with backend.errstate():
        assert backend.to_numpy(xp.log(xp.zeros(1)))[0] == -np.inf
