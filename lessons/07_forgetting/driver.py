"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

from itertools import count

import numpy as np

from minilora import Tensor, nn


class Bigram(nn.Module):
    """A language model that looks at one token: a row of logits for each. In training, dropout falls on them."""

    def __init__(self, table):
        self.table = nn.Embedding.from_array(table)
        self.frozen = nn.Embedding.from_array(0 * table).requires_grad_(False)
        self.dropout = nn.Dropout(0.5, seed=0)
        self.modes, self.graphs = [], []

    def forward(self, ids):
        logits = self.dropout(self.table(ids) + self.frozen(ids))
        self.modes.append("training" if self.training else "evaluation")
        self.graphs.append(logits.requires_grad)
        return logits


def probed(student, table, batches, characters, training):
    """probe(model.train(training), batches, characters), for a table of logits with dropout; then with another table"""
    model = Bigram(table)
    model.train(training)
    model.table.weight.grad = np.ones_like(table)
    bits = student.probe(model, batches, characters)
    modes, graphs = list(model.modes), list(model.graphs)
    facts = {
        "modes": modes,
        "graphs": graphs,
        "bits": bits,
        "after": {"training": bool(model.training), "dropout": bool(model.dropout.training)},
        "trains": [name for name, p in model.named_parameters() if p.requires_grad],
        "graph afterwards": bool(model(batches[0]["input_ids"]).requires_grad),
        "gradient": model.table.weight.grad,
    }
    drawn = nn.Linear(1, 2).weight.numpy()
    model.table = nn.Embedding.from_array(-table)
    model.train(not training)
    bits = student.probe(model, batches, characters)
    facts["is drawn anew"] = not np.array_equal(nn.Linear(1, 2).weight.numpy(), drawn)
    return facts | {"a second probe": {"bits": bits, "training": bool(model.training)}}


def rows_from(first):
    """Return rows that can be told apart: [first, first], [first + 1, first + 1], …"""
    return (np.array([number, number]) for number in count(first))


def mixed(student, share, rows, batches):
    """replay = Replay(new, old, share, rows); then next_batch() again and again. Old rows are [1000, 1000], …"""
    replay = student.Replay(rows_from(0), rows_from(1000), share, rows)
    return [replay.next_batch() for _ in range(batches)]


def two_replays(student):
    """two Replays with rows of their own, share 0.35 and 0.1, 4 rows: next_batch() of one, of the other, ten times"""
    replays = [student.Replay(rows_from(0), rows_from(1000), share, 4) for share in (0.35, 0.1)]
    batches = [[replay.next_batch() for replay in replays] for _ in range(10)]
    return [list(mine) for mine in zip(*batches, strict=True)]


def refused(student, share):
    """Replay(new, old, share, rows=4)"""
    student.Replay(rows_from(0), rows_from(1000), share, 4)
    return "a Replay"


def rehearsed(student, old, new, share, steps):
    """a model without context that knows the old row, trained with the batches of Replay(new, old, share, rows=4)"""

    def endless(row):
        while True:
            yield row.copy()

    replay = student.Replay(endless(new), endless(old), share, 4)
    size = 1 + max(old.max(), new.max())
    logits = np.log(np.bincount(old, minlength=size) / len(old) + 1e-6)
    for _ in range(steps):
        seen = np.bincount(np.asarray(replay.next_batch()).ravel(), minlength=size)
        p = np.exp(logits - logits.max())
        logits = logits + 0.5 * (seen / seen.sum() - p / p.sum())
    return logits


class Lamp(nn.Module):
    """A module that can be switched but is not a SideLayer."""

    is_on = True


class Model(nn.Module):
    """Two SideLayers in a row and a Lamp. off: the first layer is off from the start."""

    def __init__(self, side_layer, W, updates, off):
        linears = [(nn.Linear.from_arrays(w), nn.Linear.from_arrays(u)) for w, u in zip(W, updates, strict=True)]
        self.layers = [side_layer(base, update) for base, update in linears]
        self.layers[0].is_on = not off
        self.lamp = Lamp()

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def states(self):
        return [bool(layer.is_on) for layer in self.layers]


class Counted(nn.Module):
    """A Linear that counts its calls."""

    def __init__(self, weight):
        self.linear = nn.Linear.from_arrays(weight)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.linear(x)


def one_layer(student, x, W, U, is_on, mode):
    """layer = SideLayer(base, update).train(…); layer.is_on = is_on; y = layer(x); y.sum().backward()"""
    layer = student.SideLayer(nn.Linear.from_arrays(W), Counted(U))
    layer.is_on = is_on
    layer.train(mode == "training")
    x = Tensor(x, requires_grad=True)
    with np.errstate(all="ignore"):
        y, base = layer(x), nn.Linear.from_arrays(W)(x)
        if not isinstance(y, Tensor) or not y.requires_grad:
            return {"kind": "a Tensor without a graph" if isinstance(y, Tensor) else type(y).__name__}
        y.sum().backward()
    facts = {"kind": "Tensor", "base": base.numpy(), "dx": x.grad, "dU": layer.update.linear.weight.grad}
    facts["is the update computed"] = layer.update.calls > 0
    return {("y" if is_on else "y, off") + (", in evaluation mode" if mode == "evaluation" else ""): y} | facts


def trained(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


def modes(model):
    return [module.training for _, module in model.named_modules()]


def switched(student, x, W, updates, off, form, mode="training"):
    """with adapter_off(model): …, for a model of two SideLayers; is_on of both within and after the block"""
    kind = type("Special", (student.SideLayer,), {}) if form == "of a subclass" else student.SideLayer
    whole = model = Model(kind, W, updates, off)
    whole.layers[1].base.train(mode == "training")
    before = modes(whole)
    if form == "one layer at two paths":
        whole.layers[1] = whole.layers[0]
    elif form == "the model itself":
        model = whole.layers[0]
    elif form == "within another module":
        model = nn.Module()
        model.inner = {"the model": whole}
    elif form == "within a SideLayer":
        model = student.SideLayer(*whole.layers)
    end = "" if form == "in a list" else f", {form}"
    with student.adapter_off(model):
        y, within, trains = whole(Tensor(x, requires_grad=True)), whole.states(), trained(whole)
        has_graph, has_modes, lamp = y.requires_grad, modes(whole) == before, whole.lamp.is_on
        whole.layers[0].is_on = off  # the opposite of before
    facts = {f"within{end}": within, f"after{end}": whole.states(), "y": y.numpy()}
    facts |= {"graph within": has_graph, "modes within": has_modes, "lamp within": lamp}
    return facts | {"trains within": trains, "trains after": trained(whole)}


def nested(student, x, W, updates):
    """with adapter_off(model): with adapter_off(model): …; is_on after the inner block and after the outer one"""
    model = Model(student.SideLayer, W, updates, False)
    with student.adapter_off(model):
        with student.adapter_off(model):
            pass
        inner = model.states()
    return {"inner": inner, "outer": model.states()}


def interrupted(student, x, W, updates, kind):
    """with adapter_off(model): raise an exception; is_on afterwards, and whether the exception came through"""
    model, came = Model(student.SideLayer, W, updates, False), False
    error = {"KeyError": KeyError, "KeyboardInterrupt": KeyboardInterrupt}[kind]
    try:
        with student.adapter_off(model):
            raise error("from within the block")
    except error:
        came = True
    return {"after": model.states(), "came": came}
