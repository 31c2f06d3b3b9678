"""Runs beside the student's code, where models live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor, nn
from minilora.models.llama import LlamaConfig, LlamaForCausalLM


def loss_of(student, logits, ids):
    """loss = next_token_loss(logits, ids); loss.backward()"""
    logits = Tensor(logits, requires_grad=True)
    loss = student.next_token_loss(logits, ids)
    found = {"kind": type(loss).__name__, "loss": loss, "gradient": None}
    if isinstance(loss, Tensor) and loss.requires_grad and loss.shape == ():
        loss.backward()
        found["gradient"] = logits.grad
    return found


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
    """Two matrices of one shape, a vector that is called weight, a bias, and a frozen matrix."""

    def __init__(self, table, second, scale, bias, fixed):
        self.table, self.second, self.scale = nn.Parameter(table), nn.Parameter(second), Scale(scale)
        self.bias, self.fixed = nn.Parameter(bias), nn.Parameter(fixed, requires_grad=False)

    def forward(self, ids):
        ids = np.asarray(ids)
        return self.scale(self.table[ids] + self.second[ids] * 0.5) + self.bias + self.fixed[ids]


def mixed(student, arrays, batches, steps, peak, warmup, weight_decay):
    """train(model, batches, steps, peak, warmup, weight_decay); one matrix of three is frozen"""
    model = Mixed(*(array.copy() for array in arrays))
    losses = student.train(model, batches, steps, peak, warmup, weight_decay)
    facts = {"trains": [name for name, p in model.named_parameters() if p.requires_grad]}
    facts |= {
        "fixed": model.fixed,
        "losses": losses,
        "tensors": any(isinstance(loss, Tensor) for loss in (() if losses is None else losses)),
    }
    return facts | {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


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
    """next_token_probabilities(logits, temperature, top_k); equal logits are told apart only by how they share"""
    p = np.asarray(student.next_token_probabilities(logits, temperature, top_k))
    largest = np.sort(logits)[::-1]
    if top_k is not None and top_k < len(logits) and largest[top_k - 1] == largest[top_k]:
        return {"sum": p.sum()}  # which of the equal ones stay is open
    by_logit = [p[logits == one].sum() for one in np.unique(logits)] if p.shape == logits.shape else f"shape {p.shape}"
    return {"of each logit": by_logit, "sorted": np.sort(p) if temperature else None}


class Sums(nn.Module):
    """After a and b comes (a + b + 1) mod V, with near certainty. It sees two tokens back, so it needs the text."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def forward(self, ids):
        ids = np.asarray(ids)
        if ids.ndim != 2:
            raise ValueError(f"ids must have the shape (B, T), not {ids.shape}")
        before = np.concatenate([np.zeros_like(ids[:, :1]), ids[:, :-1]], axis=1)
        return Tensor(20.0 * np.eye(self.vocabulary)[(ids + before + 1) % self.vocabulary])


class Dice(nn.Module):
    """The same logits at every place."""

    def __init__(self, logits):
        self.logits = logits

    def forward(self, ids):
        return Tensor(np.broadcast_to(self.logits, (*np.shape(ids), len(self.logits))))


def sums(student, vocabulary, prompt, count, temperature, top_k, seed):
    """generate(model, prompt, count, temperature, top_k, seed); the model says (a + b + 1) mod vocabulary after a, b"""
    return {"ids": student.generate(Sums(vocabulary), np.asarray(prompt), count, temperature, top_k, seed)}


def dices(student, logits, count, temperature, top_k, seeds):
    """generate(model, [0], count, temperature, top_k, seed) for each seed; the same logits at every place"""
    return [dice(student, logits, count, temperature, top_k, seed) for seed in seeds]


def dice(student, logits, count, temperature, top_k, seed):
    """generate(model, [0], count, temperature, top_k, seed), of a model that has the same logits at every place"""
    return student.generate(Dice(logits), np.array([0]), count, temperature, top_k, seed)
