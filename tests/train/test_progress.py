"""pytest tests/train/test_progress.py: bars on a terminal, and nothing elsewhere."""

import io
import re
import sys

import pytest

from minilora.train import progress

pytestmark = pytest.mark.host


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_count_and_note(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.progress_bar("training", 100) as advance:
        for _ in range(5):
            advance(20, "loss 2.5")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sys.stderr.getvalue())
    assert "100/100 loss 2.5" in shown, shown
