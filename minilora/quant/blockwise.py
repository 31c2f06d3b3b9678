"""Blockwise quantization with bitsandbytes' names and bit-identical results: 4 bits for weights, 8 for statistics.

    packed, state = quantize_4bit(weight)             # 32 bits per number to 4.5
    weight = dequantize_4bit(packed, state)           # close to the original

An array is read row by row and cut into blocks of `blocksize` numbers. Each block stores its absmax, the largest
magnitude in it, as a float32; each number x becomes the 4-bit code of the codebook value nearest to x / absmax. Smaller
blocks follow the weights more closely, but cost more bits. Double quantization (`compress_statistics`; Dettmers et al.
2023, "QLoRA", section 3) stores the absmax values in 8 bits: their mean is subtracted, because they are all positive,
and the rest is quantized in blocks of 256 with the dynamic map.

    bits per number               4 + 32 / blocksize                              4.5    with blocks of 64
    with double quantization    4 + 8 / blocksize + 32 / (blocksize · 256)      4.127

The arithmetic is in `plain.py`. On a CPU its faster equivalent further down runs instead; on a GPU, a kernel
dequantizes.
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
from minilora.fields import checked, checked_value
from minilora.kernels import elementwise
from minilora.quant import plain
from minilora.quant.codebooks import CODEBOOKS, dynamic_map, midpoints, order, values_of
from minilora.tensor import Tensor
from minilora.threads import count, side_by_side, split_rows, using

BLOCKSIZE, BLOCKSIZES = 64, (32, 64, 128, 256, 512, 1024, 2048, 4096)  # the default, and all choices
STATISTICS_BLOCKSIZE = 256  # for the absmax values, in double quantization
WORTH_THREADS = 2**21  # from this many numbers on, several threads are faster than one


@dataclass(eq=False)
class QuantState:
    """The data that dequantization needs besides the codes. The fields are those of bitsandbytes.

    absmax: one float32 per block; with double quantization, their 8-bit codes
    shape, dtype: of the original array, and so of the dequantized one
    code: the codebook, float32 (16,) or (256,)
    blocksize: numbers per block
    quant_type: "nf4", "fp4" or "int4"; None for 8 bits
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
        """True if double quantization was used."""
        return self.state2 is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the statistics. The codebook does not count, because all states share it."""
        own = self.absmax.nbytes
        return own if self.state2 is None else own + self.offset.nbytes + self.state2.nbytes


def quantize_4bit(
    array: Any, blocksize: int = BLOCKSIZE, quant_type: str = "nf4", compress_statistics: bool = False
) -> tuple[Array, QuantState]:
    """Quantize `array` to 4 bits: return bytes ((n+1)//2, 1) of two codes each, the first in the high half, and their
    QuantState.

    array: float16, float32 or float64, of any shape; computations are in float32, and `dequantize_4bit` restores the
    dtype. blocksize: 32, 64, 128, … 4096; the last block may be shorter. quant_type: "nf4", "fp4" or "int4".
    compress_statistics: use double quantization. On a CPU, large arrays are spread over `minilora.threads.count()`
    threads.

    Raises MiniloraError for NaN and infinite numbers, for arrays that are empty or not floating-point, and for an
    unknown blocksize or quant_type.
    """
    check_options(blocksize, quant_type)
    array = backend.asarray(array.data if isinstance(array, Tensor) else array)
    check_array(array, "quantize_4bit")
    flat = array.reshape(-1)
    if backend.is_cpu():
        packed, absmax = quantize_on_cpu(flat, blocksize, quant_type)
    else:
        tables = (backend.asarray(table_of(quant_type)) for table_of in (midpoints, order))
        packed, absmax = plain.quantize_4bit(flat.astype(xp.float32), blocksize, *tables)
    offset = state2 = None
    if compress_statistics:
        # The mean is computed in float64 on the host, so that it is the same on every backend.
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
    """Return the array that `packed` and `state` stand for, in the state's shape and dtype.

    Raises MiniloraError if the two do not belong together.
    """
    quant_type = check_options(state.blocksize, state.quant_type)
    packed, n = backend.asarray(packed), prod(state.shape or ())
    blocks = -(-n // state.blocksize)
    if packed.dtype != xp.uint8 or packed.size != (n + 1) // 2 or state.absmax.size != blocks:
        raise MiniloraError(
            f"the packed data does not fit its state: {packed.size} numbers of {packed.dtype} and {state.absmax.size} "
            f"absmax values, but shape {state.shape} in blocks of {state.blocksize} needs {(n + 1) // 2} of uint8 and "
            f"{blocks}"
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
    """Write the float32 `values` (n,) of the codes. In C, i is the index of a value; 2^shift is the blocksize."""
    values[...] = plain.dequantize_4bit(packed, absmax, code, 2**shift, values.size)


@cache
def _codes_of_bins() -> np.ndarray:
    """Return the code nearest to the centre of each of 65,536 equal bins of [-1, 1]. As on bitsandbytes' CPU path, a
    number gets the code of its bin, which close to a midpoint between two values is not always the nearest.
    """
    values = dynamic_map().astype(np.float64)
    centres = np.arange(65536) / 65535 * 2 - 1
    return np.searchsorted((values[:-1] + values[1:]) / 2, centres).astype(np.uint8)


# Checks of options and arrays

BLOCKSIZE_FIELD = checked(
    BLOCKSIZE, f"one of {', '.join(map(str, BLOCKSIZES))}", lambda value: type(value) is int and value in BLOCKSIZES
)


def check_options(blocksize: int, quant_type: str | None = "nf4") -> str:
    """Check blocksize and quant_type, and return the quant_type. Raises MiniloraError if there is no such choice."""
    checked_value("blocksize", blocksize, BLOCKSIZE_FIELD)
    if not isinstance(quant_type, str) or quant_type not in CODEBOOKS:
        raise MiniloraError(unknown("quant_type", quant_type, CODEBOOKS))
    return quant_type


def check_array(array: Array, name: str) -> None:
    """Raise MiniloraError, with a message that begins with `name`, for an array that cannot be quantized."""
    if array.dtype not in (xp.float16, xp.float32, xp.float64):
        raise MiniloraError(f"{name}: only floating-point arrays can be quantized, not {array.dtype}")
    if not array.size:
        raise MiniloraError(f"{name}: an array of shape {tuple(array.shape)} is empty and cannot be quantized")
    with backend.errstate():
        finite = xp.isfinite(array.astype(xp.float32, copy=False))
    if not bool(finite.all()):
        bad = np.argwhere(~backend.to_numpy(finite))
        value = backend.to_numpy(array)[tuple(bad[0])]
        raise MiniloraError(
            f"{name}: {len(bad):,} of {array.size:,} numbers are NaN or infinite (in float32), the first {value} at "
            f"{bad[0].tolist()}; only finite numbers can be quantized"
        )


# On a CPU: the same bits as in `plain.py`, but in blocks that stay in a core's cache, spread over threads


def quantize_on_cpu(values: np.ndarray, blocksize: int, quant_type: str) -> tuple[np.ndarray, np.ndarray]:
    """Quantize values (n,) of any float dtype to bytes of two codes each, ((n+1)//2,), and each block's absmax.

    The rank of a value is the number of midpoints below it, counted with one comparison per midpoint: for 15 of them
    that is several times faster than a search.
    """
    n = values.size
    blocks, half = n // blocksize, blocksize // 2  # number of whole blocks, bytes per block
    whole = blocks * blocksize
    packed, absmax = np.empty((n + 1) // 2, np.uint8), np.empty(-(-n // blocksize), np.float32)
    rows = values[:whole].reshape(-1, blocksize)
    limits, codes = midpoints(quant_type), packed_order(quant_type)

    def quantize(s: slice) -> None:
        x = rows[s].astype(np.float32, copy=False)
        absmax[s] = np.abs(x).max(axis=1)
        scaled = x * (1 / np.maximum(absmax[s], plain.SMALLEST_ABSMAX))[:, None]
        rank = (scaled > limits[0]).view(np.uint8)
        for limit in limits[1:]:
            rank += (scaled > limit).view(np.uint8)
        pair = rank.view("<u2").reshape(-1)  # two ranks, the first in the low byte
        np.take(
            codes, (pair << 4 | pair >> 8).astype(np.uint8), out=packed[s.start * half : s.stop * half], mode="wrap"
        )

    spread(quantize, blocks, blocksize)
    if whole < n:
        last = values[whole:].astype(np.float32)
        packed[whole // 2 :], absmax[blocks:] = plain.quantize_4bit(last, blocksize, limits, order(quant_type))
    return packed, absmax


def dequantize_on_cpu(packed: np.ndarray, absmax: np.ndarray, quant_type: str, blocksize: int, n: int) -> np.ndarray:
    """Return the float32 values (n,) of the codes in `packed`.

    A byte holds two codes, so one look-up in a table of 256 pairs gives two values at once.
    """
    blocks, half = n // blocksize, blocksize // 2
    out = np.empty(2 * packed.size, np.float32)
    out_pairs = out.view(np.complex64)  # two float32 as one item
    rows = out[: blocks * blocksize].reshape(-1, blocksize)
    table = pairs(quant_type)

    def dequantize(s: slice) -> None:
        own_bytes = slice(s.start * half, s.stop * half)
        np.take(table, packed[own_bytes], out=out_pairs[own_bytes], mode="wrap")
        np.multiply(rows[s], absmax[s, None], out=rows[s])

    spread(dequantize, blocks, blocksize)
    if blocks * blocksize < n:
        out_pairs[blocks * half :] = table[packed[blocks * half :]]
        out[blocks * blocksize :] *= absmax[-1]
    return out[:n]


@cache
def pairs(quant_type: str) -> np.ndarray:
    """Return the two values of each byte, (256,) complex64, with the first one as the real part."""
    code, byte = values_of(quant_type), np.arange(256)
    return np.stack([code[byte >> 4], code[byte & 15]], axis=1).view(np.complex64).reshape(-1)


@cache
def packed_order(quant_type: str) -> np.ndarray:
    """Return a table (256,) from a byte of two ranks, in the order of values, to the byte of their two codes."""
    code, byte = order(quant_type), np.arange(256)
    return code[byte >> 4] << 4 | code[byte & 15]


def spread(work: Callable[[slice], None], rows: int, blocksize: int) -> None:
    """Call `work` on slices of the rows that fit a cache, on several threads if there are many numbers.

    With threads, slices are larger, because Python's global lock changes hands after each operation. Each thread takes
    neighbouring slices: memory comes in pages of up to 2 MiB, and threads that first touch the same page wait for each
    other.
    """
    threads = count() if rows * blocksize >= WORTH_THREADS else 1
    slices = list(backend.row_blocks(rows, 4 * blocksize if threads == 1 else blocksize))

    def share(part: range) -> None:
        for i in part:
            work(slices[i])

    with using(threads):
        side_by_side(share, split_rows(range(len(slices)), threads))
