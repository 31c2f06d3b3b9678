"""Every row of the speed table: before a change, after it, and the peers, taking turns; and where the seconds go.

    git worktree add --detach TREE COMMIT
    python -m benchmarks.speed --before TREE --out minilora/assets/results/speed.json

TREE holds the minilora to compare with, and its benchmarks. Each of the three runs in a process of its own and works
when it is told to; a ratio is the median of the rounds' ratios. The two lines of `benchmarks.profile` go with each row.
With --row, rows whose names contain it are measured and the others of the file stay, so that the table can be filled
in several sittings on one machine. `python -m minilora.results.page` makes the table in docs/results.md of the file.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from benchmarks import harness, quant, smollm2, step
from minilora.formats.atomic import read_json, write_json
from minilora.measure.records import machine
from minilora.results.speed import KIND, VERSION

PEERS = ("torch", "transformers", "peft", "bitsandbytes")  # packages
GOALS = {"full": 1.1, "lora": 1.3, "qlora": 2.0}  # of the model of hidden size 256
AGAINST = {"full": "PyTorch", "lora": "PEFT", "qlora": "PEFT + bitsandbytes"}
SHARE, START = 0.7, 0.4  # of the products in a step; seconds of the start


def of_step(size: str, method: str, before: Path, rounds: int) -> Iterator[dict]:
    """The row of a training step and, of the large model, that of the share of its products."""
    arguments = ["benchmarks.step", "--size", size, "--method", method, "--serve"]
    found = turns(before, [*arguments, "minilora"], [*arguments, "torch"], rounds, products=[*arguments, "products"])
    goal = GOALS[method] if "256" in size else 2.0
    yield row(f"{size}, {method}", AGAINST[method], goal, found)
    if "256" in size:
        yield {
            "name": f"share of products, {size}, {method}",
            "against": "the whole step",
            "goal": SHARE,
            "before": harness.median_ratio(found["products"], found["before"]),
            "now": harness.median_ratio(found["products"], found["now"]),
        }


def of_smollm2(name: str, work: str, before: Path, rounds: int) -> Iterator[dict]:
    arguments = ["benchmarks.smollm2", "--work", work, "--serve"]
    found = turns(before, [*arguments, "minilora"], [*arguments, "transformers"], rounds)
    against = "transformers" if work == "greedy" else "transformers + PEFT"
    yield row(f"SmolLM2-135M, {name}", against, smollm2.GOALS.get(name), found)


def of_quant(name: str, before: Path, rounds: int) -> Iterator[dict]:
    runners = {"before": quant.Runner("minilora", before), "now": quant.Runner("minilora")}
    runners["peer"] = quant.Runner("bitsandbytes")
    for threads in (1, 0):
        found = quant.take_turns(runners, (name, 4096, "nf4", threads), rounds)
        words = f"{threads} thread" if threads else "all cores"
        yield row(f"{name} 4096 x 4096, {words}", "bitsandbytes", {"dequantize": 2.0, "quantize": 4.0}[name], found)
    for runner in runners.values():
        runner.close()


def of_start(name: str, arguments: list[str], before: Path, rounds: int) -> Iterator[dict]:
    def seconds(folder: Path) -> float:
        started = perf_counter()
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=folder, env=harness.environment(folder), check=True, stdout=subprocess.DEVNULL)
        return perf_counter() - started

    folders = {"before": before, "now": Path(__file__).parents[1]}
    found = [{which: seconds(folder) for which, folder in folders.items()} for _ in range(rounds + 1)][1:]
    medians = {which: statistics.median(turn[which] for turn in found) for which in folders}
    yield {"name": name, "against": "seconds", "goal": START, "below": True} | medians


def turns(before: Path, ours: list[str], peer: list[str], rounds: int, **others: list[str]) -> dict[str, list[float]]:
    """The seconds of each runner in each round."""
    with ExitStack() as stack:
        runners = [
            harness.Runner("before", *ours, folder=before),
            harness.Runner("now", *ours),
            harness.Runner("peer", *peer),
        ]
        runners += [harness.Runner(name, *arguments) for name, arguments in others.items()]
        for runner in runners:
            stack.enter_context(runner)
        return harness.seconds_of(harness.take_turns(runners, rounds))


def row(name: str, against: str, goal: float | None, found: dict[str, list[float]]) -> dict:
    return {
        "name": name,
        "against": against,
        "goal": goal,
        "before": harness.median_ratio(found["peer"], found["before"]),
        "now": harness.median_ratio(found["peer"], found["now"]),
        "faster": harness.median_ratio(found["before"], found["now"]),
        "seconds": {which: statistics.median(found[which]) for which in ("before", "now", "peer")},
        "rounds": len(found["now"]),
    }


def groups(before: Path, rounds: int) -> dict[str, Callable[[], Iterator[dict]]]:
    """{what `--row` looks in, and the profile goes by: what gives its rows}."""
    found = {}
    for size in step.SIZES:
        for method in step.METHODS:
            found[f"{size}, {method}"] = partial(of_step, size, method, before, rounds)
    for name in ("dequantize", "quantize"):
        found[f"{name} 4096 x 4096"] = partial(of_quant, name, before, 2 * rounds)
    for name, work in smollm2.WORKS.items():
        found[f"SmolLM2-135M, {name}"] = partial(of_smollm2, name, work, before, rounds)
    found["import minilora"] = partial(of_start, "import minilora", ["-c", "import minilora"], before, rounds)
    found["minilora --help"] = partial(of_start, "minilora --help", ["-m", "minilora", "--help"], before, rounds)
    return found


def profiled(name: str) -> list[str]:
    """The two lines of the profile, made in a process of its own; none for the time of the start."""
    command = [sys.executable, "-m", "benchmarks.profile", "--json", "--exactly", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]).get(name, [])


def commit_of(folder: Path) -> str:
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, metavar="TREE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--row", default="", help="a part of the names of the rows to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profiles", action="store_true", help="make only the profiles anew")
    arguments = parser.parse_args()
    header = {
        "minilora": KIND,
        "version": VERSION,
        "command": "python -m benchmarks.speed",
        "before_commit": commit_of(arguments.before),
        "machine": machine(),
        "peers": {name: version(name) for name in PEERS},
    }
    rows = {}
    if arguments.out.exists():
        there = read_json(arguments.out)
        if differ := [name for name in header if there.get(name) != header[name]]:
            parser.error(f"{arguments.out} was measured otherwise: {', '.join(differ)}; choose another file")
        rows = {one["name"]: one for one in there["rows"]}
    for name, measure in groups(arguments.before.resolve(), arguments.rounds).items():
        if arguments.row not in name:
            continue
        profile = profiled(name)
        if arguments.profiles:
            of_name = [one for one in rows.values() if one["name"].startswith(name) or one["name"].endswith(name)]
            rows |= {one["name"]: one | {"profile": profile} for one in of_name}
            print(name, *profile, sep="\n  ", flush=True)
        for one in () if arguments.profiles else measure():
            rows[one["name"]] = one | {"profile": profile}
            seconds = "".join(f" {which} {value:.4g} s" for which, value in one.get("seconds", {}).items())
            print(
                f"{one['name']:<46} {one['before']:.2f} -> {one['now']:.2f} (goal {one['goal']}){seconds}", flush=True
            )
        date = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(arguments.out, header | {"date": date, "rows": list(rows.values())})
    return 0


if __name__ == "__main__":
    sys.exit(main())
