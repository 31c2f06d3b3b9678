"""pytest tests/plan/test_devices.py: what this machine has, or its GPU, or its container."""

from types import SimpleNamespace

import pytest

from minilora.plan import devices

pytestmark = pytest.mark.host


def test_on_a_gpu_its_own_memory_counts(monkeypatch):
    device = SimpleNamespace(mem_info=(1, 10**9))
    monkeypatch.setattr(devices.backend, "name", "cupy")
    monkeypatch.setattr(devices.backend, "xp", SimpleNamespace(cuda=SimpleNamespace(Device=lambda: device)))
    assert devices.machine_memory() == 10**9


def test_a_container_may_use_less_than_the_machine_has(monkeypatch, tmp_path):
    (tmp_path / "limit").write_text("1000000\n", encoding="ascii")
    (tmp_path / "none").write_text("max\n", encoding="ascii")
    monkeypatch.setattr(devices, "_CONTAINER", str(tmp_path / "limit"))
    assert devices.machine_memory() == 1_000_000
    monkeypatch.setattr(devices, "_CONTAINER", str(tmp_path / "none"))
    assert devices.machine_memory() > 2**28
