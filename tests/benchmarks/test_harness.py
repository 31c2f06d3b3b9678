"""pytest tests/benchmarks/test_harness.py: runners work in processes of their own and take turns."""

import pytest

from benchmarks import harness, step
from tests.benchmarks.conftest import FakeRunner

pytestmark = pytest.mark.host


def test_a_runner_steps_in_a_process_of_its_own():
    with step.step_runner("minilora", "hidden 64, 2 layers", "lora", "cpu") as runner:
        first, second = runner.steps(1), runner.steps(2)
    assert second["loss"] < first["loss"] < 10 and 0 < second["seconds"] < 60
    assert runner.process.returncode == 0


def test_a_runner_whose_process_ends_says_why():
    with harness.Runner("torch", "benchmarks.nothing") as runner, pytest.raises(harness.RunnerError) as caught:
        runner.steps(1)
    assert str(caught.value).startswith("torch: ") and "No module named benchmarks.nothing" in str(caught.value)
    assert caught.value.name == "torch"


def test_runners_take_turns_after_two_calls_to_warm_up():
    runners = [FakeRunner("a", [9, 0.5, 1, 2]), FakeRunner("b", [9, 0.5, 3, 4])]
    assert harness.seconds_of(harness.take_turns(runners, 2)) == {"a": [1, 2], "b": [3, 4]}


def test_a_peer_that_fails_is_noted_and_left_out():
    failed = []
    runners = [FakeRunner("minilora", [9, 1, 9, 1, 2, 2]), FakeRunner("torch", [9])]
    assert harness.seconds_of(harness.take_turns_with_peers(runners, 2, failed)) == {"minilora": [2, 2]}
    assert list(map(str, failed)) == ["torch: no memory"]
    with pytest.raises(harness.RunnerError, match="minilora: no memory"):
        harness.take_turns_with_peers([FakeRunner("minilora", [9])], 2, failed)
