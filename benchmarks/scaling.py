"""Data-parallel training on 1, 2 and 4 ranks, on this machine and over slow links, compared with the cost model.

    pip install -e ".[mpi]" && python -m benchmarks.scaling --out scaling.jsonl      (links: as root, with iproute2)

A step is that of `benchmarks.step` (hidden 256, 4 layers, 16 x 128 tokens), by full fine-tuning and by LoRA of rank 8
on q and v. Every point is a new mpiexec. It does a few steps as in training, and then as many again with a barrier
before and after the sum of the gradients, so that computing, waiting and summing can be timed separately. The table
shows medians over the rounds.

The cost model is `notebooks.figures.cluster.step_seconds`. Its inputs are measured without any sum of gradients:

    compute     the whole batch on one core while all cores compute; ranks share the cores if there are more of them
    fixed       reading the batch, clipping and the optimizer's step, in the same way
    link        bandwidth: a limited link's nominal one times EFFICIENCY; else measured by a large message sent to and
                fro between two ranks; latency: the time of a 64 kB message, less its bytes over the bandwidth
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.harness import call
from benchmarks.network import Network
from benchmarks.step import BATCH, SIZES, minilora_model
from experiments.results import scaling
from minilora import blas, threads
from minilora.measure.records import Records
from minilora.show.grids import drawn, render
from minilora.train.world import batch_gradients
from notebooks.figures.cluster import Link, step_seconds

METHODS = ("full", "lora")
SIZE = SIZES["hidden 256, 4 layers"]
STEPS, SMALL, LARGE = 8, 1 << 16, 1 << 22
EFFICIENCY = 0.9  # share of a link's rate that is used: 1,448 of a frame's 1,538 bytes are payload, and software waits
# The points, (ranks, Mbit/s, delay): each rank has one thread; 0 ranks means one process with a thread per core, 1 a
# single core.
HERE = [(ranks, None, 0.0) for ranks in (0, 1, 2, 4)]
LINKS = [(ranks, mbit, delay) for mbit, delay in ((1000, 0.0), (100, 0.0), (1000, 0.005)) for ranks in (2, 4)]
LINKS.append((2, 20, 0.02))


# On each rank


def train(method: str, sums: bool, count: int, one_core: bool) -> dict | None:
    """Train for `count` steps twice; on rank 0, return the seconds per step and of its parts.

    sums: False leaves out the sums of gradients.
    """
    import numpy as np

    from minilora.optim import AdamW, clip_grad_norm_
    from minilora.train.world import this_world

    if one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    world = this_world()
    all_reduce, seconds, sent = world.all_reduce, {"sum": 0.0, "wait": 0.0}, 0

    def timed(arrays):
        nonlocal sent
        start = perf_counter()
        world.sum(0)  # wait for all ranks
        ready = perf_counter()
        total = all_reduce(arrays) if sums else arrays
        seconds["wait"] += ready - start
        seconds["sum"] += perf_counter() - ready
        sent = sum(a.nbytes for a in arrays)
        return total

    model = minilora_model(SIZE | {"targets": ["q_proj", "v_proj"]}, method)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer, rng = AdamW(parameters, lr=1e-3), np.random.default_rng(0)

    def step() -> float:
        """Do a step, and return the seconds that computing the gradients and their sum took."""
        ids = rng.integers(0, SIZE["vocab"], (BATCH, SIZE["length"]))
        start = perf_counter()
        batch_gradients(model, [{"input_ids": ids, "labels": ids}], world=world)
        inside = perf_counter() - start
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return inside

    def steps() -> tuple[float, float]:
        """Do `count` steps; return the seconds of one, and of its part in which gradients are computed and summed."""
        world.sum(0)
        start = perf_counter()
        inside = sum(step() for _ in range(count)) / count
        return (perf_counter() - start) / count, inside

    with world.shared_cores():
        if not sums:
            world.all_reduce = lambda arrays: arrays
        step(), step()  # warm up
        whole, _ = steps()
        world.all_reduce = timed
        seconds.update(sum=0.0, wait=0.0)
        parted, inside = steps()
        apart = {name: value / count for name, value in seconds.items()}
        link = ping(world) if world.size > 1 else {}
    if world.rank:
        return None
    parts = {"step": whole, "compute": inside - sum(apart.values()), "fixed": parted - inside, **apart, "bytes": sent}
    return parts | link | {"workers": threads.count()}


def ping(world) -> dict[str, float]:
    """Return the seconds that 64 kB and 4 MB take from rank 0 to rank 1: half of a round trip."""
    import numpy as np
    from mpi4py import MPI

    medians, comm = {}, MPI.COMM_WORLD
    for name, size in (("small", SMALL), ("large", LARGE)):
        message, times = np.zeros(size, np.uint8), []
        for _ in range(5):
            world.sum(0)
            start = perf_counter()
            if world.rank == 0:
                comm.Send(message, 1)
                comm.Recv(message, 1)
            elif world.rank == 1:
                comm.Recv(message, 0)
                comm.Send(message, 0)
            times.append((perf_counter() - start) / 2)
        medians[name] = statistics.median(times)
    return medians


# In the benchmark's own process


def measure(method: str, ranks: int, mbit: float | None = None, delay: float = 0.0, sums: bool = True) -> dict:
    """Measure one point with mpiexec, or for ranks 0 and 1 in a single process."""
    count = STEPS if mbit is None else 4 if mbit >= 100 else 2
    command = call("benchmarks.scaling.train", method, sums, count, ranks == 1)
    if ranks <= 1:
        return _answer([sys.executable, "-m", *command], os.environ)
    command = [sys.executable, "-m", "mpi4py", "-m", *command]
    if mbit is None:
        return _answer(["mpiexec", "-n", str(ranks), *command], os.environ)
    with Network(ranks, mbit, delay) as network:
        return _answer(network.mpiexec(command), network.environment())


def _answer(command: list[str], environment) -> dict:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def predicted(row: dict, alone: dict, cores: int) -> float:
    """Predict the seconds of a step for a row. alone: the same ranks measured without the exchange of gradients."""
    crowd = max(1.0, row["ranks"] / cores)  # ranks per core
    bandwidth = LARGE / row["large"] if row["mbit"] is None else row["mbit"] * 1e6 / 8 * EFFICIENCY
    link = Link(bandwidth, max(0.0, row["small"] - SMALL / bandwidth))
    compute, fixed = alone["compute"] * cores * crowd, alone["fixed"] * crowd
    return step_seconds(compute, row["bytes"], row["ranks"], link, fixed_seconds=fixed, rows=BATCH)


def median(answers: list[dict]) -> dict:
    return {name: statistics.median(answer[name] for answer in answers) for name in answers[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="file for the record, one JSON object per line")
    parser.add_argument("--here", action="store_true", help="leave out the slow links, which need root")
    arguments = parser.parse_args()
    cores, answers = blas.cores(), {}
    points = [(method, *place) for place in HERE + ([] if arguments.here else LINKS) for method in METHODS]
    for _ in range(arguments.rounds):
        for method in METHODS:
            answers.setdefault(method, []).append(measure(method, cores, sums=False))
        for point in points:
            answers.setdefault(point, []).append(measure(*point))
    records = Records.open(arguments.out, scaling.KIND, {"rounds": arguments.rounds}, overwrite=True)
    for number, point in enumerate(points):
        row = dict(zip(("method", "ranks", "mbit", "delay"), point, strict=True)) | median(answers[point])
        if row["ranks"] > 1:
            row["predicted"] = predicted(row, median(answers[row["method"]]), cores)
        records.add([number], **row)
    print(render(drawn(scaling.speeds(list(records.rows.values())))))


if __name__ == "__main__":
    main()
