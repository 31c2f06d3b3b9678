# Made from solution.py by `python -m lessons.build`. Write here, then: minilora check 08
# %% [markdown]
# # Lesson 08: LoRA
#
# Six short tasks: count, start, compute, make it a layer, put it into a model, take it out again. The reading is
# README.md beside this file. `minilora check 08` says how far you are, `minilora check 08 --hint` helps.

# %%
import numpy as np

import minilora.functional as F
from minilora import Tensor, nn

# %% [markdown]
# ## Task 1: what does it cost?
#
# A weight W has shape (d_out, d_in). LoRA trains A (r, d_in) and B (d_out, r) in its place.


# %%
def count_parameters(d_in: int, d_out: int, r: int) -> tuple[int, int]:
    """How many numbers train: (by LoRA of rank r, by full fine-tuning), for one weight (d_out, d_in) without bias."""
    raise NotImplementedError("lesson 08, task 1: count what trains")


# %% [markdown]
# ## Task 2: where do A and B start?
#
# The adapted model must begin as the base, so B A must be zero. But not everything may be zero, or nothing would ever
# learn. Draw A uniformly between -1/√d_in and 1/√d_in. Both are float32, as the base is.


# %%
def start_matrices(d_in: int, d_out: int, r: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A (r, d_in), random by `seed`, and B (d_out, r)."""
    rng = np.random.default_rng(seed)
    raise NotImplementedError("lesson 08, task 2: start A and B")


# %% [markdown]
# ## Task 3: the forward pass
#
# Two paths from x to y: the frozen one through W, and the narrow one through A and B, scaled by alpha / r.


# %%
def lora_forward(x: np.ndarray, W: np.ndarray, A: np.ndarray, B: np.ndarray, alpha: float, r: int) -> np.ndarray:
    """x (n, d_in) -> y (n, d_out): the base's answer plus the update's."""
    raise NotImplementedError("lesson 08, task 3: add the scaled update")


# %% [markdown]
# ## Task 4: a layer
#
# The same with minilora's Tensors, so that gradients flow. `linear(x)` is the base's answer; `linear.weight` has shape
# (d_out, d_in), `linear.bias` is (d_out,) or None. Before you check it, write down what you expect: at the first step,
# is the gradient of A zero? Of B?


# %%
class LoraLayer(nn.Module):
    """A frozen Linear and its trainable update.

    base: the linear itself, frozen; A (r, d_in) and B (d_out, r): Tensors that train; scaling: alpha / r.
    """

    def __init__(self, linear: nn.Linear, r: int, alpha: float, seed: int):
        raise NotImplementedError("lesson 08, task 4: make it a layer")

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out)."""
        raise NotImplementedError("lesson 08, task 4: make it a layer")


# %% [markdown]
# ## Task 5: into a model
#
# `model.named_modules()` gives (path, module) pairs such as ("layers.0.q_proj", Linear); `model.replace(path, new)`
# swaps one; `module.requires_grad_(False)` freezes everything below it.


# %%
def inject(model: nn.Module, targets: list[str], r: int, alpha: float, seed: int = 0) -> list[str]:
    """Put a LoraLayer in place of each Linear whose last name is in `targets`; only their A's and B's train then.

    seed: for the A's; all layers may share it. Returns the paths, in the model's order. Raises ValueError where a
    target matches no Linear.
    """
    raise NotImplementedError("lesson 08, task 5: replace the targets, freeze the rest")


# %% [markdown]
# ## Task 6: and out again
#
# W + (alpha / r) B A is a weight like any other. Where it replaces the layer, the update costs nothing any more.
# `layer.A.data` is the array of a Tensor; `nn.Linear.from_arrays(weight, bias)` makes a Linear, bias an array or None.


# %%
def merge(model: nn.Module) -> list[str]:
    """Put a plain Linear that computes the same in place of each LoraLayer; returns the paths.

    The layers' bases stay as they are, and whatever else trains still does; whether the new Linears train is up to you.
    Raises ValueError where there is no LoraLayer: whoever merges twice has lost track.
    """
    raise NotImplementedError("lesson 08, task 6: merge, once")
