"""pytest tests/parity/test_peft_adalora_parity.py: AdaLoRA trains, spends its budget and writes files as PEFT does.

Needs the parity extra: pip install -e '.[parity,test]'
"""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from minilora.optim import AdamW  # noqa: E402
from minilora.peft import AdaLoraConfig, PeftModel, get_peft_model  # noqa: E402
from tests.parity.test_peft_parity import IDS, base, opened_by_transformers, ours, theirs  # noqa: E402, F401

pytestmark = [pytest.mark.parity, pytest.mark.host, pytest.mark.filterwarnings("ignore")]
STEPS = 9
# PEFT adds the loss of its own where it knows the task.
SETTINGS = {"task_type": "CAUSAL_LM", "init_r": 4, "target_r": 2, "total_step": STEPS, "lora_alpha": 16}
# The budget falls at each step, at some of them after a pause, to the end of training, to less than one a layer; and
# without the loss of its own.
CASES = {
    "each step": {"tfinal": 3},
    "at times": {"tinit": 1, "tfinal": 2, "deltaT": 2, "target_modules": ["q_proj", "up_proj", "down_proj"]},
    "to the end": {"beta1": 0.5, "beta2": 0.7, "orth_reg_weight": 0.1},
    "hardly any": {"tfinal": 2, "init_r": 3, "target_r": 1, "target_modules": ["k_proj", "o_proj", "gate_proj"]},
    "no loss": {"tfinal": 2, "orth_reg_weight": 0.0},
}
cases = pytest.mark.parametrize("case", CASES)


def train_ours(model, steps: int = STEPS) -> list[float]:
    optimizer, losses, hook = AdamW(model.parameters(), lr=0.05), [], model.training_hook(steps)
    for step in range(1, steps + 1):
        loss = model.train()(IDS, labels=IDS).loss
        extra = hook.extra_loss()
        loss = loss if extra is None else loss + extra
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        hook.after_step(step)
        losses.append(loss.item())
    return losses


def train_theirs(model, steps: int = STEPS) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for step in range(1, steps + 1):
        loss = model.train()(torch.tensor(IDS), labels=torch.tensor(IDS)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        losses.append(loss.item())
    return losses


def pattern_in(folder) -> dict:
    return json.loads((folder / "adapter_config.json").read_text())["rank_pattern"]


@cases
def test_training_and_the_budget_are_the_same_and_files_go_both_ways(case, base, tmp_path):  # noqa: F811
    plain, folder = base
    model = get_peft_model(plain, AdaLoraConfig(**SETTINGS | CASES[case]), seed=3)
    model.save_pretrained(tmp_path / "start")
    twin = peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "start", is_trainable=True)
    trainable, total = model.get_nb_trainable_parameters()
    held = sum(name.endswith("ranknum.default") for name, _ in twin.named_parameters())  # the rank, which never changes
    assert twin.get_nb_trainable_parameters() == (trainable, total + held)
    np.testing.assert_allclose(theirs(twin), ours(model), rtol=1e-5, atol=1e-5)

    np.testing.assert_allclose(train_theirs(twin), train_ours(model), rtol=0, atol=1e-4)
    np.testing.assert_allclose(theirs(twin), ours(model), rtol=2e-3, atol=2e-3)
    model.save_pretrained(tmp_path / "ours")
    twin.save_pretrained(tmp_path / "theirs")
    pattern = pattern_in(tmp_path / "ours")
    assert pattern == pattern_in(tmp_path / "theirs")
    ranks = [sum(row) for row in pattern.values()]
    settings = SETTINGS | CASES[case]
    assert sum(ranks) == settings["target_r"] * len(ranks) < settings["init_r"] * len(ranks)

    back = peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "ours")
    np.testing.assert_allclose(theirs(back), ours(model), rtol=1e-5, atol=1e-5)
    expected = ours(model)
    loaded = PeftModel.from_pretrained(model.unload(), tmp_path / "theirs")
    np.testing.assert_allclose(ours(loaded), theirs(twin), rtol=1e-5, atol=1e-5)
    again = PeftModel.from_pretrained(loaded.unload(), tmp_path / "ours")
    np.testing.assert_allclose(ours(again), expected, rtol=1e-5, atol=1e-6)
    again.save_pretrained(tmp_path / "again")
    assert pattern_in(tmp_path / "again") == pattern
    merged = again.merge_and_unload()
    np.testing.assert_allclose(ours(merged), expected, rtol=1e-4, atol=1e-5)
