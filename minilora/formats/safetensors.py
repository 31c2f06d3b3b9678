"""The safetensors format: named arrays in one file, which can be checked before any array is read.

    8 bytes            N, the length of the header, little-endian
    N bytes            JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
                              "__metadata__": {"key": "text"}}, padded with spaces to a multiple of 8
    the rest           the arrays, C order, little-endian, end to end; offsets count from here

Specification: https://github.com/huggingface/safetensors#format. We do not use the library's writer, because
safetensors 0.8.0 scrambles the values of arrays that are not C-contiguous, leaves a temporary file behind if the
process is killed, and gives the file mode 0600. Tests check that both writers produce the same bytes.
"""

from __future__ import annotations

import json
import math
import os
from functools import partial
from typing import BinaryIO, NamedTuple

import numpy as np

from minilora.errors import FormatError, MiniloraError, escape
from minilora.formats.atomic import open_regular, parse_json, show_path, write_atomic
from minilora.formats.stored import StoredTensor

# In the order in which arrays lie in the file: widest first keeps every array aligned.
DTYPES: dict[str, np.dtype] = {
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: read as bits, widened to float32
    "F16": np.dtype("<f2"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
HEADER_LIMIT = 100_000_000  # bytes, the same as in the library
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}
_ORDER = {name: i for i, name in enumerate(DTYPES)}


class Entry(NamedTuple):
    """The location of an array: bytes `start` to `stop` of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def save_file(
    path: str | os.PathLike[str], tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None
) -> None:
    """Write `tensors` and `metadata` to `path` atomically (see `write_atomic`), without copying contiguous arrays.

    Raises MiniloraError for anything that the format cannot store, and if the file cannot be written.
    """
    metadata = metadata or {}
    if "__metadata__" in tensors or not all(isinstance(value, str) for value in metadata.values()):
        raise MiniloraError(
            "metadata must map text to text, and no tensor can be called __metadata__, where the file stores it"
        )
    arrays = {name: on_disk(name, array) for name, array in tensors.items()}
    arrays = dict(sorted(arrays.items(), key=lambda item: (_ORDER[_NAMES[item[1].dtype]], item[0])))

    fields: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, array in arrays.items():
        start, offset = offset, offset + array.nbytes
        fields[name] = {"dtype": _NAMES[array.dtype], "shape": array.shape, "data_offsets": [start, offset]}
    head = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)

    def write(file: BinaryIO) -> None:
        file.write(len(head).to_bytes(8, "little"))
        file.write(head)
        for array in arrays.values():
            file.write(array.reshape(-1).view(np.uint8).data)

    write_atomic(path, write)


def on_disk(name: str, array: np.ndarray) -> np.ndarray:
    """Return `array` as the file stores it: C order, little-endian. Raises MiniloraError for an unsupported dtype."""
    array = np.asarray(array)
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise MiniloraError(f"tensor {escape(name)} has dtype {array.dtype}, which safetensors cannot store")
    return np.asarray(array, dtype=dtype, order="C")  # np.ascontiguousarray would turn shape () into (1,)


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of the file at `path`, which need not be trusted.

    Each array is a writable copy in its own memory. F16 stays float16; BF16 becomes float32, exactly. The whole header
    is checked against the size of the file before the first array is allocated. Raises FormatError.
    """
    tensors, metadata = open_file(path)
    return {name: tensor.read() for name, tensor in tensors.items()}, metadata


def open_file(path: str | os.PathLike[str]) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Open a file as `load_file` does, but leave each array in it until its `read()`. Both raise FormatError."""
    with open_regular(path) as file:
        entries, metadata = _read_header(file, show_path(path))
    return {
        name: StoredTensor(e.shape, partial(_read_array, path, e), e.dtype) for name, e in entries.items()
    }, metadata


def _read_header(file: BinaryIO, where: str) -> tuple[dict[str, Entry], dict[str, str]]:
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise FormatError(f"{where} has {size} bytes, too few for a safetensors file")
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, HEADER_LIMIT):
        raise FormatError(
            f"{where} is not a safetensors file, or is cut off: its header needs {length:,} bytes of {size:,}"
        )
    fields = parse_json(file.read(length), f"{where}: the header")
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{where}: the metadata is not an object that maps text to text")

    end = data = 8 + length
    entries = {name: _entry(field, data, f"{where}: tensor {escape(name)}") for name, field in fields.items()}
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end:
            fault = "overlaps the one before it" if entry.start < end else "leaves a gap before it"
            raise FormatError(f"{where}: tensor {escape(name)} {fault} (byte {entry.start:,}, expected {end:,})")
        end = entry.stop
    if end != size:
        raise FormatError(f"{where}: its tensors need {end:,} bytes, but the file has {size:,}")
    return entries, metadata


def _entry(field: object, data: int, where: str) -> Entry:
    """Check the header's entry for one tensor, by itself. data: the byte where the arrays begin."""
    if not isinstance(field, dict) or not {"dtype", "shape", "data_offsets"} <= field.keys():
        raise FormatError(f"{where} lacks one of dtype, shape, data_offsets")
    dtype, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FormatError(f"{where} has dtype {escape(dtype)}; known: {', '.join(DTYPES)}")
    if not _are_counts(shape) or len(shape) > 32:
        raise FormatError(f"{where} has shape {escape(shape)}, not a list of at most 32 sizes")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise FormatError(f"{where} has data_offsets {escape(offsets)}, not two positions in the file")
    itemsize = DTYPES[dtype].itemsize
    # NumPy multiplies the other axes even when one of them is 0, in 64 bits.
    if math.prod(n or 1 for n in shape) * itemsize >= 2**63 or math.prod(shape) * itemsize != offsets[1] - offsets[0]:
        raise FormatError(f"{where}: shape {escape(shape)} of {dtype} does not fill bytes {escape(offsets)}")
    return Entry(dtype, tuple(shape), data + offsets[0], data + offsets[1])


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)  # True is not a count


def _read_array(path: str | os.PathLike[str], entry: Entry) -> np.ndarray:
    try:
        array = np.empty(entry.shape, DTYPES[entry.dtype])
    except MemoryError as error:  # a sparse file can pass the check of sizes
        raise FormatError(f"{show_path(path)} is larger than memory: {error}") from error
    raw = array.reshape(-1).view(np.uint8)
    with open_regular(path) as file:
        file.seek(entry.start)
        if file.readinto(raw.data) != array.nbytes:
            raise FormatError(f"{show_path(path)} became shorter while it was read")
    if entry.dtype == "BF16":  # bfloat16 is the upper half of a float32
        return (array.reshape(-1).astype(np.uint32) << 16).view(np.float32).reshape(entry.shape)
    if entry.dtype == "BOOL":  # only 0 and 1 are booleans to NumPy; a file may hold any byte
        return (raw != 0).reshape(entry.shape)
    return array
