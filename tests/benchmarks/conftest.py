"""Fixtures of the benchmark tests: a folder to start processes in, and a runner without a process."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks import harness, step


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    """Start processes in the checkout, with the stand-in device instead of a GPU."""
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setitem(step.BACKENDS, "cuda", "strict")


class FakeRunner(AbstractContextManager):
    """A runner that returns the given seconds in turn (also as its losses), and stops after the last."""

    def __init__(self, name: str, seconds):
        self.name, self.seconds = name, iter(seconds)

    def steps(self, count: int) -> dict:
        value = next(self.seconds, None)
        if value is None:
            raise harness.RunnerError(self.name, 1, "Traceback\nno memory\n")
        return {"seconds": value, "loss": value, "peak": 0}

    def __exit__(self, *error):
        pass
