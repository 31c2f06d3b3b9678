"""pytest tests/measure/test_rates.py: the learning rates that methods take are the best of those in the records."""

from importlib import resources
from math import inf
from pathlib import Path

import pytest

from minilora.measure import compare_model, rates
from minilora.measure.records import Records
from minilora.peft import METHODS
from minilora.peft.method import SIZES

RESULTS = Path(str(resources.files("minilora"))) / "assets" / "results"


def records() -> tuple[Records, Records]:
    return (
        Records.read(RESULTS / rates.FILE, rates.KIND),
        Records.read(RESULTS / "model-reviews.jsonl", compare_model.KIND),
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_best_rate_that_was_tried_on_the_base(name):
    losses = {rate: inf if loss is None else loss for rate, loss in rates.tried(*records(), "base", name).items()}
    assert METHODS[name].rate(SIZES[0]) == pytest.approx(min(losses, key=losses.get), rel=0.1)  # to a digit
    assert min(losses) < METHODS[name].rate(SIZES[0]) < max(losses)  # none is outermost


def test_the_table_has_what_was_tried():
    grid = rates.grid(*records())
    assert [row[0] for row in grid.rows] == [method.label for method in METHODS.values()]
    assert not any("not measured" in row[2] for row in grid.rows)
    lora = next(row for row in grid.rows if row[0] == "LoRA")
    assert "0.0005: 0.362" in lora[4]
