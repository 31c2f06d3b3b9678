# Made from solution.py by `python -m lessons.build`. Write here, then: minilora check 14
# %% [markdown]
# # Lesson 14: one machine is not enough
#
# Six tasks: share a batch out, put all gradients into one buffer, add up buffers over a ring, average, take a step that
# many machines take together, and find how many machines are too many. The reading is README.md beside this file, and
# ring.md for tasks 2 and 3. `minilora check 14` says how far you are, `minilora check 14 --hint` helps.
#
# The machines are called ranks, and count from 0. Here they live in one process, in lists with a place for each rank;
# what goes from one to another goes through `send(source, target, numbers)`, which returns the numbers as they arrive
# at `target`. A rank knows its own numbers and what arrived there. All else is on another machine.

# %%
import numpy as np

import minilora.functional as F
from minilora import nn


class Transport:
    """A `send` to try things with. sent: {rank: bytes that it has sent}."""

    def __init__(self):
        self.sent: dict[int, int] = {}

    def __call__(self, source: int, target: int, numbers: np.ndarray) -> np.ndarray:
        self.sent[source] = self.sent.get(source, 0) + numbers.nbytes
        return numbers.copy()


# %% [markdown]
# ## Task 1: who reads what?
#
# A global batch has rows, and each goes to one rank. Rows do not always come in multiples of the ranks; what is left
# over must not be lost, and no rank should wait long for another.


# %%
def shard(batch: np.ndarray, rank: int, size: int) -> np.ndarray:
    """The rows (axis 0) of `batch` that `rank` of `size` ranks takes.

    Which rows these are follows from len(batch), rank and size alone, so that inputs and targets are shared out alike.
    Each row goes to exactly one rank, and the numbers of rows of any two ranks differ by at most one. Raises
    ValueError where there are fewer rows than ranks: one would have nothing to do.
    """
    raise NotImplementedError("lesson 14, task 1: each row to one rank")


# %% [markdown]
# ## Task 2: one buffer
#
# A model has hundreds of gradients, and each message costs time however short it is. So all of them go into one flat
# buffer. Every rank must put them in the same order, also where its dictionary was filled in another one: take the
# names sorted. A parameter that is frozen has no gradient: None. It takes no place in the buffer.


# %%
def flatten(gradients: dict[str, np.ndarray | None]) -> np.ndarray:
    """All gradients in one array (numbers,): name after name, sorted; each row after row."""
    raise NotImplementedError("lesson 14, task 2: into one buffer and back")


def unflatten(buffer: np.ndarray, like: dict[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
    """The way back: the names of `like`, each with its numbers in the shape that it has there; None stays None.

    The buffer is in the order of `flatten`.
    """
    raise NotImplementedError("lesson 14, task 2: into one buffer and back")


# %% [markdown]
# ## Task 3: add up over a ring
#
# The ranks sit in a ring. Cut each buffer into as many pieces as there are ranks. In a first round of n - 1 steps, each
# rank hands a piece to the next one, which adds it to its own; in a second round, finished pieces are handed on in the
# same way, and replace what is there. On a network all ranks of a step send at once; here they may take turns.


# %%
def all_reduce(buffers: list[np.ndarray], send) -> list[np.ndarray]:
    """For each rank, the sum of all ranks' buffers. buffers[rank]: (numbers,), of one length at all ranks.

    Each of n ranks calls `send` at most 2 (n - 1) times, with at most 1/n of a buffer (rounded up) each time; one rank
    alone sends nothing. The sums are equal at all ranks to the last bit. The buffers that were given stay as they are.
    """
    raise NotImplementedError("lesson 14, task 3: a ring")


# %% [markdown]
# ## Task 4: the average
#
# Each rank has the gradient of its own mean loss. A mean of means is the mean of all only where all have counted as
# many, and they have not: some targets do not count (padding), and rows do not divide. What is wanted is the gradient
# that one machine would have got from the whole batch. Every rank knows all counts: it can count in the targets of the
# whole batch, and they need no `send`. (A NumPy number, such as np.float64(0.8), turns a float32 array into float64; a
# Python number does not.)


# %%
def average(gradients: list[dict[str, np.ndarray | None]], counts: list[int], send) -> list[dict]:
    """For each rank, the gradient of the mean loss over all targets, by one all_reduce for all gradients.

    gradients[rank]: of the mean loss over the counts[rank] targets of that rank. A count may be 0, though
    not all of them (in task 5, each rank has at least one target).
    """
    raise NotImplementedError("lesson 14, task 4: weigh by what was counted")


# %% [markdown]
# ## Task 5: a step together
#
# The replicas are equal before, and must be equal afterwards: each takes its shard, finds its gradient, and steps with
# the average. `F.cross_entropy(logits, targets)` is the mean over the targets that are not -100, a Tensor: it has
# `.backward()` and `.item()`. An optimizer has `.zero_grad()` and `.step()`. `model.named_parameters()` gives pairs of
# a name and a parameter p, whose gradient is `p.grad`: an array or None, which may be assigned.


# %%
def train_step(replicas: list[nn.Module], optimizers: list, x: np.ndarray, targets: np.ndarray, send) -> float:
    """One step of all replicas on the global batch x (rows, …), targets (rows, …), as one model would take it.

    replicas[rank](x) gives logits (rows, …, classes); optimizers[rank] is its own. In each shard at least one target
    counts. What is in p.grad from before the call does not count.
    Returns the mean loss over all targets that count, from before the step, as a number. (The losses of the ranks are
    single numbers: they need no `send`.)
    """
    raise NotImplementedError("lesson 14, task 5: shard, backward, average, step")


# %% [markdown]
# ## Task 6: how many are too many?
#
# The seconds of a step: what there is to compute is shared out, and then come the 2 (n - 1) steps of the ring, each
# with the link's latency and a piece to carry. Links are sold in bits per second, and a byte has 8.


# %%
def step_seconds(compute: float, nbytes: int, ranks: int, bandwidth: float, latency: float) -> float:
    """The seconds of a step.

    compute: seconds for the global batch on one machine; nbytes: of the buffer; bandwidth: bits per second; latency:
    seconds that a message takes however short it is. A piece has nbytes / ranks bytes, not rounded.
    """
    raise NotImplementedError("lesson 14, task 6: compute, then communicate")


def best_ranks(compute: float, nbytes: int, bandwidth: float, latency: float, most: int) -> int:
    """The number of ranks, from 1 to `most`, with the shortest step; of equal ones the smallest."""
    raise NotImplementedError("lesson 14, task 6: compute, then communicate")
