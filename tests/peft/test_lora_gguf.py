"""pytest tests/peft/test_lora_gguf.py: a LoRA adapter alone as a GGUF file for llama.cpp."""

import numpy as np
import pytest

from minilora import quant
from minilora.errors import MiniloraError
from minilora.formats.gguf import write_gguf
from minilora.models.llama_gguf import gguf_of
from minilora.peft import (
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    VeraConfig,
    get_peft_model,
)
from minilora.peft.lora_gguf import lora_gguf as gguf_of_adapter
from tests.models.test_llama_gguf import gpt2, model_of

gguf = pytest.importorskip("gguf")

ALL = {"target_modules": "all-linear", "init_lora_weights": False}
CASES = {
    "llama": ({}, LoraConfig(r=3, lora_alpha=5, **ALL)),
    "as many kv heads": ({"num_key_value_heads": 2}, LoraConfig(r=2, **ALL)),
    "mistral": ({"model_type": "mistral"}, LoraConfig(r=2, **ALL)),
    "qwen2, whose rows stay": ({"model_type": "qwen2", "attention_bias": True}, LoraConfig(r=2, **ALL)),
    "rsLoRA": ({}, LoraConfig(r=4, lora_alpha=5, use_rslora=True, **ALL)),
    "ranks and alphas of their own": (
        {},
        LoraConfig(r=3, lora_alpha=5, rank_pattern={"q_proj": 2}, alpha_pattern={"k_proj": 9, "q_proj": 1}, **ALL),
    ),
    "a head of its own": (
        {"tie_word_embeddings": False},
        LoraConfig(r=2, target_modules=["lm_head", "o_proj"], init_lora_weights=False),
    ),
}


def as_llama_cpp_merges(path, base: dict, adapted) -> dict:
    """The weights of the base's file and alpha / r · B A, by llama.cpp's rules, read by the gguf library."""
    write_gguf(path, gguf_of_adapter(adapted))
    reader = gguf.GGUFReader(path)
    fields = {name: reader.fields[name].contents() for name in reader.fields if not name.startswith("GGUF.")}
    assert (fields[gguf.Keys.General.TYPE], fields[gguf.Keys.Adapter.TYPE]) == (gguf.GGUFType.ADAPTER, "lora")
    assert fields[gguf.Keys.General.ARCHITECTURE] in ("llama", "qwen2")
    alpha = fields[gguf.Keys.Adapter.LORA_ALPHA]
    assert reader.fields[gguf.Keys.Adapter.LORA_ALPHA].types == [gguf.GGUFValueType.FLOAT32]
    arrays = {tensor.name: tensor.data for tensor in reader.tensors}
    merged = dict(base)
    for name in {name.rpartition(".lora_")[0] for name in arrays}:
        a, b = arrays[f"{name}.lora_a"], arrays[f"{name}.lora_b"]
        scale = alpha / b.shape[1] if alpha else 1.0
        merged[name] = base[name] + scale * (b @ a)
    assert len(arrays) == 2 * sum(not np.array_equal(merged[name], base[name]) for name in base)
    return merged


def weights_in_gguf(model) -> dict:
    return {name: tensor.read().copy() for name, tensor in gguf_of(model).tensors.items()}


@pytest.mark.parametrize("name", CASES)
def test_llama_cpp_would_compute_the_merged_model(tmp_path, name):
    settings, config = CASES[name]
    base = model_of(**settings)
    before = weights_in_gguf(base)
    adapted = get_peft_model(base, config, seed=1)
    found = as_llama_cpp_merges(tmp_path / "lora.gguf", before, adapted)
    expected = weights_in_gguf(adapted.merge_and_unload())
    assert found.keys() == expected.keys()
    for weight, array in expected.items():
        np.testing.assert_allclose(found[weight], array, atol=1e-6, err_msg=weight)


def test_an_adapter_of_a_base_in_4_bits_is_its_own(tmp_path):
    config = LoraConfig(r=2, **ALL)
    plain = gguf_of_adapter(get_peft_model(model_of(), config, seed=1))
    coded = gguf_of_adapter(get_peft_model(quant.quantize_model(model_of()), config, seed=1))
    assert plain.metadata == coded.metadata and plain.tensors.keys() == coded.tensors.keys()
    for name, tensor in plain.tensors.items():
        np.testing.assert_array_equal(tensor.read(), coded.tensors[name].read())


REFUSED = {
    "DoRA": (
        model_of,
        LoraConfig(use_dora=True),
        "--lora does not know DoRA: only plain LoRA can be written so$",
    ),
    "PiSSA": (model_of, LoraConfig(init_lora_weights="pissa"), "does not know PiSSA"),
    "VeRA": (model_of, VeraConfig(r=2), "does not know VeRA"),
    "IA3": (model_of, IA3Config(), "does not know IA3"),
    "a prefix": (model_of, PrefixTuningConfig(num_virtual_tokens=2), "does not know prefix tuning"),
    "modules trained whole": (
        model_of,
        LoraConfig(r=2, modules_to_save=["norm"]),
        r"^model\.norm.* have no place|norm",
    ),
    "a head that is the embeddings": (
        lambda: model_of(tie_word_embeddings=True),
        LoraConfig(r=2, target_modules=["lm_head"]),
        "^lm_head cannot be in an adapter for llama.cpp's --lora: merge it into its base$",
    ),
    "GPT-2": (gpt2, LoraConfig(r=2), "GPT2LMHeadModel of type gpt2 cannot be written as GGUF"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_does_not_know_is_refused_by_name(name):
    make, config, words = REFUSED[name]
    with pytest.raises(MiniloraError, match=words) as caught:
        gguf_of_adapter(get_peft_model(make(), config))
    assert "\n" not in str(caught.value)
