"""Arrays as rows, and selective recomputation, which recomputes large but cheap results in backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod

from minilora import backend
from minilora.backend import Array
from minilora.ops import raw
from minilora.tensor import Tensor


def as_rows(a: Array) -> Array:
    """Reshape (..., C) to (N, C), and a single number to (1, 1)."""
    return a.reshape(prod(a.shape[:-1]), a.shape[-1]) if a.ndim else a.reshape(1, 1)


def in_blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Yield the arrays, (N, C) or (N, 1), in blocks of rows that stay in a core's cache; on a GPU, whole."""
    if backend.is_cpu():
        yield from (tuple(a[s] for a in arrays) for s in row_blocks(arrays[0]))
    else:
        yield arrays


def row_blocks(rows: Array) -> Iterator[slice]:
    """Yield slices over the rows of an array (N, C), each small enough to stay in a core's cache."""
    return backend.row_blocks(rows.shape[0], rows.shape[1] * rows.dtype.itemsize)


_selective = ContextVar("selective", default=False)


@contextmanager
def selective_recomputation() -> Iterator[None]:
    """Within the block, on this thread, recompute in backward what takes much memory and little time: the exponentials
    of attention, and the results of norms and activations that a linear map reads (Korthikanti et al. 2022, "Reducing
    activation recomputation in large transformer models", section 5). Results are bit-identical.
    """
    token = _selective.set(True)
    try:
        yield
    finally:
        _selective.reset(token)


def is_selective() -> bool:
    """Return True inside `selective_recomputation`."""
    return _selective.get()


def recomputable(out: Tensor, recompute: Callable[[], Array]) -> Tensor:
    """Return `out`, and let later operations call `recompute()` in backward instead of saving its array, as long as the
    rule of `out` has not run yet.
    """
    if out._node is not None and _selective.get():
        out._node.recompute = recompute
    return out


class Lazy:
    """A value that is made by `make` at the first call and returned by later ones; `forget` drops it."""

    def __init__(self, make: Callable[[], Array]) -> None:
        self.make, self.value = make, None

    def __call__(self) -> Array:
        if self.value is None:
            self.value = self.make()
        return self.value

    def forget(self) -> None:
        self.value = None


def saved_rows(x: object) -> Callable[[], Array]:
    """Return a function with which backward gets an input (..., C) as rows (N, C): saved until then, or recomputed if
    the operation that made the input is `recomputable`.
    """
    node = x._node if isinstance(x, Tensor) else None
    if node is not None and node.recompute is not None:
        return node.recompute
    rows = as_rows(raw(x))
    return lambda: rows
