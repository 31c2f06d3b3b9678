"""How much memory a training step needs, counted array by array."""

import tracemalloc
from collections.abc import Callable


def peak_bytes(run: Callable[[], object], held: int = 0) -> int:
    """The most bytes alive at once while `run()` runs, on top of `held` bytes that were there before.

    Python's own allocator and NumPy's report to tracemalloc. It slows `run` down: measure two steps, not a training.
    """
    tracemalloc.start()
    try:
        run()
        return held + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
