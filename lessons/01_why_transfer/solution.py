# %% [markdown]
# # Lesson 01: why transfer
#
# Six short tasks, and at the end the pieces of an honest experiment: measure a text, draw a label budget, read and
# score, repeat over budgets and seeds, tell a difference from luck, and read off what pretraining saves. NumPy is
# all you need. The reading is README.md beside this file. `minilora check 01` says how far you are, `minilora check 01
# --hint` helps.

# %%
from collections import Counter
from collections.abc import Callable

import numpy as np

# %% [markdown]
# ## Task 1: how surprising is a text?
#
# What was given probability p is worth -log2(p) bits of surprise. A reader who knows only how often each character
# occurs needs the entropy of these shares. A model that gave a probability to each token needs the sum of all their
# surprises; divided by the number of characters, the two can be compared. (`Counter(text)` counts characters.)


# %%
def letter_entropy(text: str) -> float:
    """Bits per character of `text` for a reader who knows how often each of its characters occurs, and nothing else.

    text: at least one character.
    """
    ### BEGIN SOLUTION task 1: measure a text
    counts = np.array(list(Counter(text).values()))
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
    ### END SOLUTION


def bits_per_character(probabilities: np.ndarray, characters: int) -> float:
    """Bits per character of a text, from the probabilities (n,) that a model gave to its n tokens.

    A long text has thousands of tokens. characters: how many the text has.
    """
    ### BEGIN SOLUTION task 1: measure a text
    return float(-np.log2(probabilities).sum() / characters)
    ### END SOLUTION


# %% [markdown]
# ## Task 2: a label budget
#
# Labels cost money, so an experiment says how many it takes. It takes the same number of each class, drawn at random by
# a seed. With one seed, a larger budget adds examples to the smaller one and takes none away: so two points of a curve
# differ by their number of labels, not by their luck.


# %%
def draw_budget(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Indices into labels (n,) of `per_class` random examples of each class, in any order, none twice.

    One seed gives one draw, and with one seed, a smaller budget is contained in each larger one. Raises ValueError
    where a class has fewer examples.
    """
    rng = np.random.default_rng(seed)
    ### BEGIN SOLUTION task 2: draw as many of each class
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < per_class:
            raise ValueError(f"class {label} has {len(members)} examples, not {per_class}")
        chosen.append(members[:per_class])
    return np.concatenate(chosen)
    ### END SOLUTION


# %% [markdown]
# ## Task 3: read and score
#
# The simplest reader that learns from labels: for each class, it remembers the mean of its examples; something new gets
# the class whose mean is nearest. How near is the length of the difference, √(Σ (x - mean)²).


# %%
def nearest_mean(train_x: np.ndarray, train_y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The class (m,) of each row of x (m, d), learned from the rows of train_x (n, d) and their classes train_y (n,).

    Classes are 0, 1, 2, …, each with at least one example.
    """
    ### BEGIN SOLUTION task 3: find the nearest mean, and score
    means = np.stack([train_x[train_y == label].mean(axis=0) for label in range(train_y.max() + 1)])  # (classes, d)
    distances = ((x[:, None, :] - means) ** 2).sum(axis=2)  # (m, classes)
    return distances.argmin(axis=1)
    ### END SOLUTION


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The share of predicted (m,) that is equal to labels (m,): between 0 and 1."""
    ### BEGIN SOLUTION task 3: find the nearest mean, and score
    return float((predicted == labels).mean())
    ### END SOLUTION


# %% [markdown]
# ## Task 4: the experiment
#
# For each budget and each seed: draw, let the learner learn, score. A learner is a function: it is given the indices of
# the examples whose labels it may see, and returns a class for each test example.


# %%
def run_experiment(
    learn: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray,
    test_labels: np.ndarray,
    budgets: list[int],
    seeds: list[int],
) -> np.ndarray:
    """Accuracies on the test (budgets, seeds). `learn(indices)` gives the predicted classes of all test examples.

    labels (n,): of the examples from which each budget is drawn, by draw_budget with the seed; test_labels (m,).
    """
    ### BEGIN SOLUTION task 4: for each budget and each seed
    accuracies = np.zeros((len(budgets), len(seeds)))
    for i, per_class in enumerate(budgets):
        for j, seed in enumerate(seeds):
            predicted = learn(draw_budget(labels, per_class, seed))
            accuracies[i, j] = accuracy(predicted, test_labels)
    return accuracies
    ### END SOLUTION


# %% [markdown]
# ## Task 5: how much of it is luck?
#
# One number from one seed says little. This course prints the mean over seeds ± their standard deviation: the root of
# Σ (x - mean)² / (n - 1). Is one learner better than another? With each seed both drew the same labels, so take their
# differences, seed by seed. In 95 of 100 experiments with n seeds, the mean of those that all possible seeds would give
# lies no further from the mean of these n than t · s / √n. Here s is the standard deviation of the differences, and t
# depends on the degrees of freedom, n - 1.


# %%
# {degrees of freedom: t}, for an interval of 95 %
T = dict(enumerate(
    [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
     2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042],
    start=1,
))  # fmt: skip


def summarize(accuracies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over seeds (budgets,) of accuracies (budgets, seeds), and the standard deviations (budgets,).

    The sum of squares is divided by one less than there are seeds.
    """
    ### BEGIN SOLUTION task 5: mean, deviation, and a verdict
    return accuracies.mean(axis=1), accuracies.std(axis=1, ddof=1)
    ### END SOLUTION


def is_better(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Return True if the whole 95 % interval of the mean difference, `ours` less `theirs`, lies above 0.

    ours, theirs (seeds,): of the same 2 to 31 seeds, in one order.
    """
    ### BEGIN SOLUTION task 5: mean, deviation, and a verdict
    differences = ours - theirs
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return bool(differences.mean() - T[len(differences) - 1] * error > 0)
    ### END SOLUTION


# %% [markdown]
# ## Task 6: what does pretraining save?
#
# How many labels does a learner need for a given accuracy? Read it off its curve. Budgets double from point to point,
# so the axis is logarithmic, and the line between two points is straight in log(labels): halfway between 4 and 16 is 8.


# %%
def labels_needed(budgets: list[int], means: np.ndarray, target: float) -> float | None:
    """The fewest labels per class at which the curve through (budgets, means) reaches `target`, or None.

    None: the curve never does. budgets rise, and means may fall from one budget to the next. Where the first budget's
    mean is there already, the answer is that budget.
    """
    ### BEGIN SOLUTION task 6: read off the curve
    if means[0] >= target:
        return float(budgets[0])
    for i in range(1, len(budgets)):
        if means[i] >= target:
            share = (target - means[i - 1]) / (means[i] - means[i - 1])
            return float(budgets[i - 1] * (budgets[i] / budgets[i - 1]) ** share)
    return None
    ### END SOLUTION
