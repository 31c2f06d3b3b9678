"""Codebooks, the values that a 4-bit or 8-bit code can stand for: NF4, FP4, INT4, and the 8-bit dynamic map.

A codebook is a float32 array of up to 16 or of 256 values in [-1, 1], and a code is an index into it. A number is
divided by the largest magnitude in its block, and gets the code of the nearest value. NF4 puts its values where weights
are most frequent, FP4 and the dynamic map put more of them near zero, INT4 spaces them evenly. To add a codebook for
weights, write a function here and enter it in CODEBOOKS. It may have fewer than 16 values; a code takes 4 bits anyway,
and the last value is repeated for the codes left over.
"""

from functools import cache
from statistics import NormalDist

import numpy as np

NF4_OFFSET = 0.9677083  # 1 - (1/30 + 1/32) / 2, in the seven digits that fix the published table


@cache
def nf4() -> np.ndarray:
    """4-bit NormalFloat (Dettmers et al. 2023, "QLoRA", section 3): for weights that are normally distributed.

    Codes carry the most information if all are used equally often, so the values should be quantiles at even steps of
    probability. The paper's equation 4 takes the means of neighbouring quantiles,

        qᵢ = (Q(i / 17) + Q((i + 1) / 17)) / 2

    where Q, the inverse of the cumulative distribution function, is infinite at i = 0. The table that the authors
    published has, in addition, an exact zero, which padding and pruned weights need, and ends at ±1:

        positive    Q(p) at 8 probabilities p, evenly spaced from 1 - δ down to 1/2 (1/2 itself is left out)
        negative    -Q(p) at 7 probabilities, likewise
        zero        0

    all divided by the largest. δ is the mean of 1/30 and 1/32, which are half a step of 15 and of 16 equal parts.
    """
    quantile = NormalDist().inv_cdf
    positive = [quantile(float(p)) for p in _linspace(NF4_OFFSET, 0.5, 9)[:-1]]
    negative = [-quantile(float(p)) for p in _linspace(NF4_OFFSET, 0.5, 8)[:-1]]
    values = np.sort(np.array([*negative, 0.0, *positive], dtype=np.float32))
    return _constant(values / values.max())


@cache
def fp4() -> np.ndarray:
    """4-bit floating point, as in bitsandbytes: a sign bit, two exponent bits and one fraction bit.

    The bits are s e e f. Exponent 0 is for zero and a subnormal; of the others, 1 stands for the largest power of two:

        magnitude   0, 0.0625 (e = 0);  8, 12 (e = 1);  4, 6 (e = 2);  2, 3 (e = 3)

    each with f = 0 and f = 1, divided by 12 so that the largest is 1. Zero has two codes; code 8 is "-0", whose value
    here is 0.
    """
    magnitudes = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3], dtype=np.float32) / np.float32(12)
    return _constant(np.concatenate([magnitudes, 0 - magnitudes]))


@cache
def int4() -> np.ndarray:
    """Symmetric 4-bit integers: a code is an integer k in two's complement, and its value is k / 7.

    Codes 0 … 7 are 0 … 7, codes 9 … 15 are -7 … -1. Code 8, which is -8, lies outside [-1, 1] and is never used. That
    leaves 15 evenly spaced values, whatever the distribution of the weights.
    """
    integers = np.array([*range(8), *range(-8, 0)], dtype=np.float32)
    return _constant(integers / np.float32(7))


@cache
def dynamic_map() -> np.ndarray:
    """Return the signed 8-bit dynamic map, for numbers whose magnitudes span many powers of ten (Dettmers et al. 2022,
    "8-bit Optimizers via Block-wise Quantization", section 1.3).

    One bit is the sign. Of the other bits, the leading zeros give the power of ten and the rest is a fraction: 64
    fractions for 10⁰, 32 for 10⁻¹, … and one for 10⁻⁶. Fractions are the centres of equal parts of [0.1, 1]. With both
    signs, these are 254 values; 0 and 1 complete the map.
    """
    values = [0.0, 1.0]
    for exponent in range(-6, 1):
        parts = _linspace(0.1, 1.0, 2 ** (exponent + 6) + 1)
        centres = (parts[:-1] + parts[1:]) / 2
        scaled = np.float32(10.0**exponent) * centres
        values += [*scaled, *-scaled]
    return _constant(np.sort(np.array(values, dtype=np.float32)))


CODEBOOKS = {"nf4": nf4, "fp4": fp4, "int4": int4}  # by quant_type; each has at most 16 values


def values_of(quant_type: str) -> np.ndarray:
    """Return the 16 values of a codebook; if it has fewer, the last one is repeated."""
    values = CODEBOOKS[quant_type]()
    return np.pad(values, (0, 16 - len(values)), mode="edge")


@cache
def order(quant_type: str) -> np.ndarray:
    """Return the codes (16, uint8) in the order of their values; for equal values, the lower code comes first."""
    return _constant(np.argsort(values_of(quant_type), kind="stable").astype(np.uint8))


@cache
def midpoints(quant_type: str) -> np.ndarray:
    """Return the 15 float32 numbers halfway between neighbouring values, where the nearest one changes; ascending."""
    values = values_of(quant_type)[order(quant_type)]
    return _constant((values[:-1] + values[1:]) / 2)


def _linspace(start: float, stop: float, count: int) -> np.ndarray:
    """Return evenly spaced float32 numbers as PyTorch does: the second half computed from the end, each rounded once.

    NumPy's linspace differs in the last bits, and so would the codebooks.
    """
    first, last = np.float32(start), np.float32(stop)
    step = (last - first) / np.float32(count - 1)
    index = np.arange(count, dtype=np.float64)  # in float64, products and sums of these are exact
    spaced = np.where(index < count // 2, first + step * index, last - step * (count - 1 - index))
    return spaced.astype(np.float32)


def _constant(array: np.ndarray) -> np.ndarray:
    """Make `array` read-only and return it: it is cached, and shared by all callers."""
    array.flags.writeable = False
    return array
