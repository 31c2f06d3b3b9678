"""pytest tests/results/test_scaling.py: what pages show of measured data-parallel steps."""

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


def test_the_table_says_what_was_measured():
    cells = scaling.grid(ROWS).rows
    assert cells[0] == ("threads", "full", "–", "360", "1.94", "–", "–", "–")
    assert cells[1][4] == "1.00" and cells[1][0] == "1 rank"
    assert cells[3] == ("2 ranks", "full", "memory", "400", "1.75", "25.0 %", "440", "+10 %")
    assert cells[5] == ("2 ranks", "full", "100 Mbit/s", "1,750", "0.40", "25.0 %", "1,500", "−14 %")
    assert cells[7][:5] == ("2 ranks", "LoRA", "20 Mbit/s, 20 ms", "500", "1.00")
    assert scaling.show_link(ROWS[4]) == "1 Gbit/s"
    assert "15 MB for full fine-tuning and 131 kB for LoRA, 113 times fewer" in scaling.grid(ROWS).caption


def test_the_sentences_follow_the_numbers():
    rows = [r for r in ROWS if r["mbit"] == 100 or r["ranks"] == 1]
    assert scaling.speeds(rows).rows == [("100 Mbit/s", "0.40", "2.00")]  # as multiples of one core
    said = f"{scaling.sentence(ROWS)} {scaling.further(ROWS)}"
    assert "0.40 times the speed of one core with full fine-tuning, and 2.00 times with LoRA" in said
    assert "at most 14 % off" in said and "reach 0.90 times the speed of one process with two threads" in said
