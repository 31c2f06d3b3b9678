"""A stand-in for CuPy, built on NumPy, that allows only what CuPy allows and counts when the host waits for the device.

`StrictArray` holds a NumPy array, which leaves it only through `backend.to_numpy`. It raises TypeError for implicit
conversion, NumPy arrays as operands, and every parameter that CuPy lacks. Names that CuPy lacks do not exist
(cupy_names.txt lists those that it has). An integer array that indexes out of range raises `SilentWrap`, because CuPy
would silently wrap it. Reductions return 0-d arrays.

It is stricter than CuPy where code that works there would be slow, or would work by chance. It also raises TypeError
for NumPy's own functions (CuPy's arrays pass most of them on to CuPy's), NumPy scalars as operands (they can widen
float32), NumPy arrays and lists as indices (CuPy copies them silently), and iteration (a kernel per element).

Operations that make the host wait (`bool(a)`, `float(a)`, `a.item()`, a mask as an index, `xp.nonzero`, to_numpy, …)
work, and are counted:

    reset_syncs()
    ...
    assert sync_count() == 0

conftest.py registers it as the backend "strict".
"""

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from minilora.backend import Backend

device = import_module("lessons.03_backend.device")
DeviceArray, arrays_in, is_number = device.DeviceArray, device.arrays_in, device.is_number
count, counts = device.count, device.counts
reset_syncs = device.reset  # start counting again


def sync_count() -> int:
    """Return how often the host would have waited for the device since `reset_syncs`."""
    return counts["waited"]


class SilentWrap(AssertionError):
    """An index array out of range, which CuPy would have wrapped. Not an IndexError, so that no code catches it."""


def _in_range(indices: np.ndarray, size: int) -> np.ndarray:
    if indices.size and (indices.min() < -size or indices.max() >= size):
        bad = indices[(indices < -size) | (indices >= size)].flat[0]
        raise SilentWrap(
            f"index {bad} is out of range for size {size}: CuPy would wrap it silently; check indices on the host first"
        )
    return indices


class StrictArray(DeviceArray):
    """An array of the stand-in device: lesson 03's DeviceArray with all that CuPy's arrays have, except silent
    wrapping.
    """

    __slots__ = ()
    advice = "did you call backend.asarray on your data, or float() on your scalar?"
    _in_range = staticmethod(_in_range)

    # Properties that need no wait

    itemsize = property(lambda self: self._array.itemsize)
    nbytes = property(lambda self: self._array.nbytes)
    device = property(lambda self: "strict")
    mT = property(lambda self: self._wrap(self._array.mT))
    real = property(lambda self: self._wrap(self._array.real, self))
    imag = property(lambda self: self._wrap(self._array.imag))
    base = property(lambda self: self._wrap(self._array.base))

    @property
    def flags(self):
        flags = self._array.flags  # CuPy's have no `writeable`
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    # Methods that wait for the device

    def tobytes(self, order="C") -> bytes:
        return self.get().tobytes(order)

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return f"strict({self.get()!r})"

    def __str__(self) -> str:
        return str(self.get())

    def __setitem__(self, key, value):
        if not (isinstance(value, StrictArray) or is_number(value)):
            _plain(value)
            raise TypeError(f"only device arrays and numbers can be assigned, not {type(value).__name__}")
        with np.errstate(all="ignore"):
            self._array[self._key(key)] = _plain(value)  # CuPy counts the True values of a mask

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()


_plain, _wrap, _compute = StrictArray._plain, StrictArray._wrap, StrictArray._compute


# CuPy's names and parameters


def _read_names() -> dict[str, str | list[str] | None]:
    """Read cupy_names.txt: {name: its parameters for a function, "ufunc" for a ufunc, None for anything else}."""
    names = {}
    for line in (Path(__file__).parent / "cupy_names.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, parameters, kind = re.fullmatch(r"([\w.]+)(?:\((.*)\))?(?: (ufunc))?", line).groups()
            names[name] = kind if parameters is None else [p for p in parameters.split(", ") if p]
    return names


_names = _read_names()

# Parameters that must be values of the host in CuPy.
_host_parameters = frozenset(
    "axis axis1 axis2 axes shape newshape dtype order keepdims ddof k N M n num decimals source destination "
    "start stop step offset indices_or_sections shift".split()
)
# First parameters that must be arrays in CuPy, although NumPy takes lists; and the functions that take lists in CuPy.
_array_parameters = frozenset("a m x ary arr array ar a1 condition v".split())
_takes_lists = frozenset(
    "array asarray asanyarray ascontiguousarray asfortranarray shape ndim size isscalar iscomplexobj isrealobj "
    "min_scalar_type".split()
)
# Functions that must look at values, because their result's shape or their steps depend on them.
_waiting = frozenset(
    "nonzero flatnonzero argwhere unique unique_all unique_counts unique_inverse unique_values extract compress delete "
    "bincount histogram intersect1d union1d setdiff1d setxor1d trim_zeros place putmask choose array2string array_repr "
    "array_str median percentile quantile ravel_multi_index roots".split()
)
# Functions that return a Python number in NumPy and a 0-d array in CuPy.
_python_in_numpy = frozenset("allclose array_equal array_equiv count_nonzero".split())
# Functions left out because their indices would not be checked, as those of a[i] and add.at are.
_look_ups = frozenset("take take_along_axis put_along_axis put".split())
# Functions left out because minilora does this on the host: random numbers, files, text and Python callbacks.
_left_out = _look_ups | frozenset(
    "random frombuffer fromfile fromfunction fromiter fromstring from_dlpack genfromtxt loadtxt load save savetxt "
    "savez savez_compressed apply_along_axis apply_over_axes piecewise set_printoptions get_printoptions printoptions "
    "show_config typename mintypecode iterable".split()
)
_scatter_dtypes = {
    "add": "float16 float32 float64 int32 uint32 uint64",
    "subtract": "int32 uint32",
    "maximum": "float32 float64 int32 uint32 uint64",
    "minimum": "float32 float64 int32 uint32 uint64",
}


def _check_call(name: str, parameters: list[str], args: tuple, kwargs: dict) -> dict:
    """Return the arguments by name. Raises TypeError if CuPy lacks a parameter, or needs the other kind of value."""
    variadic = any(p.startswith("*") for p in parameters)
    unknown = [key for key in kwargs if key not in parameters]
    if unknown:
        raise TypeError(f"CuPy's {name} has no parameter {', '.join(unknown)}")
    if len(args) > len(parameters) and not variadic:
        raise TypeError(f"CuPy's {name} takes at most {len(parameters)} arguments")
    bound = {} if variadic else dict(zip(parameters, args, strict=False))
    bound |= kwargs
    for key, value in bound.items():
        if key in _host_parameters and any(True for _ in arrays_in(value)):
            raise TypeError(f"{key}= of {name} is a value of the host, not a device array")
    if parameters[:1] in (["*shape"], ["*axes"]) and any(True for _ in arrays_in(args)):
        raise TypeError(f"the {parameters[0][1:]} for {name} is a value of the host, not a device array")
    return bound


def _function(name: str, parameters: list[str], function):
    """Wrap NumPy's `function` so that it follows CuPy's rules."""
    last = name.rpartition(".")[2]

    def call(*args, **kwargs):
        bound = _check_call(name, parameters, args, kwargs)
        first = next(iter(bound.values()), None)
        if parameters[:1] == ["tup"] and not all(isinstance(a, StrictArray) for a in first):
            raise TypeError(f"{name} on a device joins device arrays only")
        if (
            parameters
            and parameters[0] in _array_parameters
            and last not in _takes_lists
            and not isinstance(bound.get(parameters[0]), StrictArray)
        ):
            raise TypeError(f"{name} on a device needs a device array, not {type(first).__name__}")
        if (
            last in _waiting
            or (last == "where" and "x" not in bound)
            or (last == "repeat" and isinstance(bound["repeats"], StrictArray))
        ):
            count("waited")
        result = _compute(function, *args, **kwargs)
        return _wrap(np.asarray(result)) if last in _python_in_numpy and is_number(result) else result

    call.__name__ = last
    return call


class StrictUfunc:
    """A NumPy ufunc with the parameters of CuPy's ufuncs, and with `at` as its only method."""

    def __init__(self, name: str, function):
        self.__name__ = name
        self._function = function

    def __call__(self, *args, out=None, dtype=None, casting=None):
        for a in args:
            _plain(a)
            if not (isinstance(a, StrictArray) or is_number(a)):
                raise TypeError(f"{self.__name__} on a device takes device arrays and numbers, not {type(a).__name__}")
        named = {"out": out, "dtype": dtype, "casting": casting}
        return _compute(self._function, *args, **{key: value for key, value in named.items() if value is not None})

    def at(self, a, indices, b=None):
        if self.__name__ not in _scatter_dtypes:
            raise NotImplementedError(f"CuPy has no {self.__name__}.at")
        if not isinstance(a, StrictArray):
            raise TypeError(f"{self.__name__}.at on a device needs a device array, not {type(a).__name__}")
        key = a._key(indices)
        if any(True for _ in arrays_in(indices)) and a.dtype.name not in _scatter_dtypes[self.__name__].split():
            raise TypeError(f"CuPy has no {self.__name__}.at for {a.dtype}")
        with np.errstate(all="ignore"):
            self._function.at(a._array, key, _plain(b))


def _method(name: str, parameters: list[str]):
    function = getattr(np.ndarray, name)

    def call(self, *args, **kwargs):
        _check_call(f"ndarray.{name}", parameters, args, kwargs)
        if name in _waiting:
            count("waited")
        return _compute(function, self, *args, **kwargs)

    call.__name__ = name
    return call


_own = {"get", "item", "tolist", "tobytes"}  # defined in StrictArray or DeviceArray
_left_out_methods = {"tofile", "dump", "dumps", "byteswap"} | _look_ups
for _name, _parameters in _names.items():
    _name = _name.removeprefix("ndarray.") if _name.startswith("ndarray.") else ""
    if _parameters is not None and hasattr(np.ndarray, _name) and _name not in _own | _left_out_methods:
        setattr(StrictArray, _name, _method(_name, _parameters))


# The backend


def _under_rules(name: str, value):
    """Return the namespace's counterpart of NumPy's `value`, or None if CuPy lacks it."""
    if name in _left_out:
        return None
    parameters = _names[name]
    if parameters == "ufunc":
        return StrictUfunc(name, value)
    if parameters is not None:
        return _function(name, parameters, value)
    is_type = isinstance(value, type) and issubclass(value, np.generic | np.dtype | np.finfo | np.iinfo)
    return value if is_type or isinstance(value, float) else None


@cache
def _namespace() -> SimpleNamespace:
    namespace, linalg = SimpleNamespace(newaxis=None, ndarray=StrictArray), SimpleNamespace()
    for name in _names:
        room, _, last = name.rpartition(".")
        home, target = {"": (np, namespace), "linalg": (np.linalg, linalg)}.get(room, (None, None))
        offered = _under_rules(name, getattr(home, last)) if hasattr(home, last) else None
        if offered is not None:
            setattr(target, last, offered)
    namespace.linalg = linalg
    return namespace


def _from_host(array: np.ndarray) -> StrictArray:
    return _wrap(np.array(array))


def load() -> Backend:
    """Make the backend "strict"."""
    return Backend(
        name="strict",
        namespace=_namespace(),
        array_type=StrictArray,
        from_host=_from_host,
        to_host=StrictArray.get,
        is_cpu=False,
    )
