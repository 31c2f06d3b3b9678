"""pytest tests/models/test_generate.py

Continuations with the cache, greedy and sampled, alone and in a padded batch."""

import re

import numpy as np
import pytest

from minilora import Tensor, backend, no_grad
from minilora.errors import MiniloraError
from minilora.models.cache import KVCache
from tests.helpers import strict
from tests.models.test_llama import GOLDEN, PAD, every_golden, golden_model, host, ids_of, tiny

PROMPTS = ids_of(3, 4)


def greedy(model, ids, new: int = 6, **settings) -> np.ndarray:
    return model.generate(ids, new, temperature=0, **settings)


def endless(**settings):
    """Make a tiny model without an end token."""
    return tiny(eos_token_id=None, **settings)


# Greedy


@every_golden
def test_end_and_padding_as_transformers(name):
    model, golden = golden_model(name), GOLDEN[name]
    generated = greedy(model, golden["input_ids"], 8, eos_token_id=int(golden["eos"]), pad_token_id=PAD)
    np.testing.assert_array_equal(generated, golden["greedy_eos"])


def test_a_cache_drops_rows():
    model = endless()
    cache = KVCache(8)
    with no_grad():
        model(PROMPTS, past_key_values=cache)
        cache.keep_rows(np.array([2, 0]))
        following = model(PROMPTS[[2, 0], :1], past_key_values=cache).logits.numpy()
        whole = model(np.concatenate([PROMPTS, PROMPTS[:, :1]], axis=1)).logits.numpy()[[2, 0], -1:]
    np.testing.assert_allclose(following, whole, rtol=0, atol=2e-6 * np.abs(whole).max())


def test_a_cache_takes_no_more_than_it_holds_and_is_of_one_batch():
    model, cache = endless(), KVCache(6)
    with no_grad():
        model(PROMPTS, past_key_values=cache)
        for ids, words in [
            (PROMPTS, "cache of 6 positions has no room for 8"),
            (PROMPTS[:1, :1], "holds 3 sequences, but the batch has 1"),
            (PROMPTS[:2, :1], "holds 3 sequences, but the batch has 2"),
        ]:
            with pytest.raises(MiniloraError, match=words):
                model(ids, past_key_values=cache)
        with pytest.raises(ValueError, match="labels need the whole text"):
            model(PROMPTS, labels=PROMPTS, past_key_values=cache)
        assert cache.length == 4
        model(PROMPTS[:, :2], past_key_values=cache)


# Shape and kind of the result


def test_prompt_and_continuation():
    model = endless()
    out = model.generate(PROMPTS, 5)
    assert type(out) is np.ndarray and out.dtype == np.int64 and out.shape == (3, 9)
    np.testing.assert_array_equal(out[:, :4], PROMPTS)
    assert ((out >= 0) & (out < 11)).all()
    np.testing.assert_array_equal(model.generate(PROMPTS, 0), PROMPTS)


@pytest.mark.parametrize("kind", [backend.asarray, Tensor, lambda a: a.tolist(), lambda a: a.astype("int32")],
                         ids=["backend", "tensor", "list", "int32"])  # fmt: skip
def test_prompts_are_any_integers(kind):
    model = endless()
    mask = np.array([[0, 1, 1, 1]] * 3)
    generated = greedy(model, kind(PROMPTS), attention_mask=kind(mask))
    np.testing.assert_array_equal(generated, greedy(model, PROMPTS, attention_mask=mask))


def test_the_prompt_and_the_model_stay_as_they_are():
    model, prompts = endless(), PROMPTS.copy()
    before = {name: host(a).copy() for name, a in model.state_dict().items()}
    model.generate(prompts, 5)
    np.testing.assert_array_equal(prompts, PROMPTS)
    for name, p in model.named_parameters():
        assert p.grad is None and p.requires_grad
        np.testing.assert_array_equal(p.numpy(), before[name])
        p.data[...] = 0  # nothing holds it


def test_one_wait_a_token():
    """Each token waits for the device once, to fetch the logits."""
    model, waits = endless(), []
    for new in (4, 10):
        strict.reset_syncs()
        model.generate(PROMPTS, new)
        waits.append(strict.sync_count())
    assert waits[1] - waits[0] == (6 if backend.name == "strict" else 0)


# As it is drawn


def test_a_stream_refuses_at_once_and_leaves_gradients_on_between_tokens():
    model = endless()
    with pytest.raises(MiniloraError, match="32 positions"):
        model.generate_stream(PROMPTS, 29)
    stream = model.generate_stream(PROMPTS, 4)
    next(stream)
    model(PROMPTS, labels=PROMPTS).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("rows", [1, 3])
def test_a_stream_goes_on_from_a_cache(rows):
    """Ended rows stay in the cache with their padding, so that all rows can continue with the next turn."""
    model, cache, prompts = endless(), KVCache(32), PROMPTS[:rows]
    end = int(greedy(model, prompts)[0, 5]) if rows > 1 else []
    settings = {"temperature": 0, "eos_token_id": end, "pad_token_id": PAD}
    first = np.column_stack([prompts, *model.generate_stream(prompts, 6, **settings, past_key_values=cache)])
    assert first.shape == (rows, 10) and cache.length == 9  # the last token was not read
    assert (first[0, 6:] == PAD).all() == (rows > 1)
    np.testing.assert_array_equal(first, model.generate(prompts, 6, **settings))
    longer = np.column_stack([first, [3, 4, 5][:rows]])
    streamed = np.column_stack(list(model.generate_stream(longer, 4, temperature=0, past_key_values=cache)))
    np.testing.assert_array_equal(streamed, greedy(model, longer, 4)[:, 11:])
    with pytest.raises(MiniloraError, match="the cache holds 14 tokens and the prompt has 11"):
        model.generate_stream(longer, 4, past_key_values=cache)


# The end of a row


def test_several_ends_and_the_last_is_the_end_of_all():
    model = endless()
    new = greedy(model, PROMPTS, 8)[:, 4:]
    ends = [int(row[1]) for row in new]
    out = greedy(model, PROMPTS, 8, eos_token_id=ends, pad_token_id=PAD)
    assert out.shape[1] <= 6
    assert all(row[4] in ends or row[5] in ends for row in out)
    alone = greedy(model, PROMPTS[:1], 8, eos_token_id=int(new[0, 0]))
    np.testing.assert_array_equal(alone, [[*PROMPTS[0], new[0, 0]]])


def test_end_and_padding_by_default():
    """The tokens come from the configuration; without a pad_token_id, rows are padded with the first eos."""
    free = greedy(endless(), PROMPTS, 8)[:, 4:]
    eos = int(free[0, 1])
    expected = greedy(endless(), PROMPTS, 8, eos_token_id=eos, pad_token_id=PAD)
    np.testing.assert_array_equal(greedy(tiny(eos_token_id=eos, pad_token_id=PAD), PROMPTS, 8), expected)
    np.testing.assert_array_equal(greedy(tiny(eos_token_id=[eos], pad_token_id=PAD), PROMPTS, 8), expected)
    filled = greedy(tiny(eos_token_id=[eos, 10**6], pad_token_id=None), PROMPTS, 8)
    after = np.cumsum(expected[:, 4:] == eos, axis=1) - (expected[:, 4:] == eos) > 0
    np.testing.assert_array_equal(filled[:, 4:][after], eos)
    np.testing.assert_array_equal(filled[:, 4:][~after], expected[:, 4:][~after])


# Batches


@pytest.mark.parametrize(
    "settings", [{"temperature": 0}, {"temperature": 1.0}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9}], ids=str
)
def test_a_row_in_a_left_padded_batch_gets_what_it_gets_alone(settings):
    model, lengths = endless(), (6, 3, 1)
    ids = ids_of(3, 6)
    batch, mask = np.full((3, 6), PAD), np.zeros((3, 6), dtype=int)
    for row, length in enumerate(lengths):
        batch[row, 6 - length :], mask[row, 6 - length :] = ids[row, :length], 1
    out = model.generate(batch, 8, attention_mask=mask, seed=5, **settings)
    for row, length in enumerate(lengths):
        alone = model.generate(ids[row : row + 1, :length], 8, seed=5, **settings)
        np.testing.assert_array_equal(out[row, 6 - length :], alone[0])


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"seed": [4, 5, 6]}], ids=str)
def test_rows_end_are_filled_up_and_the_others_go_on_as_before(settings):
    """Each row has a generator of its own."""
    model, ended = endless(), 0
    free = model.generate(PROMPTS, 12, **settings)
    for eos in np.unique(free[:, 4:]):
        out = model.generate(PROMPTS, 12, eos_token_id=int(eos), pad_token_id=PAD, **settings)
        for row in range(3):
            ends = np.flatnonzero(free[row, 4:] == eos)
            length = 4 + (ends[0] + 1 if ends.size else out.shape[1] - 4)
            np.testing.assert_array_equal(out[row, :length], free[row, :length])
            np.testing.assert_array_equal(out[row, length:], PAD)
            ended += length < out.shape[1]
    assert ended


# Sampling


def test_seeds():
    model = endless()
    first, same, other = (model.generate(PROMPTS, 12, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    twice = model.generate(np.repeat(PROMPTS[:1], 2, axis=0), 12, seed=[1, 2])
    np.testing.assert_array_equal(twice[0], first[0])
    np.testing.assert_array_equal(twice[1], other[0])
    assert (twice[0] != twice[1]).any()


@pytest.mark.parametrize(
    "settings, like",
    [
        ({"top_k": 1}, {"temperature": 0}),
        ({"top_p": 1e-9}, {"temperature": 0}),
        ({"temperature": 1e-6}, {"temperature": 0}),
        ({"top_k": 1, "top_p": 0.5, "temperature": 9.0}, {"temperature": 0}),
        ({"top_k": 11}, {}),
        ({"top_k": 1000}, {}),
        ({"top_p": 1.0}, {}),
    ],
    ids=str,
)
def test_settings_that_leave_one_token_are_greedy_and_those_that_leave_all_change_nothing(settings, like):
    model = endless()
    for seed in (0, 1):
        generated = model.generate(PROMPTS, 6, seed=seed, **settings)
        np.testing.assert_array_equal(generated, model.generate(PROMPTS, 6, seed=seed, **like))


def next_token_shares(model, rows: int = 3000, **settings) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the next token, and how often each was drawn."""
    with no_grad():
        logits = model(PROMPTS[:1]).logits.numpy()[0, -1].astype("float64")
    drawn = model.generate(np.repeat(PROMPTS[:1], rows, axis=0), 1, seed=list(range(rows)), **settings)[:, -1]
    return logits, np.bincount(drawn, minlength=11) / rows


@pytest.mark.parametrize(
    "settings",
    [*({"temperature": t} for t in (0.5, 1.0, 3.0)), *({"top_k": k} for k in (2, 4)),
     *({"top_p": p} for p in (0.3, 0.6, 0.9))],
    ids=str,
)  # fmt: skip
def test_tokens_come_as_often_as_their_probability_says(settings):
    """top_k keeps the k most likely, top_p the smallest set that reaches p."""
    logits, shares = next_token_shares(endless(scale=8), **settings)
    expected = np.exp(logits / settings.get("temperature", 1))
    expected /= expected.sum()
    assert (np.sort(expected)[-2:] > 0.03).all()  # else nothing would be tested
    order = np.argsort(-expected)
    least = np.searchsorted(np.cumsum(expected[order]), settings.get("top_p", 1)) + 1
    expected[order[settings.get("top_k", least) :]] = 0
    expected /= expected.sum()
    assert (shares[expected == 0] == 0).all()
    np.testing.assert_allclose(shares, expected, atol=0.035)  # beyond 3.5 standard deviations at 3,000 draws


def test_top_k_goes_before_top_p():
    """The k most likely tokens are normalized to add up to 1 before top_p cuts them, as in transformers."""
    model = endless(scale=8)
    logits, _ = next_token_shares(model, rows=1)
    order = np.argsort(-logits)
    two = np.exp(logits[order[:2]]) / np.exp(logits[order[:2]]).sum()
    _, shares = next_token_shares(model, rows=300, top_k=2, top_p=float(two[0]) - 1e-6)
    assert shares[order[0]] == 1
    _, shares = next_token_shares(model, rows=300, top_k=2, top_p=float(two[0]) + 1e-3)
    assert shares[order[1]] > 0


# Bad input


REFUSED = [
    ("max_new_tokens", -1, "-1"),
    ("max_new_tokens", 29, "32 positions"),
    ("max_new_tokens", 5.0, "max_new_tokens must be a whole number of at least 0, not 5.0"),
    *(("temperature", value, "temperature must be a number of") for value in (-0.1, float("nan"), float("inf"), "1")),
    *(("top_k", value, "top_k must be a whole number of at least 1 or None") for value in (0, -3, 2.5)),
    *(("top_p", value, "top_p must be a number above 0 and at most 1") for value in (0.0, 1.1, float("nan"), "0.9")),
    ("eos_token_id", "a", r"eos_token_id must be token ids, not \['a'\]"),
    ("eos_token_id", 2.0, r"eos_token_id must be token ids, not \[2.0\]"),
    ("seed", -1, "seed must be a whole number of at least 0, not -1"),
    ("seed", [1, 2, "3"], "seed must be a whole number of at least 0, not '3'"),
    ("seed", [1, 2], "2 seeds for 3 rows"),
    ("attention_mask", np.ones((3, 5)), "attention_mask"),
    *(("attention_mask", np.array([row] * 3), "left") for row in ([1, 1, 1, 0], [1, 0, 1, 1], [0, 0, 0, 0])),
    *(("input_ids", np.zeros(shape, int), re.escape(f"not {shape}")) for shape in ((3,), (2, 0), (0, 2))),
    ("input_ids", np.array([[2.5, 3.0]]), "integers"),
    *(("input_ids", np.array([[2, bad]]), str(bad)) for bad in (11, -1)),
]


@pytest.mark.parametrize(("name", "value", "text"), REFUSED, ids=lambda x: str(x)[:50])
def test_settings_out_of_range_are_refused(name, value, text):
    with pytest.raises((MiniloraError, IndexError), match=text):
        endless().generate(**{"input_ids": PROMPTS, "max_new_tokens": 4, name: value})


def test_settings_may_be_scalars_of_numpy_and_logits_large():
    generated = endless().generate(PROMPTS, np.int64(4), top_k=np.int32(3), temperature=np.float32(1), seed=np.int64(2))
    np.testing.assert_array_equal(generated, endless().generate(PROMPTS, 4, top_k=3, seed=2))
    assert endless(scale=2000).generate(PROMPTS, 28, temperature=0.01).shape == (3, 32)  # the longest that fits
