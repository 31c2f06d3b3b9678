"""How many threads the matrix library under NumPy uses, what it is, and how the process keeps its memory."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from math import ceil
from pathlib import Path
from threading import Lock
from typing import Any


@cache
def _controller() -> Any:
    import numpy  # noqa: F401 (the controller sees what is loaded)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, each matrix product uses one thread; blocks of several threads may overlap."""
    global _blocks, _limit
    with _lock:
        if not _blocks:
            _limit = _controller().limit(limits=1, user_api="blas")
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                _limit.restore_original_limits()


_lock, _blocks = Lock(), 0  # how many blocks of `one_thread` are open
_limit: Any = None  # what ends the last


@cache
def keep_freed_memory() -> None:
    """Have the C library keep large freed blocks instead of returning them to the system (glibc; elsewhere nothing).

    A training step frees and asks for the same large arrays over and over, and every page that comes back from the
    system costs a fault and is zeroed first: a twentieth to a sixth of a step's time. Threads that are started later
    share one heap: of those that they would have of their own, every free part is returned, whatever the threshold.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc
        return
    mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: blocks below it come from the heap
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the heap's free end up to it is kept
    mallopt(-8, 1)  # M_ARENA_MAX: heaps


def describe() -> list[dict[str, Any]]:
    """One dictionary per loaded BLAS: its name, version, kernels (`architecture`) and number of threads."""
    return [pool for pool in _controller().info() if pool["user_api"] == "blas"]


def cores() -> int:
    """Count the processor cores that this process may use, or as many as its container's share of time keeps busy."""
    quota = _quota()
    return len(usable_cores()) if quota is None else min(len(usable_cores()), ceil(quota))


@cache
def fit_container() -> None:
    """No more threads for matrix products than there are `cores`, which the libraries count without the container's
    limit: threads that share the time of half a core wait for each other.
    """
    if cores() < len(usable_cores()):
        _controller().limit(limits=cores(), user_api="blas")


@cache
def _quota() -> float | None:
    """Cores' worth of time that the process's container may use; None where it has no limit."""
    with suppress(OSError, ValueError):  # no such file, or "max"
        most, period = CPU_MAX.read_text(encoding="ascii").split()
        return int(most) / int(period)
    return None


CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # the container's, on Linux


def usable_cores() -> set[int]:
    """The processor cores that this process may use, by number."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on Linux
        return set(range(os.cpu_count() or 1))
