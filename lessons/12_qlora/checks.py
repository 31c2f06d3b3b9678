"""The checks of lesson 12. They run in the checker's process; driver.py runs beside the student's code."""

import numpy as np

from minilora.classroom import draw, fine, raised, search, task
from minilora.quant import dequantize_4bit, quantize_4bit

USES = (
    "minilora.Tensor",
    "minilora.no_grad",
    "minilora.nn",
    "minilora.functional.linear",
    "minilora.quant.quantize_4bit",
    "minilora.quant.dequantize_4bit",
    "minilora.tensor.record",  # task 2's two functions make an operation by it
)
EXACT = 1e-12  # of bytes
SAME = 1e-4  # float32 and float64 are as good as one another


def rounded(W):
    """Return the weight as a 4-bit layer computes with it."""
    return dequantize_4bit(*quantize_4bit(W))


def count(d, *options):
    """Draw one of the numbers; in some cases, another one for the second call."""
    return d.choice(*options) if d.choice(True, False) else d.number(*options)


@task(1)
def counting(student):
    """Which of the kinds does a frozen number take part in? And one that trains?

    A frozen number is a weight and nothing else. One that trains is a weight, has a gradient, and two moments.

    All in float32, 100 frozen and 10 that train: weights 440 bytes, gradients 40, optimizer 80. Were the 100 in 16
    bits, the weights would be 240 bytes, and the rest as it is.
    """
    search(student.training_bytes, counts, tolerance=EXACT)
    for frozen, trained, bits in (
        (80, 10, 8),
        (3, 7, 4.5),
        (1024, 48, 4.5),
        (0, 100, 32),
        (6_476_267_520, 39_976_960, 4.127),
        (1_100_000_001, 1_100_000_003, 16),
    ):
        answer = student.training_bytes(frozen, trained, bits)
        if frozen > 1024:
            whole = {"weights": frozen * bits / 8 + 4 * trained, "gradients": 4 * trained, "optimizer": 8 * trained}
            answer.equals(whole, hint=BILLIONS, tolerance=EXACT)
            continue
        answer.holds(
            lambda kinds: set(kinds) == {"weights", "gradients", "optimizer"},
            "a dictionary with the three kinds",
            "The kinds are weights, gradients and optimizer, and no others: added up, they are the whole.",
        )
        for kind in ("weights", "gradients", "optimizer"):
            answer[kind].holds(lambda n: np.ndim(n) == 0, "a number", "Each kind is one number of bytes.")
        right = frozen * bits / 8 + 4 * trained
        answer["weights"].equals(
            right,
            instead={
                "These are bits: a byte has 8.": lambda got: (
                    got in (frozen * bits + 4 * trained, frozen * bits + 32 * trained)
                ),
                "The numbers that train are weights too: 4 bytes each.": frozen * bits / 8,
                "What trains is kept in float32, whatever the base's bits.": (frozen + trained) * bits / 8,
                "The frozen numbers take `bits` bits each, not 32.": 4 * (frozen + trained),
                "The frozen numbers are missing: they are weights as well.": 4 * trained,
                "Bits need not be a whole number: 4.127 is 4 and a part of the scales.": (
                    frozen * int(bits) / 8 + 4 * trained
                ),
                "Bytes are not rounded here: 3 numbers of 4.5 bits take 1.6875.": lambda got: (
                    got != right and abs(got - right) < 1
                ),
                "frozen is the number of those that are frozen; those that train come on top of it.": (
                    (frozen - trained) * bits / 8 + 4 * trained
                ),
            },
            tolerance=EXACT,
        )
        answer["gradients"].equals(
            4 * trained,
            instead={
                "Frozen numbers get no gradient.": 4 * (frozen + trained),
                "A gradient is a float32: 4 bytes.": lambda got: got in (2 * trained, trained, trained * bits / 8),
                "These are bits: a byte has 8.": 32 * trained,
            },
            tolerance=EXACT,
        )
        answer["optimizer"].equals(
            8 * trained,
            instead={
                "AdamW keeps two moments for each number that trains, not one.": 4 * trained,
                "The gradient is counted already; the optimizer's own are the two moments.": 12 * trained,
                "For frozen numbers the optimizer keeps nothing.": lambda got: (
                    got in (8 * (frozen + trained), 8 * trained + 2 * frozen * bits / 8)
                ),
                "These are bits: a byte has 8.": 64 * trained,
            },
            tolerance=EXACT,
        )


BILLIONS = fine("Billions lose digits, or wrap around: count with Python's own numbers, not in 32 bits.")


def counts(d):
    few = count(d, 80, 0, 3, 1001), count(d, 10, 0, 7), d.number(32, 16, 4.5)
    return d.fine(BILLIONS, few, (70_000_000_001, 1_100_000_003, 4.127))


NO_ROWS = fine("Where there are no rows, the result has none either, and all its columns.")
NO_SUCH_SHAPE = "The shapes do not fit: y = x Wᵀ, and dx = g W."


@task(2)
def multiplying(student):
    """What would you compute if the weight were an array? And where does the array come from?

    The library makes W from the codes, and y = x Wᵀ. Which product of g and W has the shape of x?

    W = [[1, 2], [3, 4], [5, 6]] has d_out 3 and d_in 2. x = [[1, 0]] gives y = [[1, 3, 5]], the first column; g = [[0,
    1, 0]] gives [[3, 4]], its second row.
    """
    search(student.driver.product, lambda d: product_inputs(d, "d_in"), 30, tolerance=SAME)
    search(student.driver.product_gradient, lambda d: product_inputs(d, "d_out"), 30, tolerance=SAME)
    rng = np.random.default_rng(2)
    for n, d_in, d_out in [(1, 4, 3), (2, 5, 3), (3, 40, 7)]:
        x, g, W = (draw(rng, *shape).astype("float32") for shape in ((n, d_in), (n, d_out), (d_out, d_in)))
        answer = student.driver.product(x, W, 64, False)
        mistakes = {
            "packed holds codes, two a byte: make the weight of them, dequantize_4bit(packed, state).": (
                raised("ValueError", f"size {(d_in * d_out + 1) // 2} is different")
            ),
            NO_SUCH_SHAPE: raised("ValueError"),
        }
        answer.returns(mistakes)
        mistakes = {
            "The result is transposed: y is (n, d_out).": (x @ rounded(W).T).T,
            "reshape keeps the numbers' order: the transpose of the weight is weight.T.": (
                x @ rounded(W).reshape(d_in, d_out)
            ),
        }
        answer.equals(x @ rounded(W).T, mistakes)
        answer = student.driver.product_gradient(g, W, 64, False)
        answer.returns(instead={NO_SUCH_SHAPE: raised("ValueError")})
        mistakes = {
            "Rounding has no gradient, but nothing is rounded here: y = x Wᵀ is a product, and W a constant.": (
                lambda dx: dx is None or not np.any(dx)
            ),
            "The gradient passes through the weight: it has x's shape.": g,
            "The result is transposed: dx is (n, d_in).": (g @ rounded(W)).T,
            "The weight's size is lost: signs alone are not the gradient.": g @ np.sign(rounded(W)),
            "That is a mean over the inputs; the gradient is the product itself.": g @ rounded(W) / n,
            "That undoes the product; the gradient is another product, with the weight itself.": (
                g @ np.linalg.pinv(rounded(W)).T
            ),
        }
        answer.equals(g @ rounded(W), mistakes)
    W = draw(rng, 40, 7).astype("float32")
    for call, x in ((student.driver.product, draw(rng, 2, 7)), (student.driver.product_gradient, draw(rng, 2, 40))):
        packed, state = quantize_4bit(W, 64, "nf4", True)
        weight = dequantize_4bit(packed, state)
        right = x @ (weight.T if call.name == "product" else weight)
        call(x, W, 64, True).equals(right, hint=DOUBLE)
    for call, width, out in ((student.driver.product, 7, 40), (student.driver.product_gradient, 40, 7)):
        call(np.zeros((0, width), "float32"), W, 64, False).holds(
            lambda y, out=out: y == [] if isinstance(y, list) else np.shape(y) == (0, out),
            f"an array of shape (0, {out})",
            NO_ROWS,
        )
    big = draw(rng, 256, 128).astype("float32")
    answer = student.driver.products_keep(big)
    for name in ("product", "product_gradient"):
        answer[name].holds(
            lambda n: n < big.nbytes / 2,
            f"nothing of the {big.nbytes:,} bytes of the float weight",
            f"{name} keeps the float weight after it has returned: make it anew in each call.",
        )


def product_inputs(d, side):
    """Draw x (n, d_in) or g (n, d_out), a weight of one or several blocks, and the settings to quantize it."""
    n, (d_in, d_out) = d.size(), d.choice((3, 2), (1, 3), (3, 1), (2, 2), (3, 3), (40, 3))
    x = d.array(n, d_in if side == "d_in" else d_out)
    return x, d.array(d_out, d_in), d.number(64, 32), d.fine(DOUBLE, False, True)


DOUBLE = fine("With double quantization state.absmax holds codes, not scales: leave both to dequantize_4bit.")


def layer_inputs():
    rng = np.random.default_rng(3)
    for n, d_in, d_out, r, scaling in [(1, 16, 12, 2, 0.5), (2, 48, 40, 3, 2.0)]:
        shapes = ((n, d_in), (d_out, d_in), (d_out,), (r, d_in), (d_out, r))
        yield *(draw(rng, *shape).astype("float32") for shape in shapes), scaling


NOT_TENSORS = "A and B must be Tensors that train: wrap the arrays in nn.Parameter."
CUT = "No gradient reaches the input: the base's product must take part in y, as F.linear of x."
CUT_UPDATE = "No gradient reaches A and B: they must take part in y, as Tensors."
FROZEN = "A call changed the codes: they are frozen, and A and B alone learn."
KEPT_IN_EVALUATION = (
    "The float weight, or an update of its size, is kept in evaluation mode: make it where it is used, in any mode."
)
TWICE = {
    "packed": FROZEN,
    "absmax": FROZEN,
    "y1, in evaluation mode": "In evaluation mode the layer gives another y: the update is not dropout, and stays on.",
    "y2, in evaluation mode": "The update of an earlier call is used again: A and B change.",
}
NO_BIAS = "A Linear may have no bias: then linear.bias is None, and so is the layer's."
PARTS = {
    "packed": "packed must be what quantize_4bit gives for the Linear's weight, and stay so.",
    "absmax": "state must be what quantize_4bit gives for the Linear's weight, and stay so.",
    "bias": "bias must be the Linear's.",
    "A": "A must hold the array that was given.",
    "B": "B must hold the array that was given: what scales the update is scaling.",
    "scaling": "scaling must be the number that was given, also when another layer is made.",
    "linear's weight": "The Linear that was given has another weight afterwards; whoever called may still need it.",
    "linear's bias": "The Linear that was given has another bias afterwards; whoever called may still need it.",
    "bias of its own": "The layer's bias is the Linear's own Tensor: make a new one of its numbers.",
    "linear trains": "The Linear that was given was frozen, and stays so for whoever called: leave it as it is. The "
    "layer's own bias is a Tensor that does not train.",
}


@task(3)
def layer(student):
    """What must the layer remember, which of it trains, and what must it not keep?

    packed and state of the weight, the bias (there may be none), A and B as nn.Parameter. Give F.linear a function as
    its weight.

    A layer that stores half of its weight: self.half = weight / 2 in __init__, and in forward F.linear(x, lambda: 2 *
    self.half, self.bias). The whole weight is made where it is used, and is gone after. Lesson 08's update stands
    beside it as before.
    """
    search(student.driver.observed, observed_inputs, 40, tolerance=SAME, hints=PARTS)
    search(
        student.driver.used_twice,
        twice_inputs,
        20,
        hints=TWICE,
        tolerance=SAME,
    )
    for x, W, b, A, B, scaling in layer_inputs():
        student.driver.observed(x, W, None, A, B, scaling).returns(
            instead={NO_BIAS: raised("AttributeError", "'NoneType'")}
        )
        answer = student.driver.observed(x, W, b, A, B, scaling)
        kinds = {"A": "Tensor", "B": "Tensor", "bias": "Tensor"}
        mistakes = {
            "y must be a Tensor: through anything else no gradient passes.": lambda kinds: "y" in kinds,
            "The bias must be a Tensor: Tensor(array).": kinds | {"bias": "ndarray"},
            "The bias is lost: it is None.": kinds | {"bias": "NoneType"},
            NOT_TENSORS: lambda kinds: (kinds["A"], kinds["B"]) != ("Tensor", "Tensor"),
        }
        answer["kinds"].equals(kinds, mistakes)
        base, update, weight = x @ rounded(W).T, x @ A.T @ B.T, rounded(W)
        y = base + b + scaling * update
        mistakes = {
            "This is the original weight's answer: compute with what the codes stand for.": (
                x @ W.T + b + scaling * update
            ),
            "The update is not scaled.": base + b + update,
            "The update is scaled twice.": base + b + scaling**2 * update,
            "The base's answer is scaled too: only the update is.": scaling * (base + b + update),
            "The bias is lost.": base + scaling * update,
            "The bias is added twice.": base + 2 * b + scaling * update,
            "The bias is scaled: only the update is.": base + scaling * (b + update),
            "The update is missing.": base + b,
            "The base is missing.": scaling * update,
        }
        answer["y"].equals(y, mistakes)
        answer["trains"].holds(
            lambda names: names == ["A", "B"],
            "A and B to train, and nothing else",
            "A and B must train.",
            instead={
                "The bias is not frozen.": lambda names: names == ["A", "B", "bias"],
                "The base is not frozen: of the layer, A and B train alone.": lambda names: not {"A", "B"} - set(names),
            },
        )
        g = 2 * y
        for name, gradient in (("dA", scaling * B.T @ g.T @ x), ("dB", scaling * g.T @ (x @ A.T))):
            answer[name].equals(gradient, instead={CUT_UPDATE: None})
        mistakes = {
            CUT: lambda d: d is None or np.allclose(d, scaling * g @ B @ A, atol=1e-4),
            "No gradient reaches the input through the update: it must take x as a Tensor.": g @ weight,
        }
        answer["dx"].equals(g @ weight + scaling * g @ B @ A, mistakes)
        student.driver.observed(np.stack([x, -x]), W, b, A, B, scaling).holds(
            lambda facts: np.shape(facts["y"]) == (2, *y.shape),
            f"y (2, {len(x)}, {len(W)}) for x (2, {len(x)}, {len(W[0])})",
            "x may have further axes in front, and y has them too.",
        )
    big = draw(np.random.default_rng(6), 256, 128).astype("float32")
    answer = student.driver.layer_keeps(big)
    for when, hint in (
        ("made", "The layer still holds the float weight: keep packed and state, and no array or Linear of it."),
        (
            "y = layer(x)",
            "The float weight is kept until backward: give F.linear a function that makes it, not the array.",
        ),
        ("backward", "The float weight is kept after backward: make it where it is used, and keep it nowhere."),
        ("y = layer.eval()(x)", KEPT_IN_EVALUATION),
    ):
        answer[when].holds(
            lambda held: held < big.nbytes / 2, f"much less than the {big.nbytes:,} bytes of the float weight", hint
        )


def observed_inputs(d):
    leading = d.fine(NO_ROWS, d.choice((1,), (2,), (), (3, 2), (1, 3)), (0,), (2, 0))
    d_in, d_out, r = d.choice(3, 1, 2, 40), d.choice(2, 1, 3), d.size(1, 3)
    b = d.choice(None, "with")
    x, W, b = d.array(*leading, d_in), d.array(d_out, d_in), None if b is None else d.array(d_out)
    return x, W, b, d.array(r, d_in), d.array(d_out, r), d.number(2.0, 0.5, 1.0, 0.1)


def twice_inputs(d):
    n, d_in, d_out, r = d.size(), d.size(), d.size(), d.size()
    arrays = d.array(n, d_in), d.array(d_out, d_in), d.array(r, d_in), d.array(d_out, r)
    return *arrays, d.number(2.0, 0.5), d.choice("training", "evaluation")


@task(4)
def merging(student):
    """Which weight did the adapter see while it was trained?

    The one that the 4-bit layer computes with: W, quantized and dequantized. The third is the second, rounded.

    Suppose that a code holds whole numbers only. W = 2.4, the update 0.3: the original gives 2.7; the layer computed
    with 2, so dequantized is 2.3; rounded once more that is 2, and the update is gone.
    """
    search(student.three_merges, merge_inputs, 40, tolerance=SAME)
    rng = np.random.default_rng(4)
    for d_in, d_out, r, scaling in [(4, 3, 2, 0.5), (40, 5, 3, 0.1)]:
        W, A, B = (draw(rng, *shape).astype("float32") for shape in ((d_out, d_in), (r, d_in), (d_out, r)))
        update = scaling * (B @ A)
        base = rounded(W)
        answer = student.three_merges(W, A, B, scaling)
        mistakes = {
            "The product is the wrong way round: B (d_out, r) comes first, then A (r, d_in).": raised(
                "ValueError", "matmul"
            )
        }
        answer.returns(mistakes)
        for kind, right in (("original", W + update), ("dequantized", base + update)):
            mistakes = {
                "The update was merged without its scale.": right + update / scaling - update,
                "The update is subtracted.": right - 2 * update,
                "The update is missing.": right - update,
                "The update is scaled twice.": right + scaling * update - update,
                "The original weight was rounded: here it is W as it was.": base + update,
                "The adapter was trained on the rounded weight, and this is merged into the original one.": W + update,
                "This is rounded after the merge: that is the third way.": rounded(right),
                BY_ROWS: by_rows(W) + update,
            }
            answer[kind].equals(right, mistakes)
        packed, state = quantize_4bit(W)
        mistakes = {
            "This is the second way: round it to 4 bits once more.": base + update,
            "The original weight was merged and rounded; here it is the dequantized one.": rounded(W + update),
            "The update was rounded by itself; the sum must be.": base + rounded(update),
            "The update is missing: this is the rounded W.": base,
            "These are codes: give the weight that they stand for.": lambda got: np.size(got) != W.size,
            "The new codes are read with the old state: quantize_4bit gives both anew.": (
                dequantize_4bit(quantize_4bit(base + update)[0], state)
            ),
            BY_ROWS: by_rows(base + update),
        }
        answer["requantized"].equals(rounded(base + update), mistakes)
    for kind, right in (("original", W), ("dequantized", base), ("requantized", base)):
        student.three_merges(W, A, 0 * B, scaling)[kind].equals(
            right, instead={"Without an update the second and third are still the rounded weight, and not W.": W}
        )


BY_ROWS = "Quantize the matrix as a whole: its blocks of 64 go on from one row to the next."


def by_rows(W):
    return np.stack([rounded(row) for row in W])


def merge_inputs(d):
    d_in, d_out, r = d.choice((3, 2, 1), (2, 2, 2), (1, 1, 1), (1, 3, 2), (3, 1, 2), (40, 3, 3), (2, 3, 3))
    W, A, B = d.array(d_out, d_in), d.array(r, d_in), d.array(d_out, r) * d.choice(1, 0)
    return W, A, B, d.number(2.0, 0.5, 1.0, 0.1)


@task(5)
def surviving(student):
    """Draw the update and the change as two arrows. Where on the update's line is the change's shadow?

    It is a projection: the inner product of the two, divided by what makes it 1 where the change is the update.

    The update (3, 4). Of the change (3, 0), 9 / 25 = 0.36 of the update is there: 3 · 3 over 3 · 3 + 4 · 4. Of (-4, 3),
    at right angles to it, nothing; of (6, 8), twice as much as was meant.
    """
    search(student.survives, changes, tolerance=SAME)
    rng = np.random.default_rng(5)
    base = np.array([[10.0, 20.0]])
    u = np.array([[3.0, 4.0]])
    cases = [
        (base, base + u, u),
        (base, base, u),
        (base, base + 0.5 * u, u),
        (base, base + np.array([[4.0, -3.0]]), u),  # as large, and at a right angle
        (base, base - 0.5 * u, u),
        (base, base + 1.5 * u, u),
    ]
    for d_out, d_in, share in [(3, 4, 0.25), (5, 2, 0.8)]:
        before, update, noise = draw(rng, d_out, d_in), draw(rng, d_out, d_in), draw(rng, d_out, d_in)
        noise = noise - (noise * update).sum() / (update * update).sum() * update
        cases.append((before, before + share * update + noise, update))
    for before, after, update in cases:
        change = after - before
        along, length = (change * update).sum(), np.linalg.norm(update)
        right = along / length**2
        mistakes = {
            "One share was asked for, of the whole arrays.": lambda got: np.size(got) > 1,
            "np.dot and @ multiply matrices here: the inner product of all elements is np.vdot.": raised("ValueError"),
            "A change that goes back is a negative share, one that goes too far over 1: do not cut it off.": (
                lambda got: (not 0 <= right <= 1) and got in (0, 1)
            ),
            "A change that goes back is a negative share: its sign counts.": (
                lambda got: right < 0 and np.isclose(got, -right)
            ),
            "after holds the weight too: subtract before.": lambda got: np.isclose(
                got, (after * update).sum() / (update * update).sum()
            ),
            "The size of the change counts, whatever way it goes: project it on the update.": lambda got: (
                np.linalg.norm(change) > 0 and np.any(np.isclose(got, (np.linalg.norm(change) / length) ** POWERS))
            ),
            "The change is divided by its own length (a cosine): divide by the update's, squared.": lambda got: (
                np.isclose(got, along / max(np.linalg.norm(change) * length, 1e-9)) or np.isnan(got)
            ),
            "This is the share that is lost: 1 less the one that survives.": 1 - right,
            "Divide by the update's squared length: the sum of its squares.": lambda got: np.any(
                np.isclose(got, [along, along / length, along / update.size])
            ),
            "norm(update, 2) is a matrix's largest singular value: the sum of all squares is asked for.": (
                along / np.linalg.norm(update, 2) ** 2
            ),
            "The sums of the elements are compared: those of both signs cancel.": lambda got: np.isclose(
                got, change.sum() / update.sum()
            ),
            "This is a mean of the rows' shares: one share of the whole, where a large row counts for more.": (
                ((change * update).sum(axis=1) / (update * update).sum(axis=1)).mean()
            ),
            "A line was fitted that need not pass through 0: the update alone counts, no constant.": (
                lambda got: np.isclose(got, np.polyfit(update.reshape(-1), change.reshape(-1), 1)[0])
            ),
        }
        student.survives(before, after, update).equals(right, mistakes)

    before = draw(rng, 3, 4)
    for size in (1.0, 1e-5):
        student.survives(size * before, size * (1 + 4e-6) * before, size * 8e-6 * before).equals(
            0.5,
            hint=SMALL,
            tolerance=0.1,  # float32 is as good
        )

    for dtype, size in (("float32", 2**22), ("float64", 2**51)):  # whole numbers: both sums are exact, no product is
        half = rng.integers(1, 5, (3, 4)) * rng.choice([-1, 1], (3, 4))
        before = (size + rng.integers(0, size, (3, 4))).astype(dtype)
        after, update = before + half.astype(dtype), (2 * half).astype(dtype)
        student.survives(before, after, update).equals(0.5, hint=CANCELS, tolerance=1e-3)


CANCELS = fine("Two large sums that are nearly equal are subtracted, which costs digits: after - before comes first.")
SMALL = fine("A change that is small beside the weights is one: np.allclose and np.isclose take it for none.")
POWERS = np.array([1, 2])


def changes(d):
    shape = d.shape((1, 2, 3))
    update = d.array(*shape)
    return d.array(*shape), d.array(*shape), update if update.any() else update + 1
