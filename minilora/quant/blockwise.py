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

The arithmetic itself stands in `plain.py`; on a CPU its faster twin in `fast.py` runs, on a GPU a kernel.
"""

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from minilora import backend, blas
from minilora.backend import Array, xp
from minilora.errors import MiniloraError, unknown
from minilora.fields import checked
from minilora.kernels import elementwise
from minilora.quant import fast, plain
from minilora.quant.codebooks import CODEBOOKS, dynamic_map, midpoints, order
from minilora.tensor import Tensor

BLOCKSIZE, BLOCKSIZES = 64, (32, 64, 128, 256, 512, 1024, 2048, 4096)  # by default, and all that there are
STATISTICS_BLOCKSIZE = 256  # of the absmax values, in double quantization
WORTH_THREADS = 2**21  # numbers from which on several threads are faster than one


@dataclass(eq=False, repr=False)
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

    def __repr__(self) -> str:
        kind = "8 bit" if self.quant_type is None else f"{self.quant_type}, shape={self.shape}"
        double = ", double quantization" if self.nested else ""
        return f"QuantState({kind}, blocksize={self.blocksize}{double})"


def quantize_4bit(
    array: Any,
    blocksize: int = BLOCKSIZE,
    quant_type: str = "nf4",
    compress_statistics: bool = False,
    threads: int | None = None,
) -> tuple[Array, QuantState]:
    """`array` in 4 bits: bytes ((n+1)//2, 1) of two codes each, the first in the high half, and their QuantState.

    array: of float16, float32 or float64, any shape; it is computed with in float32, and `dequantize_4bit` gives its
    dtype back. blocksize: 32, 64, 128, … 4096; the last block may be shorter. quant_type: "nf4", "fp4" or "int4".
    compress_statistics: double quantization. threads: on a CPU; None takes all cores where the array is large.

    Raises MiniloraError for NaN and infinite numbers, for arrays that are empty or not of floats, and for a blocksize
    or quant_type that there is not.
    """
    check_options(blocksize, quant_type)
    array = backend.asarray(array.data if isinstance(array, Tensor) else array)
    check_array(array, "quantize_4bit")
    flat = array.reshape(-1)
    if backend.is_cpu():
        packed, absmax = fast.quantize_4bit(flat, blocksize, quant_type, _threads(threads, flat.size))
    else:
        tables = (backend.asarray(table(quant_type)) for table in (midpoints, order))
        packed, absmax = plain.quantize_4bit(flat.astype(xp.float32), blocksize, *tables)
    offset = state2 = None
    if compress_statistics:
        # The mean is taken in float64 on the host, so that it is the same on every backend and however it is added up.
        mean = backend.to_numpy(absmax).astype(np.float64).mean()
        offset = backend.asarray(mean, dtype=xp.float32)
        absmax, state2 = quantize_blockwise(absmax - offset, STATISTICS_BLOCKSIZE)
    code = backend.asarray(CODEBOOKS[quant_type]())
    state = QuantState(absmax, tuple(array.shape), code, blocksize, quant_type, array.dtype, offset, state2)
    return packed.reshape(-1, 1), state


def dequantize_4bit(packed: Any, state: QuantState, threads: int | None = None) -> Array:
    """The array that `packed` and `state` stand for, in the state's shape and dtype.

    Raises MiniloraError where the two do not belong together.
    """
    quant_type = check_options(state.blocksize, state.quant_type)
    packed, n = backend.asarray(packed), prod(state.shape or ())
    if packed.dtype != xp.uint8 or packed.size != (n + 1) // 2:
        raise MiniloraError(
            f"the packed data does not fit its state: {packed.size} numbers of {packed.dtype}, "
            f"where shape {state.shape} needs {(n + 1) // 2} of uint8"
        )
    blocks, found = -(-n // state.blocksize), state.absmax.size
    if found != blocks:
        raise MiniloraError(
            f"the state does not fit its shape: {found} absmax values, "
            f"where shape {state.shape} in blocks of {state.blocksize} needs {blocks}"
        )
    absmax = backend.asarray(state.absmax)
    if state.state2 is not None:
        absmax = dequantize_blockwise(absmax, state.state2) + state.offset
    flat = packed.reshape(-1)
    if backend.is_cpu():
        values = fast.dequantize_4bit(flat, absmax, quant_type, state.blocksize, n, _threads(threads, n))
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


def quantize_blockwise(array: Any, blocksize: int = 4096) -> tuple[Array, QuantState]:
    """`array` in 8 bits by the dynamic map: codes (uint8, of its shape) and their QuantState.

    Arguments and errors as for `quantize_4bit`. As on bitsandbytes' CPU path, a number takes the code of the bin that
    it falls into, one of 65,536 equal ones, which near a change of codes is not always the nearest; a block of zeros
    takes code 0, which times its absmax is 0.
    """
    check_options(blocksize)
    array = backend.asarray(array.data if isinstance(array, Tensor) else array)
    check_array(array, "quantize_blockwise")
    table = backend.asarray(_codes_of_bins())
    codes, absmax = plain.quantize_8bit(array.reshape(-1).astype(xp.float32), blocksize, table)
    code = backend.asarray(dynamic_map())
    return codes.reshape(array.shape), QuantState(absmax, None, code, blocksize, dtype=array.dtype)


def dequantize_blockwise(codes: Any, state: QuantState) -> Array:
    """The array that 8-bit `codes` and their `state` stand for. Raises MiniloraError where these do not fit."""
    codes = backend.asarray(codes)
    blocks = -(-codes.size // state.blocksize)
    if codes.dtype != xp.uint8 or state.absmax.size != blocks:
        raise MiniloraError(
            f"the codes do not fit their state: {codes.size} numbers of {codes.dtype} in blocks of {state.blocksize}, "
            f"with {state.absmax.size} absmax values"
        )
    values = plain.dequantize_8bit(codes.reshape(-1), state.absmax, state.code, state.blocksize)
    return values.astype(state.dtype, copy=False).reshape(codes.shape)


@cache
def _codes_of_bins() -> np.ndarray:
    """The code that is nearest to the centre of each of 65,536 equal bins of [-1, 1]."""
    values = dynamic_map().astype(np.float64)
    centres = np.arange(65536) / 65535 * 2 - 1
    return np.searchsorted((values[:-1] + values[1:]) / 2, centres).astype(np.uint8)


# What can be quantized


def blocksize_field() -> Any:
    """A field for a number of weights that share a scale."""
    words = f"one of {', '.join(map(str, BLOCKSIZES))}"
    return checked(BLOCKSIZE, words, lambda value: type(value) is int and value in BLOCKSIZES)


def check_options(blocksize: int, quant_type: str | None = "nf4") -> str:
    """The quant_type. Raises MiniloraError for a blocksize or a quant_type that is not offered."""
    if problems := blocksize_field().metadata["kind"].problems("blocksize", blocksize):
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
        if bool(finite.all()):
            return
    bad = np.argwhere(~backend.to_numpy(finite))
    first = tuple(bad[0].tolist())
    value = backend.to_numpy(array)[first]
    raise MiniloraError(
        f"{name}: {len(bad):,} of {array.size:,} numbers are NaN or infinite (in float32), the first {value} at "
        f"{list(first)}; only finite ones can be quantized"
    )


def _threads(asked: int | None, size: int) -> int:
    return asked or (blas.cores() if size >= WORTH_THREADS else 1)
