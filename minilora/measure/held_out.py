"""Selection of test conversations that a model was not trained on, and a warning if it was trained on some of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from minilora.data import chat
from minilora.data.chat import Conversation, labels_of, response_of
from minilora.data.examples import BY_NAME, Columns, read_examples
from minilora.data.rows import is_rows
from minilora.errors import MiniloraError, did_you_mean, escape, first_few
from minilora.formats.atomic import show_path
from minilora.train.text import split_chats


@dataclass(frozen=True)
class Selection:
    """The conversations to measure a model on."""

    sha256: str  # hash of the whole file
    split: str
    conversations: list[Conversation]
    of: int  # number of conversations in the split
    labels: list[str] | None  # labels to choose from; None for free answers
    summary: list[str]  # summary of the `Examples`
    trained_on: int | None = None  # conversations that were trained on; None if the training data is missing
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
    """Select the conversations of the file `source` to measure a model on.

    split: None means "test" for the file that the model was trained on, and "all" for any other. trainings: the
    training records of the model and its adapters (`save.training_of`). examples: the most conversations to take, drawn
    by `seed`. pool: the conversations that shots come from. columns: of the file. The labels to choose from are the
    trained ones if they cover the file and the pool. Otherwise they are all labels of the file, the training data and
    the pool; if these have none, those that the file declares.
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
            notes.append(f"cannot check for overlap with the training data: {name} is missing or has changed")
    labels, trained_on = labels_of([*conversations, *learned, *pool], own.is_labelled) or own.labels, None
    trained_labels = {str(label) for training in trainings for label in training.get("labels") or ()}
    expected = dict.fromkeys(map(response_of, [*conversations, *pool]))
    unseen = [label for label in expected if label not in trained_labels]
    if not unseen:
        labels = sorted(trained_labels)
    elif labels and trained_labels:
        notes.append(_unseen_note(unseen, sorted(trained_labels)))
    if learned:
        learned_texts = set(map(json.dumps, learned))
        if trained_on := sum(json.dumps(messages) in learned_texts for messages in measured):
            notes.append(f"{trained_on:,} of the {len(measured):,} conversations measured were trained on")
    return Selection(digest, split, measured, len(whole), labels, own.summary, trained_on, notes)


def _unseen_note(unseen: list[str], trained: list[str]) -> str:
    """Name the labels that were not trained on, and ask if trained ones that are spelled much the same were meant."""
    names = first_few([escape(repr(label)) for label in unseen], separator=" and ")
    questions = ", ".join(filter(None, (did_you_mean(label, trained) for label in unseen[:3])))
    questions = questions.replace("?, did you mean", ",")  # one question for all
    were = "was" if len(unseen) == 1 else "were"
    return f"{names} {were} not among the labels trained on{questions and f': {questions}'}"


def learned_from(training: dict, source: str | None = None) -> list[Conversation] | None:
    """Return the training part of the conversations that a model learned from; None if the file changed or is gone.

    training: a record of `save.training_of`. source: the path of the file, if it was moved.
    """
    validation, test = (path and str(path) for path in map(training.get, ("validation_data", "test_data")))
    try:
        path = str(source or training.get("data"))
        parts, digest, _ = split_chats(path, validation, test, Columns.of(training))
    except MiniloraError:  # missing, or not a file of conversations
        return None
    return parts.train if digest == training.get("data_sha256") else None


def draw_shots(
    pool: Sequence[Conversation], count: int, seed: int = 0, measured: Sequence[Conversation] = ()
) -> list[Conversation]:
    """Draw `count` conversations of `pool` as shots for a prompt, leaving out those in `measured`.

    If the responses look like labels, the shots alternate between them. Raises MiniloraError if there are too few.
    """
    excluded = set(map(json.dumps, measured))
    pool = [messages for messages in pool if json.dumps(messages) not in excluded]
    if len(pool) < count:
        advice = " besides those measured: give another file, or measure fewer by --split test or --examples"
        raise MiniloraError(
            f"{count:,} shots are more than the {len(pool):,} conversations to draw from{advice if excluded else ''}"
        )
    shots = [pool[i] for i in np.random.default_rng(seed).permutation(len(pool))]
    if labels := labels_of(pool, is_labelled=True):
        by_label = [[messages for messages in shots if response_of(messages) == label] for label in labels]
        rounds = {id(messages): turn for group in by_label for turn, messages in enumerate(group)}
        shots.sort(key=lambda messages: rounds[id(messages)])
    return shots[:count]
