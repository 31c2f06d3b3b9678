"""pytest tests/parity/test_mixing_parity.py: several adapters on one base and strengths as PEFT has them, and its sums.

Needs the parity extra: pip install -e '.[parity,test]'
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from peft.helpers import rescale_adapter_scale  # noqa: E402

from minilora.models.llama import LlamaConfig, LlamaForCausalLM  # noqa: E402
from minilora.peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from tests.helpers.peft_invariants import train  # noqa: E402
from tests.parity.test_peft_parity import SIZES, opened_by_transformers, ours, theirs  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.host, pytest.mark.filterwarnings("ignore")]

CONFIGS = {
    "a": LoraConfig(r=4, lora_alpha=8),
    "b": LoraConfig(r=4, lora_alpha=3, target_modules=["k_proj", "v_proj", "up_proj"]),
    "wide": LoraConfig(r=3, use_rslora=True, target_modules="all-linear", rank_pattern={"up_proj": 5}),
    "head": LoraConfig(r=2, modules_to_save=["lm_head"]),
}


@pytest.fixture
def both(tmp_path):
    """Make our model and PEFT's, each with the adapters of CONFIGS, trained here and loaded there; "a" is active."""
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(tmp_path / "base")
    for seed, (name, config) in enumerate(CONFIGS.items()):
        model = LlamaForCausalLM.from_pretrained(tmp_path / "base")
        train(get_peft_model(model, config, seed)).save_pretrained(tmp_path / name)
    first, *others = CONFIGS
    mine = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / first, first)
    twin = peft.PeftModel.from_pretrained(opened_by_transformers(tmp_path / "base"), tmp_path / first, first)
    for name in others:
        mine.load_adapter(tmp_path / name, name)
        twin.load_adapter(tmp_path / name, name)
    return mine, twin


def same_logits(mine, twin) -> np.ndarray:
    np.testing.assert_allclose(ours(mine), theirs(twin), rtol=1e-5, atol=1e-5)
    return ours(mine)


def same_state(mine, twin) -> None:
    """Compare the active adapter, the trainable parameters, their counts, and the logits."""
    assert mine.active_adapter == twin.active_adapter
    assert mine.get_nb_trainable_parameters() == twin.get_nb_trainable_parameters()
    same_logits(mine, twin)


def test_loading_setting_adding_and_deleting(both):
    mine, twin = both
    assert mine.adapters == list(twin.peft_config)
    same_state(mine, twin)
    seen = []
    for name in ("wide", "head", "b", "wide", "a"):
        for inference_mode in (True, False):
            mine.set_adapter(name, inference_mode=inference_mode)
            twin.set_adapter(name, inference_mode=inference_mode)
            same_state(mine, twin)
        seen.append(ours(mine))
    assert np.array_equal(seen[0], seen[3]) and min(abs(seen[0] - other).max() for other in seen[1:3]) > 0.01
    mine.add_adapter("new", LoraConfig(r=2))
    twin.add_adapter("new", peft.LoraConfig(r=2))
    same_state(mine, twin)
    for name in ("b", "a"):  # the active one comes last
        mine.delete_adapter(name)
        twin.delete_adapter(name)
        assert mine.active_adapter == twin.active_adapter
        twin.set_adapter(twin.active_adapter)  # or PEFT leaves out the head that was trained whole
        same_logits(mine, twin)
    assert mine.adapters == list(twin.peft_config) == ["wide", "head", "new"]


def test_a_sum_that_peft_writes_opens_here(both, tmp_path):
    _, twin = both
    twin.add_weighted_adapter(["b", "wide", "a"], [0.4, -0.5, 1.5], "sum", combination_type="cat")
    twin.set_adapter("sum")
    twin.save_pretrained(tmp_path / "theirs", selected_adapters=["sum"])
    plain = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    same_logits(PeftModel.from_pretrained(plain, tmp_path / "theirs" / "sum"), twin)


@pytest.mark.parametrize("strength", [0, 0.3, 1, 1.5])
@pytest.mark.parametrize("name", ["a", "wide"])
def test_a_strength_is_pefts_scale_and_is_in_the_file(name, strength, both, tmp_path):
    mine, twin = both
    for model in both:
        model.set_adapter(name)
    mine.set_strength(strength)
    with rescale_adapter_scale(twin, strength):
        expected = same_logits(mine, twin)
    mine.save_pretrained(tmp_path / "saved")
    back = peft.PeftModel.from_pretrained(opened_by_transformers(tmp_path / "base"), tmp_path / "saved")
    np.testing.assert_allclose(theirs(back), expected, rtol=1e-5, atol=1e-5)
