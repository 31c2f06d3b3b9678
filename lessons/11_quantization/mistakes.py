"""Answers to lesson 11 that the checks are tried on."""

from minilora.classroom import Mistake, Right

MISTAKES = [
    # Task 1
    Mistake(
        "nf4_values",
        "not divided",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
        return np.array(sorted(up + down + [0.0]), dtype="float32")
        """,
        "not divided by the largest",
    ),
    Mistake(
        "nf4_values",
        "five digits",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
        return (np.array(sorted(up + down + [0.0])) / max(up)).round(5).astype("float32")
        """,
        "keep all of their digits",
    ),
    Mistake(
        "nf4_values",
        "sides changed",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
        down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        return np.array(sorted(up + down + [0.0])) / max(up)
        """,
        "changed places",
    ),
    Mistake(
        "nf4_values",
        "eight of each, no zero",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        return np.array(sorted(up + [-p for p in up])) / max(up)
        """,
        "no zero",
    ),
    Mistake(
        "nf4_values",
        "eight of each and zero",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        return np.array(sorted(up + [0.0] + [-p for p in up])) / max(up)
        """,
        "the negative side has seven",
    ),
    Mistake(
        "nf4_values",
        "zero twice, seventeen",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)]
        down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
        return np.array(sorted(up + down + [0.0])) / max(up)
        """,
        "Zero is there twice",
    ),
    Mistake(
        "nf4_values",
        "zero forgotten",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
        return np.array(sorted(up + down)) / max(up)
        """,
        "Zero is missing",
    ),
    Mistake(
        "nf4_values",
        "not sorted",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
        return np.array(down + [0.0] + up) / max(up)
        """,
        "ascending",
    ),
    Mistake("nf4_values", "evenly spaced", "return np.linspace(-1, 1, 16)", "evenly spaced"),
    Mistake(
        "nf4_values",
        "the first left out",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[1:]]
        down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[1:]]
        return np.array(sorted(up + down + [0.0])) / max(up)
        """,
        "Zero is there twice",
    ),
    Mistake(
        "nf4_values",
        "sixteen quantiles",
        """
        values = np.array([quantile(p) for p in np.linspace(1 - OFFSET, OFFSET, 16)])
        return values / values.max()
        """,
        "No value is exactly zero",
    ),
    Mistake(
        "nf4_values",
        "zero by rounding",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
        return np.array(sorted(up + down + [quantile(0.5000001)])) / max(up)
        """,
        "Zero must be exact",
    ),
    Mistake(
        "nf4_values",
        "one table for all calls",
        """
        if not hasattr(nf4_values, "table"):
            up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
            down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
            nf4_values.table = np.array(sorted(up + down + [0.0]), dtype="float32") / np.float32(max(up))
        return nf4_values.table
        """,
        "an earlier result of nf4_values",
    ),
    Mistake(
        "nf4_values",
        "float64",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        down = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
        return np.array(sorted(up + down + [0.0])) / max(up)
        """,
        "The dtype is float64",
    ),
    Mistake(
        "nf4_values",
        "the same steps for both sides",
        """
        up = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
        down = [-value for value in up[:7]]
        return np.float32(sorted(up + down + [0.0])) / np.float32(max(up))
        """,
        "negative ones are not",
    ),
    # Task 2
    Mistake(
        "quantize",
        "one scale",
        """
        flat = x.reshape(-1)
        absmax = np.abs(flat).max()
        return np.searchsorted((values[:-1] + values[1:]) / 2, flat / absmax).astype("uint8"), np.array([absmax])
        """,
        "All blocks have one scale",
    ),
    Mistake(
        "quantize",
        "the same scale for all blocks",
        """
        flat = x.reshape(-1)
        absmax = np.full(-(-flat.size // blocksize), np.abs(flat).max())
        return np.searchsorted((values[:-1] + values[1:]) / 2, flat / absmax[0]).astype("uint8"), absmax
        """,
        "All blocks have one scale",
    ),
    Mistake(
        "quantize",
        "no abs",
        """
        flat = x.reshape(-1)
        absmax = np.array([flat[i : i + blocksize].max() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(absmax, blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), absmax
        """,
        "take abs first",
    ),
    Mistake(
        "quantize",
        "the next value above",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(absmax, blocksize)[: flat.size]
        return np.searchsorted(values, scaled).astype("uint8"), absmax
        """,
        "not of the nearest",
    ),
    Mistake(
        "quantize",
        "zeros divided by zero",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        with np.errstate(invalid="ignore"):
            scaled = flat / np.repeat(absmax, blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), absmax
        """,
        "0 / 0",
    ),
    Mistake(
        "quantize",
        "whole blocks only, by an exception",
        """
        blocks = x.reshape(-1, blocksize)
        absmax = np.abs(blocks).max(axis=1)
        codes = np.searchsorted((values[:-1] + values[1:]) / 2, blocks / np.maximum(absmax, 1e-38)[:, None])
        return codes.reshape(-1).astype("uint8"), absmax
        """,
        "last block is shorter",
    ),
    Mistake(
        "quantize",
        "whole blocks only, the rest dropped",
        """
        flat = x.reshape(-1)
        blocks = flat[: flat.size - flat.size % blocksize].reshape(-1, blocksize)
        absmax = np.abs(blocks).max(axis=1)
        codes = np.searchsorted((values[:-1] + values[1:]) / 2, blocks / np.maximum(absmax, 1e-38)[:, None])
        return codes.reshape(-1).astype("uint8"), absmax
        """,
        "a shorter one",
    ),
    Mistake(
        "quantize",
        "not divided",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        return np.searchsorted((values[:-1] + values[1:]) / 2, flat).astype("uint8"), absmax
        """,
        "not divided by their block's absmax",
    ),
    Mistake(
        "quantize",
        "a deviation",
        """
        flat = x.reshape(-1)
        scales = np.array([flat[i : i + blocksize].std() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(scales, blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), scales
        """,
        "standard deviation",
    ),
    Mistake(
        "quantize",
        "the upper one of a tie",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(np.maximum(absmax, 1e-38), blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled, side="right").astype("uint8"), absmax
        """,
        "the lower one",
    ),
    Mistake(
        "quantize",
        "values for codes",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(np.maximum(absmax, 1e-38), blocksize)[: flat.size]
        return values[np.searchsorted((values[:-1] + values[1:]) / 2, scaled)], absmax
        """,
        "values, not codes",
    ),
    Mistake(
        "quantize",
        "large codes",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(np.maximum(absmax, 1e-38), blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled), absmax
        """,
        "uint8",
    ),
    Mistake(
        "quantize",
        "the argument changed",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        flat /= np.repeat(np.where(absmax == 0, 1, absmax), blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, flat).astype("uint8"), absmax
        """,
        "changed its argument x",
    ),
    Mistake(
        "quantize",
        "NF4's zero for every codebook",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(np.where(absmax == 0, 1, absmax), blocksize)[: flat.size]
        codes = np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8")
        return np.where(scaled == 0, np.uint8(ZERO_CODE), codes), absmax
        """,
        "7 is the place of 0 in NF4 alone",
    ),
    Mistake(
        "quantize",
        "the scale of zeros is 1",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        absmax[absmax == 0] = 1
        scaled = flat / np.repeat(absmax, blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), absmax
        """,
        "absmax of a block of zeros is 0",
    ),
    Mistake(
        "quantize",
        "by columns",
        """
        flat = x.T.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(np.where(absmax == 0, 1, absmax), blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), absmax
        """,
        "row by row",
    ),
    Mistake(
        "quantize",
        "midpoints kept",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(np.where(absmax == 0, 1, absmax), blocksize)[: flat.size]
        quantize.midpoints = getattr(quantize, "midpoints", (values[:-1] + values[1:]) / 2)
        return np.searchsorted(quantize.midpoints, scaled).astype("uint8"), absmax
        """,
        "is kept",
    ),
    Mistake(
        "quantize",
        "filled up with the first numbers",
        """
        blocks = np.resize(x, (-(-x.size // blocksize), blocksize))
        absmax = np.abs(blocks).max(axis=1)
        scaled = (blocks / np.where(absmax == 0, 1, absmax)[:, None]).reshape(-1)[: x.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), absmax
        """,
        "what fills it up",
    ),
    # Task 3
    Mistake(
        "quantize",
        "whole numbers divided in their dtype",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = np.zeros_like(flat)
        for i in range(flat.size):
            scaled[i] = flat[i] / (absmax[i // blocksize] or 1)
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), absmax
        """,
        "whole numbers",
    ),
    Mistake(
        "quantize",
        "the largest of x and -x",
        """
        flat = x.reshape(-1)
        blocks = [flat[i : i + blocksize] for i in range(0, flat.size, blocksize)]
        absmax = np.array([max(block.max(), (-block).max()) for block in blocks])
        scaled = flat / np.repeat(np.where(absmax == 0, 1, absmax), blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), absmax
        """,
        "without a sign",
    ),
    Mistake(
        "quantize",
        "small blocks are zeros",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = flat / np.repeat(np.where(absmax < 1e-20, 1, absmax), blocksize)[: flat.size]
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), absmax
        """,
        "no block of zeros",
    ),
    Mistake(
        "quantize",
        "distances in float16",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = (flat / np.repeat(np.where(absmax == 0, 1, absmax), blocksize)[: flat.size]).astype("float16")
        return np.abs(scaled[:, None] - values.astype("float16")).argmin(axis=1).astype("uint8"), absmax
        """,
        "something is rounded",
    ),
    Mistake(
        "quantize",
        "rounded to four digits",
        """
        flat = x.reshape(-1)
        absmax = np.array([np.abs(flat[i : i + blocksize]).max() for i in range(0, flat.size, blocksize)])
        scaled = np.round(flat / np.repeat(np.where(absmax == 0, 1, absmax), blocksize)[: flat.size], 4)
        return np.searchsorted((values[:-1] + values[1:]) / 2, scaled).astype("uint8"), absmax
        """,
        "something is rounded",
    ),
    Mistake("dequantize", "no scale", "return values[codes]", "scales are missing"),
    Mistake(
        "dequantize",
        "codes of 7 bits",
        'return values[codes.astype("int8")] * np.repeat(absmax, blocksize)[: codes.size]',
        "int8 ends there",
    ),
    Mistake(
        "dequantize",
        "divided",
        "return values[codes] / np.repeat(absmax, blocksize)[: codes.size]",
        "it was divided by before",
    ),
    Mistake("dequantize", "tiled", "return values[codes] * np.resize(absmax, codes.size)", "np.repeat"),
    Mistake("dequantize", "one scale", "return values[codes] * absmax.max()", "the largest scale"),
    Mistake(
        "dequantize",
        "codes for values",
        "return codes * np.repeat(absmax, blocksize)[: codes.size]",
        "it is an index",
    ),
    Mistake(
        "dequantize",
        "evenly spaced",
        "return (codes.astype(int) - 7) / 8 * np.repeat(absmax, blocksize)[: codes.size]",
        "no evenly spaced integers",
    ),
    Mistake(
        "dequantize", "whole blocks only", "return values[codes] * np.repeat(absmax, blocksize)", "beyond the codes"
    ),
    Mistake(
        "dequantize",
        "no scale of 0",
        "return values[codes] * np.repeat(np.where(absmax == 0, 1, absmax), blocksize)[: codes.size]",
        "zeros in absmax",
    ),
    Mistake(
        "dequantize",
        "blocks equally long",
        "return values[codes] * np.repeat(absmax, -(-codes.size // absmax.size))[: codes.size]",
        "equally long",
    ),
    # Task 4
    Mistake(
        "pack",
        "low half first",
        """
        codes = np.append(codes, [ZERO_CODE] * (codes.size % 2)).astype("uint8")
        return codes[0::2] | codes[1::2] << 4
        """,
        "wrong way round",
    ),
    Mistake(
        "pack",
        "completed by 0",
        """
        codes = np.append(codes, [0] * (codes.size % 2)).astype("uint8")
        return codes[0::2] << 4 | codes[1::2]
        """,
        "completed by 0",
    ),
    Mistake(
        "pack",
        "the last one lost",
        "codes = codes[: codes.size // 2 * 2]\nreturn codes[0::2] << 4 | codes[1::2]",
        "last code is lost",
    ),
    Mistake(
        "pack",
        "a byte for no codes",
        """
        codes = np.append(codes, [ZERO_CODE] * (codes.size % 2)).astype("uint8")
        return codes[0::2] << 4 | codes[1::2] if codes.size else np.zeros(1, "uint8")
        """,
        "something is empty",
    ),
    Mistake("pack", "an odd number", "return codes[0::2] << 4 | codes[1::2]", "complete the last byte"),
    Mistake(
        "pack",
        "not moved",
        """
        codes = np.append(codes, [ZERO_CODE] * (codes.size % 2)).astype("uint8")
        return codes[0::2] | codes[1::2]
        """,
        "overlap",
    ),
    Mistake(
        "pack",
        "times 15",
        """
        codes = np.append(codes, [ZERO_CODE] * (codes.size % 2)).astype("uint8")
        return codes[0::2] * 15 + codes[1::2]
        """,
        "Times 15",
    ),
    Mistake(
        "pack",
        "first and second half",
        """
        codes = np.append(codes, [ZERO_CODE] * (codes.size % 2)).astype("uint8")
        return codes[: codes.size // 2] << 4 | codes[codes.size // 2 :]
        """,
        "Neighbours",
    ),
    Mistake(
        "pack",
        "not bytes",
        """
        codes = np.append(codes, [ZERO_CODE] * (codes.size % 2)).astype(int)
        return codes[0::2] * 16 + codes[1::2]
        """,
        "uint8",
    ),
    Mistake(
        "pack",
        "the dtype of the codes",
        """
        codes = np.append(codes, np.full(codes.size % 2, ZERO_CODE, codes.dtype))
        return codes[0::2] << 4 | codes[1::2]
        """,
        "not uint8",
    ),
    Mistake(
        "unpack",
        "low half first",
        "return np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:n]",
        "wrong way round",
    ),
    Mistake("unpack", "one after the other", "return np.concatenate([packed >> 4, packed & 15])[:n]", "take turns"),
    Mistake("unpack", "one too many", "return np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)", "n says"),
    Mistake(
        "unpack",
        "high half not moved",
        "return np.stack([packed & 240, packed & 15], axis=1).reshape(-1)[:n]",
        "still times 16",
    ),
    Mistake("unpack", "floats", "return np.stack([packed // 16, packed % 16], 1).reshape(-1)[:n] / 1", "are floats"),
    Mistake(
        "unpack",
        "a last 7 dropped",
        """
        codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)
        return codes[:-1] if codes[-1] == ZERO_CODE else codes
        """,
        "need not be filling",
    ),
    Mistake(
        "unpack",
        "with a sign",
        """
        packed = packed.astype("int8")
        return np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:n]
        """,
        "a byte has no sign",
    ),
    # Task 5
    Mistake(
        "compress_absmax",
        "nothing subtracted",
        "return *quantize(absmax, values, blocksize), 0.0",
        "half of the codebook",
    ),
    Mistake(
        "compress_absmax",
        "subtracted too late",
        "return *quantize(absmax, values, blocksize), absmax.mean()",
        "not subtracted before",
    ),
    Mistake(
        "compress_absmax",
        "the smallest",
        "return *quantize(absmax - absmax.min(), values, blocksize), absmax.min()",
        "The smallest was subtracted",
    ),
    Mistake(
        "compress_absmax",
        "divided",
        "return *quantize(absmax / absmax.mean(), values, blocksize), absmax.mean()",
        "divided by the mean",
    ),
    Mistake(
        "compress_absmax",
        "the wrong way round",
        "return *quantize(absmax.mean() - absmax, values, blocksize), absmax.mean()",
        "wrong way round",
    ),
    Mistake(
        "compress_absmax",
        "one scale",
        "return *quantize(absmax - absmax.mean(), values, absmax.size), absmax.mean()",
        "cut into blocks too",
    ),
    Mistake(
        "restore_absmax",
        "mean not added",
        "return dequantize(codes, inner_absmax, values, blocksize)",
        "not added back",
    ),
    Mistake(
        "restore_absmax",
        "mean subtracted",
        "return dequantize(codes, inner_absmax, values, blocksize) - mean",
        "subtracted again",
    ),
    Mistake(
        "restore_absmax",
        "mean as a factor",
        "return dequantize(codes, inner_absmax, values, blocksize) * mean",
        "add it",
    ),
    Mistake(
        "restore_absmax",
        "not far below the mean",
        "return np.maximum(dequantize(codes, inner_absmax, values, blocksize) + mean, mean / 10)",
        "far below the mean",
    ),
    Mistake(
        "restore_absmax",
        "mean too early",
        "return dequantize(codes, inner_absmax, values + mean, blocksize)",
        "before the scale",
    ),
    Mistake(
        "compress_absmax",
        "the mean remembered",
        """
        compress_absmax.mean = absmax.mean()
        return *quantize(absmax - compress_absmax.mean, values, blocksize), compress_absmax.mean
        """,
        "kept from one call to the next",
        also=(
            (
                "restore_absmax",
                "return dequantize(codes, inner_absmax, values, blocksize) + getattr(compress_absmax, 'mean', mean)",
            ),
        ),
    ),
    # Task 6
    Mistake("bits_per_weight", "no scales", "return 4", "scales are missing"),
    Mistake(
        "bits_per_weight",
        "16 bits a scale",
        "return 4 + ((8 + 32 / inner_blocksize) if inner_blocksize else 16) / blocksize",
        "not 16",
    ),
    Mistake(
        "bits_per_weight",
        "not shared",
        "return 4 + ((8 + 32 / inner_blocksize) if inner_blocksize else 32)",
        "divide its 32 bits",
    ),
    Mistake("bits_per_weight", "bytes", "return (4 + 32 / blocksize) / 8", "give bits"),
    Mistake("bits_per_weight", "double quantization ignored", "return 4 + 32 / blocksize", "no longer 32"),
    Mistake(
        "bits_per_weight",
        "no inner scales",
        "return 4 + (8 if inner_blocksize else 32) / blocksize",
        "own scales are missing",
    ),
    Mistake(
        "bits_per_weight",
        "inner scales not shared by weights",
        "return 4 + (8 / blocksize + 32 / inner_blocksize if inner_blocksize else 32 / blocksize)",
        "blocksize · inner_blocksize",
    ),
    Mistake(
        "bits_per_weight",
        "added",
        "return 4 + 32 / blocksize + ((8 + 32 / inner_blocksize) / blocksize if inner_blocksize else 0)",
        "no longer 32",
    ),
    Mistake(
        "bits_per_weight",
        "powers of two alone",
        """
        shares = 1 << (blocksize.bit_length() - 1)
        return 4 + ((8 + 32 / inner_blocksize) if inner_blocksize else 32) / shares
        """,
        "power of two",
    ),
    Mistake(
        "bits_per_weight",
        "whole quotients",
        "return 4 + (8 + 32 // inner_blocksize if inner_blocksize else 32) // blocksize",
        "cut down",
    ),
]

RIGHT = [
    Right(
        "nf4_values",
        "by a loop",
        """
        found = {0.0}
        for sign, count in ((1, 8), (-1, 7)):
            for i in range(count):
                found.add(sign * quantile(OFFSET - (OFFSET - 0.5) * i / count))
        return np.float32([value / max(found) for value in sorted(found)])
        """,
    ),
    Right(
        "quantize",
        "by all the distances, block by block",
        """
        print("quantizing", x.size)
        flat, codes, absmax = x.ravel(), [], []
        for start in range(0, flat.size, blocksize):
            block = flat[start : start + blocksize]
            absmax.append(np.abs(block).max())
            scaled = block * (1 / max(absmax[-1], 1e-38))
            codes += np.abs(np.asarray(scaled)[:, None] - values).argmin(axis=1).tolist()
        return np.array(codes, dtype=np.uint8), np.array(absmax, dtype="float64")
        """,
    ),
    Right(
        "dequantize",
        "number by number, as a list",
        "return [float(values[code]) * absmax[i // blocksize] for i, code in enumerate(codes)]",
    ),
    Right(
        "pack",
        "by shifts, from text",
        """
        digits = "".join(f"{code:x}" for code in codes) + "7" * (len(codes) % 2)
        return np.frombuffer(bytes.fromhex(digits), dtype="uint8")
        """,
        also=(
            (
                "unpack",
                """
                codes = np.empty(2 * packed.size, dtype="int64")
                codes[::2], codes[1::2] = packed >> 4, packed & 0b1111
                return codes[:n]
                """,
            ),
        ),
    ),
    Right(
        "restore_absmax",
        "never negative",
        "return np.maximum(dequantize(codes, inner_absmax, values, blocksize) + mean, 0)",
    ),
    Right(
        "compress_absmax",
        "in float32, as a list",
        """
        offset = np.float32(np.average(absmax))
        return [*quantize(absmax + -offset, values, blocksize), offset]
        """,
        also=(
            (
                "restore_absmax",
                "return mean + values[codes] * np.repeat(inner_absmax, blocksize)[: len(codes)]",
            ),
        ),
    ),
    Right(
        "bits_per_weight",
        "bits of many weights over their number",
        """
        blocks = inner_blocksize or 1
        weights = blocks * blocksize
        scales = 32 if inner_blocksize is None else blocks * 8 + 32
        return np.float64(4 * weights + scales) / weights
        """,
    ),
]
