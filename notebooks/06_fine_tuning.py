# %% [markdown]
# # 06 Fine-tuning: how much of the model has to move?
#
# The reading is [lessons/06_fine_tuning](../lessons/06_fine_tuning/README.md). Here one pretrained model learns to sort
# sentences into eight topics, three times: with a new head alone, with the two upper layers going along, and with everything.
#
# **Write down a guess first.** A guess by chance is right in 12.5 % of the sentences. How much do the 1,536 numbers of a
# head reach with 64 labels per topic? And all 2.8 million?

# %%
import ipywidgets  # sliders
import numpy as np

import minilora.functional as F  # cross-entropy
from figures import pictures  # in the folder beside this notebook
from minilora import Tensor, no_grad  # arrays with gradients, and without
from minilora.data.batches import ClassificationBatches, classification_windows
from minilora.measure.lab import Lab  # the base, labelled sentences, a test
from minilora.show.grids import Spread  # a mean and its scatter
from minilora.tensor import gradients  # of a loss, for each parameter
from minilora.train import load  # where the base is
from minilora.train.loop import TrainConfig, train  # how a model is trained

lab = Lab(
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
    print(f"{name}: {count:,} parameters train")
means = [np.mean(values) for values in accuracies.values()]
print(f"with each step more is right: {means == sorted(means)}")

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
