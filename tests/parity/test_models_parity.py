"""pytest tests/parity/test_models_parity.py: models next to transformers, and files that open on both sides."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from minilora import backend, optim  # noqa: E402
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel  # noqa: E402
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification  # noqa: E402
from tests.golden import make_gpt2, make_llama  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),  # theirs are not ours to mend
]
torch.set_num_threads(1)  # these models are too small to share
every_config = pytest.mark.parametrize("name", make_llama.CONFIGS)
every_model = pytest.mark.parametrize("name", [*make_llama.CONFIGS, *(f"gpt2 {name}" for name in make_gpt2.CONFIGS)])


def pair(name: str, seed: int = 50):
    """The same weights on both sides, without dropout."""
    if name.startswith("gpt2 "):
        config = make_gpt2.CONFIGS[name.removeprefix("gpt2 ")]
        theirs = make_gpt2.build(config, seed)
        ours = GPT2LMHeadModel(GPT2Config.from_dict({**config, "eos_token_id": None}), seed=None)
    else:
        config = make_llama.CONFIGS[name]
        theirs = make_llama.build(config, seed)
        ours = LlamaForCausalLM(LlamaConfig.from_dict({**config, "eos_token_id": None}), seed=None)
    weights = {key: p.detach().numpy() for key, p in theirs.named_parameters()}
    ours.load_state_dict({key: a.T if ours.is_transposed(key) else a for key, a in weights.items()})
    return ours.eval(), theirs.eval()


def ids_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, 40, shape)


def logits_of(theirs, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return theirs(torch.from_numpy(ids)).logits.numpy()


def close(found, expected, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


@every_model
@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (2, 24)])
def test_logits_loss_and_gradients(name, shape):
    ours, theirs = pair(name)
    ids = ids_of(*shape)
    close(ours(ids).logits.numpy(), logits_of(theirs, ids))
    if shape[1] == 1:
        return
    labels = np.where(ids % 5 == 0, -100, ids)
    loss = ours(ids, labels=labels).loss
    expected = theirs(torch.from_numpy(ids), labels=torch.from_numpy(labels)).loss
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-5)
    loss.backward()
    expected.backward()
    gradients = dict(theirs.named_parameters())
    for path, p in ours.named_parameters():
        a = gradients[path].grad.numpy()
        found = backend.to_numpy(p.grad)
        found = found.T if ours.is_transposed(path) else found
        np.testing.assert_allclose(found, a, rtol=0, atol=5e-5 * np.abs(a).max(), err_msg=path)


@every_model
def test_training(name):
    ours, theirs = pair(name)
    optimizer = optim.AdamW(ours.parameters(), **make_llama.TRAINING)
    other = torch.optim.AdamW(theirs.parameters(), **make_llama.TRAINING)
    for step in range(100):
        ids = ids_of(4, 12, seed=step % 3)
        loss, expected = ours(ids, labels=ids).loss, theirs(torch.from_numpy(ids), labels=torch.from_numpy(ids)).loss
        assert abs(loss.item() - expected.item()) <= 1e-3
        for o in (optimizer, other):
            o.zero_grad()
        loss.backward()
        expected.backward()
        optimizer.step()
        other.step()


@every_model
def test_greedy(name):
    ours, theirs = pair(name)
    padded, mask = make_llama.left_padded(ids_of(4, 9), (9, 6, 2, 1))
    settings = {"max_new_tokens": 15, "do_sample": False, "pad_token_id": make_llama.PAD}
    expected = theirs.generate(torch.from_numpy(padded), attention_mask=torch.from_numpy(mask), **settings).numpy()
    np.testing.assert_array_equal(ours.generate(padded, 15, attention_mask=mask, temperature=0), expected)


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 2.0}, {"top_k": 4}, {"top_p": 0.7}, {"temperature": 1.7, "top_k": 9, "top_p": 0.8}],
    ids=str,
)
def test_sampling_draws_from_their_distribution(settings):
    """transformers' own processors say how likely each token is; 4,000 draws say how often it comes."""
    ours, theirs = pair("plain")
    ids = ids_of(1, 5)
    scores = torch.from_numpy(logits_of(theirs, ids)[:, -1])
    for make, key in [(transformers.TemperatureLogitsWarper, "temperature"), (transformers.TopKLogitsWarper, "top_k"),
                      (transformers.TopPLogitsWarper, "top_p")]:  # fmt: skip
        if key in settings:
            scores = make(settings[key])(torch.from_numpy(ids), scores)
    expected = torch.softmax(scores, dim=-1)[0].numpy()
    rows = 4000
    drawn = ours.generate(np.repeat(ids, rows, axis=0), 1, seed=list(range(rows)), **settings)[:, -1]
    shares = np.bincount(drawn, minlength=40) / rows
    assert (shares[expected == 0] == 0).all()
    np.testing.assert_allclose(shares, expected, atol=0.03)


# Files


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


@pytest.mark.parametrize("name", make_gpt2.CONFIGS)
def test_transformers_opens_a_gpt2_that_we_save(name, tmp_path):
    theirs = make_gpt2.build(make_gpt2.CONFIGS[name], 50)
    theirs.save_pretrained(tmp_path / "theirs")
    read = GPT2LMHeadModel.from_pretrained(tmp_path / "theirs")
    fresh = GPT2LMHeadModel(GPT2Config(**make_gpt2.CONFIGS[name]), seed=3)
    for ours, dropout in ((read, 0.1), (fresh, 0)):  # 0.1: as it was read
        ours.save_pretrained(tmp_path / "ours")
        again, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
        assert not any(info.values()) and again.config.resid_pdrop == dropout
        close(logits_of(again, ids_of(2, 9)), ours(ids_of(2, 9)).logits.numpy())


def test_defaults_of_configurations_agree(tmp_path):
    """A value that is not set on one side is not set on the other."""
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
