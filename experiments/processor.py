"""What of a processor its speed depends on, as far as Linux says it: instruction sets, caches, and the environment."""

import os
from contextlib import suppress
from pathlib import Path

# Which kernels a matrix library can choose from, as Linux spells them.
INSTRUCTION_SETS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
# Variables of the environment that begin so change kernels or threads.
CHOOSING = ("OPENBLAS_", "MKL_", "OMP_", "ATEN_")
CPUINFO, CACHES = Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu/cpu0/cache")


def details() -> dict:
    """Return instruction_sets, caches of one core (bytes, by level), and environment (variables that choose among
    kernels), each if there is any.
    """
    flags: set[str] = set()
    with suppress(OSError):
        lines = CPUINFO.read_text("utf-8").splitlines()
        flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    found = {
        "instruction_sets": [one for one in INSTRUCTION_SETS if one in flags],
        "caches": _caches(),
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(CHOOSING)},
    }
    return {name: value for name, value in found.items() if value}


def _caches() -> dict[str, int]:
    """Return bytes by the name of the cache: L1d, L2, L3. One instance each, which other cores may share."""
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
    """Return the name of a record's processor, and which it is of those that share the name."""
    numbers = ", ".join(f"{part} {facts[part]}" for part in ("family", "model") if part in facts)
    return f"{facts['name']} ({numbers})" if numbers else facts["name"]
