"""How many threads the matrix library under NumPy uses, and what it is."""

import os
from contextlib import contextmanager
from functools import cache


@cache
def _controller():
    import numpy  # noqa: F401 (the controller sees what is loaded)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def threads(count: int):
    """Within the block, each matrix product uses `count` threads."""
    with _controller().limit(limits=count, user_api="blas"):
        yield


def describe() -> list[dict]:
    """One dictionary a loaded BLAS: its name, version, kernels (`architecture`) and number of threads."""
    return [pool for pool in _controller().info() if pool["user_api"] == "blas"]


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
