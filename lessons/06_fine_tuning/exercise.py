# Made from solution.py by `python -m lessons.build`. Write here, then: minilora check 06
# %% [markdown]
# # Lesson 06: full fine-tuning and feature extraction
#
# Six tasks: count what trains, freeze, put on a new head, hand the optimizer what trains in groups, take a step, and
# run a frozen body once for all. The reading is README.md beside this file. `minilora check 06` says how far you are,
# `minilora check 06 --hint` helps.
#
# A model here is an `nn.Module` with a `body`, from inputs to hidden states (n, d), and a `head`, an `nn.Linear` from
# hidden states to scores (n, classes); `model(x)` is `model.head(model.body(x))`, where x is an array or a Tensor.
# `model.named_parameters()` gives (path, parameter) pairs such as ("body.layers.0.weight", Tensor). There may be other
# modules beside body and head.

# %%
import numpy as np

import minilora.functional as F
from minilora import Tensor, nn, no_grad

# %% [markdown]
# ## Task 1: what trains?
#
# A parameter trains if its `requires_grad` is True; `size` is how many numbers are in it. One that two layers share (a
# head that is tied to the embedding) is one parameter: `named_parameters()` gives it once.


# %%
def count_parameters(model: nn.Module) -> tuple[int, int]:
    """How many numbers (train, there are in all) now. Only looks at the model."""
    raise NotImplementedError("lesson 06, task 1: count what trains")


# %% [markdown]
# ## Task 2: freeze all but a part
#
# ["head"] is feature extraction; ["head", "body.layers.1"] lets a layer go along. A path means all of the module there:
# "body.layers.1" is not "body.layers.10". `model.named_modules()` gives (path, module) pairs, first ("", model) for the
# whole, and `model.get_submodule(path)` one module; `module.requires_grad_(False)` freezes all that is in it.


# %%
def freeze_all_but(model: nn.Module, paths: list[str]) -> list[str]:
    """Afterwards the parameters of the modules at `paths` train, and no others, whatever trained before.

    Returns the paths of the parameters that train, in the model's order. Raises ValueError where a path is no module of
    the model; "" is the whole model. Without paths, none train.
    """
    raise NotImplementedError("lesson 06, task 2: freeze, then unfreeze")


# %% [markdown]
# ## Task 3: a new head
#
# The old head speaks about the old classes (or the next token); its rows are of no use here, only its width is. The new
# one starts small: normal numbers times 0.02, no bias, so that at first no class is preferred.
# `nn.Linear.from_arrays(weight)` makes a Linear of a float32 array (out, in); it trains, and has no bias.


# %%
def new_head(model: nn.Module, classes: int, seed: int) -> None:
    """Put a fresh Linear (hidden size -> classes) in place of model.head. The old Linear and the rest of the model stay
    as they are.
    """
    rng = np.random.default_rng(seed)
    raise NotImplementedError("lesson 06, task 3: a small one of the same width")


# %% [markdown]
# ## Task 4: parameter groups
#
# The body knows something, the head knows nothing: the head may learn faster. And weight decay pulls matrices towards
# zero; vectors (biases, the scales of norms) are left alone. An optimizer takes a list of groups, each a dictionary:
# {"params": [...], "lr": ..., "weight_decay": ...}.


# %%
def make_groups(model: nn.Module, body_lr: float, head_lr: float, weight_decay: float) -> list[dict]:
    """Groups with all parameters that train, each once, and none that is frozen.

    The parameters of model.head learn at head_lr; all others learn at body_lr. Those with two axes have the weight
    decay, those with one have 0.
    """
    raise NotImplementedError("lesson 06, task 4: each in the group where it belongs")


# %% [markdown]
# ## Task 5: a step
#
# The same however much trains: what is frozen gets no gradient, and the optimizer leaves it alone.
# `F.cross_entropy(scores, labels)` is the mean loss, a Tensor. `optimizer.zero_grad()` drops the gradients that are
# left from before, and `optimizer.step()` moves the parameters.


# %%
def train_step(model: nn.Module, optimizer, x: np.ndarray, labels: np.ndarray) -> float:
    """One step on a batch, x (n, …) of floats or of token ids, and labels (n,). Returns the loss before the step, as a
    number.

    The model is in training mode and stays there. Gradients that are left from before do not count.
    """
    raise NotImplementedError("lesson 06, task 5: forget, forward, backward, step")


# %% [markdown]
# ## Task 6: features, once
#
# A frozen body gives the same hidden states in every epoch, so it need not run in every epoch. Run it once over all
# batches and keep the result; the head then trains on arrays. No graph is needed (`with no_grad():`), and dropout must
# be off (`model.eval()`), or the features would be random. `tensor.numpy()` is a Tensor's array; batches may differ in
# length.


# %%
def extract_features(model: nn.Module, batches: list[np.ndarray]) -> np.ndarray:
    """The hidden states (n, d) of model.body for all batches, each (some of n, …) of floats or of token ids, in order.

    Each call runs the body as it is now, and leaves the model in eval mode, and all else in it as it was.
    """
    raise NotImplementedError("lesson 06, task 6: run the body once, without a graph")
