"""What of a file of conversations measures a model fairly, and what of it the model has learned from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from minilora.data import chat
from minilora.data.chat import Conversation, labels_of, response_of
from minilora.data.examples import BY_NAME, Columns, read_examples
from minilora.data.rows import is_rows
from minilora.errors import MiniloraError
from minilora.formats.atomic import show_path
from minilora.train.text import split_chats


@dataclass(frozen=True)
class Selection:
    """The conversations to measure a model on."""

    sha256: str  # of the whole file
    split: str
    conversations: list[Conversation]
    of: int  # how many the split has
    labels: list[str] | None  # to choose from; None for free answers
    summary: list[str]  # of `Examples`
    trained_on: int | None = None  # of the conversations; None where what was trained on is not known or not here
    notes: list[str] = field(default_factory=list)  # for the reader


def select(
    source: str,
    split: str | None = None,
    trainings: Sequence[dict] = (),
    examples: int | None = None,
    seed: int = 0,
    pool: Sequence[Conversation] = (),
    columns: Columns = BY_NAME,
) -> Selection:
    """Select what to measure of the file of examples `source`.

    split: None means "test" for the file that the model was trained on, and "all" for any other. trainings: how the
    model and its adapters came to be (`save.training_of`). examples: at most so many conversations, drawn by `seed`.
    pool: what shots come from. columns: of the file. The labels are those that were trained if the file and the pool
    have no others; else those of the file, the training data and the pool together; where these have none, the file's.
    """
    own = read_examples(source, columns)
    conversations, notes = own.conversations, own.notes
    digest = chat.split_sha256(conversations)
    trainings = [it for it in trainings if it.get("data_sha256") == digest or is_rows(str(it.get("data")))]
    split = split or ("test" if any(it.get("data_sha256") == digest for it in trainings) else "all")
    whole = conversations if split == "all" else getattr(chat.split(conversations, source, own.is_labelled), split)
    rng = np.random.default_rng(seed)
    chosen = range(len(whole)) if examples is None else sorted(rng.permutation(len(whole))[:examples])
    measured, learned = [whole[i] for i in chosen], []
    for training in trainings:
        part = learned_from(training, source if training.get("data_sha256") == digest else None)
        learned += part or []
        if part is None:
            name = show_path(str(training.get("data")))
            notes.append(f"the training data ({name}) are not here, so what the two share is not known")
    labels, trained_on = labels_of([*conversations, *learned, *pool], own.is_labelled) or own.labels, None
    known_labels = {str(label) for training in trainings for label in training.get("labels") or ()}
    if {response_of(one) for one in [*conversations, *pool]} <= known_labels:
        labels = sorted(known_labels)
    if learned:
        known = set(map(json.dumps, learned))
        if trained_on := sum(json.dumps(messages) in known for messages in measured):
            notes.append(f"{trained_on:,} of the {len(measured):,} conversations measured were trained on")
    return Selection(digest, split, measured, len(whole), labels, own.summary, trained_on, notes)


def learned_from(training: dict, source: str | None = None) -> list[Conversation] | None:
    """Return the training part of the conversations that a model learned from; None if their file is another today.

    training: of `save.training_of`. source: where the file lies, if not where it did.
    """
    validation, test = (path and str(path) for path in map(training.get, ("validation_data", "test_data")))
    try:
        path = str(source or training.get("data"))
        parts, digest, _ = split_chats(path, validation, test, Columns.of(training))
    except MiniloraError:  # it is no such file, or it is not here
        return None
    return parts.train if digest == training.get("data_sha256") else None


def draw_shots(
    pool: Sequence[Conversation], count: int, seed: int = 0, measured: Sequence[Conversation] = ()
) -> list[Conversation]:
    """Draw so many conversations of `pool` that are not measured, by `seed`, to stand in a prompt: of each response in
    turn, if most recur. Raises MiniloraError if there are fewer.
    """
    known = set(map(json.dumps, measured))
    pool = [messages for messages in pool if json.dumps(messages) not in known]
    if len(pool) < count:
        besides = " besides those measured: give another file, or measure fewer by --split test or --examples"
        raise MiniloraError(
            f"{count:,} shots are more than the {len(pool):,} conversations to draw from{besides if known else ''}"
        )
    drawn = [pool[i] for i in np.random.default_rng(seed).permutation(len(pool))]
    if labels := labels_of(pool, is_labelled=True):
        by_label = [[one for one in drawn if response_of(one) == label] for label in labels]
        rounds = {id(one): turn for ones in by_label for turn, one in enumerate(ones)}
        drawn.sort(key=lambda one: rounds[id(one)])
    return drawn[:count]
