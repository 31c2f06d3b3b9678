"""pytest tests/peft/test_mixing.py: several adapters on one base: names, switching, sums, strength."""

import numpy as np
import pytest

from minilora.errors import MiniloraError
from minilora.peft import (
    BottleneckConfig,
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    get_peft_model,
    load_adapters,
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
    """A model with two trained adapters, "a" in place and "b", and the logits of both."""
    a, b = (logits(trained(config, seed, tmp_path / name)) for config, seed, name in ((LORA, 0, "a"), (WIDE, 1, "b")))
    m = PeftModel.from_pretrained(base(), tmp_path / "a", "a")
    m.load_adapter(tmp_path / "b", "b")
    return m, a, b


def update(m: PeftModel) -> dict[str, np.ndarray]:
    """{name: by how much each weight changes where the adapter in place is merged}, where it does."""
    before = state(base())
    after = state(m.merge_and_unload())
    changes = {name: after[name] - before[name] for name in before}
    return {name: change for name, change in changes.items() if change.any()}


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
        with pytest.raises(MiniloraError, match="merged into its base before"):
            again()


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda m, folder: m.set_adapter("A"), "unknown adapter 'A': did you mean 'a'"),
        (lambda m, folder: m.delete_adapter("c"), "unknown adapter 'c'"),
        (lambda m, folder: m.add_adapter("b", LORA), "there is an adapter 'b' already"),
        (lambda m, folder: m.load_adapter(folder / "b", "a"), "there is an adapter 'a' already"),
        (lambda m, folder: m.load_adapter(folder / "b", 3), "must be text, not 3"),
        (lambda m, folder: m.load_adapter(folder / "other", "c"), "another base"),
        (lambda m, folder: m.add_adapter("c", LoraConfig(target_modules=["nowhere"])), "matches nothing"),
        (lambda m, folder: m.set_strength("0.7"), "must be a number, such as 0.7, not '0.7'"),
        (lambda m, folder: m.add_weighted_adapter(["a", "c"], [1, 1], "d", "cat"), "unknown adapter 'c'"),
        (lambda m, folder: m.add_weighted_adapter(["a", "b"], [1, 1], "b", "cat"), "there is an adapter 'b' already"),
        (lambda m, folder: m.add_weighted_adapter(["a", "b"], [1], "d", "cat"), "2 adapters need as many weights"),
        (lambda m, folder: m.add_weighted_adapter(["a", "b"], [1, np.inf], "d", "cat"), "must be a number.*not inf"),
        (lambda m, folder: m.add_weighted_adapter(["a"], [1], "d", "cats"), "must be 'cat'.*not 'cats'"),
        (lambda m, folder: m.add_weighted_adapter([], [], "d", "cat"), "at least one"),
    ],
)
def test_what_is_refused_changes_nothing(wrong, words, pair, tmp_path):
    m, a, _ = pair
    get_peft_model(base(seed=1), LORA).save_pretrained(tmp_path / "other")
    before = state(m)
    with pytest.raises(MiniloraError, match=words):
        wrong(m, tmp_path)
    assert m.adapters == ["a", "b"] and m.strength == 1 and same(state(m), before) and np.array_equal(logits(m), a)


# Sums


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1, -0.5), (0, 2)])
def test_cat_is_the_weighted_sum_of_the_updates(weights, pair, tmp_path):
    m, _, _ = pair
    m.add_weighted_adapter(["b", "a"], list(weights[::-1]), "sum", "cat")  # the sum is not rank-stabilized, as b is
    assert m.active_adapter == "a"
    m.set_adapter("sum", inference_mode=True)
    assert m.peft_config.r == 4 + 3 and m.peft_config.lora_alpha == 7 and not m.peft_config.rank_pattern
    m.save_pretrained(tmp_path / "sum")
    parts = [update(PeftModel.from_pretrained(base(), tmp_path / name)) for name in ("a", "b", "sum")]
    assert parts[2].keys() == {name for part, w in zip(parts, weights, strict=False) if w for name in part}
    for name, total in parts[2].items():
        expected = sum(w * part.get(name, 0) for part, w in zip(parts, weights, strict=False))
        np.testing.assert_allclose(total, expected, atol=2e-6)


def test_a_sum_takes_each_at_its_strength_and_does_not_follow_it(pair):
    m, _, _ = pair
    m.set_strength(0.5)
    m.add_weighted_adapter(["a"], [1], "half", "cat")
    half = logits(m)
    m.set_strength(1)
    m.set_adapter("half")
    np.testing.assert_allclose(logits(m), half, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "config, words",
    [
        (IA3Config(), "only LoRA's updates are summed, and 'b' is of type IA3"),
        (LoraConfig(use_dora=True), "'b' is DoRA"),
        (LoraConfig(init_lora_weights="pissa", target_modules=["up_proj"]), "'b' is PiSSA"),
        (LoraConfig(modules_to_save=["norm"]), "'b' has trained model.norm whole"),
    ],
)
def test_what_has_no_low_rank_update_is_not_summed(config, words):
    m = get_peft_model(base(), LORA)
    m.add_adapter("b", config)
    with pytest.raises(MiniloraError, match=words):
        m.add_weighted_adapter(["default", "b"], [1, 1], "sum", "cat")
    assert m.adapters == ["default", "b"]


def test_a_base_in_four_bits_takes_several_and_their_sum(tmp_path):
    qlora = CASES["qlora"]
    for seed, name in enumerate("ab"):
        train(get_peft_model(base_of(qlora, "tied", 0), qlora.make(), seed)).save_pretrained(tmp_path / name)
    m = load_adapters(base_of(qlora, "tied", 0), [(tmp_path / "a", 1), (tmp_path / "b", -1)])
    assert not m.notes and m.peft_config.r == 8
    assert logits(m).shape == logits(m.merge_and_unload()).shape and "in floats" in m.notes[0]


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
    """As in LoRA-FA, whose A does not train: whatever comes beside it."""
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


# From files


def test_one_folder_or_several_with_weights_and_a_strength(pair, tmp_path):
    m, a, b = pair
    with pytest.raises(MiniloraError, match="no adapter to load"):
        load_adapters(base(), [])
    assert np.array_equal(logits(load_adapters(base(), [(tmp_path / "a", 1)])), a)
    m.set_strength(0.25)
    assert np.array_equal(logits(load_adapters(base(), [(tmp_path / "a", 0.5)], strength=0.5)), logits(m))
    m.set_strength(1)
    m.add_weighted_adapter(["a", "b"], [0.7, 0.3], "sum", "cat")
    m.set_adapter("sum")
    m.set_strength(0.5)
    total = load_adapters(base(), [(tmp_path / "a", 0.7), (tmp_path / "b", 0.3)], strength=0.5)
    assert np.array_equal(logits(total), logits(m)) and len(total.adapters) == 1 and not live(total)


@pytest.mark.parametrize(
    "others, words",
    [
        ([("other", 1)], "other: the adapter was trained on another base"),
        ([("ia3", 1)], "ia3' is of type IA3"),
        ([("b", np.nan)], "must be a number, such as 0.7, not nan"),
        ([("a", 1)], "already"),
    ],
)
def test_a_refused_sum_leaves_the_model_plain(others, words, pair, tmp_path):
    get_peft_model(base(seed=1), LORA).save_pretrained(tmp_path / "other")
    trained(IA3Config(), folder=tmp_path / "ia3")
    model = base()
    with pytest.raises(MiniloraError, match=words):
        load_adapters(model, [(tmp_path / "a", 1), *((tmp_path / name, weight) for name, weight in others)])
    assert same(state(model), state(base())) and np.array_equal(logits(model), logits(base()))
    get_peft_model(model, LORA)
