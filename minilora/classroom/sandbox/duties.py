"""What a function owes whoever calls it, whatever it computes: watched in the child, beside the student's code.

    its arguments are afterwards as they were
    its result shares no memory with them, nor with a result from before, unless nobody can write there
    its result stays as it is when the function is called again
    a model is afterwards in the mode that it was in, and NumPy's own settings are what they were

Watched are calls from outside of the names that a lesson asks for: how a student's functions use one another is their
own business. In checks.py, `promise(shares=True)` or `switches` lifts a duty from a name.
"""

import inspect
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import is_dataclass
from functools import wraps
from typing import Any

import numpy as np

from minilora.classroom.properties import array_of
from minilora.nn import Module
from minilora.tensor import Tensor

KEPT = 12  # results that are looked at again
DEEPEST = 4  # of values in values
PLAIN = (int, float, str, bool, type(None))  # of other things in a list, it is looked at which objects they are


class Duties:
    """watched: of a module, the functions and "Class.method"s; of each the duties that do not bind it."""

    def __init__(self, module: Any, watched: Mapping[str, Collection[str]]):
        self.module, self.watched = module, watched
        self.breach: dict[str, Any] | None = None  # the first: "duty", "function", "name", "before", "after"
        self._results: deque[tuple[str, np.ndarray, np.ndarray, bool]] = deque(maxlen=KEPT)
        self._is_inside = False

    def watch(self) -> None:
        """Watch the functions from now on."""
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
            parts = [part for who, value in passed for part in parts_of(value, who)]
            before = [state_of(thing, place) for place, thing in parts]
            settings = settings_of_numpy()
            self._is_inside = True
            try:
                result = function(*arguments, **named)
            finally:
                self._is_inside = False
                for (place, thing), was in zip(parts, before, strict=True):
                    now = state_of(thing, place)
                    if isinstance(thing, Module):  # its parts may come and go
                        self._compare("mode", name, was, was | {path: now[path] for path in was if path in now})
                    elif was.keys() != now.keys():
                        self._break("changed", name, place, list(was.values()), list(now.values()))
                    else:
                        self._compare("changed", name, was, now)
                self._compare("settings", name, settings, settings_of_numpy())
            self._look_at(name, result, [part for part in parts if isinstance(part[1], np.ndarray)])
            return result

        return call

    def _compare(self, duty: str, function: str, was: dict[str, Any], now: dict[str, Any]) -> None:
        """Note the first place that is not as it was."""
        for place, before in was.items():
            if not _same(now[place], before):
                self._break(duty, function, place, before, now[place])

    def _look_at(self, name: str, result: Any, arguments: list[tuple[str, np.ndarray]]) -> None:
        """Note what of earlier results is not as it was, and what memory this result shares; keep its arrays."""
        for function, array, was, _ in self._results:
            if not _same(array, was):
                self._break("result changed", name, f"an earlier result of {function}", was, array.copy())
        if isinstance(result, Tensor) and result.requires_grad and result._node is None:
            return  # a parameter
        is_plain = not _holds_tensors(result)  # whether Tensors share memory is the library's own business
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
                others.append(("another part of it", array[(slice(0, 1),) * array.ndim]))  # parts may be interleaved
            self._results.append((name, array, array.copy(), is_plain))

    def _break(self, duty: str, function: str, name: str, before: Any = None, after: Any = None) -> None:
        facts = {"duty": duty, "function": function, "name": name, "before": before, "after": after}
        if duty not in self.watched[function]:
            self.breach = self.breach or facts


def parts_of(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield (where, thing) of what a call could change: "x" (a Tensor's array, too), "batch['labels']", "state.absmax".

    Things are arrays, containers and models.
    """
    if (array := array_of(value)) is not None or isinstance(value, Module):
        yield place, value if array is None else array
    elif depth < DEEPEST and isinstance(value, (list, tuple, dict)):
        yield place, value
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from parts_of(item, f"{place}[{key!r}]", depth + 1)
    elif depth < DEEPEST and is_dataclass(value) and hasattr(value, "__dict__") and not isinstance(value, type):
        for key, item in vars(value).items():
            yield from parts_of(item, f"{place}.{key}", depth + 1)


def state_of(thing: Any, place: str) -> dict[str, Any]:
    """Return {where: what is there} of one of `parts_of`, as far as it can be compared later."""
    if isinstance(thing, np.ndarray):
        return {place: thing.copy()}
    if isinstance(thing, Module):
        modes = {f"{place}.{path}".rstrip("."): part.training for path, part in thing.named_modules()}
        return {f"the mode of {path}": "training" if is_on else "evaluation" for path, is_on in modes.items()}
    items = thing.items() if isinstance(thing, dict) else enumerate(thing)
    return {
        f"{place}[{key!r}]": item if type(item) in PLAIN else f"{type(item).__name__} {id(item)}" for key, item in items
    }


def settings_of_numpy() -> dict[str, Any]:
    """Return NumPy's settings, which a function may leave changed for everybody else."""
    drawn: Any = np.random.get_state()
    return {"how NumPy warns (np.seterr)": np.geterr(), "NumPy's global generator": (drawn[2], drawn[1][:3].tolist())}


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return any(map(_holds_tensors, value.values() if isinstance(value, dict) else value))
    return array_of(value) is not None and not isinstance(value, np.ndarray)


def _is_shared(array: np.ndarray, other: np.ndarray) -> bool:
    return np.may_share_memory(array, other) and (array.flags.writeable or other.flags.writeable)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return a is b or a == b  # NaN is what it was
