"""The switch between NumPy and CuPy: `xp`, copies to and from the host, and every difference hidden from the ops.

    from minilora.backend import xp      # stays valid when the backend changes
    backend.use("cupy")                  # for the rest of the process, or
    with backend.use("cupy"): ...        # for a block; MINILORA_BACKEND=cupy selects it at start

Two rules let the same code run on both. All random numbers are drawn by a NumPy Generator on the host and copied over,
so a seed gives the same result everywhere. And whatever arrives from the host (token ids, class indices, masks) is
checked there, because CuPy silently wraps an index that is out of range, and a check on the device would have to wait
for it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from minilora import blas
from minilora.errors import MiniloraError, escape, unknown

Array: TypeAlias = Any  # a NumPy or CuPy array; CuPy ships no type hints
xp: Any = SimpleNamespace()  # NumPy's or CuPy's functions; `use` fills it
Thing = TypeVar("Thing")
name = ""


@dataclass(frozen=True)
class Backend:
    """An array library: everything that differs between NumPy, CuPy and others.

    `namespace` holds the functions that become `xp`; `array_type` is its array class; `from_host` and `to_host` copy
    from and to NumPy. `is_cpu` is True if elementwise chains should stay within a CPU's cache and arrays have a
    read-only flag. `kernel` compiles a function of arrays from C (CuPy's ElementwiseKernel), if the library can.
    """

    name: str
    namespace: Any
    array_type: Any
    from_host: Callable[[Any], Array]
    to_host: Callable[[Array], np.ndarray]
    is_cpu: bool
    kernel: Callable[..., Callable[..., Any]] | None = None


def _load_numpy() -> Backend:
    blas.fit_container()
    return Backend(
        name="numpy",
        namespace=np,
        array_type=np.ndarray,
        from_host=lambda a: a,
        to_host=lambda a: a,
        is_cpu=True,
    )


def _load_cupy() -> Backend:
    try:
        import cupy
    except ImportError as error:
        raise MiniloraError(
            "the cupy backend needs CuPy: pip install 'minilora[cuda12]' or 'minilora[cuda13]', to match your driver"
        ) from error
    try:
        num_devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # no driver, no device, or a driver that is too old: CuPy has a class for each
        raise MiniloraError(f"the cupy backend finds no usable GPU: {escape(str(error))}") from error
    if not num_devices:
        raise MiniloraError("the cupy backend finds no GPU; use 'numpy'")
    return Backend(
        name="cupy",
        namespace=cupy,
        array_type=cupy.ndarray,
        from_host=cupy.asarray,
        to_host=cupy.asnumpy,
        is_cpu=False,
        kernel=cupy.ElementwiseKernel,
    )


_loaders: dict[str, Callable[[], Backend]] = {"numpy": _load_numpy, "cupy": _load_cupy}
_active: Backend


def register(backend_name: str, load: Callable[[], Backend]) -> None:
    """Add an array library that `use` can then select by name; `use` calls `load`."""
    _loaders[backend_name] = load


def _activate(backend: Backend) -> None:
    global _active, name
    _active, name = backend, backend.name
    vars(xp).clear()
    vars(xp).update({key: value for key, value in vars(backend.namespace).items() if not key.startswith("_")})


def use(backend_name: str) -> AbstractContextManager[Any]:
    """Switch to the backend `backend_name`, for the rest of the process or, as `with use(...)`, for a block.

    Tensors created under another backend keep their arrays and cannot be mixed with new ones. Raises MiniloraError if
    the name is unknown or the library or device is missing; the backend then stays as it was.
    """
    previous = globals().get("_active")
    if backend_name not in _loaders:
        raise MiniloraError(unknown("backend", backend_name, sorted(_loaders)))
    _activate(_loaders[backend_name]())
    restore = ExitStack()  # restores the previous backend when a `with` block ends; unused otherwise
    if previous is not None:
        restore.callback(_activate, previous)
    return restore


# To and from the host


def is_array(a: object) -> bool:
    """Return True for an array of the active backend."""
    return isinstance(a, _active.array_type)


def asarray(a: Any, dtype: Any = None) -> Array:
    """Convert `a` (array, NumPy array, list or number) to an array of the active backend; no copy if it is one."""
    if isinstance(a, _active.array_type):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    if hasattr(a, "get") and hasattr(a, "device"):  # a CuPy array, made before the backend was switched
        a = a.get()
    return _active.from_host(np.asarray(a, dtype=dtype))


def number_array(a: Any) -> Array:
    """Copy anything array-like into an array with a dtype that a tensor can have. Arrays keep their dtype, except that
    float16 becomes float32, and so do Python's numbers. Raises TypeError for anything but numbers and booleans.
    """
    if is_array(a) or hasattr(a, "dtype"):
        array = asarray(a)
        array = array.astype(xp.float32) if array.dtype == xp.float16 else array.copy()
    else:
        for item in np.asarray(a, dtype=object).flat:
            if item is None or isinstance(item, str):  # NumPy would take None as NaN, and parse the text
                raise TypeError(f"a tensor holds numbers or booleans, not {escape(repr(item))}")
        array = asarray(a, dtype=xp.float32)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds numbers or booleans, not {array.dtype}")
    return array


def to_numpy(a: Any) -> Any:
    """Return `a` as a NumPy array on the host: with CuPy a copy that waits for the device, with NumPy `a` itself."""
    return _active.to_host(a) if isinstance(a, _active.array_type) else np.asarray(a)


def implicitly_to_numpy(a: Array, dtype: Any, copy: bool | None) -> np.ndarray:
    """Call `np.array(a, dtype, copy=copy)`, and so never copy from a GPU: CuPy's arrays raise a TypeError here."""
    return np.array(a, dtype=dtype, copy=copy)


def checked_indices(indices: Any, size: int, what: str) -> Array:
    """Check that integer `indices` lie in 0 … size-1, and return a copy of them as an array of the backend.

    Host data is checked on the host; an array that is already on a device is fetched for the check. Raises IndexError
    with the first bad value, and TypeError for anything but integers.
    """
    host = to_numpy(indices)
    if host.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, not {host.dtype}")
    if host.size and (host.min() < 0 or host.max() >= size):
        bad = host[(host < 0) | (host >= size)].flat[0]
        raise IndexError(f"{what} {bad} is out of range for size {size}")
    return asarray(indices).copy()


def check_index(index: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    """Raise IndexError if `index`, with its arrays on the host, does not fit an array of `shape`."""
    np.broadcast_to(np.False_, shape)[index]


# Differences between the backends


def errstate() -> AbstractContextManager[Any]:
    """Return a context that silences floating-point warnings (CuPy never gives any)."""
    return np.errstate(all="ignore")


def is_cpu() -> bool:
    """Return True on a CPU, where work should be cut into blocks that fit a cache."""
    return _active.is_cpu


def device() -> str:
    """Return the device of the arrays, as PyTorch names it: "cpu" or "cuda"."""
    return "cpu" if _active.is_cpu else "cuda"


def on_device(thing: Thing, wanted: object) -> Thing:
    """Return `thing` unchanged if arrays are on the device `wanted`, in PyTorch's names; else raise MiniloraError."""
    if str(wanted).partition(":")[0] != device():
        raise MiniloraError(f"arrays are on {device()!r}, not {escape(wanted)}; backend.use() chooses the device")
    return thing


BLOCK_BYTES = 512 * 1024  # data that an elementwise chain works on at a time, so that it stays in a core's cache


def row_blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Yield slices of `rows` rows, each small enough to stay in a core's cache; on a GPU, one slice of all."""
    step = max(1, BLOCK_BYTES // max(row_bytes, 1)) if _active.is_cpu else max(rows, 1)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def elementwise_kernel(in_params: str, out_params: str, body: str, name: str) -> Callable[..., Any] | None:
    """Compile a function that computes each element of its result with `body`, C code as CuPy's ElementwiseKernel takes
    it. Compiled once; None if the backend has no kernels.
    """
    return None if _active.kernel is None else _compiled(_active.kernel, in_params, out_params, body, name)


@cache
def _compiled(make: Callable[..., Callable[..., Any]], *source: str) -> Callable[..., Any]:
    return make(*source)


def add_rows(rows: int, ids: Array, values: Array) -> Array:
    """Return an array (rows, d) whose row i is the sum of those `values` (n, d) whose `ids` (n,) are i.

    On a CPU, sorting the ids and summing runs of equal ones is several times faster than `add.at`.
    """
    out = xp.zeros((rows, values.shape[1]), dtype=values.dtype)
    if not _active.is_cpu:
        xp.add.at(out, ids, values)
    elif len(ids):
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        starts = np.flatnonzero(np.concatenate(([True], sorted_ids[1:] != sorted_ids[:-1])))
        out[sorted_ids[starts]] = np.add.reduceat(values[order], starts, axis=0)
    return out


def is_writable(array: Array) -> bool:
    """Return False for a read-only array; CuPy has none."""
    return not _active.is_cpu or array.flags.writeable


def is_lockable(array: Array) -> bool:
    """Return True if `array` is writable and the backend can make it read-only."""
    return _active.is_cpu and array.flags.writeable


def lock(array: Array) -> None:
    """Make `array` read-only, if the backend can."""
    if _active.is_cpu:
        array.flags.writeable = False


def unlock(array: Array) -> None:
    """Undo `lock`."""
    if _active.is_cpu:
        array.flags.writeable = True


# GPUs


def device_count() -> int:
    """Count the GPUs that this process sees; 0 on a backend that uses none."""
    return _active.namespace.cuda.runtime.getDeviceCount() if _active.name == "cupy" else 0


def set_device(number: int) -> None:
    """Make GPU `number` the current one."""
    _active.namespace.cuda.Device(number).use()


use(os.environ.get("MINILORA_BACKEND", "numpy"))
