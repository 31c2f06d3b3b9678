"""pytest tests/quant/test_linear4bit.py: layers and models in 4 bits: what they compute, hold and refuse."""

import hashlib
import weakref
from copy import deepcopy

import numpy as np
import pytest

from minilora import Tensor, backend, nn, no_grad
from minilora.errors import FormatError, MiniloraError
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, get_peft_model
from minilora.quant import (
    CODEBOOKS,
    Linear4bit,
    dequantize_4bit,
    dequantize_model,
    in_float,
    linears_of_blocks,
    load_4bit,
    quantization,
    quantize_model,
    quantized_linears,
    weight_digest,
)
from tests.helpers import strict

host = backend.to_numpy
OPTIONS = [{"quant_type": t} for t in CODEBOOKS] + [{"blocksize": 32, "compress_statistics": True}]
options = pytest.mark.parametrize("options", OPTIONS)
OF_A_BLOCK = [f"self_attn.{p}_proj" for p in "qkvo"] + [f"mlp.{p}_proj" for p in ("gate", "up", "down")]


def linear_of(width: int = 24, out: int = 20, bias: bool = True, seed: int = 0) -> nn.Linear:
    return nn.Linear(width, out, bias=bias, rng=np.random.default_rng(seed))


def inputs(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def llama(tied: bool = True, seed: int = 0) -> LlamaForCausalLM:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied, "mlp_bias": True}
    config = LlamaConfig(40, 16, 24, num_hidden_layers=2, initializer_range=0.3, **heads)
    return LlamaForCausalLM(config, seed=seed)


IDS = np.random.default_rng(9).integers(0, 40, (3, 7))


def logits(model) -> np.ndarray:
    return model(IDS).logits.numpy()


def snapshot(model) -> dict[str, np.ndarray]:
    """Copy all that a model holds: its tensors, and the codes and statistics of its quantized layers."""
    copies = {name: p.numpy() for name, p in model.named_parameters()}
    for path in quantized_linears(model):
        layer = model.get_submodule(path)
        copies |= {f"{path}.packed": host(layer.packed).copy(), f"{path}.absmax": host(layer.quant_state.absmax).copy()}
    return copies


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# One layer


@options
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (2, 3, 24), (50, 24)])
def test_it_computes_what_a_linear_with_the_dequantized_weight_does(options, bias, shape):
    linear = linear_of(bias=bias)
    layer = Linear4bit.from_linear(linear, **options)
    assert isinstance(layer, nn.Linear) and (layer.bias is not None) == bias
    plain = nn.Linear.from_arrays(dequantize_4bit(layer.packed, layer.quant_state), linear.bias.data if bias else None)
    outputs, gradients = [], []
    for each in (layer, plain):
        x = Tensor(inputs(*shape), requires_grad=True)
        y = each(x)
        y.backward(inputs(*y.shape, seed=4))
        outputs.append(y.numpy())
        gradients.append(host(x.grad))
    assert outputs[0].dtype == np.float32 and np.array_equal(*outputs) and np.array_equal(*gradients)
    difference = abs(outputs[0] - linear(Tensor(inputs(*shape))).numpy()).max()
    assert 1e-4 < difference < 0.5
    assert layer.bias is None or layer.bias.grad is None


def test_only_the_bias_is_a_parameter_and_it_is_frozen():
    linear = linear_of()
    layer = Linear4bit.from_linear(linear)
    assert [name for name, _ in layer.named_parameters()] == ["bias"] == list(layer.state_dict())
    assert not layer.bias.requires_grad and linear.bias.requires_grad and linear.weight.requires_grad
    layer.bias.data[...] = 7
    assert not (linear.bias.numpy() == 7).any()  # a copy
    assert not layer(Tensor(inputs(2, 24))).requires_grad
    assert layer.num_quantized == 24 * 20 and nn.Linear(24, 20).num_quantized == 0


@options
def test_the_weight_is_made_anew_and_cannot_be_set(options):
    linear = linear_of(64, 48)
    layer = Linear4bit.from_linear(linear, **options)
    one, two = layer.weight, layer.weight
    assert one.shape == (48, 64) and not one.requires_grad and one.data is not two.data
    assert np.array_equal(one.numpy(), host(layer.dequantize()))
    assert 0 < abs(one.numpy() - linear.weight.numpy()).max() < 0.17 * abs(linear.weight.numpy()).max()
    with pytest.raises(AttributeError):
        layer.weight = linear.weight


def test_bytes():
    linear = linear_of(256, 128, bias=False)
    for double, bits in ((False, 4.5), (True, 4 + 8 / 64 + 32 / (64 * 256) + 32 / (256 * 128))):
        layer = Linear4bit.from_linear(linear, compress_statistics=double)
        assert layer.nbytes == bits * 256 * 128 / 8
        assert layer.nbytes <= linear.weight.data.nbytes / 6


def test_the_digest_is_that_of_the_weight_before():
    linear = linear_of()
    expected = hashlib.sha256(linear.weight.numpy().astype("<f4").tobytes()).hexdigest()
    assert weight_digest(linear.weight.data) == expected
    assert {Linear4bit.from_linear(linear, **options).weight_digest for options in OPTIONS} == {expected}
    moved = linear_of()
    moved.weight.data = moved.weight.data * 1.0000002
    assert Linear4bit.from_linear(moved).weight_digest != expected
    transposed = nn.Linear.from_arrays(backend.asarray(linear.weight.numpy().T.copy()).T)
    assert Linear4bit.from_linear(transposed).weight_digest == expected


def test_back_to_float():
    layer = Linear4bit.from_linear(linear_of().eval())
    linear = layer.to_float()
    assert type(linear) is nn.Linear and not layer.training and not linear.training
    assert np.array_equal(linear.weight.numpy(), layer.weight.numpy())
    assert np.array_equal(linear.bias.numpy(), layer.bias.numpy()) and linear.bias.data is not layer.bias.data
    assert linear.weight.requires_grad and linear.bias.requires_grad


def test_a_state_holds_no_codes_and_a_float_weight_is_no_part_of_it():
    layer, other = Linear4bit.from_linear(linear_of()), linear_of(seed=1)
    before = layer.weight.numpy()
    with pytest.raises(MiniloraError, match="unexpected weight"):
        layer.load_state_dict(other.state_dict())
    layer.load_state_dict({"bias": other.bias.data})
    assert np.array_equal(layer.bias.numpy(), other.bias.numpy()) and np.array_equal(layer.weight.numpy(), before)


# Whole models


@pytest.mark.parametrize("tied", [True, False])
def test_the_linears_of_the_blocks_and_nothing_else(tied):
    model = llama(tied)
    before = snapshot(model)
    assert quantize_model(model) is model
    paths = [f"model.layers.{i}.{name}" for i in (0, 1) for name in OF_A_BLOCK]
    assert quantized_linears(model) == paths == linears_of_blocks(model)
    left = {name: array for name, array in before.items() if name.removesuffix(".weight") not in paths}
    assert same({name: a for name, a in snapshot(model).items() if not name.endswith((".packed", ".absmax"))}, left)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {f"{path}.bias" for path in paths if "mlp" in path}
    assert sum(m.num_quantized for _, m in model.named_modules()) == 2 * (16 * (16 + 8 + 8 + 16) + 3 * 16 * 24)


@options
def test_a_model_in_4_bits_computes_what_its_dequantized_twin_does(options):
    model = quantize_model(llama(), **options)
    before = snapshot(model)
    expected = logits(model)
    twin = deepcopy(model)
    assert dequantize_model(twin) is twin and quantized_linears(twin) == [] and quantization(twin) is None
    assert {type(m) for _, m in twin.named_modules() if isinstance(m, nn.Linear)} == {nn.Linear}
    assert list(twin.state_dict()) == list(llama().state_dict())
    assert np.array_equal(logits(twin), expected) and same(snapshot(model), before)
    assert 0.01 < abs(expected - logits(llama())).max() < 3
    assert same(snapshot(dequantize_model(twin)), snapshot(twin))  # nothing left to do


def test_a_step_waits_for_no_device():
    model = quantize_model(llama(), compress_statistics=True)
    x = Tensor(inputs(2, 16), requires_grad=True)
    layer = model.get_submodule("model.layers.0.mlp.up_proj")
    strict.reset_syncs()
    layer(x).sum().backward()
    with no_grad():
        layer(x)
    assert strict.sync_count() == 0


def test_settings_are_told():
    assert quantization(llama()) is None and quantized_linears(llama()) == []
    settings = {"blocksize": 128, "quant_type": "fp4", "compress_statistics": True}
    model = quantize_model(llama(), **settings)
    assert quantization(model) == settings
    path = quantized_linears(model)[3]
    linear = model.get_submodule(path).to_float()
    model.replace(path, Linear4bit.from_linear(linear, **settings | {"blocksize": 32}))
    assert quantization(model) == settings | {"blocksize": None}


class Adapter(nn.Module):
    def __init__(self, base_layer):
        self.base_layer = base_layer


def with_bad_value(model):
    weight = model.model.layers[1].mlp.down_proj.weight
    values = weight.numpy()
    values[2, 5] = np.nan
    weight.data = backend.asarray(values)


def with_adapter(model):
    model.replace("model.layers.0.mlp.up_proj", Adapter(model.model.layers[0].mlp.up_proj))


def with_mark(model):
    model._is_adapted = True


@pytest.mark.parametrize(
    "change, options, words",
    [
        (with_bad_value, {}, ["model.layers.1.mlp.down_proj: 1 of 384", "nan at [2, 5]"]),
        (with_adapter, {}, ["has an adapter: model.layers.0.mlp.up_proj", "quantize the plain model"]),
        (with_mark, {}, ["has an adapter: the model"]),
        (quantize_model, {}, ["already quantized: model.layers.0.self_attn.q_proj", "and 11 more", "dequantize_model"]),
        (lambda model: None, {"blocksize": 100}, ["blocksize", "100"]),
    ],
)
def test_a_model_that_is_refused_stays_as_it_was(change, options, words):
    model = llama(tied=False)
    change(model)
    before, modules = snapshot(model), [id(module) for _, module in model.named_modules()]
    flags = [p.requires_grad for p in model.parameters()]
    with pytest.raises(MiniloraError) as error:
        quantize_model(model, **options)
    for word in words:
        assert word in str(error.value)
    after = snapshot(model)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)
    assert [id(module) for _, module in model.named_modules()] == modules
    assert [p.requires_grad for p in model.parameters()] == flags


# In float for a while


@pytest.mark.parametrize("is_adapted", [False, True])
def test_in_float_lends_plain_layers_and_gives_back_the_very_ones(is_adapted):
    model = quantize_model(llama(), compress_statistics=True)
    if is_adapted:
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    paths = quantized_linears(model)
    layers, expected = [model.get_submodule(path) for path in paths], logits(model)
    trains = [p.requires_grad for p in model.parameters()]
    with in_float(model) as same_model:
        assert same_model is model and quantized_linears(model) == []
        lent = [model.get_submodule(path) for path in paths]
        assert {type(layer) for layer in lent} == {nn.Linear}
        assert not any(p.requires_grad for layer in lent for p in layer.parameters())
        np.testing.assert_allclose(logits(model), expected, rtol=1e-4, atol=1e-5)
    assert all(model.get_submodule(path) is layer for path, layer in zip(paths, layers, strict=True))
    assert np.array_equal(logits(model), expected) and [p.requires_grad for p in model.parameters()] == trains
    with pytest.raises(KeyboardInterrupt), in_float(model):
        raise KeyboardInterrupt
    assert all(model.get_submodule(path) is layer for path, layer in zip(paths, layers, strict=True))


def test_in_float_where_another_adapter_is_set_meanwhile():
    model = get_peft_model(quantize_model(llama()), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    model.add_adapter("other", LoraConfig(r=2, target_modules=["up_proj"]))
    paths = quantized_linears(model)
    layers = [model.get_submodule(path) for path in paths]
    with in_float(model):
        model.set_adapter("other")
    assert len(quantized_linears(model)) == len(paths)
    model.set_adapter("default")
    assert all(model.get_submodule(path) is layer for path, layer in zip(paths, layers, strict=True))


def test_an_adapted_model_is_not_dequantized():
    adapted = get_peft_model(quantize_model(llama()), LoraConfig(r=2, target_modules=["q_proj", "up_proj"]))
    paths = quantized_linears(adapted)
    for model in (adapted, adapted.base_model):
        with pytest.raises(MiniloraError, match="has an adapter: the model.*merge_and_unload"):
            dequantize_model(model)
    assert quantized_linears(adapted) == paths


def test_merged_into_floats_all_layers_train_alike():
    adapted = get_peft_model(quantize_model(llama()), LoraConfig(r=2, target_modules=["q_proj", "up_proj"]))
    assert all(p.requires_grad for p in adapted.merge_and_unload().parameters())  # those with a bias, too


@pytest.mark.parametrize("options", [{}, {"quant_type": "fp4", "blocksize": 32, "compress_statistics": True}])
def test_load_4bit_is_loading_and_quantizing(tmp_path, options):
    llama(tied=False).save_pretrained(tmp_path / "model")
    whole = quantize_model(LlamaForCausalLM.from_pretrained(tmp_path / "model"), **options)
    streamed = load_4bit(LlamaForCausalLM, tmp_path / "model", **options)
    assert quantization(streamed) == quantization(whole) and same(snapshot(streamed), snapshot(whole))
    digests = [
        [model.get_submodule(path).weight_digest for path in quantized_linears(whole)] for model in (streamed, whole)
    ]
    assert digests[0] == digests[1] and np.array_equal(logits(streamed), logits(whole))
    assert {p.requires_grad for n, p in streamed.named_parameters() if "mlp" in n} == {False}
    assert not any(module.training for _, module in streamed.named_modules())


def test_load_4bit_holds_one_float_layer(tmp_path, monkeypatch):
    llama(tied=False).save_pretrained(tmp_path / "model")
    alive, most = set(), []
    from_linear = Linear4bit.from_linear.__func__

    def counting(cls, linear, *arguments, **options):
        key = object()
        alive.add(key)
        weakref.finalize(linear, alive.discard, key)
        most.append(len(alive))
        return from_linear(cls, linear, *arguments, **options)

    monkeypatch.setattr(Linear4bit, "from_linear", classmethod(counting))
    load_4bit(LlamaForCausalLM, tmp_path / "model")
    assert most == [1] * 14 and not alive


def test_load_4bit_refuses_what_quantizing_does(tmp_path):
    model = llama(tied=False)
    with_bad_value(model)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(FormatError, match=r"model\.layers\.1\.mlp\.down_proj: 1 of 384"):
        load_4bit(LlamaForCausalLM, tmp_path / "model")


def test_a_model_in_4_bits_makes_again_what_costs_little():
    """Loss and gradients have the same bits as with everything saved; the model in float saves everything again."""
    model = quantize_model(llama(tied=False))
    runs = []
    for flag in (True, False):
        assert model.model.selective_recomputation
        model.model.selective_recomputation = flag
        loss = model(IDS, labels=IDS).loss
        loss.backward()
        runs.append([host(a) for a in (loss.data, model.model.embed_tokens.weight.grad)])
        model.model.embed_tokens.weight.grad = None
        model.model.selective_recomputation = True
    for again, stored in zip(*runs, strict=True):
        np.testing.assert_array_equal(again, stored)
    assert not dequantize_model(model).model.selective_recomputation
