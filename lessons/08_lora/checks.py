"""The checks of lesson 08. They run in the checker's process; driver.py runs beside the student's code."""

import numpy as np

from minilora.classroom import draw, raised, search, task

USES = ("minilora.Tensor", "minilora.no_grad", "minilora.nn", "minilora.functional.linear")

SIZES = [(2, 3, 1), (3, 2, 2), (5, 4, 3)]  # d_in, d_out, r; small, and yet no mistake looks like another
BOTH = "The whole weight was counted on top: LoRA does not train W."
SQUARE = "A is (r, d_in) and B is (d_out, r): the two sides need not be equal."
ONE_SIDE = "There are two matrices: A (r, d_in) and B (d_out, r)."
PRODUCT = "A and B are stored apart: add their sizes, do not multiply them."
SWAPPED = "LoRA's count comes first, then full fine-tuning's."


@task(
    1,
    hints=(
        "Write down the shapes of A and B. How many numbers are in each?",
        "A is (r, d_in), B is (d_out, r), W is (d_out, d_in).",
        "LoRA: r · d_in + d_out · r. Full: d_out · d_in. Return both, in this order.",
    ),
)
def counting(student):
    for d_in, d_out, r in [*SIZES, (4096, 4096, 8), (768, 3072, 16)]:
        full = d_in * d_out
        student.count_parameters(d_in, d_out, r).equals(
            (r * (d_in + d_out), full),
            instead={
                BOTH: (r * (d_in + d_out) + full, full),
                SWAPPED: (full, r * (d_in + d_out)),
                ONE_SIDE: lambda got: got in ((r * d_in, full), (r * d_out, full)),
                PRODUCT: (r * r * d_in * d_out, full),
                SQUARE: lambda got: got[0] in (2 * r * d_in, 2 * r * d_out),
            },
        )


@task(
    2,
    hints=(
        "Which of the two may be zero? If both are, what is the gradient of each?",
        "B is zero. A is drawn between two bounds that depend on d_in.",
        "bound = 1/√d_in; A = rng.uniform(-bound, bound, (r, d_in)); B is np.zeros((d_out, r)).",
    ),
)
def starting(student):
    for d_in, d_out, r in [*SIZES, (400, 30, 20)]:
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
            "The update does not start at zero: with B random, the adapted model does not begin as the base.",
            instead={
                "A is zero and B is random: it starts as the base too, but A and B have changed places; "
                "B is the zero one.": lambda m: np.any(m) and not np.any(A.value)
            },
        )
        A.holds(
            np.any,
            "A not zero",
            "Both are zero: then neither ever gets a gradient, since each one's gradient is a product with the other.",
        )
    bound = 1 / np.sqrt(d_in)
    A.holds(
        lambda m: np.abs(m).max() <= bound * 1.0001,
        f"A within ±1/√{d_in} = ±{bound:g}",
        "A is too large: its bound is 1/√d_in, so that x Aᵀ is about as large as x.",
        instead={
            "The bound is 1/√d_in, not 1/√r.": lambda m: abs(np.abs(m).max() * np.sqrt(r) - 1) < 0.05,
            "A is normal: draw it uniformly between the bounds.": lambda m: np.abs(m).max() > 3 * np.std(m),
        },
    )
    A.holds(
        lambda m: np.abs(m).max() > 0.9 * bound and m.min() < 0 < m.max(),
        f"A that fills ±1/√{d_in} = ±{bound:g}",
        "A does not reach its bounds on both sides: draw it between -1/√d_in and 1/√d_in.",
        instead={
            "A is never negative: draw it between -bound and bound.": lambda m: m.min() >= 0,
            "The bound is 1/√d_in, not 1/d_in.": lambda m: abs(np.abs(m).max() * d_in - 1) < 0.05,
        },
    )
    again = student.start_matrices(d_in, d_out, r, 0)
    again.equals(
        (A.value, B.value), instead={"Use the rng that `seed` made, so that a seed gives one A.": lambda m: True}
    )


@task(
    3,
    hints=(
        "There are two paths from x to y. What does each compute, and with which shapes?",
        "x Aᵀ is (n, r); times Bᵀ it is (n, d_out). Before it is added to x Wᵀ, it is scaled.",
        "y = x Wᵀ + (alpha / r) · (x Aᵀ) Bᵀ",
    ),
)
def computing(student):
    search(student.lora_forward, forward_inputs)
    rng = np.random.default_rng(3)
    for n, d_in, d_out, r in [(1, 1, 1, 1), (1, 2, 1, 2), (1, 2, 3, 2), (4, 5, 3, 2), (2, 6, 6, 4)]:
        x, W, A, B = draw(rng, n, d_in), draw(rng, d_out, d_in), draw(rng, r, d_in), draw(rng, d_out, r)
        forward_of(student, x, W, A, B, 3.0, r)
        # Twice the rank by rows of zeros, and twice alpha: the same function.
        forward_of(
            student,
            x,
            W,
            np.concatenate([A, np.zeros_like(A)]),
            np.concatenate([B, np.zeros_like(B)], axis=1),
            6.0,
            2 * r,
        )


def forward_inputs(d):
    n, d_in, d_out, r = d.size(), d.size(), d.size(), d.size()
    return d.array(n, d_in), d.array(d_out, d_in), d.array(r, d_in), d.array(d_out, r), d.number(1.0, 3.0, 16.0), r


def forward_of(student, x, W, A, B, alpha, r):
    base, update = x @ W.T, x @ A.T @ B.T
    student.lora_forward(x, W, A, B, alpha, r).equals(
        base + alpha / r * update,
        instead={
            "The update is not scaled: multiply it by alpha / r.": base + update,
            "The update is scaled by alpha alone: divide by r.": base + alpha * update,
            "The scale is the wrong way round: it is alpha / r.": base + r / alpha * update,
            "The base's answer is scaled too: only the update is.": alpha / r * (base + update),
            "The base is missing: y is its answer plus the update.": alpha / r * update,
            "The update is missing: y is the base's answer plus it.": base,
            "The scale is alpha / √r, as in rank-stabilized LoRA; here it is alpha / r.": (
                base + alpha / np.sqrt(r) * update
            ),
            "A product has the wrong shape: A is (r, d_in) and B is (d_out, r), so both are transposed.": (
                raised("ValueError", "matmul")
            ),
        },
    )


def layer_inputs():
    """x, W, b, A, B, r, alpha; small first."""
    rng = np.random.default_rng(4)
    for n, d_in, d_out, r in [(1, 1, 1, 1), (1, 2, 3, 2), (4, 5, 3, 2)]:
        shapes = [(n, d_in), (d_out, d_in), (d_out,), (r, d_in), (d_out, r)]
        yield *(draw(rng, *shape).astype("float32") for shape in shapes), r, 3.0


NOT_TENSORS = "A and B must be Tensors that train: wrap the arrays in nn.Parameter."
FROZEN = "The base is not frozen: linear.requires_grad_(False)."
NO_UPDATE = "No gradient reaches A and B: they must take part in y, as Tensors."


@task(
    4,
    hints=(
        "What must the layer remember, and which of it trains?",
        "self.base is the Linear, frozen; self.A and self.B are nn.Parameter of what task 2 gives.",
        "forward: self.base(x) + F.linear(F.linear(x, self.A), self.B) * self.scaling",
    ),
)
def layer(student):
    for x, W, b, _, _, r, alpha in layer_inputs():
        answer = student.driver.fresh(x, W, b, r, alpha)
        answer["kinds"].equals(
            {"base": "Linear", "A": "Tensor", "B": "Tensor"}, instead={NOT_TENSORS: lambda kinds: True}
        )
        base = x @ W.T + b
        answer["y"].equals(
            base,
            instead={
                "The base's bias is lost: call self.base(x).": x @ W.T,
                "The base is missing: y is self.base(x) plus the update.": lambda y: not np.any(y),
                "At the first step the layer must give what the base gives: is B zero?": lambda y: True,
            },
        )
        answer["trains"].holds(
            lambda names: sorted(names) == ["A", "B"],
            "A and B to train, and nothing else",
            "A and B must train.",
            instead={FROZEN: lambda names: any(name.startswith("base") for name in names)},
        )
        dy = 2 * base
        dB = alpha / r * dy.T @ (x @ answer["A"].value.T)
        answer["dB"].equals(
            dB, instead={NO_UPDATE: None, "The update is not scaled: multiply it by alpha / r.": dB * r / alpha}
        )
        answer["dA"].equals(
            np.zeros((r, x.shape[1])),
            instead={NO_UPDATE: None, "At the first step dA is B's transpose times something: zero.": lambda d: True},
        )
    for x, W, b, A, B, r, alpha in layer_inputs():
        answer = student.driver.trained(x, W, b, A, B, r, alpha)
        base, update = x @ W.T + b, x @ A.T @ B.T
        y = base + alpha / r * update
        answer["y"].equals(
            y,
            instead={
                "The update is not scaled: multiply it by alpha / r.": base + update,
                "The update is scaled by alpha alone: divide by r.": base + alpha * update,
            },
        )
        answer["dA"].equals(alpha / r * B.T @ (2 * y).T @ x)
        answer["dB"].equals(alpha / r * (2 * y).T @ (x @ A.T))


@task(
    5,
    hints=(
        "Three jobs: find, freeze, replace. In which order?",
        "Collect the (path, Linear) pairs first; compare path.split('.')[-1], the last name, with the targets.",
        "Freeze the model before the new layers go in, or A and B are frozen with it. Then model.replace(path, …).",
    ),
)
def injecting(student):
    x = np.random.default_rng(5).standard_normal((3, 4)).astype("float32")
    for targets in (["q_proj"], ["v_proj"], ["v_proj", "q_proj"]):
        wanted = [f"layers.{i}.{name}" for i in range(2) for name in ("q_proj", "v_proj") if name in targets]
        answer = student.driver.injected(targets, x)
        kinds = {f"layers.{i}.{name}": "Linear" for i in range(2) for name in ("q_proj", "v_proj", "kv_proj")}
        answer["kinds"].holds(
            lambda found: {name: found.get(name) for name in kinds} == kinds | dict.fromkeys(wanted, "LoraLayer"),
            f"a LoraLayer at {', '.join(wanted)} alone",
            "Other layers were replaced than those asked for.",
            instead={
                "kv_proj was replaced too: compare the whole last name, not a part of the path.": (
                    lambda found: found.get("layers.0.kv_proj") == "LoraLayer"
                ),
                "Nothing was replaced: model.replace(path, new) puts the new layer in.": (
                    lambda found: "LoraLayer" not in found.values()
                ),
                "Only the first match was replaced: there is one in each block.": (
                    lambda found: list(found.values()).count("LoraLayer") < len(wanted)
                ),
            },
        )
        answer["trains"].holds(
            lambda names: sorted(names) == sorted(f"{path}.{m}" for path in wanted for m in "AB"),
            "the A and B of the new layers to train, and nothing else",
            "Other parameters train than the A's and B's.",
            instead={
                "Nothing trains: A and B were frozen with the rest. Freeze first, then put the new layers in.": [],
                "The rest of the model still trains: freeze it.": lambda names: any(
                    n[-2:] not in (".A", ".B") for n in names
                ),
            },
        )
        answer["paths"].equals(
            wanted,
            instead={
                "Return the paths of the layers that were replaced.": None,
                "Return the paths in the model's order.": lambda paths: sorted(paths) == wanted,
            },
        )
        answer["y"].equals(answer["before"].value)
    for targets in (["o_proj"], ["q_proj", "o_proj"], ["norm"]):
        student.driver.injected(targets, x).equals(
            raised("ValueError"),
            instead={
                "A target that matches no Linear is a mistake in the call: raise ValueError.": lambda result: True,
                "Only Linears can be replaced: a target that names something else matches nothing.": raised(
                    "AttributeError"
                ),
            },
        )


TWICE = "The update is counted twice: the merged weight is in place, and A and B are still added."
NO_SCALE = "The update was merged without its scale: W + (alpha / r) B A."


@task(
    6,
    hints=(
        "What single weight computes x Wᵀ + (alpha / r) (x Aᵀ) Bᵀ? Take x out of the sum.",
        "W + (alpha / r) B A, and the bias stays. Make a new Linear of it; do not write into the base's array.",
        "Collect the LoraLayers first; if there are none, raise ValueError; then model.replace(path, new Linear).",
    ),
)
def merging(student):
    for x, W, b, A, B, r, alpha in layer_inputs():
        answer = student.driver.one_layer(W, b, A, B, r, alpha, x)
        answer.returns(
            instead={
                "The product is the wrong way round: B (d_out, r) comes first, then A (r, d_in).": raised("ValueError")
            }
        )
        base, update = x @ W.T + b, x @ A.T @ B.T
        scale = alpha / r
        answer["y"].equals(
            base + scale * update,
            instead={
                NO_SCALE: base + update,
                TWICE: base + 2 * scale * update,
                "The scale was applied twice: layer.scaling is alpha / r already.": base + scale**2 * update,
                "The bias is lost.": x @ W.T + scale * update,
                "The update is lost: the weight is the base's alone.": base,
                "The update is subtracted.": base - scale * update,
            },
        )
        answer["kind"].equals(
            "Linear", instead={"The LoraLayer is still there: put a plain Linear in its place.": "LoraLayer"}
        )
        answer["base"].equals(
            W,
            instead={"The base's own array was changed: make a new one, so that the base can be kept.": lambda w: True},
        )
        answer["paths"].equals(["layer"], instead={"Return the paths of the layers that were merged.": None})
    x = np.random.default_rng(6).standard_normal((3, 4)).astype("float32")
    answer = student.driver.two_blocks(x)
    answer["y"].equals(answer["before"].value)
    answer["kinds"].holds(
        lambda kinds: set(kinds.values()) == {"Linear"}, "no LoraLayer left", "Only a part of the layers was merged."
    )
    student.driver.merge_twice().equals(
        raised("ValueError"),
        instead={"A second merge must be refused: raise ValueError where there is no LoraLayer.": lambda result: True},
    )
