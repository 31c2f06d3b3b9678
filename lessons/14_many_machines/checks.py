"""The checks of lesson 14. They run in the checker's process; driver.py runs beside the student's code."""

from itertools import product
from math import ceil

import numpy as np

from minilora.classroom import draw, fine, promise, raised, search, task

USES = ("minilora.nn", "minilora.functional.cross_entropy")
PROMISES = {"shard": promise(shares=True), "unflatten": promise(shares=True)}
SAME = 1e-4  # sums in another order are as good


def some(d, *options):
    """Draw one of the values; in some cases, another one for the second call."""
    return d.choice(*options) if d.choice(True, False) else d.number(*options)


@task(1)
def sharding(student):
    """There are two fair ways to share out a pack: cut it into piles of nearly one size, or deal card after card.

    To cut: at size + 1 places, from 0 to the number of rows. To deal: every size-th row, and each rank begins at
    another one. Refuse too few rows before that.

    7 rows for 3 ranks. Cut at 0, 2, 4 and 7, they have 2, 2 and 3. Dealt, rows 0, 3 and 6 are the first rank's, 1 and 4
    the next one's.
    """
    search(student.driver.shards, shard_inputs, hints={"again": AGAIN, "targets": TARGETS})
    for rows, size in [(1, 1), (3, 2), (2, 2), (4, 2), (5, 2), (7, 4), (9, 4), (10, 3), (15, 11)]:
        batch = np.arange(3 * rows).reshape(rows, 3) + 10
        floor, top = rows // size, ceil(rows / size)
        seen: list[int] = []
        for rank in range(size):
            part = student.shard(batch, rank, size)
            part.holds(
                lambda p: np.ndim(p) == 2 and all(np.any(np.all(batch == row, axis=1)) for row in p) and len(p),
                "some whole rows of the batch",
                "These are not rows of the batch: cut along axis 0.",
                instead={
                    "This rank takes no row: ranks count from 0.": lambda p, rank=rank: len(p) == 0 and rank == 0,
                    "This rank takes no row: the others' parts were rounded up.": lambda p: len(p) == 0,
                    "Columns were cut: a rank takes whole rows, along axis 0.": (
                        lambda p, rows=rows: len(p) == rows and p.shape[1:] != (3,)
                    ),
                },
            )
            own = [int(row[0] - 10) // 3 for row in part.value]
            part.holds(
                lambda p: not set(own) & set(seen) and len(set(own)) == len(own),
                "rows that no rank before took",
                "A row is taken twice: it would count twice in the gradient.",
            )
            part.holds(
                lambda p: floor <= len(p) <= top,
                f"{floor} rows" if floor == top else f"{floor} or {top} rows",
                "The rows are not spread evenly: no rank may have two more than another, or all wait for it.",
                instead={
                    "This rank takes the whole batch: then nothing is shared out.": lambda p: len(p) == rows,
                    "What is left over went to one rank: all others wait for it.": (
                        lambda p, rank=rank: len(p) > top and rank in (0, size - 1)
                    ),
                    "The parts are rounded up, so that the last ranks get less.": lambda p: len(p) < floor,
                },
            )
            seen += own
            numbers = student.shard(np.arange(rows), rank, size)
            for _ in range(3):
                student.shard(np.arange(rows), rank, size).equals(numbers.value, hint=AGAIN)
            numbers.equals(np.array(own), hint=TARGETS)
        part.holds(
            lambda p: sorted(seen) == list(range(rows)),
            f"all {rows} rows with one of the {size} ranks",
            "Rows are lost: what the division leaves over must go somewhere.",
        )
    for rows, size in [(1, 2), (3, 4), (0, 1)]:
        for rank in reversed(range(size)):
            few = "Fewer rows than ranks must be refused: raise ValueError." if rank == size - 1 else EVERY_RANK
            student.shard(np.arange(rows), rank, size).equals(raised("ValueError"), hint=few)
    student.shard(np.arange(16).reshape(2, 8), 2, 3).equals(
        raised("ValueError"), hint="These are 16 numbers in 2 rows, too few for 3 ranks: count the rows, len(batch)."
    )


EVERY_RANK = "A rank that would have a row must refuse too few of them as well: else it waits for one that has stopped."
AGAIN = "Asked again, a rank takes other rows: nothing may be drawn at random, or kept from an earlier call."
TARGETS = "Targets go to another rank than their inputs: go by the rows' numbers alone."


def shard_inputs(d):
    rows = d.size(1, 9)
    targets = d.whole(rows, d.size(1, 3), below=4) - 1
    return d.array(rows, *d.shape((1, 0, 2))), np.where(targets < 0, -100, targets), d.size(1, 5)


NAMES = [("w", (2, 3)), ("frozen", None), ("b", (3,)), ("down", (3, 2)), ("a", (1, 2)), ("idle", None)]


PATHS = [("layers.2.a", (2, 3)), ("head.w", (2,)), ("layers.10.b", (3, 2)), ("Norm.c", (3,))]


def some_gradients(seed: int, names=NAMES, dtype="float32") -> dict:
    rng = np.random.default_rng(seed)
    return {name: None if shape is None else draw(rng, *shape).astype(dtype) for name, shape in names}


def flat(gradients: dict, names=None) -> np.ndarray:
    return np.concatenate([gradients[n].reshape(-1) for n in names or sorted(gradients) if gradients[n] is not None])


@task(2)
def packing(student):
    """Which order do two dictionaries with the same names share, however they were filled?

    Walk over sorted(names), leave out what is None, and join what reshape(-1) gives. Back: the same walk.

    {"b": [5, 6], "still": None, "a": [[1, 2], [3, 4]]} becomes [1, 2, 3, 4, 5, 6]. On the way back, a takes the first
    four numbers as (2, 2), b the two that follow, and still is None.
    """
    search(student.flatten, lambda d: [drawn_gradients(d)], dtypes=True)
    search(student.unflatten, unflatten_inputs, dtypes=True)
    for names in (NAMES[2:3], [NAMES[4], NAMES[2]], [NAMES[2], NAMES[4], NAMES[1]], NAMES, NAMES[::-1], PATHS):
        for dtype in ("float32", "float64"):
            gradients = some_gradients(2, names, dtype)
            there = [name for name in gradients if gradients[name] is not None]
            right = flat(gradients)
            buffer = student.flatten(gradients)
            if names is PATHS:
                buffer.equals(right, hint=AS_TEXT)
                continue
            mistakes = {
                "The order is the dictionary's, and another rank may have filled its own in another: sort.": (
                    flat(gradients, there)
                ),
                "A matrix goes in row after row, not column after column.": np.concatenate(
                    [gradients[name].T.reshape(-1) for name in sorted(there)]
                ),
                "What is None takes no place in the buffer.": raised("AttributeError", "NoneType"),
                "Arrays of different shapes do not join: flatten each first.": raised("ValueError", "dimension"),
                "Gradients are missing: vectors belong into the buffer as well as matrices.": (
                    lambda b, right=right: np.size(b) < right.size
                ),
                "What is None takes no place in the buffer, not even a zero.": (
                    lambda b, right=right: np.size(b) > right.size
                ),
            }
            buffer.equals(right, mistakes)
            other = {name: None if array is None else np.zeros_like(array) for name, array in gradients.items()}
            other = dict(reversed(other.items()))
            back = student.unflatten(right, other)
            mistakes = {
                "The order is that of the dictionary: take the names in the order that flatten has.": (
                    walked(right, other, list(other))
                ),
                "Every array begins at the buffer's start: go on by its size.": walked(right, other, None),
                "The arrays are flat: give each its shape.": (
                    lambda arrays, there=there, g=gradients: (
                        all(np.ndim(arrays[name]) == 1 for name in there) and any(g[name].ndim > 1 for name in there)
                    )
                ),
                "The frozen ones are missing: what is None in `like` is None here.": (
                    lambda arrays, there=there, g=gradients: set(arrays) == set(there) != set(g)
                ),
                "What is None has no size: let it stay None.": raised("AttributeError", "NoneType"),
                "These are the arrays of `like`: the numbers come from the buffer.": other,
            }
            back.equals(gradients, mistakes)


AS_TEXT = fine("Names are sorted as Python sorts text: Head before a, and layers.10 before layers.2.")
NO_AXES = fine("A gradient may have no axes, or three: size says how many numbers it has.")


def drawn_gradients(d) -> dict:
    """Draw arrays of any shapes, and None for frozen parameters, in any order; at least one array."""
    frozen = [False] + [d.choice(False, True) for _ in range(d.size(0, 3))]
    names = d.fine(AS_TEXT, ["w", "b", "a", "down"], ["layers.10.w", "layers.2.b", "Head", "a"])
    names = d.shuffled(names[: len(frozen)])
    axes = d.fine(NO_AXES, (1, 2), (0, 3))
    shapes = [d.shape(axes) for _ in frozen]
    arrays = [None if is_frozen else d.array(*shape) for is_frozen, shape in zip(frozen, shapes, strict=True)]
    return dict(zip(names, arrays, strict=True))


def unflatten_inputs(d):
    like = drawn_gradients(d)
    dtype = d.choice("float64", "float32")
    return d.array(sum(g.size for g in like.values() if g is not None), dtype=dtype), like


def walked(buffer: np.ndarray, like: dict, names: list | None) -> dict:
    """Unflatten in the dictionary's order, or (names None) without ever moving on in the buffer."""
    arrays, place = dict.fromkeys(like), 0
    for name in names or like:
        if like[name] is not None:
            arrays[name] = buffer[place : place + like[name].size].reshape(like[name].shape)
            place += like[name].size if names else 0
    return arrays


@task(3)
def reducing(student):
    """Draw three ranks with three pieces each. Who hands on which piece first, so that no two hand on the same one?

    A rank hands on the piece that it has just received. So follow piece 0: with which rank is it in step s? Then every
    other piece is so many places further. n - 1 steps add, n - 1 more replace.

    Three ranks with pieces a, b, c. First rank 0 hands on its a, rank 1 b and rank 2 c. Then rank 0 hands on the c that
    it has just added to, rank 1 a, rank 2 b: now rank 0 has a finished b. In two more steps what is finished goes round
    in the same way, and replaces.
    """
    search(student.driver.reduced, reduce_inputs, parts=("sums", "unchanged"), tolerance=SAME)
    rng = np.random.default_rng(3)
    for n, numbers in [(1, 3), (2, 2), (2, 4), (3, 3), (3, 6), (4, 10), (3, 2), (5, 40)]:
        buffers = [np.abs(draw(rng, numbers)).astype("float32") for _ in range(n)]
        total = np.sum(buffers, axis=0)
        right = np.stack([total] * n)
        answer = student.driver.reduced(buffers)
        answer.returns(
            {"Pieces need not be equal: np.array_split allows a rest.": raised("ValueError", "equal division")}
        )
        answer["sums"].holds(
            lambda sums, n=n: isinstance(sums, (list, tuple, np.ndarray)) and len(sums) == n,
            f"a list with a buffer for each of {n} ranks",
            "Return a list with a buffer for each rank.",
        )
        mistakes = {
            "Nothing was added: these are the buffers as they came.": np.stack(buffers) if n > 1 else None,
            "This is the average: dividing comes later, in task 4.": right / n,
            "Only one rank has the sum: all need it.": (
                lambda got, right=right, n=n: sum(np.allclose(row, right[0]) for row in got) == 1 < n
            ),
            "Each piece is summed at one rank and not at the others: a second round must hand the sums on.": (
                lambda got, right=right: np.isclose(got, right).any(axis=0).all() and np.all(got <= right * 1.0001)
            ),
            "Some numbers were added more than once: n - 1 steps add, in the other n - 1 what arrives replaces.": (
                lambda got, right=right: np.any(got > right * 1.0001)
            ),
            "Some numbers were never added: follow one piece around the ring.": (
                lambda got, right=right: np.shape(got) == right.shape and np.any(got < right)
            ),
            "Numbers at the end were lost: what does not divide belongs to a piece as well.": (
                lambda got, right=right: np.ndim(got) == 2 and len(got[0]) < right.shape[1]
            ),
        }
        answer["sums"].equals(right, mistakes)
        answer["sums"].holds(
            lambda sums: all(np.array_equal(sums[0], own) for own in sums),
            "sums that are equal at all ranks, to the last bit",
            "The ranks' sums differ in their last bits, and replicas would drift apart: one chain of ranks finishes a "
            "piece, and the others take it as it arrives.",
        )
        answer["unchanged"].equals(
            True, hint="A buffer that was given was changed in place: pieces of it are views, so add into a new array."
        )
        piece = ceil(numbers / n) * buffers[0].itemsize
        most = 2 * (n - 1) * piece
        if n > 1:
            answer["sent"].holds(
                lambda sent: min(sent) > 0,
                "something to be sent by each rank",
                "A rank sent nothing, and yet all have its numbers: what is another rank's comes through send.",
                instead={"Nothing went through send: what is another rank's must come over the line.": [0] * n},
            )
            if (n - 1) * ceil(numbers / n) < numbers:  # else a piece may be nothing but filling
                student.driver.unheard(buffers).holds(
                    lambda unheard: not unheard,
                    "no message that makes no difference",
                    "What send returned was not used: the sum came from numbers that are on other machines.",
                )
        answer["sent"].holds(
            lambda sent, most=most: max(sent) <= most,
            f"at most {most} bytes sent by each rank",
            f"Too much is sent: {2 * (n - 1)} pieces of {piece} bytes suffice.",
            instead={
                "One rank alone has nobody to send to.": lambda sent: len(sent) == 1,
                DOUBLED: (lambda sent, most=most: min(sent) == max(sent) == 2 * most),
                "All goes through one rank, whose line must carry everything: let each send as much.": (
                    lambda sent: max(sent) > 1.5 * min(sent)
                ),
                "As much is sent as if each rank sent its buffer to all others: let sums travel, piece by piece.": (
                    lambda sent, n=n, size=buffers[0].nbytes: min(sent) >= (n - 1) * size
                ),
            },
        )
        answer["largest"].holds(
            lambda largest, piece=piece, n=n: largest <= piece or n == 2,
            f"messages of at most {piece} bytes",
            "A message is larger than a piece.",
            instead={DOUBLED: 2 * piece},
        )

    buffers = [np.array([2.0**25 + 1 + rank, 0.1, -3.0]) for rank in range(3)]  # more digits than float32 has
    hint = fine("Digits are lost on the way: buffers in float64 are added and sent in float64.")
    student.driver.reduced(buffers)["sums"].equals(np.stack([np.sum(buffers, axis=0)] * 3), hint=hint, tolerance=1e-12)


DOUBLED = fine("The pieces became float64, and so did what is sent: keep the buffers' dtype.")


def reduce_inputs(d):
    return ([np.array(row) for row in d.array(d.size(1, 5), d.size(1, 7))],)


def weighted(gradients: list[dict], weights: list[float]) -> dict:
    return {
        name: None
        if gradients[0][name] is None
        else np.sum([w * own[name] for w, own in zip(weights, gradients, strict=True)], axis=0)
        for name in gradients[0]
    }


def is_upside_down(got: dict, gradients: list[dict], counts: list[int]) -> bool:
    """Return True if the weights are proportional to 1 / counts."""
    inverse = [1 / max(count, 1) for count in counts]
    ratio = got["b"] / weighted(gradients, inverse)["b"]
    return np.allclose(ratio, ratio[0])


@task(4)
def averaging(student):
    """A rank counted one target, another three. Whose gradient says more about the whole batch, and by how much?

    Multiply each rank's buffer by its share of all counts, before adding up. Nothing is left to divide then.

    Means of 1.0 over four targets and of 3.0 over one: 4/5 · 1.0 + 1/5 · 3.0 = 1.4, and not 2.0. Each rank can multiply
    what it has by its share before anything is sent; what arrives is then the average.
    """
    search(student.driver.averaged, average_inputs, parts=("averages",), tolerance=SAME)
    for counts in ([3], [2, 3], [5, 1, 2], [100, 109], [201, 200]):
        n, total = len(counts), sum(counts)
        names = [NAMES[2], NAMES[1], NAMES[4]] if n < 3 else NAMES
        gradients = [some_gradients(rank, names[::-1] if rank else names) for rank in range(n)]
        shares = [count / total for count in counts]
        right = weighted(gradients, shares)
        answer = student.driver.averaged(gradients, counts)
        answer["averages"].holds(
            lambda got, n=n: isinstance(got, (list, tuple)) and len(got) == n,
            f"a list with a dictionary for each of {n} ranks",
            "Return a list: each rank has a dictionary of its own.",
        )
        for rank in range(n):
            mistakes = {
                "Counts that are nearly equal are not equal: 201 weigh more than 200.": (
                    lambda got, g=gradients, total=total, n=n: total > 200 and is_near(got, weighted(g, [1 / n] * n))
                ),
                "Not averaged: this is the rank's own gradient.": gradients[rank],
                "This is the mean of the ranks' means: a rank that counted more must weigh more.": (
                    weighted(gradients, [1 / n] * n)
                ),
                "These are sums: of means, a weighted mean is wanted.": weighted(gradients, [1.0] * n),
                "Multiplied by the counts, but not divided by their sum.": weighted(gradients, counts),
                "Divided by the counts' sum, but not multiplied by each rank's own count.": (
                    weighted(gradients, [1 / total] * n)
                ),
                "Divided once too often: the shares add up to 1.": weighted(gradients, [s / n for s in shares]),
                "Every rank scaled the same sum by its own share: scale before adding up.": (
                    weighted(gradients, [shares[rank]] * n)
                ),
                "Each rank divided by its own count: then no two get the same; divide by all that were counted.": (
                    weighted(gradients, [count / counts[rank] for count in counts]) if counts[rank] else object
                ),
                "The weights are upside down: a rank that counted more weighs more.": (
                    lambda got, g=gradients, c=counts: is_upside_down(got, g, c)
                ),
                "What is frozen has no gradient: it stays None.": (
                    lambda got: "frozen" in got and got["frozen"] is not None
                ),
            }
            answer["averages"][rank].equals(right, mistakes)
        answer["averages"].holds(
            lambda got: all(a.dtype == np.float32 for own in got for a in own.values() if a is not None),
            "gradients in float32, as they came",
            DOUBLE,
        )
        numbers = flat(right).size + 1  # one more, for who sends a count along
        most = 2 * (n - 1) * ceil(numbers / n) * 4
        answer["messages"].holds(
            lambda messages, n=n: 0 < messages or n == 1,
            "something to be sent",
            "Nothing went through send: use all_reduce.",
        )
        answer["messages"].holds(
            lambda messages, n=n: messages <= 2 * n * (n - 1),
            f"{2 * n * (n - 1)} messages",
            "Each gradient is sent by itself, and pays the latency anew: put them all into one buffer.",
        )
        answer["sent"].holds(
            lambda sent, most=most: max(sent) <= most,
            f"at most {most} bytes sent by each rank",
            "Too much is sent: float32 in one buffer is enough.",
            instead={DOUBLE: lambda sent, most=most: max(sent) <= 2 * most},
        )


DOUBLE = fine(
    "The gradients have become float64, and so did what is sent: multiply by a Python float, which keeps an array's "
    "dtype, and not by a NumPy number."
)


def is_near(got: dict, wanted: dict) -> bool:
    return all(np.allclose(got[name], wanted[name]) for name in wanted if wanted[name] is not None)


def average_inputs(d):
    first = drawn_gradients(d)
    gradients = [first]
    for _ in range(d.size(0, 3)):
        names = d.shuffled(list(first))
        gradients.append({name: None if first[name] is None else d.array(*first[name].shape) for name in names})
    counts = [some(d, 3, 1, 2, 7, 300), *(some(d, 2, 5, 1, 301) for _ in gradients[1:])]
    return gradients, counts[:1] + [d.fine("A rank may have counted no target at all.", n, 0) for n in counts[1:]]


LEARNING_RATE = 0.1  # of the driver's optimizers


def moved(start: dict, gradients: dict, kind: str) -> dict:
    """Return the weights after a first step with these gradients."""
    after = dict(start)
    for name, g in gradients.items():
        step = g if kind == "SGD" else g / (np.abs(g) + 1e-8) + 0.01 * start[name]
        after[name] = start[name] - LEARNING_RATE * step
    return after


def some_batches(rows: int, steps: int, kind: str) -> list:
    """Draw inputs (rows, 4, 3) and targets (rows, 4); each row has another number of targets that count.

    Where kind is FLAT: (rows, 3) and (rows,), of which one does not count.
    """
    rng = np.random.default_rng(rows)
    batches = []
    for _ in range(steps):
        if kind == FLAT:
            batches.append((draw(rng, rows, 3), np.where(np.arange(rows) == 1, -100, rng.integers(1, 3, rows))))
            continue
        targets = rng.integers(0, 3, (rows, 4))
        for row in range(rows):
            targets[row, (1, 4, 2, 3)[row % 4] :] = -100
        batches.append((draw(rng, rows, 4, 3), targets))
    return batches


@task(5)
def stepping(student):
    """What does each rank do alone, and where does it need the others? Only there is something sent.

    Alone: zero_grad, the shard's loss, backward, counting. Together: average. Alone again: assign p.grad, step.

    Lesson 05's step of one machine: zero_grad, loss, backward, step. Each rank does the first three with its shard;
    then all get the average as their gradients; then each steps. The loss is averaged as gradients are: 1.0 over four
    targets and 3.0 over one make 1.4.
    """
    search(student.driver.together, step_inputs, 15, parts=("states", "losses", *STEP), hints=STEP, tolerance=1e-5)
    for kind, rows, size, steps in [
        ("SGD", 2, 1, 1),
        ("SGD", 3, 2, 2),
        ("AdamW", 3, 2, 2),
        ("AdamW", 7, 3, 2),
        (FLAT, 5, 2, 1),
    ]:
        batches, kind = some_batches(rows, steps, kind), "SGD" if kind == FLAT else kind
        answer = student.driver.together(batches, size, kind)
        start, local, alone = (answer[part].value for part in ("start", "local", "alone"))
        own = [one["gradients"] for one in local]
        trains = list(own[0])
        right = alone["states"][0]
        for rank in range(size):
            mistakes = {
                "This replica did not move: step with every rank's optimizer.": start,
                "The gradients from before the call were added: call zero_grad before backward.": (
                    moved(start, {name: g + 1 for name, g in weighted(own, shares_of(local)).items()}, kind)
                ),
                "Class 0 is a target like any other: only -100 does not count.": (
                    moved(start, weighted(own, shares_of(local, "count above 0")), kind)
                ),
                "This replica moved by its own gradient: put the average into p.grad before the step.": (
                    moved(start, own[rank], kind)
                ),
                "This is the step of a mean of means: weigh by the targets that counted.": (
                    moved(start, weighted(own, [1 / size] * size), kind)
                ),
                "This is the step of a sum of the ranks' gradients: it is size times too long.": (
                    moved(start, weighted(own, [1.0] * size), kind)
                ),
                "The rows were counted, not the targets: those that are -100 do not count.": (
                    moved(start, weighted(own, shares_of(local, "rows")), kind)
                ),
                "Each replica stepped by itself, and then the weights were averaged: that is another step than "
                "that of the averaged gradient.": lambda state, local=local, start=start, kind=kind, own=own: any(
                    all(
                        np.allclose(state[name], weighted([moved(start, g, kind) for g in own], shares)[name])
                        for name in state
                    )
                    for shares in ([1 / len(own)] * len(own), shares_of(local))
                ),
                "Some parameters are right and others are not: all that train belong into the average.": (
                    lambda state, right=right, trains=trains: (
                        0 < sum(np.allclose(state[name], right[name]) for name in trains) < len(trains)
                    )
                ),
            }
            answer["states"][0][f"replica {rank}"].equals(right, mistakes, tolerance=1e-6)
        mistakes = {
            "Each rank's optimizer has moments of its own and must step once; no rank sees another's weights.": (
                lambda stepped, right=[steps] * size: stepped != right
            )
        }
        answer["stepped"].equals([steps] * size, mistakes)
        losses = [one["loss"] for one in local]
        answer["are numbers"].equals(True, hint="Return the loss as a number: loss.item().")
        mistakes = {
            "Return the loss.": None,
            "The mean of the ranks' losses is not the mean over all targets: weigh by the counts.": (
                float(np.mean(losses))
            ),
            "This is the loss of one rank: the mean over all targets is wanted.": (
                lambda loss, losses=losses: len(losses) > 1 and np.isclose(losses, loss).any()
            ),
            "This is the sum of the ranks' losses.": float(np.sum(losses)),
            "The loss is from before the step.": alone["after"][0],
        }
        answer["losses"][0].equals(alone["losses"][0], mistakes, tolerance=1e-6)
        most = ceil(rows / size) * steps
        answer["rows"].holds(
            lambda seen, most=most: max(seen) <= most,
            f"at most {most} rows read by each replica in {steps} step{'s' * (steps > 1)}",
            "A replica read more than its shard: then nothing is gained.",
        )
        answer["messages"].holds(
            lambda messages, size=size: messages > 0 or size == 1,
            "something to be sent",
            "Nothing went through send: replicas are on different machines; use average.",
        )


FLAT = "SGD, one target a row"
STEP = {
    "modes": fine("A replica computes in the mode that it is in: train_step changes no mode, not for a while either."),
    "trains": "Other parameters train afterwards than before: what is frozen stays frozen.",
}


def shares_of(local: list[dict], count="count") -> list[float]:
    total = sum(one[count] for one in local)
    return [one[count] / total for one in local]


def step_inputs(d):
    """Draw batches in which each row has a target that counts; the other targets may be anywhere.

    Or with one target a row, of which so few do not count that each shard has one that does, however it is cut.
    """
    size = d.size(1, 3)
    rows, time = d.choice(*range(size, 6)), d.choice(2, 3, 1, None)
    batches = []
    for _ in range(2):
        if time is None:
            counts = d.shuffled(range(2 * size)) if rows < 2 * size else d.shuffled(range(rows))
            targets = np.where(np.array(counts) < len(counts) // size - 1, -100, d.whole(len(counts), below=3))
            batches.append((d.array(len(counts), 3), targets))
            continue
        targets = np.where(d.mask(rows, time), d.whole(rows, time, below=3), -100)
        targets[:, -1] = d.whole(rows, below=3)
        batches.append((d.array(rows, time, 3), targets))
    return batches, size, d.choice("SGD", "AdamW"), d.choice("training", "evaluation")


def seconds(compute: float, nbytes: float, n: int, bandwidth: float, latency: float) -> float:
    return compute / n + 2 * (n - 1) * (latency + 8 * nbytes / n / bandwidth)


def wrong_seconds(compute, nbytes, n, bandwidth, latency):
    """Return {hint: seconds of the mistake}."""
    right, wire = seconds(compute, nbytes, n, bandwidth, latency), 8 * nbytes / bandwidth
    return {
        "One rank sends nothing: it takes what there is to compute.": lambda got, n=n: n == 1,
        "Links count bits and buffers bytes: a byte has 8.": seconds(compute, nbytes / 8, n, bandwidth, latency),
        "The bytes were divided by 8: a byte has 8 bits, so there are more bits than bytes.": (
            seconds(compute, nbytes / 64, n, bandwidth, latency)
        ),
        "Every step was given the whole buffer: it carries 1/n of it.": (
            seconds(compute, nbytes * n, n, bandwidth, latency)
        ),
        "That is one round of the ring: adding up is one, handing on the sums is another.": (
            compute / n + (n - 1) * (latency + wire / n)
        ),
        "The latency is paid in each of the 2 (n - 1) steps, not once.": (
            compute / n + latency + 2 * (n - 1) / n * wire
        ),
        "The latency is missing.": compute / n + 2 * (n - 1) / n * wire,
        "The computing is shared out: divide it by the ranks.": compute + right - compute / n,
        "The ring has 2 (n - 1) steps, not 2 n.": compute / n + 2 * n * (latency + wire / n),
        "The computing is missing.": right - compute / n,
        "The pieces are taken as equal, with parts of a byte: nothing is rounded.": (
            compute / n + 2 * (n - 1) * (latency + 8 * ceil(nbytes / n) / bandwidth)
        ),
    }


@task(6)
def pricing(student):
    """Two terms: what is shared out gets shorter with n, and what is sent takes 2 (n - 1) steps of the ring.

    A step of the ring takes the latency, and 1/n of the buffer at so many bits a second. Then try all counts.

    6 s of computing, 600 bytes, 1,600 bits a second, a latency of 0.125 s. With 3 ranks: 2 s of computing and 4
    messages of 200 bytes, each 0.125 + 1 s: 6.5 s. With 2 it is 3 + 2 · (0.125 + 1.5) = 6.25 s, and alone 6.
    """
    search(student.step_seconds, lambda d: [some(d, *options) for options in COSTS], instead=wrong_seconds)
    search(student.best_ranks, lambda d: some(d, *CLEAR))
    for compute, nbytes, n, bandwidth, latency in [
        (4.0, 1000, 1, 8000.0, 0.25),
        (4.0, 1000, 2, 8000.0, 0.25),
        (6.0, 600, 3, 1600.0, 0.125),
        (8.0, 4_000_000, 4, 1e8, 0.001),
        (2.0, 500_000_000, 16, 1e10, 0.00001),
        (2.0, 10, 4, 8.0, 0.125),
    ]:
        right, wrong = (f(compute, nbytes, n, bandwidth, latency) for f in (seconds, wrong_seconds))
        student.step_seconds(compute, nbytes, n, bandwidth, latency).equals(right, wrong, tolerance=1e-9)
    times = [
        {n: seconds(compute, nbytes, n, bandwidth, latency) for n in range(1, most + 1)}
        for compute, nbytes, bandwidth, latency, most in CASES
    ]
    answers = [student.best_ranks(*case) for case in CASES]
    always = {
        "One step off: what is at place 0 is one rank.": [min(one, key=one.get) - 1 for one in times],
        "Only powers of two were tried: 3 ranks are as good a number.": [
            min((n for n in (2**k for k in range(12)) if n in one), key=one.get) for one in times
        ],
        "That is the longest step.": [max(one, key=one.get) for one in times],
        "More ranks are not always faster: compare the seconds of a step.": [max(one) for one in times],
        "One rank is a choice as well.": [min((n for n in one if n > 1), key=one.get) for one in times],
        "`most` itself may be the best: range stops before its end.": [
            min((n for n in one if n < max(one)), key=one.get) for one in times
        ],
    }
    known = {
        hint: True for hint, wrong in always.items() if all(a.raw == w for a, w in zip(answers, wrong, strict=True))
    }
    for answer, one in zip(answers, times, strict=True):
        best = min(one, key=one.get)
        answer.equals(
            best,
            instead={hint: answer.raw for hint in known}
            | {
                "Times that are nearly equal are not equal: the shortest is wanted, however little it is shorter.": (
                    lambda got, one=one, best=best: (
                        got != best and len(one) < 1000 and one[best] < one[got] < 1.0001 * one[best]
                    )
                ),
                "That is its time: the number of ranks is asked for.": one[best],
                "Of equal ones the smallest: a machine that brings nothing is not worth having.": (
                    lambda got, one=one, best=best: one[got] == one[best]
                ),
                "Another number of ranks is faster than this one, be it by little: compare all from 1 to `most`.": (
                    lambda got, one=one: got in one
                ),
            },
        )


CASES = [
    (10.0, 1000, 8000.0, 0.25, 8),
    (1.0, 1000, 8000.0, 0.25, 8),
    (6.0, 3000, 8000.0, 0.0, 2),
    (8.0, 4_000_000, 1e9, 0.001, 6),
    (8.0, 4_000_000, 1e9, 0.001, 1000),
    (8.0, 4_000_000, 1e6, 0.001, 1000),
    (40.0, 1000, 8000.0, 0.25, 12),
    (10.0, 1000, 8000.0, 1.99999, 2),  # 9.99998 s by two, beside 10 s
    (1e-5, 1000, 8e9, 1.99999e-6, 2),
    (600.0, 1000, 1e9, 1e-6, 1000),
    (60.0, 16_000_000, 1e9, 5e-5, 1000),
    (600.0, 0, 1e9, 5e-5, 2600),
]
COSTS = (4.0, 0.5, 2.25), (1000, 10, 4_000_001), (3, 1, 2, 16), (8000.0, 8.0, 1e9), (0.25, 0.0, 0.001)


def is_clear(compute, nbytes, bandwidth, latency, most) -> bool:
    """Return True if one number of ranks is the fastest by more than rounding."""
    times = sorted(seconds(compute, nbytes, n, bandwidth, latency) for n in range(1, most + 1))
    return most == 1 or times[1] > 1.0001 * times[0]


CLEAR = [
    case
    for case in product((10.0, 1.0, 300.0), (1000, 10, 4_000_000), (8000.0, 1e6, 1e9), (0.25, 0.001), (8, 1, 2, 5, 40))
    if is_clear(*case)
]
