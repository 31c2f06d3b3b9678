"""pytest tests/experiments/test_processor.py: what the system says of the processor, and what is left without."""

import pytest

from experiments import processor
from minilora.measure import records

pytestmark = pytest.mark.host
CPUINFO = """\
processor\t: 0
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R)  Platinum 8488C
flags\t\t: fpu sse2 avx2 avx512f amx_tile amx_bf16 avx512_bf16_like
"""


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Return a folder that is read instead of /proc and /sys, and unset the variables that choose kernels."""
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(records, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor, "CACHES", tmp_path)
    for name in [*processor.os.environ]:
        if name.startswith(processor.CHOOSING):
            monkeypatch.delenv(name)
    return tmp_path


def test_what_linux_says(system, monkeypatch):
    (system / "cpuinfo").write_text(CPUINFO)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    caches = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "?")]
    for number, values in enumerate(caches):
        (system / f"index{number}").mkdir()
        for name, value in zip(("level", "type", "size"), values, strict=True):
            (system / f"index{number}" / name).write_text(f"{value}\n")
    (system / "index4").mkdir()  # a container shows the folder alone
    cpu = records.machine()["processor"]
    assert cpu == {"name": "Intel(R) Xeon(R) Platinum 8488C", "family": "6", "model": "143"}
    assert processor.in_words(cpu) == "Intel(R) Xeon(R) Platinum 8488C (family 6, model 143)"
    assert processor.details() == {
        "instruction_sets": ["avx2", "avx512f", "amx_tile", "amx_bf16"],
        "caches": {"L1d": 48 * 1024, "L2": 2048 * 1024},
        "environment": {"OPENBLAS_CORETYPE": "Haswell"},
    }
