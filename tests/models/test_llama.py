"""pytest tests/models/test_llama.py: the model family against transformers, and what must hold without it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from minilora import Tensor, backend, nn, no_grad, optim, tensor
from minilora.errors import FormatError, MiniloraError
from minilora.models.language_model import shifted
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.models.rotary import inverse_frequencies
from minilora.peft import LoraConfig, get_peft_model
from minilora.quant import quantize_model
from tests.helpers import strict

HERE = Path(__file__).parents[1] / "golden"
NAMES = ("grouped_tied", "biased", "plain")
GOLDEN = {name: load_file(HERE / f"llama_{name}.safetensors") for name in NAMES}
PAD = 1
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
TINY = dict(vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=32)  # fmt: skip
every_golden = pytest.mark.parametrize("name", NAMES)


def host(a) -> np.ndarray:
    return backend.to_numpy(a)


def golden_config(name: str) -> dict:
    with safe_open(HERE / f"llama_{name}.safetensors", framework="numpy") as file:
        return json.loads(file.metadata()["config"]) | {"eos_token_id": None, "bos_token_id": None}


def golden_weights(name: str) -> dict[str, np.ndarray]:
    return {key[7:]: a.astype("float32") for key, a in GOLDEN[name].items() if key.startswith("weight.")}


def golden_model(name: str) -> LlamaForCausalLM:
    model = LlamaForCausalLM(LlamaConfig.from_dict(golden_config(name)), seed=None)
    weights = golden_weights(name)
    del weights["score.weight"]
    model.load_state_dict(weights)
    return model.eval()


def tiny(seed: int = 0, scale: float = 20, **settings) -> LlamaForCausalLM:
    """Make a small model whose matrices are `scale` times as large as usual, so that its logits differ."""
    model = LlamaForCausalLM(LlamaConfig(**{**TINY, **settings}), seed=seed)
    for p in model.parameters():
        if p.ndim == 2:
            p.data = p.data * scale
    return model


def ids_of(*shape: int, seed: int = 0, vocab: int = 11) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, vocab, shape)


def close(a, b, relative: float = 2e-6) -> None:
    """Assert equality up to `relative` of the largest: products of one row and of many round differently."""
    np.testing.assert_allclose(a, b, rtol=0, atol=relative * np.abs(b).max())


class Given(nn.Module):
    """Stand-in for the embedding that returns a tensor made outside."""

    def __init__(self, hidden: Tensor):
        self.hidden = hidden

    def forward(self, ids):
        return self.hidden


# Against transformers


@every_golden
def test_classifier_of_transformers(name):
    golden = GOLDEN[name]
    config = LlamaConfig.from_dict(golden_config(name) | {"num_labels": 3, "pad_token_id": PAD})
    model = LlamaForSequenceClassification(config, seed=None)
    weights = golden_weights(name)
    weights.pop("lm_head.weight", None)
    model.load_state_dict(weights)
    for mask in (None, golden["class_ids"] != PAD):
        out = model(golden["class_ids"], attention_mask=mask, labels=golden["class_labels"])
        np.testing.assert_allclose(out.logits.numpy(), golden["class_logits"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(out.loss.item(), golden["class_loss"], rtol=1e-5)


@pytest.mark.slow
def test_a_hundred_adamw_steps_of_transformers():
    model, golden = golden_model("grouped_tied"), GOLDEN["grouped_tied"]
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for step in range(100):
        ids = golden["train_ids"][step % 4]
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, golden["train_loss"], rtol=0, atol=1e-3)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    "kind",
    [lambda a: a, backend.asarray, Tensor, lambda a: a.tolist(), lambda a: a.astype(np.uint16)],
    ids=["numpy", "backend", "tensor", "list", "without a sign"],
)
def test_ids_labels_and_masks_are_any_integers(kind):
    model, ids = tiny(), ids_of(2, 5)
    mask = np.array([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    out = model(kind(ids), attention_mask=kind(mask), labels=kind(ids))
    expected = model(ids, attention_mask=mask, labels=ids)
    assert out.loss.item() == expected.loss.item()
    np.testing.assert_array_equal(out.logits.numpy(), expected.logits.numpy())


# The loss


def test_loss_by_another_head_is_the_same():
    """A head that is not a plain Linear (LoRA on it, a bias) takes another path to the same loss and gradients."""
    ids = ids_of(2, 6)
    labels = np.where(ids == 4, -100, ids)
    for items in (None, 7):
        one, two = tiny(), tiny()
        two.lm_head = nn.Linear.from_arrays(two.lm_head.weight.data, backend.asarray(np.zeros(11, "float32")))
        a, b = (m(ids, labels=labels, num_items_in_batch=items).loss for m in (one, two))
        np.testing.assert_allclose(a.item(), b.item(), rtol=1e-6)
        a.backward()
        b.backward()
        close(host(two.lm_head.weight.grad), host(one.lm_head.weight.grad), 1e-5)


def test_logits_come_when_they_are_asked_for():
    model, ids = tiny(), ids_of(2, 6)
    expected = model(ids).logits.numpy()
    out = model(ids, labels=ids)
    np.testing.assert_array_equal(out.logits.numpy(), expected)
    assert out.logits is out.logits and out.logits.requires_grad
    out = model(ids, labels=ids)
    out.loss.backward()
    np.testing.assert_array_equal(out.logits.numpy(), expected)
    with no_grad():
        out = model(ids, labels=ids)
    assert not out.loss.requires_grad and not out.logits.requires_grad
    assert model(ids).loss is None


# Beginning


def test_fresh_weights():
    """Weights are normal with deviation initializer_range, norms 1 and biases 0; the first loss is near log V."""
    sizes = {**TINY, "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128}
    config = LlamaConfig(**sizes, initializer_range=0.03, attention_bias=True)
    model, same, other = (LlamaForCausalLM(config, seed=seed) for seed in (0, 0, 1))
    for (name, p), q, r in zip(model.named_parameters(), same.parameters(), other.parameters(), strict=True):
        a = p.numpy()
        np.testing.assert_array_equal(a, q.numpy())
        assert p.requires_grad and p.dtype == np.float32
        if name.endswith(("norm.weight", "bias")):
            np.testing.assert_array_equal(a, 0 if name.endswith("bias") else 1)
        else:
            assert a.std() == pytest.approx(0.03, rel=0.05) and abs(a.mean()) < 0.002 and (a != r.numpy()).any(), name
    ids = ids_of(2, 16, vocab=300)
    assert model(ids, labels=ids).loss.item() == pytest.approx(np.log(300), rel=0.05)


# Configuration


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"vocab_size": 0, "hidden_size": 0}, "vocab_size must be .*; hidden_size must be"),  # all at once
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"num_attention_heads": 3}, "3 heads"),
        ({"num_key_value_heads": 3, "num_attention_heads": 4}, "num_key_value_heads"),
        ({"hidden_size": True}, "True"),
        ({"hidden_size": 6, "num_attention_heads": 2}, "even"),
        ({"head_dim": 3}, "even"),
        ({"head_dim": "8"}, "head_dim"),
        ({"hidden_act": "x" * 500 + "\n"}, "…"),
        ({"rope_theta": 0.0, "rms_norm_eps": "1e-6", "initializer_range": float("inf")}, "rms_norm_eps"),
        ({"tie_word_embeddings": "no", "attention_bias": 2}, "attention_bias"),
        ({"num_labels": 0, "pad_token_id": "x", "eos_token_id": 1.5}, "eos_token_id"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused(settings, text):
    """The error is one line that names the field; from a file, it is a FormatError."""
    for make in (lambda: LlamaConfig(**{**TINY, **settings}), lambda: LlamaConfig.from_dict({**TINY, **settings})):
        with pytest.raises(MiniloraError, match=text) as error:
            make()
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_both_ways_to_write_the_rotary_base():
    for config in (
        {"rope_theta": 5000.0},
        {"rope_theta": 5000.0, "rope_scaling": None},
        {"rope_theta": 5000.0, "rope_scaling": {"type": "default"}},
        {"rope_parameters": {"rope_theta": 5000.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
    ):
        assert LlamaConfig.from_dict({**TINY, **config}).rope_theta == 5000.0
    assert LlamaConfig.from_dict(TINY).rope_theta == 10000.0


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gemma"},
        *(
            {"rope_scaling": scaling}
            for scaling in (
                {"rope_type": "linear", "factor": 2.0},
                LLAMA3 | {"factor": -2.0},
                {"rope_type": "yarn", "factor": 2.0},
                {"type": "dynamic", "factor": 2.0},
                LLAMA3 | {"low_freq_factor": 4.0},
                {"rope_type": "llama3", "factor": 8.0},
                "default",
            )
        ),
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0, "factor": 8.0}},
        {"model_type": "mistral", "sliding_window": "all"},
        *({"id2label": names} for names in (5, {"zero": "a"}, {"0": ["a"]})),
        {"id2label": None, "num_labels": None},
    ],
    ids=str,
)
def test_what_would_be_computed_wrongly_is_refused(config):
    with pytest.raises(MiniloraError):
        LlamaConfig.from_dict({**TINY, **config})


def test_scaled_frequencies():
    """Pairs that turn often within the original length keep their frequency; those below one turn are slowed fully."""
    plain = inverse_frequencies(16, 500.0)
    scaled, turns = inverse_frequencies(16, 500.0, LLAMA3), 64 * plain / (2 * np.pi)
    assert scaled.dtype == np.float32 and (turns > 4).any() and (turns < 1).any()
    for new, old, turned in zip(scaled, plain, turns, strict=True):
        share = min(max((turned - 1) / 3, 0), 1)
        np.testing.assert_allclose(new, (1 - share) * old / 8 + share * old, rtol=1e-6)


def test_families():
    """Settings that only Mistral or Qwen2 have survive a round trip under their own model types."""
    mistral = LlamaConfig.from_dict(
        {**TINY, "model_type": "mistral", "max_position_embeddings": 64, "sliding_window": 8}
    )
    assert mistral.max_position_embeddings == 8
    for off in ({"sliding_window": None}, {"sliding_window": 8, "use_sliding_window": False}):
        assert LlamaConfig.from_dict({**TINY, **off}).max_position_embeddings == tiny().config.max_position_embeddings
    qwen = LlamaForCausalLM(LlamaConfig.from_dict({**TINY, "model_type": "qwen2"}))
    names = dict(qwen.named_parameters())
    assert "model.layers.0.self_attn.q_proj.bias" in names and "model.layers.0.self_attn.o_proj.bias" not in names
    for config, name in ((mistral, "MistralForCausalLM"), (qwen.config, "Qwen2ForCausalLM")):
        written = json.loads(json.dumps(config.to_dict("LlamaForCausalLM")))
        assert written["architectures"] == [name] and written["sliding_window"] is None
        assert LlamaConfig.from_dict(written).model_type == written["model_type"] == config.model_type
    scaled = LlamaConfig.from_dict({**TINY, "rope_parameters": {"rope_theta": 500.0, **LLAMA3}})
    again = LlamaConfig.from_dict(json.loads(json.dumps(scaled.to_dict("LlamaForCausalLM"))))
    assert again.rope_scaling == scaled.rope_scaling == LLAMA3 and again.rope_theta == 500.0


def test_a_configuration_goes_round():
    config = LlamaConfig(**{**TINY, "head_dim": 6, "rope_theta": 123.0, "tie_word_embeddings": True, "num_labels": 4,
                            "eos_token_id": [2, 3], "pad_token_id": 0})  # fmt: skip
    for architecture in ("LlamaForCausalLM", "LlamaForSequenceClassification"):
        written = json.loads(json.dumps(config.to_dict(architecture)))
        assert written["architectures"] == [architecture] and written["model_type"] == "llama"
        again = LlamaConfig.from_dict(written)
        for name in vars(config):
            if name != "extra" and (name != "num_labels" or "Classification" in architecture):
                assert getattr(again, name) == getattr(config, name), name


# Files


@every_golden
def test_a_model_goes_round(name, tmp_path):
    model, ids = golden_model(name), GOLDEN[name]["input_ids"]
    model.save_pretrained(tmp_path / "model")
    again = LlamaForCausalLM.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again(ids).logits.numpy(), model(ids).logits.numpy())
    assert all(p.requires_grad for p in again.parameters()) and not again.training
    assert vars(again.config) | {"extra": {}} == vars(model.config) | {"extra": {}}
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert set(stored) == {path for path, _ in model.named_parameters()}
    assert ("lm_head.weight" in stored) != model.config.tie_word_embeddings
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_half_precision_on_disk(tmp_path):
    model, ids = tiny(), ids_of(1, 5)
    p = model.model.layers[0].mlp.down_proj.weight
    p.data = backend.asarray(p.numpy().T.copy()).T  # saved as it is, however it lies in memory
    model.save_pretrained(tmp_path, dtype=np.float16)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
    assert load_file(tmp_path / "model.safetensors")["lm_head.weight"].dtype == np.float16
    again = LlamaForCausalLM.from_pretrained(tmp_path)
    assert all(p.dtype == np.float32 for p in again.parameters())
    np.testing.assert_allclose(again(ids).logits.numpy(), model(ids).logits.numpy(), rtol=0.02, atol=0.02)


def test_what_a_file_cannot_hold_is_refused(tmp_path):
    model = tiny()
    model.lm_head.weight.data[0, 0] = 1e5
    model.save_pretrained(tmp_path / "whole")
    with pytest.raises(MiniloraError, match="lm_head.weight: values too large for float16, infinite or NaN"):
        model.save_pretrained(tmp_path / "half", dtype="float16")
    for other in ("int8", "bfloat16", "float", np.float64):
        with pytest.raises(MiniloraError, match="unknown dtype.*float32, float16"):
            model.save_pretrained(tmp_path / "other", dtype=other)
    adapted = get_peft_model(model, LoraConfig(r=2))
    with pytest.raises(MiniloraError, match="an adapter on it"):
        adapted.base_model.save_pretrained(tmp_path / "adapted")
    adapted.unload()
    sharing = get_peft_model(LlamaForSequenceClassification.from_language_model(model, 3), LoraConfig(r=2))
    with pytest.raises(MiniloraError, match="an adapter on it"):  # in its body
        model.save_pretrained(tmp_path / "shared")
    sharing.unload()
    with pytest.raises(MiniloraError, match="layers in 4 bits cannot be saved"):
        quantize_model(model).save_pretrained(tmp_path / "quantized")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_classifier_keeps_the_names_of_its_classes():
    names = {"0": "bad", "1": "fair", "2": "good"}
    config = LlamaConfig.from_dict({**TINY, "id2label": names})
    written = config.to_dict("LlamaForSequenceClassification")
    assert written["id2label"] == names and written["label2id"] == {"bad": 0, "fair": 1, "good": 2}
    by_number = LlamaConfig.from_dict({**TINY, "id2label": {0: "bad", 1: "good"}})  # as transformers has it in Python
    assert by_number.to_dict("LlamaForSequenceClassification")["label2id"] == {"bad": 0, "good": 1}
    fewer = replace(config, num_labels=2).to_dict("LlamaForSequenceClassification")
    assert fewer["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"num_labels": 1}, "num_labels=1"),
        ({"problem_type": "regression"}, "'regression'"),
        ({"problem_type": "multi_label_classification"}, "'multi_label_classification'"),
    ],
)
def test_a_classifier_has_no_loss_but_that_of_classes(fields, word, tmp_path):
    config = LlamaConfig.from_dict({**TINY, "num_labels": 3, **fields})
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    model, ids = LlamaForSequenceClassification.from_pretrained(tmp_path), ids_of(2, 5)  # its files say so, too
    assert model(ids).logits.shape == (2, model.config.num_labels)
    with pytest.raises(MiniloraError, match=f"only single-label classification.*{word}.*pass no labels"):
        model(ids, labels=np.array([0, 0]))


def test_a_classifier_goes_round_and_begins_from_the_folder_of_a_language_model(tmp_path):
    model, ids = (
        LlamaForSequenceClassification(LlamaConfig(**TINY, num_labels=5, pad_token_id=PAD), seed=1),
        ids_of(2, 5),
    )
    model.save_pretrained(tmp_path / "classifier")
    again = LlamaForSequenceClassification.from_pretrained(tmp_path / "classifier")
    assert again.config.num_labels == 5
    np.testing.assert_array_equal(again(ids).logits.numpy(), model(ids).logits.numpy())
    tiny().save_pretrained(tmp_path / "base")
    fresh = LlamaForSequenceClassification.from_pretrained(tmp_path / "base")
    np.testing.assert_array_equal(fresh.model(ids).numpy(), tiny().model(ids).numpy())
    assert np.isfinite(fresh(ids).logits.numpy()).all()


def rewrite(folder: Path, **config) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"hidden_size": 16, "head_dim": None}, "embed_tokens.weight"),
        ({"num_hidden_layers": 3}, "missing model.layers.2"),
        ({"num_hidden_layers": 1}, "unexpected model.layers.1"),
        ({"attention_bias": True}, "missing model.layers.0.self_attn.q_proj.bias"),
        ({"model_type": "gpt2"}, "gpt2"),
        ({"rope_scaling": {"rope_type": ["linear"]}}, "linear"),
        ({"vocab_size": "many"}, "vocab_size"),
        *(({name: 8 * 10**9}, "config.json claims") for name in ("vocab_size", "intermediate_size", "hidden_size")),
        ({"num_hidden_layers": 10**9}, "config.json claims"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_a_folder_that_does_not_fit_is_a_format_error(tmp_path, config, text):
    tiny().save_pretrained(tmp_path)
    rewrite(tmp_path, **config)
    with pytest.raises(FormatError, match=text) as error:
        LlamaForCausalLM.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_integers_for_weights_are_refused_by_name(tmp_path):
    """Loaded as floats, they would be weights that nobody trained."""
    tiny().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    whole = {name: array.astype("int32") for name, array in tensors.items()}
    for changed, words in [
        *((tensors | {"model.norm.weight": np.ones(8, dtype)}, rf"point numbers: model\.norm\.weight \({kind}\)")
          for dtype, kind in (("int8", "I8"), ("int64", "I64"), ("bool", "BOOL"))),
        (whole, r"\(I32\), .* and \d+ more$"),
    ]:  # fmt: skip
        save_file(changed, path)
        with pytest.raises(FormatError, match=words):
            LlamaForCausalLM.from_pretrained(tmp_path)


def test_names_from_a_file_are_escaped_and_cut_at_three_of_a_kind(tmp_path):
    tiny().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {name: array for name, array in load_file(path).items() if "layers.1" not in name}
    save_file(tensors | {f"\x1b[31m{i}": np.ones(8, "float32") for i in range(2000)}, path)
    with pytest.raises(FormatError) as caught:
        LlamaForCausalLM.from_pretrained(tmp_path)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500
    assert "and 6 more; unexpected \\x1b[31m0, \\x1b[31m1, \\x1b[31m10 and 1,997 more" in message


def test_labels_are_shifted_once_and_stay_as_they_were():
    labels = np.arange(8).reshape(2, 4)
    for virtual, rows in ((0, [[1, 2, 3, -100], [5, 6, 7, -100]]),
                          (1, [[0, 1, 2, 3, -100], [4, 5, 6, 7, -100]]),
                          (2, [[-100, 0, 1, 2, 3, -100], [-100, 4, 5, 6, 7, -100]])):  # fmt: skip
        targets = shifted(labels, (2, 4), virtual)
        np.testing.assert_array_equal(targets, rows)
        assert targets.flags.c_contiguous and not np.shares_memory(targets, labels)


def test_old_checkpoints_carry_rotary_frequencies(tmp_path):
    tiny().save_pretrained(tmp_path)
    path, name = tmp_path / "model.safetensors", "model.layers.0.self_attn.rotary_emb.inv_freq"
    save_file(load_file(path) | {name: np.ones(2, "float32")}, path)
    LlamaForCausalLM.from_pretrained(tmp_path)
    for nothing in (tmp_path / "nothing", str(tmp_path / "model.gguf")):
        with pytest.raises(FormatError):
            LlamaForCausalLM.from_pretrained(nothing)


# The classifier


def test_the_classifier_pools_the_last_real_token():
    """It is found by the mask, on either side; without a mask by pad_token_id; otherwise it is the last."""
    config = LlamaConfig(**TINY, num_labels=3)
    model = LlamaForSequenceClassification(config, seed=0)
    ids = ids_of(1, 4)
    alone = model(ids).logits.numpy()[0]
    right, left = np.array([[*ids[0], PAD, PAD]]), np.array([[PAD, PAD, *ids[0]]])
    close(model(right, attention_mask=right != PAD).logits.numpy()[0], alone)
    close(model(left, attention_mask=left != PAD).logits.numpy()[0], alone)
    assert np.abs(model(right).logits.numpy()[0] - alone).max() > 1e-4
    model.config.pad_token_id = PAD
    close(model(right).logits.numpy()[0], alone)
    np.testing.assert_array_equal(model(ids).logits.numpy()[0], alone)


def test_a_classifier_on_a_language_model_shares_its_body():
    base = tiny()
    model = LlamaForSequenceClassification.from_language_model(base, num_labels=4, seed=1)
    assert model.model is base.model and model.config.num_labels == 4 and base.config.num_labels == 2
    assert model.score.weight.shape == (4, 8) and model(ids_of(2, 3)).logits.shape == (2, 4)
    other = LlamaForSequenceClassification.from_language_model(base, num_labels=4, seed=2)
    assert (other.score.weight.numpy() != model.score.weight.numpy()).any()


# A training step


def training_step(model, ids, mask=None) -> None:
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        out = model(ids, attention_mask=mask, labels=ids)
        optimizer.zero_grad()
        out.loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("settings", [{}, {"tie_word_embeddings": True, "attention_bias": True}], ids=["plain", "tied"])
def test_a_training_step_waits_for_no_device_and_makes_no_float64(settings, masked, monkeypatch):
    """Every node and gradient is checked and, on the stand-in device, every array."""
    model, ids = tiny(**settings), ids_of(2, 5)
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]) if masked else None
    wide = []

    class Watched(tensor.Node):
        __slots__ = ()

        def __init__(self, array, edges, reads):
            super().__init__(array, [(inputs, self.watch(rule)) for inputs, rule in edges], reads)
            wide.extend(a.shape for a in [array] if a.dtype == np.float64)

        def watch(self, rule):
            def watched(g):
                results = rule(g)
                arrays = results if type(results) is tuple else (results,)
                wide.extend(a.shape for a in arrays if a is not None and a.dtype == np.float64)
                return results

            return watched

    create = strict.StrictArray.__init__

    def created(self, array):
        create(self, array)
        if array.dtype == np.float64:
            wide.append(array.shape)

    monkeypatch.setattr(tensor, "Node", Watched)
    monkeypatch.setattr(strict.StrictArray, "__init__", created)
    strict.reset_syncs()
    training_step(model, ids, mask)
    classifier = LlamaForSequenceClassification(LlamaConfig(**TINY, num_labels=3, pad_token_id=PAD), seed=0)
    classifier(ids, labels=np.array([0, -100])).loss.backward()
    assert strict.sync_count() == 0
    assert wide == []
    assert all(p.dtype == np.float32 and p.grad.dtype == np.float32 for p in model.parameters())
