"""Batches for training, shuffled and resumable from a checkpoint, and batches for evaluation, in order.

The order of epoch e depends only on (seed, e), so two numbers are enough to resume: the epoch and the index in it. From
there, exactly the batches follow that would have come without the interruption.

A batch is a dict of NumPy arrays, ready for `model(**batch)`: `input_ids` and `labels`, and `attention_mask` if rows
may be padded, all int64 (B, T). Labels of -100 are ignored. The model shifts the labels itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minilora.data.chat import ChatTokens
from minilora.errors import MiniloraError

IGNORED = -100  # the label of positions without a loss (PyTorch's ignore_index)
POOL = 16  # conversations are sorted by length within this many batches


class ShuffledEpochs:
    """An endless source of batches. A subclass implements `_epoch`, an epoch's items, and `next_batch`."""

    def __init__(self, batch_size: int, seed: int):
        if batch_size < 1:
            raise MiniloraError(f"the batch size must be at least 1, not {batch_size}")
        self.batch_size = batch_size
        self.seed = seed
        self._position, self._items = (0, 0), self._shuffled(0)

    def _epoch(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        """Return the items of one epoch, shuffled by `rng`."""
        raise NotImplementedError

    def _shuffled(self, epoch: int) -> np.ndarray:
        return self._epoch(epoch, np.random.default_rng([self.seed, epoch]))

    def _next_items(self, rows: int | None = None) -> np.ndarray:
        """Return the next B (or `rows`) items; if the epoch ends within them, the next one supplies the rest."""
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
        """Continue from the place in `state`. With the same data, seed and sizes, the same batches follow.

        Raises MiniloraError if the place lies beyond the epoch, so that the data must be different.
        """
        items, index = self._shuffled(state["epoch"]), state["index"]
        if index > len(items):
            raise MiniloraError(
                f"the checkpoint was made with other data: it continues at item {index} of an epoch of {len(items)}"
            )
        self._position, self._items = (state["epoch"], index), items


class LanguageModelBatches(ShuffledEpochs):
    """Windows of `seq_len` tokens from a stream, shuffled; `labels` equal `input_ids`.

    Each epoch cuts the stream into non-overlapping windows, starting at a random offset, so that a token's position in
    its window differs between epochs. The tokens left over at the two ends are not used in that epoch.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, seq_len: int, seed: int):
        """Cut `ids` (N,) into windows. Raises MiniloraError if they do not fill one window."""
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

    Windows overlap by one token: the last token that a window predicts is the first input of the next. There its label
    is ignored, because virtual tokens before it would otherwise predict it a second time. The last window is padded on
    the right, with ignored labels. Raises MiniloraError for fewer than 2 tokens.
    """
    check_seq_len(seq_len)
    if len(ids) < 2:
        raise MiniloraError(f"a text of {len(ids)} tokens has nothing to predict; give at least 2")
    windows = [ids[start : start + seq_len] for start in range(0, len(ids) - 1, seq_len - 1)]
    for first in range(0, len(windows), batch_size):
        input_ids, mask = pad_rows(windows[first : first + batch_size])
        labels = np.where(mask == 1, input_ids, IGNORED)
        labels[:, 0] = IGNORED
        yield {"input_ids": input_ids, "labels": labels}


class ChatBatches(ShuffledEpochs):
    """Conversations, shuffled: `input_ids`, `attention_mask` and `labels` (B, T), with labels -100 outside answers.

    B conversations are padded on the right to the longest of them. To keep padding small, a batch has rows of similar
    length: the epoch's order is cut into pools of POOL batches, the rows of a pool are sorted by length and cut into
    batches, and these batches are shuffled.

    A conversation of more than `seq_len` tokens loses its beginning, and an earlier answer that the cut goes through is
    not learned. If even the last answer does not fit, the conversation is left out. `notes` gives both counts.
    """

    def __init__(self, tokens: ChatTokens, batch_size: int, seq_len: int, seed: int):
        """Cut the conversations to `seq_len`. Raises MiniloraError if no answer fits."""
        check_seq_len(seq_len)
        self.seq_len = seq_len
        self.notes: list[str] = []
        self._rows = self._fit(tokens.rows)
        super().__init__(batch_size, seed)

    def _fit(self, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Cut rows to (ids, labels) of at most `seq_len` tokens."""
        fitting, cut = [], 0
        for ids, mask in rows:
            mask = mask.copy()
            mask[0] = False  # the first token has nothing before it to predict it from
            start = max(0, len(ids) - self.seq_len)
            if start:
                answers = np.flatnonzero(np.diff(mask, prepend=False))[::2]  # where each answer begins
                if answers[-1] <= start:  # the token before the answer, which predicts its first one, must fit, too
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
            reason = f"the response is longer than {self.seq_len:,} tokens"
            self.notes.append(f"{left_out} of {len(rows)} conversations are left out: {reason}")
        return fitting

    def _epoch(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        order = rng.permutation(len(self._rows))
        lengths = np.array([len(ids) for ids, _ in self._rows])
        first = -epoch * len(order) % self.batch_size  # rows that complete the last batch of the epoch before
        grouped = [order[:first]]
        for start in range(first, len(order), POOL * self.batch_size):
            pool = order[start : start + POOL * self.batch_size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            whole = len(pool) // self.batch_size * self.batch_size
            batches = pool[:whole].reshape(-1, self.batch_size)
            grouped += [*rng.permutation(batches), pool[whole:]]
        return np.concatenate(grouped)

    def next_batch(self, rows: int | None = None) -> dict[str, np.ndarray]:
        return _padded([self._rows[i] for i in self._next_items(rows)])


class MixedBatches:
    """Batches with a share of rows from another source, to replay what the model should not forget.

    If the share of a batch is not a whole number of rows, it is reached on average over several batches.
    """

    def __init__(self, main: Any, other: Any, share: float, batch_size: int):
        """Mix two sources, LanguageModelBatches or ChatBatches. share: of `other`, at least 0 and below 1."""
        self.main, self.other, self.share, self.batch_size = main, other, share, batch_size
        self.notes = getattr(main, "notes", [])
        self._batch = 0

    def next_batch(self) -> dict[str, np.ndarray]:
        due = [int((self._batch + i) * self.batch_size * self.share + 1e-9) for i in (0, 1)]
        others = due[1] - due[0]
        self._batch += 1
        counts = [(self.main, self.batch_size - others), (self.other, others)]
        rows = [row for source, count in counts if count for row in unpadded(source.next_batch(count))]
        return _padded(rows)

    def state(self) -> dict[str, Any]:
        """Return the place in both sources, for a checkpoint."""
        return {"batch": self._batch, "main": self.main.state(), "other": self.other.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from the places in `state`, as `ShuffledEpochs.load_state` does."""
        self.main.load_state(state["main"])
        self.other.load_state(state["other"])
        self._batch = state["batch"]


def chat_windows(tokens: ChatTokens, seq_len: int, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield the conversations, sorted by length, in batches that predict each token of an answer exactly once.

    A conversation of more than `seq_len` tokens becomes windows that overlap by half, so that each prediction sees at
    least half a window of context. Windows with nothing to predict are skipped.
    """
    check_seq_len(seq_len)
    windows = []
    for ids, mask in tokens.rows:
        done = 1  # number of tokens that need no prediction any more; the first can never be predicted
        for start in range(0, max(len(ids) - seq_len, 0) + seq_len // 2, seq_len // 2):
            end = min(start + seq_len, len(ids))
            labels = np.where(mask & (np.arange(len(ids)) >= done), ids, IGNORED)[start:end]
            if (labels != IGNORED).any():
                windows.append((ids[start:end], labels))
            done = max(done, end)
    windows.sort(key=lambda window: len(window[0]))
    for first in range(0, len(windows), batch_size):
        yield _padded(windows[first : first + batch_size])


def _padded(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Pad rows of (ids, labels) on the right to a batch."""
    input_ids, mask = pad_rows([ids for ids, _ in rows])
    labels, _ = pad_rows([labels for _, labels in rows], IGNORED)
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}


def unpadded(batch: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows of a batch as (ids, labels), without padding."""
    real = batch.get("attention_mask", np.ones_like(batch["input_ids"])) == 1  # (B, T)
    return [(batch["input_ids"][i, mask], batch["labels"][i, mask]) for i, mask in enumerate(real)]


def pad_rows(rows: Sequence[np.ndarray], pad_token_id: int = 0, left: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pad `rows` on the right (or left). Returns the ids and a mask, 1 for real tokens, both (B, T) int64.

    pad_token_id: by default 0, because any token will do: the mask hides it, and it has no label.
    """
    lengths = np.array([len(row) for row in rows])
    positions = np.arange(lengths.max())
    mask = (positions[::-1] if left else positions) < lengths[:, None]  # (B, T)
    input_ids = np.full(mask.shape, pad_token_id, dtype=np.int64)
    input_ids[mask] = np.concatenate(rows)
    return input_ids, mask.astype(np.int64)


def padded_left(rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return a batch (B, T) of `rows`, padded on the left so that all end at the same position."""
    ids, mask = pad_rows(rows, left=True)
    return {"input_ids": ids, "attention_mask": mask}


def check_seq_len(seq_len: int) -> None:
    if seq_len < 2:
        raise MiniloraError(f"a context of {seq_len} tokens has nothing to predict; give at least 2")
