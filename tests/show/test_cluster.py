"""pytest tests/show/test_cluster.py: the cost model of data-parallel steps is held to values by hand and to limits."""

from math import inf, nan

import pytest

from minilora.errors import MiniloraError
from minilora.plan.activations import Step
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS
from minilora.train.methods import METHODS, Options
from notebooks.figures.cluster import Link, allreduce_seconds, best_ranks, gradient_bytes, speedup, step_seconds

pytestmark = pytest.mark.host

SLOW = Link(1e6, 0.01)  # 1 MB a second, 10 ms
PERFECT = Link(inf)


# What is sent


def test_what_is_sent_is_what_trains():
    shape = PRESETS["smollm2-135m"]
    for method in METHODS:
        plan = make_plan(shape, method, None, Step(1, 64))
        assert gradient_bytes(shape, method) == 4 * plan.trainable
        assert gradient_bytes(shape, method, Options(), 2) == 2 * plan.trainable
    # A 4096 × 4096 layer at rank 8 trains 65,536 numbers; LLaMA-7B has two of them in each of 32 blocks.
    assert gradient_bytes(PRESETS["llama-7b"], "lora", Options(rank=8, targets=["q_proj", "v_proj"])) == 64 * 65_536 * 4


# Allreduce


@pytest.mark.parametrize(
    "ranks, seconds",  # of 3 MB over 1 MB a second with 10 ms a message
    [(1, 0), (2, 2 * 0.01 + 3), (3, 4 * 0.01 + 4), (4, 6 * 0.01 + 4.5)],
)
def test_an_allreduce_by_hand(ranks, seconds):
    assert allreduce_seconds(3e6, ranks, SLOW) == pytest.approx(seconds, rel=1e-12)


def test_the_limits_of_an_allreduce():
    assert allreduce_seconds(3e6, 5, PERFECT) == 0
    assert allreduce_seconds(0, 5, SLOW) == 0
    # Over ever more ranks, each sends the buffer twice.
    assert allreduce_seconds(3e6, 2**20, Link(1e6)) == pytest.approx(6, rel=1e-5)
    assert allreduce_seconds(1, 1000, SLOW) == pytest.approx(1998 * 0.01, rel=1e-6)  # short: the messages count


# A step


def test_a_step_by_hand():
    # 10 s of compute, 3 MB: over 4 ranks 2.5 s and an allreduce of 4.56 s
    assert step_seconds(10, 3e6, 4, SLOW) == pytest.approx(2.5 + 4.56)
    assert step_seconds(10, 3e6, 4, SLOW, fixed_seconds=0.3) == pytest.approx(0.3 + 2.5 + 4.56)
    assert step_seconds(10, 3e6, 3, SLOW, rows=8) == pytest.approx(10 * 3 / 8 + 4.04)  # 3, 3 and 2 rows


def test_the_limits_of_a_step():
    how = {"fixed_seconds": 0.3}
    assert step_seconds(10, 3e6, 1, SLOW, **how) == 10.3  # one rank sends nothing
    assert step_seconds(10, 3e6, 5, PERFECT, **how) == pytest.approx(0.3 + 2)
    assert speedup(10, 3e6, 5, PERFECT) == pytest.approx(5)
    assert speedup(10, 3e6, 5, PERFECT, rows=8) == pytest.approx(4)  # the largest of five shares is two of eight rows
    assert speedup(10, 3e6, 10**6, PERFECT, fixed_seconds=10) == pytest.approx(2, rel=1e-4)  # Amdahl
    assert step_seconds(10, 3e6, 4, SLOW, fixed_seconds=0.4) > step_seconds(10, 3e6, 4, SLOW, **how)


@pytest.mark.parametrize(
    "arguments, how, message",
    [
        ((1, 1, 0, SLOW), {}, "ranks must be"),
        ((1, 1, 1.5, SLOW), {}, "ranks must be"),
        ((1, -1, 2, SLOW), {}, "bytes must be"),
        ((1, nan, 2, SLOW), {}, "bytes must be"),
        ((1, 1, 2, Link(0)), {}, "bandwidth must be above 0"),
        ((1, 1, 2, Link(nan)), {}, "bandwidth must be above 0"),
        ((1, 1, 2, Link(1, -1)), {}, "latency must be 0 or more"),
        ((1, 1, 2, Link(1, inf)), {}, "latency must be 0 or more"),
        ((1, 1, 9, SLOW), {"rows": 8}, "9 ranks cannot share 8 rows"),
    ],
)
def test_a_step_that_cannot_be(arguments, how, message):
    with pytest.raises(MiniloraError, match=message):
        step_seconds(*arguments, **how)


# Ranks


def test_the_most_ranks_that_pay():
    # c / n + 2 b / B (n - 1) / n + 2 (n - 1) L has its minimum at the root of (c - 2 b / B) / (2 L).
    assert best_ranks(20, 3e6, Link(1e6, 0.07), 100) == 10  # √(14 / 0.14)
    assert best_ranks(20, 3e6, Link(1e6, 0.07), 7) == 7  # no more are there
    assert best_ranks(5.9, 3e6, Link(1e6), 100) == 1
    assert best_ranks(10, 3e6, PERFECT, 12, rows=12) == 12
    assert best_ranks(10, 3e6, PERFECT, 11, rows=12) == 6  # 6 to 11 ranks have two rows at most: the fewest
