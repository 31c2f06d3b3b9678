# %% [markdown]
# # 12 QLoRA: what does merging leave of what was learned?
#
# The reading is [lessons/12_qlora](../lessons/12_qlora/README.md). Here we train an adapter over a base in 4 bits, on text
# that the base does not know well, and then merge it in three ways.
#
# **Write down a guess first.** The adapter makes the model better on this text, by hundredths of a bit per character.
# Merged, and rounded to 4 bits again: what share of that gain is left?

# %% [markdown]
# ## The idea, in a few lines
#
# The frozen weight is kept as codes, and read back each time that it is multiplied with. Beside it, LoRA's two thin matrices
# train in full precision. Here the sixteen values are evenly spaced, and all numbers are random.

# %%
import numpy as np

rng, s = np.random.default_rng(0), 2.0
W, x = rng.standard_normal((96, 192)), rng.standard_normal((5, 192))
A, B = rng.standard_normal((8, 192)), rng.standard_normal((96, 8))
scale = np.abs(W).max(axis=1, keepdims=True) / 7
codes = np.round(W / scale).astype("int8")  # -7 to 7: four bits each
y = x @ (scale * codes).T + s * (x @ A.T) @ B.T
print(f"W: {32 * W.size / 8e3:.0f} kB in float32, {4 * W.size / 8e3:.0f} kB as codes")
print(f"A and B: {32 * (A.size + B.size) / 8e3:.0f} kB, and they alone get gradients")

# %%
import ipywidgets  # sliders

from figures import internals, pictures, yours  # in the folder beside this notebook
from figures.memory import live_bytes  # what is in memory, by kind
from minilora.measure.lab import Lab  # the base, texts to learn and to test on
from minilora.optim import AdamW  # the optimizer
from minilora.peft.lora import LoraLinear  # a layer with its adapter
from minilora.plan.planner import make_plan  # memory by arithmetic
from minilora.plan.shapes import PRESETS  # the shapes of known models
from minilora.quant import dequantize_4bit, quantize_4bit, quantize_model
from minilora.train import load  # where the base is, counts of parameters
from minilora.train.loop import TrainConfig, trainable  # how a model is trained
from minilora.train.methods import Options  # a method's own settings

# %%
lab = Lab(load.base_folder(), test_characters=8_000, validation_characters=4_000)
text = lab.domain_text(8_000, seed=0)
print(f"the base: {load.count_parameters(lab.base())[1]:,} parameters")

# %% [markdown]
# ## What is in memory
#
# One step of training with a batch of two rows, and then the forward pass of the next. What is alive at its end, by kind?

# %%
batches = lab.batches(text, rows=2, seed=0)
alive = {}
for name, method in (("full", "full"), ("LoRA", "lora"), ("QLoRA", "qlora")):
    model = lab.fresh(method, seed=0, options=Options(rank=8))
    optimizer = AdamW(list(trainable(model).values()), lr=1e-4)
    model(**batches.next_batch()).loss.backward()
    optimizer.step()
    loss = model(**batches.next_batch()).loss
    kinds = live_bytes(model, optimizer, loss)
    alive[name] = {kind: size / 1e6 for kind, size in kinds.items()}
pictures.show(
    pictures.stacked_bars("A step of training, on our base", alive, "MB"),
    "From full to LoRA, and from LoRA to QLoRA: which parts of the bar become short?",
)

# %% [markdown]
# Full fine-tuning keeps a gradient and two moments for each weight; LoRA hardly any; and QLoRA shrinks the weights. What
# is left are activations, which none of the three makes small. On a base as small as this one, embeddings are a good part
# of the weights, and stay in floats. The same for a model of 7 billion parameters, by arithmetic: in 16 bits, a batch of
# one row of 512 tokens, with checkpointing (each block's activations are computed again in backward).

# %%
planned = {}
for name, method in (("full", "full"), ("LoRA", "lora"), ("QLoRA", "qlora")):
    plan = make_plan(PRESETS["llama-7b"], method, Options(rank=64))
    kinds = {kind: size / 1e9 for kind, size in plan.checkpointed.kinds.items()}
    planned[name] = {
        "weights": kinds["weights"] + kinds["constants"] + kinds["adapters"],
        "gradients": kinds["gradients"],
        "optimizer": kinds["optimizer"],
        "activations": kinds["activations"] + kinds["logits"] + kinds["workspace"],
    }
pictures.show(
    pictures.stacked_bars("A step of training, LLaMA 7B, by arithmetic", planned, "GB"),
    "Compare the weights in the three bars: here they are what QLoRA saves.",
)

# %% [markdown]
# ## Training beside 4 bits
#
# Before and after, we look at the codes: nothing may have written into the pocket edition.

# %%
before = quantize_model(lab.base())
config = TrainConfig(steps=20, warmup=2, eval_every=10, peak_lr=1e-3)
model, history = lab.adapt("qlora", text, config, Options(rank=8))
layers = {
    path.removeprefix("base_model."): module
    for path, module in model.named_modules()
    if isinstance(module, LoraLinear)
}
changed = sum(
    np.count_nonzero(before.get_submodule(path).packed != layer.base_layer.packed)
    for path, layer in layers.items()
)
print(f"bytes of codes that changed, in {len(layers)} layers: {changed}")
bits = {
    "the base in 4 bits": lab.bits(before, lab.domain_test),
    "the adapter on it": lab.bits(model, lab.domain_test),
}
for name, value in bits.items():
    print(f"{name}: {value:.2f} bits/character")

# %% [markdown]
# ## Three ways of merging
#
# Into the original weights; into the dequantized ones, which the adapter was trained on; and the latter, rounded to 4
# bits again.

# %%
plain = lab.base()


def rounded(weight: np.ndarray) -> np.ndarray:
    """Return the weight as a 4-bit layer computes with it."""
    return dequantize_4bit(*quantize_4bit(weight))


def merged(way) -> float:
    """Return bits/character if each weight is way(original, dequantized, update)."""
    together = lab.base()
    for path, layer in layers.items():
        original = plain.get_submodule(path).weight.numpy()
        dequantized = layer.base_layer.dequantize()
        update = layer.changed_weight() - dequantized
        together.get_submodule(path).weight.data = way(original, dequantized, update)
    return lab.bits(together, lab.domain_test)


bits["merged into the original"] = merged(lambda W, Q, delta: W + delta)
bits["merged into the dequantized"] = merged(lambda W, Q, delta: Q + delta)
bits["that, in 4 bits again"] = merged(lambda W, Q, delta: rounded(Q + delta))
start = bits.pop("the base in 4 bits")
gains = {name: round(start - value, 3) for name, value in bits.items()}
pictures.show(
    pictures.bars(
        "What is gained on the text over the base in 4 bits",
        gains,
        "bits/character gained (more is better)",
    ),
    "Compare the last bar with the others: it holds the same update, rounded.",
)

# %%
remains = gains["that, in 4 bits again"] / gains["the adapter on it"]
print(f"rounding again leaves {remains:.0%} of the gain")

# %% [markdown]
# Two of the merged models gain what the adapter gains, to within a few thousandths. The third is nearly the base.
#
# ## The picture: what merging erases
#
# A corner of one layer: the update that training made, and what is left of it after rounding.

# %%
path = "model.layers.5.self_attn.v_proj"
layer = layers[path]
weight = layer.base_layer.dequantize()
update = layer.changed_weight() - weight
left = rounded(weight + update) - weight
size = np.linalg.norm(update) / np.linalg.norm(weight)
new_codes = quantize_4bit(weight + update)[0]
# A byte holds two codes, and is zero where both are as before.
halves = new_codes ^ layer.base_layer.packed
moved = np.mean([halves >> 4 != 0, halves & 15 != 0])
print(f"the update's size: {size:.1%} of the weight's")
print(f"weights that get another code: {moved:.2%}")
pictures.show(
    internals.matrices(
        "An update, and what rounding leaves of it",
        {"learned": update[:48, :48], "after rounding to 4 bits": left[:48, :48]},
        "change of a weight",
    ),
    "Take a strong cell of the left map, and look for it in the right one.",
)

# %% [markdown]
# Hardly a weight has another code. What moves in the second picture is mostly the scales: where the largest weight of a
# block was changed, the block's absmax was too, and all of its 64 weights with it. That is a change, and not the one that
# was learned.
#
# With a kernel running, move the slider: the same update, made larger or smaller. What share of it survives? (The picture
# below it shows the same for all sizes.)

# %%
sizes = np.array([1, 2, 3, 5, 7, 10, 15, 20, 25, 30])


def survives(percent: float) -> float:
    """Return the share (%) that survives of an update of `percent` % of the weight."""
    scaled = np.float32(percent / 100 / size) * update
    move = rounded(weight + scaled) - weight
    return 100 * float(np.vdot(move, scaled) / np.vdot(scaled, scaled))


def survives_from_original(percent: float) -> float:
    """Return the same for the original weight, merged and rounded."""
    original = plain.get_submodule(path).weight.numpy()
    scaled = np.float32(percent / 100 / size) * update
    move = rounded(original + scaled) - rounded(original)
    return 100 * float(np.vdot(move, scaled) / np.vdot(scaled, scaled))


def draw(percent: int = 5) -> None:
    scaled = np.float32(percent / 100 / size) * update
    left = rounded(weight + scaled) - weight
    shown = {"update": scaled[:48, :48], "after rounding to 4 bits": left[:48, :48]}
    title = f"An update of {percent} % of the weight's size"
    pictures.show(
        internals.matrices(title, shown, "change of a weight"),
        f"From which size on do you see the left map in the right one? "
        f"Here {survives(percent):.0f} % survive.",
    )


_ = ipywidgets.interact(draw, percent=(1, 30))

# %%
pictures.show(
    pictures.curves(
        "What survives of an update that is rounded to 4 bits",
        {
            "dequantized weight + update": (sizes, [survives(p) for p in sizes]),
            "original weight + update": (
                sizes,
                [survives_from_original(p) for p in sizes],
            ),
        },
        "size of the update (% of the weight's)",
        "survives (%)",
    ),
    "One curve is at 95 % or more throughout; look where the other begins to rise.",
)

# %% [markdown]
# The trap is a threshold. The dequantized weight lies on the marks, so a small update moves nothing. The original one
# lies anywhere, and some of its numbers pass a middle for however small a reason; on average, that is the right amount.

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/12_qlora/exercise.py](../lessons/12_qlora/exercise.py), then `minilora check 12`.
#
# <details><summary>1. Why does the weight's rounding not stop the gradient?</summary>
# Nothing is rounded while training. The weight was rounded once, before; then it is a constant that the input is
# multiplied with, and the gradient of the input is a product with that constant.
# </details>
#
# <details><summary>2. You have the adapter and the base in 4 bits, and need one plain model. Which merge?</summary>
# Into the dequantized weights, in floats: that is the model that was trained and measured. If it must be 4 bits, keep
# the adapter apart. If you have the original weights, merging into them and rounding that is another model, to be
# measured before it is used.
# </details>
#
# <details><summary>3. Why does QLoRA make the weight anew in backward, when it was there in forward?</summary>
# To keep it would mean to keep every layer's float weight until backward comes to it: all of them at once, and the memory
# that 4 bits had saved would be gone.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your own merges of the trained update, at all sizes.

# %%
mine = yours.functions("12")
A, B = (getattr(layer, f"lora_{name}").weight.numpy() for name in "AB")
W = plain.get_submodule(path).weight.numpy()
marks = rounded(W)  # the weight that the adapter was trained on
left = []
for percent in sizes:
    scaling = np.float32(percent / 100 * np.linalg.norm(marks) / np.linalg.norm(B @ A))
    merges = mine.three_merges(W, A, B, scaling)
    left.append(100 * mine.survives(marks, merges["requantized"], scaling * (B @ A)))
for percent, share in zip(sizes[::3], left[::3]):
    print(f"an update of {percent} % of the weight's size: {share:.0f} % survive")
pictures.show(
    pictures.curves(
        "What survives, by your functions",
        {"dequantized weight + update": (sizes, left)},
        "size of the update (% of the weight's)",
        "survives (%)",
    ),
    "Find the size from which on most of the update is still there.",
)
