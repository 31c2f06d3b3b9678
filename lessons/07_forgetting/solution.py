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
    ### BEGIN SOLUTION task 1: add up the bits of what counts
    logits, labels = np.asarray(logits, dtype="float64")[:, :-1], labels[:, 1:]  # (B, T - 1, V), (B, T - 1)
    logits = logits - logits.max(axis=-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    counts = labels != -100
    chosen = np.take_along_axis(log_p, np.where(counts, labels, 0)[..., None], axis=-1)[..., 0]
    return float(-chosen[counts].sum() / np.log(2))
    ### END SOLUTION


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
    ### BEGIN SOLUTION task 2: measure without a trace
    was_training = model.training
    model.eval()
    with no_grad():
        bits = sum(bits_of(model(batch["input_ids"]).numpy(), batch["labels"]) for batch in batches)
    model.train(was_training)
    return bits / characters
    ### END SOLUTION


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
    ### BEGIN SOLUTION task 3: read it off at the step that is kept
    best = int(np.argmin(new))
    return best, new[0] - new[best], old[best] - old[0]
    ### END SOLUTION


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
        ### BEGIN SOLUTION task 4: meet the share over many batches
        if not 0 <= share < 1:
            raise ValueError(f"a share of {share} cannot be replayed")
        self.new, self.old, self.share, self.rows = new, old, share, rows
        self.given = self.replayed = 0  # rows so far: all, and old ones
        ### END SOLUTION

    def next_batch(self) -> np.ndarray:
        """(rows, T), the rows in any order."""
        ### BEGIN SOLUTION task 4: meet the share over many batches
        self.given += self.rows
        due = int(self.given * self.share) - self.replayed
        self.replayed += due
        return np.stack([next(self.old) for _ in range(due)] + [next(self.new) for _ in range(self.rows - due)])
        ### END SOLUTION


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
    ### BEGIN SOLUTION task 5: compare the mixture with each text
    mixture = (1 - share) * p_new + share * p_old
    prices = []
    for p in (p_new, p_old):
        occurs = p > 0
        with np.errstate(divide="ignore"):
            prices.append(float((p[occurs] * np.log2(p[occurs] / mixture[occurs])).sum()))
    return prices[0], prices[1]
    ### END SOLUTION


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
        ### BEGIN SOLUTION task 6: off is the base, exactly
        if not self.is_on:
            return self.base(x)
        return self.base(x) + self.update(x)
        ### END SOLUTION


@contextmanager
def adapter_off(model: nn.Module):
    """`with adapter_off(model):` all SideLayers of the model are off within the block, and nothing else changes.

    Afterwards each is as it was before, also where the block ends by an exception, and where blocks are nested.
    `model.named_modules()` gives (path, module) pairs of all parts, however deep.
    """
    ### BEGIN SOLUTION task 6: off is the base, exactly
    layers = [module for _, module in model.named_modules() if isinstance(module, SideLayer)]
    before = [layer.is_on for layer in layers]
    for layer in layers:
        layer.is_on = False
    try:
        yield
    finally:
        for layer, was_on in zip(layers, before, strict=True):
            layer.is_on = was_on
    ### END SOLUTION
