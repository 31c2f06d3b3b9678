"""minilora on an NVIDIA GPU, checked against NumPy and timed against PyTorch on the same card, in one command.

    pip install -e ".[cuda12,test,parity]" && python -m benchmarks.gpu      (or cuda13, to match the driver)

1. The losses of 20 training steps on NumPy and on CuPy, which must agree to 1e-4.
2. Training steps against PyTorch, for LoRA with PEFT, for QLoRA with bitsandbytes, too.
3. NF4 dequantize against bitsandbytes' kernel: bytes read and written a second, and the share that this is of what a
   plain copy of as many bytes on the card reaches.

Each library has a process of its own; those that are compared take turns. Times are the device's own (CUDA events), in
medians over the rounds; float32 throughout, TF32 switched off on both sides. What fails, or is not installed, is shown
as "–", with its reason below the table, and does not stop the rest.

Exit status: 0; 1 where minilora failed; 2, with one line, where there is no GPU to use.
"""

import argparse
import os
import sys
import textwrap
import warnings
from contextlib import ExitStack
from importlib import metadata
from importlib.util import find_spec
from statistics import median

from benchmarks import harness, step
from benchmarks.harness import Runner, RunnerError, median_ratio
from benchmarks.quant import weight

CHECKED_SIZE, CHECKED_STEPS, LARGEST_DIFFERENCE = "hidden 256, 4 layers", 20, 1e-4
SIDES = (4096, 8192)  # of the square weights to dequantize
BLOCKSIZE = 64
NF4_ERROR = 0.0728  # mean absolute error of NF4 on N(0, 1) in blocks of 64
PACKAGES = ("minilora", "cupy", "torch", "peft", "bitsandbytes")


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


def about() -> str:
    """Return the card, its driver, and the versions of what is installed."""
    import cupy
    from cupy.cuda import runtime

    name = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
    driver = runtime.driverGetVersion()
    versions = {package: metadata.version(package) for package in PACKAGES if package != "cupy" and find_spec(package)}
    software = ", ".join(f"{package} {version}" for package, version in (versions | {"cupy": cupy.__version__}).items())
    return f"{name}, driver CUDA {driver // 1000}.{driver % 1000 // 10}; {software}"


# The parts


def loss_difference(method: str) -> float:
    """The largest difference between the losses of the same training steps on NumPy and on CuPy; NaN where one is."""
    import numpy as np

    with ExitStack() as stack:
        runners = [
            stack.enter_context(step.step_runner("minilora", CHECKED_SIZE, method, device)) for device in step.BACKENDS
        ]
        losses = [[runner.steps(1)["loss"] for _ in range(CHECKED_STEPS)] for runner in runners]
    return float(np.abs(np.subtract(*losses)).max())


def length_of(size: str) -> int:
    """Tokens in a sequence."""
    return (step.SIZES | step.LARGE)[size]["length"]


def step_rates(size: str, method: str, rounds: int, failed: list[RunnerError]) -> dict[str, float]:
    """Tokens per second of each library, and how many times faster than PyTorch minilora is."""
    runners = [step.step_runner(library, size, method, "cuda") for library in ("minilora", "torch")]
    seconds = harness.seconds_of(harness.take_turns_with_peers(runners, rounds, failed))
    tokens = step.BATCH * length_of(size)
    rates = {library: tokens / median(of_library) for library, of_library in seconds.items()}
    if "torch" in seconds:
        rates["ratio"] = median_ratio(seconds["torch"], seconds["minilora"])
    return rates


def moved_bytes(side: int) -> int:
    """What dequantizing a square weight reads and writes: codes, absmax values and float32 results."""
    return side * side // 2 + 4 * (side * side // BLOCKSIZE) + 4 * side * side


def dequantize_rates(side: int, rounds: int, failed: list[RunnerError]) -> dict[str, dict[str, float]]:
    """Time, bytes moved a second and share of a plain copy's speed of each library, and how minilora compares."""
    runners = [Runner(name, "benchmarks.gpu", "--serve", name, "--side", str(side)) for name in WORK]
    seconds = harness.seconds_of(harness.take_turns_with_peers(runners, rounds, failed))
    rates = {}
    for library in seconds.keys() - {"copy"}:
        time = median(seconds[library])
        rates[library] = {"µs": 1e6 * time, "GB/s": moved_bytes(side) / time / 1e9}
        if "copy" in seconds:
            rates[library]["of copy"] = median_ratio(seconds["copy"], seconds[library])
        if "torch" in seconds:
            rates[library]["ratio"] = median_ratio(seconds["torch"], seconds[library])
    return rates


# What dequantize_rates times, each in a process of its own


def dequantize(functional, array):
    """Return a function that dequantizes `array`, from N(0, 1), in the names that minilora and bitsandbytes share."""
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
    """Return a function that reads and writes as many bytes as a dequantize does."""
    from minilora import backend
    from minilora.backend import xp

    backend.use(step.BACKENDS["cuda"])
    source, target = (xp.zeros(moved_bytes(side) // 2, dtype="uint8") for _ in range(2))

    def once() -> float:
        xp.copyto(target, source)
        return 0.0

    return once


WORK = {"minilora": minilora_dequantize, "torch": bitsandbytes_dequantize, "copy": copy}


# The command


def measure(rounds: int) -> int:
    """Print each part as it is measured; returns the exit status."""
    failed: list[RunnerError] = []

    def attempt(function, *arguments):
        """What `function` gives; nothing where minilora's process fails, which is noted."""
        try:
            return function(*arguments)
        except RunnerError as error:
            failed.append(error)

    print(f"losses, NumPy against CuPy: largest difference in {CHECKED_STEPS} steps, at most {LARGEST_DIFFERENCE:.0e}")
    differences = {method: attempt(loss_difference, method) for method in step.METHODS}
    for method, difference in differences.items():
        print(f"  {method:<8}{_cell(difference, '.1e')}")
    print(f"\n{'training step, tokens/s':<40}{'minilora':>12}{'PyTorch':>12}{'ratio':>8}")
    for size in step.SIZES | step.LARGE:
        for method in step.METHODS:
            rates = attempt(step_rates, size, method, rounds, failed) or {}
            cells = (_cell(rates.get(name), form) for name, form in (("minilora", ",.0f"), ("torch", ",.0f")))
            name = f"{size}, {step.BATCH} × {length_of(size)}, {method}"
            print(f"{name:<40}{''.join(f'{cell:>12}' for cell in cells)}{_cell(rates.get('ratio'), '.2f'):>8}")
    print(f"\n{'NF4 dequantize':<32}{'µs':>12}{'GB/s':>12}{'of copy':>12}{'ratio':>8}")
    for side in SIDES:
        rates = attempt(dequantize_rates, side, rounds, failed) or {}
        for library in ("minilora", "torch"):
            row = rates.get(library, {})
            cells = (_cell(row.get(name), form) for name, form in (("µs", ".1f"), ("GB/s", ",.0f"), ("of copy", ".0%")))
            name = f"{side}², {'bitsandbytes' if library == 'torch' else library}"
            ratio = _cell(row.get("ratio") if library == "minilora" else None, ".2f")
            print(f"{name:<32}{''.join(f'{cell:>12}' for cell in cells)}{ratio:>8}")
    for reason in dict.fromkeys(map(str, failed)):
        print(textwrap.fill(f"–: {reason}", 80, subsequent_indent="   "))
    agree = all(difference is not None and difference <= LARGEST_DIFFERENCE for difference in differences.values())
    return int(not agree or any(error.name == "minilora" for error in failed))


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds in place of 7")
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
    print(about())
    return measure(3 if arguments.quick else 7)


if __name__ == "__main__":
    sys.exit(main())
