"""Parts of a measurement side by side, each in a process of its own, while one process keeps the file.

What a process finds it sends at once through a queue, so that a sweep that is cut off loses only the cells that were
being measured. A process ends as soon as the one that started it is gone.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from threading import Thread
from time import sleep

from minilora.errors import MiniloraError, Stopped
from minilora.train.loop import collected_signals

MOST_JOBS = 64


def check_jobs(jobs: int) -> None:
    """Raise MiniloraError for a number of processes that cannot be."""
    if not 1 <= jobs <= MOST_JOBS:
        raise MiniloraError(f"--jobs must be from 1 to {MOST_JOBS}, not {jobs:,}")


def side_by_side(work: Callable, tasks: Sequence[tuple], jobs: int, take: Callable) -> None:
    """`work(*task, tell)` for each task, in `jobs` processes. `work` is a function of a module.

    tell(key, None) says that a cell begins, tell(key, numbers) what it came to; `take(key, numbers)` is called
    with the latter here, one call at a time. An error of `work` or of `take` ends all processes and is raised;
    a process that dies is a MiniloraError that names its cell, and a signal Stopped.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
    told = context.SimpleQueue()
    begun: dict[int, tuple] = {}  # by process, the cell that it is at

    def read() -> None:
        while not told.empty():
            process, key, numbers = told.get()
            begun[process] = key
            if numbers is not None:
                take(key, numbers)

    others = {process.pid for process in multiprocessing.active_children()}
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), context, _begin, (told,))
    with collected_signals() as caught:
        futures: list[Future] = []
        processes: list[BaseProcess] = []
        errors: list[BaseException] = []
        finished = False
        try:
            with _signals_kept_from_children():
                futures += [pool.submit(_in_child, work, task) for task in tasks]
            processes += [p for p in multiprocessing.active_children() if p.pid not in others]
            while not (caught or finished or errors):
                finished, errors = all(future.done() for future in futures), _errors(futures)
                read()
                sleep(0.05)
        finally:
            ended_by_pool = -signal.SIGTERM
            dead = [p.pid for p in processes if p.exitcode not in (None, ended_by_pool)]
            if not finished or errors:
                for process in processes:
                    process.kill()  # a training would finish its step after SIGTERM, and its process take another task
            pool.shutdown(cancel_futures=True)
    if caught:
        raise Stopped(caught[0])
    for error in errors:
        if isinstance(error, BrokenProcessPool):
            cell = " ".join(map(str, begun.get(dead[0] or 0, ()))) if dead else ""
            raise MiniloraError(
                f"the process that measured {cell or 'a cell'} was killed, perhaps for want of memory; go on with "
                "--resume and fewer --jobs"
            )
        raise error


def _errors(futures: Sequence[Future]) -> list[BaseException]:
    done = [future for future in futures if future.done() and not future.cancelled()]
    return [error for future in done if (error := future.exception())]


@contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """Ctrl-C goes to every process of a terminal; those that start here leave it to the first one."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # else started among the others, and then unblocks the signal here
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the processes of a sweep

_told: SimpleQueue


def _begin(told: SimpleQueue) -> None:
    global _told
    _told = told
    Thread(target=_leave_with_the_first, daemon=True).start()


def _leave_with_the_first() -> None:
    first = multiprocessing.parent_process()
    if first is not None:
        first.join()
    os._exit(1)


def _in_child(work: Callable, task: tuple) -> None:
    work(*task, lambda key, numbers: _told.put((os.getpid(), key, numbers)))
