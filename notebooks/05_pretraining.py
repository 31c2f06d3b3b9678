# %% [markdown]
# # 05 Pretraining: what does a model learn first?
#
# The reading is [lessons/05_pretraining](../lessons/05_pretraining/README.md). Here we send a small model to school for a
# few seconds and watch it learn to write. Then we look at the record of the base, which was there for longer.
#
# **Write down a guess first.** Three models: one knows nothing, one knows how frequent each token is, one has read along
# for 300 steps. What is the loss of each, in nats per token, with 512 tokens in the vocabulary? (Certainty is 0.)

# %% [markdown]
# ## The idea, in a few lines
#
# A language model is trained to guess what comes next, and its loss is how much the truth surprised it. The smallest one
# counts pairs. Here it has read one line, and is asked about the same line, byte by byte.

# %%
import numpy as np

ids = np.frombuffer(b"return the mean of the list or the sum of the list", "uint8")
counts = np.full((256, 256), 0.01)  # no pair is quite impossible
np.add.at(counts, (ids[:-1], ids[1:]), 1)
p = counts / counts.sum(axis=1, keepdims=True)  # of the next byte, after each byte
surprise = -np.log(p[ids[:-1], ids[1:]])
print(f"nothing read {np.log(256):.2f}, pairs read {surprise.mean():.2f} nats per byte")

# %%
import json  # reads the base's record
import textwrap  # long lines of text

import ipywidgets  # sliders

import minilora.functional as F  # softmax
from figures import pictures, yours  # in the folder beside this notebook
from minilora import Tensor, nn  # arrays with gradients, and modules
from minilora.data import corpora  # Python's documentation
from minilora.data.tokenizer import encode_documents, train_tokenizer  # text to ids
from minilora.train import load, metrics  # new models, batches, the base
from minilora.train.config import lr_factor  # the learning rate, step by step
from minilora.train.loop import TrainConfig, train  # how a model is trained
from minilora.train.text import training_batches

# %%
parts = corpora.split(corpora.load("python-docs"))
documents = corpora.take(parts.train, 300_000, 0)
tokenizer = train_tokenizer([document.text for document in documents], 512)
text = encode_documents(tokenizer, documents)
held_out = encode_documents(tokenizer, corpora.take(parts.test, 6_000, 0))
print(f"{len(text.ids):,} tokens to read, {len(held_out.ids):,} held out")

# %% [markdown]
# ## Two landmarks
#
# A model that knows nothing has the loss log V. One that knows the frequencies, and does not look at what it reads, has
# the entropy of these frequencies: the unigram entropy.

# %%
landmarks = {"knows nothing": np.log(tokenizer.vocab_size)}


def unigram_entropy(ids):
    counts = np.bincount(ids)
    shares = counts[counts > 0] / counts.sum()
    return -(shares * np.log(shares)).sum()


landmarks["knows frequencies"] = unigram_entropy(text.ids)
for name, loss in landmarks.items():
    print(f"{name}: {loss:.2f} nats per token")

# %% [markdown]
# ## To school
#
# Two blocks of lesson 04 with 96 channels, AdamW, a short warmup, then half a cosine. Every 60 steps the model reads the
# held-out text, and writes on from "Return the".

# %%
prompt = tokenizer.encode("Return the")


def fresh():
    return load.new_model(
        tokenizer,
        seed=0,
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )


def write(model):
    ids = model.generate(prompt[None], 40, temperature=0.7, top_k=20, seed=0)
    return tokenizer.decode(ids[0])


def school(model, steps, samples=None, **settings):
    """Train the model; keep samples of its text along the way in `samples`."""
    bits = metrics.evaluator(model, held_out, 64, 32)

    def look():
        if samples is not None:
            samples.append(write(model))
        return bits()

    config = TrainConfig(
        steps, warmup=10, weight_decay=0.1, betas=(0.9, 0.95), **settings
    )
    batches = training_batches(text, 8, 64, seed=0)
    return train(model, batches, config, evaluate=look, show_progress=False)


samples = []
history = school(fresh(), 300, samples, peak_lr=8e-3, eval_every=60)
for evaluation in history.evaluations:
    print(f"step {evaluation['step']}: {evaluation['value']:.1f} bits/character")

# %% [markdown]
# ## The picture: a loss with a voice

# %%
losses = [record["loss"] for record in history.steps]
smooth = np.convolve(losses, np.ones(9) / 9, "valid")
curve = [0, *range(5, 5 + len(smooth)), len(losses)]
curve = (curve, [losses[0], *smooth, np.mean(losses[-5:])])
written = [
    (evaluation["step"], words)
    for evaluation, words in zip(history.evaluations, samples, strict=True)
]
pictures.show(
    pictures.learning_curve(
        "A small model's first 300 steps", curve, written, landmarks
    ),
    "Each number on the curve is a sample below it: which is the first with words?",
)

# %%
below = next(
    i for i, loss in zip(*curve, strict=True) if loss < landmarks["knows frequencies"]
)
print(f"under the unigram entropy from step {below} on")
print(f"at the end, {landmarks['knows frequencies'] - curve[1][-1]:.1f} nats under it")

# %% [markdown]
# It learns to count first: the loss falls fast to about the unigram entropy, and slows down there. A model at that point
# writes frequent tokens in any order. What comes below needs looking back: spelling first, for the most part. (A dot
# stands for bytes that make no character.)

# %% [markdown]
# ## The base at school
#
# The same for the base: six blocks, 2.8 million weights, 2,048 tokens, 1,600 steps. Its folder holds the record.

# %%
record = json.loads((load.base_folder() / "manifest.json").read_text())
base, base_tokenizer = load.load_model("base")
base_text = encode_documents(base_tokenizer, parts.train)
base_landmarks = {
    "knows nothing": np.log(base_tokenizer.vocab_size),
    "knows frequencies": unigram_entropy(base_text.ids),
}
steps, losses = zip(*record["losses"], strict=True)
voices = [
    (step, words)
    for step, words in record["samples"]
    if step in (0, 100, 300, 600, 1000, 1600)
]
pictures.show(
    pictures.learning_curve(
        "The base's pretraining", (steps, losses), voices, base_landmarks
    ),
    "Find the step at which the curve crosses the lower line, and read on from there.",
)

# %% [markdown]
# The samples are single draws and jump about. The trend is clear all the same: tokens, then letters that make words, then
# words that make phrases. Sense would take more text and a larger model than a laptop has time for.

# %% [markdown]
# ## Why AdamW?
#
# The same model for 80 steps by AdamW, and by plain gradient descent at three learning rates. (Gradients are clipped to a
# norm of 1, or the highest would not end well.)

# %%
runs = {"AdamW, 0.008": school(fresh(), 80, peak_lr=8e-3)}
for rate in (0.01, 0.1, 1.0):
    settings = {"peak_lr": rate, "optimizer": "sgd"}
    runs[f"gradient descent, {rate:g}"] = school(fresh(), 80, **settings)
pictures.show(
    pictures.curves(
        "One learning rate for all weights, or one for each",
        {
            name: (range(1, 81), [record["loss"] for record in run.steps])
            for name, run in runs.items()
        },
        "step",
        "loss (nats per token)",
    ),
    "Compare the four curves at the last step, and how smoothly they got there.",
)

# %%
final = {
    name: np.mean([record["loss"] for record in run.steps[-10:]])
    for name, run in runs.items()
}
print("lowest at the end:", min(final, key=final.get))

# %% [markdown]
# Plain descent is slow at 0.01 and thrown about at 1. AdamW divides each weight's step by the usual size of its
# gradient, so that one learning rate suits weights with large gradients and with small ones.
#
# ## The schedule
#
# A step's learning rate is a share of the peak. It rises during warmup, and falls along half a cosine to a floor. The
# models above were trained with the first of these three, over as many steps as they had:

# %%
pictures.show(
    pictures.curves(
        "Warmup and half a cosine",
        {
            f"warmup {warmup}, floor {floor:g}": (
                range(300),
                [lr_factor("cosine", step, 300, warmup, floor) for step in range(300)],
            )
            for warmup, floor in ((10, 0.1), (100, 0.1), (0, 0.5))
        },
        "step",
        "learning rate, over its peak",
    ),
    "Each curve is one schedule: look where it reaches its peak, and where it ends.",
)

# %% [markdown]
# ## Two controls for writing
#
# Temperature divides the logits before the softmax; top-k keeps only the k likeliest tokens. What may come after "Return
# the number of", for the base, at three temperatures?

# %%
start = base_tokenizer.encode("Return the number of")
logits = base(start[None]).logits.numpy()[0, -1]


def likeliest(temperature, count=8):
    """Return the probabilities of the `count` likeliest tokens, in that order."""
    shares = F.softmax(Tensor(logits / temperature)).numpy()
    return np.sort(shares)[::-1][:count]


pictures.show(
    pictures.curves(
        "The 40 likeliest tokens, from first to last",
        {
            f"temperature {t:g}": (range(1, 41), likeliest(t, 40))
            for t in (0.5, 1.0, 2.0)
        },
        "rank of the token",
        "probability",
        log="y",
    ),
    "On this logarithmic axis, a low temperature is steep, a high one flat.",
)
for t in (0.5, 1.0, 2.0):
    print(f"temperature {t:g}: the first 8 of 2,048 have {likeliest(t).sum():.0%}")

# %% [markdown]
# With a kernel running, move the sliders, watch the bars, and read what is written. Below them are three temperatures with
# the same seed.

# %%
count = 30


def continued(temperature: float = 0.7, top_k: int = 40, seed: int = 0) -> None:
    ids = base.generate(start[None], count, None, temperature, top_k, seed=seed)
    written = f"temperature {temperature:g}: {base_tokenizer.decode(ids[0])}"
    print(textwrap.fill(written, 88, subsequent_indent="    "))


def draw(temperature: float = 0.7, top_k: int = 40, seed: int = 0) -> None:
    shares = F.softmax(Tensor(logits / temperature)).numpy()
    best = np.argsort(shares)[::-1][:10]
    shares[np.argsort(shares)[:-top_k]] = 0  # none but the k likeliest
    shares /= shares.sum()
    bars = {repr(base_tokenizer.decode([i])): shares[i] for i in best}
    pictures.show(
        pictures.bars(f"Temperature {temperature:g}, top {top_k}", bars, "probability"),
        "The ten likeliest tokens after “Return the number of”.",
    )
    continued(temperature, top_k, seed)


temperatures = (0.1, 2.0, 0.1)
_ = ipywidgets.interact(draw, temperature=temperatures, top_k=(1, 200), seed=(0, 20))

# %%
for temperature in (0.0, 0.7, 1.5):
    continued(temperature, top_k=2048)

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/05_pretraining/exercise.py](../lessons/05_pretraining/exercise.py), then `minilora check 05`.
#
# <details><summary>1. A loss of 0.1 nats after 20 steps. What is most likely wrong?</summary>
# The model sees what it is to predict: labels that are not shifted, or attention that looks ahead. Nobody guesses real
# text that well.
# </details>
#
# <details><summary>2. All gradients are multiplied by 1,000. What changes with AdamW, and what with gradient descent?</summary>
# With AdamW nothing, up to ε: the running mean and the root of the running square grow alike. With gradient descent each
# step is 1,000 times as long.
# </details>
#
# <details><summary>3. Why is temperature 0 not the best choice for writing, if each token is then the likeliest?</summary>
# The likeliest next token does not make the likeliest text, and a text that is always likely says little. Such texts tend
# to run in circles.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your own loop sends the small model to school for 80 steps, and your own sampling
# lets the pretrained base write.


# %%
class Logits(nn.Module):
    """A model whose answer is the logits alone, as the exercise has it."""

    def __init__(self, model):
        self.model = model

    def forward(self, ids):
        return self.model(ids).logits


mine, pupil = yours.functions("05"), Logits(fresh())
source = training_batches(text, 8, 64, seed=0)
rows = [source.next_batch()["input_ids"] for _ in range(80)]
losses = mine.train(pupil, rows, steps=80, peak=8e-3, warmup=10)
theirs = [record["loss"] for record in runs["AdamW, 0.008"].steps]
pictures.show(
    pictures.curves(
        "Your training loop, and the library's",
        {"yours": (range(80), losses), "the library's": (range(80), theirs)},
        "step",
        "loss (nats per token)",
    ),
    "They differ a little: the library also limits the length of the gradient.",
)
words = mine.generate(Logits(base), start, 20, 0.7, 20, seed=0)
print(base_tokenizer.decode(words))
