"""What work costs: the peak of the process's memory and of a training's arrays, and the seconds of a query."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

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


def seconds_in_turns(
    ways: Mapping[str, Callable[[Any], object]], items: Sequence[Any], clock: Callable[[], float] = perf_counter
) -> dict[str, float]:
    """Return the median time that each way takes for an item. Ways take turns, and the first item warms them up.

    clock: `time.process_time` counts the processor's seconds, which other work on the machine changes little.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number, item in enumerate([items[0], *items]):
        for name, ask in ways.items():
            started = clock()
            ask(item)
            if number:
                times[name].append(clock() - started)
    return {name: median(seconds) for name, seconds in times.items()}
