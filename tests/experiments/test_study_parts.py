"""pytest tests/experiments/test_study_parts.py: what studies are made of, without training."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments import gptq
from experiments.studies import (
    STUDIES,
    bracket,
    capacity,
    dynamic_evaluation,
    intruders,
    merge_trap,
    targets,
)
from minilora.data.tokenizer import TokenStream
from minilora.errors import MiniloraError
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.quant import dequantize_4bit, quantize_4bit
from minilora.tensor import Tensor
from minilora.train import load, metrics

pytestmark = pytest.mark.host


def test_the_full_plan_has_ranks_that_the_package_base_allows():
    from minilora.demo.base import PACKAGE_BASE, QUICK_BASE

    for base in (PACKAGE_BASE, QUICK_BASE):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=256, **base.sizes))
        whole = targets.cost(model, "all-linear") * targets.SPREAD
        width = model.model.layers[0].self_attn.v_proj.out_features
        for names in targets.WORDS:
            rank = targets.options(model, names).rank
            assert abs(rank * targets.cost(model, names) - whole) <= targets.cost(model, names) / 2 and rank <= width
        largest = max(STUDIES["rank"].full.values if base is PACKAGE_BASE else STUDIES["rank"].quick.values)
        assert largest <= width


def test_what_survives_of_normal_numbers():
    rng = np.random.default_rng(0)
    weight, delta = rng.standard_normal((2, 512, 512), dtype=np.float32)
    base = dequantize_4bit(*quantize_4bit(weight))
    for size, percent in merge_trap.EXPECTED.items():
        scaled = delta * np.float32(size * merge_trap.norm(base) / merge_trap.norm(delta))
        share = float((merge_trap.remains(base, scaled) * scaled).sum() / (scaled * scaled).sum())
        assert 100 * share == pytest.approx(percent, abs=10)


def test_facts_are_of_words_that_nothing_else_tells():
    tokenizer = load.tokenizer_of(load.base_folder())
    facts = capacity.made_up(tokenizer, 40_000, 0)
    assert len({tuple(row[:2]) for row in facts.rows}) == 40_000 and len(set(facts.alternatives)) == 256
    assert not set(facts.alternatives) & set(facts.rows[:, :2].flat) and set(facts.rows[:, 2:].flat) <= {
        *facts.alternatives
    }
    assert np.array_equal(facts.rows, capacity.made_up(tokenizer, 40_000, 0).rows)
    assert not np.array_equal(facts.rows, capacity.made_up(tokenizer, 40_000, 1).rows)
    text = tokenizer.decode(facts.rows[0])
    assert tokenizer.decode(tokenizer.encode(text)) == text and text.replace(" ", "").isalpha()
    labels = facts.next_batch()["labels"]
    assert (labels[:, :2] == -100).all() and np.array_equal(labels[:, 2:], facts.rows[:, 2:])


@pytest.mark.parametrize(("certain", "recalled", "bits"), [(0.0, None, 0.0), (30.0, 1.0, 32.0), (-30.0, 0.0, None)])
def test_bits_known_are_of_the_alternatives_at_the_place_before_each_attribute(certain, recalled, bits):
    """Give the next token the logit `certain`, a word that is not an answer 50, and all others 0."""
    alternatives = np.arange(100, 356)
    facts = capacity.Facts(np.array([[1, 2, 100, 355, 200, 200], [3, 4, 101, 102, 103, 104]]), alternatives)

    def model(ids):
        logits = np.zeros((*ids.shape, 400), dtype=np.float32)
        logits[..., 5] = 50.0
        rows, places = np.indices(ids[:, 1:].shape)
        logits[rows, places, ids[:, 1:]] = certain
        return SimpleNamespace(logits=Tensor(logits))

    measures = capacity.known(model, facts)
    if bits is None:
        assert measures["known"] == pytest.approx(8 * (8 - 30 / np.log(2) - np.log2(255)), abs=0.01)
    else:
        assert measures["known"] == pytest.approx(2 * bits, abs=1e-6)
    assert recalled is None or measures["recalled"] == recalled


def test_the_knee_is_between_the_amounts_measured():
    assert capacity.knee({64: 1.0, 256: 0.95, 1024: 0.85}) == pytest.approx(512)
    assert capacity.knee({64: 0.8, 256: 0.95}) == pytest.approx(32) and capacity.knee({64: 1.0, 256: 0.9}) == 256


def test_an_intruder_is_new_among_the_first_and_is_scaled_alone():
    rng = np.random.default_rng(0)
    q = [np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (96, 64)]
    before = q[0][:, :64] * np.linspace(3, 1, 64) @ q[1]
    u, v = q[0][:, 64:].sum(axis=1) / 32**0.5, q[1].sum(axis=0) / 8  # u is in none of the base's directions, v in all
    change = intruders.Change(before, before + 5 * np.outer(u, v))
    assert list(change.intruders()) == [0] and change.effective_rank == pytest.approx(1)
    assert np.array_equal(change.scaled(1.0), change.after)
    size = lambda weight: float(change.u[:, 0] @ weight @ change.vt[0])  # noqa: E731
    assert size(change.scaled(0.25)) == pytest.approx(size(change.after) / 4)
    assert np.linalg.svd(change.scaled(0.0))[1] == pytest.approx([*change.s[1:], 0])
    assert not len(intruders.Change(before, 2 * before + 0.01 * np.outer(u, v)).intruders(0.9))
    last = np.outer(0.9 * u - q[0][:, 63], q[1][63])  # puts a new direction in the place of the smallest
    assert not len(intruders.Change(before, before + last).intruders())


def test_effective_rank_counts_equal_singular_values():
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((24, 24)))[0]
    assert intruders.effective_rank(3 * q[:, :7] @ q[:7]) == pytest.approx(7)
    assert 1 < intruders.effective_rank(np.diag([1.0, 0.1, 0.0])) < 2


def test_gptq_is_the_nearest_code_where_inputs_are_independent_and_nearer_in_outputs_where_not():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((48, 128), dtype=np.float32)
    inputs = rng.standard_normal((400, 16)) @ rng.standard_normal((16, 128)) + 0.3 * rng.standard_normal((400, 128))
    for name in ("int4", "nf4"):
        nearest = dequantize_4bit(*quantize_4bit(weight, gptq.BLOCKSIZE, name))
        assert gptq.gptq(weight, 3.0 * np.eye(128), name) == pytest.approx(nearest, abs=1e-6)
        chosen = gptq.gptq(weight, inputs.T @ inputs, name)
        off = [float(((inputs @ (rounded - weight).T) ** 2).sum()) for rounded in (chosen, nearest)]
        assert off[0] < 0.5 * off[1] and ((chosen - weight) ** 2).sum() > ((nearest - weight) ** 2).sum()


def test_a_search_goes_on_until_both_sides_are_worse_and_the_parabola_finds_the_best_between():
    best, curve = 0.0123, 0.02
    loss = lambda rate: 2.0 + curve * np.log(rate / best) ** 2  # noqa: E731
    for start in (0.0005, 0.3):
        losses = bracket.bracketed(start, loss, 0.01)
        least = min(losses.values())
        first, *_, last = losses.values()
        assert first > least + 0.01 < last
        assert len(bracket.bracketed(start, loss)) <= len(losses)
        optimum = bracket.optimum(losses, 0.01)
        assert optimum["lr"] == pytest.approx(best, rel=0.01)
        assert optimum["high"] / optimum["low"] == pytest.approx(np.exp(2 * (0.01 / curve) ** 0.5), rel=0.15)
    cliff = bracket.bracketed(0.009, lambda rate: None if rate > 0.01 else 2.0 + (0.009 - rate))
    assert bracket.optimum(cliff, 0.01)["high"] < 0.01


@pytest.mark.parametrize(("plain", "rate"), [(False, 0.01), (True, 1.0)])
def test_reading_scores_each_window_before_the_step_on_it(plain, rate):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = lambda: LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes), seed=0)  # noqa: E731
    ids = np.tile(np.random.default_rng(0).integers(32, size=15), 8)  # the same in every window, less the last
    stream = TokenStream(ids, 2 * len(ids))
    as_it_is = dynamic_evaluation.read(model(), stream, 16)
    assert as_it_is.sum() / stream.characters == pytest.approx(metrics.evaluator(model(), stream, 16, 2)())
    bits = dynamic_evaluation.read(model(), stream, 16, rate, plain)
    assert bits[0] == as_it_is[0] and (np.diff(bits[:-1]) < 0).all() and len(bits) == 8
    with pytest.raises(MiniloraError, match=r"loss became .* at a rate of 1e"):
        dynamic_evaluation.read(model(), stream, 16, 1e30, plain)
