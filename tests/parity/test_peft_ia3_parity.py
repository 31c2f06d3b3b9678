"""pytest tests/parity/test_peft_ia3_parity.py: IA3 and norm tuning go to PEFT and come from it, with the same logits.

Needs the parity extra: pip install -e '.[parity,test]'
"""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification  # noqa: E402
from minilora.optim import AdamW  # noqa: E402
from minilora.peft import IA3Config, LNTuningConfig, PeftModel, get_peft_model  # noqa: E402
from tests.parity.test_peft_parity import IDS, SIZES, opened_by_transformers, ours, theirs  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.host, pytest.mark.filterwarnings("ignore")]

CONFIGS = {"ia3": (IA3Config, peft.IA3Config), "norms": (LNTuningConfig, peft.LNTuningConfig)}
ALL = {"target_modules": "all-linear", "feedforward_modules": ["down_proj"]}
OPTIONS = {
    "ia3": {},
    "ia3, biases": {},
    "ia3, all, biases": ALL,
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
}
# PEFT writes files for these that it does not open itself: it wants the same strings in both of its lists.
NOT_OPENED_BY_PEFT = ["ia3, all, biases", "ia3, other targets", "ia3, adapted head"]
# PEFT complains on its own account about these.
ITS_OWN_WORDS = ("tie_word_embeddings", "Unsupported layer type")
cases = pytest.mark.parametrize("case", OPTIONS)


def settings(case: str) -> tuple:
    """Our configuration and PEFT's."""
    return tuple(kind(**OPTIONS[case]) for kind in CONFIGS[case.partition(",")[0]])


@pytest.fixture
def base(case, tmp_path):
    """A model of ours (tied, or untied and with biases; a classifier where asked for) and the folder of its files."""
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


def batch(case: str) -> dict:
    return {"input_ids": IDS, "labels": np.array([0, 1, 2]) if "classifier" in case else IDS}


def on_torch(arrays: dict) -> dict:
    return {name: torch.tensor(array) for name, array in arrays.items()}


def steps_of(model, case: str, count: int, optimizer, convert=dict) -> list[float]:
    """The losses of some steps, ours or theirs."""
    losses = []
    for _ in range(count):
        loss = model(**convert(batch(case))).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def train(model, case: str, steps: int = 4) -> list[float]:
    return steps_of(model, case, steps, AdamW(model.parameters(), lr=0.05))


def train_theirs(model, case: str, steps: int = 4) -> list[float]:
    trainable = [p for p in model.parameters() if p.requires_grad]
    return steps_of(model, case, steps, torch.optim.AdamW(trainable, lr=0.05), on_torch)


@cases
def test_ours_opens_in_peft_without_complaint(case, base, tmp_path):
    plain, folder = base
    start = ours(plain)
    model = get_peft_model(plain, settings(case)[0])
    train(model, case)
    assert abs(ours(model) - start).max() > 0.1
    model.save_pretrained(tmp_path / "adapter")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "adapter")
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert not [words for words in said if not any(own in words for own in ITS_OWN_WORDS)]
    np.testing.assert_allclose(theirs(loaded), ours(model), rtol=1e-5, atol=1e-5)
    if "adapted head" not in case:  # where PEFT's merge changes the tied embedding along with the head
        merged, expected = loaded.merge_and_unload(), model.merge_and_unload()
        np.testing.assert_allclose(theirs(merged), ours(expected), rtol=1e-5, atol=1e-5)


@cases
def test_pefts_opens_here(case, base, tmp_path):
    plain, folder = base
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
    with loaded.disable_adapter(), model.disable_adapter():
        np.testing.assert_allclose(ours(loaded), theirs(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "case",
    ["ia3", "ia3, biases", "ia3, all, biases", "ia3, classifier", "norms", "norms, biases", "norms, classifier"],
)
def test_six_steps_of_training_are_the_same(case, base, tmp_path):
    plain, folder = base
    model = get_peft_model(plain, settings(case)[0])
    twin = peft.get_peft_model(opened_by_transformers(folder), settings(case)[1])
    assert twin.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    np.testing.assert_allclose(train(model, case, 6), train_theirs(twin, case, 6), rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours(model), theirs(twin), rtol=1e-3, atol=1e-3)
