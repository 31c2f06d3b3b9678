"""Answers to lesson 01 that the checks are tried on."""

from minilora.classroom import Mistake, Right

EACH = """
        chosen = []
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            {}
        return np.concatenate(chosen)
        """
LOOP = """
        found = np.zeros((len(budgets), len(seeds)))
        for i, per_class in enumerate(budgets):
            for j, seed in enumerate(seeds):
                {}
        return found
        """
BETWEEN = """
        if means[0] >= target:
            return budgets[0]
        for i in range(1, len(budgets)):
            if means[i] >= target:
                share = (target - means[i - 1]) / (means[i] - means[i - 1])
                return {}
        return None
        """

MISTAKES = [
    # Task 1
    Mistake(
        "letter_entropy",
        "natural logarithm",
        """
        shares = np.array(list(Counter(text).values())) / len(text)
        return -(shares * np.log(shares)).sum()
        """,
        "in nats",
    ),
    Mistake(
        "letter_entropy",
        "sign",
        """
        shares = np.array(list(Counter(text).values())) / len(text)
        return (shares * np.log2(shares)).sum()
        """,
        "sign is wrong",
    ),
    Mistake(
        "letter_entropy",
        "not weighted",
        """
        shares = np.array(list(Counter(text).values())) / len(text)
        return -np.log2(shares).mean()
        """,
        "weigh each surprise",
    ),
    Mistake(
        "letter_entropy",
        "sum of surprises",
        """
        shares = np.array(list(Counter(text).values())) / len(text)
        return -np.log2(shares).sum()
        """,
        "surprises of different characters are added",
    ),
    Mistake("letter_entropy", "alphabet", "return np.log2(len(set(text)))", "how many characters there are to choose"),
    Mistake(
        "letter_entropy",
        "counts for shares",
        """
        counts = np.array(list(Counter(text).values()))
        return -(counts * np.log2(counts)).sum()
        """,
        "divide them by their sum",
    ),
    Mistake(
        "letter_entropy",
        "the whole text",
        """
        counts = np.array(list(Counter(text).values()))
        return -(counts * np.log2(counts / len(text))).sum()
        """,
        "divide by its length",
    ),
    Mistake(
        "letter_entropy",
        "base 10",
        """
        shares = np.array(list(Counter(text).values())) / len(text)
        return -(shares * np.log10(shares)).sum()
        """,
        "base 10",
    ),
    Mistake(
        "letter_entropy",
        "letters alone",
        """
        letters = [character for character in text if character.isalpha()]
        shares = np.array(list(Counter(letters).values())) / len(letters)
        return -(shares * np.log2(shares)).sum()
        """,
        "characters of their own",
    ),
    Mistake(
        "letter_entropy",
        "capitals taken for small letters",
        """
        shares = np.array(list(Counter(text.lower()).values())) / len(text)
        return -(shares * np.log2(shares)).sum()
        """,
        "characters of their own",
    ),
    Mistake(
        "bits_per_character", "averaged first", "return -np.log2(probabilities.mean())", "take the logarithm of each"
    ),
    Mistake(
        "bits_per_character",
        "added up first",
        "return -np.log2(probabilities.sum()) / characters",
        "added up first",
    ),
    Mistake(
        "bits_per_character",
        "averaged and divided",
        "return -np.log2(probabilities).mean() / characters",
        "averaged before they were divided",
    ),
    Mistake("bits_per_character", "per token", "return -np.log2(probabilities).mean()", "not of tokens"),
    Mistake("bits_per_character", "nats", "return -np.log(probabilities).sum() / characters", "in nats"),
    Mistake("bits_per_character", "sign", "return np.log2(probabilities).sum() / characters", "sign is wrong"),
    Mistake("bits_per_character", "whole text", "return -np.log2(probabilities).sum()", "number of characters"),
    Mistake(
        "bits_per_character",
        "weighted",
        "return -(probabilities * np.log2(probabilities)).sum() / characters",
        "each counts once",
    ),
    Mistake(
        "bits_per_character",
        "the product's logarithm",
        "return -np.log2(np.prod(probabilities)) / characters",
        "product of many probabilities is 0",
    ),
    Mistake(
        "letter_entropy",
        "bytes",
        """
        counts = np.array(list(Counter(text.encode()).values()))
        return -(counts / counts.sum() * np.log2(counts / counts.sum())).sum()
        """,
        "Bytes were counted",
    ),
    Mistake(
        "bits_per_character",
        "in float32",
        "return -np.log2(probabilities.astype('float32')).sum(dtype='float64') / characters",
        "0 in float32",
    ),
    # Task 2
    Mistake(
        "draw_budget",
        "from all",
        """
        count = per_class * len(np.unique(labels))
        if np.unique(labels, return_counts=True)[1].min() < per_class:
            raise ValueError
        return rng.permutation(len(labels))[:count]
        """,
        "Draw from each class",
    ),
    Mistake(
        "draw_budget",
        "so many in all",
        "return rng.permutation(len(labels))[:per_class]",
        "counts for each class",
    ),
    Mistake(
        "draw_budget",
        "with replacement",
        EACH.format("chosen.append(rng.choice(members, per_class))"),
        "drawn twice",
    ),
    Mistake(
        "draw_budget",
        "anew for each budget",
        EACH.format("chosen.append(rng.choice(members, per_class, replace=False))"),
        "does not contain the smaller one",
    ),
    Mistake(
        "draw_budget",
        "the seed of the process",
        EACH.format(
            "if len(members) < per_class: raise ValueError\n"
            "            chosen.append(np.random.permutation(members)[:per_class])"
        ),
        "One seed gives two draws",
    ),
    Mistake(
        "draw_budget",
        "the first",
        EACH.format(
            "if len(members) < per_class: raise ValueError\n            chosen.append(members[:per_class])",
        ),
        "Every seed gives the same draw",
    ),
    Mistake(
        "draw_budget",
        "first taken, then shuffled",
        EACH.format(
            "if len(members) < per_class: raise ValueError\n"
            "            chosen.append(rng.permutation(members[: per_class + 1])[:per_class])"
        ),
        "does not contain the smaller one",
    ),
    Mistake(
        "draw_budget",
        "too few, no word",
        EACH.format("chosen.append(rng.permutation(members)[:per_class])"),
        "raise ValueError",
    ),
    Mistake(
        "draw_budget",
        "places among the class",
        EACH.format(
            "if len(members) < per_class: raise ValueError\n"
            "            chosen.append(rng.permutation(len(members))[:per_class])"
        ),
        "a place in labels",
    ),
    Mistake(
        "draw_budget",
        "not joined",
        """
        rows = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
        return np.stack(rows)
        """,
        "Join the classes",
    ),
    Mistake(
        "draw_budget",
        "classes counted up to the largest",
        """
        chosen = []
        for label in range(labels.max() + 1):
            members = rng.permutation(np.flatnonzero(labels == label))
            if len(members) < per_class:
                raise ValueError("too few")
            chosen.append(members[:per_class])
        return np.concatenate(chosen)
        """,
        "Only classes that occur count",
    ),
    Mistake(
        "draw_budget",
        "from a random start on",
        EACH.format(
            "if len(members) < per_class: raise ValueError\n"
            "            start = rng.integers(len(members) - per_class + 1)\n"
            "            chosen.append(members[start : start + per_class])"
        ),
        "neighbours",
    ),
    Mistake(
        "draw_budget",
        "rolled",
        EACH.format(
            "if len(members) < per_class: raise ValueError\n"
            "            chosen.append(np.roll(members, rng.integers(len(members)))[:per_class])"
        ),
        "neighbours",
    ),
    Mistake(
        "draw_budget",
        "just enough refused",
        EACH.format(
            "if len(members) <= per_class: raise ValueError\n"
            "            chosen.append(rng.permutation(members)[:per_class])"
        ),
        "has enough here",
    ),
    Mistake(
        "draw_budget",
        "what shuffle returns",
        EACH.format("chosen.append(rng.shuffle(members)[:per_class])"),
        "rng.permutation returns",
    ),
    Mistake(
        "draw_budget",
        "one order for all classes",
        """
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        smallest = min(map(len, groups))
        if smallest < per_class:
            raise ValueError
        order = rng.permutation(smallest)[:per_class]
        return np.concatenate([group[order] for group in groups])
        """,
        "never drawn",
    ),
    Mistake(
        "draw_budget",
        "the last of each class left in place",
        EACH.format(
            "if len(members) < per_class: raise ValueError\n"
            "            chosen.append([*rng.permutation(members[:-1]), members[-1]][:per_class])"
        ),
        "never drawn",
    ),
    # Task 3
    Mistake(
        "nearest_mean",
        "farthest",
        """
        means = np.stack([train_x[train_y == c].mean(axis=0) for c in range(train_y.max() + 1)])
        return ((x[:, None] - means) ** 2).sum(axis=2).argmax(axis=1)
        """,
        "farthest",
    ),
    Mistake(
        "nearest_mean",
        "distances returned",
        """
        means = np.stack([train_x[train_y == c].mean(axis=0) for c in range(train_y.max() + 1)])
        return ((x[:, None] - means) ** 2).sum(axis=2)
        """,
        "not the distances",
    ),
    Mistake(
        "nearest_mean",
        "not squared",
        """
        means = np.stack([train_x[train_y == c].mean(axis=0) for c in range(train_y.max() + 1)])
        return (x[:, None] - means).sum(axis=2).argmin(axis=1)
        """,
        "square them",
    ),
    Mistake(
        "nearest_mean",
        "nearest example",
        """
        distances = ((x[:, None] - train_x) ** 2).sum(axis=2)
        return train_y[distances.argmin(axis=1)]
        """,
        "nearest mean",
    ),
    Mistake(
        "nearest_mean",
        "sums for means",
        """
        sums = np.stack([train_x[train_y == c].sum(axis=0) for c in range(train_y.max() + 1)])
        return ((x[:, None] - sums) ** 2).sum(axis=2).argmin(axis=1)
        """,
        "how many examples",
    ),
    Mistake(
        "nearest_mean",
        "products",
        """
        means = np.stack([train_x[train_y == c].mean(axis=0) for c in range(train_y.max() + 1)])
        return (x @ means.T).argmax(axis=1)
        """,
        "Products",
    ),
    Mistake(
        "nearest_mean",
        "absolute differences",
        """
        means = np.stack([train_x[train_y == c].mean(axis=0) for c in range(train_y.max() + 1)])
        return np.abs(x[:, None] - means).sum(axis=2).argmin(axis=1)
        """,
        "square them",
    ),
    Mistake(
        "nearest_mean",
        "nearest row of each class",
        """
        means = np.stack([train_x[train_y == c].mean(axis=0) for c in range(train_y.max() + 1)])
        return ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=0)
        """,
        "argmin over the classes",
    ),
    Mistake(
        "nearest_mean",
        "one number a class",
        """
        means = np.array([train_x[train_y == c].mean() for c in range(train_y.max() + 1)])
        return ((x[:, None] - means[:, None]) ** 2).sum(axis=2).argmin(axis=1)
        """,
        ".mean(axis=0)",
    ),
    Mistake(
        "nearest_mean",
        "mean of distances",
        """
        classes = range(train_y.max() + 1)
        far = [np.linalg.norm(x[:, None] - train_x[train_y == c], axis=2).mean(axis=1) for c in classes]
        return np.argmin(far, axis=0)
        """,
        "not the distance to the mean",
    ),
    Mistake(
        "nearest_mean",
        "two classes",
        """
        far = [np.linalg.norm(x - train_x[train_y == c].mean(axis=0), axis=1) for c in (0, 1)]
        return (far[1] < far[0]).astype(int)
        """,
        "and there are more",
    ),
    Mistake(
        "nearest_mean",
        "the norm of everything",
        """
        means = [train_x[train_y == c].mean(axis=0) for c in range(train_y.max() + 1)]
        return np.array([np.argmin([np.linalg.norm(x - mean) for mean in means]) for row in x])
        """,
        "same class",
    ),
    Mistake(
        "nearest_mean",
        "means in the features' dtype",
        """
        means = np.zeros_like(train_x[: train_y.max() + 1])
        for c in range(len(means)):
            means[c] = train_x[train_y == c].mean(axis=0)
        return ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        """,
        "cut to whole numbers",
    ),
    Mistake(
        "nearest_mean",
        "means rounded",
        """
        means = np.stack([train_x[train_y == c].mean(axis=0) for c in range(train_y.max() + 1)])
        means = means if x.dtype.kind == "f" else np.rint(means)
        return ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        """,
        "are rounded",
    ),
    Mistake(
        "nearest_mean",
        "distances cut",
        """
        means = np.stack([train_x[train_y == c].mean(axis=0) for c in range(train_y.max() + 1)])
        differences = (x[:, None] - means).astype(x.dtype)
        return (differences**2).sum(axis=2).argmin(axis=1)
        """,
        "are rounded",
    ),
    Mistake(
        "nearest_mean",
        "the first feature",
        """
        means = np.array([train_x[train_y == c, 0].mean() for c in range(train_y.max() + 1)])
        return np.abs(x[:, :1] - means).argmin(axis=1)
        """,
        "Only the first feature",
    ),
    Mistake("accuracy", "a count", "return (predicted == labels).sum()", "how many are right"),
    Mistake("accuracy", "percent", "return 100 * (predicted == labels).mean()", "in percent"),
    Mistake("accuracy", "errors", "return (predicted != labels).mean()", "share that is wrong"),
    Mistake("accuracy", "no mean", "return predicted == labels", "whether each is right"),
    Mistake("accuracy", "how far apart", "return 1 - np.abs(predicted - labels).mean()", "How far apart"),
    Mistake(
        "accuracy",
        "the mean over classes",
        "return np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)])",
        "Each class counts as much",
    ),
    # Task 4
    Mistake(
        "run_experiment",
        "one seed",
        LOOP.format("found[i, j] = accuracy(learn(draw_budget(labels, per_class, 0)), test_labels)"),
        "Every seed gives the same numbers",
    ),
    Mistake(
        "run_experiment",
        "place for seed",
        LOOP.format("found[i, j] = accuracy(learn(draw_budget(labels, per_class, j)), test_labels)"),
        "use the seeds themselves",
    ),
    Mistake(
        "run_experiment",
        "transposed",
        """
        draws = [[draw_budget(labels, per_class, seed) for per_class in budgets] for seed in seeds]
        return np.array([[accuracy(learn(chosen), test_labels) for chosen in row] for row in draws])
        """,
        "changed places",
    ),
    Mistake(
        "run_experiment",
        "averaged",
        """
        draws = [[draw_budget(labels, per_class, seed) for seed in seeds] for per_class in budgets]
        return np.array([np.mean([accuracy(learn(chosen), test_labels) for chosen in row]) for row in draws])
        """,
        "seeds were averaged",
    ),
    Mistake(
        "run_experiment",
        "learned once",
        """
        predicted = learn(draw_budget(labels, budgets[0], seeds[0]))
        return np.full((len(budgets), len(seeds)), accuracy(predicted, test_labels))
        """,
        "learns anew",
    ),
    Mistake(
        "run_experiment",
        "the training labels",
        LOOP.format("found[i, j] = accuracy(learn(draw_budget(labels, per_class, seed)), labels)"),
        "test_labels",
    ),
    Mistake(
        "run_experiment",
        "the whole pool",
        LOOP.format("found[i, j] = accuracy(learn(np.arange(len(labels))), test_labels)"),
        "whole pool",
    ),
    Mistake(
        "run_experiment",
        "never learned",
        LOOP.format("found[i, j] = accuracy(draw_budget(labels, per_class, seed), test_labels[: 2 * per_class])"),
        "never called",
    ),
    Mistake(
        "run_experiment",
        "shared among the classes",
        LOOP.format("found[i, j] = accuracy(learn(draw_budget(labels, per_class, seed)[:per_class]), test_labels)"),
        "so many labels of each class",
    ),
    Mistake(
        "run_experiment",
        "in one row",
        """
        draws = [draw_budget(labels, per_class, seed) for per_class in budgets for seed in seeds]
        return np.array([accuracy(learn(chosen), test_labels) for chosen in draws])
        """,
        "in one row",
    ),
    Mistake(
        "run_experiment",
        "labels for indices",
        LOOP.format("found[i, j] = accuracy(learn(labels[draw_budget(labels, per_class, seed)]), test_labels)"),
        "given labels",
    ),
    Mistake(
        "run_experiment",
        "drawn from the test",
        LOOP.format("found[i, j] = accuracy(learn(draw_budget(test_labels, per_class, seed)), test_labels)"),
        "from test_labels",
    ),
    Mistake(
        "run_experiment",
        "a table of whole numbers",
        LOOP.format("found[i, j] = accuracy(learn(draw_budget(labels, per_class, seed)), test_labels)").replace(
            "np.zeros(", "np.full(fill_value=0, shape="
        ),
        "cut to whole numbers",
    ),
    Mistake(
        "run_experiment",
        "errors swallowed",
        LOOP.format(
            "try: found[i, j] = accuracy(learn(draw_budget(labels, per_class, seed)), test_labels)\n"
            "                except ValueError: pass"
        ),
        "let draw_budget's ValueError through",
    ),
    # Task 5
    Mistake("summarize", "whole range", "return accuracies.mean(axis=1), np.ptp(accuracies, axis=1)", "half of it"),
    Mistake(
        "summarize",
        "standard deviation",
        "return accuracies.mean(axis=1), accuracies.std(axis=1)",
        "standard deviation",
    ),
    Mistake(
        "summarize",
        "over budgets",
        "return accuracies.mean(axis=0), np.ptp(accuracies, axis=0) / 2",
        "seeds are axis 1",
    ),
    Mistake("summarize", "all together", "return accuracies.mean(), np.ptp(accuracies) / 2", "one mean for each"),
    Mistake(
        "summarize",
        "the middle",
        "return (accuracies.max(axis=1) + accuracies.min(axis=1)) / 2, np.ptp(accuracies, axis=1) / 2",
        "mean of all seeds",
    ),
    Mistake(
        "summarize",
        "one array",
        "return np.array([accuracies.mean(axis=1), np.ptp(accuracies, axis=1) / 2])",
        "That is one array",
    ),
    Mistake(
        "summarize",
        "farthest from the mean",
        """
        means = accuracies.mean(axis=1)
        return means, np.abs(accuracies - means[:, None]).max(axis=1)
        """,
        "largest distance from the mean",
    ),
    Mistake("is_better", "means alone", "return ours.mean() > theirs.mean()", "that is no verdict"),
    Mistake("is_better", "no overlap", "return ours.min() > theirs.max()", "asks too much"),
    Mistake(
        "is_better",
        "whole ranges",
        "return ours.mean() - theirs.mean() > np.ptp(ours) + np.ptp(theirs)",
        "half of each",
    ),
    Mistake(
        "is_better",
        "only ours scatter",
        "return ours.mean() - theirs.mean() > np.ptp(ours) / 2",
        "Both scatter",
    ),
    Mistake(
        "is_better",
        "only theirs scatter",
        "return ours.mean() - theirs.mean() > np.ptp(theirs) / 2",
        "Both scatter",
    ),
    Mistake(
        "is_better",
        "either way",
        "return abs(ours.mean() - theirs.mean()) > (np.ptp(ours) + np.ptp(theirs)) / 2",
        "Worse is not better",
    ),
    Mistake(
        "is_better",
        "a number",
        "return int(ours.mean() - theirs.mean() > (np.ptp(ours) + np.ptp(theirs)) / 2)",
        "True or False",
    ),
    Mistake(
        "is_better",
        "the other way round",
        "return theirs.mean() - ours.mean() > (np.ptp(ours) + np.ptp(theirs)) / 2",
        "ours must be the one above",
    ),
    Mistake(
        "is_better",
        "the larger of both",
        "return ours.mean() - theirs.mean() > max(np.ptp(ours), np.ptp(theirs)) / 2",
        "One half range is not enough",
    ),
    Mistake(
        "is_better",
        "a root of squares",
        "return ours.mean() - theirs.mean() > np.hypot(np.ptp(ours), np.ptp(theirs)) / 2",
        "nor a root of squares",
    ),
    Mistake(
        "is_better",
        "medians",
        "return np.median(ours) - np.median(theirs) > (np.ptp(ours) + np.ptp(theirs)) / 2",
        "The medians are compared",
    ),
    Mistake(
        "is_better",
        "half the range of all together",
        "return ours.mean() - theirs.mean() > np.ptp(np.concatenate([ours, theirs])) / 2",
        "The range of all seeds together",
    ),
    Mistake(
        "draw_budget",
        "an infinite index",
        "return np.array([np.inf])",
        "Return indices into labels",
    ),
    Mistake(
        "is_better",
        "standard deviations",
        "return ours.mean() - theirs.mean() > ours.std() + theirs.std()",
        "standard deviations are added",
    ),
    Mistake(
        "is_better",
        "as far is enough",
        "return ours.mean() - theirs.mean() >= (np.ptp(ours) + np.ptp(theirs)) / 2",
        "> and not >=",
    ),
    # Task 6
    Mistake(
        "labels_needed",
        "linear",
        BETWEEN.format("budgets[i - 1] + share * (budgets[i] - budgets[i - 1])"),
        "not in labels",
    ),
    Mistake(
        "labels_needed",
        "the best so far",
        "\n        means = np.maximum.accumulate(means)"
        + BETWEEN.format("budgets[i - 1] * (budgets[i] / budgets[i - 1]) ** share"),
        "not at the best one so far",
    ),
    Mistake("labels_needed", "doubling", BETWEEN.format("float(budgets[i - 1] * 2**share)"), "need not double"),
    Mistake("labels_needed", "the next point", BETWEEN.format("budgets[i]"), "next point"),
    Mistake("labels_needed", "the point before", BETWEEN.format("budgets[i - 1]"), "point before"),
    Mistake(
        "labels_needed",
        "the logarithm",
        BETWEEN.format("np.log(budgets[i - 1]) + share * np.log(budgets[i] / budgets[i - 1])"),
        "logarithm of the number",
    ),
    Mistake(
        "labels_needed",
        "rounded up",
        BETWEEN.format("int(np.ceil(budgets[i - 1] * (budgets[i] / budgets[i - 1]) ** share))"),
        "It is rounded",
    ),
    Mistake(
        "labels_needed",
        "np.interp",
        "return float(np.exp(np.interp(target, means, np.log(budgets))))",
        "return None",
    ),
    Mistake(
        "labels_needed",
        "nowhere",
        """
        i = next(i for i in range(len(budgets)) if means[i] >= target)
        if i == 0:
            return budgets[0]
        share = (target - means[i - 1]) / (means[i] - means[i - 1])
        return budgets[i - 1] * (budgets[i] / budgets[i - 1]) ** share
        """,
        "Python stopped",
    ),
    Mistake(
        "labels_needed",
        "the first point forgotten",
        """
        for i in range(1, len(budgets)):
            if means[i] >= target:
                share = (target - means[i - 1]) / (means[i] - means[i - 1])
                return budgets[i - 1] * (budgets[i] / budgets[i - 1]) ** share
        return None
        """,
        "first budget is enough",
    ),
    Mistake(
        "labels_needed",
        "the last place",
        """
        if means[0] >= target:
            return budgets[0]
        for i in reversed(range(1, len(budgets))):
            if means[i] >= target > means[i - 1]:
                share = (target - means[i - 1]) / (means[i] - means[i - 1])
                return budgets[i - 1] * (budgets[i] / budgets[i - 1]) ** share
        return None
        """,
        "take the first place",
    ),
    Mistake(
        "bits_per_character",
        "cut off below",
        "return float(-np.log2(np.clip(probabilities, 1e-12, 1.0)).sum() / characters)",
        "caps what a rare token costs",
    ),
]

RIGHT = [
    Right(
        "letter_entropy",
        "character by character",
        """
        print("measuring", text)
        return sum(np.log2(len(text) / text.count(character)) for character in text) / len(text)
        """,
        also=(
            (
                "bits_per_character",
                "return sum(float(np.log(1 / p)) for p in probabilities) / np.log(2) / characters",
            ),
        ),
    ),
    Right(
        "draw_budget",
        "one shuffle, sorted by class",
        """
        order = rng.permutation(len(labels))
        chosen = []
        for label in sorted(set(labels.tolist())):
            places = [int(i) for i in order if labels[i] == label]
            if per_class > len(places):
                raise ValueError("too few")
            chosen += places[:per_class]
        return chosen
        """,
    ),
    Right(
        "draw_budget",
        "a list of NumPy's numbers",
        """
        keys = rng.random(len(labels))
        chosen = []
        for label in np.unique(labels):
            members = sorted(np.flatnonzero(labels == label), key=lambda i: keys[i])
            if len(members) < per_class:
                raise ValueError(f"{per_class} of {label}")
            chosen.extend(members[:per_class])
        return tuple(chosen)
        """,
    ),
    Right(
        "nearest_mean",
        "in loops, as a list",
        """
        classes = sorted(set(train_y.tolist()))
        middles = [train_x[np.flatnonzero(train_y == c)].mean(axis=0, dtype="float64") for c in classes]
        return [min(classes, key=lambda c: np.linalg.norm(row - middles[c])) for row in x]
        """,
        also=(("accuracy", "return np.count_nonzero(np.asarray(predicted) == labels) / len(labels)"),),
    ),
    Right(
        "run_experiment",
        "seeds outside",
        """
        columns = []
        for seed in seeds:
            draws = [draw_budget(labels, per_class, seed) for per_class in budgets]
            columns.append([accuracy(learn(chosen), test_labels) for chosen in draws])
        return np.array(columns).T.tolist()
        """,
    ),
    Right(
        "summarize",
        "row by row",
        """
        rows = [sorted(map(float, row)) for row in accuracies]
        return [sum(row) / len(row) for row in rows], [0.5 * row[-1] - 0.5 * row[0] for row in rows]
        """,
        also=(
            (
                "is_better",
                """
                means, halves = summarize(np.stack([ours, theirs])) if len(ours) == len(theirs) else (0, 0)
                return means[0] - means[1] > halves[0] + halves[1]
                """,
            ),
        ),
    ),
    Right(
        "labels_needed",
        "np.interp on one piece",
        """
        above = [i for i, mean in enumerate(means) if mean >= target]
        if not above:
            return None
        i = above[0]
        if i == 0:
            return budgets[0]
        return 2 ** np.interp(target, means[i - 1 : i + 1], np.log2(budgets[i - 1 : i + 1]))
        """,
    ),
    Right(
        "summarize",
        "a named tuple",
        """
        from collections import namedtuple
        return namedtuple("Summary", "mean half")(accuracies.mean(1), 0.5 * np.ptp(accuracies, axis=-1))
        """,
    ),
]
