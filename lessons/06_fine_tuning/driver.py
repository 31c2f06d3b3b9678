"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

from copy import copy

import numpy as np

from minilora import Tensor, nn, optim
from minilora.tensor import is_recording


class Body(nn.Module):
    """x (n, …, inputs) -> (n, 4), the mean of further axes: an input layer, others (with eleven, one path begins
    another), a norm and dropout. inputs None: x holds ids, 0 … 8."""

    def __init__(self, rng, depth=2, dropout=0.0, inputs=3):
        self.embed = nn.Linear(inputs, 4, bias=False, rng=rng) if inputs else nn.Embedding(9, 4, rng=rng)
        self.layers = [nn.Linear(4, 4, rng=rng) for _ in range(depth)]
        self.norm = nn.LayerNorm(4)
        self.dropout = nn.Dropout(dropout)
        self.calls = []

    def forward(self, x):
        self.calls.append((len(x), is_recording(), self.dropout.training))
        x = self.embed(x)
        while x.ndim > 2:
            x = x.mean(axis=1)
        for layer in self.layers:
            x = x + layer(x).tanh()
        return self.dropout(self.norm(x))


class Model(nn.Module):
    """body, head, and head_scale, whose name begins like the head's.

    kinds: "tied": the head's weight is a layer's; "twin": a second norm, equal to the body's; "odd": parameters of the
    model itself, with three axes and with none; "table": a buffer in the body; "inner": a head in the body; "shelf": a
    Linear in a dictionary; "copied": a Linear equal to the head; "loud": a head with large weights.
    """

    def __init__(self, depth=2, dropout=0.0, seed=1, kinds=(), inputs=3, classes=2):
        rng = np.random.default_rng(seed)
        self.body = Body(rng, depth, dropout, inputs)
        self.head_scale = nn.Linear(4, 1, bias=False, rng=rng)
        self.head = nn.Linear(4, classes, rng=rng)
        if "tied" in kinds:
            self.head = nn.Linear.from_arrays(np.zeros((4, 4), dtype="float32"))
            self.head.weight = self.body.layers[0].weight
        if "inner" in kinds:
            self.body.head = nn.Linear(4, 4, bias=False, rng=rng)
        if "twin" in kinds:
            self.twin = nn.LayerNorm(4)
        if "odd" in kinds:
            self.kernel = nn.Parameter(rng.standard_normal((2, 3, 4)).astype("float32"))
            self.gain = nn.Parameter(np.float32(2))
        if "table" in kinds:
            self.body.table = Tensor(np.ones((2, 3), dtype="float32"))
        if "shelf" in kinds:
            self.shelf = {"one": nn.Linear(4, 2, rng=rng)}
        if "copied" in kinds:
            arrays_of_head = [None if p is None else p.data.copy() for p in (self.head.weight, self.head.bias)]
            self.copied = nn.Linear.from_arrays(*arrays_of_head)
        if "loud" in kinds:
            self.head.weight.data = self.head.weight.data * 1000

    def forward(self, x):
        return self.head(self.body(x))


def inputs_of(x):
    return x.shape[-1] if x.dtype.kind == "f" else None


def training(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


def mark(model, names):
    for name, p in model.named_parameters():
        p.requires_grad = name in names


def mark_below(model, paths):
    """Let the parameters of the modules at `paths` train, and no others."""
    marked = {id(weight) for path in paths for weight in model.get_submodule(path).parameters()}
    for weight in model.parameters():
        weight.requires_grad = id(weight) in marked


def arrays(model):
    return {name: p.data.copy() for name, p in model.named_parameters()}


def counted(student, kinds, frozen):
    """count_parameters(model), some of which is frozen"""
    model = Model(kinds=kinds)
    for path in frozen:
        model.get_submodule(path).requires_grad_(False)
    return student.count_parameters(model)


def counts(student, kinds, depth, frozen):
    """count_parameters(model), some of which is frozen; again when all is frozen; again with a larger head"""
    model = Model(depth, kinds=kinds)
    for path in frozen:
        model.get_submodule(path).requires_grad_(False)
    for p in model.parameters():
        p.grad = np.ones_like(p.data) if p.requires_grad else None
    facts = {"counts": student.count_parameters(model), "what trains afterwards": training(model)}
    facts["gradients"] = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    mark_below(model, [])
    facts["all frozen"] = student.count_parameters(model)
    model.head = nn.Linear(4, 9)
    return facts | {"a larger head": student.count_parameters(model)}


def frozen(student, paths, before, kinds):
    """names = freeze_all_but(model, paths), where only the modules at `before` trained; then for another head"""
    model = Model(depth=11, kinds=kinds)
    mark_below(model, before)
    all_names = list(arrays(model))
    names = student.freeze_all_but(model, list(paths))
    is_same = list(arrays(model)) == all_names
    facts = {"no new parameter": is_same, "trains": training(model), "names": copy(names)}
    model.head = nn.Linear(4, 3)
    student.freeze_all_but(model, ["head"])
    return facts | {"with a new head": training(model), "the first names": names == facts["names"]}


def refused(student, paths, before):
    """freeze_all_but(model, paths), where the modules at `before` trained, and one of the paths is not a module"""
    model = Model(depth=2)
    mark_below(model, before)
    trained, kind = training(model), "nothing"
    try:
        student.freeze_all_but(model, paths)
    except NotImplementedError:
        raise
    except Exception as error:
        kind = "ValueError" if isinstance(error, ValueError) else type(error).__name__
    return {"raised": kind, "unchanged": training(model) == trained}


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
    kind = "Linear" if isinstance(head, nn.Linear) else type(head).__name__
    facts = {"kind": kind, "other": model.other.weight, "is_new": head is not old_head}
    if kind != "Linear":
        return facts
    facts["has_bias"] = head.bias is not None
    same = all(p.requires_grad == flag for p, flag in old)
    return facts | {"weight": head.weight, "trains": head.weight.requires_grad, "same": same}


def replaced(student, width, old_classes, has_bias, classes, seed):
    """new_head(model, classes, seed), where the old head has `old_classes` rows"""
    model = nn.Module()
    model.body, model.norm = nn.Linear(3, width), nn.LayerNorm(width).requires_grad_(False)
    old = model.head = nn.Linear(width, old_classes, bias=has_bias, rng=np.random.default_rng(4))
    before = arrays(old)
    student.new_head(model, classes, seed)
    return {
        "a new Linear": model.head is not old,
        "the old one unchanged": all(np.array_equal(array, before[name]) for name, array in arrays(old).items()),
        "shape": [model.head.in_features, model.head.out_features],
        "names": list(arrays(model)),
        "what trains": training(model),
        "weight": model.head.weight,
    }


def seeded(student, classes, seed):
    """new_head(model, classes, seed), of other models: once more with that seed, then with seed + 1024"""
    models = [Model() for _ in range(3)]
    for model, s in zip(models, (seed, seed, seed + 1024), strict=True):
        student.new_head(model, classes, s)
    weights = [model.head.weight.data for model in models]
    are_own = not any(np.shares_memory(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    return {"weights": [weight.copy() for weight in weights], "arrays of their own": are_own}


def grouped(student, names, kinds, body_lr, head_lr):
    """make_groups(model, body_lr, head_lr, weight_decay=0.01), where only `names` train"""
    model = Model(kinds=kinds)
    mark(model, names)
    return rows_of(model, student.make_groups(model, body_lr, head_lr, 0.01))


def rows_of(model, groups):
    """[name, lr, weight_decay] of each parameter in the groups, and the groups' sizes."""
    name_of = {id(p): name for name, p in model.named_parameters()}
    held = [list(group["params"]) for group in groups]
    rows = [
        [name_of.get(id(p), "unknown"), float(group.get("lr", -1)), float(group.get("weight_decay", -1))]
        for group, parameters in zip(groups, held, strict=True)
        for p in parameters
    ]
    return {"rows": rows, "sizes": [len(parameters) for parameters in held]}


def groups(student, kinds, classes, paths, body_lr, head_lr, weight_decay):
    """make_groups(model, body_lr, head_lr, weight_decay), where only the modules at `paths` train; then with others"""
    model = Model(kinds=kinds, classes=classes)
    mark_below(model, paths)
    made = student.make_groups(model, body_lr, head_lr, weight_decay)
    facts, trained = rows_of(model, made), training(model)
    rows = sorted(facts["rows"])
    mark_below(model, ["body.norm", "head"])
    again = rows_of(model, student.make_groups(model, body_lr + 1, head_lr + 1, weight_decay + 1))
    return {
        "parameters": [name for name, *_ in rows],
        "learning rates": {name: lr for name, lr, _ in rows},
        "weight decays": {name: decay for name, _, decay in rows},
        "an empty group": 0 in facts["sizes"],
        "what trains afterwards": trained,
        "a second call": [row[0] for row in sorted(again["rows"])],
        "its numbers": [row[1:] for row in sorted(again["rows"])],
        "the first groups": sorted(rows_of(model, made)["rows"]) == rows,
    }


def leave(model, gradient):
    """Leave a gradient full of one number in each trainable parameter."""
    for p in model.parameters():
        p.grad = np.full_like(p.data, gradient) if p.requires_grad else None


def stepped(student, names, x, labels, steps, left=None):
    """train_step(model, SGD(lr=0.5), x, labels), `steps` times, where only `names` train; left: each grad before"""
    model = Model()
    mark(model, names)
    if left is not None:
        leave(model, left)
    start = arrays(model)
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    losses = [student.train_step(model, optimizer, x, labels) for _ in range(steps)]
    moved = [name for name, p in model.named_parameters() if not np.array_equal(p.data, start[name])]
    state = {name: array for name, array in arrays(model).items() if name.startswith("head.")}
    facts = {"losses": losses, "is_tensor": any(isinstance(loss, Tensor) for loss in losses), "moved": moved}
    facts |= {"trains": training(model), "head": state}
    return facts | {"features": features(x), "start": start}


def stepped_once(student, kinds, paths, x, labels, lr, weight_decay):
    """loss = train_step(model, SGD(lr, weight_decay), x, labels), where the modules at `paths` train, with gradients"""
    model = Model(kinds=kinds, inputs=inputs_of(x), classes=4)
    mark_below(model, paths)
    leave(model, 3.0)
    start = arrays(model)
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=weight_decay)
    loss = student.train_step(model, optimizer, x, labels)
    facts = {
        "dropout is on": all(is_on for _, _, is_on in model.body.calls),
        "training mode": all(module.training for _, module in model.named_modules()),
        "what trains": training(model),
        "frozen, with a gradient": [
            name for name, p in model.named_parameters() if not p.requires_grad and p.grad is not None
        ],
        "moved": [name for name, array in arrays(model).items() if not np.array_equal(array, start[name])],
        "loss": loss,
        "after the step": in_the_loss(model),
        "runs of the body": len(model.body.calls),
    }
    other = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=3 * lr)
    student.train_step(model, other, x, labels)
    return facts | {"with another optimizer": in_the_loss(model)}


def in_the_loss(model):
    return {name: array for name, array in arrays(model).items() if not name.startswith("head_scale")}


def of_many_classes(student, bias, labels):
    """loss = train_step(model, SGD(lr=0.5), x, labels), where the head's weight is 0, so that its bias is each score"""
    model = Model(classes=len(bias))
    model.head.weight.data, model.head.bias.data = 0 * model.head.weight.data, bias
    optimizer = optim.SGD(list(model.parameters()), lr=0.5)
    return student.train_step(model, optimizer, np.ones((len(labels), 3), dtype="float32"), labels)


def features(x):
    """Return the features from the body of a fresh model, without dropout."""
    model = Model()
    return model.body(Tensor(x)).numpy()


def extracted(student, batches, paths):
    """extract_features(model, batches), of a model in training mode, with dropout, where the modules at `paths`"""
    model, clean = (Model(dropout=0.5, inputs=inputs_of(batches[0])) for _ in range(2))
    model.train()
    mark_below(model, paths)
    start = arrays(model)
    for p in model.parameters():
        p.grad = np.ones_like(p.data) if p.requires_grad else None
    gradients = [parameter.grad for parameter in model.parameters()]
    features = student.extract_features(model, batches)
    still_recording = is_recording()
    form = type(features).__name__
    if isinstance(features, np.ndarray) and features.dtype == object:
        form = "ndarray of objects"
    if form == "list" and all(isinstance(item, list) for item in features):
        form = "list of lists"
    calls = list(model.body.calls)
    clean.eval()
    facts = {
        "dropped": any(is_on for _, _, is_on in calls),
        "training": any(module.training for _, module in model.named_modules()),
        "form": form,
        "rows": [rows for rows, _, _ in calls],
        "found": features if form != "ndarray of objects" else None,
        "recorded": any(recorded for _, recorded, _ in calls),
        "recording afterwards": still_recording,
        "what trains": training(model),
        "moved": [name for name, array in arrays(model).items() if not np.array_equal(array, start[name])],
        "gradients": all(p.grad is before for p, before in zip(model.parameters(), gradients, strict=True)),
        "hidden": [clean.body(Tensor(x)).numpy() for x in batches],
        "scores": [clean.head(clean.body(Tensor(x))).numpy() for x in batches],
    }
    model.body.norm.weight.data = model.body.norm.weight.data * 2
    return facts | {"after training": student.extract_features(model, batches)}
