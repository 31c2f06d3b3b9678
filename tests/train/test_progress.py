"""pytest tests/train/test_progress.py: bars on a terminal, and a few lines elsewhere."""

import io
import re
import sys

import pytest

from minilora.train import progress

pytestmark = pytest.mark.host


def test_a_log_gets_a_line_for_each_tenth_of_what_takes_long(capsys, monkeypatch):
    for seconds, lines in ((0.05, []), (1, [f"training: {n} of 100, loss 2.5, {n} s" for n in range(10, 101, 10)])):
        clock = (step * seconds for step in range(101))
        monkeypatch.setattr(progress, "monotonic", lambda clock=clock: next(clock))
        with progress.progress_bar("training", 100) as advance:
            for _ in range(100):
                advance(1, "loss 2.5")
        out, err = capsys.readouterr()
        assert out == "" and err.splitlines() == lines


def test_what_is_not_to_be_shown_is_not(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0)
    with progress.progress_bar("training", 1, show=False) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_count_and_rate(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.progress_bar("answers", 100) as advance:
        for _ in range(5):
            advance(20)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sys.stderr.getvalue())
    assert re.search(r"100/100 [\d.]+/s", shown), shown
