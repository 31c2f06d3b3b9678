"""Dataclass fields that declare which values they accept, and one function that checks them all.

@dataclass
class Settings:
    rank: int = whole(8, least=1)
    scaling: float | None = number(None, above=0, optional=True)

field_problems(Settings(rank=0))    # ["rank must be a whole number of at least 1, not 0"]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from operator import ge, gt, lt, ne
from typing import Any

from minilora.errors import MiniloraError, did_you_mean, escape

FLOAT32_MAX = 3.4028234663852886e38


@dataclass(frozen=True)
class Kind:
    """A kind of value: `words` for messages, `allows` to test a value, and `names` to suggest for a misspelt one."""

    words: str
    allows: Callable[[Any], bool]
    names: Sequence[str] = ()

    def hint(self, value: object) -> str:
        """Return "; did you mean …?" with the name nearest to `value`; "" if none is near."""
        return did_you_mean(value, self.names, before="; ")

    def problems(self, name: str, value: object) -> list[str]:
        """Return a list of one message if `value` is not allowed, else an empty one. name: the field's name."""
        if self.allows(value):
            return []
        return [f"{name} must be {self.words}, not {escape(repr(value))}{self.hint(value)}"]


def field_problems(config: Any) -> list[str]:
    """List what is wrong with the values of a dataclass's checked fields, in order. NumPy scalars among them are first
    replaced by Python numbers.
    """
    kinds = {f.name: f.metadata["kind"] for f in fields(config) if "kind" in f.metadata}
    for name in kinds:
        if _is_scalar(value := getattr(config, name)):
            setattr(config, name, value.item())
    return [problem for name, kind in kinds.items() for problem in kind.problems(name, getattr(config, name))]


def checked_value(name: str, value: Any, like: Any) -> Any:
    """Check the argument `name` by the rules of the field `like`; return it, a NumPy scalar as a Python number."""
    value = value.item() if _is_scalar(value) else value
    if problems := like.metadata["kind"].problems(name, value):
        raise MiniloraError(problems[0])
    return value


def _is_scalar(value: Any) -> bool:
    """Return True for a NumPy scalar."""
    return getattr(value, "shape", None) == ()


# Fields, by the values that they accept. Defaults are checked together with the other values, not here.


def checked(
    default: Any, words: str, allows: Callable[[Any], bool], optional: bool = False, names: Sequence[str] = ()
) -> Any:
    """Return a field whose values `allows` accepts. optional: allow None, too. A list or dict as default is copied."""
    kind = Kind(words, allows, names)
    if optional:
        kind = Kind(f"{words} or None", lambda value: value is None or allows(value), names)
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata={"kind": kind})
    return field(default=default, metadata={"kind": kind})


def whole(default: int | None, *, least: int = 0, optional: bool = False) -> Any:
    """Return a field for a whole number of at least `least`."""
    return checked(default, f"a whole number of at least {least}", lambda value: is_whole(value, least), optional)


def number(
    default: float | None,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    other_than: float | None = None,
    optional: bool = False,
) -> Any:
    """Return a field for a number that is finite in float32 and within the given bounds."""
    bounds: list[Any] = [("above", gt, above), ("of at least", ge, least), ("below", lt, below)]
    bounds = [bound for bound in (*bounds, ("other than", ne, other_than)) if bound[2] is not None]
    words = " ".join(["a number", " and ".join(f"{word} {bound:g}" for word, _, bound in bounds)]).strip()
    words = "a positive number" if words == "a number above 0" else words

    def allows(value: Any) -> bool:
        return is_number(value) and all(test(value, bound) for _, test, bound in bounds)

    return checked(default, words, allows, optional)


def flag(default: bool) -> Any:
    """Return a field for True or False."""
    return checked(default, "True or False", lambda value: type(value) is bool)


def choice(default: Any, *values: str, optional: bool = False) -> Any:
    """Return a field for one of several words. The error message suggests the nearest one."""
    words = f"one of {', '.join(values)}" if len(values) > 1 else repr(values[0])
    return checked(default, words, lambda value: isinstance(value, str) and value in values, optional, values)


def tokens(default: int | list[int] | None) -> Any:
    """Return a field for a token id, a list of them, or None."""
    return checked(default, "token ids", lambda value: is_whole(value) or is_list_of(is_whole, value), optional=True)


# Tests of one value


def is_whole(value: object, least: int = 0) -> bool:
    """Return True for an int of at least `least`; a bool is not one."""
    return type(value) is int and value >= least


def is_number(value: Any) -> bool:
    """Return True for an int or a float that is finite in float32; a bool is neither."""
    return type(value) in (int, float) and abs(value) <= FLOAT32_MAX


def is_list_of(allows: Callable[[Any], bool], value: object) -> bool:
    """Return True for a list, possibly empty, of which `allows` accepts every item."""
    return isinstance(value, list) and all(map(allows, value))
