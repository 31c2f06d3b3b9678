# %% [markdown]
# # Lesson 09: Adapters
#
# Six short tasks: count, compute, look at one input, make it a module, put it behind another module, put it into a
# model. The reading is README.md beside this file. `minilora check 09` says how far you are, `minilora check 09 --hint`
# helps. The activation f is ReLU throughout: max(0, ·).

# %%
import numpy as np

import minilora.functional as F
from minilora import Tensor, nn

# %% [markdown]
# ## Task 1: what does it cost?
#
# An adapter has a weight and a bias down, W₁ (m, d) and b₁ (m,), and a weight and a bias up, W₂ (d, m) and b₂ (d,).


# %%
def count_parameters(d: int, m: int, blocks: int, placement: str) -> int:
    """How many numbers train in a model of so many blocks, with adapters of width m on a stream of width d.

    placement: "houlsby" (behind attention and behind the MLP of each block) or "pfeiffer" (behind the MLP alone).
    Raises ValueError for any other.
    """
    ### BEGIN SOLUTION task 1: count what trains
    adapters = {"houlsby": 2, "pfeiffer": 1}
    if placement not in adapters:
        raise ValueError(f"placement must be houlsby or pfeiffer, not {placement!r}")
    return blocks * adapters[placement] * (2 * d * m + m + d)
    ### END SOLUTION


# %% [markdown]
# ## Task 2: the forward pass
#
# Down, ReLU, up, and what was there before is added.


# %%
def adapter_forward(h: np.ndarray, W1: np.ndarray, b1: np.ndarray, W2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    """h (n, d), W1 (m, d), b1 (m,), W2 (d, m), b2 (d,) -> (n, d)."""
    ### BEGIN SOLUTION task 2: down, ReLU, up, residual
    notes = np.maximum(h @ W1.T + b1, 0)  # (n, d) -> (n, m)
    return h + notes @ W2.T + b2
    ### END SOLUTION


# %% [markdown]
# ## Task 3: which update is it, at this input?
#
# Move h by a small δ (d,). The adapter's output moves by δ + J δ, with a matrix J (d, d). For LoRA that matrix would be
# the same at every input. Which is it here? Think of the m notes: which of them pass δ on, and which do not?


# %%
def change_at(h: np.ndarray, W1: np.ndarray, b1: np.ndarray, W2: np.ndarray) -> np.ndarray:
    """J (d, d) at the one input h (d,), without the residual's share. None of the m sums W1 @ h + b1 is exactly 0."""
    ### BEGIN SOLUTION task 3: find the update at one input
    is_open = W1 @ h + b1 > 0  # (m,)
    return W2[:, is_open] @ W1[is_open]
    ### END SOLUTION


# %% [markdown]
# ## Task 4: a module
#
# The same with minilora's Tensors. `nn.Linear.from_arrays(weight, bias)` makes a Linear that trains, and `F.relu(t)` is
# the ReLU for Tensors. Before you check it, write down what you expect at the first step: which of the four gradients
# are zero?


# %%
class Adapter(nn.Module):
    """A bottleneck adapter that begins as the identity.

    down: nn.Linear (d -> m); up: nn.Linear (m -> d). down.weight starts uniform in ±1/√d, by `seed`; all else is zero.
    All four arrays are float32.
    """

    def __init__(self, d: int, m: int, seed: int):
        rng = np.random.default_rng(seed)
        ### BEGIN SOLUTION task 4: make it a module
        bound = 1 / np.sqrt(d)
        W1 = rng.uniform(-bound, bound, (m, d)).astype("float32")
        self.down = nn.Linear.from_arrays(W1, np.zeros(m, dtype="float32"))
        self.up = nn.Linear.from_arrays(np.zeros((d, m), dtype="float32"), np.zeros(d, dtype="float32"))
        ### END SOLUTION

    def forward(self, h: Tensor) -> Tensor:
        """h (..., d) -> (..., d)."""
        ### BEGIN SOLUTION task 4: make it a module
        return h + self.up(F.relu(self.down(h)))
        ### END SOLUTION


# %% [markdown]
# ## Task 5: behind a module
#
# The module may be anything, and may take more than x: attention is given rotary tables and a mask as well.
# `module.requires_grad_(False)` freezes it, as in lesson 08. Gradients still have to pass through it: adapters of the
# layers below wait for them.


# %%
class Behind(nn.Module):
    """A frozen module, and an adapter that reads what it returns.

    module: any nn.Module that returns (..., d), frozen; adapter: the Adapter, which trains.
    """

    def __init__(self, module: nn.Module, adapter: Adapter):
        ### BEGIN SOLUTION task 5: put it behind a module
        self.module = module.requires_grad_(False)
        self.adapter = adapter
        ### END SOLUTION

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        """x and all other arguments are the module's."""
        ### BEGIN SOLUTION task 5: put it behind a module
        return self.adapter(self.module(x, *args, **kwargs))
        ### END SOLUTION


# %% [markdown]
# ## Task 6: into a model
#
# In each block of a model the attention is called self_attn and the MLP mlp: paths such as "layers.0.self_attn", or
# "model.layers.0.mlp". `model.named_modules()` gives (path, module) pairs, `model.replace(path, new)` swaps one.


# %%
def insert(model: nn.Module, d: int, m: int, placement: str, seed: int = 0) -> list[str]:
    """Put adapters of width m into a model with a stream of width d. Afterwards the adapters train, and nothing else.

    placement: as in task 1; where the model has no such module, or the placement is another, ValueError is raised.
    The i-th adapter, in the model's order, starts from seed + i. Returns the paths of the modules that have one now.
    """
    ### BEGIN SOLUTION task 6: place the adapters, freeze the rest
    places = {"houlsby": ("self_attn", "mlp"), "pfeiffer": ("mlp",)}
    if placement not in places:
        raise ValueError(f"placement must be houlsby or pfeiffer, not {placement!r}")
    chosen = [(path, module) for path, module in model.named_modules() if path.split(".")[-1] in places[placement]]
    if not chosen:
        raise ValueError(f"the model has no {' or '.join(places[placement])}")
    model.requires_grad_(False)
    for i, (path, module) in enumerate(chosen):
        model.replace(path, Behind(module, Adapter(d, m, seed + i)))
    return [path for path, _ in chosen]
    ### END SOLUTION
