# %% [markdown]
# # 03 One backend switch: when is a graphics card faster?
#
# The reading is [lessons/03_backend](../lessons/03_backend/README.md). Here we draw what time is made of, run one
# function on two sides, and count how often a training loop waits. No card is needed: a stand-in computes with NumPy,
# refuses what a card refuses, and counts.
#
# **Write down a guess first.** Two arrays are to be added up. From how many numbers on is a card faster than NumPy, if
# both arrays are there already? And if they have to be copied over first, and the sum back?

# %% [markdown]
# ## The idea, in a few lines
#
# A function that names no library, only `xp`, runs on whichever one `xp` is. Here that is NumPy, and then a stand-in for a
# graphics card, which refuses what a card refuses.

# %%
import sys

import numpy as np

sys.path.append("../lessons/03_backend")  # the exercise's folder
import device  # a stand-in for a graphics card


def unit(x, xp):
    return x / xp.sqrt((x * x).sum())


for xp, to_library in ((np, np.asarray), (device.functions, device.upload)):
    shortened = unit(to_library(np.array([3.0, 4.0])), xp)
    print(f"{type(shortened).__name__}: sum {float(shortened.sum()):.1f}")

# %%
from time import perf_counter  # a clock

import ipywidgets  # sliders and a button

from figures import pictures, yours  # in the folder beside this notebook

# %% [markdown]
# ## The picture: time against size
#
# An operation takes the time to get going, and then the time for its numbers. The figures below are round: orders of
# magnitude, as the reading has them. Your own machine's are a button further down.

# %%
START = {"a Python loop": 0.0, "NumPy": 1e-6}  # seconds to get going
RATE = {"a Python loop": 2e7, "NumPy": 1e9, "a card": 1e11}  # numbers per second
COPY_START, COPY_RATE = 10e-6, 2.5e9  # of one array, between host and card
sizes = 10.0 ** np.arange(0, 9)


def times_of(order: float) -> dict[str, np.ndarray]:
    """Return the seconds by size, if a command takes `order` µs to reach the card."""
    start = START | {"a card": order * 1e-6}
    times = {name: start[name] + sizes / RATE[name] for name in start}
    copies = 3 * (COPY_START + sizes / COPY_RATE)
    return times | {"a card, with copies": times["a card"] + copies}


def draw(order: int = 10) -> None:
    pictures.show(
        pictures.curves(
            "Time of one addition, by round figures",
            {name: (sizes, 1e6 * times) for name, times in times_of(order).items()},
            "numbers in the array",
            "microseconds",
            log="xy",
        ),
        f"Look where each curve crosses NumPy's; an order takes {order} µs here.",
    )


draw()

# %%
times = times_of(10)
for name in ("a Python loop", "a card", "a card, with copies"):
    faster = sizes[times[name] < times["NumPy"]]
    spans = (
        f"{faster[0]:,.0f} to {faster[-1]:,.0f}"
        if len(faster)
        else "none of these sizes"
    )
    print(f"{name} is faster than NumPy at: {spans}")

# %% [markdown]
# Three things to see. For a handful of numbers, the plain loop is the fastest, since the others have not got going yet.
# Then each curve lies flat until its numbers outweigh its start: for the card, that is at a million.
# And the curve with the copies never comes below NumPy's, since carrying the numbers takes longer than adding them up.
#
# With a kernel running, move the slider: how far to the right does the card's curve cross NumPy's, if an order takes
# longer to arrive? (Below it, the crossing for three values.)

# %%
_ = ipywidgets.interact(draw, order=(2, 200))


# %%
def crossing(order: float) -> float:
    """Return the size from which the card is faster, if a command takes `order` µs."""
    gained = 1 / RATE["NumPy"] - 1 / RATE["a card"]
    return (order * 1e-6 - START["NumPy"]) / gained


for order in (5, 10, 100):
    print(f"an order of {order} µs: faster from {crossing(order):,.0f} numbers on")

# %% [markdown]
# ## Your own machine
#
# With a kernel running, press the button: it measures a Python loop and NumPy here, and prints what they took. (What it
# prints is not kept on this page. Times differ from machine to machine, and from run to run.)

# %%
measured_sizes = (10, 1_000, 100_000)


def best_of(work, repeats: int = 5) -> float:
    """Return the seconds of the fastest of some runs: other work only adds time."""
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return min(seconds)


def measure() -> None:
    for n in measured_sizes:
        array = np.arange(n, dtype="float32")
        numbers = array.tolist()
        loop = best_of(lambda numbers=numbers: [number + 1 for number in numbers])
        vectorized = best_of(lambda array=array: array + 1)
        print(
            f"{n:>9,} numbers: a loop {1e6 * loop:10.1f} µs, "
            f"NumPy {1e6 * vectorized:8.1f} µs, {loop / vectorized:.0f} times"
        )


_ = ipywidgets.interact_manual(measure)

# %% [markdown]
# ## One function, two sides
#
# `rms_norm` does not say which library it means: `xp` does. On the stand-in, it gives the same numbers. The second
# function has one `np.` in it. CuPy would hand that call to its own `sqrt`; the stand-in refuses it, so that the slip
# shows without a card.

# %%
on_host = np.array([[3.0, 4.0], [1.0, -1.0]])
on_device = device.upload(on_host)


def rms_norm(x, xp):
    """Divide each row by the root mean square of its numbers."""
    return x / xp.sqrt((x * x).mean(axis=-1, keepdims=True))


def rms_norm_of_numpy(x):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True))


print(rms_norm(on_host, np).round(2).tolist())
print(rms_norm(on_device, device.functions).get().round(2).tolist())
try:
    rms_norm_of_numpy(on_device)
except TypeError as error:
    print("refused:", error)

# %% [markdown]
# ## What a card does without a word
#
# A tokenizer with four words, and ids from another one with more. NumPy raises an error. A card looks up other words.
# What comes out may even read well, and a model would learn from it.

# %%
words = ["the", "mean", "of", "rows"]
table = np.arange(4.0)  # stands for four embeddings
ids = np.array([0, 5, 2, 11])
try:
    table[ids]
except IndexError as error:
    print("NumPy:", error)
rows = device.upload(table)[device.upload(ids)].get()
print("a card:", " ".join(words[int(i)] for i in rows))

# %% [markdown]
# ## How often does a loop wait?
#
# A hundred steps of gradient descent, once with `print`-like reading of the loss in each step, once with all losses
# fetched at the end. **Guess** both counts.

# %%
rng = np.random.default_rng(0)
inputs, truth = rng.standard_normal((64, 8)), rng.standard_normal(8)


def descend(is_read: bool) -> dict[str, int]:
    """Return the device's counts after 100 steps."""
    device.reset()
    x, goal = device.upload(inputs), device.upload(inputs @ truth)
    weights, losses = device.functions.zeros(8), []
    for _ in range(100):
        off = x @ weights - goal
        value = (off * off).mean()
        losses.append(float(value) if is_read else value)
        weights = weights - 0.05 * (off @ x) / 32
    if not is_read:
        device.functions.stack(losses).get()
    return dict(device.counts)


counted = {"loss read in each step": descend(True), "losses at the end": descend(False)}
for name, counts in counted.items():
    print(
        f"{name}: {counts['computed']} orders, {counts['waited']} waits, "
        f"{counts['uploaded']} uploads"
    )
pictures.show(
    pictures.bars(
        "How often the host waits, in 100 steps",
        {name: counts["waited"] for name, counts in counted.items()},
        "waits",
    ),
    "The work of both loops is the same: compare how often the host stands still.",
)

# %% [markdown]
# The work is the same. But in the first loop no order can be given before the last one is done, so each step also takes
# the way there and back. By the round figures above, an order costs 10 µs and this step's arithmetic far less: a card
# that waits after each step spends its time waiting.

# %% [markdown]
# ## Your turn
#
# Build the switch: [lessons/03_backend/exercise.py](../lessons/03_backend/exercise.py), then `minilora check 03`.
#
# <details><summary>1. Why is a larger batch the first thing to try on a card?</summary>
# The orders are the same, and each has more numbers in it. As long as the curve lies flat, those numbers cost nothing.
# </details>
#
# <details><summary>2. Why does the library copy random numbers over, when a card can draw them?</summary>
# The card's generator draws other numbers. With one generator on the host, one seed gives one result on both sides, and
# a difference between them is a mistake that can be seen.
# </details>
#
# <details><summary>3. All tests pass with NumPy. What do they say about the card?</summary>
# Little: NumPy converts, checks and waits without a word. On a stand-in that refuses to, the same tests say much more,
# and on a card they say the rest.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your own loop fits the hundred numbers on both sides.

# %%
mine = yours.functions("03")
fitted = {}
for library in (mine.NUMPY, mine.DEVICE):
    mine.use(library)
    device.reset()
    weights, losses = mine.fit(inputs, inputs @ truth, steps=100, rate=0.05)
    fitted[library.name] = (range(100), losses)
    print(f"{library.name}: {device.counts['waited']} waits in 100 steps")
mine.use(mine.NUMPY)
apart = np.abs(fitted["numpy"][1] - fitted["device"][1]).max()
print(f"largest difference between their losses: {apart:.1g}")
pictures.show(
    pictures.curves("Your loop, on two sides", fitted, "step", "loss", log="y"),
    "Two curves that lie on each other: the switch changes where, and not what.",
)
