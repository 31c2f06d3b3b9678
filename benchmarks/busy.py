"""What a step takes in each way of using the cores, alone and beside one busy process.

    pip install -e ".[parity]" && python -m benchmarks.busy

Of each size and method, milliseconds of minilora's step as it is, on one thread, with its products on the matrix
library's threads, and of PyTorch's: medians of turns, alone, and beside a process that keeps one of the cores busy.
With --bits alone: how many of so many random products have other bits on all threads than on one.
"""

import argparse
import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from statistics import median

import numpy as np

from benchmarks.curves import METHODS, MIDDLE
from benchmarks.harness import seconds_of, take_turns
from benchmarks.step import step_runner
from minilora import blas

SHAPES = ((4, 32), (1, 128), (8, 64), (1, 256), (4, 128))  # sequences, tokens each
WAYS = ("minilora", "one thread", "library threads", "torch")
SPIN = "import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\nwhile True: pass"
MOST = 10.5  # binary logarithm of a product's largest side


@contextmanager
def busy_process():
    """Within the block, another process keeps one of the cores busy."""
    with subprocess.Popen([sys.executable, "-c", SPIN]) as process:
        try:
            yield
        finally:
            process.kill()


def measure(batch: int, length: int, method: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a step by way, alone and beside the busy process."""
    size = json.dumps(MIDDLE | {"batch": batch, "length": length})
    with ExitStack() as stack:
        runners = [stack.enter_context(step_runner(way, size, method)) for way in WAYS]
        alone = seconds_of(take_turns(runners, rounds, 0.4))
        with busy_process():
            beside = seconds_of(take_turns(runners, rounds, 0.4))
    return {
        when: {way: 1000 * median(found[way]) for way in WAYS} for when, found in (("alone", alone), ("busy", beside))
    }


def other_bits(products: int) -> int:
    """How many of so many random float32 products have other bits on all threads than on one."""
    rng, other = np.random.default_rng(0), 0
    for _ in range(products):
        rows, inner, columns = (int(2**side) for side in rng.uniform(0, MOST, 3))
        a, b = rng.standard_normal((rows, inner), np.float32), rng.standard_normal((inner, columns), np.float32)
        with blas.one_thread():
            one = a @ b
        other += not np.array_equal(one, a @ b)
    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bits", type=int, metavar="N", help="compare the bits of so many products instead")
    arguments = parser.parse_args()
    if arguments.bits:
        print(f"{other_bits(arguments.bits):,} of {arguments.bits:,} products have other bits")
        return
    for method in METHODS:
        for batch, length in SHAPES:
            for when, found in measure(batch, length, method, arguments.rounds).items():
                said = ", ".join(f"{way} {ms:,.0f}" for way, ms in found.items())
                print(f"{method}, {batch} x {length}, {when}: {said} ms", flush=True)


if __name__ == "__main__":
    main()
