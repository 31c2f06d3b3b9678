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
PACKAGES = ("minilora", "torch", "peft", "bitsandbytes")


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
    versions = [f"{package} {metadata.version(package)}" for package in PACKAGES if find_spec(package)]
    software = ", ".join([*versions, f"cupy {cupy.__version__}"])
    return f"{name}, driver CUDA {driver // 1000}.{driver % 1000 // 10}; {software}"


# The parts


def loss_difference(method: str) -> float:
    """The largest difference between the losses of the same training steps on NumPy and on CuPy; NaN where one is."""
    import numpy as np

    losses = []
    for device in step.BACKENDS:
        with step.step_runner("minilora", CHECKED_SIZE, method, device) as runner:
            losses.append([runner.steps(1)["loss"] for _ in range(CHECKED_STEPS)])
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
    return rates | ({"ratio": median_ratio(seconds["torch"], seconds["minilora"])} if "torch" in seconds else {})


def moved_bytes(side: int) -> int:
    """What dequantizing a square weight reads and writes: codes, absmax values and float32 results."""
    return side * side // 2 + 4 * (side * side // BLOCKSIZE) + 4 * side * side


def dequantize_rates(side: int, rounds: int, failed: list[RunnerError]) -> dict[str, dict[str, float]]:
    """Time, bytes moved a second and share of a plain copy's speed of each library, and how minilora compares."""
    works = {"minilora": "minilora_dequantize", "torch": "bitsandbytes_dequantize", "copy": "copy"}
    runners = [
        Runner(name, *harness.call(f"benchmarks.gpu.{work}", side), name, "cuda") for name, work in works.items()
    ]
    seconds = harness.seconds_of(harness.take_turns_with_peers(runners, rounds, failed))
    rates = {}
    for library in seconds.keys() - {"copy"}:
        time = median(seconds[library])
        rates[library] = {"µs": 1e6 * time, "GB/s": moved_bytes(side) / time / 1e9}
        for name, other in (("of copy", "copy"), ("ratio", "torch")):
            if other in seconds:
                rates[library][name] = median_ratio(seconds[other], seconds[library])
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
    return lambda: xp.copyto(target, source) or 0.0


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
            cells = "".join(f"{_cell(rates.get(name), ',.0f'):>12}" for name in ("minilora", "torch"))
            name = f"{size}, {step.BATCH} × {length_of(size)}, {method}"
            print(f"{name:<40}{cells}{_cell(rates.get('ratio'), '.2f'):>8}")
    print(f"\n{'NF4 dequantize':<32}{'µs':>12}{'GB/s':>12}{'of copy':>12}{'ratio':>8}")
    for side in SIDES:
        rates = attempt(dequantize_rates, side, rounds, failed) or {}
        for library, name in (("minilora", "minilora"), ("torch", "bitsandbytes")):
            row, forms = rates.get(library, {}), (("µs", ".1f"), ("GB/s", ",.0f"), ("of copy", ".0%"))
            cells = "".join(f"{_cell(row.get(number), form):>12}" for number, form in forms)
            ratio = _cell(row.get("ratio") if library == "minilora" else None, ".2f")
            print(f"{f'{side}², {name}':<32}{cells}{ratio:>8}")
    for reason in dict.fromkeys(map(str, failed)):
        print(textwrap.fill(f"–: {reason}", 80, subsequent_indent="   "))
    agree = all(difference is not None and difference <= LARGEST_DIFFERENCE for difference in differences.values())
    return int(not agree or any(error.name == "minilora" for error in failed))


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds in place of 7")
    arguments = parser.parse_args()
    os.environ.pop("MINILORA_BACKEND", None)  # each process is told its own
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    if reason := no_gpu():
        print(f"there is no GPU to measure: {reason}", file=sys.stderr)
        return 2
    print(about())
    return measure(3 if arguments.quick else 7)


if __name__ == "__main__":
    sys.exit(main())
