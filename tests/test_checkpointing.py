"""pytest tests/test_checkpointing.py: blocks that are computed again in backward give the same bits for less memory."""

import gc
import weakref
from contextlib import nullcontext

import numpy as np
import pytest

from minilora import backend, nn, ops
from minilora.checkpointing import checkpoint
from minilora.errors import MiniloraError
from minilora.graph import Node
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.peft import LoraConfig, PromptTuningConfig, get_peft_model
from minilora.tensor import Tensor, enable_grad, gradients, no_grad
from notebooks.figures.memory import live_bytes
from tests.helpers.peft_invariants import CASES, GPT2, IDS, MODELS, SIZES, base_of

MASK = np.ones(IDS.shape, dtype=int)
MASK[1, :3] = 0
MASK[2, :5] = 0


def adapted(name: str, model: str):
    """Make a model in training mode with the adapter of a case, moved away from zero so that all gradients flow."""
    case = CASES[name]
    peft_model = get_peft_model(base_of(case, model, 0), case.make(), seed=1).train()
    rng = np.random.default_rng(2)
    for p in peft_model.parameters():
        if p.requires_grad:
            p.data = backend.asarray(backend.to_numpy(p.data) + rng.normal(0, 0.1, p.shape).astype("float32"))
    return peft_model


def loss_and_gradients(model, checkpointing: bool, mask=None, seed: int | None = 3) -> dict[str, np.ndarray]:
    model.gradient_checkpointing_enable(checkpointing)
    with nullcontext() if seed is None else nn.dropout_rng(np.random.default_rng(seed)):
        loss = model(IDS, attention_mask=mask, labels=IDS).loss
    return found_by_name(model, loss)


def assert_same_bits(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


CALLS = [(name, CASES[name].models[-1], mask) for name in CASES for mask in (None, MASK)]
CALLS += [(name, "gpt2", MASK) for name in ("lora", "qlora", "prefix", "bottleneck, parallel", "norms")]


@pytest.mark.parametrize("name, base, mask", CALLS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_method_gets_the_same_bits(name, base, mask):
    model = adapted(name, base)
    plain = loss_and_gradients(model, False, mask)
    assert len(plain) == 1 + sum(p.requires_grad for p in model.parameters())
    assert_same_bits(loss_and_gradients(model, True, mask), plain)


def found_by_name(model, loss) -> dict[str, np.ndarray]:
    by_tensor = gradients(loss)
    arrays = {name: backend.to_numpy(by_tensor[p]) for name, p in model.named_parameters() if p in by_tensor}
    return {"loss": backend.to_numpy(loss.data), **arrays}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "classifier"])
def test_full_training_gets_the_same_bits(family, dtype):
    config = LlamaConfig(**SIZES, **MODELS["tied"], num_labels=3, pad_token_id=0)
    model = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2), seed=0),
        "llama": lambda: LlamaForCausalLM(config, seed=0),
        "classifier": lambda: LlamaForSequenceClassification(config, seed=0),
    }[family]()
    for p in model.parameters():
        p.data = p.data.astype(dtype)
    labels = [0, 2, 1] if family == "classifier" else IDS
    plain, again = (
        found_by_name(model, model.gradient_checkpointing_enable(flag)(IDS, MASK, labels=labels).loss)
        for flag in (False, True)
    )
    assert len(plain) == 1 + len(list(model.parameters())) and plain["loss"].dtype == dtype
    assert_same_bits(again, plain)


def dropping(rank: int = 2):
    config = LoraConfig(r=rank, target_modules="all-linear", lora_dropout=0.4, init_lora_weights=False)
    return get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZES, **MODELS["deep"]), seed=0), config).train()


@pytest.mark.parametrize("seed", [3, None], ids=["a stream of the step", "each dropout's own"])
def test_dropouts_draw_the_same_numbers_again(seed):
    """Two steps: the second must draw the same numbers whether or not the first drew some again."""
    one, other = dropping(), dropping()
    for _ in range(2):
        plain, again = loss_and_gradients(one, False, seed=seed), loss_and_gradients(other, True, seed=seed)
        assert_same_bits(again, plain)
    if seed is None:
        assert (again["loss"] != loss_and_gradients(one, False, seed=seed)["loss"]).all()  # they do draw


class Scaled(nn.Module):
    """tanh(x w) · outside, where `outside` belongs to another module."""

    def __init__(self, outside: Tensor):
        self.w = nn.Parameter(np.array([0.5, -1.0, 2.0], dtype="float32"))
        self.outside = [lambda: outside]  # hidden from walks over modules
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return ops.tanh(x * self.w) * self.outside[0]()


def test_what_a_block_has_from_elsewhere_gets_its_gradient():
    leaf = Tensor(np.ones(3), requires_grad=True)
    x = Tensor(np.arange(3.0), requires_grad=True)
    block, all_gradients = Scaled(leaf), []
    for run in (block, lambda a: checkpoint(block, a)):
        outside = leaf * 2
        block.outside = [lambda outside=outside: outside]
        all_gradients.append(gradients((run(x * 3) * outside).sum()))
    assert block.runs == 3 and set(all_gradients[0]) == {x, leaf, block.w}
    for tensor in all_gradients[0]:
        np.testing.assert_array_equal(
            backend.to_numpy(all_gradients[0][tensor]), backend.to_numpy(all_gradients[1][tensor])
        )


def test_it_is_as_if_absent_where_nothing_is_recorded_or_trains():
    block = Scaled(Tensor(np.ones(3)))
    x = Tensor(np.ones(3), requires_grad=True)
    with no_grad():
        assert checkpoint(block, x)._node is None
        with enable_grad():
            y = checkpoint(block, x)
        y.backward(np.ones(3))  # inside no_grad, too
    assert x.grad is not None and block.w.grad is not None
    block.requires_grad_(False)
    assert checkpoint(block, Tensor(np.ones(3)))._node is None
    assert checkpoint(nn.Dropout(0), x) is x


def test_the_graph_is_used_up_and_what_it_reads_is_held_as_ever():
    block, x = Scaled(Tensor(np.ones(3))), Tensor(np.ones(3), requires_grad=True)
    y = checkpoint(block, x).sum()
    if backend.is_lockable(np.ones(1)) and backend.name == "numpy":
        for held in (block.w.data, x.data):
            with pytest.raises(ValueError, match="read-only"):
                held[...] = 0
    y.backward()
    assert backend.is_writable(block.w.data) and backend.is_writable(x.data)
    with pytest.raises(RuntimeError, match="used before"):
        y.backward()
    y = checkpoint(block, x)
    del y
    assert backend.is_writable(block.w.data)


@pytest.mark.host
def test_a_weight_that_was_replaced_in_between_is_noticed():
    block, x = Scaled(Tensor(np.ones(3))), Tensor(np.ones(3), requires_grad=True)
    y = checkpoint(block, x).sum()
    block.w.data = np.zeros(3, dtype="float32")
    with pytest.raises(RuntimeError, match="replaced between"):
        y.backward()


@pytest.mark.parametrize("name", ["lora", "qlora", "prefix"])
def test_generating_and_evaluating_are_as_ever(name, monkeypatch):
    model = adapted(name, "deep")
    model.gradient_checkpointing_enable()
    used = []
    seen = lambda block, *a, within: used.append(block) or block(*a)  # noqa: E731
    monkeypatch.setattr("minilora.models.language_model.checkpoint", seen)
    model(IDS, labels=IDS)
    assert len(used) == 3
    model.generate(IDS, 3)  # in training mode, too, a cache is written once
    model.eval()(IDS, labels=IDS)
    model.train().gradient_checkpointing_disable()(IDS, labels=IDS)
    assert len(used) == 3


def test_it_is_switched_wherever_the_body_is():
    model = LlamaForCausalLM(LlamaConfig(**SIZES, **MODELS["deep"]), seed=0).gradient_checkpointing_enable()
    prompt = get_peft_model(model, PromptTuningConfig(num_virtual_tokens=2))
    assert prompt.base_model.model.base_layer.gradient_checkpointing
    prompt.gradient_checkpointing_enable(False)
    assert not prompt.unload().model.gradient_checkpointing
    with pytest.raises(MiniloraError, match="Linear has no blocks"):
        nn.Linear(2, 2).gradient_checkpointing_enable()


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("walked", [True, False])
def test_a_step_leaves_nothing_behind(walked, checkpointing):
    """Reference counting alone frees all graphs, also the dropped and the repeated one."""
    model = dropping().gradient_checkpointing_enable(checkpointing)
    gc.collect()
    nodes = lambda: {id(thing) for thing in gc.get_objects() if issubclass(type(thing), Node)}  # noqa: E731
    others = nodes()  # that another test has left
    gc.disable()
    try:
        with nn.dropout_rng(np.random.default_rng(0)):
            loss = model(IDS, labels=IDS).loss
        refs = [weakref.ref(loss), weakref.ref(loss.data)]
        if walked:
            loss.backward()
        del loss
        assert [ref() for ref in refs] == [None, None]
        assert all(backend.is_writable(p.data) for p in model.parameters())
        assert nodes() <= others
    finally:
        gc.enable()


@pytest.mark.host
def test_blocks_keep_their_inputs_alone():
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 6}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes), seed=0).requires_grad_(False)
    model.model.layers[1].requires_grad_()
    ids = np.random.default_rng(0).integers(0, 50, (2, 32))
    stream = 4 * ids.size * sizes["hidden_size"]

    def held(flag: bool) -> int:
        return live_bytes(model, None, model.gradient_checkpointing_enable(flag)(ids, labels=ids).loss)["activations"]

    # The inputs of blocks 1 to 5 (block 0 is frozen and leads nowhere), that of the last norm, and the gradient that
    # the loss has made already; with sines, cosines and some numbers per row.
    assert 7 * stream < held(True) < 7.5 * stream < held(False) / 4
