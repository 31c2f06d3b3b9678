"""One training step of one process or of several ranks: the rows of each batch are shared out, gradients added up."""

from typing import Any

import numpy as np

from minilora import backend, nn, threads
from minilora.backend import xp
from minilora.tensor import Tensor, gradients
from minilora.threads import split_rows
from minilora.train.world import World

Batch = dict[str, np.ndarray]


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Up to `parts` batches of whole rows, in order, none of them empty."""
    return [take(batch, rows) for rows in split_rows(rows_of(batch), parts) if rows]


def rows_of(batch: Batch) -> range:
    return range(len(batch["input_ids"]))


def take(batch: Batch, rows: range) -> Batch:
    return {name: array[rows.start : rows.stop] for name, array in batch.items()}


def batch_gradients(model, batches: list[Batch], seed: tuple[int, ...] = (0,), world: World | None = None):
    """The mean loss over all targets of `batches` (a 0-d array of the backend), its gradient left in `.grad`.

    batches: one for a plain step, several to accumulate; of the whole world, the ranks that share the step, each of
    which takes its rows. seed: of dropout; each row draws from a stream of its own.
    """
    world = world or World()
    num_items = sum(model.count_targets(batch["labels"]) for batch in batches)
    if num_items == 0:
        raise ValueError("the batch has no label that counts")
    totals: dict[Tensor, Any] = {}
    loss: Any = 0

    def loss_of(number: int, batch: Batch, rows: range) -> Tensor:
        with nn.dropout_rng(nn.RowGenerators([(*seed, number, row) for row in rows])):
            return model(**take(batch, rows), num_items_in_batch=num_items).loss

    for number, batch in enumerate(batches):
        if mine := world.share(rows_of(batch)):
            of_batch = loss_of(number, batch, mine)
            loss = loss + of_batch.data
            totals = threads.add_up([totals, gradients(of_batch)])
    if world.size > 1:
        loss, totals = _of_all_ranks(world, [p for p in model.parameters() if p.requires_grad], loss, totals)
    for parameter, gradient in totals.items():
        parameter.grad = gradient
    return loss


def _of_all_ranks(world: World, parameters: list[Tensor], loss, totals: dict[Tensor, Any]):
    """Loss and gradients summed over the ranks; what no rank has a gradient for gets zeros."""
    mine = [totals.pop(p) if p in totals else xp.zeros(p.shape, dtype=p.dtype) for p in parameters]
    loss, *found = world.all_reduce([backend.asarray(loss, dtype=parameters[0].dtype), *mine])
    return loss, dict(zip(parameters, found, strict=True))
