"""pytest tests/models/test_lookup.py

Prompt look-up decoding: the tokens and the cache of plain greedy decoding, in fewer passes."""

from contextlib import suppress

import numpy as np
import pytest

from minilora import backend
from minilora.errors import MiniloraError
from minilora.models.cache import KVCache
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel
from minilora.models.lookup import Drafts
from minilora.peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from minilora.quant import quantize_model
from tests.models.test_llama import tiny

LIMIT = 48


def llama(seed: int = 0):
    """Make a tiny model without an end token that soon repeats itself."""
    model = tiny(eos_token_id=None, max_position_embeddings=LIMIT, scale=1)
    return drawn_anew(model, seed)


def drawn_anew(model, seed: int, only_trained: bool = False):
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        if p.requires_grad or not only_trained:
            p.data = backend.asarray(rng.normal(0, 0.4, p.shape).astype("float32"))
    return model


def gpt2(seed: int = 0):
    config = GPT2Config(vocab_size=11, n_positions=LIMIT, n_embd=8, n_layer=2, n_head=2, eos_token_id=None)
    return drawn_anew(GPT2LMHeadModel(config), seed)


def adapted(config):
    return lambda seed: drawn_anew(get_peft_model(llama(seed), config), seed, only_trained=True)


MODELS = {
    "llama": llama,
    "gpt2": gpt2,
    "4 bits": lambda seed: quantize_model(llama(seed), blocksize=64),
    "lora": adapted(LoraConfig(r=2)),
    "qlora": lambda seed: get_peft_model(quantize_model(llama(seed)), LoraConfig(r=2)),
    "prefix": adapted(PrefixTuningConfig(num_virtual_tokens=3)),
    "prompt": adapted(PromptTuningConfig(num_virtual_tokens=3)),
}


def prompts(seed: int):
    """Return random text, text that repeats itself, and a single token."""
    rng = np.random.default_rng(seed)
    return [rng.integers(2, 11, (1, 9)), np.tile(rng.integers(2, 11, (1, 3)), 4), rng.integers(2, 11, (1, 1))]


def plain(model, ids, new: int = 30, **settings) -> np.ndarray:
    return model.generate(ids, new, temperature=0, **settings)


def looked_up(model, ids, new: int = 30, most: int = 5, **settings) -> np.ndarray:
    return plain(model, ids, new, prompt_lookup_num_tokens=most, **settings)


@pytest.fixture
def reported(monkeypatch):
    """Return a list that collects (drafted, accepted) for each pass."""
    reports, report = [], Drafts.report

    def noted(self, drafted, accepted):
        reports.append((drafted, accepted))
        report(self, drafted, accepted)

    monkeypatch.setattr(Drafts, "report", noted)
    return reports


@pytest.fixture
def all_wrong(monkeypatch):
    """Return drafts that are always wrong: the greedy tokens plus one."""

    def start(expected: np.ndarray):
        text = expected[0].tolist()
        monkeypatch.setattr(
            Drafts, "next", lambda self, room: [2 + (t - 1) % 9 for t in text[len(self.tokens) :][: max(0, room)]]
        )

    return start


# The tokens of plain greedy decoding


def test_rejected_and_accepted_drafts_were_both_tried_and_repeated_text_takes_fewer_passes(reported):
    everything, passes = [], []
    for seed in range(6):
        for ids in prompts(seed):
            reported.clear()
            np.testing.assert_array_equal(looked_up(llama(seed), ids, most=7), plain(llama(seed), ids))
            everything += reported
            passes.append(len(reported))
    assert any(accepted == drafted > 2 for drafted, accepted in everything)
    assert any(0 < accepted < drafted for drafted, accepted in everything)
    assert any(accepted == 0 < drafted for drafted, accepted in everything)
    assert min(passes) <= 11  # of 30 tokens


@pytest.mark.parametrize("kind", MODELS)
def test_wrong_drafts_change_nothing(kind, all_wrong, reported):
    model, ids = MODELS[kind](1), prompts(1)[1]
    expected = plain(model, ids)
    all_wrong(expected)
    np.testing.assert_array_equal(looked_up(model, ids), expected)
    assert len(reported) == 30 and all(accepted == 0 for _, accepted in reported) and reported[5][0] > 1


# The cache


@pytest.mark.parametrize("kind", MODELS)
def test_at_each_token_the_cache_is_that_of_plain_decoding(kind):
    model, ids = MODELS[kind](2), prompts(2)[1]
    ours, theirs = KVCache(LIMIT), KVCache(LIMIT)
    settings = {"temperature": 0}
    fast = model.generate_stream(ids, 20, **settings, prompt_lookup_num_tokens=5, past_key_values=ours)
    slow = model.generate_stream(ids, 20, **settings, past_key_values=theirs)
    for a, b in zip(fast, slow, strict=True):
        assert a.shape == (1,) and a.dtype == np.int64 and a == b and ours.length == theirs.length
        for layer, arrays in theirs._layers.items():
            for array, expected in zip(ours._layers[layer], arrays, strict=True):
                held = backend.to_numpy(expected[:, :, : theirs.length])
                np.testing.assert_allclose(backend.to_numpy(array[:, :, : ours.length]), held, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 20])
def test_a_stream_that_is_left_early_can_be_gone_on_from(count):
    for seed in range(4):
        model, ids, cache = llama(seed), prompts(seed)[1], KVCache(LIMIT)
        settings = {"temperature": 0, "prompt_lookup_num_tokens": 7, "past_key_values": cache}
        stream = model.generate_stream(ids, 20, **settings)
        first = [int(next(stream)[0]) for _ in range(count)]
        longer = np.array([[*ids[0], *first, 5, 3]])
        assert cache.length == longer.shape[1] - 3
        rest = [int(token) for (token,) in model.generate_stream(longer, 6, **settings)]
        np.testing.assert_array_equal(rest, plain(model, longer, 6)[0, longer.shape[1] :])


# The end, and limits


def test_a_token_that_ends_within_accepted_ones_is_the_last():
    within = 0
    for seed in range(6):
        model, ids = llama(seed), prompts(seed)[1]
        for eos in np.unique(plain(model, ids)[0, ids.shape[1] :]):
            cache = KVCache(LIMIT)
            expected = plain(model, ids, eos_token_id=[1, int(eos)])
            np.testing.assert_array_equal(looked_up(model, ids, eos_token_id=[1, int(eos)]), expected)
            settings = {"temperature": 0, "prompt_lookup_num_tokens": 5, "eos_token_id": int(eos)}
            new = list(model.generate_stream(ids, 30, past_key_values=cache, **settings))
            assert cache.length == ids.shape[1] + len(new) - 1
            within += len(new) > 3
    assert within


@pytest.mark.parametrize("kind, virtual", [("llama", 0), ("gpt2", 0), ("prompt", 3), ("prefix", 3)])
def test_the_longest_that_fits(kind, virtual):
    for seed in range(3):
        model, ids = MODELS[kind](seed), prompts(seed)[1]
        new = LIMIT - virtual - ids.shape[1]
        assert looked_up(model, ids, new, most=7).shape == (1, LIMIT - virtual)
        with pytest.raises(MiniloraError, match=f"{LIMIT} positions"):
            looked_up(model, ids, new + 1)


def test_a_cache_is_not_filled_beyond_its_capacity():
    """Generation ends with the same token as plain decoding, and no draft is longer than the room left."""
    for seed in range(4):
        model, ids = llama(seed), prompts(seed)[1]
        settings = {"temperature": 0, "eos_token_id": int(plain(model, ids, 9)[0, -1])}
        for capacity in range(ids.shape[1], 24):
            generated = []
            for lookup in (None, 7):
                cache, tokens = KVCache(capacity), []
                stream = model.generate_stream(
                    ids, 30, **settings, past_key_values=cache, prompt_lookup_num_tokens=lookup
                )
                with suppress(MiniloraError):
                    tokens += (int(token) for (token,) in stream)
                generated.append(tokens)
            assert generated[0] == generated[1]


def test_a_prompt_with_padding():
    for seed in range(4):
        model, ids = llama(seed), prompts(seed)[1]
        padded = np.concatenate([np.full((1, 3), 7), ids], axis=1)
        mask = np.array([[0] * 3 + [1] * ids.shape[1]])
        generated = looked_up(model, padded, attention_mask=mask)
        np.testing.assert_array_equal(generated[:, 3:], plain(model, ids))


@pytest.mark.parametrize(
    "settings, words",
    [
        (
            {"prompt_lookup_num_tokens": 0},
            "prompt_lookup_num_tokens must be a whole number of at least 1 or None, not 0",
        ),
        ({"temperature": 0.5}, "for one row at temperature 0, not for 1 row at temperature 0.5"),
        ({"input_ids": np.ones((2, 3), dtype=int)}, "not for 2 rows at temperature 0"),
    ],
)
def test_what_look_up_is_not_for_is_refused(settings, words):
    arguments = {"input_ids": np.array([[2, 3]]), "max_new_tokens": 3, "temperature": 0, "prompt_lookup_num_tokens": 4}
    with pytest.raises(MiniloraError, match=words) as error:
        llama().generate(**arguments | settings)
    assert "\n" not in str(error.value)


def test_gradients_are_on_between_tokens():
    model, ids = llama(), np.array([[2, 3]])
    next(model.generate_stream(ids, 3, temperature=0, prompt_lookup_num_tokens=4))
    model(ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


# Drafts


def test_the_longest_ngram_is_followed_where_it_stood_last():
    drafts = Drafts([1, 2, 3, 4, 5, 9, 3, 4, 6, 2, 3, 4], 8)
    assert drafts.next(8) == [5, 9]  # 2 3 4 stood there, and 3 4 later; two tokens at first
    drafts.append(7)
    assert drafts.next(8) == []
    for token in (3, 4):
        drafts.append(token)
    assert drafts.next(8) == [7, 3] and drafts.next(1) == [7] and drafts.next(0) == drafts.next(-2) == []


def test_a_draft_grows_with_success_and_shrinks_with_failure():
    drafts, lengths = Drafts([1, 2] * 20, 7), []
    for share in (1, 1, 1, 0.5, 1, 0, 1):
        drafted = len(drafts.next(99))
        drafts.report(drafted, int(share * drafted))
        lengths.append(drafted)
    assert lengths == [2, 4, 7, 7, 3, 6, 1]
    assert len(Drafts([1, 2] * 20, 1).next(9)) == 1
