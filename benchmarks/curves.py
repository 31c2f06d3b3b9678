"""How the speed of a training step changes with depth, width, length, batch and vocabulary.

    pip install -e ".[parity]" && python -m benchmarks.curves --resume

One size in the middle, and each axis doubled four times around it: minilora, PyTorch and minilora's matrix products
alone, each in a process of its own, take turns; so do small programs that measure the rates of the machine for the
cost model (`experiments.step_time`). What the rounds took goes to a file of records, one line an axis and method,
with which a run that was cut off goes on. `python -m experiments.results.page` shows them beside the model.
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
AXES = {  # each doubled four times
    "layers": [1, 2, 4, 8, 16],
    "hidden": [64, 128, 256, 512, 1024],
    "length": [32, 64, 128, 256, 512],
    "batch": [1, 2, 4, 8, 16],
    "vocab": [512, 1024, 2048, 4096, 8192],
}
ROUNDS, TURN = 7, 0.4  # TURN: seconds
SIDE = 1024  # of the product that the rate is of
BLOCK, BLOCKS = 64 * 1024, 64  # numbers that stay in a core's cache, and how often a step goes over them
LARGE = 16 * 2**20  # numbers that no cache holds
# Next to nothing to compute, but arrays of 1,024 numbers: from 500 on, NumPy hands Python's lock to the other thread.
SMALL = {"vocab": 64, "hidden": 32, "intermediate": 32, "heads": 1, "length": 32}


# What a process of its own serves to measure a rate, on each core two arrays


def _on_each_core(shape: tuple[int, ...], work, times: int = 1):
    pairs = [np.random.default_rng(0).random((2, *shape), np.float32) for _ in range(threads.count())]

    def part(pair) -> None:
        for _ in range(times):
            work(*pair)

    return lambda: threads.side_by_side(part, pairs) and 0.0


def product_step():
    """Return a large matrix product on each core."""
    return _on_each_core((SIDE, SIDE), lambda a, b: a @ b)


def element_step():
    """Multiplications over a block of numbers that stays in each core's cache."""
    return _on_each_core((BLOCK,), lambda block, out: np.multiply(block, block, out=out), BLOCKS)


def exponential_step():
    return _on_each_core((BLOCK,), lambda block, out: np.exp(block, out=out), BLOCKS)


def memory_step():
    """Each core copies an array that no cache holds."""
    return _on_each_core((LARGE,), lambda source, target: np.copyto(target, source))


def take_turns(settings: dict, runners: list[Runner]) -> dict[str, list[float]]:
    return seconds_of(take_turns_with_peers(runners, settings["rounds"], [], TURN))


def measure_rates(settings: dict, method: str) -> dict[str, list[float]]:
    """Of each round, the rates of the machine (`experiments.step_time.Rates`)."""
    cores = blas.cores()
    work = {  # operations, numbers and bytes of a step
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
    found = {names[name]: [amount / s for s in seconds[name]] for name, amount in work.items()}
    for how, before in (("whole", ""), ("split", "split_")):  # of a layer, and of a step without any
        few, many = seconds[f"1 {how}"], seconds[f"9 {how}"]
        layers = [(large - small) / 8 for small, large in zip(few, many, strict=True)]
        found |= {f"{before}layer": layers, f"{before}step": [s - one for s, one in zip(few, layers, strict=True)]}
    return found


def measure(settings: dict, method: str, axis: str) -> dict[str, list[list[float]]]:
    """By library and size, the seconds of a step in each round."""
    values = settings["axes"][axis]
    sizes = {value: json.dumps(size_at(settings["middle"], axis, value)) for value in values}
    runners = [step_runner(one, sizes[value], method, name=f"{one} {value}") for value in values for one in STEPS]
    seconds = take_turns(settings, runners)
    return {library: [seconds[f"{library} {value}"] for value in values] for library in STEPS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--resume", action="store_true", help="go on with the records in --out")
    parser.add_argument("--overwrite", action="store_true", help="forget the records in --out")
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
