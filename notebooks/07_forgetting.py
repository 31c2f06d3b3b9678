# %% [markdown]
# # 07 Catastrophic forgetting: what does the old task pay for the new one?
#
# The reading is [lessons/07_forgetting](../lessons/07_forgetting/README.md). A small language model has read Python's
# documentation. We train it on NumPy's, and look at both: the text that it is to learn, and the text that it came from.
#
# **Write down a guess first.** After twenty steps on NumPy's documentation, how many bits per character has the model
# gained there, and how many has it lost on Python's? (A positive number for each, or a negative one, if you think so.)

# %% [markdown]
# ## The idea, in a few lines
#
# A model learns one task, and then another. Nothing in the second asks for the first, so the weights move away from it.
# Rows of the old task among the new ones, which is called replay, hold them where both are solved.

# %%
import numpy as np

rng = np.random.default_rng(0)
x, y = rng.standard_normal((2, 20, 60)), rng.standard_normal((2, 20))  # old task, new
learned = np.linalg.lstsq(x[0], y[0])[0]  # solves the old one
for name, tasks in (("the new task alone", [1]), ("with replay", [0, 1])):
    w, rows, goals = learned, np.concatenate(x[tasks]), np.concatenate(y[tasks])
    for _ in range(2000):
        w = w - 0.005 * rows.T @ (rows @ w - goals)
    errors = [np.abs(x[task] @ w - y[task]).mean() for task in (1, 0)]
    print(f"{name}: off by {errors[0]:.2f} on the new task, {errors[1]:.2f} on the old")

# %%
import ipywidgets  # sliders

from figures import pictures, yours  # in the folder beside this notebook
from minilora import nn, optim  # modules, AdamW
from minilora.data.batches import MixedBatches  # rows of two texts in one batch
from minilora.measure.lab import Lab  # the base, texts to learn and to test on
from minilora.train import load  # where the base is
from minilora.train.loop import TrainConfig, train  # how a model is trained

lab = Lab(load.base_folder(), test_characters=3_000, validation_characters=3_000)
new_text, old_text = lab.domain_text(12_000, seed=0), lab.base_text(12_000, seed=0)


def probe(model) -> tuple[float, float]:
    """Return bits per character on held-out text: (new, old)."""
    return lab.bits(model, lab.domain_validation), lab.bits(model, lab.base_test)


before = probe(lab.base())
print(f"the base: {before[0]:.2f} bits/character on NumPy's text")
print(f"          {before[1]:.2f} bits/character on Python's")

# %% [markdown]
# ## The expert in half a year of jargon
#
# Three trainings, probed every five steps. Full fine-tuning moves every weight. The second does the same, but two rows
# of each batch of eight are old text: replay. The third is LoRA (lesson 08): the weights stay frozen, and a thin part
# beside them trains. The learning rates are high, so that twenty steps show what longer trainings do.

# %%
settings = {"steps": 20, "warmup": 2, "eval_every": 5}


def train_and_probe(method: str, rate: float, share: float):
    """Return the trained model, and what it learned and forgot at each probe."""
    model, probes = lab.fresh(method, seed=0), []

    def look() -> float:
        probes.append(probe(model))
        return probes[-1][0]

    new, old = lab.batches(new_text, 1, seed=0), lab.batches(old_text, 1, seed=0)
    batches = MixedBatches(new, old, share, lab.batch_size)
    config = TrainConfig(peak_lr=rate, **settings)
    train(model, batches, config, evaluate=look, show_progress=False)
    bits = np.array(probes)
    return model, before[0] - bits[:, 0], bits[:, 1] - before[1]


runs = {
    "full fine-tuning": train_and_probe("full", 1.5e-3, 0.0),
    "full, a quarter replayed": train_and_probe("full", 1.5e-3, 0.25),
    "LoRA": train_and_probe("lora", 6e-3, 0.0),
}
with_lora = runs["LoRA"][0]  # the only model that is looked at below
runs = {name: curves for name, (_, *curves) in runs.items()}
for name, (learned, forgotten) in runs.items():
    best = learned.argmax()
    print(f"{name}: learned {learned[best]:.3f}, forgot {forgotten[best]:.3f}")

# %% [markdown]
# ## The picture: old task against new task
#
# To the right is learned, up is forgotten; each mark is a probe, the large one the last. Compare the paths at the same
# place to the right: where both have learned as much, which has forgotten less?

# %%
pictures.show(
    pictures.paths(
        "Right is learned, up is forgotten",
        runs,
        "bits/character gained on the new text",
        "bits/character\nlost on the old text",
    ),
    "Draw an upright line in your mind: which path is lowest where they all cross it?",
)

# %%
level = 0.9 * min(learned.max() for learned, _ in runs.values())
print(f"where each has learned {level:.2f} bits/character:")
for name, (learned, forgotten) in runs.items():
    there = np.interp(level, np.maximum.accumulate(learned), forgotten)
    print(f"  {name} has forgotten {there:.3f}")

_, alone = runs["full fine-tuning"]
_, replayed = runs["full, a quarter replayed"]
recovered = 1 - replayed[-1] / alone[-1]
print(f"replay recovers {recovered:.0%} of what is forgotten at the end")

# %% [markdown]
# Replay bends the path: about as far to the right, and less far up. LoRA ends lower than full fine-tuning without
# replay, and further to the left as well. Where both have learned as much, the two have forgotten similar amounts. So
# its end point alone is no proof that LoRA forgets less: it has learned less by then.

# %% [markdown]
# ## What can replay promise?
#
# A model that sees no context, trained on a mixture, predicts the mixture. What that costs on each text can be computed
# from how often each token occurs (task 5 of the exercise). Here are the frequencies of our two texts.

# %%
size = lab.tokenizer.vocab_size
p_new, p_old = (
    (np.bincount(text.ids, minlength=size) + 0.01) / (len(text.ids) + 0.01 * size)
    for text in (new_text, old_text)
)  # 0.01: no token is quite impossible


def price(p: np.ndarray, share: float) -> float:
    """Return the extra bits per token that text p costs under the mixture."""
    return -float(p @ np.log2((p_new + share * (p_old - p_new)) / p))


shares, without = np.linspace(0, 0.5, 51), price(p_old, 0)
lost = {
    "lost on the old text": (shares, [price(p_old, s) for s in shares]),
    "lost on the new text": (shares, [price(p_new, s) for s in shares]),
}


def draw(share: float = 0.1) -> None:
    saved, costs = without - price(p_old, share), price(p_new, share)
    here = {f"a share of {share:g}": ([share, share], [0, without])}
    pictures.show(
        pictures.curves(
            "A model without context: what a share of replay costs and saves",
            lost | here,
            "share of replay",
            "bits/token",
        ),
        f"At the upright line, replay saves {saved:.2f} bits/token on the old text "
        f"and costs {costs:.3f} on the new.",
    )


draw()

# %% [markdown]
# The first few per cent save most. With a kernel running, move the slider: the upright line goes along. (The picture above
# shows both curves whole.)

# %%
_ = ipywidgets.interact(draw, share=(0.01, 0.5, 0.01))

# %% [markdown]
# ## The off switch
#
# Full fine-tuning wrote into the weights; what stood there is gone. LoRA's base is still there. Off, the model must give
# the base's answers bit for bit, and on again, its own.

# %%
model, ids = with_lora, lab.base_test.ids[None, :64]
of_base, on = lab.base()(ids).logits.numpy(), model(ids).logits.numpy()
with model.disable_adapter():
    off = model(ids).logits.numpy()
again = model(ids).logits.numpy()
print("largest difference of the logits:")
print(f"  off, from the base: {np.abs(off - of_base).max()}")
print(f"  on, from the base: {np.abs(on - of_base).max():.1f}")
print(f"  on again, from on: {np.abs(again - on).max()}")

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/07_forgetting/exercise.py](../lessons/07_forgetting/exercise.py), then `minilora check 07`.
#
# <details><summary>1. A colleague's method forgets half as much as yours. What do you ask first?</summary>
# How much it has learned. A training with a tiny learning rate forgets next to nothing. Compare where both have learned
# as much.
# </details>
#
# <details><summary>2. Why does a tenth of replay save more than it costs?</summary>
# In the mixture, each old token keeps at least a tenth of its probability: it costs at most log₂ 10 bits more, however
# far the new text is. Each new token keeps nine tenths, and costs at most log₂ (10/9) bits more, about 0.15.
# </details>
#
# <details><summary>3. The adapter can be switched off exactly. Is forgetting solved?</summary>
# For texts of which you know which they are, yes. But somebody must decide, and a text that needs the old and the new at
# once gets one of the two.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your batches train the model, without old text and with a quarter of it, and your
# probe looks on.

# %%
mine, own = yours.functions("07"), {}


def rows_of(stream, seed):
    """Yield windows of a text without end."""
    batches = lab.batches(stream, 1, seed)
    while True:
        yield batches.next_batch()["input_ids"][0]


class Logits(nn.Module):
    def __init__(self, model):
        self.model = model

    def forward(self, ids):
        return self.model(ids).logits


looks = {"new": lab.domain_validation.ids[:512], "old": lab.base_test.ids[:512]}
pages = {name: ids.reshape(4, 128) for name, ids in looks.items()}
characters = {n: len(lab.tokenizer.decode(ids)) for n, ids in looks.items()}
for name, share in (("full fine-tuning", 0.0), ("full, a quarter replayed", 0.25)):
    model = Logits(lab.fresh("full", seed=0))
    optimizer = optim.AdamW(list(model.parameters()), lr=1e-3)
    batches = mine.Replay(rows_of(new_text, 0), rows_of(old_text, 0), share, rows=8)
    bits = {"new": [], "old": []}
    for step in range(13):
        for side, ids in pages.items() if step % 4 == 0 else ():
            page = [{"input_ids": ids, "labels": ids}]
            bits[side].append(mine.probe(model, page, characters[side]))
        ids = batches.next_batch()
        optimizer.zero_grad()
        model.model(ids, labels=ids).loss.backward()
        optimizer.step()
    new, old = np.array(bits["new"]), np.array(bits["old"])
    own[name] = (new[0] - new, old - old[0])
    best, learned, forgotten = mine.learned_and_forgotten([*new], [*old])
    print(f"{name}: learned {learned:.3f}, forgot {forgotten:.3f} bits/character")
pictures.show(
    pictures.paths(
        "Right is learned, up is forgotten: by your functions",
        own,
        "bits/character gained on the new text",
        "bits/character\nlost on the old text",
    ),
    "Twelve steps, on other windows than above: does replay bend the path here too?",
)
