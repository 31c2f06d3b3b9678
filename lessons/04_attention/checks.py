"""The checks of lesson 04. Right results are computed here by other formulas: loops over tokens, complex numbers."""

from math import erf

import numpy as np

from minilora.classroom import draw, fine, promise, raised, search, task
from minilora.classroom.lessons.draws import KINDS, LARGE, NORMAL

USES = (
    "minilora.Tensor",
    "minilora.no_grad",
    "minilora.ops",
    "minilora.nn.Module",
    "minilora.nn.Linear",
    "minilora.nn.Parameter",
)

PROMISES = {name: promise(within="further axes") for name in ("rms_norm", "swiglu")}

MODERATE = tuple(kind for kind in KINDS if kind != LARGE)  # where gradients are compared
NUMPY = "A NumPy function was used on a Tensor: use the Tensor's own methods, or ops."
OTHER = "The values are right, the gradient of {} is not: a part was computed without Tensors, by .data or .numpy()."


def same(got, value):
    return np.shape(got) == np.shape(value) and np.allclose(got, value, atol=1e-6)


def values(d, first, *others, kinds=KINDS):
    """Draw arrays of these shapes, the first of any kind. Large numbers are float64, so that rounding is negligible."""
    kind = d.choice(*kinds)
    if kind == LARGE:
        d.dtype = "float64"
    return [d.array(*first, kinds=(kind,)), *(d.array(*shape, kinds=("normal", "ties", "zeros")) for shape in others)]


LONG = 1030  # tokens
GRADIENT = fine("The values are right, the gradient is not where values are large: an exp overflows on its way.")
OVERFLOWN = {"kind": NUMPY} | {f"d{name}": GRADIENT for name in ("q", "k", "v")}


def of_a_long_text(answer, right):
    answer.returns({"A long text raises an error: a mask or a table ends somewhere.": raised("Exception")})
    hint = "Right for short texts, wrong for a long one: a mask, a table or the numbers in it end somewhere."
    answer["y"].equals(right, hint=hint)


def gradients_of(*names):
    """Return the hints for `search`, by the first part of a driver's result that is wrong."""
    return {"kind": NUMPY} | {f"d{name}": OTHER.format(name) for name in names}


def tensor_came(answer, instead=None):
    """Check that a Tensor was returned. instead: as for `Answer.returns`."""
    answer.returns((instead or {}) | {NUMPY: raised("TypeError", "ufunc")})
    answer["kind"].equals("Tensor", hint=NUMPY)


# Task 1


def normed(x, weight, eps):
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        y[place] = x[place] / (np.dot(x[place], x[place]) / x.shape[-1] + eps) ** 0.5 * weight
    return y


def norm_inputs(d):
    shape = *d.shape((1, 0, 2, 3)), d.size()
    x, weight, g = values(d, shape, shape[-1:], shape)
    return x, weight, d.number(1e-6, 0.5, 0.1), g


@task(1)
def norm(student):
    """What is the size of one token's vector? Which axis does it lie along?

    The mean of the squares, over the last axis, with keepdims=True; its root divides x.

    The token [3, 4] has squares 9 and 16, of mean 12.5 and root 3.54: it becomes [0.85, 1.13]. With the weights [1, 10]
    that is [0.85, 11.3].
    """
    search(student.driver.normed, norm_inputs, hints=gradients_of("x", "weight"), tolerance=1e-4)
    rng = np.random.default_rng(1)
    for shape, eps in [((1, 2), 1e-6), ((3, 2), 1e-6), ((2, 3, 4), 0.5)]:
        x, weight, g = draw(rng, *shape), draw(rng, shape[-1]), draw(rng, *shape)
        mean = x.mean(axis=-1, keepdims=True)
        square = (x * x).mean(axis=-1, keepdims=True)
        answer = student.driver.normed(x, weight, eps, g)
        tensor_came(answer, {"The axis is lost: take the mean with keepdims=True.": raised("ValueError", "broadcast")})
        mistakes = {
            "The weight is missing: each channel is multiplied by its own.": normed(x, 1, eps),
            "The weight is multiplied in before the norm: it comes after it.": normed(x * weight, 1, eps),
            "That is the mean of x, not of its squares.": lambda y: (
                same(y, x / mean * weight) or same(y, x / (mean + eps) * weight)
            ),
            "The root is missing: divide by √(mean of squares + eps).": x / (square + eps) * weight,
            "The squares are added up, not averaged: divide by √(mean).": (
                x / np.sqrt((x * x).sum(axis=-1, keepdims=True) + eps) * weight
            ),
            "The mean is taken off first, as in LayerNorm; RMSNorm leaves it in.": lambda y: (
                same(y, (x - mean) / np.sqrt(x.var(axis=-1, keepdims=True) + eps) * weight)
                or same(y, (x - mean) / np.sqrt(square + eps) * weight)
            ),
            "That divides by the standard deviation: the mean of the squares is meant, with the mean left in.": (
                x / np.sqrt(x.var(axis=-1, keepdims=True) + eps) * weight
            ),
            "The mean runs over the tokens: each token is normalized by itself, over the last axis.": (
                x / np.sqrt((x * x).mean(axis=0, keepdims=True) + eps) * weight
            ),
            "The mean runs over all tokens: each token is normalized by itself, over the last axis.": (
                x / np.sqrt((x * x).mean() + eps) * weight
            ),
            "eps is added outside the root: it belongs to the mean of the squares.": (
                x / (np.sqrt(square) + eps) * weight
            ),
            "eps is squared: it is added as it is.": lambda y: (
                eps == 0.5 and same(y, x / np.sqrt(square + eps * eps) * weight)
            ),
            "eps is left out, or is not the argument: without it a zero vector is divided by zero.": x
            / np.sqrt(square)
            * weight,
        }
        answer["y"].equals(normed(x, weight, eps), mistakes)


# Task 2


def turned(x, angles):
    half = x.shape[-1] // 2
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], axis=-1)


def angle_inputs(d):
    return d.number(2, 1, 3, 40), d.number(2, 4, 6), d.number(10.0, 100.0, 10000.0)


def rotate_inputs(d):
    shape = d.size(1, 2), d.size(1, 2), d.number(2, 1, 3), d.choice(2, 4, 6)
    x, g = values(d, shape, shape)
    return x, d.array(shape[2], shape[3] // 2, kinds=("normal", "ties")), g


def neighbours_turned(x, angles):
    z = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)


@task(2)
def positions(student):
    """How many pairs does a head have? How fast does each turn?

    Angles: the positions as a column times theta ** (-2 i / D) as a row. rotate: split x in two halves, not in
    neighbours.

    With theta = 100 and D = 4, pair 0 turns by 1 per position and pair 1 by 100^(-1/2) = 0.1: row 3 is [3, 0.3]. There,
    [1, 0, 0, 0] becomes [cos 3, 0, sin 3, 0]: channel 0 is paired with channel 2.
    """
    search(student.rotary_angles, angle_inputs)
    search(student.driver.rotated, rotate_inputs, hints=gradients_of("x"))
    for length, size, theta in [(2, 2, 10.0), (3, 4, 10.0), (5, 6, 100.0)]:
        pairs, places = np.arange(size // 2), np.arange(length)
        right = np.outer(places, theta ** (-2 * pairs / size))
        mistakes = {
            "Positions count from 0: the first token is not turned.": np.outer(
                places + 1, theta ** (-2 * pairs / size)
            ),
            "Pairs count from 0: the first one's angle is the position itself.": np.outer(
                places, theta ** (-2 * (pairs + 1) / size)
            ),
            "The exponent lacks its minus: later pairs turn more slowly.": np.outer(
                places, theta ** (2 * pairs / size)
            ),
            "The exponent is -2i / D: there are D / 2 pairs.": lambda a: (
                size > 2 and same(a, np.outer(places, theta ** (-pairs / size)))
            ),
            "The result is (pairs, positions): one row per position.": lambda a: (
                same(np.transpose(a), right) and length != size // 2
            ),
            "The angles have three digits only: float16 is too coarse for them.": lambda a: np.allclose(
                a, right, rtol=2e-3
            ),
            "The angle is missing its position: t · theta^(-2i / D).": lambda a: (
                np.shape(a) in ((size // 2,), (1, size // 2))
            ),
            "There is an angle for each channel: one for each pair is asked for, D / 2.": lambda a: (
                np.shape(a) == (length, size)
            ),
        }
        student.rotary_angles(length, size, theta).equals(right, mistakes)
    of_a_long_text(student.driver.last_angles(300, 4, 10000.0), 299 * np.array([1.0, 0.01]))
    student.rotary_angles(70000, 8, 10000.0).holds(
        lambda angles: np.allclose(angles[-1] / np.array([1, 0.1, 0.01, 0.001]), 69999, rtol=1e-5),
        "in the last row, 69999 · [1, 0.1, 0.01, 0.001], each within 1e-5 of itself",
        fine("The last angles of 70,000 tokens are off: multiply each position by its frequency, in float32."),
    )
    rng = np.random.default_rng(2)
    for batch, heads, length, size in [(1, 1, 2, 2), (1, 1, 2, 4), (2, 3, 4, 6)]:
        angles = np.outer(np.arange(length), [1.0, 0.5, 0.2][: size // 2])
        x, g = draw(rng, batch, heads, length, size), draw(rng, batch, heads, length, size)
        half = size // 2
        a, b, cos, sin = x[..., :half], x[..., half:], np.cos(angles), np.sin(angles)
        neighbours = neighbours_turned(x, angles)
        turned_apart = np.concatenate([neighbours[..., ::2], neighbours[..., 1::2]], axis=-1)
        answer = student.driver.rotated(x, angles, g)
        tensor_came(answer)
        mistakes = {
            "It turns the wrong way: (a, b) becomes (a cos - b sin, a sin + b cos).": turned(x, -angles),
            "Neighbours were paired: a pair is channel i and channel i + D / 2.": lambda y: (
                size > 2 and (same(y, turned_apart) or same(y, neighbours_turned(x, angles)))
            ),
            "One sign is wrong: (a, b) becomes (a cos - b sin, a sin + b cos).": lambda y: any(
                same(y, np.concatenate([a * cos + i * b * sin, a * sin + j * b * cos], axis=-1))
                for i, j in ((1, 1), (-1, -1))
            ),
            "The halves have changed places.": np.concatenate([a * sin + b * cos, a * cos - b * sin], axis=-1),
            "Sine and cosine are exchanged.": turned(x, np.pi / 2 - angles),
            "b is replaced by the new a before it was used: keep the old halves.": lambda y: (
                same(y[..., :half], a * cos - b * sin) and same(y[..., half:], (a * cos - b * sin) * sin + b * cos)
            ),
            "The second half is as it was: it turns, too.": np.concatenate([a * cos - b * sin, b], axis=-1),
        }
        answer["y"].equals(turned(x, angles), mistakes)


# Task 3


def attended(q, k, v, scale=None, seen=lambda t, length: slice(0, t + 1)):
    """Compute attention token by token: a softmax over the visible tokens."""
    y = np.zeros(v.shape)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    for b, h, t in np.ndindex(q.shape[:3]):
        visible = seen(t, q.shape[2])
        scores = k[b, h, visible] @ q[b, h, t] * scale
        weights = np.exp(scores - scores.max(initial=-1e9))
        y[b, h, t] = (weights / weights.sum()) @ v[b, h, visible] if len(scores) else np.nan
    return y


def softmax_then(q, k, v, mask_before=None, mask_after=None, axis=-1):
    """Compute attention that hides the future in a wrong way."""
    scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
    scores = scores if mask_before is None else mask_before(scores)
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    weights = weights / weights.sum(axis=axis, keepdims=True)
    return (weights if mask_after is None else mask_after(weights)) @ v


def attention_inputs(d, kinds=MODERATE):
    shape = d.size(1, 2), d.size(1, 2), d.number(2, 1, 3, 4), d.size(1, 3)
    return values(d, *4 * [shape], kinds=kinds)


SEEN = fine("What is hidden is seen where the scores are far from 0: put -inf in its place.")


def far_inputs(d):
    return attention_inputs(d, (d.fine(SEEN, NORMAL, LARGE),))


@task(3)
def attention(student):
    """Who is compared with whom? Which of these comparisons may not count?

    scores = q kᵀ / √D, (B, H, T, T). Put -inf where the key stands after the query, then the softmax over the last
    axis.

    Scores [2, 5, 9] of token 1 of three: [2, 5, -inf], less their maximum [-3, 0, -inf], after exp [0.05, 1, 0], by
    their sum [0.05, 0.95, 0]. Token 1's result is 0.05 times v of token 0 and 0.95 times its own.
    """
    search(student.driver.attended, attention_inputs, hints=gradients_of("q", "k", "v"), tolerance=1e-4)
    search(student.driver.attended, far_inputs, examples=30, hints=OVERFLOWN, tolerance=1e-4)
    rng = np.random.default_rng(3)
    for batch, heads, length, size in [(1, 1, 2, 2), (1, 1, 3, 2), (2, 2, 1, 3), (2, 2, 4, 3)]:
        q, k, v, g = (draw(rng, batch, heads, length, size) for _ in range(4))
        below = np.tri(length, dtype=bool)
        answer = student.driver.attended(q, k, v, g)
        tensor_came(
            answer,
            {"Swap the last two axes of k, not all of them: k.swapaxes(-1, -2).": raised("ValueError", "matmul")},
        )
        after = lambda w: np.where(below, w, 0)  # noqa: E731
        everything = lambda t, n: slice(0, n)  # noqa: E731
        with np.errstate(all="ignore"):
            wrong = {
                "The scores are not scaled: divide them by √D.": attended(q, k, v, 1.0),
                "The scores are divided by D: it is √D.": attended(q, k, v, 1 / size),
                "The scores are multiplied by √D: divide.": attended(q, k, v, size**0.5),
                "The scale is √T: it is √D, of the head's size, whatever the text's length.": attended(
                    q, k, v, length**-0.5
                ),
                "Nothing is hidden: each token sees the whole text.": attended(q, k, v, seen=everything),
                "A token does not see itself: it sees tokens 0 … t.": lambda y: (
                    np.isnan(y[:, :, 0]).all()
                    and same(y[:, :, 1:], attended(q, k, v, seen=lambda t, n: slice(0, t))[:, :, 1:])
                ),
                "The mask is the wrong way round: each token sees what comes after it.": attended(
                    q, k, v, seen=lambda t, n: slice(t, n)
                ),
                "The softmax runs over the queries: each query's weights over the keys add up to 1.": softmax_then(
                    q, k, v, lambda s: np.where(below, s, -np.inf), axis=-2
                ),
                "A score of 0 hides nothing: exp(0) is 1. Put -inf there.": softmax_then(
                    q, k, v, lambda s: np.where(below, s, 0)
                ),
                "The weights were cut after the softmax, so that they no longer add up to 1: hide before it.": (
                    softmax_then(q, k, v, mask_after=after)
                ),
                "Queries and keys are exchanged.": attended(k, q, v),
                "The softmax is missing: scores are not weights yet.": lambda y: same(
                    y, np.where(below, q @ k.swapaxes(-1, -2) / size**0.5, 0) @ v
                ),
                "The weights are not divided by their sum.": lambda y: same(
                    y, np.where(below, np.exp(q @ k.swapaxes(-1, -2) / size**0.5), 0) @ v
                ),
            }
        answer["y"].equals(attended(q, k, v), instead=wrong)
    for times, sign in ((40, 1), (1000, 1), (1000, -1)):
        mistakes = {
            "Large scores overflow: subtract each row's largest score before exp.": lambda y: not np.isfinite(y).all(),
        }
        student.driver.attended(times * q, sign * times * k, v, g)["y"].equals(
            attended(times * q, sign * times * k, v), mistakes, hint=SEEN
        )
    q, k, v, g = (draw(rng, 1, 2, 3, 2) for _ in range(4))
    loud = np.where(np.arange(3)[:, None] == 2, 1e100, v)  # the last token's value
    student.driver.attended(q, k, loud, g)["y"].holds(
        lambda y: same(y[:, :, :2], attended(q, k, v)[:, :, :2]),
        "tokens 0 and 1 as they are without token 2, whose v is 1e100",
        fine("What is hidden has a small weight still: put -inf in place of its score, and it is exactly 0."),
    )
    first = [a[:, :, :1] for a in (q, k, v, g)]
    student.driver.attended(*first)["y"].equals(
        first[2],
        hint=fine("A single token sees itself, with a weight of 1: nothing is added to the sum of weights."),
        tolerance=2e-7,
    )
    q, k, v, g = (draw(rng, 1, 1, LONG, 2) for _ in range(4))
    of_a_long_text(student.driver.attended(q, k, v, g), attended(q, k, v))


# Task 4


def split(x, heads):
    return np.stack(np.split(x, heads, axis=-1), axis=1)


def joined(x):
    return np.concatenate(list(x.transpose(1, 0, 2, 3)), axis=-1)


def split_inputs(d):
    batch, length, heads, width = d.size(1, 2), d.number(3, 1, 6), d.number(2, 1, 3, 6), d.choice(6, 12)
    x, g = values(d, (batch, length, width), (batch, heads, length, width // heads))
    return x, heads, g


def join_inputs(d):
    batch, heads, length, size = d.size(1, 2), d.size(1, 3), d.number(3, 1, 2), d.size(1, 3)
    return values(d, (batch, heads, length, size), (batch, length, heads * size))


def share_inputs(d):
    batch, kv_heads, length, size = d.size(1, 2), d.size(1, 3), d.number(2, 1, 3), d.size(1, 3)
    heads = kv_heads * d.number(2, 1, 3, 8)
    x, g = values(d, (batch, kv_heads, length, size), (batch, heads, length, size))
    return x, heads, g


MIXED = "The axes are mixed up: reshape splits the channels only; then the head's axis has to move, by swapaxes."


@task(4)
def heads(student):
    """Which axis is split? What has to move where afterwards?

    split: reshape to (B, T, H, D), then swapaxes(1, 2); join goes back. share: a new axis of length 1 after H_kv,
    broadcast to the group's size.

    A text of 3 tokens with 8 channels, for 2 heads: (1, 3, 8), reshaped (1, 3, 2, 4), swapped (1, 2, 3, 4). Rows a b c,
    each twice and side by side: (3, 1), broadcast to (3, 2), reshaped (6,), gives a a b b c c.
    """
    for of_driver, inputs in ((student.driver.split, split_inputs), (student.driver.joined, join_inputs)):
        search(of_driver, inputs, hints=gradients_of("x"))
    search(student.driver.shared, share_inputs, hints=gradients_of("x"))
    rng = np.random.default_rng(4)
    for batch, length, count, size in [(1, 3, 2, 1), (1, 3, 2, 2), (2, 3, 4, 2)]:
        x, g = draw(rng, batch, length, count * size), draw(rng, batch, count, length, size)
        answer = student.driver.split(x, count, g)
        tensor_came(answer)
        mistakes = {
            MIXED: x.reshape(batch, count, length, size),
            "The head's axis still stands behind the tokens': swap axes 1 and 2.": x.reshape(
                batch, length, count, size
            ),
            "The head's channels stand side by side: D is the last axis of the split, not the first.": lambda y: same(
                y, x.reshape(batch, length, size, count).transpose(0, 3, 1, 2)
            ),
        }
        answer["y"].equals(split(x, count), mistakes)
        answer = student.driver.joined(g, x)
        tensor_came(answer)
        mistakes = {
            "The axes are mixed up: first the tokens' axis before the heads', by swapaxes; then reshape.": (
                g.reshape(batch, length, count * size)
            ),
            "The channels of different heads alternate: a head's stay side by side.": lambda y: same(
                y, g.transpose(0, 2, 3, 1).reshape(batch, length, count * size)
            ),
        }
        answer["y"].equals(joined(g), mistakes)
    for batch, kv_heads, count, length, size in [(1, 2, 4, 2, 1), (2, 3, 6, 4, 2), (1, 2, 2, 1, 2), (1, 1, 2, 2, 1)]:
        x, g = draw(rng, batch, kv_heads, length, size), draw(rng, batch, count, length, size)
        right = np.stack([x[:, h * kv_heads // count] for h in range(count)], axis=1)
        order = " ".join(str(h * kv_heads // count) for h in range(count))
        answer = student.driver.shared(x, count, g)
        tensor_came(answer)
        mistakes = {
            "The heads come in turns, 0 1 0 1: neighbours share, 0 0 1 1.": lambda y: same(
                y, np.concatenate([x] * (count // kv_heads), axis=1)
            ),
            "The heads are as many as they were: repeat each for its group.": lambda y: same(y, x) and count > kv_heads,
            "All query heads share the first key head.": lambda y: same(y, np.stack([x[:, 0]] * count, axis=1)),
            f"The heads stand in another order: {count} query heads look into key heads {order}.": lambda y: all(
                any(same(y[:, h], x[:, j]) for j in range(kv_heads)) for h in range(count)
            ),
            "The heads are shared out over the tokens: a head's tokens stay together.": lambda y: (
                np.shape(y) == right.shape and same(np.sort(np.ravel(y)), np.sort(np.ravel(right)))
            ),
        }
        answer["y"].equals(right, mistakes)
    for kv_heads, count in [(2, 3), (4, 6), (2, 1), (3, 4)]:
        x = draw(rng, 1, kv_heads, 2, 1)
        mistakes = {
            "Where the heads cannot be shared evenly, raise ValueError.": lambda result: True,
            "Where the heads cannot be shared evenly, raise ValueError, and no other error.": raised("Exception"),
        }
        student.driver.shared(x, count, draw(rng, 1, count, 2, 1)).equals(raised("ValueError"), mistakes)


# Task 5


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def silu(z):
    return z * sigmoid(z)


def normal_below(z):
    return np.vectorize(lambda one: (1 + erf(one / 2**0.5)) / 2)(z)


def with_one_reshaped(*maps):
    for i, matrix in enumerate(maps):
        yield [*maps[:i], matrix.reshape(matrix.T.shape).T, *maps[i + 1 :]]


def gated(x, gate, up, down):
    return np.einsum("...f,cf->...c", silu(x @ gate.T) * (x @ up.T), down)


def mlp_inputs(d, kinds=MODERATE):
    lead, width, inner = d.shape((1, 0, 2, 3)), d.size(1, 3), d.size(1, 3)
    maps = (inner, width), (inner, width), (width, inner)
    return values(d, (*lead, width), *maps, (*lead, width), kinds=kinds)


@task(5)
def mlp(student):
    """Two linear maps lead from C to F. Which of them is activated?

    opening = x gateᵀ; opening · sigmoid(opening); times x upᵀ; then back to C by downᵀ.

    Where gate gives 2 and up gives 3: silu(2) = 2 · 0.88 = 1.76, times 3 is 5.28. Where gate gives -9, silu is -0.001,
    and whatever up says is shut out. A row of such products goes through down, from F numbers to C.
    """
    names = ("x", "gate", "up", "down")
    search(student.driver.gated, mlp_inputs, hints=gradients_of(*names), tolerance=1e-4)
    rng = np.random.default_rng(5)
    for *lead, width, inner in [(1, 1, 2), (2, 3, 5), (2, 2, 3, 4)]:
        x, g = draw(rng, *lead, width), draw(rng, *lead, width)
        gate, up, down = draw(rng, inner, width), draw(rng, inner, width), draw(rng, width, inner)
        a, b = x @ gate.T, x @ up.T
        answer = student.driver.gated(x, gate, up, down, g)
        tensor_came(
            answer,
            {
                "A product has the wrong shape: each matrix is (out, in), so it is transposed.": raised(
                    "ValueError", "matmul"
                ),
                "x may have any number of axes before the last one: x.shape[-1] are its channels.": raised(
                    "ValueError", "unpack"
                ),
            },
        )
        mistakes = {
            "gate and up are exchanged: the gate is activated.": gated(x, up, gate, down),
            "The sigmoid alone opens the gate: silu(z) is z · sigmoid(z).": sigmoid(a) * b @ down.T,
            "There is no activation: silu(z) is z · sigmoid(z).": a * b @ down.T,
            "up is missing: what the gate lets through is multiplied by x upᵀ.": silu(a) @ down.T,
            "The two are added: the gate multiplies.": (silu(a) + b) @ down.T,
            "The product is activated: only the gate is.": silu(a * b) @ down.T,
            "Both are activated: only the gate is.": silu(a) * silu(b) @ down.T,
            "That is a ReLU: silu(z) is z · sigmoid(z).": np.maximum(a, 0) * b @ down.T,
            "That is tanh: silu(z) is z · sigmoid(z).": np.tanh(a) * b @ down.T,
            "That is GELU's curve: silu(z) is z · sigmoid(z).": lambda y: any(
                np.allclose(y, a * gelu * b @ down.T, atol=1e-4)
                for gelu in (sigmoid(1.702 * a), normal_below(a), sigmoid(1.5957691 * (a + 0.044715 * a**3)))
            ),
            "down is missing: the result has C channels again.": silu(a) * b,
            "A matrix is reshaped where it should be transposed: .T exchanges rows and columns.": lambda y: any(
                same(y, gated(x, *maps)) for maps in with_one_reshaped(gate, up, down)
            ),
        }
        answer["y"].equals(gated(x, gate, up, down), mistakes)

    far = np.array([[1000.0], [-1000.0], [100.0], [-100.0]])
    one = np.ones((1, 1))
    hint = fine("exp overflows where values are large, or the gradient does: Tensors have a sigmoid that does not.")
    for z in (far, far.astype("float32")):
        answer = student.driver.gated(z, one, one, one, z)
        answer["y"].equals(z * z * (z > 0), hint=hint)
        answer["dx"].equals(2 * z * z * (z > 0), hint=hint)
    for z in (-np.arange(1, 25) / 2, np.arange(1, 25) / 2):  # one channel is z, the other is 1
        x = np.stack([z, np.ones(24)], axis=1)
        gate, up, down = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.array([[1.0], [0.0]])
        student.driver.gated(x, gate, up, down, x)["y"].equals(
            np.stack([silu(z), np.zeros(24)], axis=1),
            hint="That is not silu somewhere between -12 and 12: z · sigmoid(z) has no corner.",
        )


# Task 6


def block(x, weights, heads, kv_heads, *, change=""):
    """Compute the block by loops; `change` names a mistake."""
    w = weights
    size = x.shape[-1] // heads
    angles = np.outer(np.arange(x.shape[1]), 10000.0 ** (-2 * np.arange(size // 2) / size))
    norm = lambda y, name: normed(y, w[name], 1e-6)  # noqa: E731
    mlp = lambda h: gated(h, w["gate_proj"], w["up_proj"], w["down_proj"])  # noqa: E731
    first, second = "input_layernorm", "post_attention_layernorm"
    if change == "norms exchanged":
        first, second = second, first
    if change in ("first norm twice", "second norm twice"):
        first = second = first if change == "first norm twice" else second

    def attend(h):
        q, k, v = (split(h @ w[f"{n}_proj"].T, c) for n, c in (("q", heads), ("k", kv_heads), ("v", kv_heads)))
        turn = lambda y: y if change == "no rotation" else turned(y, angles)  # noqa: E731
        q, k = turn(q), k if change == "keys not rotated" else turn(k)
        v = turned(v, angles) if change == "values rotated" else v
        if change == "scrambled":
            q, k, v = (y.swapaxes(1, 2).reshape(y.shape) for y in (q, k, v))
        order = [h % kv_heads if change == "in turns" else h * kv_heads // heads for h in range(heads)]
        y = joined(attended(q, k[:, order], v[:, order]))
        return y if change == "no o_proj" else y @ w["o_proj"].T

    if change == "norm after":
        y = norm(x + attend(x), first)
        return norm(y + mlp(y), second)
    if change == "no norm":
        y = x + attend(x)
        return y + mlp(y)
    h = norm(x, first)
    y = h + attend(h) if change == "normalized stream" else x + attend(h)
    y = attend(h) if change == "no residual" else y
    if change == "beside":
        return y + mlp(norm(x, second))
    if change == "one norm":
        return y + mlp(y)
    h = norm(y, second)
    if change == "no residual":
        return mlp(h)
    if change == "first residual only":
        return mlp(h)
    return (h if change == "normalized stream" else y) + mlp(h)


CHANGES = {
    "no residual": "Nothing is added to x: attention and MLP are each added to the stream.",
    "first residual only": "The MLP's result replaces the stream: it is added to it.",
    "norm after": "The norm comes after the addition: it stands before attention and before the MLP.",
    "no norm": "The norms are missing: attention and MLP each read a normalized copy.",
    "one norm": "The MLP reads the stream as it is: give it a normalized copy.",
    "first norm twice": "Both norms have the weight of input_layernorm: the second is post_attention_layernorm's.",
    "second norm twice": "Both norms have the weight of post_attention_layernorm: the first is input_layernorm's.",
    "norms exchanged": "The two norms' weights are exchanged: input_layernorm comes first.",
    "normalized stream": "The normalized copy itself is added to: x stays as it is, and gets the results added.",
    "beside": "The MLP reads x from before the attention: it reads the sum.",
    "no rotation": "Nothing is rotated: queries and keys are, by the angles of T = x.shape[1] positions.",
    "keys not rotated": "The keys are not rotated: queries and keys both are.",
    "values rotated": "The values are rotated, too: only queries and keys are.",
    "in turns": "The query heads take the key heads in turns: neighbours share.",
    "no o_proj": "o_proj is missing: it mixes the heads before the result is added.",
}


LATER = {
    "texts": "Right for one text, wrong where a longer or a shorter one follows: something is kept between them.",
    "after a step": "Right at first, wrong when the weights have changed: something of them is kept.",
}


def shapes_of(heads, kv_heads, size, inner):
    width = heads * size
    shapes = {"q_proj": (width, width), "k_proj": (kv_heads * size, width), "v_proj": (kv_heads * size, width)}
    shapes |= {"o_proj": (width, width), "gate_proj": (inner, width), "up_proj": (inner, width)}
    return shapes | {"down_proj": (width, inner), "input_layernorm": (width,), "post_attention_layernorm": (width,)}


def block_inputs(d):
    batch, length, size, inner = d.size(1, 2), d.number(2, 1, 3, 4), d.choice(2, 4), d.size(1, 3)
    heads, kv_heads = d.choice((2, 1), (1, 1), (2, 2), (4, 2))
    x, g = values(d, *2 * [(batch, length, heads * size)])
    shapes = shapes_of(heads, kv_heads, size, inner)
    weights = {name: d.array(*shape, kinds=(NORMAL,)) for name, shape in shapes.items()}
    return x, heads, kv_heads, weights, g


def facts_of_texts(facts):
    return facts | {"texts": tuple(facts["texts"])}


def texts_inputs(d):
    return *block_inputs(d)[:-1], d.choice([1, 4, 2], [2, 1, 3], [3, 3, 1])


@task(6)
def whole_block(student):
    """Two sentences: attention on a normalized copy, added; the MLP on a normalized copy, added. What is inside?

    h = rms_norm(x, …); q, k, v: project, split, rotate q and k; share k and v; attend; join; o_proj; add to x.

    Where attention finds nothing for a token, its vector [3, 4] goes on as [3, 4], not as the [0.85, 1.13] that
    attention read. Where it finds [1, -1], the MLP reads [4, 3] normalized, and is added to [4, 3].
    """
    hints = gradients_of("x") | {"dweights": OTHER.format("the weights")}
    search(student.driver.block, block_inputs, examples=40, hints=hints, tolerance=1e-4)
    search(student.driver.texts, texts_inputs, examples=10, facts=facts_of_texts, hints=LATER)
    rng = np.random.default_rng(6)
    for batch, length, size, heads, kv_heads, inner in [(1, 2, 2, 2, 1, 3), (1, 4, 2, 4, 2, 5), (2, 5, 4, 2, 2, 3)]:
        shapes = shapes_of(heads, kv_heads, size, inner)
        weights = {name: draw(rng, *shape) * 0.7 for name, shape in shapes.items()}
        x = draw(rng, batch, length, heads * size)
        answer = student.driver.block(x, heads, kv_heads, weights, x)
        tensor_came(answer)
        answer["y"].equals(
            block(x, weights, heads, kv_heads),
            instead={
                hint: (lambda y, change=change: same(y, block(x, weights, heads, kv_heads, change=change)))
                for change, hint in CHANGES.items()
            },
        )
    weights = {name: draw(rng, *shape) * 0.7 for name, shape in shapes_of(1, 1, 2, 3).items()}
    x = draw(rng, 1, LONG, 2)
    of_a_long_text(student.driver.block(x, 1, 1, weights, x), block(x, weights, 1, 1))
