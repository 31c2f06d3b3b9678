"""The processor that measured: its name, instruction sets and caches, as far as the system says."""

import os
import platform
import subprocess
from pathlib import Path

# Which kernels a matrix library can choose from, as Linux spells them.
INSTRUCTION_SETS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
# Variables of the environment that begin so change kernels or threads.
CHOOSING = ("OPENBLAS_", "MKL_", "OMP_", "ATEN_")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def processor() -> dict:
    """name, and where the system says so: family and model (numbers of the maker's), instruction_sets, caches of one
    core (bytes, by level), environment (variables that choose among kernels).
    """
    said = _lscpu()
    flags = set(said.get("Flags", "").split())
    name = said.get("Model name", "").strip("- ") or platform.processor() or platform.machine() or "unknown"
    found = {
        "name": " ".join(name.split()),
        "family": said.get("CPU family", "").strip("-"),
        "model": said.get("Model", "").strip("-"),
        "instruction_sets": [one for one in INSTRUCTION_SETS if one in flags],
        "caches": _caches(),
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(CHOOSING)},
    }
    return {name: value for name, value in found.items() if value}


def _lscpu() -> dict[str, str]:
    """The fields of `lscpu`, of the first processor; none where there is no such program."""
    try:
        environment = os.environ | {"LC_ALL": "C"}
        done = subprocess.run(["lscpu"], check=True, capture_output=True, text=True, timeout=10, env=environment)
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return {}
    lines = reversed(done.stdout.splitlines())  # of two kinds of core, the first stays
    fields = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in fields}


def _caches() -> dict[str, int]:
    """Bytes by the name of the cache: L1d, L2, L3. One instance each, which other cores may share."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                found[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size.removesuffix("K")) * 1024
        except (OSError, ValueError):  # a container may hide them
            continue
    return found


def in_words(facts: dict) -> str:
    """The name of what `processor` found, and which it is of those that share the name."""
    numbers = ", ".join(f"{part} {facts[part]}" for part in ("family", "model") if part in facts)
    return f"{facts['name']} ({numbers})" if numbers else facts["name"]
