"""GPUs by name: their memory and operations per second."""

from typing import NamedTuple


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
