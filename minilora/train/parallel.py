"""One training step of one process or of several ranks: the rows of each batch are shared out, gradients added up."""

from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from minilora import backend, blas, nn, threads
from minilora.backend import xp
from minilora.tensor import Tensor, each_gradient, gradients
from minilora.threads import split_rows
from minilora.train.stream import Stream, worth_streaming
from minilora.train.world import World


def split_batch(batch: dict[str, np.ndarray], parts: int) -> list[dict[str, np.ndarray]]:
    """Up to `parts` batches of whole rows, in order, none of them empty."""
    return [take(batch, rows) for rows in split_rows(rows_of(batch), parts) if rows]


def rows_of(batch: dict[str, np.ndarray]) -> range:
    return range(len(batch["input_ids"]))


def take(batch: dict[str, np.ndarray], rows: range) -> dict[str, np.ndarray]:
    return {name: array[rows.start : rows.stop] for name, array in batch.items()}


class Workers:
    """Threads and ranks that share a training step; `with Workers(count)`.

    count: of threads; None takes the cores that the process may use. world: the processes that share the step with
    this one.
    """

    def __init__(self, count: int | None = None, world: World | None = None):
        self.world = world or World()
        self.count = 1 if not backend.is_cpu() else (count or self.world.cores())

    def __enter__(self) -> "Workers":
        with ExitStack() as stack:
            if self.count == 1 < self.world.size:
                stack.enter_context(blas.one_thread())
            stack.enter_context(threads.using(self.count))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    map = staticmethod(threads.side_by_side)

    def gradients(self, model, batches: list[dict[str, np.ndarray]], seed: tuple[int, ...] = (0,)):
        """The mean loss over all targets of `batches` (a 0-d array of the backend), its gradient left in `.grad`.

        batches: one for a plain step, several to accumulate; of the whole world, which takes its rows of each. seed: of
        dropout; each row draws from a stream of its own.
        """
        num_items = sum(model.count_targets(batch["labels"]) for batch in batches)
        if num_items == 0:
            raise ValueError("the batch has no label that counts")
        totals: dict[Tensor, Any] = {}
        loss: Any = 0

        def loss_of(number: int, batch: dict, rows: range) -> Tensor:
            with nn.dropout_rng(nn.RowGenerators([(*seed, number, row) for row in rows])):
                return model(**take(batch, rows), num_items_in_batch=num_items).loss

        def streamed(number: int, batch: dict, index: int, rows: range):
            loss = loss_of(number, batch, rows)
            for parameter, gradient in each_gradient(loss, early=True):
                stream.take(index, parameter, gradient)
            return loss.data

        last, parameters = len(batches) - 1, [p for p in model.parameters() if p.requires_grad]
        streams = self.world.overlaps and worth_streaming(parameters)
        for number, batch in enumerate(batches):
            mine = self.world.share(rows_of(batch))
            if number == last and streams:
                parts = [rows for rows in split_rows(mine, self.count) if rows]
                with Stream(self.world, parameters, len(parts), totals) as stream:
                    losses = self.map(partial(streamed, number, batch), range(len(parts)), parts)
                    loss, totals = stream.finish(loss + sum(losses))
            elif mine:
                of_batch = loss_of(number, batch, mine)
                loss = loss + of_batch.data
                totals = threads.add_up([totals, gradients(of_batch)])
        if self.world.size > 1 and not streams:
            loss, totals = self._of_all_ranks(parameters, loss, totals)
        for parameter, gradient in totals.items():
            parameter.grad = gradient
        return loss

    def _of_all_ranks(self, parameters: list[Tensor], loss, totals: dict[Tensor, Any]):
        """Loss and gradients summed over the ranks; what no rank has a gradient for gets zeros."""
        mine = [totals.pop(p) if p in totals else xp.zeros(p.shape, dtype=p.dtype) for p in parameters]
        loss, *found = self.world.all_reduce([backend.asarray(loss, dtype=parameters[0].dtype), *mine])
        return loss, dict(zip(parameters, found, strict=True))
