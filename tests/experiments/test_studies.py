"""pytest tests/experiments/test_studies.py

Every study with everything made tiny."""

import shutil
from dataclasses import replace

import pytest

from experiments import english
from experiments.__main__ import main
from experiments.bench import SCRATCH_RATE, Bench
from experiments.studies import (
    STUDIES,
    data_types,
    merge_trap,
    targets,
)
from experiments.studies.study import RECORDS
from minilora.demo.base import Base
from minilora.measure.lab import SCRATCH
from minilora.measure.records import Records
from minilora.peft import METHODS
from minilora.peft.method import SIZES
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
    "replay": {"values": (0.0, 0.5)},
    "retention": {"values": (0, 1), "kinds": ("full", "lora", "prefix"), "steps": (2,)},
    "strength": {"values": (0.0, 0.5, 1.0, 1.5), "trainings": ((1 / 3, 2), (1.0, 1), (1.0, 2))},
    "prompting": {"values": (0, 1, 2), "timed": 1},
    "merge-trap": {},
    "capacity": {"values": (1, 2), "facts": (1, 4), "searched": 4, "longer": ((1, 4),)}
    | {"target": "layers.0.mlp.down_proj"},
    "intruders": {"values": (1, 4), "faster": (4,), "scales": (1.0, 0.5, 0.0), "gain": 1.0},
    "batch-size": {"values": (1, 4), "rows": 8},
    "dynamic-evaluation": {},
    "gptq": {},
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
    """Return a cache with plain English of two articles."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / english.FOLDER).mkdir()
    (folder / english.FOLDER / english.FILE).write_text('{"text": "The city has a mayor."}\n{"text": "It rains."}\n')
    return str(folder)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, cache):
    """Return a function that runs a study once and returns its (exit code, folder, captured output) each time."""
    runs = {}

    def run(name: str, capsys):
        if name not in runs:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MINILORA_CACHE", cache)
                patch.setitem(STUDIES, name, tiny(name))
                out = tmp_path_factory.mktemp("runs") / name
                code = main(["study", name, "--quick", "--out", str(out)])
            runs[name] = code, out, capsys.readouterr()
        return runs[name]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_measured_and_shown(measured, capsys, name):
    code, out, captured = measured(name, capsys)
    assert code == 0, captured.err
    study = tiny(name)
    records = Records.read(out / RECORDS, study.kind)
    assert set(study.cells(study.quick)) <= records.rows.keys()
    sentence = study(records).sentence()
    assert "nan" not in sentence and (out / f"{name}.png").stat().st_size > 5_000
    assert max(map(len, captured.out.splitlines())) <= 80
    assert "".join(sentence.split()) in "".join(captured.out.split())


# Numbers that are certain


def rows_of(measured, capsys, name: str) -> Records:
    return Records.read(measured(name, capsys)[1] / RECORDS, STUDIES[name].kind)


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
        shares = [row["survives"] for row in rows]
        assert shares == sorted(shares) and shares[0] < 0.3 and shares[-1] > 0.9
        assert [row["relative"] for row in rows] == pytest.approx(list(merge_trap.EXPECTED), rel=1e-4)
        for row in rows:
            assert row["float"] == pytest.approx(row["adapter"], rel=1e-5)
            assert row["requantized"] != row["float"]


@pytest.mark.slow
def test_strengths_are_of_the_last_training_in_its_best_state(measured, capsys):
    records = rows_of(measured, capsys, "strength")
    base, quality = records.rows["base",], lambda row: (row["domain"], row["base_text"])
    for seed in (0, 1):
        one = records.rows["strength", 1.0, seed]
        best = one["best_step"]
        best_row = base if not best else records.rows["training", 1.0, 2, best, seed]
        assert quality(one) == quality(best_row)
        assert quality(records.rows["strength", 0.0, seed]) == quality(base)
        assert quality(records.rows["strength", 1.5, seed]) != quality(one)
    rates = {key[1:3]: row["lr"] for key, row in records.rows.items() if key[0] == "training"}
    best_rate = min(records.of("rate"), key=lambda row: row["loss"])["key"][-1]
    assert rates[1.0, 1] == rates[1.0, 2] == best_rate == 3 * rates[1 / 3, 2]
    short, whole = (records.rows["training", 1.0, steps, 1, 0] for steps in (1, 2))
    assert quality(short) != quality(base) and quality(whole) != quality(base)


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


# The command


def test_the_list_names_every_question(capsys):
    assert main(["study"]) == 0
    plain = capsys.readouterr().out
    assert main(["study", "--list"]) == 0
    assert capsys.readouterr().out == plain and max(map(len, plain.splitlines())) <= 80
    for name, study in STUDIES.items():
        assert name in plain and study.question.split()[-1] in plain


@pytest.mark.slow
def test_a_study_on_another_model(capsys, monkeypatch, tmp_path):
    kind = STUDIES["rank"]
    few = {"values": (1, 4), "kinds": ("2r",), "characters": 2_000, "adapt": TrainConfig(steps=1, eval_every=1)}
    large = replace(kind.large, test_characters=1_000, validation_characters=1_000, **few)
    monkeypatch.setitem(STUDIES, kind.name, type(kind.name, (kind,), {"large": large}))
    model = shutil.copytree(load.base_folder(), tmp_path / "another")
    assert main(["study", "rank", "--model", str(model), "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert Records.read(tmp_path / "out" / RECORDS, kind.kind).header["settings"]["model"] == str(model)
    assert "Base: another. One seed" in " ".join(captured.out.split())


def test_a_search_begins_where_the_size_of_the_model_says_and_keeps_to_it(tmp_path, monkeypatch):
    records = Records.open(tmp_path / RECORDS, "any", {})
    bench = Bench(None, None, records)
    bench.base_size = SIZES[1]
    first = METHODS["lora"].large_lr
    assert bench.first_rate("lora") == first and bench.first_rate("scratch") == SCRATCH_RATE
    monkeypatch.setitem(METHODS, "lora", replace(METHODS["lora"], large_lr=10 * first))
    assert bench.first_rate("lora") == first
