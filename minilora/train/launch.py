"""Running as one of several ranks: finding out how this process was started, and printing each message only once."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from time import sleep
from typing import Any

from minilora.errors import MiniloraError, wrap_message

COMMANDS = ("pretrain", "finetune")  # the commands that support several ranks
GRACE = 2.0  # seconds that a failing rank waits for rank 0 to report the error and end all ranks


@contextmanager
def on_signals(signals: Iterable[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Call `handler(signum, frame)` for each of the signals within the block. Has no effect outside the main thread."""
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
    """Return MPI's communicator of the ranks started by `python -m mpi4py …`, or None if this process runs alone.

    mpi4py ends all ranks when one of them fails. This call initialises MPI, which does not see ranks that fail earlier.
    """
    if "mpi4py.run" not in sys.modules:
        return None
    from mpi4py.MPI import COMM_WORLD

    return COMM_WORLD


def rank() -> int:
    """Return the rank of this process, from 0."""
    return 0 if (comm := communicator()) is None else comm.Get_rank()


def ranks() -> int:
    """Return the number of ranks that were started together."""
    return 1 if (comm := communicator()) is None else comm.Get_size()


def check(command: str) -> None:
    """Raise MiniloraError if this command, or this launcher, does not support several ranks."""
    started = max(int(os.environ.get(name, "1")) for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
    if started > 1 and communicator() is None:
        raise MiniloraError("start the ranks with -m mpi4py, which ends all of them when one fails: see lesson 14")
    if ranks() > 1 and command not in COMMANDS:
        raise MiniloraError(f"{command} runs as one process; only {' and '.join(COMMANDS)} support several ranks")


@contextmanager
def only_rank_zero_prints() -> Iterator[None]:
    """Discard the output of all ranks but rank 0 within the block."""
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
    """Print on standard error why this rank fails, before its exit code ends the other ranks.

    Most errors hit every rank, so rank 0 reports for all, and the others wait to be ended by it. A rank that is still
    running after GRACE seconds has an error of its own, and prints it.
    """
    if rank():
        sleep(GRACE)
        message = f"rank {rank()}: {message}"
    print(wrap_message(f"minilora: {message}"), file=sys.stderr, flush=True)
    if ranks() > 1:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # hides MPI's own message about the same error
