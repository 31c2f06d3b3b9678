"""pytest tests/plan/test_machine.py: what this machine has, or its GPU, or its container."""

from types import SimpleNamespace

import pytest

from minilora.plan import machine

pytestmark = pytest.mark.host


def test_on_a_gpu_its_own_memory_counts(monkeypatch):
    device = SimpleNamespace(mem_info=(1, 10**9))
    monkeypatch.setattr(machine.backend, "name", "cupy")
    monkeypatch.setattr(machine.backend, "xp", SimpleNamespace(cuda=SimpleNamespace(Device=lambda: device)))
    assert machine.machine_memory() == 10**9


def test_a_container_may_use_less_than_the_machine_has(monkeypatch, tmp_path):
    (tmp_path / "limit").write_text("1000000\n", encoding="ascii")
    (tmp_path / "none").write_text("max\n", encoding="ascii")
    monkeypatch.setattr(machine, "_CGROUPS", (str(tmp_path / "limit"), str(tmp_path / "missing")))
    assert machine.machine_memory() == 1_000_000
    monkeypatch.setattr(machine, "_CGROUPS", (str(tmp_path / "none"),))
    assert machine.machine_memory() > 2**28


def test_this_machine_is_measured(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(machine, "perf_counter", lambda: next(ticks))
    assert machine.measured_tflops(2.5) == pytest.approx(2 * 2 * 1024**3 / 3 / 1e12)  # two products in three seconds
