# %% [markdown]
# # 09 Adapters: what is left of a model when small networks are put between its layers?
#
# The reading is [lessons/09_adapters](../lessons/09_adapters/README.md). Here we put adapters into a real language
# model, in two placements, and teach it NumPy's documentation with everything else frozen. Then we listen to what each
# adapter adds.
#
# **Write down two guesses first.** The model has six blocks. Right after the adapters are put in, how much do its answers
# change? And after training, where is the most added: in early blocks or in late ones?

# %% [markdown]
# ## The idea, in a few lines
#
# An adapter stands behind a layer and adds a remark to what the layer said: down to a few numbers, through a bend, and up
# again. Without the bend it would be a thin matrix like LoRA's, and the remark about -h would be the opposite of the remark
# about h. Because of the bend it is not. (The biases are left out here.)

# %%
import numpy as np

rng = np.random.default_rng(0)
h = rng.standard_normal((5, 192))  # what a layer said about five tokens
down, up = 0.1 * rng.standard_normal((32, 192)), 0.1 * rng.standard_normal((192, 32))
remark = np.maximum(h @ down.T, 0) @ up.T
y = h + remark  # what the next layer reads
opposite = np.maximum(-h @ down.T, 0) @ up.T
print(
    f"the remark about h: up to {np.abs(remark).max():.2f}; it and the remark about -h "
    f"add up to as much as {np.abs(remark + opposite).max():.2f}, and not to 0"
)

# %%
import ipywidgets  # sliders

from figures import internals, pictures, yours  # in the folder beside this notebook
from minilora import nn  # modules, of which models are built
from minilora.measure.lab import Lab  # the base, texts to learn and to test on
from minilora.peft import BottleneckConfig, get_peft_model  # puts adapters in
from minilora.peft.bottleneck import BottleneckLayer  # a module with its adapter
from minilora.train import load  # where the base is, counts of parameters
from minilora.train.loop import TrainConfig  # how a model is trained
from minilora.train.methods import Options  # a method's own settings

lab = Lab(load.base_folder(), test_characters=8_000, validation_characters=4_000)
text = lab.domain_text(8_000, seed=0)
width, total = lab.base().config.hidden_size, load.count_parameters(lab.base())[1]
print(f"the base: {total:,} parameters, a stream {width} numbers wide")

# %% [markdown]
# ## The picture: where the modules sit
#
# An adapter stands behind the module that it reads, and before the block adds to its stream. The picture is drawn from
# the models themselves: which modules have an adapter now?

# %%
m = 32  # the width of the adapters


def adapters_of(model) -> dict[str, BottleneckLayer]:
    """Return {path: module with its adapter}, in the model's order."""
    pairs = model.base_model.named_modules()
    return {path: layer for path, layer in pairs if isinstance(layer, BottleneckLayer)}


fresh = {
    name: get_peft_model(
        lab.base(), BottleneckConfig(bottleneck_size=m, placement=name.lower())
    )
    for name in ("Houlsby", "Pfeiffer")
}
places = {
    name: {path.split(".")[-1] for path in adapters_of(model)}
    for name, model in fresh.items()
}
pictures.show(
    internals.adapter_places(places, width, m, "Where adapters sit in a block"),
    "Follow the stream upward, and count the boxes with thick edges in each column.",
)

# %% [markdown]
# Thick edges train; the rest is frozen. In words: Houlsby's adapters stand behind attention and behind the MLP,
# Pfeiffer's behind the MLP alone.

# %%
for name, model in fresh.items():
    count, each = len(adapters_of(model)), 2 * width * m + m + width
    trains = model.get_nb_trainable_parameters()[0]
    assert trains == count * each
    print(f"{name}: {count} adapters of {each:,} parameters, {trains / total:.1%}")

# %% [markdown]
# ## The first day: no remarks
#
# The up weights and biases are zero. So the adapted model is the base, bit for bit, before the first step.

# %%
ids = lab.domain_test.ids[None, :64]
before = lab.base()(ids).logits.numpy()
for name, model in fresh.items():
    change = np.abs(model(ids).logits.numpy() - before).max()
    print(f"{name}: largest change of {before.size:,} logits: {change}")

# %% [markdown]
# ## Teaching the jargon
#
# Twenty steps each. The base has no adapters, and is there to compare.

# %%
config = TrainConfig(steps=20, warmup=2, eval_every=10, peak_lr=3e-3)
trained = {}
for name in ("Houlsby", "Pfeiffer"):
    options = Options(bottleneck_size=m, placement=name.lower())
    trained[name], _ = lab.adapt("bottleneck", text, config, options)
    bits = lab.bits(trained[name], lab.domain_test)
    print(f"{name}: {bits:.2f} bits/character")
print(f"the base as it is: {lab.bits(lab.base(), lab.domain_test):.2f} bits/character")

# %% [markdown]
# ## Who says how much?
#
# We let the trained Houlsby model read, and note at each place how large the remark is beside what the module itself
# said.

# %%
model = trained["Houlsby"]


class Listener(nn.Module):
    """Replaces a module with its adapter: computes the same, and records its share."""

    def __init__(self, layer: BottleneckLayer):
        self.layer = layer

    def forward(self, x, *args, **kwargs):
        h = self.layer.base_layer(x, *args, **kwargs)
        y = self.layer(x, *args, **kwargs)
        self.h = h.numpy()
        self.share = np.linalg.norm(y.numpy() - self.h) / np.linalg.norm(self.h)
        return y


listeners = {path: Listener(layer) for path, layer in adapters_of(model).items()}
for path, listener in listeners.items():
    model.base_model.replace(path, listener)
model(lab.domain_test.ids[None, :256])
shares = {module: [] for module in internals.BLOCK}
for path, listener in listeners.items():
    shares[path.split(".")[-1]].append(listener.share)
pictures.show(
    pictures.curves(
        "What the adapters add, beside what their modules say",
        {
            f"behind {internals.BLOCK[module]}": (range(1, 7), values)
            for module, values in shares.items()
        },
        "block",
        "size of remark / size of module",
    ),
    "Compare the left end of each curve with its right end.",
)

# %%
for module, values in shares.items():
    numbers = ", ".join(f"{share:.1f}" for share in values)
    print(f"behind {internals.BLOCK[module]}, blocks 1 to 6: {numbers}")

# %% [markdown]
# Each is a share: 0.5 means that the remark is half as large as what it comments on. No adapter stayed silent, and the
# most is said behind the attention of the last block. Was that your second guess?
#
# ## One adapter, many updates
#
# Inside an adapter, each of its entries passes something on (above zero) or almost nothing (below). Which ones are open
# depends on the token. How many different settings of the switches occur in 256 tokens?

# %%
path, listener = list(listeners.items())[-1]
inside = listener.layer.adapter_down.weight.numpy() @ listener.h[0].T
inside += listener.layer.adapter_down.bias.numpy()[:, None]  # (m, tokens)
settings = {tuple(column) for column in (inside > 0).T}
print(f"{inside.shape[1]} tokens, {len(settings)} settings")

# %% [markdown]
# Each setting is another update of low rank. LoRA has one for all tokens, and can merge it. Here there is no single one
# to merge, and the library refuses:

# %%
try:
    trained["Pfeiffer"].merge_and_unload()
except ValueError as error:
    print(error)

# %% [markdown]
# ## What does the width cost?
#
# With a kernel running, move the slider. (The picture below it shows the same for all widths.)

# %%
places_a_model = {"Houlsby": 12, "Pfeiffer": 6}


def share_of(placement: str, m: int) -> float:
    return 100 * places_a_model[placement] * (2 * width * m + m + width) / total


def draw(m: int = 32) -> None:
    bars = {name: share_of(name, m) for name in places_a_model}
    bars["the whole model"] = 100
    label = "share of the model's parameters (%)"
    pictures.show(
        pictures.bars(f"What adapters of width {m} train", bars, label),
        "At which width do Houlsby's adapters train a quarter of the model's count?",
    )


_ = ipywidgets.interact(draw, m=(1, 192))

# %%
widths = (1, 4, 16, 32, 64, 128, 192)
pictures.show(
    pictures.curves(
        "What adapters of width m train",
        {
            name: (widths, [share_of(name, m) for m in widths])
            for name in places_a_model
        },
        "width m",
        "share of the model's parameters (%)",
    ),
    "Read what a width of 64 costs, with two adapters per block and with one.",
)

# %% [markdown]
# The base is small, so the share is large: it grows with m / d, and d is 192 here. In a model with d = 4,096 the same m
# costs a twentieth of that.

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/09_adapters/exercise.py](../lessons/09_adapters/exercise.py), then `minilora check 09`.
#
# <details><summary>1. Why can an adapter not be merged into the weight before it?</summary>
# Between its two products stands a nonlinearity. Near one input it acts as a matrix, and near another input as another
# one; a weight is the same for all inputs.
# </details>
#
# <details><summary>2. What happens if the adapter's own residual is left out?</summary>
# Its output starts at zero, so the module behind which it stands says nothing any more. The model's answers are wiped
# out before the first step, and training has to learn the module's whole work anew, through m numbers.
# </details>
#
# <details><summary>3. Houlsby with m = 32, or Pfeiffer with m = 64: which trains more?</summary>
# About the same: two adapters of half the width. Houlsby has a few more, since each adapter has a bias of d numbers
# going up: per block 4 d m + 2 m + 2 d against 4 d m + 2 m + d.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your own adapters are put into the base, in both placements, and those of
# Houlsby learn NumPy's documentation.

# %%
mine, own_places = yours.functions("09"), {}
for name in ("Houlsby", "Pfeiffer"):
    model = lab.base()
    paths = mine.insert(model, width, m, name.lower())
    own_places[name] = {path.split(".")[-1] for path in paths}
    planned = mine.count_parameters(width, m, 6, name.lower())
    print(
        f"{name}: {load.count_parameters(model)[0]:,} train, {planned:,} by your count"
    )
lab.own = {"bottleneck": lambda model, _, seed: mine.insert(model, width, m, "houlsby")}
model, _ = lab.adapt("bottleneck", text, config)
print(f"after 20 steps: {lab.bits(model, lab.domain_test):.2f} bits/character")
pictures.show(
    internals.adapter_places(
        own_places, width, m, "Where your adapters sit in a block"
    ),
    "Drawn from the paths that your `insert` returned.",
)
