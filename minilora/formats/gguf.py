"""The GGUF format of llama.cpp: metadata and quantized tensors in a single file.

    "GGUF", version (uint32), number of tensors, number of metadata entries (uint64)
    metadata           key (string), type (uint32), value; a string is its length (uint64) and UTF-8 bytes
    tensors            name, number of axes (uint32), sizes innermost first (uint64), type (uint32), offset (uint64)
    the rest           the tensors' bytes; offsets count from here, a multiple of the alignment

Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The head is parsed here and not by the `gguf`
library, because its reader (0.19.0) hangs on some malformed files. Here every count is compared with the bytes that are
left before anything is allocated for it. The library is used for writing, and to quantize and dequantize blocks.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minilora.errors import FormatError, MiniloraError, escape
from minilora.formats.atomic import open_regular, show_path, write_atomic
from minilora.formats.stored import StoredTensor

VERSIONS = (2, 3)
ALIGNMENT = 32  # bytes, unless general.alignment says otherwise
MOST_AXES = 4
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_HEAD_LIMIT = 200_000_000  # bytes; a vocabulary of 256,000 tokens with its merges has about 10 million

BLOCK = {"F32": 1, "F16": 1, "Q8_0": 32}  # kind of tensor -> number of elements per block, which share a scale
_ALONE = {int: "UINT32", float: "FLOAT32", bool: "BOOL", str: "STRING"}  # type in Python -> type in the file
_IN_LISTS = {int: "INT32", float: "FLOAT32", str: "STRING"}


@dataclass(frozen=True)
class GGUF:
    """A GGUF file's content. metadata: Python values by key, arrays as lists. tensors: by name, read as float32."""

    metadata: dict[str, object]
    tensors: dict[str, StoredTensor]


def is_gguf(path: str | os.PathLike[str]) -> bool:
    """Return True if `path` ends in .gguf, and so is to be read as a GGUF file."""
    return os.fspath(path).endswith(".gguf")


def read_gguf(path: str | os.PathLike[str]) -> GGUF:
    """Read the metadata of a file and open its tensors, which stay in the file until they are read.

    The file need not be trusted. Shapes are in NumPy's order, outermost first. Raises FormatError, and MiniloraError
    without the `gguf` extra.
    """
    quants = library().quants
    where = show_path(path)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = _Head(file.read(min(size, _HEAD_LIMIT)), where, size)
        if head.take(4) != b"GGUF":
            raise FormatError(f"{where} is not a GGUF file: it does not begin with GGUF")
        if (version := head.number("I")) not in VERSIONS:
            raise FormatError(f"{where} has GGUF version {version}; minilora reads 2 and 3, little-endian")
        tensor_count, entry_count = head.count(24, "tensors"), head.count(13, "metadata entries")  # least bytes of each
        metadata = head.metadata(entry_count)
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= 2**20 or alignment & (alignment - 1):
            raise FormatError(f"{where}: general.alignment is {escape(alignment)}, not a power of 2")
        infos = head.tensors(tensor_count)
        start = -(-head.place // alignment) * alignment

    def read(start: int, length: int, quantization: Any, shape: tuple[int, ...]) -> np.ndarray:
        raw = np.empty(length, np.uint8)
        with open_regular(path) as file:
            file.seek(start)
            if file.readinto(raw.data) != length:
                raise FormatError(f"{where} became shorter while it was read")
        if not length:
            return np.zeros(shape, np.float32)
        with np.errstate(all="ignore"):  # a scale may be any 16 bits, infinities too
            return quants.dequantize(raw, quantization).astype(np.float32, copy=False).reshape(shape)

    tensors = {}
    for name, (shape, kind, offset) in infos.items():
        tensor = f"{where}: tensor {escape(name)}"
        quantization, length = _bytes_of(quants, shape, kind, tensor)
        if offset % alignment or start + offset + length > size:
            raise FormatError(
                f"{tensor} begins at byte {start + offset:,} and has {length:,} bytes; the file has {size:,}, and "
                f"tensors must begin at multiples of {alignment}"
            )
        make = partial(read, start + offset, length, quantization, shape)
        tensors[name] = StoredTensor(shape, make, quantization.name)
    return GGUF(metadata, tensors)


def library() -> Any:
    """Import the gguf library. Raises MiniloraError if it is not installed."""
    try:
        import gguf
    except ImportError:
        raise MiniloraError('GGUF files need the gguf library: pip install "minilora[gguf]"') from None
    return gguf


def _bytes_of(quants: Any, shape: tuple[int, ...], kind: int, where: str) -> tuple[Any, int]:
    """Return the quantization with the number `kind`, and the size in bytes of a tensor of `shape` in it."""
    try:
        quantization = quants.GGMLQuantizationType(kind)
        block, size = quants.GGML_QUANT_SIZES[quantization]
        quants.dequantize(np.zeros((1, size), np.uint8), quantization)  # try it once: raises an error if unsupported
    except (ValueError, KeyError, NotImplementedError):
        raise FormatError(f"{where} has quantization {escape(kind)}, which cannot be read") from None
    if shape and shape[-1] % block:
        raise FormatError(f"{where}: rows of {shape[-1]:,} are not whole blocks of {block} ({quantization.name})")
    return quantization, prod(shape) // block * size


class _Head:
    """The part of a file before the tensors, parsed value by value. `place`: position of the next byte."""

    def __init__(self, raw: bytes, where: str, size: int):
        self.raw, self.where, self.size, self.place = raw, where, size, 0

    def metadata(self, count: int) -> dict[str, object]:
        entries: dict[str, object] = {}
        for _ in range(count):
            key = self.text()
            if key in entries:
                raise FormatError(f"{self.where}: the metadata key {escape(key)} appears twice")
            entries[key] = self.value(self.number("I"), key)
        return entries

    def tensors(self, count: int) -> dict[str, tuple[tuple[int, ...], int, int]]:
        """Read {name: (shape, type, offset)}."""
        infos: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(count):
            name = self.text()
            axes = self.number("I")
            if name in infos or axes > MOST_AXES:
                fault = "appears twice" if name in infos else f"has {axes:,} axes"
                raise FormatError(f"{self.where}: tensor {escape(name)} {fault}")
            shape = tuple(self.number("Q") for _ in range(axes))[::-1]
            if prod(n or 1 for n in shape) >= 2**48:  # NumPy multiplies the other axes even when one of them is 0
                raise FormatError(f"{self.where}: tensor {escape(name)} has the impossible shape {escape(shape)}")
            infos[name] = shape, self.number("I"), self.number("Q")
        return infos

    def value(self, kind: int, key: str, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.text()
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind != _ARRAY or depth == 2:
            raise FormatError(f"{self.where}: the metadata of {escape(key)} has the unknown type {kind}")
        kind = self.number("I")
        if kind in _NUMBERS:
            width = struct.calcsize(f"<{_NUMBERS[kind]}")
            count = self.count(width, f"values of {escape(key)}")
            return list(struct.unpack(f"<{count}{_NUMBERS[kind]}", self.take(width * count)))
        count = self.count(8 if kind == _STRING else 12, f"values of {escape(key)}")
        return [self.value(kind, key, depth + 1) for _ in range(count)]

    def count(self, least: int, what: str) -> int:
        """Read a count of items of at least `least` bytes each. Raises FormatError if the file has too few bytes."""
        count = self.number("Q")
        if count * least > len(self.raw) - self.place:
            raise FormatError(f"{self.where} cannot hold {count:,} {what}: it has only {self.size:,} bytes")
        return count

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        length = self.number("Q")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self.where}: the text before byte {self.place:,} is not UTF-8") from None

    def take(self, count: int) -> bytes:
        if count > len(self.raw) - self.place:
            raise FormatError(f"{self.where} is cut off: it ends at byte {self.size:,}, inside its header")
        self.place += count
        return self.raw[self.place - count : self.place]


# Writing


def write_gguf(path: str | os.PathLike[str], content: GGUF) -> None:
    """Write `content` to `path`. Each tensor is read, converted to its kind (see BLOCK) and written before the next.

    Integers are stored as uint32, in lists as int32; other numbers as float32. Needs the `gguf` extra. Raises
    MiniloraError for a value that does not fit its type, and if writing fails; a file that was at `path` before is then
    unchanged.
    """
    gguf = library()
    writer = gguf.GGUFWriter(None, "")
    writer.kv_data[0].clear()  # the library's own entry, general.architecture; `content` has one
    for key, value in content.metadata.items():
        if value == []:  # the library rejects it, and readers treat a missing list as empty
            continue
        is_list = isinstance(value, list)
        types, names = set(map(type, value if isinstance(value, list) else [value])), _IN_LISTS if is_list else _ALONE
        if len(types) != 1 or not types <= names.keys():
            raise MiniloraError(f"the metadata {escape(key)} cannot be stored: {escape(repr(value))}")
        kind = gguf.GGUFValueType[names[types.pop()]]
        writer.add_key_value(key, value, *([gguf.GGUFValueType.ARRAY] * is_list), kind)
    for name, tensor in content.tensors.items():
        kind = gguf.GGMLQuantizationType[tensor.kind]
        count, size = gguf.GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(name, tensor.shape, np.dtype("f4"), tensor.size // count * size, raw_dtype=kind)

    def write(file: BinaryIO) -> None:
        try:
            writer.write_header_to_file(Path(file.name))  # opens the temporary file a second time
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for name, tensor in content.tensors.items():
                writer.write_tensor_data(_array(gguf, name, tensor))
        except (struct.error, OverflowError) as error:
            raise MiniloraError(f"the metadata holds a number that does not fit its type: {error}") from None
        finally:
            writer.close()

    write_atomic(path, write)


def _array(gguf: Any, name: str, tensor: StoredTensor) -> np.ndarray:
    """Return the array as the file stores it: for Q8_0, the bytes of its blocks."""
    array = tensor.read()
    if array.shape != tensor.shape:
        raise MiniloraError(f"{escape(name)} has the shape {array.shape}, not {tensor.shape}")
    kind = gguf.GGMLQuantizationType[tensor.kind]
    with np.errstate(all="ignore"):
        array = gguf.quants.quantize(np.ascontiguousarray(array, dtype="f4"), kind)
        scales = array.reshape(-1, 34)[:, :2].copy().view("f2") if tensor.kind == "Q8_0" else array
    if not np.isfinite(scales).all():
        raise MiniloraError(f"{escape(name)} has values that are too large for {tensor.kind}, infinite or NaN")
    return array
