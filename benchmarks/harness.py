"""Code that the benchmarks share: processes that do steps on request and take turns, and medians over the rounds.

A benchmark starts each side in a process of its own, which calls `serve`. The sides then take turns in one run, so that
a slowdown of the machine in one round slows both. As a command, this file calls a function of a benchmark:

    python -m benchmarks.harness benchmarks.memory.counted '["base", "full", 4, 128]'      prints the function's result
    python -m benchmarks.harness benchmarks.curves.product_step '[]' minilora cpu          serves the function's result
"""

import json
import os
import resource
import statistics
import subprocess
import sys
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from tempfile import TemporaryFile
from time import perf_counter


class HostEvent:
    """A moment by the host's clock, with the interface of CUDA's events."""

    def record(self) -> None:
        self.seconds = perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: "HostEvent") -> float:
        return 1000 * (end.seconds - self.seconds)


def events(library: str, device: str):
    """Return a function that makes an event on the device, and one that gives the milliseconds between two events."""
    if device == "cpu":
        return HostEvent, HostEvent.elapsed_time
    if library == "torch":
        from torch.cuda import Event

        return partial(Event, enable_timing=True), Event.elapsed_time
    from cupy.cuda import Event, get_elapsed_time

    return Event, get_elapsed_time


def serve(step, library: str, device: str) -> None:
    """Read numbers of steps from standard input, one a line; do each, and print seconds per step, loss and peak memory.

    The answer is a line of JSON. The peak is in MB.
    """
    make_event, elapsed = events(library, device)
    for line in sys.stdin:
        start, end = make_event(), make_event()
        start.record()
        for _ in range(int(line)):
            loss = step()
        end.record()
        end.synchronize()
        seconds = elapsed(start, end) / 1000 / int(line)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "loss": float(loss), "peak": peak}), flush=True)


class RunnerError(RuntimeError):
    """The process of the runner `name` ended before its work did. `stderr` is all that the process wrote to standard
    error.
    """

    def __init__(self, name: str, status: int, stderr: str):
        lines = stderr.strip().splitlines()
        super().__init__(f"{name}: {lines[-1] if lines else f'ended with status {status}'}")
        self.name, self.status, self.stderr = name, status, stderr


def environment(folder=None) -> dict[str, str]:
    """Return the environment of a process that imports minilora and the benchmarks from `folder`, if it is given."""
    return {**os.environ} if folder is None else {**os.environ, "PYTHONPATH": str(folder)}


class Runner:
    """A process, `python -m` with these arguments, that serves until the `with` block ends.

    folder: the checkout whose code it runs (default: this one). If the process ends too early, `steps` raises
    RunnerError with the last line of its standard error.
    """

    def __init__(self, name: str, *arguments: str, folder=None):
        self.name, self.errors = name, TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        command = [sys.executable, "-m", *arguments]
        self.process = subprocess.Popen(command, **pipes, text=True, cwd=folder, env=environment(folder))

    def steps(self, count: int) -> dict:
        with suppress(BrokenPipeError):
            self.process.stdin.write(f"{count}\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            status = self.process.wait()
            self.errors.seek(0)
            raise RunnerError(self.name, status, self.errors.read())
        return json.loads(answer)

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *error) -> None:
        with suppress(BrokenPipeError):  # the process ended before it read the last line
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def call(function: str, *arguments) -> list[str]:
    """Return the words after `python -m` that call a function, "benchmarks.MODULE.NAME", in a process of its own."""
    return ["benchmarks.harness", function, json.dumps(arguments)]


def fresh(function: str, *arguments) -> dict:
    """Call a function in a new process; returns its result, with the seconds that the process took as "process"."""
    started = perf_counter()
    done = subprocess.run([sys.executable, "-m", *call(function, *arguments)], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["ended without a message"])[-1]
        raise SystemExit(f"{function} {' '.join(map(str, arguments))}: {reason}")
    return json.loads(done.stdout.splitlines()[-1]) | {"process": perf_counter() - started}


def take_turns(runners: list[Runner], rounds: int, seconds: float = 1.0) -> dict[str, list[dict]]:
    """Let the runners take turns; returns {name: its answer in each round}. seconds: about how long a turn lasts."""
    counts = {}
    for runner in runners:
        runner.first = 2 * runner.steps(2)["seconds"]  # warm up
        counts[runner] = max(1, round(seconds / runner.steps(2)["seconds"]))
    turns = [[runner.steps(counts[runner]) for runner in runners] for _ in range(rounds)]
    return {runner.name: list(answers) for runner, answers in zip(runners, zip(*turns, strict=True), strict=True)}


def take_turns_with_peers(
    runners: list[Runner], rounds: int, failed: list[RunnerError], seconds: float = 1.0
) -> dict[str, list[dict]]:
    """Let the runners take turns as in `take_turns`, and end the processes afterwards.

    A peer that fails is added to `failed`, and the others start again without it. If minilora fails, its RunnerError is
    raised.
    """
    with ExitStack() as stack:
        for runner in runners:
            stack.enter_context(runner)
        while True:
            try:
                return take_turns(runners, rounds, seconds)
            except RunnerError as error:
                if error.name == "minilora":
                    raise
                print(error.stderr, file=sys.stderr)
                failed.append(error)
                runners = [runner for runner in runners if runner.name != error.name]


def seconds_of(answers: dict[str, list[dict]]) -> dict[str, list[float]]:
    """Return {name: seconds per step in each round}."""
    return {name: [answer["seconds"] for answer in rounds] for name, rounds in answers.items()}


def median_ratio(above: list[float], below: list[float]) -> float:
    """Return the median of the rounds' ratios. If the machine is slower in one round, both sides are, so it cancels out
    in that round's ratio.
    """
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def main(function: str, arguments: str, *serving: str) -> None:
    module, _, name = function.rpartition(".")
    result = getattr(import_module(module), name)(*json.loads(arguments))
    if serving:
        serve(result, *serving)
    elif result is not None:
        print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
