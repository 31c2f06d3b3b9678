"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor, nn, optim
from minilora.functional import cross_entropy


def shards(student, batch, targets, size):
    """shard(array, rank, size) at each rank, for array = batch, targets and np.arange(len(batch)), the rows' numbers"""
    parts, refused = {}, []
    arrays = {"batch": batch, "targets": targets, "numbers": np.arange(len(batch)), "again": np.arange(len(batch))}
    for name, array in arrays.items():
        parts[name] = []
        for rank in range(size):
            try:
                parts[name].append(student.shard(array, rank, size))
            except ValueError:
                refused.append(f"{name} at rank {rank}")
    if refused:
        return {"refused": refused}
    numbers = parts["numbers"]
    facts = {"refused": refused, "again": True, "each once": np.sort(np.concatenate(numbers))}
    facts["rows"] = sorted(map(len, numbers))
    for name, array in arrays.items():
        facts[name] = all(np.array_equal(array[n], part) for n, part in zip(numbers, parts[name], strict=True))
    return facts


class Line:
    """A `send` that records who sends how many bytes. It adds a million to the message with number `false`."""

    def __init__(self, false=None):
        self.false, self.messages = false, []

    def __call__(self, source, target, numbers):
        numbers = np.array(numbers)
        self.messages.append((int(source), int(target), numbers.nbytes))
        return numbers + numbers.dtype.type(1e6) if len(self.messages) - 1 == self.false else numbers

    def facts(self, ranks):
        known = [0 <= source < ranks and 0 <= target < ranks for source, target, _ in self.messages]
        sent = [sum(size for source, _, size in self.messages if source == rank) for rank in range(ranks)]
        largest = max((size for _, _, size in self.messages), default=0)
        return {"sent": sent, "largest": largest, "messages": len(self.messages), "known": all(known)}


def reduced(student, buffers):
    """sums = all_reduce(buffers, send)"""
    line, before = Line(), [buffer.copy() for buffer in buffers]
    sums = student.all_reduce(buffers, line)
    unchanged = all(np.array_equal(a, b) for a, b in zip(before, buffers, strict=True))
    return {"sums": sums, "unchanged": unchanged} | line.facts(len(buffers))


def unheard(student, buffers):
    """sums = all_reduce(buffers, send), each time with another message changed by send: which makes no difference?"""
    line = Line()
    right = student.all_reduce(list(buffers), line)
    silent = []
    for number, (source, target, size) in enumerate(line.messages):
        sums = student.all_reduce(list(buffers), Line(number))
        if size and all(np.allclose(a, b, atol=1e3) for a, b in zip(right, sums, strict=True)):
            silent.append(f"message {number}, from rank {source} to rank {target}")
    return silent


def averaged(student, gradients, counts):
    """averages = average(gradients, counts, send)"""
    line = Line()
    averages = student.average(gradients, counts, line)
    averages = tuple(averages) if isinstance(averages, list) else averages
    return {"averages": averages} | line.facts(len(gradients))


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
        self.rows, self.modes = 0, set()  # of the rows that it has seen

    def forward(self, x):
        x = x if isinstance(x, Tensor) else Tensor(x)
        self.rows += len(x)
        self.modes.add("training" if self.training else "evaluation")
        return self.down(self.frozen(self.up(x).tanh()).tanh())


def optimizer_of(model, kind):
    return getattr(optim, kind)([p for p in model.parameters() if p.requires_grad], lr=0.1)


def weights(model):
    return {name: p.data.copy() for name, p in model.named_parameters()}


def local(student, batch, rank, size):
    """Return the mean loss of a rank's shard on a fresh model, its gradients, and the number of counted targets."""
    model = Model()
    x, targets = (student.shard(array, rank, size) for array in batch)
    mean = cross_entropy(model(Tensor(x)), targets)
    mean.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    counts = {"count": int(np.sum(targets >= 0)), "count above 0": int(np.sum(targets > 0)), "rows": len(targets)}
    return {"loss": mean.item(), "gradients": gradients} | counts


def alone(batches, kind):
    """Train on one machine with the whole batches; return its losses, and its weights after each step."""
    model = Model()
    own = optimizer_of(model, kind)
    losses, states, after = [], [], []
    for x, targets in batches:
        own.zero_grad()
        mean = cross_entropy(model(Tensor(x)), targets)
        mean.backward()
        own.step()
        losses.append(mean.item())
        states.append(weights(model))
        after.append(cross_entropy(model(Tensor(x)), targets).item())
    return {"losses": losses, "states": states, "after": after}


def counted(step, counts, rank):
    def counting():
        counts[rank] += 1
        step()

    return counting


def together(student, batches, size, kind, mode="training"):
    """[train_step(replicas, optimizers, x, targets, send) for x, targets in batches], with ones in p.grad before"""
    replicas = [Model().train(mode == "training") for _ in range(size)]
    optimizers = [optimizer_of(replica, kind) for replica in replicas]
    stepped = [0] * size
    for rank in range(size):
        for p in replicas[rank].parameters():
            p.grad = np.ones_like(p.data) if p.requires_grad else None  # of an evaluation, say
        optimizers[rank].step = counted(optimizers[rank].step, stepped, rank)
    start, line, losses, states = weights(replicas[0]), Line(), [], []
    for x, targets in batches:
        losses.append(student.train_step(replicas, optimizers, x, targets, line))
        states.append({f"replica {rank}": weights(replica) for rank, replica in enumerate(replicas)})
    facts = {"start": start, "states": states, "losses": losses, "alone": alone(batches, kind)}
    facts["stepped"] = stepped
    facts["rows"] = [replica.rows for replica in replicas]
    facts["modes"] = [", ".join(sorted(replica.modes)) for replica in replicas]
    facts["trains"] = [[p.requires_grad for p in replica.parameters()] for replica in replicas]
    facts["are numbers"] = not any(isinstance(loss, Tensor) for loss in losses)
    facts["local"] = [local(student, batches[0], rank, size) for rank in range(size)]
    return facts | line.facts(size)
