"""pytest tests/experiments/test_ledger.py: a claim is judged by its margin, on each model that it was asked of."""

from itertools import product
from math import inf, log
from zlib import crc32

import numpy as np
import pytest

from experiments.compare_model import KIND
from experiments.compare_model_report import FAMILY, ModelResult
from experiments.results.ledger import LARGE, SMALL, Ledger, Line
from experiments.studies import STUDIES
from minilora.measure.records import Records
from minilora.measure.statistics import paired_interval
from tests.experiments.test_sentences import imagined

pytestmark = pytest.mark.host


def line(*differences: float, low: float = 0.0) -> Line:
    measured = {SMALL: paired_interval(differences)} if differences else {}
    return Line("more is learned", "Nobody 2026", "bits/char", (low, inf), measured)


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


def test_margins_and_ratios_are_written_as_a_reader_needs_them():
    three = {SMALL: paired_interval([0.1, 0.11, 0.12]), LARGE: paired_interval([0.1, 0.11, 0.13])}
    margins = {SMALL: (-0.023, 0.023), LARGE: (-0.011, 0.011)}
    level = Line("it is level", "Nobody 2026", "bits/char", margins, three)
    assert level.margin_in_words() == "±0.023 (2.8 M), ±0.011 (135 M)" and level.verdict(LARGE) == "refuted"
    assert line(0.1, low=0.01).margin_in_words() == "above 0.01" and line().margin_in_words() == ""
    ten = {SMALL: paired_interval([log(10)] * 4, rounding=log(3) / 2), LARGE: paired_interval([log(10)])}
    rate = Line("the rate is 10 times", "Nobody 2026", "ratio", (log(5), log(20)), ten, is_ratio=True)
    assert rate.cells(SMALL) == ("10 (5.8 to 17)", "× 1.7", "shown") and rate.margin_in_words() == "5 to 20"
    assert rate.cells(LARGE) == ("10 (one seed)", "–", "undecided")


def compared(tmp_path, **settings) -> ModelResult:
    """Return records in which LoRA gains as much as full fine-tuning, with three seeds, on the text."""
    records = Records.open(tmp_path / "records.jsonl", KIND, {"model": "m", "data": "d"} | settings, overwrite=True)
    records.add(("base",), bits=1.3, total=100)
    for row, seed in product(("full", "lora"), range(3)):
        records.add(("trained", row, seed), bits=1.0 + 0.001 * seed * (row == "lora"), lr=1e-3)
    return ModelResult(records)


def test_no_verdict_is_drawn_from_a_record_with_a_flaw(tmp_path):
    def near_full(result: ModelResult) -> Line:
        return Ledger({}, {}, {"numpy-docs": result}).lines[0]

    whole = compared(tmp_path, window=128)
    assert near_full(whole).verdict(LARGE) == "shown"
    assert near_full(compared(tmp_path)).cells(LARGE) == ("–", "–", "no window")
    whole.records.rows["trained", "full", 2] = {"key": ["trained", "full", 2], "error": "not finite"}
    assert near_full(whole).verdict(LARGE) == "diverged"
    whole.records.rows.clear()
    assert near_full(whole).verdict(LARGE) == "not measured"


def test_a_contrast_has_the_same_interval_wherever_it_is_printed(tmp_path):
    """In the ledger, in the comparison's table, and in a study's own sentence."""
    result = compared(tmp_path, window=128)
    less = Ledger({}, {}, {"numpy-docs": result}).lines[3].measured[LARGE]
    assert result.ahead("full", "lora", FAMILY["full"]).high == pytest.approx(-less.low)

    def of(key: tuple) -> dict:
        rng = np.random.default_rng(crc32(repr(key).encode()))
        return {name: rng.normal(2.5, 0.1) for name in ("domain", "base_text", "accuracy", "lost")}

    study = STUDIES["gptq"](imagined(STUDIES["gptq"], STUDIES["gptq"].full, of))
    (judged,) = (line for line in Ledger({"gptq": study}, {}, {}).lines if line.measured)
    assert judged.cells(SMALL)[0] in study.sentence()


def test_every_line_is_asked_of_the_study_that_it_names():
    def of(key: tuple) -> dict:
        return {"domain": 2.0 + 0.001 * len(str(key)), "validation": 2.0 + 0.001 * len(str(key))}

    studies = {name: study(imagined(study, study.full, of)) for name, study in STUDIES.items()}
    ledger = Ledger(studies, {}, {})
    assert len(ledger.lines) >= 20 and all(SMALL in one.measured for one in ledger.lines)
    assert len(ledger.grid().rows) == len(ledger.lines) and "2.8 M: " in ledger.caption()
