# %% [markdown]
# # 04 The attention block: where does a trained model look?
#
# The reading is [lessons/04_attention](../lessons/04_attention/README.md). Here we watch the expert read: the base that
# comes with minilora, which has learned Python's documentation. It has six layers with six heads each, and nobody told
# any of the 36 what to look for.
#
# **Write down a guess first.** In "If the file is empty, return None", where does a head look when it stands at "empty"?
# At "empty" itself, at the word before, at "file", at the beginning of the text? Divide 100 % among the four.

# %% [markdown]
# ## The idea, in a few lines
#
# Each token asks a question, a query, and every token has a key that may fit. The better it fits, the more of that token's
# value is taken. Here are four tokens of eight numbers, all of them random: a row is a token that looks.

# %%
import numpy as np

q, k, v = np.random.default_rng(0).standard_normal((3, 4, 8))  # 4 tokens, 8 numbers
fit = np.exp(q @ k.T / np.sqrt(8))  # how well each key fits each query
fit = np.tril(fit)  # nobody looks ahead
weights = fit / fit.sum(axis=1, keepdims=True)  # each row adds up to 1
print(weights.round(2), "\nwhat the tokens take along:", (weights @ v).shape)

# %%
import ipywidgets  # sliders

import minilora.functional as F  # softmax, rotary positions
from figures import internals, pictures, yours  # in the folder beside this notebook
from minilora import Tensor, nn, no_grad  # arrays with gradients, and their modules
from minilora.models import llama  # the kind of model that the base is
from minilora.train import load  # loads the language model

model, tokenizer = load.load_model("base")
text = "Return the first line of the file. If the file is empty, return None."
ids = np.concatenate([[tokenizer.eos_token_id], tokenizer.encode(text)])
tokens = ["⟨start⟩"] + [tokenizer.decode([i]).strip() for i in ids[1:]]
print(len(ids), "tokens:")
for half in (tokens[:9], tokens[9:]):
    print("  " + " | ".join(half))

# %% [markdown]
# ## Watching the heads
#
# The library computes attention in one piece and keeps no weights. So we put a watcher in the place of each attention
# layer. It computes the weights once more, keeps them, and lets the layer go on with its work. Queries and keys are the
# layer's own projections, turned by their positions; each key head serves two query heads.

# %%
layers = [f"model.layers.{i}.self_attn" for i in range(6)]


class Watcher(nn.Module):
    def __init__(self, attention):
        self.attention = attention

    def forward(self, x, cos, sin, mask=None, cache=None):
        inner, (batch, length, _) = self.attention, x.shape
        looks = []
        for layer in (inner.q_proj, inner.k_proj):
            heads = layer(x).reshape(batch, length, -1, inner.head_dim)
            looks.append(F.rotary(heads, cos, sin).numpy()[0].swapaxes(0, 1))
        q, k = looks  # (H, T, D), (H_kv, T, D)
        scores = q @ k.repeat(len(q) // len(k), axis=0).swapaxes(1, 2)
        scores /= np.sqrt(inner.head_dim)
        scores = np.where(np.tri(length) > 0, scores, -np.inf)
        self.weights = F.softmax(Tensor(scores)).numpy()  # (H, T, T)
        return inner(x, cos, sin, mask, cache)


for path in layers:
    model.replace(path, Watcher(model.get_submodule(path)))
with no_grad():
    model(ids[None])
weights = np.stack([model.get_submodule(path).weights for path in layers])
off = np.abs(weights.sum(axis=-1) - 1).max()
print(f"weights {weights.shape}; a row's sum differs from 1 by {off:.0e} at most")

# %% [markdown]
# ## The picture: four heads
#
# A row is a token that looks, a column one that is looked at. Above the diagonal there is nothing: nobody looks ahead.

# %%
files = [t for t, name in enumerate(tokens) if name == "file"]
chosen = {
    "layer 0, head 0": weights[0, 0],
    "layer 3, head 2": weights[3, 2],
    "layer 1, head 5": weights[1, 5],
    "layer 4, head 0": weights[4, 0],
}
pictures.show(
    internals.attention_maps(chosen, "Four heads, one sentence", tokens=tokens),
    "In each map, look for what is bright: the diagonal, the line below it, columns.",
)

# %%
print(f"{'from the 5th token on:':24} itself  before  earlier file  start")
for name, map in chosen.items():
    rows = range(4, len(ids))
    shares = [
        np.mean([map[t, t] for t in rows]),
        np.mean([map[t, t - 1] for t in rows]),
        np.mean([sum(map[t, s] for s in files if s < t) for t in rows]),
        np.mean([map[t, 0] for t in rows]),
    ]
    widths = (6, 8, 14, 7)
    print(
        f"{name:24}"
        + "".join(f"{share:{w}.0%}" for share, w in zip(shares, widths, strict=True))
    )

# %% [markdown]
# (The columns overlap: the token before may be a "file".) The first head looks at the token itself, the second mostly at
# the one before, the third at the noun that the sentence is about, and the last at the beginning. A head whose weights
# must add up to 1 has to look somewhere, also when there is nothing to be found: the start, which is the same in every
# text, is a good place to look at nothing.

# %% [markdown]
# ## All 36
#
# With a kernel running, move the sliders to see one head with its words. The picture below has them all, small.


# %%
def see(layer: int = 3, head: int = 2) -> None:
    title = f"Layer {layer}, head {head}"
    pictures.show(
        internals.attention_map(weights[layer, head], tokens, title),
        "A row is a token that looks; the bright cells are where it looks.",
    )


_ = ipywidgets.interact(see, layer=(0, 5), head=(0, 5))

# %%
every = {f"{i}.{h}": weights[i, h] for i in range(6) for h in range(6)}
pictures.show(
    internals.attention_maps(every, "Layer.head", columns=6),
    "From the first row to the last: how many heads look at the first column?",
)

# %% [markdown]
# ## How far back?
#
# The same weights by distance: how much goes to the token itself, to the one before, and so on? Rotary positions are
# what lets a head tell one distance from another.

# %%
by_distance = {}
for name, map in chosen.items():
    distances = range(10)
    by_distance[name] = (
        distances,
        [np.mean(np.diagonal(map, -d)[max(0, 10 - d) :]) for d in distances],
    )
pictures.show(
    pictures.curves(
        "Attention by distance",
        by_distance,
        "tokens back",
        "mean attention weight",
    ),
    "Look where each head's curve has its peak: that is how far back it looks.",
)

# %% [markdown]
# The first head looks at distance 0, the second mostly at 1, the third at whatever distance its noun has. The last one's
# curve lies at 0 everywhere: its start is further back than the picture goes.

# %% [markdown]
# ## Three predictions
#
# In the reading, you wrote down which outputs change when the last token changes, when the first changes, and, in one
# block without positions, when the first two tokens are exchanged. Here are the answers.

# %%
ten = ids[1:11]


def changed(model, before, after):
    """Return the places at which the hidden states of two texts differ."""
    with no_grad():
        a, b = (model(np.asarray(ids)[None]).numpy()[0] for ids in (before, after))
    return np.flatnonzero(np.abs(a - b).max(axis=1) > 1e-5 * np.abs(a).max())


other = tokenizer.encode(" list")[0]
body = load.load_model("base")[0].model
print("last token changed: ", changed(body, ten, [*ten[:-1], other]))
print("first token changed:", changed(body, ten, [other, *ten[1:]]))

exchanged, with_positions = [ten[1], ten[0], *ten[2:]], llama.rotary_tables
llama.rotary_tables = lambda positions, frequencies: (  # no angle anywhere
    np.ones((*positions.shape, 32)),
    np.zeros((*positions.shape, 32)),
)
all_layers = body.layers
body.layers = all_layers[:1]
print("two exchanged, one block without positions: ", changed(body, ten, exchanged))
body.layers = all_layers
print("two exchanged, six blocks without positions:", changed(body, ten, exchanged))
llama.rotary_tables = with_positions

# %% [markdown]
# The last token changes its own output only, the first one all of them. In one block without positions, an exchange is
# felt at the two places alone: for all that come after, the sum has the same terms. In six blocks everybody feels it.
# That is no contradiction. Token 0 sees itself alone, and token 1 sees both, so the exchange changes what *they* know,
# and the second block looks at that. Looking only back is itself a faint sense of order.

# %% [markdown]
# ## Not a little: nothing
#
# The gradient of each output with respect to each input. What lies ahead is not small but exactly 0.

# %%
body = load.load_model("base")[0].model
reach = np.zeros((len(ten), len(ten)))
for t in range(len(ten)):
    x = Tensor(body.embed_tokens.weight.numpy()[ten][None], requires_grad=True)
    body(inputs_embeds=x)[0, t].sum().backward()
    reach[t] = np.abs(x.grad[0]).sum(axis=1)
ahead = np.triu(np.ones_like(reach), 1) > 0
print("largest gradient from what lies ahead:", reach[ahead].max())
print(f"smallest from what lies behind: {reach[~ahead].min():.1e}")

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/04_attention/exercise.py](../lessons/04_attention/exercise.py), then `minilora check 04`.
#
# <details><summary>1. Why is the future hidden before the softmax and not after it?</summary>
# After the softmax, the hidden tokens have already taken their share: what is left adds up to less than 1, and how much
# less depends on the future. Minus infinity before it leaves them no share at all.
# </details>
#
# <details><summary>2. The base has 6 heads for queries and 3 for keys and values. What does that save?</summary>
# Half of the keys and values that are kept while a text is written, and half of the weights of two of the four maps.
# </details>
#
# <details><summary>3. Which weights of a block depend on the length of the text?</summary>
# None. The norm, the four maps and the MLP are applied to each token; positions are turned by a formula, and the looking
# itself has no weights. What grows is the work: with the square of the length.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: six blocks of your own take the base's weights and read the sentence. (Attention
# with the identity in place of the values gives back its weights.)

# %%
mine, body = yours.functions("04"), load.load_model("base")[0].model
x, maps = body.embed_tokens(ids[None]), {}
angles = mine.rotary_angles(len(ids), 32)
for depth, layer in enumerate(body.layers):
    block = mine.Block(192, 512, heads=6, kv_heads=3)
    theirs = {name.split(".")[-2]: p.data for name, p in layer.named_parameters()}
    for name, p in block.named_parameters():
        p.data = theirs[name.removesuffix(".weight")]
    read = mine.rms_norm(x, block.input_layernorm)
    queries = mine.rotate(mine.split_heads(block.q_proj(read), 6), angles)
    keys = mine.rotate(mine.split_heads(block.k_proj(read), 3), angles)
    values = Tensor(np.tile(np.eye(len(ids), dtype="float32"), (1, 6, 1, 1)))
    maps[depth] = mine.causal_attention(queries, mine.share_heads(keys, 6), values)
    x = block(x)
away = np.abs(body.norm(x).numpy() - body(ids[None]).numpy()).max()
print(f"largest difference from the library's hidden states: {away:.0e}")
places = ((0, 0), (3, 2), (1, 5), (4, 0))  # (layer, head)
own = {f"layer {i}, head {head}": maps[i].numpy()[0, head] for i, head in places}
pictures.show(
    internals.attention_maps(own, "The four heads, by your block", tokens=tokens),
    "The same four as above, and now you wrote all that made them.",
)
