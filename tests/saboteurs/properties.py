"""Properties of a call's arguments on which a sabotaged function is wrong: "an axis has length 1", "values repeat".

This file imports only NumPy, because its text runs beside the sabotaged functions (`made.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np


def array_of(value: Any) -> np.ndarray | None:
    """Return the value if it is an array, or the array of a Tensor or of lesson 03's DeviceArray; else None."""
    kinds = {kind.__name__ for kind in type(value).__mro__}
    if "Tensor" in kinds:
        return value.data
    return value._array if "DeviceArray" in kinds else value if isinstance(value, np.ndarray) else None


def arrays(values: Any) -> Iterator[np.ndarray]:
    """Yield all arrays in nested values, including those of Tensors."""
    for value in values.values() if isinstance(values, dict) else values:
        if (array := array_of(value)) is not None:
            yield array
        elif isinstance(value, (list, tuple, dict)):
            yield from arrays(value)


def _any(test: Callable[[np.ndarray], Any]) -> Callable[[Sequence], bool]:
    return lambda values: any(a.ndim > 0 and bool(test(a)) for a in arrays(values))


def _is_float(a: np.ndarray) -> bool:
    return a.dtype.kind == "f" and a.size > 0


def _size(a: np.ndarray) -> float:
    """Return the largest finite magnitude."""
    finite = np.abs(a[np.isfinite(a)]) if _is_float(a) else a[:0]
    return float(finite.max(initial=0.0))


def _is_padded_first(a: np.ndarray) -> bool:
    """Return True if a row of labels or of a mask begins with padding (-100, or 0 if all values are 0 or 1)."""
    if a.dtype.kind not in "biu" or a.ndim < 2 or not a.size:
        return False
    return bool((a[..., 0] == -100).any() or (set(np.unique(a)) <= {0, 1} and (a[..., 0] == 0).any()))


# name -> test of the arguments
PROPERTIES: dict[str, Callable[[Sequence], bool]] = {
    "empty": lambda values: (
        any(isinstance(v, (list, tuple, dict)) and not v for v in values) or _any(lambda a: not a.size)(values)
    ),
    "one row": _any(lambda a: a.shape[0] == 1),
    "size 1": _any(lambda a: 1 in a.shape),
    "square": _any(lambda a: a.ndim > 1 and a.shape[-1] == a.shape[-2]),
    "oblong": _any(lambda a: a.ndim > 1 and a.shape[-1] != a.shape[-2]),
    "further axes": _any(lambda a: a.ndim > 2),
    "ties": _any(lambda a: a.size > len(np.unique(a))),
    "zeros": _any(lambda a: _is_float(a) and (a == 0).any()),
    "large": _any(lambda a: _size(a) >= 100),
    "tiny": _any(lambda a: 0 < _size(a) <= 1e-3),
    "padding": _any(_is_padded_first),
    "integers": _any(lambda a: a.dtype.kind in "iu"),
    "float64": _any(lambda a: a.dtype == "float64"),
    "float32": _any(lambda a: a.dtype == "float32"),
}
