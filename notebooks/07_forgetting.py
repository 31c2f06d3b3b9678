# %% [markdown]
# # 07 Catastrophic forgetting: what does the old task pay for the new one?
#
# The reading is [lessons/07_forgetting](../lessons/07_forgetting/README.md). A small language model has read Python's
# documentation. We train it on NumPy's, and look at both: the text that it is to learn, and the text that it came from.
#
# **Write down a guess first.** After twenty steps on NumPy's documentation, how many bits per character has the model
# gained there, and how many has it lost on Python's? (A positive number for each, or a negative one, if you think so.)

# %%
import ipywidgets  # sliders
import numpy as np

from figures import pictures  # in the folder beside this notebook
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
print("off is the base, bit for bit:", np.array_equal(off, of_base))
print("on is something else:", not np.allclose(on, of_base))
print("on again, bit for bit:", np.array_equal(model(ids).logits.numpy(), on))

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
