"""The checks of lesson 05. Losses, steps and whole runs are computed here independently, without a graph."""

from collections import Counter
from math import cos, log, pi

import numpy as np

from minilora.classroom import draw, fine, raised, search, task
from minilora.classroom.lessons.draws import KINDS, LARGE, NORMAL
from minilora.classroom.sandbox.runner import Raised

USES = ("minilora.Tensor", "minilora.no_grad", "minilora.ops", "minilora.nn.Module")


def same(got, value, tolerance=1e-6):
    return np.shape(got) == np.shape(value) and np.allclose(got, value, rtol=tolerance, atol=tolerance)


# Task 1


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def surprise(logits, targets):
    """Return -log of the probability of each target."""
    p = softmax(logits)
    return np.array([-np.log(p[place][targets[place]]) for place in np.ndindex(targets.shape)])


def loss_gradient(logits, ids):
    """Return (p - 1 at the target) / count for each place that has a next token, 0 for the last place."""
    g = softmax(logits)
    for b, t in np.ndindex(ids[:, 1:].shape):
        g[b, t, ids[b, t + 1]] -= 1
    g[:, -1] = 0
    return g / ids[:, 1:].size


def loss_inputs(d):
    batch, length, size = d.size(1, 3), d.number(3, 2, 4), d.size(2, 4)
    ids = d.whole(batch, length, below=size, dtype=d.fine(NO_INDEX, "int64", "int32", "uint8", "uint64", "int16"))
    return d.array(batch, length, size, kinds=MODERATE), ids


MODERATE = tuple(kind for kind in KINDS if kind != LARGE)


LONG_LOSS = "Right for short texts, wrong for a long one: all B · (T - 1) places count."
LARGE_LOSS = fine("Right for a small vocabulary, wrong for 70,000 tokens: are ids or places kept in too few bits?")
NO_INDEX = fine("Right for ids in int64, wrong in another integer dtype: uint64 and int64 together make float64.")
NOT_TENSOR = "The loss must be a Tensor, or nothing can learn from it."
CUT = "The value is right, the gradient is not: compute with Tensors, without .data or .numpy()."


@task(1)
def loss(student):
    """Which places have a next token, and which tokens are next ones?

    Leave out the last place of the logits and the first of the ids; then pick each target's logit.

    For a text [4, 2, 7] two places count: logits 0 for 2, logits 1 for 7. At logits [1, 3, 0] and target 1 the loss is
    log(e + e³ + 1) - 3 = 3.17 - 3 = 0.17. x[[0, 1], [2, 0]] picks x[0, 2] and x[1, 0].
    """
    search(student.driver.loss_of, loss_inputs, hints={"kind": NOT_TENSOR, "gradient": CUT})
    rng = np.random.default_rng(1)
    for batch, length, size in [(2, 3, 2), (3, 4, 5)]:
        logits, ids = draw(rng, batch, length, size), rng.integers(size, size=(batch, length))
        each = surprise(logits[:, :-1], ids[:, 1:])
        answer = student.driver.loss_of(logits, ids)
        mistakes = {
            "Logits and targets differ in their number of places: the last place has no next token.": (
                raised("Exception", "broadcast")
            ),
            "A NumPy function was used on a Tensor: use the Tensor's own methods.": raised("TypeError", "ufunc"),
        }
        answer.returns(mistakes)
        mistakes = {
            "Each token is compared with itself: the logits at place t are about the token at t + 1.": (
                surprise(logits, ids).mean()
            ),
            "Each token is compared with itself: shift the ids by one, and leave out the last logits.": (
                lambda y: (
                    same(y, surprise(logits[:, :-1], ids[:, :-1]).mean())
                    or same(y, surprise(logits[:, 1:], ids[:, 1:]).mean())
                )
            ),
            "The shift goes the wrong way: place t is about t + 1, not about t - 1.": (
                surprise(logits[:, 1:], ids[:, :-1]).mean()
            ),
            "The last place is compared with the first token: it has no next one, leave it out.": (
                surprise(logits, np.roll(ids, -1, axis=1)).mean()
            ),
            "The sum is taken, not the mean.": each.sum(),
            "The sum is divided by T or by B alone: it is the mean over all places.": lambda y: (
                same(y, each.sum() / batch) or same(y, each.sum() / length) or same(y, each.sum() / (length - 1))
            ),
            "The sum is divided by all B · T places: only B · (T - 1) have a next token.": each.sum() / ids.size,
            "The sign is wrong: the loss is positive.": -each.mean(),
            "The loss is in bits: in nats, it takes the natural logarithm.": each.mean() / log(2),
            "The softmax is missing: a logit is not a log-probability.": lambda y: np.allclose(
                y, -np.mean([logits[b, t, ids[b, t + 1]] for b, t in np.ndindex(ids[:, 1:].shape)])
            ),
            "The probability's logarithm is missing: the loss is -log p.": lambda y: (
                same(y, -np.exp(-each).mean()) or same(y, 1 - np.exp(-each).mean()) or same(y, np.exp(-each).mean())
            ),
            "One number is asked for: the mean over all places.": lambda y: np.size(y) == each.size > 1,
        }
        answer["loss"].equals(each.mean(), mistakes)
    for hint, batch, length, size, least in ((LONG_LOSS, 33, 70, 2, 0), (LARGE_LOSS, 1, 3, 70_000, 66_000)):
        long_logits, long_ids = draw(rng, batch, length, size), rng.integers(least, size, size=(batch, length))
        answer = student.driver.loss_of(long_logits, long_ids)
        if isinstance(hint, fine) and isinstance(answer.raw, Raised):
            if not raised("MemoryError").fits(answer.raw):  # which one-hot vectors need, by a matrix of V² numbers
                answer.equals(0, hint=hint)
            continue
        answer.returns({hint: raised("Exception")})
        right = surprise(long_logits[:, :-1], long_ids[:, 1:]).mean()
        answer["loss"].equals(right, hint=hint)
    logits = 1000 * logits
    student.driver.loss_of(logits, ids)["loss"].equals(
        surprise_of_large(logits[:, :-1], ids[:, 1:]),
        hint=fine("Logits of ±1000 overflow: use logsumexp, which takes the largest off first."),
    )


def surprise_of_large(logits, targets):
    """Return the mean surprise for logits so far apart that only the largest count: the target's distance to these."""
    below = []
    for place in np.ndindex(targets.shape):
        row = logits[place]
        below.append(row.max() - row[targets[place]] + log((row == row.max()).sum()))
    return np.mean(below)


# Task 2


def rate_inputs(d):
    steps, warmup = d.number(10, 8, 100), d.number(0, 1, 3, 5)
    step = min(d.number(0, 1, 2, 3, 4, 5, 7, 9, 50, 100), steps)
    return step, steps, warmup, d.number(1.0, 0.3, 2.0), d.number(0.1, 0.0, 0.25)


@task(2)
def schedule(student):
    """What are the rates at step 0, at step warmup - 1, at step warmup, and at the end?

    Two cases: step < warmup, and all others, where progress must be 0 at step = warmup and 1 at step = steps.

    With peak 1, floor 0.2, warmup 2 of 10 steps: 0.5, 1, then 1 at step 2 (progress 0). Step 6 is halfway down, where
    the cosine is 0: halfway between 1 and 0.2, so 0.6. Step 10 would be 0.2.
    """
    search(student.learning_rate, rate_inputs, tolerance=1e-6)
    for steps, warmup, peak, floor in [(10, 4, 1.0, 0.1), (10, 0, 2.0, 0.0), (100, 7, 0.003, 0.25)]:
        for step in dict.fromkeys([0, 1, warmup - 1, warmup, warmup + 1, (steps + warmup) // 2, steps - 1, steps]):
            if step < 0:
                continue
            right = peak * (floor + (1 - floor) * cos(pi / 2 * (step - warmup) / (steps - warmup)) ** 2)
            right = peak * (step + 1) / warmup if step < warmup else right
            wrong = rates(step, steps, warmup, peak, floor)
            student.learning_rate(step, steps, warmup, peak, floor).equals(right, wrong, tolerance=1e-7)


def rates(step, steps, warmup, peak, floor):
    """Return {hint: rate of the mistake}."""
    if step < warmup:
        return {
            "The first step has the rate 0 and does nothing: the line is (step + 1) / warmup.": peak * step / warmup,
            "The warmup is missing: the rate rises to its peak first.": lambda y: y >= peak * 0.999,
            "The warmup goes over all steps: it ends after `warmup`.": peak * (step + 1) / steps,
            "The warmup starts at the floor: it rises from peak / warmup.": (
                peak * (floor + (1 - floor) * (step + 1) / warmup)
            ),
            "The rate is to be multiplied by the peak.": lambda y: peak != 1 and same(y, (step + 1) / warmup),
        }
    progress = (step - warmup) / (steps - warmup)
    height = cos(pi / 2 * progress) ** 2  # half a cosine, from 1 to 0
    shapes = {
        "The cosine begins before the warmup has ended: progress is (step - warmup) / (steps - warmup).": (
            floor + (1 - floor) * cos(pi / 2 * step / steps) ** 2
        ),
        "The progress is divided by `steps`: the way down is steps - warmup long.": (
            floor + (1 - floor) * cos(pi / 2 * (step - warmup) / steps) ** 2
        ),
        "The floor is added on top, so that the peak is too high: scale the rest by 1 - floor.": floor + height,
        "The floor is missing: the rate ends at floor · peak.": height,
        "A whole cosine comes up again: it is half of one, pi times the progress.": (
            floor + (1 - floor) * cos(pi * progress) ** 2
        ),
        "That is a quarter of a cosine: (1 + cos(pi · progress)) / 2 goes from 1 to 0.": (
            floor + (1 - floor) * cos(pi / 2 * progress)
        ),
        "The cosine goes from 1 to -1: add 1 and halve it.": floor + (1 - floor) * cos(pi * progress),
        "That is a straight line down: half a cosine is asked for.": floor + (1 - floor) * (1 - progress),
        "The cosine is upside down: it begins at the peak.": floor + (1 - floor) * (1 - height),
        "The floor is reached at `steps`, one past the last step: the way down is steps - warmup long.": (
            floor + (1 - floor) * cos(pi / 2 * (step - warmup) / (steps - warmup - 1)) ** 2
        ),
        "warmup 0 is treated as 1: the way down begins at step 0.": 1.0 if warmup == 0 and step == 1 else -1,
        "The rate stays at its peak: after the warmup it comes down.": 1.0,
    }
    wrong = {"The floor is a share of the peak: multiply by the peak.": floor + (peak - floor) * height}
    if floor == 0.1 and peak == 1:
        wrong = {}
    wrong |= {hint: peak * shape for hint, shape in shapes.items() if abs(shape - floor - (1 - floor) * height) > 1e-9}
    wrong |= {
        "The rate is to be multiplied by the peak.": lambda y: peak != 1 and same(y, floor + (1 - floor) * height),
        "warmup may be 0: do not divide by it.": raised("ZeroDivisionError"),
        "The rate rises one step too long: step warmup - 1 is the last of the warmup.": lambda y: (
            y > peak * 1.0001 and step == warmup
        ),
    }
    return wrong


# Task 3


def adamw(p, g, m, v, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, change=""):
    """Take a step as printed in the paper, with the bias correction as a sum of weights; `change` names a mistake."""
    a, b = betas
    if change == "betas exchanged":
        a, b = b, a
    if change == "decay through the means":
        g = g + weight_decay * p
    m = a * m + (g if change == "whole gradient" else (1 - a) * g)
    v = b * v + (1 - b) * (np.abs(g) if change == "not squared" else g**2)
    weights = [(1 - x) * sum(x**i for i in range(step)) for x in (a, b)]  # the weights that gradients have had so far
    if change == "not corrected":
        weights = [1, 1]
    if change == "corrected as at the first step":
        weights = [1 - a, 1 - b]
    if change == "only m corrected":
        weights[1] = 1
    if change == "step from 0":
        weights = [(1 - x) * sum(x**i for i in range(step + 1)) for x in (a, b)]
    top, bottom = m / weights[0], v / weights[1]
    size = bottom if change == "no root" else np.sqrt(bottom)
    size = np.sqrt(bottom + eps) if change == "eps inside" else size + eps
    decay = {"no decay": 0, "decay through the means": 0, "decay without lr": weight_decay}.get(
        change, lr * weight_decay
    )
    direction = -1 if change == "uphill" else 1
    top = g if change == "raw gradient" else top
    new = p * (1 - decay) - direction * lr * top / size
    if change == "corrected kept":
        return new, top, bottom
    return new, m, v


STEPS = {
    "decay through the means": "The decay was added to the gradient: in AdamW it shrinks p itself, by lr · decay · p.",
    "no decay": "The weights do not decay: take lr · weight_decay · p off.",
    "decay without lr": "The decay is not scaled by the learning rate: take off lr · weight_decay · p.",
    "betas exchanged": "The betas are exchanged: the first is for the gradient, the second for its square.",
    "whole gradient": "m is a running mean: g counts 1 - beta₁.",
    "not squared": "v is the running mean of the gradient's square.",
    "not corrected": "The means began at zero and are not corrected: divide by 1 - betaᵏ at step k.",
    "corrected as at the first step": "The correction is 1 - betaᵏ at step k, not 1 - beta.",
    "only m corrected": "v is not corrected: divide it by 1 - beta₂ᵏ.",
    "step from 0": "The step counts from 1 as it is handed over: nothing is to be added.",
    "no root": "The root is missing: m is divided by √v + eps.",
    "eps inside": "eps is added outside the root: √v + eps.",
    "uphill": "It goes uphill: take the update off p.",
    "raw gradient": "The gradient itself is used: the running mean m is.",
    "corrected kept": "The corrected means were returned: m and v are kept as they are, and corrected when used.",
}


def step_inputs(d):
    shape = d.shape((1, 2, 3, 0))
    p, g, m, v = (d.array(*shape) for _ in range(4))
    step, lr, betas = (
        d.number(1, 2, 3, 10, 300),
        d.number(0.1, 0.01, 1.0),
        d.number((0.9, 0.95), (0.8, 0.99), (0.5, 0.6)),
    )
    return p, g, m, np.abs(v), step, lr, betas, d.number(1e-8, 0.5, 1e-3), d.number(0.1, 0.0, 0.5)


@task(3)
def optimizer(student):
    """m and v come in twice: as they are, and corrected. Which are returned, and which move p?

    m and v first, then both corrected by 1 - beta ** step, then p - lr · decay · p - lr · m̂ / (√v̂ + eps).

    g = 4 at step 2, with m = 0.2 and beta 0.9: m is 0.18 + 0.4 = 0.58, and is returned; corrected, by 1 - 0.81, it is
    3.05. A weight of 2 at lr 0.01 and decay 0.5 loses 0.01 · 0.5 · 2 = 0.01, whatever the gradient is.
    """
    search(student.adamw_step, step_inputs, tolerance=1e-4, instead=known)
    # By hand: at the first step m / (1 - 0.9) = g and v / (1 - 0.95) = g², so p moves by lr, whatever g is.
    for g in (0.5, -200.0):
        zero = np.zeros(1)
        p = 1 - 0.1 * (1 if g > 0 else -1)
        student.adamw_step(np.ones(1), np.array([g]), zero, zero, 1, 0.1, (0.9, 0.95), 1e-8, 0.0).equals(
            (np.array([p]), np.array([0.1 * g]), np.array([0.05 * g * g])),
            instead=known(np.ones(1), np.array([g]), zero, zero, 1, 0.1, (0.9, 0.95), 1e-8, 0.0),
        )
    rng = np.random.default_rng(3)
    for shape, step, eps, decay in [((1,), 1, 0.5, 0.3), ((2,), 3, 0.5, 0.3), ((3, 2), 10, 1e-8, 0.1)]:
        p, g, m, v = draw(rng, *shape), draw(rng, *shape), draw(rng, *shape), np.abs(draw(rng, *shape))
        if step == 1:
            m, v = np.zeros(shape), np.zeros(shape)
        arguments = (p, g, m, v, step, 0.2, (0.7, 0.9), eps, decay)
        student.adamw_step(*arguments).equals(adamw(*arguments), instead=known(*arguments))
        for means in ((0 * m, 0 * v), (m, v)):
            arguments = (p, 0 * g, *means, step + 1, 0.2, (0.7, 0.9), eps, decay)
            student.adamw_step(*arguments).equals(adamw(*arguments), instead={ZERO: lambda got: len(got) == 3})


ZERO = "Where the gradient is zero, p is passed over: it decays all the same, and moves by what the means hold."


def known(*arguments):
    """Return {hint: result of the mistake}, for the mistakes that make a difference here."""
    right = adamw(*arguments)
    wrong = {hint: adamw(*arguments, change=change) for change, hint in STEPS.items()}

    def is_in_another_order(got):
        return len(got) == 3 and any(same(got[0], part) for part in right[1:]) and same(sum(got), sum(right))

    hints = {"The results are (p, m, v): the new ones, in this order.": is_in_another_order}
    hints["p itself is asked for, not the change of it."] = lambda got: same(got[0], right[0] - arguments[0])
    return hints | {hint: got for hint, got in wrong.items() if not all(map(same, got, right))}


# Task 4


def run(table, bias, fixed, batches, steps, peak, warmup, weight_decay, change=""):
    """Train by hand with logits = table[ids] + bias + fixed, whose gradient can be written down."""
    weights = {"table": table.copy(), "bias": bias.copy()}
    moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in weights.items()}
    gradient = {name: np.zeros_like(w) for name, w in weights.items()}
    losses = []

    def look(ids):
        logits = weights["table"][ids] + weights["bias"] + fixed
        return surprise(logits[:, :-1], ids[:, 1:]).mean(), loss_gradient(logits, ids)

    for step in range(steps):
        ids = batches[0 if change == "first batch" else step % len(batches)]
        loss, g = look(ids)
        if change != "accumulated" and not (change == "forgotten once a round" and step % len(batches)):
            gradient = {name: np.zeros_like(w) for name, w in weights.items()}
        np.add.at(gradient["table"], ids, g)
        gradient["bias"] = gradient["bias"] + g.sum(axis=(0, 1))
        at = {"rate from step 1": step + 1, "rate at the end": steps - 1}.get(change, step)
        lr = peak if change == "constant rate" else height(at, steps, 0 if change == "no warmup" else warmup) * peak
        for name, w in weights.items():
            decay = weight_decay if name == "table" or change == "vectors decay" else 0.0
            decay = {"no decay": 0.0, "default decay": 0.1 * (name == "table")}.get(change, decay)
            decay = weight_decay * (name == "bias") if change == "only vectors decay" else decay
            m, v = moments[name]
            if change == "means forgotten":
                m, v = np.zeros_like(w), np.zeros_like(w)
            number = 1 if change == "always step 1" else step + 1
            number = max(step, 1) if change == "1 twice" else number
            number = step + 2 if change == "counted from 2" else number
            new, m, v = adamw(w, gradient[name], m, v, number, lr, weight_decay=decay)
            if change == "plain descent":
                new = w * (1 - lr * decay) - lr * gradient[name]
            if change != "not written back":
                weights[name] = new
            moments[name] = m, v
        losses.append(look(ids)[0] if change == "loss afterwards" else loss)
    return {"losses": np.array(losses), **weights, "fixed": fixed}


def height(step, steps, warmup):
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.9 * cos(pi / 2 * (step - warmup) / max(1, steps - warmup)) ** 2


RUNS = {
    "forgotten once a round": "The gradients add up over a round of batches: set p.grad to None after each step.",
    "1 twice": "adamw_step is told 1 twice: the second step is 2.",
    "accumulated": "The gradients of earlier steps are still there: set p.grad to None after each step.",
    "constant rate": "The learning rate stays at its peak: ask learning_rate at each step.",
    "no warmup": "There is no warmup: hand `warmup` on to learning_rate.",
    "rate from step 1": "learning_rate counts steps from 0.",
    "rate at the end": "learning_rate is asked for the last step only: ask at each step.",
    "always step 1": "adamw_step is told step 1 each time: its count goes up.",
    "counted from 2": "adamw_step counts from 1: the first step is 1, not 2.",
    "means forgotten": "m and v begin at zero in each step: keep what adamw_step returns for the next one.",
    "vectors decay": "The bias decays, too: weight decay is for matrices, p.ndim > 1.",
    "only vectors decay": "Vectors decay and matrices do not: it is the other way round.",
    "no decay": "Nothing decays: hand weight_decay on for matrices.",
    "default decay": "The decay is adamw_step's default: hand weight_decay on.",
    "first batch": "Each step sees the first batch: take the next one, and begin again when all have been used.",
    "plain descent": "That is plain gradient descent: the update is adamw_step's.",
    "not written back": "The weights do not change: assign p.data what adamw_step returns.",
    "loss afterwards": "The loss is measured after the update: keep the one from before.",
}

NAN = "The weights are NaN: adamw_step counts steps from 1, the loop from 0."
OWN_DECAY = "A matrix whose gradient is all zeros moves by its decay alone: each parameter has its own m and v."
OWN = "m and v are another parameter's: each parameter has its own."
WORDS = "the expert reads a text and another text then the expert writes what the text asks".split()


def little_text(count, seed):
    """Draw words in random order, as ids of characters."""
    text = " ".join(np.random.default_rng(seed).choice(WORDS, size=count))
    letters = sorted(set(" ".join(WORDS)))
    return np.array([letters.index(letter) for letter in text]), len(letters)


def training_inputs(d):
    size, count, steps = d.size(2, 3), d.number(1, 2, 3), d.number(1, 2, 5)
    batch, length = d.size(1, 2), d.size(2, 4)
    arrays = [d.array(*shape, kinds=(NORMAL,), dtype="float64") for shape in ((size, size),) * 2 + ((size,),) * 2]
    arrays += [d.array(size, size, kinds=(NORMAL,), dtype="float64") for _ in range(2)]
    thin = d.array(*d.choice((1, size), (size, 1)), kinds=(NORMAL,), dtype="float64")
    arrays += [d.fine(PARTS["thin"], None, thin)]
    sizes = [(batch, length), *((d.size(1, 2), d.size(2, 4)) for _ in range(2))]
    batches = [d.whole(*size_of_batch, below=size) for size_of_batch in sizes][:count]
    return tuple(arrays), batches, steps, d.number(0.05, 0.1), d.number(0, 2, 3), d.number(0.1, 0.0, 3.0)


def turns_inputs(d):
    arrays, batches, _, *rest = training_inputs(d)
    others = *(d.array(*array.shape, kinds=(NORMAL,), dtype="float64") for array in arrays[:-1]), arrays[-1]
    return arrays, others, batches, d.number(3, 2), *rest


TURNS = {
    "another model": "Right for one model, wrong for a second: m and v are each model's own, and begin at zero.",
    "the first again": "Right for a new model, wrong for one that was trained before: each call of train begins anew, "
    "with m and v at zero and at step 0.",
}
PARTS = {
    "trains": "What trains and what is frozen is the caller's to say: leave requires_grad as it is.",
    "fixed": "A frozen parameter was changed: requires_grad says what trains, and what does not train does not decay.",
    "fixed, with an old gradient": fine("A frozen parameter moves where a gradient was left: ask requires_grad."),
    "thin": fine("A matrix with a single row or column is a matrix, too: it decays, since it has two axes."),
    "second": "It has the shape of another parameter: each parameter has its own m and v.",
    "tensors": "A loss is a Tensor still, which holds on to its graph: .item() is its number.",
}


@task(4)
def loop(student):
    """What happens once, before the first step? And what in each step, in which order?

    Once: the list of parameters that train, and zeros for their m and v. Each step: loss, backward, rate; for each
    parameter adamw_step, write back, forget the gradient.

    Two batches and five steps: batches 0 1 0 1 0, rates of steps 0 … 4, adamw_step's counts 1 … 5. A matrix and a bias:
    two pairs of means, from zeros, each pair replaced by what adamw_step gives; the bias with decay 0.
    """
    search(student.driver.mixed, training_inputs, examples=25, hints=PARTS, tolerance=1e-4)
    search(student.driver.in_turns, turns_inputs, examples=10, hints=TURNS, tolerance=1e-4)
    rng = np.random.default_rng(4)
    for size, count, steps, warmup, decay in [(2, 1, 1, 0, 0.0), (2, 2, 4, 2, 0.0), (3, 2, 5, 2, 3.0)]:
        batches = [rng.integers(size, size=(2, 4)) for _ in range(count)]
        table, bias, fixed = draw(rng, size, size), draw(rng, size), draw(rng, size)
        arguments = (table, bias, fixed, batches, steps, 0.05, warmup, decay)
        right = run(*arguments)
        answer = student.driver.trained(*arguments)
        mistakes = {
            "A frozen parameter has no gradient: leave out those with requires_grad False.": (
                raised("TypeError", "NoneType")
            ),
            "The batches are used up before the steps are: begin again from the first.": raised("IndexError"),
            OWN: raised("ValueError", "shape"),
        }
        answer.returns(mistakes)

        def is_run(got, change):
            return all(same(got[name], value) for name, value in run(*arguments, change=change).items())

        differ = [c for c in RUNS if not all(same(v, right[n]) for n, v in run(*arguments, change=c).items())]
        answer["losses"].holds(
            lambda losses: len(losses) == steps,
            f"{steps} losses, one per step",
            "There is one loss per step.",
            instead={"Return the losses.": None},
        )
        whole = answer.value
        for name in ("fixed", "losses", "table", "bias"):
            hints = {RUNS[c]: (lambda got, c=c: is_run(whole, c)) for c in differ}
            if name == "fixed":
                hints = {"A frozen parameter was changed: only those with requires_grad train.": lambda got: True}
            else:
                hints[OWN] = lambda got: np.shape(got) != np.shape(right[name])
                hints[NAN] = lambda got: not np.isfinite(got).all()
            answer[name].equals(right[name], instead=hints)

    idle = draw(rng, 2, 2)
    shrunk = idle * np.prod([1 - 0.05 * 3.0 * height(step, 5, 2) for step in range(5)])
    mistakes = {"A matrix whose gradient is all zeros was passed over: it trains, so it decays.": idle}
    student.driver.idle(draw(rng, 2, 2), idle, [rng.integers(2, size=(2, 4))], 5, 0.05, 2, 3.0)["idle"].equals(
        shrunk, mistakes, hint=OWN_DECAY
    )
    for shape in ((33, 3), (2, 64), (1, 70)):
        kind = "few texts, wrong for many at once" if shape[1] == 3 else "short texts, wrong for long ones"
        hint = f"Right for {kind}: a batch counts as a whole, whatever {'B' if shape[1] == 3 else 'T'} is."
        weights, batches = (draw(rng, 3, 3), draw(rng, 3), draw(rng, 3)), [rng.integers(3, size=shape)]
        answer = student.driver.trained(*weights, batches, 3, 0.05, 2, 0.1)
        answer.returns({hint: raised("Exception")})
        right = run(*weights, batches, 3, 0.05, 2, 0.1)
        for name in ("losses", "table", "bias"):
            answer[name].equals(right[name], hint=hint)

    ids, vocabulary = little_text(120, seed=0)
    one = [ids[:64].reshape(4, 16)]
    answer = student.driver.language_model(vocabulary, one, one[0], 60, 0.03, 5)
    answer["losses"].holds(
        lambda losses: losses[-1] < 0.3 < losses[0],
        "a model that has learned one batch by heart: a last loss below 0.3",
        "A single batch is not learned by heart.",
    )
    batches = [np.stack([ids[s : s + 24] for s in rng.integers(len(ids) - 24, size=8)]) for _ in range(60)]
    test, _ = little_text(60, seed=1)
    test = test[: len(test) // 24 * 24].reshape(-1, 24)
    counts = np.array(list(Counter(test.ravel().tolist()).values()))
    entropy = -(counts / counts.sum() * np.log(counts / counts.sum())).sum()
    answer = student.driver.language_model(vocabulary, batches, test, 60, 0.02, 5)
    answer["held out"].holds(
        lambda loss: loss < 0.9 * entropy,
        f"on held-out text, a loss well under the unigram entropy of {entropy:.2f}",
        "The model has learned no more than how frequent each letter is.",
    )


# Task 5


def chosen_from(logits, temperature, top_k):
    """Compute the probabilities token by token, from the sorted logits."""
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    allowed = order if top_k is None else order[:top_k]
    p = np.zeros(len(logits))
    for i in allowed:
        p[i] = 1 / sum(np.exp((logits[j] - logits[i]) / temperature) for j in allowed)
    return p


TIED = fine(
    "Where tokens are equally likely, more than k may stay, or at temperature 0 more than one: go by places in the "
    "order, not by a threshold."
)
CLOSE = fine("Temperature 0 is not a small one: the likeliest token is chosen, however small its lead.")
FAR = fine("Logits of ±1000 overflow, or all underflow: take the largest off before exp.")
MORE = fine("top_k may be larger than the vocabulary: then all tokens may come.")


def choice_inputs(d):
    temperature = d.number(1.0, 0.5, 2.0, 0.0, 50.0, 1e5)
    dtype = "float64" if temperature > 2 else None  # so hot, float32 takes small leads for ties, in which any may stay
    size, is_tied = d.size(1, 6), d.fine(TIED, False, True)
    logits = d.array(size, kinds=("ties",) if is_tied else (d.fine(CLOSE, "normal", "tiny"),), dtype=dtype)
    if not is_tied:
        logits = logits + (d.whole(1, below=3) + np.arange(size)) * np.abs(logits).max() / 50  # so that none is equal
        logits = logits[np.argsort(d.whole(size, below=1000))].astype(logits.dtype)
    if d.fine(FAR, False, True):
        logits = (logits * 1000).astype("float64")
    top_k = d.number(None, 1, 2, 3)
    return logits, temperature, d.fine(MORE, top_k if top_k is None else min(top_k, size), 9)


@task(5)
def probabilities(student):
    """In which order: temperature, forbidding, dividing by the sum?

    exp((logits - max) / temperature); zero for all but the k largest; then divide by the sum. Temperature 0 is top-1.

    Logits [1, 3, 2] at temperature 0.5 and k = 2: less the maximum [-2, 0, -1], by 0.5 [-4, 0, -2], exp [0.02, 1,
    0.14], the third likeliest to 0: [0, 1, 0.14], by the sum [0, 0.88, 0.12].
    """
    search(student.driver.shared_out, choice_inputs, examples=100, tolerance=1e-4)
    rng = np.random.default_rng(5)
    two, five = np.array([1.0, 2.0]), np.array([0.5, 2.0, -1.0, 1.0, 0.0])
    cases = [(two, 1.0, None), (two, 0.5, None), (five, 1.0, 2), (five, 2.0, 3), (five, 0.7, 5)]
    cases += [(np.round(rng.permutation(12) * 0.3, 1), 0.8, 4)]
    for logits, temperature, top_k in cases:
        plain = softmax(logits)
        top = np.argsort(-logits)[:top_k]
        warm = softmax(logits / temperature)
        cut = np.where(np.isin(np.arange(len(logits)), top), warm, 0)
        hidden = np.where(np.isin(np.arange(len(logits)), top), logits / temperature, 0)
        smallest = np.argsort(logits)[:top_k]
        upside_down = np.where(np.isin(np.arange(len(logits)), smallest), warm, 0)
        mistakes = {
            "Top-k has no effect.": warm,
            "The logits are multiplied by the temperature: divide.": chosen_from(logits, 1 / temperature, top_k),
            "The temperature has no effect: divide the logits by it, before exp.": chosen_from(logits, 1, top_k),
            "The probabilities are divided by the temperature: the logits are, before exp.": plain / temperature,
            "The forbidden tokens' share is lost: divide by the sum after they are set to 0.": cut,
            "The least likely tokens were kept.": upside_down / upside_down.sum(),
            "Forbidden logits were set to 0, and exp(0) is 1: their probability has to be 0.": softmax(hidden),
            "One token too many was kept.": lambda p: same(p, chosen_from(logits, temperature, top_k + 1)),
            "One token too few was kept.": lambda p: same(p, chosen_from(logits, temperature, top_k - 1)),
            "Those are not probabilities: divide by the sum.": lambda p: np.sum(p) > 1.001,
            "top_k None means that all tokens may come.": raised("TypeError"),
        }
        student.next_token_probabilities(logits, temperature, top_k).equals(
            chosen_from(logits, temperature, top_k), mistakes
        )
    for logits, top_k in [(two, None), (five, 3), (five, None)]:
        mistakes = {
            "Temperature 0 divides by zero: all goes to the likeliest token.": lambda p: True,
            "Temperature 0 divides by zero; all goes to the likeliest token.": raised("ZeroDivisionError"),
        }
        student.next_token_probabilities(logits, 0.0, top_k).equals(1.0 * (logits == logits.max()), mistakes)
    close = np.array([1.0, 1.0 + 1e-12, 0.5])
    student.next_token_probabilities(close, 0.0, None).equals(
        np.array([0.0, 1.0, 0.0]),
        hint=CLOSE,
    )
    for scale in (1000.0, -1000.0, -1e5):
        logits = scale + five
        mistakes = {
            fine(
                "What is forbidden comes where all logits are far below zero: its probability has to be 0 whatever "
                "they are, so put -inf in place of its logit, or cut after exp."
            ): lambda p: np.any(p[[2, 4]] > 0)
        }
        student.next_token_probabilities(logits, 0.5, 3).equals(chosen_from(five, 0.5, 3), mistakes, hint=FAR)
    tied = np.array([1.0, 2.0, 2.0, 0.0, 2.0])
    for temperature, top_k, count in ((0.0, None, 1), (0.0, 3, 1), (1.0, 1, 1), (1.0, 2, 2)):
        student.next_token_probabilities(tied, temperature, top_k).holds(
            lambda p: same(np.sort(p), [0] * (5 - count) + [1 / count] * count) and same(p[[0, 3]], [0, 0]),
            f"{count} of the three likeliest, which are equally likely, and 0 for all others",
            "Where tokens are equally likely, others stay than the likeliest.",
            instead={TIED: lambda p: np.count_nonzero(p) > count},
        )


# Task 6


def sums(vocabulary, prompt, count, window=0, but=0):
    """Continue a text by its sums. window: the number of tokens that are seen, 0 for all; but: last ones left out."""
    ids = list(prompt)
    for _ in range(count):
        ids.append((sum(ids[-window : len(ids) - but]) + 1) % vocabulary)
    return np.array(ids)


def writing_inputs(d):
    plain = d.number(5, 7, 300), d.whole(d.number(2, 1, 3), below=5)
    narrow = (300, np.array([200, 90], dtype="uint8")), (70_000, np.array([5000, 61_000], dtype="uint16"))
    more = d.number(1, 3, 0, 4), d.number(1.0, 0.0), d.number(None, 1, 3), d.number(0, 1, 2)
    return *d.fine(ROOM, plain, *narrow), *more


LONG_PROMPT = np.arange(5000) % 89
WINDOWS = (*range(2, 65), 100, 128, 200, 256, 500, 512, 1000, 1024, 2000, 2048, 4096)
ROOM = fine("The larger ids do not fit in the prompt's dtype: the result has room for all of them.")
WRITTEN = {
    "gradients recorded": "no_grad() is still on afterwards, and nothing would train: use it in a with statement.",
    "what trains": "What trains has changed: writing leaves the model as it is.",
}


@task(6)
def writing(student):
    """What does the model need to see, and which of its answers counts?

    It reads the whole text so far, as (1, T); the logits at the last place say what comes next.

    After the prompt [3, 1]: model([[3, 1]]) gives (1, 2, V), of which [0, 1] counts; say token 4 is drawn. Then
    model([[3, 1, 4]]), of which [0, 2] counts. np.random.default_rng(0).choice(3, p=[0.2, 0.5, 0.3]) draws once.
    """
    search(student.driver.sums, writing_inputs, hints=WRITTEN)
    for vocabulary, prompt, count in [
        (7, [3, 1, 5], 1),
        (5, [3, 1, 0], 3),
        (7, [2], 4),
        (11, [4, 9, 3], 12),
        (5, [2, 2], 0),
        (7, [3, 1], 70),
        (97, LONG_PROMPT, 2),
    ]:
        plain = [int(token) for token in prompt]
        right, last_alone = sums(vocabulary, plain, count), sums(vocabulary, plain, count, 1)
        for temperature in (1.0, 0.0):
            answer = student.driver.sums(vocabulary, prompt, count, temperature, None, 0)
            mistakes = {"The model reads (B, T): one text is np.array([ids]).": raised("ValueError", "shape (B, T)")}
            answer.returns(mistakes)
            mistakes = {
                "The model sees the last token alone: it reads all of the text so far.": last_alone,
                "The model sees some of the last tokens alone: it reads all of the text so far.": lambda ids: any(
                    same(ids, sums(vocabulary, plain, count, window)) for window in WINDOWS
                ),
                "Right in a short text, wrong in a long one: the model reads all of it.": lambda ids: (
                    len(right) > 70 and same(ids[:8], right[:8])
                ),
                "The prompt is missing: the result begins with it.": right[len(prompt) :],
                "The prompt was left out of sight: the text so far includes it.": lambda ids: (
                    len(ids) < len(prompt) + count
                ),
                "The prompt was changed: the result begins with it.": lambda ids: list(ids[: len(prompt)]) != plain,
                "One token too many was written.": lambda ids: len(ids) == len(right) + 1,
                "The first place is asked: the logits at the last place say what comes next.": (
                    plain + count * [(plain[0] + 1) % vocabulary]
                ),
                "The place before the last is asked: the logits at the last place say what comes next.": (
                    sums(vocabulary, plain, count, but=1)
                ),
            }
            answer["ids"].equals(right, mistakes)
    logits = np.array([2.0, 0.0, 1.0, 2.0])
    student.driver.dice(logits + np.array([0, 0, 0, 1]), 12, 1.0, 1, 0).equals(
        np.array([0] + 12 * [3]),
        hint="top_k does not reach next_token_probabilities: with 1, only the likeliest may come.",
    )
    logits = np.array([3.0, 0.0, 1.5, 4.0])
    for temperature, top_k in [(1.0, None), (3.0, None), (4.0, 3)]:
        p = chosen_from(logits, temperature, top_k)

        def near(texts, p):
            counts = np.bincount(np.concatenate([text[1:] for text in texts]), minlength=4)
            return np.abs(counts / counts.sum() - p).max() < 0.05

        def is_one_token(text):
            return len(set(text[1:].tolist())) == 1

        student.driver.dices(logits, 100, temperature, top_k, list(range(15))).holds(
            lambda texts: all(len(text) == 101 for text in texts) and near(texts, p),
            f"15 times 100 tokens, about in the shares {p.round(2)}",
            "The tokens do not come in the shares that next_token_probabilities says.",
            instead={
                "A text has another length: no token is an end here.": lambda texts: any(len(t) != 101 for t in texts),
                "The likeliest token comes every time: draw by the probabilities.": lambda texts: all(
                    (text[1:] == 3).all() for text in texts
                ),
                "The seed is not used: draw from rng.": lambda texts: len({text.tobytes() for text in texts}) == 1,
                "Each draw is the same: make the generator once, not anew for each token.": lambda texts: all(
                    map(is_one_token, texts)
                ),
                "The temperature is applied twice: next_token_probabilities divides by it.": lambda texts: near(
                    texts, chosen_from(logits, temperature**2, top_k)
                ),
                "The temperature does not reach next_token_probabilities.": lambda texts: near(
                    texts, chosen_from(logits, 1.0, top_k)
                ),
                "top_k does not reach next_token_probabilities.": lambda texts: near(
                    texts, chosen_from(logits, temperature, None)
                ),
                "All tokens come equally often: draw by the probabilities.": lambda texts: near(
                    texts, np.full(4, 0.25)
                ),
            },
        )
    student.driver.dice(np.zeros(200), 150, 1.0, None, 0).holds(
        lambda ids: len(set(ids[1:].tolist())) > 70,
        "more than 70 kinds of token in 150 draws of 200 equal ones",
        "Only a part of the vocabulary comes: where top_k is None, all tokens may.",
    )
    ones = [student.driver.dice(logits, 40, 1.0, None, seed) for seed in (5, 5, 6)]
    ones[1].equals(ones[0].value, hint="The same seed gives another text: draw from rng.")
    ones[2].holds(
        lambda ids: list(ids) != list(ones[0].value),
        "another text than with seed 5",
        "The seed is not used: draw from rng.",
    )
