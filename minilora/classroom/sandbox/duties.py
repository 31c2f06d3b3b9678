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
from collections.abc import Callable, Collection, Iterator
from dataclasses import is_dataclass
from functools import wraps
from typing import Any

import numpy as np

from minilora.classroom.device import DeviceArray
from minilora.nn import Module
from minilora.tensor import Tensor

KEPT = 12  # results that are looked at again
DEEPEST = 4  # of values in values

Breach = dict[str, Any]  # in plain values: "duty", "function", "name", "before", "after"


class Duties:
    """names: of functions and of "Class.method"s; shares, switches: those of them that may."""

    def __init__(self, names: Collection[str], shares: Collection[str], switches: Collection[str]):
        self.names, self.shares, self.switches = names, shares, switches
        self.breach: Breach | None = None  # the first one
        self._results: deque[tuple[str, np.ndarray, np.ndarray, bool]] = deque(maxlen=KEPT)
        self._depth = 0

    def watched(self, student: Any) -> "View":
        """Return the student's module with its functions watched; methods are watched in their classes from now on."""
        functions = {}
        for name in self.names:
            owner, _, method = name.partition(".")
            thing = getattr(student, owner, None)
            if method and isinstance(thing, type) and inspect.isfunction(vars(thing).get(method)):
                setattr(thing, method, self._watch(name, vars(thing)[method]))
            elif not method and inspect.isfunction(thing):
                functions[name] = self._watch(name, thing)
        return View(student, functions)

    def _watch(self, name: str, function: Callable) -> Callable:
        parameters = list(inspect.signature(function).parameters)

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            if self._depth:
                return function(*arguments, **named)
            names = parameters + [f"argument {i + 1}" for i in range(len(parameters), len(arguments))]
            passed = list(zip(names, arguments, strict=False)) + list(named.items())
            before = [(place, array, array.copy()) for who, value in passed for place, array in arrays_in(value, who)]
            outlines = [(who, value, outline(value)) for who, value in passed if isinstance(value, (list, tuple, dict))]
            models = [pair for who, value in passed for pair in models_in(value, who)]
            modes = [(place, model, modes_of(model)) for place, model in models]
            settings = settings_of_numpy()
            self._depth += 1
            try:
                result = function(*arguments, **named)
            finally:
                self._depth -= 1
                self._compare(name, before, outlines)
                if name not in self.switches:
                    self._compare_modes(name, modes)
                for what, was in settings.items():
                    if settings_of_numpy()[what] != was:
                        self._break("settings", name, what, None, None)
            self._look_at(name, result, before)
            return result

        return call

    def _compare(self, name: str, before: list, outlines: list) -> None:
        for place, array, was in before:
            if not _same(array, was):
                self._break("changed", name, place, was, array.copy())
        for who, value, was in outlines:
            if (now := outline(value)) != was:
                self._break("changed", name, *first_change(who, was, now))

    def _compare_modes(self, name: str, modes: list) -> None:
        for who, module, was in modes:
            now = modes_of(module)
            if changed := [path for path, mode in was.items() if now.get(path, mode) != mode]:
                place = f"the mode of {who}{'.' if changed[0] else ''}{changed[0]}"
                words = [("evaluation", "training")[mode] for mode in (was[changed[0]], now[changed[0]])]
                self._break("mode", name, place, *words)

    def _look_at(self, name: str, result: Any, before: list) -> None:
        for function, array, was, _ in self._results:
            if not _same(array, was):
                self._break("result changed", name, f"an earlier result of {function}", was, array.copy())
        if _is_parameter(result):
            return
        is_plain = not _holds_tensors(result)  # whether Tensors share memory is the library's own business
        others = [(place, array) for place, array, _ in before]
        others += [(f"an earlier result of {function}", array) for function, array, _, plain in self._results if plain]
        for _, array in arrays_in(result):
            shared = [place for place, other in others if is_plain and _is_shared(array, other)]
            if shared and name in self.shares:
                continue
            if shared:
                self._break("shares", name, shared[0], None, None)
            if is_plain and array.size:
                others.append(("another part of it", array[(slice(0, 1),) * array.ndim]))  # parts may be interleaved
            self._results.append((name, array, array.copy(), is_plain))

    def _break(self, duty: str, function: str, name: str, before: Any, after: Any) -> None:
        facts = {"duty": duty, "function": function, "name": name, "before": before, "after": after}
        self.breach = self.breach or facts


class View:
    """A module in which some functions are others; what is set is set in the module."""

    def __init__(self, module: Any, functions: dict[str, Callable]):
        vars(self)["_module"], vars(self)["_functions"] = module, functions

    def __getattr__(self, name: str) -> Any:
        return vars(self)["_functions"].get(name) or getattr(vars(self)["_module"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["_module"], name, value)


def models_in(value: Any, place: str, depth: int = 0) -> Iterator[tuple[str, Module]]:
    """Yield (where, model) of all models in a value: "model", "replicas[1]"."""
    if isinstance(value, Module):
        yield place, value
    elif depth < DEEPEST and isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from models_in(item, f"{place}[{key!r}]", depth + 1)


def modes_of(module: Module) -> dict[str, bool]:
    """Return {path: is it in training mode?} of a module and all below it."""
    return {path: bool(part.training) for path, part in module.named_modules()}


def settings_of_numpy() -> dict[str, Any]:
    """Return NumPy's settings, which a function may leave changed for everybody else."""
    drawn: Any = np.random.get_state()
    return {"how NumPy warns (np.seterr)": np.geterr(), "NumPy's global generator": (drawn[2], drawn[1][:3].tobytes())}


def outline(value: Any, depth: int = 0) -> Any:
    """Outline a value: keys, items, numbers and text as they are, of other things which object it is."""
    if depth < DEEPEST and isinstance(value, dict):
        return {key: outline(item, depth + 1) for key, item in value.items()}
    if depth < DEEPEST and isinstance(value, (list, tuple)):
        return [outline(item, depth + 1) for item in value]
    return value if isinstance(value, (int, float, str, type(None))) else f"{type(value).__name__} {id(value)}"


def first_change(place: str, was: Any, now: Any) -> tuple[str, Any, Any]:
    """Return (where, before, after) of the first difference of two outlines."""
    if isinstance(was, dict) and isinstance(now, dict) and was.keys() == now.keys():
        key = next(key for key in was if was[key] != now[key])
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        key = next(i for i, item in enumerate(was) if item != now[i])
    else:
        return place, was, now
    return first_change(f"{place}[{key!r}]", was[key], now[key])


def arrays_in(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (where, array) of all arrays in a value: "x" (a Tensor's, too), "batch['labels']", "state.absmax"."""
    if isinstance(value, np.ndarray):
        yield place, value
    elif isinstance(value, Tensor):
        yield place, value.data
    elif isinstance(value, DeviceArray):
        yield place, value._array
    elif depth < DEEPEST and isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from arrays_in(item, f"{place}[{key!r}]", depth + 1)
    elif depth < DEEPEST and is_dataclass(value) and hasattr(value, "__dict__") and not isinstance(value, type):
        for key, item in vars(value).items():
            yield from arrays_in(item, f"{place}.{key}", depth + 1)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, (Tensor, DeviceArray)) or (
        isinstance(value, (list, tuple, dict))
        and any(map(_holds_tensors, value.values() if isinstance(value, dict) else value))
    )


def _is_shared(array: np.ndarray, other: np.ndarray) -> bool:
    return np.may_share_memory(array, other) and (array.flags.writeable or other.flags.writeable)


def _is_parameter(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad and value._node is None


def _same(array: np.ndarray, was: np.ndarray) -> bool:
    return array.shape == was.shape and array.dtype == was.dtype and array.tobytes() == was.tobytes()
