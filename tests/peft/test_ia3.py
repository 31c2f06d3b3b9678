"""pytest tests/peft/test_ia3.py: IA3's layer, targets and files: start, formula, gradients, merging."""

import json

import numpy as np
import pytest

from minilora import backend, nn
from minilora.gradcheck import gradcheck
from minilora.peft import AdapterLayer, IA3Config, PeftModel, get_peft_model
from minilora.tensor import Tensor
from tests.helpers.peft_invariants import (
    SEEDS,
    Case,
    adapted,
    base_of,
    edit_config,
    keeps_every_promise,
    logits,
    train,
)

ALL = {"target_modules": "all-linear", "feedforward_modules": ["down_proj", "o_proj"]}
PLAIN = Case(IA3Config, ("ia3_l",))
CASES = {
    "all linears": Case(lambda: IA3Config(**ALL), ("ia3_l",)),
    "one layer": Case(lambda: IA3Config(target_modules=["model.layers.0.self_attn.v_proj"]), ("ia3_l",)),
}
sides = pytest.mark.parametrize("is_feedforward", [False, True])


def layer_of(is_feedforward: bool, bias: bool = True, seed: int = 0, trained: bool = True, dtype="float32"):
    """Make a layer, 12 to 20, and return it with its W, b and l as flat arrays."""
    rng = np.random.default_rng(seed)
    w, b = rng.standard_normal((20, 12)).astype(dtype), rng.standard_normal(20).astype(dtype)
    linear = nn.Linear.from_arrays(backend.asarray(w), backend.asarray(b) if bias else None).requires_grad_(False)
    names = ["fc"] if is_feedforward else []
    config = IA3Config(target_modules=["fc"], feedforward_modules=names).at("fc")
    layer = config.adapt(linear, rng)
    if trained:
        l = rng.standard_normal(layer.ia3_l.shape).astype(dtype)  # noqa: E741 (the paper's name)
        layer.ia3_l.data = backend.asarray(l)
    return layer, w, b * bias, layer.ia3_l.numpy().reshape(-1)


def inputs(dtype="float32") -> np.ndarray:
    return np.random.default_rng(3).standard_normal((2, 5, 12)).astype(dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_these_settings_keep_the_promises_of_every_method(name, tmp_path):
    keeps_every_promise(CASES[name], tmp_path)


@sides
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_forward_is_the_formula(is_feedforward, bias, seed):
    layer, w, b, l = layer_of(is_feedforward, bias, seed)  # noqa: E741
    assert layer.ia3_l.shape == ((1, 12) if is_feedforward else (20, 1))
    x = inputs()
    expected = (x * l) @ w.T + b if is_feedforward else (x @ w.T + b) * l
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-5)


@sides
def test_the_gradients_are_right(is_feedforward):
    layer, *_ = layer_of(is_feedforward, dtype="float64")
    assert layer.ia3_l.dtype == np.float64 and layer.merged().weight.dtype == np.float64

    def forward(x, l):  # noqa: E741
        layer.ia3_l = l
        return layer(x)

    assert gradcheck(forward, Tensor(inputs("float64"), requires_grad=True), layer.ia3_l)


# Targets


def scaled(m: PeftModel) -> dict[str, bool]:
    """Return {last name: True if its input is scaled} for the first block."""
    layers = m.base_model.model.layers[0].named_modules()
    return {path.rpartition(".")[2]: layer.is_feedforward for path, layer in layers if isinstance(layer, AdapterLayer)}


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, {"k_proj": False, "v_proj": False, "down_proj": True}),
        ({"target_modules": ["q_proj", "down_proj"]}, {"q_proj": False, "down_proj": True}),
        ({"target_modules": "q_proj"}, {"q_proj": False}),
        ({"feedforward_modules": []}, {"k_proj": False, "v_proj": False, "down_proj": False}),
        ({"feedforward_modules": "v_proj"}, {"k_proj": False, "v_proj": True, "down_proj": False}),
        ({"target_modules": ["0.mlp.down_proj"], "feedforward_modules": ["mlp.down_proj"]}, {"down_proj": True}),
    ],
)
def test_what_is_scaled_where(options, expected):
    assert scaled(get_peft_model(base_of(PLAIN, "tied", 0), IA3Config(**options))) == expected


def test_one_block_may_differ_from_another():
    names = ["model.layers.1.mlp.down_proj"]
    m = get_peft_model(base_of(PLAIN, "tied", 0), IA3Config(feedforward_modules=names))
    shapes = [block.mlp.down_proj.ia3_l.shape for block in m.base_model.model.layers]
    assert shapes == [(16, 1), (1, 24)]


# Files


def test_where_the_two_lists_would_differ_both_hold_paths(tmp_path):
    adapted(CASES["all linears"], "tied", 0).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    targets, feedforward = config["target_modules"], config["feedforward_modules"]
    assert len(targets) == 14 and feedforward == [t for t in targets if t.endswith(("o_proj", "down_proj"))]


def test_pefts_default_is_read_where_it_means_nothing(tmp_path):
    m = train(get_peft_model(base_of(PLAIN, "tied", 0), IA3Config(target_modules=["q_proj"]))).eval()
    m.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["feedforward_modules"] == []
    edit_config(tmp_path, feedforward_modules=["down_proj"])
    loaded = PeftModel.from_pretrained(base_of(PLAIN, "tied", 0), tmp_path)
    assert np.array_equal(logits(loaded), logits(m))
