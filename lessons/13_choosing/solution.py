# %% [markdown]
# # Lesson 13: choosing
#
# Seven short tasks: when training has paid for itself, how many numbers a model has, how many bytes a step of training
# takes, which of two measured numbers is really better, which methods are worth a look, which one to take, and how to
# take two adapters at once. The reading is README.md beside this file. `minilora check 13` says how far you are,
# `minilora check 13 --hint` helps.

# %%
from math import ceil

import numpy as np

# %% [markdown]
# ## Task 1: when has training paid for itself?
#
# A prompt costs nothing beforehand, and is paid for at every query. Training is paid for once.


# %%
def crossover(training: float, prompted: float, trained: float) -> int | None:
    """The least number of queries, an int, with which training has cost no more than prompting; None: there is none.

    training: what it costs once; prompted, trained: what a query costs by a prompt, and by the trained model. All in
    one unit, such as seconds.
    """
    ### BEGIN SOLUTION task 1: find where the two lines meet
    saved = prompted - trained
    if training <= 0:
        return 0
    return ceil(training / saved) if saved > 0 else None
    ### END SOLUTION


# %% [markdown]
# ## Task 2: how many numbers?
#
# A model of Llama's kind has, in each block, seven linear layers without biases: q_proj, k_proj, v_proj, o_proj for
# attention, and gate_proj, up_proj, down_proj. Keys and values are `kv_width` wide, which may be less than `hidden`.
# Each block has two norms, and there is one after the last block. `tied` says whether the head uses the embedding's
# table or has one of its own. LoRA of rank r stands beside every linear layer of the blocks, with A (r, in) and
# B (out, r).


# %%
def count(shape: dict, r: int) -> dict:
    """How many numbers, exactly: {"linears": …, "embeddings": …, "norms": …, "lora": …}.

    shape: {"layers", "hidden", "intermediate", "kv_width", "vocab", "tied"}. embeddings: of the table, and of the
    head's where it has its own.
    """
    ### BEGIN SOLUTION task 2: count a model
    h, f, kv = shape["hidden"], shape["intermediate"], shape["kv_width"]
    linears = [(h, h), (h, kv), (h, kv), (h, h), (h, f), (h, f), (f, h)]  # in, out
    return {
        "linears": shape["layers"] * sum(n_in * n_out for n_in, n_out in linears),
        "embeddings": shape["vocab"] * h * (1 if shape["tied"] else 2),
        "norms": (2 * shape["layers"] + 1) * h,
        "lora": shape["layers"] * sum(r * (n_in + n_out) for n_in, n_out in linears),
    }
    ### END SOLUTION


# %% [markdown]
# ## Task 3: the memory planner
#
# Weights, adapters, gradients and activations are in 16 bits. AdamW keeps two numbers of 32 bits for each that trains.
# Of the activations, with checkpointing, the input of each block stays: (batch, length, hidden). QLoRA keeps the linear
# layers of the blocks in 4 bits, with a scale of 8 bits for each 64 weights and one of 32 bits for each 256 scales
# (lesson 11). Embeddings and norms stay in 16 bits.


# %%
def memory(shape: dict, method: str, r: int, batch: int, length: int) -> dict:
    """Bytes of a training step: {"weights", "adapters", "gradients", "optimizer", "activations"}.

    method: "full", "lora" or "qlora"; ValueError for any other. weights: of the base; adapters: of what LoRA adds,
    which is nothing with "full". Nothing is rounded.
    """
    ### BEGIN SOLUTION task 3: add up the bytes by kind
    if method not in ("full", "lora", "qlora"):
        raise ValueError(f"no method is called {method!r}")
    numbers = count(shape, r)
    others = numbers["embeddings"] + numbers["norms"]
    bits = 4 + 8 / 64 + 32 / (64 * 256) if method == "qlora" else 16
    adapters = 0 if method == "full" else numbers["lora"]
    trains = numbers["linears"] + others if method == "full" else adapters
    return {
        "weights": numbers["linears"] * bits / 8 + 2 * others,
        "adapters": 2 * adapters,
        "gradients": 2 * trains,
        "optimizer": 8 * trains,
        "activations": shape["layers"] * batch * length * shape["hidden"] * 2,
    }
    ### END SOLUTION


# %% [markdown]
# ## Task 4: as good as the best
#
# Every method was measured with the same seeds, so that two of them are compared seed by seed. A method is as good as
# the best where that is shown: the interval of its differences ends within a margin that was named before. Of those
# that are as good, take the cheapest.


# %%
def cheapest_as_good(measured: dict, margin: float, t: float) -> str:
    """The name of the cheapest method that is as good as the one with the fewest bits, which is as good as itself.

    measured: {name: (cost, [bits per character, one for each seed])}; all have the same seeds, two at least, in one
    order. No two cost the same, and one alone has the fewest bits, on average.

    A method's differences are its bits less those of the best, seed by seed. Their interval ends `t` standard errors
    above their mean, and must not end above `margin`. The standard error is the standard deviation with
    n - 1 in its divisor, over the root of n, for n seeds.
    """
    ### BEGIN SOLUTION task 4: compare seed by seed
    runs = {name: np.array(bits) for name, (_, bits) in measured.items()}
    best = min(runs, key=lambda name: runs[name].mean())
    differences = {name: run - runs[best] for name, run in runs.items()}
    ends = {name: d.mean() + t * d.std(ddof=1) / np.sqrt(len(d)) for name, d in differences.items()}
    return min((name for name in measured if ends[name] <= margin), key=lambda name: measured[name][0])
    ### END SOLUTION


# %% [markdown]
# ## Task 5: what is worth a look?
#
# A method that another one beats, no worse in cost and bits and better in one, need not be looked at. What is left are
# the best answers to all possible questions: the Pareto frontier.


# %%
def frontier(points: dict) -> list[str]:
    """The names of the points that no other beats, the cheapest first (of two that cost the same, in any order).

    points: {name: (cost, bits)}, or none; less is better in both. One point beats another where it is no worse in both
    and better in at least one. So two points at one place do not beat each other.
    """

    ### BEGIN SOLUTION task 5: keep what nothing beats
    def beats(a: tuple, b: tuple) -> bool:
        return a[0] <= b[0] and a[1] <= b[1] and tuple(a) != tuple(b)

    unbeaten = [name for name, point in points.items() if not any(beats(other, point) for other in points.values())]
    return sorted(unbeaten, key=lambda name: points[name][0])
    ### END SOLUTION


# %% [markdown]
# ## Task 6: choose
#
# All of it together. What you need is a bar, in bits per character, and what you have is so much memory and so many
# queries to answer. Prompting is one of the options: its training costs nothing.
#
# Work out by hand which option `case` below should get. Then take the # off its last line and run this file. The check
# asks about cases that you have not seen.


# %%
def choose(case: dict) -> str | None:
    """The name of the option to take; None where there is none.

    case: {"bar": bits, "memory": bytes, "queries": a number, "options": {name: {"bits", "memory", "training",
    "query"}}}. An option will do where it has at most `bar` bits and takes at most `memory` bytes. Of those, the one
    that costs least: its training once, and a query so many times. Of two that cost the same, the one whose training
    costs less, since it is easier to change. There may be no options, and no queries.
    """
    ### BEGIN SOLUTION task 6: the cheapest that will do
    will_do = {
        name: (one["training"] + case["queries"] * one["query"], one["training"])
        for name, one in case["options"].items()
        if one["bits"] <= case["bar"] and one["memory"] <= case["memory"]
    }
    return min(will_do, key=will_do.get) if will_do else None
    ### END SOLUTION


# %%
case = {
    "bar": 2.5,
    "memory": 80,
    "queries": 1000,
    "options": {
        "prompt": {"bits": 2.5, "memory": 20, "training": 0, "query": 9},
        "lora": {"bits": 2.25, "memory": 60, "training": 6000, "query": 2},
        "full": {"bits": 2.125, "memory": 120, "training": 5000, "query": 2},
    },
}
# print(choose(case))

# %% [markdown]
# ## Task 7: or take both
#
# Two LoRA adapters were trained on one base: one knows the films, one the law. Their updates can be added, each times a
# weight, and the sum times a strength λ, with no further training. What comes out is one LoRA update again.


# %%
def adapter_sum(adapters: list, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(A (R, d_in), B (d_out, R)) with B A = strength · (w₁ s₁ B₁ A₁ + w₂ s₂ B₂ A₂ + …), in the adapters' dtype.

    adapters: one or more (A (r, d_in), B (d_out, r), s, w). s: the adapter's own alpha / r; w: its weight in the sum,
    which may be 0 or negative. Ranks may differ; R is the sum of them. strength 0 gives the base, 1 the whole sum.
    """
    ### BEGIN SOLUTION task 7: several adapters, one update
    A = np.concatenate([A for A, _, _, _ in adapters])  # (R, d_in)
    B = np.concatenate([B * A.dtype.type(strength * w * s) for A, B, s, w in adapters], axis=1)  # (d_out, R)
    return A, B
    ### END SOLUTION
