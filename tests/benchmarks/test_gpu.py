"""pytest tests/benchmarks/test_gpu.py: the GPU's benchmark where there is no GPU: its checks, arithmetic and table."""

import math
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from minilora import backend, blas, quant
from tests.helpers import strict

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(step):
    return import_module("benchmarks.gpu")


def test_without_a_gpu_it_says_so_in_one_line():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "MINILORA_BACKEND": "cupy"}
    command = [sys.executable, "-m", "benchmarks.gpu"]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.count("\n") == 1 and process.stderr.startswith("there is no GPU to measure: ")
    assert "CuPy" in process.stderr or "cuda" in process.stderr


# Steps


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_step_on_the_device_learns_as_on_the_cpu_and_waits_for_nothing(step, monkeypatch, method):
    monkeypatch.setattr(step, "BATCH", 2)
    monkeypatch.setattr(blas, "cores", lambda: 1)
    size = step.SIZES["hidden 64, 2 layers"] | {"length": 16}
    losses = {}
    for device, name in (("cpu", "numpy"), ("cuda", "strict")):
        one_step = step.minilora_step(size, method, device)
        assert backend.name == name
        strict.reset_syncs()
        found = [one_step() for _ in range(3)]
        assert strict.sync_count() == 0
        losses[device] = [float(loss) for loss in found]
    assert all(map(backend.is_array, found))  # not fetched
    assert losses["cuda"] == pytest.approx(losses["cpu"], abs=1e-5)
    assert losses["cpu"][2] < losses["cpu"][0]


def test_rates_of_a_step(gpu, fake_runner, monkeypatch):
    seconds = {"minilora": [0, 1, 0.1, 0.2, 0.4], "torch": [0, 1, 0.3, 0.2, 0.8]}
    monkeypatch.setattr(gpu.step, "step_runner", lambda library, *rest: fake_runner(library, seconds[library]))
    rates = gpu.step_rates("hidden 1024, 8 layers", "full", 3, [])
    assert rates == pytest.approx({"minilora": 16 * 512 / 0.2, "torch": 16 * 512 / 0.3, "ratio": 2.0})


def test_rates_of_dequantizing(gpu, fake_runner, monkeypatch):
    seconds = {"minilora": [0, 1, 1e-3], "torch": [0, 1, 3e-3], "copy": [0, 1, 5e-4]}
    monkeypatch.setattr(gpu, "Runner", lambda name, *rest: fake_runner(name, seconds[name]))
    moved = 4096 * 4096 * (4 / 8 + 4 / 64 + 4)  # codes and absmax are read, float32 is written
    rates = gpu.dequantize_rates(4096, 1, [])
    assert rates["minilora"] == pytest.approx({"µs": 1000, "GB/s": moved / 1e-3 / 1e9, "of copy": 0.5, "ratio": 3})
    assert rates["torch"]["of copy"] == pytest.approx(1 / 6)


def test_what_is_timed_on_the_device_computes_nf4(gpu):
    assert gpu.minilora_dequantize(512)() == pytest.approx(0.0728, rel=0.01)
    assert backend.name == "strict"


def test_what_is_timed_as_a_copy_moves_as_many_bytes(gpu, monkeypatch):
    once, copied = gpu.copy(64), []
    monkeypatch.setattr(backend.xp, "copyto", lambda target, source: copied.append((target.nbytes, source.nbytes)))
    once()
    assert copied == [(gpu.moved_bytes(64) // 2,) * 2]


def test_a_kernel_that_is_fast_and_wrong_is_not_timed(gpu):
    class Swapped:
        quantize_4bit = staticmethod(quant.quantize_4bit)

        @staticmethod
        def dequantize_4bit(packed, state):
            return quant.dequantize_4bit(packed << 4 | packed >> 4, state)

    with pytest.raises(ValueError, match="not NF4's 0.0728"):
        gpu.dequantize(Swapped, gpu.weight(256))


# The command


@pytest.mark.parametrize("change, status", [(5e-5, 0), (2e-4, 1), (math.nan, 1), (None, 1)])
def test_each_part_is_printed_and_losses_must_agree(gpu, harness, fake_runner, monkeypatch, capsys, change, status):
    """change: of a loss on the GPU; None: minilora fails there. Without PyTorch there is no ratio."""
    losses = {"cpu": [7.0] * 20, "cuda": [] if change is None else [7.0] * 9 + [7.0 - change] + [7.0] * 10}

    def runner(library, size, method, device):
        if size == gpu.CHECKED_SIZE and len(losses[device]) < 20:
            return fake_runner("minilora", [])
        return fake_runner(library, [] if library == "torch" else losses[device])

    monkeypatch.setattr(gpu.step, "step_runner", runner)
    monkeypatch.setattr(gpu, "Runner", lambda name, *rest: fake_runner(name, [] if name == "torch" else [1e-3] * 9))
    assert gpu.measure(3) == status
    out = capsys.readouterr().out
    rows = {line[:40].strip(): line[40:].split() for line in out.splitlines() if line.startswith("hidden")}
    assert len(rows) == 9 and max(map(len, out.splitlines())) <= 80
    assert rows["hidden 1024, 8 layers, 16 × 512, qlora"][1:] == ["–", "–"]
    assert "4096², bitsandbytes" in out and "–: torch: no memory" in out
    if change is not None:
        assert f"  lora    {'nan' if math.isnan(change) else f'{change:.1e}'}" in out
