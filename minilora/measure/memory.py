"""Peak memory of the arrays of a training run."""

import tracemalloc
from collections.abc import Callable

from minilora.train.loop import TrainConfig, train


def peak_bytes(run: Callable[[], object], held: int = 0) -> int:
    """Return the peak of the bytes allocated during `run()`, plus `held` bytes that were allocated before it.

    Measured by tracemalloc, to which Python's and NumPy's allocators report. It slows `run` down, so measure two steps,
    not a whole training run.
    """
    tracemalloc.start()
    try:
        run()
        return held + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peak_of_steps(model, batches, held: int) -> int:
    """Return the peak bytes of two training steps, including the `held` bytes of the weights."""
    return peak_bytes(lambda: train(model, batches, TrainConfig(steps=2), show_progress=False), held)
