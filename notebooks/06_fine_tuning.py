# %% [markdown]
# # 06 Fine-tuning: how much of the model has to move?
#
# The reading is [lessons/06_fine_tuning](../lessons/06_fine_tuning/README.md). Here one pretrained model learns to sort
# sentences into eight topics, three times: with a new head alone, with the two upper layers going along, and with everything.
# So that this takes a minute, it has 64 labels per topic, two seeds and rates that nobody searched; the reading's table comes
# from a larger study with other settings, so the percentages here are not those there.
#
# **Write down a guess first.** A guess by chance is right in 12.5 % of the sentences. How much do the 1,536 numbers of a
# head reach with 64 labels per topic? And all 2.8 million?

# %% [markdown]
# ## The idea, in a few lines
#
# A pretrained body turns an input into features. Feature extraction leaves it as it is, so the features are computed once,
# and only the head on top of them is fitted. Here the body is a random layer, and the question is whether two numbers have
# the same sign.

# %%
import numpy as np

rng = np.random.default_rng(0)
body, x = rng.standard_normal((64, 2)), rng.standard_normal((400, 2))
labels = np.sign(x[:, 0] * x[:, 1])
features = np.maximum(x @ body.T, 0)  # the body is frozen: once is enough
for name, inputs in (("the input", x), ("the features", features)):
    head = np.linalg.lstsq(inputs[:200], labels[:200])[0]  # all that trains
    right = np.mean(np.sign(inputs[200:] @ head) == labels[200:])
    print(f"a head on {name}: {len(head)} numbers, {right:.0%} right")

# %%
import ipywidgets  # sliders

import minilora.functional as F  # cross-entropy
from figures import pictures, yours  # in the folder beside this notebook
from figures.labelled import ClassificationBatches, classification_windows
from figures.topics import TopicLab  # the base, labelled sentences, a test
from minilora import Tensor, nn, no_grad, optim  # arrays with gradients, modules, AdamW
from minilora.show.grids import Spread  # a mean and its scatter
from minilora.tensor import gradients  # of a loss, for each parameter
from minilora.train import load  # where the base is
from minilora.train.loop import TrainConfig, train  # how a model is trained

lab = TopicLab(
    load.base_folder(),
    seq_len=24,  # of each sentence, the first 24 tokens are read
    test_characters=2_000,
    validation_characters=2_000,
    test_examples=240,
)
budget, seeds = 64, (0, 1)
print(", ".join(lab.task.classes))

# %% [markdown]
# ## Where the numbers are
#
# Before anything trains, count. Which part of the model holds how much?

# %%
classifier = lab.classifier("full", seed=0)
parts = {"embeddings": "model.embed_tokens", "head": "score"}
sizes = {
    name: sum(p.size for p in classifier.get_submodule(path).parameters())
    for name, path in parts.items()
}
sizes["all norms"] = sum(
    p.size for name, p in classifier.named_parameters() if "norm" in name
)
layers = sum(p.size for p in classifier.model.layers[0].parameters())
sizes |= {"one layer of six": layers, "everything": 0}
sizes["everything"] = sum(p.size for p in classifier.parameters())
pictures.show(
    pictures.bars("Parameters, by part", sizes, "parameters (logarithmic)", log=True),
    "The axis is logarithmic: read the numbers beside the bars of the head and of all.",
)

# %% [markdown]
# ## Feature extraction: the expert reads once
#
# The body is frozen, so it gives the same hidden states in every epoch. We let it read all sentences once, without a
# graph, and keep the last hidden state of each. From here on the body is not needed any more. What is left is one matrix
# on fixed numbers, for which plain gradient descent will do.

# %%
test_labels = np.array([example.label for example in lab.test_examples])


def features_of(examples) -> np.ndarray:
    """Return the hidden state of each sentence's last token, (n, 192)."""
    ids = lab.tokenizer.encode_many([example.text for example in examples])
    states = []
    with no_grad():
        for batch in classification_windows(ids, [0] * len(ids), lab.seq_len, 32, 0):
            hidden = classifier.model(batch["input_ids"], batch["attention_mask"])
            last = batch["attention_mask"].sum(axis=1) - 1
            states.append(hidden.numpy()[np.arange(len(last)), last])
    return np.concatenate(states)


test_features = features_of(lab.test_examples)
accuracies, trains = {"head alone": []}, {"head alone": sizes["head"]}
for seed in seeds:
    few = lab.task.few(budget, seed)
    features, labels = features_of(few), [example.label for example in few]
    head = lab.classifier("feature-extraction", seed).score
    for _ in range(100):
        slopes = gradients(F.cross_entropy(head(Tensor(features)), labels))
        head.weight.data = head.weight.data - 0.02 * slopes[head.weight]
    predicted = (test_features @ head.weight.numpy().T).argmax(axis=1)
    accuracies["head alone"].append(np.mean(predicted == test_labels))
body, of_head = 2 * sizes["everything"] * 24, 6 * sizes["head"]
print(f"a sentence through the body: {body:,} operations at most")
print(f"a sentence's step of the head: {of_head:,}")

# %% [markdown]
# ## More of the body
#
# Now the head and the two upper layers, then everything. What is frozen must end with the same bits as it began with,
# which we check, and the optimizer must hold what trains and nothing else. (The loop takes its parameters from
# `requires_grad`, so the one follows from the other.)

# %%
upper = ["score", "model.norm", "model.layers.5", "model.layers.4"]
settings = {
    "head and two layers": (upper, 2e-3),
    "everything": ([""], 1e-3),
}
for name, (paths, rate) in settings.items():
    accuracies[name] = []
    for seed in seeds:
        few = lab.task.few(budget, seed)
        model = lab.classifier("full", seed)
        for path, parameter in model.named_parameters():
            parameter.requires_grad = path.startswith(tuple(paths))
        frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
        before = {n: p.numpy().copy() for n, p in frozen.items()}
        ids = lab.tokenizer.encode_many([example.text for example in few])
        labels = [example.label for example in few]
        batches = ClassificationBatches(ids, labels, 16, lab.seq_len, seed, 0)
        config = TrainConfig(steps=40, warmup=2, peak_lr=rate, seed=seed)
        train(model, batches, config, show_progress=False)
        accuracies[name].append(lab.accuracy(model))
        assert all(np.array_equal(before[n], p.numpy()) for n, p in frozen.items())
    trains[name] = load.count_parameters(model)[0]
for name, count in trains.items():
    right = np.mean(accuracies[name])
    print(f"{name}: {count:,} parameters train, {right:.0%} right")

# %% [markdown]
# ## The picture: accuracy against trainable parameters

# %%
spreads = [Spread.of(100 * share for share in values) for values in accuracies.values()]
trained = f"pretrained, then trained on {budget} labels per topic"
pictures.show(
    pictures.curves(
        "How much of the model has to move?",
        {
            trained: (list(trains.values()), [spread.mean for spread in spreads]),
            "chance": ([min(trains.values()), max(trains.values())], [12.5, 12.5]),
        },
        "parameters that train (logarithmic)",
        "accuracy on the test (%)",
        log="x",
        spreads={trained: [spread.deviation for spread in spreads]},
    ),
    "Each point is one of the three ways: compare the second step with the third.",
)

# %% [markdown]
# The axis is logarithmic: from the first point to the last, almost two thousand times as many parameters train. With
# each step more of the body adapts, and more sentences are sorted right. The head had only the notes that the body takes
# anyway, and these were made to predict the next token.
#
# The bars are the standard deviation over two seeds. With fewer labels it may come out otherwise: set `budget` to 8 and see.
#
# With a kernel running, move the slider: how much memory does training take when so many of the parameters train? (The
# picture below it shows the same for all shares.)

# %%
total = sizes["everything"]


def megabytes(share: float) -> float:
    """Count the model, a gradient and two averages per trained number, 4 bytes each."""
    return (4 + 12 * share) * total / 1e6


def kinds(share: float) -> dict[str, float]:
    one = share * total * 4 / 1e6
    return {"weights": 4 * total / 1e6, "gradients": one, "AdamW's averages": 2 * one}


def draw(percent: int = 10) -> None:
    bars = {f"{n} % train": kinds(n / 100) for n in (0, percent, 100)}
    pictures.show(
        pictures.stacked_bars(f"Memory when {percent} % train", bars, "megabytes"),
        "The first part of each bar, the weights, stays as it is; the others grow.",
    )


_ = ipywidgets.interact(draw, percent=(1, 99))

# %%
shares = np.linspace(0, 1, 11)
pictures.show(
    pictures.curves(
        "What is kept for training, without the forward pass",
        {"AdamW in 32 bits": (100 * shares, [megabytes(share) for share in shares])},
        "share of the parameters that trains (%)",
        "megabytes",
    ),
    "Read the two ends of the line: nothing trains, and everything does.",
)

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/06_fine_tuning/exercise.py](../lessons/06_fine_tuning/exercise.py), then `minilora check 06`.
#
# <details><summary>1. The body is frozen and dropout is left on. What is wrong with the features?</summary>
# They are random: at each run other numbers are set to zero. Kept once and used for all epochs, they have holes that the
# test's features do not have. Switch to eval mode first.
# </details>
#
# <details><summary>2. The lowest layer trains and everything above it is frozen. Is a step as cheap as with the head alone?</summary>
# No. The gradient has to pass through all frozen layers to reach the lowest. Only the gradients of their weights are
# spared. With the head alone, nothing passes through the body.
# </details>
#
# <details><summary>3. Why may the head have a larger learning rate than the body?</summary>
# It starts from random numbers and has everything to learn; the body starts from what pretraining found. Large steps
# there, driven by a head that is still random, destroy what one came for.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your six functions draw the figure, with one seed.


# %%
class Reader(nn.Module):
    """Reads ids (n, T), 0 is padding, and gives the last token's state (n, d)."""

    def __init__(self, model):
        self.model = model

    def forward(self, x):
        x = x.numpy() if isinstance(x, Tensor) else x
        hidden = self.model(x, (x != 0).astype("int64"))
        return hidden[np.arange(len(x)), (x != 0).sum(axis=1) - 1]


class Classifier(nn.Module):
    def __init__(self):
        self.body = Reader(lab.base().model)
        self.head = nn.Linear(192, 1, rng=np.random.default_rng(0))

    def forward(self, x):
        return self.head(self.body(x))


def rows_of(examples, size):
    """Return [(ids (n, T), labels (n,))] of batches of `size` sentences."""
    ids = lab.tokenizer.encode_many([example.text for example in examples])
    labels = [example.label for example in examples]
    batches = classification_windows(ids, labels, lab.seq_len, size, 0)
    return [(batch["input_ids"], batch["labels"]) for batch in batches]


mine, points = yours.functions("06"), []
few = lab.task.few(32, seed=0)  # half as many labels as above
few = [few[i] for i in np.random.default_rng(0).permutation(len(few))]
parts = [["head"], ["head", *(f"body.model.layers.{i}" for i in (4, 5))], [""]]
for paths, rate, passes in zip(parts, (1e-2, 2e-3, 1e-3), (2, 1, 1)):
    model = Classifier()
    mine.new_head(model, len(lab.task.classes), seed=0)
    mine.freeze_all_but(model, paths)
    optimizer = optim.AdamW(mine.make_groups(model, rate, rate, 0.01), lr=rate)
    model.train()
    for x, y in passes * rows_of(few, 16):
        mine.train_step(model, optimizer, x, y)
    test = rows_of(lab.test_examples, 64)
    states = mine.extract_features(model, [x for x, _ in test])
    predicted = (states @ model.head.weight.numpy().T).argmax(axis=1)
    right = np.mean(predicted == np.concatenate([y for _, y in test]))
    points.append((mine.count_parameters(model)[0], 100 * right))
    print(f"{points[-1][0]:,} parameters train: {right:.0%} right")
counts, percents = zip(*points)
chance = (counts, [12.5] * 3)
pictures.show(
    pictures.curves(
        "How much of the model has to move, with your code?",
        {"by your functions": (counts, percents), "chance": chance},
        "parameters that train (logarithmic)",
        "accuracy on the test (%)",
        log="x",
    ),
    "The same three ways as above, with half the labels and one seed.",
)
