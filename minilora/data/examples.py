"""Examples: the rows of a file as conversations. With the instruction "Which team?",

    text,label
    My card was charged twice.,billing

is one, [{"role": "user", "content": "Which team?\\n\\nMy card was charged twice."}, {"role": "assistant", "content":
"billing"}].
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minilora.data.chat import labels_of, response_of
from minilora.data.chat_format import ROLES, Conversation, check_messages
from minilora.data.rows import read_rows
from minilora.errors import MiniloraError, did_you_mean, escape, first_few
from minilora.formats.atomic import show_path, to_utf8

TEXTS = ("text", "prompt", "question", "input", "instruction")  # what columns may be called, in any case
ANSWERS = ("label", "response", "answer", "output", "completion")


@dataclass(frozen=True)
class Columns:
    """How rows become conversations: the settings that --text-column, --label-column and --instruction give."""

    text: str | None = None  # None: the column is one of TEXTS, or an instruction and its input
    label: str | None = None  # None: it is one of ANSWERS
    instruction: str | None = None  # stands before each text, with an empty line between

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Columns:
        """Take the columns from the settings of a run, or from the flags of a command."""
        return cls(*(settings.get(name) for name in ("text_column", "label_column", "instruction")))

    def settings(self) -> dict[str, str]:
        """Return what is not None, as `of` reads it."""
        named = {"text_column": self.text, "label_column": self.label, "instruction": self.instruction}
        return {name: value for name, value in named.items() if value is not None}

    def texts_in(self, row: Mapping[str, Any]) -> list[str]:
        """Return the columns of a row that make its text: one, or an instruction and its input."""
        columns = _called(row, self.text, TEXTS)
        if [column.strip().lower() for column in columns] == ["input", "instruction"]:
            return columns[::-1] if row[columns[0]] else columns[1:]
        return [_only(row, columns, TEXTS, "--text-column")]

    def answer_in(self, row: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the column of a row that has its answer, and if that is a label: so called, or chosen as one."""
        column = _only(row, _called(row, self.label, ANSWERS), ANSWERS, "--label-column")
        return column, self.label is not None or column.strip().lower() == "label"


BY_NAME = Columns()


def _called(row: Mapping[str, Any], chosen: str | None, names: tuple[str, ...]) -> list[str]:
    """Return the columns of a row that are called as was chosen, else as one of `names`, in their order."""
    by_name = {column.strip().lower(): column for column in row}
    if chosen is None:
        return [by_name[name] for name in names if name in by_name]
    if chosen.strip().lower() not in by_name:
        near = did_you_mean(chosen, row, after=" ")
        raise MiniloraError(f"there is no column {escape(repr(chosen))}; {near}there are {_listed(row)}")
    return [by_name[chosen.strip().lower()]]


def _only(row: Mapping[str, Any], columns: list[str], names: tuple[str, ...], flag: str) -> str:
    if not columns:
        raise MiniloraError(f"has the columns {_listed(row)}; none is called {', '.join(names)}: choose one by {flag}")
    if len(columns) > 1:
        raise MiniloraError(f"has the columns {_listed(columns)}: choose one by {flag}")
    return columns[0]


def _listed(columns: Mapping[str, Any] | list[str]) -> str:
    return first_few([escape(repr(column), 40) for column in columns], 8) or "none"


@dataclass(frozen=True)
class Examples:
    """The conversations of a file, and how its rows were understood."""

    conversations: list[Conversation]
    columns: list[str]  # "text and label", for each kind of row
    is_labelled: bool  # all answers come from a column of labels
    notes: list[str]  # for the reader

    @property
    def labels(self) -> list[str] | None:
        """The labels of the file; None if its answers are free."""
        return labels_of(self.conversations, self.is_labelled)


def load_examples(
    path: str | os.PathLike[str],
    text_column: str | None = None,
    label_column: str | None = None,
    instruction: str | None = None,
    notes: list[str] | None = None,
) -> list[Conversation]:
    """Read the conversations in a .csv, .tsv, .jsonl, .ndjson or .json file, maybe compressed (.gz, .bz2, .xz).

    A row has a text and an answer in columns of these names, by default those of TEXTS and ANSWERS; in JSON it may have
    `messages` instead, with a role and a content each, the assistant's last. Rows without a text or an answer are left
    out. Labels (`chat.labels_of`) lose the spaces around them. notes: gets a line for what is left out or changed.

    Errors: MiniloraError, which names up to three bad rows; FormatError for what cannot be read.
    """
    examples = read_examples(path, Columns(text_column, label_column, instruction))
    if notes is not None:
        notes += examples.notes
    return examples.conversations


def read_examples(path: str | os.PathLike[str], columns: Columns = BY_NAME) -> Examples:
    """Read the conversations in a file as `load_examples` does."""
    rows, conversations, empty = read_rows(path), [], []
    problems: dict[str, str] = {}  # in words, and where each comes first
    kinds: dict[str, bool] = {}  # the columns that are read, and if they have a label
    ignored: dict[str, None] = {}
    for where, row in rows:
        try:
            messages, used = _question(row, columns)
            is_label = False
            if used != ["messages"]:
                answer, is_label = columns.answer_in(row)
                messages.append({"role": "assistant", "content": _cell(row, answer, is_label)})
                used = [*used, answer]
            if messages[-1]["role"] != "assistant":
                raise MiniloraError("the last message is not the assistant's: there is no response to learn")
            conversations.append(messages)
            kinds[" and ".join(used)] = is_label
            ignored |= {name: None for name in row if name not in used and row[name] not in (None, "", [], {})}
        except Empty:
            empty.append(where)
        except MiniloraError as error:
            problems.setdefault(str(error), where)
    if problems:
        lines = [f"{where}: {words}" for words, where in problems.items()]
        raise MiniloraError(f"{show_path(path)}: {first_few(lines, separator='; ')}")
    if not conversations:
        raise MiniloraError(f"{show_path(path)}: no row has both a text and an answer")
    notes = [f"what rows have under {escape(first_few(list(ignored)))} is not read"] if ignored else []
    if empty:
        notes.append(
            f"{len(empty):,} of {len(rows):,} rows lack a text or an answer and are left out: {first_few(empty)}"
        )
    examples = Examples(conversations, list(kinds), all(kinds.values()), [])
    spaced = [messages[-1] for messages in conversations if messages[-1]["content"] != response_of(messages)]
    if spaced and examples.labels:  # labels are compared without, so they are learned without
        notes.append(f"{len(spaced):,} of {len(conversations):,} responses lose the spaces around them")
        for message in spaced:
            message["content"] = message["content"].strip()
    examples.notes.extend(f"{show_path(path)}: {words}" for words in notes)
    return examples


def read_questions(
    path: str | os.PathLike[str], columns: Columns = BY_NAME
) -> tuple[list[dict[str, Any]], list[Conversation | str]]:
    """Read what is to be answered: the rows as they are, and of each the conversation before its answer, or what is
    wrong with the row, in words. Answers need not be there. Errors: as of `load_examples`, if no row can be asked.
    """
    rows = read_rows(path)
    questions: list[Conversation | str] = []
    for where, row in rows:
        try:
            messages, _ = _question(row, columns)
            questions.append(messages[:-1] if messages[-1]["role"] == "assistant" else messages)
        except MiniloraError as error:
            questions.append(f"{where}: {error}")
    if all(isinstance(one, str) for one in questions):
        raise MiniloraError(f"{show_path(path)}: {questions[0]}")
    return [row for _, row in rows], questions


# A row


class Empty(MiniloraError):
    """A row has no text, or no answer."""


def _question(row: dict[str, Any], columns: Columns) -> tuple[Conversation, list[str]]:
    """Return the messages of a row as far as it asks, or all of its `messages`; and the columns that they come from."""
    if "messages" in row and columns.text is None:
        if columns.label or columns.instruction:
            raise MiniloraError("messages have all that is said: leave out --label-column and --instruction")
        if not isinstance(row["messages"], list) or not all(isinstance(m, dict) for m in row["messages"]):
            raise MiniloraError("messages must be a list of objects")
        messages = [_message(message) for message in row["messages"]]
        check_messages(messages)
        return messages, ["messages"]
    used = columns.texts_in(row)
    parts = [*filter(None, [columns.instruction]), *(_cell(row, column) for column in used)]
    return [{"role": "user", "content": "\n\n".join(parts)}], used


def _cell(row: dict[str, Any], column: str, is_label: bool = False) -> str:
    """Return the text in a column of a row; a label may be a number or a boolean in JSON."""
    value = row[column]
    if is_label and isinstance(value, int | float):
        value = json.dumps(value)
    if value is None or not _text(column, value).strip():
        raise Empty(f"there is no {escape(column, 40)}")
    return value


def _message(message: dict[str, Any]) -> dict[str, str]:
    """Check a message, and leave out all but its role and content."""
    if not message.keys() >= {"role", "content"}:
        raise MiniloraError(f"a message has the keys {escape(', '.join(message)) or 'none'}; give role and content")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise MiniloraError(f"the role {escape(repr(role))} is none of {', '.join(ROLES)}")
    if not _text(f"the content of the {role}'s message", content).strip() and role != "system":
        raise MiniloraError(f"the {role}'s message is empty")
    return {"role": role, "content": content}


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise MiniloraError(f"{escape(what, 40)} is {escape(json.dumps(value), 40)}, not text: write it in quotes")
    to_utf8(value)
    return value
