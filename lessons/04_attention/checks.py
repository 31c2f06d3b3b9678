"""The checks of lesson 04. What is right is computed here by other formulas: loops over tokens, and complex numbers."""

import numpy as np

from minilora.classroom import draw, raised, task

USES = (
    "minilora.Tensor",
    "minilora.no_grad",
    "minilora.ops",
    "minilora.nn.Module",
    "minilora.nn.Linear",
    "minilora.nn.Parameter",
)

EPS = 1e-5
CUT = "No gradient arrives: compute with Tensors from beginning to end, without .data, .numpy() or np functions."
NUMPY = "A NumPy function was used on a Tensor: use the Tensor's own methods, or ops."


def same(got, value):
    return np.shape(got) == np.shape(value) and np.allclose(got, value, atol=1e-6)


def central_differences(function, arrays, i, g):
    """The gradient of (g * function(*arrays)).sum() with respect to arrays[i]."""
    found = np.zeros(arrays[i].shape)
    for place in np.ndindex(found.shape):
        sums = []
        for step in (EPS, -EPS):
            changed = [array.copy() for array in arrays]
            changed[i][place] += step
            sums.append((g * function(*changed)).sum())
        found[place] = (sums[0] - sums[1]) / (2 * EPS)
    return found


def tensor_came(answer, instead=None):
    """A Tensor was returned; `instead` as for `Answer.returns`."""
    answer.returns((instead or {}) | {NUMPY: raised("TypeError", "ufunc")})
    answer["kind"].equals("Tensor", instead={NUMPY: lambda kind: True})


def gradients(answer, function, g, **arrays):
    """The gradients that backward left are those of the function."""
    for i, name in enumerate(arrays):
        right = central_differences(function, list(arrays.values()), i, g)
        answer[f"d{name}"].equals(right, instead={CUT: None}, tolerance=1e-4)


# Task 1


def normed(x, weight, eps):
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        y[place] = x[place] / (np.dot(x[place], x[place]) / x.shape[-1] + eps) ** 0.5 * weight
    return y


@task(
    1,
    hints=(
        "What is the size of one token's vector? Which axis does it lie along?",
        "The mean of the squares, over the last axis, with keepdims=True; its root divides x.",
        "x / ((x * x).mean(axis=-1, keepdims=True) + eps).sqrt() * weight",
    ),
)
def norm(student):
    rng = np.random.default_rng(1)
    for shape, eps in [((1, 2), 1e-6), ((3, 2), 1e-6), ((2, 3, 4), 0.5)]:
        x, weight, g = draw(rng, *shape), draw(rng, shape[-1]), draw(rng, *shape)
        mean = x.mean(axis=-1, keepdims=True)
        square = (x * x).mean(axis=-1, keepdims=True)
        answer = student.driver.normed(x, weight, eps, g)
        tensor_came(answer, {"The axis is lost: take the mean with keepdims=True.": raised("ValueError", "broadcast")})
        answer["y"].equals(
            normed(x, weight, eps),
            instead={
                "The weight is missing: each channel is multiplied by its own.": normed(x, 1, eps),
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
                "eps is left out: without it a zero vector is divided by zero.": x / np.sqrt(square) * weight,
            },
        )
        gradients(answer, lambda x, weight: normed(x, weight, eps), g, x=x, weight=weight)


# Task 2


def turned(x, angles):
    half = x.shape[-1] // 2
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], axis=-1)


def neighbours_turned(x, angles):
    z = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)


@task(
    2,
    hints=(
        "How many pairs does a head have? How fast does each turn?",
        "Angles: the positions as a column times theta ** (-2 i / D) as a row. rotate: split x in two halves, not in "
        "neighbours.",
        "np.arange(length)[:, None] * theta ** (-2 * np.arange(D // 2) / D); then "
        "ops.concatenate([a cos - b sin, a sin + b cos], axis=-1).",
    ),
)
def positions(student):
    for length, size, theta in [(2, 2, 10.0), (3, 4, 10.0), (5, 6, 100.0)]:
        pairs, places = np.arange(size // 2), np.arange(length)
        right = np.outer(places, theta ** (-2 * pairs / size))
        student.rotary_angles(length, size, theta).equals(
            right,
            instead={
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
                "The result is (pairs, positions): one row a position.": lambda a: (
                    same(np.transpose(a), right) and length != size // 2
                ),
                "The angle is missing its position: t · theta^(-2i / D).": lambda a: (
                    np.shape(a) in ((size // 2,), (1, size // 2))
                ),
                "There is an angle for each channel: one for each pair is asked for, D / 2.": lambda a: (
                    np.shape(a) == (length, size)
                ),
            },
        )
    rng = np.random.default_rng(2)
    for batch, heads, length, size in [(1, 1, 2, 2), (1, 1, 2, 4), (2, 3, 4, 6)]:
        angles = np.outer(np.arange(length), [1.0, 0.5, 0.2][: size // 2])
        x, g = draw(rng, batch, heads, length, size), draw(rng, batch, heads, length, size)
        half = size // 2
        a, b, cos, sin = x[..., :half], x[..., half:], np.cos(angles), np.sin(angles)
        answer = student.driver.rotated(x, angles, g)
        tensor_came(answer)
        answer["y"].equals(
            turned(x, angles),
            instead={
                "It turns the wrong way: (a, b) becomes (a cos - b sin, a sin + b cos).": turned(x, -angles),
                "Neighbours were paired: a pair is channel i and channel i + D / 2.": lambda y: (
                    size > 2 and same(y, neighbours_turned(x, angles))
                ),
                "One sign is wrong: both halves get a plus.": np.concatenate(
                    [a * cos + b * sin, a * sin + b * cos], axis=-1
                ),
                "The halves have changed places.": np.concatenate([a * sin + b * cos, a * cos - b * sin], axis=-1),
                "Sine and cosine are exchanged.": turned(x, np.pi / 2 - angles),
                "b is replaced by the new a before it was used: keep the old halves.": lambda y: (
                    same(y[..., :half], a * cos - b * sin) and same(y[..., half:], (a * cos - b * sin) * sin + b * cos)
                ),
                "The second half is as it was: it turns, too.": np.concatenate([a * cos - b * sin, b], axis=-1),
            },
        )
        gradients(answer, lambda x: turned(x, angles), g, x=x)


# Task 3


def attended(q, k, v, scale=None, seen=lambda t, length: slice(0, t + 1)):
    """Token by token: a softmax over what it sees."""
    y = np.zeros(v.shape)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    for b, h, t in np.ndindex(q.shape[:3]):
        visible = seen(t, q.shape[2])
        scores = k[b, h, visible] @ q[b, h, t] * scale
        weights = np.exp(scores - scores.max(initial=-1e9))
        y[b, h, t] = (weights / weights.sum()) @ v[b, h, visible] if len(scores) else np.nan
    return y


def softmax_then(q, k, v, mask_before=None, mask_after=None, axis=-1):
    """Wrong ways to hide the future."""
    scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
    scores = scores if mask_before is None else mask_before(scores)
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    weights = weights / weights.sum(axis=axis, keepdims=True)
    return (weights if mask_after is None else mask_after(weights)) @ v


LEAK = "Gradient reaches a later token: what comes later in the text must have no part in the result."


@task(
    3,
    hints=(
        "Who is compared with whom? Which of these comparisons may not count?",
        "scores = q kᵀ / √D, (B, H, T, T). Put -inf where the key stands after the query, then the softmax over the "
        "last axis.",
        "ops.where(np.tri(T, dtype=bool), scores, -np.inf); subtract each row's max; exp; divide by the row's sum; @ v",
    ),
)
def attention(student):
    rng = np.random.default_rng(3)
    for batch, heads, length, size in [(1, 1, 2, 2), (1, 1, 3, 2), (2, 2, 1, 3), (2, 2, 4, 3)]:
        q, k, v, g = (draw(rng, batch, heads, length, size) for _ in range(4))
        below = np.tri(length, dtype=bool)
        answer = student.driver.attended(q, k, v, g)
        tensor_came(answer, {"Swap the last two axes of k, not all of them: k.swapaxes(-1, -2).": raised("ValueError")})
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
                "The softmax is missing: scores are no weights.": lambda y: same(
                    y, np.where(below, q @ k.swapaxes(-1, -2) / size**0.5, 0) @ v
                ),
                "The weights are not divided by their sum.": lambda y: same(
                    y, np.where(below, np.exp(q @ k.swapaxes(-1, -2) / size**0.5), 0) @ v
                ),
            }
        answer["y"].equals(attended(q, k, v), instead=wrong)
        if length < 4:
            gradients(answer, attended, g, q=q, k=k, v=v)
    q, k, v = 40 * q, 40 * k, v
    student.driver.attended(q, k, v, g)["y"].equals(
        attended(q, k, v),
        instead={
            "Large scores overflow: subtract each row's largest score before exp.": lambda y: not np.isfinite(y).all()
        },
    )
    for t in range(length):
        answer = student.driver.from_one_token(q / 40, k / 40, v, t)
        for name in ("dk", "dv"):
            answer[name].holds(
                lambda d: not np.any(d[:, :, t + 1 :]), f"0 for all tokens after {t}", LEAK, instead={CUT: None}
            )


# Task 4


def split(x, heads):
    return np.stack(np.split(x, heads, axis=-1), axis=1)


def joined(x):
    return np.concatenate(list(x.transpose(1, 0, 2, 3)), axis=-1)


MIXED = "The axes are mixed up: reshape splits the channels only; then the head's axis has to move, by swapaxes."


@task(
    4,
    hints=(
        "Which axis is split? What has to move where afterwards?",
        "split: reshape to (B, T, H, D), then swapaxes(1, 2); join goes back. share: a new axis of length 1 after "
        "H_kv, broadcast to the group's size.",
        "x.reshape(B, H_kv, 1, T, D).broadcast_to((B, H_kv, heads // H_kv, T, D)).reshape(B, heads, T, D)",
    ),
)
def heads(student):
    rng = np.random.default_rng(4)
    for batch, length, count, size in [(1, 3, 2, 1), (1, 3, 2, 2), (2, 3, 4, 2)]:
        x, g = draw(rng, batch, length, count * size), draw(rng, batch, count, length, size)
        answer = student.driver.split(x, count, g)
        tensor_came(answer)
        answer["y"].equals(
            split(x, count),
            instead={
                MIXED: x.reshape(batch, count, length, size),
                "The head's axis still stands behind the tokens': swap axes 1 and 2.": x.reshape(
                    batch, length, count, size
                ),
                "The head's channels stand side by side: D is the last axis of the split, not the first.": lambda y: (
                    same(y, x.reshape(batch, length, size, count).transpose(0, 3, 1, 2))
                ),
            },
        )
        answer["dx"].equals(joined(g), instead={CUT: None})
        answer = student.driver.joined(g, x)
        tensor_came(answer)
        answer["y"].equals(
            joined(g),
            instead={
                "The axes are mixed up: first the tokens' axis before the heads', by swapaxes; then reshape.": (
                    g.reshape(batch, length, count * size)
                ),
                "The channels of different heads alternate: a head's stay side by side.": lambda y: same(
                    y, g.transpose(0, 2, 3, 1).reshape(batch, length, count * size)
                ),
            },
        )
        answer["dx"].equals(split(x, count), instead={CUT: None})
    for batch, kv_heads, count, length, size in [(1, 1, 2, 2, 1), (1, 2, 2, 1, 2), (1, 2, 4, 2, 1), (2, 3, 6, 4, 2)]:
        x, g = draw(rng, batch, kv_heads, length, size), draw(rng, batch, count, length, size)
        right = np.stack([x[:, h * kv_heads // count] for h in range(count)], axis=1)
        answer = student.driver.shared(x, count, g)
        tensor_came(answer)
        answer["y"].equals(
            right,
            instead={
                "The heads come in turns, 0 1 0 1: neighbours share, 0 0 1 1.": lambda y: same(
                    y, np.concatenate([x] * (count // kv_heads), axis=1)
                ),
                "The heads are as many as they were: repeat each for its group.": lambda y: (
                    same(y, x) and count > kv_heads
                ),
                "All query heads share the first key head.": lambda y: same(y, np.stack([x[:, 0]] * count, axis=1)),
                "The heads are shared out over the tokens: a head's tokens stay together.": lambda y: (
                    np.shape(y) == right.shape and same(np.sort(np.ravel(y)), np.sort(np.ravel(right)))
                ),
            },
        )
        parts = g.reshape(batch, kv_heads, count // kv_heads, length, size)
        answer["dx"].equals(parts.sum(axis=2), instead={CUT: None})
    for kv_heads, count in [(2, 3), (4, 6)]:
        x = draw(rng, 1, kv_heads, 2, 1)
        student.driver.shared(x, count, draw(rng, 1, count, 2, 1)).equals(
            raised("ValueError"),
            instead={
                "Where the heads cannot be shared evenly, raise ValueError.": lambda result: True,
                "Where the heads cannot be shared evenly, raise ValueError, and no other error.": raised("Exception"),
            },
        )


# Task 5


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def silu(z):
    return z * sigmoid(z)


def gated(x, gate, up, down):
    return np.einsum("...f,cf->...c", silu(x @ gate.T) * (x @ up.T), down)


@task(
    5,
    hints=(
        "Two linear maps lead from C to F. Which of them is activated?",
        "opening = x gateᵀ; opening · sigmoid(opening); times x upᵀ; then back to C by downᵀ.",
        "z = x @ gate.T; return z * z.sigmoid() * (x @ up.T) @ down.T",
    ),
)
def mlp(student):
    rng = np.random.default_rng(5)
    for *lead, width, inner in [(1, 1, 2), (2, 3, 5), (2, 2, 3, 4)]:
        x, g = draw(rng, *lead, width), draw(rng, *lead, width)
        gate, up, down = draw(rng, inner, width), draw(rng, inner, width), draw(rng, width, inner)
        a, b = x @ gate.T, x @ up.T
        answer = student.driver.gated(x, gate, up, down, g)
        tensor_came(
            answer,
            {"A product has the wrong shape: each matrix is (out, in), so it is transposed.": raised("ValueError")},
        )
        answer["y"].equals(
            gated(x, gate, up, down),
            instead={
                "gate and up are exchanged: the gate is activated.": gated(x, up, gate, down),
                "The sigmoid alone opens the gate: silu(z) is z · sigmoid(z).": sigmoid(a) * b @ down.T,
                "There is no activation: silu(z) is z · sigmoid(z).": a * b @ down.T,
                "up is missing: what the gate lets through is multiplied by x upᵀ.": silu(a) @ down.T,
                "The two are added: the gate multiplies.": (silu(a) + b) @ down.T,
                "The product is activated: only the gate is.": silu(a * b) @ down.T,
                "Both are activated: only the gate is.": silu(a) * silu(b) @ down.T,
                "That is a ReLU: silu(z) is z · sigmoid(z).": np.maximum(a, 0) * b @ down.T,
                "That is tanh: silu(z) is z · sigmoid(z).": np.tanh(a) * b @ down.T,
                "down is missing: the result has C channels again.": silu(a) * b,
            },
        )
        if len(lead) < 2:
            gradients(answer, gated, g, x=x, gate=gate, up=up, down=down)


# Task 6


def block(x, weights, heads, kv_heads, *, change=""):
    """The block by loops; `change` names a mistake."""
    w = weights
    size = x.shape[-1] // heads
    angles = np.outer(np.arange(x.shape[1]), 10000.0 ** (-2 * np.arange(size // 2) / size))
    norm = lambda y, name: normed(y, w[name], 1e-6)  # noqa: E731
    mlp = lambda h: gated(h, w["gate_proj"], w["up_proj"], w["down_proj"])  # noqa: E731
    first, second = "input_layernorm", "post_attention_layernorm"
    if change == "norms exchanged":
        first, second = second, first

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
    "norms exchanged": "The two norms' weights are exchanged: input_layernorm comes first.",
    "normalized stream": "The normalized copy itself is added to: x stays as it is, and gets the results added.",
    "beside": "The MLP reads x from before the attention: it reads the sum.",
    "no rotation": "Nothing is rotated: queries and keys are, by the angles of T = x.shape[1] positions.",
    "keys not rotated": "The keys are not rotated: queries and keys both are.",
    "values rotated": "The values are rotated, too: only queries and keys are.",
    "in turns": "The query heads take the key heads in turns: neighbours share.",
    "no o_proj": "o_proj is missing: it mixes the heads before the result is added.",
}


@task(
    6,
    hints=(
        "Two sentences: attention on a normalized copy, added; the MLP on a normalized copy, added. What is inside?",
        "h = rms_norm(x, …); q, k, v: project, split, rotate q and k; share k and v; attend; join; o_proj; add to x.",
        "x = x + self.o_proj(join_heads(causal_attention(q, share_heads(k, …), share_heads(v, …)))); then "
        "h = rms_norm(x, self.post_attention_layernorm) and x + swiglu(h, …).",
    ),
)
def whole_block(student):
    rng = np.random.default_rng(6)
    for batch, length, size, heads, kv_heads, inner in [(1, 2, 2, 2, 1, 3), (1, 4, 2, 4, 2, 5), (2, 5, 4, 2, 2, 3)]:
        width = heads * size
        shapes = {"q_proj": (width, width), "k_proj": (kv_heads * size, width), "v_proj": (kv_heads * size, width)}
        shapes |= {"o_proj": (width, width), "gate_proj": (inner, width), "up_proj": (inner, width)}
        shapes |= {"down_proj": (width, inner), "input_layernorm": (width,), "post_attention_layernorm": (width,)}
        weights = {name: draw(rng, *shape) * 0.7 for name, shape in shapes.items()}
        x = draw(rng, batch, length, width)
        for t in range(length):
            answer = student.driver.block(x, heads, kv_heads, weights, t)
            tensor_came(answer)
            answer["y"].equals(
                block(x, weights, heads, kv_heads),
                instead={
                    hint: (lambda y, change=change: same(y, block(x, weights, heads, kv_heads, change=change)))
                    for change, hint in CHANGES.items()
                },
            )
            answer["dx"].holds(lambda d: not np.any(d[:, t + 1 :]), f"0 for all tokens after {t}", LEAK, {CUT: None})
            answer["learns"].holds(
                lambda names: len(names) == len(weights), "a gradient in each of the nine weights", CUT
            )
            if length < 3:
                g = np.zeros(x.shape)
                g[:, t] = 1
                right = central_differences(lambda x: block(x, weights, heads, kv_heads), [x], 0, g)
                answer["dx"].equals(right, instead={CUT: lambda d: True}, tolerance=1e-4)
