"""The numbers that a code of 4 or 8 bits can stand for: NF4, FP4, INT4, and the dynamic map of 8 bits.

A codebook is a float32 array of up to 16 or of 256 values in [-1, 1], and a code is an index into it. A number, divided
by the largest magnitude of its block, takes the code of the value that is nearest. NF4 puts its values where weights
are frequent, FP4 and the dynamic map where numbers are small, INT4 evenly. Another one for weights is a function here,
and its name in CODEBOOKS. Codes take 4 bits however few values there are: the last one stands for those left over.
"""

from functools import cache
from statistics import NormalDist

import numpy as np

NF4_OFFSET = 0.9677083  # 1 - (1/30 + 1/32) / 2, in the seven digits that fix the published table


@cache
def nf4() -> np.ndarray:
    """4-bit NormalFloat (Dettmers et al. 2023, "QLoRA", section 3): for weights that are normally distributed.

    Codes carry most information where all are used equally often, which asks for values at evenly spaced quantiles. The
    paper's equation 4 takes the means of neighbouring quantiles,

        qᵢ = (Q(i / 17) + Q((i + 1) / 17)) / 2

    with Q the inverse of the cumulative distribution, which has no value at i = 0. What the authors published has, in
    addition, an exact zero, which padding and pruned weights need, and both ends at ±1:

        positive    Q(p) at 8 probabilities p, evenly spaced from 1 - δ down to 1/2, which is left out
        negative    -Q(p) at 7 probabilities, likewise
        zero        0

    and all divided by the largest. δ is the mean of 1/30 and 1/32: half a step of 15 and of 16 equal parts.
    """
    quantile = NormalDist().inv_cdf
    positive = [quantile(float(p)) for p in _linspace(NF4_OFFSET, 0.5, 9)[:-1]]
    negative = [-quantile(float(p)) for p in _linspace(NF4_OFFSET, 0.5, 8)[:-1]]
    values = np.sort(np.array([*negative, 0.0, *positive], dtype=np.float32))
    return _constant(values / values.max())


@cache
def fp4() -> np.ndarray:
    """4-bit floating point, as bitsandbytes has it: a sign, two bits of exponent and one of fraction.

    Bits s e e f. The exponent field 0 holds 0 and a subnormal; of the others, 1 stands for the largest power of two:

        magnitude   0, 0.0625 (e = 0);  8, 12 (e = 1);  4, 6 (e = 2);  2, 3 (e = 3)

    each with f = 0 and f = 1, divided by 12 so that the largest is 1. Zero has two codes; code 8 is "-0", whose value
    here is 0.
    """
    magnitudes = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3], dtype=np.float32) / np.float32(12)
    return _constant(np.concatenate([magnitudes, 0 - magnitudes]))


@cache
def int4() -> np.ndarray:
    """Symmetric 4-bit integers: code c is an integer k in two's complement, its value k / 7.

    Codes 0 … 7 are 0 … 7, codes 9 … 15 are -7 … -1. Code 8, which is -8, lies outside [-1, 1] and is never taken, so 15
    values are in use: evenly spaced, whatever the distribution.
    """
    integers = np.array([*range(8), *range(-8, 0)], dtype=np.float32)
    return _constant(integers / np.float32(7))


@cache
def dynamic_map() -> np.ndarray:
    """The signed dynamic map of 8 bits (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", section
    1.3): for numbers whose sizes span many powers of ten.

    One bit is the sign. Of the others, leading zeros count the power of ten, and what is left is a fraction: there are
    64 fractions for 10⁰, 32 for 10⁻¹, … and one for 10⁻⁶. They are the centres of equal parts of [0.1, 1]. With both
    signs these are 254 values; 0 and 1 complete them.
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
    """The 16 values of a codebook: the last stands for those that it leaves over."""
    values = CODEBOOKS[quant_type]()
    return np.pad(values, (0, 16 - len(values)), mode="edge")


@cache
def order(quant_type: str) -> np.ndarray:
    """The codes (16, uint8) in the order of their values; of two that are equal, the lower code first."""
    return _constant(np.argsort(values_of(quant_type), kind="stable").astype(np.uint8))


@cache
def midpoints(quant_type: str) -> np.ndarray:
    """Numbers at which the nearest value changes: the means (15, float32) of neighbours, the smallest first."""
    values = values_of(quant_type)[order(quant_type)]
    return _constant((values[:-1] + values[1:]) / 2)


def _linspace(start: float, stop: float, count: int) -> np.ndarray:
    """Evenly spaced float32 numbers as PyTorch makes them: the second half computed from the end, each rounded once.

    NumPy's differ in the last bits, and with them the codebooks would.
    """
    first, last = np.float32(start), np.float32(stop)
    step = (last - first) / np.float32(count - 1)
    index = np.arange(count, dtype=np.float64)  # in float64, products and sums of these are exact
    spaced = np.where(index < count // 2, first + step * index, last - step * (count - 1 - index))
    return spaced.astype(np.float32)


def _constant(array: np.ndarray) -> np.ndarray:
    """`array`, read-only: it is made once and handed to everybody."""
    array.flags.writeable = False
    return array
