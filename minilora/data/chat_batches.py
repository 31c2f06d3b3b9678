"""Batches of conversations: one a row. In the labels all but the assistant's answers is -100."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minilora.data.batches import IGNORED, ShuffledEpochs, check_seq_len, pad_rows
from minilora.data.chat import ChatTokens
from minilora.errors import MiniloraError

POOL = 16  # batches that are made of rows of one pool


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
        left_out = len(rows) - len(fitting)
        if not fitting:
            raise MiniloraError(f"no response fits into a context of {self.seq_len:,} tokens; give a larger --seq-len")
        if cut:
            self.notes.append(f"{cut} of {len(rows)} conversations are cut at the beginning to {self.seq_len:,} tokens")
        if left_out:
            self.notes.append(
                f"{left_out} of {len(rows)} left out: the response is longer than {self.seq_len:,} tokens"
            )
        return fitting

    def _shuffled(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self._rows))
        return self._by_length(order, -epoch * len(order) % self.batch_size, rng)

    def _by_length(self, order: np.ndarray, first: int, rng: np.random.Generator) -> np.ndarray:
        """Return an order in which batches hold rows of like length. first: rows that fill up the last epoch's last
        batch.
        """
        lengths = np.array([len(ids) for ids, _ in self._rows])
        grouped = [order[:first]]
        for start in range(first, len(order), POOL * self.batch_size):
            pool = order[start : start + POOL * self.batch_size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            whole = len(pool) // self.batch_size * self.batch_size
            batches = pool[:whole].reshape(-1, self.batch_size)
            grouped += [*rng.permutation(batches), pool[whole:]]
        return np.concatenate(grouped)

    def next_batch(self) -> dict[str, np.ndarray]:
        return _padded([self._rows[i] for i in self._next_items()], self.pad_token_id)


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
