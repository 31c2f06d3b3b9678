"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor, nn


def started(student, d_in, d_out, r, seed):
    """A, B = start_matrices(d_in, d_out, r, seed); again with this seed; then with seed + 1"""
    A, B = student.start_matrices(d_in, d_out, r, seed)
    again, other = (student.start_matrices(d_in, d_out, r, s)[0] for s in (seed, seed + 1))
    return {"A": A, "B": B, "dtypes": [str(np.asarray(m).dtype) for m in (A, B)], "again": again, "other": other}


def observed(layer, x) -> dict:
    y = layer(x)
    if y.requires_grad:
        (y * y).sum().backward()
    return {
        "trains": sorted(name for name, p in layer.named_parameters() if p.requires_grad),
        "y": y,
        "dA": layer.A.grad,
        "dB": layer.B.grad,
    }


def fresh(student, x, W, b, r, alpha, seed):
    """layer = LoraLayer(linear, r, alpha, seed); y = layer(x); (y * y).sum().backward()"""
    linear = nn.Linear.from_arrays(W, b)
    layer, same, other = (student.LoraLayer(linear, r, alpha, s) for s in (seed, seed, seed + 1))
    base = getattr(layer, "base", None)
    kinds = {name: type(getattr(layer, name, None)).__name__ for name in ("A", "B")}
    facts = {"base": "the linear" if base is linear else f"another {type(base).__name__}", "kinds": kinds}
    if set(kinds.values()) != {"Tensor"}:
        return facts
    if W.dtype == "float32":
        facts["dtypes"] = [str(layer.A.dtype), str(layer.B.dtype)]
    return (
        facts
        | observed(layer, Tensor(x))
        | {
            "scaling": getattr(layer, "scaling", None),
            "A": layer.A,
            "B": layer.B,
            "a seed gives one A": np.array_equal(layer.A.data, same.A.data),
            "another seed, another A": not np.array_equal(layer.A.data, other.A.data),
        }
    )


def trained(student, x, W, b, A, B, r, alpha, when):
    """layer = LoraLayer(linear, r, alpha, seed=0), then its A and B are set; y = layer(x); (y * y).sum().backward()"""
    linear, x = nn.Linear.from_arrays(W.copy(), b), Tensor(x, requires_grad=True)
    layer = student.LoraLayer(linear, r, alpha, 0)
    student.LoraLayer(nn.Linear.from_arrays(W + 1, b), r, alpha + 1, 1)
    if "eval" in when:
        layer.eval()
    if "loaded" in when:
        for p in linear.parameters():
            p.data = p.data + 1
    if "before" in when:
        layer(x)
    if "in place" in when:
        layer.A.data, layer.B.data = A + 1, B - 1
        layer(x)
        layer.A.data -= 1
        layer.B.data += 1
    else:
        layer.A.data, layer.B.data = A, B
    facts = observed(layer, x)
    facts = {"y": facts.pop("y"), "dx": x.grad, **facts}
    return {f"{part}, {when}" if when else part: fact for part, fact in facts.items()} | {"W": linear.weight}


class Block(nn.Module):
    """x (n, 4) -> (n, 4). One linear map's name ends in another's."""

    def __init__(self, rng):
        self.v_proj = nn.Linear(4, 4, bias=False, rng=rng)
        self.q_proj = nn.Linear(4, 4, rng=rng)
        self.kv_proj = nn.Linear(4, 4, rng=rng)
        self.normA = nn.RMSNorm(4)

    def forward(self, x):
        return self.normA(x + self.kv_proj(self.v_proj(self.q_proj(x)).tanh()))


class Holder(nn.Module):
    """A layer within a module."""

    def __init__(self, deep):
        self.deep = deep


class Model(nn.Module):
    """Blocks and a head."""

    def __init__(self, blocks):
        rng = np.random.default_rng(1)
        self.layers = [Block(rng) for _ in range(blocks)]
        self.headB = nn.Linear(4, 3, rng=rng)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.headB(x)


def injected(student, x, blocks, targets, r, alpha):
    """paths = inject(model, targets, r, alpha), of a model with so many blocks; then its A's and B's are set"""
    model = Model(blocks)
    before = [path for path, _ in model.named_modules() if path]
    paths = student.inject(model, targets, r, alpha)
    facts = {
        "kinds": {path: type(model.get_submodule(path)).__name__ for path in before},
        "trains": sorted(name for name, p in model.named_parameters() if p.requires_grad),
        "paths": paths,
        "y at the start": model(Tensor(x)),
    }
    layers = [module for _, module in model.named_modules() if isinstance(module, student.LoraLayer)]
    facts["shapes of the A's"] = [list(layer.A.shape) for layer in layers]
    facts["scalings"] = [float(layer.scaling) for layer in layers]
    rng = np.random.default_rng(2)
    for layer in layers:
        layer.A.data, layer.B.data = (rng.standard_normal(m.shape).astype("float32") for m in (layer.A, layer.B))
    return facts | {"y with these": model(Tensor(x))}


def elsewhere(student, targets):
    """paths = inject(model, targets, r=2, alpha=4.0), of a model with Linears in dictionaries, lists and modules"""
    rng, model = np.random.default_rng(1), nn.Module()
    model.experts = {name: nn.Linear(3, 3, rng=rng) for name in ("q_proj", "v_proj")}
    model.inner = nn.Module()
    model.inner.parts = [[Block(rng)], {"b": {"q_proj": nn.Linear(3, 2, rng=rng)}}]
    model.q_proj, model.v_proj = Holder(nn.Linear(3, 2, rng=rng)), nn.Linear(3, 2, rng=rng)
    model.A = nn.Parameter(np.ones(3, dtype="float32"))
    before = [path for path, _ in model.named_modules() if path]
    paths = student.inject(model, targets, 2, 4.0)
    kinds = {path: type(model.get_submodule(path)).__name__ for path in before}
    return {"paths": paths, "kinds": kinds, "trains": [n for n, p in model.named_parameters() if p.requires_grad]}


def seeded(student, targets, r, alpha, seed):
    """inject(model, targets, r, alpha, seed), and of other models: with that seed, with another, with none"""
    first, again, other, zero, default = (Model(2) for _ in range(5))
    for model, s in ((first, seed), (again, seed), (other, seed + 1), (zero, 0)):
        student.inject(model, targets, r, alpha, s)
    student.inject(default, targets, r, alpha)
    return {
        "a seed gives one start": starts(first) == starts(again),
        "another seed, another start": starts(first) != starts(other),
        "0 is the default seed": starts(zero) == starts(default),
    }


def starts(model) -> list:
    """Return all A's of a model, as lists."""
    return [p.data.tolist() for name, p in model.named_parameters() if name.endswith(".A")]


def merged(student, x, W, b, A, B, r, alpha):
    """merge(model), where model.first, model.blocks[0].deep and others are LoraLayers; then y = model.first(x)"""
    model, linear = nn.Module(), nn.Linear.from_arrays(W.copy(), None if b is None else b.copy())
    deep = nn.Linear.from_arrays(W + 1, None)
    model.first = student.LoraLayer(linear, r, alpha, 0)
    model.blocks = [Holder(student.LoraLayer(deep, r + 1, alpha + 2, 0))]
    model.others = {"one": student.LoraLayer(nn.Linear.from_arrays(W), r, alpha, 0)}
    model.others["the same"] = model.others["one"]
    model.norm, model.frozen = nn.RMSNorm(2), nn.RMSNorm(2).requires_grad_(False)
    model.first.A.data, model.first.B.data = A, B
    model.blocks[0].deep.A.data, model.blocks[0].deep.B.data = np.concatenate([A, A[:1]]), np.hstack([B, B[:, :1]])
    paths = student.merge(model)
    made = [model.first, model.blocks[0].deep]
    places = {"first": made[0], "blocks.0.deep": made[1]} | {f"others.{name}": m for name, m in model.others.items()}
    facts = {
        "y": model.first(Tensor(x)),
        "kinds": {path: type(module).__name__ for path, module in places.items()},
        "W of the base": linear.weight,
        "b of the base": linear.bias,
        "paths": paths,
        "y of a base without bias": made[1](Tensor(x)),
        "what else trains": [model.norm.weight.requires_grad, model.frozen.weight.requires_grad],
    }
    if set(facts["kinds"].values()) == {"Linear"}:
        facts["biases"] = ["none" if layer.bias is None else "one" for layer in made]
        facts["dtype"] = [str(layer.weight.dtype) for layer in made]
    return facts


def adapted(student, linear):
    """Make a model with one LoraLayer."""
    model = nn.Module()
    model.layer = student.LoraLayer(linear, 1, 1.0, 0)
    return model


def merged_before(student, x, W, b, A, B, r, alpha):
    """merge(model); then the LoraLayer is put back, with other A and B; merge(model); y = model.layer(x)"""
    layer, model = student.LoraLayer(nn.Linear.from_arrays(W, b), r, alpha, 0), nn.Module()
    for change in (1, 0):
        layer.A.data, layer.B.data = A + change, B - change
        model.layer = layer
        student.merge(model)
    return model.layer(Tensor(x))


def merged_twice(student):
    """merge(model); merge(model)"""
    model = adapted(student, nn.Linear(3, 2))
    student.merge(model)
    return student.merge(model)


def never_adapted(student):
    """merge(model), of a model without a LoraLayer"""
    return student.merge(Model(1))
