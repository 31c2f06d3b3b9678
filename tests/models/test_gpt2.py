"""pytest tests/models/test_gpt2.py: GPT-2 against transformers and PEFT, and what must hold without them.

The files and numbers are those of golden/make_gpt2.py.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from minilora import backend, nn, no_grad, quant
from minilora.data.tokenizer import train_tokenizer
from minilora.errors import FormatError, MiniloraError
from minilora.models.cache import KVCache
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel
from minilora.models.llama import LlamaForCausalLM
from minilora.models.registry import LANGUAGE_MODELS, family_of
from minilora.peft import (
    BottleneckConfig,
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftModel,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from minilora.train import load
from minilora.train.save import save_model
from tests.helpers import strict
from tests.helpers.peft_invariants import CASES, INVARIANTS, distance
from tests.models.test_llama import close, ids_of, training_step

HERE = Path(__file__).parents[1] / "golden"
NAMES = ("tied", "untied")
GOLDEN = {name: load_file(HERE / f"gpt2_{name}.safetensors") for name in NAMES}
ADAPTED = load_file(HERE / "gpt2_peft" / "expected.safetensors")
PAD = 1
TINY = {"vocab_size": 11, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}
FAN_IN_FAN_OUT = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # (in, out) in files
every_golden = pytest.mark.parametrize("name", NAMES)


def golden_folder(name: str, folder: Path, **changes) -> Path:
    """Write a model folder as transformers does. changes: to its tensors; None removes one."""
    weights = {key[7:]: a for key, a in GOLDEN[name].items() if key.startswith("weight.")}
    weights = {key: a for key, a in (weights | changes).items() if a is not None}
    with safe_open(HERE / f"gpt2_{name}.safetensors", framework="numpy") as file:
        config = json.loads(file.metadata()["config"])
    config |= {"model_type": "gpt2", "eos_token_id": None, "bos_token_id": None}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")
    return folder


def golden_model(name: str, folder: Path) -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(golden_folder(name, folder))


def tiny(seed: int = 0, scale: float = 20, **settings) -> GPT2LMHeadModel:
    """Make a small model whose logits differ, because its tables and matrices are `scale` times as large as usual and
    its biases are not zero.
    """
    model = GPT2LMHeadModel(GPT2Config(**{**TINY, **settings}), seed=seed).eval()
    rng = np.random.default_rng(seed)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            p.data = p.data * scale
        elif name.endswith("bias"):
            p.data = backend.asarray(0.3 * rng.standard_normal(p.shape).astype("float32"))
    return model


def edit(folder: Path, **config) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


# Against transformers


@pytest.mark.parametrize("method", [name for name in ADAPTED if name != "input_ids"])
def test_pefts_adapters_give_pefts_logits(method, tmp_path):
    base, ids = golden_model("tied", tmp_path), ADAPTED["input_ids"]
    before = base(ids).logits.numpy()
    model = PeftModel.from_pretrained(base, HERE / "gpt2_peft" / method)
    assert distance(model(ids).logits.numpy(), ADAPTED[method]) < 1e-5
    assert distance(before, ADAPTED[method]) > 1e-2
    assert distance(model.merge_and_unload()(ids).logits.numpy(), ADAPTED[method]) < 1e-5


def test_the_table_of_positions_ends():
    model = tiny()
    assert model(ids_of(1, 16)).logits.shape == (1, 16, 11)
    assert model.generate(ids_of(1, 6), 10).shape == (1, 16)
    with pytest.raises(MiniloraError, match="17 tokens exceed the model's 16 positions; shorten the text"):
        model(ids_of(1, 17))
    with pytest.raises(MiniloraError, match="exceed the model's 16 positions"):
        model.generate(ids_of(1, 6), 11)
    cache = KVCache(20)
    with no_grad():
        model(ids_of(1, 12), past_key_values=cache)
        with pytest.raises(MiniloraError, match="17 tokens"):
            model(ids_of(1, 5), past_key_values=cache)
    padded = np.concatenate([np.full((1, 4), PAD), ids_of(1, 16)], axis=1)  # padding takes no positions
    mask = (np.arange(20) >= 4)[None]
    close(model(padded, attention_mask=mask).logits.numpy()[:, 4:], model(ids_of(1, 16)).logits.numpy())


def test_a_training_step_waits_for_no_device_and_makes_no_float64():
    model = tiny()
    strict.reset_syncs()
    training_step(model, ids_of(2, 5), np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]))
    assert strict.sync_count() == 0
    assert all(p.dtype == np.float32 and p.grad.dtype == np.float32 for p in model.parameters())


# Beginning


def test_fresh_weights():
    """Weights are normal with deviation initializer_range, less for outputs to the stream; the loss is near log V."""
    config = GPT2Config(vocab_size=300, n_positions=64, n_embd=64, n_layer=8, n_head=2, initializer_range=0.03)
    model = GPT2LMHeadModel(config, seed=0)
    for name, p in model.named_parameters():
        a = p.numpy()
        if name.endswith("bias"):
            np.testing.assert_array_equal(a, 0)
        elif ".ln_" in name:
            np.testing.assert_array_equal(a, 1)
        else:
            expected = 0.03 / 4 if name.endswith("c_proj.weight") else 0.03
            assert a.std() == pytest.approx(expected, rel=0.05) and abs(a.mean()) < 0.002, name
    ids = ids_of(2, 16, vocab=300)
    assert model(ids, labels=ids).loss.item() == pytest.approx(np.log(300), rel=0.05)
    same, other = (GPT2LMHeadModel(config, seed=seed).transformer.wpe.weight.numpy() for seed in (0, 1))
    np.testing.assert_array_equal(same, model.transformer.wpe.weight.numpy())
    assert (other != same).any()


# Configuration


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"vocab_size": 0, "n_embd": -8, "n_inner": 0, "n_positions": "16"}, "n_positions"),
        ({"n_head": 3}, "3 heads"),
        ({"activation_function": "relu"}, "activation_function must be 'gelu_new', not 'relu'"),
        ({"layer_norm_epsilon": 0.0, "tie_word_embeddings": "no", "eos_token_id": 1.5}, "eos_token_id"),
        ({"scale_attn_by_inverse_layer_idx": True}, "asks for scale_attn_by_inverse_layer_idx = "),
        ({"reorder_and_upcast_attn": True}, "asks for reorder"),
        ({"add_cross_attention": True}, "asks for add_cross_attention = "),
        ({"scale_attn_weights": False}, "asks for scale_attn_weights = "),
        ({"scale_attn_weights": 0}, "asks for scale_attn_weights = 0"),
        ({"model_type": "gpt_neo"}, "describes a 'gpt_neo'"),
        ({"model_type": ["gpt2"]}, "describes a"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused(settings, text):
    with pytest.raises(MiniloraError, match=text) as error:
        GPT2Config.from_dict({**TINY, **settings})
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_configuration_goes_round():
    read = GPT2Config.from_dict({**TINY, "n_inner": 12, "attn_pdrop": 0.3, "eos_token_id": [2, 3], "summary_type": "x"})
    assert read.extra == {"attn_pdrop": 0.3, "summary_type": "x"}
    written = json.loads(json.dumps(read.to_dict("GPT2LMHeadModel")))
    assert written["architectures"] == ["GPT2LMHeadModel"] and written["model_type"] == "gpt2"
    assert (written["attn_pdrop"], written["resid_pdrop"]) == (0.3, 0.0)  # as read; else what was applied
    again = GPT2Config.from_dict(written)
    assert {**vars(again), "extra": {}} == {**vars(read), "extra": {}}


# Files


@every_golden
def test_a_model_goes_round(name, tmp_path):
    model, ids = golden_model(name, tmp_path / "theirs"), GOLDEN[name]["input_ids"]
    model.save_pretrained(tmp_path / "ours")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "ours")
    np.testing.assert_array_equal(again(ids).logits.numpy(), model(ids).logits.numpy())
    assert all(p.requires_grad for p in again.parameters()) and not again.training
    stored, theirs = (load_file(tmp_path / who / "model.safetensors") for who in ("ours", "theirs"))
    assert stored.keys() == theirs.keys()
    for key, a in theirs.items():
        np.testing.assert_array_equal(stored[key], a, err_msg=key)


def test_a_checkpoint_of_the_body_alone_with_its_buffers(tmp_path):
    expected = golden_model("tied", tmp_path)(ids_of(1, 5)).logits.numpy()
    path = tmp_path / "model.safetensors"
    tensors = {name.removeprefix("transformer."): a for name, a in load_file(path).items()}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 24, 24), "float32"))
        tensors[f"h.{layer}.attn.masked_bias"] = np.array(-1e4, "float32")
    save_file(tensors, path)
    np.testing.assert_array_equal(GPT2LMHeadModel.from_pretrained(tmp_path)(ids_of(1, 5)).logits.numpy(), expected)
    save_file(tensors | {"lm_head.weight": tensors["wte.weight"]}, path)
    np.testing.assert_array_equal(GPT2LMHeadModel.from_pretrained(tmp_path)(ids_of(1, 5)).logits.numpy(), expected)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"n_embd": 24}, r"c_attn.weight has shape \(36, 12\), not \(72, 24\); .* and 25 more"),
        ({"n_layer": 3}, "missing transformer.h.2"),
        ({"n_layer": 1}, "unexpected transformer.h.1"),
        ({"n_inner": 20}, "c_fc.weight has shape"),
        ({"n_positions": 25}, "wpe.weight"),
        ({"tie_word_embeddings": False}, "missing lm_head.weight"),
        ({"model_type": "llama"}, "'llama'"),
        ({"vocab_size": "many"}, "vocab_size"),
        *(({name: 10**12}, "config.json claims") for name in ("vocab_size", "n_layer", "n_inner")),
    ],
    ids=str,
)
def test_a_folder_that_does_not_fit_is_a_format_error(tmp_path, config, text):
    golden_folder("tied", tmp_path)
    edit(tmp_path, **config)
    with pytest.raises(FormatError, match=text) as error:
        GPT2LMHeadModel.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


# The family that a folder holds


@pytest.mark.parametrize("kind", ["gpt_neox", ["gpt2"], None, 5, "x" * 500])
def test_a_folder_is_read_by_its_own_class_and_an_unknown_family_is_a_format_error(kind, tmp_path):
    assert family_of(golden_folder("tied", tmp_path)) is GPT2LMHeadModel
    edit(tmp_path, model_type="mistral")
    assert family_of(tmp_path) is LlamaForCausalLM
    edit(tmp_path, model_type=kind)
    with pytest.raises(FormatError) as error:
        family_of(tmp_path)
    assert all(name in str(error.value) for name in (str(kind)[:10], *LANGUAGE_MODELS))
    assert len(str(error.value)) < 500


def test_the_commands_load_it_with_its_tokenizer(tmp_path):
    tokenizer = train_tokenizer(["to be or not to be"] * 3, 270)
    model = tiny(vocab_size=tokenizer.vocab_size, n_positions=32, eos_token_id=tokenizer.eos_token_id)
    save_model(model, tokenizer, tmp_path / "base")
    loaded, _ = load.load_model(str(tmp_path / "base"))
    assert type(loaded) is GPT2LMHeadModel
    adapted = get_peft_model(quant.quantize_model(loaded), LoraConfig(init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    again, tokenizer = load.load_model(str(tmp_path / "base"), str(tmp_path / "adapter"))
    ids = np.array([tokenizer.encode("to be")])
    np.testing.assert_array_equal(again(ids).logits.numpy(), adapted(ids).logits.numpy())
    edit(tmp_path / "base", model_type="bert")
    with pytest.raises(FormatError, match="holds a 'bert' model; minilora reads llama, .*gpt2"):
        load.load_model(str(tmp_path / "base"))


# Adapters


GPT2_CASES = CASES | {
    "lora, patterns": replace(
        CASES["lora, patterns"],
        make=lambda: LoraConfig(
            r=2,
            target_modules=["c_attn", "c_fc"],
            rank_pattern={"c_fc": 3},
            alpha_pattern={"h.0.attn.c_attn": 5},
        ),
    ),
    "norms": replace(CASES["norms"], trains=("weight", "bias")),
    "vera": replace(CASES["vera"], make=lambda: VeraConfig(r=5, target_modules=["c_attn", "c_fc"])),
    "saved": replace(
        CASES["lora"],
        make=lambda: LoraConfig(r=2, modules_to_save=["attn.c_proj", "wpe"]),
        trains=("lora_A.weight", "lora_B.weight", "weight", "bias"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.__name__)
@pytest.mark.parametrize("name", GPT2_CASES)
def test_every_way_to_adapt_keeps_its_promises(name, invariant, tmp_path):
    invariant(GPT2_CASES[name], "gpt2", 0, tmp_path)


@pytest.mark.parametrize(
    ("config", "expected", "lies"),
    [
        (LoraConfig(r=2), ["attn.c_attn"], True),
        (LoraConfig(r=2, target_modules="all-linear"),
         ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"], True),
        (LoraConfig(r=2, target_modules=["mlp.c_proj"]), ["mlp.c_proj"], True),
        (LoraConfig(r=2, target_modules=["lm_head"]), [], None),
        (IA3Config(), ["attn.c_attn", "mlp.c_proj"], True),
        (BottleneckConfig(placement="houlsby"), ["attn", "mlp"], None),
        (LNTuningConfig(), ["ln_1", "ln_2"], None),
        (PromptTuningConfig(num_virtual_tokens=2), [], None),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_adapted_and_peft_is_told_which_way_the_weights_lie(config, expected, lies, tmp_path):
    model = get_peft_model(tiny(), config)
    block = dict(model.base_model.named_modules())["transformer.h.1"] if expected else nn.Module()
    assert sorted(path for path, module in block.named_modules() if hasattr(module, "base_layer")) == expected
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text()).get("fan_in_fan_out") is lies
    PeftModel.from_pretrained(tiny(), tmp_path)
