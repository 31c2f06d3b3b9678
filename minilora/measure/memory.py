"""Memory that a training's arrays take at their most."""

import tracemalloc
from collections.abc import Callable

from minilora.train.loop import TrainConfig, train


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
