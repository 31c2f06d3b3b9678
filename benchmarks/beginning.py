"""A training step on conversations that begin alike, with the beginning read once and read by each row, taking turns.

    minilora models get smollm2 && minilora models get reviews && python -m benchmarks.beginning

Loss and gradients are compared as well; the largest difference is relative to the largest gradient of its parameter.
"""

import argparse
from statistics import median
from time import perf_counter
from unittest.mock import patch

import numpy as np

from benchmarks.harness import median_ratio
from minilora.measure.curve import Curve, CurveSettings, read_task
from minilora.models import beginning
from minilora.train import defaults, recipes
from minilora.train.loop import trainable
from minilora.train.parallel import batch_gradients

LEAST = {"once": beginning.LEAST_SAVED, "by each row": 10**12}


def measure(curve: Curve, method: str, rounds: int) -> str:
    model, tokens = curve.adapted(method, curve.task.order(0)[: defaults.BATCH_SIZE * (rounds + 1)], 0)
    model.train()
    batches = recipes.training_batches(tokens, defaults.BATCH_SIZE, defaults.LONGEST, 0)
    seconds: dict[str, list[float]] = {way: [] for way in LEAST}
    differences = []
    for turn in range(rounds + 1):
        batch, found = batches.next_batch(), {}
        for way, least in LEAST.items():
            with patch.object(beginning, "LEAST_SAVED", least):
                started = perf_counter()
                batch_gradients(model, [batch])
                if turn:  # the first warms up
                    seconds[way].append(perf_counter() - started)
            found[way] = {name: p.grad for name, p in trainable(model).items()}
            for p in trainable(model).values():
                p.grad = None
        pairs = ((found["once"][name], g) for name, g in found["by each row"].items())
        differences += [np.abs(a - b).max() / max(np.abs(b).max(), 1e-30) for a, b in pairs]
    once, each = seconds.values()
    times = "   ".join(f"{way} {1000 * median(taken):5,.0f} ms" for way, taken in seconds.items())
    return f"{method:<20} {times}   {median_ratio(each, once):.2f} x   gradients within {max(differences):.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="reviews")
    parser.add_argument("--methods", default="full,lora,qlora,prefix")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    curve = Curve(CurveSettings(data=arguments.data, shots=(), seeds=(0,)), read_task(arguments.data))
    for method in arguments.methods.split(","):
        print(measure(curve, method, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
