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
    ### BEGIN SOLUTION task 1: count what trains
    return r * (d_in + d_out), d_in * d_out
    ### END SOLUTION


# %% [markdown]
# ## Task 2: where do A and B start?
#
# The adapted model must begin as the base, so B A must be zero. But not everything may be zero, or nothing would ever
# learn. Draw A uniformly between -1/√d_in and 1/√d_in. Both are float32, as the base is.


# %%
def start_matrices(d_in: int, d_out: int, r: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A (r, d_in), random by `seed`, and B (d_out, r)."""
    rng = np.random.default_rng(seed)
    ### BEGIN SOLUTION task 2: start A and B
    bound = 1 / np.sqrt(d_in)
    A = rng.uniform(-bound, bound, (r, d_in))
    return A.astype("float32"), np.zeros((d_out, r), dtype="float32")
    ### END SOLUTION


# %% [markdown]
# ## Task 3: the forward pass
#
# Two paths from x to y: the frozen one through W, and the narrow one through A and B, scaled by alpha / r.


# %%
def lora_forward(x: np.ndarray, W: np.ndarray, A: np.ndarray, B: np.ndarray, alpha: float, r: int) -> np.ndarray:
    """x (n, d_in) -> y (n, d_out): the base's answer plus the update's."""
    ### BEGIN SOLUTION task 3: add the scaled update
    low = x @ A.T  # (n, d_in) -> (n, r)
    return x @ W.T + (alpha / r) * (low @ B.T)
    ### END SOLUTION


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
        ### BEGIN SOLUTION task 4: make it a layer
        A, B = start_matrices(linear.in_features, linear.out_features, r, seed)
        self.base = linear.requires_grad_(False)
        self.A = nn.Parameter(A)
        self.B = nn.Parameter(B)
        self.scaling = alpha / r
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out)."""
        ### BEGIN SOLUTION task 4: make it a layer
        update = F.linear(F.linear(x, self.A), self.B)
        return self.base(x) + update * self.scaling
        ### END SOLUTION


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
    ### BEGIN SOLUTION task 5: replace the targets, freeze the rest
    linears = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    chosen = [(path, module) for path, module in linears if path.split(".")[-1] in targets]
    unmatched = set(targets) - {path.split(".")[-1] for path, _ in chosen}
    if unmatched:
        raise ValueError(f"no Linear is called {sorted(unmatched)}; there are {[path for path, _ in linears]}")
    model.requires_grad_(False)
    for i, (path, linear) in enumerate(chosen):
        model.replace(path, LoraLayer(linear, r, alpha, seed + i))
    return [path for path, _ in chosen]
    ### END SOLUTION


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
    ### BEGIN SOLUTION task 6: merge, once
    layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
    if not layers:
        raise ValueError("nothing to merge: the model has no LoraLayer")
    for path, layer in layers:
        weight = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
        bias = None if layer.base.bias is None else layer.base.bias.data
        model.replace(path, nn.Linear.from_arrays(weight, bias))
    return [path for path, _ in layers]
    ### END SOLUTION
