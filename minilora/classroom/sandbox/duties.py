"""Duties of every function towards its caller, whatever it computes. They are watched beside the student's code.

    it leaves its arguments unchanged
    it leaves a model in the mode (training or evaluation) that it was in
    its result stays unchanged when the function is called again
    its result shares no memory with the arguments, unless that memory is read-only

Only calls from outside are watched, of the functions that a lesson asks for, because a student's functions may treat
each other as they like. In checks.py, `promise(shares=True)` or `switches` lifts a duty from a function.
"""

import inspect
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import is_dataclass
from functools import wraps
from typing import Any

import numpy as np

from minilora.nn import Module

KEPT = 12  # arrays of earlier results that are compared again
DEEPEST = 4  # levels of nested values that are compared
MODE = "the mode of "  # start of the name of a model's mode
FINE = "shares"  # a duty whose neglect is only remarked, so that any other is reported before it
PLAIN = (int, float, str, bool, type(None))  # types compared by value; other items of a list by identity


class Duties:
    """A watch on functions of a module. watched: {"function" or "Class.method": the duties that do not bind it}."""

    def __init__(self, module: Any, watched: Mapping[str, Collection[str]]):
        self.module, self.watched = module, watched
        self.breach: dict[str, Any] | None = None  # the first breach: "duty", "function", "name", "before", "after"
        self.called: list[str] = []  # names of the functions that were called so far, by whomever
        self._results: deque[tuple[str, np.ndarray, np.ndarray]] = deque(maxlen=KEPT)  # (function, array, its copy)
        self._is_inside = False

    def watch(self) -> None:
        """Start watching: replace each function by one that checks its duties."""
        for name in self.watched:
            *owner, last = name.split(".")
            holder = getattr(self.module, owner[0], None) if owner else self.module
            if inspect.isfunction(function := getattr(holder, "__dict__", {}).get(last)):
                setattr(holder, last, self._watched(name, function))

    def _watched(self, name: str, function: Callable) -> Callable:
        parameters = list(inspect.signature(function).parameters)

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            self.called += [] if name in self.called else [name]
            if self._is_inside:
                return function(*arguments, **named)
            passed = [*zip(parameters, arguments, strict=False), *named.items()]
            parts = {place: part for name, value in passed for place, part in parts_of(value, name)}
            before = {place: part.copy() if isinstance(part, np.ndarray) else part for place, part in parts.items()}
            self._is_inside = True
            try:
                result = function(*arguments, **named)
            finally:
                self._is_inside = False
                after = {place: part for name, value in passed for place, part in parts_of(value, name)}
                for place, old in before.items():
                    if not _same(new := after.get(place, old), old):  # parts of a model may come and go
                        self._break("mode" if place.startswith(MODE) else "changed", name, place, old, new)
            for earlier, array, old in self._results:
                if not _same(array, old):
                    self._break("result changed", name, f"an earlier result of {earlier}", old, array.copy())
            for array in arrays_in(result):
                if shared := [place for place, part in parts.items() if _is_shared(part, array)]:
                    self._break("shares", name, shared[0])
                else:
                    self._results.append((name, array, array.copy()))
            return result

        return call

    def _break(self, duty: str, function: str, name: str, before: Any = None, after: Any = None) -> None:
        first = self.breach
        if duty not in self.watched[function] and (not first or first["duty"] == FINE != duty):
            self.breach = {"duty": duty, "function": function, "name": name, "before": before, "after": after}


def parts_of(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield (place, part) for everything that a call could change: "x", "batch['labels']", "state.absmax".

    The part is an array (also for a Tensor), a model's mode, or for other items of a list or dictionary their identity.
    """
    if (array := array_of(value)) is not None:
        yield place, array
    elif isinstance(value, Module):
        for path, part in value.named_modules():
            yield f"{MODE}{place}.{path}".rstrip("."), "training" if part.training else "evaluation"
    elif depth < DEEPEST and isinstance(value, (list, tuple, dict)):
        items = value if isinstance(value, dict) else dict(enumerate(value))
        facts = {k: item if type(item) in PLAIN else f"{type(item).__name__} {id(item)}" for k, item in items.items()}
        yield place, facts if isinstance(value, dict) else list(facts.values())
        for key, item in items.items():
            yield f"{place}[{key!r}]", facts[key]
            yield from parts_of(item, f"{place}[{key!r}]", depth + 1)
    elif depth < DEEPEST and is_dataclass(value) and hasattr(value, "__dict__") and not isinstance(value, type):
        for key, item in vars(value).items():
            yield from parts_of(item, f"{place}.{key}", depth + 1)


def array_of(value: Any) -> np.ndarray | None:
    """Return the value if it is an array, or the array of a Tensor or of lesson 03's DeviceArray; else None."""
    kinds = {kind.__name__ for kind in type(value).__mro__}
    if "Tensor" in kinds:
        return value.data
    return value._array if "DeviceArray" in kinds else value if isinstance(value, np.ndarray) else None


def arrays_in(result: Any) -> Iterator[np.ndarray]:
    """Yield the arrays in a result, without those of Tensors, whose memory is the library's affair."""
    if isinstance(result, np.ndarray):
        yield result
    elif isinstance(result, (list, tuple, dict)):
        for item in result.values() if isinstance(result, dict) else result:
            yield from arrays_in(item)


def _is_shared(part: Any, array: np.ndarray) -> bool:
    is_array = isinstance(part, np.ndarray) and (part.flags.writeable or array.flags.writeable)
    return is_array and np.may_share_memory(part, array)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
        return both and a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, (list, dict)):  # the items have places of their own
        return len(a) == len(b) and (isinstance(a, list) or a.keys() == b.keys())
    return a is b or a == b  # `is`, because NaN does not equal itself
