"""Writing GGUF files by the `gguf` library, whole or not at all, with tensors in 8, 16 or 32 bits."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic
from minilora.formats.gguf import GGUF, library
from minilora.formats.stored import StoredTensor

BLOCK = {"F32": 1, "F16": 1, "Q8_0": 32}  # a tensor's kind -> how many numbers share a scale
_ALONE = {int: "UINT32", float: "FLOAT32", bool: "BOOL", str: "STRING"}  # Python's types -> a value's in the file
_IN_LISTS = {int: "INT32", float: "FLOAT32", str: "STRING"}


def write_gguf(path: str | os.PathLike[str], content: GGUF) -> None:
    """Write `content` to `path`. Each tensor is read, put into its kind (of BLOCK) and written before the next one.

    Whole numbers are stored as uint32, those in lists as int32, other numbers as float32. Needs the `gguf` extra.
    Errors: MiniloraError for a value that its type cannot hold, and where writing fails; what was at `path` before is
    then still there.
    """
    gguf = library()
    writer = gguf.GGUFWriter(None, "")
    writer.kv_data[0].clear()  # of the architecture, which is part of the content
    for key, value in content.metadata.items():
        is_list = isinstance(value, list)
        types, names = set(map(type, value if isinstance(value, list) else [value])), _IN_LISTS if is_list else _ALONE
        if len(types) != 1 or not types <= names.keys():
            raise MiniloraError(f"the metadata of {escape(key)} cannot be {escape(repr(value))}")
        kind = gguf.GGUFValueType[names[types.pop()]]
        writer.add_key_value(key, value, *([gguf.GGUFValueType.ARRAY] * is_list), kind)
    for name, tensor in content.tensors.items():
        kind = gguf.GGMLQuantizationType[tensor.kind]
        count, size = gguf.GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(name, tensor.shape, np.dtype("f4"), tensor.size // count * size, raw_dtype=kind)

    def write(file: BinaryIO) -> None:
        try:
            writer.write_header_to_file(Path(file.name))  # which opens the temporary file once more
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for name, tensor in content.tensors.items():
                writer.write_tensor_data(_array(gguf, name, tensor))
        except (struct.error, OverflowError) as error:
            raise MiniloraError(f"the metadata holds a number that its type cannot: {error}") from None
        finally:
            writer.close()

    write_atomic(path, write)


def _array(gguf: Any, name: str, tensor: StoredTensor) -> np.ndarray:
    """Return the array as it is in the file: of Q8_0, the bytes of its blocks."""
    array = tensor.read()
    if array.shape != tensor.shape:
        raise MiniloraError(f"{escape(name)} has the shape {array.shape}, not {tensor.shape}")
    kind = gguf.GGMLQuantizationType[tensor.kind]
    with np.errstate(all="ignore"):
        array = gguf.quants.quantize(np.ascontiguousarray(array, dtype="f4"), kind)
        scales = array.reshape(-1, 34)[:, :2].copy().view("f2") if tensor.kind == "Q8_0" else array
    if not np.isfinite(scales).all():
        raise MiniloraError(f"{escape(name)} holds a number that {tensor.kind} cannot: too large, or none at all")
    return array
