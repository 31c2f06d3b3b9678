"""Writing GGUF files: `pytest tests/formats/test_gguf_writer.py`."""

import os

import numpy as np
import pytest

from minilora.errors import MiniloraError
from minilora.formats.gguf import GGUF, read_gguf
from minilora.formats.gguf_writer import write_gguf
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


def tensors() -> dict[str, StoredTensor]:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((3, 5), dtype="float32")
    return {
        "matrix": stored(matrix, "F16"),
        "turned": stored(matrix.T, "F16"),  # not contiguous
        "vector": stored(rng.standard_normal(7, dtype="float32"), "F32"),
        "last": stored(rng.standard_normal((2, 3, 4)), "F32"),
    }


def test_it_reads_what_was_written(tmp_path):
    write_gguf(tmp_path / "a.gguf", GGUF(METADATA, tensors()))
    again = read_gguf(tmp_path / "a.gguf")
    assert again.metadata == METADATA and list(again.tensors) == list(tensors())
    for name, tensor in tensors().items():
        found = again.tensors[name]
        expected = tensor.read().astype("float16" if tensor.kind == "F16" else "float32")
        assert (found.shape, found.kind) == (tensor.shape, tensor.kind)
        np.testing.assert_array_equal(found.read(), expected.astype("float32"))


def test_the_library_reads_it_with_llama_cpp_s_types(tmp_path):
    write_gguf(tmp_path / "a.gguf", GGUF(METADATA, tensors()))
    reader, types = gguf.GGUFReader(tmp_path / "a.gguf"), gguf.GGUFValueType
    assert {name: reader.fields[name].contents() for name in METADATA} == METADATA
    expected = {
        "general.architecture": [types.STRING],
        "llama.block_count": [types.UINT32],
        "llama.rope.freq_base": [types.FLOAT32],
        "tokenizer.ggml.add_bos_token": [types.BOOL],
        "tokenizer.ggml.tokens": [types.ARRAY, types.STRING],
        "tokenizer.ggml.token_type": [types.ARRAY, types.INT32],
        "tokenizer.ggml.scores": [types.ARRAY, types.FLOAT32],
    }
    for name, kinds in expected.items():
        assert reader.fields[name].types[: len(kinds)] == kinds, name
    for tensor in reader.tensors:
        wanted = tensors()[tensor.name]
        assert tensor.data_offset % 32 == 0 and tensor.shape.tolist() == list(wanted.shape[::-1])
        np.testing.assert_array_equal(tensor.data, wanted.read().astype(tensor.data.dtype))


def test_q8_0_is_what_the_library_makes_of_it(tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((5, 96), dtype="float32") * np.float32([[1e-6], [1e-3], [1], [1e3], [6e4]])
    rows[1, :32] = 0
    expected = gguf.quants.quantize(rows, gguf.GGMLQuantizationType.Q8_0)
    write_gguf(tmp_path / "a.gguf", GGUF({}, {"before": stored(rows[0, :3], "F32"), "w": stored(rows, "Q8_0")}))
    (_, tensor) = gguf.GGUFReader(tmp_path / "a.gguf").tensors
    assert tensor.tensor_type == gguf.GGMLQuantizationType.Q8_0 and tensor.shape.tolist() == [96, 5]
    np.testing.assert_array_equal(tensor.data, expected)
    again = read_gguf(tmp_path / "a.gguf").tensors["w"]
    np.testing.assert_array_equal(again.read(), gguf.quants.dequantize(expected, gguf.GGMLQuantizationType.Q8_0))
    assert np.abs(again.read() - rows)[2].max() <= np.abs(rows[2]).max() / 127 / 2 * 1.01


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
        write_gguf(tmp_path / "a.gguf", GGUF(METADATA | metadata, tensors() | wrong))
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []
