"""One training step over several threads: each takes a part of the batch, and their gradients are added up.

NumPy releases Python's lock while it computes, so threads run side by side. Splitting the batch keeps each thread's
work whole (its matrices stay in its core's cache), where a threaded matrix product would leave everything else on one
core.
"""

import contextvars
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from .. import backend, blas, nn
from ..tensor import Tensor, gradients


def split_batch(batch: dict[str, np.ndarray], parts: int) -> list[dict[str, np.ndarray]]:
    """Up to `parts` batches of whole rows, in order, none of them empty."""
    rows = len(batch["input_ids"])
    cuts = [rows * i // parts for i in range(parts + 1)]
    return [{k: a[i:j] for k, a in batch.items()} for i, j in zip(cuts, cuts[1:], strict=False) if j > i]


class Workers:
    """Threads that share a training step; `with Workers(count)`. On a GPU, or with a count of 1, there is just the
    caller.

    count: None takes the cores that the process may use. Within the block, a matrix product uses one thread where there
    are several workers.
    """

    def __init__(self, count: int | None = None):
        self.count = 1 if not backend.blocks_rows() else (count or blas.cores())
        self._pool = None

    def __enter__(self) -> "Workers":
        with ExitStack() as stack:
            if self.count > 1:
                blas.keep_freed_memory()
                stack.enter_context(blas.threads(1))
                self._pool = stack.enter_context(ThreadPoolExecutor(self.count))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._pool = None
        self._stack.close()

    def map(self, function, *arguments) -> list:
        """`function` of each, side by side, in the caller's context (gradients on or off, dropout)."""
        if self._pool is None:
            return [function(*a) for a in zip(*arguments, strict=True)]
        tasks = [self._pool.submit(contextvars.copy_context().run, function, *a) for a in zip(*arguments, strict=True)]
        return [task.result() for task in tasks]

    def gradients(self, model, batches: list[dict[str, np.ndarray]], seed: tuple[int, ...] = (0,)):
        """The mean loss over all targets of `batches` (a 0-d array of the backend), its gradient left in `.grad`.

        batches: one for a plain step, several to accumulate. seed: of dropout; each part draws from a stream of its
        own.
        """
        num_items = sum(model.count_targets(batch["labels"]) for batch in batches)
        if num_items == 0:
            raise ValueError("the batch has no label that counts")
        totals: dict[Tensor, object] = {}
        loss = 0

        def part(index: int, batch: dict):
            with nn.dropout_rng(np.random.default_rng([*seed, index])):
                out = model(**batch, num_items_in_batch=num_items).loss
            return out.data, gradients(out)

        for accumulation, batch in enumerate(batches):
            parts = split_batch(batch, self.count)
            numbers = [accumulation * self.count + i for i in range(len(parts))]
            results = self.map(part, numbers, parts)
            loss = loss + sum(value for value, _ in results)
            self._add_up([totals] + [found for _, found in results])
        for parameter, gradient in totals.items():
            parameter.grad = gradient
        return loss

    def _add_up(self, found: list[dict[Tensor, object]]) -> None:
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
