"""A batch on its way through a model: ids are checked on the host, rows shared over the cores, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minilora import backend, blas, nn, threads
from minilora.tensor import Tensor


@dataclass
class Output:
    """The result of a model. `logits` are those of a classifier (B, num_labels) or of a language model (B, T, V).

    A language model that was given labels makes its logits only when they are asked for: its loss does not need them
    whole.
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
    """Call `compute(ids, attention_mask, labels, num_items)`, which gives a model's output with its loss. Parts of the
    rows are computed side by side if that is faster (see `threads`): their losses are added up, their logits joined.

    Modules then see some of the rows each time, and are called from several threads; within `threads.using(1)` they see
    all. Dropout draws for each row from a stream of its own, split or not.
    """
    blas.keep_freed_memory()
    rngs = nn.row_generators(model, len(ids))
    mask, targets = None if attention_mask is None else host_ids(attention_mask), host_ids(labels)
    parts = threads.parts_of(len(ids), ids.size * model.config.hidden_size, threads.count())
    fits = (mask is None or mask.shape == ids.shape) and targets.shape == ids.shape[: model.label_axes]
    count = model.count_targets(targets) if fits and num_items is None else num_items

    def part(rows: range) -> Output:
        mine = slice(rows.start, rows.stop)
        with nullcontext() if rngs is None else nn.dropout_rng(rngs.of(rows)):
            return compute(ids[mine], None if mask is None else mask[mine], targets[mine], count)

    if parts and fits and count:
        return Output(*threads.joined_loss(part, threads.split_rows(range(len(ids)), parts)))
    with nullcontext() if rngs is None else nn.dropout_rng(rngs):  # what does not fit is told of the whole batch
        return compute(ids, attention_mask, labels, num_items)


def host_ids(ids: Any) -> np.ndarray:
    """Return token ids, labels or a mask as a NumPy array: they are checked on the host before a device sees them."""
    return backend.to_numpy(ids.data if isinstance(ids, Tensor) else ids)


def token_ids(ids: Any) -> np.ndarray:
    """Return token ids (B, T) on the host. Raises ValueError for another number of axes, and if there are none."""
    ids = host_ids(ids)
    if ids.ndim != 2 or not ids.size:
        raise ValueError(f"input_ids must have the shape (batch, length), not {ids.shape}")
    return ids
