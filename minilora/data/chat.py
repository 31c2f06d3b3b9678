"""Conversations to learn from: files of them, their labels, and what they are as tokens (by `chat_format`)."""

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
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, escape, first_few
from minilora.formats.atomic import parse_json, show_path

QUESTIONS, ANSWERS = ("prompt", "instruction"), ("response", "completion", "output")  # what a line may call them
MOST_LABELS = 20
LEAST_RECURRENCE = 3  # conversations per label, on average
_PORTION = 1000  # conversations encoded at a time


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
                conversations.append(_conversation(parse_json(line.encode(), "it"), ignored))
            except MiniloraError as error:
                problems.append(f"line {number}: {error}")
    if problems:
        raise MiniloraError(f"{show_path(path)}: {first_few(problems, separator='; ')}")
    if not conversations:
        raise MiniloraError(f"there is no conversation in {show_path(path)}")
    remarks = []
    if ignored:
        remarks.append(f"what lines have under {escape(first_few(list(ignored)))} is not read")
    spaced = [messages[-1] for messages in conversations if messages[-1]["content"] != response_of(messages)]
    if spaced and labels_of(conversations):  # labels are compared without, so they are learned without
        remarks.append(f"{len(spaced):,} of {len(conversations):,} responses lose the spaces around them")
        for message in spaced:
            message["content"] = message["content"].strip()
    if notes is not None:
        notes += [f"{show_path(path)}: {words}" for words in remarks]
    return conversations


def _conversation(row: dict[str, Any], ignored: dict[str, None]) -> Conversation:
    """Check the messages of one line; its keys that are not read go to `ignored`. MiniloraError for what is wrong."""
    messages = _messages(row, ignored)
    for message in messages:
        if not message.keys() >= {"role", "content"}:
            raise MiniloraError(f"a message has the keys {escape(', '.join(message)) or 'none'}; give role and content")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise MiniloraError(f"the role {escape(repr(role))} is none of {', '.join(ROLES)}")
        _check_text(f"the content of the {role}'s message", content)
        if role != "system" and not content.strip():
            raise MiniloraError(f"the {role}'s message is empty")
    messages = [{name: message[name] for name in ("role", "content")} for message in messages]
    check_messages(messages)
    if messages[-1]["role"] != "assistant":
        raise MiniloraError("the last message is not the assistant's: there is no response to learn")
    return messages


def _messages(row: dict[str, Any], ignored: dict[str, None]) -> list[dict[str, Any]]:
    """Find the messages of one line, whatever they hold."""
    known = [name for name in (*QUESTIONS, *ANSWERS, "messages") if name in row]
    used, messages = {"messages"}, row.get("messages")
    if len(known) == 2 and known[0] in QUESTIONS and known[1] in ANSWERS:
        question, answer = known
        parts = [question, "input"] if question == "instruction" and row.get("input") else [question]
        used = {*parts, answer}
        for name in (*parts, answer):
            _check_text(name, row[name])
        content = "\n\n".join(row[name] for name in parts)
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": row[answer]}]
    elif "messages" not in known or set(known) & set(ANSWERS):  # a prompt beside messages is theirs
        raise MiniloraError(f"has the keys {escape(', '.join(row)) or 'none'}; give prompt and response, or messages")
    elif not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise MiniloraError("messages must be a list of objects")
    ignored |= dict.fromkeys(
        name for name, value in row.items() if name not in used and value not in (None, "", [], {})
    )
    return messages


def _check_text(what: str, value: Any) -> None:
    """Raise MiniloraError for what is not text."""
    if not isinstance(value, str):
        raise MiniloraError(f"{what} is {escape(json.dumps(value), 40)}, not text: write it in quotes")


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
    rows = []
    for start in range(0, len(conversations), _PORTION):
        rows += chat_format.encode_many(tokenizer, conversations[start : start + _PORTION])
    answers = [[m["content"] for m in messages if m["role"] == "assistant"] for messages in conversations]
    return ChatTokens(rows, [sum(map(len, contents)) for contents in answers], conversations)
