"""One training step over several threads: each takes a part of the batch, and their gradients are added up.

NumPy releases Python's lock while it computes, so threads run side by side. Splitting the batch keeps each thread's
work whole (its matrices stay in its core's cache), where a threaded matrix product would leave everything else on one
core.
"""

import contextvars
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import numpy as np

from minilora import backend, blas, nn
from minilora.backend import xp
from minilora.tensor import Tensor, each_gradient, gradients
from minilora.train.stream import Stream, worth_streaming
from minilora.train.world import World, split_rows


def split_batch(batch: dict[str, np.ndarray], parts: int) -> list[dict[str, np.ndarray]]:
    """Up to `parts` batches of whole rows, in order, none of them empty."""
    return [take(batch, rows) for rows in split_rows(rows_of(batch), parts) if rows]


def rows_of(batch: dict[str, np.ndarray]) -> range:
    return range(len(batch["input_ids"]))


def take(batch: dict[str, np.ndarray], rows: range) -> dict[str, np.ndarray]:
    return {name: array[rows.start : rows.stop] for name, array in batch.items()}


class RowGenerators:
    """Draws for dropout, each row of a batch from a stream of its own: the same however the rows are shared out."""

    def __init__(self, seeds: list[tuple[int, ...]]):
        self._seeds = seeds
        self._rngs: list[np.random.Generator] | None = None  # made by the first dropout

    def random(self, shape: tuple[int, ...], dtype="float64") -> np.ndarray:
        """As `Generator.random`, for an array whose first axis is the batch's rows."""
        if self._rngs is None:
            self._rngs = [np.random.default_rng(seed) for seed in self._seeds]
        if shape[0] != len(self._rngs):
            raise ValueError(f"dropout in training needs the {len(self._rngs)} rows of the batch first, not {shape}")
        return np.stack([rng.random(shape[1:], dtype=dtype) for rng in self._rngs])


class Workers:
    """Threads that share a training step; `with Workers(count)`.

    count: None takes the cores that the process may use; on a GPU, or with a count of 1, the caller works alone. world:
    the processes that share the step with this one. Within the block, a matrix product uses one thread where there are
    several workers or ranks.
    """

    def __init__(self, count: int | None = None, world: World | None = None):
        self.world = world or World()
        self.count = 1 if not backend.is_cpu() else (count or self.world.cores())
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        with ExitStack() as stack:
            if self.count > 1 or self.world.size > 1:
                blas.keep_freed_memory()
                stack.enter_context(blas.threads(1))
            if self.count > 1:
                self._pool = stack.enter_context(ThreadPoolExecutor(self.count))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._pool = None
        self._stack.close()

    def map(self, function, *arguments) -> list:
        """`function` of each, side by side, in the caller's context (gradients on or off, dropout)."""
        calls = list(zip(*arguments, strict=True))
        if self._pool is None:
            return [function(*call) for call in calls]
        if len(calls) == 1:  # nothing beside it: its matrix products may have all cores
            with blas.threads(self.count):
                return [function(*calls[0])]
        tasks = [self._pool.submit(contextvars.copy_context().run, function, *call) for call in calls]
        return [task.result() for task in tasks]

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

        def part(number: int, batch: dict, rows: range):
            generators = RowGenerators([(*seed, number, row) for row in rows])
            with nn.dropout_rng(cast(np.random.Generator, generators)):  # dropout asks for `random` alone
                return model(**take(batch, rows), num_items_in_batch=num_items).loss

        def whole(number: int, batch: dict, rows: range):
            loss = part(number, batch, rows)
            return loss.data, gradients(loss)

        def streamed(number: int, batch: dict, index: int, rows: range):
            loss = part(number, batch, rows)
            for parameter, gradient in each_gradient(loss, early=True):
                stream.take(index, parameter, gradient)
            return loss.data

        last, parameters = len(batches) - 1, [p for p in model.parameters() if p.requires_grad]
        streams = self.world.overlaps and worth_streaming(parameters)
        for number, batch in enumerate(batches):
            mine = self.world.share(rows_of(batch))
            parts = [rows for rows in split_rows(mine, self.count) if rows]
            if number == last and streams:
                with Stream(self.world, parameters, len(parts), totals) as stream:
                    losses = self.map(partial(streamed, number, batch), range(len(parts)), parts)
                    loss, totals = stream.finish(loss + sum(losses))
            else:
                results = self.map(partial(whole, number, batch), parts)
                loss = loss + sum(value for value, _ in results)
                self._add_up([totals] + [found for _, found in results])
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

    def _add_up(self, found: list[dict[Tensor, Any]]) -> None:
        """Add the gradients of all dictionaries into the first, in order (so that a rerun gives the same bits)."""
        totals = found[0]
        names = list({t: None for grads in found for t in grads})

        def add(start: int) -> None:
            for tensor in names[start :: self.count]:
                arrays = [grads[tensor] for grads in found if tensor in grads]
                total = arrays[0]
                for array in arrays[1:]:
                    total += array
                totals[tensor] = total

        self.map(add, range(self.count))
