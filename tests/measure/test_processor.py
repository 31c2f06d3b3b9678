"""pytest tests/measure/test_processor.py: what the system says of the processor, and what is left without."""

import json
import platform
import subprocess

import pytest

from minilora.measure import processor, records

pytestmark = pytest.mark.host
LSCPU = """\
Architecture:            x86_64
  CPU op-mode(s):        32-bit, 64-bit
Vendor ID:               GenuineIntel
  Model name:            Intel(R) Xeon(R)  Platinum 8488C
    CPU family:          6
    Model:               143
    Flags:               fpu sse2 avx2 avx512f amx_tile amx_bf16 avx512_bf16_like
Caches (sum of all):
  L1d:                   96 KiB (2 instances)
"""


@pytest.fixture
def no_system(monkeypatch, tmp_path):
    """A machine without lscpu and /sys, whose environment chooses no kernels."""

    def missing(*arguments, **settings):
        raise FileNotFoundError("lscpu")

    monkeypatch.setattr(processor.subprocess, "run", missing)
    monkeypatch.setattr(platform, "processor", lambda: "")  # it may start a program
    monkeypatch.setattr(processor, "CACHES", tmp_path)
    for name in [*processor.os.environ]:
        if name.startswith(processor.CHOOSING):
            monkeypatch.delenv(name)
    return tmp_path


def test_a_machine_that_says_nothing_has_a_name(no_system, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert processor.processor() == {"name": "arm64"}
    assert records.machine()["processor"] == {"name": "arm64"}
    monkeypatch.setattr(platform, "machine", lambda: "")
    assert processor.processor() == {"name": "unknown"}


@pytest.mark.parametrize(
    "error",
    [subprocess.TimeoutExpired("lscpu", 10), subprocess.CalledProcessError(1, "lscpu"), OSError("no processes")],
)
def test_an_lscpu_that_fails_says_nothing(no_system, monkeypatch, error):
    def fail(*arguments, **settings):
        raise error

    monkeypatch.setattr(processor.subprocess, "run", fail)
    assert set(processor.processor()) == {"name"}


def test_what_lscpu_and_the_caches_say(no_system, monkeypatch):
    done = subprocess.CompletedProcess("lscpu", 0, LSCPU)
    monkeypatch.setattr(processor.subprocess, "run", lambda *arguments, **settings: done)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    caches = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "?")]
    for number, values in enumerate(caches):
        (no_system / f"index{number}").mkdir()
        for name, value in zip(("level", "type", "size"), values, strict=True):
            (no_system / f"index{number}" / name).write_text(f"{value}\n")
    (no_system / "index4").mkdir()  # a container shows the folder alone
    found = processor.processor()
    assert found == {
        "name": "Intel(R) Xeon(R) Platinum 8488C",
        "family": "6",
        "model": "143",
        "instruction_sets": ["avx2", "avx512f", "amx_tile", "amx_bf16"],
        "caches": {"L1d": 48 * 1024, "L2": 2048 * 1024},
        "environment": {"OPENBLAS_CORETYPE": "Haswell"},
    }


def test_a_record_holds_the_processor_that_is_here():
    assert json.loads(json.dumps(processor.processor()))["name"]
