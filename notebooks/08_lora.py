# %% [markdown]
# # 08 LoRA: how small is the change that fine-tuning makes?
#
# The reading is [lessons/08_lora](../lessons/08_lora/README.md). Here we look at real weights. A language model has
# read Python's documentation; we teach it NumPy's, once by training every weight, once by LoRA. Then we take the two
# changes apart.
#
# **Write down a guess first.** Full fine-tuning may change a weight matrix (96, 192) in any of its 96 directions. What
# share of the change that it does make lies in the 8 largest?

# %% [markdown]
# ## The idea, in a few lines
#
# `W` is frozen. Beside it stand two thin matrices: `A` leads the input through 8 numbers, and `B` leads those to the output.
# Only the two are trained, and in the end their product can be added to `W`. Here all of them are random.

# %%
import numpy as np

rng, s = np.random.default_rng(0), 2.0  # s is LoRA's alpha / r
W, x = rng.standard_normal((96, 192)), rng.standard_normal((5, 192))
A, B = rng.standard_normal((8, 192)), rng.standard_normal((96, 8))
y = x @ W.T + s * (x @ A.T) @ B.T
merged = x @ (W + s * B @ A).T
print(f"{A.size + B.size:,} numbers train beside {W.size:,} that do not")
print(f"largest difference after merging: {np.abs(merged - y).max():.0e}")

# %%
import ipywidgets  # sliders

from figures import internals, pictures, yours  # in the folder beside this notebook
from minilora.measure.lab import Lab  # the base, texts to learn and to test on
from minilora.models.llama import LlamaForCausalLM  # the kind of model the base is
from minilora.peft import LoraConfig, get_peft_model  # puts LoRA into a model
from minilora.train import load  # where the base is, counts of parameters
from minilora.train.loop import TrainConfig  # how a model is trained
from minilora.train.methods import Options  # a method's own settings

lab = Lab(load.base_folder(), test_characters=8_000, validation_characters=4_000)
text = lab.domain_text(8_000, seed=0)
print(f"the base: {load.count_parameters(lab.base())[1]:,} parameters")
print(f"the text to learn: {len(text.ids):,} tokens")

# %% [markdown]
# ## The expert, and two ways to teach the jargon
#
# Full fine-tuning sends the expert through school again: every weight may move. LoRA hands over a thin glossary: beside
# each layer, two narrow matrices. Both take 20 steps, each at a learning rate of its own: LoRA's is eight times as large,
# since B starts at zero and has to grow first. (The package's default for LoRA is 0.009. On a text as short as this one, it
# gains little more than half as much as 0.004 does.)

# %%
config = TrainConfig(steps=20, warmup=2, eval_every=10)
start = lab.bits(lab.base(), lab.domain_test)
print(f"the base as it is: {start:.2f} bits/character")
results, gains = {}, {}
for method, rate in (("full", 5e-4), ("lora", 4e-3)):
    config.peak_lr = rate
    model, history = lab.adapt(method, text, config, Options(rank=8))
    trains, bits = load.count_parameters(model)[0], lab.bits(model, lab.domain_test)
    results[method], gains[method] = model, start - bits
    print(f"{method}: {trains:,} parameters train, {bits:.2f} bits/character")
share = gains["lora"] / gains["full"]
print(f"LoRA gains {share:.0%} of what full fine-tuning gains")

# %% [markdown]
# With a seventeenth of the parameters, LoRA gains about two thirds as much.

# %% [markdown]
# ## The picture: singular values of the change
#
# ΔW is the trained weight less the base's. Its singular values say how many directions it uses. LoRA's change has
# rank 8 by construction: after the eighth value there is nothing. And full fine-tuning's?

# %%
path = "model.layers.5.self_attn.v_proj"
before = lab.base().get_submodule(path).weight.numpy()
change_full = results["full"].get_submodule(path).weight.numpy() - before
layer = results["lora"].base_model.get_submodule(path)
change_lora = layer.scaling * layer.lora_B.weight.numpy() @ layer.lora_A.weight.numpy()
pictures.show(
    internals.singular_values(
        {
            "full fine-tuning": change_full,
            "LoRA, rank 8": change_lora,
            "the weight itself": before,
        },
        "Singular values of a weight and of two changes to it",
    ),
    "Compare how fast the curves fall: which one ends after eight values?",
)

# %%
energy = np.linalg.svd(change_full, compute_uv=False) ** 2
energy_of_weight = np.linalg.svd(before, compute_uv=False) ** 2
for name, values in (
    ("full fine-tuning's change", energy),
    ("the weight itself", energy_of_weight),
):
    share = values[:8].sum() / values.sum()
    print(f"{name}: the first 8 of {len(values)} directions hold {share:.0%}")

# %% [markdown]
# (Shares of the sum of squares.) Full fine-tuning was free to use every direction, and yet puts most of its change into
# few, more so than the weight that it changes. That is what LoRA bets on.

# %% [markdown]
# ## What does the rank cost?
#
# The number of parameters that train grows with the rank, and stays far below the whole.

# %%
counts = {}
for rank in (1, 2, 4, 8, 16, 64):
    adapted = get_peft_model(
        lab.base(), LoraConfig(r=rank, target_modules="all-linear")
    )
    counts[f"rank {rank}"] = adapted.get_nb_trainable_parameters()[0]
counts["full fine-tuning"] = load.count_parameters(lab.base())[1]
pictures.show(
    pictures.bars(
        "Parameters that train", counts, "parameters (logarithmic)", log=True
    ),
    "On this logarithmic axis, twice the rank is always the same step to the right.",
)

# %% [markdown]
# With a kernel running, move the slider: what does the change look like when only its first r directions are kept? The
# picture after it needs no kernel. It has the shares for each r, and beside them those of two other matrices of this shape:
# would any matrix fit into so few directions?

# %%
held = np.cumsum(energy) / energy.sum()
left, sizes, right = np.linalg.svd(change_full)


def draw(rank: int = 8) -> None:
    first = (left[:, :rank] * sizes[:rank]) @ right[:rank]
    shown = {"the whole change": change_full, f"its first {rank} directions": first}
    pictures.show(
        internals.matrices("ΔW, and a part of it", shown, "change of a weight"),
        f"Look for patterns that are in both: the part holds {held[rank - 1]:.0%}.",
    )


_ = ipywidgets.interact(draw, rank=(1, len(held)))

# %%
ranks = np.arange(1, 25)
spectra = {
    "full fine-tuning's change": energy,
    "the weight itself": energy_of_weight,
    "W of the first cell, random": np.linalg.svd(W, compute_uv=False) ** 2,
}
pictures.show(
    pictures.curves(
        "How much of a matrix is in its first r directions",
        {name: (ranks, (e.cumsum() / e.sum())[:24]) for name, e in spectra.items()},
        "directions kept, r",
        "share of the sum of squares",
    ),
    "Read them at r = 8, LoRA's rank: the change fits best, random numbers do not.",
)

# %% [markdown]
# ## Merging: the glossary becomes part of the expert
#
# After training, W + (alpha / r) B A is a plain weight. The merged model computes the same, and costs nothing more.

# %%
ids = lab.domain_test.ids[None, :64]
with_adapter = results["lora"](ids).logits.numpy()
merged = results["lora"].merge_and_unload()
difference = (
    np.abs(merged(ids).logits.numpy() - with_adapter).max() / np.abs(with_adapter).max()
)
print(f"{type(merged).__name__}; largest difference, relative: {difference:.0e}")
assert isinstance(merged, LlamaForCausalLM)

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/08_lora/exercise.py](../lessons/08_lora/exercise.py), then `minilora check 08`.
#
# <details><summary>1. Why does LoRA start with B at zero, and not with both at zero?</summary>
# With both at zero, each one's gradient is a product with the other: zero. Nothing would ever move. With A random and B
# zero the model begins as the base, and B has a gradient.
# </details>
#
# <details><summary>2. Twice the rank at the same alpha: what happens to the update's scale?</summary>
# It is alpha / r, so it halves. Twice as many entries push about twice as far, so a first step stays about as large,
# and the learning rate can stay.
# </details>
#
# <details><summary>3. Does LoRA make a step faster?</summary>
# Some: no gradient of W is needed. But W is still multiplied with, forward and backward, so far less than the count of
# parameters suggests. What shrinks most is the optimizer's memory and the file.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your own LoRA is put into the base, learns NumPy's documentation, and is merged.

# %%
mine = yours.functions("08")


layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def your_lora(model, options, seed):
    mine.inject(model, layers, options.rank, 2 * options.rank, seed)


lab.own = {"lora": your_lora}
model, _ = lab.adapt("lora", text, config, Options(rank=8))
gain = start - lab.bits(model, lab.domain_test)
print(f"{load.count_parameters(model)[0]:,} parameters train, gain {gain:.2f}")
logits = model(ids).logits.numpy()
print(f"{len(mine.merge(model))} layers merged; largest difference: ", end="")
print(f"{np.abs(model(ids).logits.numpy() - logits).max() / np.abs(logits).max():.0e}")
changes = {
    "full fine-tuning": change_full,
    "your LoRA, rank 8": model.get_submodule(path).weight.numpy() - before,
    "the weight itself": before,
}
pictures.show(
    internals.singular_values(changes, "Singular values, with the change of your LoRA"),
    "Your change ends after eight values too: it is the product of two thin matrices.",
)
