"""The checks of lesson 11. They run in the checker's process."""

from statistics import NormalDist

import numpy as np

from minilora.classroom import draw, raised, task
from minilora.quant import dynamic_map, nf4

USES = ()
ZERO_CODE = 7
HALVES = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])  # a codebook that can be followed in one's head
UNEVEN = np.array([-1.0, -0.25, 0.0, 0.5, 0.75, 1.0])  # and one that tells mirrored codes apart


def quantiles(positive: int, negative: int, zeros: int = 1, last: int | None = -1) -> np.ndarray:
    """A codebook made like NF4's from so many quantiles of each sign, before it is divided by its largest."""
    q, offset = NormalDist().inv_cdf, 0.9677083
    up = [q(p) for p in np.linspace(offset, 0.5, positive + 1)[:last]]
    down = [-q(p) for p in np.linspace(offset, 0.5, negative + 1)[:last]]
    return np.array(sorted([*down, *[0.0] * zeros, *up]))


def over_largest(values: np.ndarray) -> np.ndarray:
    return values / values.max()


NOT_DIVIDED = "The values were not divided by the largest: they must run from -1 to 1."


@task(
    1,
    hints=(
        "Where are weights frequent, and where are they rare? How far apart should the values be there?",
        "np.linspace(OFFSET, 0.5, 9) are nine probabilities; without the last, whose quantile is 0, eight are left.",
        "quantile(p) for 8 probabilities, -quantile(p) for 7, and 0.0; sorted, divided by the largest, float32.",
    ),
)
def the_codebook(student):
    answer = student.nf4_values()
    answer.holds(
        lambda values: np.shape(values) == (16,),
        "an array of shape (16,)",
        "There must be sixteen values: eight positive, seven negative, and zero.",
        instead={
            "Zero is missing: fifteen quantiles and 0.0 are sixteen values.": (
                lambda values: np.shape(values) == (15,) and np.abs(values).min() > 0.01
            ),
            "There are eight of each sign and zero: the negative side has seven.": (
                lambda values: np.shape(values) == (17,)
            ),
        },
    )
    answer.equals(
        nf4(),
        instead={
            NOT_DIVIDED: quantiles(8, 7),
            "The values are there, but not in ascending order: sort them.": (
                lambda values: np.allclose(np.sort(values), nf4(), atol=1e-4)
            ),
            "The sides have changed places: there are eight positive values and seven negative ones.": (
                lambda values: np.allclose(values, -nf4()[::-1], atol=1e-4)
            ),
            "There are eight of each sign and no zero: zero takes the place of one of the negative ones.": (
                over_largest(quantiles(8, 8, zeros=0))
            ),
            "The values are evenly spaced: that is right for numbers that are equally frequent everywhere, and weights "
            "are most frequent near 0.": lambda values: np.ptp(np.diff(values)) < 1e-4,
            "Zero is there twice: leave out the probability 1/2, whose quantile is 0.": (
                lambda values: np.sum(np.abs(values) < 1e-6) > 1
            ),
            "No value is exactly zero: then a weight that is zero would not stay so.": lambda values: 0 not in values,
        },
    )
    answer.holds(
        lambda values: values[ZERO_CODE] == 0 and values[0] == -1 and values[-1] == 1,
        "exactly 0 at place 7, exactly -1 and 1 at the ends",
        "Zero must be exact, so that a weight that is zero stays so: add it as 0.0.",
    )


def quantized(x, values, blocksize, divide=None, places=None, side="left"):
    """As task 2 asks it. divide: the scales in place of absmax; places: where the code changes; side: of a tie."""
    flat = np.ravel(x)
    starts = range(0, flat.size, blocksize)
    absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in starts])
    scale = np.repeat(absmax if divide is None else divide(flat), blocksize)[: flat.size]
    places = (values[:-1] + values[1:]) / 2 if places is None else places
    return np.searchsorted(places, flat / np.where(scale == 0, 1, scale), side), absmax


ONE_SCALE = "All blocks have one scale: take the absmax of each block."
NO_MAGNITUDE = "The largest number is not the largest magnitude: take abs first."
BY_ZERO = "0 / 0 is not a number: a block of zeros must not be divided by its absmax."
FLOOR = "The code is that of the next value above, or below, not of the nearest: compare with the midpoints."


@task(
    2,
    hints=(
        "How does a long row of numbers become blocks? And where is the place half way between two values?",
        "Fill the row up to whole blocks, reshape to (blocks, blocksize), take abs and max along each. What must not "
        "happen to a block of zeros?",
        "midpoints = (values[:-1] + values[1:]) / 2; np.searchsorted(midpoints, scaled) is the index of the nearest.",
    ),
)
def quantizing(student):
    rng = np.random.default_rng(2)
    blocked(student, np.array([0.4, -2.0, 1.0, 2.0]), HALVES, 4)
    blocked(student, np.array([0.3, -2.0, -0.1, 0.2]), UNEVEN, 2)
    blocked(student, np.array([1.0, 4.0, 0.5, -0.2, 0.1]), UNEVEN, 2)  # a short last block
    blocked(student, np.array([0.0, 0.0, 0.0, 3.0, -1.0, 0.0]), UNEVEN, 3)
    blocked(student, np.array([0.5, -0.5, 1.5, -1.5, 2.0]), HALVES, 8)  # ties, in one block
    blocked(student, draw(rng, 3, 5), nf4(), 4)
    blocked(student, draw(rng, 70).astype("float32"), nf4(), 32)
    blocked(student, draw(rng, 12), dynamic_map(), 8)
    codes = student.quantize(draw(rng, 6), nf4(), 4)[0]
    codes.holds(
        lambda c: c.dtype == np.uint8, "codes of uint8", "The codes take more bytes than they need: make them uint8."
    )


def blocked(student, x, values, blocksize):
    answer = student.quantize(x, values, blocksize)
    codes, absmax = quantized(x, values, blocksize)
    answer.returns(
        instead={
            "The last block is shorter: fill it up, or treat it by itself.": raised("ValueError", "reshape"),
            "The numbers are read row by row, whatever the shape: flatten them first.": raised("ValueError"),
        }
    )
    blocks = len(absmax)
    answer[1].holds(
        lambda found: np.shape(found) == (blocks,),
        f"{blocks} absmax values",
        f"{np.size(x)} numbers in blocks of {blocksize} are {blocks} blocks, and each has one absmax.",
        instead={
            ONE_SCALE: lambda found: np.size(found) == 1,
            "The last numbers are lost: they are a block too, a shorter one.": (
                lambda found: np.shape(found) == (np.size(x) // blocksize,)
            ),
        },
    )
    answer[1].equals(
        absmax,
        instead={
            NO_MAGNITUDE: [np.ravel(x)[i : i + blocksize].max() for i in range(0, np.size(x), blocksize)],
            "The blocks are not runs of neighbours: reshape to (blocks, blocksize), and reduce along axis 1.": (
                lambda found: (
                    np.size(x) == blocks * blocksize
                    and np.allclose(found, np.abs(np.reshape(x, (blocksize, blocks))).max(axis=0))
                )
            ),
            "A scale is the standard deviation; it must be absmax, so that nothing lies outside -1 … 1.": (
                lambda found: np.allclose(found[0], np.std(np.ravel(x)[:blocksize]))
            ),
        },
    )
    answer[0].equals(
        codes,
        instead={
            "The numbers were not divided by their block's absmax.": quantized(
                x, values, blocksize, lambda flat: np.ones(blocks)
            )[0],
            ONE_SCALE: quantized(x, values, blocksize, lambda flat: np.full(blocks, np.abs(flat).max()))[0],
            "Half way between two values, the lower one is taken.": quantized(x, values, blocksize, side="right")[0],
            FLOOR: lambda c: (
                np.array_equal(c, quantized(x, values, blocksize, places=values[1:])[0])
                or np.array_equal(c, quantized(x, values, blocksize, places=values)[0])
                or np.array_equal(c, quantized(x, values, blocksize, places=values[:-1])[0])
            ),
            "These are values, not codes: a code is the index of a value.": values[codes],
            BY_ZERO: lambda c: not np.any(x[:3]) and np.array_equal(c[3:], codes[3:]),
            "Give as many codes as there are numbers, in one row.": lambda c: np.shape(c) != np.shape(codes),
        },
    )


@task(
    3,
    hints=(
        "What does a code stand for by itself, and what was it divided by?",
        "values[codes] looks all of them up at once. Each absmax belongs to `blocksize` numbers in a row.",
        "values[codes] * np.repeat(absmax, blocksize)[: codes.size]",
    ),
)
def dequantizing(student):
    rng = np.random.default_rng(3)
    for n, values, blocksize in [(4, HALVES, 2), (5, UNEVEN, 2), (70, nf4(), 32), (9, dynamic_map(), 4)]:
        codes = rng.integers(0, len(values), n)
        absmax = np.abs(draw(rng, -(-n // blocksize))) + np.arange(-(-n // blocksize)) + 0.3
        looked_up, scales = values[codes], np.repeat(absmax, blocksize)[:n]
        answer = student.dequantize(codes.astype("uint8"), absmax, values, blocksize)
        answer.returns(
            instead={
                "The last block is shorter: leave off what absmax is repeated beyond the codes.": raised(
                    "ValueError", "broadcast"
                )
            }
        )
        answer.equals(
            looked_up * scales,
            instead={
                "The blocks' scales are missing: multiply by absmax.": looked_up,
                "Multiply by absmax: it was divided by before.": looked_up / scales,
                "The absmax values take turns (np.tile); each must stay for a whole block (np.repeat).": (
                    looked_up * np.resize(absmax, n)
                ),
                "All blocks have the first one's scale.": looked_up * absmax[0],
                "All blocks have the largest scale.": looked_up * absmax.max(),
                "The code itself was multiplied: it is an index, look its value up.": codes * scales,
                "Codes are no evenly spaced integers: look the values up in the codebook.": (
                    lambda got: (
                        np.allclose(got / scales, (codes - ZERO_CODE) / 8)
                        or np.allclose(got / scales, (codes - ZERO_CODE) / 7)
                        or np.allclose(got / scales, codes / (len(values) - 1) * 2 - 1)
                    )
                ),
            },
        )


LOW_FIRST = "The halves are the wrong way round: the first code is in the high half."


@task(
    4,
    hints=(
        "How does one make 0x1F of 1 and 15?",
        "High half: times 16, or shifted by 4. codes[0::2] are the first ones of each pair, codes[1::2] the second.",
        "pack: codes[0::2] * 16 + codes[1::2]. unpack: packed // 16 and packed % 16, stacked along axis 1, reshaped.",
    ),
)
def packing(student):
    rng = np.random.default_rng(4)
    for codes in ([1, 15], [15, 1, 7, 2], [4, 0, 9, 2, 6], [3], rng.integers(0, 16, 33)):
        codes = np.array(codes, dtype="uint8")
        whole = np.append(codes, [ZERO_CODE] * (codes.size % 2)).astype(int)
        first, second = whole[0::2], whole[1::2]
        answer = student.pack(codes)
        answer.returns(
            instead={f"An odd number of codes: complete the last byte with {ZERO_CODE}.": raised("ValueError")}
        )
        middle = len(whole) // 2
        odd = codes.size % 2 == 1
        answer.equals(
            16 * first + second,
            instead={
                LOW_FIRST: first + 16 * second,
                f"The last byte is completed by 0, which stands for -1; ZERO_CODE is {ZERO_CODE}.": (
                    lambda got: odd and np.array_equal(got[:-1], (16 * first + second)[:-1]) and got[-1] % 16 == 0
                ),
                "The last code is lost: an odd one needs a byte too.": (
                    lambda got: odd and np.array_equal(got, (16 * first + second)[:-1])
                ),
                "The halves overlap: the first code must be moved by 4 bits, which is times 16.": (
                    lambda got: np.array_equal(got, first + second) or np.array_equal(got, first | second)
                ),
                "Times 15 is not four bits further: it is times 16.": 15 * first + second,
                "Neighbours share a byte: not the first half of the codes and the second.": (
                    16 * whole[:middle] + whole[middle:]
                ),
                "Each code has a byte of its own still.": lambda got: np.size(got) == codes.size > 1,
            },
        )
        answer.holds(
            lambda got: got.dtype == np.uint8,
            "bytes of uint8",
            "The result takes more than a byte for two codes: make it uint8.",
        )
        packed = (16 * first + second).astype("uint8")
        student.unpack(packed, codes.size).equals(
            codes,
            instead={
                LOW_FIRST: np.stack([second, first], axis=1).reshape(-1)[: codes.size],
                "All high halves come before the low ones: they must take turns.": (
                    np.concatenate([first, second])[: codes.size]
                ),
                "There is one code too many: n says how many there are.": lambda got: (
                    odd and np.array_equal(got, whole)
                ),
                "The high half is still times 16.": np.stack([16 * first, second], axis=1).reshape(-1)[: codes.size],
            },
        )


@task(
    5,
    hints=(
        "Which of your functions quantizes an array, whatever it holds?",
        "The mean of absmax is subtracted first, and comes back at the end.",
        "quantize(absmax - mean, values, blocksize); dequantize(codes, inner_absmax, values, blocksize) + mean",
    ),
)
def scales_of_scales(student):
    rng = np.random.default_rng(5)
    for n, values, blocksize in [(3, UNEVEN, 4), (5, UNEVEN, 2), (40, dynamic_map(), 16)]:
        absmax = np.round(np.abs(draw(rng, n)) + 2 + rng.random(n), 1)
        mean = absmax.mean()
        codes, inner = quantized(absmax - mean, values, blocksize)
        answer = student.compress_absmax(absmax, values, blocksize)
        answer[2].equals(
            mean,
            instead={
                "The smallest was subtracted: subtract the mean, so that both signs are used.": absmax.min(),
                "The largest was subtracted: subtract the mean, so that both signs are used.": absmax.max(),
                "Nothing was subtracted: all are positive, so half of the codebook would lie idle.": 0.0,
                "That is the median; subtract the mean.": np.median(absmax),
            },
        )
        answer[1].equals(
            inner,
            instead={
                "The mean was not subtracted before quantizing.": quantized(absmax, values, blocksize)[1],
                "The absmax was divided by the mean; subtract it.": quantized(absmax / mean, values, blocksize)[1],
                "All have one scale: they are cut into blocks too, of `blocksize`.": (
                    lambda got: np.size(got) == 1 < np.size(inner)
                ),
            },
        )
        answer[0].equals(
            codes,
            instead={
                "The mean was not subtracted before quantizing.": quantized(absmax, values, blocksize)[0],
                "The mean was subtracted the wrong way round.": quantized(mean - absmax, values, blocksize)[0],
            },
        )
        rest = values[codes] * np.repeat(inner, blocksize)[:n]
        student.restore_absmax(codes.astype("uint8"), inner, mean, values, blocksize).equals(
            rest + mean,
            instead={
                "The mean was not added back.": rest,
                "The mean was subtracted again: add it.": rest - mean,
                "The mean was multiplied with: add it.": rest * mean,
                "The mean was added before the scale was multiplied with.": (
                    (values[codes] + mean) * np.repeat(inner, blocksize)[:n]
                ),
            },
        )


@task(
    6,
    hints=(
        "How many weights share one absmax? And how many absmax values share one of their own?",
        "32 / blocksize is a weight's share of its absmax. With double quantization the 32 becomes something else.",
        "4 + 32 / blocksize; 4 + (8 + 32 / inner_blocksize) / blocksize",
    ),
)
def counting(student):
    for blocksize in (64, 32, 4096):
        student.bits_per_weight(blocksize).equals(
            4 + 32 / blocksize,
            instead={
                "The scales are missing: each block keeps one in 32 bits.": 4,
                "A scale is a float32: 32 bits, not 16.": 4 + 16 / blocksize,
                "A scale is a float32: 32 bits. That is 4 bytes.": 4 + 4 / blocksize,
                "A block shares one scale: divide its 32 bits by blocksize.": 4 + 32,
                "These are bytes: give bits.": (4 + 32 / blocksize) / 8,
                "That is for a whole block: divide by blocksize.": 4 * blocksize + 32,
            },
        )
    for blocksize, inner in ((64, 256), (32, 128)):
        student.bits_per_weight(blocksize, inner).equals(
            4 + (8 + 32 / inner) / blocksize,
            instead={
                "The scales' own scales are missing: 32 bits for each inner_blocksize of them.": 4 + 8 / blocksize,
                "32 bits are shared by inner_blocksize scales, and so by blocksize · inner_blocksize weights.": (
                    4 + 8 / blocksize + 32 / inner
                ),
                "With double quantization a scale takes 8 bits and no longer 32.": (
                    lambda got: got > 4 + 32 / blocksize - 1e-9
                ),
                "A scale has 8 bits here, not 4.": 4 + (4 + 32 / inner) / blocksize,
                "The codes of the scales are missing: 8 bits for each block.": 4 + 32 / (blocksize * inner),
            },
        )
