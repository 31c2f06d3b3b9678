# %% [markdown]
# # 11 4-bit quantization: what do sixteen values make of real weights?
#
# The reading is [lessons/11_quantization](../lessons/11_quantization/README.md). There, the numbers were drawn from a
# normal distribution. Here they are the weights of a language model, and the sixteen values meet what training made.
#
# **Write down a guess first.** NF4 was built so that each of its sixteen values would be used equally often by numbers
# that are normal. Are these weights normal? And which of the sixteen will be used least?

# %% [markdown]
# ## The idea, in a few lines
#
# Sixteen values are agreed upon, and each weight is stored as the number of the nearest one: 4 bits. One scale for a block
# of weights, its largest magnitude, says how far the values reach. Here the sixteen are evenly spaced.

# %%
import numpy as np

weights = np.random.default_rng(0).standard_normal(64)  # one block
values, scale = np.linspace(-1, 1, 16), np.abs(weights).max()
codes = np.abs(weights[:, None] / scale - values).argmin(axis=1)  # 0 to 15
back = scale * values[codes]
off = np.abs(back - weights).mean() / np.abs(weights).mean()
print(f"codes {codes[:8]} …, off by {off:.0%} of a weight's size on average")

# %%
import ipywidgets  # sliders

from figures import internals, pictures, yours  # in the folder beside this notebook
from minilora.measure.lab import Lab  # the base, and text to test it on
from minilora.quant import (
    CODEBOOKS,  # the sixteen values of each type
    dequantize_4bit,  # codes to an array
    linears_of_blocks,  # the layers of a model that are quantized
    nf4,  # the values of NF4
    quantize_4bit,  # an array to codes
    quantize_model,  # all of a model
)
from minilora.train import load  # where the base is

lab = Lab(load.base_folder(), test_characters=8_000, validation_characters=1_000)
base = lab.base()
paths = linears_of_blocks(base)
weights = np.concatenate([base.get_submodule(p).weight.numpy().ravel() for p in paths])
print(f"{weights.size:,} weights in {len(paths)} layers")
small = weights.size * 4.5 / 8
print(f"in 32 bits: {weights.nbytes / 1e6:.1f} MB; in 4.5 bits: {small / 1e6:.1f} MB")

# %% [markdown]
# ## The picture: real weights and the sixteen values
#
# Each block of 64 weights is divided by its absmax, the largest magnitude in it.

# %%
packed, state = quantize_4bit(weights, blocksize=64)
scaled = weights.reshape(-1, 64) / state.absmax[:, None]
pictures.show(
    internals.weight_histogram(
        scaled, nf4(), "The base's weights, and NF4's sixteen values"
    ),
    "Compare the gaps between the lines with the height of the bell, middle and edges.",
)
print(f"one weight in {1 / np.mean(np.abs(scaled) == 1):.0f} lies at -1 or 1")

# %% [markdown]
# A bell, and a spike at each end: one number of each block is its absmax, and lies at -1 or 1 exactly. Where the bell is
# high, the values are close together.
#
# ## How often is each value used?
#
# Sixteen values that are used equally often carry 4 bits of information each. (The entropy of the shares says how much
# they carry when they are not.)

# %%
kinds = ("nf4", "int4")


def shares(numbers: np.ndarray, kind: str) -> np.ndarray:
    """Return how often each value is used, in the order of the values."""
    packed = quantize_4bit(numbers, quant_type=kind)[0].reshape(-1)
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)
    in_order = np.argsort(CODEBOOKS[kind](), kind="stable")
    return np.bincount(codes, minlength=16)[in_order] / codes.size


for kind in kinds:
    used = shares(weights, kind)
    used = used[used > 0]
    entropy = -(used * np.log2(used)).sum()
    print(f"{kind}: {len(used)} values in use, {entropy:.2f} bits of information")
pictures.show(
    pictures.curves(
        "How often each value is used",
        {
            "NF4": (np.sort(nf4()), 100 * shares(weights, "nf4")),
            "INT4": (np.linspace(-1, 1, 15), 100 * shares(weights, "int4")[1:]),
        },
        "value",
        "share of the weights (%)",
    ),
    "An even use would be a flat line at 6 %: which curve is nearer to it?",
)

# %% [markdown]
# NF4 comes closer to an even use than INT4, which has few values where most of the weights are. But not even NF4
# uses all alike: the outermost values come up least. Its quantiles are right for normal numbers, and once each block was
# divided by its own absmax, the numbers are no longer normal.
#
# ## Small blocks or large ones?
#
# A smaller block follows the weights more closely, and its scale costs more. Each point is a block size, from 32 at the
# right to 4,096 at the left.

# %%
sizes = (32, 64, 128, 256, 1024, 4096)


def error(kind: str, blocksize: int, double: bool = False) -> float:
    """Return the mean error of a weight, in percent of the mean size of a weight."""
    back = dequantize_4bit(*quantize_4bit(weights, blocksize, kind, double))
    return 100 * np.abs(back - weights).mean() / np.abs(weights).mean()


plain = [4 + 32 / b for b in sizes]
double = [4 + (8 + 32 / 256) / b for b in sizes]
pictures.show(
    pictures.curves(
        "Error against bits",
        {
            "NF4": (plain, [error("nf4", b) for b in sizes]),
            "NF4, double quantization": (
                double,
                [error("nf4", b, True) for b in sizes],
            ),
            "INT4": (plain, [error("int4", b) for b in sizes]),
        },
        "bits per weight",
        "mean error (% of the mean size)",
    ),
    "Lower is better and left is cheaper: which curve has the better of both?",
)

# %% [markdown]
# Double quantization moves each point to the left and hardly up: fewer bits, the same error. With it, blocks of 64 take
# about as many bits as blocks of 256 without.
#
# What does a single large weight do to its block? With a kernel running, move the slider: the first of 4,096 weights
# becomes an outlier of that size, and all are divided by it. (The picture below it shows what comes of that.)

# %%
block = weights[:4096]


def with_outlier(outlier: float) -> np.ndarray:
    """Return the block with its first number set to so many standard deviations."""
    numbers = block.copy()
    numbers[0] = outlier * block.std()
    return numbers


def around(outlier: float, blocksize: int = 64) -> float:
    """Return the mean error of the others, in percent of the mean size of a weight."""
    numbers = with_outlier(outlier)
    back = dequantize_4bit(*quantize_4bit(numbers, blocksize))
    return 100 * np.abs(back - numbers)[1:].mean() / np.abs(block).mean()


def draw(outlier: int = 10) -> None:
    numbers = with_outlier(outlier)
    title = f"4,096 weights, one of them {outlier} standard deviations large"
    pictures.show(
        internals.weight_histogram(numbers / np.abs(numbers).max(), nf4(), title),
        f"How many lines does the bell reach? As one block, the others are off by "
        f"{around(outlier, 4096):.0f} %, in blocks of 64 by {around(outlier):.0f} %.",
    )


_ = ipywidgets.interact(draw, outlier=(1, 60))

# %%
outliers = np.arange(2, 61, 2)
pictures.show(
    pictures.curves(
        "One outlier among 4,096 weights",
        {
            "blocks of 64": (outliers, [around(o) for o in outliers]),
            "one block of 4,096": (outliers, [around(o, 4096) for o in outliers]),
        },
        "size of the outlier, in standard deviations",
        "mean error of the others (%)",
    ),
    "Follow the curve of the one block: where does it reach 100 %?",
)

# %% [markdown]
# At 100 % the others are all read back as zero: on the large scale, they are nearest to the mark in the middle. In
# blocks of 64 that happens to the 63 neighbours of the outlier, and in one block to everybody.
#
# ## The verdict is the model's
#
# A mean error says how far the numbers are off. What the model makes of them is another question: bits per character on
# held-out text that is like what the base was trained on.

# %%
before = lab.bits(base, lab.base_test)
lost = {}
for name, kind, is_double in (
    ("NF4", "nf4", False),
    ("NF4, double quantization", "nf4", True),
    ("FP4", "fp4", False),
    ("INT4", "int4", False),
):
    model = quantize_model(lab.base(), 64, kind, is_double)
    lost[name] = lab.bits(model, lab.base_test) - before
print(f"float32: {before:.2f} bits/character")
pictures.show(
    pictures.bars(
        "What 4 bits cost the base, on one sample of text",
        lost,
        "bits/character lost",
    ),
    "Shorter is better; the base itself would have no bar.",
)

# %% [markdown]
# A weight is off by a tenth of its size, and the model by little: errors of both signs meet in every product. (On one
# short text, the types are not told apart surely. `python -m experiments study data-types` asks many.)

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/11_quantization/exercise.py](../lessons/11_quantization/exercise.py), then `minilora check 11`.
#
# <details><summary>1. Why is 0 among the sixteen values, and why are there more positive ones than negative?</summary>
# Padding and pruned weights are zero and must stay so. Zero takes one of sixteen places; fifteen are left, and cannot be
# shared evenly between the two sides.
# </details>
#
# <details><summary>2. Why is the scales' mean subtracted before they are quantized?</summary>
# They are all positive. Without it, the negative half of the codebook would never be used, and their differences, which
# are what tells blocks apart, would be small beside their size.
# </details>
#
# <details><summary>3. A weight is quantized, read back and quantized again. Does it change the second time?</summary>
# No. Each number read back is a value of the codebook times its absmax, and the largest of each block is exact, so the
# same scale and the same codes come out. (With double quantization the scales are rounded, and that need not hold.)
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your sixteen values and your blocks, on the base's weights.

# %%
mine = yours.functions("11")
values = mine.nf4_values()
print(
    f"largest difference from the library's sixteen: {np.abs(values - nf4()).max():.0e}"
)
off = {}
for size in sizes:
    codes, absmax = mine.quantize(weights, values, size)
    back = mine.dequantize(
        mine.unpack(mine.pack(codes), codes.size), absmax, values, size
    )
    off[mine.bits_per_weight(size)] = np.abs(back - weights).mean()
percents = 100 * np.array([*off.values()]) / np.abs(weights).mean()
pictures.show(
    pictures.curves(
        "Error against bits, by your functions",
        {"your NF4": ([*off], percents)},
        "bits per weight",
        "mean error (% of the mean size)",
    ),
    "It is the first of the three curves above.",
)
absmax = np.abs(weights).reshape(-1, 64).max(axis=1)
pictures.show(
    internals.weight_histogram(
        weights.reshape(-1, 64) / absmax[:, None],
        values,
        "The base's weights, and your sixteen values",
    ),
    "The lines are where your quantiles put them.",
)
