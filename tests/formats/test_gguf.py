"""GGUF files: `pytest tests/formats/test_gguf.py`."""

import os
import random
import struct
import sys

import numpy as np
import pytest

from minilora.errors import FormatError, MiniloraError
from minilora.formats.gguf import GGUF, read_gguf, write_gguf
from minilora.formats.stored import StoredTensor

gguf = pytest.importorskip("gguf")
from gguf import quants  # noqa: E402

from tests.formats.test_safetensors import mutate, time_limit  # noqa: E402

pytestmark = pytest.mark.host

KINDS = gguf.GGMLQuantizationType
METADATA = {
    "general.architecture": "llama",
    "llama.block_count": np.uint32(3),
    "llama.rope.freq_base": np.float32(1e5),
    "a.bool": True,
    "a.negative": -5,
    "tokens": ["a", "ä", ""],
    "numbers": [1, 2, 3],
}
SHAPES = {
    "w.q4": ((4, 64), KINDS.Q4_1),
    "w.q8": ((3, 32), KINDS.Q8_0),
    "w.f16": ((2, 5), KINDS.F16),
    "w.bf16": ((2, 3), KINDS.BF16),
    "w.f32": ((7,), KINDS.F32),
}


def write(path, metadata=METADATA, shapes=SHAPES, seed=0):
    """Write a file by the library's own writer, and return its tensors as the library dequantizes them."""
    writer = gguf.GGUFWriter(path, arch="llama")
    for key, value in metadata.items():
        if key == "general.architecture":
            continue
        add = {str: writer.add_string, bool: writer.add_bool, list: writer.add_array, int: writer.add_int32,
               np.uint32: writer.add_uint32, np.float32: writer.add_float32}[type(value)]  # fmt: skip
        add(key, value)
    rng, expected = np.random.default_rng(seed), {}
    for name, (shape, kind) in shapes.items():
        array = rng.standard_normal(shape, dtype=np.float32)
        raw = quants.quantize(array, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
        expected[name] = quants.dequantize(raw, kind).reshape(shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def test_values_and_metadata(tmp_path):
    expected = write(tmp_path / "model.gguf")
    file = read_gguf(tmp_path / "model.gguf")
    assert {key: file.metadata[key] for key in METADATA} == METADATA
    assert type(file.metadata["a.bool"]) is bool and type(file.metadata["llama.block_count"]) is int
    assert file.tensors.keys() == expected.keys()
    for name, array in expected.items():
        assert file.tensors[name].shape == array.shape and file.tensors[name].size == array.size
        read = file.tensors[name].read()
        assert read.dtype == np.float32 and read.flags.writeable
        np.testing.assert_array_equal(read, array)


def test_a_file_by_hand(tmp_path):
    """The layout of the file is written out byte by byte."""
    text = lambda s: struct.pack("<Q", len(s)) + s  # noqa: E731
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
    head += text(b"general.alignment") + struct.pack("<II", 4, 64)
    head += text(b"x") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ2h", 3, 2, -1, 7)
    head += text(b"w") + struct.pack("<IQQIQ", 2, 3, 2, 0, 64)  # 3 columns, 2 rows, F32, the second 64 bytes
    raw = head + b"\0" * (-len(head) % 64) + b"\xff" * 64 + np.arange(6, dtype="<f4").tobytes()
    (tmp_path / "a").write_bytes(raw)
    file = read_gguf(tmp_path / "a")
    assert file.metadata == {"general.alignment": 64, "x": [[-1, 7]]}
    np.testing.assert_array_equal(file.tensors["w"].read(), [[0, 1, 2], [3, 4, 5]])


def head(version=3, tensors=0, entries=0, rest=b""):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + rest


def entry(key=b"k", kind=4, value=b"\0\0\0\0"):
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def info(name=b"w", axes=(4,), kind=0, offset=0):
    return struct.pack(f"<Q{len(name)}sI{len(axes)}QIQ", len(name), name, len(axes), *axes, kind, offset)


BAD = {
    "empty": (b"", "ends at byte 0"),
    "another format": (b"PK\x03\x04" + b"\0" * 40, "does not begin with GGUF"),
    "version 1": (head(version=1), "version 1"),
    "more tensors than bytes": (head(tensors=2**62), "cannot hold"),
    "more entries than bytes": (head(entries=3), "cannot hold 3 metadata entries"),
    "a long key": (head(entries=1, rest=struct.pack("<Q", 2**63) + b"\0" * 40), "inside its head"),
    "a key twice": (head(entries=2, rest=entry() * 2), "twice"),
    "not UTF-8": (head(entries=1, rest=entry(key=b"\xff")), "not UTF-8"),
    "an unknown type": (head(entries=1, rest=entry(kind=77)), "unknown type 77"),
    "a long array": (head(entries=1, rest=entry(kind=9, value=struct.pack("<IQ", 4, 2**61))), "cannot hold"),
    "arrays of arrays of arrays": (
        head(entries=1, rest=entry(kind=9, value=struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 9, 1) * 9)),
        "unknown type 9",
    ),
    "alignment a text": (
        head(entries=1, rest=entry(key=b"general.alignment", kind=8, value=struct.pack("<Q1s", 1, b"8"))),
        "power of 2",
    ),
    "five axes": (head(tensors=1, rest=info(axes=(1,) * 5) + b"\0" * 64), "5 axes"),
    "a tensor twice": (head(tensors=2, rest=info() * 2 + b"\0" * 64), "twice"),
    "an impossible shape": (head(tensors=1, rest=info(axes=(2**40, 2**40)) + b"\0" * 64), "impossible shape"),
    "an empty axis that hides another": (head(tensors=1, rest=info(axes=(0, 2**63)) + b"\0" * 64), "impossible"),
    "an unknown quantization": (head(tensors=1, rest=info(kind=999) + b"\0" * 64), "quantization 999"),
    "one that the library knows and cannot read": (head(tensors=1, rest=info(kind=24) + b"\0" * 64), "quantization 24"),
    "rows that are not whole blocks": (head(tensors=1, rest=info(axes=(33,), kind=2) + b"\0" * 64), "whole blocks"),
    "a crooked offset": (head(tensors=1, rest=info(offset=4) + b"\0" * 99), "multiples of 32"),
    "cut short": (head(tensors=1, rest=info(axes=(400,)) + b"\0" * 64), "1,600 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed(tmp_path, name):
    raw, words = BAD[name]
    (tmp_path / "bad.gguf").write_bytes(raw)
    with time_limit(5), pytest.raises(FormatError, match=words) as caught:
        read_gguf(tmp_path / "bad.gguf")
    message = str(caught.value)
    assert "bad.gguf" in message and "\n" not in message and len(message) < 400


def test_cut_while_it_is_read(tmp_path):
    write(tmp_path / "model.gguf")
    tensors = read_gguf(tmp_path / "model.gguf").tensors
    os.truncate(tmp_path / "model.gguf", (tmp_path / "model.gguf").stat().st_size - 40)
    with pytest.raises(FormatError, match="became shorter"):
        for tensor in tensors.values():
            tensor.read()
    os.unlink(tmp_path / "model.gguf")
    with pytest.raises(FormatError, match="cannot read"):
        tensors["w.f32"].read()


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MiniloraError, match=r"pip install"):
        read_gguf(tmp_path / "model.gguf")


@pytest.mark.slow
def test_mutated_files_load_or_give_one_error(tmp_path):
    write(tmp_path / "whole")
    whole, rng, path = (tmp_path / "whole").read_bytes(), random.Random(0), tmp_path / "mutated"
    loaded = refused = 0
    with time_limit(60):
        for _ in range(5_000):
            path.write_bytes(mutate(whole, rng))
            try:
                for tensor in read_gguf(path).tensors.values():
                    assert tensor.read().shape == tensor.shape
            except FormatError as error:
                assert "mutated" in str(error) and "\n" not in str(error)
                refused += 1
            else:
                loaded += 1
    assert loaded > 500 and refused > 2_000


# Writing

WRITTEN = {
    "general.architecture": "llama",
    "llama.block_count": 2**32 - 1,
    "llama.rope.freq_base": 1e5,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.tokens": ["a", "ä", "", "Ġ"],
    "tokenizer.ggml.token_type": [1, -3],
    "tokenizer.ggml.scores": [0.5, -2.0],
}


def stored(array: np.ndarray, kind: str) -> StoredTensor:
    return StoredTensor(array.shape, lambda: array, kind)


RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((3, 5), dtype="float32")
ROWS = RNG.standard_normal((5, 96), dtype="float32") * np.float32([[1e-6], [1e-3], [1], [1e3], [6e4]])
TO_WRITE = {
    "matrix": stored(MATRIX, "F16"),
    "turned": stored(MATRIX.T, "F16"),  # not contiguous
    "vector": stored(RNG.standard_normal(7, dtype="float32"), "F32"),
    "last": stored(RNG.standard_normal((2, 3, 4)), "F32"),
    "blocks": stored(ROWS, "Q8_0"),
}


def test_it_reads_what_was_written(tmp_path):
    write_gguf(tmp_path / "a.gguf", GGUF(WRITTEN, TO_WRITE))
    again = read_gguf(tmp_path / "a.gguf")
    assert again.metadata == WRITTEN and list(again.tensors) == list(TO_WRITE)
    for name, tensor in TO_WRITE.items():
        read_back, kind = again.tensors[name], KINDS[tensor.kind]
        raw = gguf.quants.quantize(tensor.read().astype("float32"), kind)
        assert (read_back.shape, read_back.kind) == (tensor.shape, tensor.kind)
        np.testing.assert_array_equal(read_back.read(), gguf.quants.dequantize(raw, kind).astype("float32"))
    error = np.abs(again.tensors["blocks"].read() - ROWS)[2].max()
    assert error <= np.abs(ROWS[2]).max() / 127 / 2 * 1.01


def test_its_types_are_those_of_llama_cpp(tmp_path):
    write_gguf(tmp_path / "a.gguf", GGUF(WRITTEN, TO_WRITE))
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    types = {name: " ".join(kind.name for kind in reader.fields[name].types[:2]) for name in WRITTEN}
    assert list(types.values()) == [
        *("STRING", "UINT32", "FLOAT32", "BOOL", "ARRAY STRING", "ARRAY INT32", "ARRAY FLOAT32"),
    ]
    for tensor in reader.tensors:
        wanted = TO_WRITE[tensor.name]
        assert tensor.data_offset % 32 == 0 and tensor.shape.tolist() == list(wanted.shape[::-1])
        assert tensor.tensor_type == KINDS[wanted.kind]


UNWRITABLE = {
    "a scale that overflows": (
        {},
        {"w": stored(np.full((1, 32), 1e7), "Q8_0")},
        "w has values that are too large for Q8_0",
    ),
    "an F16 that overflows": (
        {},
        {"w": stored(np.full((1, 2), 7e4), "F16")},
        "w has values that are too large for F16",
    ),
    "not a number": (
        {},
        {"w": stored(np.array([np.nan]), "F32")},
        "w has values that are too large for F32, infinite or NaN",
    ),
    "another shape": ({}, {"w": StoredTensor((3,), lambda: np.zeros(4), "F32")}, r"w has the shape \(4,\), not \(3,\)"),
    "below 0": ({"k": -1}, {}, "metadata holds a number"),
    "a list of two kinds": ({"k": [1, "a"]}, {}, "metadata k cannot be stored: .1"),
    "a float too large": ({"k": 1e300}, {}, "metadata holds a number"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_cannot_be_written_leaves_nothing(tmp_path, name):
    metadata, wrong, words = UNWRITABLE[name]
    with pytest.raises(MiniloraError, match=words) as caught:
        write_gguf(tmp_path / "a.gguf", GGUF(WRITTEN | metadata, TO_WRITE | wrong))
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []
