"""Blockwise quantization the way a paper prints it, on whole arrays: read this file first.

It runs on every backend. On a CPU, the fast forms in `blockwise.py` compute the same bits in blocks that fit a cache;
if a backend has neither those nor a kernel, this code runs. Arrays are flat here; n is the number of values.
"""

from minilora import backend
from minilora.backend import Array, xp

SMALLEST_ABSMAX = 1e-38  # a smaller absmax counts as this, so that 1 / absmax stays finite


def quantize_4bit(values: Array, blocksize: int, midpoints: Array, order: Array) -> tuple[Array, Array]:
    """Quantize float32 values (n,) to bytes of two codes each, ((n+1)//2,), and the absmax of each block.

    midpoints (15,): the numbers halfway between neighbouring codebook values, ascending; a number on a midpoint takes
    the lower value. order (16,): the codes in the order of their values. The first of two codes is in the high half of
    its byte; if n is odd, the code of 0 completes the last byte. The last block may be shorter than the others. It
    is divided by its absmax, while the others are multiplied by the inverse, which rounds differently.
    """
    n = values.size
    whole = n - n % blocksize
    blocks = values[:whole].reshape(-1, blocksize)  # (n,) -> (blocks, blocksize)
    absmax = xp.abs(blocks).max(axis=1)
    scaled = (blocks * (1 / xp.maximum(absmax, SMALLEST_ABSMAX))[:, None]).reshape(-1)
    if whole < n:
        last = xp.maximum(xp.abs(values[whole:]).max(), SMALLEST_ABSMAX)
        absmax = xp.concatenate([absmax, last.reshape(1)])
        scaled = xp.concatenate([scaled, values[whole:] / last])
    if n % 2:
        scaled = xp.concatenate([scaled, xp.zeros(1, dtype=scaled.dtype)])
    codes = order[xp.searchsorted(midpoints, scaled)]
    return codes[0::2] << 4 | codes[1::2], absmax


def dequantize_4bit(packed: Array, absmax: Array, code: Array, blocksize: int, n: int) -> Array:
    """Return the float32 values (n,) of the codes in `packed`: code[c] · absmax of the block."""
    codes = xp.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:n]
    return code[codes] * xp.repeat(absmax, blocksize)[:n]


def quantize_8bit(values: Array, blocksize: int, table: Array) -> tuple[Array, Array]:
    """Quantize float32 values (n,) to 8-bit codes (n,) and the absmax of each block.

    table (65536,): the code for each of 65,536 equal bins of [-1, 1]. NaN (from 0 · ∞, in a block of zeros) takes
    code 0.
    """
    n = values.size
    padding = xp.zeros(-n % blocksize, dtype=values.dtype)
    blocks = xp.concatenate([values, padding]).reshape(-1, blocksize)
    absmax = xp.abs(blocks).max(axis=1)
    with backend.errstate():
        scaled = xp.minimum(blocks * (1 / absmax)[:, None], 1)
    scaled = xp.where(scaled >= -1, scaled, -1)  # NaN becomes -1, too
    bins = ((scaled + 1) * 0.5 * 65535 + 0.5).astype(xp.uint16)
    return table[bins].reshape(-1)[:n], absmax


def dequantize_8bit(codes: Array, absmax: Array, code: Array, blocksize: int) -> Array:
    """Return the float32 values (n,) of 8-bit codes (n,)."""
    return code[codes] * xp.repeat(absmax, blocksize)[: codes.size]
