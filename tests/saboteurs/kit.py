"""Saboteurs: wrappers that make a right function wrong. This file imports nothing of ours, since its text runs beside
a solution.

`sabotage(names, "Class.method", kind, what)` replaces a right function by a wrong one, which prints ACTED, once, when
it first does something wrong.
"""

import copy
import functools
import inspect

import numpy as np

ACTED = "-- sabotaged --"
SEEN = "-- arguments: "  # what `observe` prints


def sabotage(names, where, kind, what, properties):
    """Put a wrong function in place of a right one.

    names: of the module; where: of the function; kind: a function below; what: the argument it asks for.
    """
    owner, _, method = where.rpartition(".")
    function = getattr(names[owner], method) if owner else names[where]
    acted: list[bool] = []

    def act():
        if not acted:
            acted.append(True)
            print(ACTED)

    wrong = functools.wraps(function)(globals()[kind](function, what, act, properties))
    if owner:
        setattr(names[owner], method, wrong)
    else:
        names[where] = wrong


def bound(function, arguments, named):
    """Return {name: value}, defaults included."""
    bound_arguments = inspect.signature(function).bind(*arguments, **named)
    bound_arguments.apply_defaults()
    return bound_arguments.arguments


def array_of(x):
    """Return an array, or the array of a Tensor; None for anything else."""
    if isinstance(x, np.ndarray):
        return x
    return x.data if type(x).__name__ == "Tensor" else x._array if type(x).__name__ == "DeviceArray" else None


def spoil(x):
    """Return another value of the same kind."""
    if isinstance(x, bool):
        return not x
    if isinstance(x, str):
        return x + "?"
    if isinstance(x, np.ndarray):
        return ~x if x.dtype == bool else (x * 2 + 1).astype(x.dtype)
    if isinstance(x, (list, tuple)):
        return type(x)([spoil(x[0]), *x[1:]]) if x else type(x)([0])
    if isinstance(x, dict):
        first = next(iter(x), None)
        return {**x, first: spoil(x.get(first, 0))}
    if x is None or not hasattr(x, "__add__"):
        raise ValueError("sabotaged")
    return x * 2 + 1


def shapes(values):
    """Return the shapes, sizes and words of a call, without the words in lists and the numbers in dictionaries."""
    descriptions: list[object] = []
    for value in values:
        array = array_of(value)
        if array is not None:
            descriptions.append((array.shape, str(array.dtype)))
        elif isinstance(value, (list, tuple)):
            descriptions.append(tuple(shapes("" if isinstance(item, str) else item for item in value)))
        elif isinstance(value, dict):
            numbers_left_out = (0.0 if type(item) is int else item for item in value.values())
            descriptions.append((tuple(value), tuple(shapes(numbers_left_out))))
        elif isinstance(value, (int, str, bool, type(None))):
            descriptions.append(value)
        else:
            descriptions.append(type(value).__name__)
    return descriptions


# The kinds. Each takes the right function, what it is about, what to call when it acts, and PROPERTIES.


def observe(function, what, act, properties):
    """Return the right function, which also prints each kind of argument once."""
    written: set[str] = set()

    def same(*arguments, **named):
        for name, value in bound(function, arguments, named).items():
            for array in properties["arrays"]([value]):
                is_plain = array_of(value) is None or array_of(value) is value
                kind = "array" if is_plain else type(value).__name__
                line = f"{SEEN}{name} {kind} {array.dtype.kind} {array.ndim}"
                if line not in written:
                    print(line)
                written.add(line)
        return function(*arguments, **named)

    return same


def remembers(function, what, act, properties):
    """Return the function with answers from memory for arguments of known shapes."""
    memory = {}

    def wrong(*arguments, **named):
        key = str(shapes(bound(function, arguments, named).values()))
        if key in memory:
            act()
        else:
            memory[key] = function(*arguments, **named)
        return copy.deepcopy(memory[key]) if isinstance(memory[key], np.ndarray) else memory[key]

    return wrong


def another_result(function, change):
    """Return the function with `change` of its result, or of each of its results."""

    def changed(x):
        return tuple(map(changed, x)) if isinstance(x, tuple) else change(x)

    return lambda *arguments, **named: changed(function(*arguments, **named))


def another_dtype(function, what, act, properties):
    """Return the function with results in another dtype."""
    others = {"f4": "f8", "f8": "f4", "b1": "i8"}

    def cast(x):
        if not isinstance(x, np.ndarray):
            return x
        act()
        return x.astype(others.get(x.dtype.str[1:], "f8"))

    return another_result(function, cast)


def another_argument(function, what, change):
    """Return the function with `change` of an argument."""

    def wrong(*arguments, **named):
        values = bound(function, arguments, named)
        values[what] = change(values[what])
        call = inspect.signature(function).bind_partial()
        call.arguments.update(values)  # *args and **kwargs at their places
        return function(*call.args, **call.kwargs)

    return wrong


def keeps(function, what, act, properties):
    """Return the function with its first value of an argument in all calls."""
    first: list[object] = []

    def first_value(value):
        if first and first[0] != value:
            act()
        first.append(value)
        return first[0]

    return another_argument(function, what, first_value)


def cuts_gradient(function, what, act, properties):
    """Return the function without a gradient to one input."""

    def cut(value):
        if type(value).__name__ != "Tensor" or not value.requires_grad:
            return value
        act()
        return value.detach()

    return another_argument(function, what, cut)


def trains(function, what, act, properties):
    """Return the function with all parameters of its modules trainable afterwards; what: True, or False for none."""

    def wrong(*arguments, **named):
        result = function(*arguments, **named)
        values = bound(function, arguments, named).values()
        module = next((x for x in values if hasattr(x, "named_parameters")), None)
        if module is not None and any(p.requires_grad != what for _, p in module.named_parameters()):
            act()
            module.requires_grad_(what)
        return result

    return wrong


def lacks(function, what, act, properties):
    """Return the __init__ with one attribute deleted afterwards."""

    def wrong(self, *arguments, **named):
        function(self, *arguments, **named)
        act()
        delattr(self, what)

    return wrong


def wrong_where(function, what, act, properties):
    """Return the function with wrong results only for arguments with one property."""
    has = properties["PROPERTIES"][what]
    return spoiled_if(function, act, lambda values: has(list(values)))


def wrong_later(function, what, act, properties):
    """Return the function with wrong results in later calls. what: "second call" or "another length"."""
    first: list[object] = []

    def is_hit(values):
        first.append(str(shapes(values)))
        return len(first) > 1 and (what == "second call" or first[-1] != first[0])

    return spoiled_if(function, act, is_hit)


def spoiled_if(function, act, is_hit):
    """Return the function with another result where is_hit(the arguments' values)."""

    def wrong(*arguments, **named):
        hit = is_hit(bound(function, arguments, named).values())
        result = function(*arguments, **named)
        if hit:
            act()
        return spoil(result) if hit else result

    return wrong
