"""pytest tests/parity/test_peft_parity.py: adapters go to PEFT and come from it, with the same logits.

Needs the parity extra: pip install -e '.[parity,test]'
"""

import dataclasses
import json
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")


from minilora.errors import MiniloraError  # noqa: E402
from minilora.models.gpt2 import GPT2LMHeadModel  # noqa: E402
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification  # noqa: E402
from minilora.optim import AdamW  # noqa: E402
from minilora.peft import (  # noqa: E402
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftModel,
    VeraConfig,
    get_peft_model,
)
from tests.golden import make_gpt2  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.host, pytest.mark.filterwarnings("ignore")]

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
KINDS = {  # by the first word of a case; ours and PEFT's
    "ia3": (IA3Config, peft.IA3Config),
    "norms": (LNTuningConfig, peft.LNTuningConfig),
    "vera": (VeraConfig, peft.VeraConfig),
}
LORA = {
    "default": {"r": 4},
    "all": {"r": 3, "lora_alpha": 7, "target_modules": "all-linear", "use_rslora": True},
    "paths": {"r": 2, "lora_alpha": 4, "target_modules": ["model.layers.1.mlp.up_proj", "o_proj"]},
    "rank above the width": {"r": 12, "target_modules": ["v_proj"]},
    "saved head": {"r": 4, "modules_to_save": ["lm_head"]},
    "saved embedding": {"r": 4, "modules_to_save": ["embed_tokens"]},
    "saved norm": {"r": 4, "modules_to_save": ["norm"]},
    "adapted head": {"r": 4, "target_modules": ["lm_head", "q_proj"]},
    "classifier": {"r": 4, "task_type": "SEQ_CLS"},
    "gaussian": {"r": 4, "init_lora_weights": "gaussian"},
    "patterns": {
        **{"r": 2, "target_modules": "all-linear", "use_rslora": True},
        "rank_pattern": {"v_proj": 5, "1.mlp.up_proj": 1},
        "alpha_pattern": {"model.layers.0.self_attn.q_proj": 3, "down_proj": 20},
    },
    "blocks": {"r": 4, "layers_to_transform": [1], "bias": "none", "task_type": "CAUSAL_LM", "inference_mode": False},
    "a block and a path": {
        "r": 2,
        "layers_to_transform": 0,
        "target_modules": ["v_proj", "model.layers.1.mlp.up_proj"],
    },
    "dora": {"r": 4, "use_dora": True},
    "dora, all, dropout": {"r": 3, "lora_dropout": 0.3, "use_dora": True, "target_modules": "all-linear"},
    "pissa": {"r": 4, "init_lora_weights": "pissa"},
    "pissa, all": {"r": 3, "lora_alpha": 7, "init_lora_weights": "pissa", "target_modules": "all-linear"},
    "pissa and dora": {"r": 4, "init_lora_weights": "pissa", "use_dora": True, "use_rslora": True},
}
OPTIONS = LORA | {
    "ia3": {},
    "ia3, biases": {},
    "ia3, all, biases": {"target_modules": "all-linear", "feedforward_modules": ["down_proj"]},
    "ia3, no feedforward": {"feedforward_modules": []},
    "ia3, paths": {
        "target_modules": ["model.layers.1.mlp.up_proj", "o_proj"],
        "feedforward_modules": ["model.layers.1.mlp.up_proj"],
    },
    "ia3, other targets": {"target_modules": ["q_proj"]},
    "ia3, saved head": {"modules_to_save": ["lm_head"]},
    "ia3, adapted head": {"target_modules": ["lm_head", "q_proj"]},
    "ia3, classifier": {"task_type": "SEQ_CLS"},
    "norms": {},
    "norms, biases": {},
    "norms, the last": {"target_modules": ["norm"]},
    "norms, paths": {"target_modules": ["model.layers.1.input_layernorm"]},
    "norms, saved head": {"modules_to_save": ["lm_head"]},
    "norms, classifier": {"task_type": "SEQ_CLS"},
    "vera": {"r": 5, "projection_prng_key": 3},
    # layers wider and taller than others, at a rank above every width
    "vera, wide": {"r": 30, "projection_prng_key": 3, "target_modules": ["k_proj", "up_proj", "down_proj"]},
}
SQUARE = ["attn.c_proj"]  # in = out: nothing but the values would tell that such a weight was not turned
GPT2 = {
    "gpt2": {"r": 4},
    "gpt2, all": {"r": 3, "lora_alpha": 7, "target_modules": "all-linear", "use_rslora": True},
    "gpt2, blocks": {"r": 3, "layers_to_transform": 1},
    "gpt2, square": {"r": 3, "target_modules": SQUARE},
    "gpt2, adapted head": {"r": 3, "target_modules": ["c_attn", "lm_head"]},
    "gpt2, mlp and positions saved": {"r": 3, "modules_to_save": ["mlp", "wpe"]},
    "gpt2, square saved": {"r": 3, "modules_to_save": SQUARE},
    "gpt2, dora": {"r": 3, "use_dora": True, "target_modules": "all-linear"},
    "gpt2, pissa": {"r": 3, "init_lora_weights": "pissa", "target_modules": ["c_proj"]},
    "ia3, gpt2": {},
    "ia3, gpt2, c_attn alone": {"target_modules": ["c_attn"]},
    "ia3, gpt2, both c_proj": {
        "target_modules": ["attn.c_proj", "mlp.c_proj"],
        "feedforward_modules": ["mlp.c_proj"],
    },
    "norms, gpt2": {},
}
REFUSED_HERE = ["rank above the width"]
# PEFT writes files for these that it does not open itself: it wants the same strings in both of its lists.
NOT_OPENED_BY_PEFT = ["ia3, all, biases", "ia3, other targets", "ia3, adapted head"]
# PEFT complains on its own account about these.
ITS_OWN_WORDS = ("tie_word_embeddings", "Unsupported layer type")
torch.set_num_threads(1)  # several would wait for each other on models this small
IDS = np.random.default_rng(9).integers(1, 40, (3, 7))
POSSIBLE_HERE = [case for case in OPTIONS if case not in REFUSED_HERE]


def settings(case: str) -> tuple:
    """Return our configuration and PEFT's."""
    kinds = KINDS.get(case.partition(",")[0], (LoraConfig, peft.LoraConfig))
    return tuple(kind(**(OPTIONS | GPT2)[case]) for kind in kinds)


@pytest.fixture(autouse=True)
def exact_svd(monkeypatch):
    """Run PEFT's PiSSA in float64, as ours, so that errors of PyTorch's SVD in float32 do not count."""
    svd = torch.linalg.svd

    def in_float64(weight, **options):
        return tuple(part.to(weight.dtype) for part in svd(weight.double(), **options))

    monkeypatch.setattr(torch.linalg, "svd", in_float64)


@pytest.fixture
def base(request, tmp_path):
    """Make a model of ours and the folder of its files: tied, or untied and with biases; a classifier for a test's case
    that needs one.
    """
    case = getattr(request.node, "callspec", None)
    case = str(case.params.get("case", "")) if case else ""
    if "gpt2" in case:
        make_gpt2.build(make_gpt2.CONFIGS["tied"], 50).save_pretrained(tmp_path / "base")
        return GPT2LMHeadModel.from_pretrained(tmp_path / "base"), tmp_path / "base"
    biases = {"attention_bias": True, "mlp_bias": True} if "biases" in case else {"tie_word_embeddings": True}
    model = LlamaForCausalLM(LlamaConfig(**SIZES, **biases))
    rng = np.random.default_rng(2)
    for name, p in model.named_parameters():  # what starts at 0 or 1 would hide mistakes
        if name.endswith(("bias", "norm.weight")):
            p.data = p.data + 0.3 * rng.standard_normal(p.shape).astype("float32")
    if "classifier" in case:
        model = LlamaForSequenceClassification.from_language_model(model, num_labels=3)
    model.save_pretrained(tmp_path / "base")
    return model, tmp_path / "base"


def opened_by_transformers(folder):
    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(transformers, kind).from_pretrained(folder)


def theirs(model) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(torch.tensor(IDS)).logits.numpy()


def ours(model) -> np.ndarray:
    return model.eval()(IDS).logits.numpy()


def batch(case: str) -> dict:
    return {"input_ids": IDS, "labels": np.array([0, 1, 2]) if "classifier" in case else IDS}


def steps_of(model, optimizer, arrays: dict, steps: int) -> list[float]:
    """Return the losses of some steps, ours or theirs."""
    losses = []
    for _ in range(steps):
        loss = model(**arrays).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_ours(model, case: str = "", lr: float = 0.05, steps: int = 4) -> list[float]:
    return steps_of(model, AdamW(model.parameters(), lr=lr), batch(case), steps)


def train_theirs(model, case: str = "", lr: float = 0.05, steps: int = 4) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    return steps_of(model, optimizer, {name: torch.tensor(array) for name, array in batch(case).items()}, steps)


@pytest.mark.parametrize("case", [*POSSIBLE_HERE, *GPT2])
def test_ours_opens_in_peft_without_complaint(case, base, tmp_path):
    plain, folder = base
    start = ours(plain)
    model = get_peft_model(plain, settings(case)[0], seed=3)
    train_ours(model, case)
    assert abs(ours(model) - start).max() > 0.1
    model.save_pretrained(tmp_path / "adapter")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "adapter")
    messages = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    if case != "gpt2, adapted head":  # one layer that is turned and one that is not: PEFT warns either way
        assert not [words for words in messages if not any(own in words for own in ITS_OWN_WORDS)]
    np.testing.assert_allclose(theirs(loaded), ours(model), rtol=1e-5, atol=1e-5)
    if "adapted head" not in case:  # where PEFT's merge changes the tied embedding along with the head
        merged, expected = loaded.merge_and_unload(), model.merge_and_unload()
        np.testing.assert_allclose(theirs(merged), ours(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", OPTIONS | GPT2)
def test_pefts_opens_here(case, base, tmp_path):
    plain, folder = base
    torch.manual_seed(0)
    model = peft.get_peft_model(opened_by_transformers(folder), settings(case)[1])
    train_theirs(model, case)
    model.save_pretrained(tmp_path / "adapter")
    if case in NOT_OPENED_BY_PEFT:
        with pytest.raises(ValueError, match="feedforward_modules"):
            peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "adapter")

    loaded = PeftModel.from_pretrained(plain, tmp_path / "adapter", is_trainable=True)
    assert len(loaded.notes) == 1 and "no fingerprint" in loaded.notes[0]
    assert loaded.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    np.testing.assert_allclose(ours(loaded), theirs(model), rtol=1e-5, atol=1e-5)
    if "pissa" in case:  # PEFT took the principal part out of the model itself: there, disabling leaves it out
        return
    with loaded.disable_adapter(), model.disable_adapter():
        np.testing.assert_allclose(ours(loaded), theirs(model), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours(loaded.merge_and_unload()), theirs(model), rtol=1e-4, atol=1e-4)


# A randomized start


def test_a_head_under_pissa_comes_with_what_is_left_of_it(tmp_path, monkeypatch):
    """PEFT's own SVD runs in float32, so it does not remove exactly the principal part from the base."""
    monkeypatch.undo()
    plain = LlamaForCausalLM(LlamaConfig(**SIZES))  # with a head of its own
    plain.save_pretrained(tmp_path / "base")
    options = {"r": 4, "init_lora_weights": "pissa", "target_modules": ["lm_head", "q_proj"]}
    model = peft.get_peft_model(opened_by_transformers(tmp_path / "base"), peft.LoraConfig(**options))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model(torch.tensor(IDS), labels=torch.tensor(IDS)).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path / "adapter")
    expected = theirs(model)
    loaded = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    assert abs(ours(loaded) - expected).max() <= 3e-5 * abs(expected).max()


# What there is no counterpart for


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(peft.LoraConfig)])
def test_what_pefts_lora_has_and_ours_lacks_is_refused_by_name(name):
    if name in LoraConfig.unused or name in {field.name for field in dataclasses.fields(LoraConfig)}:
        return
    with pytest.raises(MiniloraError, match=f"{name} = "):
        LoraConfig.from_dict({"peft_type": "LORA", "r": 4, name: "x"})
