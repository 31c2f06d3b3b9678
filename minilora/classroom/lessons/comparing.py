"""Comparing a result with what is expected, and showing both in a report."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from minilora.classroom.sandbox.runner import Raised
from minilora.classroom.sandbox.wire import Unserializable
from minilora.errors import escape

TOLERANCE = 1e-5  # relative to the largest absolute value that is expected, or to 1e-2 if that is smaller


def difference(expected: Any, got: Any, tolerance: float) -> str | None:
    """Describe the difference in a sentence; None if there is none."""
    if isinstance(expected, list) and _is_ragged(expected):
        expected = tuple(expected)
    is_list = isinstance(expected, list)
    parts: Iterable[Any] = ()
    if isinstance(expected, dict):
        if not isinstance(got, dict) or set(got) != set(expected):
            return f"It should be a dictionary with {', '.join(map(repr, expected))}."
        parts = expected
    elif isinstance(expected, tuple) or is_list and any(isinstance(x, (dict, tuple)) for x in expected):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            return f"It should be {len(expected)} results, as a {type(expected).__name__}."
        parts = range(len(expected))
    elif is_list and any(isinstance(item, str) for item in expected):
        same = isinstance(got, (list, tuple)) and len(got) == len(expected)
        if not same or any(difference(e, g, tolerance) for e, g in zip(expected, got, strict=True)):
            return f"It should be {show_value(expected)}."
    elif expected is None or isinstance(expected, (str, bool)):
        if isinstance(expected, bool) and isinstance(got, np.ndarray) and got.shape == () and got.dtype == bool:
            got = bool(got)
        if type(got) is not type(expected) or got != expected:
            return f"It should be {show_value(expected)}."
    else:
        return _array_difference(np.asarray(expected), got, tolerance)
    problems = ((part, difference(expected[part], got[part], tolerance)) for part in parts)
    return next((f"Part [{part!r}]: {problem}" for part, problem in problems if problem), None)


def _is_ragged(values: list) -> bool:
    """Return True if the values have different shapes, so that no array can be made of them."""
    try:
        np.asarray(values)
    except ValueError:
        return True
    return False


def _array_difference(expected: np.ndarray, got: object, tolerance: float) -> str | None:
    if isinstance(got, (Unserializable, Raised, str, dict)) or got is None:
        kind = "a number" if expected.ndim == 0 else "an array"
        return f"It should be {kind}, not None." if got is None else f"It should be {kind}."
    try:
        array = np.asarray(got)
    except ValueError:
        return "The rows have different lengths."
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "b") != (expected.dtype.kind == "b"):
        return f"It should hold {'Booleans' if expected.dtype.kind == 'b' else 'numbers'}."
    if array.shape != expected.shape:
        return f"The shape is {array.shape}, not {expected.shape}."
    if expected.size == 0 or np.array_equal(array, expected):
        return None
    e, g = expected.astype(np.float64), array.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(g - e)
        wrong = ~(error <= tolerance * max(np.abs(e[np.isfinite(e)]).max(initial=0), 1e-2)) & ~(g == e)
    wrong &= ~(np.isnan(g) & np.isnan(e))
    if not wrong.any():
        return None
    if expected.ndim == 0:
        ratio = float(g) / float(e) if e and np.isfinite(g) else np.nan
        if not np.isfinite(ratio) or ratio == 0:
            return "The number is wrong."
        if abs(ratio - 1) < 0.02:
            return "The number is wrong: {1}, not {0}.".format(*show_both(float(e), float(g)))
        return f"The number is wrong: it is {ratio:.3g} times the expected one."
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    where = str(place[0]) if len(place) == 1 else str(place)
    numbers = "{1}, not {0}".format(*show_both(float(e[place]), float(g[place])))
    return f"{int(wrong.sum())} of {wrong.size} elements differ, first at {where}: {numbers}."


def show_value(value: object, digits: int = 4) -> str:
    """Format a value for a report: small arrays in full, large ones as their shape and first elements."""
    if isinstance(value, np.ndarray) and value.ndim:
        if value.size <= (32 if value.dtype == bool else 16):
            return np.array2string(value, precision=digits, suppress_small=digits == 4, max_line_width=60)
        first = ", ".join(f"{x:.{digits}g}" for x in value.reshape(-1)[:4])
        return f"an array of shape {value.shape}: {first}, …"
    if isinstance(value, np.ndarray):
        value = value.item()
    if isinstance(value, float):
        return f"{value:.{digits + 2}g}"
    if isinstance(value, dict):
        parts = ", ".join(f"{key!r}: {_in_one_line(item, digits)}" for key, item in value.items())
        return escape("{" + parts + "}", 300)
    if isinstance(value, (list, tuple)):
        parts = ", ".join(_in_one_line(item, digits) for item in value)
        return escape(f"[{parts}]" if isinstance(value, list) else f"({parts})", 300)
    return escape(repr(value), 300)


def show_both(expected: object, got: object) -> tuple[str, str]:
    """Format two values, with as many digits as it takes to tell them apart."""
    for digits in (4, 6, 8, 11, 15):
        texts = show_value(expected, digits), show_value(got, digits)
        if texts[0] != texts[1]:
            return texts
    return show_value(expected), show_value(got)


def _in_one_line(value: object, digits: int = 4) -> str:
    return " ".join(show_value(value, digits).split())
