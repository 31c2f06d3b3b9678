"""pytest tests/peft/test_prompt.py: prompt tuning: what a prompt is, starts, labels, padding, generation, files."""

import json

import numpy as np
import pytest

from minilora import backend, nn, no_grad, quant, threads
from minilora.data.batches import evaluation_windows
from minilora.errors import MiniloraError
from minilora.formats import safetensors
from minilora.gradcheck import gradcheck
from minilora.models.cache import KVCache
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import PeftModel, PromptTuningConfig, get_peft_model
from minilora.tensor import Tensor
from minilora.train.evaluate import bits_per_character
from minilora.train.parallel import batch_gradients
from tests.helpers import strict
from tests.helpers.peft_invariants import edit_config, edit_tensors, same, state
from tests.peft.test_model import refused
from tests.peft.test_prefix import (
    IDS,
    MASK,
    MODELS,
    SIZES,
    Perceptron,
    base_of,
    check_classifier,
    classifier_of,
    close,
    logits,
    models,
    prompt,
    seeds,
    train,
)

P = 4
FIRST = [5, 30, 12, 7]
TEXT = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "Say it:", "tokenizer_name_or_path": "some/tokenizer"}
KIND = [{}, {"prompt_tuning_init": "SAMPLE_VOCAB"}, {"init_token_ids": FIRST}]  # each seed takes another


def adapted(model: str = "grouped, tied", seed: int = 0, **options) -> PeftModel:
    return get_peft_model(base_of(model, seed), PromptTuningConfig(**{"num_virtual_tokens": P, **options}), seed=seed)


def table_of(base) -> np.ndarray:
    return base.model.embed_tokens.weight.numpy()


# What a prompt is


@models
@seeds
def test_the_embeddings_of_tokens_are_worth_the_tokens(model, seed):
    base = base_of(model, seed)
    m = adapted(model, seed, init_token_ids=FIRST)
    np.testing.assert_array_equal(prompt(m), table_of(base)[FIRST])
    read = np.concatenate([np.tile(FIRST, (3, 1)), IDS], axis=1)
    np.testing.assert_array_equal(logits(m), logits(base, read))
    assert np.abs(logits(adapted(model, seed)) - logits(base, read)).max() > 0.05
    loss = m(IDS, labels=IDS).loss.item()
    labels = np.concatenate([np.full((3, P), -100), IDS], axis=1)
    assert loss == base(read, labels=labels).loss.item()


@models
def test_logits_of_the_virtual_positions_come_first(model):
    m = adapted(model)
    out = m(IDS, labels=IDS)
    assert out.logits.shape == (3, P + 7, 40) and out.logits.dtype == np.float32
    np.testing.assert_array_equal(out.logits.numpy(), logits(m))
    close(logits(m)[0, :P], logits(m)[2, :P])
    changed = IDS.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % 40
    np.testing.assert_array_equal(logits(m, changed)[:, : P + 4], logits(m)[:, : P + 4])


@models
def test_gradients(model):
    m = adapted(model, num_virtual_tokens=5)
    for p in m.parameters():
        p.data = p.numpy().astype("float64")
    layer = m.base_model.model

    def loss(p):
        layer.prompt_embeddings = p
        return m(IDS, attention_mask=MASK, labels=np.where(MASK, IDS, -100)).loss

    gradcheck(loss, Tensor(layer.prompt_embeddings.numpy(), requires_grad=True), rtol=1e-5)


def test_float64_stays_float64():
    for options in (*KIND, TEXT | {"init_token_ids": [3]}):
        base = base_of()
        for p in base.parameters():
            p.data = p.numpy().astype("float64")
        m = get_peft_model(base, PromptTuningConfig(num_virtual_tokens=P, **options))
        assert {p.dtype.name for p in m.parameters()} == {"float64"}
        assert m(IDS).logits.dtype == np.float64


# Labels


def test_the_last_virtual_token_predicts_the_first_token():
    m = adapted()
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
    with pytest.raises(ValueError, match=r"labels \(3, 11\) do not fit input_ids \(3, 7\)"):
        m(IDS, labels=np.zeros((3, P + 7), int))


def test_a_text_is_evaluated_token_by_token():
    """Each token once: the first of a window is the last of the one before."""
    m = adapted(init_token_ids=FIRST)
    text = np.random.default_rng(3).integers(0, 40, 23)
    nats = 0
    for start in range(0, 22, 6):
        window = text[start : start + 7]
        labels = np.concatenate([np.full(P + 1, -100), window[1:]])
        read = np.concatenate([FIRST, window])
        nats += base_of()(read[None], labels=labels[None], num_items_in_batch=1).loss.item()
    with threads.using(1):
        found = bits_per_character(m, evaluation_windows(text, 7, 2), 50)
    assert found == pytest.approx(nats / np.log(2) / 50, rel=1e-5)


def test_another_head_counts_the_same():
    """A head that is no plain Linear makes its logits whole."""
    m = adapted()
    expected = m(IDS, labels=IDS).loss.item()
    m.base_model.lm_head.bias = Tensor(np.zeros(40, "float32"))
    assert m(IDS, labels=IDS).loss.item() == pytest.approx(expected, rel=1e-6)


def test_shards_add_up():
    gradients = []
    for count in (1, 2):
        m = adapted()
        with threads.using(count):
            loss = batch_gradients(m, [{"input_ids": IDS, "labels": IDS}])
        assert float(loss) == pytest.approx(m(IDS, labels=IDS).loss.item(), rel=1e-5)
        gradients.append(backend.to_numpy(m.base_model.model.prompt_embeddings.grad))
    close(gradients[1], gradients[0], 1e-5)


# What trains


@models
@seeds
def test_as_many_train_as_the_formula_says_and_the_loss_falls(model, seed):
    m = adapted(model, seed, **KIND[seed])
    count = P * MODELS[model]["hidden_size"]
    assert m.get_nb_trainable_parameters() == (count, count + sum(p.size for p in base_of(model).parameters()))
    assert [name for name, p in m.named_parameters() if p.requires_grad] == ["base_model.model.prompt_embeddings"]
    loss = m(IDS, labels=IDS).loss.item()
    assert train(m)(IDS, labels=IDS).loss.item() < loss
    assert all(p.grad is None for p in m.base_model.model.base_layer.parameters())


def test_a_tied_head_stays_tied(tmp_path):
    m = train(adapted("grouped, tied", init_token_ids=FIRST))
    assert m.config.tie_word_embeddings
    assert m.base_model.lm_head.weight is m.base_model.model.base_layer.embed_tokens.weight
    m.save_pretrained(tmp_path)
    assert "minilora.untied" not in safetensors.load_file(tmp_path / "adapter_model.safetensors")[1]


def test_over_four_bits():
    base, twin = base_of(), base_of()
    quant.quantize_model(base, blocksize=32)
    quant.quantize_model(twin, blocksize=32)
    m = get_peft_model(base, PromptTuningConfig(num_virtual_tokens=P, init_token_ids=FIRST))
    read = logits(twin, np.concatenate([np.tile(FIRST, (3, 1)), IDS], axis=1))
    np.testing.assert_array_equal(logits(m), read)
    assert np.abs(logits(train(m)) - read).max() > 0.05
    with m.disable_adapter():
        np.testing.assert_array_equal(logits(m), logits(twin))


def test_a_training_step_waits_for_no_device():
    m = adapted()
    strict.reset_syncs()
    train(m, steps=1)
    assert strict.sync_count() == 0


# Starts


def test_starts():
    normal = prompt(adapted(num_virtual_tokens=25))
    assert abs(normal.mean()) < 0.1 and abs(normal.std() - 1) < 0.1
    np.testing.assert_array_equal(normal, prompt(adapted(num_virtual_tokens=25)))
    other = get_peft_model(base_of(), PromptTuningConfig(num_virtual_tokens=25), seed=1)
    assert not np.array_equal(normal, prompt(other))

    table = table_of(base_of())
    sampled = prompt(adapted(num_virtual_tokens=25, prompt_tuning_init="SAMPLE_VOCAB"))
    ids = (sampled[:, None] == table).all(axis=-1).argmax(axis=1)
    np.testing.assert_array_equal(sampled, table[ids])
    assert len(set(ids)) > 10

    for given, taken in (([9], [9, 9, 9, 9]), ([1, 2, 3], [1, 2, 3, 1]), ([1, 2, 3, 4, 5], [1, 2, 3, 4])):
        for options in ({}, TEXT):
            np.testing.assert_array_equal(prompt(adapted(init_token_ids=given, **options)), table[taken])


def test_a_start_from_tokens_is_a_copy():
    base = base_of()
    before = table_of(base)
    m = train(get_peft_model(base, PromptTuningConfig(num_virtual_tokens=P, init_token_ids=FIRST)))
    assert not np.array_equal(prompt(m), before[FIRST])
    np.testing.assert_array_equal(table_of(m.unload()), before)


# Batches, generation


@models
@seeds
def test_a_row_in_a_left_padded_batch_gives_what_it_gives_alone(model, seed):
    m = adapted(model, seed, **KIND[seed])
    out = logits(m, np.where(MASK, IDS, 0), attention_mask=MASK)
    text = m.generate(np.where(MASK, IDS, 0), 6, attention_mask=MASK, temperature=0)
    for row, real in enumerate(MASK == 1):
        alone = logits(m, IDS[row : row + 1, real])[0]
        close(out[row][np.concatenate([np.ones(P, bool), real])], alone, 5e-6)
        alone = m.generate(IDS[row : row + 1, real], 6, temperature=0)[0]
        np.testing.assert_array_equal(text[row, 7:], alone[real.sum() :])


@models
@seeds
def test_with_the_cache_as_without(model, seed):
    m = train(adapted(model, seed, **KIND[seed]))
    for mask in (None, MASK):
        whole = logits(m, attention_mask=mask)
        for pieces in ([7], [3, 1, 1, 2]):
            cache, seen, end = KVCache(P + 7), [], 0
            for length in pieces:
                end += length
                part_mask = None if mask is None else mask[:, :end]
                seen.append(logits(m, IDS[:, end - length : end], attention_mask=part_mask, past_key_values=cache))
            real = np.ones((3, P + 7), bool)
            real[:, P:] = True if mask is None else MASK == 1
            assert cache.length == P + 7
            close(np.concatenate(seen, axis=1)[real], whole[real], 5e-6)
    text = m.generate(IDS[:, :3], 8, temperature=0)
    for end in range(3, 11):
        np.testing.assert_array_equal(logits(m, text[:, :end])[:, -1].argmax(axis=1), text[:, end])


def test_virtual_tokens_take_positions():
    m = adapted(num_virtual_tokens=20)
    assert m.generate(IDS, 5).shape == (3, 12)
    with pytest.raises(MiniloraError, match="20 virtual tokens, a prompt of 7 and 6 new tokens pass the model's 32"):
        m.generate(IDS, 6)
    logits(m, np.ones((1, 12), int))
    with pytest.raises(MiniloraError, match="20 virtual tokens and 13 tokens pass the model's 32 positions; shorten"):
        logits(m, np.ones((1, 13), int))
    with m.disable_adapter():
        assert m.generate(IDS, 25).shape == (3, 32)


@pytest.mark.parametrize("ids", [np.array([1, 2]), np.zeros((1, 2, 3), int)], ids=["1", "3"])
def test_ids_of_another_shape_are_refused(ids):
    with pytest.raises(ValueError, match="input_ids must have the shape"):
        adapted()(ids)


# Classification


@models
@seeds
def test_a_classifier_pools_the_last_real_token_and_its_head_trains(model, seed, tmp_path):
    check_classifier(
        model, seed, PromptTuningConfig(num_virtual_tokens=P, **KIND[seed]), MODELS[model]["hidden_size"], tmp_path
    )


# Files


@models
@pytest.mark.parametrize("options", KIND[1:], ids=["vocabulary", "tokens"])
def test_a_round_trip_keeps_the_settings(model, options, tmp_path):
    m = train(adapted(model, **options))
    m.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_of(model), tmp_path)
    np.testing.assert_array_equal(logits(loaded), logits(m))
    assert not loaded.notes and loaded.peft_config == m.peft_config


def test_the_files_say_what_peft_needs_and_nothing_that_it_does_not_know(tmp_path):
    train(adapted("one key head, deep", init_token_ids=FIRST, **TEXT)).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {
        "peft_type": "PROMPT_TUNING",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "modules_to_save": None,
        "task_type": "CAUSAL_LM",
        "num_virtual_tokens": P,
        "token_dim": 16,
        "num_transformer_submodules": 1,
        "num_attention_heads": 2,
        "num_layers": 3,
        **TEXT,
    }
    tensors, metadata = safetensors.load_file(tmp_path / "adapter_model.safetensors")
    assert {name: array.shape for name, array in tensors.items()} == {"prompt_embeddings": (P, 16)}
    assert json.loads(metadata["minilora.config"])["init_token_ids"] == FIRST


@pytest.fixture
def saved(tmp_path):
    """The folder of a trained prompt of `base_of()`."""
    train(adapted()).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_virtual_tokens": None}, ["num_virtual_tokens must be a whole number of at least 1, not None"]),
        ({"num_virtual_tokens": 5}, ["prompt_embeddings has shape (4, 16), not (5, 16)", "num_virtual_tokens is 5"]),
        ({"token_dim": 8, "num_layers": 1}, ["token_dim is 8, and the model's is 16", "num_layers is 1"]),
        ({"num_attention_heads": 2}, ["num_attention_heads is 2, and the model's is 4"]),
        ({"task_type": "SEQ_CLS"}, ["task_type is 'SEQ_CLS', and the model's is 'CAUSAL_LM'"]),
        (
            {"prompt_tuning_init": "MAGIC"},
            ["prompt_tuning_init must be one of RANDOM, SAMPLE_VOCAB, TEXT, not 'MAGIC'"],
        ),
        ({"prompt_tuning_init": "TEXT"}, ["'TEXT' needs prompt_tuning_init_text", "'TEXT' needs tokenizer_name"]),
        ({"peft_type": "PREFIX_TUNING"}, ["PREFIX_TUNING does not have: prompt_tuning_init"]),
        ({"peft_type": "P_TUNING"}, ["peft_type is 'P_TUNING'"]),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(saved, changes, words):
    edit_config(saved, **changes)
    refused(saved, *words, model=base_of())


def test_pefts_files_load_and_no_text_is_tokenized(saved):
    expected = logits(PeftModel.from_pretrained(base_of(), saved))
    edit_tensors(saved, lambda tensors: None, keep_metadata=False)
    edit_config(saved, **TEXT, tokenizer_kwargs={"use_fast": True}, peft_version="0.21.2", revision="main")
    loaded = PeftModel.from_pretrained(base_of(), saved)
    np.testing.assert_array_equal(logits(loaded), expected)
    assert loaded.peft_config.prompt_tuning_init_text == "Say it:"
    (saved / "adapter_config.json").write_text(
        '{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "task_type": "CAUSAL_LM"}'
    )
    np.testing.assert_array_equal(logits(PeftModel.from_pretrained(base_of(), saved)), expected)


# Settings


@pytest.mark.host
@pytest.mark.parametrize(
    "options, words",
    [
        ({}, ["num_virtual_tokens must be", "None"]),
        ({"num_virtual_tokens": 0}, ["num_virtual_tokens must be"]),
        ({"num_virtual_tokens": 2, "init_token_ids": []}, ["init_token_ids must be a list of token ids"]),
        ({"num_virtual_tokens": 2, "init_token_ids": [0.5]}, ["init_token_ids must be a list of token ids", "0.5"]),
        ({"num_virtual_tokens": 2, "prompt_tuning_init": "text"}, ["prompt_tuning_init must be one of", "'text'"]),
        ({"num_virtual_tokens": 2, "prompt_tuning_init": ["TEXT"]}, ["prompt_tuning_init must be one of"]),
        (
            {"num_virtual_tokens": 2, "prompt_tuning_init": "TEXT"},
            ["needs prompt_tuning_init_text", "needs tokenizer_name_or_path", "init_token_ids alone"],
        ),
        (
            {"num_virtual_tokens": 2, "prompt_tuning_init_text": 3},
            ["prompt_tuning_init_text must be text or None, not 3"],
        ),
        ({"num_virtual_tokens": 2.5, "prompt_tuning_init": 1, "task_type": "x"}, ["num_virtual", "init must", "task"]),
    ],
)
def test_bad_settings_are_all_named(options, words):
    with pytest.raises(MiniloraError) as error:
        PromptTuningConfig(**options)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "make, options, words",
    [
        (Perceptron, {}, ["PROMPT_TUNING", "Llama or GPT-2 body; Perceptron has none"]),
        (lambda: nn.Linear(3, 3), {}, ["Linear has none"]),
        (base_of, {"num_virtual_tokens": 40}, ["40 virtual tokens leave no room in the model's 32 positions"]),
        (base_of, {"init_token_ids": [1, 40, 41]}, ["[40, 41] are outside the vocabulary of 40"]),
        (base_of, TEXT, ["'TEXT' needs init_token_ids"]),
        (classifier_of, {"task_type": "CAUSAL_LM"}, ["task_type is 'CAUSAL_LM', and the model's is 'SEQ_CLS'"]),
    ],
)
def test_what_does_not_fit_the_model_is_refused_and_changes_nothing(make, options, words):
    model = make()
    before = state(model)
    with pytest.raises(MiniloraError) as error:
        get_peft_model(model, PromptTuningConfig(**{"num_virtual_tokens": 2, **options}))
    for word in words:
        assert word in str(error.value)
    assert same(state(model), before)


def test_a_model_without_layers_can_have_a_prompt():
    base = LlamaForCausalLM(LlamaConfig(**SIZES, **MODELS["grouped, tied"] | {"num_hidden_layers": 0}))
    m = get_peft_model(base, PromptTuningConfig(num_virtual_tokens=2))
    with no_grad():
        assert m(IDS).logits.shape == (3, 9, 40)
