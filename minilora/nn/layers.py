"""Layers: Linear, Embedding, RMSNorm, LayerNorm and Dropout, and the random generators that they draw from."""

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
_dropout_rng: ContextVar[Any] = ContextVar("dropout_rng", default=None)  # a NumPy Generator or RowGenerators


def manual_seed(seed: int) -> None:
    """Reseed the default generator, from which layers draw if they are given neither rng nor seed.

    A process starts it with seed 0. Each layer advances it, so that no two layers get the same weights.
    """
    _default_rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def _trained(array: Array) -> Tensor:
    """Wrap an array of the backend as a parameter, without copying it."""
    tensor = wrap(array)
    tensor.requires_grad = True
    return tensor


class Linear(Module):
    """A linear map y = x Wᵀ + b, with weight (out_features, in_features) and bias (out_features,).

    Weight and bias start uniform in ±1/sqrt(in_features), as in PyTorch. rng: a NumPy Generator or a seed; None: the
    default generator (see `manual_seed`).
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
        """Build a Linear from arrays of the backend, without copying: weight (out, in), bias (out,) or None."""
        layer = cls.__new__(cls)
        layer.out_features, layer.in_features = weight.shape
        layer.weight = _trained(weight)
        layer.bias = None if bias is None else _trained(bias)
        return layer

    @property
    def dtype(self) -> Any:
        """The dtype in which the weight takes part in products."""
        return self.weight.dtype

    @property
    def product_weight(self) -> Operand:
        """The weight for `functional.linear`. A subclass that stores it in another form gives a function to make it."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.product_weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A table of vectors, weight (num_embeddings, embedding_dim), looked up by integer ids.

    Starts normal(0, 1). rng: a NumPy Generator or a seed; None: the default generator (see `manual_seed`).
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
        """Build an Embedding from an array (num_embeddings, embedding_dim) of the backend, without copying."""
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
    """Let every Dropout draw from `rng` within the block, on this thread; None: each from its own generator.

    The training loop seeds a generator for each step and shard, so that a resumed run draws the same numbers as an
    uninterrupted one.
    """
    token = _dropout_rng.set(rng)
    try:
        yield
    finally:
        _dropout_rng.reset(token)


class RowGenerators:
    """Random streams for dropout, one per row of a batch, so that masks do not depend on how rows are split up."""

    def __init__(self, seeds: Sequence[tuple[int, ...]]) -> None:
        self.seeds = seeds
        self._rngs: list[np.random.Generator] | None = None  # made by the first dropout

    def of(self, rows: range) -> "RowGenerators":
        """Return fresh streams for some of the rows."""
        return RowGenerators(self.seeds[rows.start : rows.stop])

    def random(self, shape: tuple[int, ...], dtype: Any = "float64") -> np.ndarray:
        """Draw like `Generator.random`, for a shape whose first axis is the batch's rows."""
        if self._rngs is None:
            self._rngs = [np.random.default_rng(seed) for seed in self.seeds]
        if shape[0] != len(self._rngs):
            raise ValueError(f"dropout needs the {len(self._rngs)} rows of the batch as first axis, not {shape}")
        return np.stack([rng.random(shape[1:], dtype=dtype) for rng in self._rngs])


def row_generators(module: Module, rows: int) -> RowGenerators | None:
    """Return a random stream for each row of a batch, for the dropouts of `module`; None if nothing is dropped.

    These are the streams that `dropout_rng` has set. If it has set a plain generator, or nothing, they are new ones,
    seeded by a draw from that generator or from the first dropout's own.
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
    """List the dropouts of `module` that are active: in training mode, with p above 0."""
    return [m for _, m in module.named_modules() if isinstance(m, Dropout) and m.is_active]


def dropout_twice(module: Module) -> list[Any]:
    """Return two generators that draw the same numbers, for `dropout_rng` around two runs of `module`.

    They are the generator that `dropout_rng` has set, which the first run advances, and a copy of it. If it has set
    none, they are new ones, seeded by a draw from the first dropout's own generator. None twice if nothing is dropped.
    """
    drawing = active_dropouts(module)
    if not drawing:
        return [None, None]
    rng = _dropout_rng.get() or np.random.default_rng(int(drawing[0]._own_rng.integers(2**63)))
    return [rng, deepcopy(rng)]


class Dropout(Module):
    """`functional.dropout` in training mode, the identity in eval mode.

    Draws from the generator that `dropout_rng` has set, else from its own. seed: of its own generator; None: drawn from
    the default generator (see `manual_seed`).
    """

    def __init__(self, p: float = 0.5, seed: int | None = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"dropout needs 0 <= p < 1, not {p}")
        self.p = p
        self._own_rng = np.random.default_rng(int(_default_rng.integers(2**63)) if seed is None else seed)

    @property
    def is_active(self) -> bool:
        """True if it drops elements, and so draws random numbers: in training mode, with p above 0."""
        return self.training and self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_active:
            return x
        return F.dropout(x, self.p, _dropout_rng.get() or self._own_rng)

    def extra_repr(self) -> str:
        return f"p={self.p}"
