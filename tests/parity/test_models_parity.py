"""pytest tests/parity/test_models_parity.py: files of models open on both sides, in minilora and in transformers.

What transformers computes is in golden/, for tests/models.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from minilora.models.gpt2 import GPT2Config  # noqa: E402
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification  # noqa: E402
from tests.golden import make_llama  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),  # theirs are not ours to mend
]
torch.set_num_threads(1)  # these models are too small to share
every_config = pytest.mark.parametrize("name", make_llama.CONFIGS)


def pair(name: str):
    """Make models with the same weights on both sides."""
    config, theirs = make_llama.CONFIGS[name], make_llama.build(make_llama.CONFIGS[name], 50)
    ours = LlamaForCausalLM(LlamaConfig.from_dict({**config, "eos_token_id": None}), seed=None)
    ours.load_state_dict({key: p.detach().numpy() for key, p in theirs.named_parameters()})
    return ours.eval(), theirs.eval()


def ids_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(2, 40, shape)


def logits_of(theirs, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return theirs(torch.from_numpy(ids)).logits.numpy()


def close(actual, expected, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


@every_config
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_transformers_opens_what_we_save(name, dtype, tmp_path):
    ours, _ = pair(name)
    ours.save_pretrained(tmp_path, dtype=dtype)
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    close(logits_of(theirs, ids_of(2, 9)), ours(ids_of(2, 9)).logits.numpy())  # the weights fit in float16
    config = theirs.config
    for field in ("vocab_size", "hidden_size", "num_key_value_heads", "head_dim", "rms_norm_eps", "tie_word_embeddings",
                  "attention_bias", "mlp_bias", "max_position_embeddings", "eos_token_id", "pad_token_id"):  # fmt: skip
        assert getattr(config, field) == getattr(ours.config, field), field
    assert config.rope_parameters["rope_theta"] == ours.config.rope_theta


@every_config
@pytest.mark.parametrize("saved", ["whole", "shards", "bfloat16", "float16"])
def test_we_open_what_transformers_saves(name, saved, tmp_path):
    _, theirs = pair(name)
    if saved in ("bfloat16", "float16"):
        theirs = theirs.to(getattr(torch, saved))
    theirs.save_pretrained(tmp_path, **({"max_shard_size": "10KB"} if saved == "shards" else {}))
    assert (tmp_path / "model.safetensors.index.json").exists() == (saved == "shards")
    ours = LlamaForCausalLM.from_pretrained(tmp_path)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    close(ours(ids_of(2, 9)).logits.numpy(), logits_of(theirs, ids_of(2, 9)))
    assert ours.config.rope_theta == theirs.config.rope_parameters["rope_theta"]


@every_config
def test_classifiers(name, tmp_path):
    config = {**make_llama.CONFIGS[name], "pad_token_id": make_llama.PAD}
    theirs = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**config, num_labels=4)).eval()
    ids = ids_of(3, 7)
    ids[0, 5:] = ids[1, 1:] = make_llama.PAD
    theirs.save_pretrained(tmp_path / "theirs")
    ours = LlamaForSequenceClassification.from_pretrained(tmp_path / "theirs")
    close(ours(ids).logits.numpy(), logits_of(theirs, ids))
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert again.config.num_labels == 4
    close(logits_of(again, ids), ours(ids).logits.numpy())


def test_defaults_of_configurations_agree(tmp_path):
    """A value that is unset on one side is unset on the other."""
    config = LlamaConfig(**make_llama.CONFIGS["plain"])
    LlamaForCausalLM(config, seed=0).save_pretrained(tmp_path)
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    defaults = transformers.LlamaConfig(**make_llama.CONFIGS["plain"])
    for field in ("bos_token_id", "eos_token_id", "pad_token_id", "rms_norm_eps", "initializer_range", "hidden_act",
                  "num_key_value_heads", "head_dim", "tie_word_embeddings", "rope_parameters"):  # fmt: skip
        assert getattr(theirs, field) == getattr(defaults, field), field
    ours, theirs = GPT2Config(), transformers.GPT2Config()
    for field in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "activation_function",
                  "layer_norm_epsilon", "initializer_range", "tie_word_embeddings", "bos_token_id", "eos_token_id",
                  "pad_token_id", "hidden_size", "num_hidden_layers", "num_attention_heads",
                  "max_position_embeddings"):  # fmt: skip
        assert getattr(ours, field) == getattr(theirs, field), field
