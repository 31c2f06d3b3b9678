"""pytest tests/parity/test_gpt2_parity.py: GPT-2 next to transformers and PEFT, and files that open on both sides.

Needs the parity extra: pip install -e '.[parity,test]'
"""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from minilora import optim  # noqa: E402
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel  # noqa: E402
from minilora.peft import (  # noqa: E402
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from tests.golden import make_gpt2  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
torch.set_num_threads(1)  # these models are too small to share
every_config = pytest.mark.parametrize("name", make_gpt2.CONFIGS)
IDS = np.random.default_rng(9).integers(2, 40, (3, 7))
TASK = {"task_type": "CAUSAL_LM"}
SQUARE = ["attn.c_proj"]  # in = out: nothing but the values would tell that such a weight was not turned
ADAPTERS = {  # ours and PEFT's class, and options of both
    "lora": (LoraConfig, peft.LoraConfig, {"r": 4, **TASK}),
    "lora, all": (
        LoraConfig,
        peft.LoraConfig,
        {"r": 3, "lora_alpha": 7, "target_modules": "all-linear", "use_rslora": True, **TASK},
    ),
    "lora, square": (LoraConfig, peft.LoraConfig, {"r": 3, "target_modules": SQUARE}),
    "lora, with the head": (LoraConfig, peft.LoraConfig, {"r": 3, "target_modules": ["c_attn", "lm_head"]}),
    "lora, mlp and positions saved": (LoraConfig, peft.LoraConfig, {"r": 3, "modules_to_save": ["mlp", "wpe"]}),
    "lora, square saved": (LoraConfig, peft.LoraConfig, {"r": 3, "modules_to_save": SQUARE}),
    "dora": (LoraConfig, peft.LoraConfig, {"r": 3, "use_dora": True, "target_modules": "all-linear"}),
    "pissa": (LoraConfig, peft.LoraConfig, {"r": 3, "init_lora_weights": "pissa", "target_modules": ["c_proj"]}),
    "ia3": (IA3Config, peft.IA3Config, TASK),
    "ia3, c_attn alone": (IA3Config, peft.IA3Config, {"target_modules": ["c_attn"]}),
    "ia3, both c_proj": (
        IA3Config,
        peft.IA3Config,
        {"target_modules": ["attn.c_proj", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"]},
    ),
    "norms": (LNTuningConfig, peft.LNTuningConfig, TASK),
    "prefix": (PrefixTuningConfig, peft.PrefixTuningConfig, {"num_virtual_tokens": 3, **TASK}),
    "prompt": (PromptTuningConfig, peft.PromptTuningConfig, {"num_virtual_tokens": 3, **TASK}),
}
every_adapter = pytest.mark.parametrize("case", ADAPTERS)


def pair(name: str, folder, seed: int = 50):
    """The same weights on both sides; ours come through the files."""
    theirs = make_gpt2.build(make_gpt2.CONFIGS[name], seed)
    theirs.save_pretrained(folder)
    return GPT2LMHeadModel.from_pretrained(folder), theirs


def logits_of(model, ids: np.ndarray = IDS) -> np.ndarray:
    """Of either side's model."""
    model.eval()
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model(torch.from_numpy(ids)).logits.numpy()
    return model(ids).logits.numpy()


def close(found, expected, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


@every_config
def test_ours_opens_there(name, tmp_path):
    ours, _ = pair(name, tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    again, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    close(logits_of(again), logits_of(ours))
    assert again.config.resid_pdrop == 0.1  # as it was read
    fresh = GPT2LMHeadModel(GPT2Config(**make_gpt2.CONFIGS[name]), seed=3)
    fresh.save_pretrained(tmp_path / "fresh")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "fresh")
    close(logits_of(again), logits_of(fresh))
    assert again.config.resid_pdrop == 0


def test_defaults_of_configurations_agree():
    ours, theirs = GPT2Config(), transformers.GPT2Config()
    for field in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "activation_function",
                  "layer_norm_epsilon", "initializer_range", "tie_word_embeddings", "bos_token_id", "eos_token_id",
                  "pad_token_id", "hidden_size", "num_hidden_layers", "num_attention_heads",
                  "max_position_embeddings"):  # fmt: skip
        assert getattr(ours, field) == getattr(theirs, field), field


# Adapters


@every_adapter
def test_pefts_opens_here(case, tmp_path):
    kind, theirs_kind, options = ADAPTERS[case]
    plain, base = pair("tied", tmp_path / "base")
    model = make_gpt2.adapt(base, theirs_kind(**options), IDS)
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(plain, tmp_path / "adapter", is_trainable=True)
    assert type(loaded.peft_config) is kind
    assert loaded.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    close(logits_of(loaded), logits_of(model))
    if case not in ("prefix", "prompt"):
        close(logits_of(loaded.merge_and_unload()), logits_of(model))


@every_adapter
def test_ours_opens_in_peft_without_complaint(case, tmp_path):
    kind, _, options = ADAPTERS[case]
    plain, base = pair("tied", tmp_path / "base")
    start = logits_of(plain)
    model = get_peft_model(plain, kind(**options), seed=3)
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
    found = logits_of(model)
    assert abs(found[:, -7:] - start).max() > 0.1
    model.save_pretrained(tmp_path / "adapter")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    said = [words for words in said if "Unsupported layer type" not in words]  # which it says of every LayerNorm
    if case != "lora, with the head":  # one layer that is turned and one that is not: PEFT warns either way
        assert not said
    close(logits_of(loaded), found)
    if case not in ("prefix", "prompt", "lora, with the head"):  # there, PEFT's merge changes the embedding along
        close(logits_of(loaded.merge_and_unload()), logits_of(model.merge_and_unload()))
