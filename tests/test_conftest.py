"""pytest tests/test_conftest.py: tests start on the same machine everywhere, and on the backend that was asked for."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minilora.train import catalog

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[1]


def test_nothing_was_downloaded_and_nothing_is_set():
    assert not any(map(catalog.in_cache, catalog.CATALOG | catalog.TASKS))
    left = {"XDG_CACHE_HOME", "MINILORA_CACHE", "COLUMNS", "FORCE_COLOR"}.intersection(os.environ)
    assert not left


def test_children_hear_an_interrupt():
    """Ctrl-C works also in a pytest that a script started in the background, where it is ignored at first."""
    program = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGINT


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_slow_test_that_is_named_runs_on_the_backend_that_was_asked_for(workers):
    command = [sys.executable, "-m", "pytest", "-rp", "-p", "no:cacheprovider", "-n", str(workers)]
    environment = os.environ | {"MINILORA_BACKEND": "strict"}
    named = f"{ROOT / 'tests/test_tensor.py'}::test_a_long_chain"
    done = subprocess.run([*command, named], capture_output=True, text=True, env=environment)
    assert "test_a_long_chain[strict]" in done.stdout and "\n1 passed" in done.stdout, done.stdout
