"""pytest tests/peft/test_bottleneck.py: bottleneck adapters: formula, start, placements, other arguments, files."""

import json
from math import erf, sqrt

import numpy as np
import pytest

from minilora import backend, nn
from minilora.formats import safetensors
from minilora.gradcheck import gradcheck
from minilora.models.rotary import inverse_frequencies, rotary_tables
from minilora.peft import BottleneckConfig, get_peft_model
from minilora.peft.bottleneck import PLACEMENTS, BottleneckLayer
from minilora.tensor import Tensor
from tests.helpers.peft_invariants import (
    IDS,
    SEEDS,
    Case,
    adapted,
    base_of,
    keeps_every_promise,
    train,
)

NAMES = ("adapter_down.weight", "adapter_down.bias", "adapter_up.weight", "adapter_up.bias")
PLAIN = Case(lambda: BottleneckConfig(bottleneck_size=3), NAMES, merges=False)
CASES = {
    "on linear layers": Case(
        lambda: BottleneckConfig(bottleneck_size=2, target_modules=["q_proj", "mlp.down_proj"], activation="relu"),
        NAMES,
        merges=False,
    ),
    "one in another": Case(
        lambda: BottleneckConfig(bottleneck_size=2, target_modules=["layers.0", "mlp", "o_proj"], activation="silu"),
        NAMES,
        merges=False,
    ),
    "parallel attention": Case(
        lambda: BottleneckConfig(bottleneck_size=5, placement="parallel", target_modules=["self_attn"]),
        NAMES,
        merges=False,
    ),
}
FUNCTIONS = {
    "gelu": lambda a: a * 0.5 * (1 + np.vectorize(erf)(a / sqrt(2))),
    "relu": lambda a: np.maximum(a, 0),
    "silu": lambda a: a / (1 + np.exp(-a)),
}


class Scaled(nn.Module):
    """A module, 6 to 6, with an additional argument and another width between its first and last Linear."""

    def __init__(self, dtype="float32"):
        rng = np.random.default_rng(1)
        self.first, self.last = (
            nn.Linear.from_arrays(backend.asarray(rng.standard_normal(shape).astype(dtype)))
            for shape in ((9, 6), (6, 9))
        )

    def forward(self, x, factor, shift=0.0):
        return self.last(self.first(x)) * factor + shift


def layer_of(trained: bool = True, seed: int = 0, dtype="float32", **options) -> BottleneckLayer:
    rng = np.random.default_rng(seed)
    base = Scaled(dtype)
    base.requires_grad_(False)
    layer = BottleneckConfig(**{"bottleneck_size": 4} | options).adapt(base, rng)
    for p in layer.adapter_parameters().values() if trained else ():
        p.data = backend.asarray(rng.standard_normal(p.shape).astype(dtype))
    return layer


def inputs(dtype="float32") -> np.ndarray:
    return np.random.default_rng(3).standard_normal((2, 5, 6)).astype(dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_these_settings_keep_the_promises_of_every_method(name, tmp_path):
    keeps_every_promise(CASES[name], tmp_path)


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("placement, s", [("pfeiffer", 1), ("houlsby", 1), ("parallel", 4)])
@pytest.mark.parametrize("seed", SEEDS)
def test_forward_is_the_formula(placement, s, activation, seed):
    layer = layer_of(seed=seed, placement=placement, activation=activation)
    x = inputs()
    h = layer.base_layer(Tensor(x), 0.3, shift=0.1).numpy()
    w1, b1, w2, b2 = (layer.adapter_parameters()[name].numpy() for name in NAMES)
    read = x if placement == "parallel" else h
    expected = h + s * (FUNCTIONS[activation](read @ w1.T + b1) @ w2.T + b2)
    np.testing.assert_allclose(layer(Tensor(x), 0.3, shift=0.1).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("placement", ["pfeiffer", "parallel"])
def test_the_gradients_are_right(placement):
    fresh = layer_of(trained=False, dtype="float64", placement=placement).adapter_parameters()
    assert {p.dtype.name for p in fresh.values()} == {"float64"}
    layer = layer_of(dtype="float64", placement=placement)
    parameters = layer.adapter_parameters()

    def forward(x, *values):
        for name, value in zip(parameters, values, strict=True):
            linear, _, attribute = name.partition(".")
            setattr(getattr(layer, linear), attribute, value)
        return layer(x, 0.5)

    assert gradcheck(forward, Tensor(inputs("float64"), requires_grad=True), *parameters.values())


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_where_in_a_block_it_acts(placement):
    """An adapter that adds a constant shifts the stream by it, before the residual is added."""
    base = base_of(PLAIN, "tied", 0)
    x = base.model.embed_tokens(IDS)
    frequencies = inverse_frequencies(base.config.head_dim, base.config.rope_theta, base.config.rope_scaling)
    tables = rotary_tables(np.arange(IDS.shape[1]), frequencies)
    angles = [backend.asarray(table, dtype=x.dtype) for table in tables]
    block = base.model.layers[0]
    m = get_peft_model(base, BottleneckConfig(bottleneck_size=3, placement=placement))
    assert isinstance(block.self_attn, BottleneckLayer) == (placement == "houlsby")
    block.mlp.adapter_up.bias.data = block.mlp.adapter_up.bias.data + 7
    with m.disable_adapter():
        plain = block(x, *angles).numpy()
    factor = 4 if placement == "parallel" else 1
    np.testing.assert_allclose(block(x, *angles).numpy(), plain + 7 * factor, rtol=1e-5, atol=1e-5)


def test_one_width_in_and_another_out():
    linear = nn.Linear(6, 10)
    serial = BottleneckConfig(bottleneck_size=4, target_modules=["fc"])
    parallel = BottleneckConfig(bottleneck_size=4, target_modules=["fc"], placement="parallel")
    assert serial.shapes(linear) == dict(zip(NAMES, [(4, 10), (4,), (10, 4), (10,)], strict=True))
    assert parallel.shapes(linear) == dict(zip(NAMES, [(4, 6), (4,), (10, 4), (10,)], strict=True))
    for config in (serial, parallel):
        layer = config.adapt(linear, np.random.default_rng(0))
        assert {name: p.shape for name, p in layer.adapter_parameters().items()} == config.shapes(linear)
        assert layer(Tensor(inputs())).shape == (2, 5, 10)


def test_the_files(tmp_path):
    m = train(adapted(PLAIN, "tied", 0))
    m.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    expected = {"peft_type": "BOTTLENECK", "bottleneck_size": 3, "placement": "pfeiffer", "activation": "gelu"}
    assert config | expected == config and config["target_modules"] == ["mlp"]
    tensors, _ = safetensors.load_file(tmp_path / "adapter_model.safetensors")
    block = "base_model.model.model.layers.1.mlp."
    shapes = {name.removeprefix(block): array.shape for name, array in tensors.items() if name.startswith(block)}
    assert shapes == dict(zip(NAMES, [(3, 16), (3,), (16, 3), (16,)], strict=True)) and len(tensors) == 8
