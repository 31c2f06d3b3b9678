"""pytest tests/train/test_save.py: a model and its tokenizer as one GGUF file."""

import numpy as np
import pytest

from minilora.errors import MiniloraError
from minilora.formats.gguf import GGUF, read_gguf
from minilora.formats.gguf_writer import write_gguf
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.models.llama_gguf import gguf_of
from minilora.train.load import load_model
from minilora.train.save import save_gguf, save_model
from tests.data.test_gguf_tokenizer import byte_level, sentencepiece

pytest.importorskip("gguf")

pytestmark = pytest.mark.host

OF_THE_FILE = {"general.name": "A model", "general.license": "apache-2.0", "general.quantized_by": "somebody"}


def source(path, tokenizer: dict):
    """A GGUF file with a model and this tokenizer."""
    size = len(tokenizer["tokenizer.ggml.tokens"])
    config = LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    content = gguf_of(LlamaForCausalLM(config, seed=0))
    write_gguf(path, GGUF(content.metadata | OF_THE_FILE | tokenizer, content.tensors))
    return str(path)


@pytest.mark.parametrize("kind", [byte_level, sentencepiece])
def test_a_tokenizer_from_a_gguf_file_is_carried_over(tmp_path, kind):
    template = {"tokenizer.chat_template": "{{ messages }}", "tokenizer.ggml.eot_token_id": 2}
    given = source(tmp_path / "a.gguf", kind() | template)
    model, tokenizer = load_model(given)
    save_gguf(model, tokenizer, tmp_path / "b.gguf", given)
    first, second = read_gguf(tmp_path / "a.gguf").metadata, read_gguf(tmp_path / "b.gguf").metadata
    assert {k: v for k, v in second.items() if k.startswith("tokenizer.")} == kind() | template
    assert (
        second["general.name"] == "b"
        and second["general.license"] == "apache-2.0"
        and "general.quantized_by" not in second
    )
    shape = lambda of: {k: v for k, v in of.items() if k.startswith("llama.")}  # noqa: E731
    assert shape(second) == shape(first)
    again, words = load_model(str(tmp_path / "b.gguf"))
    ids = tokenizer.encode("the value 12")
    assert words.encode("the value 12").tolist() == ids.tolist()
    np.testing.assert_array_equal(again(ids[None]).logits.numpy(), model(ids[None]).logits.numpy())


def test_a_tokenizer_json_of_bytes_is_described_and_another_refused(tmp_path):
    for kind in (byte_level, sentencepiece):
        folder = str(save_model(*load_model(source(tmp_path / "a.gguf", kind())), tmp_path / kind.__name__))
        model, tokenizer = load_model(folder)
        if kind is sentencepiece:
            with pytest.raises(MiniloraError, match="the tokenizer cannot be written as GGUF"):
                save_gguf(model, tokenizer, tmp_path / "no.gguf", folder)
            continue
        save_gguf(model, tokenizer, tmp_path / "b.gguf", folder)
        assert read_gguf(tmp_path / "b.gguf").metadata.items() >= kind(add_bos_token=False).items()
    assert not (tmp_path / "no.gguf").exists()
