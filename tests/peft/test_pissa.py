"""pytest tests/peft/test_pissa.py: PiSSA's start, what it leaves alone, and its files."""

import numpy as np
import pytest

from minilora import backend, nn
from minilora.errors import FormatError, MiniloraError
from minilora.peft import LoraConfig, PeftModel, get_peft_model
from minilora.peft.lora import LoraLinear, principal_factors
from minilora.tensor import Tensor
from tests.helpers.peft_invariants import edit_tensors, logits, train
from tests.peft.test_model import tied_llama, untied_llama

SHAPES = [(12, 20), (32, 8), (9, 9)]  # in, out


def weight_of(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def factors(weight: np.ndarray, *args) -> list[np.ndarray]:
    return [backend.to_numpy(array) for array in principal_factors(backend.asarray(weight), *args)]


# The factors


@pytest.mark.parametrize("scaling", [1.0, 2.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_factors_are_the_best_approximation_in_equal_parts(shape, scaling):
    w, r = weight_of(shape), 3
    a, b = factors(w, r, scaling)
    assert a.shape == (r, shape[1]) and b.shape == (shape[0], r)
    left_over = np.linalg.svd(w.astype(float), compute_uv=False)[r:]
    assert np.linalg.norm(w - scaling * b @ a) == pytest.approx(np.linalg.norm(left_over), rel=1e-6)
    values = np.linalg.svd(w.astype(float), compute_uv=False)[:r] / scaling
    np.testing.assert_allclose(a @ a.T, np.diag(values), atol=1e-9)  # orthogonal rows of length sqrt(S / s) ...
    np.testing.assert_allclose(b.T @ b, np.diag(values), atol=1e-9)  # ... and columns


# The layer


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True, "lora_alpha": 7}], ids=str)
@pytest.mark.parametrize("size", SHAPES)
def test_it_starts_as_the_base_to_rounding_and_can_learn_at_once(size, options):
    linear = nn.Linear(*size, rng=np.random.default_rng(0)).requires_grad_(False)
    before = linear.weight.numpy()
    layer = LoraLinear.from_linear(linear, LoraConfig(r=3, init_lora_weights="pissa", **options), rng())
    assert np.array_equal(linear.weight.numpy(), before)
    for rows in (2, 64):
        x = Tensor(np.random.default_rng(3).standard_normal((rows, size[0])).astype("float32"))
        y = linear(x).numpy()
        assert abs(layer(x).numpy() - y).max() <= 2e-6 * abs(y).max()
    assert np.linalg.norm(layer.base_layer.weight.numpy()) < 0.95 * np.linalg.norm(before)
    assert layer.base_layer.bias is linear.bias
    assert {p.dtype.name for p in layer.parameters()} == {"float32"}
    (layer(x) * layer(x)).sum().backward()
    assert layer.base_layer.weight.grad is None
    for parameter in (layer.lora_A.weight, layer.lora_B.weight):
        assert abs(backend.to_numpy(parameter.grad)).max() > 0.1
    merged = layer.merged()
    assert type(merged) is nn.Linear
    np.testing.assert_allclose(merged.weight.numpy(), before, rtol=0, atol=2e-6)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# The model and its files


def test_resuming_finds_the_same_base():
    """A resumed run builds its model again, so everything that is not in the checkpoint must be the same."""
    config = LoraConfig(r=4, init_lora_weights="pissa", target_modules="all-linear")
    one, two = (get_peft_model(untied_llama(), config, seed=seed).state_dict() for seed in (0, 1))
    assert all(np.array_equal(*map(backend.to_numpy, (one[name], two[name]))) for name in one)


def test_what_pissa_leaves_of_an_adapted_head_may_stand_in_the_file(tmp_path):
    """PEFT stores the base of an adapted head in the file, too."""
    model = train(
        get_peft_model(untied_llama(), LoraConfig(r=4, init_lora_weights="pissa", target_modules=["lm_head"]))
    )
    model.save_pretrained(tmp_path)
    left = {"base_model.model.lm_head.base_layer.weight": model.base_model.lm_head.base_layer.weight.numpy()}
    edit_tensors(tmp_path, lambda tensors: tensors | left)
    assert np.array_equal(logits(PeftModel.from_pretrained(untied_llama(), tmp_path)), logits(model))
    edit_tensors(tmp_path, lambda tensors: tensors | {name: np.full(3, np.nan, "f4") for name in left})
    with pytest.raises(FormatError, match="base_layer.weight has shape"):
        PeftModel.from_pretrained(untied_llama(), tmp_path)


# What is refused


def test_a_weight_that_another_module_shares_is_refused():
    model = tied_llama()
    base = logits(model)
    config = LoraConfig(r=4, init_lora_weights="pissa", target_modules=["q_proj", "lm_head"])
    with pytest.raises(MiniloraError, match="PiSSA would also change the module that is tied to lm_head"):
        get_peft_model(model, config)
    assert np.array_equal(logits(model), base)
    get_peft_model(untied_llama(), config)  # a head of its own is fine
