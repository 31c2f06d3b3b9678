"""Runs beside the student's code, where Tensors and modules live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor, nn

NAMES = ("down.weight", "down.bias", "up.weight", "up.bias")


def parameters_of(adapter) -> dict:
    """{name: Tensor} of the four that a lesson's adapter has; None for one that is not there."""
    found = {}
    for name in NAMES:
        part, _, what = name.partition(".")
        tensor = getattr(getattr(adapter, part, None), what, None)
        found[name] = tensor if isinstance(tensor, Tensor) else None
    return found


def observe(module, adapter, y) -> dict:
    if y.requires_grad:
        (y * y).sum().backward()
    own = parameters_of(adapter)
    return {
        "y": y,
        "trains": [name for name, p in module.named_parameters() if p.requires_grad],
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
    return {"kinds": kinds} | (
        observe(adapter, adapter, adapter(Tensor(h))) if set(kinds.values()) == {"Linear"} else {}
    )


def trained(student, h, W1, b1, W2, b2):
    """adapter = Adapter(d, m, seed=0), after its four arrays have been set; y = adapter(h); (y * y).sum().backward()"""
    adapter = student.Adapter(W1.shape[1], W1.shape[0], 0)
    fill(adapter, W1, b1, W2, b2)
    h = Tensor(h, requires_grad=True)
    return observe(adapter, adapter, adapter(h)) | {"dh": h.grad}


def fill(adapter, *arrays):
    for tensor, array in zip(parameters_of(adapter).values(), arrays, strict=True):
        tensor.data = array


class Doubled(nn.Module):
    """x (n, d_in) -> (n, d): a linear map, times a second argument, plus a third."""

    def __init__(self, W):
        self.linear = nn.Linear.from_arrays(W)

    def forward(self, x, factor=1.0, offset=0.0):
        return self.linear(x) * factor + offset


def behind(student, x, W, W1, b1, W2, b2, factor, offset):
    """layer = Behind(module, adapter), with the adapter's arrays set; y = layer(x, factor, offset=offset)"""
    adapter = student.Adapter(W1.shape[1], W1.shape[0], 0)
    fill(adapter, W1, b1, W2, b2)
    layer = student.Behind(Doubled(W), adapter)
    trains = [name for name, p in layer.named_parameters() if p.requires_grad]
    x = Tensor(x, requires_grad=True)
    return observe(layer, adapter, layer(x, factor, offset=offset)) | {"trains": trains, "dx": x.grad}


class Attention(nn.Module):
    def __init__(self, rng):
        self.q_proj = nn.Linear(4, 4, rng=rng)
        self.o_proj = nn.Linear(4, 4, rng=rng)

    def forward(self, x, scale):
        return self.o_proj((self.q_proj(x) * scale).tanh())


class MLP(nn.Module):
    def __init__(self, rng):
        self.up_proj = nn.Linear(4, 4, rng=rng)
        self.down_proj = nn.Linear(4, 4, rng=rng)

    def forward(self, x):
        return self.down_proj(self.up_proj(x).tanh())


class Block(nn.Module):
    """x (n, 4) -> (n, 4). One module's name ends in another's."""

    def __init__(self, rng):
        self.self_attn = Attention(rng)
        self.pre_mlp = nn.RMSNorm(4)
        self.mlp = MLP(rng)

    def forward(self, x):
        x = x + self.self_attn(x, scale=0.5)
        return x + self.mlp(self.pre_mlp(x))


class Model(nn.Module):
    """Two blocks and a head."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.layers = [Block(rng), Block(rng)]
        self.head = nn.Linear(4, 3, rng=rng)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def inserted(student, placement, x):
    """paths = insert(model, d=4, m=2, placement, seed=5); y = model(x)"""
    model = Model()
    before = model(Tensor(x))
    paths = student.insert(model, 4, 2, placement, 5)
    modules = dict(model.named_modules())
    kinds = {path: type(module).__name__ for path, module in modules.items()}
    adapters = [path for path, kind in kinds.items() if kind == "Adapter"]
    behind = [path for path, kind in kinds.items() if kind == "Behind"]
    return {
        "before": before,
        "paths": paths,
        "behind": behind,
        "gone": [path for path in adapters if path.rpartition(".")[0] not in behind],
        "trains": [name for name, p in model.named_parameters() if p.requires_grad],
        "adapters": [modules[path].down.weight for path in adapters],
        "y": model(Tensor(x)),
    }


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
