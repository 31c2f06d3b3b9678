"""pytest tests/results/test_curves.py

The curves of a step's speed, the cost model beside them, and their benchmark."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.curves import AXES, MIDDLE
from experiments.results import curves, page
from experiments.step_time import Rates, flops, step_seconds, step_work
from minilora.measure.records import Records
from minilora.plan.activations import Step
from minilora.plan.shapes import PRESETS, Shape
from minilora.train.methods import Options

pytestmark = pytest.mark.host
ROOT = Path(__file__).parents[2]
SHAPE, STEP, OPTIONS = Shape(2, 32, 48, 2, 2, 64, tied=True), Step(4, 128, workers=2), Options(rank=4)
FIXED = {"layer": 0.002, "step": 0.003, "split_layer": 0.02, "split_step": 0.03}
RATES = Rates(products=1e9, elements=1e8, exponentials=1e7, memory=1e6, **FIXED)


# The cost model


def test_the_work_of_a_step_by_hand():
    n, h, f, layers = 512, 32, 48, 2
    scores = 4 * 2 * layers * 128 * (128 + 64) // 2  # of each block of 64 queries, all keys up to its end
    weights = layers * (4 * h * h + 3 * h * f) + 64 * h
    work = step_work(SHAPE, "full", OPTIONS, STEP)
    attention = 3 * 2 * 4 * 128 * 128 * h * layers
    norms = (2 * layers + 1) * h
    assert work["products"] == 2 * n * (3 * weights + 2 * layers * h) + attention
    assert work["exponentials"] == scores + n * 64 + 2 * n * f * layers
    a_token = layers * (52 * h + 2 * h + 15 * f) + 3 * 64
    assert work["elementwise"] == n * a_token + 7 * scores + 2 * 3 * 64 * h
    assert work["updates"] == 15 * (weights + norms)
    assert work["memory"] == (weights + norms) * (40 + 12)  # two workers, one sum


def test_operations_are_counted_by_the_rule():
    shape, step = PRESETS["llama-7b"], Step(1, 512, 2, fused=True)
    tokens, weights = 512, shape.in_linears + shape.in_embedding
    full, lora = (flops(shape, method, Options(), step) for method in ("full", "lora"))
    attention = 2 * tokens * tokens * 4096 * 32
    assert full["forward"] == 2 * weights * tokens + attention
    assert full["input gradients"] == 2 * weights * tokens + 2 * attention
    assert full["weight gradients"] == pytest.approx(2 * weights * tokens, rel=1e-3)
    assert lora["weight gradients"] < 0.01 * full["weight gradients"]
    assert sum(full.values()) == pytest.approx(6 * weights * tokens, rel=0.05)


def test_lora_adds_its_updates_to_the_weights_where_the_rows_are_many():
    few, many = Step(1, 8, workers=2), STEP  # 4 and 256 rows a worker, weights of 32 and 48 rows
    assert step_work(SHAPE, "lora", OPTIONS, few)["products"] == _planned("lora", few)
    made = 2 * 2 * 2 * (4 * 32 * 32 + 3 * 32 * 48)  # forward and backward, by 2 workers, in 2 layers
    assert step_work(SHAPE, "lora", OPTIONS, many)["products"] == _planned("lora", many) + 2 * 4 * made


def _planned(method: str, step: Step) -> float:
    return sum(flops(SHAPE, method, OPTIONS, step).values())


@pytest.mark.parametrize("method", curves.METHODS)
@pytest.mark.parametrize(
    ("step", "parts", "product_cores"),
    [(replace(STEP, batch=16), 2, 2), (STEP, 1, 1), (Step(1, 2048, workers=2), 1, 2), (replace(STEP, workers=1), 1, 1)],
    ids=["two parts", "worth one thread", "one sequence, its products shared out", "one core"],
)
def test_seconds_are_of_the_cores_that_work(step, parts, product_cores, method):
    work = step_work(SHAPE, method, OPTIONS, replace(step, workers=parts))
    seconds = step_seconds(SHAPE, method, OPTIONS, step, RATES)
    assert seconds["products"] == work["products"] / 1e9 * step.workers / product_cores
    assert seconds["elementwise"] == work["elementwise"] / 1e8 * step.workers / parts
    assert seconds["updates"] == work["updates"] / 1e8
    assert seconds["exponentials"] == work["exponentials"] / 1e7 * step.workers / parts
    assert seconds["memory"] == work["memory"] / 1e6
    assert seconds["fixed"] == pytest.approx(0.03 + 2 * 0.02 if parts == 2 else 0.003 + 2 * 0.002)


# The record


@pytest.fixture
def measured(tmp_path):
    """Return records with a cell of two sizes, measured in three rounds, the last of which was disturbed."""
    settings = {"middle": MIDDLE, "axes": {"layers": [1, 2]}, "rank": 8, "rounds": 3}
    records = Records.open(tmp_path / "curves.jsonl", curves.KIND, settings)
    records.header["machine"]["cores"] = 2
    rates = {"products": 1e11, "elements": 1e10, "exponentials": 1e9, "memory": 1e10, "layer": 1e-3}
    rates |= {"step": 2e-3, "split_layer": 3e-3}
    rates = {name: [rate] * 3 for name, rate in rates.items()} | {"split_step": [1e-3, 4e-3, 9e-3]}
    seconds = {
        "minilora": [[0.1, 0.1, 0.4], [0.2, 0.21, 0.6]],
        "torch": [[0.15, 0.2, 0.8], [0.3, 0.42, 0.6]],
        "products": [[0.05, 0.05, 0.05], [0.08, 0.08, 0.09]],
    }
    records.add(("full", "rates"), **rates)
    records.add(("full", "layers"), **seconds)
    return records


def test_growth_is_the_median_of_the_rounds_own_beside_the_cost_model(measured):
    first, second = curves.curve(measured, "full", "layers")
    assert (first.growth, first.expected, first.off) == (None,) * 3
    assert second.growth == pytest.approx(2.0)  # of 2.0, 2.1 and 1.5; of the medians it would be 2.1
    assert (first.minilora, first.torch, second.torch, first.tokens) == (0.1, 0.2, 0.42, 512)
    fixed = {"layer": 1e-3, "step": 2e-3, "split_layer": 3e-3, "split_step": 4e-3}
    rates, sizes = Rates(1e11, 1e10, 1e9, 1e10, **fixed), []
    for layers in (1, 2):
        shape = Shape(layers, 256, 688, 8, 8, 2048, tied=True)
        sizes.append(step_seconds(shape, "full", Options(rank=8), Step(4, 128, workers=2), rates))
    one, two = (sum(parts.values()) for parts in sizes)
    assert second.theory == pytest.approx(two) and second.expected == pytest.approx(two / one)
    assert second.off == pytest.approx(2.0 / (two / one) - 1)


def test_a_growth_that_is_off_is_counted(measured):
    point = curves.curve(measured, "full", "layers")[1]
    measured.rows["full", "layers"]["minilora"][1] = [0.1 * point.expected * 0.8] * 3
    assert "Of 1 doublings, 0 lengthen" in curves.in_words(measured)
    assert "−20 %: full fine-tuning, layers 1 to 2" in curves.in_words(measured)
    measured.rows["full", "layers"]["minilora"][1] = [0.1 * point.expected * 0.897] * 3  # shown as 10 %
    assert "Of 1 doublings, 1 lengthen" in curves.in_words(measured)


def test_with_the_width_grow_mlp_and_heads():
    size = curves.size_at(MIDDLE, "hidden", 1024)
    assert (size["hidden"], size["intermediate"], size["heads"], size["layers"]) == (1024, 2752, 32, 4)
    assert curves.size_at(MIDDLE, "batch", 1) == MIDDLE | {"batch": 1}


def test_the_committed_record_is_whole():
    records = Records.read(page.ROOT / page.RECORDS / curves.FILE, curves.KIND)
    assert records.header["settings"]["axes"] == AXES
    for method in curves.METHODS:
        points_of = curves.curves(records, method)
        assert {axis: len(points) for axis, points in points_of.items()} == dict.fromkeys(AXES, 5)
