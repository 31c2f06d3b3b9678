"""Kernel launches and waits of the host in a training step on a GPU, counted on the stand-in device: no GPU is needed.

    python -m benchmarks.launches

A call that computes or copies counts as one launch, though some of the library's start several (einsum, long sums);
views and empty arrays cost none, and a chain that minilora/kernels.py fuses costs one. In brackets is what it would be
without those kernels. A step is forward, backward, clipping and AdamW, as in `benchmarks.step`; the second is counted.
"""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import minilora
from benchmarks import step
from minilora import backend
from minilora.kernels import KERNELS
from tests.helpers import strict

PACKAGE = f"{Path(minilora.__file__).parent}/"
PASSED_OVER = ("backend.py", "kernels.py", "classroom/device.py", "ops.py", "functional/rows.py", "threads.py")
SIZES = {
    "hidden 256, 4 layers": step.SIZES["hidden 256, 4 layers"],
    "SmolLM2-135M, 4 x 128": step.SMOLLM2 | {"length": 128, "batch": 4},
}
NUMBER_SHOWN = 12  # of the chains, those with most launches

launches: Counter[str] = Counter()  # by the function of the package that asked for them
is_counting = True


def count_launch() -> None:
    """Count for the function that asked, closures for the one around them."""
    frame = sys._getframe(1)
    while frame.f_back and (
        not frame.f_code.co_filename.startswith(PACKAGE)
        or frame.f_code.co_filename.removeprefix(PACKAGE) in PASSED_OVER
    ):
        frame = frame.f_back
    if is_counting:
        launches[frame.f_code.co_qualname.partition(".<locals>")[0]] += 1


def one_launch(*source: str) -> Callable:
    """In the place of a compiled kernel: the same in NumPy, for one launch."""
    plain = next(kernel.plain for kernel in KERNELS if kernel.source == source)

    def kernel(*arguments):
        global is_counting
        count_launch()
        is_counting = False
        try:
            return plain(*arguments)
        finally:
            is_counting = True

    return kernel


@contextmanager
def counting(kernels: bool):
    """Within the block, the stand-in counts its launches, with or without the package's kernels."""
    backend.register("counting", lambda: replace(strict.load(), kernel=one_launch if kernels else None))
    with patch.object(strict, "launched", count_launch), backend.use("counting"):
        yield


def count_step(size: dict, method: str, kernels: bool = True) -> tuple[Counter[str], int]:
    """Launches of a training step by function, and how often the host waits."""
    with counting(kernels):
        run = step.minilora_step(size, method, device=None)
        run()
        launches.clear()
        strict.reset_syncs()
        run()
        return Counter(launches), strict.sync_count()


def table(size: str, show: int = NUMBER_SHOWN) -> str:
    """Launches of each method's step at a size, in all and of the functions with most of them."""
    found = {m: (*count_step(SIZES[size], m), count_step(SIZES[size], m, kernels=False)[0]) for m in step.METHODS}
    rows = {size: [*found], "all": [f"{now.total()} ({before.total()})" for now, _, before in found.values()]}
    rows["waits of the host"] = [str(waits) for _, waits, _ in found.values()]
    for name, _ in sum((now + before for now, _, before in found.values()), Counter()).most_common(show):
        rows[name] = [f"{now[name]} ({before[name]})" for now, _, before in found.values()]
    return "\n".join(f"{name:<28}" + "".join(f"{cell:>16}" for cell in row) for name, row in rows.items())


if __name__ == "__main__":
    for name in SIZES:
        print(table(name), end="\n\n", flush=True)
