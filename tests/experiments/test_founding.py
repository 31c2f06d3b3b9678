"""pytest tests/results/test_founding.py: the founding table says what the records say, and where the text is wrong."""

import pytest

from experiments.compare_model import KIND
from experiments.results.founding import CLAIMS, Founding, file_of
from minilora.measure.records import Records

RIGHT = {
    "full": 0b1111111111111100,
    "lora-qv": 0b1111111111111001,
    "lora": 0b1111111111111100,
    "qlora": 0b1111111100000000,
}
PEAKS = {"full": 900, "lora-qv": 500, "lora": 510, "qlora": 300, "prefix": 600}
TRAINABLE = {"full": 1000, "lora-qv": 4, "lora": 18, "qlora": 8, "prefix": 1}


BASE = 0b1010101010101010


def write(tmp_path, seeds=(0, 1, 2), right=RIGHT) -> Founding:
    """Write records of sixteen questions, which each seed answers alike, and read them."""
    settings = {"model": "smollm2", "data": "reviews", "labels": ["a", "b"], "tested": 16, "examples": 8}
    records = Records.open(tmp_path / file_of("reviews"), KIND, settings, overwrite=True)
    for key, accuracy in ((("base",), 0.5), (("base", "qlora"), 0.4)):
        facts = {"right": f"{BASE:04x}", "accuracy": accuracy, "calibrated": 0.5}
        records.add(key, total=1000, english=1.0, quiz=0.5, **facts)
    for seed in seeds:
        records.add(("prompt", seed), accuracy=0.6, calibrated=0.7)
        for row, trainable in TRAINABLE.items():
            answers = right.get(row, 0b1111000011110000)
            facts = {"right": f"{answers:04x}", "accuracy": bin(answers).count("1") / 16, "trainable": trainable}
            records.add(("trained", row, seed), lr=1e-3, english=1.0, quiz=0.5, file_bytes=1, **facts)
    for row, peak in PEAKS.items():
        records.add(("memory", row), peak=peak)
    return Founding(tmp_path)


@pytest.fixture
def founding(tmp_path):
    return write(tmp_path)


def test_each_claim_has_one_of_three_verdicts(founding):
    assert {row: founding.verdict("reviews", row) for row in founding.rows} == {
        "full": "undecided",  # level with LoRA on sixteen questions
        "lora-qv": "undecided",
        "lora": "undecided",
        "qlora": "undecided",  # far behind, and sixteen questions do not say so
        "prefix": "",  # a level on one task does not show that it is good for generation
        "few-shot": "",  # its single answers were not kept
    }


def test_a_gain_is_held_to_its_part_of_the_other(tmp_path):
    whole = {row: 0xFFFF for row in ("full", "lora", "lora-qv", "qlora", "prefix")}
    level = write(tmp_path, right=whole)
    (result,) = level.results.values()
    assert result.ahead("lora", "full", 4, 0.9).mean == pytest.approx(100 * (0.5 - 0.9 * 0.5))
    assert result.ahead("lora", "full", 4).mean == 0
    # Each question that the base has wrong is won: the gain of 0.5 is 0.05 above nine tenths, over eight of sixteen.
    assert result.ahead("lora", "full", 4, 0.9).low > 0 and level.verdict("reviews", "lora") == "shown"
    assert level.verdict("reviews", "full") == "shown"


def test_one_seed_or_a_row_without_items_gets_no_verdict(tmp_path):
    one = write(tmp_path, seeds=(0,))
    assert one.verdict("reviews", "qlora") == one.verdict("reviews", "lora") == "undecided"
    flawed = write(tmp_path)
    (result,) = flawed.results.values()
    del result.records.rows["trained", "lora", 1]["right"]
    assert flawed.verdict("reviews", "lora") == "" and flawed.verdict("reviews", "few-shot") == ""


def test_the_tables(founding):
    grid, levels = founding.grid(), founding.levels().rows
    assert [row[0] for row in grid.rows[:4]] == ["base as it is", "full", "LoRA on q and v", "LoRA on all linears"]
    assert "pfeiffer" in CLAIMS and "pfeiffer" not in founding.rows  # it was not measured
    assert grid.rows[-1][-1] == "70.0 ± 0.0"
    row = ("LoRA on q and v", "0.1–1 %", "0.40 % ✓", "low", "0 MB (0.56) ✗", "near full", "87.5 ± 0.0 ?")
    assert grid.rows[2] == row and grid.rows[3][2] == "1.8 % ✗"
    assert grid.rows[0][-1] == "50.0" and all(len(row) == len(grid.header) for row in grid.rows)
    assert levels[0] == ("base as it is", "–", "50.0") and levels[1] == ("few-shot prompt", "–", "70.0 ± 0.0")
    assert [row[0] for row in levels[2:5]] == ["prefix tuning", "LoRA on q and v", "QLoRA"]  # by what trains


def test_what_texts_may_say(founding):
    values, start = founding.values(), "model.reviews"
    assert values["founding.table"].count("\n| ") == 3 + len(founding.rows)
    expected = {"base": "50.0", "base.qlora": "40.0", "lora": "87.5 ± 0.0", "few-shot": "60.0 ± 0.0"}
    expected |= {"lora.share": "1.8 %", "lora.peak": "0 MB"}
    assert {name: values[f"{start}.{name}"] for name in expected} == expected


def test_rates_in_words_are_of_each_subject_that_searched_both(founding):
    assert founding.rates_in_words() == "LoRA's best learning rate was not searched on SmolLM2."
    records = founding.results["reviews"].records
    for row, losses in (("full", {1e-4: 0.3, 2e-4: 0.2, 4e-4: None}), ("lora", {1e-3: 0.4, 3e-3: 0.1})):
        for rate, loss in losses.items():
            records.add(("rate", row, rate), loss=loss)
    assert (
        "as a multiple of full fine-tuning's is 15 on film reviews. Each rate was found by a"
        in founding.rates_in_words()
    )
