"""What work costs in memory: the peak of the process, and of a training's arrays."""

import re
import sys
from pathlib import Path

from minilora.measure.memory import peak_bytes
from minilora.train.loop import TrainConfig, train


def peak_rss() -> int | None:
    """Return the most bytes that this process has had in memory (resident set), with Python and the libraries; None if
    the system does not say.
    """
    try:  # not `getrusage` on Linux: its maximum begins with that of the process that started this one
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    if peak := re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE):
        return int(peak[1]) * 1024
    try:
        import resource
    except ImportError:  # Pyodide, Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_of_steps(model, batches, held: int) -> int:
    """Return the most bytes alive in two training steps, with the `held` bytes of the weights."""
    return peak_bytes(lambda: train(model, batches, TrainConfig(steps=2), show_progress=False), held)
