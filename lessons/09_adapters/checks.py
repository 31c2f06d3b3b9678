"""The checks of lesson 09. They run in the checker's process; driver.py runs beside the student's code."""

import numpy as np

from minilora.classroom import draw, fine, promise, raised, search, task

USES = (
    "minilora.Tensor",
    "minilora.no_grad",
    "minilora.nn",
    "minilora.functional.linear",
    "minilora.functional.relu",
)
PROMISES = {
    "adapter_forward": promise(within="integers"),
    "Adapter.forward": promise(within="further axes"),
}


@task(1)
def counting(student):
    """Write down the shapes of the four arrays of one adapter. How many adapters stand in a block?

    W₁ and W₂ have d · m numbers each, b₁ has m, b₂ has d. Houlsby has two adapters per block, Pfeiffer one.

    For d = 3 and m = 2, one adapter has 6 + 2 + 6 + 3 = 17 numbers. 10 blocks have 10 adapters by Pfeiffer, 170
    numbers, and 20 by Houlsby, 340. A placement such as 'both' raises ValueError.
    """
    search(student.count_parameters, count_inputs, tolerance=EXACT)
    student.count_parameters(65537, 40009, 7, "pfeiffer").equals(36_709_716_484, hint=LARGE, tolerance=EXACT)
    for d, m, blocks in [(7, 3, 1), (5, 2, 3), (1024, 64, 24)]:
        one = 2 * d * m + m + d
        for placement, adapters in (("pfeiffer", 1), ("houlsby", 2)):
            right = blocks * adapters * one
            mistakes = {
                "The biases are missing: b₁ has m numbers, b₂ has d.": blocks * adapters * 2 * d * m,
                "Each adapter has two biases: b₁ with m numbers and b₂ with d.": lambda got: (
                    got in [blocks * adapters * (2 * d * m + biases) for biases in (m, d, 2 * m, 2 * d)]
                ),
                "Only one of the two weights was counted: down is (m, d), and up is (d, m).": lambda got: (
                    got in [blocks * adapters * (d * m + biases) for biases in (m, d, m + d)]
                ),
                "A product binds before a sum: put the whole of one adapter in brackets before it is multiplied.": (
                    lambda got: (
                        got
                        in [
                            blocks * adapters * first + one - first
                            for first in (d * m, d * m + m, d * m + d, 2 * d * m, 2 * d * m + m, 2 * d * m + d)
                        ]
                    )
                ),
                "The count is of one block: the model has as many as `blocks` says.": adapters * one,
                "Houlsby has two adapters per block, behind attention and behind the MLP; Pfeiffer has one.": (
                    blocks * (3 - adapters) * one
                ),
            }
            student.count_parameters(d, m, blocks, placement).equals(right, mistakes, tolerance=EXACT)
            student.count_parameters(d, m, blocks, placement).holds(
                lambda got: np.asarray(got).dtype.kind in "iu",
                "a whole number",
                fine("A count is a whole number: / gives a float, which loses digits where it is large."),
            )
    mistakes = {
        "A placement that is neither houlsby nor pfeiffer must be refused: raise ValueError.": lambda result: True,
        "A placement that is unknown must raise ValueError, not KeyError.": raised("KeyError"),
        "An assert raises AssertionError; write `if …: raise ValueError(…)`.": raised("AssertionError"),
    }
    student.count_parameters(3, 2, 1, "houlsbi").equals(raised("ValueError"), mistakes)
    for placement in ("by", "", "Houlsby", "pfeiffer "):
        student.count_parameters(3, 2, 1, placement).equals(raised("ValueError"), hint=PARTS)


PARTS = fine("Any other word must be refused, a part of a name as well, or one with a capital: compare with ==.")
LARGE = fine("Large counts lose digits, or wrap around: count with Python's own whole numbers, not in 32 bits.")


def count_inputs(d):
    placement = d.fine(PARTS, d.number("pfeiffer", "houlsby", "adapter"), "houlsby, pfeiffer")
    width, inner = d.fine(LARGE, (d.number(3, 5, 1, 1024), d.number(2, 4, 1, 64)), (65537, 40009))
    return width, inner, d.number(1, 2, 24), placement


EXACT = 1e-12  # of a count


def arrays(seed: int, d: int, m: int):
    """Draw W1, b1, W2, b2."""
    rng = np.random.default_rng(seed)
    return draw(rng, m, d), draw(rng, m), draw(rng, d, m), draw(rng, d)


@task(2)
def computing(student):
    """Four steps: down, ReLU, up, and what must not get lost?

    h W₁ᵀ + b₁ is (n, m). Where is it cut off at zero, and what is added last?

    One number each: with h = 2, W₁ = 3, b₁ = -1, W₂ = 5, b₂ = 4, inside stands 2 · 3 - 1 = 5, the adapter adds 5 · 5 +
    4 = 29, and that makes 2 + 29 = 31. With b₁ = -9, inside is 0, and 2 + 0 + 4 = 6.
    """
    search(student.adapter_forward, forward_inputs)
    for seed, n, d, m in [(1, 2, 2, 3), (0, 1, 3, 2), (1, 4, 5, 3)]:
        h, (W1, b1, W2, b2) = draw(np.random.default_rng(100 + seed), n, d), arrays(seed, d, m)
        low = h @ W1.T + b1
        up = np.maximum(low, 0) @ W2.T
        with_bias_late = np.maximum(h @ W1.T, 0) + b1
        answer = student.driver.computed(h, W1, b1, W2, b2)
        mistakes = {
            "A product has the wrong shape: W₁ is (m, d) and W₂ is (d, m), so both are transposed.": raised(
                "ValueError", "matmul"
            )
        }
        answer.returns(mistakes)
        mistakes = {
            "The residual is missing: add h, or an untrained adapter would wipe out what was there.": up + b2,
            "The nonlinearity is missing: without it, the adapter is one matrix of rank m.": h + low @ W2.T + b2,
            "The bias b₁ is missing: it is added before the ReLU.": h + np.maximum(h @ W1.T, 0) @ W2.T + b2,
            "The bias b₁ is added after the ReLU: it belongs before it.": h + with_bias_late @ W2.T + b2,
            "The bias b₂ is missing.": h + up,
            "The ReLU stands at the end: it belongs inside, between down and up.": lambda got: (
                np.allclose(got, h + np.maximum(low @ W2.T + b2, 0))
                or np.allclose(got, np.maximum(h + low @ W2.T + b2, 0))
                or np.allclose(got, np.maximum(h + up + b2, 0))
            ),
            "The ReLU is the wrong way round: negative numbers become zero.": h + np.minimum(low, 0) @ W2.T + b2,
            "One ReLU is enough: the one between down and up. The remark itself may be negative.": (
                h + np.maximum(up + b2, 0)
            ),
            "np.max(z, 0) is the largest of each column: np.maximum(z, 0) cuts every number off at zero.": (
                h + low.max(axis=0) @ W2.T + b2
            ),
            "The ReLU is for what is inside, h W₁ᵀ + b₁, and not for h.": (
                h + (np.maximum(h, 0) @ W1.T + b1) @ W2.T + b2
            ),
            "W₁ and W₂ have changed places: W₁ leads down, to m numbers, and W₂ up again.": (
                h + np.maximum(h @ W2 + b1, 0) @ W1 + b2
            ),
        }
        answer["y"].equals(h + up + b2, mistakes)
        answer["h"].equals(h, hint="Your code changes h itself; for the caller, it stays changed: h + …, not h += ….")

    student.adapter_forward(h[:0], W1, b1, W2, b2).holds(
        lambda y: y == [] if isinstance(y, list) else np.shape(y) == (0, d), f"y of shape (0, {d})", NO_ROWS
    )


NO_ROWS = fine("Where there are no rows, y is (0, d) all the same: products of whole arrays need no first row.")


def forward_inputs(d):
    n, size, m = d.size(), d.size(), d.size()
    whole = d.whole(n, size, least=-3, below=4)
    h = d.fine("Right for floats, wrong where h has whole numbers.", d.array(n, size), whole)
    return h, d.array(m, size), d.array(m), d.array(size, m), d.array(size)


@task(3)
def looking(student):
    """The sum of a note, W₁ h + b₁, is below zero, or above. What does a small change of h do to the note in each case?

    An open note (W₁ h + b₁ > 0) passes the change on, a closed one gives nothing. As a matrix?

    Two notes with the sums 0.4 and -0.1, W₁ = [[1, 2], [3, 4]], W₂ = [[5, 6], [7, 8]]: the first alone is open, so its
    column of W₂ times its row of W₁ is left: [[5 · 1, 5 · 2], [7 · 1, 7 · 2]].
    """
    search(student.change_at, change_inputs)
    for seed, d, m in [(94, 2, 3), (15, 3, 4), (39, 4, 3)]:
        W1, b1, W2, _ = arrays(seed, d, m)
        for h in draw(np.random.default_rng(200 + seed), 3, d):
            low = W1 @ h + b1
            gate = (low > 0).astype(float)
            right = (W2 * gate) @ W1
            mistakes = {
                "Every note was taken as open: only those with W₁ h + b₁ > 0 pass a change on.": W2 @ W1,
                "The residual's share is in it: J is without the identity.": right + np.eye(d),
                "J is transposed: it maps a change of h to a change of the output, J δ.": right.T,
                "The bias decides too: a note is open where W₁ h + b₁ > 0.": (W2 * (W1 @ h > 0)) @ W1,
                "A slope was asked for: an open note passes on 1 times the change, not its own value.": (
                    lambda got: np.allclose(got, (W2 * np.maximum(low, 0)) @ W1) or np.allclose(got, (W2 * low) @ W1)
                ),
                "The closed notes were taken: those above zero pass a change on.": (W2 * (1 - gate)) @ W1,
                "That is what the adapter adds, a vector: J is a matrix (d, d).": lambda got: np.ndim(got) == 1,
                "The order is W₂ diag(open) W₁: first down, then up.": lambda got: np.shape(got) == (m, m) != (d, d),
                "A closed note passes nothing on: 0 in its place, where np.sign gives -1.": (W2 * np.sign(low)) @ W1,
                "A note is open where W₁ h + b₁ > 0: it is not the entries of h that decide.": (
                    lambda got: np.allclose(got, W2 @ W1 * (h > 0)) or np.allclose(got, W2 @ (W1 * (h > 0)))
                ),
                "A product has the wrong shape: W₂ is (d, m), diag(open) is (m, m) and W₁ is (m, d).": raised(
                    "ValueError", "matmul"
                ),
            }
            student.change_at(h, W1, b1, W2).equals(right, mistakes)

    near = np.array([1.0]), np.array([[2.0]]), np.array([-1.997]), np.array([[3.0]])  # 0.003 inside
    student.change_at(*near).equals(np.array([[6.0]]), hint=NEAR)
    shut = np.ones(2), np.ones((3, 2)), np.full(3, -9.0), np.ones((2, 3))
    student.change_at(*shut).equals(
        np.zeros((2, 2)),
        instead={"Where no note is open, J is a matrix (d, d) all the same: of zeros.": lambda got: np.ndim(got) != 2},
    )


NEAR = fine("Where a sum inside is close to 0, a step crosses the ReLU's bend: which notes are open at h itself?")


def change_inputs(d):
    """Draw inputs with no sum inside at 0, perhaps some near it, and perhaps none above it."""
    size, m = d.size(), d.size()
    h, W1, b1, W2 = d.array(size), d.array(m, size), d.array(m), d.array(size, m)
    inside, near = W1 @ h + b1, 1e-3 * (np.abs(W1) @ np.abs(h) + np.abs(b1) + 1e-6)
    far = near + 1e-3 * np.abs(W1).sum(axis=1)  # which a small step of h does not cross, even from h = 0
    where = d.fine(NEAR, d.choice("", "closed"), "near zero")
    wanted = np.where(np.abs(inside) < far, far, inside)
    wanted = np.sign(wanted) * near if where == "near zero" else -np.abs(wanted) if where == "closed" else wanted
    return h, W1, (b1 + wanted - inside).astype(b1.dtype), W2


NO_GRADIENT = "No gradient reaches the adapter: it must take part in y, as Tensors."
FOUR = ["down.bias", "down.weight", "up.bias", "up.weight"]


@task(4)
def module(student):
    """For the module to begin as the identity, what must the second product give? Why may down's weight not be zero,
    too?

    down: weight random within ±1/√d, bias zero. up: weight and bias zero. All four train.

    A module that scales what it is given, and begins as the identity: self.more = nn.Linear.from_arrays(zeros (d, d),
    zeros (d,)), and forward gives h + self.more(h). Here two Linears and F.relu stand in its place.
    """
    search(student.driver.seeded, lambda d: (d.number(3, 1, 4), d.number(2, 1, 5), d.number(0, 1, 7)), 15, hints=SEEDED)
    search(student.driver.trained, trained_inputs, parts=TRAINED_PARTS, hints=KIND)
    for n, d, m in [(2, 3, 2), (3, 4, 5), (2, 20, 150), (4, 100, 60)]:
        h = draw(np.random.default_rng(n), n, d).astype("float32")
        answer = student.driver.fresh(d, m, 3, h)
        mistakes = {
            "A product has the wrong shape: down.weight is (m, d), and up.weight is (d, m).": (
                raised("ValueError", "does not fit")
            ),
            "NumPy's functions do not take Tensors: F.relu does.": raised("TypeError", "ufunc"),
        }
        answer.returns(mistakes)
        answer["kinds"].equals(
            {"down": "Linear", "up": "Linear"}, hint="The two parts must be nn.Linear, called down and up."
        )
        answer["own arrays"].equals(True, hint=SEEDED["shared"])
        start, gradients = answer["start"], answer["gradients"]
        shapes = {"down.weight": (m, d), "down.bias": (m,), "up.weight": (d, m), "up.bias": (d,)}
        start.holds(
            lambda arrays: {name: np.shape(a) for name, a in arrays.items()} == shapes,
            f"arrays of the shapes {shapes}",
            "A part has another shape: down.weight is (m, d), up.weight is (d, m), and both have a bias.",
            instead={"Both Linears have a bias.": lambda arrays: any(a is None for a in arrays.values())},
        )
        for name in ("up.weight", "up.bias"):
            hint = f"{name} must start at zero, so that a fresh adapter gives h back."
            start[name].holds(lambda a: not np.any(a), f"{name} all zeros", hint)
        mistakes = {
            "The residual is missing: a fresh adapter must give h back.": lambda y: not np.any(y),
            "A ReLU stands over the sum: h itself must pass as it is.": np.maximum(h, 0),
            "The residual is counted twice.": 2 * h,
        }
        answer["y"].equals(h, mistakes, hint="A fresh adapter must give h back, exactly.", tolerance=0)
        start["down.bias"].holds(lambda a: not np.any(a), "down.bias all zeros", "down.bias must start at zero.")
        bound = 1 / np.sqrt(d)
        start["down.weight"].holds(
            lambda a: np.any(a) and a.min() < 0 < a.max() and np.abs(a).max() <= bound * 1.0001,
            f"down.weight random within ±1/√{d} = ±{bound:g}",
            "down.weight must be uniform between -1/√d and 1/√d.",
            instead={
                "Both weights are zero: then neither ever gets a gradient, as with LoRA's A and B.": lambda a: (
                    not np.any(a)
                ),
            },
        )
        start["down.weight"].holds(
            lambda a: np.size(a) < 1000 or np.abs(a).max() > 0.9 * bound,
            f"down.weight that fills ±1/√{d} = ±{bound:g}",
            "down.weight does not reach its bounds: draw it between -1/√d and 1/√d.",
            instead={
                "The bound of down.weight is 1/√d, not 1/√m.": lambda a: abs(np.abs(a).max() * np.sqrt(m) - 1) < 0.02
            },
        )
        answer["trains"].holds(
            lambda names: sorted(names) == FOUR, f"{', '.join(FOUR)} to train", "All four arrays of the adapter train."
        )
        inside = np.maximum(h @ start["down.weight"].value.T, 0)
        gradients.holds(lambda gradients: gradients["up.weight"] is not None, "a gradient of up.weight", NO_GRADIENT)
        mistakes = {
            "The nonlinearity is missing.": (2 * h).T @ (h @ start["down.weight"].value.T),
            "up.weight gets a gradient of zero, and would never move: does a ReLU stand behind up?": (
                lambda gradient: not np.any(gradient)
            ),
        }
        gradients["up.weight"].equals((2 * h).T @ inside, mistakes)
    for seed, before, d, m in [(2, (1,), 2, 3), (1, (4,), 5, 3), (3, (2, 3), 4, 2)]:
        h = draw(np.random.default_rng(100 + seed), *before, d).astype("float32")
        W1, b1, W2, b2 = (a.astype("float32") for a in arrays(seed, d, m))
        answer = student.driver.trained(h, W1, b1, W2, b2)
        answer.returns(
            instead={
                "h may have more axes than two, (..., d): does your code count on (n, d)?": raised("ValueError"),
            }
            if len(before) > 1
            else {}
        )
        low = h @ W1.T + b1
        y = h + np.maximum(low, 0) @ W2.T + b2
        mistakes = {
            "The nonlinearity is missing.": h + low @ W2.T + b2,
            "The residual is missing.": y - h,
            "The residual is counted twice.": y + h,
            "The ReLU stands at the end: it belongs between down and up.": h + np.maximum(low @ W2.T + b2, 0),
            "A ReLU stands behind up: it belongs between down and up alone.": h + np.maximum(y - h, 0),
            "The biases are missing: self.down(h) adds its own, a product with its weight does not.": (
                h + np.maximum(h @ W1.T, 0) @ W2.T
            ),
        }
        answer["y"].equals(y, mistakes)
        inside = (2 * y) @ W2 * (low > 0)
        mistakes = {
            "No gradient passes through the residual to what comes before the adapter: use h itself, a Tensor.": (
                inside @ W1
            ),
            "Down gets its gradient, but passes none on to h: give self.down the Tensor h itself.": 2 * y,
        }
        answer["dh"].equals(2 * y + inside @ W1, mistakes)


TRAINED_PARTS = ("kind", "y", "y, in evaluation mode", "trains", "dh", "gradients")
KIND = {
    "y, in evaluation mode": "In evaluation mode it gives something else: an adapter computes the same in both modes.",
    "kind": "forward gives a Tensor, as what comes behind it needs its graph.",
    "dh": "The gradient of h is wrong: it comes back through the residual and through down.",
}
SEEDED = {
    "shapes": "Other sizes than were asked for: down.weight is (m, d), up.weight is (d, m), with biases (m,) and (d,).",
    "a seed gives one start": "The same seed, used again, gives another start: use the rng that `seed` made.",
    "another seed, another start": "Every seed gives the same start: use the rng that `seed` made.",
    "shared": fine("Two parts, or two adapters, share an array: what trains one changes the other."),
    "dtypes": fine("An array is not float32: in float64 it takes twice the memory, and so does all behind it."),
    "numbers that differ": "The numbers of down.weight repeat: draw each of them, or the rows learn the same.",
}


def trained_inputs(d):
    size, m, leading = d.size(), d.size(), d.fine(NO_ROWS, d.choice((1,), (2,), (), (3, 2), (1, 3)), (0,), (2, 0))
    arrays = d.array(*leading, size), d.array(m, size), d.array(m), d.array(size, m), d.array(size)
    return *arrays, d.choice("training", "evaluation")


@task(5)
def behind(student):
    """Whose output does the adapter read? What else was the module given?

    self.module is frozen, self.adapter is not. forward hands x and all other arguments to the module.

    A function that is given along: def twice(f, *args, **kwargs): return 2 * f(*args, **kwargs). Then twice(round,
    2.345, ndigits=2) is 2 * round(2.345, ndigits=2). The adapter adds the residual by itself.
    """
    search(student.driver.behind, behind_inputs, parts=BEHIND_PARTS, hints=BEHIND)
    for seed, n, d_in, d, m in [(2, 1, 2, 2, 3), (1, 3, 4, 4, 2), (3, 2, 5, 3, 2)]:
        rng = np.random.default_rng(300 + seed)
        x, W = draw(rng, n, d_in).astype("float32"), draw(rng, d, d_in).astype("float32")
        W1, b1, W2, b2 = (a.astype("float32") for a in arrays(seed, d, m))
        added = lambda h: np.maximum(h @ W1.T + b1, 0) @ W2.T + b2  # noqa: B023, E731
        answer = student.driver.behind(x, W, W1, b1, W2, b2, 3.0, 0.5, "")
        h, plain = x @ W.T * 3.0 + 0.5, x @ W.T + 0.25
        no_name, no_place = h - 0.25, plain + 0.25
        beside = d_in == d and h + added(x)
        mistakes = {
            "The other arguments are for the module alone: the adapter takes what the module returns.": (
                raised("TypeError", "Adapter.forward()")
            ),
            "The stars belong to the call as well: self.module(x, *args, **kwargs).": raised("TypeError"),
        }
        answer.returns(mistakes)
        mistakes = {
            "The module's other arguments are lost: hand on *args and **kwargs.": plain + added(plain),
            "The arguments by name are lost: hand on **kwargs too.": no_name + added(no_name),
            "The arguments by place are lost: hand on *args too.": no_place + added(no_place),
            "What the module returns is counted twice: the adapter adds it already.": 2 * h + added(h),
            "The adapter reads x, beside the module: it must read what the module returns.": lambda y: (
                d_in == d and (np.allclose(y, beside) or np.allclose(y, beside + x))
            ),
            "The adapter stands in front of the module: it belongs behind it.": lambda y: (
                d_in == d and np.allclose(y, (x + added(x)) @ W.T * 3.0 + 0.5)
            ),
            "x is added too: the block does that, and the adapter reads what the module returns.": lambda y: (
                d_in == d and np.allclose(y, x + h + added(h))
            ),
            "The module is missing.": lambda y: d_in == d and np.allclose(y, x + added(x)),
            "The adapter is missing.": h,
        }
        answer["y"].equals(h + added(h), mistakes)
        answer["trains"].holds(
            lambda names: sorted(names) == [f"adapter.{name}" for name in FOUR],
            "the adapter's four arrays to train, and nothing else",
            "Other parameters train than the adapter's; the parts are called module and adapter.",
            instead={
                "Nothing trains: the adapter was frozen with the module.": [],
                "The module has a parameter beside its weights and biases, module.gate, and it trains: freeze all of "
                "them.": lambda names: "module.gate" in names and len(names) == 5,
                "The module is not frozen: module.requires_grad_(False).": lambda names: any(
                    name.startswith("module.") for name in names
                ),
            },
        )
        slope = (np.eye(d) + (W2 * (h @ W1.T + b1 > 0)[:, None]) @ W1).astype("float32")  # (n, d, d)
        mistakes = {
            "No gradient passes through the module: frozen means that its weights get none, not that none "
            "passes on to x.": None
        }
        answer["dx"].equals(np.einsum("ni,nij->nj", 2 * (h + added(h)), slope) @ W * 3.0, mistakes)
    h = x @ W.T * 3.0
    student.driver.behind(x, W, W1, b1, W2, b2, 3.0, 0.0, "")["y"].equals(
        h + added(h),
        hint=ZERO,
    )


ZERO = fine("An argument of 0 is one as well: hand all of them on, whatever their values.")


BEHIND_PARTS = (
    *("kind", "trains", "y", "y, arguments by name", "y, one argument by name", "y, in evaluation mode"),
    *("dx", "gradients", "are its parts those given"),
)
BEHIND = KIND | {
    "are its parts those given": fine("self.module and self.adapter are those that were given, and no copies."),
    "y, arguments by name": "Arguments by name come in any order: hand them on by name, **kwargs.",
    "y, one argument by name": "An argument by name belongs to that name, not to the next place: hand on **kwargs.",
}


CALLS = [("", "training"), ("arguments", "training"), ("one argument", "training"), ("", "evaluation")]


def behind_inputs(d):
    n, d_in, size, m = d.size(), d.size(), d.size(), d.size()
    arrays = d.array(n, d_in), d.array(size, d_in), d.array(m, size), d.array(m), d.array(size, m), d.array(size)
    return *arrays, d.number(3.0, 1.0, -2.0), d.fine(ZERO, d.number(0.5, 2.0), 0.0), *d.choice(*CALLS)


INSIDE = "A module inside the mlp was taken too: compare the whole last name of the path, not a part of it."


@task(6)
def inserting(student):
    """Three jobs, as in lesson 08: find, freeze, replace. Which modules does each placement name?

    houlsby: self_attn and mlp; pfeiffer: mlp. Compare path.split('.')[-1], the whole last name.

    Blocks in encoder.0 and encoder.1, Houlsby, seed 7: encoder.0.self_attn gets an adapter of seed 7, encoder.0.mlp of
    8, encoder.1.self_attn of 9, encoder.1.mlp of 10. The model is frozen before all this.
    """
    search(student.driver.inserted, insert_inputs, 15, parts=INSERTED_PARTS, hints=INSERTED)
    search(student.driver.placed, place_inputs, 10, hints=INSERTED)
    x = np.random.default_rng(6).standard_normal((3, 4)).astype("float32")
    for placement, names in (("pfeiffer", ["mlp"]), ("houlsby", ["self_attn", "mlp"])):
        wanted = [f"layers.{i}.{name}" for i in range(2) for name in names]
        answer = student.driver.inserted(placement, x, 2, 5)
        mistakes = {
            INSIDE: raised("AttributeError"),
            "Adapter(d, m, …): the width of the stream comes first, then the adapter's.": raised(
                "ValueError", "does not fit"
            ),
        }
        answer.returns(mistakes)
        answer["gone"].equals(
            [], hint="The module itself is gone: what stands there now is Behind(module, Adapter(…))."
        )
        answer["behind"].holds(
            lambda paths: paths == wanted,
            f"a Behind at {', '.join(wanted)}, and nowhere else",
            "Other modules have an adapter than those that the placement names.",
            instead={
                "Nothing was replaced: model.replace(path, new) puts the new module in.": [],
                "The adapters stand behind whole blocks, where the residual is added already; they belong behind "
                "self_attn and mlp.": lambda paths: "layers.0" in paths,
                INSIDE: lambda paths: any(path.endswith("_proj") for path in paths),
                "pre_mlp has an adapter too: compare the whole last name, not its end.": (
                    lambda paths: "layers.0.pre_mlp" in paths
                ),
                "mlp_norm has an adapter too: compare the whole last name, not its beginning.": (
                    lambda paths: "layers.0.mlp_norm" in paths
                ),
                "Pfeiffer has one adapter per block: behind the MLP.": (
                    lambda paths: placement == "pfeiffer" and "layers.0.self_attn" in paths
                ),
                "Houlsby has two adapters per block: behind attention and behind the MLP.": (
                    lambda paths: (
                        placement == "houlsby" and len({f"layers.0.{name}" for name in names} & set(paths)) == 1
                    )
                ),
                "Only the first block has adapters: each block gets its own.": lambda paths: len(paths) == len(names),
            },
        )
        answer["trains"].holds(
            lambda trainable: sorted(trainable) == sorted(f"{path}.adapter.{name}" for path in wanted for name in FOUR),
            "the adapters' arrays to train, and nothing else",
            "Other parameters train than the adapters'.",
            instead={
                "Nothing trains: the adapters were frozen with the rest. Freeze first, then put them in.": [],
                "A parameter beside the weights and biases, gate, still trains: freeze all, whatever it is called.": (
                    lambda trainable: {name.split(".")[-1] for name in trainable if ".adapter." not in name} == {"gate"}
                ),
                "The rest of the model still trains: freeze all of it.": lambda trainable: any(
                    ".adapter." not in name for name in trainable
                ),
                "All places share one adapter: make a new one for each.": lambda trainable: len(trainable) == len(FOUR),
            },
        )
        mistakes = {
            "Return the paths of the modules that have an adapter now.": None,
            "Return the paths in the model's order.": lambda paths: sorted(paths) == sorted(wanted),
        }
        answer["paths"].equals(wanted, mistakes)
        starts = [student.driver.first_weight(5 + i).value for i in range(len(wanted))]
        mistakes = {
            "All adapters start alike: the i-th one gets seed + i.": lambda starts: all(
                np.array_equal(starts[0], a) for a in starts
            )
        }
        answer["adapters"].equals(
            starts, mistakes, hint="Other starts: the i-th adapter, counted from 0 in the model's order, gets seed + i."
        )
    mistakes = {
        "A model's blocks may lie deeper, as in model.layers.0.mlp: look at the last name of a path alone.": (
            lambda paths: True
        ),
        "A model's blocks may lie deeper, as in model.layers.0.mlp: look at the last name alone.": raised("Exception"),
    }
    student.driver.deeper("pfeiffer").equals(["model.layers.0.mlp", "model.layers.1.mlp"], mistakes)
    refused = "A placement that is neither houlsby nor pfeiffer must be refused: raise ValueError."
    mistakes = {
        refused: lambda result: True,
        "A placement that is unknown must raise ValueError, not KeyError.": raised("KeyError"),
        "An assert raises AssertionError; write `if …: raise ValueError(…)`.": raised("AssertionError"),
    }
    student.driver.deeper("houlsbi").equals(raised("ValueError"), mistakes)
    student.driver.no_place("houlsby").equals(
        raised("ValueError"),
        hint="The model has no such module, and no adapter was put in: that must raise ValueError.",
    )


INSERTED_PARTS = ("behind", "gone", "trains", "paths", "before", "y", "widths", "starts")
PLACES = {
    "at the top": "A path may have no dot: where the model is a block itself, its mlp has the path mlp.",
    "in dictionaries": "Modules may stand in dictionaries: model.replace(path, new) puts one there.",
}
NAMES = fine("The model's own parameters are frozen whatever they are called: freeze all, then put the adapters in.")
INSERTED = {
    "trains, other names": NAMES,
    "widths": "The adapters have another width than m.",
    "starts": "Other starts: the i-th adapter, counted from 0 in the model's order, gets seed + i.",
}


def place_inputs(d):
    placement = d.number("pfeiffer", "houlsby")
    where = "other names"
    for other, remark in PLACES.items():
        where = d.fine(remark, where, other)
    return where, placement, d.number(2, 1, 3), d.number(5, 0, 1)


def insert_inputs(d):
    return (
        d.number("pfeiffer", "houlsby", "both"),
        d.array(2, d.choice(4, 3, 5), kinds=("normal",)),
        d.number(2, 1, 3),
        d.number(5, 0, 1),
    )
