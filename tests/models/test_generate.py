"""pytest tests/models/test_generate.py

Continuations with the cache, greedy and sampled, alone and in a padded batch."""

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
    """A tiny model that no token ends."""
    return tiny(eos_token_id=None, **settings)


# Greedy


@every_golden
def test_end_and_padding_as_transformers(name):
    model, golden = golden_model(name), GOLDEN[name]
    found = greedy(model, golden["input_ids"], 8, eos_token_id=int(golden["eos"]), pad_token_id=PAD)
    np.testing.assert_array_equal(found, golden["greedy_eos"])


@every_golden
def test_greedy_is_the_argmax_of_the_whole_each_time(name):
    model, ids = golden_model(name), GOLDEN[name]["input_ids"]
    expected = ids
    for _ in range(8):
        with no_grad():
            following = model(expected).logits.numpy()[:, -1].argmax(axis=-1)
        expected = np.concatenate([expected, following[:, None]], axis=1)
    np.testing.assert_array_equal(greedy(model, ids, 8), expected)


def test_a_cache_drops_rows():
    model = endless()
    cache = KVCache(8)
    with no_grad():
        model(PROMPTS, past_key_values=cache)
        cache.keep_rows(np.array([2, 0]))
        following = model(PROMPTS[[2, 0], :1], past_key_values=cache).logits.numpy()
        whole = model(np.concatenate([PROMPTS, PROMPTS[:, :1]], axis=1)).logits.numpy()[[2, 0], -1:]
    np.testing.assert_allclose(following, whole, rtol=0, atol=2e-6 * np.abs(whole).max())


def test_a_cache_takes_no_more_than_it_holds():
    model, cache = endless(), KVCache(6)
    with no_grad():
        model(PROMPTS, past_key_values=cache)
        with pytest.raises(MiniloraError, match="cache of 6 positions cannot take 8"):
            model(PROMPTS, past_key_values=cache)
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
    found = greedy(model, kind(PROMPTS), attention_mask=kind(mask))
    np.testing.assert_array_equal(found, greedy(model, PROMPTS, attention_mask=mask))


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
    """Only the logits are fetched from a device."""
    model, waits = endless(), []
    for new in (4, 10):
        strict.reset_syncs()
        model.generate(PROMPTS, new)
        waits.append(strict.sync_count())
    assert waits[1] - waits[0] == (6 if backend.name == "strict" else 0)


# As it is drawn


def test_a_stream_is_what_generate_returns():
    model = endless()
    new = greedy(model, PROMPTS, 8)[:, 4:]
    eos = int(new[0, 2])
    settings = {"attention_mask": np.array([[0, 1, 1, 1]] * 3), "eos_token_id": eos, "pad_token_id": PAD, "seed": 3}
    columns = list(model.generate_stream(PROMPTS, 8, **settings))
    assert all(column.shape == (3,) and column.dtype == np.int64 for column in columns)
    np.testing.assert_array_equal(np.stack(columns, axis=1), model.generate(PROMPTS, 8, **settings)[:, 4:])


def test_a_stream_refuses_at_once_and_leaves_gradients_on_between_tokens():
    model = endless()
    with pytest.raises(MiniloraError, match="32 positions"):
        model.generate_stream(PROMPTS, 29)
    stream = model.generate_stream(PROMPTS, 4)
    next(stream)
    model(PROMPTS, labels=PROMPTS).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_stream_goes_on_from_a_cache():
    model, cache = endless(), KVCache(32)
    first = [int(token) for (token,) in model.generate_stream(PROMPTS[:1], 3, temperature=0, past_key_values=cache)]
    assert cache.length == 6  # the last token was not read
    longer = np.array([[*PROMPTS[0], *first, 5]])
    found = [token for (token,) in model.generate_stream(longer, 4, temperature=0, past_key_values=cache)]
    np.testing.assert_array_equal(found, greedy(model, longer, 4)[0, 8:])
    with pytest.raises(MiniloraError, match="the cache holds 11 tokens and the prompt has 8"):
        model.generate_stream(longer, 4, past_key_values=cache)


def test_a_cache_of_several_rows_keeps_those_that_have_ended():
    """So that the next turn of all of them goes on from it, what they were filled up with included."""
    model, cache = endless(), KVCache(32)
    end = int(greedy(model, PROMPTS)[0, 5])
    settings = {"temperature": 0, "eos_token_id": end, "pad_token_id": PAD}
    new = list(model.generate_stream(PROMPTS, 6, **settings, past_key_values=cache))
    first = np.column_stack([PROMPTS, *new])
    assert (first[0, 6:] == PAD).all() and len(new) == 6
    np.testing.assert_array_equal(first, model.generate(PROMPTS, 6, **settings))
    longer = np.column_stack([first, [3, 4, 5]])
    found = np.column_stack(list(model.generate_stream(longer, 4, temperature=0, past_key_values=cache)))
    np.testing.assert_array_equal(found, greedy(model, longer, 4)[:, 11:])


@pytest.mark.parametrize("rows", [1, 2])
def test_a_cache_is_of_one_batch(rows):
    model, cache = endless(), KVCache(32)
    with no_grad():
        model(PROMPTS, past_key_values=cache)
        with pytest.raises(MiniloraError, match=f"holds 3 sequences and the batch has {rows}"):
            model(PROMPTS[:rows, :1], past_key_values=cache)


# The end of a row


def test_rows_end_and_are_filled_up():
    model = endless()
    free = greedy(model, PROMPTS, 8)
    new = free[:, 4:]
    eos = int(new[0, 2])
    out = greedy(model, PROMPTS, 8, eos_token_id=eos, pad_token_id=PAD)
    for row in range(3):
        ends = np.flatnonzero(new[row] == eos)
        end = ends[0] + 1 if ends.size else out.shape[1] - 4
        np.testing.assert_array_equal(out[row, 4 : 4 + end], new[row, :end])
        np.testing.assert_array_equal(out[row, 4 + end :], PAD)


def test_generation_stops_when_all_rows_have_ended():
    model = endless()
    new = greedy(model, PROMPTS[:1], 8)[0, 4:]
    out = greedy(model, PROMPTS[:1], 8, eos_token_id=int(new[0]))
    np.testing.assert_array_equal(out, [[*PROMPTS[0], new[0]]])


def test_several_ends():
    model = endless()
    new = greedy(model, PROMPTS, 8)[:, 4:]
    ends = [int(new[0, 1]), int(new[1, 1]), int(new[2, 1])]
    out = greedy(model, PROMPTS, 8, eos_token_id=ends, pad_token_id=PAD)
    assert out.shape[1] <= 6
    for row in range(3):
        assert out[row, 4] in ends or out[row, 5] in ends


def test_end_and_padding_by_default():
    """The configuration's; and without a pad_token_id, the first eos fills up."""
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


def test_rows_go_on_when_others_have_ended():
    model = endless()
    free = greedy(model, PROMPTS, 8)
    for eos in np.unique(free[:, 4:]):
        out = greedy(model, PROMPTS, 8, eos_token_id=int(eos), pad_token_id=PAD)
        for row in range(3):
            alone = greedy(model, PROMPTS[row : row + 1], 8, eos_token_id=int(eos), pad_token_id=PAD)[0]
            np.testing.assert_array_equal(out[row, : len(alone)], alone)


def test_each_row_keeps_its_generator_when_others_have_ended():
    model, seeds = endless(), [4, 5, 6]
    free = model.generate(PROMPTS, 12, seed=seeds)
    ended = 0
    for eos in np.unique(free[:, 4:]):
        out = model.generate(PROMPTS, 12, seed=seeds, eos_token_id=int(eos), pad_token_id=PAD)
        for row in range(3):
            ends = np.flatnonzero(free[row, 4:] == eos)
            length = 4 + (ends[0] + 1 if ends.size else out.shape[1] - 4)
            np.testing.assert_array_equal(out[row, :length], free[row, :length])
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
    "settings",
    [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-6}, {"top_k": 1, "top_p": 0.5, "temperature": 9.0}],
    ids=str,
)
def test_settings_that_leave_one_token_are_greedy(settings):
    model = endless()
    for seed in (0, 1):
        np.testing.assert_array_equal(model.generate(PROMPTS, 6, seed=seed, **settings), greedy(model, PROMPTS))


@pytest.mark.parametrize("settings", [{"top_k": 11}, {"top_k": 1000}, {"top_p": 1.0}], ids=str)
def test_settings_that_leave_all_tokens_change_nothing(settings):
    model = endless()
    np.testing.assert_array_equal(model.generate(PROMPTS, 6, **settings), model.generate(PROMPTS, 6))


def next_token_shares(model, rows: int = 3000, **settings) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of the next token, and how often each was drawn."""
    with no_grad():
        logits = model(PROMPTS[:1]).logits.numpy()[0, -1].astype("float64")
    drawn = model.generate(np.repeat(PROMPTS[:1], rows, axis=0), 1, seed=list(range(rows)), **settings)[:, -1]
    return logits, np.bincount(drawn, minlength=11) / rows


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_come_as_often_as_their_probability_says(temperature):
    logits, shares = next_token_shares(endless(scale=8), temperature=temperature)
    probabilities = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    assert (np.sort(probabilities)[-2:] > 0.03).all()  # else nothing would be tested
    np.testing.assert_allclose(shares, probabilities, atol=0.035)  # beyond 3.5 standard deviations at 3,000 draws


@pytest.mark.parametrize("k", [2, 4])
def test_top_k_keeps_the_k_most_likely(k):
    logits, shares = next_token_shares(endless(scale=8), top_k=k)
    kept = np.argsort(-logits)[:k]
    expected = np.zeros(11)
    expected[kept] = np.exp(logits[kept]) / np.exp(logits[kept]).sum()
    assert (shares[expected == 0] == 0).all()
    np.testing.assert_allclose(shares, expected, atol=0.035)


@pytest.mark.parametrize("p", [0.3, 0.6, 0.9])
def test_top_p_keeps_the_smallest_set_that_reaches_p(p):
    logits, shares = next_token_shares(endless(scale=8), top_p=p)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-probabilities)
    kept = order[: np.searchsorted(np.cumsum(probabilities[order]), p) + 1]
    expected = np.zeros(11)
    expected[kept] = probabilities[kept] / probabilities[kept].sum()
    assert (shares[expected == 0] == 0).all()
    np.testing.assert_allclose(shares, expected, atol=0.035)


def test_top_k_goes_before_top_p():
    """As in transformers: p is reached among the k, after they were made to add up to 1."""
    model = endless(scale=8)
    logits, _ = next_token_shares(model, rows=1)
    order = np.argsort(-logits)
    two = np.exp(logits[order[:2]]) / np.exp(logits[order[:2]]).sum()
    _, shares = next_token_shares(model, rows=300, top_k=2, top_p=float(two[0]) - 1e-6)
    assert shares[order[0]] == 1
    _, shares = next_token_shares(model, rows=300, top_k=2, top_p=float(two[0]) + 1e-3)
    assert shares[order[1]] > 0


def test_large_logits_do_not_overflow():
    model = endless(scale=2000)
    out = model.generate(PROMPTS, 4, temperature=0.01)
    assert out.shape == (3, 8)


# Bad input


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_new_tokens": -1}, "-1"),
        ({"max_new_tokens": 29}, "32 positions"),
        ({"temperature": -0.1}, "-0.1"),
        ({"temperature": float("nan")}, "nan"),
        ({"temperature": float("inf")}, "inf"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": -3}, "-3"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "1.1"),
        ({"top_p": float("nan")}, "nan"),
        ({"max_new_tokens": 5.0}, "max_new_tokens must be a whole number of at least 0, not 5.0"),
        ({"temperature": "1"}, "temperature must be a number of at least 0, not '1'"),
        ({"top_k": 2.5}, "top_k must be a whole number of at least 1 or None, not 2.5"),
        ({"top_p": "0.9"}, "top_p must be a number above 0 and at most 1 or None, not '0.9'"),
        ({"eos_token_id": "a"}, r"eos_token_id must be token ids, not \['a'\]"),
        ({"eos_token_id": 2.0}, r"eos_token_id must be token ids, not \[2.0\]"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"seed": [1, 2, "3"]}, "seed must be a whole number of at least 0, not '3'"),
        ({"seed": [1, 2]}, "2 seeds for 3 rows"),
        ({"attention_mask": np.ones((3, 5))}, "attention_mask"),
        ({"attention_mask": np.array([[1, 1, 1, 0]] * 3)}, "left"),
        ({"attention_mask": np.array([[1, 0, 1, 1]] * 3)}, "left"),
        ({"attention_mask": np.zeros((3, 4))}, "left"),
        ({"input_ids": np.array([1, 2, 3])}, r"\(3,\)"),
        ({"input_ids": np.zeros((2, 0), dtype=int)}, r"\(2, 0\)"),
        ({"input_ids": np.zeros((0, 2), dtype=int)}, r"\(0, 2\)"),
    ],
    ids=lambda x: str(x)[:50],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(MiniloraError, match=text):
        endless().generate(**{"input_ids": PROMPTS, "max_new_tokens": 4, **settings})


def test_settings_may_be_scalars_of_numpy():
    found = endless().generate(PROMPTS, np.int64(4), top_k=np.int32(3), temperature=np.float32(1), seed=np.int64(2))
    np.testing.assert_array_equal(found, endless().generate(PROMPTS, 4, top_k=3, seed=2))


@pytest.mark.parametrize("bad", [11, -1])
def test_a_token_out_of_range_is_refused(bad):
    with pytest.raises(IndexError, match=str(bad)):
        endless().generate(np.array([[2, bad]]), 4)


def test_ids_of_fractions_are_refused():
    with pytest.raises((TypeError, ValueError)):
        endless().generate(np.array([[2.5, 3.0]]), 4)


def test_the_longest_that_fits():
    assert endless().generate(PROMPTS, 28).shape == (3, 32)
