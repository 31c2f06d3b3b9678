"""minilora on an NVIDIA GPU, checked against NumPy and timed against PyTorch on the same card, in one command.

    pip install -e ".[cuda12,test,parity]" && python -m benchmarks.gpu      (or cuda13, to match the driver)

1. The test suite on CuPy.
2. The losses of 20 training steps on NumPy and on CuPy, which must agree to 1e-4.
3. Training steps against PyTorch, for LoRA with PEFT, for QLoRA with bitsandbytes, too.
4. NF4 dequantize against bitsandbytes' kernel: bytes read and written a second, and the share that this is of what a
   plain copy of as many bytes on the card reaches.

Each part has processes of its own; libraries that are compared take turns. Times are the device's own (CUDA events), in
medians over the rounds; float32 throughout, TF32 switched off on both sides. Libraries that are not installed are shown
as "–". A part that fails does not stop the rest.

Exit status: 0; 1 where a part failed, and the table says which; 2, with one line, where there is no GPU to use.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from contextlib import ExitStack
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks import harness, step
from benchmarks.harness import Runner, RunnerError, median_ratio
from benchmarks.quant import weight

ROOT = Path(__file__).parent.parent
CHECKED_SIZE, CHECKED_STEPS, LARGEST_DIFFERENCE = "hidden 256, 4 layers", 20, 1e-4
SIDES = (4096, 8192)  # of the square weights to dequantize
BLOCKSIZE = 64
NF4_ERROR = 0.0728  # mean absolute error of NF4 on N(0, 1) in blocks of 64
PEERS = {  # what the other side of a comparison needs
    "full": {"torch"},
    "lora": {"torch", "peft"},
    "qlora": {"torch", "peft", "bitsandbytes"},
    "dequantize": {"torch", "bitsandbytes"},
}
LABELS = {"torch": "PyTorch", "peft": "PEFT", "bitsandbytes": "bitsandbytes", "cupy": "CuPy"}
ABSENT = "is not installed"


# What there is


def no_gpu() -> str | None:
    """What is missing, in one line; None where CuPy computes."""
    from minilora import backend
    from minilora.errors import escape

    try:
        with warnings.catch_warnings(action="ignore"), backend.use("cupy"):
            ones = backend.xp.ones((2, 2), dtype="float32")
            (ones @ ones + 1).sum().item()  # the matrix library and the compiler must be there, too
    except Exception as error:  # noqa: BLE001 (returned; CuPy has a class for each reason)
        return escape(" ".join(str(error).split()) or type(error).__name__, 300)


def card() -> dict[str, str]:
    """Name and driver of the card."""
    from cupy.cuda import runtime

    version = runtime.driverGetVersion()
    driver = f"CUDA {version // 1000}.{version % 1000 // 10}"
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True).stdout.split()
        driver = f"{said[0]} ({driver})" if said else driver
    return {"name": runtime.getDeviceProperties(runtime.getDevice())["name"].decode(), "driver": driver}


def missing_peers() -> dict[str, str]:
    """The peers that cannot be compared with, and why."""
    missing = {name: ABSENT for name in ("torch", "peft", "bitsandbytes") if find_spec(name) is None}
    if "torch" not in missing:
        code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
        if subprocess.run([sys.executable, "-c", code], capture_output=True).returncode:
            missing["torch"] = "sees no GPU: install its build for CUDA"
    return missing


def versions() -> dict[str, str]:
    """Versions of what takes part and is installed."""
    import cupy

    from minilora import __version__

    own = {"minilora": __version__, "cupy": cupy.__version__}
    return own | {name: metadata.version(name) for name in ("torch", "peft", "bitsandbytes") if find_spec(name)}


# The parts


def run_tests(failed: list[str]) -> dict:
    """Runs the test suite on CuPy; what pytest counts, and the seconds that it took."""
    command = [sys.executable, "-m", "pytest", "--tb=short", "-m", "not download"]
    environment = os.environ | {"MINILORA_BACKEND": "cupy"}
    started = perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    tests = {"seconds": perf_counter() - started}
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    tests |= counted(done.stdout)
    if done.returncode:
        failed.append(f"{tests['failed']} tests")
    return tests


def counted(output: str) -> dict[str, int]:
    """Tests that passed and failed, by the last line of pytest; errors count as failures."""
    last = output.strip().splitlines()[-1] if output.strip() else "pytest said nothing"
    found = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|error)", last)}
    if not found:
        raise RuntimeError(last)
    return {"passed": found.get("passed", 0), "failed": found.get("failed", 0) + found.get("error", 0)}


def loss_difference(method: str, failed: list[str]) -> float:
    """The largest difference between the losses of the same training steps on NumPy and on CuPy."""
    import numpy as np

    with ExitStack() as stack:
        runners = [
            stack.enter_context(step.step_runner("minilora", CHECKED_SIZE, method, device)) for device in step.BACKENDS
        ]
        losses = [[runner.steps(1)["loss"] for _ in range(CHECKED_STEPS)] for runner in runners]
    difference = float(np.abs(np.subtract(*losses)).max())  # NaN where any is
    if not difference <= LARGEST_DIFFERENCE:
        failed.append(f"they differ by {difference:.1e}")
    return difference


def take_turns(runners: list[Runner], rounds: int, failed: list[str]) -> dict[str, list[float]]:
    """Seconds of each runner in each round. A peer that fails is noted in `failed`, and the others go on without it."""
    errors: list[RunnerError] = []
    answers = harness.take_turns_with_peers(runners, rounds, errors)
    failed += map(str, errors)
    return harness.seconds_of(answers)


def length_of(size: str) -> int:
    """Tokens in a sequence."""
    return (step.SIZES | step.LARGE)[size]["length"]


def step_rates(size: str, method: str, libraries: list[str], rounds: int, failed: list[str]) -> dict:
    """Tokens per second of each library, and how many times faster than PyTorch minilora is."""
    runners = [step.step_runner(library, size, method, "cuda") for library in libraries]
    seconds = take_turns(runners, rounds, failed)
    tokens = step.BATCH * length_of(size)
    rates = {library: tokens / median(of_library) for library, of_library in seconds.items()}
    if "torch" in seconds:
        rates["ratio"] = median_ratio(seconds["torch"], seconds["minilora"])
    return rates


def moved_bytes(side: int) -> int:
    """What dequantizing a square weight reads and writes: codes, absmax values and float32 results."""
    return side * side // 2 + 4 * (side * side // BLOCKSIZE) + 4 * side * side


def dequantize_rates(side: int, libraries: list[str], rounds: int, failed: list[str]) -> dict:
    """Time, bytes moved a second and share of a plain copy's speed of each library, and how minilora compares."""
    names = [*libraries, "copy"]
    runners = [Runner(name, "benchmarks.gpu", "--serve", name, "--side", str(side)) for name in names]
    seconds = take_turns(runners, rounds, failed)
    rates = {}
    for library in seconds.keys() - {"copy"}:
        time = median(seconds[library])
        rates[library] = {"us": 1e6 * time, "GB/s": moved_bytes(side) / time / 1e9}
        if "copy" in seconds:
            rates[library]["of copy"] = median_ratio(seconds["copy"], seconds[library])
    if "torch" in seconds:
        rates["ratio"] = median_ratio(seconds["torch"], seconds["minilora"])
    return rates


# What dequantize_rates times, each in a process of its own


def dequantize(functional, array):
    """A function that dequantizes `array`, from N(0, 1), in the names that minilora and bitsandbytes share."""
    packed, state = functional.quantize_4bit(array, blocksize=BLOCKSIZE, quant_type="nf4")
    error = float(abs(functional.dequantize_4bit(packed, state) - array).mean())
    if not abs(error - NF4_ERROR) < 0.01 * NF4_ERROR:
        raise ValueError(f"the mean error on N(0, 1) is {error:.4f}, not NF4's {NF4_ERROR}")

    def once() -> float:
        functional.dequantize_4bit(packed, state)
        return error

    return once


def minilora_dequantize(side: int):
    from minilora import backend, quant

    backend.use(step.BACKENDS["cuda"])
    return dequantize(quant, backend.asarray(weight(side)))


def bitsandbytes_dequantize(side: int):
    import bitsandbytes.functional
    import torch

    return dequantize(bitsandbytes.functional, torch.from_numpy(weight(side)).to("cuda"))


def copy(side: int):
    """A function that reads and writes as many bytes as a dequantize does."""
    from minilora import backend
    from minilora.backend import xp

    backend.use(step.BACKENDS["cuda"])
    source, target = (xp.zeros(moved_bytes(side) // 2, dtype="uint8") for _ in range(2))

    def once() -> float:
        xp.copyto(target, source)
        return 0.0

    return once


WORK = {"minilora": minilora_dequantize, "torch": bitsandbytes_dequantize, "copy": copy}


# The table


def table(results: dict) -> str:
    """All results for a terminal of 80 columns."""
    missing, tests = results["missing"], results["tests"]
    software = ", ".join(f"{LABELS.get(name, name)} {version}" for name, version in results["versions"].items())
    about = f"Medians of {results['rounds']} rounds by device events; float32, TF32 off. Ratio: how many times as fast "
    about += "minilora is. Copy: a plain one of as many bytes, on the card."
    counts = "{passed:,} passed, {failed:,} failed, {seconds:.0f} s".format(**tests) if tests else "failed"
    differences = ", ".join(f"{method} {cell(value, '.1e')}" for method, value in results["losses"].items())
    lines = [
        "{name}, driver {driver}".format(**results["card"]),
        software,
        about,
        "",
        f"{'test suite on CuPy':<28}{counts}",
        f"{'losses, NumPy against CuPy':<28}{differences}",
        f"{'':<28}(largest difference in {CHECKED_STEPS} steps; may be {LARGEST_DIFFERENCE:.0e})",
        "",
        f"{'training step, tokens/s':<38}{'minilora':>12}{'PyTorch':>12}{'ratio':>8}",
    ]
    for row in results["steps"]:
        absent = "–" if PEERS[row["method"]] & missing.keys() else "failed"
        line = f"{row['size']}, {step.BATCH} × {length_of(row['size'])}".ljust(32) + row["method"].ljust(6)
        line += f"{cell(row.get('minilora'), ',.0f'):>12}{cell(row.get('torch'), ',.0f', absent):>12}"
        lines.append(line + f"{cell(row.get('ratio'), '.2f', absent):>8}")
    lines += ["", f"{'':<16}{'minilora':>23}{'bitsandbytes':>23}"]
    lines.append(f"{'NF4 dequantize':<16}" + f"{'µs':>8}{'GB/s':>7}{'of copy':>8}" * 2 + f"{'ratio':>8}")
    absent = "–" if PEERS["dequantize"] & missing.keys() else "failed"
    for row in results["dequantize"]:
        line = f"{row['side']}²".ljust(16)
        for library, without in (("minilora", "failed"), ("torch", absent)):
            rates = row.get(library, {})
            line += f"{cell(rates.get('us'), '.1f', without):>8}{cell(rates.get('GB/s'), ',.0f', without):>7}"
            line += f"{cell(rates.get('of copy'), '.0%', without):>8}"
        lines.append(line + f"{cell(row.get('ratio'), '.2f', absent):>8}")
    lines += ["", *(f"–: {LABELS[name]} {reason}" for name, reason in missing.items())]
    if ABSENT in missing.values():
        lines.append("   pip install -e '.[parity]' brings PyTorch, PEFT and bitsandbytes")
    lines += [f"failed: {reason}" for reason in results["failed"]]
    return "\n".join(textwrap.fill(line, 80, subsequent_indent="  ") for line in lines).rstrip()


def cell(value: float | None, form: str, without: str = "failed") -> str:
    return without if value is None else format(value, form)


# The command


def measure(rounds: int) -> dict:
    """All parts, one after the other."""
    from minilora.errors import escape

    failed: list[str] = []

    def attempt(what: str, function, *arguments):
        """What `function` gives; None where it fails. Notes of failures begin with `what`."""
        print(f"{what} …", file=sys.stderr)
        before = len(failed)
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001 (reported, and the other parts are measured)
            print(getattr(error, "said", ""), end="", file=sys.stderr)
            failed.append(str(error) or type(error).__name__)
        finally:
            failed[before:] = [f"{what}: {escape(reason, 300)}" for reason in failed[before:]]

    missing = missing_peers()
    results = {"rounds": rounds, "missing": missing, "failed": failed, "versions": versions(), "card": card()}
    results["tests"] = attempt("test suite on CuPy", run_tests, failed)
    results["losses"] = {
        method: attempt(f"losses, {method}", loss_difference, method, failed) for method in step.METHODS
    }
    libraries = {what: ["minilora", "torch"][: 1 if peers & missing.keys() else 2] for what, peers in PEERS.items()}
    results["steps"] = []
    for size in step.SIZES | step.LARGE:
        for method in step.METHODS:
            what = f"training step, {size}, {method}"
            rates = attempt(what, step_rates, size, method, libraries[method], rounds, failed)
            results["steps"].append({"size": size, "method": method} | (rates or {}))
    results["dequantize"] = []
    for side in SIDES:
        rates = attempt(f"NF4 dequantize, {side}²", dequantize_rates, side, libraries["dequantize"], rounds, failed)
        results["dequantize"].append({"side": side} | (rates or {}))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds in place of 7")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    parser.add_argument("--serve", choices=WORK, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        harness.serve(WORK[arguments.serve](arguments.side), arguments.serve, "cuda")
        return 0

    os.environ.pop("MINILORA_BACKEND", None)  # each process is told its own
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    if reason := no_gpu():
        print(f"there is no GPU to measure: {reason}", file=sys.stderr)
        return 2
    if arguments.json and not arguments.json.parent.is_dir():
        print(f"there is no folder {arguments.json.parent} to write to", file=sys.stderr)
        return 2
    results = measure(3 if arguments.quick else 7)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
