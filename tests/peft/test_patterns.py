"""pytest tests/peft/test_patterns.py: rank_pattern and alpha_pattern: layers with an r or an α of their own."""

import json

import numpy as np
import pytest

from minilora.errors import MiniloraError
from minilora.formats.safetensors import load_file
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, PeftModel, get_peft_model
from minilora.peft.lora import LoraLinear

SIZES = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 6}


def llama(layers: int = 2) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers, initializer_range=0.3))


def adapted(**options) -> PeftModel:
    return get_peft_model(llama(), LoraConfig(**options))


def settings(model: PeftModel) -> dict[str, tuple[int, float]]:
    """{path: (r, scaling)} of each layer, its path without what they have in common."""
    return {
        path.removeprefix("base_model.model.layers.").replace("self_attn.", ""): (m.lora_A.out_features, m.scaling)
        for path, m in model.named_modules()
        if isinstance(m, LoraLinear)
    }


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"rank_pattern": {"v_proj": 4}}, {"0.v_proj": (4, 2), "1.v_proj": (4, 2)}),
        ({"rank_pattern": {"layers.1.self_attn.v_proj": 4}}, {"1.v_proj": (4, 2)}),
        ({"rank_pattern": {"model.layers.0.self_attn.q_proj": 1}}, {"0.q_proj": (1, 8)}),
        ({"alpha_pattern": {"q_proj": 6}}, {"0.q_proj": (2, 3), "1.q_proj": (2, 3)}),
        ({"rank_pattern": {"q_proj": 4}, "use_rslora": True}, {"0.q_proj": (4, 4), "1.q_proj": (4, 4)}),
        (
            {"rank_pattern": {"0.self_attn.q_proj": 4, "v_proj": 8}, "alpha_pattern": {"q_proj": 1}},
            {"0.q_proj": (4, 0.25), "1.q_proj": (2, 0.5), "0.v_proj": (8, 1), "1.v_proj": (8, 1)},
        ),
        (  # two names for one layer, and of one mind
            {"rank_pattern": {"v_proj": 4, "1.self_attn.v_proj": 4}},
            {"0.v_proj": (4, 2), "1.v_proj": (4, 2)},
        ),
    ],
    ids=str,
)
def test_what_a_name_means(options, expected):
    default = (2, 8 / 2**0.5) if options.get("use_rslora") else (2, 4)
    names = ["0.q_proj", "0.v_proj", "1.q_proj", "1.v_proj"]
    assert settings(adapted(r=2, **options)) == {name: expected.get(name, default) for name in names}


@pytest.mark.parametrize("targets", [None, "all-linear", ["q_proj", "up_proj"]])
def test_patterns_are_saved_as_they_are_and_come_back(targets, tmp_path):
    options = {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"layers.1.self_attn.q_proj": 5}}
    model = adapted(r=2, target_modules=targets, **options)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.1
    model.eval().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "adapter_config.json").read_text())
    assert {name: content[name] for name in options} == options
    tensors, _ = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (3, 16)
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    assert settings(loaded) == settings(model)
    ids = np.arange(6)[None]
    assert np.array_equal(loaded(ids).logits.numpy(), model(ids).logits.numpy())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"rank_pattern": {"k_proj": 2}}, ["rank_pattern: 'k_proj' is none of the targets"]),  # a Linear, but no target
        ({"alpha_pattern": {"proj": 2}}, ["'proj' is none of the targets"]),  # names are whole
        ({"alpha_pattern": {"w": 2}}, ["alpha_pattern: 'w' is none of the targets", "there are: q_proj, v_proj"]),
        ({"alpha_pattern": {"attn.q_proj": 2}}, ["'attn.q_proj' is none of the targets"]),  # ends are cut at a dot
        ({"rank_pattern": {"": 2}}, ["'' is none of the targets"]),
        (
            {"rank_pattern": {"q_proj": 2, "layers.0.self_attn.q_proj": 3}},
            ["'q_proj' and 'layers.0.self_attn.q_proj' differ"],
        ),
        ({"rank_pattern": {"x": 1, "y": 2}, "alpha_pattern": {"z": 3}}, ["'x'", "'y'", "'z'"]),
        ({"rank_pattern": {"\x1b[2J": 1}}, ["\\x1b[2J"]),
        ({"rank_pattern": {"v_proj": 13}}, ["r = 13 is above the width 12 of model.layers.0.self_attn.v_proj"]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(options, words):
    with pytest.raises(MiniloraError) as error:
        adapted(r=2, **options)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
