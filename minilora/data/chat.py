"""Conversations: files of them, their labels and what looks like a slip in them, the division into those to learn from
and those to measure on, and what they are as tokens (by `chat_format`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from minilora.data import corpora
from minilora.data.chat_format import ROLES, ChatFormat, Conversation, check_messages
from minilora.data.chat_format import find_format as find_format  # of the module to callers
from minilora.data.corpora import Splits
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, escape, first_few
from minilora.formats.atomic import parse_json, show_path, to_utf8

QUESTIONS, ANSWERS = ("prompt", "instruction"), ("response", "completion", "output")  # what a line may call them
MOST_LABELS = 20
LEAST_RECURRENCE = 3  # conversations per label, on average
LEAST_CHOICE = 24  # validation conversations that a step is chosen by: measured, see docs/log.md


# Files of conversations.


def read_jsonl(path: str | os.PathLike[str], notes: list[str] | None = None) -> list[Conversation]:
    """Read the conversations in a file with one JSON object a line: {"prompt": …, "response": …}, or {"messages": […]}
    with a role and a content each, the assistant's last. "completion" and "output" are a response, "instruction" with
    an "input" is a prompt, too. Empty lines and other keys are passed over; a line in `notes` says which keys. Labels
    (`labels_of`) lose the spaces around them, which a note says, too.

    Errors: MiniloraError, which names up to three bad lines by their number; FormatError for what cannot be read.
    """
    conversations, problems = [], []
    ignored: dict[str, None] = {}
    for number, line in enumerate(corpora.read_file(path).split("\n"), start=1):
        if line.strip():
            try:
                row = parse_json(line.encode(), "it")
                messages, used = _messages(row)
                conversations.append([_message(message) for message in messages])
                check_messages(conversations[-1])
                if messages[-1]["role"] != "assistant":
                    raise MiniloraError("the last message is not the assistant's: there is no response to learn")
                ignored |= {name: None for name in row if name not in used and row[name] not in (None, "", [], {})}
            except MiniloraError as error:
                problems.append(f"line {number}: {error}")
    if problems:
        raise MiniloraError(f"{show_path(path)}: {first_few(problems, separator='; ')}")
    if not conversations:
        raise MiniloraError(f"there is no conversation in {show_path(path)}")
    remarks = [f"what lines have under {escape(first_few(list(ignored)))} is not read"] if ignored else []
    spaced = [messages[-1] for messages in conversations if messages[-1]["content"] != response_of(messages)]
    if spaced and labels_of(conversations):  # labels are compared without, so they are learned without
        remarks.append(f"{len(spaced):,} of {len(conversations):,} responses lose the spaces around them")
        for message in spaced:
            message["content"] = message["content"].strip()
    if notes is not None:
        notes += [f"{show_path(path)}: {words}" for words in remarks]
    return conversations


def _messages(row: dict[str, Any]) -> tuple[list[dict[str, Any]], set[str]]:
    """Find the messages of one line, whatever they hold; second, the keys that they came from."""
    known = [name for name in (*QUESTIONS, *ANSWERS, "messages") if name in row]
    if len(known) == 2 and known[0] in QUESTIONS and known[1] in ANSWERS:
        question, answer = known
        parts = [question, "input"] if question == "instruction" and row.get("input") else [question]
        content = "\n\n".join(_text(name, row[name]) for name in parts)
        answered = {"role": "assistant", "content": _text(answer, row[answer])}
        return [{"role": "user", "content": content}, answered], {*parts, answer}
    if "messages" not in known or set(known) & set(ANSWERS):  # a prompt beside messages is theirs
        raise MiniloraError(f"has the keys {escape(', '.join(row)) or 'none'}; give prompt and response, or messages")
    if not isinstance(row["messages"], list) or not all(isinstance(m, dict) for m in row["messages"]):
        raise MiniloraError("messages must be a list of objects")
    return row["messages"], {"messages"}


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
        raise MiniloraError(f"{what} is {escape(json.dumps(value), 40)}, not text: write it in quotes")
    to_utf8(value)
    return value


def question_of(messages: Conversation) -> str:
    """Return what a conversation begins with: the system message, if there is one, and the first question."""
    first = next(place for place, message in enumerate(messages) if message["role"] == "user")
    return "\n\n".join(message["content"] for message in messages[: first + 1])


def response_of(messages: Conversation) -> str:
    """Return the last answer, as a label is compared."""
    return messages[-1]["content"].strip()


def labels_of(conversations: Sequence[Conversation]) -> list[str] | None:
    """Return the different responses, sorted, if they are at most 20 and come 3 times each on average; else None."""
    labels = set(map(response_of, conversations))
    return sorted(labels) if len(labels) <= min(MOST_LABELS, len(conversations) / LEAST_RECURRENCE) else None


def sha256(conversations: Sequence[Conversation]) -> str:
    """Hash the conversations: two runs with one hash learned from the same ones."""
    return hashlib.sha256(json.dumps(conversations, sort_keys=True).encode()).hexdigest()


# Parts.


def split(conversations: Sequence[Conversation], where: str) -> Splits:
    """Divide into train, validation and test: 80, 10 and 10 of each 100 questions exactly, and at least one each.

    If the responses are labels, each part has them in about the proportions of the whole: test gets one of every label
    before a second of any, and a label that comes once is trained on. The hash of a question decides where it goes, so
    the order of the file does not matter. Conversations that begin with one question stay together, so that no answer
    is tested that was learned. Raises MiniloraError for fewer than three different questions.
    """
    groups: dict[str, list[Conversation]] = {}
    for messages in conversations:
        groups.setdefault(question_of(messages), []).append(messages)
    if len(groups) < 3:
        raise MiniloraError(
            f"{show_path(where)} has {len(conversations)} conversations with {len(groups)} different questions, "
            "too few to divide into train, validation and test; give at least 3, better 30"
        )
    has_labels = labels_of(conversations) is not None
    by_label: dict[str, list[str]] = {}
    for question in sorted(groups, key=corpora.place):
        by_label.setdefault(response_of(groups[question][0]) if has_labels else "", []).append(question)
    # Spread each label evenly over one order: whatever is cut from its beginning then has a fair share of every label.
    spread = [
        (rank / len(questions) if len(questions) > 1 else 1.0, corpora.place(question), question)
        for questions in by_label.values()
        for rank, question in enumerate(questions)
    ]
    order = [question for _, _, question in sorted(spread)]
    held_out = max(1, round(corpora.HELD_OUT * len(order)))
    return corpora.parted(groups, order[:held_out], order[held_out : 2 * held_out])


def doubts(conversations: Sequence[Conversation]) -> list[str]:
    """Notes on what is probably a slip in data with labels: spellings of one label, and a prompt with two labels; and
    in any data, rows that come twice.
    """
    notes, labels = [], labels_of(conversations)
    if labels:
        spellings: dict[str, list[str]] = {}
        for label in labels:
            spellings.setdefault(" ".join(label.casefold().split()), []).append(label)
        for same in spellings.values():
            if len(same) > 1:
                notes.append(f"{' and '.join(escape(repr(label), 40) for label in same)} count as different labels")
        answers: dict[str, set[str]] = {}
        for messages in conversations:
            answers.setdefault(json.dumps(messages[:-1]), set()).add(response_of(messages))
        if several := [prompt for prompt, responses in answers.items() if len(responses) > 1]:
            example = json.loads(several[0])[-1]["content"]
            notes.append(f"{len(several):,} prompts have more than one label, such as {escape(repr(example), 60)}")
    if again := len(conversations) - len(set(map(json.dumps, conversations))):
        notes.append(f"{again:,} of {len(conversations):,} conversations repeat another one word for word")
    return notes


def split_sha256(conversations: Sequence[Conversation]) -> str:
    """Hash conversations that `split` divides: another hash than that of versions which divided them otherwise."""
    return hashlib.sha256(f"split 2 {sha256(conversations)}".encode()).hexdigest()


# As tokens.


@dataclass(frozen=True)
class ChatTokens:
    """Conversations as tokens. Bits per response character = loss in nats / (ln 2 x `characters`)."""

    rows: list[tuple[np.ndarray, np.ndarray]]  # ids (N,) int64, and a mask (N,) True for what the assistant says
    answer_characters: list[int]  # of the assistant's answers, row by row; what ends them has none
    conversations: Sequence[Conversation] = ()  # what the rows were made of, if that is still asked for

    @property
    def characters(self) -> int:
        return sum(self.answer_characters)

    def sample(self, rows: int) -> ChatTokens:
        """Draw so many rows, once and for all; all of them if there are no more."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.rows))[:rows])
        conversations = [self.conversations[i] for i in chosen] if self.conversations else ()
        return ChatTokens([self.rows[i] for i in chosen], [self.answer_characters[i] for i in chosen], conversations)

    @cached_property
    def ids(self) -> np.ndarray:
        """All tokens, end to end."""
        return np.concatenate([ids for ids, _ in self.rows])


def encode_conversations(
    tokenizer: Tokenizer, chat_format: ChatFormat, conversations: Sequence[Conversation]
) -> ChatTokens:
    answers = [[m["content"] for m in messages if m["role"] == "assistant"] for messages in conversations]
    rows = chat_format.encode_many(tokenizer, conversations)
    return ChatTokens(rows, [sum(map(len, contents)) for contents in answers], conversations)
