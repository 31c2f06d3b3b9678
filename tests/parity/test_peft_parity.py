"""pytest tests/parity/test_peft_parity.py: adapters go to PEFT and come from it, with the same logits.

Needs the parity extra: pip install -e '.[parity,test]'
"""

import json
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification  # noqa: E402
from minilora.optim import AdamW  # noqa: E402
from minilora.peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402

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
OPTIONS = {
    "default": {"r": 4},
    "all": {"r": 3, "lora_alpha": 7, "target_modules": "all-linear", "use_rslora": True},
    "paths": {"r": 2, "lora_alpha": 4, "target_modules": ["model.layers.1.mlp.up_proj", "o_proj"]},
    "rank above the width": {"r": 12, "target_modules": ["v_proj"]},
    "saved head": {"r": 4, "modules_to_save": ["lm_head"]},
    "saved embedding": {"r": 4, "modules_to_save": ["embed_tokens"]},
    "saved norm": {"r": 4, "modules_to_save": ["norm"]},
    "adapted head": {"r": 4, "target_modules": ["lm_head", "q_proj"]},
    "classifier": {"r": 4, "task_type": "SEQ_CLS"},
}
IDS = np.random.default_rng(9).integers(1, 40, (3, 7))


@pytest.fixture
def base(request, tmp_path):
    """A model of ours (tied; a classifier where the test asks for one) and the folder that it was saved in."""
    is_classifier = request.getfixturevalue("case") == "classifier"
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))
    if is_classifier:
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
    return {"input_ids": IDS, "labels": np.array([0, 1, 2]) if case == "classifier" else IDS}


@pytest.mark.parametrize("case", [case for case in OPTIONS if case != "rank above the width"])  # refused here
def test_ours_opens_in_peft_without_complaint(case, base, tmp_path):
    plain, folder = base
    start = ours(plain)
    model = get_peft_model(plain, LoraConfig(**OPTIONS[case]), seed=3)
    optimizer = AdamW(model.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        model(**batch(case)).loss.backward()
        optimizer.step()
    assert abs(ours(model) - start).max() > 0.1
    model.save_pretrained(tmp_path / "adapter")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "adapter")
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert not [words for words in said if "tie_word_embeddings" not in words]  # which it says of its own, too
    np.testing.assert_allclose(theirs(loaded), ours(model), rtol=1e-5, atol=1e-5)
    if case != "adapted head":  # where PEFT's merge changes the tied embedding along with the head
        merged, expected = loaded.merge_and_unload(), model.merge_and_unload()
        np.testing.assert_allclose(theirs(merged), ours(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", OPTIONS)
def test_pefts_opens_here(case, base, tmp_path):
    plain, folder = base
    torch.manual_seed(0)
    model = peft.get_peft_model(opened_by_transformers(folder), peft.LoraConfig(**OPTIONS[case]))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        model(**{name: torch.tensor(array) for name, array in batch(case).items()}).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "adapter")

    loaded = PeftModel.from_pretrained(plain, tmp_path / "adapter", is_trainable=True)
    assert len(loaded.notes) == 1 and "no fingerprint" in loaded.notes[0]
    assert loaded.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    np.testing.assert_allclose(ours(loaded), theirs(model), rtol=1e-5, atol=1e-5)
    with loaded.disable_adapter(), model.disable_adapter():
        np.testing.assert_allclose(ours(loaded), theirs(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["default", "all", "classifier"])
def test_six_steps_of_training_are_the_same(case, base, tmp_path):
    plain, folder = base
    model = get_peft_model(plain, LoraConfig(**OPTIONS[case]), seed=3)
    model.save_pretrained(tmp_path / "start")
    twin = peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "start", is_trainable=True)
    assert twin.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    ours_optimizer = AdamW(model.parameters(), lr=0.01)
    their_optimizer = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], lr=0.01)
    for _ in range(6):
        loss = model(**batch(case)).loss
        their_loss = twin(**{name: torch.tensor(array) for name, array in batch(case).items()}).loss
        assert abs(loss.item() - their_loss.item()) < 1e-4
        for optimizer, value in ((ours_optimizer, loss), (their_optimizer, their_loss)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    np.testing.assert_allclose(ours(model), theirs(twin), rtol=1e-3, atol=1e-3)
