"""pytest tests/experiments/test_studies.py

Every study with everything made tiny, and what its sentence makes of numbers."""

import json
import shutil
from dataclasses import asdict, replace
from math import inf
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.bench import SCRATCH_RATE, Bench
from experiments.studies import (
    STUDIES,
    capacity,
    data_types,
    forgetting,
    intruders,
    low_data,
    merge_trap,
    strength,
    targets,
)
from experiments.studies.study import RECORDS
from minilora.data.tokenizer import Tokenizer
from minilora.demo.base import Base
from minilora.measure import lr_search
from minilora.measure.lab import SCRATCH
from minilora.measure.records import Records
from minilora.peft import METHODS
from minilora.peft.method import SIZES
from minilora.quant import dequantize_4bit, quantize_4bit
from minilora.show.grids import Spread, drawn, render
from minilora.tensor import Tensor
from minilora.train import load
from minilora.train.loop import TrainConfig

pytestmark = pytest.mark.host

BASE = Base(
    sizes={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    | {"max_position_embeddings": 256, "tie_word_embeddings": True},
    config=TrainConfig(steps=4, peak_lr=1e-2, eval_every=2),
    vocab_size=1024,
    seq_len=32,
    batch_size=4,
)
SMALL = {
    "rank": {"values": (1, 4)},
    "targets": {"values": ("q_proj", "o_proj", targets.BOTH, targets.ATTENTION, targets.MLP, "all-linear")},
    "data-types": {},
    "adapter-width": {"values": (2, 4)},
    "prefix-length": {"values": (1, 2)},
    "low-data": {"values": (1, 2), "kinds": (SCRATCH, "full")},
    "forgetting": {"values": (1.0, 3.0), "replay": (0.5,), "replay_at": 1.0},
    "strength": {"values": (0.0, 0.5, 1.0, 1.5), "trainings": ((1 / 3, 2), (1.0, 1), (1.0, 2))},
    "prompting": {"values": (0, 1, 2), "timed": 1},
    "merge-trap": {},
    "capacity": {"values": (1, 2), "facts": (1, 4), "searched": 4, "longer": ((1, 4),)}
    | {"target": "layers.0.mlp.down_proj"},
    "intruders": {"values": (1, 4), "faster": (4,), "scales": (1.0, 0.5, 0.0), "gain": 1.0},
}


def tiny(name: str):
    plan = replace(
        STUDIES[name].quick,
        base=BASE,
        seeds=(0, 1),
        rates=1,
        characters=2_000,
        adapt=TrainConfig(steps=2, eval_every=1),
        labels=1,
        classify=TrainConfig(steps=1),
        test_characters=1_000,
        validation_characters=1_000,
        test_examples=16,
        **SMALL[name],
    )
    return type(name, (STUDIES[name],), {"quick": plan})


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory, cache):
    """{name: (exit code, folder, what was printed)} of every study, each run when it is first asked for."""
    found = {}

    def run(name: str, capsys):
        if name not in found:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MINILORA_CACHE", cache)
                patch.setitem(STUDIES, name, tiny(name))
                out = tmp_path_factory.mktemp("runs") / name
                code = main(["study", name, "--quick", "--out", str(out), "--json"])
            found[name] = code, out, capsys.readouterr()
        return found[name]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_measured_and_shown(measured, capsys, name):
    code, out, said = measured(name, capsys)
    assert code == 0, said.err
    facts, study = json.loads(said.out), tiny(name)
    keys = [tuple(cell["key"]) for cell in facts["cells"]]
    assert set(study.cells(study.quick)) <= set(keys) and len(keys) == len(set(keys))
    assert facts["sentence"] and facts["sentence"] == study(Records.read(out / RECORDS, study.kind)).sentence()
    assert "nan" not in facts["sentence"] and (out / f"{name}.png").stat().st_size > 5_000
    assert max(map(len, said.err.splitlines())) <= 80
    assert "".join(facts["sentence"].split()) in "".join(said.err.split())


@pytest.mark.parametrize("plan", ["full", "large"])
@pytest.mark.parametrize("name", STUDIES)
def test_the_table_fits_80_columns_without_breaking_a_number(name, plan):
    """Rows as wide as they can be: a table that is too wide breaks its cells over lines."""
    study = STUDIES[name]
    records = imagined(study, getattr(study, plan))
    lines = render(drawn(study(records).grid())).splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith("──"))
    rows = len(study(records).grid().rows)
    assert max(map(len, lines)) <= 80
    first = [line.split(" ")[0] for line in lines[rule + 1 : rule + 1 + rows]]
    assert first == [row[0].split(" ")[0] for row in study(records).grid().rows]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["merge-trap"])
def test_a_study_that_was_cut_off_goes_on_with_the_same_numbers(measured, capsys, monkeypatch, tmp_path, cache, name):
    _, out, _ = measured(name, capsys)
    study = tiny(name)
    whole = (out / RECORDS).read_text().splitlines(keepends=True)
    monkeypatch.setitem(STUDIES, name, study)
    monkeypatch.setenv("MINILORA_CACHE", cache)
    (tmp_path / RECORDS).write_text("".join(whole[:-3]) + whole[-3][:-9])
    before = Records.read(out / RECORDS, study.kind).rows
    assert main(["study", name, "--quick", "--out", str(tmp_path)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["study", name, "--quick", "--out", str(tmp_path), "--resume"]) == 0
    assert "cut off" in capsys.readouterr().err
    again = Records.read(tmp_path / RECORDS, study.kind).rows
    assert list(again) == list(before)
    assert [row | {"seconds": 0} for row in again.values()] == [row | {"seconds": 0} for row in before.values()]


# Numbers that are certain


def rows_of(measured, capsys, name: str) -> Records:
    return Records.read(measured(name, capsys)[1] / RECORDS, STUDIES[name].kind)


@pytest.mark.slow
def test_parameters_grow_as_the_rank(measured, capsys):
    records = rows_of(measured, capsys, "rank")
    assert [records.rows["rank", r, 0]["trainable"] for r in (1, 4)] == [64, 256]  # 2 layers of 16 + 16


@pytest.mark.slow
def test_budgets_are_equal_within_the_rounding_of_the_rank(measured, capsys):
    records = rows_of(measured, capsys, "targets")
    of_one = {"q_proj": 32, "o_proj": 32, targets.BOTH: 64, targets.ATTENTION: 128, targets.MLP: 96, "all-linear": 224}
    for names, cost in of_one.items():
        row = records.rows["targets", names, 0]
        assert row["trainable"] == row["rank"] * cost
        assert abs(row["trainable"] - 2 * of_one["all-linear"]) <= cost / 2


@pytest.mark.slow
def test_each_choice_of_matrices_has_a_rate_of_its_own(measured, capsys):
    records = rows_of(measured, capsys, "targets")
    for names in SMALL["targets"]["values"]:
        tried = {key[-1]: row["loss"] for key, row in records.rows.items() if key[:3] == ("rate", "lora", names)}
        assert records.rows["targets", names, 0]["lr"] == min(tried, key=tried.get)
    losses = {row["loss"] for row in records.of("rate")}
    assert len(losses) == sum(1 for _ in records.of("rate")) >= len(SMALL["targets"]["values"])


def test_the_full_plan_has_ranks_that_the_package_base_allows():
    from minilora.demo.base import PACKAGE_BASE, QUICK_BASE
    from minilora.models.llama import LlamaConfig, LlamaForCausalLM

    for base in (PACKAGE_BASE, QUICK_BASE):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=256, **base.sizes))
        whole = targets.cost(model, "all-linear") * targets.SPREAD
        width = model.model.layers[0].self_attn.v_proj.out_features
        for names in targets.WORDS:
            rank = targets.options(model, names).rank
            assert abs(rank * targets.cost(model, names) - whole) <= targets.cost(model, names) / 2 and rank <= width
        largest = max(STUDIES["rank"].full.values if base is PACKAGE_BASE else STUDIES["rank"].quick.values)
        assert largest <= width


@pytest.mark.slow
def test_nf4_is_nearest_and_costs_the_bits_that_it_should(measured, capsys):
    records = rows_of(measured, capsys, "data-types")
    base = {name: records.rows["base", name, 0] for name in ("float32", *data_types.TYPES)}
    assert base["nf4"]["error"] < base["int4"]["error"] < base["fp4"]["error"] and base["float32"]["error"] == 0
    assert [base[name]["bits"] for name in ("float32", "nf4", "fp4", "int4")] == [32, 4.5, 4.5, 4.5]
    assert 4.126 < base["nf4+dq"]["bits"] < 4.5
    assert base["nf4"]["base_text"] != base["float32"]["base_text"] != records.rows["base", "float32", 1]["base_text"]
    one = base["float32"]
    assert one["perplexity"] > 2 ** one["base_text"]  # a token is more than a character


@pytest.mark.slow
def test_the_larger_an_update_the_more_of_it_survives(measured, capsys):
    records = rows_of(measured, capsys, "merge-trap")
    for seed in (0, 1):
        rows = [records.rows["merged", size, seed] for size in merge_trap.EXPECTED]
        kept = [row["survives"] for row in rows]
        assert kept == sorted(kept) and kept[0] < 0.3 and kept[-1] > 0.9
        assert [row["relative"] for row in rows] == pytest.approx(list(merge_trap.EXPECTED), rel=1e-4)
        for row in rows:
            assert row["float"] == pytest.approx(row["adapter"], rel=1e-5)
            assert row["requantized"] != row["float"]


def test_what_survives_of_normal_numbers():
    rng = np.random.default_rng(0)
    weight, delta = rng.standard_normal((2, 512, 512), dtype=np.float32)
    base = dequantize_4bit(*quantize_4bit(weight))
    for size, percent in merge_trap.EXPECTED.items():
        scaled = delta * np.float32(size * merge_trap.norm(base) / merge_trap.norm(delta))
        kept = float((merge_trap.remains(base, scaled) * scaled).sum() / (scaled * scaled).sum())
        assert 100 * kept == pytest.approx(percent, abs=10)


@pytest.mark.slow
def test_replay_and_methods_change_what_is_trained(measured, capsys):
    records = rows_of(measured, capsys, "forgetting")
    plain, mixed = (records.rows["full", 1.0, share, 0] for share in (0.0, 0.5))
    assert plain["domain"] != mixed["domain"] and plain["lr"] == mixed["lr"] == METHODS["full"].lr
    assert records.rows["full", 3.0, 0.0, 0]["lr"] == pytest.approx(3 * METHODS["full"].lr)


@pytest.mark.slow
def test_strengths_are_of_the_last_training_in_its_best_state(measured, capsys):
    records = rows_of(measured, capsys, "strength")
    base, quality = records.rows["base",], lambda row: (row["domain"], row["base_text"])
    for seed in (0, 1):
        one = records.rows["strength", 1.0, seed]
        best = one["best_step"]
        kept = base if not best else records.rows["training", 1.0, 2, best, seed]
        assert quality(one) == quality(kept)
        assert quality(records.rows["strength", 0.0, seed]) == quality(base)
        assert quality(records.rows["strength", 1.5, seed]) != quality(one)
    rates = {key[1:3]: row["lr"] for key, row in records.rows.items() if key[0] == "training"}
    found = min(records.of("rate"), key=lambda row: row["loss"])["key"][-1]
    assert rates[1.0, 1] == rates[1.0, 2] == found == 3 * rates[1 / 3, 2]
    short, whole = (records.rows["training", 1.0, steps, 1, 0] for steps in (1, 2))
    assert quality(short) != quality(base) and quality(whole) != quality(base)


@pytest.mark.slow
def test_both_starts_of_a_prefix_have_as_many_numbers(measured, capsys):
    records = rows_of(measured, capsys, "prefix-length")
    for length in (1, 2):
        real, drawn = (records.rows[kind, length, 0] for kind in ("tokens", "random"))
        assert real["trainable"] == drawn["trainable"] == length * 32 and real["domain"] != drawn["domain"]


def test_all_labels_are_as_many_as_the_task_has():
    plan = replace(STUDIES["low-data"].full, seeds=(0,), kinds=("full",))
    assert [labels for _, labels, _ in STUDIES["low-data"].cells(plan)] == [8, 32, 128, low_data.most()]
    assert low_data.most() > 128


def test_facts_are_of_words_that_nothing_else_tells():
    tokenizer = Tokenizer.from_file(load.base_folder() / "tokenizer.json")
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
    """A model that is as certain of the next token as is said, or of all others, and likes a word that is no answer."""
    alternatives = np.arange(100, 356)
    facts = capacity.Facts(np.array([[1, 2, 100, 355, 200, 200], [3, 4, 101, 102, 103, 104]]), alternatives)

    def model(ids):
        logits = np.zeros((*ids.shape, 400), dtype=np.float32)
        logits[..., 5] = 50.0
        rows, places = np.indices(ids[:, 1:].shape)
        logits[rows, places, ids[:, 1:]] = certain
        return SimpleNamespace(logits=Tensor(logits))

    found = capacity.known(model, facts)
    if bits is None:
        assert found["known"] == pytest.approx(8 * (8 - 30 / np.log(2) - np.log2(255)), abs=0.01)
    else:
        assert found["known"] == pytest.approx(2 * bits, abs=1e-6)
    assert recalled is None or found["recalled"] == recalled


def test_the_knee_is_between_the_amounts_measured():
    assert capacity.knee({64: 1.0, 256: 0.95, 1024: 0.85}) == pytest.approx(512)
    assert capacity.knee({64: 0.8, 256: 0.95}) == pytest.approx(32) and capacity.knee({64: 1.0, 256: 0.9}) == 256


@pytest.mark.slow
def test_more_steps_and_a_rate_for_each_rank(measured, capsys):
    records = rows_of(measured, capsys, "capacity")
    assert [records.rows["facts", r, 4, 0]["trainable"] for r in (1, 2)] == [32, 64]  # of 16 + 16
    assert records.rows["longer", 1, 4, 0]["known"] != records.rows["facts", 1, 4, 0]["known"]
    assert {key[2] for key in records.rows if key[0] == "rate"} == {0, 1, 2}


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


@pytest.mark.slow
def test_training_ends_nearest_to_the_gain_and_scaling_changes_the_model(measured, capsys):
    records = rows_of(measured, capsys, "intruders")
    assert {key[2] for key in records.rows if key[0] == "rate"} == {0, 1, 4}
    for run in (("own", 0), ("own", 1), ("own", 4), ("faster", 4)):
        whole, half = (records.rows[(*run, scale, 0)] for scale in (1.0, 0.5))
        assert whole["intruders"] == half["intruders"] == whole["by_epsilon"][2]
        assert whole["by_epsilon"] == sorted(whole["by_epsilon"])
        assert (whole["domain"] != half["domain"]) == (whole["intruders"] > 0)
    assert records.rows["faster", 4, 1.0, 0]["intruders"] > 0
    assert records.rows["own", 1, 1.0, 0]["effective_rank"] == pytest.approx(1, abs=0.01)
    assert records.rows["faster", 4, 1.0, 0]["lr"] == pytest.approx(3 * records.rows["own", 4, 1.0, 0]["lr"], rel=0.02)


@pytest.mark.slow
def test_nothing_to_gain_is_nothing_trained(monkeypatch, tmp_path, cache):
    monkeypatch.setenv("MINILORA_CACHE", cache)
    study = tiny("intruders")
    plan = replace(study.quick, gain=0.0, scales=(1.0,), seeds=(0,))
    rows = study.run(tmp_path, plan).rows
    for rank in (0, 1):
        assert rows["own", rank, 1.0, 0]["best_step"] == 0 and rows["own", rank, 1.0, 0]["intruders"] == 0
        assert rows["own", rank, 1.0, 0]["domain"] == rows["base",]["domain"]


# What sentences make of numbers: they say the opposite when the numbers do


@pytest.mark.parametrize("name", STUDIES)
def test_one_run_on_another_model_is_said_and_drawn(name):
    """Its plan may leave out what `full` compares: longer runs, faster ones, all widths but one."""
    study = STUDIES[name]
    full = {"recalled": 1.0, "known": 80.0}
    result = study(imagined(study, study.large, lambda key: full if key[:2] == ("facts", 0) else {}))
    assert result.sentence() == result.sentence().strip() and result.sentence()[-1] in ".!"
    assert result.figure() is not None


def imagined(study, plan, numbers=lambda key: {}) -> Records:
    """Records of the plan in memory, every cell with numbers of everything, some of them by `numbers(key)`."""
    ordinary = {"domain": 2.5, "base_text": 2.0, "total": 2_828_736, "trainable": 2_828_736, "lr": 0.00033}
    ordinary |= {"seconds": 22.0, "accuracy": 0.5, "rank": 18, "bits": 4.126, "error": 0.121, "perplexity": 128.25}
    ordinary |= {"best_step": 50, "tokens": 410.0, "prompt_ms": 105.5, "trained_ms": 10.5, "classes": 8, "steps": 48}
    ordinary |= {"relative": 1.05, "survives": 0.995, "adapter": 2.5, "float": 2.5, "requantized": 2.5}
    ordinary |= {"recalled": 0.875, "known": 1024.5, "intruders": 2.5, "effective_rank": 108.5, "by_epsilon": [2.5] * 7}
    settings = json.loads(json.dumps(asdict(plan)))
    rows = {key: {"key": list(key)} | ordinary | numbers(key) for key in study.cells(plan)}
    return Records(None, {"settings": settings}, rows)


def said(name: str, numbers, plan: str = "full") -> str:
    study = STUDIES[name]
    return study(imagined(study, getattr(study, plan), numbers)).sentence()


def noisy(value: float, seed: int) -> float:
    """`value` within a hundredth of a bit, by seed."""
    return value + 0.01 * (seed - 1)


def by_value(values: dict, base: float = 3.0, place: int = 1):
    """Domain bits by one part of the key, or of the kind; the base has `base`."""

    def numbers(key: tuple) -> dict:
        if key[0] == "base":
            return {"domain": base}
        return {"domain": noisy(values.get(key[place], values.get(key[0], 2.5)), key[-1])}

    return numbers


def test_rank_flat_and_not():
    flat = said("rank", by_value(dict.fromkeys((1, 2, 4, 8, 16, 64), 2.5)))
    assert "flat, as published" in flat and "0.500 ± 0.010: level" in flat
    rising = said("rank", by_value({1: 2.9, 2: 2.9}))
    assert "not flat: ranks 1 and 2 fall behind rank 4" in rising and "0.500 ± 0.010: more" in rising
    falling = said("rank", by_value({64: 2.9}))
    assert "rank 64 falls behind" in falling and "0.100 ± 0.010: less" in falling


def test_targets_order():
    ahead = said("targets", by_value({targets.BOTH: 2.2}))
    assert "ahead of the best matrix alone" in ahead and "as published" in ahead and "No other choice" in ahead
    behind = said("targets", by_value({"o_proj": 2.2}))
    assert "behind the best matrix alone, o at rank" in behind and "unlike the published" in behind
    level = said("targets", by_value({"all-linear": 2.2}))
    assert "level with the best matrix alone" in level and "Most is learned with all linears" in level


def test_the_mlp_against_attention_by_pairs():
    ahead = said("targets", by_value({targets.MLP: 2.3, targets.ALL: 2.3}))
    assert "gain +0.200 (by seed +0.200, +0.200 and +0.200) bits/character against attention's" in ahead
    assert "more with every seed, as published. All linears with 2,828,736 gain +0.000 (by seed" in ahead
    assert ahead.endswith("the seeds do not agree, so attention's matrices add nothing that shows, as published.")
    behind = said("targets", by_value({targets.MLP: 2.6}))
    assert "gain −0.100 (by seed" in behind and "less with every seed, unlike published" in behind
    assert behind.endswith("more with every seed, unlike published: attention's matrices add to the MLP's.")
    apart = {0: 2.4, 1: 2.4, 2: 2.501}  # far ahead with two seeds, behind with one
    one = said("targets", lambda key: {"domain": apart[key[-1]]} if targets.MLP in key else {})
    assert "+0.066 (by seed +0.100, +0.100 and −0.001)" in one and "the published lead does not show. All" in one
    nearly = said("targets", lambda key: {"domain": 2.5004 if targets.ALL in key else 2.5}, "large")
    assert "gain +0.000 against the MLP's: level, so attention's matrices add nothing that shows, as" in nearly


def test_data_types_order():
    def costs(nf4: float, fp4: float, int4: float, adapted: float = 2.5, plan: str = "full"):
        lost = {"nf4": nf4, "nf4+dq": nf4, "fp4": fp4, "int4": int4, "float32": 0.0}

        def numbers(key: tuple) -> dict:
            kind, name, seed = key
            scatter = 0.001 * seed if name != "float32" else 0.0
            return {"base_text": 2 + lost[name] + scatter, "domain": noisy(adapted if name == "int4" else 2.5, seed)}

        return said("data-types", numbers, plan)

    assert "from 0.0110 ± 0.0010 (NF4) to 0.0310 ± 0.0010 (INT4) bits" in costs(0.01, 0.02, 0.03)
    assert "as published" in costs(0.01, 0.02, 0.03) and "all types are level" in costs(0.01, 0.02, 0.03)
    assert "INT4 before FP4, unlike" in costs(0.01, 0.03, 0.02)
    assert "only in part" in costs(0.01, 0.03, 0.031)
    assert "INT4 (2.600 ± 0.010) differs from" in costs(0.01, 0.02, 0.03, adapted=2.6)
    one_seed = costs(0.01, 0.02, 0.03, adapted=2.6, plan="large")
    assert one_seed.endswith("2.490 (FP4) and 2.590 (INT4), after LoRA over float32 2.490.")
    assert "differ" not in one_seed


def test_adapter_width_against_full():
    def numbers(full: float):
        wide = {4: 0.003, 16: 0.01, 64: 0.036, 256: 0.14}
        domain = by_value({4: 2.8, 0: full})
        share = lambda key: wide.get(key[1], 1.0) if len(key) > 1 else 1.0  # noqa: E731
        return lambda key: domain(key) | {"trainable": int(share(key) * 2_828_736)}

    near = said("adapter-width", numbers(2.5))
    assert "width 64 train 3.6 %" in near and "level with full" in near and "as published" in near
    assert "Pfeiffer of width 16 (1.0 %)" in near
    far = said("adapter-width", numbers(2.2))
    assert "less than full" in far and "unlike the published" in far and "No width comes up" in far


def test_prefix_start_and_length():
    def numbers(real: dict, drawn: float):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {"domain": 3.0}
            return {"domain": noisy(real[key[1]] if key[0] == "tokens" else drawn, key[-1])}

        return said("prefix-length", of)

    rising = {1: 2.9, 4: 2.8, 16: 2.7, 64: 2.6}
    assert "learns more than one from random numbers at every length, as published" in numbers(rising, 2.95)
    assert "the longer the better up to 64" in numbers(rising, 2.95)
    assert "less than one from random numbers at 1, 4, 16 and 64 tokens, unlike published (" in numbers(rising, 2.0)
    falling = {1: 2.9, 4: 2.7, 16: 2.6, 64: 2.8}
    assert "more up to 16 tokens and less beyond, as published" in numbers(falling, 2.95)
    assert "makes no difference" in numbers(dict.fromkeys(rising, 2.8), 2.8)


def test_low_data_saves_labels_or_not():
    def numbers(full: dict, scratch: dict):
        few = sorted({key[1] for key in STUDIES["low-data"].cells(STUDIES["low-data"].full)})

        def of(key: tuple) -> dict:
            level = dict(zip(few, full if key[0] == "full" else scratch, strict=True))[key[1]]
            return {"accuracy": noisy(level, key[2])}

        return said("low-data", of)

    saved = numbers((0.5, 0.6, 0.7, 0.8), (0.2, 0.3, 0.4, 0.5))
    assert f"full fine-tuning of the base is at least as good as scratch with {low_data.most()}. It saves" in saved
    assert "the published saving does not show" in numbers((0.2, 0.3, 0.4, 0.5), (0.2, 0.3, 0.4, 0.5))
    assert "ahead at 8 and 32 labels: unlike" in numbers((0.2, 0.3, 0.4, 0.5), (0.3, 0.4, 0.4, 0.5))
    assert "not by enough" in numbers((0.3, 0.3, 0.4, 0.5), (0.2, 0.3, 0.4, 0.6 - 0.1001 + 0.001))


def test_forgetting_less_or_not():
    def numbers(lora_lost: float, replayed: float):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {"domain": 3.0, "base_text": 2.0}
            method, factor, share, seed = key
            won = {1 / 9: 0.1, 1 / 3: 0.2, 1.0: 0.3, 3.0: 0.4}[factor] * (1.0 if method == "full" else 0.9)
            lost = won * (1.0 if method == "full" else lora_lost)
            lost = replayed if share else lost
            return {"lr": 1e-3 * factor, "domain": 3.0 - noisy(won, seed), "base_text": 2.0 + noisy(lost, seed)}

        return said("forgetting", of)

    less = numbers(0.5, 0.05)
    assert "gains less and forgets less: as published. Where both" in less and "forgotten 0.324 and LoRA 0.162." in less
    replay = "With 10 % replay, full fine-tuning at a rate of 0.001 forgets"
    assert less.endswith(f"{replay} less (0.050 ± 0.010, without 0.300 ± 0.010) and gains as much.")
    more = numbers(2.0, 0.3)
    assert "forgets more: the published pattern does not show. Where both" in more
    assert "forgotten 0.324 and LoRA 0.648." in more and f"{replay} as much (0.300" in more
    costly = numbers(0.5, 0.45)
    assert f"{replay} more (0.450" in costly and costly.endswith(
        "; where it gains most, it forgets 0.400 ± 0.010 without."
    )


def test_forgotten_at_equal_learning_is_read_off_the_curve():
    one = lambda value: Spread(value, 0.0, 1)  # noqa: E731
    curve = [(one(0.2), one(0.1)), (one(0.4), one(0.5))]
    assert forgetting.forgot_at(curve, 0.1) == pytest.approx(0.05)
    assert forgetting.forgot_at(curve, 0.3) == pytest.approx(0.3)
    assert forgetting.forgot_at(curve, 0.5) is None


def test_strength_reaches_what_training_did_not_or_does_not():
    def numbers(points: dict[float, tuple[float, float]]):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {"domain": 3.0, "base_text": 2.0}
            if key[0] == "training":  # all on one line, up to 0.4 and 0.2
                _, factor, steps, step, _ = key
                won, lost = 0.4 * factor * step / 60, 0.2 * factor * step / 60
            else:
                won, lost = points.get(key[1], (0.4 * min(key[1], 1), 0.3 * key[1]))
                won = noisy(won, key[-1])
            return {"domain": 3.0 - won, "base_text": 2.0 + lost}

        return said("strength", of)

    below = numbers({0.5: (0.3, 0.05)})
    assert "At λ = 0.5, with every seed, LoRA has learned more than any of 5 trainings had where" in below
    assert "had forgotten as little; at 0, 0.25, 0.75, 1, 1.25 and 1.5 it has not. At λ = 0.5 it has" in below
    assert "forgotten −0.100 (by seed −0.095, −0.100 and −0.105) bits/character against" in below
    assert "learned +0.200 (by seed +0.190, +0.200 and +0.210) against" in below
    assert "No strength below 1 is better than 1 on both axes with every seed, unlike published." in below
    assert below.endswith("λ = 1.5 has learned +0.000 (by seed +0.000, +0.000 and +0.000) and forgotten +0.150 (by "
                          "seed +0.150, +0.150 and +0.150).")  # fmt: skip
    beyond = numbers({0.75: (0.5, 0.1)})  # no training learned as much
    assert "At λ = 0.75, with" in beyond and "forgotten −" not in beyond.split("As published")[0]
    assert "At λ = 0.75 it has learned +0.300 (by seed +0.290, +0.300 and +0.310) against" in beyond
    assert "against λ = 1, λ = 0.75 has learned +0.100 (by seed" in beyond and "forgotten −0.200 (by seed" in beyond
    assert "Above 1" not in below
    assert "Above 1 both get worse: λ = 1.5 has learned −0.300 (by" in numbers({1.5: (0.1, 0.6)})
    one_seed_only = numbers({0.5: (0.2, 0.1)})  # on the line, from which the seeds scatter to both sides
    assert "No strength forgets less for as much learned, with every seed, than any of 5" in one_seed_only
    assert "No strength forgets" in numbers({0.5: (0.2, 0.15)})


def test_one_seed_of_a_strength_is_said_once_and_so_is_what_gains_everywhere():
    def of(key: tuple) -> dict:
        won = {"base": 0.0, "training": 0.2, "strength": {0.5: 0.3}.get(key[1] if key[1:] else None, 0.2)}[key[0]]
        return {"domain": 3.0 - won, "base_text": 2.0 - won}

    nearly = {"domain": 3.0 - 0.1996, "base_text": 2.0 - 0.2004}  # forgets 0.0004 less than training
    level = said("strength", lambda key: nearly if key[:2] == ("strength", 0.5) else of(key), "large")
    assert "No strength forgets less for as much learned, with its one seed, than" in level
    one = said("strength", of, "large")
    assert one.startswith("Nothing is forgotten: the base's text gains, too. At λ = 0.5, with its one seed, LoRA")
    assert "λ = 0.5 has learned +0.100 and forgotten −0.100." in one and "by seed" not in one
    text = {0.0: 2.0, 1.5: 2.1}
    but_one = said("strength", lambda key: {"base_text": text.get(key[1], 1.9) if key[0] == "strength" else 2.0})
    assert "Nothing is forgotten" not in but_one


def test_the_least_on_paths_is_read_between_their_points():
    paths = [[(0.0, 0.0), (0.2, 0.1), (0.4, 0.5)], [(0.0, 0.0), (0.3, 0.4), (0.25, 0.2)]]
    assert [strength.least(paths, x) for x in (-1.0, 0.1, 0.2)] == pytest.approx([0.0, 0.05, 0.1])
    assert strength.least(paths, 0.25) == pytest.approx(0.2)  # the second goes back to it; the first has 0.2 there, too
    assert strength.least(paths, 0.35) == pytest.approx(0.4)
    assert strength.least(paths, 0.41) is None


def test_prompting_ahead_and_behind_and_when_training_pays_off():
    def numbers(prompt: float, trained: float, ms: float = 105.5):
        def of(key: tuple) -> dict:
            if key[0] == "cost":
                return {"prompt_ms": ms}
            return {"accuracy": noisy(prompt if key[0] == "prompt" else trained, key[2])}

        return said("prompting", of)

    trained = numbers(0.12, 0.5)
    assert "ahead at k = 1, 2, 4, 8 and 16, as published" in trained and "no prompt is clearly above" in trained
    assert "paid off after 232 queries" in trained  # 22 s over 95 ms
    prompt = numbers(0.5, 0.2, ms=10.0)
    assert "Unlike published, the prompt is ahead at k = 1" in prompt and "never pays off" in prompt
    assert "At no k are they apart" in numbers(0.3, 0.3)
    at_chance = numbers(0.14, 0.13)  # the prompt without examples has 14 % as well
    assert "both are at chance (12.5 %)" in at_chance and "pa" not in at_chance.split("trained")[-1]
    records = imagined(STUDIES["prompting"], STUDIES["prompting"].full)
    assert STUDIES["prompting"](records).crossover(16) == 232


def test_sizes_past_the_trained_one_that_harm_are_named():
    def caption(harm: float) -> str:
        numbers = lambda key: {"relative": key[1] or 0.04, "adapter": 2.0 + harm * key[1]} if key[0] == "merged" else {}  # noqa: E731
        study = STUDIES["merge-trap"]
        return study(imagined(study, study.full, numbers)).grid().caption

    assert "At 5 %, 10 % and 30 % the update goes too far, and less of it is better." in caption(1.0)
    assert "goes too far" not in caption(-1.0)


def test_merge_trap_against_normal_numbers():
    def numbers(flip: bool, rounded: float):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {"domain": 3.0}
            _, size, seed = key
            expected = merge_trap.EXPECTED.get(size, 100) / 100
            found = {"relative": size or 0.4, "survives": 1 - expected if flip else expected}
            return found | {"float": noisy(2.5, seed), "requantized": noisy(rounded, seed)}

        return said("merge-trap", of)

    assert "the more survives, as normal numbers give" in numbers(False, 2.5)
    assert "rounded to 4 bits again it is level with that" in numbers(False, 2.5)
    assert "not always more" in numbers(True, 2.5) and "more than 10 points from" in numbers(True, 2.5)
    assert (
        "rounded to 4 bits again it comes to 2.800 ± 0.010: 100 ± 0 % of the update and 40 % of the gain are left."
        in numbers(False, 2.8)
    )


def test_capacity_knee_moves_or_not():
    def numbers(of_rank, full: float = 1.0, longer: float = 0.5):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {}
            kind, rank, count, seed = key
            known = {"known": 90.0 * rank, "trainable": 704 * rank or 2_828_736}
            if kind == "longer":
                return known | {"recalled": longer}
            return known | {"recalled": (full if rank == 0 else of_rank(rank, count)) - 0.01 * seed}

        return said("capacity", of)

    rising = numbers(lambda rank, count: 1.0 if count <= 2 * rank else 0.5)
    assert "recalls 90 %, is in bits 82 ± 2 at rank 1, 82 ± 2 at rank 2" in rising and "329 ± 9 at rank 8" in rising
    assert "as published (from rank 1 to 16, 16 times the parameters, 16.0 times as far). The most that" in rising
    assert "kept is 0.13 ± 0.00 bits per trained parameter (rank 1, 100 steps)" in rising
    assert "before: 49 ± 1" in rising and rising.endswith("so that the parameters bind.")
    flat = numbers(lambda rank, count: 1.0 if count <= 8 else 0.5)
    assert "unlike published, it does not move up. The most" in flat
    assert "is in bits below 64 at rank 1" in numbers(lambda rank, count: 1.0 if rank > 1 and count < 99 else 0.5)
    assert "above 4,096 at rank 16" in numbers(lambda rank, count: 1.0 if rank > 8 or count < 99 else 0.5)
    assert numbers(lambda rank, count: 1.0).endswith("no rank is full.")
    assert numbers(lambda rank, count: 0.5, full=0.8).endswith("the steps end before a capacity shows.")
    some = lambda rank, count: 1.0 if count <= 2 * rank else 0.5  # noqa: E731
    assert numbers(some, longer=0.95).endswith("more than half of what was missing, so that the steps bind.")
    both = numbers(lambda rank, count: some(rank, count) - 0.3 * (rank == 4 and count == 32), longer=0.7)
    assert both.endswith("at rank 1 and 8, where the parameters bind, and more at rank 4, where the steps do.")


def test_intruders_more_or_not_and_what_they_forget():
    some = {0: 0.1, 1: 3.0, 8: 1.0, 64: 0.5}

    def numbers(counts: dict, cost: float = 0.02, saved: float = 0.04, faster: float = 2.0):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {"domain": 3.0, "base_text": 2.0}
            kind, rank, scale, seed = key
            count = faster if kind == "faster" else counts[rank]
            found = {"intruders": count + 0.1 * seed * (count > 0), "effective_rank": 100.0 / (rank + 1)}
            found |= {"domain": 2.8 + 0.02 * seed + cost * (1 - scale)}  # seeds scatter more than scaling changes
            return found | {"base_text": 2.1 + 0.02 * seed - saved * (1 - scale)}

        return said("intruders", of)

    published = numbers(some)
    assert published.startswith(
        "Where 0.180 to 0.180 bits/character are gained, after 50 steps, 0.20 ± 0.10 of the first 10 "
    )
    assert "3.10 ± 0.10 at rank 1" in published and "more than with full fine-tuning, as published." in published
    assert "At 3 times the learning rate, rank 8 has 2.10 ± 0.10 instead of 1.10 ± 0.10. " in published
    assert "effective rank is 100 ± 0 with full" in published and "50.0 ± 0.0 at rank 1" in published
    assert "With r = 1, intruders at 0.75 of their size change what is gained (0.180) by −0.005 (by seed" in published
    assert "forgotten (0.120) by −0.010 (by seed −0.010, −0.010 and −0.010), the larger share: as" in published
    assert "share: as published. At 0 of it these are −0.020 and −0.040. Elsewhere" in published
    assert published.endswith("forgotten by −0.010 (r = 8), −0.010 (r = 64) and −0.010 (r = 8, 3 × rate).")
    fast = numbers(some, faster=4.0)
    assert "With r = 8, 3 × rate, intruders" in fast and fast.endswith("(r = 1), −0.010 (r = 8) and −0.010 (r = 64).")
    assert numbers(some, cost=0.1).count("not the larger share: unlike published") == 1
    assert numbers(some, cost=-0.1).count(", the larger share: as published") == 1
    assert "by seed +0.010, +0.010 and +0.010), more: unlike published" in numbers(some, saved=-0.04)
    assert "not less: unlike published" in numbers(some, saved=0.0)
    assert "at rank 1 alone, in part as published" in numbers({0: 1.0, 1: 3.0, 8: 1.0, 64: 1.0})
    none = numbers(dict.fromkeys(some, 0.0), faster=0.0)
    assert "not more than with full fine-tuning, unlike published" in none and none.endswith("to scale back.")


# The search and the command


def test_a_rate_that_diverges_is_not_the_best():
    losses = {1.0: 2.0, 3.0: None, 0.33: 3.0}
    assert lr_search.best_rate(1.0, 3, losses.get) == 1.0
    assert lr_search.best_rate(1.0, 1, lambda rate: inf if rate < 5 else 1.0) == 1.0
    tried = []
    lr_search.best_rate(1.0, 2, lambda rate: tried.append(rate) or -rate)
    assert tried == [1.0, 3.0, 9.0, 27.0]


def test_the_list_names_every_question(capsys):
    assert main(["study"]) == 0
    plain = capsys.readouterr().out
    assert main(["study", "--list"]) == 0
    assert capsys.readouterr().out == plain and max(map(len, plain.splitlines())) <= 80
    for name, study in STUDIES.items():
        assert name in plain and study.question.split()[-1] in plain
    assert main(["study", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rank"] == STUDIES["rank"].question


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnk"], "did you mean 'rank'"),
        (["data_types"], "did you mean 'data-types'"),
        (["--quick"], "--quick needs the name of a study"),
        (["--list", "--out", "x"], "--out needs the name of a study"),
        (["rank", "--quick", "--model", "smollm2"], "--model and --quick exclude each other"),
        (["rank", "--model", "smolm2"], "did you mean"),
    ],
)
def test_bad_arguments_are_one_line(capsys, arguments, words):
    assert main(["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.slow
def test_a_study_on_another_model(capsys, monkeypatch, tmp_path):
    kind = STUDIES["rank"]
    few = {"values": (1, 4), "rates": 1, "characters": 2_000, "adapt": TrainConfig(steps=1, eval_every=1)}
    large = replace(kind.large, test_characters=1_000, validation_characters=1_000, **few)
    monkeypatch.setitem(STUDIES, kind.name, type(kind.name, (kind,), {"large": large}))
    model = shutil.copytree(load.base_folder(), tmp_path / "another")
    assert main(["study", "rank", "--model", str(model), "--out", str(tmp_path / "out"), "--json"]) == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts["header"]["settings"]["model"] == str(model)
    assert "Base: another. One seed" in " ".join(said.err.split())


def test_a_search_begins_where_the_size_of_the_model_says():
    large = SimpleNamespace(base_size=SIZES[1])
    assert Bench(None, large, None).first_rate("lora") == METHODS["lora"].large_lr
    assert Bench(None, large, None).first_rate("scratch") == SCRATCH_RATE
