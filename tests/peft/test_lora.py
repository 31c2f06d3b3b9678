"""pytest tests/peft/test_lora.py: LoRA's layer and settings: start, formula, gradients, scaling, dropout, merging.

DoRA, PiSSA and LoRA over 4 bits are this layer too; PiSSA and LoRA+ have files of their own.
"""

from math import sqrt

import numpy as np
import pytest

from minilora import backend, nn
from minilora.errors import MiniloraError
from minilora.peft import LoraConfig, PeftModel, get_peft_model
from minilora.peft.lora import LoraLinear
from minilora.quant import Linear4bit
from minilora.tensor import Tensor
from tests.peft.test_model import untied_llama

SHAPES = [(12, 20), (32, 8), (9, 9)]  # in, out
SEEDS = [0, 1, 2]


class Pair(nn.Module):
    def __init__(self):
        self.first, self.second = nn.Linear(6, 20), nn.Linear(20, 10)


def layer_of(size, seed, bias=True, **options) -> LoraLinear:
    rng = np.random.default_rng(seed)
    linear = nn.Linear(*size, bias=bias, rng=rng)
    linear.requires_grad_(False)
    return LoraLinear.from_linear(linear, LoraConfig(**{"r": 3, "lora_alpha": 6, **options}), rng)


def fill_b(layer: LoraLinear, seed: int = 7) -> np.ndarray:
    """Fill B with random values, as after some training."""
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


def raw_grad(parameter: Tensor) -> np.ndarray:
    return backend.to_numpy(parameter.grad)


def test_seeds_give_different_starts_and_one_seed_the_same():
    start = {seed: layer_of((12, 20), seed).lora_A.weight.numpy() for seed in SEEDS}
    assert not np.array_equal(start[0], start[1])
    assert np.array_equal(start[0], layer_of((12, 20), 0).lora_A.weight.numpy())
    assert np.array_equal(start[0], layer_of((12, 20), 0, lora_dropout=0.5).lora_A.weight.numpy())


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


@pytest.mark.parametrize("use_dora", [False, True])
def test_float64_stays_float64(use_dora):
    linear = nn.Linear.from_arrays(backend.asarray(np.ones((4, 5))))
    layer = LoraLinear.from_linear(linear, LoraConfig(r=2, use_dora=use_dora), np.random.default_rng(0))
    assert {p.dtype.name for p in layer.parameters()} == {"float64"}
    assert layer(Tensor(np.ones((3, 5)))).dtype.name == layer.merged().weight.dtype.name == "float64"


def test_the_other_starts():
    """gaussian: A has deviation 1/r, B is zero. False: both uniform, B in ±1/sqrt(r), so the start is not the base."""
    wide = nn.Linear(400, 300, rng=np.random.default_rng(0))
    a, b = (p.numpy() for p in start_of(wide, r=8, init_lora_weights="gaussian"))
    assert not b.any()
    assert abs(a.std() - 1 / 8) < 0.005 and abs(a).max() > 0.35  # no uniform values of this deviation reach so far
    a, b = (p.numpy() for p in start_of(wide, r=8, init_lora_weights=False))
    assert 0.9 / 20 < abs(a).max() <= 1 / 20 and 0.9 / sqrt(8) < abs(b).max() <= 1 / sqrt(8)
    assert np.array_equal(a, start_of(wide, r=8)[0].numpy())


def start_of(linear: nn.Linear, **options) -> list[Tensor]:
    layer = LoraLinear.from_linear(linear, LoraConfig(**options), np.random.default_rng(3))
    return [layer.lora_A.weight, layer.lora_B.weight]


# DoRA: length and direction


def dora_of(size, seed=0, bias=True, **options) -> LoraLinear:
    """Make a layer as it is after some training: B and m differ from their start."""
    layer = layer_of(size, seed, bias, use_dora=True, **options)
    fill_b(layer)
    m = layer.lora_magnitude_vector.numpy() * np.linspace(0.5, 2, size[1], dtype="float32")
    layer.lora_magnitude_vector.data = backend.asarray(m)
    return layer


def pieces(layer: LoraLinear) -> list[np.ndarray]:
    """Return W, A, B and m in float64."""
    tensors = (layer.base_layer.weight, layer.lora_A.weight, layer.lora_B.weight, layer.lora_magnitude_vector)
    return [t.numpy().astype(float) for t in tensors]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [2, 64])
@pytest.mark.parametrize("size", SHAPES)
def test_doras_forward_is_the_formula(size, rows, bias):
    layer = dora_of(size, bias=bias)
    w, a, b, m = pieces(layer)
    x = inputs(rows, size[0])
    v = w + 6 / 3 * b @ a
    weight = m[:, None] * v / np.linalg.norm(v, axis=1, keepdims=True)  # a length for each output
    expected = x @ weight.T + (layer.base_layer.bias.numpy() if bias else 0)
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [2, 64])
def test_doras_gradients_take_the_norms_for_constants(rows):
    layer = dora_of((12, 20))
    w, a, b, m = pieces(layer)
    x, g = inputs(rows, 12).astype(float), inputs(rows, 20, 8).astype(float)
    t = Tensor(x.astype("float32"), requires_grad=True)
    layer(t).backward(backend.asarray(g.astype("float32")))
    v, s = w + 2 * b @ a, 2
    norms = np.linalg.norm(v, axis=1)
    scaled = g * (m / norms)
    expected = {
        t: scaled @ v,
        layer.lora_A.weight: s * (scaled @ b).T @ x,
        layer.lora_B.weight: s * scaled.T @ (x @ a.T),
        layer.lora_magnitude_vector: (g * (x @ v.T) / norms).sum(axis=0),
    }
    for parameter, gradient in expected.items():
        np.testing.assert_allclose(raw_grad(parameter), gradient, rtol=1e-4, atol=1e-4)
    assert layer.base_layer.weight.grad is None
    # With the norms' own gradient, B could not learn along V at all.
    through = expected[layer.lora_B.weight] - s * (((scaled * (x @ v.T)).sum(axis=0) / norms**2)[:, None] * (v @ a.T))
    assert abs(through - expected[layer.lora_B.weight]).max() > 0.1


def test_doras_dropout_is_where_pefts_is():
    """base(x) + (m/n - 1) W x' + m/n s B A x' + b with x' dropped: the base's own term sees the input as it is."""
    layer = dora_of((12, 20), lora_dropout=0.5)
    x = inputs(40, 12)
    clean = layer.eval()(Tensor(x)).numpy()
    layer.train()
    with nn.dropout_rng(np.random.default_rng(0)):
        got = layer(Tensor(x)).numpy()
    with nn.dropout_rng(np.random.default_rng(0)):
        dropped = layer.lora_dropout(Tensor(x)).numpy().astype(float)
    w, a, b, m = pieces(layer)
    v = w + 2 * b @ a
    ratio = m / np.linalg.norm(v, axis=1)
    expected = layer.base_layer(Tensor(x)).numpy() + (ratio - 1) * (dropped @ w.T) + ratio * 2 * (dropped @ a.T @ b.T)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert abs(got - clean).max() > 0.1


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_dora_refuses_a_row_without_a_direction(value):
    model = Pair()
    weight = model.second.weight.numpy()
    weight[7] = value
    model.second.weight.data = backend.asarray(weight)
    with pytest.raises(MiniloraError, match="second has a row of zeros or NaN"):
        get_peft_model(model, LoraConfig(r=2, use_dora=True, target_modules=["first", "second"]))
    get_peft_model(model, LoraConfig(r=2, target_modules=["first", "second"]))


# QLoRA: over a base in 4 bits


def quantized_of(size, seed=0, **options) -> tuple[LoraLinear, LoraLinear]:
    """Return layers with equal adapters, on a 4-bit base and on its float equivalent."""
    linear = nn.Linear(*size, rng=np.random.default_rng(seed)).requires_grad_(False)
    coded = Linear4bit.from_linear(linear, blocksize=32)
    layers = []
    for base in (coded, coded.to_float().requires_grad_(False)):
        layer = LoraLinear.from_linear(base, LoraConfig(r=3, lora_alpha=6, **options), np.random.default_rng(seed))
        fill_b(layer)
        layers.append(layer)
    return tuple(layers)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"lora_dropout": 0.5}], ids=["lora", "dora", "dropout"])
@pytest.mark.parametrize("rows", [2, 64])
def test_over_4_bits_it_computes_what_it_does_over_their_floats(rows, options):
    results = []
    for layer in quantized_of((12, 20), **options):
        x = Tensor(inputs(rows, 12), requires_grad=True)
        with nn.dropout_rng(np.random.default_rng(0)):
            y = layer(x)
        y.backward(backend.asarray(inputs(rows, 20, 8)))
        trained = [p for p in layer.adapter_parameters().values()]
        results.append([y.numpy(), *(raw_grad(p) for p in (x, *trained))])
        assert len(trained) == 2 + ("use_dora" in options)
    for coded, plain in zip(*results, strict=True):
        np.testing.assert_allclose(coded, plain, rtol=1e-5, atol=1e-5)


def test_pissa_over_4_bits_is_refused():
    model = Pair()
    model.second = Linear4bit.from_linear(model.second)
    with pytest.raises(MiniloraError, match="PiSSA needs .* float weight.*4 bits.*init_lora_weights=True"):
        get_peft_model(model, LoraConfig(r=2, init_lora_weights="pissa", target_modules=["second"]))
    get_peft_model(model, LoraConfig(r=2, target_modules=["second"]))


@pytest.mark.host
def test_pefts_names_and_defaults():
    config = LoraConfig()
    assert (config.r, config.lora_alpha, config.lora_dropout, config.target_modules) == (8, 8, 0.0, None)
    assert LoraConfig(4, 16).lora_alpha == 16
    assert (config.use_dora, config.init_lora_weights, config.rank_pattern) == (False, True, {})
    assert LoraConfig(target_modules={"v_proj", "q_proj"}).target_modules == ["q_proj", "v_proj"]
    with pytest.raises(TypeError):
        LoraConfig(use_qalora=True)


# Patterns: layers with an r or an α of their own


def patterned(**options) -> PeftModel:
    return get_peft_model(untied_llama(), LoraConfig(**options))


def settings(model: PeftModel) -> dict[str, tuple[int, float]]:
    """Return {path: (r, scaling)} of each layer, without the common prefix of the paths."""
    return {
        path.removeprefix("base_model.model.layers.").replace("self_attn.", ""): (m.lora_A.out_features, m.scaling)
        for path, m in model.named_modules()
        if isinstance(m, LoraLinear)
    }


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"rank_pattern": {"v_proj": 4}}, {"0.v_proj": (4, 2), "1.v_proj": (4, 2)}),
        ({"rank_pattern": {"layers.1.self_attn.v_proj": 4}}, {"1.v_proj": (4, 2)}),
        ({"alpha_pattern": {"q_proj": 6}}, {"0.q_proj": (2, 3), "1.q_proj": (2, 3)}),
        ({"rank_pattern": {"q_proj": 4}, "use_rslora": True}, {"0.q_proj": (4, 4), "1.q_proj": (4, 4)}),
        (
            {"rank_pattern": {"0.self_attn.q_proj": 4, "v_proj": 8}, "alpha_pattern": {"q_proj": 1}},
            {"0.q_proj": (4, 0.25), "1.q_proj": (2, 0.5), "0.v_proj": (8, 1), "1.v_proj": (8, 1)},
        ),
        (  # two names for one layer, and of one mind
            {"rank_pattern": {"v_proj": 4, "1.self_attn.v_proj": 4}},
            {"0.v_proj": (4, 2), "1.v_proj": (4, 2)},
        ),
    ],
    ids=str,
)
def test_what_a_name_in_a_pattern_means(options, expected):
    default = (2, 8 / 2**0.5) if options.get("use_rslora") else (2, 4)
    names = ["0.q_proj", "0.v_proj", "1.q_proj", "1.v_proj"]
    assert settings(patterned(r=2, **options)) == {name: expected.get(name, default) for name in names}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"rank_pattern": {"k_proj": 2}}, ["rank_pattern: 'k_proj' is not a target"]),  # a Linear, but no target
        ({"alpha_pattern": {"proj": 2}}, ["'proj' is not a target"]),  # names are whole
        ({"alpha_pattern": {"attn.q_proj": 2}}, ["'attn.q_proj' is not a target"]),  # ends are cut at a dot
        (
            {"rank_pattern": {"q_proj": 2, "layers.0.self_attn.q_proj": 3}},
            ["'q_proj' and 'layers.0.self_attn.q_proj' give one module different values"],
        ),
        ({"rank_pattern": {"\x1b[2J": 1}}, ["\\x1b[2J"]),
        ({"rank_pattern": {"v_proj": 9}}, ["r = 9 is larger than the width 8 of model.layers.0.self_attn.v_proj"]),
    ],
    ids=str,
)
def test_patterns_that_do_not_fit_are_refused_by_name(options, words):
    with pytest.raises(MiniloraError) as error:
        patterned(r=2, **options)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
