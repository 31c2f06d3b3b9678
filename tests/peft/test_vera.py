"""pytest tests/peft/test_vera.py: VeRA: what trains, the pair of arrays that all layers share, files, errors."""

from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from minilora import backend
from minilora.peft import PeftModel, VeraConfig, get_peft_model
from minilora.peft.vera import VeraLinear
from minilora.tensor import Tensor
from tests.helpers.peft_invariants import (
    MODELS,
    Case,
    adapted,
    base_of,
    distance,
    edit_config,
    edit_tensors,
    logits,
    same,
    state,
    train,
)
from tests.peft.test_model import refused

TARGETS = ["q_proj", "v_proj", "down_proj"]
TRAINED = ("vera_lambda_b", "vera_lambda_d")


@pytest.fixture
def case() -> Case:
    return Case(lambda **more: VeraConfig(r=5, target_modules=TARGETS, **more), TRAINED, saves_more=True)


@pytest.fixture
def saved(case, tmp_path) -> Path:
    """Save a trained adapter of the model "tied", and return its folder."""
    train(adapted(case, "tied", 0)).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def layers(model) -> list:
    return [module for _, module in model.named_modules() if isinstance(module, VeraLinear)]


def test_b_and_d_train_and_are_as_many_as_the_formula_says(case):
    model = adapted(case, "tied", 0)
    live = [name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad]
    assert live == list(TRAINED) * 6
    r, outputs = 5, 16 + 8 + 16
    assert model.get_nb_trainable_parameters()[0] == 2 * (3 * r + outputs)
    for layer in layers(model):
        assert not layer.vera_lambda_b.numpy().any() and (layer.vera_lambda_d.numpy() == np.float32(0.1)).all()


def test_the_layers_share_one_random_pair_that_the_key_decides(case):
    def pair(seed=0, **more):
        model = get_peft_model(base_of(case, "tied", 0), case.make(**more), seed=seed)
        first, *others = layers(model)
        assert len(others) == 5
        assert all(layer.vera_A is first.vera_A and layer.vera_B is first.vera_B for layer in others)
        before = first.vera_A.numpy().copy(), first.vera_B.numpy().copy()
        train(model)
        assert np.array_equal(first.vera_A.numpy(), before[0]) and np.array_equal(first.vera_B.numpy(), before[1])
        return before

    a, b = pair()
    assert a.shape == (5, 24) and b.shape == (16, 5)
    for array in a, b:
        bound = sqrt(6 / array.shape[1])
        assert 0.9 * bound < abs(array).max() <= bound and abs(array.mean()) < 0.25 * bound
    assert np.array_equal(pair(seed=1)[0], a)
    assert not np.array_equal(pair(projection_prng_key=1)[0], a)


@pytest.mark.parametrize("model", MODELS)
def test_the_layer_is_the_formula_and_merges(case, model):
    for layer in layers(train(adapted(case, model, 0))):
        base = layer.base_layer
        x = np.random.default_rng(1).standard_normal((2, 7, base.in_features)).astype("float32")
        a, b = layer.vera_A.numpy()[:, : base.in_features], layer.vera_B.numpy()[: base.out_features]
        update = layer.vera_lambda_b.numpy() * ((layer.vera_lambda_d.numpy() * (x @ a.T)) @ b.T)
        bias = 0 if base.bias is None else base.bias.numpy()
        expected = x @ base.weight.numpy().T + bias + update
        x = Tensor(backend.asarray(x))
        assert abs(update).max() > 1e-3 * abs(expected).max()
        assert distance(layer(x).numpy(), expected) <= 2e-6
        assert distance(layer.merged()(x).numpy(), layer(x).numpy()) <= 2e-6


def test_the_pair_of_the_file_counts_not_the_key(case, saved):
    edit_tensors(saved, lambda tensors: tensors | {"base_model.vera_A": 2 * tensors["base_model.vera_A"]})
    expected = train(adapted(case, "tied", 0))
    pair = layers(expected)[0].vera_A
    pair.data = pair.data * 2
    loaded = PeftModel.from_pretrained(base_of(case, "tied", 0), saved, is_trainable=True)
    assert same(state(loaded), state(expected)) and np.array_equal(logits(loaded), logits(expected))
    assert len({id(layer.vera_A) for layer in layers(loaded)}) == 1
    assert {name.rpartition(".")[2] for name, p in loaded.named_parameters() if p.requires_grad} == set(TRAINED)


@pytest.mark.host
def test_a_file_without_the_pair_is_refused(case, saved):
    edit_config(saved, save_projection=False)
    edit_tensors(saved, lambda tensors: {name: array for name, array in tensors.items() if "lambda" in name})
    refused(saved, "missing base_model.vera_A; missing base_model.vera_B", model=base_of(case, "tied", 0))
