"""The switch between NumPy and CuPy: `xp`, the border to the host, and every difference that the ops must not see.

    from minilora.backend import xp      # stays valid when the backend changes
    backend.use("cupy")                  # for good, or
    with backend.use("cupy"): ...        # for a block; MINILORA_BACKEND=cupy sets it at start

Two rules keep one code path right on both: all randomness is drawn by a NumPy Generator on the host and copied over, so
one seed gives one result; and whatever arrives from the host (token ids, class indices, masks) is checked there,
because CuPy wraps an index that is out of range without a word and a check on the device would wait for it.
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

Array: TypeAlias = Any  # NumPy's array or CuPy's, which has no types to check with
xp: Any = SimpleNamespace()  # NumPy's or CuPy's functions; `use` fills it
Thing = TypeVar("Thing")
name = ""


@dataclass(frozen=True)
class Backend:
    """An array library: all that differs from one to another.

    `namespace` holds the functions that become `xp`; `array_type` is the class of its arrays; `from_host` and `to_host`
    copy between NumPy and it; `is_cpu` says whether elementwise chains should stay within a CPU's cache, and whether
    arrays have a read-only flag; `kernel` makes a function of arrays from C (CuPy's ElementwiseKernel), if there is
    such.
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
        found = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # no driver, no device, or a driver that is too old: CuPy has a class for each
        raise MiniloraError(f"the cupy backend finds no usable GPU: {escape(str(error))}") from error
    if not found:
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
    """Offer another array library to `use`; `load` is called the first time that it is asked for."""
    _loaders[backend_name] = load


def _activate(backend: Backend) -> None:
    global _active, name
    _active, name = backend, backend.name
    vars(xp).clear()
    vars(xp).update({key: value for key, value in vars(backend.namespace).items() if not key.startswith("_")})


def use(backend_name: str) -> AbstractContextManager[Any]:
    """Make `backend_name` the backend, for good or, as `with use(...)`, for a block.

    Tensors made under another backend keep their arrays there and cannot be mixed with new ones. Raises MiniloraError
    for a name that is not known or a library or device that is missing; the backend then stays what it was.
    """
    previous = globals().get("_active")
    if backend_name not in _loaders:
        raise MiniloraError(unknown("backend", backend_name, sorted(_loaders)))
    _activate(_loaders[backend_name]())
    back = ExitStack()  # whose end, if it is entered, brings the previous backend back
    if previous is not None:
        back.callback(_activate, previous)
    return back


# The border to the host


def is_array(a: object) -> bool:
    """True for an array of the active backend."""
    return isinstance(a, _active.array_type)


def asarray(a: Any, dtype: Any = None) -> Array:
    """`a` (array, NumPy array, list or number) as an array of the active backend; no copy where it is one already."""
    if isinstance(a, _active.array_type):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    if hasattr(a, "get") and hasattr(a, "device"):  # a CuPy array that came from the other side of a switch
        a = a.get()
    return _active.from_host(np.asarray(a, dtype=dtype))


def number_array(a: Any) -> Array:
    """A copy of anything array-like, in a dtype that a tensor can have: an array keeps its own, but float16 becomes
    float32, as Python's numbers do. TypeError for anything but numbers and booleans.
    """
    if is_array(a) or hasattr(a, "dtype"):
        array = asarray(a)
        array = array.astype(xp.float32) if array.dtype == xp.float16 else array.copy()
    else:
        for item in np.asarray(a, dtype=object).flat:
            if item is None or isinstance(item, str):  # NaN and what the text says, to NumPy
                raise TypeError(f"a tensor holds numbers or booleans, not {escape(repr(item))}")
        array = asarray(a, dtype=xp.float32)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds numbers or booleans, not {array.dtype}")
    return array


def to_numpy(a: Any) -> Any:
    """`a` as a NumPy array on the host; on CuPy a copy that waits for the device, on NumPy the array itself."""
    return _active.to_host(a) if isinstance(a, _active.array_type) else np.asarray(a)


def implicitly_to_numpy(a: Array, dtype: Any, copy: bool | None) -> np.ndarray:
    """`np.array(a, dtype, copy=copy)`, which is no border to cross: an array on a device raises its TypeError."""
    return np.array(a, dtype=dtype, copy=copy)


def checked_indices(indices: Any, size: int, what: str) -> Array:
    """A copy of integer `indices` as an array of the backend, after each was seen to lie in 0 … size-1.

    Host data is checked on the host; an array that is already on a device is fetched for the check. Raises IndexError
    that names the first bad value, TypeError for anything but integers.
    """
    host = to_numpy(indices)
    if host.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, not {host.dtype}")
    if host.size and (host.min() < 0 or host.max() >= size):
        bad = host[(host < 0) | (host >= size)].flat[0]
        raise IndexError(f"{what} {bad} is out of range for size {size}")
    return asarray(indices).copy()


def check_index(index: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    """Raise IndexError if an array of `shape` cannot be indexed so. index: its arrays on the host."""
    np.broadcast_to(np.False_, shape)[index]


# Quirks


def errstate() -> AbstractContextManager[Any]:
    """Within the block, floating-point warnings are silent (CuPy has none to begin with)."""
    return np.errstate(all="ignore")


def is_cpu() -> bool:
    """True where work should be cut into blocks that fit a cache: on a CPU."""
    return _active.is_cpu


def device() -> str:
    """The device of the arrays, in PyTorch's words."""
    return "cpu" if _active.is_cpu else "cuda"


def on_device(thing: Thing, wanted: object) -> Thing:
    """Return `thing`, if arrays are on the device `wanted`, as PyTorch names it ("cuda:0"); else MiniloraError."""
    if str(wanted).partition(":")[0] != device():
        raise MiniloraError(f"arrays are on {device()!r}, not {escape(wanted)}: backend.use says where")
    return thing


BLOCK_BYTES = 512 * 1024  # of data that an elementwise chain touches at a time: a CPU core's cache


def row_blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Slices over `rows` rows so that a block of them stays in a core's cache; one slice on a GPU."""
    step = max(1, BLOCK_BYTES // max(row_bytes, 1)) if _active.is_cpu else max(rows, 1)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def elementwise_kernel(in_params: str, out_params: str, body: str, name: str) -> Callable[..., Any] | None:
    """A compiled function that computes each element of its result by `body`, C in the terms of CuPy's
    ElementwiseKernel; None on a backend without kernels. Made once a backend.
    """
    return None if _active.kernel is None else _compiled(_active.kernel, in_params, out_params, body, name)


@cache
def _compiled(make: Callable[..., Callable[..., Any]], *source: str) -> Callable[..., Any]:
    return make(*source)


def add_rows(rows: int, ids: Array, values: Array) -> Array:
    """A (rows, d) array that holds, in row i, the sum of the `values` (n, d) whose `ids` (n,) are i.

    On a CPU, sorting and adding up runs is several times faster than `add.at`.
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
    """False for an array that is read-only; CuPy has none."""
    return not _active.is_cpu or array.flags.writeable


def is_lockable(array: Array) -> bool:
    """True where `array` is writable now and the backend can make it read-only."""
    return _active.is_cpu and array.flags.writeable


def lock(array: Array) -> None:
    """Make `array` read-only, where the backend can."""
    if _active.is_cpu:
        array.flags.writeable = False


def unlock(array: Array) -> None:
    """Take a `lock` back."""
    if _active.is_cpu:
        array.flags.writeable = True


# GPUs


def device_count() -> int:
    """Count the GPUs that this process sees; 0 on a backend that uses none."""
    return _active.namespace.cuda.runtime.getDeviceCount() if _active.name == "cupy" else 0


def set_device(number: int) -> None:
    """Use GPU `number` from here on."""
    _active.namespace.cuda.Device(number).use()


use(os.environ.get("MINILORA_BACKEND", "numpy"))
