"""How this process was started, alone or by mpiexec as one of several ranks, and how several ranks speak as one."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from time import sleep
from typing import Any

from minilora.errors import MiniloraError

COMMANDS = ("pretrain", "finetune")  # what several ranks can do together
GRACE = 2.0  # seconds that a rank gives the first to speak for all and end them


@contextmanager
def on_signals(signals: Iterable[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Within the block, `handler(signum, frame)` is called for each of the signals. The main thread alone gets any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


def communicator() -> Any:
    """MPI's communicator of the processes that were started together, by `python -m mpi4py …`, which ends all ranks
    when one of them fails; else None. This begins MPI, which does not notice the end of a rank that has not begun.
    """
    if "mpi4py.run" not in sys.modules:
        return None
    from mpi4py.MPI import COMM_WORLD

    return COMM_WORLD


def rank() -> int:
    """The number of this process among those that were started together, from 0."""
    return 0 if (comm := communicator()) is None else comm.Get_rank()


def ranks() -> int:
    """Number of processes that were started together."""
    return 1 if (comm := communicator()) is None else comm.Get_size()


def check(command: str) -> None:
    """Raise MiniloraError for a command that several ranks cannot do together, or a start that cannot end well."""
    started = max(int(os.environ.get(name, "1")) for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
    if started > 1 and communicator() is None:
        raise MiniloraError("start the ranks by -m mpi4py, which ends all of them when one fails: see lesson 14")
    if ranks() > 1 and command not in COMMANDS:
        raise MiniloraError(f"{command} runs as one process; several ranks are for {' and '.join(COMMANDS)}")


@contextmanager
def only_rank_zero_prints() -> Iterator[None]:
    """Within the block, what a rank prints is seen of the first alone."""
    if not rank():
        yield
        return
    with (
        open(os.devnull, "w", errors="backslashreplace") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        yield


def report_fatal(message: str) -> None:
    """Say on standard error why this rank ends, before its exit code ends the others.

    What one rank dies of, the others mostly die of as well: the first speaks for all, and the others wait to be ended
    by it. One that is still there has a reason of its own, and says it.
    """
    if rank():
        sleep(GRACE)
        message = f"rank {rank()}: {message}"
    print(f"minilora: {message}", file=sys.stderr, flush=True)
    if ranks() > 1:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI has its own words for the same
