"""Arrays (..., C) as rows (N, C), and loops over blocks of rows that stay in a core's cache."""

from collections.abc import Iterator
from math import prod

from minilora import backend
from minilora.backend import Array


def as_rows(a: Array) -> Array:
    """(..., C) as (N, C); a single number as one row of one."""
    return a.reshape(prod(a.shape[:-1]), a.shape[-1]) if a.ndim else a.reshape(1, 1)


def row_blocks(rows: Array) -> Iterator[slice]:
    """Slices over the rows of an array (N, C)."""
    return backend.row_blocks(rows.shape[0], rows.shape[1] * rows.dtype.itemsize)
