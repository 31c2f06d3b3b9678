"""pytest tests/test_peft_lora.py: LoRA's layer and settings: start, formula, gradients, scaling, dropout, merging."""

from math import sqrt

import numpy as np
import pytest

from minilora import backend, nn
from minilora.errors import MiniloraError
from minilora.peft import LoraConfig, get_peft_model
from minilora.peft.lora import LoraLinear
from minilora.tensor import Tensor

SHAPES = [(12, 20), (32, 8), (9, 9)]  # in, out
SEEDS = [0, 1, 2]


def layer_of(size, seed, bias=True, **options) -> LoraLinear:
    rng = np.random.default_rng(seed)
    linear = nn.Linear(*size, bias=bias, rng=rng)
    linear.requires_grad_(False)
    return LoraLinear.from_linear(linear, LoraConfig(**{"r": 3, "lora_alpha": 6, **options}), rng)


def fill_b(layer: LoraLinear, seed: int = 7) -> np.ndarray:
    """Random values in B, as after some training."""
    values = np.random.default_rng(seed).standard_normal(layer.lora_B.weight.shape).astype("float32")
    layer.lora_B.weight.data = backend.asarray(values)
    return values


def inputs(rows: int, width: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype("float32")


@pytest.mark.parametrize("rows", [2, 64])  # few rows and many rows are computed in two ways
@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_forward_is_the_formula(size, seed, rows):
    layer = layer_of(size, seed)
    b = fill_b(layer).astype(float)
    x = inputs(rows, size[0])
    base = layer.base_layer
    w, bias, a = (t.numpy().astype(float) for t in (base.weight, base.bias, layer.lora_A.weight))
    assert a.shape == (3, size[0]) and b.shape == (size[1], 3)
    expected = x @ w.T + bias + 6 / 3 * (x @ a.T @ b.T)
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [2, 64])
@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_it_starts_as_the_base_bit_for_bit_and_yet_can_learn(size, seed, rows):
    layer = layer_of(size, seed)
    x = Tensor(inputs(rows, size[0]))
    assert np.array_equal(layer(x).numpy(), layer.base_layer(x).numpy())
    a = layer.lora_A.weight.numpy()
    bound = 1 / sqrt(size[0])
    assert abs(a).max() <= bound and abs(a).max() > 0.7 * bound and abs(a.mean()) < 0.35 * bound
    assert not layer.lora_B.weight.numpy().any()
    (layer(x) * layer(x)).sum().backward()
    assert not raw_grad(layer.lora_A.weight).any()  # B is zero ...
    assert abs(raw_grad(layer.lora_B.weight)).max() > 1e-4  # ... and is what moves first
    assert layer.base_layer.weight.grad is None and layer.base_layer.bias.grad is None


def raw_grad(parameter: Tensor) -> np.ndarray:
    return backend.to_numpy(parameter.grad)


def test_seeds_give_different_starts_and_one_seed_the_same():
    start = {seed: layer_of((12, 20), seed).lora_A.weight.numpy() for seed in SEEDS}
    assert not np.array_equal(start[0], start[1])
    assert np.array_equal(start[0], layer_of((12, 20), 0).lora_A.weight.numpy())
    assert np.array_equal(start[0], layer_of((12, 20), 0, lora_dropout=0.5).lora_A.weight.numpy())


def test_alpha_and_rank_count_by_their_ratio():
    assert LoraConfig(r=4, lora_alpha=8).scaling == LoraConfig(r=16, lora_alpha=32).scaling == 2
    assert LoraConfig(r=4, lora_alpha=8, use_rslora=True).scaling == 4
    assert LoraConfig().scaling == 1
    x = Tensor(inputs(5, 12))
    outputs = {}
    for r, alpha in [(2, 4), (4, 8), (4, 16)]:
        layer = layer_of((12, 20), 0, r=r, lora_alpha=alpha)
        # The same update, padded with zero rows to the rank.
        a, b = np.zeros((r, 12), "float32"), np.zeros((20, r), "float32")
        a[:2], b[:, :2] = inputs(2, 12, 5), inputs(20, 2, 6)
        layer.lora_A.weight.data, layer.lora_B.weight.data = backend.asarray(a), backend.asarray(b)
        outputs[r, alpha] = layer(x).numpy() - layer.base_layer(x).numpy()
    np.testing.assert_allclose(outputs[2, 4], outputs[4, 8], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(2 * outputs[4, 8], outputs[4, 16], rtol=1e-5, atol=1e-5)


def test_dropout_touches_the_branch_alone_and_only_in_training():
    layer = layer_of((12, 20), 0, lora_dropout=0.5)
    x = Tensor(inputs(40, 12))
    base = layer.base_layer(x).numpy()
    assert np.array_equal(layer.train()(x).numpy(), base)  # B is zero: a dropped base would show
    fill_b(layer)
    clean = layer.eval()(x).numpy()
    assert np.array_equal(layer(x).numpy(), clean)
    layer.train()
    with nn.dropout_rng(np.random.default_rng(0)):
        noisy = layer(x).numpy()
        again = layer(x).numpy()
    assert abs(noisy - clean).max() > 0.1 and abs(noisy - again).max() > 0.1
    with nn.dropout_rng(np.random.default_rng(0)):
        mean = sum(layer(x).numpy() for _ in range(2000)) / 2000
    assert abs(mean - clean).max() < 0.1 * abs(clean - base).max()  # kept values are scaled up: right on average


def test_layers_draw_different_dropout():
    linear = nn.Linear(12, 20, rng=np.random.default_rng(0))
    rng = np.random.default_rng(0)
    one, two = (LoraLinear.from_linear(linear, LoraConfig(r=3, lora_dropout=0.5), rng) for _ in range(2))
    x = Tensor(np.ones((30, 12), dtype="float32"))
    assert not np.array_equal(one.lora_dropout(x).numpy(), two.lora_dropout(x).numpy())


def test_gradients_with_dropout_are_those_of_the_fused_form_where_nothing_is_dropped():
    fused, plain = layer_of((12, 20), 0), layer_of((12, 20), 0, lora_dropout=1e-9)
    x = inputs(30, 12)
    grads = []
    for layer in (fused, plain):
        fill_b(layer)
        t = Tensor(x, requires_grad=True)
        (layer(t) * layer(t)).sum().backward()
        grads.append([raw_grad(p) for p in (t, layer.lora_A.weight, layer.lora_B.weight)])
    for a, b in zip(*grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_merging_gives_a_plain_linear_and_changes_nothing(size, seed):
    layer = layer_of(size, seed)
    fill_b(layer)
    before = [p.numpy() for p in layer.parameters()]
    merged = layer.merged()
    assert type(merged) is nn.Linear
    x = Tensor(inputs(5, size[0]))
    y = layer(x).numpy()
    assert abs(merged(x).numpy() - y).max() <= 2e-6 * abs(y).max()
    assert abs(merged.weight.numpy() - layer.base_layer.weight.numpy()).max() > 0.1
    assert all(np.array_equal(a, p.numpy()) for a, p in zip(before, layer.parameters(), strict=True))


def test_float64_stays_float64():
    linear = nn.Linear.from_arrays(backend.asarray(np.ones((4, 5))))
    layer = LoraLinear.from_linear(linear, LoraConfig(r=2), np.random.default_rng(0))
    assert {p.dtype.name for p in layer.parameters()} == {"float64"}
    assert layer.merged().weight.dtype.name == "float64"


def test_the_published_count():
    big = nn.Linear.from_arrays(backend.xp.zeros((4096, 4096), dtype="float32"))
    shapes = LoraConfig(r=8).shapes(big)
    assert shapes == {"lora_A.weight": (8, 4096), "lora_B.weight": (4096, 8)}
    assert sum(rows * columns for rows, columns in shapes.values()) == 65536


@pytest.mark.host
@pytest.mark.parametrize(
    "options, words",
    [
        ({"r": 0}, ["r must be", "0"]),
        ({"r": 2.0}, ["r must be", "2.0"]),
        ({"r": True}, ["r must be"]),
        ({"lora_alpha": 0}, ["lora_alpha must be"]),
        ({"lora_alpha": float("nan")}, ["lora_alpha must be", "nan"]),
        ({"lora_alpha": float("inf")}, ["lora_alpha must be"]),
        ({"lora_alpha": 10**400}, ["lora_alpha must be"]),
        ({"lora_alpha": -1}, ["lora_alpha must be"]),
        ({"lora_dropout": 1.0}, ["lora_dropout must be"]),
        ({"lora_dropout": -0.1}, ["lora_dropout must be"]),
        ({"lora_dropout": float("nan")}, ["lora_dropout must be"]),
        ({"use_rslora": 1}, ["use_rslora must be"]),
        ({"target_modules": []}, ["target_modules is empty"]),
        ({"target_modules": ""}, ["target_modules is empty"]),
        ({"target_modules": [1]}, ["target_modules must be names"]),
        ({"target_modules": {"q_proj": 1}}, ["target_modules must be names"]),
        ({"modules_to_save": [None]}, ["modules_to_save must be"]),
        ({"task_type": "DIVINATION"}, ["task_type must be", "SEQ_CLS", "DIVINATION"]),
        ({"r": 0, "lora_alpha": 0, "lora_dropout": 2, "task_type": "x"}, ["r must", "alpha", "dropout", "task_type"]),
    ],
)
def test_bad_settings_are_all_named(options, words):
    with pytest.raises(MiniloraError) as error:
        LoraConfig(**options)
    assert isinstance(error.value, ValueError)
    for word in words:
        assert word in str(error.value)


@pytest.mark.host
def test_pefts_names_and_defaults():
    config = LoraConfig()
    assert (config.r, config.lora_alpha, config.lora_dropout, config.target_modules) == (8, 8, 0.0, None)
    assert LoraConfig(4, 16).lora_alpha == 16
    assert LoraConfig(target_modules={"v_proj", "q_proj"}).target_modules == ["q_proj", "v_proj"]
    with pytest.raises(TypeError):
        LoraConfig(use_dora=True)


def test_a_rank_above_the_width_names_the_layer():
    class Pair(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(6, 20), nn.Linear(20, 10)

    with pytest.raises(MiniloraError, match=r"r = 8 is above the width 6 of first \(6 to 20\)"):
        get_peft_model(Pair(), LoraConfig(r=8, target_modules=["first", "second"]))
    model = get_peft_model(Pair(), LoraConfig(r=6, target_modules=["first", "second"]))
    assert model.base_model.first.lora_A.weight.shape == (6, 6)
    assert model.base_model.second.lora_B.weight.shape == (10, 6)
