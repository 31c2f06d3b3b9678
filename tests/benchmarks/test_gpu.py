"""pytest tests/benchmarks/test_gpu.py: the GPU's benchmark where there is no GPU: its checks, arithmetic and table."""

import json
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


def test_a_peer_that_fails_is_noted_and_left_out(gpu, harness, fake_runner):
    failed = []
    runners = [fake_runner("minilora", [9, 1, 9, 1, 2, 2]), fake_runner("torch", [9])]
    assert gpu.take_turns(runners, 2, failed) == {"minilora": [2, 2]}
    assert failed == ["torch: no memory"]
    with pytest.raises(harness.RunnerError, match="minilora: no memory"):
        gpu.take_turns([fake_runner("minilora", [9])], 2, failed)


# What is measured


@pytest.mark.parametrize(
    "output, passed, failed",
    [
        ("....\n4 passed in 0.10s\n", 4, 0),
        ("FAILED a::b - 7 passed\n2 failed, 1310 passed, 3 errors in 61.00s (0:01:01)", 1310, 5),
        ("1 passed, 2 xfailed, 1 error in 1.0s", 1, 1),
    ],
)
def test_what_pytest_counts(gpu, output, passed, failed):
    assert gpu.counted(output) == {"passed": passed, "failed": failed}


@pytest.mark.parametrize("output", ["", "no tests ran in 0.01s", "python: No module named pytest"])
def test_a_suite_that_did_not_run_has_not_passed(gpu, output):
    with pytest.raises(RuntimeError, match=output or "nothing"):
        gpu.counted(output)


@pytest.mark.parametrize(
    "change, difference, noted", [(5e-5, 5e-5, False), (2e-4, 2e-4, True), (math.nan, math.nan, True)]
)
def test_losses_that_differ_are_noted(gpu, fake_runner, monkeypatch, change, difference, noted):
    losses = {"cpu": [7.0] * 20, "cuda": [7.0] * 9 + [7.0 - change] + [7.0] * 10}
    monkeypatch.setattr(
        gpu.step, "step_runner", lambda library, size, method, device: fake_runner(device, losses[device])
    )
    failed = []
    assert gpu.loss_difference("lora", failed) == pytest.approx(difference, nan_ok=True)
    assert bool(failed) == noted


def test_rates_of_a_step(gpu, fake_runner, monkeypatch):
    seconds = {"minilora": [0, 1, 0.1, 0.2, 0.4], "torch": [0, 1, 0.3, 0.2, 0.8]}
    monkeypatch.setattr(gpu.step, "step_runner", lambda library, *rest: fake_runner(library, seconds[library]))
    rates = gpu.step_rates("hidden 1024, 8 layers", "full", ["minilora", "torch"], 3, [])
    assert rates == pytest.approx({"minilora": 16 * 512 / 0.2, "torch": 16 * 512 / 0.3, "ratio": 2.0})


def test_rates_of_dequantizing(gpu, fake_runner, monkeypatch):
    seconds = {"minilora": [0, 1, 1e-3], "torch": [0, 1, 3e-3], "copy": [0, 1, 5e-4]}
    monkeypatch.setattr(gpu, "Runner", lambda name, *rest: fake_runner(name, seconds[name]))
    moved = 4096 * 4096 * (4 / 8 + 4 / 64 + 4)  # codes and absmax are read, float32 is written
    rates = gpu.dequantize_rates(4096, ["minilora", "torch"], 1, [])
    assert rates["minilora"] == pytest.approx({"us": 1000, "GB/s": moved / 1e-3 / 1e9, "of copy": 0.5})
    assert rates["torch"]["of copy"] == pytest.approx(1 / 6) and rates["ratio"] == pytest.approx(3)


def test_what_is_timed_on_the_device_computes_nf4(gpu):
    assert gpu.WORK["minilora"](512)() == pytest.approx(0.0728, rel=0.01)
    assert backend.name == "strict"


def test_what_is_timed_as_a_copy_moves_as_many_bytes(gpu, monkeypatch):
    once, copied = gpu.WORK["copy"](64), []
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


# The table and the exit status


def results(**changes) -> dict:
    """What `measure` gives where all is well."""
    sizes = ("hidden 256, 4 layers", "hidden 64, 2 layers", "hidden 1024, 8 layers")
    steps = [
        {"size": size, "method": method, "minilora": 1234567.8, "torch": 987654.3, "ratio": 1.25}
        for size in sizes
        for method in ("full", "lora", "qlora")
    ]
    speed = {"us": 1234.56, "GB/s": 3350.4, "of copy": 1.004}
    return {
        "rounds": 7,
        "missing": {},
        "failed": [],
        "versions": {"minilora": "0.1.0", "cupy": "14.2.0", "torch": "2.13.0+cu128", "bitsandbytes": "0.50.2"},
        "card": {"name": "NVIDIA H100 80GB HBM3", "driver": "570.124.06 (CUDA 12.8)"},
        "tests": {"passed": 2345, "failed": 0, "seconds": 312.4},
        "losses": {"full": 4.8e-6, "lora": 0.0, "qlora": 1.4e-6},
        "steps": steps,
        "dequantize": [{"side": 8192, "minilora": speed, "torch": speed, "ratio": 1.0}],
    } | changes


def lines_of(gpu, **changes) -> list[str]:
    lines = gpu.table(results(**changes)).splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_the_table(gpu):
    lines = lines_of(gpu)
    assert lines[0] == "NVIDIA H100 80GB HBM3, driver 570.124.06 (CUDA 12.8)"
    assert "CuPy 14.2.0" in lines[1] and "PyTorch 2.13.0+cu128" in lines[1]
    text = "\n".join(lines)
    assert "2,345 passed, 0 failed, 312 s" in text
    assert "full 4.8e-06, lora 0.0e+00, qlora 1.4e-06" in text
    row = next(line for line in lines if line.startswith("hidden 1024, 8 layers, 16 × 512 qlora"))
    assert row.split()[-3:] == ["1,234,568", "987,654", "1.25"]
    row = next(line for line in lines if line.startswith("8192²"))
    assert row.split()[1:] == ["1234.6", "3,350", "100%"] * 2 + ["1.00"]
    assert "–" not in text and "failed:" not in text


def test_peers_that_are_missing_are_dashes_with_a_note(gpu):
    steps = [
        {"size": "hidden 64, 2 layers", "method": "lora", "minilora": 5.0, "torch": 4.0, "ratio": 1.25},
        {"size": "hidden 64, 2 layers", "method": "qlora", "minilora": 5.0},
    ]
    dequantize = [{"side": 4096, "minilora": {"us": 30.0, "GB/s": 2000.0, "of copy": 0.9}}]
    lines = lines_of(gpu, missing={"bitsandbytes": gpu.ABSENT}, steps=steps, dequantize=dequantize)
    assert [line.split()[-3:] for line in lines if line.startswith("hidden")] == [["5", "4", "1.25"], ["5", "–", "–"]]
    assert next(line for line in lines if line.startswith("4096²")).split()[1:] == ["30.0", "2,000", "90%", *"––––"]
    assert "–: bitsandbytes is not installed" in lines and any(".[parity]" in line for line in lines)
    assert not any("failed:" in line for line in lines)


def test_what_failed_is_named(gpu):
    reason = "losses, qlora: minilora: " + "a reason that goes on and on " * 8
    steps = [{"size": "hidden 64, 2 layers", "method": "full"}]
    lines = lines_of(gpu, tests=None, losses={"full": 1e-6, "qlora": None}, steps=steps, failed=[reason])
    text = "\n".join(lines)
    assert "full 1.0e-06, qlora failed" in text and "failed: losses, qlora: minilora: a reason" in text
    assert next(line for line in lines if line.startswith("test suite")).endswith(" failed")
    assert next(line for line in lines if line.startswith("hidden 64")).split()[-3:] == ["failed"] * 3


def test_a_part_that_fails_stops_no_other(gpu, monkeypatch, capsys):
    def fail(*arguments):
        raise RuntimeError("out of\x1b[31m memory")

    monkeypatch.setattr(gpu, "missing_peers", lambda: {"peft": gpu.ABSENT})
    monkeypatch.setattr(gpu, "versions", lambda: {})
    monkeypatch.setattr(gpu, "card", lambda: {})
    monkeypatch.setattr(gpu, "run_tests", fail)
    monkeypatch.setattr(gpu, "loss_difference", lambda method, failed: fail() if method == "lora" else 1e-6)
    monkeypatch.setattr(gpu, "step_rates", lambda size, method, libraries, *rest: {"minilora": len(libraries)})
    monkeypatch.setattr(gpu, "dequantize_rates", lambda side, libraries, rounds, failed: failed.append("torch: no"))
    found = gpu.measure(3)
    assert found["tests"] is None and found["losses"] == {"full": 1e-6, "lora": None, "qlora": 1e-6}
    libraries = {row["method"]: row["minilora"] for row in found["steps"]}
    assert libraries == {"full": 2, "lora": 1, "qlora": 1} and len(found["steps"]) == 9
    assert found["dequantize"] == [{"side": 4096}, {"side": 8192}]
    assert found["failed"] == [
        "test suite on CuPy: out of\\x1b[31m memory",
        "losses, lora: out of\\x1b[31m memory",
        "NF4 dequantize, 4096²: torch: no",
        "NF4 dequantize, 8192²: torch: no",
    ]


@pytest.mark.parametrize("failed, status", [([], 0), (["losses, full: they differ by 2.0e-04"], 1)])
def test_the_exit_status_and_the_numbers_in_a_file(gpu, monkeypatch, capsys, tmp_path, failed, status):
    rounds, file = [], tmp_path / "gpu.json"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setattr(gpu, "no_gpu", lambda: None)
    monkeypatch.setattr(gpu, "measure", lambda count: rounds.append(count) or results(failed=failed))
    monkeypatch.setattr(sys, "argv", ["gpu", "--quick", "--json", str(file)])
    assert gpu.main() == status and rounds == [3]
    assert capsys.readouterr().out == gpu.table(results(failed=failed)) + "\n"
    assert json.loads(file.read_text("utf-8")) == results(failed=failed)
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_a_file_that_cannot_be_written_is_said_before_the_work(gpu, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu, "no_gpu", lambda: None)
    monkeypatch.setattr(gpu, "measure", lambda count: pytest.fail("measured"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setattr(sys, "argv", ["gpu", "--json", str(tmp_path / "missing" / "gpu.json")])
    assert gpu.main() == 2 and capsys.readouterr().err.count("\n") == 1
