"""Memory that work takes: the peak of the process, and of a training's arrays."""

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from minilora.train.loop import TrainConfig, train


def peak_rss() -> int | None:
    """Return the most bytes that this process has had in memory (resident set); None on systems other than Linux."""
    try:  # not `getrusage`: its maximum begins with that of the process that started this one
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(peak[1]) * 1024 if peak else None


def peak_bytes(run: Callable[[], object], held: int = 0) -> int:
    """Return the most bytes alive at once while `run()` runs, on top of `held` bytes that were there before.

    Python's own allocator and NumPy's report to tracemalloc. It slows `run` down: measure two steps, not a training.
    """
    tracemalloc.start()
    try:
        run()
        return held + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peak_of_steps(model, batches, held: int) -> int:
    """Return the most bytes alive in two training steps, with the `held` bytes of the weights."""
    return peak_bytes(lambda: train(model, batches, TrainConfig(steps=2), show_progress=False), held)
