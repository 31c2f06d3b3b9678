"""pytest tests/experiments/test_compare_model.py: the cells of a comparison on a tiny chat model, tables, bad input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import compare_model, comparison_report, subjects
from experiments.compare_model import ModelComparison, ModelSettings
from experiments.compare_model_report import FIGURES, ModelResult, side_by_side
from minilora.errors import MiniloraError
from minilora.measure.records import Records
from minilora.train import defaults
from tests.helpers import tiny_chat
from tests.measure.test_curve import rows, write

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a tiny chat model, 60 examples of two labels, and a text."""
    folder = tmp_path_factory.mktemp("compare")
    texts = [row["prompt"] + row["response"] for row in rows(30)] + [beginning for beginning, _ in subjects.questions()]
    tiny_chat.save(folder / "model", texts)
    write(folder / "train.jsonl", rows(60))
    (folder / "text").mkdir()
    for i in range(40):
        (folder / "text" / f"{i}.txt").write_text(f"Part {i} is a joy. " * 20)
    (folder / "text" / "latin.txt").write_bytes(b"caf\xe9")
    return folder


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(defaults, "LEAST_STEPS", 2)


def settings(folder, data: str = "train.jsonl", **other) -> ModelSettings:
    small = ModelSettings(
        str(folder / "model"),
        str(folder / data),
        str(folder / "train.jsonl"),
        rows=("lora", "full"),
        examples=8,
        validation_examples=12,
        test_examples=20,
        shots=(1, 2),
        contexts=(4, 8),
        characters=2_000,
        text_steps=2,
        test_characters=800,
        validation_characters=400,
        seeds=(0, 1),
        most_rates=3,
    )
    return replace(small, **other)


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    """Return a folder with the records of the task and of the text."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(defaults, "LEAST_STEPS", 2)
        out = tmp_path_factory.mktemp("records")
        for data in ("train.jsonl", "text"):
            compare_model.run(out / data, settings(folder, data))
        return out


def read(measured, data: str = "train.jsonl") -> ModelResult:
    return ModelResult.read(measured / data)


def test_every_cell_is_measured(measured):
    keys = [tuple(key) for key in read(measured).records.rows]
    assert {key for key in keys if key[0] != "rate"} == {
        ("base",),
        *((kind, seed) for kind in ("prompt", "probe") for seed in (0, 1)),
        *(("trained", row, seed) for row in ("lora", "full") for seed in (0, 1)),
        *((kind, row) for kind in ("first rate", "memory", "cost") for row in ("lora", "full")),
    }
    assert {key[1] for key in keys if key[0] == "rate"} == {"base", "few-shot", "lora", "full"}


def test_a_row_that_quantizes_has_its_start_measured(folder, tmp_path, capsys):
    compare_model.run(tmp_path, settings(folder, "text", rows=("qlora",), seeds=(0,)))
    result = ModelResult.read(tmp_path)
    assert result.records.rows["base", "qlora"]["bits"] != result.base["bits"]
    rows = side_by_side({"text": result}).rows
    assert [row[0] for row in rows[:2]] == ["base as it is", "base as it is, for QLoRA"]
    assert "note: left out of" in capsys.readouterr().err  # the file that is not text


def test_nothing_that_is_tested_or_searched_with_is_learned(folder):
    task = ModelComparison(settings(folder)).subject
    questions = lambda conversations: {turns[0]["content"] for turns in conversations}  # noqa: E731
    learned, held_back, tested = map(questions, (task.task.train, task.held_back, task.curve.test))
    assert len(held_back) == 12 and len(tested) == task.facts()["tested"] and learned
    assert not learned & held_back and not learned & tested and not held_back & tested


def test_questions_that_are_right_are_kept_one_by_one(folder, measured):
    comparison = ModelComparison(settings(folder))
    for row in (*read(measured).records.of("trained"), *read(measured).records.of("probe")):
        assert read(measured).right(row).mean() == row["accuracy"]
    score = comparison.subject.curve.score(comparison.subject.base, comparison.subject.curve.test)
    expected = [one[-1]["content"] for one in comparison.subject.curve.test]
    right = read(measured).right(read(measured).base)
    assert right.tolist() == [float(a == b) for a, b in zip(score.predicted, expected, strict=True)]


def test_one_seed_on_a_text_is_not_compared(tmp_path):
    header = {"model": "m", "data": "d", "window": 128}
    records = Records.open(tmp_path / "records.jsonl", compare_model.KIND, header)
    for row, bits in (("lora", 1.0), ("dora", 0.9)):
        records.add(("trained", row, 0), bits=bits)
    assert ModelResult(records).ahead("dora").show(2) == "+0.10 (one seed)"
    for row, bits in (("lora", 1.1), ("dora", 1.02)):
        records.add(("trained", row, 1), bits=bits)
    lead = ModelResult(records).ahead("dora")
    assert (lead.mean, lead.error) == (pytest.approx(0.09), pytest.approx(0.01))
    assert not lead.excludes(0)  # two seeds: t of one degree of freedom
    for row, bits in (("lora", 1.2), ("dora", 1.1)):
        records.add(("trained", row, 2), bits=bits)
    assert ModelResult(records).ahead("dora", comparisons=7).excludes(0)


def test_what_lacks_a_window_items_or_a_seed_or_diverged_is_shown_and_not_judged(tmp_path):
    facts = {"trainable": 1, "lr": 1e-3, "english": 1.1, "quiz": 0.5, "file_bytes": 1}
    text = {"model": "m", "data": "d", "characters": 9, "text_steps": 1}
    labels = {"model": "m", "data": "d", "labels": ["a", "b"], "tested": 8, "examples": 4}

    def result(name, header, *changes) -> ModelResult:
        records = Records.open(tmp_path / name, compare_model.KIND, header)
        records.add(("base",), accuracy=0.5, bits=1.5, calibrated=0.5, english=1.0, quiz=0.5, total=100)
        for row in ("lora", "dora"):
            for seed in (0, 1):
                records.add(("trained", row, seed), bits=1.0 + seed * len(row), accuracy=0.75, right="fc", **facts)
        for key, cell in changes:
            records.rows[key] = {"key": list(key), **cell}
        return ModelResult(records)

    dora, whole = ("trained", "dora", 1), {"bits": 1.0, "accuracy": 0.75, "right": "fc", **facts}
    assert result("whole", text | {"window": 128}).ahead("dora") and result("items", labels).ahead("dora")
    for flaw, flawed in {
        "no window": result("a", text),
        "no items": result("b", labels, (dora, {"accuracy": 0.5, **facts})),
        "no seed": result("c", labels, (dora[:2], whole)),
        "diverged": result("d", text | {"window": 128}, (dora, {"lr": 1.0, "error": "not finite"})),
    }.items():
        assert flawed.flaw("dora") == flaw and flawed.ahead("dora") is None
        (shown,) = [row for row in side_by_side({"d": flawed}).rows if row[0] == "DoRA"]
        assert shown[3] == flaw
    assert "in windows of ? tokens" in side_by_side({"d": result("e", text)}).caption
    every = result("f", labels, *((("trained", "dora", seed), {"error": "not finite"}) for seed in (0, 1)))
    assert ("DoRA", "–", "diverged", "diverged", "–", "–", "–") in side_by_side({"d": every}).rows


def test_being_too_sure_of_itself_does_not_count_against_a_rate():
    """Scores that are eight times as far apart say the same, and lose the same; wrong ones do not."""
    gold = np.array([0, 1, 1, 0, 1])
    scores = np.array([[2.0, 0], [0, 1], [0.5, 0], [3, 0], [0, 2]])
    losses = [min(subjects.cross_entropy(scores * sure / t, gold) for t in subjects.TEMPERATURES) for sure in (1, 8)]
    assert losses[0] == pytest.approx(losses[1]) and losses[0] < subjects.cross_entropy(8 * scores, gold)
    assert subjects.cross_entropy(np.zeros((5, 2)), gold) == pytest.approx(np.log(2))


def test_rows_are_compared_on_the_same_questions(tmp_path):
    """Two of eight questions gained and none lost: 25 points, whatever each accuracy scatters by."""
    header = {"model": "m", "data": "d", "labels": ["a", "b"], "tested": 8, "examples": 4}
    records = Records.open(tmp_path / "records.jsonl", compare_model.KIND, header)
    records.add(("base",), accuracy=0.5, calibrated=0.5, english=1.0, quiz=0.5, total=100)
    for seed in (0, 1):
        for row, right in (("lora", 0b11110000), ("full", 0b11111100)):
            facts = {"lr": 1e-3, "trainable": 1, "english": 1.1, "quiz": 0.5, "file_bytes": 1}
            records.add(("trained", row, seed), accuracy=bin(right).count("1") / 8, right=f"{right:02x}", **facts)
    result = ModelResult(records)
    lead = result.ahead("full")
    assert lead.mean == 25 and lead.error == pytest.approx(100 * np.std([0, 0, 0, 0, 1, 1, 0, 0], ddof=1) / np.sqrt(8))
    assert result.ahead("lora") is None
    full = {name: value for name, value in records.rows["trained", "full", 1].items() if name != "key"}
    records.add(("trained", "dora", 1), **full)
    assert ModelResult(records).ahead("dora").show(1) == "+25.0 (one seed)"
    assert result.forgot("full", "english").mean == pytest.approx(0.1)


@pytest.mark.parametrize("data, unit", [("train.jsonl", "questions"), ("text", "bits/char")])
def test_tables_and_figures(measured, data, unit, tmp_path):
    from io import StringIO

    from rich.console import Console

    file = StringIO()
    result = read(measured, data)
    table = side_by_side({Path(data).name: result})
    comparison_report.show(table, FIGURES, result, tmp_path, Console(file=file, width=80))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80 and unit in text
    for words in ("base as it is", "few-shot prompt", "LoRA on all linears", "full", "Figures: "):
        assert words in text
    assert {path.name for path in tmp_path.iterdir()} == {"quality_against_share.png", "learned_against_forgotten.png"}


def test_fewer_examples_than_were_asked_for_are_counted(folder, tmp_path):
    write(tmp_path / "few.jsonl", rows(40, start=300))
    requested = settings(folder, examples=128, validation_examples=128, test_examples=5)
    task = subjects.LabelledTask(replace(requested, data=str(tmp_path / "few.jsonl"), shots=(2, 4, 64)))
    assert task.amounts == (2, 4)  # there are no 64
    facts = task.facts()
    assert facts["validation_examples"] < facts["examples"] < 64
    free = write(tmp_path / "free.jsonl", [{"prompt": f"Say {i}", "response": f"This is {i}"} for i in range(100)])
    with pytest.raises(MiniloraError, match="free responses"):
        ModelComparison(replace(settings(folder), data=str(free)))
    write(tmp_path / "fewest.jsonl", rows(26, start=300))
    with pytest.raises(MiniloraError, match="--data leaves .* examples to learn from"):
        subjects.LabelledTask(replace(requested, data=str(tmp_path / "fewest.jsonl"), shots=(40,)))
