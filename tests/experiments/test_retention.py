"""pytest tests/experiments/test_retention.py: what is measured of what a model keeps, without training."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import english, retention
from experiments.results.measured import ROOT
from experiments.retention import (
    kl_divergence,
    level_between,
    log_probabilities,
    questions,
    rank_correlation,
    rising_curve,
)
from experiments.studies import STUDIES
from minilora.errors import MiniloraError
from minilora.measure.records import Records
from minilora.tensor import Tensor
from tests.train.test_catalog import tar

pytestmark = pytest.mark.host


def test_kl_is_of_the_base_and_in_bits():
    base, adapted = np.log(np.array([[[0.5, 0.5]]])), np.log(np.array([[[0.25, 0.75]]]))
    assert kl_divergence(base, base) == 0
    assert kl_divergence(base, adapted) == pytest.approx(0.5 * np.log2(0.5 / 0.25) + 0.5 * np.log2(0.5 / 0.75))
    assert kl_divergence(adapted, base) != pytest.approx(kl_divergence(base, adapted))


def test_log_probabilities_leave_out_virtual_tokens():
    logits = np.random.default_rng(0).standard_normal((1, 5, 7)).astype(np.float32)
    log_probs = log_probabilities(lambda input_ids: SimpleNamespace(logits=Tensor(logits)), np.zeros((1, 3), dtype=int))
    assert log_probs.shape == (1, 3, 7) and np.allclose(np.exp(log_probs).sum(axis=-1), 1, atol=1e-6)
    assert np.array_equal(log_probs.argmax(axis=-1), logits[:, 2:].argmax(axis=-1))


def test_what_is_forgotten_between_two_trainings_is_interpolated():
    learned, forgotten = [0.2, 0.4, 0.3], [0.1, 0.5, 2.0]
    assert level_between(learned, forgotten, 0.3) == pytest.approx(0.3)  # not the 2.0 of a rate that is too high
    assert level_between(learned, forgotten, 0.41) is None  # never so far
    assert level_between(learned, forgotten, 0.1) is None  # no training that low, and no line from the origin


def test_every_question_has_four_different_ends_and_none_is_asked_twice():
    quiz = questions()
    assert len(quiz) >= 200 and len({beginning for beginning, _ in quiz}) == len(quiz)
    assert all(len(set(ends)) == 4 and all(end.startswith(" ") for end in ends) for _, ends in quiz)


def test_correlation_and_rising_curve_are_those_of_the_libraries():
    from scipy.stats import spearmanr
    from sklearn.isotonic import isotonic_regression

    x, y = np.random.default_rng(0).standard_normal((2, 40))
    y += x
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert rising_curve(x, y)[x.argsort()] == pytest.approx(isotonic_regression(y[x.argsort()]))


def test_editorials_are_whole_articles(tmp_path, monkeypatch):
    lines = "1_1\t0.4\tIt''s ''one.''\n1_2\t0.1\tIt goes on &amp; on.\n2_1\t0\tAnother.\n"
    packed = tar({english.REVIEWS_ARCHIVE: tar({english.EDITORIALS: lines.encode()})})
    (content,) = english.ENTRY.read(io.BytesIO(packed)).values()
    assert [json.loads(line)["text"] for line in content.splitlines()] == ['It"s "one." It goes on & on.', "Another."]
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path))
    with pytest.raises(MiniloraError, match="python -m experiments.english"):
        english.documents()
    (tmp_path / english.FOLDER).mkdir()
    (tmp_path / english.FOLDER / english.FILE).write_bytes(content)
    assert [document.text for document in english.documents()][1] == "Another."


def made_up(tmp_path, forgets: dict[str, float], seeds=(0, 1, 2)) -> Records:
    """Write records of methods that learn alike and forget `forgets` times what they learn, a bit more by seed."""
    kind = STUDIES["retention"]
    settings = {"values": (0, 1), "kinds": list(forgets), "seeds": seeds, "model": None, "base": None}
    records = Records.open(tmp_path / "records.jsonl", kind.kind, settings)
    records.add(("base",), domain=2.0, base_text=1.0, total=10)
    for row, factor in forgets.items():
        for seed in seeds:
            for value, learned in ((0, 0.2), (1, 0.4)):
                lost = learned * (factor + 0.01 * seed * (1 + factor))
                numbers = {"domain": 2.0 - learned, "base_text": 1.0 + lost, "kl": lost, "validation": 2 - learned}
                records.add((row, 60, value, seed), lr=0.1, **numbers)
            records.add((row, 60, 2, seed), lr=1.0, error="diverged")
        records.add(
            (row, 60, 0, 9), domain=9.0, base_text=9.0, kl=9.0, validation=9.0, lr=0.1
        )  # a seed that was cut off
    return records


def test_methods_are_told_apart_where_they_learned_as_much(tmp_path):
    study = STUDIES["retention"](made_up(tmp_path, {"full": 0.5, "lora": 0.5, "ia3": 2.0, "prefix": 0.1}))
    judged = {row: study.judged(row, 60, 3 / 4) for row in ("lora", "ia3", "prefix")}
    assert judged == {"lora": "as much", "ia3": "more", "prefix": "less"}
    assert study.at_equal("ia3", 60, 3 / 4)[0] == pytest.approx(0.3 * 2.0)  # 75 % of 0.4 learned
    rows = {row[0]: row for row in study.grid().rows}
    ranks, explained = study.law(60)
    assert min(ranks.values()) == 1 and explained == pytest.approx(1)
    assert study.at_equal("ia3", 60, 0)[0] == pytest.approx(0.5)  # what was forgotten is the KL here
    assert rows["IA3"][-2].endswith(" more") and rows["full"][-1] == "–"
    assert study.judged("ia3", 60, 0) == "not measured so low"
    assert (
        "3 methods are compared" in study.sentence()
        and "1 has forgotten more and 1 less; 1 has forgotten as much. " in study.sentence()
    )


def test_of_a_length_with_fewer_seeds_it_is_counted_who_forgot_more_with_each(tmp_path):
    records = made_up(tmp_path, {"full": 0.5, "ia3": 0.6, "lora": 0.6, "prefix": 0.1}, seeds=(0, 1, 2, 3))
    for (row, _, value, seed), cell in [item for item in records.rows.items() if len(item[0]) == 4]:
        if seed < 3 and "domain" in cell:
            lost = -0.2 if (row, seed) == ("lora", 2) else 0.0  # one seed of three the other way
            numbers = {name: number for name, number in cell.items() if name != "key"}
            records.add((row, 240, value, seed), **numbers | {"base_text": cell["base_text"] + lost})
    study = STUDIES["retention"](records)
    assert study.steps == 60 and "With 3 seeds" in study.sentence()
    assert "at three quarters 1 of 3, at the KL of 0.5 " in study.sentence() and "alone" not in study.sentence()
    for key in [key for key in records.rows if key[1:2] == (240,) and key[0] in ("ia3", "prefix")]:
        del records.rows[key]
    words = STUDIES["retention"](records).sentence()
    assert "After 240 steps, with LoRA on all linears and full fine-tuning alone, the rank" in words
    assert "at three quarters 0 of 1, at the KL of 0.5 " in words


def test_lesson_07_and_the_claims_agree_with_the_record_on_longer_trainings():
    """LoRA beside full fine-tuning, with each of three seeds.

    At its best rate it has learned less; after 240 steps it has also forgotten less, and after 960 more. Where both
    have learned as much, or moved as far, it has forgotten more.
    """
    kind = STUDIES["retention"]
    study = kind(Records.read(ROOT / "experiments/records/study-retention.jsonl", kind.kind))
    turned = (
        "at its best rate, LoRA has learned less and yet forgotten more than full fine-tuning, with each of three seeds"
    )
    for page in ("lessons/07_forgetting/README.md", "docs/claims.md"):
        words = " ".join((ROOT / page).read_text("utf-8").split())
        assert "After 240, each of the three differences has the same sign with each of three seeds" in words, page
        assert f"After 960 on the small base, the first has turned round: {turned}" in words, page
    for steps, sign in ((240, -1), (960, 1)):
        ours, full = ({cell["key"][3]: cell for cell in study.best(row, steps)} for row in ("lora", "full"))
        assert {*ours} == {*full} == {0, 1, 2}
        assert all(sign * (study.forgotten(ours[seed]) - study.forgotten(full[seed])) > 0 for seed in ours)
        assert all(study.learned(ours[seed]) < study.learned(full[seed]) for seed in ours)
    for steps, share in ((240, 3 / 4), (240, 0), (960, 3 / 4)):
        differences = study.differences_from_full("lora", steps, share)
        assert len(differences) == 3 and min(differences) > 0


def test_what_diverged_is_counted_by_method(tmp_path):
    study = STUDIES["retention"](made_up(tmp_path, {"full": 0.5, "lora": 0.5}))
    caption = "Of 20 trainings, 6 diverged, and are left out: full 3 and LoRA on all linears 3."
    assert caption in study.grid().caption and study.figure() is not None
    for key in [key for key, cell in study.records.rows.items() if "error" in cell]:
        del study.records.rows[key]
    assert study.diverged() == "Of 14 trainings, none diverged."


def test_a_best_rate_is_known_to_half_a_step_of_the_grid(tmp_path):
    study = STUDIES["retention"](made_up(tmp_path, {"full": 0.5, "lora": 0.5}))
    ratio = study.rate_ratio("lora", "full")
    assert ratio.mean == 0 and np.exp(ratio.high) == pytest.approx(3**0.5)


def test_one_seed_tells_nothing_apart(tmp_path):
    study = STUDIES["retention"](made_up(tmp_path, {"full": 0.5, "ia3": 2.0}, seeds=(0,)))
    assert study.judged("ia3", 60, 3 / 4) == "undecided"


def test_quiz_bits_are_those_of_the_right_end(monkeypatch):
    scores = np.log(np.array([[0.5, 0.25, 0.125, 0.125], [0.1, 0.7, 0.1, 0.1]]))
    monkeypatch.setattr(retention, "row_scores", lambda model, rows: scores)
    monkeypatch.setattr(retention.metrics, "evaluator", lambda *a: lambda: 1.5)
    study = retention.Retention.__new__(retention.Retention)
    study.quiz, study.english, study.windows, study.expected = [], None, [np.zeros((1, 4))], [np.zeros((1, 4, 2))]
    monkeypatch.setattr(retention, "log_probabilities", lambda model, ids: np.zeros((1, 4, 2)))
    measures = study.measure(SimpleNamespace(eval=lambda: None))
    assert (
        measures["quiz"] == 0.5
        and measures["quiz_bits"] == pytest.approx((1 - np.log2(0.1)) / 2)
        and measures["kl"] == 0
    )
