"""Conversations: their labels and what looks like a slip in them, the division into those to learn from and those to
measure on, and what they are as tokens (by `chat_format`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minilora.data import corpora
from minilora.data.chat_format import ChatFormat, Conversation
from minilora.data.chat_format import find_format as find_format  # of the module to callers
from minilora.data.corpora import Splits
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path

MOST_LABELS = 20
LEAST_RECURRENCE = 3  # conversations per label, on average
LEAST_CHOICE = 24  # validation conversations that a step is chosen by: measured, see docs/log.md


def question_of(messages: Conversation) -> str:
    """Return what a conversation begins with: the system message, if there is one, and the first question."""
    first = next(place for place, message in enumerate(messages) if message["role"] == "user")
    return "\n\n".join(message["content"] for message in messages[: first + 1])


def response_of(messages: Conversation) -> str:
    """Return the last answer, as a label is compared."""
    return messages[-1]["content"].strip()


def labels_of(conversations: Sequence[Conversation], is_labelled: bool = False) -> list[str] | None:
    """Return the different responses, sorted, if they are at most 20 and come 3 times each on average; else None.

    is_labelled: they come from a column of labels, so any number will do, if most conversations share theirs.
    """
    counts = Counter(map(response_of, conversations))
    are_few = len(counts) <= min(MOST_LABELS, len(conversations) / LEAST_RECURRENCE)
    recur = sum(count for count in counts.values() if count > 1) > len(conversations) / 2
    return sorted(counts) if are_few or is_labelled and recur else None


def sha256(conversations: Sequence[Conversation]) -> str:
    """Hash the conversations: two runs with one hash learned from the same ones."""
    return hashlib.sha256(json.dumps(conversations, sort_keys=True).encode()).hexdigest()


# Parts.


def split(conversations: Sequence[Conversation], where: str, is_labelled: bool = False) -> Splits:
    """Divide into train, validation and test: 80, 10 and 10 of each 100 questions exactly, and at least one each.

    If the responses are labels (see `labels_of`), each part has them in about the proportions of the whole: test gets
    one of every label before a second of any, and a label that comes once is trained on. The hash of a question decides
    where it goes, so the order of the file does not matter. Conversations that begin with one question stay together,
    so that no answer is tested that was learned. Raises MiniloraError for fewer than three different questions.
    """
    groups: dict[str, list[Conversation]] = {}
    for messages in conversations:
        groups.setdefault(question_of(messages), []).append(messages)
    if len(groups) < 3:
        raise MiniloraError(
            f"{show_path(where)} has {len(conversations)} conversations with {len(groups)} different questions, "
            "too few to divide into train, validation and test; give at least 3, better 30"
        )
    has_labels = labels_of(conversations, is_labelled) is not None
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


def doubts(conversations: Sequence[Conversation], labels: list[str] | None) -> list[str]:
    """Notes on what is probably a slip in data with labels: spellings of one label, and a prompt with two labels; and
    in any data, rows that come twice.
    """
    notes = []
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
