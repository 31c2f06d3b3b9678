"""pytest tests/peft/test_adalora.py: AdaLoRA: its loss, how the budget is spent, what a file holds, errors.

PEFT's numbers are in test_golden.py and tests/parity/test_peft_adalora_parity.py.
"""

import json

import numpy as np
import pytest

from minilora import backend, optim
from minilora.errors import MiniloraError
from minilora.formats.safetensors import load_file
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import AdaLoraConfig, PeftModel, get_peft_model
from minilora.peft.adalora import AdaLoraLinear
from minilora.tensor import Tensor, gradients
from minilora.train import methods
from minilora.train.loop import TrainConfig
from minilora.train.loop import train as train_by_loop
from tests.helpers.peft_invariants import CASES, IDS, adapted, base_of, distance, edit_config, logits, same, state
from tests.peft.test_model import refused

STEPS = 8
SETTINGS = {"target_modules": "all-linear", "init_r": 3, "target_r": 2, "tinit": 1, "tfinal": 3, "lora_alpha": 12}


def fresh(seed: int = 0, **more) -> PeftModel:
    return get_peft_model(base_of(CASES["adalora"], "tied", 0), AdaLoraConfig(**SETTINGS | more), seed=seed)


def layers(model) -> list[AdaLoraLinear]:
    return [module for _, module in model.named_modules() if isinstance(module, AdaLoraLinear)]


def ranks(model) -> list[int]:
    return [int((layer.lora_E.numpy() != 0).sum()) for layer in layers(model)]


def train(model, steps: int = STEPS, hook=None, first: int = 1, optimizer=None):
    """The model's hook, after steps of training as the loop does them."""
    hook = model.training_hook(STEPS) if hook is None else hook
    optimizer = optim.AdamW(model.parameters(), lr=0.05) if optimizer is None else optimizer
    for step in range(first, first + steps):
        optimizer.zero_grad()
        (model.train()(IDS, labels=IDS).loss + hook.extra_loss()).backward()
        optimizer.step()
        hook.after_step(step)
    model.eval()
    return hook


def test_the_budget_falls_from_the_first_rank_to_the_last_and_stays_there():
    model, found = fresh(), []
    hook, optimizer = model.training_hook(STEPS), optim.AdamW(model.parameters(), lr=0.05)
    for step in range(1, STEPS + 1):
        train(model, 1, hook, step, optimizer)
        found.append(sum(ranks(model)))
    count = len(layers(model))
    assert found[0] == 3 * count and found[4:] == [2 * count] * 4
    assert found == sorted(found, reverse=True)
    assert found[1:4] == [int(count * (1 - k / 4) ** 3 + 2 * count) for k in (1, 2, 3)]
    assert all(layer.kept is not None for layer in layers(model)) and len({*ranks(model)}) > 1


def test_it_takes_away_what_counts_least():
    model = fresh()
    hook, rng, scores = model.training_hook(STEPS), np.random.default_rng(0), []
    for arrays in hook.sensitivity, hook.variation:
        for name, array in arrays.items():
            arrays[name] = backend.asarray(rng.random(array.shape).astype("float32"))
    for i in range(len(layers(model))):
        parts = [hook.sensitivity[f"{i}.lora_{x}"] * hook.variation[f"{i}.lora_{x}"] for x in "AEB"]
        a, e, b = (backend.to_numpy(part) for part in parts)
        scores.append(e[:, 0] + a.mean(1) + b.mean(0))
    kept = [backend.to_numpy(mask) for mask in hook.allocate(10)]
    assert sum(mask.sum() for mask in kept) == 10
    least = min(score[mask].min() for score, mask in zip(scores, kept, strict=True) if mask.any())
    assert least > max(score[~mask].max() for score, mask in zip(scores, kept, strict=True) if not mask.all())
    assert all(mask.all() for mask in hook.allocate(3 * len(kept)))


def test_its_loss_is_the_distance_from_orthogonality():
    model = fresh()
    expected = []
    for layer in layers(model):
        a, b = layer.lora_A.numpy(), layer.lora_B.numpy()
        expected += [np.linalg.norm(a @ a.T - np.eye(3)), np.linalg.norm(b.T @ b - np.eye(3))]
    loss = model.training_hook(STEPS).extra_loss()
    assert loss.item() == pytest.approx(0.5 * np.mean(expected), rel=1e-6)
    found = gradients(loss)
    assert {id(p) for p in found} == {id(p) for layer in layers(model) for p in (layer.lora_A, layer.lora_B)}
    assert fresh(orth_reg_weight=0).training_hook(STEPS).extra_loss() is None


def test_where_all_is_orthogonal_its_loss_has_no_gradient_and_no_nan():
    model = fresh()
    for layer in layers(model):
        for parameter in (layer.lora_A, layer.lora_B):
            parameter.data = backend.asarray(np.eye(*parameter.shape, dtype="float32"))
    for gradient in gradients(model.training_hook(STEPS).extra_loss()).values():
        assert not backend.to_numpy(gradient).any()


def test_the_layer_is_the_formula_and_merges():
    model = fresh()
    train(model)
    for layer in layers(model):
        x = np.random.default_rng(1).standard_normal((5, layer.base_layer.in_features)).astype("float32")
        a, e, b = (p.numpy() for p in (layer.lora_A, layer.lora_E, layer.lora_B))
        weight = layer.base_layer.weight.numpy() + 12 / (3 + 1e-5) * b @ np.diag(e[:, 0]) @ a
        assert distance(layer.merged().weight.numpy(), weight) < 1e-6
        assert distance(layer(Tensor(backend.asarray(x))).numpy(), x @ weight.T) < 1e-5


def test_a_file_holds_what_is_left_and_gives_the_same(tmp_path):
    model = fresh()
    train(model)
    expected, left = logits(model), ranks(model)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert [sum(row) for row in config["rank_pattern"].values()] == left
    assert {len(row) for row in config["rank_pattern"].values()} == {3} and config["total_step"] == STEPS
    tensors, _ = load_file(tmp_path / "adapter_model.safetensors")
    for name, row in config["rank_pattern"].items():
        assert tensors[f"base_model.model.{name.removesuffix('E')}B"].shape[1] == sum(row)
    loaded = PeftModel.from_pretrained(base_of(CASES["adalora"], "tied", 0), tmp_path, is_trainable=True)
    assert distance(logits(loaded.eval()), expected) < 1e-6
    train(loaded, 2)  # its rank stays
    assert [layer.lora_E.shape[0] for layer in layers(loaded)] == left
    loaded.save_pretrained(tmp_path / "again")
    assert (
        json.loads((tmp_path / "again" / "adapter_config.json").read_text())["rank_pattern"] == config["rank_pattern"]
    )


def test_weights_of_before_the_budget_was_spent_lose_nothing_in_a_file(tmp_path):
    """The loop puts the best weights that it has seen back in place, which may be older than the last mask."""
    model = fresh()
    hook, optimizer = model.training_hook(STEPS), optim.AdamW(model.parameters(), lr=0.05)
    train(model, 3, hook, 1, optimizer)
    best = {name: p.data.copy() for name, p in model.named_parameters() if p.requires_grad}
    train(model, STEPS - 3, hook, 4, optimizer)
    for name, p in model.named_parameters():
        if name in best:
            p.data = best[name]
    assert sum(ranks(model)) > 2 * len(layers(model))
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_of(CASES["adalora"], "tied", 0), tmp_path)
    assert distance(logits(loaded), logits(model)) < 1e-6


@pytest.mark.parametrize("cut", [2, 4, 6])
def test_a_hook_that_was_saved_and_loaded_goes_on_with_the_same_bits(cut):
    whole, parts = fresh(), fresh()
    first = train(whole)
    optimizer = optim.AdamW(parts.parameters(), lr=0.05)
    kept = train(parts, cut, None, 1, optimizer).state_dict()
    for layer in layers(parts):
        layer.kept = None
    hook = parts.training_hook(STEPS)
    hook.load_state_dict({name: backend.to_numpy(array) for name, array in kept.items()})
    train(parts, STEPS - cut, hook, cut + 1, optimizer)
    assert same(state(parts), state(whole))
    for mine, others in ((hook.sensitivity, first.sensitivity), (hook.variation, first.variation)):
        assert same(*({n: backend.to_numpy(a) for n, a in arrays.items()} for arrays in (mine, others)))
    assert all((a.kept == b.kept).all() for a, b in zip(layers(parts), layers(whole), strict=True))


class Batches:
    def next_batch(self) -> dict:
        return {"input_ids": IDS, "labels": IDS}


@pytest.mark.host
def test_the_loop_spends_the_budget_by_the_number_of_its_steps():
    base = LlamaForCausalLM(LlamaConfig(40, 16, 24, 2, 4, 2))
    model = methods.adapt(base, "adalora", methods.Options(rank=2))
    assert model.peft_config.init_r == 3 and model.peft_config.tinit is None
    train_by_loop(model, Batches(), TrainConfig(steps=20, peak_lr=0.02), show_progress=False)
    config = model.peft_config.as_saved({})
    assert (config.total_step, config.tinit, config.tfinal) == (20, 2, 6)
    assert sum(ranks(model)) == 2 * len(layers(model)) == 28


@pytest.mark.host
def test_a_training_leaves_nothing_of_its_steps_to_the_next():
    """As after a search for a learning rate, whose trainings are shorter."""
    model = fresh(tinit=None, tfinal=None)
    train(model, 3, model.training_hook(3))
    hook = model.training_hook(20)
    assert (hook.start, hook.end) == (2, 14) and all(layer.kept is None for layer in layers(model))
    saved = model.peft_config.as_saved({})
    assert (saved.total_step, saved.tinit, saved.tfinal) == (20, 2, 6) and model.peft_config.total_step is None


@pytest.mark.host
def test_one_step_of_training_leaves_every_triplet():
    model = adapted(CASES["adalora"], "tied", 0)
    hook = model.training_hook(1)
    hook.after_step(1)
    assert all(layer.kept is None for layer in layers(model))


@pytest.mark.host
def test_a_schedule_that_the_steps_leave_no_room_for_is_refused():
    with pytest.raises(MiniloraError, match="from step 1 = tinit to step 1 = total_step - tfinal"):
        fresh().training_hook(4)


@pytest.mark.host
@pytest.mark.parametrize(
    "change, words",
    [
        (lambda p: dict(list(p.items())[1:]), ["rank_pattern: no row for model.layers.0.self_attn.q_proj"]),
        (lambda p: p | {"model.x.lora_E": [True] * 3}, ["model.x.lora_E is not adapted"]),
        (lambda p: {name: row[:2] for name, row in p.items()}, ["q_proj.lora_E has 2, not 3", "and 11 more"]),
        (lambda p: {name: [True] * 3 for name in p}, ["lora_A has shape"]),
        (lambda p: None, ["lora_A has shape"]),
    ],
)
def test_a_pattern_that_does_not_fit_is_refused(tmp_path, change, words):
    model = fresh()
    train(model)
    model.save_pretrained(tmp_path)
    pattern = json.loads((tmp_path / "adapter_config.json").read_text())["rank_pattern"]
    edit_config(tmp_path, rank_pattern=change(pattern))
    refused(tmp_path, *words, model=base_of(CASES["adalora"], "tied", 0))
