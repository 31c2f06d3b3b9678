"""The checks of lesson 07. They run in the checker's process; driver.py runs beside the student's code."""

import numpy as np

from minilora.classroom import draw, fine, promise, raised, search, task

USES = ("minilora.Tensor", "minilora.no_grad", "minilora.nn")
PROMISES = {
    "bits_of": promise(within="padding"),
    "replay_price": promise(outside="large"),  # no probability is
}


def log_p_of(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def nats_of(logits: np.ndarray, labels: np.ndarray, shift: int = 1, ignored: bool = True) -> np.ndarray:
    """Return the nats of each label that counts, (N,). shift: distance from a label's logits to the label."""
    logits, labels = (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
    counts = labels != -100 if ignored else np.ones(labels.shape, bool)
    index = np.where(labels == -100, 0, labels)
    return -np.take_along_axis(log_p_of(logits), index[..., None], axis=-1)[..., 0][counts]


@task(1)
def bits(student):
    """Which label do the logits at position t speak of? And which labels count at all?

    Shift: logits[:, :-1] against labels[:, 1:]. Take the maximum off before np.exp. Leave out where it is -100.

    Logits [1000, 1000] after a first token, and a label 1 for the second: less the maximum they are [0, 0], the
    probabilities are 1/2 each, and -log₂(1/2) is 1 bit. A third token with the label -100 adds nothing.
    """
    search(student.bits_of, bits_inputs, tolerance=1e-4)
    rng = np.random.default_rng(1)
    for shape, padding in [((1, 2, 3), 0), ((1, 3, 3), 0), ((2, 4, 3), 0), ((2, 4, 5), 2)]:
        logits, labels = draw(rng, *shape), rng.integers(0, shape[-1], shape[:2])
        if padding:
            labels[0, -padding:] = -100
        bits_are(student, logits, labels)
    bits_are(student, np.array([[[1000.0, 0.0], [0.0, 0.0], [-1000.0, 0.0]]]), np.array([[0, 0, 1]]))
    bits_are(student, np.array([[[1000.0, 0.0], [0.0, 0.0]]]), np.array([[0, 1]]))
    student.bits_of(draw(rng, 2, 1, 3), np.array([[2], [0]])).equals(0.0, hint=ONE_TOKEN)


ONE_TOKEN = fine("A row of one token predicts nothing, and costs 0 bits.")


def bits_inputs(d):
    n, length, size = d.size(1, 3), d.fine(ONE_TOKEN, d.choice(2, 3, 4), 1), d.choice(2, 3, 4)
    labels = d.whole(n, length, below=size)
    if d.choice(False, True):
        labels = np.where(d.mask(n, length), labels, -100)
    return d.array(n, length, size), labels


def bits_are(student, logits, labels):
    nats = nats_of(logits, labels)
    right = nats.sum() / np.log(2)
    wrapped = labels % logits.shape[-1]  # what -100 takes as an index, where it fits
    not_left_out = "Labels of -100 do not count: leave them out."
    at_zero = not_left_out + " A label of 0 does, as any other token."
    is_far = right > 1000  # a logit far below the largest
    capped = "A small number in the logarithm caps what an improbable token costs: log p is z - log Σ eᶻ, exactly."
    instead = {
        at_zero: lambda got: close(got, nats_of(logits, np.where(labels == 0, -100, labels)).sum() / np.log(2)),
        "These are nats: divide by log(2), or use log₂.": nats.sum(),
        "Not shifted: the logits at position t are about the token at t + 1.": (
            lambda got: close(got, nats_of(logits, labels, shift=0).sum() / np.log(2))
        ),
        "This is the mean of the bits: add them up.": lambda got: close(got, right / len(nats)) and len(nats) > 1,
        "The sign is the other way round: a probability's logarithm is negative, its cost is not.": -right,
        not_left_out: lambda got: any(
            close(got, nats_of(logits, all_of, ignored=False).sum() / np.log(2)) for all_of in (labels, wrapped)
        ),
        "np.exp overflowed, or gave 0 for all tokens of a place: take off each place's own maximum before it.": (
            lambda got: not np.isfinite(got) and not is_far
        ),
        "The probability came to 0, too small for a float: compute its logarithm without it, as z - log Σ eᶻ.": (
            lambda got: not np.isfinite(got) and is_far
        ),
        "Those are logits, no logarithms of probabilities: the softmax is missing.": (
            lambda got: close(got, -picked(logits, labels).sum() / np.log(2))
        ),
        not_left_out + " As an index, it does not fit.": raised("IndexError"),
        capped: lambda got: is_far and 0 < got < right / 10,
        "Nearly right: is it computed in too few digits (float16), or is something small added?": (
            lambda got: abs(got - right) < 0.01 * right
        ),
    }
    student.bits_of(logits, labels).equals(right, instead=instead)


def picked(logits, labels):
    counts = labels[:, 1:] != -100
    index = np.where(counts, labels[:, 1:], 0)
    return np.take_along_axis(logits[:, :-1], index[..., None], axis=-1)[..., 0][counts]


def close(a, b) -> bool:
    return bool(abs(a - b) <= 1e-6 * max(abs(b), 1e-2))


@task(2)
def probing(student):
    """What must be put back after looking? And what is divided by what, and when?

    Remember model.training first. Add up the bits of all batches; divide once, by the characters.

    Two batches that cost 6 and 2 bits, a text of 4 characters: (6 + 2) / 4 = 2. A borrowed lamp goes back as it was:
    was_on = lamp.is_on; lamp.is_on = False; …; lamp.is_on = was_on, and not lamp.is_on = True.
    """
    search(student.driver.probed, probe_inputs, examples=40, hints=PROBED)
    rng = np.random.default_rng(2)
    table = draw(rng, 4, 4)
    sizes = [[(1, 3)], [(2, 4), (1, 3)], [(1, 5), (2, 3), (1, 2)]]
    for training in (False, True):
        for shapes in sizes:
            batches = []
            for number, shape in enumerate(shapes):
                ids = rng.integers(0, 4, shape)
                labels = ids.copy()
                if number:
                    labels[:, -1] = -100
                batches.append({"input_ids": ids, "labels": labels})
            characters = 10 * len(shapes)
            costs = [nats_of(table[b["input_ids"]], b["labels"]) / np.log(2) for b in batches]
            right = sum(cost.sum() for cost in costs) / characters
            answer = student.driver.probed(table, batches, characters, training)
            mistakes = {
                "Batches may have other shapes: hand them to the model one by one.": raised("ValueError", "concat")
            }
            answer.returns(mistakes)
            answer["modes"].holds(
                lambda modes: modes == ["evaluation"] * len(batches),
                f"{len(batches)} calls of the model, in evaluation mode",
                "Call the model once a batch.",
                instead={"The model computed in training mode, with dropout: model.eval() first.": is_in_training},
            )
            answer["graphs"].holds(
                lambda graphs: not any(graphs),
                "no graph",
                "A graph was built, for which all activations are kept: compute under `with no_grad():`.",
            )
            mistakes = {
                "Not divided by the characters.": right * characters,
                "These are bits per token: divide by the characters of the text.": (
                    sum(c.sum() for c in costs) / max(sum(map(len, costs)), 1)
                ),
                "Each batch was divided apart and the means averaged: add up all bits, then divide once.": (
                    right / len(batches)
                ),
                "Only the last batch was counted: add up over all.": costs[-1].sum() / characters,
                "Only the first batch was counted: add up over all.": costs[0].sum() / characters,
            }
            answer["bits"].equals(right, mistakes)
            mistakes = {
                "The model was left in evaluation mode: put it back into training mode.": (
                    {"training": False, "dropout": False}
                ),
                "The model was put into training mode, and had not been in it: put back the mode that it was in.": (
                    {"training": True, "dropout": True}
                ),
                "Only the model's own flag was put back, not those of its parts: call model.train(…).": (
                    lambda after: after["training"] != after["dropout"]
                ),
            }
            answer["after"].equals({"training": training, "dropout": training}, mistakes)
    bits = sum(nats_of(-table[b["input_ids"]], b["labels"]).sum() for b in batches) / np.log(2) / characters
    hint = "A second probe, with other weights and another mode, is wrong: is something kept of the first?"
    student.driver.probed(table, batches, characters, False)["a second probe"].equals(
        {"bits": bits, "training": True}, hint=hint
    )


PROBED = {
    "trains": "What is frozen and what trains is another afterwards: no_grad() needs no change of that.",
    "graph afterwards": "No graph is built after the probe, either: leave no_grad() again.",
    "gradient": fine("The gradient that a weight had is another afterwards: the probe leaves it as it was."),
    "is drawn anew": fine("After each probe, the same random numbers are drawn: leave the seed alone."),
}


def probe_inputs(d):
    batches = []
    for _ in range(d.choice(1, 2, 3)):
        shape = d.size(1, 3), d.fine(ONE_TOKEN, d.choice(2, 3, 4), 1)
        labels = d.whole(*shape, below=4)
        batches.append({"input_ids": d.whole(*shape, below=4), "labels": np.where(d.mask(*shape), labels, -100)})
    return d.array(4, 4), batches, d.number(10, 7, 31), d.choice(False, True)


def is_in_training(modes: list) -> bool:
    return "training" in modes


@task(3)
def reading(student):
    """Which probe would you keep, if the new text is all that the training was for?

    kept = np.argmin(new). Fewer bits are better: which difference is a gain, and which a loss?

    New text 3.0, 2.0, 2.5 and old text 1.0, 1.5, 4.0: kept is probe 1, by then 3.0 - 2.0 bits were gained on the new
    text, and 1.5 - 1.0 lost on the old one: (1, 1.0, 0.5).
    """
    search(student.learned_and_forgotten, curve_inputs)
    curves = [
        ([3.0, 2.5, 2.75], [1.5, 1.25, 2.0]),
        ([4.0, 3.0, 3.25, 3.875, 3.75], [2.0, 3.5, 1.75, 1.5, 2.5]),
        ([3.0, 2.5, 2.25, 2.375], [1.5, 1.375, 2.0, 2.75]),
        ([2.0, 2.25, 2.5], [2.0, 1.75, 1.5]),
    ]
    for new, old in curves:
        k, last, low = int(np.argmin(new)), len(new) - 1, int(np.argmin(old))
        learned, forgotten, high = new[0] - new[k], old[k] - old[0], int(np.argmax(new))
        both, later = int(np.argmin(np.add(new, old))), 1 + int(np.argmin(new[1:]))
        mistakes = {
            "The first probe may be the best: then nothing was learned, and nothing was forgotten.": (
                lambda got: k == 0 and got[0] == later
            ),
            "The probe is the one that is best on the new text; this one is best on both together.": (
                lambda got: both not in (k, low, last) and got[0] == both
            ),
            "What was forgotten may be negative: then the old text got better, too.": (
                k,
                learned,
                max(forgotten, 0),
            ),
            "Most bits are worst: the probe that is kept has the fewest.": (
                high,
                new[0] - new[high],
                old[high] - old[0],
            ),
            "The last probe is not always the best: keep the one with the fewest bits on the new text.": (
                (last, new[0] - new[last], old[last] - old[0])
            ),
            "The probe is the one that is best on the new text; this one is best on the old.": (
                (low, new[0] - new[low], old[low] - old[0])
            ),
            "What was learned has the wrong sign: fewer bits than before is a gain.": (k, -learned, forgotten),
            "What was forgotten has the wrong sign: more bits than before is a loss.": (k, learned, -forgotten),
            "Both signs are the wrong way round: bits are a cost.": (k, -learned, -forgotten),
            "Learned is about the new text, forgotten about the old: they have changed places.": (
                lambda got: close(got[1], forgotten) and close(got[2], learned)
            ),
            "What was forgotten is read at the probe that is kept, not where it is worst.": (
                (k, learned, max(old) - old[0])
            ),
            "Compared with the probe before, not with the first: the first is from before the training.": (
                lambda got: k and close(got[1], new[k - 1] - new[k]) and close(got[2], old[k] - old[k - 1])
            ),
        }
        student.learned_and_forgotten(new, old).equals((k, learned, forgotten), mistakes)


def curve_inputs(d):
    n, step = d.choice(2, 3, 1, 5), d.fine("An improvement counts, however small.", d.choice(0.25, 100.0), 1e-4, 1e-6)
    ties = d.fine("Of probes that are equally good on the new text, keep the first.", 1, 2)
    return [[2 + step * (i // size) for i in d.shuffled(range(n))] for size in (ties, 1)]


@task(4)
def replaying(student):
    """How many old rows should there be after one batch, after two, after ten?

    Keep count of all rows and of the old ones so far; each batch takes as many old rows as are due by now.

    A share of 0.3 in batches of 2 rows: after 1 to 5 batches 0.6, 1.2, 1.8, 2.4 and 3 old rows are due: rounded down 0,
    1, 1, 2 and 3. So the batches hold 0, 1, 0, 1 and 1 old rows.
    """
    for share, rows, n in SHARES:
        answer = student.driver.mixed(share, rows, n)
        answer.returns({"Any share from 0 on and below 1 can be replayed: refuse others alone.": raised("ValueError")})
        answer.holds(
            lambda got, n=n, rows=rows: [np.shape(batch) for batch in got] == [(rows, 2)] * n,
            f"batches of shape ({rows}, 2)",
            "A batch has another shape than (rows, T).",
            instead={
                "The old rows come on top: they take the place of new ones, so that a batch has `rows` rows.": (
                    lambda got, rows=rows: max(len(batch) for batch in got) > rows
                )
            },
        )
        totals = answer.value
        for name, first in (("new", 0), ("old", 1000)):
            answer.holds(
                lambda got, first=first: in_order(got, first),
                f"each {name} row once, in order",
                f"The {name} rows are not those of the iterator, each once and in order: take each by next().",
                instead={
                    f"A row comes again, so the {name} rows are not those of the iterator: take each by next(), into a "
                    "new array; nothing of an earlier call is kept.": comes_again,
                    "The first batch is right, and the second call gives other rows than the iterators' next ones.": (
                        lambda got, first=first: in_order(got[:1], first)
                    ),
                },
            )
        instead = {
            "Each batch rounded for itself, so a small share comes to nothing: keep count over the batches.": (
                lambda old, share=share, rows=rows: 0 < share * rows < 1 and not any(old)
            ),
            "share is the part that is old text, not the part that is new.": (
                lambda old, share=share, rows=rows: abs(sum(old) - len(old) * rows * (1 - share)) < 1 and share < 0.5
            ),
            "At least one old row in each batch is more than the share: keep count over the batches.": (
                lambda old, share=share, rows=rows: share * rows < 1 and all(k >= 1 for k in old)
            ),
            "One old row per batch is too few for this share: take as many as are due.": (
                lambda old, share=share, rows=rows: share * rows > 1 and max(old) == 1
            ),
            "A share need not be one row in so many: 1 / share is rounded to a whole number; keep count of the rows.": (
                lambda old, share=share, rows=rows: is_one_in_so_many(old, share, rows)
            ),
        }
        old, due = old_rows(totals), n * rows * share
        answer.holds(
            lambda got, old=old, share=share, rows=rows: is_met(old, share, rows),
            f"about {due:g} old rows in {n} batches of {rows}, and as due after each",
            "The share is not met: after n batches, the old rows so far number n · rows · share, to within one.",
            instead={hint: lambda got, fits=fits, old=old: fits(old) for hint, fits in instead.items()},
        )
    student.driver.two_replays().holds(
        lambda got: all(in_order(x, 0) and is_met(old_rows(x), y, 4) for x, y in zip(got, (0.35, 0.1), strict=True)),
        "each Replay with its own rows and counts",
        "Two Replays disturb each other: what one has counted and taken belongs to self.",
    )
    student.driver.refused(np.nan).equals(raised("ValueError"), hint=fine("A share of nan must be refused as well."))
    for share in (-0.25, 1.0, 1.5):
        mistakes = {
            "A share below 0, or of 1 and more, must be refused: raise ValueError.": lambda made: True,
            "An assert raises AssertionError; write `if …: raise ValueError(…)`.": raised("AssertionError"),
        }
        student.driver.refused(share).equals(raised("ValueError"), mistakes)
    old, new = np.array([0, 0, 0, 0, 1, 1, 2, 3]), np.array([3, 3, 4, 4, 4, 4, 2, 1])
    lost = {}
    for share in (0.0, 0.25):
        answer = student.driver.rehearsed(old, new, share, 400)
        answer.holds(np.all, "logits", "The training did not come to an end.")
        lost[share] = -log_p_of(answer.value)[old].mean()
    before = -np.log(np.bincount(old) / len(old))[old].mean()
    answer.holds(
        lambda logits: 1 - (lost[0.25] - before) / (lost[0.0] - before) >= 2 / 3,
        "at least two thirds of what is forgotten without replay",
        "A quarter of replay recovers less than it should: are the old rows among those of each batch?",
    )


SHARES = [  # share, rows, batches
    *[(0.0, 2, 2), (0.5, 2, 2), (0.25, 4, 3), (0.125, 2, 9), (0.5, 3, 4), (0.1, 4, 20)],
    *[(0.3, 2, 40), (0.75, 4, 6), (2 / 3, 3, 200), (0.95, 2, 20), (0.035, 4, 100), (1 / 3, 4, 300)],
]


def old_rows(batches: list) -> list[int]:
    """Count the old rows of each batch."""
    return [int((np.asarray(batch)[:, 0] >= 1000).sum()) for batch in batches]


def is_met(old: list[int], share: float, rows: int) -> bool:
    """Return True if, after every batch, the number of old rows is within one of what is due; sums may be rounded."""
    due = np.arange(1, len(old) + 1) * rows * share
    return bool((abs(np.cumsum(old) - due) < 1 + 1e-6).all())


def is_one_in_so_many(old: list[int], share: float, rows: int) -> bool:
    """Return True if every k-th row is old for a whole k, although the share is not 1 / k."""
    every = {int(near(1 / share)) for near in (np.floor, np.round, np.ceil)} if share else set()
    return any(abs(k * share - 1) > 1e-6 and is_met(old, 1 / k, rows) for k in every)


def comes_again(batches: list) -> bool:
    numbers = [int(row[0]) for batch in batches for row in np.asarray(batch)]
    return len(set(numbers)) < len(numbers)


def in_order(batches: list, first: int) -> bool:
    """Return True if the rows of one source are numbered first, first + 1, … (in any order within a batch)."""
    numbers = []
    for batch in batches:
        mine = [int(row[0]) for row in np.asarray(batch) if (row[0] >= 1000) == (first >= 1000)]
        numbers += sorted(mine)
    return numbers == list(range(first, first + len(numbers)))


@task(5)
def pricing(student):
    """What does the model predict? And what would the best model for one of the texts alone predict?

    A token with the share a in a text and p in the mixture costs log₂(a / p) bits more; weigh that by a.

    p_new = [1, 0], p_old = [0, 1], share 1/4: the mixture is [3/4, 1/4]. The new text has token 0 alone, which costs
    log₂(1 / (3/4)) = 0.415 bits, the old one token 1 alone: log₂(1 / (1/4)) = 2 bits.
    """
    search(student.replay_price, price_inputs, tolerance=1e-4)
    cases = [
        ([0.75, 0.25], [0.5, 0.5], 0.25),  # first, because nothing is 0 or infinite: each direction shows
        ([1.0, 0.0], [0.0, 1.0], 0.5),
        ([0.5, 0.25, 0.25, 0.0], [0.0, 0.125, 0.375, 0.5], 0.1),
        ([0.5, 0.5, 0.0], [0.25, 0.25, 0.5], 0.0),
        ([0.25, 0.25, 0.5], [0.5, 0.25, 0.25], 0.0),
    ]
    student.replay_price(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.75, 1e-12]), 0.0).holds(
        lambda got: np.isinf(got[1]),
        "an infinite price for the old text",
        fine("A token that occurs, however seldom, and has probability 0 costs infinitely many bits: keep it."),
    )
    for new, old, share in cases:
        p_new, p_old = np.array(new), np.array(old)
        mixture = (1 - share) * p_new + share * p_old
        other_way = share * p_new + (1 - share) * p_old
        right = (price(p_new, mixture), price(p_old, mixture))
        both = (p_new > 0) & (p_old > 0)
        bounds = (-np.log2(1 - share), -np.log2(share) if share else np.inf)
        mistakes = {
            "A token of one text alone counts too, and is the dearest: leave out what p itself lacks.": tuple(
                (p[both] * np.log2(p[both] / mixture[both])).sum() if share else np.nan for p in (p_new, p_old)
            ),
            "Without replay, only a token that the new text lacks costs infinitely much; the others do not.": (
                lambda got: share == 0 and np.isinf(got[1]) and np.isfinite(right[1])  # noqa: B023
            ),
            "This is the most that replay can cost: texts that share tokens pay less.": bounds,
            "These are nats: use log₂.": tuple(np.log(2) * x for x in right),
            "The new text's price comes first, then the old text's.": right[::-1],
            "share is the part that is old text: p = (1 - share) p_new + share p_old.": (
                price(p_new, other_way),
                price(p_old, other_way),
            ),
            "0 · log 0 became nan: leave out the tokens that do not occur.": (
                lambda got: np.isnan(np.asarray(got, dtype=float)).any()
            ),
            "The sign is the other way round: another text's share costs bits.": tuple(-x for x in right),
            "The sign is the other way round, and these are nats: use log₂.": tuple(-np.log(2) * x for x in right),
            "This is what a token costs at all. Take off what it costs under p_new, or p_old, itself.": (
                lambda got, p_new=p_new, p_old=p_old, m=mixture: all(
                    close(g, cross(p, m)) for g, p in zip(got, (p_new, p_old), strict=True)
                )
            ),
            "Text and mixture have changed places, so it is weighed by the mixture: a token with the share a in the "
            "text and p in the mixture counts a · log₂(a / p).": (price(mixture, p_new), price(mixture, p_old)),
            "It is weighed by the mixture: weigh each token by how often it is in the text that is read.": (
                -price(mixture, p_new),
                -price(mixture, p_old),
            ),
            "A token that occurs and has probability 0 costs infinitely many bits: keep it.": (
                lambda got, right=right: np.isinf(right[1]) and np.all(np.isfinite(got))
            ),
            "Those are the two pure predictions compared: the model predicts the mixture.": (
                price(p_new, p_old),
                price(p_old, p_new),
            ),
        }
        student.replay_price(p_new, p_old, share).equals(right, mistakes)


def price_inputs(d):
    n = d.choice(2, 3, 4, 1, 4000)
    weights = d.whole(2, n, below=4) + (np.arange(n) == n - 1)  # some are 0, not all of them
    many = n > 1000  # whose sum in float32 depends on its order
    p_new, p_old = (weights / weights.sum(axis=1, keepdims=True)).astype("float64" if many else d.dtype)
    return p_new, p_old, d.number(0.25, 0.0, 0.5, 0.9, 1.0)


def price(p: np.ndarray, q: np.ndarray) -> float:
    return cross(p, q) - cross(p, p)


def cross(p: np.ndarray, q: np.ndarray) -> float:
    occurs = p > 0
    with np.errstate(divide="ignore"):
        return float(-(p[occurs] * np.log2(q[occurs])).sum())


@task(6)
def switching(student):
    """Off must cost nothing, not even a rounding. So what is computed where is_on is False?

    if not self.is_on: return self.base(x). In adapter_off: remember, switch off, yield, put back.

    Three lamps that are on, off, on, and must be dark for a while: note [True, False, True], switch all off, yield
    within `try`, and in `finally` give each its own state back. Noted before the first is switched off.
    """
    search(student.driver.one_layer, layer_inputs, parts=LAYER_PARTS, hints=LAYER)
    search(student.driver.switched, model_inputs, examples=120, hints=SWITCHED)
    rng = np.random.default_rng(6)
    for n, width, size in [(1, 2, 1.0), (3, 2, 1.0), (3, 4, 1e6)]:
        x, W, U = draw(rng, n, width), draw(rng, width, width), size * draw(rng, width, width)
        x, W, U = (a.astype("float32") for a in (x, W, U))
        plain, both = x @ W.T, x @ W.T + x @ U.T
        mistakes = {
            "The update is missing: on, it is added.": plain,
            "The base is missing: the update is added to its answer.": x @ U.T,
            "The update looks at the base's answer: it stands beside the base, and both look at x.": (
                lambda y, plain=plain, U=U: near(y, plain + plain @ U.T) or near(y, plain @ U.T)
            ),
        }
        student.driver.one_layer(x, W, U, True, "training")["y"].equals(both, mistakes)
        for blown in (U, np.full_like(U, np.inf)):
            answer = student.driver.one_layer(x, W, blown, False, "training")
            answer["y, off"].holds(
                lambda y, base=answer["base"].value: np.array_equal(y, base),
                "the base's answer, bit for bit",
                "Off, the layer must give self.base(x), bit for bit.",
                instead={
                    "Off was computed through the update, and infinity times 0 is nan: return self.base(x) alone.": (
                        lambda y: np.isnan(y).any()
                    ),
                    "is_on was not looked at: False is the base alone.": lambda y, both=both: near(y, both),
                    "Off is nearly the base: adding the update and taking it off again rounds. Do not add it.": (
                        lambda y, plain=plain: np.allclose(y, plain, rtol=0.1, atol=1.0)
                    ),
                },
            )
    x, weights, updates = draw(rng, 1, 2), [draw(rng, 2, 2), draw(rng, 2, 2)], [draw(rng, 2, 2), draw(rng, 2, 2)]
    x, weights, updates = x.astype("float32"), *([a.astype("float32") for a in w] for w in (weights, updates))
    for off in (False, True):
        answer = student.driver.switched(x, weights, updates, off, "in a list")
        answer.returns(
            instead={"adapter_off must reach a yield, exactly once: the block runs there.": raised("RuntimeError")}
        )
        answer["within"].holds(
            lambda states: states == [False, False],
            "both layers off within the block",
            "Within the block, every SideLayer of the model must be off.",
            instead={"Only a part of the layers is off: there may be several.": lambda s: False in s},
        )
        answer["y"].equals(x @ weights[0].T @ weights[1].T, tolerance=1e-4)
        answer["after"].holds(
            lambda states, off=off: states == [not off, True],
            f"is_on as before: {[not off, True]}",
            "Afterwards, each layer must be as it was before.",
            instead={
                "The layers stay off: after the yield, put back what was.": lambda s: not any(s),
                "All layers are on afterwards, and one was off before: remember each one's own state.": lambda s: all(
                    s
                ),
            },
        )
    answer = student.driver.nested(x, weights, updates)
    answer["inner"].holds(
        lambda states: not any(states),
        "off after the inner block, since the outer one goes on",
        "The inner block switched on what the outer one had switched off: put back what was.",
    )
    answer["outer"].holds(all, "on after the outer block", "After the outer block, the layers must be on again.")
    for kind in ("KeyError", "KeyboardInterrupt"):
        answer = student.driver.interrupted(x, weights, updates, kind)
        answer["came"].holds(
            lambda came: came is True, "the exception to come through", "The exception was swallowed: let it through."
        )
        answer["after"].holds(
            all,
            "on again",
            "After an exception in the block, the layers stay off: put them back in a `finally`.",
        )


LAYER_PARTS = (
    *("kind", "y", "y, off", "y, in evaluation mode", "y, off, in evaluation mode"),
    *("dx", "dU", "is the update computed"),
)
NOT_COMPUTED = fine("Off, the update was computed all the same: ask for is_on first, and return self.base(x) alone.")
LAYER = {
    "y, in evaluation mode": "In evaluation mode the layer gives something else: is_on alone decides what counts.",
    "is the update computed": NOT_COMPUTED,
    "kind": "forward gives a Tensor, as what comes behind it needs its graph.",
    "dx": "The gradient of x is wrong: it comes back through the base, and through the update where that is on.",
}
SWITCHED = {
    "within, within another module": "A SideLayer deeper in the model is on: named_modules() has those of all parts.",
    "graph within": "Within the block no graph is built: it switches is_on alone, and no gradient off.",
    "modes within": "Within the block, parts of the model are in another mode: it switches is_on alone.",
    "lamp within": fine("Something was switched that has an is_on but is not a SideLayer: look at what a module is."),
    "trains within": "The block changed which parameters train: it switches is_on alone.",
    "trains after": "Afterwards, other parameters train than before: it switches is_on alone.",
}


FORMS = {
    "one layer at two paths": "A layer at two paths stays off, or on: note all states, then switch off.",
    "the model itself": "The model may be a SideLayer itself: named_modules() has it, with the path ''.",
    "within a SideLayer": "It goes wrong for a SideLayer within another one: go through all of named_modules().",
    "of a subclass": "It goes wrong for a layer of a subclass: isinstance takes it for a SideLayer, too.",
}


def layer_inputs(d):
    d_in, d_out = d.size(), d.size()
    W, U = d.array(d_out, d_in), d.array(d_out, d_in)
    return d.array(*d.shape((1, 0, 2)), d_in), W, U, d.choice(True, False), d.choice("training", "evaluation")


def model_inputs(d):
    weights, updates = ([d.array(2, 2, kinds=("normal",)) for _ in range(2)] for _ in range(2))
    form = d.choice("in a list", "within another module")
    for other, remark in FORMS.items():
        form = d.fine(remark, form, other)
    mode = d.choice("training", "evaluation")
    return d.array(1, 2, kinds=("normal",)), weights, updates, d.choice(False, True), form, mode


def near(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=1e-3)
