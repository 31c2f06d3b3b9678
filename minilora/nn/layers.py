"""Layers: Linear, Embedding, RMSNorm, LayerNorm and Dropout, and the generators that they draw from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from math import sqrt
from typing import Any, Self

import numpy as np

from minilora import functional as F
from minilora.backend import Array, xp
from minilora.nn.module import Module, Parameter
from minilora.tensor import Operand, Tensor, wrap

_default_rng = np.random.default_rng(0)
_dropout_rng: ContextVar[Any] = ContextVar("dropout_rng", default=None)  # a NumPy Generator, or what draws like one


def manual_seed(seed: int) -> None:
    """Start again, from `seed`, the generator that layers draw from where they are given neither rng nor seed.

    It starts from 0 with the process, and moves on with each layer, so that no two layers have the same weights.
    """
    _default_rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def _trained(array: Array) -> Tensor:
    """A parameter around an array of the backend. Not copied."""
    tensor = wrap(array)
    tensor.requires_grad = True
    return tensor


class Linear(Module):
    """y = x Wᵀ + b, with weight (out_features, in_features) and bias (out_features,).

    Starts uniform in ±1/sqrt(in_features), as PyTorch's does. rng: a NumPy Generator or a seed; None: that of
    `manual_seed`.
    """

    bias: Tensor | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rng: np.random.Generator | int | None = None
    ) -> None:
        rng = _default_rng if rng is None else np.random.default_rng(rng)
        bound = 1 / sqrt(in_features) if in_features > 0 else 0.0
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(rng.uniform(-bound, bound, (out_features, in_features)).astype("float32"))
        self.bias = Parameter(rng.uniform(-bound, bound, out_features).astype("float32")) if bias else None

    @classmethod
    def from_arrays(cls, weight: Array, bias: Array = None) -> Self:
        """A Linear around arrays of the backend that exist: weight (out, in), bias (out,) or None. Not copied."""
        layer = cls.__new__(cls)
        layer.out_features, layer.in_features = weight.shape
        layer.weight = _trained(weight)
        layer.bias = None if bias is None else _trained(bias)
        return layer

    @property
    def dtype(self) -> Any:
        """The dtype of the weight, as a number to compute with."""
        return self.weight.dtype

    @property
    def product_weight(self) -> Operand:
        """The weight as `functional.linear` takes it; where a subclass stores it in another form, what makes it."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.product_weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A table of vectors, weight (num_embeddings, embedding_dim), looked up by integer ids.

    Starts normal(0, 1). rng: a NumPy Generator or a seed; None: that of `manual_seed`.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, rng: np.random.Generator | int | None = None
    ) -> None:
        rng = _default_rng if rng is None else np.random.default_rng(rng)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.weight = Parameter(rng.standard_normal((num_embeddings, embedding_dim), dtype="float32"))

    @classmethod
    def from_array(cls, weight: Array) -> Self:
        """An Embedding around an array (num_embeddings, embedding_dim) of the backend. Not copied."""
        layer = cls.__new__(cls)
        layer.num_embeddings, layer.embedding_dim = weight.shape
        layer.weight = _trained(weight)
        return layer

    def forward(self, ids: Operand) -> Tensor:
        return F.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


class RMSNorm(Module):
    """`functional.rms_norm` with a weight (size,) that starts at 1."""

    def __init__(self, size: int, eps: float = 1e-6) -> None:
        self.eps = eps
        self.weight = Parameter(xp.ones(size, dtype=xp.float32))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class LayerNorm(Module):
    """`functional.layer_norm` with a weight (size,) that starts at 1 and a bias (size,) that starts at 0."""

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        self.eps = eps
        self.weight = Parameter(xp.ones(size, dtype=xp.float32))
        self.bias = Parameter(xp.zeros(size, dtype=xp.float32))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


@contextmanager
def dropout_rng(rng: Any) -> Iterator[None]:
    """Within the block (and this thread), every Dropout draws from `rng`; None: from its own seed.

    The training loop seeds one a step and shard, so that a resumed run draws what an unbroken one would have.
    """
    token = _dropout_rng.set(rng)
    try:
        yield
    finally:
        _dropout_rng.reset(token)


class RowGenerators:
    """Draws for dropout, each row of a batch from a stream of its own: the same however the rows are shared out."""

    def __init__(self, seeds: Sequence[tuple[int, ...]]) -> None:
        self.seeds = seeds
        self._rngs: list[np.random.Generator] | None = None  # made by the first dropout

    def of(self, rows: range) -> "RowGenerators":
        """Return the streams of some of the rows, from their start."""
        return RowGenerators(self.seeds[rows.start : rows.stop])

    def random(self, shape: tuple[int, ...], dtype: Any = "float64") -> np.ndarray:
        """Draw as `Generator.random` does, for an array whose first axis is the batch's rows."""
        if self._rngs is None:
            self._rngs = [np.random.default_rng(seed) for seed in self.seeds]
        if shape[0] != len(self._rngs):
            raise ValueError(f"dropout in training needs the {len(self._rngs)} rows of the batch first, not {shape}")
        return np.stack([rng.random(shape[1:], dtype=dtype) for rng in self._rngs])


def row_generators(module: Module, rows: int) -> RowGenerators | None:
    """A stream for each of so many rows, for the dropouts of `module`: those that `dropout_rng` has set, or new ones
    from a number that what it has set, or else the first dropout's own generator, draws. None where nothing is dropped.
    """
    rng = _dropout_rng.get()
    if isinstance(rng, RowGenerators):
        return rng
    drawing = active_dropouts(module) if module.training else []
    if not drawing:
        return None
    seed = int((rng or drawing[0]._own_rng).integers(2**63))
    return RowGenerators([(seed, row) for row in range(rows)])


def active_dropouts(module: Module) -> list["Dropout"]:
    """The dropouts of `module` that drop anything now."""
    return [m for _, m in module.named_modules() if isinstance(m, Dropout) and m.is_active]


def dropout_twice(module: Module) -> list[Any]:
    """Two generators that draw the same numbers, for `dropout_rng` around two runs of `module`: what it has set (which
    moves on in the first run) and a copy, or new ones from a number that the first dropout's own generator draws.
    """
    drawing = active_dropouts(module)
    if not drawing:
        return [None, None]
    rng = _dropout_rng.get() or np.random.default_rng(int(drawing[0]._own_rng.integers(2**63)))
    return [rng, deepcopy(rng)]


class Dropout(Module):
    """`functional.dropout` in training, nothing in eval. Draws from `dropout_rng` where one is set, else from a
    generator of its own; seed: where that starts; None: from one that `manual_seed`'s draws.
    """

    def __init__(self, p: float = 0.5, seed: int | None = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"dropout needs 0 <= p < 1, not {p}")
        self.p = p
        self._own_rng = np.random.default_rng(int(_default_rng.integers(2**63)) if seed is None else seed)

    @property
    def is_active(self) -> bool:
        """True if it drops anything, and so draws random numbers."""
        return self.training and self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_active:
            return x
        return F.dropout(x, self.p, _dropout_rng.get() or self._own_rng)

    def extra_repr(self) -> str:
        return f"p={self.p}"
