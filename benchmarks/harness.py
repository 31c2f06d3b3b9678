"""What the benchmarks share: processes that work when they are told to, taking turns, and medians of their rounds.

A benchmark starts each side in a process of its own, which calls `serve`; the sides then take turns in one run, so that
what slows the machine in one round slows both. As a command, this file calls a function of a benchmark:

    python -m benchmarks.harness benchmarks.memory.counted '["base", "full", 4, 128]'      prints what it returns
    python -m benchmarks.harness benchmarks.curves.product_step '[]' minilora cpu          serves what it returns
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
    """A moment by the host's clock, in the form that CUDA's events have."""

    def record(self) -> None:
        self.seconds = perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: "HostEvent") -> float:
        return 1000 * (end.seconds - self.seconds)


def events(library: str, device: str):
    """What makes an event on the device, and a function of two that gives the milliseconds from one to the other."""
    if device == "cpu":
        return HostEvent, HostEvent.elapsed_time
    if library == "torch":
        from torch.cuda import Event

        return partial(Event, enable_timing=True), Event.elapsed_time
    from cupy.cuda import Event, get_elapsed_time

    return Event, get_elapsed_time


def serve(step, library: str, device: str) -> None:
    """Do as many steps as each line of standard input says; answer with seconds per step, loss and peak memory."""
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
    """The process of the runner `name` ended before its work did. `said` is all that it said on standard error."""

    def __init__(self, name: str, status: int, said: str):
        super().__init__(f"{name}: {said.strip().splitlines()[-1] if said.strip() else f'ended with status {status}'}")
        self.name, self.status, self.said = name, status, said


def environment(folder=None) -> dict[str, str]:
    """Of a process that imports minilora and the benchmarks from `folder`, where one is given."""
    return {**os.environ} if folder is None else {**os.environ, "PYTHONPATH": str(folder)}


class Runner:
    """`python -m` with these arguments: a process that serves until the block ends. folder: of the code that it runs,
    where that is not this one.

    Where it ends before, `steps` raises RunnerError with the last line that it said.
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
        with suppress(BrokenPipeError):  # it ended with a line unread
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def call(function: str, *arguments) -> list[str]:
    """Return what follows `python -m` to call a function, "benchmarks.MODULE.NAME", in a process of its own."""
    return ["benchmarks.harness", function, json.dumps(arguments)]


def fresh(function: str, *arguments) -> dict:
    """Return what a function returns in a new process, and the seconds of that process."""
    started = perf_counter()
    done = subprocess.run([sys.executable, "-m", *call(function, *arguments)], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise SystemExit(f"{function} {' '.join(map(str, arguments))}: {reason}")
    return json.loads(done.stdout.splitlines()[-1]) | {"process": perf_counter() - started}


def take_turns(runners: list[Runner], rounds: int, seconds: float = 1.0) -> dict[str, list[dict]]:
    """By name, what each runner answers in each round, with about so many seconds a turn."""
    counts = {}
    for runner in runners:
        runner.first = 2 * runner.steps(2)["seconds"]  # warm up
        counts[runner] = max(1, round(seconds / runner.steps(2)["seconds"]))
    turns = [[runner.steps(counts[runner]) for runner in runners] for _ in range(rounds)]
    return {runner.name: list(answers) for runner, answers in zip(runners, zip(*turns, strict=True), strict=True)}


def take_turns_with_peers(
    runners: list[Runner], rounds: int, failed: list[RunnerError], seconds: float = 1.0
) -> dict[str, list[dict]]:
    """As `take_turns`, with processes that end when it does. A peer that fails is noted in `failed`, and the others go
    on without it; where minilora fails, its RunnerError is raised.
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
                print(error.said, file=sys.stderr)
                failed.append(error)
                runners = [runner for runner in runners if runner.name != error.name]


def seconds_of(answers: dict[str, list[dict]]) -> dict[str, list[float]]:
    """By name, the seconds per step in each round."""
    return {name: [answer["seconds"] for answer in of_name] for name, of_name in answers.items()}


def median_ratio(above: list[float], below: list[float]) -> float:
    """Return the median of the rounds' ratios: what slows the machine in one round slows both sides of it."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def main(function: str, arguments: str, *serving: str) -> None:
    module, _, name = function.rpartition(".")
    found = getattr(import_module(module), name)(*json.loads(arguments))
    if serving:
        serve(found, *serving)
    elif found is not None:
        print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
