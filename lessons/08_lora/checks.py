"""The checks of lesson 08. They run in the checker's process; driver.py runs beside the student's code."""

import numpy as np

from minilora.classroom import draw, fine, raised, search, task

USES = ("minilora.Tensor", "minilora.no_grad", "minilora.nn", "minilora.functional.linear")

BOTH = "The whole weight was counted on top: LoRA does not train W."
SQUARE = "A is (r, d_in) and B is (d_out, r): the two sides need not be equal."
ONE_SIDE = "There are two matrices: A (r, d_in) and B (d_out, r)."
PRODUCT = "A and B are stored apart: add their sizes, do not multiply them."
SWAPPED = "LoRA's count comes first, then full fine-tuning's."
EXACT = 1e-12  # of a count
LARGE = fine("Large counts lose digits, or wrap around: count with Python's own whole numbers, not in 32 bits.")


@task(1)
def counting(student):
    """Write down the shapes of A and B. How many numbers are in each?

    A is (r, d_in), B is (d_out, r), W is (d_out, d_in).

    For d_in = 3, d_out = 2 and r = 1, A is (1, 3), 3 numbers; B is (2, 1), 2 numbers; W is (2, 3), 6 numbers. So: (5,
    6).
    """
    search(student.count_parameters, count_inputs, tolerance=EXACT)
    student.count_parameters(65537, 70001, 8).equals((8 * 135538, 65537 * 70001), hint=LARGE, tolerance=EXACT)
    for d_in, d_out, r in [(3, 7, 2), (4, 3, 6)]:
        full, lora = d_in * d_out, r * (d_in + d_out)
        mistakes = {
            BOTH: (lora + full, full),
            SWAPPED: (full, lora),
            ONE_SIDE: lambda got: got in ((r * d_in, full), (r * d_out, full)),
            PRODUCT: (r * r * d_in * d_out, full),
            SQUARE: lambda got: got[0] in (2 * r * d_in, 2 * r * d_out),
            "A large rank trains more numbers than W has: count what A and B hold.": (min(lora, full), full),
            "There is nothing between A and B: count these two matrices alone.": (lora + r, full),
            "There is no bias: W alone counts.": lambda got: got[1] in ((d_in + 1) * d_out, d_in * (d_out + 1)),
        }
        student.count_parameters(d_in, d_out, r).equals((lora, full), mistakes, tolerance=EXACT)


def count_inputs(d):
    sizes = d.number(3, 4, 1, 64), d.number(5, 4, 1), d.number(2, 1, 8)
    return d.fine(LARGE, sizes, (50257, 65537, 3))


@task(2)
def starting(student):
    """Which of the two may be zero? If both are, what is the gradient of each?

    B is zero. A is drawn between two bounds that depend on d_in.

    For d_in = 4 and r = 2, A is (2, 4) and each of its 8 numbers lies anywhere between -0.5 and 0.5.
    """
    search(student.driver.started, start_inputs, facts=facts_of_start, hints=START)
    for d_in, d_out, r in [(3, 2, 2), (5, 4, 3), (400, 30, 20), (20, 70, 300)]:
        answer = student.start_matrices(d_in, d_out, r, 0)
        for i, (name, shape) in enumerate([("A", (r, d_in)), ("B", (d_out, r))]):
            answer[i].holds(
                lambda m: np.shape(m) == shape,
                f"{name} of shape {shape}",
                f"{name} has another shape: A is (r, d_in), B is (d_out, r).",
            )
        A, B = answer[0], answer[1]
        B.holds(
            lambda m: not np.any(m),
            "B all zeros",
            "The update does not start at zero: then the adapted model does not begin as the base.",
            instead={
                "A is zero and B is random: it starts as the base too, but A and B have changed places; "
                "B is the zero one.": lambda m: np.any(m) and not np.any(A.value)
            },
        )
        if A.value.size > 1000:
            filling(A, d_in, d_out, r)


def filling(A, d_in, d_out, r):
    """Check that a large A is uniform between the bounds set by d_in."""
    bound = 1 / np.sqrt(d_in)
    of_another = {
        "The bound is 1/√d_in, not 1/√r.": lambda m: abs(np.abs(m).max() * np.sqrt(r) - 1) < 0.02,
        "The bound is 1/√d_in, not 1/√d_out.": lambda m: abs(np.abs(m).max() * np.sqrt(d_out) - 1) < 0.02,
    }
    A.holds(
        lambda m: np.abs(m).max() <= bound * 1.0001,
        f"A within ±1/√{d_in} = ±{bound:g}",
        "A is too large: its bound is 1/√d_in, so that x Aᵀ is about as large as x.",
        instead={
            **of_another,
            "A is normal: draw it uniformly between the bounds.": (
                lambda m: np.abs(m).max() > 3 * np.std(m) > 60 * abs(np.mean(m))
            ),
        },
    )
    A.holds(
        lambda m: np.abs(m).max() > 0.9 * bound and m.min() < 0 < m.max(),
        f"A that fills ±1/√{d_in} = ±{bound:g}",
        "A does not reach its bounds on both sides: draw it between -1/√d_in and 1/√d_in.",
        instead={
            START["A is not zero"]: lambda m: not np.any(m),
            "A is never negative: draw it between -bound and bound.": lambda m: m.min() >= 0,
            **of_another,
            "The bound is 1/√d_in, not 1/d_in.": lambda m: abs(np.abs(m).max() * d_in - 1) < 0.05,
        },
    )
    A.holds(
        lambda m: abs(np.std(m) * np.sqrt(3) / bound - 1) < 0.03 and abs(np.mean(m)) < 0.03 * bound,
        f"A uniform in ±{bound:g}: of mean 0 and standard deviation {bound / np.sqrt(3):.3g}",
        "A is not uniform: any number between the bounds is as likely as any other.",
        instead={START["numbers that differ"]: lambda m: len(np.unique(np.abs(m))) < 0.75 * np.size(m)},
    )


def start_inputs(d):
    return d.number(3, 4, 1, 9), d.number(2, 4, 1), d.number(2, 3, 1, 4), d.number(0, 1, 7)


START = {
    "dtypes": fine("A and B are not both float32: in float64 they take twice the memory, and so does all behind."),
    "A is not zero": "Both are zero: then neither ever gets a gradient, since each one's is a product with the other.",
    "numbers that differ": "The numbers of A repeat: draw each of them, or the rows learn the same.",
    "a seed gives one A": "Called again with the same seed, it gives another A: use the rng that `seed` made.",
    "another seed, another A": "Another seed gives the same A: use the rng that `seed` made.",
}


def facts_of_start(result):
    A = np.asarray(result["A"])
    return {
        "shapes": [np.shape(A), np.shape(result["B"])],
        "B is zero": not np.any(result["B"]),
        "A is not zero": bool(np.any(A)),
        "A within its bounds": np.abs(A).max() <= 1.0001 / np.sqrt(A.shape[1]),
        "numbers that differ": len(np.unique(np.abs(A))) > 0.75 * A.size,
        "a seed gives one A": np.array_equal(A, result["again"]),
        "another seed, another A": not np.any(A == result["other"]),
        "dtypes": result["dtypes"],
    }


@task(3)
def computing(student):
    """There are two paths from x to y. What does each compute, and with which shapes?

    x Aᵀ is (n, r); times Bᵀ it is (n, d_out). Before it is added to x Wᵀ, it is scaled.

    One number each, r = 1: with x = 2, W = 3, A = 4, B = 5 and alpha = 6, the base gives 2 · 3 = 6, the update 2 · 4 ·
    5 = 40, which is scaled by 6 / 1. That is 6 + 240 = 246.
    """
    search(student.lora_forward, forward_inputs, instead=wrong_ways)
    rng = np.random.default_rng(3)
    for n, d_in, d_out, r in [(2, 2, 2, 1), (2, 2, 3, 2), (4, 5, 3, 2), (2, 2, 3, 300)]:  # W without a .T fits first
        x, W, A, B = draw(rng, n, d_in), draw(rng, d_out, d_in), draw(rng, r, d_in), draw(rng, d_out, r)
        right = x @ W.T + 5.0 / r * x @ A.T @ B.T
        student.lora_forward(x, W, A, B, 5.0, r).equals(right, wrong_ways(x, W, A, B, 5.0, r))

    student.lora_forward(x[:0], W, A, B, 5.0, r).holds(
        lambda y: y == [] if isinstance(y, list) else np.shape(y) == (0, d_out), f"y of shape (0, {d_out})", NO_ROWS
    )


def wrong_ways(x, W, A, B, alpha, r):
    """Return {hint: y of the mistake}."""
    base, low = x @ W.T, x @ A.T
    update = low @ B.T
    return {
        "W is (d_out, d_in) and x holds rows: the base's answer is x Wᵀ, with W transposed.": lambda y: any(
            np.allclose(y, wrong)
            for wrong in (x @ W + alpha / r * update, x @ (W + alpha / r * B @ A), W @ x + alpha / r * update)
        ),
        "B A is (d_out, d_in), as W is: transpose it too. x (B A)ᵀ is x Aᵀ Bᵀ.": (
            lambda y: any(np.allclose(y, base + alpha / r * wrong) for wrong in (x @ (B @ A), B @ A @ x))
        ),
        "The update is not scaled: multiply it by alpha / r.": base + update,
        "The update is scaled by alpha alone: divide by r.": base + alpha * update,
        "The scale is the wrong way round: it is alpha / r.": base + r / alpha * update,
        "The scale is alpha / r, and not a whole number: // cuts it off.": base + alpha // r * update,
        "The base's answer is scaled too: only the update is.": alpha / r * (base + update),
        "The base is missing: y is its answer plus the update.": alpha / r * update,
        "The update is missing: y is the base's answer plus it.": base,
        "The update is subtracted: y is the base's answer plus it.": base - alpha / r * update,
        "The scale is alpha / √r, as in rank-stabilized LoRA; here it is alpha / r.": (
            base + alpha / np.sqrt(r) * update
        ),
        "Between A and B there is no nonlinearity: the update is a matrix, B A.": (
            base + alpha / r * np.maximum(low, 0) @ B.T
        ),
        "reshape does not transpose, it fills the other shape row by row: A.T does.": (
            base + alpha / r * x @ A.reshape(A.T.shape) @ B.reshape(B.T.shape)
        ),
        "A product has the wrong shape: A is (r, d_in), B is (d_out, r). x Aᵀ Bᵀ has both transposed; as "
        "one matrix, the change is B A, in this order.": (raised("ValueError", "matmul")),
    }


def forward_inputs(d):
    n, d_in, d_out, r = d.size(), d.size(), d.size(), d.size()
    return d.array(n, d_in), d.array(d_out, d_in), d.array(r, d_in), d.array(d_out, r), d.number(1.0, 3.0, 16.0), r


NO_ROWS = fine("Where there are no rows, y is (0, d_out) all the same: products of whole arrays need no first row.")
FROZEN = "The base is not frozen: linear.requires_grad_(False)."
NO_UPDATE = "No gradient reaches A and B: they must take part in y, as Tensors."
NO_SCALE = "The update is not scaled: multiply it by alpha / r."
BIAS_TWICE = "The bias is added twice: self.base(x) has it already."


@task(4)
def layer(student):
    """What must the layer remember, and which of it trains?

    self.base is the Linear, frozen; self.A and self.B are nn.Parameter of what task 2 gives.

    A layer that shifts its base's answer: __init__ freezes linear, keeps it as self.base, and sets self.shift =
    nn.Parameter(np.zeros(3)); forward returns self.base(x) + self.shift. Yours adds two F.linear, scaled.
    """
    search(student.driver.fresh, fresh_inputs, parts=FRESH_PARTS, hints=FRESH)
    search(student.driver.trained, trained_inputs, hints=TRAINED)
    for x, W, b, A, B, r, alpha in layer_inputs():  # noqa: B007 (the last A and B are used below)
        answer = student.driver.fresh(x, W, b, r, alpha, 0)
        base = x @ W.T + b
        answer["B"].holds(
            lambda B: not np.any(B),
            "B all zeros",
            "At the first step the layer must give what the base gives: is B zero?",
        )
        mistakes = {
            "The base's bias is lost: call self.base(x).": x @ W.T,
            "The base is missing: y is self.base(x) plus the update.": np.zeros_like(base),
            BIAS_TWICE: base + b,
        }
        answer["y"].equals(base, mistakes)
        answer["trains"].holds(
            lambda names: sorted(names) == ["A", "B"],
            "A and B to train, and nothing else",
            "A and B must train.",
            instead={
                FROZEN: lambda names: any(name.startswith("base") for name in names),
                "More trains than A and B: what else is a number stays one.": lambda names: {"A", "B"} < set(names),
            },
        )
        dB = alpha / r * 2 * base.T @ (x @ answer["A"].value.T)
        answer["dB"].equals(dB, instead={NO_UPDATE: None, NO_SCALE: dB * r / alpha})
    student.driver.trained(np.array([x]), W, b, A, B, r, alpha, "")["y"].holds(
        lambda got: np.shape(got) == (1, *base.shape),
        f"y of shape {(1, *base.shape)}",
        "x may have any leading axes (..., d_in), and y has the same: (..., d_out).",
    )


FRESH_PARTS = (
    "base",
    "kinds",
    "trains",
    "scaling",
    "dtypes",
    "y",
    "dA",
    "a seed gives one A",
    "another seed, another A",
)
FRESH = {
    "base": "self.base is the linear itself: no copy, and under this name.",
    "kinds": "self.A and self.B must be Tensors that train: wrap the arrays in nn.Parameter.",
    "dtypes": fine("The linear is float32, and A and B are not: then every y of the layer is float64, too."),
    "dA": "At the first step dA is B's transpose times something: zero.",
    "a seed gives one A": "Two layers of the same seed begin with different A: hand seed on to start_matrices.",
    "another seed, another A": "Layers of different seeds begin with the same A: hand seed on to start_matrices.",
}
EARLIER = "The update of an earlier call is used again: A and B change."
WHEN = {
    "when the layer was called before": EARLIER,
    "after layer.eval()": "After layer.eval() the layer gives something else: an update is not dropout, and stays on.",
    "when it was called before, and A and B changed in place": EARLIER,
    "after layer.eval() and a call before": "After layer.eval() the layer gives something else: it keeps its update, "
    "and not the update of an earlier call: A and B change.",
    "after other numbers were loaded into the base": fine(
        "The base's answer is that of a copy: it has been given other numbers since, as a checkpoint does. Ask "
        "self.base itself."
    ),
}
TRAINED = {f"{part}, {when}": hint for when, hint in WHEN.items() for part in ("y", "dx", "dA", "dB")} | {
    "dx": "The gradient of x is wrong: it comes back through the base and through the update.",
    "W": "The forward pass changed the base's weight: it is frozen, and x takes both paths.",
}


def layer_inputs():
    """Draw x, W, b, A, B, r, alpha, small ones first."""
    rng = np.random.default_rng(4)
    for n, d_in, d_out, r in [(2, 2, 3, 2), (4, 5, 3, 2)]:
        shapes = [(n, d_in), (d_out, d_in), (d_out,), (r, d_in), (d_out, r)]
        yield *(draw(rng, *shape).astype("float32") for shape in shapes), r, 3.0


def fresh_inputs(d):
    d_in, d_out, r = d.size(), d.size(), d.size()
    b = d.array(d_out) if d.choice(True, False) else None
    return d.array(2, d_in), d.array(d_out, d_in), b, r, d.number(1.0, 3.0, 16.0), d.number(0, 1, 7)


def trained_inputs(d):
    d_in, d_out, r = d.size(), d.size(), d.size()
    leading = d.fine(NO_ROWS, d.choice((1,), (2,), (), (3, 2), (1, 3)), (0,), (2, 0))
    x, b = d.array(*leading, d_in), d.array(d_out) if d.choice(True, False) else None
    alpha, when = d.number(1.0, 3.0, 16.0), d.choice("", *WHEN)
    return x, d.array(d_out, d_in), b, d.array(r, d_in), d.array(d_out, r), r, alpha, when


@task(5)
def injecting(student):
    """Three jobs: find, freeze, replace. In which order?

    Collect the (path, Linear) pairs first; compare path.split('.')[-1], the last name, with the targets. Freeze before
    the new layers go in, or A and B are frozen with the rest.

    In a model with embed, blocks.0.up, blocks.0.gate_up and head, the target up means blocks.0.up alone: embed, gate_up
    and head are frozen, up becomes a LoraLayer, ['blocks.0.up'] is returned. The target down raises.
    """
    search(student.driver.injected, inject_inputs, examples=30, hints=INJECTED)
    search(student.driver.seeded, seed_inputs, examples=5, hints=INJECTED)
    x = np.random.default_rng(5).standard_normal((3, 4)).astype("float32")
    for targets in (["q_proj"], ["v_proj"], ["v_proj", "q_proj"]):
        wanted = [f"layers.{i}.{name}" for i in range(2) for name in ("v_proj", "q_proj") if name in targets]
        answer = student.driver.injected(x, 2, targets, 2, 4.0)
        answer["kinds"].holds(
            lambda kinds: sorted(path for path, kind in kinds.items() if kind == "LoraLayer") == sorted(wanted),
            f"a LoraLayer at {', '.join(wanted)} alone",
            "Other layers were replaced than those asked for.",
            instead={
                "kv_proj was replaced too: compare the whole last name, not a part of the path.": (
                    lambda kinds: kinds.get("layers.0.kv_proj") == "LoraLayer"
                ),
                "Nothing was replaced: model.replace(path, new) puts the new layer in.": (
                    lambda kinds: "LoraLayer" not in kinds.values()
                ),
                "Only the first match was replaced: there is one in each block.": (
                    lambda kinds: list(kinds.values()).count("LoraLayer") < len(wanted)
                ),
            },
        )
        answer["trains"].holds(
            lambda names: sorted(names) == sorted(f"{path}.{m}" for path in wanted for m in "AB"),
            "the A and B of the new layers to train, and nothing else",
            "Other parameters train than the A's and B's.",
            instead={
                "Nothing trains: A and B were frozen with the rest. Freeze first, then put the new layers in.": [],
                "normA and headB train too: look for the whole name A or B, not for a letter.": lambda names: (
                    {name.split(".")[-2] for name in names if name[-2:] not in (".A", ".B")} == {"normA", "headB"}
                ),
                "The rest of the model still trains: freeze it.": lambda names: any(
                    n[-2:] not in (".A", ".B") for n in names
                ),
            },
        )
        mistakes = {
            "Return the paths of the layers that were replaced.": None,
            "Return the paths in the model's order.": lambda paths: sorted(paths) == sorted(wanted),
        }
        answer["paths"].equals(wanted, mistakes)
    answer = student.driver.elsewhere(["v_proj", "q_proj"])
    if not raised("AttributeError", "in_features").fits(answer.raw):  # of a module that is no Linear, see NO_LINEAR
        answer["paths"].holds(
            lambda paths: not any(path.endswith("deep") for path in paths),
            "no path that ends in deep",
            fine("q_proj.deep was replaced: a Linear within a module of that name has another last name."),
        )
        answer["trains"].holds(
            lambda names: "A" not in names,
            "the model's own A frozen",
            fine("The model's own parameter A trains: freeze all, whatever it is called, before the new layers go in."),
        )
    for targets in (["normA"], ["layers"]):
        student.driver.injected(x, 2, targets, 2, 4.0).equals(raised("ValueError"), hint=NO_LINEAR)
    for targets in (["o_proj"], ["q_proj", "o_proj"]):
        mistakes = {
            "A target that matches no Linear is a mistake in the call: raise ValueError.": (
                lambda result: "paths" in result
            ),
        }
        student.driver.injected(x, 2, targets, 2, 4.0).equals(raised("ValueError"), mistakes)


INJECTED = {
    "shapes of the A's": "The rank of the new layers is not the one asked for: hand r on.",
    "scalings": "The scale of the new layers is another: hand alpha on.",
    "a seed gives one start": "The same seed gives other A's: hand seed on.",
    "another seed, another start": "Another seed gives the same A's: hand seed on.",
    "0 is the default seed": "Without a seed, the A's are others than with seed 0, the default.",
}


NO_LINEAR = fine("Only Linears can be replaced: a target that names something else matches nothing: raise ValueError.")


def inject_inputs(d):
    targets = d.choice(["q_proj"], ["v_proj", "q_proj"], ["headB"], ["kv_proj", "headB"], ["o_proj", "q_proj"])
    targets = d.fine(NO_LINEAR, targets, ["normA"])
    return d.array(2, 4, kinds=("normal",)), d.choice(1, 2), targets, d.number(2, 1, 3), d.number(4.0, 1.0, 3.0)


def seed_inputs(d):
    return d.choice(["q_proj"], ["v_proj", "headB"]), 2, 4.0, d.number(1, 0, 7)


TWICE = "The update is counted twice: the merged weight is in place, and A and B are still added."
NOT_ALL = "A LoraLayer was not found: model.named_modules() finds those in lists and in other modules, too."


@task(6)
def merging(student):
    """What single weight computes x Wᵀ + (alpha / r) (x Aᵀ) Bᵀ? Take x out of the sum.

    W + (alpha / r) B A, and the bias stays. Make a new Linear of it; do not write into the base's array. Collect the
    LoraLayers first; if there are none, that is an error.

    With d_in = 2, d_out = 1 and r = 1: W = [[1, 2]], A = [[3, 4]], B = [[5]], alpha = 2. B A = [[15, 20]], so the new
    weight is [[1 + 2 · 15, 2 + 2 · 20]] = [[31, 42]], and the base still has [[1, 2]].
    """
    search(student.driver.merged, merge_inputs, hints=MERGED)
    for x, W, b, A, B, r, alpha in layer_inputs():
        answer = student.driver.merged(x, W, b, A, B, r, alpha)
        mistakes = {
            "A bias of several numbers is neither true nor false: ask whether it `is None`.": raised(
                "ValueError", "truth"
            ),
            "The product is the wrong way round: B (d_out, r) comes first, then A (r, d_in).": raised(
                "ValueError", "matmul"
            ),
            "The product does not have the weight's shape (d_out, d_in): B A, without a transpose.": raised(
                "ValueError", "broadcast"
            ),
            "A Linear may have no bias: then base.bias is None, and from_arrays is given None.": raised(
                "AttributeError", "'NoneType'"
            ),
            "from_arrays takes arrays, not Tensors: t.data is the array of a Tensor t.": raised("TypeError", "object"),
        }
        answer.returns(mistakes)
        base, update = x @ W.T + b, x @ A.T @ B.T
        scale = alpha / r
        mistakes = {
            "The update was merged without its scale: W + (alpha / r) B A.": base + update,
            TWICE: base + 2 * scale * update,
            "The scale was applied twice: layer.scaling is alpha / r already.": base + scale**2 * update,
            "The bias is lost.": x @ W.T + scale * update,
            "The update is lost: the weight is the base's alone.": base,
            "The update is subtracted.": base - scale * update,
        }
        answer["y"].equals(base + scale * update, mistakes)
        answer["kinds"].holds(
            lambda kinds: set(kinds.values()) == {"Linear"},
            "a Linear everywhere",
            NOT_ALL,
            instead={
                "The LoraLayer is still there: put a plain Linear in its place.": (
                    lambda kinds: set(kinds.values()) == {"LoraLayer"}
                )
            },
        )
        answer["W of the base"].equals(
            W,
            instead={"The base's own array was changed: make a new one, so that the base can be kept.": np.ndarray.any},
        )
    student.driver.merged_twice().equals(
        raised("ValueError"), hint="A second merge must raise ValueError, since there is no LoraLayer any more."
    )
    student.driver.never_adapted().equals(
        raised("ValueError"), hint="A model that never had a LoraLayer must be refused, too: raise ValueError."
    )
    student.driver.merged_before(x, W, b, A, B, r, alpha).equals(
        base + scale * update,
        instead={"This is the update of an earlier merge of this layer: A and B have changed since.": np.any},
    )


MERGED = {
    "y of a base without bias": "The second layer is merged wrong: has it its own scale, its own weight, and no bias?",
    "biases": "The new Linear has a bias where the base has none, or none where it has one.",
    "dtype": fine("The merged weight has another dtype than the layer: keep the one that it has."),
    "b of the base": "The base's own bias was changed.",
    "what else trains": "Merging changed whether other parameters train.",
}


def merge_inputs(d):
    d_in, d_out, r = d.size(), d.size(), d.size()
    b = d.array(d_out) if d.choice(True, False) else None
    arrays = d.array(2, d_in), d.array(d_out, d_in), b, d.array(r, d_in), d.array(d_out, r)
    return *arrays, r, d.number(1.0, 3.0, 16.0)
