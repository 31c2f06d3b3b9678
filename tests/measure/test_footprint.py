"""pytest tests/measure/test_footprint.py: the memory of a process. (The rest is in test_study_compare.py.)"""

import subprocess
import sys

import numpy as np
import pytest

from minilora.measure import footprint

pytestmark = pytest.mark.host


@pytest.mark.slow
def test_the_peak_of_a_process_is_its_own():
    """On Linux, what getrusage says of a process begins with the memory of the one that started it."""
    held = np.ones(40_000_000)  # 320 MB
    code = "from minilora.measure.footprint import peak_rss; print(peak_rss())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert footprint.peak_rss() > held.nbytes > child > 10e6 or sys.platform != "linux"


def test_a_system_that_does_not_tell_the_peak(monkeypatch):
    monkeypatch.setattr(footprint.Path, "read_text", lambda self: "VmPeak:\t 5 kB\nVmHWM:\t    1234 kB\n")
    assert footprint.peak_rss() == 1234 * 1024
    monkeypatch.setattr(footprint.Path, "read_text", lambda self: (_ for _ in ()).throw(FileNotFoundError()))
    assert footprint.peak_rss() is None
