"""pytest tests/experiments/test_ledger.py: a claim is judged by its margin, on each model that it was asked of."""

from math import inf

import pytest

from experiments.results.ledger import LARGE, SMALL, Ledger, Line
from experiments.studies import STUDIES
from minilora.measure.statistics import paired_interval
from tests.experiments.test_sentences import imagined

pytestmark = pytest.mark.host


def line(*differences: float, low: float = 0.0) -> Line:
    measured = {SMALL: paired_interval(differences)} if differences else {}
    return Line("more is learned", "Nobody 2026", "bits/char", low, inf, measured)


@pytest.mark.parametrize(
    ("judged", "verdict"),
    [
        (line(0.10, 0.11, 0.12), "shown"),
        (line(-0.10, -0.11, -0.12), "refuted"),
        (line(0.10, -0.10, 0.05), "undecided"),
        (line(0.10, 0.11, 0.12, low=0.5), "refuted"),  # it is more, and not as much as was said
        (line(0.10), "undecided"),  # one seed
        (line(), "not measured"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(judged, verdict):
    assert judged.verdict(SMALL) == verdict and judged.verdict(LARGE) == "not measured"


def test_cells_have_the_effect_what_would_have_been_seen_and_the_verdict():
    effect, visible, verdict = line(0.10, 0.11, 0.12).cells(SMALL)
    assert effect.startswith("+0.110 (+0.0") and float(visible) > 0.02 and verdict == "shown"
    assert line(0.1).cells(SMALL) == ("+0.100 (one seed)", "–", "undecided") and line().cells(SMALL) == ("–", "–", "–")


def test_every_line_is_asked_of_the_study_that_it_names():
    def of(key: tuple) -> dict:
        return {"domain": 2.0 + 0.001 * len(str(key)), "validation": 2.0 + 0.001 * len(str(key))}

    studies = {name: study(imagined(study, study.full, of)) for name, study in STUDIES.items()}
    ledger = Ledger(studies, {}, {})
    assert len(ledger.lines) >= 20 and all(SMALL in one.measured for one in ledger.lines)
    assert len(ledger.grid().rows) == len(ledger.lines) and "2.8 M: " in ledger.caption()
