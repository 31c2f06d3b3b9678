"""pytest tests/benchmarks/test_gpu.py: the GPU's benchmark where there is no GPU: its checks, arithmetic and table."""

import math
import os
import subprocess
import sys

import pytest

from benchmarks import gpu
from minilora import backend, quant
from tests.benchmarks.conftest import FakeRunner

pytestmark = pytest.mark.host


def test_without_a_gpu_it_says_so_in_one_line():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "MINILORA_BACKEND": "cupy"}
    command = [sys.executable, "-m", "benchmarks.gpu"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.count("\n") == 1 and process.stderr.startswith("there is no GPU to measure: ")
    assert "CuPy" in process.stderr or "cuda" in process.stderr


def test_rates_of_a_step(monkeypatch):
    seconds = {"minilora": [0, 1, 0.1, 0.2, 0.4], "torch": [0, 1, 0.3, 0.2, 0.8]}
    monkeypatch.setattr(gpu.step, "step_runner", lambda library, *rest: FakeRunner(library, seconds[library]))
    expected = {"minilora": 16 * 512 / 0.2, "torch": 16 * 512 / 0.3, "ratio": 2.0}
    assert gpu.step_rates("hidden 1024, 8 layers", "full", 3, []) == pytest.approx(expected)


def test_rates_of_dequantizing(monkeypatch):
    seconds = {"minilora": [0, 1, 1e-3], "torch": [0, 1, 3e-3], "copy": [0, 1, 5e-4]}
    monkeypatch.setattr(gpu, "Runner", lambda name, *rest: FakeRunner(name, seconds[name]))
    moved = 4096 * 4096 * (4 / 8 + 4 / 64 + 4)  # codes and absmax are read, float32 is written
    rates = gpu.dequantize_rates(4096, 1, [])
    assert rates["minilora"] == pytest.approx({"µs": 1000, "GB/s": moved / 1e-3 / 1e9, "of copy": 0.5, "ratio": 3})
    assert rates["torch"]["of copy"] == pytest.approx(1 / 6)


def test_what_is_timed_on_the_device(monkeypatch):
    assert gpu.minilora_dequantize(512)() == pytest.approx(0.0728, rel=0.01) and backend.name == "strict"
    once, copied = gpu.copy(64), []
    monkeypatch.setattr(backend.xp, "copyto", lambda target, source: copied.append((target.nbytes, source.nbytes)))
    once()
    assert copied == [(gpu.moved_bytes(64) // 2,) * 2]  # read and written


def test_a_kernel_that_is_fast_and_wrong_is_not_timed():
    class Swapped:
        quantize_4bit = staticmethod(quant.quantize_4bit)

        @staticmethod
        def dequantize_4bit(packed, state):
            return quant.dequantize_4bit(packed << 4 | packed >> 4, state)

    with pytest.raises(ValueError, match="not NF4's 0.0728"):
        gpu.dequantize(Swapped, gpu.weight(256))


@pytest.mark.parametrize("change, status", [(5e-5, 0), (2e-4, 1), (math.nan, 1), (None, 1)])
def test_each_part_is_printed_and_losses_must_agree(monkeypatch, capsys, change, status):
    """change: of a loss on the GPU; None: minilora fails there. Without PyTorch there is no ratio."""
    losses = {"cpu": [7.0] * 20, "cuda": [] if change is None else [7.0] * 9 + [7.0 - change] + [7.0] * 10}

    def runner(library, size, method, device):
        if size == gpu.CHECKED_SIZE and len(losses[device]) < 20:
            return FakeRunner("minilora", [])
        return FakeRunner(library, [] if library == "torch" else losses[device])

    monkeypatch.setattr(gpu.step, "step_runner", runner)
    monkeypatch.setattr(gpu, "Runner", lambda name, *rest: FakeRunner(name, [] if name == "torch" else [1e-3] * 9))
    assert gpu.measure(3) == status
    out = capsys.readouterr().out
    rows = {line[:40].strip(): line[40:].split() for line in out.splitlines() if line.startswith("hidden")}
    assert len(rows) == 9 and max(map(len, out.splitlines())) <= 80
    assert rows["hidden 1024, 8 layers, 16 × 512, qlora"][1:] == ["–", "–"]
    assert "4096², bitsandbytes" in out and "–: torch: no memory" in out
    assert change is None or f"  lora    {'nan' if math.isnan(change) else f'{change:.1e}'}" in out
