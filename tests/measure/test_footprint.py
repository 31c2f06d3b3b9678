"""pytest tests/measure/test_footprint.py: the memory of a process."""

import pytest

from minilora.measure import footprint

pytestmark = pytest.mark.host


def test_the_peak_of_a_process_is_what_linux_says(monkeypatch):
    monkeypatch.setattr(footprint.Path, "read_text", lambda self: "VmPeak:\t 5 kB\nVmHWM:\t    1234 kB\n")
    assert footprint.peak_rss() == 1234 * 1024
    monkeypatch.setattr(footprint.Path, "read_text", lambda self: (_ for _ in ()).throw(FileNotFoundError()))
    assert footprint.peak_rss() is None
