# %% [markdown]
# # 01 Why transfer: what is reading worth, counted in labels?
#
# The reading is [lessons/01_why_transfer](../lessons/01_why_transfer/README.md). Here we run its experiment. Somebody
# hands you sentences and asks of each: is it as it was written, or are its words mixed up? You may ask for labels, and
# each one costs money. One learner has read Python's documentation before. The others have only the labels.
#
# **Write down a guess first.** How often is the one who has read right after 4 labels of each kind? And how many labels
# does the one who has not read need to be as good?

# %% [markdown]
# ## The idea, in a few lines
#
# Somebody who has read has one number for each sentence: how surprising it is. Then labels have little left to say, only
# where the border lies. Here are a thousand made-up numbers of two kinds, and a border from two labels of each.

# %%
import numpy as np

rng = np.random.default_rng(0)
kind = np.repeat([0, 1], 500)  # as written, mixed up
surprise = rng.normal(0.7 + 0.25 * kind, 0.15)  # what the expert says of each
border = (surprise[:2].mean() + surprise[-2:].mean()) / 2  # two labels of each kind
print(f"right, with four labels: {np.mean((surprise > border) == kind):.0%}")

# %%
import ipywidgets  # sliders

from figures import pictures, word_order, yours  # in the folder beside this notebook
from minilora.train import load  # loads the language model
from minilora.train.loop import TrainConfig  # how a network is trained

model, tokenizer = load.load_model("base")
task = word_order.load_word_order()
sentences = {
    "Return the sum of array elements over a given axis.": "as written 1",
    "Return over of axis array elements given a the sum.": "mixed up 1",
    "Raise an error if two objects are not equal.": "as written 2",
    "Raise not are objects error two an if equal.": "mixed up 2",
}
for sentence, kind in sentences.items():
    print(f"{kind}: {sentence}")
print(f"to draw labels from: {len(task.train)} sentences; test: {len(task.test)}")

# %% [markdown]
# ## An expert is surprised
#
# The sentences come from NumPy's documentation, and the model has never read a line of it. But it has read English, and
# how software is written about. It predicts each next piece of a text, and pays for being wrong in bits. Here it reads the
# four sentences above:

# %%
bits = word_order.model_bits(model, tokenizer, list(sentences))
per_character = bits / [len(sentence) for sentence in sentences]
pictures.show(
    pictures.bars(
        "The model's surprise at a sentence",
        dict(zip(sentences.values(), per_character, strict=True)),
        "bits per character",
    ),
    "Compare each sentence with its own mixed-up version: which bar is longer?",
)

# %% [markdown]
# Long and rare words surprise it as well, mixed up or not. So we divide by what the words alone would cost: the bits of
# a reader who knows only how often each piece occurs. What is left is one number for each sentence. Here it is for all
# of them:

# %%
texts = [example.text for example in (*task.train, *task.test)]
labels = np.array([example.label for example in (*task.train, *task.test)])
known = texts[: len(task.train)]  # the test's own words are not counted
from_words = word_order.frequency_bits(tokenizer, texts, known)
ratio = word_order.model_bits(model, tokenizer, texts) / from_words

edges = np.linspace(0.2, 1.4, 25)
middles = (edges[:-1] + edges[1:]) / 2
hills = {
    name: (middles, np.histogram(ratio[labels == label], edges)[0])
    for label, name in enumerate(task.classes)
}
top = max(max(counts) for _, counts in hills.values())
number_of = dict(zip(texts, ratio, strict=True))
few = [number_of[example.text] for example in task.few(4, seed=0)]
border = {"border, from 4 labels of each class": ([np.mean(few)] * 2, [0, top])}
axes = ("the model's bits, over the words' own", "sentences")
pictures.show(
    pictures.curves("One number for each sentence", hills | border, *axes),
    "Left of the border is taken for written: on either side are some of the other.",
)

# %% [markdown]
# Two hills that overlap. Nobody told the model what mixed up means. All that labels have to do is say which hill is
# which, and where one ends.

# %% [markdown]
# ## The experiment
#
# For each budget and each of 10 seeds: draw as many labels of each class, learn, and count what is right on test
# sentences that no budget draws from. The expert remembers the mean number of each class, and takes the nearer one. Its
# opponent counts which neighbouring pieces occur in either class.

# %%
budgets, seeds = (1, 2, 4, 8, 16, 32, 64, 128), range(10)
test_texts = [example.text for example in task.test]
test_labels = np.array([example.label for example in task.test])
test_numbers = np.array([number_of[text] for text in test_texts])


def ask_the_expert(few) -> np.ndarray:
    written, mixed = (
        np.mean([number_of[e.text] for e in few if e.label == label])
        for label in (0, 1)
    )
    return abs(test_numbers - mixed) < abs(test_numbers - written)


def count_pairs(few) -> np.ndarray:
    return word_order.by_pairs(tokenizer, few, test_texts)


accuracies = {
    name: {
        budget: [
            np.mean(learn(task.few(budget, seed)) == test_labels) for seed in seeds
        ]
        for budget in budgets
    }
    for name, learn in (
        ("reads", ask_the_expert),
        ("counts pairs", count_pairs),
    )
}
for name, points in accuracies.items():
    shown = [f"{n}: {100 * np.mean(points[n]):.0f}" for n in (4, 32, 128)]
    print(f"{name}, % right by labels per class: {', '.join(shown)}")

# %% [markdown]
# Is counting too simple an opponent? The same network can be trained from scratch: it starts from random weights, all
# 2.8 million of them train, and it sees nothing but the labelled sentences.

# %%
scratch = {}
for budget in (4, 32):
    runs = [
        word_order.network_from_scratch(
            model.config,
            tokenizer,
            task.few(budget, seed),
            task.test,
            TrainConfig(steps=12, warmup=2, peak_lr=2e-3, seed=seed),
        )
        for seed in range(3)
    ]
    scratch[budget] = [test for _, test in runs]
    own, test = 100 * np.mean(runs, axis=0)
    print(
        f"{budget} labels per class: {own:.0f} % right on its own examples, "
        f"{test:.0f} % on the test"
    )

# %% [markdown]
# ## The picture: accuracy against labels

# %%
accuracies["from scratch"] = scratch
pictures.show(
    pictures.label_budgets(
        "Is this sentence mixed up?", accuracies, 1 / len(task.classes)
    ),
    "Follow each curve from left to right: which one does not need more labels?",
)

# %% [markdown]
# The axis is logarithmic: each step doubles the bill. After a few labels the expert is where it will stay. Counting
# pairs starts at chance and climbs slowly, since each new sentence shows it few pairs that it will meet again. The
# network from scratch learns its examples by heart and is no better than a guess on others: with so few labels there is
# nothing in them from which English could be learned.
#
# The bars are the standard deviation over the seeds. At one label per class the expert's is long: its accuracy depends on which two
# sentences were drawn, and a single run would not have told.
#
# With a kernel running, move the sliders: where does the expert put its threshold between the hills, with how many labels,
# and with which draw of them? (The picture above shows what each budget comes to.)


# %%
def draw(budget: int = 4, seed: int = 0) -> None:
    few = task.few(budget, seed)
    threshold = np.mean([number_of[e.text] for e in few])  # as many of each class
    right = np.mean(ask_the_expert(few) == test_labels)
    line = {"the expert's threshold": ([threshold, threshold], [0, top])}
    title = f"{budget} labels per class: {right:.0%} are right"
    pictures.show(
        pictures.curves(title, hills | line, *axes),
        "Left of the line is taken for written, right of it for mixed up.",
    )


_ = ipywidgets.interact(
    draw,
    budget=ipywidgets.SelectionSlider(options=budgets, value=4),
    seed=(0, 9),
)

# %% [markdown]
# ## What the picture does not say
#
# The task asks for what the model learned by reading: how sentences go. Where a task asks for something else, less is
# saved, and sometimes nothing. And the test is small: one sentence is more than half a point, so a point more or less
# means nothing. The course measures another task with whole networks, in `python -m experiments study low-data`.

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/01_why_transfer/exercise.py](../lessons/01_why_transfer/exercise.py), then `minilora check 01`.
#
# <details><summary>1. The expert stops improving after a few labels. Why?</summary>
# Labels only place a threshold on one number, and few examples are enough for that. Where the two hills overlap, more
# labels do not help; a model that has read more would move the hills apart. (Or more of the model could be trained with
# the labels: that is what the rest of the course does.)
# </details>
#
# <details><summary>2. Why must the test sentences come from text that the model has not read?</summary>
# It would recognise sentences that it has read, and be surprised by any change to them. That would be memory, and would
# not tell how it does on the sentences that you have.
# </details>
#
# <details><summary>3. Why does a larger budget contain the smaller one, with the same seed?</summary>
# So that two points of one seed differ by the labels that were added and by nothing else. Drawn anew, a larger budget
# may be the unluckier one.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: it does the experiment with your own functions, over three seeds.

# %%
mine, known_labels = yours.functions("01"), labels[: len(task.train)]
numbers, new_numbers = ratio[: len(known), None], ratio[len(known) :, None]


def read(few):  # few: indices of the sentences whose labels were bought
    return mine.nearest_mean(numbers[few], known_labels[few], new_numbers)


def count_in(few):
    return word_order.by_pairs(tokenizer, [task.train[i] for i in few], test_texts)


measured = {
    name: mine.run_experiment(learn, known_labels, test_labels, [*budgets], [0, 1, 2])
    for name, learn in (("reads", read), ("counts pairs", count_in))
}
for name, values in measured.items():
    needed = mine.labels_needed([*budgets], mine.summarize(values)[0], 0.6)
    print(f"{name}: 60 % after {needed and f'{needed:.0f}'} labels per class")
measured = {name: dict(zip(budgets, rows)) for name, rows in measured.items()}
pictures.show(
    pictures.label_budgets("Mixed up? By your functions", measured, 1 / 2),
    "Compare it with the picture above: three seeds in place of ten, the same story.",
)
