"""The checks of lesson 11. They run in the checker's process."""

from statistics import NormalDist

import numpy as np

from minilora.classroom import draw, fine, promise, raised, search, task
from minilora.quant import dynamic_map, nf4

USES = ()
PROMISES = {
    "quantize": promise(within="further axes"),
    "unpack": promise(outside="another_dtype, another_container"),  # whole numbers of any dtype, as its docstring says
}
ZERO_CODE = 7
HALVES = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])  # a codebook that can be followed in one's head
UNEVEN = np.array([-1.0, -0.25, 0.0, 0.5, 0.75, 1.0])  # one that tells mirrored codes apart
NO_ZERO = np.array([-1.0, -0.25, 0.5, 1.0])
MANY = np.linspace(-1, 1, 201) ** 3  # more than a code of 7 bits reaches, and fewer than 256


def quantiles(positive: int, negative: int, zeros: int = 1, last: int | None = -1) -> np.ndarray:
    """Return a codebook made like NF4, from these numbers of quantiles per sign, before the division by the largest."""
    q, offset = NormalDist().inv_cdf, 0.9677083
    up = [q(p) for p in np.linspace(offset, 0.5, positive + 1)[:last]]
    down = [-q(p) for p in np.linspace(offset, 0.5, negative + 1)[:last]]
    return np.array(sorted([*down, *[0.0] * zeros, *up]))


def over_largest(values: np.ndarray) -> np.ndarray:
    return values / values.max()


def nf4_like(part: slice):
    """Return a function that is True if this part of the values is that of NF4."""
    return lambda values: np.allclose(values[part], nf4()[part], atol=1e-5)


TWO_ZEROS = "Zero is there twice: leave out the probability 1/2, whose quantile is 0."
NOT_DIVIDED = "The values were not divided by the largest: they must run from -1 to 1."
DIGITS = 1e-6  # of float32's values
NEGATIVE, POSITIVE, ENDS = slice(0, ZERO_CODE), slice(ZERO_CODE, 16), slice(0, 16, 15)


@task(1)
def the_codebook(student):
    """Eight slices have nine borders. At which probability does each lie, and which of their quantiles is 0 anyway?

    np.linspace(OFFSET, 0.5, 9) are nine probabilities; without the last, whose quantile is 0, eight are left.

    A codebook of four, from 0.9 on: the quantiles of 0.9 and 0.7 are 1.28 and 0.52, the one negative value is -1.28.
    Sorted with zero: -1.28, 0, 0.52, 1.28. Divided by the largest: -1, 0, 0.41, 1.
    """
    search(student.nf4_values, lambda d: (), tolerance=DIGITS, dtypes=True)
    answer = student.nf4_values()
    answer.holds(
        lambda values: np.shape(values) == (16,),
        "an array of shape (16,)",
        "There must be sixteen values: eight positive, seven negative, and zero.",
        instead={
            "Zero is missing: fifteen quantiles and 0.0 are sixteen values.": (
                lambda values: np.shape(values) == (15,) and np.abs(values).min() > 0.01
            ),
            TWO_ZEROS: lambda values: np.shape(values) == (17,) and np.sum(np.abs(values) < 1e-6) > 1,
            "There are eight of each sign and zero: the negative side has seven.": (
                lambda values: np.shape(values) == (17,)
            ),
        },
    )
    mistakes = {
        NOT_DIVIDED: quantiles(8, 7),
        "The values are there, but not in ascending order: sort them.": (
            lambda values: np.any(np.diff(values) < 0) and np.allclose(np.sort(values), nf4(), atol=1e-4)
        ),
        "The sides have changed places: there are eight positive values and seven negative ones.": (
            lambda values: np.allclose(values, -nf4()[::-1], atol=1e-4)
        ),
        "There are eight of each sign and no zero: zero takes the place of one of the negative ones.": (
            over_largest(quantiles(8, 8, zeros=0))
        ),
        "The values are evenly spaced: that is right for numbers that are equally frequent everywhere, and weights "
        "are most frequent near 0.": lambda values: np.ptp(np.diff(values)) < 1e-4,
        TWO_ZEROS: lambda values: np.sum(np.abs(values) < 1e-6) > 1,
        "The values are rounded: keep all of their digits.": lambda values: np.allclose(values, nf4(), atol=6e-3),
        "No value is exactly zero: then a weight that is zero would not stay so.": lambda values: 0 not in values,
        "The positive values are right, the negative ones are not: they are seven, evenly spaced in probability as "
        "well, from OFFSET to 1/2, and divided by the same number.": nf4_like(POSITIVE),
        "The negative values are right, the positive ones are not: they are eight, evenly spaced in probability "
        "from OFFSET to 1/2.": nf4_like(NEGATIVE),
        "The ends are right and those between are not: they are quantiles at probabilities that are evenly spaced "
        "from OFFSET, which is taken, to 1/2, which is left out.": nf4_like(ENDS),
        "The values do not run from -1 to 1: both sides begin at OFFSET, and all are divided by one number, the "
        "largest.": lambda values: not nf4_like(ENDS)(values),
    }
    answer.equals(nf4(), mistakes, tolerance=DIGITS)
    answer.holds(
        lambda values: values[ZERO_CODE] == 0 and values[0] == -1 and values[-1] == 1,
        "exactly 0 at place 7, exactly -1 and 1 at the ends",
        "Zero must be exact, so that a weight that is zero stays so: add it as 0.0.",
    )


def blocks_of(x: np.ndarray, blocksize: int) -> list[np.ndarray]:
    flat = np.ravel(x)
    return [flat[i : i + blocksize] for i in range(0, flat.size, blocksize)]


def quantized(x, values, blocksize, divide=None, places=None, side="left"):
    """Quantize as in task 2. divide: scales instead of absmax; places: where the code changes; side: of a tie."""
    flat = np.ravel(x) * 1.0
    absmax = np.array([np.abs(block).max() for block in blocks_of(flat, blocksize)])
    scale = np.repeat(absmax if divide is None else divide(flat), blocksize)[: flat.size]
    places = (values[:-1] + values[1:]) / 2 if places is None else places
    return np.searchsorted(places, flat / np.where(scale == 0, 1, scale), side), absmax


def halfway(x, values, blocksize):
    """Return (the numbers so near the middle of two values that rounding decides, each block's largest number)."""
    largest = np.repeat([block[np.abs(block * 1.0).argmax()] for block in blocks_of(x, blocksize)], blocksize)[: x.size]
    scaled = np.ravel(x) / np.where(largest == 0, 1, np.abs(largest * 1.0))
    return (np.abs(scaled[:, None] - (values[:-1] + values[1:]) / 2) < 0.01 * np.diff(values)).any(axis=1), largest


def some_book(d):
    books = (HALVES, UNEVEN, NO_ZERO, nf4(), dynamic_map(), MANY)
    return books[d.number(*range(len(books)))].astype(d.dtype)


def with_zero(values, x, blocksize):
    """Return the codebook, or one that has zero if a block is all zeros."""
    return values if all(np.any(block) for block in blocks_of(x, blocksize)) or 0 in values else UNEVEN


def quantize_inputs(d):
    """Draw numbers of which none is half way between two values. Ties are checked separately, with exact divisions."""
    shape, values, blocksize = (*d.shape((0, 1, 2)), d.size(1, 7)), some_book(d), d.number(2, 3, 1, 8)
    of_floats = d.array(*shape) * d.fine(NOT_ZERO, 1, np.float32(1e-30))
    whole = {"int64": (-9, 10), "int8": (-127, 128), "uint8": (0, 256)}
    dtype = d.fine(NO_SIGN, "", *whole)
    x = d.whole(*shape, least=whole[dtype][0], below=whole[dtype][1], dtype=dtype) if dtype else of_floats
    values = with_zero(values, x, blocksize)
    is_between, largest = halfway(x, values, blocksize)
    return np.where(is_between, largest, np.ravel(x)).astype(x.dtype).reshape(x.shape), values, blocksize


ONE_SCALE = "All blocks have one scale: take the absmax of each block."
NO_MAGNITUDE = "The largest number is not the largest magnitude: take abs first."
BY_ZERO = "0 / 0 is not a number: a block of zeros must not be divided by its absmax."
FLOOR = "The code is that of the next value above, or below, not of the nearest: compare with the midpoints."
BY_ROWS = "The numbers are read row by row, whatever the shape, and blocks run on from one row to the next."
ZEROS_SCALE = "The absmax of a block of zeros is 0: what it is replaced by is for the division alone."
NO_SIGN = fine("Right for floats, wrong for whole numbers: make them floats first (int8 has no 128, uint8 no sign).")
NOT_ZERO = fine("A block of very small numbers is not a block of zeros: only an absmax of 0 itself is replaced.")
NEAR = fine("A number close to the middle of two values gets the farther one: something is rounded before.")
TIES = fine(
    "Half way between two values, minilora takes the lower one and yours the upper: add nothing to absmax, and compare "
    "with ≤."
)


@task(2)
def quantizing(student):
    """How does a long row of numbers become blocks? And where is the place half way between two values?

    Fill the row up to whole blocks, reshape to (blocks, blocksize), take abs and max along each. What must not happen
    to a block of zeros?

    Values -1, -0.5, 0, 0.5, 1 have the midpoints -0.75, -0.25, 0.25, 0.75. The block (1, -2) has absmax 2 and becomes
    (0.5, -1): three midpoints lie below 0.5 and none below -1, so the codes are 3 and 0. np.searchsorted counts like
    this.
    """
    search(student.quantize, quantize_inputs, examples=160, tolerance=1e-7)
    rng = np.random.default_rng(2)
    blocked(student, np.array([0.4, -2.0, 1.0, 1.8]), HALVES, 4)
    blocked(student, np.array([0.3, -2.0, -0.1, 0.2]), UNEVEN, 2)
    blocked(student, np.array([1.1, 4.0, 0.5, -0.2, 0.1]), UNEVEN, 2)  # a short last block
    blocked(student, np.array([0.0, 0.0, 0.0, 3.0, -1.0, 0.0]), HALVES, 3)
    blocked(student, np.array([0.0, 0.0, 0.0, 3.0, -1.0, 0.0]), UNEVEN, 3)
    blocked(student, draw(rng, 2, 3), HALVES, 4)
    blocked(student, draw(rng, 3, 5), nf4(), 4)
    blocked(student, draw(rng, 70).astype("float32"), nf4(), 32)
    blocked(student, draw(rng, 12), dynamic_map(), 8)
    for x, values, blocksize, hint in (
        (np.array([0.5, -0.5, 1.5, -1.5, 2.0]), HALVES, 8, TIES),
        (np.array([1.0, 0.50002, 0.49998, -0.50002]), np.array([-1.0, 0.0, 1.0]), 4, NEAR),
    ):
        student.quantize(x, values, blocksize)[0].equals(quantized(x, values, blocksize)[0], hint=hint)
    student.quantize(draw(rng, 6), nf4(), 4)[0].holds(
        lambda c: c.dtype == np.uint8,
        "codes of uint8",
        fine("The codes take more bytes than they need: make them an array of uint8."),
    )


def blocked(student, x, values, blocksize):
    answer = student.quantize(x, values, blocksize)
    codes, absmax = quantized(x, values, blocksize)
    in_zeros, is_zero = np.repeat(absmax == 0, blocksize)[: x.size], np.ravel(x) == 0
    mistakes = {
        "The last block is shorter: fill it up, or treat it by itself.": raised("ValueError", "reshape"),
        BY_ROWS: raised("ValueError"),
    }
    answer.returns(mistakes)
    blocks = len(absmax)
    in_rows = [quantized(row, values, blocksize)[1] for row in np.atleast_2d(x)]
    answer[1].holds(
        lambda scales: np.shape(scales) == (blocks,),
        f"{blocks} absmax value{'s' * (blocks > 1)}",
        f"{np.size(x)} numbers in blocks of {blocksize} are {blocks} block{'s' * (blocks > 1)}, each with one absmax.",
        instead={
            "The codes come first, then the absmax values.": (
                lambda scales: np.size(scales) == x.size and np.size(answer[0].value) == blocks
            ),
            "The absmax values were asked for in one row, (blocks,).": lambda scales: np.size(scales) == blocks,
            ONE_SCALE: lambda scales: np.size(scales) == 1,
            "The last numbers are lost: they are a block too, a shorter one.": (
                lambda scales: np.shape(scales) == (np.size(x) // blocksize,)
            ),
            BY_ROWS: lambda scales: np.size(scales) == sum(map(len, in_rows)),
        },
    )
    mistakes = {
        ZEROS_SCALE: lambda scales: (
            np.any(scales[absmax == 0]) and np.allclose(scales[absmax != 0], absmax[absmax != 0])
        ),
        NO_MAGNITUDE: lambda scales: any(
            np.allclose(scales, [largest(block) for block in blocks_of(x, blocksize)])
            for largest in (np.max, lambda block: abs(block.max()))
        ),
        BY_ROWS: lambda scales: (
            np.ndim(x) > 1
            and np.allclose(scales, quantized(x.T, values, blocksize)[1])
            or np.array_equal(scales, np.concatenate(in_rows))
        ),
        "The blocks are not runs of neighbours: reshape to (blocks, blocksize), and reduce along axis 1.": (
            lambda scales: (
                np.size(x) == blocks * blocksize
                and np.allclose(scales, np.abs(np.reshape(x, (blocksize, blocks))).max(axis=0))
            )
        ),
        "A scale is the standard deviation; it must be absmax, so that nothing lies outside -1 … 1.": (
            lambda scales: np.allclose(scales, [block.std() for block in blocks_of(x, blocksize)])
        ),
        ONE_SCALE: lambda scales: blocks > 1 and np.ptp(scales) == 0,
        "An absmax is a magnitude, and never negative.": lambda scales: np.allclose(np.abs(scales), absmax),
        "The last block is shorter, and its absmax is wrong: it is that of its own numbers, and what fills it up "
        "must not count.": lambda scales: x.size % blocksize and np.allclose(scales[:-1], absmax[:-1]),
        "The absmax values have lost digits.": lambda scales: np.allclose(scales, absmax, rtol=2e-3),
        "An absmax is too small: it is the largest magnitude in its block, so that nothing lies outside -1 … 1.": (
            lambda scales: np.any(scales < absmax)
        ),
        "An absmax is too large: it is the largest magnitude in its own block, with nothing added.": (
            lambda scales: np.any(scales > absmax)
        ),
    }
    answer[1].equals(absmax, mistakes)
    scaled = np.ravel(x) / np.repeat(np.where(absmax == 0, 1, absmax), blocksize)[: x.size]
    mistakes = {
        "The numbers were not divided by their block's absmax.": quantized(
            x, values, blocksize, lambda flat: np.ones(blocks)
        )[0],
        ONE_SCALE: quantized(x, values, blocksize, lambda flat: np.full(blocks, np.abs(flat).max()))[0],
        FLOOR: lambda c: any(
            np.array_equal(c, np.searchsorted(places, scaled, side))
            for places in (values, values[1:], values[:-1])
            for side in ("left", "right")
        ),
        "These are values, not codes: a code is the index of a value.": values[codes],
        f"{ZERO_CODE} is the place of 0 in NF4 alone: look it up in values.": (
            lambda c: any(w.any() and np.array_equal(c, np.where(w, ZERO_CODE, codes)) for w in (in_zeros, is_zero))
        ),
        BY_ZERO: lambda c: in_zeros.any() and np.array_equal(c[~in_zeros], codes[~in_zeros]),
        "Give as many codes as there are numbers, in one row.": lambda c: np.shape(c) != np.shape(codes),
        "The codes end at 15: a codebook may have up to 256 values.": np.minimum(codes, 15),
        "The codes end at 127, or are negative beyond: as uint8 they reach 255.": (
            lambda c: codes.max() > 127 and np.array_equal(c[codes < 128], codes[codes < 128])
        ),
        "The values are taken as evenly spaced: look for the nearest of those in `values`.": (
            np.round((scaled + 1) / 2 * (len(values) - 1))
        ),
        BY_ROWS: lambda c: np.ndim(x) > 1 and np.array_equal(c, quantized(x.T, values, blocksize)[0]),
    }
    answer[0].equals(codes, mistakes)


OTHER_BLOCK = (
    "Some numbers have the scale of another block: the first `blocksize` of them belong to the first absmax, the next "
    "to the second."
)


def has_other_scales(got, looked_up, absmax):
    return np.shape(got) == looked_up.shape and np.isclose(got, np.outer(absmax, looked_up)).any(axis=0).all()


def dequantize_inputs(d):
    """Draw any codes, with zeros among the absmax values, and sometimes a codebook without zero."""
    n, values, blocksize = d.size(1, 9), some_book(d), d.number(2, 1, 3, 8)
    return (
        d.whole(n, below=len(values), dtype=d.fine("It goes wrong for codes in another dtype.", "uint8", "int64")),
        np.abs(d.array(-(-n // blocksize))),
        values,
        blocksize,
    )


@task(3)
def dequantizing(student):
    """What does a code stand for by itself, and what was it divided by?

    values[codes] looks all of them up at once. Each absmax belongs to `blocksize` numbers in a row.

    Values -1, -0.5, 0, 0.5, 1, codes 3, 0, 4 in blocks of 2 with absmax 2 and 10: the first two are 0.5 · 2 and -1 · 2,
    the third is 1 · 10. np.repeat([2, 10], 2) is 2, 2, 10, 10, one more than there are codes.
    """
    search(student.dequantize, dequantize_inputs)
    rng = np.random.default_rng(3)
    for n, values, blocksize in [
        (4, HALVES, 2),
        (5, UNEVEN, 2),
        (9, UNEVEN, 4),
        (70, nf4(), 32),
        (9, dynamic_map(), 4),
        (9, MANY, 4),
    ]:
        codes = rng.integers(0, len(values), n).astype("uint8")
        absmax = np.abs(draw(rng, -(-n // blocksize))) + np.arange(-(-n // blocksize)) + 0.3
        looked_up, scales = values[codes], np.repeat(absmax, blocksize)[:n]
        answer = student.dequantize(codes, absmax, values, blocksize)
        mistakes = {
            "The last block is shorter: leave off what absmax is repeated beyond the codes."
            if n % blocksize
            else "Each absmax stands for a whole block: repeat it `blocksize` times.": raised(
                "ValueError", "broadcast"
            ),
            "The last block is shorter: fill it up, or treat it by itself.": raised("ValueError", "reshape"),
        }
        answer.returns(mistakes)
        mistakes = {
            "The blocks' scales are missing: multiply by absmax.": looked_up,
            "Multiply by absmax: it was divided by before.": looked_up / scales,
            "The absmax values take turns (np.tile); each must stay for a whole block (np.repeat).": (
                looked_up * np.resize(absmax, n)
            ),
            "All blocks have the first one's scale.": looked_up * absmax[0],
            "All blocks have the largest scale.": looked_up * absmax.max(),
            "The code itself was multiplied: it is an index, look its value up.": codes * scales,
            "Codes are not evenly spaced integers: look the values up in the codebook.": (
                lambda got: (
                    np.allclose(got / scales, (codes.astype(int) - ZERO_CODE) / 8)
                    or np.allclose(got / scales, (codes.astype(int) - ZERO_CODE) / 7)
                    or np.allclose(got / scales, codes / (len(values) - 1) * 2 - 1)
                )
            ),
            "The result has whole numbers only: was it made with the dtype of the codes?": (
                lambda got: not np.any(got % 1)
            ),
            "The blocks were made equally long: each has `blocksize` numbers, and the last one what is left.": (
                looked_up * np.repeat(absmax, -(-n // len(absmax)))[:n]
            ),
            "Codes beyond 127 have become negative ones: int8 ends there, and a codebook may have up to 256.": (
                values[codes.astype("int8")] * scales
            ),
            "The codes are cut down to 4 bits: a codebook may have up to 256 values.": values[codes & 15] * scales,
            OTHER_BLOCK: lambda got: has_other_scales(got, looked_up, absmax),
            "The numbers have lost digits.": lambda got: np.allclose(got, looked_up * scales, rtol=2e-3),
        }
        answer.equals(looked_up * scales, mistakes)


def pack_inputs(d):
    dtype = d.fine("It goes wrong for codes in another dtype than uint8.", "uint8", "int64")
    return (d.whole(d.fine(NO_CODES, d.size(1, 9), 0), below=16, dtype=dtype),)


NO_CODES = "It goes wrong where there are no codes at all."


def unpack_inputs(d):
    size = d.fine(NO_CODES, d.size(), 0)
    return d.whole(size, below=d.choice(256, 3), dtype="uint8"), max(2 * size - d.number(0, 1), 0)


LOW_FIRST = "The halves are the wrong way round: the first code is in the high half."


@task(4)
def packing(student):
    """What must happen to 1 and to 15 so that together they make 0x1F?

    High half: times 16, or shifted by 4. codes[0::2] are the first ones of each pair, codes[1::2] the second.

    With decimal digits: 7 and 3 share the number 7 · 10 + 3 = 73, and 73 // 10 and 73 % 10 give them back. Half a byte
    is a digit with 16 values. np.stack([[7, 5], [3, 8]], axis=1).reshape(-1) takes turns: 7, 3, 5, 8.
    """
    search(student.pack, pack_inputs, dtypes=True)
    search(student.unpack, unpack_inputs)
    rng = np.random.default_rng(4)
    for codes in ([1, 15], [15, 1, 7, 2], [9, 7], [4, 0, 9, 2, 6], [3], rng.integers(0, 16, 33)):
        codes = np.array(codes, dtype="uint8")
        whole = np.append(codes, [ZERO_CODE] * (codes.size % 2)).astype(int)
        first, second = whole[0::2], whole[1::2]
        packed = (16 * first + second).astype("uint8")
        packed_of(student, codes, first, second)
        unpacked(student, packed, codes, first, second)


def packed_of(student, codes, first, second):
    answer = student.pack(codes)
    answer.returns(instead={f"An odd number of codes: complete the last byte with {ZERO_CODE}.": raised("ValueError")})
    whole = np.stack([first, second], axis=1).reshape(-1)
    middle = len(whole) // 2
    odd = codes.size % 2 == 1
    mistakes = {
        LOW_FIRST: first + 16 * second,
        f"The last byte is completed by 0, which stands for -1; ZERO_CODE is {ZERO_CODE}.": (
            lambda got: odd and np.array_equal(got[:-1], (16 * first + second)[:-1]) and got[-1] % 16 == 0
        ),
        "The last code is lost: an odd one needs a byte too.": (
            lambda got: odd and np.array_equal(got, (16 * first + second)[:-1])
        ),
        f"Only the last byte is wrong: its second code is ZERO_CODE, {ZERO_CODE}.": (
            lambda got: odd and np.array_equal(got[:-1], (16 * first + second)[:-1])
        ),
        "The halves overlap: the first code must be moved by 4 bits, which is times 16.": (
            lambda got: np.array_equal(got, first + second) or np.array_equal(got, first | second)
        ),
        "+ comes before <<: put the shift in brackets.": (first << (4 + second)) % 256,
        "Times 15 is not four bits further: it is times 16.": 15 * first + second,
        "Times 10 is a decimal digit further: half a byte has 16 values.": 10 * first + second,
        "Neighbours share a byte: not the first half of the codes and the second.": (
            16 * whole[:middle] + whole[middle:]
        ),
        "Each code has a byte of its own still.": lambda got: np.array_equal(got, codes),
        "There are too many bytes: two codes share one, and an odd number alone is completed.": (
            lambda got: np.size(got) > middle
        ),
        "There are bytes missing: two codes share one, and what is left over has one, too.": (
            lambda got: np.size(got) < middle
        ),
        "The code that completes the last byte stands behind the others.": (
            lambda got: odd and np.array_equal(got[1:], (16 * second[:-1] + first[1:]))
        ),
        "The high halves are right, the low ones are not.": lambda got: np.array_equal(got // 16, first),
        "The low halves are right, the high ones are not.": lambda got: np.array_equal(got % 16, second),
    }
    answer.equals(16 * first + second, mistakes)


def unpacked(student, packed, codes, first, second):
    odd = codes.size % 2 == 1
    whole = np.stack([first, second], axis=1).reshape(-1)
    answer = student.unpack(packed, codes.size)
    mistakes = {
        LOW_FIRST: np.stack([second, first], axis=1).reshape(-1)[: codes.size],
        "All high halves come before the low ones: they must take turns.": (
            np.concatenate([first, second])[: codes.size]
        ),
        "There is one code too many: n says how many there are.": lambda got: odd and np.array_equal(got, whole),
        f"A last {ZERO_CODE} need not be filling, it is a code like the others: n says how many there are.": (
            lambda got: whole[-1] == ZERO_CODE and not odd and np.array_equal(got, whole[:-1])
        ),
        "The last code is lost: n says how many there are.": lambda got: np.array_equal(got, codes[:-1]),
        "The codes were asked for in one row, (n,).": lambda got: np.ndim(got) != 1,
        "The high half is still times 16.": np.stack([16 * first, second], axis=1).reshape(-1)[: codes.size],
        "Codes are negative: a byte has no sign, so shift it as uint8.": lambda got: np.any(np.asarray(got) < 0),
        "Codes are whole numbers: divide with //.": lambda got: np.any(np.asarray(got) % 1),
        "The first codes of the bytes are right, the second ones are not: what is left of a byte without its high "
        "half?": lambda got: np.array_equal(got[0::2], codes[0::2]),
        "The second codes of the bytes are right, the first ones are not: the high half counts sixteens.": (
            lambda got: np.array_equal(got[1::2], codes[1::2])
        ),
    }
    answer.equals(codes, mistakes)
    answer.holds(
        lambda got: np.asarray(got).dtype.kind in "iu",
        "codes of a dtype of whole numbers",
        fine("These are floats, and codes are indices: give them a dtype of whole numbers."),
    )


def absmax_inputs(d):
    """Draw multiples of 1/8 whose mean is exact, so that no difference to the mean is half way between two values."""
    n, scale, values, blocksize = d.size(1, 9), d.number(1.0, 1024.0, 2.0**-14), some_book(d), d.number(2, 3, 1, 8)
    least, below = d.choice((0, 30), (9, 11))
    absmax = d.whole(n, least=least, below=below) / 8
    values = with_zero(values, absmax - absmax.mean(), blocksize)
    while halfway(absmax - absmax.mean(), values, blocksize)[0].any():
        absmax[0] += 1 / 8
    return (absmax * scale).astype(d.dtype), values, blocksize


def restore_inputs(d):
    """Draw a mean so large that no result is negative, though some are far below it."""
    codes, inner, values, blocksize = dequantize_inputs(d)
    return codes, inner, inner.max() * d.number(1.5, 1.0, 1.01, 3.0), values, blocksize


@task(5)
def scales_of_scales(student):
    """Which of your functions quantizes an array, whatever it holds?

    The mean of absmax is subtracted first, and comes back at the end.

    absmax 2, 3, 4, 7 have the mean 4: -2, -1, 0, 3 are quantized, in blocks of 2 with the scales 2 and 3. Read back
    with the values -1, -0.5, 0, 0.5, 1 that is -2, -1, 0, 3, and with 4 added 2, 3, 4, 7.
    """
    search(student.compress_absmax, absmax_inputs)
    search(student.restore_absmax, restore_inputs)
    rng = np.random.default_rng(5)
    for n, values, blocksize in [(3, UNEVEN, 4), (5, UNEVEN, 2), (40, dynamic_map(), 16)]:
        absmax = np.round(np.abs(draw(rng, n)) + 2 + rng.random(n), 1)
        mean = absmax.mean()
        codes, inner = quantized(absmax - mean, values, blocksize)
        answer = student.compress_absmax(absmax, values, blocksize)
        mistakes = {
            "The smallest was subtracted: subtract the mean, so that both signs are used.": absmax.min(),
            "The largest was subtracted: subtract the mean, so that both signs are used.": absmax.max(),
            "Nothing was subtracted: all are positive, so half of the codebook would lie idle.": 0.0,
            "That is the median; subtract the mean.": np.median(absmax),
            "That is the mean of the first block: one mean is subtracted from all.": absmax[:blocksize].mean(),
            "That is each block's mean: one mean is subtracted from all.": lambda got: np.size(got) == len(inner) > 1,
            "One number was asked for as the third result, the mean.": lambda got: np.ndim(got) > 0,
            "The mean has the wrong sign: it is what was subtracted.": -mean,
            "That is the middle of the smallest and the largest; subtract the mean.": (absmax.min() + absmax.max()) / 2,
            "The mean has lost digits.": lambda got: np.isclose(got, mean, rtol=5e-3),
        }
        answer[2].equals(mean, mistakes)
        mistakes = {
            "The mean was not subtracted before quantizing.": quantized(absmax, values, blocksize)[1],
            "The absmax was divided by the mean; subtract it.": quantized(absmax / mean, values, blocksize)[1],
            "All have one scale: they are cut into blocks too, of `blocksize`.": (
                lambda got: np.size(got) == 1 < np.size(inner)
            ),
            "The mean is subtracted from what is quantized, not from the scales.": (
                quantized(absmax, values, blocksize)[1] - mean
            ),
            "Divided by a deviation: subtract the mean, and quantize divides by absmax.": (
                quantized((absmax - mean) / absmax.std(), values, blocksize)[1]
            ),
            "The three results are the codes, their absmax and the mean, in this order.": codes,
        }
        answer[1].equals(inner, mistakes)
        mistakes = {
            "The mean was not subtracted before quantizing.": quantized(absmax, values, blocksize)[0],
            "The mean was subtracted the wrong way round.": quantized(mean - absmax, values, blocksize)[0],
        }
        answer[0].equals(codes, mistakes)
        rest = values[codes] * np.repeat(inner, blocksize)[:n]
        mistakes = {
            "The mean was not added back.": rest,
            "The mean was subtracted again: add it.": rest - mean,
            "The mean was multiplied with: add it.": rest * mean,
            "The mean was added before the scale was multiplied with.": (
                (values[codes] + mean) * np.repeat(inner, blocksize)[:n]
            ),
            "The mean was added to the scales of the blocks: add it to what they were multiplied with.": (
                values[codes] * np.repeat(inner + mean, blocksize)[:n]
            ),
            OTHER_BLOCK: lambda got, mean=mean, codes=codes, inner=inner, values=values: has_other_scales(
                got - mean, values[codes], inner
            ),
        }
        student.restore_absmax(codes.astype("uint8"), inner, mean, values, blocksize).equals(rest + mean, mistakes)

    codes, far = np.array([0, 4, 2], dtype="uint8"), np.array([0.05, 4.05, 2.05])
    mistakes = {
        "An absmax may lie far below the mean, here at a fortieth of it: add the mean, and do no more.": (
            lambda got: got[0] > 0.06 and np.allclose(got[1:], far[1:])
        )
    }
    student.restore_absmax(codes, np.array([2.0]), np.float64(2.05), HALVES, 3).equals(far, mistakes)


def bits_inputs(d):
    return d.number(64, 32, 1, 100, 24, 4096), d.number(None, 256, 64, 24, 1)


@task(6)
def counting(student):
    """How many weights share one absmax? And how many absmax values share one of their own?

    32 / blocksize is a weight's share of its absmax. With double quantization the 32 becomes something else.

    Codes of 3 bits, blocks of 10 with an absmax of 20 bits: 3 + 20 / 10 = 5. If that absmax becomes a code of 5 bits,
    and 4 of them share 20 bits, it takes 5 + 20 / 4 = 10 bits, and a weight 3 + 10 / 10 = 4.
    """
    search(student.bits_per_weight, bits_inputs, tolerance=1e-7)
    for blocksize in (24, 64, 100, 4096):
        right = 4 + 32 / blocksize
        mistakes = {
            "The scales are missing: each block keeps one in 32 bits.": 4,
            "A scale is a float32: 32 bits, not 16.": 4 + 16 / blocksize,
            "A scale is a float32: 32 bits. That is 4 bytes.": 4 + 4 / blocksize,
            "A block shares one scale: divide its 32 bits by blocksize.": 4 + 32,
            "These are bytes: give bits.": right / 8,
            "That is for a whole block: divide by blocksize.": 4 * blocksize + 32,
            "Without inner_blocksize there is no double quantization: the scale has its 32 bits.": (
                lambda got, b=blocksize: any(np.isclose(got, 4 + (8 + 32 / k) / b) for k in (64, 128, 256))
            ),
            "blocksize need not be a power of two.": 4 + 32 / 2 ** (blocksize.bit_length() - 1),
            "The weights' own codes are missing: 4 bits each.": right - 4,
            **rounded(right, 4 + 32 // blocksize),
        }
        student.bits_per_weight(blocksize).equals(right, mistakes, tolerance=1e-7)
    for blocksize, inner in ((64, 24), (24, 256), (100, 100)):
        right = 4 + (8 + 32 / inner) / blocksize
        mistakes = {
            "The scales' own scales are missing: 32 bits for each inner_blocksize of them.": 4 + 8 / blocksize,
            "32 bits are shared by inner_blocksize scales, and so by blocksize · inner_blocksize weights.": (
                4 + 8 / blocksize + 32 / inner
            ),
            "The 8 bits of a scale are shared by the block's weights: divide them by blocksize as well.": (
                lambda got, b=blocksize, i=inner: np.isclose(got, [12 + 32 / (b * i), 12 + 32 / i]).any()
            ),
            "With double quantization a scale takes 8 bits and no longer 32.": (
                lambda got, b=blocksize: got > 4 + 32 / b - 1e-9
            ),
            "A scale has 8 bits here, not 4.": 4 + (4 + 32 / inner) / blocksize,
            "The codes of the scales are missing: 8 bits for each block.": 4 + 32 / (blocksize * inner),
            "The weights' own codes are missing: 4 bits each.": right - 4,
            "256 is one inner_blocksize among others: use the one that is given.": 4 + (8 + 32 / 256) / blocksize,
            "Divided by blocksize twice: the 32 bits belong to a scale, and that to blocksize weights.": (
                4 + (8 + 32 / (inner * blocksize)) / blocksize
            ),
            **rounded(right, 4 + (8 + 32 // inner) / blocksize),
        }
        student.bits_per_weight(blocksize, inner).equals(right, mistakes, tolerance=1e-7)


def rounded(right: float, cut: float) -> dict:
    return {
        "A quotient was cut down to a whole number: divide with / in place of //.": (lambda got: got == cut),
        "The number is rounded: give all of its digits.": lambda got: abs(got - right) < 6e-3,
    }
