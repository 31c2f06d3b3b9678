"""Examples: reading the rows of a file as conversations. With the instruction "Which team?",

    text,label
    My card was charged twice.,billing

becomes the conversation [{"role": "user", "content": "Which team?\\n\\nMy card was charged twice."}, {"role":
"assistant", "content": "billing"}].
"""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from textwrap import wrap
from typing import Any

from minilora.data import chat
from minilora.data.chat import labels_of, response_of
from minilora.data.chat_format import Conversation, check_messages
from minilora.data.rows import Row, is_table, read_rows
from minilora.errors import MiniloraError, did_you_mean, escape, first_few, line_width, plural
from minilora.formats.atomic import show_path, to_utf8

# Names of columns, in upper or lower case. The first one that a row has is read.
TEXTS = ("prompt", "instruction", "text", "question", "input")
ANSWERS = ("response", "completion", "output", "label", "answer")
SETTINGS = ("text_column", "label_column", "instruction")
# A column that rows should have: its chosen name, its usual names, and the flag to choose it.
Wanted = tuple[str | None, tuple[str, ...], str]


@dataclass(frozen=True)
class Columns:
    """Settings that turn rows into conversations: the values of --text-column, --label-column and --instruction."""

    text: str | None = None  # None: the column is one of TEXTS
    label: str | None = None  # None: it is one of ANSWERS
    instruction: str | None = None  # comes before each text, separated by an empty line

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Columns:
        """Read the columns from the settings of a run, or from the flags of a command."""
        return cls(*(value if isinstance(value, str) else None for value in map(settings.get, SETTINGS)))

    def settings(self) -> dict[str, str]:
        """Return the settings that are not None, in the form that `of` reads."""
        return {name: value for name, value in zip(SETTINGS, astuple(self), strict=True) if value is not None}


BY_NAME = Columns()


@dataclass(frozen=True)
class Examples:
    """The conversations of a file, and how its rows were interpreted."""

    conversations: list[Conversation]
    is_labelled: bool  # all answers come from a column of labels
    labels: list[str] | None  # `chat.labels_of` the conversations
    summary: list[str]  # lines for the user: the number of rows, their columns, the labels with their counts
    notes: list[str]


def load_examples(
    path: str | os.PathLike[str],
    text_column: str | None = None,
    label_column: str | None = None,
    instruction: str | None = None,
    notes: list[str] | None = None,
) -> list[Conversation]:
    """Read the conversations in a .csv, .tsv, .jsonl, .ndjson or .json file, which may be compressed (.gz, .bz2, .xz).

    A row has a text and an answer in the named columns, by default the first of TEXTS and of ANSWERS that it has; a
    column "instruction" may have an "input" beside it. In JSON, a row may instead have `messages`, each with a role and
    a content, the last from the assistant. Rows without a text or an answer are left out. Labels (`chat.labels_of`)
    lose the spaces around them. notes: a list that gets a line for everything left out or changed.

    Raises MiniloraError, which names up to three bad rows, and FormatError if the file cannot be read.
    """
    examples = read_examples(path, Columns(text_column, label_column, instruction))
    if notes is not None:
        notes += examples.notes
    return examples.conversations


def read_examples(path: str | os.PathLike[str], columns: Columns = BY_NAME) -> Examples:
    """Read the conversations in a file as `load_examples` does."""
    conversations, empty = [], []
    problems: dict[str, str] = {}  # problem in words -> the first row that has it
    kinds: dict[str, bool] = {}  # columns that are read -> True if the answer's is a column of labels
    ignored: dict[str, None] = {}
    rows = read_rows(path)
    _check_columns(path, rows, columns)
    for where, row in rows:
        try:
            messages, used, is_label = _conversation(row, columns)
            conversations.append(messages)
            kinds[" and ".join(used)] = is_label
            ignored |= {name: None for name in row if name not in used and row[name] not in (None, "", [], {})}
        except Empty:
            empty.append(where)
        except MiniloraError as error:
            problems.setdefault(str(error), where)
    name = show_path(path)
    if problems:
        lines = [f"{where}: {words}" for words, where in problems.items()]
        raise MiniloraError(f"{name}: {first_few(lines, separator='; ')}")
    if not conversations:
        raise MiniloraError(f"{name}: no row has both a text and an answer")
    notes = [f"columns not used: {escape(first_few(list(ignored)))}"] if ignored else []
    if "messages" in kinds and columns != BY_NAME:
        notes.append("rows with messages are read as they are; column and instruction settings do not apply to them")
    if empty:
        words, are = plural(len(empty), "row"), "is" if len(empty) == 1 else "are"
        notes.append(f"{words} without a text or an answer {are} left out: {first_few(empty)}")
    summary = [f"{name}: {plural(len(conversations), 'example')}, from the columns {escape('; '.join(kinds), 200)}"]
    is_labelled = all(kinds.values())
    if labels := labels_of(conversations, is_labelled):
        counts = Counter(map(response_of, conversations)).most_common()
        counted = first_few([f"{escape(label, 30)} ({count:,})" for label, count in counts], 8)
        summary += wrap(f"{plural(len(labels), 'label')}: {counted}", line_width(), subsequent_indent="  ")
        # Labels are compared without the spaces around them, so they are also learned without them.
        if spaced := [messages[-1] for messages in conversations if messages[-1]["content"] != response_of(messages)]:
            notes.append(f"{len(spaced):,} of {len(conversations):,} responses lose the spaces around them")
            for message in spaced:
                message["content"] = message["content"].strip()
    notes += chat.doubts(conversations, labels)
    return Examples(conversations, is_labelled, labels, summary, [f"{name}: {words}" for words in notes])


def read_questions(
    path: str | os.PathLike[str], columns: Columns = BY_NAME
) -> tuple[list[dict[str, Any]], list[Conversation | str], list[str]]:
    """Read questions to answer. Returns the rows, and for each its messages before the answer, or its problem in words,
    and its place in the file.

    Rows need no answers. Raises the errors of `load_examples` if no row has a question.
    """
    rows = read_rows(path)
    _check_columns(path, rows, columns, answers=False)
    questions: list[Conversation | str] = []
    for where, row in rows:
        try:
            messages, _ = _question(row, columns)
            questions.append(messages[:-1] if messages[-1]["role"] == "assistant" else messages)
        except MiniloraError as error:
            questions.append(f"{where}: {error}")
    if all(isinstance(question, str) for question in questions):
        raise MiniloraError(f"{show_path(path)}: {questions[0]}")
    return [row for _, row in rows], questions, [where for where, _ in rows]


# A row


class Empty(MiniloraError):
    """A row has no text, or no answer."""


def _conversation(row: dict[str, Any], columns: Columns) -> tuple[Conversation, list[str], bool]:
    """Return a row's messages, the columns that they come from, and True if the answer's is a column of labels."""
    messages, used = _question(row, columns)
    if used == ["messages"]:
        if messages[-1]["role"] != "assistant":
            raise MiniloraError("the last message is not the assistant's: there is no response to learn")
        return messages, used, False
    column = _find(row, columns.label, ANSWERS, "--label-column")
    if column in used:
        words = f"column {escape(column, 40)} is both the text and the answer"
        raise MiniloraError(f"{words}: choose another with --text-column or --label-column")
    is_label = columns.label is not None or column.strip().lower() == "label"
    if is_label and isinstance(row[column], int | float) and not _is_nan(row[column]):  # a number in JSON
        row = row | {column: json.dumps(row[column])}
    return [*messages, {"role": "assistant", "content": _text(row, column)}], [*used, column], is_label


def _question(row: dict[str, Any], columns: Columns) -> tuple[Conversation, list[str]]:
    """Return a row's question (or all of its `messages`), and the columns that it comes from."""
    if isinstance(row.get("messages"), list) and all(isinstance(message, dict) for message in row["messages"]):
        pairs = [(_text(m, "role"), _text(m, "content", m.get("role") == "system")) for m in row["messages"]]
        messages = [{"role": role, "content": content} for role, content in pairs]
        check_messages(messages)
        return messages, ["messages"]
    used = [_find(row, columns.text, TEXTS, "--text-column")]
    if used[0].strip().lower() == "instruction":
        used += [column for column in row if column.strip().lower() == "input" and row[column]]
    parts = [*filter(None, [columns.instruction]), *(_text(row, column) for column in used)]
    return [{"role": "user", "content": "\n\n".join(parts)}], used


def _check_columns(path: str | os.PathLike[str], rows: list[Row], columns: Columns, answers: bool = True) -> None:
    """Raise MiniloraError if the rows, which all have the same columns, lack that of the texts or of the answers."""
    where, row = rows[0]
    if "messages" in row or any(other.keys() != row.keys() for _, other in rows):
        return  # each row is checked by itself
    wanted: list[Wanted] = [(columns.text, TEXTS, "--text-column")]
    if answers:
        wanted.append((columns.label, ANSWERS, "--label-column"))
    matches = [_match(row, chosen, names) for chosen, names, _ in wanted]
    if missing := [one for one, column in zip(wanted, matches, strict=True) if column is None]:
        place = "the header" if is_table(path) else f"{where}:"
        raise MiniloraError(f"{show_path(path)}: {place} {_lacks([row for _, row in rows], missing, matches)}")


def _find(row: dict[str, Any], chosen: str | None, names: tuple[str, ...], flag: str) -> str:
    """Return the column called `chosen`, or if that is None, the first of `names` that the row has."""
    if (column := _match(row, chosen, names)) is None:
        raise MiniloraError(_lacks([row], [(chosen, names, flag)], []))
    return column


def _match(row: dict[str, Any], chosen: str | None, names: tuple[str, ...]) -> str | None:
    """Return what `_find` does, or None if the row has no such column."""
    by_name = {column.strip().lower(): column for column in row}
    wanted = names if chosen is None else [chosen.strip().lower()]
    return next((by_name[name] for name in wanted if name in by_name), None)


def _lacks(rows: list[dict[str, Any]], missing: list[Wanted], used: list[str | None]) -> str:
    """Return which columns the rows have, which are `missing`, and the flags that help.

    used: columns that no flag of these should name.
    """
    row = rows[0]
    columns = first_few([escape(repr(column), 40) for column in row], 8) or "none"
    calls = [" or ".join(names) if chosen is None else escape(repr(chosen)) for chosen, names, _ in missing]
    advice = [near for chosen, _, _ in missing if (near := did_you_mean(chosen or "", row))]
    flags = [flag for chosen, _, flag in missing if not did_you_mean(chosen or "", row)]
    others = [name for name in row if name not in used and name.strip().lower() not in TEXTS + ANSWERS]
    rename, count = ("rename one", "one") if len(flags) == 1 else ("rename them", "two")
    if len(others) == len(missing) == len(flags):  # the longer values are the texts
        others.sort(key=lambda column: sum(len(str(row[column])) for row in rows), reverse=True)
        pairs = [f"{flag} {shlex.quote(escape(name, 400))}" for flag, name in zip(flags, others, strict=True)]
        advice.append(f"{rename}, or add {' '.join(pairs)}")
    elif flags:
        advice.append(f"{rename}, or choose {count} with {' and '.join(flags)}")
    return f"has the columns {columns}; none is called {', and none is called '.join(calls)}: {' And '.join(advice)}"


def _text(row: dict[str, Any], column: str, may_be_empty: bool = False) -> str:
    """Return the text in a column of a row, or in a field of a message."""
    value, name = row.get(column), escape(column, 40)
    if value is None or _is_nan(value) or isinstance(value, str) and not value.strip() and not may_be_empty:
        raise Empty(f"there is no {name}")
    if not isinstance(value, str):
        raise MiniloraError(f"{name} is {escape(json.dumps(value), 40)}, not text: write it in quotes")
    to_utf8(value)
    return value


def _is_nan(value: Any) -> bool:
    """Return True for NaN, which JSON made by pandas has in empty cells."""
    return value != value
