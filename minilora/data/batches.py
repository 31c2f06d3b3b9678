"""Batches for training, in shuffled epochs whose place is part of a checkpoint, and for evaluation, in order.

The order of epoch e is drawn from a generator seeded with (seed, e) alone. So the place in the data is two numbers, the
epoch and how much of it is used; loading them gives the very batches that would have come next.

A batch is a dict of NumPy arrays, ready for `model(**batch)`: `input_ids` (B, T), `labels`, and for classification
`attention_mask` (B, T), all int64. In labels, -100 does not count. The model shifts language-model labels itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minilora.data.chat import ChatTokens
from minilora.errors import MiniloraError, escape

IGNORED = -100  # in labels: no loss here (PyTorch's ignore_index)
POOL = 16  # batches of conversations that are made of rows of one pool


class ShuffledEpochs:
    """An endless source of batches. A subclass says what an epoch holds (`_epoch`) and makes batches (`next_batch`)."""

    def __init__(self, batch_size: int, seed: int):
        if batch_size < 1:
            raise MiniloraError(f"batch size {batch_size}: at least 1")
        self.batch_size = batch_size
        self.seed = seed
        self._position, self._items = (0, 0), self._shuffled(0)

    def _epoch(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        """Return the items of one epoch in the order that `rng` gives."""
        raise NotImplementedError

    def _shuffled(self, epoch: int) -> np.ndarray:
        return self._epoch(epoch, np.random.default_rng([self.seed, epoch]))

    def _next_items(self, rows: int | None = None) -> np.ndarray:
        """Return the next B items, or `rows`; if an epoch ends inside a batch, the rest are the first of the next."""
        items: list[int] = []
        rows = self.batch_size if rows is None else rows
        while len(items) < rows:
            epoch, index = self._position
            if index == len(self._items):
                epoch, index = epoch + 1, 0
                self._items = self._shuffled(epoch)
            part = self._items[index : index + rows - len(items)]
            items.extend(part)
            self._position = epoch, index + len(part)
        return np.array(items)

    def state(self) -> dict[str, int]:
        """Return the place in the data, for a checkpoint."""
        epoch, index = self._position
        return {"epoch": epoch, "index": index}

    def load_state(self, state: dict[str, int]) -> None:
        """Go to the place that `state` names, with the same data, seed and sizes: the batches after it come again."""
        epoch, index = state.get("epoch", -1), state.get("index", -1)
        if not all(type(number) is int and number >= 0 for number in (epoch, index)):
            raise MiniloraError(f"not a place in the data: {escape(state)}")
        items = self._shuffled(epoch)
        if index > len(items):
            raise MiniloraError(f"place {index} in an epoch of {len(items)}: the checkpoint was made with other data")
        self._position, self._items = (epoch, index), items


class LanguageModelBatches(ShuffledEpochs):
    """Windows of `seq_len` tokens from a stream, shuffled; `labels` equal `input_ids`.

    An epoch cuts the stream into windows that do not overlap, from a random offset on, so that a token's place in its
    window differs from epoch to epoch. What is left over at the two ends waits for another epoch.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, seq_len: int, seed: int):
        """Cut `ids` (N,) into windows. MiniloraError if N is less than one window."""
        check_seq_len(seq_len)
        if len(ids) < seq_len:
            raise MiniloraError(
                f"the text has {len(ids):,} tokens, shorter than a context of {seq_len:,}; give more text or a smaller "
                "--seq-len"
            )
        self.ids = np.asarray(ids, dtype=np.int64)
        self.seq_len = seq_len
        super().__init__(batch_size, seed)

    def _epoch(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        offset = rng.integers(min(self.seq_len, len(self.ids) - self.seq_len + 1))
        return rng.permutation(np.arange(offset, len(self.ids) - self.seq_len + 1, self.seq_len))

    def next_batch(self, rows: int | None = None) -> dict[str, np.ndarray]:
        starts = self._next_items(rows)
        input_ids = self.ids[starts[:, None] + np.arange(self.seq_len)]  # (B, T)
        return {"input_ids": input_ids, "labels": input_ids.copy()}


def evaluation_windows(ids: np.ndarray, seq_len: int, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches in which each token of `ids` (N,) except the first is predicted exactly once.

    Windows overlap by one token: the last that a window predicts is the first that the next one is given, where its
    label does not count (virtual tokens before it would predict it a second time). The last window is padded on the
    right, with labels that do not count either. Errors: MiniloraError for fewer than 2 tokens.
    """
    check_seq_len(seq_len)
    if len(ids) < 2:
        raise MiniloraError(f"a text of {len(ids)} tokens has none to predict; give at least 2")
    windows = [ids[start : start + seq_len] for start in range(0, len(ids) - 1, seq_len - 1)]
    for first in range(0, len(windows), batch_size):
        input_ids, mask = pad_rows(windows[first : first + batch_size], 0)
        labels = np.where(mask == 1, input_ids, IGNORED)
        labels[:, 0] = IGNORED
        yield {"input_ids": input_ids, "labels": labels}


class ClassificationBatches(ShuffledEpochs):
    """Labelled texts, shuffled: `input_ids` and `attention_mask` (B, T), padded on the right, and `labels` (B,).

    T is the longest text of the batch; what a text has beyond `seq_len` tokens is cut off.
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
        """Take one array of tokens a text. MiniloraError if there is no text, or an empty one."""
        if len(ids) != len(labels) or not len(ids):
            raise MiniloraError(f"{len(ids)} texts with {len(labels)} labels; as many of each, and at least one")
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
    """Yield the texts in order, each once, in batches as of `ClassificationBatches`; the last may be smaller."""
    texts = ClassificationBatches(ids, labels, batch_size, seq_len, 0, pad_token_id)
    for first in range(0, len(ids), batch_size):
        yield texts.batch(range(first, min(first + batch_size, len(ids))))


class ChatBatches(ShuffledEpochs):
    """Conversations, shuffled: `input_ids`, `attention_mask` and `labels` (B, T), labels -100 outside of the answers.

    B conversations are padded on the right to the longest of them.
    Rows of like length come together, so that little of a batch is padding: of each POOL batches' rows in the epoch's
    order, the shortest make a batch, and so on; these batches are shuffled again.

    A conversation of more than `seq_len` tokens loses its beginning, and an earlier answer that the cut falls into is
    no longer learned; one whose last answer does not fit at all is left out. `notes` says how many.
    """

    def __init__(self, tokens: ChatTokens, batch_size: int, seq_len: int, seed: int, pad_token_id: int):
        """Raise MiniloraError if no answer fits."""
        check_seq_len(seq_len)
        self.seq_len, self.pad_token_id = seq_len, pad_token_id
        self.notes: list[str] = []
        self._rows = self._fit(tokens.rows)
        super().__init__(batch_size, seed)

    def _fit(self, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Cut rows to (ids, labels) of at most `seq_len` tokens."""
        fitting, cut = [], 0
        for ids, mask in rows:
            mask = mask.copy()
            mask[0] = False  # nothing stands before it that could predict it
            start = max(0, len(ids) - self.seq_len)
            if start:
                answers = np.flatnonzero(np.diff(mask, prepend=False))[::2]  # where each answer begins
                if answers[-1] <= start:  # what predicts its first token must be there, too
                    continue
                if mask[start]:
                    mask[start : np.flatnonzero(~mask[start:])[0] + start] = False
                cut += 1
            fitting.append((ids[start:], np.where(mask, ids, IGNORED)[start:]))
        if not fitting:
            raise MiniloraError(f"no response fits into a context of {self.seq_len:,} tokens; give a larger --seq-len")
        left_out = len(rows) - len(fitting)
        if cut:
            self.notes.append(f"{cut} of {len(rows)} conversations are cut at the beginning to {self.seq_len:,} tokens")
        if left_out:
            words = f"the response is longer than {self.seq_len:,} tokens"
            self.notes.append(f"{left_out} of {len(rows)} left out: {words}")
        return fitting

    def _epoch(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        order = rng.permutation(len(self._rows))
        lengths = np.array([len(ids) for ids, _ in self._rows])
        first = -epoch * len(order) % self.batch_size  # rows that fill up the last epoch's last batch
        grouped = [order[:first]]
        for start in range(first, len(order), POOL * self.batch_size):
            pool = order[start : start + POOL * self.batch_size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            whole = len(pool) // self.batch_size * self.batch_size
            batches = pool[:whole].reshape(-1, self.batch_size)
            grouped += [*rng.permutation(batches), pool[whole:]]
        return np.concatenate(grouped)

    def next_batch(self, rows: int | None = None) -> dict[str, np.ndarray]:
        return _padded([self._rows[i] for i in self._next_items(rows)], self.pad_token_id)


class MixedBatches:
    """Batches in which a share of the rows is of another source: replay of what a model is not to forget.

    If the share of a batch is not a whole number of rows, it is met over several batches.
    """

    def __init__(self, main: Any, other: Any, share: float, batch_size: int):
        """main, other: LanguageModelBatches or ChatBatches. share: of `other`, at least 0 and below 1."""
        self.main, self.other, self.share, self.batch_size = main, other, share, batch_size
        self.notes = getattr(main, "notes", [])
        self._batch = 0

    def next_batch(self) -> dict[str, np.ndarray]:
        due = [int((self._batch + i) * self.batch_size * self.share + 1e-9) for i in (0, 1)]
        others = due[1] - due[0]
        self._batch += 1
        counts = [(self.main, self.batch_size - others), (self.other, others)]
        rows = [row for source, count in counts if count for row in unpadded(source.next_batch(count))]
        return _padded(rows, getattr(self.main, "pad_token_id", 0))

    def state(self) -> dict[str, Any]:
        """Return the places in both sources, for a checkpoint."""
        return {"batch": self._batch, "main": self.main.state(), "other": self.other.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to the places that `state` names, as `ShuffledEpochs.load_state` does."""
        if not {"batch", "main", "other"} <= state.keys():
            raise MiniloraError(f"not a place in mixed data: {escape(state)}")
        self.main.load_state(state["main"])
        self.other.load_state(state["other"])
        self._batch = state["batch"]


def chat_windows(
    tokens: ChatTokens, seq_len: int, batch_size: int, pad_token_id: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the conversations by length, in batches as those of `ChatBatches`, in which each token of an answer is
    predicted exactly once.

    One of more than `seq_len` tokens comes in windows that overlap by half, so that what a window predicts has at least
    half of it before. Windows without a token to predict are passed over.
    """
    check_seq_len(seq_len)
    windows = []
    for ids, mask in tokens.rows:
        done = 1  # tokens that are predicted or given; nothing could predict the first
        for start in range(0, max(len(ids) - seq_len, 0) + seq_len // 2, seq_len // 2):
            end = min(start + seq_len, len(ids))
            labels = np.where(mask & (np.arange(len(ids)) >= done), ids, IGNORED)[start:end]
            if (labels != IGNORED).any():
                windows.append((ids[start:end], labels))
            done = max(done, end)
    windows.sort(key=lambda window: len(window[0]))
    for first in range(0, len(windows), batch_size):
        yield _padded(windows[first : first + batch_size], pad_token_id)


def _padded(rows: Sequence[tuple[np.ndarray, np.ndarray]], pad_token_id: int) -> dict[str, np.ndarray]:
    """Pad rows of (ids, labels) on the right to a batch."""
    input_ids, mask = pad_rows([ids for ids, _ in rows], pad_token_id)
    labels, _ = pad_rows([labels for _, labels in rows], IGNORED)
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}


def unpadded(batch: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows of a batch as (ids, labels), without padding."""
    real = batch.get("attention_mask", np.ones_like(batch["input_ids"])) == 1  # (B, T)
    return [(batch["input_ids"][i, mask], batch["labels"][i, mask]) for i, mask in enumerate(real)]


def pad_rows(rows: Sequence[np.ndarray], pad_token_id: int, left: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pad `rows` on the right to the longest; the mask has 1 where a token is real; both (B, T) int64."""
    lengths = np.array([len(row) for row in rows])
    places = np.arange(lengths.max())
    mask = (places[::-1] if left else places) < lengths[:, None]  # (B, T)
    input_ids = np.full(mask.shape, pad_token_id, dtype=np.int64)
    input_ids[mask] = np.concatenate(rows)
    return input_ids, mask.astype(np.int64)


def padded_left(rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return a batch (B, T) of `rows` padded on the left, so that all end at the same place."""
    ids, mask = pad_rows(rows, 0, left=True)
    return {"input_ids": ids, "attention_mask": mask}


def check_seq_len(seq_len: int) -> None:
    if seq_len < 2:
        raise MiniloraError(f"a context of {seq_len} tokens has none to predict; at least 2")
