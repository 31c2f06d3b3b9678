"""The program that judges generated docstrings, and the arithmetic of dollars and hours."""

import pytest

from experiments import dollars
from experiments.judged import judge
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS

KNOWN = {"returns", "array", "shape", "the", "parameters"}


@pytest.mark.parametrize(
    ("text", "keeps_format"),
    [
        ("Returns\n-------\nthe array\n", 1),
        ("Returns\n------\nthe array\n", 0),
        ("Returns\n-------\nthe array\n\nThings\n------\nmore\n", 0),
        ("the array\n", 0),
        ("Returns\n-------\nthe array\n\nNotes\n---", 1),  # cut, so nobody knows
    ],
)
def test_a_format_is_kept_if_all_underlines_are_numpydocs(text, keeps_format):
    assert judge(text, KNOWN)["kept"] == keeps_format


def test_terms_and_repetition():
    assert judge("the array the array the array", KNOWN)["repeated"] == pytest.approx(1 / 3)
    assert judge("the array zzz qqq", KNOWN) == {"kept": 0, "terms": 0.5, "repeated": 0}
    assert judge("", KNOWN) == {"kept": 0, "terms": 0, "repeated": 0}


def test_hours_are_operations_over_speed():
    run = dollars.Run("one", "llama-2-7b", 1e12)
    assert run.hours == pytest.approx(6 * PRESETS["llama-2-7b"].parameters * 1e12 / (0.4 * 312e12) / 3600)
    assert run._replace(per_weight=4).hours == pytest.approx(run.hours * 4 / 6)


def test_the_arithmetic_is_near_published_hours():
    differences = [run.hours / run.published - 1 for run in dollars.RUNS if run.published]
    assert len(differences) == 4 and max(map(abs, differences)) < 0.25


def test_one_gpu_says_what_the_planner_says():
    rows = {row[0]: row[-1] for row in dollars.one_gpu().rows}
    assert set(rows.values()) <= {"yes", "no", "with checkpointing"}
    assert make_plan(PRESETS["llama-3-8b"], "full").least > dollars.CARD_BYTES and "no" in rows.values()
