"""The checks of lesson 01. They run in the checker's process; driver.py runs beside the student's code."""

import numpy as np

from minilora.classroom import explaining, fine, promise, raised, search, task
from minilora.measure.statistics import t_quantile

USES = ()
PROMISES = {
    "bits_per_character": promise(outside="zeros, large"),  # probabilities lie above 0 and not above 1
    "is_better": promise(outside="one row"),  # of one seed there is no interval
}

TEXTS = ("aab", "ab", "aaaa", "abcd", "Return the mean of an array.", "né été", "aaš")


def shares_of(text):
    return np.array([text.count(character) for character in sorted(set(text))]) / len(text)


def entropy_of(text):
    return float(-(shares_of(text) * np.log2(shares_of(text))).sum())


def cleaned(text):
    """Return the variants of a text in which some characters are confused or ignored."""
    letters = "".join(character for character in text if character.isalpha())
    return text.lower(), letters, letters.lower(), text.replace(" ", "")


@task(1)
def measuring(student):
    """How often does each character occur, as a share of all? And how many bits is one of them worth?

    letter_entropy: weigh each character's surprise, -log2(share), with its share, and add up. For bits_per_character,
    each token came once: add up the surprises as they are.

    In "aaab", the shares are 3/4 and 1/4, worth 0.415 and 2 bits: 3/4 · 0.415 + 1/4 · 2 = 0.811 bits. Tokens of 1/4 and
    1/2 are worth 2 and 1 bits; where they make up 6 characters, that is 3 / 6 = 0.5 bits per character.
    """
    search(student.letter_entropy, texts)
    search(student.bits_per_character, probabilities_of_tokens)
    for text in TEXTS:
        shares = shares_of(text)
        bits = -np.log2(shares)
        mistakes = {
            "That is in nats: take the logarithm to base 2.": float((shares * bits).sum() * np.log(2)),
            "The sign is wrong: the logarithm of a share is negative.": float(-(shares * bits).sum()),
            "Every character counts as often as any other: weigh each surprise with its share.": float(bits.mean()),
            "The surprises of different characters are added up: weigh each with its share.": float(bits.sum()),
            "That is for the whole text: divide by its length.": float((shares * bits).sum() * len(text)),
            "That is how many characters there are to choose from: use how often each occurs.": float(
                np.log2(len(shares))
            ),
            "That is a logarithm to base 10: bits need base 2.": float((shares * bits).sum() * np.log10(2)),
            "Bytes were counted: é is one character and two bytes.": lambda got, text=text: (
                abs(got - entropy_of(text.encode().decode("latin-1"))) < 1e-6
            ),
            "Capitals, spaces and full stops are characters of their own: count them all, as they are.": (
                lambda got, text=text: any(abs(got - entropy_of(other)) < 1e-6 for other in cleaned(text))
            ),
            "The counts are used as if they were shares: divide them by their sum.": lambda got: (
                abs(got + (shares * len(text) * np.log2(shares * len(text))).sum()) < 1e-6
            ),
        }
        student.letter_entropy(text).equals(float((shares * bits).sum()), mistakes)
    cases = [
        ([0.5], 1),
        ([0.5, 0.25], 2),
        ([0.5, 0.25], 6),
        ([0.1, 0.9, 0.3], 20),
        (2000 * [0.25], 8000),
        ([1e-300, 0.5], 4),
    ]
    for probabilities, characters in cases:
        values = np.array(probabilities)
        bits = -np.log2(values)
        mistakes = {
            "That is in nats: take the logarithm to base 2.": float(bits.sum() * np.log(2) / characters),
            "That is per token: divide by the number of characters, not of tokens.": float(bits.mean()),
            "That is for the whole text: divide by the number of characters.": float(bits.sum()),
            "The sign is wrong: the logarithm of a probability is negative.": float(-bits.sum() / characters),
            "Each surprise is weighted with its probability: each token came once, so each counts once.": float(
                (values * bits).sum() / characters
            ),
            "The probabilities are averaged first: take the logarithm of each.": float(-np.log2(values.mean())),
            "The probabilities are added up first: take the logarithm of each.": float(
                -np.log2(values.sum()) / characters
            ),
            "The surprises were averaged before they were divided: add them up.": float(bits.mean() / characters),
            "The product of many probabilities is 0 to the computer: take logarithms first, and add them up.": (
                lambda got: np.isinf(got) and np.prod(values) == 0
            ),
            CAPPED: lambda got: values.min() < 1e-20,
        }
        student.bits_per_character(values, characters).equals(float(bits.sum() / characters), mistakes)


def texts(d):
    return ["".join("aA é\n{0"[i] for i in d.whole(d.size(1, 8), below=d.choice(4, 7)))]


CAPPED = fine(
    "A token of probability 10⁻³⁰⁰ costs 997 bits, neither more nor fewer: take the logarithm of it as it is."
)


def probabilities_of_tokens(d):
    kind = d.fine(CAPPED, d.choice("ordinary", "ties", "tiny"), "rare")
    p = d.whole(d.size(), least=1, below=3 if kind == "ties" else 11) / {"tiny": 1e5, "rare": 1e300}.get(kind, 10)
    return p.astype("float64" if kind == "rare" else d.dtype), d.number(1, 4, 10)


ONE_CLASS = "Draw from each class on its own; a draw from all has by chance more of one class."
ENOUGH = "Each class has enough here: raise ValueError only where one has fewer than `per_class`."
GAPS = fine("Only classes that occur count: where no label is 0, there is no class 0 that has too few. Use np.unique.")
ROW = "What is drawn are neighbours: shuffle the examples of a class, so that any can go with any other."
TWO_DRAWS = "One seed gives two draws, the second time another: use the rng that `seed` made."
TWICE = "An example was drawn twice: its label would be paid for once and counted twice."
PLACES = "An index is a place in labels, not a place among the examples of its class."
NESTED = (
    "A larger budget does not contain the smaller one: shuffle each class whole, the same for every budget, and take "
    "the first of it."
)


@task(2)
def drawing(student):
    """Where are the examples of one class? In which order could you put them so that a budget is a prefix?

    np.flatnonzero(labels == label) are a class's places; rng.permutation shuffles them.

    Labels 0, 1, 1, 0, 1: class 0 is at 0, 3 and class 1 at 1, 2, 4. Shuffled, say, 3, 0 and 2, 4, 1. A budget of 1 is
    then 3, 2, and one of 2 is 3, 0, 2, 4, with the smaller one in it; of 3 there are not enough.
    """
    search(student.driver.draws, budgets_to_draw, facts=facts_of_draws, hints={"the same draw again": TWO_DRAWS})
    for labels in ([0, 1, 0, 1], [1, 0, 0, 0, 1, 0, 1], [2, 0, 1, 1, 2, 0, 0, 0, 2, 1, 0, 0]):
        labels = np.array(labels)
        classes, counts = np.unique(labels, return_counts=True)
        least = int(counts.min())
        for per_class in range(1, least + 1):

            def is_balanced(got, labels=labels, per_class=per_class):
                return all((labels[np.array(got)] == label).sum() == per_class for label in np.unique(labels))

            answer = student.draw_budget(labels, per_class, 0)
            mistakes = {
                ENOUGH: raised("ValueError"),
                "rng.shuffle shuffles in place and returns None: rng.permutation returns what is shuffled.": raised(
                    "TypeError", "NoneType"
                ),
            }
            answer.returns(mistakes)
            answer.holds(
                lambda got: np.asarray(got).dtype.kind in "iu" and np.ndim(got) == 1,
                "an array of indices",
                "Return indices into labels, in one array.",
                instead={
                    "Return where the examples are, not which are chosen as True: np.flatnonzero.": (
                        lambda got: np.asarray(got).dtype.kind == "b"
                    ),
                    "Join the classes' draws into one array: np.concatenate.": lambda got: np.ndim(got) == 2,
                },
            )
            answer.holds(
                lambda got: len(got) == per_class * len(classes),
                f"{per_class * len(classes)} indices, {per_class} of each of {len(classes)} classes",
                "The number of indices is wrong: it is `per_class` times the number of classes.",
                instead={
                    "The budget counts for each class: there are so many labels in all.": lambda got: (
                        len(got) == per_class
                    )
                },
            )
            answer.holds(
                lambda got: len(np.unique(got)) == len(got),
                "no index twice",
                TWICE,
                instead={f"{TWICE} {PLACES}": lambda got: max(got) < counts.max()},
            )
            answer.holds(
                lambda got: min(got) >= 0 and max(got) < len(labels),
                f"indices between 0 and {len(labels) - 1}",
                "An index lies outside labels.",
            )
            answer.holds(
                is_balanced,
                f"{per_class} of each class",
                ONE_CLASS,
                instead={PLACES: lambda got: max(got) < counts.max() < len(labels) - 4},
            )
        mistakes = {
            "Fewer are drawn without a word: raise ValueError where a class has too few.": lambda got: True,
            "Say it yourself, by a ValueError: here something else failed.": raised("Exception"),
        }
        student.draw_budget(labels, least + 1, 0).equals(raised("ValueError"), mistakes)
    labels = np.arange(40) % 2
    draws = [[places_in(student.draw_budget(labels, n, seed).value) for n in (2, 5, 20)] for seed in range(12)]
    again = student.draw_budget(labels, 5, 3)
    again.holds(
        lambda got: places_in(got) == draws[3][1],
        "the same draw for the same seed",
        TWO_DRAWS,
    )
    student.draw_budget(labels, 5, 1).holds(
        lambda got: places_in(got) != draws[0][1],
        "another draw for another seed",
        "Every seed gives the same draw: shuffle by the rng that `seed` made.",
    )
    for seed, (few, _, _) in enumerate(draws):
        student.draw_budget(labels, 5, seed).holds(
            lambda got, few=few: set(few) <= set(places_in(got)), f"the draw of 2 per class, {few}, and more", NESTED
        )
    student.driver.drawn_by_100(np.repeat([0, 1], [4, 20]), 3).equals(
        np.arange(24), hint="Some examples are never drawn: shuffle all of a class before you take the first."
    )
    student.draw_budget(labels, 5, 0).holds(
        lambda got: not all(are_neighbours([i for i in five if i % 2 == 0]) for _, five, _ in draws),
        "over 12 seeds, examples that are not neighbours",
        ROW,
    )


def budgets_to_draw(d):
    """Draw labels with gaps between the classes, two budgets (perhaps too large for a class), and a seed."""
    of_each = [d.size(1, 4) for _ in range(d.size(1, 3))]
    classes = d.fine(GAPS, [0, 1, 2], [2, 5, 1000])
    labels = np.array(d.shuffled([c for c, count in zip(classes, of_each, strict=False) for _ in range(count)]))
    few = d.number(1, 2)
    return labels, few, max(few, min(of_each)), d.number(0, 1, 7)


def facts_of_draws(drawn):
    """Return the facts that all right draws share."""
    few, labels = np.array(drawn["few"]), np.array(drawn["labels"])
    is_inside = few.dtype.kind in "iu" and few.ndim == 1 and bool(np.all((few >= 0) & (few < len(labels))))
    classes, counts = np.unique(labels[few] if is_inside else [], return_counts=True)
    return {
        "indices into labels": is_inside,
        "classes drawn": classes,
        "how many of each": counts,
        "none twice": len(set(few.tolist())) == len(few),
        "the same draw again": places_in(few) == places_in(drawn["again"]),
        "the smaller budget is in the larger one": set(few.tolist()) <= set(np.array(drawn["many"]).tolist()),
    }


def places_in(drawn):
    return sorted(int(i) for i in drawn)


def are_neighbours(places):
    """Return True if these of the 20 places 0, 2, …, 38 are consecutive; 0 comes after 38."""
    return sum((b - a) % 40 != 2 for a, b in zip(places, places[1:] + places[:1], strict=True)) <= 1


@task(3)
def reading(student):
    """What does each class remember, and with which shape? To what is a new row compared?

    means (classes, d): the mean over axis 0 of a class's rows. Distances (m, classes): sum over d of squares.

    Class 0 at (0, 0) and (2, 0), class 1 at (5, 1): the means are (1, 0) and (5, 1). (3, 3) lies √(2² + 3²) = 3.6 from
    the first and √(2² + 2²) = 2.8 from the second: class 1. For all at once, x[:, None] - means has an axis of rows and
    one of classes. accuracy: of 1, 0, 1 against 1, 1, 1, two of three are right: 0.667.
    """
    search(student.nearest_mean, examples_of_classes)
    search(student.accuracy, lambda d: [d.whole(n := d.size(), below=3), d.whole(n, below=3)])
    rng = np.random.default_rng(3)
    cases = [
        (np.array([[0.0], [4.0]]), np.array([0, 1]), np.array([[1.0], [3.5], [9.0], [-7.0]])),
        (np.array([[6.0], [4.0], [0.0]]), np.array([1, 1, 0]), np.array([[1.0], [2.8], [3.5], [9.0]])),
        (rng.normal(size=(9, 2)).round(1), np.arange(9) % 3, rng.normal(size=(6, 2)).round(1)),
        (rng.normal(size=(8, 4)).round(1) + 3, np.array([0, 1, 1, 1, 0, 1, 2, 1]), rng.normal(size=(40, 4)).round(1)),
    ]
    answers, known = [student.nearest_mean(*case) for case in cases], [classes(*case) for case in cases]
    hint = explaining(answers, known)
    for answer, one in zip(answers, known, strict=True):
        answer.equals(one[RIGHT], {hint: one[hint]} if hint else {})
    for train_x, train_y, x in WHOLE:
        student.nearest_mean(train_x, train_y, x).equals(classes(train_x, train_y, x)[RIGHT], hint=CUT)
    for predicted, labels in (([1], [1]), ([0, 1], [0, 0]), ([0, 1, 1], [0, 1, 0]), ([2, 0, 1, 0], [0, 0, 2, 2])):
        predicted, labels = np.array(predicted), np.array(labels)
        right = int((predicted == labels).sum())
        mistakes = {
            "That is how many are right: divide by how many there are.": right,
            "That is in percent: give a share between 0 and 1.": 100 * right / len(labels),
            "That is the share that is wrong.": 1 - right / len(labels),
            "How far apart the two numbers are does not matter: count where they are equal.": float(
                1 - np.abs(predicted - labels).mean()
            ),
            "Each class counts as much as any other here: take the share of all examples.": float(
                np.mean([(predicted == labels)[labels == label].mean() for label in np.unique(labels)])
            ),
            "That is whether each is right: take the mean of it.": lambda got: np.ndim(got) == 1,
            "That is one word for all: take the mean of what is equal.": lambda got: isinstance(got, bool),
        }
        student.accuracy(predicted, labels).equals(right / len(labels), mistakes)


RIGHT = "right"
CUT = fine("Right for floats, wrong for features that are whole numbers: the means of them are not.")
WHOLE = [
    (np.array([[2], [3], [3], [3], [4]]), np.array([0, 0, 0, 1, 1]), np.array([[3], [1], [9]])),
    (np.array([[5], [18], [14]]), np.array([0, 0, 1]), np.array([[13], [10], [7], [19]])),
]


def classes(train_x, train_y, x):
    """Return {RIGHT: the classes, hint: those of the mistake}."""
    means = np.stack([train_x[train_y == label].mean(axis=0) for label in range(train_y.max() + 1)])
    sums = np.stack([train_x[train_y == label].sum(axis=0) for label in range(train_y.max() + 1)])
    differences = x[:, None] - means
    distances = (differences**2).sum(axis=2)
    whole = np.array([train_x[train_y == label].mean() for label in range(train_y.max() + 1)])
    one_by_one = np.sqrt(((x[:, None] - train_x) ** 2).sum(axis=2))  # (m, n)
    lengths = np.sqrt((means**2).sum(axis=1)) + 1e-300
    of_class = np.stack([one_by_one[:, train_y == label].mean(axis=1) for label in range(train_y.max() + 1)])
    return {
        RIGHT: distances.argmin(axis=1),
        "That is the class that is farthest away: take the nearest, argmin.": distances.argmax(axis=1),
        "Return the class of each row, not the distances.": lambda got, d=distances: np.shape(got) == d.shape,
        "There is one class for each row: take argmin over the classes.": lambda got, x=x: np.shape(got) != (len(x),),
        "Differences are added with their signs, so that they cancel: square them first.": differences.sum(
            axis=2
        ).argmin(axis=1),
        "That is the class of the one nearest example: take the nearest mean.": train_y[
            ((x[:, None] - train_x) ** 2).sum(axis=2).argmin(axis=1)
        ],
        "The classes' sums are compared: divide by how many examples each has.": ((x[:, None] - sums) ** 2)
        .sum(axis=2)
        .argmin(axis=1),
        "Products with the means are compared: take the length of the difference.": (x @ means.T).argmax(axis=1),
        "The absolute differences are added up: square them.": np.abs(differences).sum(axis=2).argmin(axis=1),
        "The mean of a class is one number: it has d of them, .mean(axis=0).": ((x[:, None] - whole[:, None]) ** 2)
        .sum(axis=2)
        .argmin(axis=1),
        "The mean of the distances is not the distance to the mean: take the mean of the rows first.": (
            of_class.argmin(axis=0)
        ),
        "Only the first feature is compared: the sum goes over all d.": np.abs(differences[:, :, 0]).argmin(axis=1),
        "Two classes are compared, and there are more: 0, 1, 2, …": lambda got: (
            max(got) < 2 if train_y.max() > 1 else np.array_equal(got, distances.argmin(axis=1))
        ),
        "Directions are compared: take the length of the difference.": (x @ means.T / lengths).argmax(axis=1),
        "Every row gets the same class here, whatever mean it is nearest to.": (
            lambda got: len(set(np.asarray(got).tolist())) == 1
        ),
    }


def examples_of_classes(d):
    """Draw rows that are clearly nearest to one mean, however distances are computed."""
    dim, classes = d.size(), d.size(1, 3)
    train_y = np.array(d.shuffled([*range(classes), *d.whole(d.size(0, 3), below=classes)]))
    if d.fine(CUT, "floats", "whole numbers") == "floats":
        train_x, x = d.array(len(train_y), dim), d.array(d.size(), dim)
    else:
        train_x, x = d.whole(len(train_y), dim, least=-4, below=5), d.whole(d.size(), dim, least=-4, below=5)
    size = np.abs(train_x).max() or 1
    for rows, classes_of_rows in ((train_x, train_y), (x, d.whole(len(x), below=classes))):
        rows[:, 0] += (3 * size * classes_of_rows).astype(rows.dtype)  # so that the means lie apart
    means = np.stack([train_x[train_y == label].mean(axis=0, dtype="float64") for label in range(classes)])
    distances = np.sort(((x[:, None] - means) ** 2).sum(axis=2), axis=1)
    is_clear = np.diff(distances[:, :2], axis=1, append=np.inf)[:, 0] > 1e-2 * size**2
    return train_x, train_y, x[is_clear] if is_clear.any() else means[-1:].astype(d.dtype)


@task(4)
def experimenting(student):
    """What happens once for each budget and each seed?

    draw_budget(labels, per_class, seed), then learn, then accuracy against test_labels.

    Budgets 1, 4 and seeds 7, 8, 9 are six runs: draw 1 per class by seed 7, learn, score, which gives the number in row
    0, column 0; 4 per class by seed 9 gives the one in row 1, column 2. The result is (2, 3).
    """
    search(student.driver.experiment, experiments, facts=facts_of_experiments, examples=40)
    rng = np.random.default_rng(4)
    for budgets, seeds in (([2], [0, 1]), ([1, 2, 4], [5, 7]), ([4, 8], [3, 1, 2])):
        labels, test_labels = rng.permutation(np.arange(24) % 2), rng.integers(0, 2, 30)
        answer = student.driver.experiment(labels, test_labels, budgets, seeds)
        answer.returns(
            {"The predictions are for the test examples: compare them with test_labels.": raised("ValueError")}
        )
        predictions = np.array(answer["predictions"].value)  # (budgets, seeds, tests)
        right = (predictions == test_labels).mean(axis=2)
        answer["sizes"].holds(
            lambda sizes: set(sizes) == {2 * budget for budget in budgets},
            f"learn to be given {' or '.join(str(2 * budget) for budget in budgets)} indices",
            "The learner is given other budgets: so many labels of each class, as draw_budget gives them.",
            instead={
                "The learner was never called: learn(indices) gives its predictions.": [],
                "The learner is given the whole pool: what it may see is what draw_budget draws.": lambda sizes: (
                    set(sizes) == {len(labels)}
                ),
            },
        )
        mistakes = {"The learner is called more than once for a draw.": lambda calls: calls > len(budgets) * len(seeds)}
        answer["calls"].equals(
            len(budgets) * len(seeds), mistakes, hint="The learner learns anew for each budget and each seed."
        )
        mistakes = {
            "Budgets and seeds have changed places: a row is a budget.": right.T,
            "The seeds were averaged: keep each one's accuracy, (budgets, seeds).": right.mean(axis=1),
            "The numbers come in one row: give a row for each budget, (budgets, seeds).": right.reshape(-1),
            "The learner is given labels: hand it the indices, as draw_budget gives them.": lambda got: all(
                set(chosen) <= {0, 1} for chosen in answer["given"].value
            ),
            "The draws are from test_labels: the labels to learn from are in labels.": lambda got: np.array_equal(
                got, (np.array(answer["from_test"].value) == test_labels).mean(axis=2)
            ),
            "That is the share that is wrong: use accuracy.": 1 - right,
            "The accuracies are cut to whole numbers: a table of zeros for them must be of floats.": np.trunc(right),
            "The learner's examples are not so many of each class: call draw_budget anew for each budget.": (
                lambda got: any(2 * sum(labels[chosen]) != len(chosen) for chosen in answer["given"].value)
            ),
            "The indices are of examples to learn from, and the test is another set: score all of it.": [
                [
                    score_of_others(answer["given"].value[i * len(seeds) + j], predictions[i, j], test_labels)
                    for j in range(len(seeds))
                ]
                for i in range(len(budgets))
            ],
            "Every seed gives the same numbers: hand the seed to draw_budget.": lambda got: (
                len(seeds) > 1 and np.ndim(got) == 2 and np.all(np.asarray(got)[:, 1:] == np.asarray(got)[:, :1])
            ),
            "The seed is its place in the list of seeds: use the seeds themselves.": (
                np.array(answer["by_place"].value) == test_labels
            ).mean(axis=2),
        }
        answer["found"].equals(right, mistakes)
    student.driver.too_large(labels, test_labels).equals(
        raised("ValueError"),
        hint="A budget that the labels do not have is the caller's mistake: let draw_budget's ValueError through.",
    )


def score_of_others(chosen, predicted, labels):
    """Return the accuracy without the test examples at the indices that were chosen for training."""
    others = np.setdiff1d(np.arange(len(labels)), chosen)
    return (predicted == labels)[others].mean() if len(others) else 0.0


def experiments(d):
    n, classes = d.size(1, 4), d.choice(1, 2)
    labels = np.array(d.shuffled(n * list(range(classes))))
    budgets = [budget for budget in d.choice([1], [2, 1], [1, 2, 4]) if budget <= n] or [1]
    return labels, d.whole(d.size(1, 6), below=2), budgets, d.whole(d.size(1, 3), below=1000).tolist()


def facts_of_experiments(result):
    """Return the facts that all right draws share."""
    right = (np.array(result["predictions"]) == result["test_labels"]).mean(axis=2)
    accuracies = np.array(result["found"], dtype="float64")
    return {
        "shape": accuracies.shape,
        "accuracies less those of the draws": accuracies - right if accuracies.shape == right.shape else None,
        "calls of learn": result["calls"],
    }


@task(5)
def scattering(student):
    """Over which axis do the seeds lie? And what do both learners share when they draw with the same seed?

    axis=1 is the seeds, ddof=1 divides by n - 1. Better: subtract first, then the mean of the differences must be more
    than T[n - 1] · s / √n, where s is their standard deviation.

    Ours 0.62, 0.74, 0.71 and theirs 0.55, 0.66, 0.62: the differences 0.07, 0.08, 0.09 have the mean 0.08 and s = 0.01.
    4.303 · 0.01 / √3 = 0.025, so that the interval goes from 0.055 to 0.105: better.
    """
    search(student.summarize, lambda d: [d.eighths(d.size(), d.size(2, 5))])
    search(student.is_better, ours_and_theirs, facts=bool)
    rng = np.random.default_rng(5)
    for budgets, seeds in ((1, 3), (2, 3), (3, 5)):
        a = rng.uniform(0.2, 0.9, (budgets, seeds)).round(2)
        means, deviations, half = a.mean(axis=1), a.std(axis=1, ddof=1), np.ptp(a, axis=1) / 2
        mistakes = {
            "That divides by the number of seeds: divide by one less (ddof=1), since the mean is of these seeds.": (
                means,
                a.std(axis=1),
            ),
            "That is the variance: take its root.": lambda got, a=a: (
                np.allclose(got[1], a.var(axis=1)) or np.allclose(got[1], a.var(axis=1, ddof=1))
            ),
            "That is the standard error, of the mean: here it is how far single seeds lie from it.": (
                means,
                deviations / np.sqrt(seeds),
            ),
            "That comes from the range, which only grows with more seeds: take the standard deviation.": (
                lambda got, half=half: np.allclose(got[1], half) or np.allclose(got[1], 2 * half)
            ),
            "That is the mean distance from the mean: take the root of the squares' mean.": (
                means,
                np.abs(a - means[:, None]).mean(axis=1),
            ),
            "That is one array: return two, the means and the deviations, with a comma between them.": (
                lambda got: isinstance(got, np.ndarray)
            ),
            "They run over the budgets: the seeds are axis 1.": lambda got, s=seeds, b=budgets: (
                s != b and np.shape(got[0]) == (s,)
            ),
            "All budgets were put together: give one mean for each.": lambda got: np.ndim(got[0]) == 0,
            "The means come first, then the deviations.": (deviations, means),
            "That is the median: take the mean.": (np.median(a, axis=1), deviations),
        }
        student.summarize(a).equals((means, deviations), mistakes)
    answers = [student.is_better(np.array(ours), np.array(theirs)) for ours, theirs in CASES]
    known = [verdicts(np.array(ours), np.array(theirs)) for ours, theirs in CASES]
    hint = explaining(answers, known)
    for answer, one in zip(answers, known, strict=True):
        no_bool = {
            fine("Return True or False, as a comparison gives it."): lambda got, one=one: got == one[RIGHT],
            "T begins at one degree of freedom, that of two seeds: n seeds have n - 1.": raised("KeyError"),
        }
        answer.equals(one[RIGHT], no_bool | ({hint: one[hint]} if hint else {}))


def half_width(differences):
    """Return the distance from the mean to either end of the interval."""
    return t_quantile(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))


SPREAD = np.array([-9, -6, -3, -1, 0, 1, 3, 6, 9]) / 100
CASES = [
    *[([0.8, 0.9, 0.88], [0.3, 0.4, 0.37]), ([0.3, 0.4, 0.37], [0.8, 0.9, 0.88]), ([0.5, 0.9, 0.5], [0.4, 0.8, 0.6])],
    *[
        ([0.55, 0.76, 0.95], [0.5, 0.7, 0.9]),
        ([0.95, 0.55, 0.76], [0.5, 0.9, 0.7]),
        ([0.51, 0.9, 0.62], [0.5, 0.6, 0.6]),
    ],
    *[([0.7, 0.8, 0.6], [0.6, 0.6, 0.56]), ([0.75, 0.75], [0.4, 0.5]), (0.53 + SPREAD, 0.5 + 0 * SPREAD)],
    *[([0.602, 0.702, 0.802], [0.5, 0.5, 0.5]), ([0.631, 0.731, 0.831], [0.5, 0.5, 0.5])],
    *[(0.58 + SPREAD, 0.5 + 0 * SPREAD), ([0.7, 0.7, 0.7, 0.7, 0.4], 5 * [0.5]), ([0.5, 0.75], [0.5, 0.75])],
]


def verdicts(ours, theirs):
    """Return {RIGHT: the verdict, hint: that of the mistake}."""
    d, n = ours - theirs, len(ours)
    t, s, apart = t_quantile(0.975, n - 1), d.std(ddof=1), np.sqrt(ours.var(ddof=1) + theirs.var(ddof=1))
    wrong = {
        "Theirs is compared with ours: ours must be the one above.": -d.mean() - t * s / n**0.5,
        "Worse is not better: ours must be above theirs.": abs(d.mean()) - t * s / n**0.5,
        "The interval reaches below 0: that is not a verdict, even if the mean is above 0.": d.mean(),
        "A draw that helps both makes no difference: subtract seed by seed, and use the spread of the differences.": (
            d.mean() - t * apart / n**0.5
        ),
        "Half ranges are added up: subtract seed by seed, and take the spread of the differences.": (
            d.mean() - (np.ptp(ours) + np.ptp(theirs)) / 2
        ),
        "Standard deviations are added up: subtract seed by seed, and take the spread of the differences.": (
            d.mean() - ours.std(ddof=1) - theirs.std(ddof=1)
        ),
        "The order of the seeds is what pairs ours with theirs: do not sort them.": (
            d.mean() - t * (np.sort(ours) - np.sort(theirs)).std(ddof=1) / n**0.5
        ),
        "To be ahead with each seed is not enough: three coins fall alike, too.": d.min(),
        "Few seeds hardly tell how far they scatter: take t from T, 4.303 for three of them, and not 1.96.": (
            d.mean() - 1.96 * s / n**0.5
        ),
        "Few seeds hardly tell how far they scatter: take t from T, 4.303 for three of them, and not 2.": (
            d.mean() - 2 * s / n**0.5
        ),
        "n seeds have n - 1 degrees of freedom, whatever n is: T[n - 1], and not always T[2].": (
            d.mean() - t_quantile(0.975, 2) * s / n**0.5
        ),
        "n seeds have n - 1 degrees of freedom: T[n - 1].": d.mean() - t_quantile(0.975, n) * s / n**0.5,
        "s is divided by n: divide it by √n.": d.mean() - t * s / n,
        "That t leaves 5 % on one side: T leaves 2.5 % on either.": d.mean() - t_quantile(0.95, n - 1) * s / n**0.5,
        "The squares are divided by n: divide by n - 1 (ddof=1).": d.mean() - t * d.std() / n**0.5,
        "How far the mean lies off is asked for, not how far a single seed: divide s by √n.": d.mean() - t * s,
        "The median of the differences is taken: take their mean.": np.median(d) - t * s / n**0.5,
    }
    equal = {"As good is not better: > and not >=.": bool(d.mean() - t * s / n**0.5 >= 0)}
    return {RIGHT: bool(d.mean() > t * s / n**0.5)} | {hint: bool(above > 0) for hint, above in wrong.items()} | equal


def ours_and_theirs(d):
    """Draw seeds whose interval begins clearly above or below 0, measured in half widths."""
    scale, n = d.choice(0.125, 128.0, 2.0**-14), d.choice(3, 2, 5)
    theirs, differences = (d.whole(n, least=-8, below=9) * scale for _ in range(2))
    differences = differences ** d.choice(1, 3)  # cubes are skewed: one seed lies far from the others
    differences = differences - differences.mean()
    differences = differences + d.number(1.25, 0.8, 3.0, -1.25) * half_width(differences)
    return [(theirs + differences).astype(d.dtype), theirs.astype(d.dtype)]


def curves(d):
    """Draw rising budgets, and a target equal to a mean, between two means, or below or above all of them."""
    budgets = np.cumsum(d.whole(n := d.size(), least=1, below=6)).tolist()
    means = d.array(n)
    levels = np.unique(means)
    levels = np.concatenate([[2 * levels[0] - levels[-1] - 1], levels, [2 * levels[-1] - levels[0] + 1]])
    i = d.whole(1, least=1, below=len(levels))[0]
    return (
        budgets,
        means,
        float(levels[i] if d.choice(0, 1) and i < len(levels) - 1 else (levels[i - 1] + levels[i]) / 2),
    )


BEST = "The line begins at the point before, and not at the best one so far: the curve may have fallen."
LINEAR = "The line between two points is straight in log(labels), not in labels."


@task(6)
def saving(student):
    """Between which two points does the curve first reach the target?

    How far from the lower to the upper mean is the target, as a share? Go that share of the way in log(labels).

    From 0.5 at 10 labels to 0.9 at 1000, 0.6 is a quarter of the way. In logarithms to base 10, the labels go from 1 to
    3, and a quarter of that way is 1.5. So the answer is 10^1.5 = 31.6, and not 257.
    """
    search(student.labels_needed, curves, tolerance=1e-4)
    cases = [
        ([4, 16], [0.4, 0.8], 0.6, {LINEAR: 10.0, "That is the next point: read between the points.": 16.0}),
        ([4, 16], [0.4, 0.8], 0.8, {LINEAR: 28.0}),
        ([4, 16, 64], [0.5, 0.3, 0.7], 0.6, {BEST: 16 * 4**0.5}),
        ([4, 16], [0.4, 0.8], 0.3, {"The first budget is enough: return it.": lambda got: got != 4}),
        ([4, 16], [0.4, 0.8], 0.9, {"The curve never gets there: return None.": lambda got: got is not None}),
        ([1, 2, 8, 32], [0.2, 0.3, 0.4, 0.8], 0.5, {}),
        ([1, 2, 4, 8], [0.5, 0.7, 0.6, 0.8], 0.65, {}),
        ([2, 8, 32], [0.3, 0.7, 0.6], 0.65, {}),
        ([2, 8, 32], [0.7, 0.5, 0.9], 0.6, {"The first budget is enough: return it.": lambda got: got != 2}),
    ]
    for budgets, means, target, instead in cases:
        means = np.array(means)
        reached = np.flatnonzero(means >= target)
        right = None
        if len(reached):
            i = int(reached[0])
            right = float(budgets[0])
            if i:
                low, high = budgets[i - 1], budgets[i]
                share = (target - means[i - 1]) / (means[i] - means[i - 1])
                right = float(low * (high / low) ** share)
                linear = low + share * (high - low)
                last = int(reached[-1])
                instead = instead | {
                    LINEAR: linear,
                    "That is the next point: read between the points.": float(high),
                    "That is the point before: read between the points.": float(low),
                    "The budgets need not double: the factor between two of them is budgets[i] / budgets[i-1].": (
                        float(low * 2**share)
                    ),
                    "It is rounded: leave it as it is, between two budgets it is seldom whole.": (
                        lambda got, right=right: got != right and got in (np.floor(right), np.ceil(right))
                    ),
                    "That is the logarithm of the number of labels.": lambda got, right=right: (
                        min(abs(got - log(right)) for log in (np.log, np.log2, np.log10)) < 1e-6
                    ),
                    "The curve reaches the target before that: take the first place.": lambda got, high=high: (
                        got is None or got > high or last != i
                    ),
                }
        student.labels_needed(budgets, means, target).equals(
            right,
            instead
            | (
                {"Python stopped where the curve never gets there: return None.": raised("Exception")}
                if right is None
                else {"The curve does get there: return the number of labels.": None}
            ),
        )
