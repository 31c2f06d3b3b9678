"""Blockwise quantization in bitsandbytes' names, and its results bit for bit: 4 bits for weights, 8 for statistics.

    packed, state = quantize_4bit(weight)             # 32 bits per number to 4.5
    weight = dequantize_4bit(packed, state)           # close to what it was

An array is read row by row and cut into blocks of `blocksize` numbers. Each block keeps its absmax, the largest
magnitude in it, as a float32; each number x becomes the 4-bit code of the codebook's value nearest to x / absmax. Small
blocks follow the weights more closely, and cost more. Double quantization (`compress_statistics`; Dettmers et al. 2023,
"QLoRA", section 3) stores the absmax values in 8 bits: their mean is subtracted, since they are all positive, and the
rest quantized in blocks of 256 by the dynamic map.

    bits per number               4 + 32 / blocksize                              4.5    with blocks of 64
    with double quantization    4 + 8 / blocksize + 32 / (blocksize · 256)      4.127

The arithmetic itself stands in `plain.py`; on a CPU its faster twin runs, further down, on a GPU a kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from minilora import backend
from minilora.backend import Array, xp
from minilora.errors import MiniloraError, unknown
from minilora.fields import checked
from minilora.kernels import elementwise
from minilora.quant import plain
from minilora.quant.codebooks import CODEBOOKS, dynamic_map, midpoints, order, values_of
from minilora.tensor import Tensor
from minilora.threads import count, side_by_side, split_rows, using

BLOCKSIZE, BLOCKSIZES = 64, (32, 64, 128, 256, 512, 1024, 2048, 4096)  # by default, and all that there are
STATISTICS_BLOCKSIZE = 256  # of the absmax values, in double quantization
WORTH_THREADS = 2**21  # numbers from which on several threads are faster than one


@dataclass(eq=False)
class QuantState:
    """All that it takes to undo a quantization, beside the codes. The fields are bitsandbytes'.

    absmax: one float32 a block; with double quantization their 8-bit codes
    shape, dtype: of what was quantized, and of what comes back
    code: the codebook, float32 (16,) or (256,)
    blocksize, quant_type: numbers in a block; "nf4", "fp4" or "int4" (None: 8 bits)
    offset, state2: with double quantization, the mean that was subtracted from the absmax values, and the state of
        their codes
    """

    absmax: Array
    shape: tuple[int, ...] | None = None
    code: Array = None
    blocksize: int = 0
    quant_type: str | None = None
    dtype: np.dtype | None = None
    offset: Array = None
    state2: "QuantState | None" = None

    @property
    def nested(self) -> bool:
        """True with double quantization."""
        return self.state2 is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the statistics. The codebook does not count: all states share it."""
        own = self.absmax.nbytes
        return own if self.state2 is None else own + self.offset.nbytes + self.state2.nbytes


def quantize_4bit(
    array: Any, blocksize: int = BLOCKSIZE, quant_type: str = "nf4", compress_statistics: bool = False
) -> tuple[Array, QuantState]:
    """`array` in 4 bits: bytes ((n+1)//2, 1) of two codes each, the first in the high half, and their QuantState.

    array: of float16, float32 or float64, any shape; it is computed with in float32, and `dequantize_4bit` gives its
    dtype back. blocksize: 32, 64, 128, … 4096; the last block may be shorter. quant_type: "nf4", "fp4" or "int4".
    compress_statistics: double quantization. On a CPU, large arrays are spread over `minilora.threads.count()` threads.

    Raises MiniloraError for NaN and infinite numbers, for arrays that are empty or not of floats, and for a blocksize
    or quant_type that there is not.
    """
    check_options(blocksize, quant_type)
    array = backend.asarray(array.data if isinstance(array, Tensor) else array)
    check_array(array, "quantize_4bit")
    flat = array.reshape(-1)
    if backend.is_cpu():
        packed, absmax = quantize_on_cpu(flat, blocksize, quant_type)
    else:
        tables = (backend.asarray(made(quant_type)) for made in (midpoints, order))
        packed, absmax = plain.quantize_4bit(flat.astype(xp.float32), blocksize, *tables)
    offset = state2 = None
    if compress_statistics:
        # The mean is taken in float64 on the host, so that it is the same on every backend and however it is added up.
        mean = backend.to_numpy(absmax).astype(np.float64).mean()
        offset = backend.asarray(mean, dtype=xp.float32)
        table = backend.asarray(_codes_of_bins())
        absmax, scales = plain.quantize_8bit(absmax - offset, STATISTICS_BLOCKSIZE, table)
        code = backend.asarray(dynamic_map())
        state2 = QuantState(scales, None, code, STATISTICS_BLOCKSIZE, dtype=scales.dtype)
    code = backend.asarray(values_of(quant_type))
    state = QuantState(absmax, tuple(array.shape), code, blocksize, quant_type, array.dtype, offset, state2)
    return packed.reshape(-1, 1), state


def dequantize_4bit(packed: Any, state: QuantState) -> Array:
    """The array that `packed` and `state` stand for, in the state's shape and dtype.

    Raises MiniloraError where the two do not belong together.
    """
    quant_type = check_options(state.blocksize, state.quant_type)
    packed, n = backend.asarray(packed), prod(state.shape or ())
    blocks = -(-n // state.blocksize)
    if packed.dtype != xp.uint8 or packed.size != (n + 1) // 2 or state.absmax.size != blocks:
        raise MiniloraError(
            f"the packed data does not fit its state: {packed.size} numbers of {packed.dtype} and {state.absmax.size} "
            f"absmax values, where shape {state.shape} in blocks of {state.blocksize} needs {(n + 1) // 2} of uint8 "
            f"and {blocks}"
        )
    absmax = backend.asarray(state.absmax)
    if state.state2 is not None:
        inner = state.state2
        absmax = plain.dequantize_8bit(absmax, inner.absmax, inner.code, inner.blocksize) + state.offset
    flat = packed.reshape(-1)
    if backend.is_cpu():
        values = dequantize_on_cpu(flat, absmax, quant_type, state.blocksize, n)
    else:
        values = xp.empty(n, dtype=xp.float32)
        values_of_codes(flat, absmax, state.code, state.blocksize.bit_length() - 1, values)
    return values.astype(state.dtype, copy=False).reshape(state.shape)


@elementwise(
    "raw uint8 packed, raw float32 absmax, raw float32 code, int32 shift",
    "float32 value",
    "value = code[(packed[i >> 1] >> (4 - 4 * (i & 1))) & 15] * absmax[i >> shift]",
)
def values_of_codes(packed: Array, absmax: Array, code: Array, shift: int, values: Array) -> None:
    """The float32 `values` (n,) that codes stand for. In C, i is the place of the value; 2^shift is the blocksize."""
    values[...] = plain.dequantize_4bit(packed, absmax, code, 2**shift, values.size)


@cache
def _codes_of_bins() -> np.ndarray:
    """The code that is nearest to the centre of each of 65,536 equal bins of [-1, 1]. As on bitsandbytes' CPU path, a
    number takes that of its bin, which near a change of codes is not always the nearest.
    """
    values = dynamic_map().astype(np.float64)
    centres = np.arange(65536) / 65535 * 2 - 1
    return np.searchsorted((values[:-1] + values[1:]) / 2, centres).astype(np.uint8)


# What can be quantized

BLOCKSIZE_FIELD = checked(
    BLOCKSIZE, f"one of {', '.join(map(str, BLOCKSIZES))}", lambda value: type(value) is int and value in BLOCKSIZES
)


def check_options(blocksize: int, quant_type: str | None = "nf4") -> str:
    """The quant_type. Raises MiniloraError for a blocksize or a quant_type that is not offered."""
    if problems := BLOCKSIZE_FIELD.metadata["kind"].problems("blocksize", blocksize):
        raise MiniloraError(problems[0])
    if not isinstance(quant_type, str) or quant_type not in CODEBOOKS:
        raise MiniloraError(unknown("quant_type", quant_type, CODEBOOKS))
    return quant_type


def check_array(array: Array, name: str) -> None:
    """Raises MiniloraError, which begins with `name`, for an array that cannot be quantized."""
    if array.dtype not in (xp.float16, xp.float32, xp.float64):
        raise MiniloraError(f"{name}: floating-point numbers can be quantized, not {array.dtype}")
    if not array.size:
        raise MiniloraError(f"{name}: an array of shape {tuple(array.shape)} holds nothing to quantize")
    with backend.errstate():
        finite = xp.isfinite(array.astype(xp.float32, copy=False))
    if not bool(finite.all()):
        bad = np.argwhere(~backend.to_numpy(finite))
        value = backend.to_numpy(array)[tuple(bad[0])]
        raise MiniloraError(
            f"{name}: {len(bad):,} of {array.size:,} numbers are NaN or infinite (in float32), the first {value} at "
            f"{bad[0].tolist()}; only finite ones can be quantized"
        )


# On a CPU: blocks that stay in a core's cache, over threads, bit for bit as in `plain.py`


def quantize_on_cpu(values: np.ndarray, blocksize: int, quant_type: str) -> tuple[np.ndarray, np.ndarray]:
    """Values (n,) of any float dtype to bytes of two codes ((n+1)//2,) and the absmax of each block.

    The code of a value is the number of midpoints below it, counted by one comparison a midpoint: with 15 of them that
    is several times faster than a search.
    """
    n = values.size
    blocks, half = n // blocksize, blocksize // 2  # whole ones, bytes of one
    whole = blocks * blocksize
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

    spread(some, blocks, blocksize)
    if whole < n:
        last = values[whole:].astype(np.float32)
        packed[whole // 2 :], absmax[blocks:] = plain.quantize_4bit(last, blocksize, limits, order(quant_type))
    return packed, absmax


def dequantize_on_cpu(packed: np.ndarray, absmax: np.ndarray, quant_type: str, blocksize: int, n: int) -> np.ndarray:
    """The float32 values (n,) that the codes in `packed` stand for.

    A byte holds two codes, so a table of 256 pairs turns it into two values at once.
    """
    blocks, half = n // blocksize, blocksize // 2
    out = np.empty(2 * packed.size, np.float32)
    twos = out.view(np.complex64)  # two float32 as one item
    rows = out[: blocks * blocksize].reshape(-1, blocksize)
    table = pairs(quant_type)

    def some(s: slice) -> None:
        here = slice(s.start * half, s.stop * half)
        np.take(table, packed[here], out=twos[here], mode="wrap")
        np.multiply(rows[s], absmax[s, None], out=rows[s])

    spread(some, blocks, blocksize)
    if blocks * blocksize < n:
        twos[blocks * half :] = table[packed[blocks * half :]]
        out[blocks * blocksize :] *= absmax[-1]
    return out[:n]


@cache
def pairs(quant_type: str) -> np.ndarray:
    """The two values that each byte stands for, (256,) complex64: the first is the real part."""
    code, byte = values_of(quant_type), np.arange(256)
    return np.stack([code[byte >> 4], code[byte & 15]], axis=1).view(np.complex64).reshape(-1)


@cache
def packed_order(quant_type: str) -> np.ndarray:
    """Bytes (256,) of two codes each, by the byte that holds the two places of these in the order of values."""
    code, byte = order(quant_type), np.arange(256)
    return code[byte >> 4] << 4 | code[byte & 15]


def spread(work: Callable[[slice], None], rows: int, blocksize: int) -> None:
    """`work` on slices of the rows that fit a cache, several of them at a time where there are many numbers.

    Threads take larger slices, since Python's lock is handed over after each operation. Each takes neighbours: memory
    comes in pages of up to 2 MiB, and two threads that are the first to touch one wait for each other.
    """
    threads = count() if rows * blocksize >= WORTH_THREADS else 1
    slices = list(backend.row_blocks(rows, 4 * blocksize if threads == 1 else blocksize))

    def share(part: range) -> None:
        for i in part:
            work(slices[i])

    with using(threads):
        side_by_side(share, split_rows(range(len(slices)), threads))
