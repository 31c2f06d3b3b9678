"""Writing GGUF files: `pytest tests/formats/test_gguf_writer.py`."""

import os

import numpy as np
import pytest

from minilora.errors import MiniloraError
from minilora.formats.gguf import GGUF, read_gguf, write_gguf
from minilora.formats.stored import StoredTensor

gguf = pytest.importorskip("gguf")

pytestmark = pytest.mark.host

METADATA = {
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
TENSORS = {
    "matrix": stored(MATRIX, "F16"),
    "turned": stored(MATRIX.T, "F16"),  # not contiguous
    "vector": stored(RNG.standard_normal(7, dtype="float32"), "F32"),
    "last": stored(RNG.standard_normal((2, 3, 4)), "F32"),
    "blocks": stored(ROWS, "Q8_0"),
}
KINDS = gguf.GGMLQuantizationType


def test_it_reads_what_was_written(tmp_path):
    write_gguf(tmp_path / "a.gguf", GGUF(METADATA, TENSORS))
    again = read_gguf(tmp_path / "a.gguf")
    assert again.metadata == METADATA and list(again.tensors) == list(TENSORS)
    for name, tensor in TENSORS.items():
        found, kind = again.tensors[name], KINDS[tensor.kind]
        raw = gguf.quants.quantize(tensor.read().astype("float32"), kind)
        assert (found.shape, found.kind) == (tensor.shape, tensor.kind)
        np.testing.assert_array_equal(found.read(), gguf.quants.dequantize(raw, kind).astype("float32"))
    error = np.abs(again.tensors["blocks"].read() - ROWS)[2].max()
    assert error <= np.abs(ROWS[2]).max() / 127 / 2 * 1.01


def test_its_types_are_those_of_llama_cpp(tmp_path):
    write_gguf(tmp_path / "a.gguf", GGUF(METADATA, TENSORS))
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    found = {name: " ".join(kind.name for kind in reader.fields[name].types[:2]) for name in METADATA}
    assert list(found.values()) == [
        *("STRING", "UINT32", "FLOAT32", "BOOL", "ARRAY STRING", "ARRAY INT32", "ARRAY FLOAT32"),
    ]
    for tensor in reader.tensors:
        wanted = TENSORS[tensor.name]
        assert tensor.data_offset % 32 == 0 and tensor.shape.tolist() == list(wanted.shape[::-1])
        assert tensor.tensor_type == KINDS[wanted.kind]


REFUSED = {
    "a scale that overflows": ({}, {"w": stored(np.full((1, 32), 1e7), "Q8_0")}, "w holds a number that Q8_0 cannot"),
    "an F16 that overflows": ({}, {"w": stored(np.full((1, 2), 7e4), "F16")}, "w holds a number that F16 cannot"),
    "not a number": ({}, {"w": stored(np.array([np.nan]), "F32")}, "w holds a number that F32 cannot"),
    "another shape": ({}, {"w": StoredTensor((3,), lambda: np.zeros(4), "F32")}, r"w has the shape \(4,\), not \(3,\)"),
    "below 0": ({"k": -1}, {}, "metadata holds a number"),
    "a list of two kinds": ({"k": [1, "a"]}, {}, "metadata of k cannot be .1"),
    "an empty list": ({"k": []}, {}, "metadata of k cannot be .."),
    "a float too large": ({"k": 1e300}, {}, "metadata holds a number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_leaves_nothing(tmp_path, name):
    metadata, wrong, words = REFUSED[name]
    with pytest.raises(MiniloraError, match=words) as caught:
        write_gguf(tmp_path / "a.gguf", GGUF(METADATA | metadata, TENSORS | wrong))
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []
