"""What tests of benchmarks share: the folder where they can start processes, and a runner without a process."""

from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def harness(monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.syspath_prepend(root)
    monkeypatch.chdir(root)
    return import_module("benchmarks.harness")


@pytest.fixture
def step(harness, monkeypatch):
    """`benchmarks.step`, with the stand-in device in the GPU's place."""
    module = import_module("benchmarks.step")
    monkeypatch.setitem(module.BACKENDS, "cuda", "strict")
    return module


@pytest.fixture
def fake_runner(harness):
    """A runner that answers with the given seconds, one after the other (and as losses); it ends where they do."""

    class FakeRunner:
        def __init__(self, name: str, seconds):
            self.name, self.seconds = name, iter(seconds)

        def steps(self, count: int) -> dict:
            value = next(self.seconds, None)
            if value is None:
                raise harness.RunnerError(self.name, 1, "Traceback\nno memory\n")
            return {"seconds": value, "loss": value, "peak": 0}

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    return FakeRunner
