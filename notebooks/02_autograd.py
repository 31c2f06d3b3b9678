# %% [markdown]
# # 02 Autograd: which of a million numbers is to blame, and for how much?
#
# The reading is [lessons/02_autograd](../lessons/02_autograd/README.md). Here we watch the walk back: first through a
# graph of five operations, box by box, then through a language model.
#
# **Write down a guess first.** Let `y = x + tanh(w * x + b)` and `L = y * y`, at `x = 2`, `w = -0.5`, `b = 1.5`. The
# gradient of `L` with respect to `x` arrives in two parts, since `x` is used twice. Which is the larger: the one
# through the tanh, or the one that goes past it? And have both the same sign?

# %% [markdown]
# ## The idea, in a few lines
#
# Run forward, and keep what each rule will need. Then walk back with the slope of the result, and let each operation
# multiply it by its own. For `L = tanh(w x)²`, beside what a small wiggle of `w` says:

# %%
import numpy as np

x, w = 3.0, 0.2
h = np.tanh(w * x)  # forward
slope = 2 * h  # back: through the square,
slope = slope * (1 - h**2)  # the tanh,
slope = slope * x  # and the product
wiggled = (np.tanh((w + 1e-6) * x) ** 2 - np.tanh((w - 1e-6) * x) ** 2) / 2e-6
print(f"by the rules {slope:.6f}, by wiggling {wiggled:.6f}")

# %%
import ipywidgets  # sliders

from figures import (  # in the folder beside this notebook
    graph,
    internals,
    pictures,
    yours,
)
from minilora import Tensor  # an array that remembers how it was computed
from minilora.train import load  # loads the language model

# %% [markdown]
# ## The picture: a graph with values and gradients
#
# Each box is an array, here with one number in it. Values were computed from left to right. Gradients come from right
# to left: the result's own is 1, and every other box gets its from the boxes that its arrows lead to.

# %%
x, w, b = (Tensor(value, requires_grad=True) for value in (2.0, -0.5, 1.5))
u = w * x
v = u + b
h = v.tanh()
y = x + h
L = y * y
names = {x: "x", w: "w", b: "b", u: "u", v: "v", h: "h", y: "y", L: "L"}
pictures.show(
    graph.graph_of(L, names, "y = x + tanh(w x + b), L = y²", numbers=True),
    "Two arrows leave x: its gradient is the sum of what comes back along both.",
)

# %% [markdown]
# Read it from the right. `L = y * y` uses `y` twice, so `y` gets `y + y`. An addition hands on what it gets, so `h` has
# the gradient of `y`. The tanh multiplies by `1 - h²`. The product `u = w * x` gives `w` the gradient times `x`, and
# gives `x` the gradient times `w`. And `x` adds that up with what came past the tanh:

# %%
past = 2 * y.item()
through = past * (1 - h.item() ** 2) * w.item()
print(
    f"past the tanh {past:.2f}, through it {through:.2f}, together {past + through:.2f}"
)
L.backward()
print(f"what backward found: {x.grad:.2f}")

# %% [markdown]
# Two parts of different size and sign. An engine that sets the gradient, and does not add to it, would report one of
# them, without any error.

# %% [markdown]
# ## Was that right? Wiggle, and look
#
# The slope of `L` at `x` is also `(L(x + ε) - L(x - ε)) / 2ε` for a small ε. How small? **Guess** where the error is
# least, in 64 bits and in 32.

# %%
sizes = 10.0 ** np.arange(-13, 0)


def wiggled(eps: float, dtype: str) -> float:
    """Return the slope of L at x = 2, by two runs."""

    def run(x):
        y = x + np.tanh(np.asarray(-0.5, dtype) * x + np.asarray(1.5, dtype))
        return y * y

    up, down = np.asarray(2 + eps, dtype), np.asarray(2 - eps, dtype)
    return float((run(up) - run(down)) / np.asarray(2 * eps, dtype))


height = 2 + np.tanh(0.5)
exact = 2 * height * (1 - 0.5 * (1 - np.tanh(0.5) ** 2))
errors = {
    name: [abs(wiggled(eps, dtype) / exact - 1) + 1e-16 for eps in sizes]
    for name, dtype in (("float64", "float64"), ("float32", "float32"))
}
pictures.show(
    pictures.curves(
        "Error of a wiggled gradient",
        {name: (sizes, values) for name, values in errors.items()},
        "ε, the size of the wiggle",
        "relative error",
        log="xy",
    ),
    "Read each curve from right to left: it falls, and from some ε on it rises again.",
)

# %% [markdown]
# From the right, a smaller ε helps, by its square: `ε²` is what the formula leaves out. Then rounding takes over, since
# two almost equal numbers are subtracted, and the error grows again. In 32 bits that happens so early that a wrong rule
# and a right one can look alike. This is why the lesson's checks, and the library's own, work in 64 bits.

# %%
for name, values in errors.items():
    best = np.argmin(values)
    print(f"{name}: least at ε = {sizes[best]:.0e}, where it is {values[best]:.0e}")

# %% [markdown]
# ## A whole language model
#
# Now the base that comes with the package. One walk back finds the gradient of its loss for every weight at once. For
# one of them, the one with the steepest slope, we wiggle too.

# %%
model, tokenizer = load.load_model("base")
ids = tokenizer.encode("Return the mean of the elements along the given axis.")[None]


def loss():
    return model(ids, labels=ids).loss


start = loss()
start.backward()
parameters = dict(model.named_parameters())
name = max(parameters, key=lambda name: np.abs(parameters[name].grad).max())
weight = parameters[name]
place = np.unravel_index(np.abs(weight.grad).argmax(), weight.shape)
values, eps = weight.numpy(), 1e-2
ends = []
for step in (eps, -eps):
    changed = values.copy()
    changed[place] += step
    weight.data = changed
    ends.append(loss().item())
weight.data = values
slope = (ends[0] - ends[1]) / (2 * eps)
count = sum(p.size for p in parameters.values())
print(f"the loss: {start.item():.2f}")
print(f"one weight of {name}")
print(f"  by walking back: {weight.grad[place]:+.3f}, by wiggling: {slope:+.3f}")
print(f"all {count:,} by walking back: the work of about 3 runs")
print(f"all {count:,} by wiggling: {2 * count:,} runs")

# %% [markdown]
# ## What gradients are for: downhill
#
# Twenty points, two parameters, and a loss that we can draw. Each step goes a little way against the gradient. How far
# is the learning rate's business.

# %%
points = np.linspace(-2, 2, 20)
targets = np.tanh(1.5 * points - 0.8)


def descend(rate: float, steps: int = 25) -> np.ndarray:
    """Return the (w, b) along a descent, one row per step."""
    w, b = (Tensor(value, requires_grad=True) for value in (-0.5, 1.5))
    path = [(w.item(), b.item())]
    for _ in range(steps):
        w.grad = b.grad = None
        error = (w * points + b).tanh() - targets
        (error * error).mean().backward()
        w.data, b.data = w.data - rate * w.grad, b.data - rate * b.grad
        path.append((w.item(), b.item()))
    return np.array(path)


def loss_at(w, b):
    """Compute the same loss without a graph, for arrays of one shape."""
    fit = np.tanh(w[..., None] * points + b[..., None])
    return ((fit - targets) ** 2).mean(axis=-1)


axis_w, axis_b = np.linspace(-2.5, 3.5, 80), np.linspace(-3, 3, 80)
heights = loss_at(*np.meshgrid(axis_w, axis_b))


def draw(rate: float = 1.0) -> None:
    path = descend(rate)
    title = "Descent on a loss of two parameters"
    pictures.show(
        internals.surface(title, axis_w, axis_b, heights, ("w", "b"), path),
        f"Each point is a step, at the rate {rate:g}; "
        f"the loss after 25 of them is {loss_at(*path[-1]):.4f}.",
    )


draw()
losses = loss_at(*descend(1.0).T)
print(f"loss {losses[0]:.2f} at the start, {losses[-1]:.1e} in the end")

# %% [markdown]
# The steps cross the contours and shrink where the slope does. With a kernel running, move the slider, and watch the path;
# without one, the picture below it says the same for three rates.

# %%
_ = ipywidgets.interact(draw, rate=(0.05, 8.0, 0.05))

# %%
histories = {}
for rate in (0.1, 1.0, 4.0):
    path = descend(rate)
    histories[f"rate {rate:g}"] = (range(len(path)), loss_at(path[:, 0], path[:, 1]))
pictures.show(
    pictures.curves("The loss along the descent", histories, "step", "loss", log="y"),
    "Compare the first five steps with the last five: the curves change places.",
)
for name, (_, values) in histories.items():
    print(f"{name}: after 5 steps {values[5]:.2g}, after 25 steps {values[-1]:.2g}")

# %% [markdown]
# The smallest rate has not arrived yet. The largest one is ahead for three steps, leaps over the valley, and is left
# where the tanhs are near ±1 and let little gradient through.

# %% [markdown]
# ## Your turn
#
# Build the engine: [lessons/02_autograd/exercise.py](../lessons/02_autograd/exercise.py), then `minilora check 02`.
#
# <details><summary>1. In the picture, v and u have the same gradient. Why?</summary>
# v = u + b, and the derivative of a sum with respect to one of its terms is 1. So u gets what v has, and so does b.
# </details>
#
# <details><summary>2. Where does a tanh let almost no gradient through?</summary>
# Where its value is near 1 or -1, because it multiplies by 1 - h². A neuron there learns slowly, however large its
# error.
# </details>
#
# <details><summary>3. Why does one walk back cost about two runs, and not a run for each weight?</summary>
# The gradient at a box is computed once, and all that lies behind it share it. Each operation runs its rules once: for
# a matrix product, two matrix products of the same size.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your own engine walks down the same valley.

# %%
mine = yours.functions("02")
w, b = mine.Node(-0.5), mine.Node(1.5)
path = [(-0.5, 1.5)]
for _ in range(25):
    fit = mine.tanh(mine.add(mine.multiply(w, mine.Node(points)), b))
    error = mine.add(fit, mine.Node(-targets))
    mine.backward(mine.multiply(error, error))  # of the sum over 20 points
    w, b = (mine.Node(node.array - node.gradient / 20) for node in (w, b))
    path.append((float(w.array), float(b.array)))
away = np.abs(np.array(path) - descend(1.0)).max()
print(f"largest distance from the library's path: {away:.0e}")
pictures.show(
    internals.surface(
        "Descent by your engine", axis_w, axis_b, heights, ("w", "b"), path
    ),
    "Each point is a step whose gradient your own rules found.",
)
