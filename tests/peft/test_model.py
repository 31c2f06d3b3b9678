"""pytest tests/peft/test_model.py: every adapted model: what trains, disabling, merging, files, errors."""

import json

import numpy as np
import pytest

from minilora import backend, nn, optim
from minilora import functional as F
from minilora.errors import FormatError, MiniloraError
from minilora.formats import safetensors
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.peft import (
    AdapterLayer,
    BitFitConfig,
    BottleneckConfig,
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftConfig,
    PeftModel,
    TaskType,
    VeraConfig,
    base_fingerprint,
    get_peft_model,
)
from minilora.peft import PrefixTuningConfig as PREFIX
from minilora.peft import PromptTuningConfig as PROMPT
from minilora.tensor import Tensor, writable_data
from tests.helpers.peft_invariants import edit_config, edit_tensors, same, state

SEEDS = [0, 1, 2]
SMALL = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "initializer_range": 0.3}


class Perceptron(nn.Module):
    """A model of another family: two Linears and a norm, no configuration."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.embed = nn.Embedding(40, 16, rng=rng)
        self.fc1 = nn.Linear(16, 24, rng=rng)
        self.norm = nn.LayerNorm(24)
        self.fc2 = nn.Linear(24, 40, rng=rng)

    def forward(self, input_ids, labels=None):
        return self.fc2(F.relu(self.norm(self.fc1(self.embed(input_ids)))))


def tied_llama(seed: int = 0) -> LlamaForCausalLM:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**SMALL, **heads, tie_word_embeddings=True), seed=seed)


def untied_llama(seed: int = 0) -> LlamaForCausalLM:
    config = LlamaConfig(**SMALL, num_attention_heads=2, head_dim=4, attention_bias=True, mlp_bias=True)
    return LlamaForCausalLM(config, seed=seed)


def classifier(seed: int = 0, head_seed: int = 5) -> LlamaForSequenceClassification:
    return LlamaForSequenceClassification.from_language_model(tied_llama(seed), num_labels=3, seed=head_seed)


CASES = {
    "tied": (tied_llama, LoraConfig(r=4, lora_alpha=8)),
    "perceptron": (Perceptron, LoraConfig(r=4, target_modules=["fc1", "fc2"])),
}
TEXT = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "Say it:", "tokenizer_name_or_path": "some/tokenizer"}
cases = pytest.mark.parametrize("case", CASES)
seeds = pytest.mark.parametrize("seed", SEEDS)


def adapted(case: str, seed: int = 0) -> PeftModel:
    make, config = CASES[case]
    return get_peft_model(make(seed), config, seed=seed)


def ids(seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 40, (3, 7))


def logits(model) -> np.ndarray:
    out = model(ids())
    return (out if isinstance(out, Tensor) else out.logits).numpy()


def train(model, steps: int = 3, lr: float = 0.05) -> PeftModel:
    """Run some steps of AdamW over all parameters of the model."""
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
    for _ in range(steps):
        if isinstance(model.base_model, LlamaForSequenceClassification):
            loss = model(ids(), labels=np.array([0, 1, 2])).loss
        elif isinstance(model.base_model, LlamaForCausalLM):
            loss = model(ids(), labels=ids()).loss
        else:
            loss = F.cross_entropy(model(ids()), (ids() + 1) % 40)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


# Every method keeps its promises on Llamas (test_peft_methods.py); here is a model of another family.


def test_in_another_family_exactly_the_adapter_trains_and_the_base_keeps_its_bits():
    before = state(Perceptron())
    model = adapted("perceptron")
    assert np.array_equal(logits(model), logits(Perceptron()))
    start = state(model)
    live = {name for name, p in model.named_parameters() if p.requires_grad}
    assert live == {f"base_model.{layer}.lora_{side}.weight" for layer in ("fc1", "fc2") for side in "AB"}
    train(model)
    after = state(model)
    assert {name for name in after if not np.array_equal(start[name], after[name])} == live
    with model.disable_adapter():
        assert same(state(model.base_model), before)


def test_printed_as_peft_does(capsys):
    adapted("tied").print_trainable_parameters()
    assert capsys.readouterr().out == "trainable params: 448 || all params: 5,008 || trainable%: 8.9457\n"


def test_the_wrapper_is_called_and_walked_like_the_model():
    base, model = tied_llama(), adapted("tied")
    assert model.config is model.base_model.config
    assert model.count_targets(ids()) == base.count_targets(ids()) == 18
    out, expected = model(input_ids=ids(), labels=ids()), base(ids(), labels=ids())
    assert out.loss.item() == expected.loss.item()
    with model.disable_adapter():
        plain = model.generate(ids(), 4, temperature=0)
    assert np.array_equal(plain, base.generate(ids(), 4, temperature=0))
    train(model, steps=8)
    assert not np.array_equal(plain, model.generate(ids(), 4, temperature=0))
    assert "base_model.model.layers.0.self_attn.q_proj.lora_A.weight" in dict(model.named_parameters())
    with pytest.raises(AttributeError):
        _ = model.nonsense


def test_the_settings_are_copied_and_checked_again():
    config = LoraConfig(r=4)
    model = get_peft_model(tied_llama(), config)
    config.lora_alpha = 0
    assert model.peft_config.lora_alpha == 8
    with pytest.raises(MiniloraError, match="lora_alpha"):
        get_peft_model(tied_llama(), config)
    with pytest.raises(TypeError, match="LoraConfig"):
        get_peft_model(tied_llama(), {"r": 4})
    with pytest.raises(MiniloraError, match="seed must be a whole number of at least 0, not -1"):
        get_peft_model(tied_llama(), LoraConfig(r=4), seed=-1)


def test_fresh_layers_take_the_mode_of_what_they_replace():
    model = get_peft_model(tied_llama().eval(), LoraConfig(r=4, lora_dropout=0.5))
    layer = model.base_model.model.layers[0].self_attn.q_proj
    assert not layer.training and not layer.lora_dropout.training
    model.train()
    with model.disable_adapter():
        model.eval()
    assert not layer.training and not layer.lora_dropout.training  # eval() reached what was not in its place


# Disabling, unloading, merging


def test_merging_gives_the_plain_model_of_another_family_that_computes_the_same():
    model = train(adapted("perceptron"))
    expected, names = logits(model), list(Perceptron().state_dict())
    plain = model.merge_and_unload()
    assert type(plain) is Perceptron and list(plain.state_dict()) == names
    assert not any(isinstance(module, AdapterLayer) for _, module in plain.named_modules())
    assert abs(logits(plain) - expected).max() <= 2e-6 * abs(expected).max()
    with pytest.raises(MiniloraError, match="merge.*already merged into its base"):
        model.merge_and_unload()


@cases
@pytest.mark.parametrize("way", ["unload", "merge_and_unload"])
def test_flags_and_modules_come_back(case, way):
    plain = CASES[case][0]()
    frozen = [name for name, _ in plain.named_parameters()][::2]
    for name, p in plain.named_parameters():
        p.requires_grad = name not in frozen
    before, modules = state(plain), {path: id(module) for path, module in plain.named_modules()}
    model = train(get_peft_model(plain, CASES[case][1]))
    back = getattr(model, way)()
    assert back is plain
    assert [name for name, p in plain.named_parameters() if not p.requires_grad] == frozen
    if way == "unload":
        assert same(state(plain), before)
        assert {path: id(module) for path, module in plain.named_modules()} == modules
    for use in (model.unload, model.merge_and_unload, lambda: model.save_pretrained("x"), lambda: use_disabled(model)):
        with pytest.raises(MiniloraError, match="already (merged|taken off)"):
            use()
    get_peft_model(plain, CASES[case][1])  # free for the next one


def use_disabled(model):
    with model.disable_adapter():
        pass


def test_unloading_within_a_disabled_block():
    model = train(adapted("tied"))
    with model.disable_adapter():
        plain = model.unload()
    assert np.array_equal(logits(plain), logits(tied_llama()))


# Targets


def paths_of(model) -> list[str]:
    return [path for path, module in model.base_model.named_modules() if isinstance(module, AdapterLayer)]


@pytest.mark.parametrize(
    "targets, expected",
    [
        (None, ["q_proj", "v_proj"] * 2),
        ("k_proj", ["k_proj"] * 2),
        (["up_proj", "q_proj"], ["q_proj", "up_proj"] * 2),
        (["model.layers.1.mlp.up_proj"], ["up_proj"]),
        (["0.self_attn.o_proj"], ["o_proj"]),
        (["lm_head"], ["lm_head"]),
        ("all-linear", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] * 2),
    ],
)
def test_targets_are_whole_names_or_paths(targets, expected):
    model = get_peft_model(untied_llama(), LoraConfig(r=2, target_modules=targets))
    assert [path.rpartition(".")[2] for path in paths_of(model)] == expected
    if targets == ["0.self_attn.o_proj"]:
        assert paths_of(model) == ["model.layers.0.self_attn.o_proj"]


@pytest.mark.parametrize(
    "targets, blocks, expected",
    [
        (["up_proj", "q_proj"], 1, ["1.self_attn.q_proj", "1.mlp.up_proj"]),
        (None, (0,), ["0.self_attn.q_proj", "0.self_attn.v_proj"]),
        (["0.self_attn.o_proj", "v_proj"], [1], ["1.self_attn.v_proj"]),
        (["model.layers.0.self_attn.o_proj", "v_proj"], [1], ["0.self_attn.o_proj", "1.self_attn.v_proj"]),
        ("v_proj", [], ["0.self_attn.v_proj", "1.self_attn.v_proj"]),
    ],
)
def test_layers_to_transform_are_the_blocks_that_are_adapted(targets, blocks, expected):
    config = LoraConfig(r=2, target_modules=targets, layers_to_transform=blocks)
    assert paths_of(get_peft_model(untied_llama(), config)) == [f"model.layers.{path}" for path in expected]


def test_the_task_and_the_base_are_written_as_peft_has_them(tmp_path):
    model = tied_llama()
    model.name_or_path = "org/name"
    config = LoraConfig(r=2, bias="none", task_type=TaskType.CAUSAL_LM, inference_mode=False, layers_to_transform=[1])
    get_peft_model(model, config).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "adapter_config.json").read_text())
    expected = {"bias": "none", "task_type": "CAUSAL_LM", "inference_mode": True, "layers_to_transform": [1]}
    assert content.items() >= (expected | {"base_model_name_or_path": "org/name"}).items()
    read = PeftConfig.from_pretrained(tmp_path)
    assert read == PeftModel.from_pretrained(tied_llama(), tmp_path).peft_config and read.layers_to_transform == [1]
    assert type(read.task_type) is str and read.base_model_name_or_path == "org/name"


def test_in_inference_mode_nothing_trains():
    model = get_peft_model(tied_llama(), LoraConfig(r=2, inference_mode=True))
    assert model.get_nb_trainable_parameters()[0] == 0
    model.set_adapter("default")
    assert model.get_nb_trainable_parameters()[0] > 0


def test_all_linear_is_everything_where_there_are_no_blocks():
    assert paths_of(get_peft_model(Perceptron(), LoraConfig(r=2, target_modules="all-linear"))) == ["fc1", "fc2"]


def test_layer_10_is_not_layer_0():
    config = LlamaConfig(**{**SMALL, "num_hidden_layers": 11}, num_attention_heads=2)
    model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=2, target_modules=["0.self_attn.q_proj"]))
    assert paths_of(model) == ["model.layers.0.self_attn.q_proj"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"target_modules": ["proj"]}, ["'proj' matches nothing", "available: q_proj, k_proj", "lm_head"]),
        ({"target_modules": ["q_proj", "qproj", "w"]}, ["'qproj'", "did you mean 'q_proj'?", "'w' matches nothing"]),
        ({"target_modules": ".*q_proj"}, ["'.*q_proj'", "regular expressions are not supported"]),
        ({"target_modules": [r"layers\.0\..*"]}, ["regular expressions are not supported"]),
        ({"target_modules": ["self_attn"]}, ["'self_attn' is not a Linear: it is of class LlamaAttention"]),
        ({"target_modules": ["embed_tokens"]}, ["'embed_tokens' is not a Linear: it is of class Embedding"]),
        ({"target_modules": ["layers.0"]}, ["'layers.0' is not a Linear: it is of class LlamaDecoderLayer"]),
        ({"target_modules": ["\x1b[2J"]}, ["\\x1b[2J"]),
        (
            {"r": 17},
            ["r = 17 is larger than the width 16 of model.layers.0.self_attn.q_proj", "width 8", "v_proj (16 to 8)"],
        ),
        ({"modules_to_save": ["score"]}, ["modules_to_save", "'score' matches nothing"]),
        ({"modules_to_save": ["self_attn"]}, ["model.layers.0.self_attn.q_proj is in model.layers.0.self_attn"]),
        ({"modules_to_save": ["q_proj"]}, ["model.layers.0.self_attn.q_proj is in both"]),
        ({"modules_to_save": ["model", "norm"], "target_modules": ["lm_head"]}, ["model.norm is in model"]),
        (
            IA3Config(feedforward_modules=["down"]),
            ["'down' is not among the adapted modules (k_proj, v_proj"],
        ),
        (IA3Config(target_modules=["kproj"]), ["'kproj' matches nothing, did you mean 'k_proj'?"]),
        (BitFitConfig(), ["no bias to train in LlamaForCausalLM", "norms=True trains"]),
        (BitFitConfig(norms=True, target_modules=["norm", "q_proj"]), ["no bias to train in model.layers.0.self_attn"]),
        (LNTuningConfig(target_modules=["q_proj"]), ["'q_proj' is not a RMSNorm or LayerNorm: it is of class Linear"]),
        (
            BottleneckConfig(target_modules=["norm"]),
            ["model.norm (RMSNorm) holds no Linear from which to take the width"],
        ),
        (BottleneckConfig(target_modules=["embed_tokens", "model"]), ["(Embedding)", "model holds a list of blocks"]),
        ({"task_type": "SEQ_CLS"}, ["'SEQ_CLS'", "classifier or score", "LlamaForCausalLM has none"]),
        (PREFIX(2048), ["2048 virtual tokens leave no room in the model's 2048 positions"]),
        (PREFIX(2, init_token_ids=[39, 40]), ["[40] are outside the vocabulary of 40"]),
        (PREFIX(2, modules_to_save=["model"]), ["model is in both"]),
        (PROMPT(2, **TEXT), ["'TEXT' needs init_token_ids"]),
        (PROMPT(2, **TEXT | {"tokenizer_name_or_path": None}, init_token_ids=[3]), ["tokenizer_name_or_path"]),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(options, words):
    model = tied_llama()
    before, flags = state(model), [p.requires_grad for p in model.parameters()]
    with pytest.raises(MiniloraError) as error:
        get_peft_model(model, LoraConfig(**options) if isinstance(options, dict) else options)
    for word in words:
        assert word in str(error.value)
    assert same(state(model), before) and [p.requires_grad for p in model.parameters()] == flags
    get_peft_model(model, LoraConfig(r=4))


def test_a_model_without_linears_or_a_body():
    with pytest.raises(MiniloraError, match="no Linear at all"):
        get_peft_model(nn.LayerNorm(4), LoraConfig(target_modules=["x"]))
    with pytest.raises(MiniloraError, match="no Linear in LayerNorm"):
        get_peft_model(nn.LayerNorm(4), LoraConfig(target_modules="all-linear"))
    with pytest.raises(MiniloraError, match="PREFIX_TUNING.*Llama or GPT-2 body.*; Perceptron has none"):
        get_peft_model(Perceptron(), PREFIX(2))


def test_adapting_twice_is_refused():
    model = adapted("tied")
    for again in (model, model.base_model, model.base_model.model):
        with pytest.raises(MiniloraError, match="adapted already"):
            get_peft_model(again, LoraConfig(r=4))
    with model.disable_adapter(), pytest.raises(MiniloraError, match="adapted already"):
        get_peft_model(model.base_model, LoraConfig(r=4))
    body = classifier().model
    other = tied_llama()
    other.model = body
    get_peft_model(other, LoraConfig(r=4))
    with pytest.raises(MiniloraError, match="adapted already"):
        get_peft_model(body, LoraConfig(r=4))


# modules_to_save, tied heads


@seeds
def test_a_classifiers_head_trains_along_and_comes_back(seed, tmp_path):
    base = logits(classifier(seed))
    model = get_peft_model(classifier(seed), LoraConfig(r=4, task_type="SEQ_CLS"), seed=seed)
    original = state(classifier(seed))["score.weight"]
    trained = logits(train(model))
    names = {name.removeprefix("base_model.") for name, p in model.named_parameters() if p.requires_grad}
    assert "score.weight" in names and len(names) == 9
    assert not np.array_equal(state(model)["base_model.score.weight"], original)
    with model.disable_adapter():
        assert np.array_equal(logits(model), base)
    trainable, total = model.get_nb_trainable_parameters()
    assert trainable == 448 + 48
    assert total == sum(p.size for p in classifier().parameters()) + 448 + 48  # the original head is kept, and counted

    model.save_pretrained(tmp_path / "a")
    tensors, _ = safetensors.load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert tensors["base_model.model.score.weight"].shape == (3, 16)
    # Another fresh head below: it is no part of the base's identity, and comes with the adapter.
    loaded = PeftModel.from_pretrained(classifier(seed, head_seed=6), tmp_path / "a")
    assert np.array_equal(logits(loaded), trained)
    with loaded.disable_adapter():
        assert np.array_equal(logits(loaded), logits(classifier(seed, head_seed=6)))

    merged = model.merge_and_unload()
    assert type(merged.score) is nn.Linear and abs(logits(merged) - trained).max() <= 2e-6 * abs(trained).max()


def test_a_frozen_head_is_noted():
    assert "'score' stays frozen" in get_peft_model(classifier(), LoraConfig(r=4)).notes[0]
    assert not get_peft_model(classifier(), LoraConfig(r=4, task_type="SEQ_CLS")).notes
    assert not get_peft_model(tied_llama(), LoraConfig(r=4)).notes


@pytest.mark.parametrize("name, other", [("lm_head", "model.embed_tokens"), ("embed_tokens", "lm_head")])
def test_saving_one_side_of_a_tied_pair_unties_it_on_purpose(name, other, tmp_path):
    plain = tied_llama()
    table, base = plain.model.embed_tokens.weight.numpy(), logits(plain)
    model = get_peft_model(plain, LoraConfig(r=4, modules_to_save=[name]))
    assert not plain.config.tie_word_embeddings and np.array_equal(logits(model), base)
    trained = logits(train(model))
    assert np.array_equal(plain.get_submodule(other).weight.numpy(), table)
    with model.disable_adapter():
        assert plain.config.tie_word_embeddings and np.array_equal(logits(model), base)
        assert plain.lm_head.weight is plain.model.embed_tokens.weight
    assert not plain.config.tie_word_embeddings

    model.save_pretrained(tmp_path / "a")
    tensors, _ = safetensors.load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert f"base_model.model.{'lm_head' if name == 'lm_head' else 'model.embed_tokens'}.weight" in tensors
    loaded = PeftModel.from_pretrained(tied_llama(), tmp_path / "a")
    assert np.array_equal(logits(loaded), trained)
    again = loaded.unload()
    assert again.config.tie_word_embeddings and again.lm_head.weight is again.model.embed_tokens.weight

    merged = model.merge_and_unload()
    assert not merged.config.tie_word_embeddings and np.array_equal(merged.get_submodule(other).weight.numpy(), table)
    merged.save_pretrained(tmp_path / "m")
    reopened = LlamaForCausalLM.from_pretrained(tmp_path / "m")
    assert abs(logits(reopened) - trained).max() <= 2e-6 * abs(trained).max()


def test_a_low_rank_update_of_a_tied_head_leaves_the_embedding(tmp_path):
    plain = tied_llama()
    table = plain.model.embed_tokens.weight.numpy()
    model = train(get_peft_model(plain, LoraConfig(r=4, target_modules=["lm_head"])))
    trained = logits(model)
    assert np.array_equal(plain.model.embed_tokens.weight.numpy(), table)
    merged = model.merge_and_unload()
    assert not merged.config.tie_word_embeddings
    assert np.array_equal(merged.model.embed_tokens.weight.numpy(), table)
    assert not np.allclose(merged.lm_head.weight.numpy(), table, atol=1e-3)
    assert abs(logits(merged) - trained).max() <= 2e-6 * abs(trained).max()


def test_a_copy_has_no_part_in_graphs_and_gradients_of_the_original():
    plain = tied_llama()
    plain(ids(), labels=ids()).loss.backward()
    loss = plain(ids(), labels=ids()).loss  # holds on to the weights
    model = get_peft_model(plain, LoraConfig(r=4, modules_to_save=["lm_head"]))
    weight = model.base_model.lm_head.weight
    array = weight.data
    assert weight.grad is None and writable_data(weight) is array  # a leased array would be copied at each step
    train(model)
    assert not np.array_equal(model.base_model.lm_head.weight.numpy(), plain.model.embed_tokens.weight.numpy())
    loss.backward()


# Files


def test_a_round_trip_of_another_family_is_exact(tmp_path):
    model = train(adapted("perceptron"))
    expected = logits(model)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert np.array_equal(logits(model), expected)  # saving changed nothing
    loaded = PeftModel.from_pretrained(Perceptron(), tmp_path)
    assert np.array_equal(logits(loaded), expected) and same(state(loaded), state(model)) and not loaded.notes
    going_on = PeftModel.from_pretrained(Perceptron(), tmp_path, is_trainable=True)
    assert not loaded.training and going_on.training
    assert not np.array_equal(logits(train(going_on)), expected)


@pytest.fixture
def saved(tmp_path):
    """Save a trained adapter of `tied_llama(0)`, and return its folder."""
    train(adapted("tied")).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def refused(folder, *words, model=None, kind=FormatError):
    """Assert that loading raises an error with all `words` and leaves the model unchanged."""
    model = model or tied_llama()
    before, flags = state(model), [p.requires_grad for p in model.parameters()]
    modules = [id(module) for _, module in model.named_modules()]
    with pytest.raises(MiniloraError) as error:
        PeftModel.from_pretrained(model, folder)
    assert isinstance(error.value, kind)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert same(state(model), before) and [p.requires_grad for p in model.parameters()] == flags
    assert [id(module) for _, module in model.named_modules()] == modules
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))


def test_a_base_that_was_trained_along_is_the_one_that_counts(tmp_path):
    model = adapted("tied")
    model.base_model.model.norm.requires_grad_(True)
    train(model).save_pretrained(tmp_path)
    refused(tmp_path, "another base", kind=MiniloraError)


def test_an_adapter_without_a_fingerprint_loads_with_a_note(saved):
    edit_tensors(saved, lambda tensors: None, keep_metadata=False)
    assert "no fingerprint" in PeftModel.from_pretrained(tied_llama(), saved).notes[0]


def test_every_wrong_name_and_shape_is_listed_at_once(saved):
    place = "base_model.model.model.layers.0.self_attn."

    def change(tensors):
        del tensors[f"{place}q_proj.lora_A.weight"]
        tensors[f"{place}v_proj.lora_B.weight"] = np.zeros((4, 8), "float32")
        tensors[f"{place}k_proj.lora_A.weight"] = np.zeros((4, 16), "float32")
        tensors[f"{place}q_proj.lora_magnitude_vector"] = np.ones(16, "float32")

    edit_tensors(saved, change)
    refused(
        saved,
        f"missing {place}q_proj.lora_A.weight",
        f"{place}v_proj.lora_B.weight has shape (4, 8), not (8, 4)",
        f"unexpected {place}k_proj.lora_A.weight",
        f"unexpected {place}q_proj.lora_magnitude_vector",
    )


LAST = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t | {LAST: t[LAST] * np.float64("nan")}, [f"{LAST} holds NaN or infinite values"]),
        (lambda t: t | {LAST: t[LAST].astype("float64") + 1e300}, [f"{LAST} holds NaN or infinite values"]),
        (lambda t: {name: a.astype("int32") for name, a in t.items()}, ["holds int32"]),
        (
            lambda t: {name.removeprefix("base_model.model."): a for name, a in t.items()},
            ["missing base_model.model.model.layers.0", "(names begin with base_model.model.)"],
        ),
        (
            lambda t: t | {"base_model.model.lm_head.weight": np.zeros((40, 16), "float32")},
            ["unexpected base_model.model.lm_head.weight, which modules_to_save does not name"],
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(saved, change, words):
    edit_tensors(saved, change)
    refused(saved, *words)


def test_half_precision_files_are_widened(saved):
    edit_tensors(saved, lambda tensors: {name: a.astype("float16") for name, a in tensors.items()})
    loaded = PeftModel.from_pretrained(tied_llama(), saved)
    assert {p.dtype.name for p in loaded.parameters()} == {"float32"}


def test_the_base_weights_that_peft_stores_for_an_adapted_head_must_be_this_bases(tmp_path):
    model = train(get_peft_model(tied_llama(), LoraConfig(r=4, target_modules=["lm_head"])))
    expected = logits(model)
    model.save_pretrained(tmp_path)
    table, name = model.base_model.model.embed_tokens.weight.numpy(), "base_model.model.lm_head.base_layer.weight"
    edit_tensors(tmp_path, lambda tensors: tensors | {name: table})
    assert np.array_equal(logits(PeftModel.from_pretrained(tied_llama(), tmp_path)), expected)
    edit_tensors(tmp_path, lambda tensors: tensors | {name: table + 1})
    refused(tmp_path, f"{name} differs from the weights of this base")


def test_pefts_names_of_saved_modules_are_read_as_peft_reads_them(tmp_path):
    names = ["norm", "0.input_layernorm"]
    model = train(get_peft_model(tied_llama(), LoraConfig(r=4, modules_to_save=names)))
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"]
    assert written == ["model.layers.0.input_layernorm", "model.norm"]  # whole paths mean the same to both
    assert np.array_equal(logits(PeftModel.from_pretrained(tied_llama(), tmp_path)), logits(model))

    norms = [path for path, module in tied_llama().named_modules() if isinstance(module, nn.RMSNorm)]
    model = train(get_peft_model(tied_llama(), LoraConfig(r=4, modules_to_save=norms)))
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, modules_to_save=["norm"])
    edit_tensors(tmp_path, lambda tensors: None, keep_metadata=False)
    assert np.array_equal(logits(PeftModel.from_pretrained(tied_llama(), tmp_path)), logits(model))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lora_alpha": 16}, ["lora_alpha is 16 in adapter_config.json, but was 8 in training"]),
        ({"r": 10**12}, ["r is 1000000000000", "not (1000000000000, 16)"]),
        ({"lora_alpha": float("nan")}, ["lora_alpha must be a positive number"]),
        ({"peft_type": "ADALORA"}, ["peft_type is 'ADALORA', which minilora does not have", "PEFT", "LORA"]),
        ({"peft_type": ["LORA"]}, ["peft_type is"]),
        ({"use_dora": True}, ["use_dora is True", "missing", "0.self_attn.q_proj.lora_magnitude_vector"]),
        ({"init_lora_weights": "pissa"}, ["init_lora_weights is 'pissa'"]),
        ({"init_lora_weights": "pissa_niter_4"}, ["init_lora_weights must be", "not 'pissa_niter_4'"]),
        ({"rank_pattern": {"q_proj": 2}}, ["rank_pattern is {'q_proj': 2}", "(4, 16), not (2, 16)"]),
        ({"alpha_pattern": {"0.self_attn.q_proj": 2}}, ["alpha_pattern is"]),
        (
            {"rank_pattern": {"^model.*": 4, "qproj": 4}},
            ["'^model.*' is not a target", "'qproj' is not a target"],
        ),
        ({"bias": "all"}, ["bias must be 'none' (BitFitConfig trains biases), not 'all'"]),
        ({"use_qalora": True, "layers_pattern": ["h"]}, ["use_qalora = true", 'layers_pattern = ["h"]']),
        ({"layers_to_transform": [1]}, ["layers_to_transform is [1]", "unexpected", "layers.0.self_attn.q_proj"]),
        ({"layers_to_transform": [0, 9]}, ["layers_to_transform: no target is in block 9; blocks with targets: 0, 1"]),
        ({"new_in_1.0": 3}, ["new_in_1.0 = 3"]),
        ({"target_modules": ".*_proj"}, ["'.*_proj' is not a name (regular expressions are not supported)"]),
        ({"target_modules": ["query"]}, ["'query' matches nothing"]),
        ({"target_modules": {}, "task_type": {}}, ["target_modules must be names", "task_type must be"]),
        ({"modules_to_save": ["lm_head"]}, ["missing base_model.model.lm_head.weight"]),
        ({"modules_to_save": 3}, ["modules_to_save must be"]),
    ],
)
def test_settings_that_would_compute_something_else_are_refused_by_name(saved, changes, words):
    edit_config(saved, **changes)
    refused(saved, *words)


OTHERS = {  # a configuration, what its file is changed to, and what is said
    "ia3, a pattern": (
        IA3Config(),
        {"feedforward_modules": ".*down_proj"},
        ["'.*down_proj' is not among"],
    ),
    "ia3, another shape": (IA3Config(), {"feedforward_modules": []}, ["ia3_l has shape (1, 24), not (16, 1)"]),
    "ia3, no target": (
        IA3Config(),
        {"feedforward_modules": ["up_proj"]},
        ["'up_proj' is not among"],
    ),
    "norms, fewer": (LNTuningConfig(), {"target_modules": ["norm"]}, ["unexpected base_model.model.model.layers.0"]),
    "bitfit, fewer": (BitFitConfig(norms=True), {"norms": False}, ["no bias to train in model.layers.0"]),
    "adapters, elsewhere": (
        BottleneckConfig(bottleneck_size=3),
        {"placement": "parallel"},
        ["placement is 'parallel' in adapter_config.json, but was 'pfeiffer' in training"],
    ),
    "adapters, wide": (
        BottleneckConfig(bottleneck_size=3),
        {"bottleneck_size": 10**15},
        ["not (1000000000"],
    ),
    "vera, wide": (VeraConfig(r=5), {"r": 10**12}, ["vera_lambda_d has shape (5,), not (1000000000000,)"]),
    "vera, more": (VeraConfig(r=5), {"vera_dropout": 0.5, "bias": "all"}, ['have: vera_dropout = 0.5; bias = "all"']),
    "prefix, longer": (PREFIX(3), {"num_virtual_tokens": 4}, ["(3, 32), not (4, 32)", "num_virtual_tokens is 4"]),
    "prefix, endless": (PREFIX(3), {"num_virtual_tokens": 10**12}, ["1000000000000 virtual tokens leave no room"]),
    "prefix, wide": (PREFIX(3), {"token_dim": 16}, ["token_dim is 16, but the model's is 8"]),
    "prefix, task": (PREFIX(3), {"task_type": "SEQ_CLS"}, ["is 'SEQ_CLS', but the model's is 'CAUSAL_LM'"]),
    "prefix, by an MLP": (PREFIX(3), {"prefix_projection": True}, ["is True in adapter_config.json, but was False"]),
    "prefix, unknown": (PREFIX(3), {"prefix_length": 3}, ["prefix_length = 3"]),
    "a prefix as a prompt": (PREFIX(3), {"peft_type": "PROMPT_TUNING"}, ["have: encoder_hidden_size = 8"]),
    "prompt, narrow": (
        PROMPT(3),
        {"token_dim": 8, "num_attention_heads": 2},
        ["token_dim is 8, but the model's is 16"],
    ),
    "prompt, method": (PROMPT(3), {"peft_type": "P_TUNING"}, ["peft_type is 'P_TUNING'"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_methods_are_refused_by_name(name, tmp_path):
    config, changes, words = OTHERS[name]
    get_peft_model(tied_llama(), config).save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    refused(tmp_path, *words)


def test_what_peft_writes_beside_the_settings_is_passed_over(saved):
    idle = {"bias": "none", "init_lora_weights": True, "use_dora": False, "rank_pattern": {}, "qalora_group_size": 16}
    about = {"peft_version": "0.21.2", "megatron_core": "megatron.core", "auto_mapping": {"x": 1}, "revision": "main"}
    edit_config(saved, **idle, **about)
    assert not PeftModel.from_pretrained(tied_llama(), saved).notes


def test_the_smallest_file_that_peft_loads_loads(saved):
    expected = logits(PeftModel.from_pretrained(tied_llama(), saved))
    (saved / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
    edit_tensors(saved, lambda tensors: None, keep_metadata=False)
    assert np.array_equal(logits(PeftModel.from_pretrained(tied_llama(), saved)), expected)


def test_another_family_is_refused(saved):
    refused(saved, "matches nothing", model=Perceptron())


def test_damaged_and_missing_files(saved, tmp_path):
    refused(tmp_path / "nowhere", "nowhere")
    weights = saved / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-5])
    refused(saved, "adapter_model.safetensors")
    weights.unlink()
    refused(saved, "adapter_model.safetensors")
    (saved / "adapter_model.bin").write_bytes(b"")
    refused(saved, "pickle")
    weights.write_bytes(whole)
    (saved / "adapter_config.json").write_text("[]")
    refused(saved, "adapter_config.json")


def test_loading_onto_an_adapted_model_is_refused(saved):
    with pytest.raises(MiniloraError, match="adapted already"):
        PeftModel.from_pretrained(adapted("tied"), saved)


def test_saving_over_an_older_adapter_leaves_the_new_one_alone(saved):
    model = train(get_peft_model(tied_llama(), LoraConfig(r=2, lora_alpha=5), seed=4), steps=5)
    (saved / ".adapter_config.json.tmp").write_text("left behind by a killed process")
    model.save_pretrained(saved)
    assert np.array_equal(logits(PeftModel.from_pretrained(tied_llama(), saved)), logits(model))
    assert len(list(saved.iterdir())) == 2


# The fingerprint


def test_the_fingerprint_sees_names_shapes_and_bits():
    own = base_fingerprint(tied_llama())
    assert own == base_fingerprint(tied_llama()) and len(own) == 64
    assert own != base_fingerprint(tied_llama(1))

    class Box(nn.Module):
        def __init__(self, **tensors):
            vars(self).update({name: Tensor(backend.asarray(a)) for name, a in tensors.items()})

    a, b = np.arange(6, dtype="float32"), np.ones(6, dtype="float32")
    prints = [
        base_fingerprint(Box(a=a, b=b)),
        base_fingerprint(Box(a=b, b=a)),
        base_fingerprint(Box(a=a.reshape(2, 3), b=b)),
        base_fingerprint(Box(a=a.reshape(3, 2), b=b)),
        base_fingerprint(Box(a=a, c=b)),
        base_fingerprint(Box(a=-a, b=b)),
    ]
    assert len(set(prints)) == len(prints)
    assert prints[0] == base_fingerprint(Box(b=b, a=a)) == base_fingerprint(Box(a=a.astype("float64"), b=b))
    transposed = np.ascontiguousarray(a.reshape(2, 3).T).T
    assert base_fingerprint(Box(a=transposed, b=b)) == prints[2]


def test_the_fingerprint_leaves_out_what_the_adapter_brings():
    assert base_fingerprint(classifier(head_seed=1)) != base_fingerprint(classifier(head_seed=2))
    assert base_fingerprint(classifier(head_seed=1), ["score"]) == base_fingerprint(classifier(head_seed=2), ["score"])
    untied = tied_llama()
    untied.lm_head = nn.Linear.from_arrays(untied.lm_head.weight.data.copy())
    assert base_fingerprint(untied) == base_fingerprint(tied_llama())
