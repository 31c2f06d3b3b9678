"""Threads of the BLAS library under NumPy, the processor cores that there are, and malloc's settings."""

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
    import numpy  # noqa: F401 (the controller finds only libraries that are already loaded)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit each matrix product to one thread within the block. Blocks may overlap, also on several threads."""
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


_lock, _blocks = Lock(), 0  # _blocks: number of `one_thread` blocks that are open
_limit: Any = None  # the limit that the first block set and the last one lifts


@cache
def keep_freed_memory() -> None:
    """Make the C library keep large freed blocks instead of returning them to the system (glibc only).

    A training step frees and allocates the same large arrays over and over, and each page that the system hands out
    again costs a page fault and is zeroed first: 5 to 17 % of a step's time. Threads started later share one heap,
    because a thread's own heap would return every free part, whatever the threshold.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc
        return
    mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: blocks below it come from the heap
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: up to this much free memory stays at the heap's end
    mallopt(-8, 1)  # M_ARENA_MAX: one heap for all threads


def describe() -> list[dict[str, Any]]:
    """List a dictionary for each loaded BLAS: its name, version, kernels (`architecture`) and number of threads."""
    return [pool for pool in _controller().info() if pool["user_api"] == "blas"]


def cores() -> int:
    """Count the processor cores that this process may use, or fewer if its container's CPU quota allows fewer."""
    quota = _quota()
    return len(usable_cores()) if quota is None else min(len(usable_cores()), ceil(quota))


@cache
def fit_container() -> None:
    """Limit matrix products to as many threads as there are `cores()`. BLAS ignores a container's CPU quota, and
    threads that share the time of half a core mostly wait for each other.
    """
    if cores() < len(usable_cores()):
        _controller().limit(limits=cores(), user_api="blas")


@cache
def _quota() -> float | None:
    """Return the CPU time that the process's container may use, in cores; None if there is no limit."""
    with suppress(OSError, ValueError):  # no such file, or "max"
        quota, period = CPU_MAX.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    return None


CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # the container's CPU quota, on Linux


def usable_cores() -> set[int]:
    """Return the numbers of the processor cores that this process may use."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on Linux
        return set(range(os.cpu_count() or 1))
