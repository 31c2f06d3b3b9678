"""A stand-in for a graphics card: it computes with NumPy, and refuses what CuPy refuses, and more.

    array = device.upload(np.array([1.0, 2.0]))     # a DeviceArray
    functions.exp(array) + 1                        # computes there
    device.download(array)                          # a NumPy array again; waits for the device

As in CuPy, a NumPy array beside a DeviceArray and an implicit conversion raise TypeError, an index out of range wraps
silently, and the random generator draws other numbers than NumPy's. What CuPy lets through raises TypeError here, so
that a slip shows without a card: NumPy's functions (CuPy's arrays pass most of them on to CuPy's own), NumPy's scalars,
NumPy arrays and lists as indices, and iteration. `counts` records what the device was asked to do. The library's own
tests use a stricter class derived from it (tests/helpers/strict.py).
"""

import operator
from collections.abc import Callable, Iterator
from threading import Lock
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np

counts = {"computed": 0, "waited": 0, "uploaded": 0}
_lock = Lock()  # the library's tests ask from several threads


def reset() -> None:
    """Start counting again."""
    counts.update(dict.fromkeys(counts, 0))


def count(what: str) -> None:
    with _lock:
        counts[what] += 1


def upload(array: np.ndarray) -> "DeviceArray":
    """Copy a NumPy array to the device."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"upload takes a NumPy array, not {type(array).__name__}")
    count("uploaded")
    return DeviceArray(array.copy())


def download(array: "DeviceArray") -> np.ndarray:
    """Copy a device array to the host, which waits until it is computed."""
    if not isinstance(array, DeviceArray):
        raise TypeError(f"download takes a device array, not {type(array).__name__}")
    return array.get()


class DeviceArray:
    """An array on the device. Shape and dtype are known at once; for values, one must wait."""

    __slots__ = ("__weakref__", "_array")
    __hash__: ClassVar[None] = None  # type: ignore[assignment]
    advice: ClassVar[str] = "both must be on one side"  # for whom mixes host and device

    def __init__(self, array: np.ndarray):
        self._array = array

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    T = property(lambda self: self._wrap(self._array.T))

    def __len__(self) -> int:
        return len(self._array)

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise TypeError("implicit conversion of a device array to NumPy: fetch it with .get()")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **named: object) -> object:
        raise TypeError(f"NumPy ({ufunc.__name__}) meets a device array: {self.advice}")

    def __array_function__(self, function: Callable, types: object, arguments: object, named: object) -> object:
        raise TypeError(f"NumPy ({function.__name__}) meets a device array: {self.advice}")

    def __iter__(self) -> Iterator[object]:
        raise TypeError("iteration over a device array: each element would wait for the device")

    def get(self) -> np.ndarray:
        count("waited")
        return self._array.copy()

    def __repr__(self) -> str:
        return f"DeviceArray({np.array2string(self._array, separator=', ')})"

    @classmethod
    def _plain(cls, value: Any) -> Any:
        """Return the NumPy array behind a device's value. Raises TypeError for one of NumPy's own arrays."""
        if isinstance(value, DeviceArray):
            return value._array
        if isinstance(value, np.ndarray | np.generic):
            raise TypeError(f"{kind_of(value)} meets a device array: {cls.advice}")
        return type(value)(map(cls._plain, value)) if type(value) in (list, tuple) else value

    @classmethod
    def _wrap(cls, result: Any, inputs: object = ()) -> Any:
        """Return NumPy's result as the device has it: no scalars, and for one of `inputs`, that very object."""
        if isinstance(result, np.ndarray | np.generic):
            result = np.asarray(result)
            if result.dtype == object:
                raise TypeError("a device has no arrays of objects; was a Tensor passed in place of its array?")
            for source in arrays_in(inputs):
                if source._array is result:
                    return source
            return cls(result)
        if isinstance(result, tuple | list):
            parts = [cls._wrap(part, inputs) for part in result]
            return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
        return result

    @classmethod
    def _compute(cls, function: Callable, /, *arguments: object, **named: object) -> Any:
        """Call function(…) on the device, without warnings, which it does not have."""
        count("computed")
        plain = {name: cls._plain(value) for name, value in named.items()}
        with np.errstate(all="ignore"):
            result = function(*map(cls._plain, arguments), **plain)
        return cls._wrap(result, (*arguments, *named.values()))

    def __getitem__(self, key: object) -> Self:
        count("computed")
        return self._wrap(self._array[self._key(key)])

    def __setitem__(self, key: object, value: object) -> None:
        count("computed")
        self._array[self._key(key)] = self._plain(value)

    def _key(self, key: object) -> tuple:
        """Return an index as NumPy takes it; of one element it gives a view. A mask makes the host wait."""
        parts = key if isinstance(key, tuple) else (key,)
        used = [0 if part is None or part is Ellipsis else part.ndim if _is_mask(part) else 1 for part in parts]
        index, axis = [], 0
        for part, axes in zip(parts, used, strict=True):
            if part is Ellipsis:
                axes = self.ndim - sum(used)
            index.append(self._index(part, self.shape[axis] if axis < self.ndim else 1))
            axis += axes
        if any(map(_is_mask, parts)):
            count("waited")
        has_arrays = any(isinstance(part, DeviceArray) for part in parts)
        return tuple(index) if has_arrays or Ellipsis in index else (*index, Ellipsis)

    @classmethod
    def _index(cls, part: object, size: int) -> object:
        """Return one part of an index, of an axis that is `size` long."""
        if isinstance(part, DeviceArray):
            if part.dtype.kind not in "iub":
                raise IndexError(f"an index must be integer or boolean, not {part.dtype}")
            return part._array if _is_mask(part) else cls._in_range(part._array, size)
        numbers = (part.start, part.stop, part.step) if isinstance(part, slice) else (part,)
        if any(
            isinstance(n, bool) or not (n is None or n is Ellipsis or isinstance(n, int | np.integer)) for n in numbers
        ):
            kind = kind_of(part)
            raise TypeError(f"a device array is indexed by device arrays, whole numbers and slices, not {kind}")
        return part

    @classmethod
    def _in_range(cls, indices: np.ndarray, size: int) -> np.ndarray:
        """Wrap indices along an axis of `size` that are out of range."""
        return indices % max(size, 1)


def kind_of(value: object) -> str:
    return f"a NumPy {type(value).__name__}" if isinstance(value, np.ndarray | np.generic) else type(value).__name__


def arrays_in(value: object) -> Iterator[DeviceArray]:
    """Yield the device arrays in a value, also in lists and tuples."""
    if isinstance(value, DeviceArray):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays_in(part)


def is_number(value: object) -> bool:
    """Return True for one of Python's numbers (or NumPy's float64, a float too: `_plain` refuses it)."""
    return isinstance(value, bool | int | float | complex)


def _is_mask(part: object) -> bool:
    return isinstance(part, DeviceArray) and part.dtype.kind == "b"


def _operator(function: Callable, is_swapped: bool = False) -> Callable:
    def method(self: DeviceArray, other: object) -> Any:
        if isinstance(other, DeviceArray | np.ndarray | np.generic) or is_number(other):
            return self._compute(function, *((other, self) if is_swapped else (self, other)))
        return NotImplemented

    return method


def _method(function: Callable) -> Callable:
    return lambda self, *arguments, **named: self._compute(function, self, *arguments, **named)


def _waiting(name: str) -> Callable:
    return lambda self: getattr(self.get(), name)()


for _name in "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split():
    setattr(DeviceArray, f"__{_name}__", _operator(_function := getattr(operator, f"__{_name}__")))
    setattr(DeviceArray, f"__r{_name}__", _operator(_function, is_swapped=True))
    if _name != "matmul":  # CuPy has no __imatmul__
        setattr(DeviceArray, f"__i{_name}__", _operator(getattr(operator, f"__i{_name}__")))
for _name in "lt le eq ne gt ge".split():
    setattr(DeviceArray, f"__{_name}__", _operator(getattr(operator, f"__{_name}__")))
for _name in "neg pos abs invert".split():
    setattr(DeviceArray, f"__{_name}__", _method(getattr(operator, _name)))
for _name in "sum mean max min argmax any all dot reshape transpose astype copy clip squeeze".split():
    setattr(DeviceArray, _name, _method(getattr(np.ndarray, _name)))
for _name in "item tolist __bool__ __int__ __float__".split():
    setattr(DeviceArray, _name, _waiting(_name))

# The library's functions


def _from_numpy(name: str) -> Callable[..., DeviceArray]:
    """Make NumPy's function work on device arrays."""

    def call(*arguments: Any, **named: Any) -> DeviceArray:
        if name not in CREATING and next(arrays_in(list(arguments)), None) is None:
            kind = kind_of(arguments[0] if arguments else None)
            raise TypeError(f"{name} on the device needs a device array, not {kind}")
        return DeviceArray._compute(getattr(np, name), *arguments, **named)

    call.__name__ = name
    return call


def _take(a: DeviceArray, indices: object, axis: int | None = None) -> DeviceArray:
    if axis is None:
        a, axis = a.reshape(-1), 0  # type: ignore[attr-defined]
    return a[(slice(None),) * (axis % a.ndim) + (indices,)]


def _asarray(a: Any, dtype: Any = None) -> DeviceArray:
    if isinstance(a, DeviceArray):
        return a if dtype is None or a.dtype == dtype else a._compute(np.ndarray.astype, a, dtype)
    return upload(np.asarray(a, dtype=dtype))


class _Generator:
    """The device's own random numbers: one seed gives one result, and another than NumPy's."""

    def __init__(self, seed: int | None = None):
        self._rng = np.random.Generator(np.random.Philox(seed))

    def random(self, size: Any = None, dtype: Any = "float64") -> DeviceArray:
        return DeviceArray(np.asarray(self._rng.random(size, dtype)))

    def standard_normal(self, size: Any = None, dtype: Any = "float64") -> DeviceArray:
        return DeviceArray(np.asarray(self._rng.standard_normal(size, dtype)))


CREATING = "zeros ones full arange eye".split()
COMPUTING = (
    "exp log sqrt tanh abs square maximum minimum where sum mean max min argmax any all clip stack concatenate matmul "
    "add subtract multiply divide negative power amax amin hstack vstack repeat ravel "
    "dot einsum reshape transpose expand_dims zeros_like ones_like isfinite"
).split()

DeviceArray.take = _take  # type: ignore[attr-defined]
functions = SimpleNamespace(
    **{name: _from_numpy(name) for name in [*CREATING, *COMPUTING]},
    take=_take,
    asarray=_asarray,
    array=_asarray,
    ndarray=DeviceArray,
    random=SimpleNamespace(default_rng=_Generator),
    newaxis=None,
    inf=np.inf,
    **{name: getattr(np, name) for name in ("float32", "float64", "int32", "int64")},
)
