"""pytest tests/train/test_progress.py: bars on a terminal, and lines elsewhere."""

import io
import re
import sys

import pytest

from minilora.train import progress

pytestmark = pytest.mark.host


@pytest.fixture
def clock(monkeypatch):
    """Sets what the clock says from now on."""
    now = [0.0]
    monkeypatch.setattr(progress, "LINE_EVERY", 10.0)
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_off_a_terminal_a_line_each_ten_seconds_says_how_far_it_is(clock, capsys):
    with progress.progress_bar("finetune", 1_200, unit="steps") as advance:
        advance(200, "")  # where a resumed run begins
        for second in range(0, 41, 4):
            clock(second)
            advance(10, f"loss {3 - second / 100}")
        clock(60)
        advance(890, "loss 2.5")
    assert capsys.readouterr().err == (
        "finetune: 240 of 1,200 steps, loss 2.88, 288 s left\n"
        "finetune: 270 of 1,200 steps, loss 2.76, 319 s left\n"
        "finetune: 300 of 1,200 steps, loss 2.64, 324 s left\n"
        "finetune: 1,200 of 1,200 steps, loss 2.5\n"
    )


@pytest.mark.parametrize("show, rank", [(False, "0"), (True, "1")])
def test_no_line_where_none_is_asked_for_or_another_rank_speaks(clock, capsys, monkeypatch, show, rank):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", rank)
    with progress.progress_bar("comparing", 3, show) as advance:
        advance(0)
        clock(60)
        advance(1)
    assert capsys.readouterr().err == ""


def test_a_quick_run_is_quiet(clock, capsys):
    with progress.progress_bar("comparing", 3) as advance:
        clock(50)
        advance(0)
    with progress.progress_bar("comparing", 3) as advance:
        clock(51)
        for _ in range(3):
            clock(59)
            advance(1)
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("unit, rate", [("MiB", " MiB/s"), ("", "/s")])
def test_a_rate_has_its_unit_before_the_second(monkeypatch, unit, rate):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.progress_bar("downloading", 100, unit=unit) as advance:
        for _ in range(5):
            advance(20)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sys.stderr.getvalue())
    assert re.search(rf"100/100 [\d.]+{rate}", shown), shown
