"""The checks of lesson 12. They run in the checker's process; driver.py runs beside the student's code."""

import numpy as np

from minilora.classroom import draw, raised, task
from minilora.quant import dequantize_4bit, quantize_4bit

USES = (
    "minilora.Tensor",
    "minilora.no_grad",
    "minilora.nn",
    "minilora.functional.linear",
    "minilora.quant.quantize_4bit",
    "minilora.quant.dequantize_4bit",
)


def rounded(W):
    """What a 4-bit layer computes with."""
    return dequantize_4bit(*quantize_4bit(W))


@task(
    1,
    hints=(
        "Which of the kinds does a frozen number take part in? And one that trains?",
        "Frozen: bits / 8 bytes, among the weights, and nothing else. Trained: 4 bytes among the weights, and then?",
        "weights: frozen * bits / 8 + 4 * trained; gradients: 4 * trained; optimizer: 8 * trained",
    ),
)
def counting(student):
    for frozen, trained, bits in ((80, 10, 32), (1024, 48, 4.5), (0, 100, 32), (6_476_267_520, 39_976_960, 4.127)):
        answer = student.training_bytes(frozen, trained, bits)
        for kind in ("weights", "gradients", "optimizer"):
            answer[kind].holds(np.isscalar, "a number", "Each kind is one number of bytes.")
        answer["weights"].equals(
            frozen * bits / 8 + 4 * trained,
            instead={
                "These are bits: a byte has 8.": lambda got: (
                    got
                    in (
                        frozen * bits + 4 * trained,
                        frozen * bits + 32 * trained,
                    )
                ),
                "The numbers that train are weights too: 4 bytes each.": frozen * bits / 8,
                "What trains is kept in float32, whatever the base's bits.": (frozen + trained) * bits / 8,
                "The frozen numbers take `bits` bits each, not 32.": 4 * (frozen + trained),
                "The frozen numbers are missing: they are weights as well.": 4 * trained,
            },
        )
        answer["gradients"].equals(
            4 * trained,
            instead={
                "Frozen numbers get no gradient.": lambda got: got > 4 * trained,
                "A gradient is a float32: 4 bytes.": lambda got: 0 < got < 4 * trained,
            },
        )
        answer["optimizer"].equals(
            8 * trained,
            instead={
                "AdamW keeps two moments for each number that trains, not one.": 4 * trained,
                "The gradient is counted already; the optimizer's own are the two moments.": 12 * trained,
                "For frozen numbers the optimizer keeps nothing.": lambda got: got > 8 * trained,
            },
        )


ORIGINAL = "This is the original weight's answer; multiply with what the codes stand for."
NO_SUCH_SHAPE = "The shapes do not fit: y = x Wᵀ, and dx = g W."


@task(
    2,
    hints=(
        "What would you compute if the weight were an array? And where does the array come from?",
        "y = x Wᵀ, and by lesson 02's rule the gradient with respect to x is g W.",
        "x @ dequantize_4bit(packed, state).T, and g @ dequantize_4bit(packed, state)",
    ),
)
def multiplying(student):
    rng = np.random.default_rng(2)
    for n, d_in, d_out in [(1, 4, 3), (2, 5, 3), (3, 40, 7)]:
        x, g, W = (draw(rng, *shape).astype("float32") for shape in ((n, d_in), (n, d_out), (d_out, d_in)))
        answer = student.driver.product(x, W)
        answer.returns(
            instead={
                "packed holds codes, two a byte: make the weight of them, dequantize_4bit(packed, state).": (
                    raised("ValueError", f"size {(d_in * d_out + 1) // 2} is different")
                ),
                NO_SUCH_SHAPE: raised("ValueError"),
            }
        )
        answer.equals(
            x @ rounded(W).T,
            instead={"The result is transposed: y is (n, d_out).": (x @ rounded(W).T).T},
        )
        answer = student.driver.product_gradient(g, W)
        answer.returns(instead={NO_SUCH_SHAPE: raised("ValueError")})
        answer.equals(
            g @ rounded(W),
            instead={
                "Rounding has no gradient, but nothing is rounded here: y = x Wᵀ is a product, and W a constant.": (
                    lambda dx: dx is None or not np.any(dx)
                ),
                "The gradient passes through the weight: it has x's shape.": g,
                "The result is transposed: dx is (n, d_in).": (g @ rounded(W)).T,
                "The weight's size is lost: signs alone are no gradient.": g @ np.sign(rounded(W)),
                "That is a mean over the inputs; the gradient is the product itself.": g @ rounded(W) / n,
            },
        )


def layer_inputs():
    rng = np.random.default_rng(3)
    for n, d_in, d_out, r, scaling in [(1, 16, 12, 2, 0.5), (2, 48, 40, 3, 2.0)]:
        shapes = ((n, d_in), (d_out, d_in), (d_out,), (r, d_in), (d_out, r))
        yield *(draw(rng, *shape).astype("float32") for shape in shapes), scaling


NOT_TENSORS = "A and B must be Tensors that train: wrap the arrays in nn.Parameter."
CUT = "No gradient reaches the input: the base's product must take part in y, as F.linear of x."
CUT_UPDATE = "No gradient reaches A and B: they must take part in y, as Tensors."


@task(
    3,
    hints=(
        "What must the layer remember, which of it trains, and what must it not keep?",
        "packed and state of the weight, the bias, A and B as nn.Parameter. Give F.linear a function as its weight.",
        "F.linear(x, lambda: dequantize_4bit(self.packed, self.state), self.bias), plus lesson 08's scaled update.",
    ),
)
def layer(student):
    for x, W, b, A, B, scaling in layer_inputs():
        answer = student.driver.observed(x, W, b, A, B, scaling)
        answer["kinds"].equals({"A": "Tensor", "B": "Tensor"}, instead={NOT_TENSORS: lambda kinds: True})
        base, update, weight = x @ rounded(W).T, x @ A.T @ B.T, rounded(W)
        y = base + b + scaling * update
        answer["y"].equals(
            y,
            instead={
                "This is the original weight's answer: compute with what the codes stand for.": (
                    x @ W.T + b + scaling * update
                ),
                "The update is not scaled.": base + b + update,
                "The base's answer is scaled too: only the update is.": scaling * (base + b + update),
                "The bias is lost.": base + scaling * update,
                "The bias is scaled: only the update is.": base + scaling * (b + update),
                "The update is missing.": base + b,
                "The base is missing.": scaling * update,
            },
        )
        answer["trains"].holds(
            lambda names: sorted(names) == ["A", "B"],
            "A and B to train, and nothing else",
            "A and B must train.",
            instead={
                "The bias is not frozen.": lambda names: sorted(names) == ["A", "B", "bias"],
                "The base is not frozen: of the layer, A and B train alone.": lambda names: not {"A", "B"} - set(names),
            },
        )
        answer["held"].holds(
            lambda held: held < W.nbytes,
            f"a layer that holds less than the {W.nbytes:,} bytes of its weight in float32",
            "The layer still holds the float weight: keep packed and state, and no array or Linear of it.",
        )
        answer["kept"].holds(
            lambda kept: kept < W.nbytes,
            f"less than the {W.nbytes:,} bytes of a float32 weight to be kept for backward",
            "The float weight is kept until backward: give F.linear a function that makes it, not the array.",
        )
        g = 2 * y
        answer["dA"].equals(scaling * B.T @ g.T @ x, instead={CUT_UPDATE: None})
        answer["dB"].equals(scaling * g.T @ (x @ A.T), instead={CUT_UPDATE: None})
        answer["dx"].equals(
            g @ weight + scaling * g @ B @ A,
            instead={CUT: lambda d: d is None or np.allclose(d, scaling * g @ B @ A, atol=1e-4)},
        )
    x, W, _, A, B, scaling = next(layer_inputs())
    target = x @ W.T
    answer = student.driver.trained(x, target, W, A, np.zeros_like(B), scaling)
    answer["after"].equals(
        answer["before"].value, instead={"Training changed the codes: they are frozen.": lambda codes: True}
    )
    answer["losses"].holds(
        lambda losses: losses[-1] < 0.9 * losses[0], "a loss that falls", "The layer does not learn: its loss stays."
    )


@task(
    4,
    hints=(
        "Which weight did the adapter see while it was trained?",
        "dequantize_4bit(*quantize_4bit(W)) is what the 4-bit layer computes with. The third is the second, rounded.",
        "W + update; rounded W + update; the second through quantize_4bit and dequantize_4bit again.",
    ),
)
def merging(student):
    rng = np.random.default_rng(4)
    for d_in, d_out, r, scaling in [(4, 3, 2, 0.5), (40, 5, 3, 0.1)]:
        W, A, B = (draw(rng, *shape).astype("float32") for shape in ((d_out, d_in), (r, d_in), (d_out, r)))
        update = scaling * (B @ A)
        base = rounded(W)
        answer = student.three_merges(W, A, B, scaling)
        answer.returns(
            instead={
                "The product is the wrong way round: B (d_out, r) comes first, then A (r, d_in).": raised(
                    "ValueError", "matmul"
                )
            }
        )
        for kind, right in (("original", W + update), ("dequantized", base + update)):
            answer[kind].equals(
                right,
                instead={
                    "The update was merged without its scale.": right + update / scaling - update,
                    "The update is subtracted.": right - 2 * update,
                    "The update is missing.": right - update,
                    "The update is scaled twice.": right + scaling * update - update,
                    "The original weight was rounded: here it is W as it was.": base + update,
                    "The adapter was trained on the rounded weight, and this is merged into the original one.": (
                        W + update
                    ),
                    "This is rounded after the merge: that is the third way.": rounded(right),
                },
            )
        answer["requantized"].equals(
            rounded(base + update),
            instead={
                "This is the second way: round it to 4 bits once more.": base + update,
                "The original weight was merged and rounded; here it is the dequantized one.": rounded(W + update),
                "The update was rounded by itself; the sum must be.": base + rounded(update),
                "The update is missing: this is the rounded W.": base,
                "These are codes: give the weight that they stand for.": lambda got: np.size(got) != W.size,
            },
        )


@task(
    5,
    hints=(
        "What has changed? And how much of that goes in the update's direction?",
        "Project: the inner product of the change with the update, over that of the update with itself.",
        "((after - before) * update).sum() / (update * update).sum()",
    ),
)
def surviving(student):
    rng = np.random.default_rng(5)
    base = np.array([[10.0, 20.0]])
    u = np.array([[3.0, 4.0]])
    cases = [
        (base, base + u, u),
        (base, base, u),
        (base, base + 0.5 * u, u),
        (base, base + np.array([[4.0, -3.0]]), u),  # as large, and at a right angle
    ]
    for d_out, d_in, share in [(3, 4, 0.25), (5, 2, 0.8)]:
        before, update, noise = draw(rng, d_out, d_in), draw(rng, d_out, d_in), draw(rng, d_out, d_in)
        noise = noise - (noise * update).sum() / (update * update).sum() * update
        cases.append((before, before + share * update + noise, update))
    for before, after, update in cases:
        change = after - before
        along = (change * update).sum()
        right = along / (update * update).sum()
        student.survives(before, after, update).equals(
            right,
            instead={
                "One share was asked for, of the whole arrays.": lambda got: np.size(got) > 1,
                "after holds the weight too: subtract before.": lambda got: np.isclose(
                    got, (after * update).sum() / (update * update).sum()
                ),
                "The size of the change counts, whatever way it goes: project it on the update.": lambda got: (
                    np.linalg.norm(change) > 0
                    and np.any(np.isclose(got, (np.linalg.norm(change) / np.linalg.norm(update)) ** np.array([1, 2])))
                ),
                "The change is divided by its own length (a cosine): divide by the update's, squared.": lambda got: (
                    np.isclose(got, along / max(np.linalg.norm(change) * np.linalg.norm(update), 1e-9)) or np.isnan(got)
                ),
                "This is the share that is lost: 1 less the one that survives.": 1 - right,
                "Divide by the update's squared length: the sum of its squares.": lambda got: np.any(
                    np.isclose(got, [along, along / np.linalg.norm(update), along / update.size])
                ),
                "The sums of the elements are compared: those of both signs cancel.": lambda got: np.isclose(
                    got, change.sum() / update.sum()
                ),
            },
        )
