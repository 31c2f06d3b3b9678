"""Tensors that are still in their file: already checked, with a known shape, to be read one at a time.

Models are loaded through these, so that at most one tensor is in memory twice. A memory map would be as lazy, but if a
file is truncated while it is mapped, the process is killed. With plain reads, that is an ordinary error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

INTEGERS = ("U64", "I64", "U32", "I32", "U16", "I16", "U8", "I8", "BOOL")  # safetensors' dtypes that are not floats


@dataclass(frozen=True)
class StoredTensor:
    """An array in a file: its shape, `read()`, which loads it (FormatError if it cannot), and the kind in which it is
    stored, such as F16 or Q4_1.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    kind: str = ""

    @property
    def is_float(self) -> bool:
        """True if the file stores floating-point numbers, quantized or not."""
        return self.kind not in INTEGERS

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def then(self, change: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...] | None = None) -> StoredTensor:
        """Return this tensor with `change` applied after reading. shape: of the result, if it differs."""
        return StoredTensor(self.shape if shape is None else shape, lambda: change(self.read()), self.kind)
