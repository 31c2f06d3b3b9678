"""Errors that the user can fix, notes, and helpers that put values, names and lists into messages."""

import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from shutil import get_terminal_size
from textwrap import fill

VALUE = r"(?:'[^']*'|\"[^\"]*\"|(?!-)\S+)"
# What a wrapped message keeps on one line: a command, and a flag with the word after it, which may be its value.
UNBROKEN = re.compile(rf"minilora \w+(?: (?!-)\S+){{0,2}}(?: --?\S+(?: {VALUE})?)*|--\S+ {VALUE}")


class MiniloraError(ValueError):
    """A request that cannot be carried out. The message is one line: what is wrong, with the value, and what to do."""

    exit_code = 2  # exit code of the command


class FormatError(MiniloraError):
    """A file that is damaged or not in the expected format. The message says which file, and where in it."""


class NotLearned(MiniloraError):
    """A training run in which no evaluation was better than the start."""

    exit_code = 3


class Stopped(BaseException):
    """The end of a run by a signal, after its state was saved. Like KeyboardInterrupt, this is not an Exception, so
    that code that handles errors does not catch it.
    """

    def __init__(self, signum: int, message: str = "stopped; --resume continues the run"):
        super().__init__(signum, message)  # unpickling needs these as arguments
        self.signum, self.exit_code = signum, 128 + signum

    def __str__(self) -> str:
        return str(self.args[1])


def print_notes(notes: Iterable[str]) -> None:
    """Print notes to standard error: things that the user should know, but that do not stop the command."""
    for note in notes:
        print(wrap_message(f"minilora: note: {note}"), file=sys.stderr)


def line_width() -> int:
    """Return the columns that a line of a command's output may have: the terminal's, from 40 to 80."""
    return min(max(get_terminal_size().columns, 40), 80)  # long lines are hard to read in a wide terminal


def wrap_message(message: str) -> str:
    """Wrap a message for standard error between words, but not within a command, if a terminal shows it."""
    if not sys.stderr.isatty():
        return message  # one line, for scripts
    message = UNBROKEN.sub(lambda match: match[0].replace(" ", "\0"), message)
    lines = [fill(line, line_width(), break_long_words=False, break_on_hyphens=False) for line in message.split("\n")]
    return "\n".join(lines).replace("\0", " ")


def escape(value: object, limit: int = 80) -> str:
    """Return `value` as text for a message: one line, control characters escaped, at most `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def first_few(items: Iterable[str], count: int = 3, separator: str = ", ") -> str:
    """Join the first `count` items, escaped, and add how many more there are: "a, b, c and 97 more"."""
    texts = list(items)
    more = f"{'; ' if separator == '; ' else ' '}and {len(texts) - count:,} more" if len(texts) > count else ""
    return separator.join(escape(text, 400) for text in texts[:count]) + more


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: "1 label", "2 labels"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def flag_of(setting: str) -> str:
    """Return the command-line flag of a setting: --batch-size for batch_size."""
    return f"--{setting.replace('_', '-')}"


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the message for a name that is not in `known`: it suggests the nearest one, if any, and lists them all."""
    names = list(known)
    near = did_you_mean(name, names, after=" Choose from ") or "choose from "
    return f"unknown {kind} {escape(repr(name))}: {near}{', '.join(names)}"


def did_you_mean(name: object, known: Iterable[str], before: str = "", after: str = "") -> str:
    """Ask if the nearest of `known` was meant; `before` and `after` go around the question. "" if none is near."""
    names = {other.lower(): other for other in known}
    near = get_close_matches(str(name)[:80].lower(), names, n=1)
    return f"{before}did you mean {names[near[0]]!r}?{after}" if near else ""
