"""The speed table: minilora's plain loop and its peers, taking turns, and a profile of where the time goes.

    pip install -e ".[parity,gguf]" && minilora models get smollm2
    python -m benchmarks.speed --out experiments/records

Each library runs in a process of its own and does steps on request. The peers are transformers (with PEFT for LoRA, and
with bitsandbytes for QLoRA) and lean PyTorch, both eager; minilora is compared with the faster of them. Lean PyTorch
compiled by torch.compile is measured as well. A ratio is the median of the rounds' ratios. If a peer fails, the row has
the reason, and the others continue.

A record has the measurements of one processor: --out takes a file, or a folder, in which the file is named after the
processor. A record can be filled in several runs: --row measures the rows whose names contain a text, --missing the
rows that the record lacks, and all other rows stay. With --before, the minilora of another checkout takes turns, too
(git worktree add --detach TREE COMMIT). `python -m experiments.results.page` makes the tables in docs/results.md from
the records.
"""

import argparse
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from os import getloadavg
from pathlib import Path
from time import perf_counter

from benchmarks import decoding, harness, profile, quant, step
from experiments.processor import details
from experiments.results import speed
from minilora.formats.atomic import read_json, write_json
from minilora.measure.records import machine

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")
COUNTING = ("transformers", "transformers, look-up", "torch", "bitsandbytes")  # minilora is compared with the fastest
ROOT = Path(__file__).parents[1]


def beside_peers(name: str, libraries: dict[str, list[str]], before: Path | None, rounds: int) -> Iterator[dict]:
    """Measure the row of a training step or of decoding. libraries: {name: arguments of its Runner}."""
    runners = [harness.Runner(library, *arguments) for library, arguments in libraries.items()]
    if before:
        runners.append(harness.Runner("before", *libraries["minilora"], folder=before))
    failed: list[harness.RunnerError] = []
    answers = harness.take_turns_with_peers(runners, rounds, failed)
    result = row(name, harness.seconds_of(answers))
    result["peaks"] = {library: rounds[-1]["peak"] for library, rounds in answers.items()}
    result["failed"] = {error.name: reason(error) for error in failed}
    if "torch.compile" in answers:
        result["compiling"] = next(runner.first for runner in runners if runner.name == "torch.compile")
    yield result


def row(name: str, seconds: dict[str, list[float]]) -> dict:
    """Make a row from the libraries' seconds in each round: medians, ratios to minilora, and the fastest peer."""
    medians = {library: statistics.median(rounds) for library, rounds in seconds.items()}
    ratios = {library: harness.median_ratio(rounds, seconds["minilora"]) for library, rounds in seconds.items()}
    del ratios["minilora"]
    against = min((library for library in COUNTING if library in medians), key=medians.get, default=None)
    return {"name": name, "value": ratios.get(against), "against": against, "seconds": medians, "ratios": ratios}


def reason(error: harness.RunnerError) -> str:
    """Return the reason why a peer ended, in one word: the class of its error, or of the error that its error wraps."""
    matches = re.findall(r"^[\w.]*?(\w+(?:Error|Exception|Exit))\b(?:: ([A-Z]\w+)(?=:))?", error.stderr, re.MULTILINE)
    return matches[-1][1] or matches[-1][0] if matches else f"ended with status {error.status}"


def of_step(size: str, method: str, before: Path | None, rounds: int) -> Iterator[dict]:
    libraries = {library: step.arguments_of(library, size, method) for library in ("minilora", *step.PEERS)}
    return beside_peers(f"{size}, {method}", libraries, before, rounds)


def in_depth(size: str, method: str, before: Path | None, rounds: int) -> Iterator[dict]:
    """Measure a step's matrix products alone, and other ways to spread the step over the cores."""
    names = ("minilora", *step.WAYS)
    runners = [step.step_runner(library, size, method) for library in names]
    times = harness.seconds_of(harness.take_turns_with_peers(runners, rounds, []))
    best = min(("minilora", "one thread", "all threads"), key=lambda way: statistics.median(times[way]))
    words = {"share of products": "products", "all cores over one": "one thread", "plain loop over best way": best}
    for title, way in words.items():
        yield {"name": f"{title}, {size}, {method}", "value": harness.median_ratio(times[way], times["minilora"])}


def of_decoding(name: str, prompt: str, before: Path | None, rounds: int) -> Iterator[dict]:
    lookup = prompt != "any"  # without look-up, the time does not depend on the prompt
    sides = {"minilora": ("minilora", lookup), "transformers": ("transformers", False)}
    if lookup:
        sides["transformers, look-up"] = ("transformers", True)
    libraries = {side: decoding.arguments_of(library, prompt, ahead) for side, (library, ahead) in sides.items()}
    return beside_peers(name, libraries, before, rounds)


def of_quant(name: str, before: Path | None, rounds: int) -> Iterator[dict]:
    for threads, words in ((1, "1 thread"), (None, "all cores")):
        work = (name.split()[0], 4096, threads)
        libraries = {library: quant.arguments_of(library, *work) for library in quant.LIBRARIES}
        yield from beside_peers(f"{name}, {words}", libraries, before, 2 * rounds)


def of_start(name: str, arguments: list[str], before: Path | None, rounds: int) -> Iterator[dict]:
    def seconds(folder: Path) -> float:
        started = perf_counter()
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=folder, env=harness.environment(folder), check=True, stdout=subprocess.DEVNULL)
        return perf_counter() - started

    folders = {"minilora": ROOT} | ({"before": before} if before else {})
    turns = [{which: seconds(folder) for which, folder in folders.items()} for _ in range(rounds + 1)][1:]
    result = row(name, {which: [turn[which] for turn in turns] for which in folders})
    yield result | {"value": result["seconds"]["minilora"]}


def groups() -> dict[str, Callable[..., Iterator[dict]]]:
    """Return the groups of rows, {name that `--row` searches: function of (before, rounds) that measures the rows}."""
    sizes, methods = step.SIZES | step.SHORT | step.REAL, step.METHODS
    measures: dict[str, Callable[..., Iterator[dict]]] = {
        f"{size}, {method}": partial(of_step, size, method) for size in sizes for method in methods
    }
    measures |= {f"in depth: {s}, {m}": partial(in_depth, s, m) for s in step.IN_DEPTH for m in methods}
    for prompt in decoding.PROMPTS:
        name = f"SmolLM2-135M, {'greedy' if prompt == 'any' else f'look-up, {prompt}'}"
        measures[name] = partial(of_decoding, name, prompt)
    measures |= {name: partial(of_quant, name) for name in (f"{work} 4096 x 4096" for work in quant.WORKS)}
    measures["import minilora"] = partial(of_start, "import minilora", ["-c", "import minilora"])
    measures["minilora --help"] = partial(of_start, "minilora --help", ["-m", "minilora", "--help"])
    return measures


def commit_of(folder: Path) -> str:
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the record (default: print only)")
    parser.add_argument("--before", type=Path, metavar="TREE", help="a checkout to compare with")
    parser.add_argument("--row", default="", help="measure only rows whose names contain this text (default: all)")
    parser.add_argument("--missing", action="store_true", help="measure only rows that the record lacks")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    header = {
        "minilora": speed.KIND,
        "version": speed.VERSION,
        "command": "python -m benchmarks.speed",
        "machine": machine() | {"processor": machine()["processor"] | details()},
        "peers": {name: version(name) for name in PACKAGES if find_spec(name)},
    }
    out, rows = arguments.out, {}
    if out and out.is_dir():
        out = out / speed.file_of(header["machine"])
    if out and out.exists():
        record = read_json(out)
        if differ := [name for name in header if record.get(name) != header[name]]:
            parser.error(f"{out} was measured with different {', '.join(differ)}; choose another file")
        rows = {row["name"]: row for row in record["rows"]}
    before = arguments.before and arguments.before.resolve()
    commits = {"commit": commit_of(ROOT)} | ({"before": commit_of(before)} if before else {})
    print(speed.heading(header), flush=True)
    if (load := getloadavg()[0]) > 0.5:
        print(f"other work is running (load {load:.1f}), so threads wait, PyTorch's most of all", file=sys.stderr)
    status, profiled = 0, profile.works()
    for name, measure in groups().items():
        if arguments.row not in name or (arguments.missing and any(row["group"] == name for row in rows.values())):
            continue
        date = datetime.now(UTC).isoformat(timespec="seconds")
        more = commits | {"group": name, "rounds": arguments.rounds, "date": date[:10]}
        try:
            measured = [row | more for row in measure(before, arguments.rounds)]
        except harness.RunnerError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
            continue
        if name in profiled:
            measured[0]["profile"] = harness.fresh("benchmarks.profile.of_row", name)["words"]
        for row in measured:
            show(row)
        rows |= {row["name"]: row for row in measured}
        if out:
            write_json(out, header | {"date": date, "rows": list(rows.values())})
    return status


def show(row: dict) -> None:
    """Print a row."""
    parts = [f"{row['value']:.2f}" if row["value"] is not None else "–"]
    parts += [f"{library} {1000 * value:.4g} ms" for library, value in row.get("seconds", {}).items()]
    parts += [f"{library}: {why}" for library, why in row.get("failed", {}).items()]
    print(f"{row['name']:<46} {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
