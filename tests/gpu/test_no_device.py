"""pytest tests/gpu/test_no_device.py: CuPy is installed, there is no card: one line and exit status 2."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.host

WITHOUT_CARDS = os.environ | {"CUDA_VISIBLE_DEVICES": "", "MINILORA_BACKEND": "cupy"}


@pytest.mark.parametrize("command", ["doctor", "pretrain --data text.txt --out run --steps 1"])
def test_a_command_ends_in_one_line(tmp_path, command):
    (tmp_path / "text.txt").write_text("to be or not to be " * 50, encoding="utf-8")
    arguments = [sys.executable, "-m", "minilora", *command.split()]
    done = subprocess.run(arguments, cwd=tmp_path, env=WITHOUT_CARDS, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("minilora: the cupy backend finds no usable GPU")
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_the_doctor_on_numpy_says_what_is_missing():
    arguments = [sys.executable, "-m", "minilora", "doctor"]
    environment = WITHOUT_CARDS | {"MINILORA_BACKEND": "numpy"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "the cupy backend finds no usable GPU" in done.stdout
