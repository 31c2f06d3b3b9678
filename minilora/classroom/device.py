"""A stand-in for a graphics card, for lesson 03: it computes with NumPy, and behaves as CuPy's arrays do.

    array = device.upload(np.array([1.0, 2.0]))     # a DeviceArray
    functions.exp(array) + 1                        # computes there
    device.download(array)                          # a NumPy array again; waits for the device

A DeviceArray never turns into a NumPy array by itself: NumPy's functions, arrays and scalars that meet it are refused
with a TypeError, and so is iteration. An index that is out of range wraps without a word, and the device has a random
generator of its own, with other numbers than NumPy's. `counts` says what the device was asked to do.

(The library's own tests hold all of its code to stricter rules of the same kind: tests/helpers/strict.py.)
"""

import operator
from functools import partialmethod
from types import SimpleNamespace

import numpy as np

counts = {"computed": 0, "waited": 0, "uploaded": 0}
NUMBERS = (bool, int, float)


def reset() -> None:
    """Start counting again."""
    counts.update(dict.fromkeys(counts, 0))


def upload(array: np.ndarray) -> "DeviceArray":
    """A NumPy array, copied to the device."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"upload takes a NumPy array, not {type(array).__name__}")
    counts["uploaded"] += 1
    return DeviceArray(array.copy())


def download(array: "DeviceArray") -> np.ndarray:
    """A device array, copied to the host, which waits until it is computed."""
    if not isinstance(array, DeviceArray):
        raise TypeError(f"download takes a device array, not {type(array).__name__}")
    return array.get()


class DeviceArray:
    """An array on the device. Shape and dtype are known at once; for values, one must wait."""

    __slots__ = ("_array",)
    __hash__ = None

    def __init__(self, array: np.ndarray):
        self._array = array

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    T = property(lambda self: DeviceArray(self._array.T))

    def __len__(self) -> int:
        return len(self._array)

    # What is refused

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion of a device array to NumPy: fetch it with .get()")

    def __array_ufunc__(self, ufunc, method, *inputs, **named):
        raise TypeError(f"NumPy ({ufunc.__name__}) meets a device array: both must be on one side")

    def __array_function__(self, function, types, arguments, named):
        raise TypeError(f"NumPy ({function.__name__}) meets a device array: both must be on one side")

    def __iter__(self):
        raise TypeError("iteration over a device array: each element would wait for the device")

    # What waits

    def get(self) -> np.ndarray:
        counts["waited"] += 1
        return self._array.copy()

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __repr__(self) -> str:
        return f"DeviceArray({np.array2string(self._array, separator=', ')})"

    # What is computed

    def __getitem__(self, key) -> "DeviceArray":
        parts = key if isinstance(key, tuple) else (key,)
        taken, axis = [], 0
        for part in parts:
            taken.append(_index(part, self.shape[axis] if axis < self.ndim else 1))
            axis += self.ndim - sum(p is not None for p in parts) + 1 if part is Ellipsis else part is not None
        return _compute(lambda array, *key: array[key], self, *taken)


def _index(part, size: int):
    """A part of an index along an axis of `size`. Whole numbers in an array wrap; a mask makes the host wait."""
    if isinstance(part, DeviceArray):
        if part.dtype.kind == "b":
            counts["waited"] += 1
        return DeviceArray(part._array % max(size, 1)) if part.dtype.kind in "iu" else part
    if isinstance(part, (np.ndarray, np.generic, list)):
        raise TypeError(f"a device array is indexed by device arrays, whole numbers and slices, not {_kind(part)}")
    return part


def _kind(value: object) -> str:
    return f"a NumPy {type(value).__name__}" if isinstance(value, (np.ndarray, np.generic)) else type(value).__name__


def _plain(value: object):
    """What NumPy computes with, in place of a value that the device takes."""
    if isinstance(value, DeviceArray):
        return value._array
    if isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"{_kind(value)} meets a device array: both must be on one side")
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value


def _compute(function, *arguments, **named) -> "DeviceArray":
    """function(…) on the device, without warnings, which it does not have."""
    counts["computed"] += 1
    arguments, named = [_plain(a) for a in arguments], {name: _plain(value) for name, value in named.items()}
    with np.errstate(all="ignore"):
        return DeviceArray(np.asarray(function(*arguments, **named)))


def _operator(function, swapped: bool = False):
    def method(self, other):
        if isinstance(other, (DeviceArray, np.ndarray, np.generic, *NUMBERS)):
            return _compute(function, *((other, self) if swapped else (self, other)))
        return NotImplemented

    return method


def _computed_by(self, function) -> DeviceArray:
    return _compute(function, self)


for _name in "add sub mul truediv pow matmul".split():
    _function = getattr(operator, _name)
    setattr(DeviceArray, f"__{_name}__", _operator(_function))
    setattr(DeviceArray, f"__r{_name}__", _operator(_function, swapped=True))
for _name in "lt le eq ne gt ge".split():
    setattr(DeviceArray, f"__{_name}__", _operator(getattr(operator, _name)))
for _name in "neg abs".split():
    setattr(DeviceArray, f"__{_name}__", partialmethod(_computed_by, getattr(operator, _name)))


def _method(name: str):
    return lambda self, *arguments, **named: _compute(getattr(np.ndarray, name), self, *arguments, **named)


for _name in "sum mean max min argmax any all dot reshape transpose astype copy clip take squeeze".split():
    setattr(DeviceArray, _name, _method(_name))


def _from_numpy(name: str):
    """NumPy's function on device arrays."""

    def call(*arguments, **named):
        if arguments and isinstance(arguments[0], (list, tuple)) and name in ("stack", "concatenate"):
            if not all(isinstance(part, DeviceArray) for part in arguments[0]):
                raise TypeError(f"{name} joins device arrays only")
        elif name not in CREATING and not any(isinstance(a, DeviceArray) for a in arguments):
            raise TypeError(
                f"{name} on the device needs a device array, not {_kind(arguments[0] if arguments else None)}"
            )
        if name == "take":
            arguments = (arguments[0], _index(arguments[1], _size_along(arguments, named)), *arguments[2:])
        return _compute(getattr(np, name), *arguments, **named)

    call.__name__ = name
    return call


def _size_along(arguments, named) -> int:
    """Length of the axis that `take` takes from."""
    axis = named.get("axis", arguments[2] if len(arguments) > 2 else None)
    return arguments[0].size if axis is None else arguments[0].shape[axis]


def _asarray(a, dtype=None) -> DeviceArray:
    if isinstance(a, DeviceArray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    return upload(np.asarray(a, dtype=dtype))


class _Generator:
    """The device's own random numbers: one seed gives one result, and another than NumPy's."""

    def __init__(self, seed=None):
        self._rng = np.random.Generator(np.random.Philox(seed))

    def random(self, size=None, dtype="float64") -> DeviceArray:
        return DeviceArray(np.asarray(self._rng.random(size, dtype)))

    def standard_normal(self, size=None, dtype="float64") -> DeviceArray:
        return DeviceArray(np.asarray(self._rng.standard_normal(size, dtype)))


CREATING = "zeros ones full arange eye".split()
_COMPUTING = (
    "exp log sqrt tanh abs square maximum minimum where sum mean max min argmax any all clip stack concatenate matmul "
    "dot einsum take reshape transpose expand_dims zeros_like ones_like isfinite"
).split()

functions = SimpleNamespace(
    **{name: _from_numpy(name) for name in [*CREATING, *_COMPUTING]},
    asarray=_asarray,
    array=_asarray,
    ndarray=DeviceArray,
    random=SimpleNamespace(default_rng=_Generator),
    newaxis=None,
    inf=np.inf,
    **{name: getattr(np, name) for name in ("float32", "float64", "int32", "int64")},
)
