"""pytest tests/peft/test_lora_plus.py: LoRA+ gives B a higher learning rate than A."""

import numpy as np
import pytest

from minilora import backend, nn
from minilora.errors import MiniloraError
from minilora.optim import SGD, AdamW
from minilora.peft import LoraConfig, get_peft_model, lora_plus_groups


class Model(nn.Module):
    """A model with everything that can train beside A and B: matrices, biases, norms of both kinds."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.fc, self.head = nn.Linear(6, 8, rng=rng), nn.Linear(8, 3, rng=rng)
        self.layer_norm, self.rms_norm = nn.LayerNorm(8), nn.RMSNorm(8)

    def forward(self, x):
        return self.head(self.rms_norm(self.layer_norm(self.fc(x))))


def adapted():
    saved = ["head", "layer_norm", "rms_norm"]
    config = LoraConfig(r=2, target_modules=["fc"], modules_to_save=saved, use_dora=True, init_lora_weights=False)
    return get_peft_model(Model(), config)


def rates(model, **options) -> dict[str, tuple[float, float]]:
    """Return {name: (lr, weight decay)}; each parameter must be in exactly one group."""
    names = {id(p): name.removeprefix("base_model.") for name, p in model.named_parameters()}
    groups = lora_plus_groups(model, **options)
    pairs = [(names[id(p)], (group["lr"], group["weight_decay"])) for group in groups for p in group["params"]]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_every_parameter_that_trains_has_its_rate():
    assert rates(adapted(), lr=0.5, ratio=4, weight_decay=0.1) == {
        "fc.lora_A.weight": (0.5, 0.1),
        "head.weight": (0.5, 0.1),
        "fc.lora_B.weight": (2.0, 0.1),
        "fc.lora_magnitude_vector": (2.0, 0.1),
        "rms_norm.weight": (2.0, 0.1),
        "head.bias": (2.0, 0.0),
        "layer_norm.weight": (2.0, 0.0),
        "layer_norm.bias": (2.0, 0.0),
    }
    assert rates(adapted(), lr=0.5, ratio=np.int64(4)) == rates(adapted(), lr=0.5, ratio=4)
    defaults = rates(adapted(), lr=1e-4)
    assert defaults["fc.lora_B.weight"] == (16e-4, 0.0) and defaults["fc.lora_A.weight"] == (1e-4, 0.0)


def test_an_optimizer_moves_b_by_the_ratio():
    model = adapted()
    layer = model.base_model.fc
    optimizer = SGD(lora_plus_groups(model, lr=0.01, ratio=8.0), lr=1.0)
    before = layer.lora_A.weight.numpy(), layer.lora_B.weight.numpy()
    model(backend.asarray(np.ones((2, 6), dtype="float32"))).sum().backward()
    gradients = [backend.to_numpy(p.grad).copy() for p in (layer.lora_A.weight, layer.lora_B.weight)]
    optimizer.step()
    np.testing.assert_allclose(layer.lora_A.weight.numpy() - before[0], -0.01 * gradients[0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(layer.lora_B.weight.numpy() - before[1], -0.08 * gradients[1], rtol=1e-4, atol=1e-7)
    assert abs(gradients[1]).max() > 1e-3
    AdamW(lora_plus_groups(model, lr=0.01), lr=0.01).step()


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), float("inf"), "16", None])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(MiniloraError, match="ratio of LoRA\\+ must be a positive number"):
        lora_plus_groups(adapted(), lr=1e-3, ratio=ratio)


def test_a_model_without_a_b_that_trains_is_refused():
    for model in (Model(), adapted().requires_grad_(False)):
        with pytest.raises(MiniloraError, match="no lora_B trains"):
            lora_plus_groups(model, lr=1e-3)
