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
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness import Runner, seconds_of, serve, take_turns
from benchmarks.step import RANK, STEPS, step_runner
from minilora import threads

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


def product_step():
    """Return a large matrix product on each core."""
    import numpy as np

    pairs = [np.ones((2, SIDE, SIDE), np.float32) for _ in range(threads.count())]
    return lambda: threads.side_by_side(lambda pair: pair[0] @ pair[1], pairs) and 0.0


def element_step():
    """Multiplications over a block of numbers that stays in each core's cache."""
    import numpy as np

    return _over_blocks(lambda block, out: np.multiply(block, block, out=out))


def exponential_step():
    import numpy as np

    return _over_blocks(lambda block, out: np.exp(block, out=out))


def _over_blocks(function):
    import numpy as np

    blocks = [np.random.default_rng(0).random((2, BLOCK), np.float32) for _ in range(threads.count())]

    def part(block):
        for _ in range(BLOCKS):
            function(block[0], block[1])

    return lambda: threads.side_by_side(part, blocks) and 0.0


def memory_step():
    """Each core copies an array that no cache holds."""
    import numpy as np

    arrays = [np.ones((2, LARGE), np.float32) for _ in range(threads.count())]
    return lambda: threads.side_by_side(lambda pair: np.copyto(pair[1], pair[0]), arrays) and 0.0


RATES = {"product": product_step, "element": element_step, "exponential": exponential_step, "memory": memory_step}


def measure_rates(settings: dict, method: str) -> dict[str, list[float]]:
    """Of each round, the rates of the machine (`experiments.step_time.Rates`)."""
    from minilora import blas

    cores = blas.cores()
    with ExitStack() as stack:
        runners = [Runner(name, "benchmarks.curves", "--serve", name) for name in RATES]
        for library, how in (("minilora", "whole"), ("all threads", "split")):
            for layers in (1, 9):
                size = json.dumps(SMALL | {"layers": layers, "batch": cores})
                runners.append(step_runner(library, size, method, name=f"{layers} {how}"))
        for runner in runners:
            stack.enter_context(runner)
        seconds = seconds_of(take_turns(runners, settings["rounds"], TURN))
    layer, step = _fixed(seconds, "whole")
    split_layer, split_step = _fixed(seconds, "split")
    return {
        "products": [cores * 2 * SIDE**3 / s for s in seconds["product"]],
        "elements": [cores * BLOCK * BLOCKS / s for s in seconds["element"]],
        "exponentials": [cores * BLOCK * BLOCKS / s for s in seconds["exponential"]],
        "memory": [cores * 2 * 4 * LARGE / s for s in seconds["memory"]],
        "layer": layer,
        "step": step,
        "split_layer": split_layer,
        "split_step": split_step,
    }


def _fixed(seconds: dict[str, list[float]], how: str) -> tuple[list[float], list[float]]:
    """Of each round, the seconds of a layer, and of a step without any, where there is next to nothing to compute."""
    few, many = seconds[f"1 {how}"], seconds[f"9 {how}"]
    layers = [(large - small) / 8 for small, large in zip(few, many, strict=True)]
    return layers, [small - layer for small, layer in zip(few, layers, strict=True)]


def measure(settings: dict, method: str, axis: str) -> dict[str, list[list[float]]]:
    """By library and size, the seconds of a step in each round."""
    from experiments.results.curves import size_at

    with ExitStack() as stack:
        runners = []
        for value in settings["axes"][axis]:
            size = json.dumps(size_at(settings["middle"], axis, value))
            runners += [step_runner(library, size, method, name=f"{library} {value}") for library in STEPS]
        for runner in runners:
            stack.enter_context(runner)
        seconds = seconds_of(take_turns(runners, settings["rounds"], TURN))
    return {library: [seconds[f"{library} {value}"] for value in settings["axes"][axis]] for library in STEPS}


def main() -> int:
    from experiments.results.curves import KIND
    from minilora.errors import MiniloraError
    from minilora.measure.records import Records

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--resume", action="store_true", help="go on with the records in --out")
    parser.add_argument("--overwrite", action="store_true", help="forget the records in --out")
    parser.add_argument("--axis", choices=AXES, action="append", help="measure this axis alone")
    parser.add_argument("--method", choices=METHODS, action="append", help="measure this method alone")
    parser.add_argument("--serve", choices=RATES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(RATES[arguments.serve](), "minilora", "cpu")
        return 0
    settings = {"middle": MIDDLE, "axes": AXES, "rank": RANK, "rounds": arguments.rounds}
    try:
        records = Records.open(arguments.out, KIND, settings, arguments.resume, arguments.overwrite)
        for method in arguments.method or METHODS:
            if (method, "rates") not in records:
                records.add((method, "rates"), **measure_rates(settings, method))
            for axis in arguments.axis or AXES:
                if (method, axis) not in records:
                    records.add((method, axis), **measure(settings, method, axis))
                    print(f"{method}, {axis}: measured", flush=True)
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
