"""pytest tests/parity/test_peft_prompt_parity.py: prefixes and prompts go to PEFT and come from it.

Needs the parity extra: pip install -e '.[parity,test]'
"""

import json
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402

from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel  # noqa: E402
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification  # noqa: E402
from minilora.optim import AdamW  # noqa: E402
from minilora.peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model  # noqa: E402
from tests.golden import make_gpt2  # noqa: E402
from tests.parity import test_peft_parity  # noqa: E402
from tests.parity.test_peft_parity import IDS, steps_of  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.host, pytest.mark.filterwarnings("ignore")]

SIZES = test_peft_parity.SIZES | {"bos_token_id": None, "eos_token_id": None}
TEXT = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "w7 w30 w12"}
MASK = np.array([[1] * 7, [0, 0] + [1] * 5, [0] * 6 + [1]])
P = 4

METHODS = {  # ours, PEFT's, and settings that both have
    "prefix": (PrefixTuningConfig, peft.PrefixTuningConfig, {}),
    "prefix, zero": (PrefixTuningConfig, peft.PrefixTuningConfig, {"init_weights": "zero"}),
    "prompt": (PromptTuningConfig, peft.PromptTuningConfig, {}),
    "prompt, text": (PromptTuningConfig, peft.PromptTuningConfig, TEXT),
    "prompt, vocabulary": (PromptTuningConfig, peft.PromptTuningConfig, {"prompt_tuning_init": "SAMPLE_VOCAB"}),
}
TASKS = {"CAUSAL_LM": LlamaForCausalLM, "SEQ_CLS": LlamaForSequenceClassification, "gpt2": GPT2LMHeadModel}
THEIRS = METHODS | {
    "prefix, projection": (
        PrefixTuningConfig,
        peft.PrefixTuningConfig,
        {"prefix_projection": True, "encoder_hidden_size": 5},
    )
}


@pytest.fixture(params=TASKS)
def task(request) -> str:
    return request.param


@pytest.fixture
def base(task, tmp_path):
    """Make a plain model of ours, and the folder from which transformers opens it."""
    settings = {"num_labels": 3} if task == "SEQ_CLS" else {"tie_word_embeddings": True}
    sizes = (
        GPT2Config(**make_gpt2.CONFIGS["tied"], initializer_range=0.3)
        if task == "gpt2"
        else LlamaConfig(**SIZES, **settings)
    )
    model = TASKS[task](sizes, seed=1).eval()
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(40)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    model.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "tokenizer.json").write_text(words.to_str())
    (tmp_path / "base" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return model, tmp_path / "base"


# transformers 5.24 renamed `past_key_values` to `cache`. PEFT 0.21 looks for the old name, so that
# a classifier with a prefix raises: it gets the name that it looks for.


def opened(folder):
    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, kind).from_pretrained(folder)
    if kind == "LlamaForSequenceClassification":
        plain = model.forward
        model.forward = lambda *args, past_key_values=None, **kwargs: plain(*args, cache=past_key_values, **kwargs)
    return model


def ours_on(base, method: str, **options) -> PeftModel:
    plain, folder = base
    config, _, settings = METHODS[method]
    if method == "prompt, text":
        settings = {**settings, "tokenizer_name_or_path": str(folder), "init_token_ids": [7, 30, 12]}
    return get_peft_model(plain, config(num_virtual_tokens=P, **settings, **options), seed=3)


def theirs_on(base, method: str, task: str):
    torch.manual_seed(0)
    _, config, settings = THEIRS[method]
    if method == "prompt, text":
        settings = {**settings, "tokenizer_name_or_path": str(base[1])}
    kind = "SEQ_CLS" if task == "SEQ_CLS" else "CAUSAL_LM"
    return peft.get_peft_model(opened(base[1]), config(num_virtual_tokens=P, task_type=kind, **settings))


def batch(task: str) -> dict:
    return {"input_ids": IDS, "labels": np.array([0, 1, 2]) if task == "SEQ_CLS" else IDS}


def tensors_of(batch: dict) -> dict:
    return {name: torch.tensor(array) for name, array in batch.items()}


def ours(model, ids=IDS, **settings) -> np.ndarray:
    return model.eval()(ids, **settings).logits.numpy()


def theirs(model, ids=IDS, **settings) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(torch.tensor(ids), **tensors_of(settings)).logits.numpy()


def train_ours(model, task: str) -> list[float]:
    return steps_of(model, AdamW(model.parameters(), lr=0.05), batch(task), steps=4)


def train_theirs(model, task: str) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    return steps_of(model, optimizer, tensors_of(batch(task)), steps=4)


@pytest.mark.parametrize("method", [*METHODS, "prefix, tokens"])
def test_ours_opens_in_peft_without_complaint(method, base, task, tmp_path):
    options = {"init_token_ids": [7, 30, 12, 1]} if method == "prefix, tokens" else {}
    model = ours_on(base, method.removesuffix(", tokens"), **options)
    start = ours(model)
    train_ours(model, task)
    assert abs(ours(model) - start).max() > 0.05
    model.save_pretrained(tmp_path / "adapter")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = peft.PeftModel.from_pretrained(opened(base[1]), tmp_path / "adapter")
    messages = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert not [words for words in messages if "tie_word_embeddings" not in words]
    np.testing.assert_allclose(theirs(loaded), ours(model), rtol=1e-5, atol=1e-5)
    if task == "CAUSAL_LM" and method.startswith("prefix"):  # PEFT counts positions over padding unless it is told them
        positions = np.maximum(MASK.cumsum(axis=1) - 1, 0)
        left = np.where(MASK, IDS, 0)
        expected = theirs(loaded, left, attention_mask=MASK, position_ids=positions)[MASK == 1]
        np.testing.assert_allclose(ours(model, left, attention_mask=MASK)[MASK == 1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", THEIRS)
def test_pefts_opens_here(method, base, task, tmp_path):
    model = theirs_on(base, method, task)
    train_theirs(model, task)
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(base[0], tmp_path / "adapter")
    assert len(loaded.notes) == 1 and "no fingerprint" in loaded.notes[0]
    np.testing.assert_allclose(ours(loaded), theirs(model), rtol=1e-5, atol=1e-5)
    with loaded.disable_adapter():
        np.testing.assert_allclose(ours(loaded), theirs(opened(base[1])), rtol=1e-5, atol=1e-5)
