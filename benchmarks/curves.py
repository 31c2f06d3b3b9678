"""Curves of a training step's speed over depth, width, length, batch size and vocabulary.

    pip install -e ".[parity]" && python -m benchmarks.curves --resume

Each axis has five values around a common size in the middle, each twice the one before. minilora, PyTorch and
minilora's matrix products alone take turns, each in a process of its own. Small programs that measure the machine's
rates for the cost model (`experiments.step_time`) take turns, too. The times of all rounds go to a file of records, one
line per axis and method, from which an interrupted run can continue. `python -m experiments.results.page` shows them
beside the model.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.harness import Runner, call, seconds_of, take_turns_with_peers
from benchmarks.step import RANK, STEPS, step_runner
from experiments.results.curves import KIND, size_at
from minilora import blas, threads
from minilora.errors import MiniloraError
from minilora.measure.records import Records

OUT = Path("experiments") / "records" / "curves.jsonl"
METHODS = ("full", "lora")
MIDDLE = {
    **{"vocab": 2048, "hidden": 256, "intermediate": 688, "layers": 4, "heads": 8},
    **{"length": 128, "batch": 4},
}
AXES = {  # axis: its values, each twice the one before
    "layers": [1, 2, 4, 8, 16],
    "hidden": [64, 128, 256, 512, 1024],
    "length": [32, 64, 128, 256, 512],
    "batch": [1, 2, 4, 8, 16],
    "vocab": [512, 1024, 2048, 4096, 8192],
}
ROUNDS, TURN = 7, 0.4  # TURN in seconds
SIDE = 1024  # side of the matrices whose product is timed
BLOCK, BLOCKS = 64 * 1024, 64  # numbers that stay in a core's cache, and how often a step goes over them
LARGE = 16 * 2**20  # numbers that no cache holds
# There is almost nothing to compute, but arrays have 1,024 elements: NumPy releases the GIL only for 500 or more.
SMALL = {"vocab": 64, "hidden": 32, "intermediate": 32, "heads": 1, "length": 32}


# Steps that measure the machine's rates, each served by a process of its own


def _on_each_core(shape: tuple[int, ...], work, times: int = 1):
    """Return a step that calls `work` on two arrays on each core, `times` times."""
    pairs = [np.random.default_rng(0).random((2, *shape), np.float32) for _ in range(threads.count())]

    def part(pair) -> None:
        for _ in range(times):
            work(*pair)

    return lambda: threads.side_by_side(part, pairs) and 0.0


def product_step():
    """Return a step that computes a large matrix product on each core."""
    return _on_each_core((SIDE, SIDE), lambda a, b: a @ b)


def element_step():
    """Return a step that multiplies a block of numbers, which stays in each core's cache."""
    return _on_each_core((BLOCK,), lambda block, out: np.multiply(block, block, out=out), BLOCKS)


def exponential_step():
    return _on_each_core((BLOCK,), lambda block, out: np.exp(block, out=out), BLOCKS)


def memory_step():
    """Return a step in which each core copies an array that is too large for any cache."""
    return _on_each_core((LARGE,), lambda source, target: np.copyto(target, source))


def take_turns(settings: dict, runners: list[Runner]) -> dict[str, list[float]]:
    return seconds_of(take_turns_with_peers(runners, settings["rounds"], [], TURN))


def measure_rates(settings: dict, method: str) -> dict[str, list[float]]:
    """Measure the machine's rates (`experiments.step_time.Rates`) in each round."""
    cores = blas.cores()
    work = {  # operations, elements or bytes of a step
        "product": cores * 2 * SIDE**3,
        "element": cores * BLOCK * BLOCKS,
        "exponential": cores * BLOCK * BLOCKS,
        "memory": cores * 2 * 4 * LARGE,
    }
    runners = [Runner(name, *call(f"benchmarks.curves.{name}_step"), "minilora", "cpu") for name in work]
    for library, how in (("minilora", "whole"), ("all threads", "split")):
        for layers in (1, 9):
            size = json.dumps(SMALL | {"layers": layers, "batch": cores})
            runners.append(step_runner(library, size, method, name=f"{layers} {how}"))
    seconds = take_turns(settings, runners)
    names = {"product": "products", "element": "elements", "exponential": "exponentials", "memory": "memory"}
    rates = {names[name]: [amount / s for s in seconds[name]] for name, amount in work.items()}
    for how, prefix in (("whole", ""), ("split", "split_")):  # the seconds of a layer, and of a step without layers
        few, many = seconds[f"1 {how}"], seconds[f"9 {how}"]
        layers = [(large - small) / 8 for small, large in zip(few, many, strict=True)]
        rates |= {f"{prefix}layer": layers, f"{prefix}step": [s - layer for s, layer in zip(few, layers, strict=True)]}
    return rates


def measure(settings: dict, method: str, axis: str) -> dict[str, list[list[float]]]:
    """Measure an axis; returns {library: for each size, the seconds of a step in each round}."""
    values = settings["axes"][axis]
    sizes = {value: json.dumps(size_at(settings["middle"], axis, value)) for value in values}
    runners = [step_runner(name, sizes[value], method, name=f"{name} {value}") for value in values for name in STEPS]
    seconds = take_turns(settings, runners)
    return {library: [seconds[f"{library} {value}"] for value in values] for library in STEPS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--resume", action="store_true", help="continue with the records in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the records in --out")
    arguments = parser.parse_args()
    settings = {"middle": MIDDLE, "axes": AXES, "rank": RANK, "rounds": arguments.rounds}
    try:
        records = Records.open(arguments.out, KIND, settings, arguments.resume, arguments.overwrite)
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    for method in METHODS:
        records.measured((method, "rates"), measure_rates, settings, method)
        for axis in AXES:
            records.measured((method, axis), measure, settings, method, axis)
            print(f"{method}, {axis}: measured", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
