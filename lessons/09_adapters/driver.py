"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor, nn

NAMES = ("down.weight", "down.bias", "up.weight", "up.bias")


def parameters_of(adapter) -> dict:
    """{name: Tensor} of the four that a lesson's adapter has; None for one that is not there."""
    tensors = {}
    for name in NAMES:
        part, _, what = name.partition(".")
        tensor = getattr(getattr(adapter, part, None), what, None)
        tensors[name] = tensor if isinstance(tensor, Tensor) else None
    return tensors


def observe(module, adapter, y) -> dict:
    if not isinstance(y, Tensor):
        return {"kind": type(y).__name__}
    if y.requires_grad:
        (y * y).sum().backward()
    own = parameters_of(adapter)
    return {
        "kind": "Tensor",
        "y": y,
        "trains": sorted(name for name, p in module.named_parameters() if p.requires_grad),
        "start": dict(own),
        "gradients": {name: None if p is None or p.grad is None else p.grad for name, p in own.items()},
    }


def kinds_of(adapter) -> dict:
    return {name: type(getattr(adapter, name, None)).__name__ for name in ("down", "up")}


def computed(student, h, W1, b1, W2, b2):
    """y = adapter_forward(h, W1, b1, W2, b2)"""
    return {"y": student.adapter_forward(h, W1, b1, W2, b2), "h": h}


def fresh(student, d, m, seed, h):
    """adapter = Adapter(d, m, seed); y = adapter(h); (y * y).sum().backward()"""
    adapter = student.Adapter(d, m, seed)
    kinds = kinds_of(adapter)
    arrays = [p.data for p in parameters_of(adapter).values() if p is not None]
    own = not any(np.may_share_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    return {"kinds": kinds, "own arrays": own} | (
        observe(adapter, adapter, adapter(Tensor(h))) if set(kinds.values()) == {"Linear"} else {}
    )


def seeded(student, d, m, seed):
    """Adapter(d, m, seed), once more, and with seed + 1: where they start"""
    first, again, other = (parameters_of(student.Adapter(d, m, s)) for s in (seed, seed, seed + 1))
    arrays = {name: None if p is None else p.numpy() for name, p in first.items()}
    weight = arrays["down.weight"]
    return {
        "shapes": {name: None if a is None else list(a.shape) for name, a in arrays.items()},
        "a seed gives one start": np.array_equal(weight, again["down.weight"].numpy()),
        "another seed, another start": not np.any(weight == other["down.weight"].numpy()),
        "numbers that differ": len(np.unique(np.abs(weight))) > 0.75 * weight.size,
        "shared": any(np.may_share_memory(p.data, again[name].data) for name, p in first.items() if p is not None),
        "dtypes": {name: None if a is None else str(a.dtype) for name, a in arrays.items()},
    }


def trained(student, h, W1, b1, W2, b2, mode="training"):
    """adapter = Adapter(d, m, seed=0), after its four arrays have been set; y = adapter(h); (y * y).sum().backward()"""
    adapter = student.Adapter(W1.shape[1], W1.shape[0], 0).train(mode == "training")
    fill(adapter, W1, b1, W2, b2)
    h = Tensor(h, requires_grad=True)
    return in_mode(observe(adapter, adapter, adapter(h)) | {"dh": h.grad}, mode)


def in_mode(facts, mode):
    """Rename y in the facts if the module is in evaluation mode."""
    if mode == "evaluation" and "y" in facts:
        facts["y, in evaluation mode"] = facts.pop("y")
    return facts


def fill(adapter, *arrays):
    for tensor, array in zip(parameters_of(adapter).values(), arrays, strict=True):
        tensor.data = array


class Doubled(nn.Module):
    """x (n, d_in) -> (n, d): a linear map, times a gate of ones and a second argument, plus a third."""

    def __init__(self, W):
        self.linear = nn.Linear.from_arrays(W)
        self.gate = nn.Parameter(np.ones(len(W), dtype=W.dtype))

    def forward(self, x, factor=1.0, offset=0.25):
        return self.linear(x) * self.gate * factor + offset


def behind(student, x, W, W1, b1, W2, b2, factor, offset, by_name, mode="training"):
    """layer = Behind(module, adapter), with the adapter's arrays set; y = layer(x, factor, offset=offset)"""
    adapter = student.Adapter(W1.shape[1], W1.shape[0], 0)
    fill(adapter, W1, b1, W2, b2)
    module = Doubled(W)
    layer = student.Behind(module, adapter).train(mode == "training")
    are_given = getattr(layer, "module", None) is module and getattr(layer, "adapter", None) is adapter
    trains = sorted(name for name, p in layer.named_parameters() if p.requires_grad)
    x = Tensor(x, requires_grad=True)
    if by_name == "arguments":
        y = layer(x, offset=offset, factor=factor)
    else:
        if by_name:
            layer(Tensor(x.data), factor=factor + 1)  # which the next call has to forget
        y = layer(x, offset=offset) if by_name else layer(x, factor, offset=offset)
    facts = observe(layer, adapter, y) | {"are its parts those given": are_given, "trains": trains, "dx": x.grad}
    if by_name and "y" in facts:
        facts[f"y, {by_name} by name"] = facts.pop("y")
    return in_mode(facts, mode)


class Attention(nn.Module):
    def __init__(self, rng, d):
        self.q_proj = nn.Linear(d, d, rng=rng)
        self.o_proj = nn.Linear(d, d, rng=rng)

    def forward(self, x, scale):
        return self.o_proj((self.q_proj(x) * scale).tanh())


class MLP(nn.Module):
    def __init__(self, rng, d):
        self.up_proj = nn.Linear(d, d, rng=rng)
        self.down_proj = nn.Linear(d, d, rng=rng)

    def forward(self, x):
        return self.down_proj(self.up_proj(x).tanh())


class Block(nn.Module):
    """x (n, d) -> (n, d). One module's name ends in another's, or begins with it; a parameter belongs to no module."""

    def __init__(self, rng, d):
        self.self_attn = Attention(rng, d)
        self.pre_mlp = nn.RMSNorm(d)
        self.mlp = MLP(rng, d)
        self.mlp_norm = nn.RMSNorm(d)
        self.gate = nn.Parameter(np.ones(d, dtype="float32"))

    def forward(self, x):
        x = x + self.self_attn(x, scale=0.5)
        return x + self.mlp_norm(self.mlp(self.pre_mlp(x))) * self.gate


class Model(nn.Module):
    """Two blocks and a head."""

    def __init__(self, d=4):
        rng = np.random.default_rng(1)
        self.layers = [Block(rng, d), Block(rng, d)]
        self.head = nn.Linear(d, 3, rng=rng)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def inserted(student, placement, x, m, seed):
    """paths = insert(model, d, m, placement, seed), of a model as wide as x; y = model(x)"""
    d = x.shape[1]
    model = Model(d)
    before = model(Tensor(x))
    paths = student.insert(model, d, m, placement, seed)
    return {"before": before, "y": model(Tensor(x))} | facts_of(student, model, paths, d, m, seed)


def facts_of(student, model, paths, d, m, seed):
    modules = dict(model.named_modules())
    kinds = {path: type(module).__name__ for path, module in modules.items()}
    adapters = [path for path, kind in kinds.items() if kind == "Adapter"]
    behind = [path for path, kind in kinds.items() if kind == "Behind"]
    return {
        "paths": paths,
        "behind": behind,
        "gone": [path for path in adapters if path.rpartition(".")[0] not in behind],
        "trains": sorted(name for name, p in model.named_parameters() if p.requires_grad),
        "adapters": [modules[path].down.weight for path in adapters],
        "widths": [list(modules[path].down.weight.shape) for path in adapters],
        "starts": [
            np.array_equal(modules[path].down.weight.data, student.Adapter(d, m, seed + i).down.weight.data)
            for i, path in enumerate(adapters)
        ],
    }


class Wide(MLP):
    def __init__(self, rng, d):
        self.up_proj = nn.Linear(d, 2 * d, rng=rng)
        self.down_proj = nn.Linear(2 * d, d, rng=rng)


def placed(student, where, placement, m, seed):
    """insert(model, d=3, m, placement, seed), of a model whose modules stand in other places, or have other names"""
    rng, model = np.random.default_rng(1), nn.Module()
    if where == "at the top":
        model.self_attn, model.mlp = Attention(rng, 3), Wide(rng, 3)
    elif where == "in dictionaries":
        model.blocks = [{"self_attn": Attention(rng, 3), "mlp": Wide(rng, 3)} for _ in range(3)]
    else:
        model.encoder, model.adapter_norm, model.head = [Block(rng, 3) for _ in range(3)], nn.RMSNorm(3), nn.Module()
        model.head.adapter = nn.Module()
        model.head.adapter.down, model.head.adapter.up = nn.Linear(3, 2, rng=rng), nn.Linear(2, 3, rng=rng)
    facts = facts_of(student, model, student.insert(model, 3, m, placement, seed), 3, m, seed)
    return {f"{name}, {where}" if name in ("behind", "trains") else name: fact for name, fact in facts.items()}


def deeper(student, placement):
    """insert(model, d=4, m=2, placement), for a model whose blocks are at model.layers"""
    whole = nn.Module()
    whole.model = Model()
    return student.insert(whole, 4, 2, placement)


def first_weight(student, seed):
    """Adapter(4, 2, seed).down.weight"""
    return student.Adapter(4, 2, seed).down.weight


def no_place(student, placement):
    """insert(model, d=4, m=2, placement), for a model without blocks"""
    model = nn.Module()
    model.head = nn.Linear(4, 3)
    return student.insert(model, 4, 2, placement)
