"""The checks of lesson 03, the same for NumPy and for the stand-in device. driver.py reports where results are."""

import numpy as np

from minilora.classroom import draw, fine, promise, raised, search, task

USES = ()
BESIDE = ("device",)
PROMISES = {"from_host": promise(shares=True), "to_host": promise(shares=True)}

LIBRARIES = ("numpy", "device")
WHERE = {"numpy": "host", "device": "device", "third": "third"}

IMPLICIT = "NumPy was asked to convert a device array, which it cannot: only `download` brings it to the host."
NUMPY_MEETS = "A function or an array of NumPy's meets a device array: use xp's functions, and from_host for data."
ITERATED = "A loop over the elements of a device array would wait for each of them: say it for the whole array."
REFUSED = {
    IMPLICIT: raised("TypeError", "implicit conversion"),
    NUMPY_MEETS: raised("TypeError", "meets a device array"),
    ITERATED: raised("TypeError", "iteration over a device array"),
}
STAYED = "The result is on the host: it belongs to the library in use."
TRAVELS = "The data travels to the host and back: the work can be done where the data is."


def is_there(answer, library):
    """Check that the result is an array of the library."""
    answer["where"].equals(WHERE[library], instead={STAYED: "host"})


def nothing_travelled(answer):
    """Check that nothing was copied to the device, and that it was not waited for."""
    mistakes = {TRAVELS: lambda n: answer["uploaded"].value > 0}
    answer["waited"].equals(0, mistakes, hint="The host waited for the device, to read a number: leave it there.")


@task(1)
def switching(student):
    """Who else may hold the object that xp is, and what do they see after your switch?

    Clear xp's dictionary and fill it from the library's functions; never write xp = ….

    A list that others hold is emptied and filled likewise: names.clear(); names.extend(new); names = new would leave
    them with the old one. What is to be returned has to be looked at before `active` is set.
    """
    at_the_start = student.driver.at_the_start()  # before any other call
    search(student.driver.switches, libraries, examples=40)
    answer = student.driver.switched()
    answer.returns({"`active` is read before it is set: say `global active` first.": raised("UnboundLocalError")})
    answer["same object"].equals(
        True, hint="xp is another object now, and those who held it still have the old functions."
    )
    answer["active"].equals(
        "device",
        instead={"`active` did not change: without `global active`, the function sets a variable of its own.": "numpy"},
    )
    answer["xp.exp is the device's"].equals(True, hint="xp has not got the device's functions.")
    answer["xp has names that only NumPy has"].equals(
        False, hint="Functions of the library before are still in xp: clear it first."
    )
    before = {"Return the library that was in use before.": None, "That is the new library.": "device"}
    answer["first"].equals("numpy", instead=before)
    answer["second"].equals("device", hint="Return the library that was in use before.")
    answer["active again"].equals("numpy")
    answer["xp.exp is NumPy's"].equals(True, hint="After the second switch, xp has not got NumPy's functions.")
    at_the_start["xp is empty"].equals(
        False, hint="use(NUMPY), when NumPy is in use already, must fill xp as well: it is empty at the start."
    )
    at_the_start["xp lacks"].equals(
        "", hint="Some of what NumPy has is not in xp: all of it belongs there, constants and types too."
    )


def libraries(d):
    """Draw names of the driver's libraries; small and namesake share a name, small and sister their functions."""
    more = d.fine("A library with the same name, or the same functions, is another one.", [], ["namesake", "sister"])
    return [d.shuffled(["numpy", "device", "small", *more])]


@task(2)
def crossing(student):
    """How can you tell on which side an array is? And what has to happen where it is on the right one already?

    isinstance(a, active.array_type) says so. np.asarray makes a NumPy array of lists and numbers.

    So a function that wants a set, of whatever comes in: s if isinstance(s, set) else set(s). What is there already
    stays as it is; the rest is first made what the conversion takes.
    """
    search(student.driver.from_host, sides_and_values, parts=FORM, hints=OTHER_DTYPE, examples=100)
    hints = OTHER_DTYPE | {"values": KEPT}
    search(student.driver.from_host_changed, sides_and_arrays, parts=FORM, hints=hints, examples=20)
    search(student.driver.to_host, sides_and_arrays, parts=FORM, hints=OTHER_DTYPE, examples=100)
    travelled = OTHER_DTYPE | {
        "uploaded": "What is on the host already travels to the device and back: it can stay there."
    }
    search(student.driver.to_host_again, sides_and_values, parts=(*FORM, "uploaded"), hints=travelled, examples=20)
    values = [[3, 1, 2], np.array([[1.5, -2.0]], dtype="float32"), 2.5]
    calls = [(student.driver.from_host, a) for a in values] + [(student.driver.number_from_host, 3)]
    for library in LIBRARIES:
        for call, a in calls:
            answer = call(library, a)
            answer.returns(
                {"upload takes a NumPy array: make one of lists and numbers first.": raised("TypeError", "upload")}
            )
            mistakes = {
                "The result is a NumPy array still: upload it.": "host",
                "A list or number stayed what it is: make an array of it.": lambda kind: kind not in WHERE.values(),
            }
            answer["where"].equals(WHERE[library], mistakes)
            answer["dtype"].equals(str(np.asarray(a).dtype), hint=OTHER_DTYPE["dtype"])
            answer["values"].equals(np.asarray(a))
        a = np.array([1.0, 2.0])
        answer = student.driver.from_host_again(library, a)
        mistakes = {"An array of the library in use comes in: it is there already, so return it.": raised("TypeError")}
        answer.returns(mistakes)
        nothing_travelled(answer)
        answer["the same object"].equals(
            True, hint="What is an array of the library already was copied: return it as it is."
        )
        for a in (np.array([1, 2]), np.array([[0.5]], dtype="float32")):
            answer = student.driver.to_host(library, a)
            answer.returns(REFUSED)
            mistakes = {
                "It is on the device still: download it.": "device",
                "A NumPy array was asked for, not a list or a number.": lambda kind: kind not in WHERE.values(),
            }
            answer["where"].equals("host", mistakes)
            answer["dtype"].equals(str(a.dtype), hint=OTHER_DTYPE["dtype"])
            answer["values"].equals(a)
    for a in (np.array([1.0, 2.0]), [1, 2]):
        for library in LIBRARIES:
            answer = student.driver.to_host_again(library, a)
            mistakes = {
                "What is on the host already comes in, too: it has no .get, and is not downloaded.": (
                    raised("AttributeError")
                ),
                "What is on the host already comes in, too: it is not downloaded.": raised("TypeError", "download"),
            }
            answer.returns(mistakes)
            answer["where"].equals("host", hint="A list stayed a list: np.asarray makes an array of it.")
            answer["values"].equals(np.asarray(a))


def softmax_along(x, axis):
    with np.errstate(all="ignore"):
        powers = np.exp(x - x.max(axis=axis, keepdims=True))
        return powers / powers.sum(axis=axis, keepdims=True)


FORM = ("where", "dtype", "values")
KEPT = "The array was changed and taken across again, and its old values came: something is kept from the first time."
OTHER_DTYPE = {"dtype": fine("The dtype changed on the way: keep the one that NumPy gives it.")}
THIRD = "A third library is in use here: `active` says what its arrays are and how they cross, whichever it is."


def sides_and_arrays(d):
    shape = d.shape((2, 1, 0, 3))
    kind = d.fine(OTHER_DTYPE["dtype"], d.choice("float", "whole"), "boolean")
    whole = d.whole(*shape, below=300, dtype=d.choice("int64", "int32", "uint16"))
    return d.fine(THIRD, d.choice(*LIBRARIES), "third"), {
        "float": d.array(*shape),
        "boolean": d.mask(*shape),
        "whole": whole,
    }[kind]


def sides_and_values(d):
    library, a = sides_and_arrays(d)
    return library, a.tolist() if d.choice(False, True) else a


@task(3)
def shares(student):
    """Which of your functions are NumPy's own, and which are those of the library that x belongs to?

    Methods (x.max, x.sum) go with the array; all functions come from xp. Keep the reduced axis with keepdims.

    Scores 1002, 1000, 1001: less their maximum 0, -2, -1, which exp makes 1, 0.135, 0.368. Their sum is 1.503, and the
    shares 0.665, 0.090, 0.245. To take a mean away from each row: x - x.mean(axis=-1, keepdims=True).
    """
    search(student.driver.softmax, sides_and_scores, parts=("where", "waited", "values"))
    rng = np.random.default_rng(3)
    inputs = [draw(rng, 1, 2), draw(rng, 2, 3), draw(rng, 2, 3, 4)]
    inputs += [np.array([[1000.0, 999.0, 0.0], [-1000.0, -1001.0, -1000.0]])]
    for x in inputs:
        for library in LIBRARIES:
            powers = np.exp(x - x.max(axis=-1, keepdims=True))
            right = powers / powers.sum(axis=-1, keepdims=True)
            with np.errstate(all="ignore"):
                plain, all_rows = np.exp(x), np.exp(x - x.max())
                of_all = all_rows / all_rows.sum(axis=-1, keepdims=True)
                along_0 = np.exp(x - x.max(axis=0)) / np.exp(x - x.max(axis=0)).sum(axis=0)
                overflown = plain / plain.sum(axis=-1, keepdims=True)
            answer = student.driver.softmax(library, x)
            answer.returns(
                REFUSED
                | {
                    "The reduced axis is lost: keepdims=True keeps it, with length 1.": raised(
                        "ValueError", "broadcast"
                    ),
                    "Python's own functions take one number; xp's take arrays.": raised("TypeError", "only"),
                }
            )
            is_there(answer, library)
            nothing_travelled(answer)
            mistakes = {
                "exp overflows for large scores: take each row's maximum away first.": overflown,
                "One maximum for all rows, or the largest magnitude: a row far below becomes all zeros.": of_all,
                "The sum runs along the first axis, not the last.": along_0,
                "The sum runs along axis 1: the last axis is -1.": softmax_along(x, 1 % x.ndim),
                "The sum runs over everything, not along the last axis.": all_rows / all_rows.sum(),
                "The shares are not divided by their sum.": powers,
            }
            answer["values"].equals(right, mistakes)
            exact = "A small number is added to the sum, which is at least 1 already: the shares come out too small."
            answer["values"].equals(right, hint=fine(exact), tolerance=5e-7)


def sides_and_scores(d):
    shape = (*d.shape((1, 0, 2)), d.size())
    whole = d.whole(*shape, least=-4, below=5)
    return d.choice(*LIBRARIES), d.fine("It goes wrong for scores that are whole numbers.", d.array(*shape), whole)


@task(4)
def looking_up(student):
    """On which side are the ids when they come in, and where does a check cost nothing?

    np.asarray(ids) is on the host. Its min and max say whether all lie in the range; then the ids travel.

    A table of 7 rows has ids 0 … 6: 7 and -1 raise an error, and [] does not, though it has no smallest. Likewise,
    dates are checked before they are sent: np.asarray(days), then days.min() and days.max(), and then the trip.
    """
    search(student.driver.rows, tables_and_ids, parts=("where", "waited", "values"))
    table = draw(np.random.default_rng(4), 4, 3)
    for library in LIBRARIES:
        for ids in ([1], [3, 0, 3], np.array([[0, 1], [2, 3]])):
            answer = student.driver.rows(library, table, ids)
            mistakes = {
                "The ids are on the host and the table is not: take the ids across with from_host.": (
                    raised("TypeError", "indexed by device arrays")
                ),
                "These ids all lie in 0 … n - 1, with n the number of rows.": raised("IndexError"),
            }
            answer.returns(mistakes)
            is_there(answer, library)
            mistakes = {
                "The whole table travels to the host: only the ids have to travel, and the other way.": lambda n: (
                    answer["uploaded"].value != 1 or answer["computed"].value == 0
                )
            }
            answer["waited"].equals(
                0, mistakes, hint="The check waits for the device: look at the ids on the host, before they travel."
            )
            answer["values"].equals(table[np.asarray(ids)])
    for ids in ([4], [0, 7], [-1], np.array([2, -5])):
        for library in LIBRARIES:
            mistakes = {
                "An id out of range is a mistake of the caller's: it is to be refused, not mended.": (
                    lambda rows: np.array_equal(rows["values"], table[np.clip(ids, 0, 3)])
                ),
                "A negative id must raise an error, too: it is not a token, and NumPy would take a last row.": (
                    lambda rows: min(ids) < 0
                ),
                "An id out of range went through, and another row came: check the ids.": (
                    lambda rows: library == "device" or max(ids) >= 4
                ),
                "The error for an index out of range is IndexError.": raised("ValueError"),
            }
            student.driver.rows(library, table, ids).equals(raised("IndexError"), mistakes)
    for library in LIBRARIES:
        student.driver.rows(library, np.arange(600.0).reshape(300, 2), [299, 0, 256])["values"].equals(
            np.array([[598.0, 599.0], [0.0, 1.0], [512.0, 513.0]]),
            instead={SMALL: np.array([[86.0, 87.0], [0.0, 1.0], [0.0, 1.0]])},
        )
        student.driver.rows(library, np.arange(20.0).reshape(10, 2), [256]).equals(
            raised("IndexError"), instead={SMALL: lambda rows: rows["values"][0][0] == 0}
        )
        student.driver.rows(library, np.arange(20.0).reshape(10, 2), [2**32]).equals(
            raised("IndexError"), hint=fine("In 32 bits, 2³² becomes 0: look at the ids as they came.")
        )


EMPTY = "No ids give no rows: of none there is no smallest, and np.asarray([]) is an array of floats."
SMALL = "Ids that are larger than 255 become others: keep whole numbers of 64 bits."


def tables_and_ids(d):
    """Draw ids that all lie in the table, or one of which lies outside."""
    n = d.choice(3, 1, 2, 4)
    table = d.array(n, d.size())
    if d.fine("Where a row of the table has an infinity, other rows become NaN: look up, do not multiply.", 0, 1):
        table[:, 0] = np.inf
    least, below = d.choice(0, 0, -1), n + d.choice(0, 0, 1)
    dtype = d.fine("It goes wrong for ids of another integer dtype than int64.", "int64", "int32", "uint8")
    shape = d.fine("It goes wrong for a single id, an array without axes.", d.shape((1, 2, 3)), ())
    library, ids = d.choice(*LIBRARIES), d.whole(*shape, least=least, below=below, dtype=dtype)
    ids = ids.tolist() if d.choice(False, True) and ids.ndim else ids
    return library, table, d.fine(EMPTY, ids, []) if library == "numpy" else ids


@task(5)
def drawing(student):
    """Which of the two generators gives the same numbers on every machine?

    Draw with np.random.default_rng(seed) on the host, make the numbers float32 there, and take them across.

    Dice for both sides: rng = np.random.default_rng(5), rng.integers(1, 7, 3), as int8 by .astype, then across: the
    same three numbers on each side. From xp's generator, they would be others on the device.
    """
    search(student.driver.normal_start, sides_and_shapes, parts=FORM, hints={"dtype": DOUBLE}, examples=40)
    for library in LIBRARIES:
        for shape, seed in [((2,), 0), ((2, 3), 1)]:
            rng = np.random.default_rng
            answer = student.driver.normal_start(library, shape, seed)
            answer.returns(
                REFUSED
                | {"The device's generator has not got that: draw on the host.": raised("AttributeError", "_Generator")}
            )
            answer["where"].equals(
                WHERE[library], instead={"The numbers are on the host still: take them across with from_host.": "host"}
            )
            right = rng(seed).standard_normal(shape)
            mistakes = {
                "Those are uniform numbers.": rng(seed).random(shape),
                "Those are the numbers of another seed.": rng(0).standard_normal(shape),
                "float32 is drawn from other bits than float64: draw first, then convert.": (
                    rng(seed).standard_normal(shape, dtype="float32")
                ),
                "NumPy's old generator draws other numbers: use np.random.default_rng.": (
                    np.random.RandomState(seed).standard_normal(shape)
                ),
                "Those are the seed's numbers in another order, or with fewer digits: draw them in that shape, and "
                "convert them once, to float32.": lambda got: (
                    np.shape(got) == shape and np.allclose(np.sort(got, None), np.sort(right, None), atol=0.01)
                ),
                "Those are not the seed's numbers, as standard_normal gives them.": lambda got: (
                    library == "numpy" and np.shape(got) == shape
                ),
                "The device's own generator draws other numbers: draw on the host.": lambda got: (
                    library == "device" and np.shape(got) == shape
                ),
            }
            answer["values"].equals(right, mistakes)
            answer["dtype"].equals("float32", hint=DOUBLE)


DOUBLE = fine("The numbers are not float32: convert them before they travel.")


def sides_and_shapes(d):
    shape = tuple(d.choice(2, 1, 3) for _ in range(d.choice(1, 2, 3)))
    odd = d.fine("It goes wrong for a shape without axes, or with one of length 0.", shape, (), (0,), (2, 0))
    return d.choice(*LIBRARIES), odd, d.number(0, 1, 7)


SIGN = "The step goes uphill: subtract the gradient."


def descent(x, y, steps, rate, factor=2.0, summed=False, late=False):
    """Return w and the losses of a descent, with one thing changed."""
    w, losses = np.zeros(x.shape[1]), []
    for _ in range(steps):
        error = x @ w - y
        before = (error**2).sum() if summed else (error**2).mean()
        w = w - rate * factor / len(y) * x.T @ error
        losses.append(((x @ w - y) ** 2).mean() if late else before)
    return w, np.array(losses)


@task(6)
def training(student):
    """Which lines of the loop need a number on the host? And which lines need the data to travel?

    Take x and y across before the loop; keep the losses in a list as they are, and fetch them at the end.

    x = [1, 2], y = [2, 4], rate 0.1: the errors are -2, -4, the loss 10, the gradient 2/2 · (1 · -2 + 2 · -4) = -10,
    and w goes from 0 to 1. Three losses without axes are one array of three by stack, and travel as one.
    """
    search(student.driver.fit, descents, facts=facts_of_fit, tolerance=1e-4)
    rng = np.random.default_rng(6)
    for library in LIBRARIES:
        for n, d, steps in [(3, 2, 1), (3, 2, 2), (4, 2, 8)]:
            x, y, rate = draw(rng, n, d), draw(rng, n), 0.1
            answer = student.driver.fit(library, x, y, steps, rate)
            answer.returns(REFUSED)
            w, losses = descent(x, y, steps, rate)
            for part, right in (("losses", losses), ("w", w)):
                mistakes = {"w and the losses are to be NumPy arrays: fetch them after the last step.": "device"}
                answer[part]["where"].equals(
                    "host", mistakes, hint="The losses are to be one NumPy array: stack them, and fetch that."
                )
                index = 0 if part == "w" else 1
                mistakes = {
                    "The loss is the sum of the squares here; it is to be the mean.": (
                        descent(x, y, steps, rate, summed=True)[index]
                    ),
                    "The loss is taken after the step: it is to be the one before.": (
                        descent(x, y, steps, rate, late=True)[index]
                    ),
                    "The factor 2 of the square's derivative is missing.": (
                        descent(x, y, steps, rate, factor=1.0)[index]
                    ),
                    "The gradient is not divided by n.": descent(x, y, steps, rate, factor=2.0 * n)[index],
                    SIGN: descent(x, y, steps, rate, factor=-2.0)[index],
                }
                answer[part]["values"].equals(right, mistakes)
            answer["waited"].holds(
                lambda waited: waited <= 2,
                "the device waited for at most twice",
                "Each loss is waited for by itself: keep them on the device, stack them, and fetch all at once.",
            )
            if library == "device":
                answer["uploaded"].holds(
                    lambda uploaded: uploaded <= 4,
                    "x and y copied to the device once",
                    "The data travels in each step: take x and y across before the loop.",
                )
    answer["waited after the last step"].equals(
        True, hint="The device is waited for before the last step is given: fetch after the loop."
    )
    x, y = np.array([[1.0], [1.0], [-1.0]]), np.array([1.0, 2.0, 0.0])
    for library in LIBRARIES:
        student.driver.fit(library, x, y, 1, 1)["w"]["values"].equals(
            descent(x, y, 1, 1)[0],
            instead={fine("A rate may be a whole number, and 2 · rate / n is none: it was cut off."): [0]},
        )


def descents(d):
    """Draw inputs of a descent, with rates small enough for it to converge."""
    n, dim = d.choice(1, 2, 3, 4, 80), d.size()
    x, y = d.array(n, dim), d.array(n)
    whole = d.whole(n, dim, least=-4, below=5), d.whole(n, least=-4, below=5)
    x, y = d.fine("It goes wrong where x and y are whole numbers.", (x, y), whole)
    return (
        d.choice(*LIBRARIES),
        x,
        y,
        d.number(1, 2, 5),
        d.number(0.1, 0.3, 0.2) / max(float(np.abs(x).max()) ** 2 * dim, 1e-12),
    )


def facts_of_fit(result):
    w, losses = result["w"], result["losses"]
    return {
        "w": w["values"],
        "losses": losses["values"],
        "where w and losses are": (w["where"], losses["where"]),
        "waited more than twice": result["waited"] > 2,
        "x and y copied once": result["uploaded"] <= 4,
        "waited after the last step": result["waited after the last step"],
    }
