"""The processes that train one model together, over MPI: `mpiexec -n 4 python -m mpi4py -m minilora pretrain …`.

Data-parallel training (Li et al. 2020, "PyTorch Distributed", section 3): each process, a rank, holds the whole model
and takes its share of the rows of every batch; their gradients are added up, so all take the same step. What crosses
the wire in a step is one buffer with the gradients of what trains and a few numbers beside them.

Without mpiexec the process is a world of its own, and nothing of MPI is imported. `-m mpi4py` is what ends all ranks
when one of them fails: without it the others would wait for it for ever.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import numpy as np

from minilora import __version__, backend, blas, threads
from minilora.backend import xp
from minilora.errors import SeenByAll, escape, first_few
from minilora.threads import split_rows
from minilora.train.launch import by_mpi4py

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class World:
    """`size` processes of which this one is number `rank`, counted from 0. Without a communicator, one alone.

    comm: mpi4py's communicator of them all.
    """

    def __init__(self, comm=None):
        self._comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()
        self.asked: list[int] = []  # the signals that this rank was sent
        self._agreed = 0  # a signal that some rank was sent, known to all since the last sum
        if self.size > 1 and (devices := backend.device_count()):  # the ranks of a machine share out its GPUs
            local = comm.Split_type(sys.modules["mpi4py.MPI"].COMM_TYPE_SHARED)
            backend.set_device(local.Get_rank() % devices)

    @property
    def is_rank_zero(self) -> bool:
        """True for the rank that writes files and prints."""
        return self.rank == 0

    @property
    def stop(self) -> int:
        """The signal after which all ranks are to stop; 0 for none. Between two sums it is the same on all ranks."""
        return (self.asked or [0])[0] if self.size == 1 else self._agreed

    def cores(self) -> int:
        """Processor cores for this rank: those that it may use, shared with the ranks on this machine that may, too."""
        if self.size == 1:
            return blas.cores()
        mine = blas.usable_cores()
        here = [cores for machine, cores in self._comm.allgather((_machine(), mine)) if machine == _machine()]
        return max(1, blas.cores() // sum(bool(cores & mine) for cores in here))

    @contextmanager
    def shared_cores(self) -> Iterator[None]:
        """Within the block, this rank uses no more than its `cores`. All ranks enter it alike."""
        with ExitStack() as stack:
            if self.size > 1:
                stack.enter_context(threads.using(count := self.cores()))
                if count == 1:
                    stack.enter_context(blas.one_thread())
            yield

    def share(self, rows: range) -> range:
        """This rank's rows of those of a batch."""
        return split_rows(rows, self.size)[self.rank]

    def all_reduce(self, arrays: list) -> list:
        """Each of `arrays` (of the backend) summed over the ranks, which all give the same shapes.

        The arrays travel in one buffer, in one Allreduce, with the stop flags; the results are views of that buffer.
        """
        if self.size == 1:
            return arrays
        flags = backend.asarray(np.array([s in self.asked for s in SIGNALS], dtype=np.float32))
        host = backend.to_numpy(xp.concatenate([a.reshape(-1) for a in (*arrays, flags)]))
        self._comm.Allreduce(sys.modules["mpi4py.MPI"].IN_PLACE, host)
        ends = np.cumsum([a.size for a in arrays]).tolist()
        counts, flat = host[ends[-1] :], backend.asarray(host)
        self._agreed = max((s for s, count in zip(SIGNALS, counts, strict=True) if count), default=0)
        return [flat[end - a.size : end].reshape(a.shape) for a, end in zip(arrays, ends, strict=True)]

    def sum(self, number: float) -> float:
        """The sum of a number over the ranks, added in the order of the ranks."""
        return number if self.size == 1 else sum(self._comm.allgather(number))

    def broadcast(self, thing):
        """Return what rank 0 gives, on all ranks."""
        return thing if self.size == 1 else self._comm.bcast(thing)

    def barrier(self) -> None:
        """Wait until all ranks have come here."""
        if self.size > 1:
            self._comm.Barrier()

    def check_same_on_all_ranks(self, facts: Callable[[], dict[str, str]]) -> None:
        """Raise SeenByAll, on all ranks, where a rank was started with other facts than rank 0.

        facts: gives what must be the same, by name; it is not asked where there is one rank. The versions of minilora
        and NumPy are looked at as well.
        """
        if self.size == 1:
            return
        mine = {"minilora": __version__, "NumPy": np.__version__} | facts()
        first, *others = self._comm.allgather(mine)
        differing = [
            f"rank {rank} has {name} {escape(other[name], 16)}, rank 0 {escape(first[name], 16)}"
            for rank, other in enumerate(others, 1)
            for name in first
            if other[name] != first[name]
        ]
        if differing:
            raise SeenByAll(f"all ranks must be alike: {first_few(differing, separator='; ')}")

    def check_enough_rows(self, rows: int) -> None:
        """Raise SeenByAll where a batch has fewer rows than there are ranks."""
        if self.size > 1 and rows < self.size:
            raise SeenByAll(
                f"a batch of {rows} rows cannot be shared by {self.size} ranks; give --batch-size {self.size} or more, "
                f"or mpiexec -n {rows}"
            )


def _machine() -> str:
    return sys.modules["mpi4py.MPI"].Get_processor_name()


@cache
def this_world() -> World:
    """The world that this process was started in."""
    if not by_mpi4py():
        return World()
    from mpi4py import MPI

    return World(MPI.COMM_WORLD)
