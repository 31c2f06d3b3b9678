"""minilora on an NVIDIA GPU: checked against NumPy, and timed against PyTorch on the same card.

    pip install -e ".[cuda12,test,parity]" && python -m benchmarks.gpu      (or cuda13, to match the driver)

1. The losses of 20 training steps on NumPy and on CuPy, which must agree to 1e-4.
2. The speed of training steps against PyTorch (with PEFT for LoRA, and with bitsandbytes for QLoRA).

Each library has a process of its own; those that are compared take turns. Times are measured on the device (CUDA
events) and are medians over the rounds. Everything is in float32, with TF32 switched off on both sides. A part that
fails, or whose library is not installed, is shown as "–" with the reason below the table; the other parts still run.

Exit status: 0 if all is well, 1 if minilora failed, 2 (with one line) if there is no usable GPU.
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
from benchmarks.harness import RunnerError, median_ratio

CHECKED_SIZE, CHECKED_STEPS, LARGEST_DIFFERENCE = "hidden 256, 4 layers", 20, 1e-4
PACKAGES = ("minilora", "torch", "peft", "bitsandbytes")


def no_gpu() -> str | None:
    """Return what is missing, in one line; None if CuPy works."""
    from minilora import backend
    from minilora.errors import escape

    try:
        with warnings.catch_warnings(action="ignore"), backend.use("cupy"):
            matrix = backend.xp.ones((2, 2), dtype="float32")
            (matrix @ matrix + 1).sum().item()  # needs the matrix library and the compiler, too
    except Exception as error:  # noqa: BLE001 (the error is returned; CuPy raises another class for each reason)
        return escape(" ".join(str(error).split()) or type(error).__name__, 300)


def about() -> str:
    """Return the card, its driver, and the versions of the installed packages, in a line."""
    import cupy
    from cupy.cuda import runtime

    name = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
    driver = runtime.driverGetVersion()
    versions = [f"{package} {metadata.version(package)}" for package in PACKAGES if find_spec(package)]
    software = ", ".join([*versions, f"cupy {cupy.__version__}"])
    return f"{name}, driver CUDA {driver // 1000}.{driver % 1000 // 10}; {software}"


# The parts


def loss_difference(method: str) -> float:
    """Return the largest difference between the losses of the same training steps on NumPy and on CuPy, or NaN."""
    import numpy as np

    losses = []
    for device in step.BACKENDS:
        with step.step_runner("minilora", CHECKED_SIZE, method, device) as runner:
            losses.append([runner.steps(1)["loss"] for _ in range(CHECKED_STEPS)])
    return float(np.abs(np.subtract(*losses)).max())


def length_of(size: str) -> int:
    """Return the number of tokens in a sequence."""
    return (step.SIZES | step.LARGE)[size]["length"]


def step_rates(size: str, method: str, rounds: int, failed: list[RunnerError]) -> dict[str, float]:
    """Return the tokens per second of each library, and "ratio", how many times as fast as PyTorch minilora is."""
    runners = [step.step_runner(library, size, method, "cuda") for library in ("minilora", "torch")]
    seconds = harness.seconds_of(harness.take_turns_with_peers(runners, rounds, failed))
    tokens = step.BATCH * length_of(size)
    rates = {library: tokens / median(times) for library, times in seconds.items()}
    return rates | ({"ratio": median_ratio(seconds["torch"], seconds["minilora"])} if "torch" in seconds else {})


# The command


def measure(rounds: int) -> int:
    """Print each part as it is measured, and return the exit status."""
    failed: list[RunnerError] = []

    def attempt(function, *arguments):
        """Call `function`; if minilora's process fails, note the error and return None."""
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
    for reason in dict.fromkeys(map(str, failed)):
        print(textwrap.fill(f"–: {reason}", 80, subsequent_indent="   "))
    agree = all(difference is not None and difference <= LARGEST_DIFFERENCE for difference in differences.values())
    return int(not agree or any(error.name == "minilora" for error in failed))


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 7")
    arguments = parser.parse_args()
    os.environ.pop("MINILORA_BACKEND", None)  # each process selects its own backend
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    if reason := no_gpu():
        print(f"no usable GPU: {reason}", file=sys.stderr)
        return 2
    print(about())
    return measure(3 if arguments.quick else 7)


if __name__ == "__main__":
    sys.exit(main())
