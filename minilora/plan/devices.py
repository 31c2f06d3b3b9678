"""Memory and operations per second of devices: GPUs by name, and this machine."""

import os
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import numpy as np

from minilora import backend

CARDS = (8, 16, 24, 40, 48, 80, 141)  # GB of memory that GPUs have
# Matrix products in 16 bits, dense, accumulated in float32: TFLOP/s that the makers state.
DEVICES = {
    "t4": 65.0,
    "v100": 125.0,
    "a10": 125.0,
    "l4": 121.0,
    "l40s": 362.0,
    "a100": 312.0,
    "h100": 989.0,
    "h200": 989.0,
    "rtx-3090": 71.0,
    "rtx-4090": 165.0,
}
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # what a container may use


def machine_memory() -> int | None:
    """Bytes of memory that the GPU has, or the machine, or that its container may use; None where no one says."""
    if backend.name == "cupy":
        return int(backend.xp.cuda.Device().mem_info[1])
    found = []
    with suppress(AttributeError, OSError, ValueError):  # not on Windows
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _CGROUPS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            found.append(int(Path(path).read_text(encoding="ascii")))
    return min((size for size in found if size > 0), default=None)


def measured_tflops(seconds: float = 1.0) -> float:
    """What this machine's float32 matrix products reach, in TFLOP/s."""
    a = np.ones((1024, 1024), np.float32)
    _ = a @ a
    count, start = 0, perf_counter()
    while (passed := perf_counter() - start) < seconds:
        _ = a @ a
        count += 1
    return 2 * 1024**3 * count / passed / 1e12
