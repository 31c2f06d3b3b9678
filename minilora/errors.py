"""Errors that are the reader's to mend, notes, and how the messages of both show values, names and lists."""

import sys
from collections.abc import Iterable
from difflib import get_close_matches


class MiniloraError(ValueError):
    """Something that was asked for cannot be done; the message is one line: what, with the value, and what to do."""

    exit_code = 2  # of the command line


class FormatError(MiniloraError):
    """A file is not what its name promises; the message says which file and where."""


class NotLearned(MiniloraError):
    """A training in which no evaluation beat the start."""

    exit_code = 3


class Stopped(BaseException):
    """A signal that asked for the end, after what there was has been saved. Like KeyboardInterrupt it is no Exception,
    so that nothing which handles errors takes it for one.
    """

    def __init__(self, signum: int, message: str = "stopped; go on with --resume"):
        super().__init__(signum, message)  # the arguments that unpickling it needs
        self.signum, self.exit_code = signum, 128 + signum

    def __str__(self) -> str:
        return str(self.args[1])


def print_notes(notes: Iterable[str]) -> None:
    """Say on standard error what the reader should know of something that went on."""
    for note in notes:
        print(f"minilora: note: {note}", file=sys.stderr)


def escape(value: object, limit: int = 80) -> str:
    """`value` as text for an error message: one line, control characters escaped, at most `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def first_few(items: Iterable[str], count: int = 3, separator: str = ", ") -> str:
    """The first `count` items as text, escaped, and how many more there are: "a, b, c and 97 more"."""
    texts = list(items)
    more = f"{'; ' if separator == '; ' else ' '}and {len(texts) - count:,} more" if len(texts) > count else ""
    return separator.join(escape(text, 400) for text in texts[:count]) + more


def flag_of(setting: str) -> str:
    """The flag that a setting is typed by: --batch-size of batch_size."""
    return f"--{setting.replace('_', '-')}"


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that is none of `known`: with the nearest one, if one is near, and all there are."""
    names = list(known)
    near = did_you_mean(name, names, after=" There are ") or "there are "
    return f"unknown {kind} {escape(repr(name))}: {near}{', '.join(names)}"


def did_you_mean(name: object, known: Iterable[str], before: str = "", after: str = "") -> str:
    """The question whether the nearest of `known` was meant, between `before` and `after`; "" where none is near."""
    names = {other.lower(): other for other in known}
    near = get_close_matches(str(name)[:80].lower(), names, n=1)
    return f"{before}did you mean {names[near[0]]!r}?{after}" if near else ""
