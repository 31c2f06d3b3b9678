"""pytest tests/peft/test_prefix.py: prefix tuning: what a prefix is, starts, the projection, generation, files."""

import json

import numpy as np
import pytest

from minilora import backend, nn, no_grad, optim, quant, threads
from minilora.errors import FormatError, MiniloraError
from minilora.formats import safetensors
from minilora.gradcheck import gradcheck
from minilora.models.cache import KVCache
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.peft import LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, get_peft_model
from minilora.tensor import Tensor
from minilora.train.parallel import batch_gradients
from tests.helpers import strict
from tests.helpers.peft_invariants import edit_config, edit_tensors, same, state
from tests.peft.test_model import refused

SEEDS = [0, 1, 2]
SIZES = {"vocab_size": 40, "initializer_range": 0.3, "max_position_embeddings": 32, "eos_token_id": None}
MODELS = {
    "grouped, tied": {
        **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "tie_word_embeddings": True},
        **{"num_attention_heads": 4, "num_key_value_heads": 2},
    },
    "biases, wide": {
        **{"hidden_size": 18, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3},
        **{"attention_bias": True},
    },
    "one key head, deep": {
        **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "head_dim": 6},
        **{"num_attention_heads": 2, "num_key_value_heads": 1},
    },
}
WIDTHS = {"grouped, tied": 2 * 2 * 2 * 4, "biases, wide": 2 * 1 * 3 * 6, "one key head, deep": 2 * 3 * 1 * 6}
IDS = np.random.default_rng(9).integers(1, 40, (3, 7))
MASK = np.array([[1] * 7, [0, 0] + [1] * 5, [0] * 6 + [1]])
P = 3
FIRST = [5, 30, 12]  # tokens to start from
models = pytest.mark.parametrize("model", MODELS)
seeds = pytest.mark.parametrize("seed", SEEDS)
PROJECTION = {"prefix_projection": True, "encoder_hidden_size": 5}
kinds = pytest.mark.parametrize("options", [{}, PROJECTION], ids=["plain", "projection"])
KIND = [{}, PROJECTION, {"init_token_ids": FIRST}]  # where each seed may take another


def base_of(model: str = "grouped, tied", seed: int = 0) -> LlamaForCausalLM:
    base = LlamaForCausalLM(LlamaConfig(**SIZES, **MODELS[model]), seed=seed)
    rng = np.random.default_rng(seed)
    for name, p in base.named_parameters():
        if name.endswith("bias"):
            p.data = backend.asarray(rng.standard_normal(p.shape).astype("float32"))
    return base


def classifier_of(model: str = "grouped, tied", seed: int = 0) -> LlamaForSequenceClassification:
    return LlamaForSequenceClassification.from_language_model(base_of(model, seed), num_labels=3, seed=5)


def adapted(model: str = "grouped, tied", seed: int = 0, **options) -> PeftModel:
    return get_peft_model(base_of(model, seed), PrefixTuningConfig(**{"num_virtual_tokens": P, **options}), seed=seed)


def logits(model, ids=IDS, **settings) -> np.ndarray:
    with no_grad():
        return model(ids, **settings).logits.numpy()


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 2e-6) -> None:
    """Equal up to `tolerance` of the largest."""
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def train(model, steps: int = 3, lr: float = 0.05, ids=IDS, labels=IDS) -> PeftModel:
    """Some steps of AdamW over everything that the model has."""
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(ids, labels=labels).loss.backward()
        optimizer.step()
    return model


def prompt(model) -> np.ndarray:
    return model.base_model.model.prompt_embeddings.numpy()


# What a prefix is


@models
@seeds
def test_the_keys_and_values_of_tokens_are_worth_the_tokens(model, seed):
    """The layout on disk, by hand: (P, 2L, H_kv, D), keys at 2l and as attention uses them, values at 2l + 1."""
    base = base_of(model, seed)
    cache = KVCache(P)
    with no_grad():
        base.model(np.array([FIRST]), past_key_values=cache)
    by_hand = np.zeros((P, WIDTHS[model]), "float32")
    heads, size = base.config.num_key_value_heads, base.config.head_dim
    for layer in range(base.config.num_hidden_layers):
        for which, array in enumerate(cache._layers[layer]):
            host = backend.to_numpy(array)  # (1, H_kv, P, D)
            for position in range(P):
                for head in range(heads):
                    start = ((2 * layer + which) * heads + head) * size
                    by_hand[position, start : start + size] = host[0, head, position]

    read = logits(base, np.concatenate([np.tile(FIRST, (3, 1)), IDS], axis=1))[:, P:]
    m = adapted(model, seed)
    assert np.abs(logits(m) - read).max() > 0.05
    m.base_model.model.prompt_embeddings.data = backend.asarray(by_hand)
    close(logits(m), read, 5e-6)
    started = adapted(model, seed, init_token_ids=FIRST)
    np.testing.assert_array_equal(prompt(started), by_hand)
    close(logits(started), read, 5e-6)


@models
def test_outputs_are_those_of_the_tokens_and_the_future_is_not_seen(model):
    m = adapted(model)
    out = logits(m)
    assert out.shape == (3, 7, 40) and out.dtype == np.float32
    changed = IDS.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % 40
    np.testing.assert_array_equal(logits(m, changed)[:, :4], out[:, :4])


@models
@seeds
def test_every_layer_and_each_virtual_token_counts(model, seed):
    m = adapted(model, seed)
    m(IDS, labels=IDS).loss.backward()
    layers = m.config.num_hidden_layers
    g = backend.to_numpy(m.base_model.model.prompt_embeddings.grad).reshape(P, 2 * layers, -1)
    assert (np.abs(g).max(axis=-1) > 0).all()


@kinds
@models
def test_gradients(model, options):
    m = adapted(model, **options)
    for p in m.parameters():
        p.data = p.numpy().astype("float64")
    layer = m.base_model.model
    holder = layer if layer.prompt_encoder is None else layer.prompt_encoder.up
    name = "prompt_embeddings" if layer.prompt_encoder is None else "weight"

    def loss(p):
        setattr(holder, name, p)
        return m(IDS, attention_mask=MASK, labels=np.where(MASK, IDS, -100)).loss

    gradcheck(loss, Tensor(getattr(holder, name).numpy(), requires_grad=True), rtol=1e-5)


def test_float64_stays_float64():
    for options in ({}, PROJECTION, {"init_token_ids": FIRST}, {"init_weights": "zero"}):
        base = base_of()
        for p in base.parameters():
            p.data = p.numpy().astype("float64")
        m = get_peft_model(base, PrefixTuningConfig(num_virtual_tokens=P, **options))
        assert {p.dtype.name for p in m.parameters()} == {"float64"}
        assert m(IDS).logits.dtype == np.float64


# What trains


@kinds
@models
def test_as_many_train_as_the_formula_says_and_the_loss_falls(model, options):
    m = adapted(model, **options)
    width, d = WIDTHS[model], WIDTHS[model] // (2 * m.config.num_hidden_layers)
    count = P * d + 5 * (d + 1) + width * (5 + 1) if options else P * width
    assert m.get_nb_trainable_parameters() == (count, count + sum(p.size for p in base_of(model).parameters()))
    assert sum(p.requires_grad for p in m.parameters()) == (5 if options else 1)
    loss = m(IDS, labels=IDS).loss.item()
    assert train(m)(IDS, labels=IDS).loss.item() < loss
    assert all(p.grad is None for p in m.base_model.model.base_layer.parameters())


@models
def test_the_projection_leaves_the_base_alone_too(model):
    """What the promises of every method say of a prefix, of the MLP that makes one: it is not what is saved."""
    before, base = state(base_of(model)), logits(base_of(model))
    m = adapted(model, **PROJECTION)
    start = state(m)
    trained = logits(train(m))
    after, live = state(m), {name for name, p in m.named_parameters() if p.requires_grad}
    assert {name for name in after if not np.array_equal(start[name], after[name])} == live
    assert np.abs(trained - base).max() > 0.05
    with m.disable_adapter():
        assert same(state(m.base_model), before)
        np.testing.assert_array_equal(logits(m), base)
    np.testing.assert_array_equal(logits(m), trained)
    modules = dict(m.base_model.model.base_layer.named_modules())
    plain = m.unload()
    assert dict(plain.model.named_modules()) == modules
    np.testing.assert_array_equal(logits(plain), base)


def test_a_tied_head_stays_tied(tmp_path):
    m = train(adapted("grouped, tied"))
    assert (
        m.config.tie_word_embeddings
        and m.base_model.lm_head.weight is m.base_model.model.base_layer.embed_tokens.weight
    )
    m.save_pretrained(tmp_path)
    assert "minilora.untied" not in safetensors.load_file(tmp_path / "adapter_model.safetensors")[1]


def test_a_norm_inside_the_body_can_train_along(tmp_path):
    m = train(adapted(modules_to_save=["model.norm"]))
    assert not np.array_equal(m.base_model.model.base_layer.norm.weight.numpy(), np.ones(16))
    expected = logits(m)
    m.save_pretrained(tmp_path)
    np.testing.assert_array_equal(logits(PeftModel.from_pretrained(base_of(), tmp_path)), expected)
    np.testing.assert_array_equal(logits(m.unload()), logits(base_of()))


def test_over_four_bits():
    base = base_of("grouped, tied")
    quant.quantize_model(base, blocksize=32)
    plain = logits(base)
    m = get_peft_model(base, PrefixTuningConfig(num_virtual_tokens=P, init_token_ids=FIRST))
    read = logits(base_quantized(), np.concatenate([np.tile(FIRST, (3, 1)), IDS], axis=1))[:, P:]
    close(logits(m), read, 5e-6)
    trained = logits(train(m))
    assert np.abs(trained - read).max() > 0.05
    with m.disable_adapter():
        np.testing.assert_array_equal(logits(m), plain)
    assert m.get_nb_trainable_parameters()[1] == P * 32 + sum(p.size for p in base_of().parameters())


def base_quantized():
    base = base_of("grouped, tied")
    quant.quantize_model(base, blocksize=32)
    return base


def test_a_training_step_waits_for_no_device():
    m = adapted(**PROJECTION)
    strict.reset_syncs()
    train(m, steps=1)
    assert strict.sync_count() == 0


def test_shards_add_up():
    gradients = []
    for count in (1, 2):
        m = adapted()
        with threads.using(count):
            batch_gradients(m, [{"input_ids": IDS, "labels": IDS}])
        gradients.append(backend.to_numpy(m.base_model.model.prompt_embeddings.grad))
    close(gradients[1], gradients[0], 1e-5)
    m = adapted()
    m(IDS, labels=IDS).loss.backward()
    close(gradients[0], backend.to_numpy(m.base_model.model.prompt_embeddings.grad), 1e-5)
    assert m.count_targets(IDS) == 18


# Starts


def test_starts():
    normal = prompt(adapted(num_virtual_tokens=30))
    assert abs(normal.mean()) < 0.1 and abs(normal.std() - 1) < 0.1
    np.testing.assert_array_equal(normal, prompt(adapted(num_virtual_tokens=30)))
    base = base_of()
    assert not np.array_equal(normal, prompt(get_peft_model(base, PrefixTuningConfig(num_virtual_tokens=30), seed=1)))
    assert not prompt(adapted(init_weights="zero")).any()

    encoder = adapted(**PROJECTION).base_model.model.prompt_encoder
    assert encoder.embedding.weight.shape == (P, 8) and encoder.up.weight.shape == (32, 5)
    e, (w1, b1), (w2, b2) = (
        encoder.embedding.weight.numpy(),
        *((part.weight.numpy(), part.bias.numpy()) for part in (encoder.down, encoder.up)),
    )
    np.testing.assert_allclose(encoder().numpy(), np.tanh(e @ w1.T + b1) @ w2.T + b2, rtol=1e-4, atol=1e-5)
    zero = adapted(init_weights="zero", **PROJECTION).base_model.model
    assert not zero.prefix().numpy().any() and zero.prompt_encoder.embedding.weight.numpy().any()
    wide = adapted(prefix_projection=True).base_model.model.prompt_encoder
    assert wide.down.out_features == 8  # encoder_hidden_size: H_kv · D


def test_a_start_from_tokens_does_not_change_the_base_or_its_gradients():
    base = base_of()
    base(IDS, labels=IDS).loss.backward()
    before, grads = state(base), {id(p): p.grad for p in base.parameters()}
    get_peft_model(base, PrefixTuningConfig(num_virtual_tokens=P, init_token_ids=FIRST))
    assert same(
        state(base.model.base_layer),
        {name.removeprefix("model."): a for name, a in before.items() if "lm_head" not in name},
    )
    assert all(p.grad is grads[id(p)] for p in base.model.base_layer.parameters())


# Batches, generation


@models
@seeds
def test_a_row_in_a_left_padded_batch_gives_what_it_gives_alone(model, seed):
    m = adapted(model, seed, **KIND[seed])
    out = logits(m, np.where(MASK, IDS, 0), attention_mask=MASK)
    np.testing.assert_array_equal(logits(m, np.where(MASK, IDS, 7), attention_mask=MASK)[MASK == 1], out[MASK == 1])
    text = m.generate(np.where(MASK, IDS, 0), 6, attention_mask=MASK, temperature=0)
    for row, real in enumerate(MASK == 1):
        close(out[row][real], logits(m, IDS[row : row + 1, real])[0], 5e-6)
        alone = m.generate(IDS[row : row + 1, real], 6, temperature=0)[0]
        np.testing.assert_array_equal(text[row, 7:], alone[real.sum() :])


@models
@seeds
def test_with_the_cache_as_without(model, seed):
    m = train(adapted(model, seed, **KIND[seed]))
    for mask in (None, MASK):
        whole = logits(m, attention_mask=mask)
        for pieces in ([7], [3, 1, 1, 2]):
            cache, seen = KVCache(P + 7), []
            for length in pieces:
                end = sum(a.shape[1] for a in seen) + length
                part_mask = None if mask is None else mask[:, :end]
                seen.append(logits(m, IDS[:, end - length : end], attention_mask=part_mask, past_key_values=cache))
            real = np.ones(IDS.shape, bool) if mask is None else MASK == 1
            assert cache.length == P + 7
            close(np.concatenate(seen, axis=1)[real], whole[real], 5e-6)
    text = m.generate(IDS[:, :3], 8, temperature=0)
    for end in range(3, 11):
        np.testing.assert_array_equal(logits(m, text[:, :end])[:, -1].argmax(axis=1), text[:, end])


def test_rows_that_end_leave_the_cache():
    m = adapted()
    free = m.generate(IDS, 8, temperature=0)
    eos = int(free[0, 8])
    out = m.generate(IDS, 8, temperature=0, eos_token_id=eos, pad_token_id=0)
    assert (out[0, 9:] == 0).all()
    for row in range(3):
        alone = m.generate(IDS[row : row + 1], 8, temperature=0, eos_token_id=eos, pad_token_id=0)[0]
        np.testing.assert_array_equal(out[row, : len(alone)], alone)


def test_virtual_tokens_take_positions():
    m = adapted(num_virtual_tokens=20)
    assert m.generate(IDS, 5).shape == (3, 12)
    with pytest.raises(MiniloraError, match="20 virtual tokens, a prompt of 7 and 6 new tokens pass the model's 32"):
        m.generate(IDS, 6)
    logits(m, np.ones((1, 12), int))
    with pytest.raises(MiniloraError, match="20 virtual tokens and 13 tokens pass the model's 32 positions; shorten"):
        logits(m, np.ones((1, 13), int))
    cache = KVCache(40)
    logits(m, np.ones((1, 12), int), past_key_values=cache)
    with pytest.raises(MiniloraError, match="20 virtual tokens and 13 tokens"):
        logits(m, np.ones((1, 1), int), past_key_values=cache)
    with pytest.raises(MiniloraError, match="cache of 26 positions cannot take 27"):
        logits(m, past_key_values=KVCache(26))


# Classification


def check_classifier(model: str, seed: int, config: PeftConfig, width: int, folder) -> None:
    """It pools the last real token on whichever side the padding is, its head trains, and its file holds both."""
    m = get_peft_model(classifier_of(model, seed), config, seed=seed)
    assert m.peft_config.task_type == "SEQ_CLS" and not m.notes
    assert m.count_targets(np.array([0, -100, 2])) == 2
    train(m, labels=np.array([0, 1, 2]))
    out = logits(m)
    assert out.shape == (3, 3)
    right = np.where(MASK[:, ::-1], np.take_along_axis(IDS, np.argsort(1 - MASK, axis=1, kind="stable"), axis=1), 0)
    for ids, mask in ((np.where(MASK, IDS, 0), MASK), (right, MASK[:, ::-1])):
        both = logits(m, ids, attention_mask=mask)
        for row, real in enumerate(MASK == 1):
            close(both[row], logits(m, IDS[row : row + 1, real])[0], 1e-5)
    assert not np.array_equal(m.base_model.score.weight.numpy(), classifier_of(model, seed).score.weight.numpy())

    m.save_pretrained(folder)
    tensors, _ = safetensors.load_file(folder / "adapter_model.safetensors")
    shapes = {name: array.shape for name, array in tensors.items()}
    hidden = MODELS[model]["hidden_size"]
    assert shapes == {"prompt_embeddings": (config.num_virtual_tokens, width), "base_model.score.weight": (3, hidden)}
    np.testing.assert_array_equal(logits(PeftModel.from_pretrained(classifier_of(model, seed), folder)), out)
    with m.disable_adapter():
        np.testing.assert_array_equal(logits(m), logits(classifier_of(model, seed)))


@models
@seeds
def test_a_classifier_pools_the_last_real_token_and_its_head_trains(model, seed, tmp_path):
    check_classifier(model, seed, PrefixTuningConfig(num_virtual_tokens=P), WIDTHS[model], tmp_path)


# Files


@models
@pytest.mark.parametrize("options", KIND[1:], ids=["projection", "tokens"])
def test_a_round_trip_of_the_other_starts_is_exact(model, options, tmp_path):
    m = train(adapted(model, **options))
    expected = logits(m)
    m.save_pretrained(tmp_path)
    np.testing.assert_array_equal(logits(m), expected)
    loaded = PeftModel.from_pretrained(base_of(model), tmp_path)
    np.testing.assert_array_equal(logits(loaded), expected)
    assert not loaded.notes and not any(p.requires_grad for p in loaded.parameters())
    assert loaded.peft_config == m.peft_config


@models
def test_more_training_goes_on_with_the_prefix_itself(model, tmp_path):
    for options, notes in (({}, 0), (PROJECTION, 1)):
        m = train(adapted(model, **options))
        m.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(base_of(model), tmp_path, is_trainable=True)
        assert len(loaded.notes) == notes and all("MLP" in note and "dropped" in note for note in loaded.notes)
        assert loaded.get_nb_trainable_parameters()[0] == P * WIDTHS[model]
        before = loaded(IDS, labels=IDS).loss.item()
        assert train(loaded)(IDS, labels=IDS).loss.item() < before
        expected = logits(loaded)
        loaded.save_pretrained(tmp_path)
        np.testing.assert_array_equal(logits(PeftModel.from_pretrained(base_of(model), tmp_path)), expected)


def test_the_files_say_what_peft_needs_and_nothing_that_it_does_not_know(tmp_path):
    train(adapted("one key head, deep", init_token_ids=FIRST)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config == {
        "peft_type": "PREFIX_TUNING",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "modules_to_save": None,
        "task_type": "CAUSAL_LM",
        "num_virtual_tokens": P,
        "token_dim": 6,
        "num_transformer_submodules": 1,
        "num_attention_heads": 1,
        "num_layers": 3,
        "encoder_hidden_size": 6,
        "prefix_projection": False,
        "init_weights": None,
    }
    tensors, metadata = safetensors.load_file(tmp_path / "adapter_model.safetensors")
    assert {name: array.shape for name, array in tensors.items()} == {"prompt_embeddings": (P, 36)}
    assert json.loads(metadata["minilora.config"])["init_token_ids"] == FIRST


@pytest.fixture
def saved(tmp_path):
    """The folder of a trained prefix of `base_of()`."""
    train(adapted()).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_virtual_tokens": None}, ["num_virtual_tokens must be a whole number of at least 1, not None"]),
        ({"num_virtual_tokens": 4}, ["prompt_embeddings has shape (3, 32), not (4, 32)", "num_virtual_tokens is 4"]),
        ({"num_virtual_tokens": 10**12}, ["1000000000000 virtual tokens leave no room in the model's 32 positions"]),
        ({"token_dim": 16}, ["token_dim is 16, and the model's is 8"]),
        ({"num_layers": 3, "num_attention_heads": 4}, ["num_layers is 3, and the model's is 2", "heads is 4"]),
        ({"num_transformer_submodules": 2}, ["num_transformer_submodules is 2"]),
        ({"task_type": "SEQ_CLS"}, ["task_type is 'SEQ_CLS', and the model's is 'CAUSAL_LM'"]),
        ({"prefix_projection": True}, ["prefix_projection is True in adapter_config.json, but was False"]),
        ({"encoder_hidden_size": -1}, ["encoder_hidden_size must be"]),
        ({"init_weights": "ones"}, ["init_weights must be 'zero' or None, not 'ones'"]),
        ({"prefix_length": 3}, ["prefix_length = 3"]),
        ({"peft_type": "PROMPT_TUNING"}, ["PROMPT_TUNING does not have: encoder_hidden_size = 8"]),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(saved, changes, words):
    edit_config(saved, **changes)
    refused(saved, *words, model=base_of())


def test_the_smallest_file_that_peft_loads_loads(saved):
    expected = logits(PeftModel.from_pretrained(base_of(), saved))
    (saved / "adapter_config.json").write_text(
        '{"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}'
    )
    edit_tensors(saved, lambda tensors: None, keep_metadata=False)
    loaded = PeftModel.from_pretrained(base_of(), saved)
    np.testing.assert_array_equal(logits(loaded), expected)
    assert len(loaded.notes) == 1 and "no fingerprint" in loaded.notes[0]
    (saved / "adapter_config.json").write_text('{"peft_type": "PREFIX_TUNING", "task_type": "CAUSAL_LM"}')
    with pytest.raises(FormatError, match="num_virtual_tokens"):
        PeftModel.from_pretrained(base_of(), saved)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t.clear(), ["missing prompt_embeddings"]),
        (
            lambda t: {"base_model.model.prompt_embeddings": t["prompt_embeddings"]},
            ["missing", "unexpected base_model"],
        ),
        (lambda t: {"prompt_embeddings": t["prompt_embeddings"].reshape(6, 16)}, ["(6, 16), not (3, 32)"]),
        (lambda t: {"prompt_embeddings": t["prompt_embeddings"] * np.nan}, ["NaN"]),
        (lambda t: t | {"prompt_encoder.embedding.weight": np.ones(3, "f4")}, ["unexpected prompt_encoder"]),
        (
            lambda t: t | {"base_model.lm_head.weight": np.ones((40, 16), "f4")},
            ["base_model.lm_head.weight, which modules_to_save does not name"],
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(saved, change, words):
    edit_tensors(saved, change, keep_metadata=False)
    refused(saved, *words, model=base_of())


# Settings


@pytest.mark.host
@pytest.mark.parametrize(
    "options, words",
    [
        ({}, ["num_virtual_tokens must be", "None"]),
        ({"num_virtual_tokens": 0}, ["num_virtual_tokens must be", "0"]),
        ({"num_virtual_tokens": 2.0}, ["num_virtual_tokens must be", "2.0"]),
        ({"num_virtual_tokens": True}, ["num_virtual_tokens must be", "True"]),
        ({"num_virtual_tokens": 2, "encoder_hidden_size": 0}, ["encoder_hidden_size must be"]),
        ({"num_virtual_tokens": 2, "prefix_projection": 1}, ["prefix_projection must be True or False"]),
        ({"num_virtual_tokens": 2, "init_weights": "one"}, ["init_weights must be 'zero' or None"]),
        ({"num_virtual_tokens": 2, "init_token_ids": [1, 2, 3]}, ["init_token_ids are 3, for 2 virtual tokens"]),
        ({"num_virtual_tokens": 2, "init_token_ids": []}, ["init_token_ids must be a list of token ids"]),
        ({"num_virtual_tokens": 2, "init_token_ids": [1, -1]}, ["init_token_ids must be a list of token ids"]),
        ({"num_virtual_tokens": 2, "init_token_ids": [1, 2.0]}, ["init_token_ids must be a list of token ids"]),
        ({"num_virtual_tokens": 2, "init_token_ids": "ab"}, ["init_token_ids must be a list of token ids"]),
        ({"num_virtual_tokens": 1, "init_token_ids": [1], **PROJECTION}, ["prefix_projection makes it by an MLP"]),
        ({"num_virtual_tokens": 1, "init_token_ids": [1], "init_weights": "zero"}, ["two starts"]),
        (
            {"num_virtual_tokens": -1, "encoder_hidden_size": 1.5, "init_weights": 3, "task_type": "x"},
            ["num_virtual_tokens", "encoder_hidden_size", "init_weights", "task_type"],
        ),
    ],
)
def test_bad_settings_are_all_named(options, words):
    with pytest.raises(MiniloraError) as error:
        PrefixTuningConfig(**options)
    for word in words:
        assert word in str(error.value)


@pytest.mark.host
def test_ids_may_come_from_a_tokenizer():
    for ids in (np.array([1, 2], "int32"), (1, 2), (np.int64(1), np.int64(2))):
        assert PrefixTuningConfig(num_virtual_tokens=2, init_token_ids=ids).init_token_ids == [1, 2]


class Perceptron(nn.Module):
    """A model without a body."""

    def __init__(self):
        self.fc = nn.Linear(4, 4)


@pytest.mark.parametrize(
    "make, options, words",
    [
        (Perceptron, {}, ["PREFIX_TUNING", "Llama or GPT-2 body; Perceptron has none"]),
        (lambda: base_of().model, {}, ["LlamaModel has none"]),
        (base_of, {"num_virtual_tokens": 32}, ["32 virtual tokens leave no room in the model's 32 positions"]),
        (base_of, {"num_virtual_tokens": 2, "init_token_ids": [39, 40]}, ["[40] are outside the vocabulary of 40"]),
        (base_of, {"task_type": "SEQ_CLS"}, ["task_type is 'SEQ_CLS', and the model's is 'CAUSAL_LM'"]),
        (classifier_of, {"task_type": "CAUSAL_LM"}, ["task_type is 'CAUSAL_LM', and the model's is 'SEQ_CLS'"]),
        (base_of, {"token_dim": 16, "num_layers": 1}, ["token_dim is 16, and the model's is 8", "num_layers is 1"]),
        (base_of, {"modules_to_save": ["model"]}, ["model is in both"]),
        (
            lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **MODELS["grouped, tied"] | {"num_hidden_layers": 0})),
            {},
            ["a model without layers has no place for a prefix"],
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused_and_changes_nothing(make, options, words):
    model = make()
    before, flags = state(model), [p.requires_grad for p in model.parameters()]
    with pytest.raises(MiniloraError) as error:
        get_peft_model(model, PrefixTuningConfig(**{"num_virtual_tokens": 2, **options}))
    for word in words:
        assert word in str(error.value)
    assert same(state(model), before) and [p.requires_grad for p in model.parameters()] == flags


def test_one_adapter_at_a_time():
    m = adapted()
    for again in (LoraConfig(r=2), PrefixTuningConfig(num_virtual_tokens=2)):
        with pytest.raises(MiniloraError, match="adapted already"):
            get_peft_model(m.base_model, again)
    plain = m.unload()
    assert plain.model.virtual_tokens == 0
    get_peft_model(plain, LoraConfig(r=2))


def test_the_settings_that_were_given_stay_as_they_were():
    config = PrefixTuningConfig(num_virtual_tokens=2)
    for model in MODELS:
        get_peft_model(base_of(model), config)
    assert config == PrefixTuningConfig(num_virtual_tokens=2)
