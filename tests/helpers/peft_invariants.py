"""Invariants of every way to adapt a model, as functions: test_peft_methods.py runs them for each, on three models.

They are functions so that test_peft_faults.py can plant a mistake and see one of them fail.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from minilora import backend, nn, optim, quant
from minilora.errors import MiniloraError
from minilora.formats import safetensors
from minilora.models import beginning
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel
from minilora.models.language_model import LanguageModel
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import (
    BitFitConfig,
    BottleneckConfig,
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from minilora.tensor import gradients

SEEDS = [0, 1, 2]
IDS = np.random.default_rng(9).integers(1, 40, (3, 7))
VIRTUAL = 3  # virtual tokens

SIZES = {"vocab_size": 40, "initializer_range": 0.3, "max_position_embeddings": 64}
MODELS = {
    "tied": {
        **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "tie_word_embeddings": True},
        **{"num_attention_heads": 4, "num_key_value_heads": 2},
    },
    "biases": {
        **{"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 3},
        **{"attention_bias": True, "mlp_bias": True},
    },
    "deep": {
        **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "head_dim": 6},
        **{"num_attention_heads": 2, "num_key_value_heads": 1},
    },
}

GPT2 = {  # the model "gpt2", beside those of MODELS; test_gpt2.py uses it
    **{"vocab_size": 40, "initializer_range": 0.3, "n_positions": 64},
    **{"n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24},
}


@dataclass(frozen=True)
class Case:
    """A way to adapt, and its promises."""

    make: Callable[[], PeftConfig]
    trains: tuple[str, ...]  # endings of the names of the parameters that train
    start: float | None = 0.0  # distance from the base at the start, relative to the largest logit; None: any
    merges: bool = True
    scales: bool = True  # True if it can have a strength other than 1
    saves_more: bool = False  # True if it saves more than the parameters that train
    quantization: dict | None = None  # quantization of the base
    models: tuple[str, ...] = tuple(MODELS)


ALL = {"target_modules": "all-linear"}
A_AND_B = ("lora_A.weight", "lora_B.weight")
NORM_PARAMETERS = ("norm.weight",)
ROUNDING = 2e-6
CASES = {
    "lora": Case(lambda: LoraConfig(r=4, lora_alpha=8), A_AND_B),
    "rslora, all linears": Case(lambda: LoraConfig(r=2, lora_alpha=3, use_rslora=True, **ALL), A_AND_B),
    "lora, patterns": Case(
        lambda: LoraConfig(r=2, rank_pattern={"v_proj": 3}, alpha_pattern={"layers.0.self_attn.q_proj": 5}), A_AND_B
    ),
    "dora": Case(
        lambda: LoraConfig(r=2, use_dora=True, **ALL), (*A_AND_B, "lora_magnitude_vector"), start=ROUNDING, scales=False
    ),
    "pissa": Case(lambda: LoraConfig(r=2, init_lora_weights="pissa", **ALL), A_AND_B, start=ROUNDING, scales=False),
    "qlora": Case(
        lambda: LoraConfig(r=4, lora_alpha=8, **ALL),
        A_AND_B,
        quantization={"blocksize": 32, "quant_type": "nf4", "compress_statistics": True},
    ),
    "prefix": Case(
        lambda: PrefixTuningConfig(num_virtual_tokens=VIRTUAL), ("prompt_embeddings",), None, merges=False, scales=False
    ),
    "prompt": Case(
        lambda: PromptTuningConfig(num_virtual_tokens=VIRTUAL), ("prompt_embeddings",), None, merges=False, scales=False
    ),
    **{
        f"bottleneck, {placement}": Case(
            lambda placement=placement: BottleneckConfig(bottleneck_size=3, placement=placement),
            ("adapter_down.weight", "adapter_down.bias", "adapter_up.weight", "adapter_up.bias"),
            merges=False,
        )
        for placement in ("pfeiffer", "houlsby", "parallel")
    },
    "ia3": Case(IA3Config, ("ia3_l",)),
    "bitfit": Case(BitFitConfig, ("bias",), models=("biases",)),
    "bitfit, norms": Case(lambda: BitFitConfig(norms=True), ("bias", "weight")),
    "norms": Case(LNTuningConfig, ("weight",)),
    "vera": Case(
        lambda: VeraConfig(r=5, target_modules=["q_proj", "v_proj", "down_proj"]),
        ("vera_lambda_b", "vera_lambda_d"),
        saves_more=True,
    ),
}


# Tools


def base_of(case: Case, model: str, seed: int) -> LanguageModel:
    if model == "gpt2":
        base = GPT2LMHeadModel(GPT2Config(**GPT2), seed=seed)
    else:
        base = LlamaForCausalLM(LlamaConfig(**SIZES, **MODELS[model]), seed=seed)
    if model == "gpt2" or base.config.attention_bias:  # new biases are zero, which would hide mistakes
        rng = np.random.default_rng(seed)
        for name, p in base.named_parameters():
            if name.endswith("bias"):
                p.data = backend.asarray(rng.standard_normal(p.shape).astype("float32"))
    if case.quantization:
        quant.quantize_model(base, **case.quantization)
    return base


def adapted(case: Case, model: str, seed: int) -> PeftModel:
    return get_peft_model(base_of(case, model, seed), case.make(), seed=seed)


def logits(model) -> np.ndarray:
    return model(IDS).logits.numpy()


def train(model: PeftModel, steps: int = 3) -> PeftModel:
    """Train all of the model's parameters for a few steps of AdamW."""
    optimizer = optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
    return model


def state(model: nn.Module) -> dict[str, np.ndarray]:
    """Return copies of everything that the model holds, including 4-bit codes."""
    arrays = {name: backend.to_numpy(array).copy() for name, array in model.state_dict().items()}
    for path, module in model.named_modules():
        if isinstance(module, quant.Linear4bit):
            arrays[f"{path}.packed"] = backend.to_numpy(module.packed).copy()
            arrays[f"{path}.absmax"] = backend.to_numpy(module.quant_state.absmax).copy()
    return arrays


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference, relative to the largest value."""
    return abs(a - b).max() / abs(b).max()


def refused(action: Callable, *words: str) -> None:
    try:
        action()
    except MiniloraError as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError("no MiniloraError was raised")


def edit_config(folder: Path, **changes) -> None:
    """Change fields of a saved configuration."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder: Path, change: Callable[[dict], dict | None], keep_metadata: bool = True) -> None:
    """Change saved arrays: `change` edits them in place or returns others.

    keep_metadata: False writes the file as PEFT does.
    """
    path = folder / "adapter_model.safetensors"
    tensors, metadata = safetensors.load_file(path)
    safetensors.save_file(path, change(tensors) or tensors, metadata if keep_metadata else {"format": "pt"})


# The invariants


def starts_as_promised(case: Case, model: str, seed: int, folder) -> None:
    expected, got = logits(base_of(case, model, seed)), logits(adapted(case, model, seed))
    if case.start is not None:
        assert distance(got, expected) <= case.start
    else:
        assert got.shape != expected.shape or distance(got, expected) > 1e-3


def trains_exactly_its_own(case: Case, model: str, seed: int, folder) -> None:
    before = state(base_of(case, model, seed))
    m = adapted(case, model, seed)
    start = state(m)
    live = {name: p for name, p in m.named_parameters() if p.requires_grad}
    assert live and all(name.endswith(case.trains) for name in live)
    assert {p.dtype.name for p in live.values()} == {"float32"}
    trainable, total = m.get_nb_trainable_parameters()
    assert trainable == sum(p.size for p in live.values())
    float_case = Case(case.make, case.trains)
    originals = sum(p.size for p in base_of(float_case, model, seed).parameters())
    assert total == originals + trainable

    train(m)
    after = state(m)
    assert {name for name in after if not np.array_equal(start[name], after[name])} == set(live)
    with m.disable_adapter():
        assert same(state(m.base_model), before)


def disables_exactly(case: Case, model: str, seed: int, folder) -> None:
    m = train(adapted(case, model, seed))
    base, trained = logits(base_of(case, model, seed)), logits(m)
    assert trained.shape != base.shape or distance(trained, base) > 1e-3
    with m.disable_adapter():
        assert np.array_equal(logits(m), base)
        with m.disable_adapter():
            assert np.array_equal(logits(m), base)
        assert np.array_equal(logits(m), base)
        assert not any(p.requires_grad for p in m.base_model.parameters())
    assert np.array_equal(logits(m), trained)
    try:
        with m.disable_adapter():
            raise KeyError
    except KeyError:
        pass
    assert np.array_equal(logits(m), trained)
    assert np.array_equal(logits(m.unload()), base)


def round_trips_exactly(case: Case, model: str, seed: int, folder) -> None:
    m = train(adapted(case, model, seed)).eval()
    m.save_pretrained(folder)
    tensors, _ = safetensors.load_file(folder / "adapter_model.safetensors")
    assert case.saves_more or sum(array.size for array in tensors.values()) == m.get_nb_trainable_parameters()[0]
    loaded = PeftModel.from_pretrained(base_of(case, model, seed), folder)
    assert not loaded.notes and not any(p.requires_grad for p in loaded.parameters())
    assert same(state(loaded), state(m))
    assert np.array_equal(logits(loaded), logits(m))
    again = PeftModel.from_pretrained(base_of(case, model, seed), folder, is_trainable=True)
    assert again.get_nb_trainable_parameters() == m.get_nb_trainable_parameters()
    train(again, 1), train(m, 1)
    assert distance(logits(again), logits(m)) < 0.2  # the optimizer starts with new moments on both sides


def refuses_another_base(case: Case, model: str, seed: int, folder) -> None:
    train(adapted(case, model, seed)).save_pretrained(folder)
    other = base_of(case, model, seed + 1)
    before = state(other)
    refused(lambda: PeftModel.from_pretrained(other, folder), "another base")
    assert same(state(other), before)
    moved = base_of(Case(case.make, case.trains), model, seed)  # the same base, with one weight changed a little
    weight = next(p for name, p in moved.named_parameters() if ".mlp." in name and name.endswith("weight"))
    host = backend.to_numpy(weight.data).copy()
    host[0, 0] = np.nextafter(host[0, 0], np.float32(9))
    weight.data = backend.asarray(host)
    if case.quantization:
        quant.quantize_model(moved, **case.quantization)
    refused(lambda: PeftModel.from_pretrained(moved, folder), "another base")


def merges_or_says_why_not(case: Case, model: str, seed: int, folder) -> None:
    m = train(adapted(case, model, seed)).eval()
    expected, before = logits(m), state(m)
    if not case.merges:
        refused(m.merge_and_unload, "Layer cannot be merged", "unload()")
        assert same(state(m), before) and np.array_equal(logits(m), expected)
        return
    plain = m.merge_and_unload()
    assert [note for note in m.notes if "in floats" in note] == m.notes and bool(m.notes) == bool(case.quantization)
    assert distance(logits(plain), expected) <= 10 * ROUNDING  # ROUNDING is for one layer; it adds up over the model
    base = base_of(Case(case.make, case.trains), model, seed)
    assert type(plain) is type(base)
    assert {n: p.shape for n, p in plain.named_parameters()} == {n: p.shape for n, p in base.named_parameters()}
    assert not any(module.num_quantized for _, module in plain.named_modules())
    refused(m.merge_and_unload, "merged")
    plain.save_pretrained(folder)
    assert np.array_equal(logits(type(plain).from_pretrained(folder)), logits(plain))


def scales_or_says_why_not(case: Case, model: str, seed: int, folder) -> None:
    m = train(adapted(case, model, seed)).eval()
    trained = logits(m)
    if not case.scales:
        refused(lambda: m.set_strength(0.5), "strength must be 1, not 0.5")
        assert np.array_equal(logits(m), trained) and m.strength == 1
        return
    merged, live = {}, m.get_nb_trainable_parameters()
    for strength in (0.5, 0, 1):
        m.set_strength(strength)
        assert m.get_nb_trainable_parameters() == (live if strength == 1 else (0, live[1]))
        m.save_pretrained(folder)
        loaded = PeftModel.from_pretrained(base_of(case, model, seed), folder)
        assert np.array_equal(logits(loaded), logits(m))
        merged[strength] = state(loaded.merge_and_unload()) if case.merges else {}
        if strength == 0:
            assert np.array_equal(logits(m), logits(base_of(case, model, seed)))
    assert np.array_equal(logits(m), trained)
    for name, half in merged[0.5].items():
        assert abs(half - (merged[0][name] + merged[1][name]) / 2).max() <= ROUNDING


def generates_as_it_computes(case: Case, model: str, seed: int, folder) -> None:
    m = train(adapted(case, model, seed)).eval()
    text = m.generate(IDS[:1], 5, temperature=0, eos_token_id=-1 % 40)
    for end in range(IDS.shape[1], text.shape[1]):
        assert m(text[:, :end]).logits.numpy()[0, -1].argmax() == text[0, end]


def reads_once_what_rows_share(case: Case, model: str, seed: int, folder) -> None:
    m = train(adapted(case, model, seed), steps=1)
    ids = np.concatenate([np.broadcast_to(IDS[:1, :4], (3, 4)), IDS], axis=1)
    labels, mask = np.where(np.arange(11) < 6, -100, ids), np.ones_like(ids)
    mask[1, 9:] = 0
    labels[1, 9:] = -100
    results = []
    for least in (1, 10**9):
        with patch.object(beginning, "LEAST_SAVED", least):
            out = m(ids, attention_mask=mask, labels=labels)
            grads = {p: backend.to_numpy(g) for p, g in gradients(out.loss).items()}
            results.append((out.loss.numpy(), out.logits.numpy()[mask_of(m, mask) == 1], grads))
    once, by_each = results
    assert distance(once[0], by_each[0]) < 1e-5 and distance(once[1], by_each[1]) < 1e-5
    assert once[2].keys() == by_each[2].keys() and once[2]
    largest = max(abs(g).max() for g in by_each[2].values())
    assert all(abs(g - by_each[2][p]).max() < 1e-5 * largest for p, g in once[2].items())


def mask_of(model: PeftModel, mask: np.ndarray) -> np.ndarray:
    """Return the mask for the logits, which may have virtual tokens before the real ones."""
    return np.pad(mask, ((0, 0), (model.base_model.body.virtual_outputs, 0)), constant_values=1)


INVARIANTS = [
    starts_as_promised,
    trains_exactly_its_own,
    disables_exactly,
    round_trips_exactly,
    refuses_another_base,
    merges_or_says_why_not,
    scales_or_says_why_not,
    generates_as_it_computes,
    reads_once_what_rows_share,
]


def keeps_every_promise(case: Case, folder: Path) -> None:
    """Check all invariants, with another seed on each model."""
    for invariant in INVARIANTS:
        for model, seed in zip(MODELS, SEEDS, strict=True):
            if model in case.models:
                invariant(case, model, seed, folder / f"{invariant.__name__} {model}")
