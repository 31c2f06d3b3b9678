"""Labelled sentences, and the batches and the accuracy of a classifier that is trained on them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minilora import backend
from minilora.data.batches import ShuffledEpochs, check_seq_len, pad_rows
from minilora.errors import MiniloraError
from minilora.tensor import no_grad


class Example(NamedTuple):
    text: str
    label: int  # index into Task.classes


@dataclass(frozen=True)
class Task:
    """A classification task. Within each part, all classes have the same number of examples."""

    name: str
    classes: tuple[str, ...]
    train: list[Example]
    validation: list[Example]
    test: list[Example]

    def few(self, labels_per_class: int, seed: int) -> list[Example]:
        """Draw `labels_per_class` random training examples per class, in turn: a, b, c, a, b, c, ...

        With the same seed, fewer labels give a prefix of what more give. Raises MiniloraError if there are not enough.
        """
        most = len(self.train) // len(self.classes)
        if not 1 <= labels_per_class <= most:
            raise MiniloraError(f"labels per class must be 1 to {most} for {self.name}, not {labels_per_class}")
        columns = []
        for label in range(len(self.classes)):
            examples = [example for example in self.train if example.label == label]
            order = np.random.default_rng([seed, label]).permutation(most)[:labels_per_class]
            columns.append([examples[i] for i in order])
        return [example for row in zip(*columns, strict=True) for example in row]


class ClassificationBatches(ShuffledEpochs):
    """Labelled texts, shuffled: `input_ids` and `attention_mask` (B, T), padded on the right, and `labels` (B,).

    T is the length of the batch's longest text; texts are cut to `seq_len` tokens.
    """

    def __init__(
        self,
        ids: Sequence[np.ndarray],
        labels: Sequence[int],
        batch_size: int,
        seq_len: int,
        seed: int,
        pad_token_id: int,
    ):
        """Take one array of tokens per text. Raises MiniloraError if there is no text, or an empty one."""
        if len(ids) != len(labels) or not len(ids):
            raise MiniloraError(
                f"{len(ids)} texts with {len(labels)} labels: give one label per text, and at least one"
            )
        if not all(map(len, ids)):
            raise MiniloraError("a text without tokens cannot be classified")
        check_seq_len(seq_len)
        self.ids = [text[:seq_len] for text in ids]
        self.labels = np.asarray(labels, dtype=np.int64)
        self.pad_token_id = pad_token_id
        super().__init__(batch_size, seed)

    def _epoch(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(len(self.ids))

    def next_batch(self) -> dict[str, np.ndarray]:
        return self.batch(self._next_items())

    def batch(self, chosen: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Return the batch of the texts with these indices."""
        input_ids, mask = pad_rows([self.ids[i] for i in chosen], self.pad_token_id)
        return {"input_ids": input_ids, "attention_mask": mask, "labels": self.labels[np.asarray(chosen)]}


def classification_windows(
    ids: Sequence[np.ndarray], labels: Sequence[int], seq_len: int, batch_size: int, pad_token_id: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yield each text once, in order, in batches like those of `ClassificationBatches`; the last may be smaller."""
    texts = ClassificationBatches(ids, labels, batch_size, seq_len, 0, pad_token_id)
    for first in range(0, len(ids), batch_size):
        yield texts.batch(range(first, min(first + batch_size, len(ids))))


def accuracy(model: Any, batches: Iterable[dict[str, np.ndarray]]) -> float:
    """Return the share of rows whose most likely class is the label, in eval mode."""
    was_training, right, total = model.training, 0, 0
    model.eval()
    with no_grad():
        for batch in batches:
            logits = model(**batch, num_items_in_batch=1).logits  # with labels, rows are spread over the cores
            right += int((backend.to_numpy(logits.data).argmax(axis=1) == batch["labels"]).sum())
            total += len(batch["labels"])
    model.train(was_training)
    return right / total
