"""Tensors that are still in their file: checked, with a known shape, and read one at a time.

A model is loaded through these, so that no more than one tensor is alive twice. A memory map would read as late, but a
file that is cut short while it is mapped kills the process; a read that comes back short is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

INTEGERS = ("U64", "I64", "U32", "I32", "U16", "I16", "U8", "I8", "BOOL")  # safetensors' dtypes that are no floats


@dataclass(frozen=True)
class StoredTensor:
    """An array in a file: its shape, `read()`, which makes it (FormatError if it cannot), and how it is stored: F16,
    Q4_1."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    kind: str = ""

    @property
    def is_float(self) -> bool:
        """True if the file holds floating-point numbers, quantized ones too."""
        return self.kind not in INTEGERS

    @property
    def size(self) -> int:
        """Elements."""
        return prod(self.shape)

    def then(self, change: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...] | None = None) -> StoredTensor:
        """Return this tensor with `change` applied once it is read; `shape` is what comes out, if it differs."""
        return StoredTensor(self.shape if shape is None else shape, lambda: change(self.read()), self.kind)
