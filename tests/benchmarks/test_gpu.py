"""pytest tests/benchmarks/test_gpu.py: the GPU's benchmark where there is no GPU: its checks, arithmetic and table."""

import math
import os
import subprocess
import sys

import pytest

from benchmarks import gpu
from minilora import backend
from tests.benchmarks.conftest import FakeRunner
from tests.helpers import strict

pytestmark = pytest.mark.host


def test_without_a_gpu_it_says_so_in_one_line():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "MINILORA_BACKEND": "cupy"}
    command = [sys.executable, "-m", "benchmarks.gpu"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.count("\n") == 1 and process.stderr.startswith("no usable GPU: ")
    assert "CuPy" in process.stderr or "cuda" in process.stderr


def test_rates_of_a_step(monkeypatch):
    seconds = {"minilora": [0, 1, 0.1, 0.2, 0.4], "torch": [0, 1, 0.3, 0.2, 0.8]}
    monkeypatch.setattr(gpu.step, "step_runner", lambda library, *rest: FakeRunner(library, seconds[library]))
    expected = {"minilora": 16 * 512 / 0.2, "torch": 16 * 512 / 0.3, "ratio": 2.0}
    assert gpu.step_rates("hidden 1024, 8 layers", "full", 3, []) == pytest.approx(expected)


@pytest.mark.parametrize("method", gpu.step.METHODS)
def test_in_a_step_the_host_waits_for_nothing(method):
    size = {"vocab": 50, "hidden": 16, "intermediate": 24, "layers": 2, "heads": 2, "kv_heads": 1}
    with backend.use("strict"):
        run = gpu.step.minilora_step(size | {"length": 8, "batch": 2}, method, device=None)
        run()
        strict.reset_syncs()
        run()
        assert strict.sync_count() == 0


@pytest.mark.parametrize("change, status", [(5e-5, 0), (2e-4, 1), (math.nan, 1), (None, 1)])
def test_each_part_is_printed_and_losses_must_agree(monkeypatch, capsys, change, status):
    """Without PyTorch there is no ratio. change: to a loss on the GPU; None if minilora fails there."""
    losses = {"cpu": [7.0] * 20, "cuda": [] if change is None else [7.0] * 9 + [7.0 - change] + [7.0] * 10}

    def runner(library, size, method, device):
        if size == gpu.CHECKED_SIZE and len(losses[device]) < 20:
            return FakeRunner("minilora", [])
        return FakeRunner(library, [] if library == "torch" else losses[device])

    monkeypatch.setattr(gpu.step, "step_runner", runner)
    assert gpu.measure(3) == status
    out = capsys.readouterr().out
    rows = {line[:40].strip(): line[40:].split() for line in out.splitlines() if line.startswith("hidden")}
    assert len(rows) == 9 and max(map(len, out.splitlines())) <= 80
    assert rows["hidden 1024, 8 layers, 16 × 512, qlora"][1:] == ["–", "–"]
    assert f"–: {'minilora' if change is None else 'torch'}: no memory" in out
    assert change is None or f"  lora    {'nan' if math.isnan(change) else f'{change:.1e}'}" in out
