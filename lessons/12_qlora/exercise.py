# Made from solution.py by `python -m lessons.build`. Write here, then: minilora check 12
# %% [markdown]
# # Lesson 12: QLoRA
#
# Five short tasks: count the memory, multiply with a weight that is stored in 4 bits, make it a layer that learns,
# merge what it learned in three ways, and measure what is left. The reading is README.md beside this file.
# `minilora check 12` says how far you are, `minilora check 12 --hint` helps.
#
# Lesson 11's functions come from the library here, under the names that bitsandbytes gives them:
# `packed, state = quantize_4bit(W)` gives the codes, two a byte, and what belongs to them (absmax, shape);
# `dequantize_4bit(packed, state)` gives an array of W's shape.

# %%
import numpy as np

import minilora.functional as F
from minilora import Tensor, nn
from minilora.quant import dequantize_4bit, quantize_4bit

# %% [markdown]
# ## Task 1: what does it take?
#
# A number that is frozen takes its bits. A number that trains is a float32, with a gradient, and the two moments that
# AdamW keeps (lesson 05), all three in float32 as well.


# %%
def training_bytes(frozen: int, trained: int, bits: float) -> dict[str, float]:
    """Bytes of a training step, by kind: {"weights", "gradients", "optimizer"}. (Activations are left out.)

    frozen: numbers that are frozen, in `bits` bits each (4.5, say); trained: those that train, in float32, which are
    not among the frozen ones. Both are among the weights. Bytes are not rounded.
    """
    raise NotImplementedError("lesson 12, task 1: count the memory by kind")


# %% [markdown]
# ## Task 2: a product and its gradient
#
# In NumPy, with no Tensors: the product with a weight that is stored in 4 bits, and the gradient that flows back
# through it to the input. Between the two calls, no float weight is kept. The codes get no gradient.


# %%
def product(x: np.ndarray, packed: np.ndarray, state) -> np.ndarray:
    """x (n, d_in) -> y (n, d_out).

    packed, state: what quantize_4bit gave for a weight (d_out, d_in).
    """
    raise NotImplementedError("lesson 12, task 2: multiply with a weight in 4 bits, forward and backward")


def product_gradient(g: np.ndarray, packed: np.ndarray, state) -> np.ndarray:
    """g (n, d_out), the gradient of the loss with respect to y -> the gradient with respect to x (n, d_in)."""
    raise NotImplementedError("lesson 12, task 2: multiply with a weight in 4 bits, forward and backward")


# %% [markdown]
# ## Task 3: a layer that learns
#
# The same with Tensors, and with the update from lesson 08 beside it. `F.linear(x, weight, bias)` also takes a function
# in place of the weight: it calls it for the array, and calls it once more in backward. (A Tensor or an array would be
# kept from the forward pass to the backward pass. In a model, all layers' would be alive at once.) `.data` is the array
# of a Tensor, as in lesson 08.


# %%
class QLoraLayer(nn.Module):
    """A Linear whose weight is frozen in 4 bits, and its trainable update.

    packed, state: what quantize_4bit gives for the Linear's weight; bias: a frozen Tensor (d_out,), or None;
    A (r, d_in), B (d_out, r): the arrays given, as Tensors that train (`nn.Parameter(array)`, as in lesson 08);
    scaling: by which the update is multiplied. The Linear that it is made of stays as it is.
    """

    def __init__(self, linear: nn.Linear, A: np.ndarray, B: np.ndarray, scaling: float):
        raise NotImplementedError("lesson 12, task 3: make it a layer")

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out).

        No float array of the weight's size is alive before or after.
        """
        raise NotImplementedError("lesson 12, task 3: make it a layer")


# %% [markdown]
# ## Task 4: three ways of merging
#
# Training is over, and scaling · B A is to be taken into one weight. Into which: the original one, or the one that the
# adapter was trained on? And what if the result is to be in 4 bits again?


# %%
def three_merges(W: np.ndarray, A: np.ndarray, B: np.ndarray, scaling: float) -> dict[str, np.ndarray]:
    """The merged weight as an array (d_out, d_in), three times.

    "original": the update added to W, the float weight from before quantizing. "dequantized": added to the weight that
    the 4-bit layer computes with. "requantized": the weight that a 4-bit layer made of the second computes
    with.
    """
    raise NotImplementedError("lesson 12, task 4: merge in three ways")


# %% [markdown]
# ## Task 5: what survives?
#
# An update was meant to lead from `before` to `before + update`. It led to `after`. What share of the update is in
# that? Of a change that goes another way, nothing counts, however large it is.


# %%
def survives(before: np.ndarray, after: np.ndarray, update: np.ndarray) -> float:
    """The share for which share · update is nearest to after - before: 1 if all is there, 0 if nothing is.

    All three are arrays of one shape, with one axis or several; update is not all zeros. The share may be any number.
    """
    raise NotImplementedError("lesson 12, task 5: measure what survives")
