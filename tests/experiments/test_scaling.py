"""pytest tests/experiments/test_scaling.py: what pages show of measured data-parallel steps."""

import pytest

from experiments.results import scaling

pytestmark = pytest.mark.host


def row(ranks: int, method: str, mbit, delay: float, step: float, **more) -> dict:
    sent = {"full": 14_754_816, "lora": 131_072}[method]
    times = {"compute": step / 2, "sum": step / 4, "bytes": sent, "predicted": 1.1 * step}
    return {"ranks": ranks, "method": method, "mbit": mbit, "delay": delay, "step": step} | times | more


ROWS = [
    row(0, "full", None, 0.0, 0.36),
    row(1, "full", None, 0.0, 0.70),
    row(1, "lora", None, 0.0, 0.50),
    row(2, "full", None, 0.0, 0.40),
    row(2, "full", 1000, 0.0, 0.50),
    row(2, "full", 100, 0.0, 1.75, predicted=1.50),
    row(2, "lora", 100, 0.0, 0.25),
    row(2, "lora", 20, 0.02, 0.50),
]


def test_links_and_speeds_are_those_measured():
    assert [scaling.show_link(row) for row in (ROWS[3], ROWS[4], ROWS[7])] == ["memory", "1 Gbit/s", "20 Mbit/s, 20 ms"]
    grid = scaling.speeds([row for row in ROWS if row["mbit"] == 100 or row["ranks"] == 1])
    assert grid.rows == [("100 Mbit/s", "0.40", "2.00")]  # as multiples of one core
    assert "15 MB of gradients with full fine-tuning and 131 kB with LoRA" in grid.caption


def test_the_sentence_follows_the_numbers():
    text = scaling.sentence(ROWS)
    assert "0.40 times the speed of one core with full fine-tuning, and 2.00 times with LoRA" in text
    assert "at most 14 % off" in text
