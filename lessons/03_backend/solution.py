# %% [markdown]
# # Lesson 03: one backend switch
#
# Six tasks: the switch, the border, an operation that runs on both sides, an index that is checked in time, random
# numbers that are the same everywhere, and a training loop that does not wait. The reading is README.md beside this
# file. You need no graphics card: a stand-in is here that refuses to mix host and device, as CuPy does, and that is
# stricter: `np.exp` of its arrays raises an error, too. `minilora check 03` says how far you are, and
# `minilora check 03 --hint` helps.

# %%
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import device  # the stand-in, in the file beside this one
import numpy as np


@dataclass(frozen=True)
class Library:
    """An array library, by what differs from one to the next."""

    name: str
    functions: object  # where its functions are: functions.exp, functions.zeros, …
    array_type: type  # the class of its arrays
    upload: Callable  # a NumPy array -> one of its arrays
    download: Callable  # one of its arrays -> a NumPy array


NUMPY = Library("numpy", np, np.ndarray, lambda a: a, lambda a: a)
DEVICE = Library("device", device.functions, device.DeviceArray, device.upload, device.download)

xp = SimpleNamespace()  # the functions of the library in use: xp.exp, xp.zeros, …
active = NUMPY  # the library in use

# %% [markdown]
# ## Task 1: the switch
#
# `vars(thing)` is the dictionary of a thing's attributes, for a module and for a SimpleNamespace. It can be cleared and
# filled. A function that is to change a variable of the file says so: `global active`.


# %%
def use(library: Library) -> Library:
    """Make `library` the one in use, and return the one before.

    `active` is then `library`, and `xp` has all that `library.functions` has, and no more. `xp` stays the same object:
    whoever got hold of it before the switch must find the new functions in it.
    """
    ### BEGIN SOLUTION task 1: switch the library
    global active
    before, active = active, library
    vars(xp).clear()
    vars(xp).update(vars(library.functions))
    return before
    ### END SOLUTION


# %% [markdown]
# NumPy is in use from the start.

# %%
use(NUMPY)

# %% [markdown]
# ## Task 2: the border
#
# Two functions, and the only ones that know that there are two sides. Data that is on the right side already must not
# travel.


# %%
def from_host(a) -> object:
    """A NumPy array, list or number as an array of the library in use. What is one already is returned as it is."""
    ### BEGIN SOLUTION task 2: cross the border
    return a if isinstance(a, active.array_type) else active.upload(np.asarray(a))
    ### END SOLUTION


def to_host(a) -> np.ndarray:
    """a as a NumPy array. a is an array of the library in use, or on the host already: an array, a list, a number."""
    ### BEGIN SOLUTION task 2: cross the border
    return active.download(a) if isinstance(a, active.array_type) else np.asarray(a)
    ### END SOLUTION


# %% [markdown]
# ## Task 3: an operation for both sides
#
# Softmax turns scores into shares: exp(x) over the sum of exp(x), along the last axis. Subtract each row's maximum
# first: in mathematics the quotient stays the same, and exp does not overflow.
#
# On the device, `xp` has zeros, ones, full, arange, eye, exp, log, sqrt, tanh, abs, square, maximum, minimum, where,
# sum, mean, max, min, argmax, any, all, clip, stack, concatenate, reshape, transpose, matmul, einsum and a few more.
# Its arrays have operators, indices, shape, dtype and .T, and methods: sum, mean, max, min, argmax, reshape, astype.


# %%
def softmax(x):
    """x (..., n), an array of the library in use -> an array of that shape, each row positive with the sum 1."""
    ### BEGIN SOLUTION task 3: softmax on either side
    powers = xp.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
    ### END SOLUTION


# %% [markdown]
# ## Task 4: an index, checked in time
#
# A language model has a table with a row for each word, and a text comes as the numbers of its words, the token ids.
# They come from the host, and the device does not check them: 1,000 in a table of 7 rows is row 6 there, without a
# word. A check on the device would have to wait for it. (Ids may be an empty list. `np.asarray([])` is an array of
# floats, which cannot be indices, so say `dtype="int64"`.)


# %%
def rows(table, ids):
    """The rows of table (n, d), an array of the library in use, that ids, a list or NumPy array of whole numbers, name.

    Raises IndexError where an id is not in 0 … n - 1. The device is not waited for. ids may have any shape.
    """
    ### BEGIN SOLUTION task 4: check on the host, look up on the device
    ids = np.asarray(ids)
    if ids.size and (ids.min() < 0 or ids.max() >= table.shape[0]):
        raise IndexError(f"ids must lie in 0 … {table.shape[0] - 1}, not {ids.min()} … {ids.max()}")
    return table[from_host(ids.astype("int64"))]
    ### END SOLUTION


# %% [markdown]
# ## Task 5: one seed, one result
#
# A device has a random generator of its own, and it draws other numbers.


# %%
def normal_start(shape: tuple[int, ...], seed: int):
    """Normal numbers in float32, in an array of the library in use: the same numbers for every library.

    np.random.default_rng(seed).standard_normal draws them in float64; after that they are made float32.
    """
    ### BEGIN SOLUTION task 5: draw on the host
    numbers = np.random.default_rng(seed).standard_normal(shape)
    return from_host(numbers.astype("float32"))
    ### END SOLUTION


# %% [markdown]
# ## Task 6: train, and do not wait
#
# Gradient descent for y ≈ x w. The error is x w - y, the loss is the mean of its squares, and the gradient is
# (2 / n) xᵀ error. All losses are wanted, but nobody needs them before the end.


# %%
def fit(x, y, steps: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Descend from w = 0. x (n, d) and y (n,) are NumPy arrays; the work is done by the library in use.

    steps: at least 1. Returns w (d,) and the loss before each step (steps,), both as NumPy arrays. x and y (and the
    first w, if you like) are copied over once, before the first step. The device is waited for at most twice, after
    the last.
    """
    ### BEGIN SOLUTION task 6: a loop without waiting
    x, y = from_host(x), from_host(y)
    w = xp.zeros(x.shape[1])
    losses = []
    for _ in range(steps):
        error = x @ w - y
        losses.append((error * error).mean())
        w = w - rate * 2 / x.shape[0] * (x.T @ error)
    return to_host(w), to_host(xp.stack(losses))
    ### END SOLUTION
