"""Runs beside the student's code, where models live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

from copy import copy

import numpy as np

from minilora import Tensor, nn
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.tensor import is_recording


def loss_of(student, logits, ids):
    """loss = next_token_loss(logits, ids); loss.backward()"""
    logits = Tensor(logits, requires_grad=True)
    loss = student.next_token_loss(logits, ids)
    facts = {"kind": type(loss).__name__, "loss": loss, "gradient": None}
    if isinstance(loss, Tensor) and loss.requires_grad and loss.shape == ():
        loss.backward()
        facts["gradient"] = logits.grad
    return facts


class Pairs(nn.Module):
    """logits[b, t] = table[ids[b, t]] + bias + fixed: what comes next depends on the last token alone."""

    def __init__(self, table, bias, fixed):
        self.table, self.bias = nn.Parameter(table), nn.Parameter(bias)
        self.fixed = nn.Parameter(fixed, requires_grad=False)

    def forward(self, ids):
        return self.table[np.asarray(ids)] + self.bias + self.fixed


def trained(student, table, bias, fixed, batches, steps, peak, warmup, weight_decay):
    """losses = train(model, batches, steps, peak, warmup, weight_decay), for logits = table[ids] + bias + fixed"""
    model = Pairs(table, bias, fixed)
    losses = student.train(model, batches, steps, peak, warmup, weight_decay)
    return {"losses": losses, "table": model.table, "bias": model.bias, "fixed": model.fixed}


class Scale(nn.Module):
    def __init__(self, weight):
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return x * self.weight


class Mixed(nn.Module):
    """A model with three matrices of one shape, a vector named weight, a bias, a frozen matrix, and perhaps a thin one.

    One matrix, `seldom`, has gradients of zeros where a batch does not begin with token 0.
    """

    def __init__(self, table, second, scale, bias, fixed, seldom, thin):
        self.table, self.second, self.scale = nn.Parameter(table), nn.Parameter(second), Scale(scale)
        self.bias, self.fixed = nn.Parameter(bias), nn.Parameter(fixed, requires_grad=False)
        self.seldom = nn.Parameter(seldom)
        self.thin = None if thin is None else nn.Parameter(thin)

    def forward(self, ids):
        ids = np.asarray(ids)
        y = self.scale(self.table[ids] + self.second[ids] * 0.5) + self.bias + self.fixed[ids]
        y = y + self.seldom[ids] * float(ids[0, 0] == 0)
        return y if self.thin is None else y + self.thin.reshape(-1)


def mixed(student, arrays, batches, steps, peak, warmup, weight_decay):
    """train(model, batches, steps, peak, warmup, weight_decay); one matrix is frozen"""
    model = Mixed(*map(copy, arrays))
    losses = student.train(model, batches, steps, peak, warmup, weight_decay)
    facts = {"trains": [name for name, p in model.named_parameters() if p.requires_grad]}
    facts |= {
        "fixed": model.fixed.data.copy(),
        "losses": losses,
        "tensors": any(isinstance(loss, Tensor) for loss in (() if losses is None else losses)),
    }
    facts |= {name: parameter.data.copy() for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.fixed.grad = np.ones_like(model.fixed.data)
    student.train(model, batches, 1, peak, warmup, weight_decay)
    return facts | {"fixed, with an old gradient": model.fixed}


def in_turns(student, arrays, others, batches, steps, peak, warmup, weight_decay):
    """losses = train(model, batches, …), of one model, then of another, then of the first once more"""
    first, another = (Mixed(*map(copy, held)) for held in (arrays, others))
    runs = [student.train(model, batches, steps, peak, warmup, weight_decay) for model in (first, another, first)]
    return dict(zip(("first", "another model", "the first again"), runs, strict=True))


class Idle(nn.Module):
    """logits = table[ids] + 0 · idle[ids]."""

    def __init__(self, table, idle):
        self.table, self.idle = nn.Parameter(table), nn.Parameter(idle)

    def forward(self, ids):
        return self.table[np.asarray(ids)] + self.idle[np.asarray(ids)] * 0.0


def idle(student, table, idle, batches, steps, peak, warmup, weight_decay):
    """train(model, batches, steps, peak, warmup, weight_decay), for logits = table[ids] + 0 · idle[ids]"""
    model = Idle(table, idle)
    student.train(model, batches, steps, peak, warmup, weight_decay)
    return {"idle": model.idle}


class LanguageModel(nn.Module):
    """A small Llama: one block, 16 channels."""

    def __init__(self, vocabulary):
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            initializer_range=0.1,
        )
        self.language_model = LlamaForCausalLM(config, seed=0)

    def forward(self, ids):
        return self.language_model(ids).logits


def language_model(student, vocabulary, batches, held_out, steps, peak, warmup):
    """losses = train(model, batches, steps, peak, warmup), for a Llama of one block; then its loss on held_out"""
    model = LanguageModel(vocabulary)
    losses = student.train(model, batches, steps, peak, warmup)
    return {"losses": losses, "held out": student.next_token_loss(model(held_out), held_out)}


def shared_out(student, logits, temperature, top_k):
    """next_token_probabilities(logits, temperature, top_k), sorted, and what equal logits have together"""
    p = np.asarray(student.next_token_probabilities(logits, temperature, top_k))
    by_logit = [p[logits == one].sum() for one in np.unique(logits)] if p.shape == logits.shape else f"shape {p.shape}"
    return {"of each logit": by_logit, "sorted": np.sort(p)}


class Sums(nn.Module):
    """A model that needs the whole text: next comes (the sum of its tokens + 1) mod V, with near certainty."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self.shift = nn.Parameter(np.zeros(1))

    def forward(self, ids):
        ids = np.asarray(ids)
        if ids.ndim != 2:
            raise ValueError(f"ids must have the shape (B, T), not {ids.shape}")
        likely = np.zeros((*ids.shape, self.vocabulary))
        following = (np.cumsum(ids, axis=1, dtype="int64") + 1) % self.vocabulary
        np.put_along_axis(likely, following[..., None], 20.0, axis=-1)
        return Tensor(likely) + self.shift


class Dice(nn.Module):
    """A model with the same logits at every place."""

    def __init__(self, logits):
        self.logits = logits

    def forward(self, ids):
        return Tensor(np.broadcast_to(self.logits, (*np.shape(ids), len(self.logits))))


def sums(student, vocabulary, prompt, count, temperature, top_k, seed):
    """generate(model, prompt, count, temperature, top_k, seed); the model says (sum of the text + 1) mod vocabulary"""
    model = Sums(vocabulary)
    ids = student.generate(model, np.asarray(prompt), count, temperature, top_k, seed)
    return {"ids": ids, "gradients recorded": is_recording(), "what trains": model.shift.requires_grad}


def dices(student, logits, count, temperature, top_k, seeds):
    """generate(model, [0], count, temperature, top_k, seed) for each seed; the same logits at every place"""
    return [dice(student, logits, count, temperature, top_k, seed) for seed in seeds]


def dice(student, logits, count, temperature, top_k, seed):
    """generate(model, [0], count, temperature, top_k, seed), of a model that has the same logits at every place"""
    return student.generate(Dice(logits), np.array([0]), count, temperature, top_k, seed)
