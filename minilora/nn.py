"""Modules: objects that hold parameters and other modules, and can be walked, listed, saved and rebuilt.

Nothing is registered. The parameters of a module are the Tensors among its attributes, its children the Modules among
its attributes, in lists and in dictionaries; names are the paths to them, as in PyTorch
("model.layers.0.mlp.up_proj.weight").
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from copy import deepcopy
from math import sqrt

import numpy as np

from minilora import backend
from minilora import functional as F
from minilora.backend import xp
from minilora.errors import MiniloraError
from minilora.tensor import Tensor, adopt, wrap

_dropout_rng: ContextVar[np.random.Generator | None] = ContextVar("dropout_rng", default=None)


def Parameter(data, requires_grad: bool = True) -> Tensor:  # noqa: N802 (PyTorch's name)
    """A Tensor that trains unless it is frozen."""
    return Tensor(data, requires_grad=requires_grad)


class Module:
    """Something with a `forward`. Subclasses assign Tensors and Modules as attributes, in any order."""

    training = True
    num_quantized = 0  # weights that it holds in another form than a Tensor, such as 4-bit codes

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    # Walking

    def _parts(self, kind: type) -> Iterator[tuple[str, object]]:
        """(name, attribute) of every attribute of that kind, those in lists, tuples and dictionaries too."""
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield name, value
            elif isinstance(value, (list, tuple)):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, kind))
            elif isinstance(value, dict):
                yield from ((f"{name}.{key}", item) for key, item in value.items() if isinstance(item, kind))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """(path, module) of this module (path "") and everything below it, parents first."""
        yield prefix, self
        for name, child in self._parts(Module):
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules():
            for name, tensor in module._parts(Tensor):
                yield (f"{path}.{name}" if path else name), tensor

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(path, parameter), frozen ones too; a parameter that two modules share comes once, under its first path."""
        seen: set[int] = set()
        for name, tensor in self._named_tensors():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def parameters(self) -> Iterator[Tensor]:
        """Every parameter once, frozen ones too."""
        for _, tensor in self.named_parameters():
            yield tensor

    def get_submodule(self, path: str) -> "Module":
        """The module at `path`; "" is this one. Raises AttributeError that names the part that is missing."""
        here = self
        for i, part in enumerate(parts := path.split(".") if path else []):
            here = _child(here, part)
            if here is None:
                raise AttributeError(f"{type(self).__name__} has no {'.'.join(parts[: i + 1])!r}")
        if not isinstance(here, Module):
            raise AttributeError(f"{path!r} of {type(self).__name__} is not a module")
        return here

    def replace(self, path: str, new: "Module") -> None:
        """Put `new` where the module at `path` is. Raises AttributeError where there is none, ValueError for ""."""
        self.get_submodule(path)
        if not path:
            raise ValueError("a module cannot replace itself: the path is empty")
        parts = path.split(".")
        holders = [self]
        for part in parts[:-1]:
            holders.append(_child(holders[-1], part))
        for holder, part in zip(reversed(holders), reversed(parts), strict=True):
            if isinstance(holder, tuple):  # made anew, and put in its own place by the next turn
                new = (*holder[: int(part)], new, *holder[int(part) + 1 :])
                continue
            if isinstance(holder, list):
                holder[int(part)] = new
            elif isinstance(holder, dict):
                holder[part] = new
            else:
                setattr(holder, part, new)
            return

    # State

    def state_dict(self) -> dict[str, object]:
        """{path: array of the backend} of every parameter, a shared one under each of its paths. Not copied."""
        return {name: tensor.data for name, tensor in self._named_tensors()}

    def load_state_dict(self, state: dict, strict: bool = True) -> None:
        """Copy arrays (of the backend or NumPy) into the parameters, in the parameters' dtypes.

        Raises MiniloraError that lists all missing, unexpected and misshapen names at once, or names two that are tied
        here and differ in the state, and changes nothing then.
        strict=False ignores missing and unexpected names, but not wrong shapes.
        """
        own = dict(self._named_tensors())
        self._check_state(state, strict)
        raw = {name: a.data if isinstance(a, Tensor) else a for name, a in state.items() if name in own}
        arrays = {name: backend.asarray(a).astype(own[name].dtype) for name, a in raw.items()}  # astype copies
        first: dict[int, str] = {}  # shared parameter -> the first of its names in the state
        for name, array in arrays.items():
            other = first.setdefault(id(own[name]), name)
            if other != name and not bool((array == arrays[other]).all()):
                raise MiniloraError(f"{other} and {name} are one parameter here, but differ in the state")
        for name, array in arrays.items():
            adopt(own[name], array)

    def load_stored(self, state: dict, each: Callable[[str, "Module"], "Module"] | None = None) -> None:
        """As `load_state_dict` with arrays that are read one by one: values have a `shape` and `read()`.

        each: is given every module (path, module) once its own parameters are there, parents first; what it returns
        takes its place. A module that is replaced is held no longer when the next array is read.

        What is wrong with names and shapes is said before anything is read. That a read fails, or that two names of one
        parameter differ, shows only on the way: the module is half loaded then, and not to be used.
        """
        self._check_state(state, strict=True)
        done: dict[int, str] = {}  # parameter -> the name that it was read under
        for path in [path for path, _ in self.named_modules()]:  # paths alone: a list of modules would hold them all
            self._load_own(path, state, done)
            if each is not None:
                self._put(path, each)

    def _load_own(self, path: str, state: dict, done: dict[int, str]) -> None:
        """Read the parameters that the module at `path` has itself."""
        for part, tensor in self.get_submodule(path)._parts(Tensor):
            name = f"{path}.{part}" if path else part
            if name not in state:  # tied to one that is
                continue
            array = backend.asarray(state[name].read(), dtype=tensor.dtype)
            if (other := done.setdefault(id(tensor), name)) == name:
                adopt(tensor, array)
            elif not bool((array == tensor.data).all()):
                raise MiniloraError(f"{other} and {name} are one parameter here, but differ in the state")

    def _put(self, path: str, each: Callable[[str, "Module"], "Module"]) -> None:
        module = self.get_submodule(path)
        if (new := each(path, module)) is not module:
            self.replace(path, new)

    def _check_state(self, state: dict, strict: bool) -> None:
        """Raise MiniloraError that lists the names of `state` that are missing, unexpected (both if strict) or have
        another shape.
        """
        own = dict(self._named_tensors())
        problems = []
        if strict:
            shared = {id(own[name]) for name in state if name in own}
            problems += [f"missing {name}" for name, t in own.items() if name not in state and id(t) not in shared]
            problems += [f"unexpected {name}" for name in state if name not in own]
        problems += [
            f"{name} has shape {tuple(state[name].shape)}, not {own[name].shape}"
            for name in state
            if name in own and tuple(state[name].shape) != own[name].shape
        ]
        if problems:
            raise MiniloraError(f"the state does not fit {type(self).__name__}: {'; '.join(problems)}")

    # Switches

    def train(self, mode: bool = True) -> "Module":
        """Switch training behaviour (dropout) on or off, here and below."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """train(False)."""
        return self.train(False)

    def gradient_checkpointing_enable(self, flag: bool = True) -> "Module":
        """Have each model body here and below keep the inputs of its blocks alone while it trains, and compute the
        blocks again in backward (see `checkpointing`); False: keep all again. MiniloraError where there is no body.
        """
        bodies = [module for _, module in self.named_modules() if hasattr(module, "gradient_checkpointing")]
        if not bodies:
            raise MiniloraError(f"{type(self).__name__} has no blocks that could be computed again")
        for body in bodies:
            body.gradient_checkpointing = flag
        return self

    def gradient_checkpointing_disable(self) -> "Module":
        """gradient_checkpointing_enable(False)."""
        return self.gradient_checkpointing_enable(False)

    def requires_grad_(self, flag: bool = True) -> "Module":
        """Freeze (False) or unfreeze every parameter here and below."""
        for parameter in self.parameters():
            parameter.requires_grad = flag
        return self

    def extra_repr(self) -> str:
        """What `repr` shows between the parentheses."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._parts(Module)]
        body = "".join(f"\n  {line}" for line in lines)
        return f"{type(self).__name__}({self.extra_repr()}{body}{chr(10) if body else ''})"


def _child(holder, part: str):
    if isinstance(holder, (list, tuple)):
        return holder[int(part)] if part.isdigit() and int(part) < len(holder) else None
    return (holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})).get(part)


class Linear(Module):
    """y = x Wᵀ + b, with weight (out_features, in_features) and bias (out_features,).

    Starts uniform in ±1/sqrt(in_features), as PyTorch's does. rng: a NumPy Generator; None draws from seed 0.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, rng=None):
        rng = np.random.default_rng(0) if rng is None else rng
        bound = 1 / sqrt(in_features) if in_features else 0.0
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(rng.uniform(-bound, bound, (out_features, in_features)).astype("float32"))
        self.bias = Parameter(rng.uniform(-bound, bound, out_features).astype("float32")) if bias else None

    @classmethod
    def from_arrays(cls, weight, bias=None) -> "Linear":
        """A Linear around arrays of the backend that exist: weight (out, in), bias (out,) or None. Not copied."""
        layer = cls.__new__(cls)
        layer.out_features, layer.in_features = weight.shape
        layer.weight = wrap(weight)
        layer.bias = None if bias is None else wrap(bias)
        return layer.requires_grad_()

    @property
    def dtype(self):
        """The dtype of the weight, as a number to compute with."""
        return self.weight.dtype

    @property
    def product_weight(self):
        """The weight as `functional.linear` takes it; where a subclass stores it in another form, what makes it."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.product_weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A table of vectors, weight (num_embeddings, embedding_dim), looked up by integer ids; starts normal(0, 1)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, *, rng=None):
        rng = np.random.default_rng(0) if rng is None else rng
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.weight = Parameter(rng.standard_normal((num_embeddings, embedding_dim), dtype="float32"))

    @classmethod
    def from_array(cls, weight) -> "Embedding":
        """An Embedding around an array (num_embeddings, embedding_dim) of the backend. Not copied."""
        layer = cls.__new__(cls)
        layer.num_embeddings, layer.embedding_dim = weight.shape
        layer.weight = wrap(weight)
        return layer.requires_grad_()

    def forward(self, ids) -> Tensor:
        return F.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


class RMSNorm(Module):
    """`functional.rms_norm` with a weight (size,) that starts at 1."""

    def __init__(self, size: int, eps: float = 1e-6):
        self.eps = eps
        self.weight = Parameter(xp.ones(size, dtype=xp.float32))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class LayerNorm(Module):
    """`functional.layer_norm` with a weight (size,) that starts at 1 and a bias (size,) that starts at 0."""

    def __init__(self, size: int, eps: float = 1e-5):
        self.eps = eps
        self.weight = Parameter(xp.ones(size, dtype=xp.float32))
        self.bias = Parameter(xp.zeros(size, dtype=xp.float32))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


@contextmanager
def dropout_rng(rng: np.random.Generator | None):
    """Within the block (and this thread), every Dropout draws from `rng`; None: from its own seed.

    The training loop seeds one a step and shard, so that a resumed run draws what an unbroken one would have.
    """
    token = _dropout_rng.set(rng)
    try:
        yield
    finally:
        _dropout_rng.reset(token)


def dropout_again(module: Module) -> Callable:
    """A function that opens a block within which the dropouts of `module` draw what they are about to draw now."""
    drawing = [m for _, m in module.named_modules() if isinstance(m, Dropout) and m.is_active]
    if not drawing:
        return nullcontext
    if (stream := deepcopy(_dropout_rng.get())) is not None:
        return lambda: dropout_rng(stream)
    own = deepcopy([m._own_rng for m in drawing])

    @contextmanager
    def again():
        before = [m._own_rng for m in drawing]
        _give_rngs(drawing, own)
        try:
            with dropout_rng(None):
                yield
        finally:
            _give_rngs(drawing, before)

    return again


def _give_rngs(dropouts: list["Dropout"], rngs: list) -> None:
    for dropout, rng in zip(dropouts, rngs, strict=True):
        dropout._own_rng = rng


class Dropout(Module):
    """`functional.dropout` in training, nothing in eval. Draws from `dropout_rng` where one is set, else from its own
    seed.
    """

    def __init__(self, p: float = 0.5, seed: int = 0):
        if not 0 <= p < 1:
            raise ValueError(f"dropout needs 0 <= p < 1, not {p}")
        self.p = p
        self._own_rng = np.random.default_rng(seed)

    @property
    def is_active(self) -> bool:
        """Whether it drops anything, and so draws random numbers."""
        return self.training and self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_active:
            return x
        return F.dropout(x, self.p, _dropout_rng.get() or self._own_rng)

    def extra_repr(self) -> str:
        return f"p={self.p}"
