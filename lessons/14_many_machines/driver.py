"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor, nn, optim
from minilora.functional import cross_entropy


class Line:
    """What `send` is: notes who sends how many bytes. Where it is dead, zeros arrive."""

    def __init__(self, is_dead=False):
        self.is_dead, self.messages = is_dead, []

    def __call__(self, source, target, numbers):
        numbers = np.array(numbers)
        self.messages.append((int(source), int(target), numbers.nbytes))
        return np.zeros_like(numbers) if self.is_dead else numbers

    def facts(self, ranks):
        known = [0 <= source < ranks and 0 <= target < ranks for source, target, _ in self.messages]
        sent = [sum(size for source, _, size in self.messages if source == rank) for rank in range(ranks)]
        largest = max((size for _, _, size in self.messages), default=0)
        return {"sent": sent, "largest": largest, "messages": len(self.messages), "known": all(known)}


def reduced(student, buffers):
    """sums = all_reduce(buffers, send)"""
    line, given = Line(), [buffer.copy() for buffer in buffers]
    sums = student.all_reduce(given, line)
    unchanged = all(np.array_equal(a, b) for a, b in zip(given, buffers, strict=True))
    return {"sums": sums, "unchanged": unchanged} | line.facts(len(buffers))


def over_a_dead_line(student, buffers):
    """sums = all_reduce(buffers, send), where send returns zeros: nothing arrives"""
    return student.all_reduce([buffer.copy() for buffer in buffers], Line(is_dead=True))


def averaged(student, gradients, counts):
    """averages = average(gradients, counts, send)"""
    line = Line()
    return {"averages": student.average(gradients, counts, line)} | line.facts(len(gradients))


class Model(nn.Module):
    """x (n, 3) -> logits (n, 3), in float64; `frozen` does not train."""

    def __init__(self):
        rng = np.random.default_rng(5)
        self.up = nn.Linear(3, 4, rng=rng)
        self.frozen = nn.Linear(4, 4, rng=rng)
        self.down = nn.Linear(4, 3, rng=rng)
        for p in self.parameters():
            p.data = p.data.astype("float64")
        self.frozen.requires_grad_(False)
        self.rows = 0  # that it has seen

    def forward(self, x):
        x = x if isinstance(x, Tensor) else Tensor(x)
        self.rows += len(x)
        return self.down(self.frozen(self.up(x).tanh()).tanh())


def optimizer_of(model, kind):
    return getattr(optim, kind)([p for p in model.parameters() if p.requires_grad], lr=0.1)


def weights(model):
    return {name: p.data.copy() for name, p in model.named_parameters()}


def local(student, batch, rank, size):
    """The mean loss of what a rank takes of a batch, on a fresh model, its gradients, and how many targets counted."""
    model = Model()
    x, targets = (student.shard(array, rank, size) for array in batch)
    mean = cross_entropy(model(Tensor(x)), targets)
    mean.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {"loss": mean.item(), "gradients": found, "count": int(np.sum(targets >= 0))}


def alone(batches, kind):
    """What one machine does with the whole batches: its losses, and its weights after each step."""
    model = Model()
    own = optimizer_of(model, kind)
    losses, states = [], []
    for x, targets in batches:
        own.zero_grad()
        mean = cross_entropy(model(Tensor(x)), targets)
        mean.backward()
        own.step()
        losses.append(mean.item())
        states.append(weights(model))
    return {"losses": losses, "states": states}


def together(student, batches, size, kind):
    """losses = [train_step(replicas, optimizers, x, targets, send) for x, targets in batches]"""
    replicas = [Model() for _ in range(size)]
    optimizers = [optimizer_of(replica, kind) for replica in replicas]
    start, line, losses, states = weights(replicas[0]), Line(), [], []
    for x, targets in batches:
        losses.append(student.train_step(replicas, optimizers, x, targets, line))
        states.append({f"replica {rank}": weights(replica) for rank, replica in enumerate(replicas)})
    facts = {"start": start, "states": states, "losses": losses, "alone": alone(batches, kind)}
    facts["rows"] = [replica.rows for replica in replicas]
    facts["are numbers"] = not any(isinstance(loss, Tensor) for loss in losses)
    facts["local"] = [local(student, batches[0], rank, size) for rank in range(size)]
    return facts | line.facts(size)
