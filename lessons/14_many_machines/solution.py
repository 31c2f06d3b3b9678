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
    ### BEGIN SOLUTION task 1: each row to one rank
    rows = len(batch)
    if rows < size:
        raise ValueError(f"{rows} rows are too few for {size} ranks")
    return batch[rank * rows // size : (rank + 1) * rows // size]
    ### END SOLUTION


# %% [markdown]
# ## Task 2: one buffer
#
# A model has hundreds of gradients, and each message costs time however short it is. So all of them go into one flat
# buffer. Every rank must put them in the same order, also where its dictionary was filled in another one: take the
# names sorted. A parameter that is frozen has no gradient: None. It takes no place in the buffer.


# %%
def flatten(gradients: dict[str, np.ndarray | None]) -> np.ndarray:
    """All gradients in one array (numbers,): name after name, sorted; each row after row."""
    ### BEGIN SOLUTION task 2: into one buffer and back
    return np.concatenate([gradients[name].reshape(-1) for name in sorted(gradients) if gradients[name] is not None])
    ### END SOLUTION


def unflatten(buffer: np.ndarray, like: dict[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
    """The way back: the names of `like`, each with its numbers in the shape that it has there; None stays None.

    The buffer is in the order of `flatten`.
    """
    ### BEGIN SOLUTION task 2: into one buffer and back
    arrays, start = dict.fromkeys(like), 0
    for name in sorted(like):
        if like[name] is not None:
            end = start + like[name].size
            arrays[name] = buffer[start:end].reshape(like[name].shape)
            start = end
    return arrays
    ### END SOLUTION


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
    ### BEGIN SOLUTION task 3: a ring
    n = len(buffers)
    pieces = [np.array_split(buffer, n) for buffer in buffers]  # [rank][piece]
    for step in range(2 * (n - 1)):
        for rank in range(n):
            target, piece = (rank + 1) % n, (rank - step) % n
            arrived = send(rank, target, pieces[rank][piece])
            if step < n - 1:
                arrived = pieces[target][piece] + arrived
            pieces[target][piece] = arrived
    return [np.concatenate(own) for own in pieces]
    ### END SOLUTION


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
    ### BEGIN SOLUTION task 4: weigh by what was counted
    total = sum(counts)
    buffers = [flatten(own) * (count / total) for own, count in zip(gradients, counts, strict=True)]
    return [unflatten(buffer, own) for buffer, own in zip(all_reduce(buffers, send), gradients, strict=True)]
    ### END SOLUTION


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
    ### BEGIN SOLUTION task 5: shard, backward, average, step
    gradients, counts, losses = [], [], []
    for rank, (replica, optimizer) in enumerate(zip(replicas, optimizers, strict=True)):
        own = shard(targets, rank, len(replicas))
        optimizer.zero_grad()
        loss = F.cross_entropy(replica(shard(x, rank, len(replicas))), own)
        loss.backward()
        gradients.append({name: p.grad for name, p in replica.named_parameters()})
        counts.append(int((own != -100).sum()))
        losses.append(loss.item())
    for replica, optimizer, averaged in zip(replicas, optimizers, average(gradients, counts, send), strict=True):
        for name, p in replica.named_parameters():
            p.grad = averaged[name]
        optimizer.step()
    return float(np.average(losses, weights=counts))
    ### END SOLUTION


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
    ### BEGIN SOLUTION task 6: compute, then communicate
    messages = 2 * (ranks - 1)
    return compute / ranks + messages * (latency + 8 * nbytes / ranks / bandwidth)
    ### END SOLUTION


def best_ranks(compute: float, nbytes: int, bandwidth: float, latency: float, most: int) -> int:
    """The number of ranks, from 1 to `most`, with the shortest step; of equal ones the smallest."""
    ### BEGIN SOLUTION task 6: compute, then communicate
    return min(range(1, most + 1), key=lambda ranks: step_seconds(compute, nbytes, ranks, bandwidth, latency))
    ### END SOLUTION
