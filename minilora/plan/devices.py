"""Memory and operations per second of devices: GPUs by name, and this machine."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from minilora import backend


class Device(NamedTuple):
    """A GPU, as its maker states it."""

    tflops: float  # of matrix products in 16 bits, dense, accumulated in float32: 10^12 operations per second
    memory: int  # GB, of the largest


DEVICES = {
    "t4": Device(65.0, 16),
    "v100": Device(125.0, 32),
    "a10": Device(125.0, 24),
    "l4": Device(121.0, 24),
    "l40s": Device(362.0, 48),
    "a100": Device(312.0, 80),
    "h100": Device(989.0, 80),
    "h200": Device(989.0, 141),
    "rtx-3090": Device(71.0, 24),
    "rtx-4090": Device(165.0, 24),
}
MEMORIES = sorted({8, 40} | {device.memory for device in DEVICES.values()})  # GB; 8 and 40: smaller GPUs, a first A100
_CONTAINER = "/sys/fs/cgroup/memory.max"  # what a container may use


def machine_memory() -> int | None:
    """Bytes of memory that the GPU has, or the machine, or that its container may use; None where no one says."""
    if backend.name == "cupy":
        return int(backend.xp.cuda.Device().mem_info[1])
    found = []
    with suppress(AttributeError, OSError, ValueError):  # not on Windows
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # no such file, or "max"
        found.append(int(Path(_CONTAINER).read_text(encoding="ascii")))
    return min((size for size in found if size > 0), default=None)
