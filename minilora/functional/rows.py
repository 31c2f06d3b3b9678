"""Arrays as rows, and selective recomputation: cheap results that take much memory are computed again in backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod

from minilora import backend
from minilora.backend import Array
from minilora.ops import raw
from minilora.tensor import Tensor


def as_rows(a: Array) -> Array:
    """(..., C) as (N, C); a single number as one row of one."""
    return a.reshape(prod(a.shape[:-1]), a.shape[-1]) if a.ndim else a.reshape(1, 1)


def in_blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The arrays (N, C) and (N, 1) in blocks of rows that stay in a core's cache; whole on a GPU."""
    if backend.is_cpu():
        yield from (tuple(a[s] for a in arrays) for s in row_blocks(arrays[0]))
    else:
        yield arrays


def row_blocks(rows: Array) -> Iterator[slice]:
    """Slices over the rows of an array (N, C)."""
    return backend.row_blocks(rows.shape[0], rows.shape[1] * rows.dtype.itemsize)


_selective = ContextVar("selective", default=False)


@contextmanager
def selective_recomputation() -> Iterator[None]:
    """Within the block (and this thread), backward computes again what takes much memory and little time: the
    exponentials of attention, and the results of norms and activations that a linear map reads (Korthikanti et al.
    2022, "Reducing activation recomputation in large transformer models", section 5). The bits are the same.
    """
    token = _selective.set(True)
    try:
        yield
    finally:
        _selective.reset(token)


def is_selective() -> bool:
    """True inside `selective_recomputation`."""
    return _selective.get()


def recomputable(out: Tensor, recompute: Callable[[], Array]) -> Tensor:
    """`out`, marked as an array that `recompute()` computes again, until the rule of `out` has run."""
    if out._node is not None and _selective.get():
        out._node.recompute = recompute
    return out


class Lazy:
    """A value that `make` makes at the first call and that later calls return; `forget` drops it."""

    def __init__(self, make: Callable[[], Array]) -> None:
        self.make, self.value = make, None

    def __call__(self) -> Array:
        if self.value is None:
            self.value = self.make()
        return self.value

    def forget(self) -> None:
        self.value = None


def saved_rows(x: object) -> Callable[[], Array]:
    """A function that returns, in backward, an input (..., C) as rows (N, C): saved until then, or recomputed where
    the operation that made the input is `recomputable`.
    """
    node = x._node if isinstance(x, Tensor) else None
    if node is not None and node.recompute is not None:
        return node.recompute
    rows = as_rows(raw(x))
    return lambda: rows
