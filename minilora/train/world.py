"""Training one model in several processes, over MPI: `mpiexec -n 4 python -m mpi4py -m minilora pretrain …`.

Data-parallel training (Li et al. 2020, "PyTorch Distributed", section 3): each process, a rank, holds the whole model
and computes its share of the rows of every batch. Their gradients are summed, so all ranks take the same step. Per
step, they exchange one buffer with the gradients of the trainable parameters and a few other numbers.

Without mpiexec, the process is a world of its own and imports nothing of MPI. `-m mpi4py` ends all ranks when one of
them fails; without it, the others would wait for it forever.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import numpy as np

from minilora import backend, blas, nn, threads
from minilora.backend import xp
from minilora.errors import MiniloraError
from minilora.peft import base_fingerprint
from minilora.tensor import Tensor, gradients
from minilora.threads import split_rows
from minilora.train import launch

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Batch = dict[str, np.ndarray]


class World:
    """The `size` processes that train together, of which this one is number `rank`, counted from 0.

    comm: mpi4py's communicator of all of them; None: this process alone.
    """

    def __init__(self, comm=None):
        self._comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()
        self.asked: list[int] = []  # the signals that this rank has received
        self._agreed = 0  # a signal that some rank received, which all ranks have known since the last sum
        if self.size > 1:
            from mpi4py import MPI

            self._in_place = MPI.IN_PLACE
            self._here = comm.Split_type(MPI.COMM_TYPE_SHARED)  # the ranks on this machine, which share its GPUs
            if devices := backend.device_count():
                backend.set_device(self._here.Get_rank() % devices)

    @property
    def stop(self) -> int:
        """The signal for which all ranks should stop, or 0. Between two sums it is the same on all ranks."""
        return (self.asked or [0])[0] if self.size == 1 else self._agreed

    @contextmanager
    def shared_cores(self) -> Iterator[None]:
        """Limit this rank, within the block, to its share of the cores.

        The cores that it may use are divided among the ranks on this machine that may use them, too. All ranks must
        enter the block.
        """
        with ExitStack() as stack:
            if self.size > 1:
                mine = blas.usable_cores()
                sharing = sum(bool(cores & mine) for cores in self._here.allgather(mine))
                stack.enter_context(threads.using(count := max(1, blas.cores() // sharing)))
                if count == 1:
                    stack.enter_context(blas.one_thread())
            yield

    def share(self, batch: Batch) -> range:
        """Return this rank's rows of a batch."""
        return split_rows(range(len(batch["input_ids"])), self.size)[self.rank]

    def all_reduce(self, arrays: list) -> list:
        """Return each of `arrays` (of the backend) summed over the ranks, which must all pass the same shapes.

        One Allreduce of one buffer sums them together with the stop flags; the results are views of that buffer.
        """
        flags = backend.asarray(np.array([s in self.asked for s in SIGNALS], dtype=np.float32))
        host = backend.to_numpy(xp.concatenate([a.reshape(-1) for a in (*arrays, flags)]))
        self._comm.Allreduce(self._in_place, host)
        ends = np.cumsum([a.size for a in arrays]).tolist()
        counts, flat = host[ends[-1] :], backend.asarray(host)
        self._agreed = max((s for s, count in zip(SIGNALS, counts, strict=True) if count), default=0)
        return [flat[end - a.size : end].reshape(a.shape) for a, end in zip(arrays, ends, strict=True)]

    def sum(self, number: float) -> float:
        """Return the sum of a number over the ranks, added in their order."""
        return number if self.size == 1 else sum(self._comm.allgather(number))

    def check_alike(self, facts: dict, model: Any) -> None:
        """Raise MiniloraError on a rank whose facts or model differ from those of rank 0."""
        if self.size > 1 and self.broadcast(mine := (facts, base_fingerprint(model))) != mine:
            raise MiniloraError("this rank was started with other settings, data or weights than rank 0")

    def broadcast(self, thing):
        """Return rank 0's `thing` on all ranks, which wait for it."""
        return thing if self.size == 1 else self._comm.bcast(thing)


@cache
def this_world() -> World:
    """Return the world in which this process was started."""
    return World(launch.communicator())


# A step: divide the rows of each batch among the ranks, and sum their gradients


def take(batch: Batch, rows: range) -> Batch:
    return {name: array[rows.start : rows.stop] for name, array in batch.items()}


def batch_gradients(model, batches: list[Batch], seed: tuple[int, ...] = (0,), world: World | None = None):
    """Return the mean loss over all targets of `batches` (a 0-d array of the backend); its gradient is in `.grad`.

    batches: one for a plain step, several to accumulate gradients; each rank of `world` takes its rows of them. seed:
    for dropout; each row has a random stream of its own, so the masks do not depend on how rows are divided.
    """
    world = world or World()
    num_items = sum(model.count_targets(batch["labels"]) for batch in batches)
    totals: dict[Tensor, Any] = {}
    loss: Any = 0

    def loss_of(number: int, batch: Batch, rows: range) -> Tensor:
        with nn.dropout_rng(nn.RowGenerators([(*seed, number, row) for row in rows])):
            return model(**take(batch, rows), num_items_in_batch=num_items).loss

    for number, batch in enumerate(batches):
        if mine := world.share(batch):
            of_batch = loss_of(number, batch, mine)
            loss = loss + of_batch.data
            totals = threads.add_up([totals, gradients(of_batch)])
    if world.size > 1:  # every rank must send the same arrays, so a missing gradient is sent as zeros
        trained = [p for p in model.parameters() if p.requires_grad]
        arrays = [totals.pop(p) if p in totals else xp.zeros(p.shape, dtype=p.dtype) for p in trained]
        loss, *arrays = world.all_reduce([backend.asarray(loss, dtype=trained[0].dtype), *arrays])
        totals = dict(zip(trained, arrays, strict=True))
    for parameter, gradient in totals.items():
        parameter.grad = gradient
    return loss
