"""pytest tests/peft/test_virtual.py: prefix and prompt tuning: what virtual tokens are, starts, generation, files."""

import json

import numpy as np
import pytest

from minilora import backend, no_grad, optim, threads
from minilora.data.batches import evaluation_windows
from minilora.errors import MiniloraError
from minilora.formats import safetensors
from minilora.gradcheck import gradcheck
from minilora.models.cache import KVCache
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from minilora.tensor import Tensor
from minilora.train.metrics import bits_per_character
from tests.helpers import strict
from tests.helpers.peft_invariants import MODELS, edit_tensors, same, state
from tests.peft.test_model import TEXT

SEEDS = [0, 1, 2]
SIZES = {"vocab_size": 40, "initializer_range": 0.3, "max_position_embeddings": 32, "eos_token_id": None}
WIDTHS = {"tied": 2 * 2 * 2 * 4, "biases": 2 * 1 * 3 * 8, "deep": 2 * 3 * 1 * 6}  # of a prefix: 2 L · H_kv · D
IDS = np.random.default_rng(9).integers(1, 40, (3, 7))
MASK = np.array([[1] * 7, [0, 0] + [1] * 5, [0] * 6 + [1]])
P = 3
FIRST = [5, 30, 12]  # tokens to start from
PREFIX, PROMPT = PrefixTuningConfig, PromptTuningConfig
STARTS = {  # a method and a way to start, each with another model and seed
    "prefix": (PREFIX, {}, "tied", 0),
    "prefix, zero": (PREFIX, {"init_weights": "zero"}, "biases", 1),
    "prefix, tokens": (PREFIX, {"init_token_ids": FIRST}, "deep", 2),
    "prompt": (PROMPT, {}, "deep", 0),
    "prompt, vocabulary": (PROMPT, {"prompt_tuning_init": "SAMPLE_VOCAB"}, "tied", 1),
    "prompt, tokens": (PROMPT, {"init_token_ids": FIRST}, "biases", 2),
}
models = pytest.mark.parametrize("model", MODELS)
seeds = pytest.mark.parametrize("seed", SEEDS)
starts = pytest.mark.parametrize("kind, options, model, seed", STARTS.values(), ids=STARTS)
both = pytest.mark.parametrize("kind", [PREFIX, PROMPT], ids=["prefix", "prompt"])


def base_of(model: str = "tied", seed: int = 0) -> LlamaForCausalLM:
    base = LlamaForCausalLM(LlamaConfig(**SIZES, **MODELS[model]), seed=seed)
    rng = np.random.default_rng(seed)
    for name, p in base.named_parameters():
        if name.endswith("bias"):
            p.data = backend.asarray(rng.standard_normal(p.shape).astype("float32"))
    return base


def classifier_of(model: str = "tied", seed: int = 0) -> LlamaForSequenceClassification:
    return LlamaForSequenceClassification.from_language_model(base_of(model, seed), num_labels=3, seed=5)


def adapted(kind, model: str = "tied", seed: int = 0, **options) -> PeftModel:
    return get_peft_model(base_of(model, seed), kind(**{"num_virtual_tokens": P, **options}), seed=seed)


def logits(model, ids=IDS, **settings) -> np.ndarray:
    with no_grad():
        return model(ids, **settings).logits.numpy()


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 2e-6) -> None:
    """Assert equality up to `tolerance` of the largest."""
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def train(model, steps: int = 3, lr: float = 0.05, ids=IDS, labels=IDS) -> PeftModel:
    """Run some steps of AdamW over all parameters of the model."""
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(ids, labels=labels).loss.backward()
        optimizer.step()
    return model


def prompt(model) -> np.ndarray:
    return model.base_model.model.prompt_embeddings.numpy()


def read_first(base, ids=IDS) -> np.ndarray:
    """Return the logits for FIRST followed by the ids."""
    return logits(base, np.concatenate([np.tile(FIRST, (len(ids), 1)), ids], axis=1))


# What virtual tokens are


@models
@seeds
def test_the_keys_and_values_of_tokens_are_worth_the_tokens(model, seed):
    read = read_first(base_of(model, seed))[:, P:]
    assert np.abs(logits(adapted(PREFIX, model, seed)) - read).max() > 0.05
    started = adapted(PREFIX, model, seed, init_token_ids=FIRST)
    assert prompt(started).shape == (P, WIDTHS[model])
    close(logits(started), read, 5e-6)


@models
@seeds
def test_the_embeddings_of_tokens_are_worth_the_tokens(model, seed):
    base = base_of(model, seed)
    m = adapted(PROMPT, model, seed, init_token_ids=FIRST)
    np.testing.assert_array_equal(prompt(m), base.model.embed_tokens.weight.numpy()[FIRST])
    np.testing.assert_array_equal(logits(m), read_first(base))
    out = m(IDS, labels=IDS)
    assert out.logits.shape == (3, P + 7, 40) and out.logits.dtype == np.float32
    labels = np.concatenate([np.full((3, P), -100), IDS], axis=1)
    assert out.loss.item() == base(np.concatenate([np.tile(FIRST, (3, 1)), IDS], axis=1), labels=labels).loss.item()


@starts
def test_gradients(kind, options, model, seed):
    m = adapted(kind, model, seed, **options)
    for p in m.parameters():
        p.data = p.numpy().astype("float64")
    layer = m.base_model.model

    def loss(p):
        layer.prompt_embeddings = p
        return m(IDS, attention_mask=MASK, labels=np.where(MASK, IDS, -100)).loss

    gradcheck(loss, Tensor(layer.prompt_embeddings.numpy(), requires_grad=True), rtol=1e-5)


@starts
def test_float64_stays_float64(kind, options, model, seed):
    base = base_of(model)
    for p in base.parameters():
        p.data = p.numpy().astype("float64")
    m = get_peft_model(base, kind(num_virtual_tokens=P, **options))
    assert {p.dtype.name for p in m.parameters()} == {"float64"}
    assert m(IDS).logits.dtype == np.float64


# Labels


def test_the_last_virtual_token_predicts_the_first_token():
    m = adapted(PROMPT)
    out = logits(m).astype(float)
    log_p = out - np.log(np.exp(out).sum(axis=-1, keepdims=True))
    for first in (False, True):
        labels = IDS.copy()
        labels[:, 0] = labels[:, 0] if first else -100
        labels[1, 3:5] = -100
        losses = [
            -log_p[row, P + t - 1, labels[row, t]] for row in range(3) for t in range(7) if labels[row, t] != -100
        ]
        assert m.count_targets(labels) == len(losses) == (19 if first else 16)
        assert m(IDS, labels=labels).loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
        parts = [m(IDS[i : i + 1], labels=labels[i : i + 1], num_items_in_batch=len(losses)) for i in range(3)]
        assert sum(part.loss.item() for part in parts) == pytest.approx(np.mean(losses), rel=1e-5)
    with m.disable_adapter():
        assert m.count_targets(IDS) == 18
    with pytest.raises(ValueError, match=r"labels \(3, 10\) do not fit input_ids \(3, 7\)"):
        m(IDS, labels=np.zeros((3, P + 7), int))


def test_a_text_is_evaluated_token_by_token():
    """Each token counts once: a window starts with the last token of the previous one."""
    m = adapted(PROMPT, init_token_ids=FIRST)
    text = np.random.default_rng(3).integers(0, 40, 23)
    nats = 0
    for start in range(0, 22, 6):
        window = text[start : start + 7]
        labels = np.concatenate([np.full(P + 1, -100), window[1:]])
        read = np.concatenate([FIRST, window])
        nats += base_of()(read[None], labels=labels[None], num_items_in_batch=1).loss.item()
    with threads.using(1):
        bits = bits_per_character(m, evaluation_windows(text, 7, 2), 50)
    assert bits == pytest.approx(nats / np.log(2) / 50, rel=1e-5)


# What trains


@both
def test_a_tied_head_stays_tied(kind):
    m = train(adapted(kind))
    assert m.config.tie_word_embeddings
    assert m.base_model.lm_head.weight is m.base_model.model.base_layer.embed_tokens.weight


def test_a_norm_inside_the_body_can_train_along(tmp_path):
    m = train(adapted(PREFIX, modules_to_save=["model.norm"]))
    assert not np.array_equal(m.base_model.model.base_layer.norm.weight.numpy(), np.ones(16))
    expected = logits(m)
    m.save_pretrained(tmp_path)
    np.testing.assert_array_equal(logits(PeftModel.from_pretrained(base_of(), tmp_path)), expected)
    np.testing.assert_array_equal(logits(m.unload()), logits(base_of()))


@both
def test_a_training_step_waits_for_no_device(kind):
    m = adapted(kind)
    strict.reset_syncs()
    train(m, steps=1)
    assert strict.sync_count() == 0


# Starts


@both
def test_a_random_start_is_normal_and_of_the_seed(kind):
    normal, again, other = (prompt(adapted(kind, seed=seed, num_virtual_tokens=30)) for seed in (0, 0, 1))
    assert abs(normal.mean()) < 0.1 and abs(normal.std() - 1) < 0.1
    np.testing.assert_array_equal(normal, again)
    assert not np.array_equal(normal, other)


def test_a_prefix_starts_at_zero_if_asked_and_not_by_pefts_projection():
    assert not prompt(adapted(PREFIX, init_weights="zero")).any()
    with pytest.raises(MiniloraError, match="prefix_projection must be False: minilora trains the prefix itself"):
        adapted(PREFIX, prefix_projection=True)


def test_starts_of_a_prompt():
    table = base_of().model.embed_tokens.weight.numpy()
    sampled = prompt(adapted(PROMPT, num_virtual_tokens=25, prompt_tuning_init="SAMPLE_VOCAB"))
    ids = (sampled[:, None] == table).all(axis=-1).argmax(axis=1)
    np.testing.assert_array_equal(sampled, table[ids])
    assert len(set(ids)) > 10
    for init_ids, rows in (([9], [9, 9, 9]), ([1, 2], [1, 2, 1]), ([1, 2, 3, 4, 5], [1, 2, 3])):
        for options in ({}, TEXT):
            np.testing.assert_array_equal(prompt(adapted(PROMPT, init_token_ids=init_ids, **options)), table[rows])


@both
def test_a_start_from_tokens_does_not_change_the_base_or_its_gradients(kind):
    base = base_of()
    base(IDS, labels=IDS).loss.backward()
    before, grads = state(base), {id(p): p.grad for p in base.parameters()}
    m = get_peft_model(base, kind(num_virtual_tokens=P, init_token_ids=FIRST))
    assert all(p.grad is grads[id(p)] for p in base.model.base_layer.parameters())
    assert same(state(train(m).unload()), before)  # what trained was a copy


# Batches, generation


@starts
def test_a_row_in_a_left_padded_batch_gives_what_it_gives_alone(kind, options, model, seed):
    m = adapted(kind, model, seed, **options)
    virtual = np.ones(P if kind is PROMPT else 0, bool)
    out = logits(m, np.where(MASK, IDS, 0), attention_mask=MASK)
    text = m.generate(np.where(MASK, IDS, 0), 6, attention_mask=MASK, temperature=0)
    for row, real in enumerate(MASK == 1):
        close(out[row][np.concatenate([virtual, real])], logits(m, IDS[row : row + 1, real])[0], 5e-6)
        alone = m.generate(IDS[row : row + 1, real], 6, temperature=0)[0]
        np.testing.assert_array_equal(text[row, 7:], alone[real.sum() :])


@starts
def test_with_the_cache_as_without(kind, options, model, seed):
    m = train(adapted(kind, model, seed, **options))
    for mask in (None, MASK):
        whole = logits(m, attention_mask=mask)
        real = np.ones(whole.shape[:2], bool)
        real[:, -7:] = True if mask is None else MASK == 1
        for pieces in ([7], [3, 1, 1, 2]):
            cache, seen, end = KVCache(P + 7), [], 0
            for length in pieces:
                end += length
                part_mask = None if mask is None else mask[:, :end]
                seen.append(logits(m, IDS[:, end - length : end], attention_mask=part_mask, past_key_values=cache))
            assert cache.length == P + 7
            close(np.concatenate(seen, axis=1)[real], whole[real], 5e-6)


@both
def test_virtual_tokens_take_positions(kind):
    m = adapted(kind, num_virtual_tokens=20)
    assert m.generate(IDS, 5).shape == (3, 12)
    with pytest.raises(MiniloraError, match="20 virtual tokens, a prompt of 7 and 6 new tokens exceed the model's 32"):
        m.generate(IDS, 6)
    with pytest.raises(MiniloraError, match="cache of 26 positions has no room for 27"):
        logits(m, past_key_values=KVCache(26))


# Classification


@starts
def test_a_classifier_pools_the_last_real_token_and_its_head_trains(kind, options, model, seed, tmp_path):
    """It pools the last real token on whichever side the padding is, its head trains, and its file holds both."""
    m = get_peft_model(classifier_of(model, seed), kind(num_virtual_tokens=P, **options), seed=seed)
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

    m.save_pretrained(tmp_path)
    tensors, _ = safetensors.load_file(tmp_path / "adapter_model.safetensors")
    shapes = {name: array.shape for name, array in tensors.items()}
    hidden = MODELS[model]["hidden_size"]
    width = WIDTHS[model] if kind is PREFIX else hidden
    assert shapes == {"prompt_embeddings": (P, width), "base_model.score.weight": (3, hidden)}
    np.testing.assert_array_equal(logits(PeftModel.from_pretrained(classifier_of(model, seed), tmp_path)), out)
    with m.disable_adapter():
        np.testing.assert_array_equal(logits(m), logits(classifier_of(model, seed)))


# Files


@pytest.mark.parametrize(
    "kind, options, width, fields",
    [
        (
            PREFIX,
            {},
            36,
            {"token_dim": 6, "num_attention_heads": 1, "encoder_hidden_size": 6}
            | {"prefix_projection": False, "init_weights": None},
        ),
        (PROMPT, TEXT, 16, {"token_dim": 16, "num_attention_heads": 2, **TEXT}),
    ],
    ids=["prefix", "prompt"],
)
def test_the_files_say_what_peft_needs_and_nothing_that_it_does_not_know(kind, options, width, fields, tmp_path):
    m = train(adapted(kind, "deep", init_token_ids=FIRST, **options))
    m.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {
        "peft_type": kind.peft_type,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "modules_to_save": None,
        "task_type": "CAUSAL_LM",
        "num_virtual_tokens": P,
        "num_transformer_submodules": 1,
        "num_layers": 3,
        **fields,
    }
    tensors, metadata = safetensors.load_file(tmp_path / "adapter_model.safetensors")
    assert {name: array.shape for name, array in tensors.items()} == {"prompt_embeddings": (P, width)}
    assert json.loads(metadata["minilora.config"])["init_token_ids"] == FIRST


@pytest.fixture
def saved(kind, tmp_path):
    """Save a trained prefix or prompt of `base_of()`, and return its folder."""
    train(adapted(kind)).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@both
def test_the_smallest_file_that_peft_loads_loads(kind, saved):
    expected = logits(PeftModel.from_pretrained(base_of(), saved))
    edit_tensors(saved, lambda tensors: None, keep_metadata=False)
    smallest = {"peft_type": kind.peft_type, "num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}
    more = TEXT | {"tokenizer_kwargs": {"use_fast": True}} if kind is PROMPT else {"prefix_projection": True}
    for content in (smallest, smallest | more | {"peft_version": "0.21.2"}):  # neither a text nor an MLP is needed
        (saved / "adapter_config.json").write_text(json.dumps(content))
        loaded = PeftModel.from_pretrained(base_of(), saved)
        np.testing.assert_array_equal(logits(loaded), expected)
        assert len(loaded.notes) == 1 and "no fingerprint" in loaded.notes[0]


# Settings


@pytest.mark.host
def test_ids_may_come_from_a_tokenizer():
    for ids in (np.array([1, 2], "int32"), (1, 2), (np.int64(1), np.int64(2))):
        assert PrefixTuningConfig(num_virtual_tokens=2, init_token_ids=ids).init_token_ids == [1, 2]
