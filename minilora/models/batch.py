"""A batch on its way through a model: checks of the ids on the host, rows spread over the cores, and the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minilora import backend, blas, nn, threads
from minilora.tensor import Tensor


@dataclass
class Output:
    """A model's loss and logits: (B, num_labels) from a classifier, (B, T, V) from a language model.

    If a language model is given labels, it computes the logits only when `logits` is read, because its loss never needs
    all of them at once.
    """

    loss: Tensor | None
    make_logits: Tensor | Callable[[], Tensor] = field(repr=False)

    @property
    def logits(self) -> Tensor:
        if not isinstance(self.make_logits, Tensor):
            self.make_logits = self.make_logits()
        return self.make_logits


def over_rows(
    model: Any, compute: Callable[..., Output], ids: np.ndarray, attention_mask: Any, labels: Any, num_items: int | None
) -> Output:
    """Call `compute(ids, attention_mask, labels, num_items)`, which returns a model's output with its loss. If it is
    faster, split the rows into parts and compute them in parallel (see `threads`): losses are summed, logits joined.

    Modules are then called from several threads, each time with a part of the rows; within `threads.using(1)` they get
    all rows at once. Each row has its own random stream for dropout, whether rows are split or not.
    """
    blas.keep_freed_memory()
    rngs = nn.row_generators(model, len(ids))
    mask, targets = None if attention_mask is None else host_ids(attention_mask), host_ids(labels)
    parts = threads.parts_of(len(ids), ids.size * model.config.hidden_size, threads.count())
    fits = (mask is None or mask.shape == ids.shape) and targets.shape == ids.shape[: model.label_axes]
    count = model.count_targets(targets) if fits and num_items is None else num_items

    def part(rows: range) -> Output:
        own = slice(rows.start, rows.stop)
        with nn.dropout_rng(rngs and rngs.of(rows)):
            return compute(ids[own], None if mask is None else mask[own], targets[own], count)

    if parts and fits and count:
        return Output(*threads.joined_loss(part, threads.split_rows(range(len(ids)), parts)))
    with nn.dropout_rng(rngs):  # errors then name shapes of the whole batch
        return compute(ids, attention_mask, labels, num_items)


def host_ids(ids: Any) -> np.ndarray:
    """Return token ids, labels or a mask as a NumPy array, so that they can be checked before they go to a device."""
    return backend.to_numpy(ids.data if isinstance(ids, Tensor) else ids)


def token_ids(ids: Any) -> np.ndarray:
    """Return token ids (B, T) on the host. Raises ValueError if there are none, or for another number of axes."""
    ids = host_ids(ids)
    if ids.ndim != 2 or not ids.size:
        raise ValueError(f"input_ids must have the shape (batch, length), not {ids.shape}")
    return ids
