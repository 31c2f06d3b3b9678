"""Writing GGUF files: the layout that `gguf` reads, with tensors in 8, 16 or 32 bits, whole or not at all."""

from __future__ import annotations

import os
import struct
from typing import Any, BinaryIO

import numpy as np

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic
from minilora.formats.gguf import ALIGNMENT, GGUF
from minilora.formats.stored import StoredTensor

VERSION = 3
BLOCK = 32  # numbers that share a scale
Q8_0 = np.dtype([("scale", "<f2"), ("codes", "i1", BLOCK)])  # a block: scale · codes
# A tensor's kind -> its number in the file, NumPy's type, and how many numbers one of these holds.
KINDS: dict[str, tuple[int, np.dtype[Any], int]] = {
    "F32": (0, np.dtype("<f4"), 1),
    "F16": (1, np.dtype("<f2"), 1),
    "Q8_0": (8, Q8_0, BLOCK),
}
# Python's types -> a value's type in the file, and struct's letter for it
_ALONE = {int: (4, "I"), float: (6, "f"), bool: (7, "?"), str: (8, "")}
_IN_LISTS = {int: (5, "i"), float: (6, "f"), str: (8, "")}
_LIST = 9


def write_gguf(path: str | os.PathLike[str], content: GGUF) -> None:
    """Write `content` to `path`. Each tensor is read, put into its kind (of KINDS) and written before the next one.

    Whole numbers are stored as uint32, those in lists as int32, other numbers as float32. Errors: MiniloraError for a
    value that its type cannot hold, and where writing fails; what was at `path` before is then still there.
    """
    tensors = content.tensors
    head = [struct.pack("<4sIQQ", b"GGUF", VERSION, len(tensors), len(content.metadata))]
    head += [_text(key) + _value(value, key) for key, value in content.metadata.items()]
    place = 0
    for name, tensor in tensors.items():
        axes = tensor.shape[::-1]  # innermost first
        number, dtype, count = KINDS[tensor.kind]
        head.append(_text(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, number, place))
        place += _padded(tensor.size // count * dtype.itemsize)
    raw = b"".join(head)

    def write(file: BinaryIO) -> None:
        file.write(raw.ljust(_padded(len(raw)), b"\0"))
        for name, tensor in tensors.items():
            array = _array(name, tensor)
            file.write(array.view(np.uint8).data)
            file.write(bytes(_padded(array.nbytes) - array.nbytes))

    write_atomic(path, write)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _array(name: str, tensor: StoredTensor) -> np.ndarray:
    """Return the array as it is in the file: of Q8_0, the last axis counts blocks."""
    array = tensor.read()
    if array.shape != tensor.shape:
        raise MiniloraError(f"{escape(name)} has the shape {array.shape}, not {tensor.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        if tensor.kind == "Q8_0":
            array = quantize_q8_0(np.ascontiguousarray(array, dtype="<f4"))
            values = array["scale"]
        else:
            values = array = np.ascontiguousarray(array, dtype=KINDS[tensor.kind][1])
    if not np.isfinite(values).all():
        raise MiniloraError(f"{escape(name)} holds a number that {tensor.kind} cannot: too large, or none at all")
    return array


def quantize_q8_0(array: np.ndarray) -> np.ndarray:
    """float32 (…, 32 · n) as blocks of Q8_0, (…, n): scale = largest / 127, code = x / scale, a half away from zero.

    As ggml's quantize_row_q8_0_ref, bit for bit: codes are made with the scale before it is rounded to 16 bits.
    """
    blocks = array.reshape(*array.shape[:-1], -1, BLOCK)
    scale = abs(blocks).max(axis=-1, keepdims=True) / np.float32(127)
    scaled = blocks * np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    size = np.floor(abs(scaled))
    size += abs(scaled) - size >= 0.5
    out = np.empty(blocks.shape[:-1], Q8_0)
    out["scale"], out["codes"] = scale[..., 0], np.copysign(size, scaled)
    return out


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: object, key: str) -> bytes:
    """Encode the type of a value of the metadata, and the value."""
    try:
        if isinstance(value, list):
            kind, raw = _packed(value, _IN_LISTS)
            return struct.pack("<IIQ", _LIST, kind, len(value)) + raw
        kind, raw = _packed([value], _ALONE)
        return struct.pack("<I", kind) + raw
    except (KeyError, struct.error, OverflowError):
        raise MiniloraError(f"the metadata of {escape(key)} cannot be {escape(repr(value))}") from None


def _packed(values: list[Any], types: dict[type, tuple[int, str]]) -> tuple[int, bytes]:
    """Encode values of one kind; returns their type, which for no values is that of texts. KeyError if there is
    none.
    """
    kinds = set(map(type, values)) or {str}
    kind, code = types[kinds.pop() if len(kinds) == 1 else object]
    return kind, struct.pack(f"<{len(values)}{code}", *values) if code else b"".join(map(_text, values))
