"""pytest tests/models/test_beginning.py: what all rows of a batch begin with is read once, and nothing else changes.

That every way to adapt computes the same so is a promise of tests/helpers/peft_invariants.py.
"""

import numpy as np
import pytest

from minilora import nn
from minilora.models import beginning
from minilora.models.beginning import shared_length
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, get_peft_model
from minilora.tensor import gradients

SIZES = {"vocab_size": 30, "initializer_range": 0.3}
MODELS = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, **SIZES)
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=2, n_head=2, n_positions=32, **SIZES)),
}
IDS = np.random.default_rng(0).integers(2, 30, (3, 10))
IDS[:, :5] = IDS[0, :5]
IDS[1, 5], IDS[2, 5] = (IDS[0, 5] + 1) % 30, (IDS[0, 5] + 2) % 30
LABELS = np.where(np.arange(10) < 7, -100, IDS)


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(beginning, "LEAST_SAVED", 1)


def tokens_read(model, **arguments) -> list[tuple[int, ...]]:
    """Record the shapes of the ids that the body is called with."""
    read, forward = [], type(model.body).forward

    class Watched(type(model.body)):
        def forward(self, ids, *others, **named):
            read.append(ids.shape)
            return forward(self, ids, *others, **named)

    model.body.__class__ = Watched
    model(**arguments)
    return read


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_beginning_is_read_once_where_that_saves_much(make, monkeypatch):
    assert tokens_read(make(), input_ids=IDS, labels=LABELS) == [(3, 10)]
    monkeypatch.setattr(beginning, "LEAST_SAVED", 1)
    assert tokens_read(make(), input_ids=IDS, labels=LABELS) == [(1, 4), (3, 6)]


@pytest.mark.parametrize(
    "changes, shared",
    [
        ({}, 4),  # one of the five is left to each row
        ({"labels": np.where(np.arange(10) < 3, -100, IDS)}, 2),  # what predicts a label is left
        ({"labels": IDS}, 0),
        ({"ids": np.where(np.arange(10) == 0, np.arange(3)[:, None], IDS)}, 0),
        ({"mask": np.where(np.arange(10) < np.array([0, 2, 0])[:, None], 0, 1)}, 0),  # padding on the left
        ({"mask": np.where(np.arange(10) > np.array([9, 2, 9])[:, None], 0, 1)}, 2),
        ({"ids": IDS[:1], "labels": LABELS[:1], "mask": np.ones((1, 10), dtype=int)}, 0),
        ({"ids": IDS[:0], "labels": LABELS[:0], "mask": np.ones((0, 10), dtype=int)}, 0),
        ({"ids": np.ones((3, 10), dtype=int), "labels": np.full((3, 10), -100)}, 9),
    ],
)
def test_what_is_shared(changes, shared, always):
    arguments = {"ids": IDS, "labels": LABELS, "mask": np.ones((3, 10), dtype=int)} | changes
    assert shared_length(arguments["ids"], (arguments["labels"] == -100) & (arguments["mask"] != 0), 8) == shared


def test_dropout_draws_for_each_row(always):
    model = get_peft_model(MODELS["llama"](), LoraConfig(r=2, lora_dropout=0.5)).train()
    reads = tokens_read(model.base_model, input_ids=IDS, labels=LABELS)
    assert reads == [(3, 10)]
    assert tokens_read(model.eval().base_model, input_ids=IDS, labels=LABELS)[-1] == (3, 6)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_gradient_checkpointing_gives_the_same_gradients(make, always):
    model = make().train()
    plain = gradients(model(IDS, labels=LABELS).loss)
    model.gradient_checkpointing_enable()
    calls, run_blocks = [], model.body.run_blocks
    model.body.run_blocks = lambda blocks, x, *rest, cache: (
        calls.append((x.shape, cache.keeps_nothing)) or run_blocks(blocks, x, *rest, cache=cache)
    )
    for p, gradient in gradients(model(IDS, labels=LABELS).loss).items():
        np.testing.assert_array_equal(nn.Parameter(gradient).numpy(), nn.Parameter(plain[p]).numpy())
    # the blocks of the beginning are not computed twice: their keys and values are needed as they are
    assert calls == [((1, 4, 8), False), ((3, 6, 8), True)]
