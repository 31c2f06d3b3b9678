"""Conversations: finding labels and likely mistakes in them, splitting them into train, validation and test, and
encoding them as tokens (in a format of `chat_format`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minilora.data import corpora
from minilora.data.chat_format import ChatFormat, Conversation
from minilora.data.chat_format import find_format as find_format  # exported to callers
from minilora.data.corpora import Splits
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, escape, plural
from minilora.formats.atomic import show_path

MOST_LABELS = 20
LEAST_RECURRENCE = 3  # conversations per label, on average
LEAST_CHOICE = 24  # fewest validation conversations from which the best step is chosen: measured, see docs/log.md


def question_of(messages: Conversation) -> str:
    """Return the beginning of a conversation: the system message, if there is one, and the first question."""
    first = next(place for place, message in enumerate(messages) if message["role"] == "user")
    return "\n\n".join(message["content"] for message in messages[: first + 1])


def response_of(messages: Conversation) -> str:
    """Return the last answer without surrounding spaces, which is how labels are compared."""
    return messages[-1]["content"].strip()


def labels_of(conversations: Sequence[Conversation], is_labelled: bool = False) -> list[str] | None:
    """Return the distinct responses, sorted, if there are at most 20 and each comes 3 times on average; else None.

    is_labelled: True if they come from a column of labels; then any number is accepted if most conversations share
    theirs.
    """
    counts = Counter(map(response_of, conversations))
    are_few = len(counts) <= min(MOST_LABELS, len(conversations) / LEAST_RECURRENCE)
    recur = sum(count for count in counts.values() if count > 1) > len(conversations) / 2
    return sorted(counts) if are_few or is_labelled and recur else None


def sha256(conversations: Sequence[Conversation]) -> str:
    """Hash the conversations: two runs whose hashes are equal were trained on the same conversations."""
    return hashlib.sha256(json.dumps(conversations, sort_keys=True).encode()).hexdigest()


# Train, validation and test


def split(conversations: Sequence[Conversation], where: str, is_labelled: bool = False) -> Splits:
    """Split into train, validation and test: exactly 80, 10 and 10 of every 100 questions, and at least one each.

    If the responses are labels (see `labels_of`), every part has them in about the proportions of the whole: test gets
    one example of every label before a second of any, and a label that occurs once goes to train. The hash of a
    question decides its part, so the order of the file does not matter. Conversations with the same question stay
    together, so that no learned answer is tested. Raises MiniloraError for fewer than three different questions.
    """
    groups: dict[str, list[Conversation]] = {}
    for messages in conversations:
        groups.setdefault(question_of(messages), []).append(messages)
    if len(groups) < 3:
        raise MiniloraError(
            f"{show_path(where)} has {plural(len(conversations), 'example')} with "
            f"{plural(len(groups), 'different question')}, too few to divide into training, validation and test data; "
            "give at least 3, better 30"
        )
    has_labels = labels_of(conversations, is_labelled) is not None
    by_label: dict[str, list[str]] = {}
    for question in sorted(groups, key=corpora.place):
        by_label.setdefault(response_of(groups[question][0]) if has_labels else "", []).append(question)
    # Spread each label evenly over one order, so that any first part of it has a fair share of every label.
    spread = [
        (rank / len(questions) if len(questions) > 1 else 1.0, corpora.place(question), question)
        for questions in by_label.values()
        for rank, question in enumerate(questions)
    ]
    order = [question for _, _, question in sorted(spread)]
    held_out = max(1, round(corpora.HELD_OUT * len(order)))
    return corpora.parted(groups, order[:held_out], order[held_out : 2 * held_out])


def doubts(conversations: Sequence[Conversation], labels: list[str] | None) -> list[str]:
    """Return notes on likely mistakes: two spellings of a label, a prompt with two labels, repeated conversations."""
    notes = []
    if labels:
        spellings: dict[str, list[str]] = {}
        for label in labels:
            spellings.setdefault(_spelling(label), []).append(label)
        for same in spellings.values():
            if len(same) > 1:
                notes.append(f"{' and '.join(escape(repr(label), 40) for label in same)} count as different labels")
        answers: dict[str, set[str]] = {}
        for messages in conversations:
            answers.setdefault(json.dumps(messages[:-1]), set()).add(response_of(messages))
        if ambiguous := [prompt for prompt, responses in answers.items() if len(responses) > 1]:
            words = f"{plural(len(ambiguous), 'prompt')} {'has' if len(ambiguous) == 1 else 'have'}"
            example = json.loads(ambiguous[0])[-1]["content"]
            notes.append(f"{words} more than one label, such as {escape(repr(example), 60)}")
    if repeated := len(conversations) - len(set(map(json.dumps, conversations))):
        notes.append(f"{repeated:,} of {len(conversations):,} conversations repeat another one word for word")
    return notes


def _spelling(label: str) -> str:
    """Return what likely spellings of one label have in common: its words in lower case, or its value as a number."""
    words = " ".join(label.casefold().split())
    with suppress(ValueError):
        return str(float(words))
    return words


def split_sha256(conversations: Sequence[Conversation]) -> str:
    """Hash conversations together with the version of `split`, so that splits of other versions hash differently."""
    return hashlib.sha256(f"split 2 {sha256(conversations)}".encode()).hexdigest()


# Tokens


@dataclass(frozen=True)
class ChatTokens:
    """Conversations as tokens. Bits per response character = loss in nats / (ln 2 x `characters`)."""

    rows: list[tuple[np.ndarray, np.ndarray]]  # ids (N,) int64, and a mask (N,) True for what the assistant says
    answer_characters: list[int]  # characters of the assistant's answers, per row; end tokens count none
    conversations: Sequence[Conversation] = ()  # the conversations behind the rows, for callers that need them

    @property
    def characters(self) -> int:
        return sum(self.answer_characters)

    def sample(self, rows: int) -> ChatTokens:
        """Draw this many rows at random, always the same ones; return all if there are not more."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.rows))[:rows])
        conversations = [self.conversations[i] for i in chosen] if self.conversations else ()
        return ChatTokens([self.rows[i] for i in chosen], [self.answer_characters[i] for i in chosen], conversations)

    @cached_property
    def ids(self) -> np.ndarray:
        """All tokens, concatenated."""
        return np.concatenate([ids for ids, _ in self.rows])


def encode_conversations(
    tokenizer: Tokenizer, chat_format: ChatFormat, conversations: Sequence[Conversation]
) -> ChatTokens:
    answers = [[m["content"] for m in messages if m["role"] == "assistant"] for messages in conversations]
    rows = chat_format.encode_many(tokenizer, conversations)
    return ChatTokens(rows, [sum(map(len, contents)) for contents in answers], conversations)
