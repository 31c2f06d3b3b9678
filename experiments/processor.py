"""Facts about the processor that speed depends on, as Linux reports them: instruction sets, caches, environment."""

import os
from contextlib import suppress
from pathlib import Path

# Instruction sets for which matrix libraries have kernels, in Linux's spelling.
INSTRUCTION_SETS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
# Environment variables with these prefixes change kernels or threads.
CHOOSING = ("OPENBLAS_", "MKL_", "OMP_", "ATEN_")
CPUINFO, CACHES = Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu/cpu0/cache")


def details() -> dict:
    """Return "instruction_sets", "caches" of one core (bytes by level) and "environment" (variables that choose
    kernels), without those that are empty.
    """
    flags: set[str] = set()
    with suppress(OSError):
        lines = CPUINFO.read_text("utf-8").splitlines()
        flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    facts = {
        "instruction_sets": [one for one in INSTRUCTION_SETS if one in flags],
        "caches": _caches(),
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(CHOOSING)},
    }
    return {name: value for name, value in facts.items() if value}


def _caches() -> dict[str, int]:
    """Return the bytes of each cache by name (L1d, L2, L3); other cores may share them."""
    sizes = {}
    for folder in sorted(CACHES.glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                sizes[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size.removesuffix("K")) * 1024
        except (OSError, ValueError):  # a container may hide them
            continue
    return sizes


def in_words(facts: dict) -> str:
    """Write the name of a processor with its family and model, since several share a name."""
    numbers = ", ".join(f"{part} {facts[part]}" for part in ("family", "model") if part in facts)
    return f"{facts['name']} ({numbers})" if numbers else facts["name"]
