"""pytest tests/experiments/test_windows.py: a text by the window that it is read in, and the probe."""

import sys

import numpy as np
import pytest

from experiments import compare_model, probe, subjects, windows
from experiments.compare_model import ModelComparison
from experiments.compare_model_report import ModelResult
from experiments.what_each_buys import READY, labels_grid, sentence, what_each_buys
from experiments.windows import Windows
from experiments.windows_report import WindowsResult
from minilora.errors import MiniloraError
from minilora.measure.records import Records
from notebooks.figures.few_shot import bits_after
from tests.experiments.test_compare_model import folder as folder
from tests.experiments.test_compare_model import settings

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def text(folder):
    return ModelComparison(settings(folder, "text", contexts=(4, 8, 1000), window=16)).subject


def test_a_context_read_once_says_what_it_says_before_each_window(text):
    """One window that is read with its context, token by token, gives the same bits."""
    ids, context = text.tested.ids[:16], text.tested.ids[-6:]
    logits = text.base(np.concatenate([context, ids])[None]).logits.numpy()[0].astype(float)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    nats = -logits[np.arange(6, 21), ids[1:]].sum()  # position 6 predicts the second token of the window
    part = type(text.tested)(ids, 40)
    assert bits_after(text.base, context, part, 16, 4) == pytest.approx(nats / np.log(2) / 40, rel=1e-5)
    nothing = np.empty(0, dtype=np.int64)
    alone = subjects.bits(text.base, text.tested, 16)
    assert bits_after(text.base, nothing, text.tested, 16, 4) == pytest.approx(alone, rel=1e-5)


def test_contexts_leave_the_window_its_positions(text):
    positions = text.base.config.max_position_embeddings
    assert text.amounts == [4, 8] and text.contexts_before(positions - 4) == [4]


def test_every_window_trains_on_as_many_tokens(text, monkeypatch):
    monkeypatch.setattr(subjects, "TOKENS", 64)
    shapes = {window: text.in_windows(window) for window in (16, 32, 64, 128)}
    assert len({shape["seq_len"] * shape["batch_size"] * shape["steps"] for shape in shapes.values()}) == 1
    assert {window: shape["batch_size"] for window, shape in shapes.items()} == {16: 4, 32: 2, 64: 1, 128: 1}
    assert shapes[128]["steps"] == shapes[64]["steps"] / 2  # one window holds more than a step has by default


def test_cells_by_window(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "WINDOWS", (8, 16))
    small = settings(folder, "text", rows=("lora",), seeds=(0,))
    compared = Records.open(tmp_path / "compared.jsonl", compare_model.KIND, {})
    with pytest.raises(MiniloraError, match="no learning rate is known for lora"):
        windows.run(tmp_path / "windows.jsonl", small, compared, False, False)
    compared.add(("trained", "lora", 0), lr=1e-3)
    records = windows.run(tmp_path / "windows.jsonl", small, compared, False, False)
    expected = [("context", 0, 0), ("context", 4, 0), ("context", 8, 0)]
    assert list(records.rows) == [*expected, ("trained", "lora", 8, 0), ("trained", "lora", 16, 0)]
    assert all(row["bits"].keys() == {"8", "16"} for row in records.rows.values())
    diverged = Windows(small, {"lora": 1e30}).measure_trained("lora", 8, 0)
    assert "error" in diverged and "bits" not in diverged
    with pytest.raises(MiniloraError, match="has labels"):
        windows.run(tmp_path / "labels.jsonl", settings(folder, rows=("lora",)), compared, False, False)


def test_features_are_means_over_a_prompts_own_tokens(text):
    rows = [text.tested.ids[:length] for length in (5, 9, 14, 20, 3, 7)]
    alone = [text.base.body(ids[None]).numpy()[0].mean(axis=0) for ids in rows]
    np.testing.assert_allclose(probe.features(text.base, rows), alone, rtol=1e-4, atol=1e-5)


def test_the_probes_penalty_is_chosen_on_what_it_learns():
    """One feature tells the labels of 40 examples, 60 are noise: a strong penalty learns nothing, none learns noise."""
    rng = np.random.default_rng(0)
    labels = ["no", "yes"] * 20
    learned = np.concatenate([rng.normal(0, 5, (40, 60)), rng.normal(0, 1, (40, 1))], axis=1)
    learned[1::2, -1] += 2
    fitted = probe.fit(learned, labels, 0)
    assert probe.STRENGTHS[0] < fitted[-1].C < probe.STRENGTHS[-1]
    assert fitted[-1].coef_.size + fitted[-1].intercept_.size == 62
    with pytest.raises(MiniloraError, match="a label has one example"):
        probe.fit(learned[:3], labels[:3], 0)


def test_without_scikit_learn_the_probe_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MiniloraError, match="minilora.baseline"):
        probe.fit(np.eye(4), ["a", "b"] * 2, 0)


def result_of(path, *cells) -> WindowsResult:
    facts = {"data": "text", "characters": 60_000, "test_characters": 20_000}
    records = Records.open(path, windows.KIND, facts, overwrite=True)
    for key, level, seconds in cells:
        records.add(
            key,
            **(
                {"bits": dict(zip(("8", "16"), level, strict=True)), "seconds": seconds}
                if level
                else {"error": "not finite"}
            ),
        )
    return WindowsResult(records)


CELLS = (
    (("context", 0, 0), (1.5, 1.25), 0.0),
    (("context", 4, 0), (1.4, 1.2), 1.0),
    (("context", 8, 0), (1.3, 1.23), 2.0),
    (("trained", "lora", 8, 0), (1.0, 1.0), 100.0),
    (("trained", "lora", 8, 1), (1.2, 1.1), 300.0),
    (("trained", "full", 16, 0), None, 0.0),
)


def test_the_table_and_the_sentence_say_what_the_records_say(tmp_path):
    result = result_of(tmp_path / "windows.jsonl", *CELLS)
    rows = {row[0]: row[1:] for row in result.grid().rows}
    assert rows["base as it is"] == ("1.500", "1.250", "–", "0.0 s") and rows["prompt, 8 tokens"][-1] == "2.0 s"
    assert [cell.split(" ")[0] for cell in rows["LoRA on all linears, in 8"]] == ["1.100", "1.050", "2", "200"]
    assert rows["full, in 16"] == ("diverged", "diverged", "0", "–")
    assert result.sentence() == (
        "How many bits per character the model as it is needs depends on how many tokens it reads at a time: 1.500 in "
        "windows of 8 and 1.250 in 16. With a prompt, 8 tokens of the training text in front of each window, it needs "
        "1.300 and 1.230 (one seed). After training (LoRA on all linears) in windows of 8, it needs 1.100 and 1.050 "
        "(mean of 2 seeds)."
    )


def test_what_is_missing_is_not_judged(tmp_path):
    without = result_of(tmp_path / "windows.jsonl", (("trained", "lora", 8), (1.0, 1.0), 1.0))
    assert [row[:3] for row in without.grid().rows][-1] == ("LoRA on all linears, in 8", "no seed", "no seed")
    assert without.sentence() == "Not all is measured yet." and what_each_buys(without, {}) is None


def test_one_picture_of_what_each_buys(tmp_path):
    header = {"model": "m", "data": "d", "labels": ["a", "b"], "tested": 8, "examples": 4}
    records = Records.open(tmp_path / "records.jsonl", compare_model.KIND, header)
    records.add(("base",), accuracy=0.5, tokens=60.0, total=100)
    records.add(("probe", 0), accuracy=0.75, right="fc", tokens=20.0, seconds=3.0)
    prompted = {"accuracy": 0.6, "calibrated": 0.7, "tokens": 300.0}
    records.add(("prompt", 0), **prompted)
    assert sentence({"reviews": ModelResult(records)}) == "Not all is measured yet."  # which were right is not known
    records.rows["prompt", 0] = {"key": ["prompt", 0], "calibrated_right": "f8"} | prompted
    task = {"reviews": ModelResult(records)}
    grid = labels_grid(task)
    rows = {row[0]: row[1:] for row in grid.rows}
    assert rows["prompt"] == ("70.0", "–", "–", "300")
    assert rows["feature extraction (probe)"] == ("75.0", "+5.0 (one seed)", "3.0 s", "20")
    assert rows["all weights"] == ("–", "–", "–", "–")
    assert sentence({}) == "Not all is measured yet."
    assert sentence(task) == "On reviews, no way to train is shown to be ahead of the prompt."  # one seed
    figure = what_each_buys(result_of(tmp_path / "windows.jsonl", *CELLS), task)
    text, of_task, by_tokens, of_task_by_tokens = figure.axes
    points = lambda axes: {tuple(point) for line in axes.lines for point in line.get_xydata().tolist()}  # noqa: E731
    assert {(READY, 1.5), (2.0, 1.3), (200.0, 1.1)} <= points(text) and {(8.0, 1.5), (16.0, 1.3)} <= points(by_tokens)
    assert {(READY, 50.0), (3.0, 75.0)} <= points(of_task) and (300.0, 70.0) in points(of_task_by_tokens)
    for seed in (1, 2):
        records.add(("probe", seed), accuracy=0.75, right="fc", tokens=20.0, seconds=3.0)
        records.add(("prompt", seed), calibrated_right="80", right="80", accuracy=0.1, calibrated=0.125, tokens=300.0)
    records.rows["prompt", 0] |= {"calibrated_right": "80", "right": "80", "calibrated": 0.125}
    words = "On reviews, feature extraction (probe) is shown to be ahead of the prompt."
    assert sentence({"reviews": ModelResult(records)}) == words
