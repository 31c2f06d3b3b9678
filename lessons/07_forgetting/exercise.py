# Made from solution.py by `python -m lessons.build`. Write here, then: minilora check 07
# %% [markdown]
# # Lesson 07: catastrophic forgetting
#
# Six short tasks: measure the old task, read what was learned and forgotten off the curves, mix old text in, compute
# what that can save, and switch the new part off. The reading is README.md beside this file. `minilora check 07` says
# how far you are, `minilora check 07 --hint` helps.

# %%
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from minilora import Tensor, nn, no_grad

# %% [markdown]
# ## Task 1: bits
#
# A language model gives logits for the token that comes next: those at position t are about the token at t + 1. In
# `labels`, -100 marks a token that does not count (padding). Logits may be as large as 1,000, and e¹⁰⁰⁰ is more than
# a float can hold. A label whose logit is 1,000 below the largest costs 1,000 / ln 2 = 1,443 bits, not infinitely many.


# %%
def bits_of(logits: np.ndarray, labels: np.ndarray) -> float:
    """The bits that the labels cost together: the sum of -log₂ of their probabilities.

    logits (B, T, V); labels (B, T), whole numbers below V, or -100. The first label of a row is predicted by nothing.
    """
    raise NotImplementedError("lesson 07, task 1: add up the bits of what counts")


# %% [markdown]
# ## Task 2: the probe
#
# A probe looks and leaves no trace. `model(input_ids)` gives logits as a Tensor, `.numpy()` its array. `model.training`
# says in which mode a model is; `model.eval()` and `model.train(True)` change it; under `with no_grad():` no graph is
# built.


# %%
def probe(model: nn.Module, batches: list[dict], characters: int) -> float:
    """Bits per character of a text of so many characters, cut into batches {"input_ids": (B, T), "labels": (B, T)}.

    The model computes in evaluation mode and without a graph, and is afterwards in the mode that it was in.
    """
    raise NotImplementedError("lesson 07, task 2: measure without a trace")


# %% [markdown]
# ## Task 3: learned and forgotten
#
# During a training, both texts were probed now and then. The step that is kept is the one that is best on the *new*
# text: that is what the training was for. What had been forgotten by then?


# %%
def learned_and_forgotten(new: list[float], old: list[float]) -> tuple[int, float, float]:
    """(the index of the probe that is kept, the bits per character that the new text costs less there than before the
    training, those that the old one costs more).

    new, old: bits per character at each probe; those at index 0 are from before the training.
    """
    raise NotImplementedError("lesson 07, task 3: read it off at the step that is kept")


# %% [markdown]
# ## Task 4: replay
#
# A share of each batch is old text. But a tenth of a batch of four rows is no whole number of rows. Over many batches,
# the share must still be met: after n batches, the old rows so far number n · rows · share, to within one row.
#
# The check also trains a small model with your batches, once without replay and once with a quarter of it. The quarter
# must recover at least two thirds of what is forgotten without it.


# %%
class Replay:
    """Batches of new text in which a share of the rows is old text.

    new, old: endless iterators over rows (T,), from which each row is taken once and in order. Raises ValueError
    unless 0 <= share < 1.
    """

    def __init__(self, new: Iterator[np.ndarray], old: Iterator[np.ndarray], share: float, rows: int):
        raise NotImplementedError("lesson 07, task 4: meet the share over many batches")

    def next_batch(self) -> np.ndarray:
        """(rows, T), the rows in any order."""
        raise NotImplementedError("lesson 07, task 4: meet the share over many batches")


# %% [markdown]
# ## Task 5: the price of replay
#
# Take a model that sees no context: it gives each token one probability, whatever came before. Trained for long enough
# on a mixture, it predicts the mixture, p = (1 - share) p_new + share p_old. How many more bits per token does it need
# on each text than a model for that text alone? Before you write it: for a share of 0.1, which of the two is larger?


# %%
def replay_price(p_new: np.ndarray, p_old: np.ndarray, share: float) -> tuple[float, float]:
    """(extra bits per token on the new text, compared with p_new; extra bits per token on the old one, with p_old).

    p_new, p_old (V,): how often each token occurs; some may be 0. Infinite where a token that occurs has probability 0.
    """
    raise NotImplementedError("lesson 07, task 5: compare the mixture with each text")


# %% [markdown]
# ## Task 6: the off switch
#
# What was learned stands beside the frozen base. Off, the layer must give what the base gives: not nearly, but bit for
# bit, even where the training of the update has blown up and left infinities in it.


# %%
class SideLayer(nn.Module):
    """A frozen layer, and one that trains beside it. is_on: whether the second one counts."""

    def __init__(self, base: nn.Module, update: nn.Module):
        self.base = base.requires_grad_(False)
        self.update = update
        self.is_on = True

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out): the sum of both; where is_on is False, what the base gives."""
        raise NotImplementedError("lesson 07, task 6: off is the base, exactly")


@contextmanager
def adapter_off(model: nn.Module):
    """`with adapter_off(model):` all SideLayers of the model are off within the block, and nothing else changes.

    Afterwards each is as it was before, also where the block ends by an exception, and where blocks are nested.
    `model.named_modules()` gives (path, module) pairs of all parts, however deep.
    """
    raise NotImplementedError("lesson 07, task 6: off is the base, exactly")
