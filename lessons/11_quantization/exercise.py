# Made from solution.py by `python -m lessons.build`. Write here, then: minilora check 11
# %% [markdown]
# # Lesson 11: 4-bit quantization
#
# Six short tasks: find the sixteen values, give each weight one of them, read back, put two codes into a byte, make the
# scales small as well, count the bits. The reading is README.md beside this file. `minilora check 11` says how far you
# are, `minilora check 11 --hint` helps.

# %%
from statistics import NormalDist

import numpy as np

quantile = NormalDist().inv_cdf  # quantile(p): the number that a normally distributed one is below with probability p
OFFSET = 0.9677083  # the largest probability whose quantile NF4 takes: 1 - (1/30 + 1/32) / 2
ZERO_CODE = 7  # the place of the value 0 among NF4's sixteen

# %% [markdown]
# ## Task 1: sixteen values
#
# Eight positive values, seven negative ones, and zero. The positive ones are quantiles at eight probabilities that run
# evenly from OFFSET down towards 1/2: the next step would be 1/2 itself, whose quantile is the zero. The negative ones
# are made in the same way, seven instead of eight, with a minus sign. Finally, all are divided by the largest.


# %%
def nf4_values() -> np.ndarray:
    """NF4's values (16,), float32, ascending, from -1 to 1."""
    raise NotImplementedError("lesson 11, task 1: build the codebook from quantiles")


# %% [markdown]
# ## Task 2: quantize
#
# An array is read row by row and cut into blocks. Each block has a scale, its absmax: the largest magnitude in it. A
# number's code is the index of the value that is nearest to the number divided by its block's absmax.


# %%
def quantize(x: np.ndarray, values: np.ndarray, blocksize: int) -> tuple[np.ndarray, np.ndarray]:
    """x (n numbers, any shape) -> codes (n,) of uint8, and the absmax (blocks,) of each block.

    values: the codebook, ascending, with at most 256 values. Blocks run on from one row of x to the next, and the last
    one may be shorter. A block of zeros has absmax 0, and the codes of the value 0.
    """
    raise NotImplementedError("lesson 11, task 2: an absmax per block, a code per number")


# %% [markdown]
# ## Task 3: and back
#
# What a code stands for is its value, times the absmax of its block.


# %%
def dequantize(codes: np.ndarray, absmax: np.ndarray, values: np.ndarray, blocksize: int) -> np.ndarray:
    """codes (n,) and absmax (blocks,) -> the numbers (n,) that they stand for."""
    raise NotImplementedError("lesson 11, task 3: value times absmax")


# %% [markdown]
# ## Task 4: two codes per byte
#
# No computer addresses half a byte, so two codes share one. The first is in the high half, as in bitsandbytes: codes 1
# and 15 make the byte 0x1F. Where the number of codes is odd, ZERO_CODE completes the last byte.


# %%
def pack(codes: np.ndarray) -> np.ndarray:
    """Codes (n,) from 0 to 15 -> bytes ((n + 1) // 2,) of uint8."""
    raise NotImplementedError("lesson 11, task 4: two codes per byte, the first one high")


def unpack(packed: np.ndarray, n: int) -> np.ndarray:
    """Bytes ((n + 1) // 2,) of uint8 -> codes (n,), whole numbers."""
    raise NotImplementedError("lesson 11, task 4: two codes per byte, the first one high")


# %% [markdown]
# ## Task 5: double quantization
#
# The absmax values are numbers too. Subtract one mean, that of all of them, since they are all positive, and quantize
# the rest: with the functions from above, a codebook of 256 values (the dynamic map) and larger blocks.


# %%
def compress_absmax(absmax: np.ndarray, values: np.ndarray, blocksize: int) -> tuple[np.ndarray, np.ndarray, float]:
    """absmax (blocks,) -> (its codes (blocks,), the absmax of their own blocks, the one mean that was subtracted).

    values: the codebook for the codes, ascending, with at most 256 values; blocksize: how many absmax values share a
    scale.
    """
    raise NotImplementedError("lesson 11, task 5: quantize the scales")


def restore_absmax(
    codes: np.ndarray, inner_absmax: np.ndarray, mean: float, values: np.ndarray, blocksize: int
) -> np.ndarray:
    """The three that compress_absmax gave -> absmax (blocks,), close to what it was."""
    raise NotImplementedError("lesson 11, task 5: quantize the scales")


# %% [markdown]
# ## Task 6: bits per weight
#
# Codes have 4 bits, a float32 has 32. With double quantization, an absmax is a code of 8 bits, and `inner_blocksize` of
# them share a float32. (The codebook and the one mean are shared by the whole weight, and too few to count.)


# %%
def bits_per_weight(blocksize: int, inner_blocksize: int | None = None) -> float:
    """Bits that a weight takes. inner_blocksize: None without double quantization."""
    raise NotImplementedError("lesson 11, task 6: count the bits")
