"""pytest tests/peft/test_bitfit.py: BitFit and norm tuning: which parameters train, disabling, merging, files."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from minilora import backend, nn
from minilora import functional as F
from minilora.formats import safetensors
from minilora.gradcheck import gradcheck
from minilora.peft import BitFitConfig, LNTuningConfig, PeftModel, get_peft_model
from minilora.peft.bitfit import TunedLayer
from minilora.tensor import Tensor
from tests.helpers.peft_invariants import (
    Case,
    adapted,
    base_of,
    keeps_every_promise,
    refused,
    train,
)

BIASES = Case(BitFitConfig, ("tuned.bias",), models=("biases",))
CASES = {
    "biases of two layers": Case(
        lambda: BitFitConfig(target_modules=["q_proj", "mlp.up_proj"]), ("tuned.bias",), models=("biases",)
    ),
    "biases and some norms": Case(
        lambda: BitFitConfig(norms=True, target_modules=["v_proj", "model.norm"]),
        ("tuned.bias", "tuned.weight"),
        models=("biases",),
    ),
    "the last norm": Case(lambda: LNTuningConfig(target_modules="norm"), ("tuned.weight",)),
}


class Perceptron(nn.Module):
    """A model of another family, with biases everywhere."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(6), nn.Linear(6, 20, rng=rng), nn.Linear(20, 10, rng=rng)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(self.norm(x))))


def x(dtype="float32") -> Tensor:
    return Tensor(np.random.default_rng(3).standard_normal((2, 5, 6)).astype(dtype))


def live(m: PeftModel) -> list[str]:
    return [name.removeprefix("base_model.") for name, p in m.named_parameters() if p.requires_grad]


def move(m: PeftModel, seed: int = 7) -> PeftModel:
    """Set all trainable parameters to random values."""
    rng = np.random.default_rng(seed)
    for p in m.parameters():
        if p.requires_grad:
            p.data = backend.asarray(rng.standard_normal(p.shape).astype(p.dtype))
    return m


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_these_settings_keep_the_promises_of_every_method(name, tmp_path):
    keeps_every_promise(CASES[name], tmp_path)


# The layer


def modules(dtype: str = "float32") -> dict[str, nn.Module]:
    """Make a module of each kind, 6 to 6 or 4, with values that differ from the initial ones."""
    rng = np.random.default_rng(1)
    made = {"linear": nn.Linear(6, 4), "layer norm": nn.LayerNorm(6, eps=0.1), "rms norm": nn.RMSNorm(6, eps=0.1)}
    for module in made.values():
        for p in module.requires_grad_(False).parameters():
            p.data = backend.asarray(rng.standard_normal(p.shape).astype(dtype))
    return made


@pytest.mark.parametrize("kind", ["linear", "layer norm"])
def test_the_gradients_are_right_and_stay_float64(kind):
    layer = TunedLayer(modules("float64")[kind], ["bias"])
    assert layer.tuned["bias"].dtype == layer.merged().bias.dtype == np.float64

    def forward(inputs, bias):
        layer.tuned["bias"] = bias
        return layer(inputs)

    inputs = x("float64")
    inputs.requires_grad = True
    assert gradcheck(forward, inputs, layer.tuned["bias"])


# Which parameters train


def test_another_family():
    assert live(get_peft_model(Perceptron(), BitFitConfig())) == [f"{n}.tuned.bias" for n in ("norm", "fc1", "fc2")]
    everything = ["norm.tuned.weight", "norm.tuned.bias", "fc1.tuned.bias", "fc2.tuned.bias"]
    assert live(get_peft_model(Perceptron(), BitFitConfig(norms=True))) == everything
    assert live(get_peft_model(Perceptron(), LNTuningConfig(target_modules=["norm"]))) == everything[:2]


def test_what_is_saved_whole_is_named_once():
    m = get_peft_model(Perceptron(), BitFitConfig(target_modules=["fc1"], modules_to_save=["fc2"]))
    assert live(m) == ["fc1.tuned.bias", "fc2.weight", "fc2.bias"]
    refused(lambda: get_peft_model(Perceptron(), BitFitConfig(modules_to_save=["fc2"])), "fc2 is in both")


def test_a_bias_beside_a_tied_weight_leaves_the_tie():
    class Tied(nn.Module):
        def __init__(self):
            self.embed = nn.Embedding(10, 6)
            self.head = nn.Linear(6, 10)
            self.head.weight = self.embed.weight
            self.config = SimpleNamespace(tie_word_embeddings=True)

        def forward(self, ids):
            return self.head(self.embed(ids))

    m = move(get_peft_model(Tied(), BitFitConfig()))
    assert m.config.tie_word_embeddings
    plain = m.merge_and_unload()
    assert plain.head.weight is plain.embed.weight and plain.head.bias.numpy().any()


# Files


def test_bitfits_files_name_the_models_own_parameters(tmp_path):
    m = train(adapted(BIASES, "biases", 0))
    m.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "BITFIT" and config["norms"] is False
    tensors, _ = safetensors.load_file(tmp_path / "adapter_model.safetensors")
    own = {f"base_model.model.{name}" for name in base_of(BIASES, "biases", 0).state_dict() if name.endswith("bias")}
    assert set(tensors) == own
    layer = m.base_model.model.layers[0].self_attn.k_proj
    stored = tensors["base_model.model.model.layers.0.self_attn.k_proj.bias"]
    assert np.array_equal(stored, layer.tuned["bias"].numpy())
