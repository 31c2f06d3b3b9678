"""pytest tests/results/test_founding.py: the founding table says what the records say, and where the text is wrong."""

import pytest

from experiments.compare_model import KIND
from experiments.results.founding import CLAIMS, Founding, file_of, variants
from minilora.measure.records import Records

RIGHT = {
    "full": 0b1111111111111100,
    "lora-qv": 0b1111111111111001,
    "lora": 0b1111111111111100,
    "qlora": 0b1111111100000000,
}
PEAKS = {"full": 900, "lora-qv": 500, "lora": 510, "qlora": 300, "prefix": 600}
TRAINABLE = {"full": 1000, "lora-qv": 4, "lora": 18, "qlora": 8, "prefix": 1}


@pytest.fixture
def founding(tmp_path):
    settings = {"model": "smollm2", "data": "reviews", "labels": ["a", "b"], "tested": 16, "examples": 8}
    records = Records.open(tmp_path / file_of("reviews"), KIND, settings)
    for key, accuracy in ((("base",), 0.5), (("base", "qlora"), 0.4)):
        records.add(key, total=1000, accuracy=accuracy, calibrated=0.5, english=1.0, quiz=0.5)
    for seed in (0, 1):
        records.add(("prompt", seed), accuracy=0.6, calibrated=0.7)
        for row, trainable in TRAINABLE.items():
            right = RIGHT.get(row, 0b1111000011110000)
            facts = {"right": f"{right:04x}", "accuracy": bin(right).count("1") / 16, "trainable": trainable}
            records.add(("trained", row, seed), lr=1e-3, english=1.0, quiz=0.5, file_bytes=1, **facts)
    for row, peak in PEAKS.items():
        records.add(("memory", row), peak=peak)
    return Founding(tmp_path)


def test_each_claim_is_held_to_what_was_measured(founding):
    assert (
        {row: list(founding.disagreements(row)) for row in founding.rows}
        == {
            "full": [],
            "lora-qv": [],  # one question less, of 16: no further away than two errors
            "lora": ["trains more than said"],
            "qlora": ["0 % of the gain of LoRA on film reviews"],
            "prefix": [
                "trains 0.10 %",
                "no less memory than LoRA on all linears",
                "0 % of the gain of few-shot prompt on film reviews",
            ][1:],
            "few-shot": ["53 % of the gain of LoRA on film reviews"],
        }
    )


def test_the_tables(founding):
    grid, levels = founding.grid(), founding.levels().rows
    assert [row[0] for row in grid.rows[:4]] == ["base as it is", "full", "LoRA on q and v", "LoRA on all linears"]
    assert "pfeiffer" in CLAIMS and "pfeiffer" not in founding.rows  # it was not measured
    assert grid.rows[-1][-2:] == ("70.0 ± 0.0", "partly: 53 % of the gain of LoRA on film reviews")
    said = ("LoRA on q and v", "0.1–1 %", "0.40 %", "low", "0 MB (0.56)", "near full", "87.5 ± 0.0", "yes")
    assert grid.rows[2] == said and grid.rows[3][-1] == "partly: trains more than said"
    assert grid.rows[0][-2:] == ("50.0", "") and all(len(row) == len(grid.header) for row in grid.rows)
    assert levels[0] == ("base as it is", "–", "50.0") and levels[1] == ("few-shot prompt", "–", "70.0 ± 0.0")
    assert [row[0] for row in levels[2:5]] == ["prefix tuning", "LoRA on q and v", "QLoRA"]  # by what trains


def test_nine_tenths_of_a_gain_are_near(founding):
    (result,) = founding.results.values()
    for seed in (0, 1):
        result.records.rows["trained", "full", seed] |= {"right": "ffff", "accuracy": 1.0}
        result.records.rows["trained", "lora-qv", seed] |= {"right": "ff00", "accuracy": 0.5}
    for base, expected in (
        (0.5, ["0 % of the gain of full on film reviews"]),
        (0.0, ["50 % of the gain of full on film reviews"]),
        (-9, []),
    ):
        result.base["accuracy"] = base
        assert list(founding.disagreements("lora-qv")) == expected


def test_what_texts_may_say(founding):
    found, start = founding.values(), "model.reviews"
    assert found["founding.table"].count("\n| ") == 3 + len(founding.rows)
    expected = {"base": "50.0", "base.qlora": "40.0", "lora": "87.5 ± 0.0", "few-shot": "60.0 ± 0.0"}
    expected |= {"lora.share": "1.8 %", "lora.forgot": "+0.000", "lora.quiz": "+0.0", "lora.peak": "0 MB"}
    assert {name: found[f"{start}.{name}"] for name in expected} == expected


def test_variants_in_words(founding):
    said = variants(founding.results["reviews"])
    assert said.startswith("QLoRA differs from LoRA by −37.5 points (more is better)") and said.endswith(
        "each at the best of its own learning rates; told apart at 95 %, corrected for 1: QLoRA."
    )


def test_rates_in_words_are_of_each_subject_that_searched_both(founding):
    assert "6 times for the package's base; published" in founding.rates_in_words()
    records = founding.results["reviews"].records
    for row, losses in (("full", {1e-4: 0.3, 2e-4: 0.2, 4e-4: None}), ("lora", {1e-3: 0.4, 3e-3: 0.1})):
        for rate, loss in losses.items():
            records.add(("rate", row, rate), loss=loss)
    assert "6 times for the package's base and 15 for SmolLM2 on film reviews; published" in founding.rates_in_words()
