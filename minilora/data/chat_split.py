"""Conversations divided into those to learn from and those to measure on, and what looks like a slip in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from minilora.data import corpora
from minilora.data.chat import Conversation, labels_of, question_of, response_of, sha256
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path

LEAST_CHOICE = 24  # validation conversations that a step is chosen by: measured, see docs/log.md


class Splits(NamedTuple):
    train: list[Conversation]
    validation: list[Conversation]
    test: list[Conversation]


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
    test, validation = set(order[:held_out]), set(order[held_out : 2 * held_out])
    parts = Splits([], [], [])
    for question, ones in groups.items():
        part = parts.test if question in test else parts.validation if question in validation else parts.train
        part += ones
    return parts


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
