"""pytest tests/parity/test_gguf_parity.py: transformers opens the GGUF files that minilora writes."""

import numpy as np
import pytest

from minilora.data.tokenizer import Tokenizer, train_tokenizer
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.train.load import load_model
from minilora.train.save import save_gguf, save_model

pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.parity, pytest.mark.host]

SIZES = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=128, rms_norm_eps=1e-5, initializer_range=0.2, bos_token_id=0,
             eos_token_id=0)  # fmt: skip
TEXT = "The function number 12 returns   the value of its argument,\n\n\tsee the other: it isn't 345."
VARIANTS = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", "attention_bias": True},
    "mistral": {"model_type": "mistral"},
    "wide heads": {"head_dim": 24},
}


def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT, TEXT.replace("value", "list")] * 20, 320)


def written(folder, **settings) -> tuple[LlamaForCausalLM, Tokenizer]:
    """Save a model in `folder`, also as model.gguf."""
    words = tokenizer()
    model = LlamaForCausalLM(LlamaConfig(vocab_size=words.vocab_size + 3, **SIZES | settings), seed=0)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        if p.ndim == 1:
            p.data = p.data + 0.3 * rng.standard_normal(p.shape, dtype="float32")
        else:
            p.data = p.data.astype("float16").astype("float32")
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    save_gguf(model, words, folder / "model.gguf")
    return model.eval(), words


def opens_alike(folder, **settings) -> None:
    model, words = written(folder, **settings)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    their_words = transformers.AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    ids = their_words(TEXT, add_special_tokens=False)["input_ids"]
    assert ids == words.encode(TEXT).tolist()
    assert (their_words.eos_token_id, theirs.config.eos_token_id) == (0, 0)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits.numpy()
    logits = model(np.array([ids])).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    again, _ = load_model(str(folder / "model.gguf"))
    np.testing.assert_array_equal(again(np.array([ids])).logits.numpy(), logits)


@pytest.mark.parametrize("name", VARIANTS)
def test_transformers_opens_what_is_written(tmp_path, name):
    opens_alike(tmp_path, **VARIANTS[name])


def test_the_chat_template_arrives(tmp_path):
    words = tokenizer()
    words.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    model = LlamaForCausalLM(LlamaConfig(vocab_size=words.vocab_size, **SIZES), seed=0)
    save_model(model, words, tmp_path / "folder")
    save_gguf(*load_model(str(tmp_path / "folder")), tmp_path / "model.gguf")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert theirs.chat_template == words.chat_template
    assert load_model(str(tmp_path / "model.gguf"))[1].chat_template == words.chat_template
