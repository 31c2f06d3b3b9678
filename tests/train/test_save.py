"""pytest tests/train/test_save.py: a model and its tokenizer as one GGUF file."""

import json

import numpy as np
import pytest

from minilora.errors import MiniloraError
from minilora.formats.gguf import GGUF, read_gguf, write_gguf
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.models.llama_gguf import gguf_of
from minilora.train.load import load_model
from minilora.train.save import save_gguf, save_model
from tests.data.test_gguf_tokenizer import byte_level

pytest.importorskip("gguf")

pytestmark = pytest.mark.host


def source(path, tokenizer: dict):
    """Write a GGUF file with a model and this tokenizer."""
    size = len(tokenizer["tokenizer.ggml.tokens"])
    config = LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    content = gguf_of(LlamaForCausalLM(config, seed=0))
    write_gguf(path, GGUF(content.metadata | tokenizer, content.tensors))
    return str(path)


def test_a_tokenizer_from_a_gguf_file_is_written_as_it_was(tmp_path):
    template = {"tokenizer.chat_template": "{{ messages }}"}
    path = source(tmp_path / "a.gguf", byte_level() | template)
    model, tokenizer = load_model(path)
    save_gguf(model, tokenizer, tmp_path / "b.gguf")
    first, second = read_gguf(tmp_path / "a.gguf").metadata, read_gguf(tmp_path / "b.gguf").metadata
    assert second.items() >= (byte_level() | template | {"general.name": "b"}).items()
    assert {k: v for k, v in second.items() if k.startswith("llama.")} == {
        k: v for k, v in first.items() if k.startswith("llama.")
    }
    again, words = load_model(str(tmp_path / "b.gguf"))
    ids = tokenizer.encode("the value 12")
    assert words.encode("the value 12").tolist() == ids.tolist()
    np.testing.assert_array_equal(again(ids[None]).logits.numpy(), model(ids[None]).logits.numpy())


def test_a_tokenizer_that_no_gguf_file_can_describe_is_refused(tmp_path):
    folder = str(save_model(*load_model(source(tmp_path / "a.gguf", byte_level())), tmp_path / "model"))
    file = tmp_path / "model" / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": {"type": "Lowercase"}}))
    with pytest.raises(MiniloraError, match="the tokenizer cannot be written as GGUF"):
        save_gguf(*load_model(folder), tmp_path / "no.gguf")
    assert not (tmp_path / "no.gguf").exists()
