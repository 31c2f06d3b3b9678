"""Replay: what a model is not to forget, in the batches that it learns something else from."""

import numpy as np

from minilora.data.batches import LanguageModelBatches


class MixedBatches:
    """Batches in which a share of the rows is of another source: replay of what a model is not to forget.

    If the share of a batch is not a whole number of rows, it is met over several batches. They have no place that a
    checkpoint could keep.
    """

    def __init__(self, main: LanguageModelBatches, other: LanguageModelBatches, share: float, batch_size: int):
        """main, other: sources of one row at a time, of one length. share: of `other`, at least 0 and below 1."""
        self.main, self.other, self.share, self.batch_size = main, other, share, batch_size
        self._batch = 0

    def next_batch(self) -> dict[str, np.ndarray]:
        due = [int((self._batch + i) * self.batch_size * self.share + 1e-9) for i in (0, 1)]
        others = due[1] - due[0]
        self._batch += 1
        sources = [self.main] * (self.batch_size - others) + [self.other] * others
        rows = [source.next_batch() for source in sources]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
