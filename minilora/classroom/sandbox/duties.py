"""Duties of every function towards its caller, whatever it computes. They are watched beside the student's code.

    it leaves its arguments unchanged
    its result shares no memory with them or with an earlier result, unless that memory is read-only
    its result stays unchanged when the function is called again
    it leaves a model in the mode (training or evaluation) that it was in, and NumPy's settings as they were

Only calls from outside are watched, of the functions that a lesson asks for, because a student's functions may treat
each other as they like. In checks.py, `promise(shares=True)` or `switches` lifts a duty from a function.
"""

import inspect
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import wraps
from typing import Any

import numpy as np

from minilora.nn import Module
from minilora.tensor import Tensor

KEPT = 12  # earlier results that are compared again
DEEPEST = 4  # levels of nested values that are compared
DUTIES = {"the mode of ": "mode", "NumPy's ": "settings"}  # start of a place's name -> duty
FINE = ("shares", "settings")  # duties whose neglect is only remarked, so that any other is reported before them
PLAIN = (int, float, str, bool, type(None))  # types compared by value; other items of a list by identity


class Duties:
    """A watch on functions of a module. watched: {"function" or "Class.method": the duties that do not bind it}."""

    def __init__(self, module: Any, watched: Mapping[str, Collection[str]]):
        self.module, self.watched = module, watched
        self.breach: dict[str, Any] | None = None  # the first breach: "duty", "function", "name", "before", "after"
        self._results: deque[tuple[str, np.ndarray, np.ndarray, bool]] = deque(maxlen=KEPT)
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
            if self._is_inside:
                return function(*arguments, **named)
            passed = [*zip(parameters, arguments, strict=False), *named.items()]
            facts, arrays = state_of(passed)
            copies = {place: array.copy() for place, array in arrays.items()}
            self._is_inside = True
            try:
                result = function(*arguments, **named)
            finally:
                self._is_inside = False
                for before, after in ((facts, state_of(passed)[0]), (copies, arrays)):
                    for place, old in before.items():
                        if not _same(new := after.get(place, old), old):  # parts of a model may come and go
                            duty = next((DUTIES[start] for start in DUTIES if place.startswith(start)), "changed")
                            self._break(duty, name, place, old, new)
            self._check_result(name, result, [*arrays.items()])
            return result

        return call

    def _check_result(self, name: str, result: Any, arguments: list[tuple[str, np.ndarray]]) -> None:
        """Check that earlier results are unchanged and that this result shares no memory; keep its arrays for later."""
        for function, array, old, _ in self._results:
            if not _same(array, old):
                self._break("result changed", name, f"an earlier result of {function}", old, array.copy())
        if isinstance(result, Tensor) and result.requires_grad and result._node is None:
            return  # a parameter
        is_plain = not _holds_tensors(result)  # Tensors may share memory, as the library decides
        others = [*arguments, *((f"an earlier result of {f}", array) for f, array, _, plain in self._results if plain)]
        for _, array in parts_of(result):
            if not isinstance(array, np.ndarray):
                continue
            shared = [place for place, other in others if is_plain and _is_shared(array, other)]
            if shared:
                self._break("shares", name, shared[0])
                if "shares" in self.watched[name]:
                    continue
            if is_plain and array.size:
                first = array[(slice(0, 1),) * array.ndim]  # one element, because parts may be interleaved in memory
                others.append(("another part of it", first))
            self._results.append((name, array, array.copy(), is_plain))

    def _break(self, duty: str, function: str, name: str, before: Any = None, after: Any = None) -> None:
        facts = {"duty": duty, "function": function, "name": name, "before": before, "after": after}
        first = self.breach
        if duty not in self.watched[function] and (not first or first["duty"] in FINE and duty not in FINE):
            self.breach = facts


def state_of(passed: Iterable[tuple[str, Any]]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the `parts_of` values by place, in two dictionaries: all but arrays, with NumPy's settings; and arrays."""
    parts = [part for place, value in passed for part in parts_of(value, place)]
    arrays = {place: part for place, part in parts if isinstance(part, np.ndarray)}
    generator: Any = np.random.get_state()
    settings = {
        "NumPy's warnings (np.seterr)": str(np.geterr()),
        "NumPy's global generator": (generator[2], generator[1][:3].tolist()),
    }
    return {place: part for place, part in parts if not isinstance(part, np.ndarray)} | settings, arrays


def parts_of(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield (place, part) for everything that a call could change: "x", "batch['labels']", "state.absmax".

    The part is an array (also for a Tensor), a model's mode, or for other items of a list or dictionary their identity.
    """
    if (array := array_of(value)) is not None:
        yield place, array
    elif isinstance(value, Module):
        for path, part in value.named_modules():
            yield f"the mode of {place}.{path}".rstrip("."), "training" if part.training else "evaluation"
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


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return any(map(_holds_tensors, value.values() if isinstance(value, dict) else value))
    return array_of(value) is not None and not isinstance(value, np.ndarray)


def _is_shared(array: np.ndarray, other: np.ndarray) -> bool:
    return np.may_share_memory(array, other) and (array.flags.writeable or other.flags.writeable)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, (list, dict)):  # the items have places of their own
        return len(a) == len(b) and (isinstance(a, list) or a.keys() == b.keys())
    return a is b or a == b  # `is`, because NaN does not equal itself
