"""pytest tests/measure/test_rates.py: the learning rates that methods take are the best of those in the records."""

from math import inf

import pytest

from experiments import compare_model, rates
from experiments.results.founding import SUBJECTS
from experiments.results.page import RECORDS, ROOT
from minilora.measure.records import Records
from minilora.peft import METHODS
from minilora.peft.method import SIZES

RESULTS = ROOT / RECORDS


ON_BASE = Records.read(RESULTS / rates.FILE, rates.KIND)
ON_LARGE = [Records.read(RESULTS / f"model-{data}.jsonl", compare_model.KIND) for data in SUBJECTS]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_best_rate_that_was_tried_on_the_base(name):
    losses = rates.tried_on_base(ON_BASE, name)
    assert METHODS[name].rate(SIZES[0]) == pytest.approx(min(losses, key=losses.get), rel=0.1)  # to a digit
    assert min(losses) < METHODS[name].rate(SIZES[0]) < max(losses)  # none is outermost


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_rate_that_does_well_on_all_data(name):
    searches = [rates.tried_on_large(records, name) for records in ON_LARGE]
    for losses in filter(None, searches):
        rates_tried = losses.keys() - {0}
        assert min(rates_tried) < min(rates_tried, key=losses.get) < max(rates_tried)  # none is outermost
    regrets = rates.regrets(*searches)
    assert METHODS[name].rate(SIZES[1]) == pytest.approx(min(regrets, key=regrets.get), rel=0.1)


def test_regrets_are_of_rates_that_were_tried_everywhere():
    searches = {0: 0.8, 1e-3: 0.5, 3e-3: 0.4, 9e-3: inf}, {0: 2.5, 3e-4: 3.0, 1e-3: 2.0, 3e-3: 2.2, 9e-3: 2.1}, {}
    assert rates.regrets(*searches) == pytest.approx({1e-3: 0.25, 3e-3: 0.4, 9e-3: inf})


def test_more_seeds_decide_between_rates_that_are_close(tmp_path):
    records, search = Records.open(tmp_path / rates.FILE, rates.KIND, {}), ("base", rates.DATA, "lora")
    for rate, loss in ((1e-3, 2.03), (3e-3, 2.0), (9e-3, 2.15)):
        records.add((*search, rate), loss=loss)
    assert rates.close(records, *search) == [1e-3, 3e-3]
    for seed, loss in ((101, 2.3), (102, 2.3)):
        records.add((*search, 3e-3, seed), loss=loss)
    records.add(("base", "another text", "lora", 3e-3, 101), loss=9.0)
    assert rates.tried_on_base(records, "lora") == pytest.approx({1e-3: 2.03, 3e-3: 2.2, 9e-3: 2.15})
    assert rates.close(records, *search) == [1e-3, 3e-3]  # by the first seed, so that a second run adds nothing
    assert rates.close(records, "base", "another text", "lora") == []
