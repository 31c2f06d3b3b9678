"""Parts of a measurement side by side, each in a process of its own (joblib's loky), while one process keeps the file.

What a process finds it sends at once over a socket of this machine, so that a sweep that is cut off loses only the
cells that were being measured. A process ends as soon as the one that started it is gone, or no longer listens.
"""

import os
import secrets
import signal
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from threading import Lock, Thread
from time import sleep

from minilora.errors import MiniloraError
from minilora.measure.records import Records
from minilora.train.loop import Stopped, collected_signals

MOST_JOBS = 64


def check_jobs(jobs: int) -> None:
    """Raise MiniloraError for a number of processes that cannot be."""
    if not 1 <= jobs <= MOST_JOBS:
        raise MiniloraError(f"--jobs must be from 1 to {MOST_JOBS}, not {jobs:,}")
    if jobs > 1 and find_spec("joblib") is None:
        raise MiniloraError(f'--jobs {jobs} needs joblib: pip install "minilora[sweep]"')


class SentRecords(Records):
    """The cells of a file that another process keeps: a new one is sent there. rows: what it has already."""

    def __init__(self, rows: dict[tuple, dict], tell: Callable):
        super().__init__(path=Path(), header={}, rows=rows)
        self.tell = tell

    def begin(self, key) -> None:
        self.tell(tuple(key), None)

    def add(self, key, **numbers) -> dict:
        row = self.rows[tuple(key)] = {"key": list(key)} | numbers
        self.tell(tuple(key), numbers)
        return row


def side_by_side(work: Callable, tasks: Sequence[tuple], jobs: int, take: Callable) -> None:
    """`work(*task, tell)` for each task, in `jobs` processes. `work` is a function of a module.

    tell(key, None) says that a cell begins, tell(key, numbers) what it came to; `take(key, numbers)` is called
    with the latter here, one call at a time. An error of `work` or of `take` ends all processes and is raised;
    a process that dies is a MiniloraError that names its cell, and a signal Stopped.
    """
    import joblib
    from joblib.externals.loky import get_reusable_executor

    failed: list[BaseException] = []

    def run() -> None:
        _keep_signals_from_children()
        calls = [joblib.delayed(_in_child)(work, task, desk.address, desk.key) for task in tasks]
        try:
            joblib.Parallel(min(jobs, len(tasks)), backend="loky", batch_size=1, pre_dispatch="all")(calls)
            get_reusable_executor(reuse=True).shutdown(kill_workers=True)  # which joblib would keep for a next time
        except BaseException as error:
            failed.append(error)

    with collected_signals() as caught:
        with ResultServer(take) as desk:
            runner = Thread(target=run)
            runner.start()
            while (runner.is_alive() or desk.done < len(tasks)) and not (caught or failed or desk.failed):
                sleep(0.05)
        runner.join()
    if caught:
        raise Stopped(caught[0])
    if desk.failed:
        raise desk.failed[0]
    if failed and isinstance(failed[0], BrokenProcessPool):
        cell = " ".join(map(str, desk.lost[0])) if desk.lost else "a cell"
        raise MiniloraError(
            f"the process that measured {cell} was killed, perhaps for want of memory; go on with --resume and fewer "
            "--jobs"
        )
    if failed:
        raise failed[0]


def _keep_signals_from_children() -> None:
    """Ctrl-C goes to every process of a terminal; those that this thread starts leave it to the first one."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # else started among the others, and then unblocks the signals here
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))


class ResultServer:
    """Where the processes of a sweep report. done: how many tasks have ended; lost: the cells of processes that died,
    the first one first; failed: errors of `take`.
    """

    def __init__(self, take: Callable):
        self.take, self.done = take, 0
        self.lost: list[tuple] = []
        self.failed: list[BaseException] = []
        self.key = secrets.token_bytes(16)
        self._lock, self._closing = Lock(), False
        self._connections: list[Connection] = []
        self._readers: list[Thread] = []

    def __enter__(self) -> "ResultServer":
        self._listener = Listener(authkey=self.key)
        self.address = self._listener.address
        self.accept_thread = Thread(target=self._accept, daemon=True)
        self.accept_thread.start()
        return self

    def __exit__(self, *error) -> None:
        """Send all processes away that are still there."""
        self._closing = True
        Client(self.address, authkey=self.key).close()  # wakes the porter
        self.accept_thread.join()
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.send(None)
        for reader in self._readers:
            reader.join()

    def _accept(self) -> None:
        while not self._closing:
            with suppress(OSError, EOFError, AuthenticationError):
                connection = self._listener.accept()
                self._connections.append(connection)
                self._readers.append(Thread(target=self._read, args=(connection,), daemon=True))
                self._readers[-1].start()

    def _read(self, connection: Connection) -> None:
        begun = None
        with connection, suppress(EOFError, OSError):
            while True:
                cell, numbers = connection.recv()
                begun = cell if numbers is None else None
                with self._lock:
                    if cell is None:
                        self.done += 1
                    elif numbers is not None and not self.failed:
                        try:
                            self.take(cell, numbers)
                        except Exception as error:
                            self.failed.append(error)
        if begun is not None and not self._closing:
            self.lost.append(begun)


# In the processes of a sweep


def _in_child(work: Callable, task: tuple, address: str, key: bytes) -> None:
    connection = _connected(address, key)
    work(*task, lambda cell, numbers: connection.send((cell, numbers)))
    connection.send((None, None))


@cache
def _connected(address: str, key: bytes) -> Connection:
    """The way to the process that keeps the file, one for all tasks that are done here."""
    try:
        connection = Client(address, authkey=key)
    except (OSError, EOFError):  # it is gone
        os._exit(1)
    Thread(target=_leave_with, args=(connection,), daemon=True).start()
    return connection


def _leave_with(connection: Connection) -> None:
    with suppress(EOFError, OSError):
        connection.recv()
    os._exit(0)
