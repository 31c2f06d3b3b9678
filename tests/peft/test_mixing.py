"""pytest tests/peft/test_mixing.py: several adapters on one base: names, switching, strength."""

import numpy as np
import pytest

from minilora.errors import MiniloraError
from minilora.peft import (
    BottleneckConfig,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    get_peft_model,
)
from tests.helpers.peft_invariants import ALL, CASES, base_of, logits, same, state, train

LORA = LoraConfig(r=4, lora_alpha=8)
ODD = {"r": 2, "target_modules": ["v_proj", "up_proj"]}
WIDE = LoraConfig(use_rslora=True, rank_pattern={"up_proj": 3}, **ODD)  # another rank, other targets, another scaling


def base(seed: int = 0):
    return base_of(CASES["lora"], "tied", seed)


def trained(config=LORA, seed: int = 0, folder=None) -> PeftModel:
    m = train(get_peft_model(base(), config, seed=seed)).eval()
    if folder is not None:
        m.save_pretrained(folder)
    return m


@pytest.fixture
def pair(tmp_path) -> tuple[PeftModel, np.ndarray, np.ndarray]:
    """Make a model with two trained adapters, "a" (active) and "b", and the logits of both."""
    a, b = (logits(trained(config, seed, tmp_path / name)) for config, seed, name in ((LORA, 0, "a"), (WIDE, 1, "b")))
    m = PeftModel.from_pretrained(base(), tmp_path / "a", "a")
    m.load_adapter(tmp_path / "b", "b")
    return m, a, b


def live(m: PeftModel) -> set[str]:
    return {name for name, p in m.named_parameters() if p.requires_grad}


# Names and switching


def test_what_is_added_waits_until_it_is_set(pair):
    m, a, b = pair
    assert m.adapters == ["a", "b"] and m.active_adapter == "a" and np.array_equal(logits(m), a)
    m.set_adapter("b")
    assert m.active_adapter == "b" and m.peft_config.use_rslora and np.array_equal(logits(m), b)
    with m.disable_adapter():
        m.set_adapter("a")
        assert np.array_equal(logits(m), logits(base()))
    assert np.array_equal(logits(m), a)


def test_adapters_of_any_methods_stand_beside_each_other_and_the_base_stays():
    m = get_peft_model(base(), LoraConfig(modules_to_save=["lm_head"], **ALL), adapter_name="lora")
    assert not m.config.tie_word_embeddings  # the head was tied, and trains
    m.add_adapter("between", BottleneckConfig(bottleneck_size=3))
    m.add_adapter("before", PrefixTuningConfig(num_virtual_tokens=2))
    expected = {}
    for name in m.adapters:
        m.set_adapter(name)
        assert m.config.tie_word_embeddings == (name != "lora")
        expected[name] = logits(train(m))
    for name in reversed(m.adapters):
        m.set_adapter(name)
        assert np.array_equal(logits(m), expected[name])
        with m.disable_adapter():
            assert np.array_equal(logits(m), logits(base()))
    assert same(state(m.unload()), state(base()))


def test_the_active_adapter_alone_trains_and_all_are_counted():
    m = get_peft_model(base(), LORA, adapter_name="a")
    first, plain = live(m), sum(p.size for p in base().parameters())
    m.add_adapter("b", LoraConfig(r=2, target_modules=["up_proj"]))
    sizes = {"a": 2 * 4 * (32 + 24), "b": 2 * 2 * (16 + 24)}
    assert live(m) == first
    assert m.get_nb_trainable_parameters() == (sizes["a"], plain + sum(sizes.values()))
    m.set_adapter("b")
    assert m.get_nb_trainable_parameters() == (sizes["b"], plain + sum(sizes.values()))
    m.set_adapter("a")
    a = logits(train(m))
    m.set_adapter("b")
    train(m)
    m.set_adapter("a", inference_mode=True)
    assert np.array_equal(logits(m), a) and not live(m)
    m.delete_adapter("b")
    assert m.get_nb_trainable_parameters() == (0, plain + sizes["a"])


def test_the_active_one_is_saved_merged_and_deleted(pair, tmp_path):
    m, a, b = pair
    m.set_adapter("b")
    m.save_pretrained(tmp_path / "again")
    assert np.array_equal(logits(PeftModel.from_pretrained(base(), tmp_path / "again")), b)
    m.delete_adapter("b")
    assert m.adapters == ["a"] and np.array_equal(logits(m), a)
    with pytest.raises(MiniloraError, match="'a' is the only adapter; unload"):
        m.delete_adapter("a")
    m.load_adapter(tmp_path / "b", "b")
    m.set_adapter("b")
    np.testing.assert_allclose(logits(m.merge_and_unload()), b, rtol=1e-4, atol=1e-4)
    for again in (m.merge_and_unload, lambda: m.set_adapter("a"), lambda: m.add_adapter("c", LORA)):
        with pytest.raises(MiniloraError, match="already merged into its base"):
            again()


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda m, folder: m.set_adapter("A"), "unknown adapter 'A': did you mean 'a'"),
        (lambda m, folder: m.delete_adapter("c"), "unknown adapter 'c'"),
        (lambda m, folder: m.add_adapter("b", LORA), "there is already an adapter 'b'"),
        (lambda m, folder: m.load_adapter(folder / "b", "a"), "there is already an adapter 'a'"),
        (lambda m, folder: m.load_adapter(folder / "b", 3), "must be text, not 3"),
        (lambda m, folder: m.load_adapter(folder / "other", "c"), "another base"),
        (lambda m, folder: m.add_adapter("c", LoraConfig(target_modules=["nowhere"])), "matches nothing"),
        (lambda m, folder: m.set_strength("0.7"), "must be a number, not '0.7'"),
    ],
)
def test_what_is_refused_changes_nothing(wrong, words, pair, tmp_path):
    m, a, _ = pair
    get_peft_model(base(seed=1), LORA).save_pretrained(tmp_path / "other")
    before = state(m)
    with pytest.raises(MiniloraError, match=words):
        wrong(m, tmp_path)
    assert m.adapters == ["a", "b"] and m.strength == 1 and same(state(m), before) and np.array_equal(logits(m), a)


# Strength: what holds for every method is in helpers/peft_invariants.py


def test_a_bottleneck_at_a_strength_adds_so_much_of_what_it_adds():
    m = trained(BottleneckConfig(bottleneck_size=3))
    m.set_strength(0.5)
    half = logits(m)
    m.set_strength(1)
    for _, module in m.named_modules():
        if hasattr(module, "adapter_up"):
            module.scaling = 0.5
    np.testing.assert_allclose(logits(m), half, rtol=1e-5, atol=1e-5)


def test_a_module_that_was_trained_whole_has_a_strength_too():
    m = trained(LoraConfig(modules_to_save=["norm"]))
    full, start = m.base_model.model.norm.weight.numpy().copy(), base().model.norm.weight.numpy()
    m.set_strength(1.5)
    np.testing.assert_allclose(m.base_model.model.norm.weight.numpy(), start + 1.5 * (full - start), atol=1e-6)


def test_training_goes_on_at_strength_one_alone_and_from_where_it_was():
    m = trained()
    m.set_strength(2)
    m.set_adapter("default")
    assert not live(m) and m.strength == 2
    m.set_strength(1)
    before = logits(m)
    assert live(m) and not np.array_equal(logits(train(m)), before)
    after = logits(m)
    m.set_strength(0.3)
    m.set_strength(1)
    assert np.array_equal(logits(m), after)


def test_what_was_frozen_by_hand_stays_frozen(tmp_path):
    """A frozen A, as in LoRA-FA, stays frozen whatever adapter is added to it."""
    m = trained(folder=tmp_path)
    for name, p in m.named_parameters():
        p.requires_grad = "lora_B" in name
    expected = live(m)
    m.load_adapter(tmp_path, "other")
    m.add_adapter("third", LORA)
    m.set_strength(1.0)
    assert live(m) == expected
    m.set_adapter("default")  # says itself what trains
    assert live(m) > expected


def test_each_adapter_has_a_strength_of_its_own(pair):
    m, a, _ = pair
    m.set_strength(0.3)
    m.set_adapter("b")
    assert m.strength == 1
    m.set_adapter("a")
    assert m.strength == 0.3 and not np.array_equal(logits(m), a)
    m.set_strength(1)
    assert np.array_equal(logits(m), a)
