"""pytest tests/peft/test_golden.py: adapters that PEFT made compute and train here as they do there.

The files and numbers are those of golden/make_peft.py.
"""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minilora import optim
from minilora.peft import PeftModel
from tests.helpers.peft_invariants import distance
from tests.models.test_llama import golden_model

HERE = Path(__file__).parents[1] / "golden" / "peft"
EXPECTED = load_file(HERE / "expected.safetensors")
METHODS = sorted(folder.name for folder in HERE.iterdir() if folder.is_dir())
TRAINED = [name for name in METHODS if f"{name}.losses" in EXPECTED]
TRAINING = {"lr": 0.02, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
IDS = EXPECTED["input_ids"]


@pytest.mark.parametrize("name", METHODS)
def test_a_trained_adapter_gives_the_same_logits(name):
    model = PeftModel.from_pretrained(golden_model("grouped_tied"), HERE / name / "end")
    assert distance(model(IDS).logits.numpy(), EXPECTED[f"{name}.logits"]) < 1e-5
    assert any("no fingerprint" in note for note in model.notes)


@pytest.mark.parametrize("name", TRAINED)
def test_six_steps_from_the_same_start_have_the_same_losses(name):
    model = PeftModel.from_pretrained(golden_model("grouped_tied"), HERE / name / "start", is_trainable=True)
    optimizer = optim.AdamW(model.parameters(), **TRAINING)
    losses = []
    for _ in range(6):
        loss = model(IDS, labels=IDS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, EXPECTED[f"{name}.losses"], rtol=0, atol=1e-5)
