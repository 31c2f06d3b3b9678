"""pytest tests/parity/test_peft_vera_parity.py: VeRA goes to PEFT and comes from it.

Needs the parity extra: pip install -e '.[parity,test]'
"""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from minilora.models.llama import LlamaConfig, LlamaForCausalLM  # noqa: E402
from minilora.optim import AdamW  # noqa: E402
from minilora.peft import PeftModel, VeraConfig, get_peft_model  # noqa: E402
from tests.parity.test_peft_parity import IDS, SIZES, opened_by_transformers, ours, theirs  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.host, pytest.mark.filterwarnings("ignore")]

# The default, and layers wider and taller than others, at a rank above every width.
options = pytest.mark.parametrize(
    "options", [{"r": 5}, {"r": 30, "target_modules": ["k_proj", "up_proj", "down_proj"]}]
)


@pytest.fixture
def base(tmp_path):
    """A model of ours and the folder that it was saved in."""
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))
    model.save_pretrained(tmp_path / "base")
    return model, tmp_path / "base"


def train(model, optimizer, ids, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_ours(model, lr: float = 0.05, steps: int = 4) -> list[float]:
    return train(model, AdamW(model.parameters(), lr=lr), IDS, steps)


def train_theirs(model, lr: float = 0.05, steps: int = 4) -> list[float]:
    live = [p for p in model.parameters() if p.requires_grad]
    return train(model, torch.optim.AdamW(live, lr=lr), torch.tensor(IDS), steps)


@options
def test_ours_opens_in_peft_without_complaint(options, base, tmp_path):
    plain, folder = base
    start = ours(plain)
    model = get_peft_model(plain, VeraConfig(**options, projection_prng_key=3))
    train_ours(model)
    assert abs(ours(model) - start).max() > 0.1
    model.save_pretrained(tmp_path / "adapter")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "adapter")
    assert not [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    np.testing.assert_allclose(theirs(loaded), ours(model), rtol=1e-5, atol=1e-5)
    merged, expected = loaded.merge_and_unload(), model.merge_and_unload()
    np.testing.assert_allclose(theirs(merged), ours(expected), rtol=1e-5, atol=1e-5)


@options
def test_pefts_opens_here(options, base, tmp_path):
    plain, folder = base
    torch.manual_seed(0)
    model = peft.get_peft_model(opened_by_transformers(folder), peft.VeraConfig(**options, projection_prng_key=3))
    train_theirs(model)
    model.save_pretrained(tmp_path / "adapter")

    loaded = PeftModel.from_pretrained(plain, tmp_path / "adapter", is_trainable=True)
    assert len(loaded.notes) == 1 and "no fingerprint" in loaded.notes[0]
    assert loaded.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    np.testing.assert_allclose(ours(loaded), theirs(model), rtol=1e-5, atol=1e-5)


@options
def test_six_steps_of_training_are_the_same(options, base, tmp_path):
    plain, folder = base
    model = get_peft_model(plain, VeraConfig(**options))
    model.save_pretrained(tmp_path / "start")
    twin = peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "start", is_trainable=True)
    assert twin.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    losses = train_ours(model, lr=0.01, steps=6)
    np.testing.assert_allclose(train_theirs(twin, lr=0.01, steps=6), losses, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours(model), theirs(twin), rtol=1e-3, atol=1e-3)
