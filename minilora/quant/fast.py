"""The 4-bit forms of `plain.py` for a CPU, bit for bit the same: blocks that stay in a core's cache, over threads."""

from collections.abc import Callable
from functools import cache

import numpy as np

from minilora import backend
from minilora.quant import plain
from minilora.quant.codebooks import CODEBOOKS, midpoints, order
from minilora.threads import side_by_side, using


def quantize_4bit(values: np.ndarray, blocksize: int, quant_type: str, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Values (n,) of any float dtype to bytes of two codes ((n+1)//2,) and the absmax of each block.

    The code of a value is the number of midpoints below it, counted by one comparison a midpoint: with 15 of them that
    is several times faster than a search.
    """
    n = values.size
    count, half = n // blocksize, blocksize // 2  # whole blocks, bytes of one
    whole = count * blocksize
    packed, absmax = np.empty((n + 1) // 2, np.uint8), np.empty(-(-n // blocksize), np.float32)
    rows = values[:whole].reshape(-1, blocksize)
    limits, codes = midpoints(quant_type), packed_order(quant_type)

    def some(s: slice) -> None:
        x = rows[s].astype(np.float32, copy=False)
        absmax[s] = np.abs(x).max(axis=1)
        scaled = x * (1 / np.maximum(absmax[s], plain.SMALLEST_ABSMAX))[:, None]
        rank = (scaled > limits[0]).view(np.uint8)
        for limit in limits[1:]:
            rank += (scaled > limit).view(np.uint8)
        two = rank.view("<u2").reshape(-1)  # the first code of a pair in the low byte
        np.take(codes, (two << 4 | two >> 8).astype(np.uint8), out=packed[s.start * half : s.stop * half], mode="wrap")

    spread(some, count, 4 * blocksize, threads)
    if whole < n:
        last = values[whole:].astype(np.float32)
        packed[whole // 2 :], absmax[count:] = plain.quantize_4bit(last, blocksize, limits, order(quant_type))
    return packed, absmax


def dequantize_4bit(
    packed: np.ndarray, absmax: np.ndarray, quant_type: str, blocksize: int, n: int, threads: int
) -> np.ndarray:
    """The float32 values (n,) that the codes in `packed` stand for.

    A byte holds two codes, so a table of 256 pairs turns it into two values at once.
    """
    count, half = n // blocksize, blocksize // 2
    out = np.empty(2 * packed.size, np.float32)
    twos = out.view(np.complex64)  # two float32 as one item
    rows = out[: count * blocksize].reshape(-1, blocksize)
    table = pairs(quant_type)

    def some(s: slice) -> None:
        here = slice(s.start * half, s.stop * half)
        np.take(table, packed[here], out=twos[here], mode="wrap")
        np.multiply(rows[s], absmax[s, None], out=rows[s])

    spread(some, count, 4 * blocksize, threads)
    if count * blocksize < n:
        twos[count * half :] = table[packed[count * half :]]
        out[count * blocksize :] *= absmax[-1]
    return out[:n]


@cache
def pairs(quant_type: str) -> np.ndarray:
    """The two values that each byte stands for, (256,) complex64: the first is the real part."""
    code, byte = CODEBOOKS[quant_type](), np.arange(256)
    return np.stack([code[byte >> 4], code[byte & 15]], axis=1).view(np.complex64).reshape(-1)


@cache
def packed_order(quant_type: str) -> np.ndarray:
    """Bytes (256,) of two codes each, by the byte that holds the two places of these in the order of values."""
    code, byte = order(quant_type), np.arange(256)
    return code[byte >> 4] << 4 | code[byte & 15]


def spread(work: Callable[[slice], None], rows: int, row_bytes: int, threads: int) -> None:
    """`work` on slices of the rows that fit a cache, `threads` of them at a time.

    Threads take larger slices, since Python's lock is handed over after each operation. Each takes neighbours: memory
    comes in pages of up to 2 MiB, and two threads that are the first to touch one wait for each other.
    """
    slices = list(backend.row_blocks(rows, row_bytes if threads == 1 else row_bytes // 4))
    threads = min(threads, len(slices))

    def share(index: int) -> None:
        for s in slices[len(slices) * index // threads : len(slices) * (index + 1) // threads]:
            work(s)

    if threads <= 1:
        return share(0) if slices else None
    with using(threads):
        side_by_side(share, range(threads))
