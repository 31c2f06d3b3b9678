"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor, nn, optim
from minilora.tensor import is_recording


class Body(nn.Module):
    """x (n, 3) -> (n, 4): an input layer, eleven more so that one path begins another, a norm and dropout."""

    def __init__(self, rng, depth=2, dropout=0.0):
        self.embed = nn.Linear(3, 4, bias=False, rng=rng)
        self.layers = [nn.Linear(4, 4, rng=rng) for _ in range(depth)]
        self.norm = nn.LayerNorm(4)
        self.dropout = nn.Dropout(dropout)
        self.calls = []

    def forward(self, x):
        self.calls.append((len(x), is_recording(), self.dropout.training))
        x = self.embed(x)
        for layer in self.layers:
            x = x + layer(x).tanh()
        return self.dropout(self.norm(x))


class Model(nn.Module):
    """body, head, and head_scale, whose name begins like the head's."""

    def __init__(self, depth=2, dropout=0.0, seed=1):
        rng = np.random.default_rng(seed)
        self.body = Body(rng, depth, dropout)
        self.head_scale = nn.Linear(4, 1, bias=False, rng=rng)
        self.head = nn.Linear(4, 2, rng=rng)

    def forward(self, x):
        return self.head(self.body(x))


def training(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


def mark(model, names):
    for name, p in model.named_parameters():
        p.requires_grad = name in names


def arrays(model):
    return {name: p.data.copy() for name, p in model.named_parameters()}


def counted(student, frozen, is_tied):
    """count_parameters(model), some of which is frozen"""
    model = Model()
    if is_tied:
        model.head = nn.Linear.from_arrays(model.head.weight.data)
        model.head.weight = model.body.embed.weight
    for path in frozen:
        model.get_submodule(path).requires_grad_(False)
    return student.count_parameters(model)


def frozen(student, paths, before):
    """names = freeze_all_but(model, paths), where only the modules at `before` trained"""
    model = Model(depth=11)
    model.body.head = nn.Linear(4, 4, bias=False)
    begins = [path and f"{path}." for path in before]
    mark(model, [name for name, _ in model.named_parameters() if any(name.startswith(begin) for begin in begins)])
    return {"names": student.freeze_all_but(model, list(paths)), "trains": training(model)}


def refused(student, paths):
    """freeze_all_but(model, paths), where everything trained before, and one of the paths is no module"""
    model = Model(depth=2)
    before, kind = training(model), "nothing"
    try:
        student.freeze_all_but(model, paths)
    except NotImplementedError:
        raise
    except Exception as error:
        kind = "ValueError" if isinstance(error, ValueError) else type(error).__name__
    return {"raised": kind, "unchanged": training(model) == before}


def headed(student, classes, seed, is_frozen):
    """new_head(model, classes, seed), where the old head is tied to another layer"""
    model = Model()
    old_head = model.head = nn.Linear.from_arrays(np.ones((7, 4), dtype="float32"))
    model.other = nn.Linear.from_arrays(model.head.weight.data)
    model.other.weight = model.head.weight
    if is_frozen:
        mark(model, [])
    old = [(p, p.requires_grad) for p in model.parameters()]
    student.new_head(model, classes, seed)
    head = model.head
    facts = {"kind": type(head).__name__, "other": model.other.weight, "has_bias": head.bias is not None}
    facts["is_new"] = head is not old_head
    same = all(p.requires_grad == flag for p, flag in old)
    return facts | {"weight": head.weight, "trains": head.weight.requires_grad, "same": same}


def grouped(student, names):
    """make_groups(model, body_lr=0.1, head_lr=0.5, weight_decay=0.01), where only `names` train"""
    model = Model()
    mark(model, names)
    groups = student.make_groups(model, 0.1, 0.5, 0.01)
    name_of = {id(p): name for name, p in model.named_parameters()}
    rows = [
        [name_of.get(id(p), "unknown"), float(group.get("lr", -1)), float(group.get("weight_decay", -1))]
        for group in groups
        for p in group["params"]
    ]
    return {"rows": rows, "sizes": [len(list(group["params"])) for group in groups]}


def stepped(student, names, x, labels, steps):
    """train_step(model, SGD(lr=0.5), x, labels), `steps` times, where only `names` train"""
    model = Model()
    mark(model, names)
    start = arrays(model)
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    losses = [student.train_step(model, optimizer, x, labels) for _ in range(steps)]
    moved = [name for name, p in model.named_parameters() if not np.array_equal(p.data, start[name])]
    state = {name: array for name, array in arrays(model).items() if name.startswith("head.")}
    facts = {"losses": losses, "is_tensor": any(isinstance(loss, Tensor) for loss in losses), "moved": moved}
    facts |= {"trains": training(model), "head": state}
    return facts | {"features": features(x), "start": start}


def features(x):
    """What the body of a fresh model gives, without dropout."""
    model = Model()
    return model.body(Tensor(x)).numpy()


def extracted(student, batches):
    """extract_features(model, batches), for a model with dropout in training mode"""
    model = Model(dropout=0.5)
    model.train()
    found = student.extract_features(model, batches)
    form = type(found).__name__
    if isinstance(found, np.ndarray) and found.dtype == object:
        form = "ndarray of objects"
    if form == "list" and all(isinstance(item, list) for item in found):
        form = "list of lists"
    calls = list(model.body.calls)
    clean = Model(dropout=0.5).eval()
    return {
        "found": found if form != "ndarray of objects" else None,
        "form": form,
        "rows": [rows for rows, _, _ in calls],
        "recorded": any(recorded for _, recorded, _ in calls),
        "dropped": any(is_on for _, _, is_on in calls),
        "training": model.training or model.body.dropout.training,
        "hidden": [clean.body(Tensor(x)).numpy() for x in batches],
        "scores": [clean.head(clean.body(Tensor(x))).numpy() for x in batches],
    }
