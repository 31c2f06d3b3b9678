# %% [markdown]
# # 10 Prefix, soft prompts and plain prompts: how much can be taught by what is read first?
#
# The reading is [lessons/10_prompts](../lessons/10_prompts/README.md). Here no weight of the model changes. First we
# only put text in front of what it reads. Then we train what stands in front, and look at who listens to it.
#
# **Write down three guesses first.** Eight virtual tokens start from real tokens, or from random numbers, and learn a
# single sentence. Which start is better before the first step, and which after seven? And does it still matter after
# sixteen steps on more text?

# %% [markdown]
# ## The idea, in a few lines
#
# Attention looks at whatever keys it is given. So keys that belong to no word can be put in front of those of the text, with
# values of their own: each query then spends a part of its attention on them. Such keys and values are what trains. Here
# they are random.

# %%
import numpy as np

rng = np.random.default_rng(0)
q, k = rng.standard_normal((2, 6, 32))  # a text of six tokens
prefix = rng.standard_normal((8, 32))  # eight keys that belong to no word
fit = np.exp(q @ np.concatenate([prefix, k]).T / np.sqrt(32))
share = fit[:, :8].sum(axis=1) / fit.sum(axis=1)
print("of each token's attention, on the prefix:", share.round(2))

# %%
import ipywidgets  # sliders

import minilora.functional as F  # rotary positions
from figures import internals, pictures, yours  # in the folder beside this notebook
from figures.few_shot import bits_after, prompt_for  # plain prompts
from figures.topics import TopicLab  # the base, texts and labelled sentences
from minilora import nn, no_grad, optim  # modules, no gradients, AdamW
from minilora.measure.records import Records, results_folder  # what was measured
from minilora.peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from minilora.train import load  # where the base is, counts of parameters
from minilora.train.loop import TrainConfig  # how a model is trained

# %%
lab = TopicLab(load.base_folder(), test_characters=4_000, validation_characters=3_000)
text = lab.domain_text(8_000, seed=0)
print(f"the base: {load.count_parameters(lab.base())[1]:,} parameters, all frozen")

# %% [markdown]
# ## Plain prompts: nothing trains
#
# A prompt with solved examples, as lesson 10 builds it:

# %%
shots = lab.task.few(1, seed=0)[:2]
prompt = prompt_for(lab.task.classes, shots, "Parse a URL into its components.")
print(prompt)
print(f"\n({len(lab.tokenizer.encode(prompt))} tokens, read anew for every query)")

# %% [markdown]
# Does a model of this size learn the task from its examples? The record of a measurement comes with the package: so many
# examples in the prompt, and as many trained on.

# %%
record = Records.read(results_folder() / "study-prompting.jsonl", "study prompting")
print(f"by chance: {1 / record.rows['prompt', 0, 0]['classes']:.1%}")
for k in (1, 2, 4, 8, 16):
    prompted, trained = (
        np.mean([row["accuracy"] for row in record.of(kind, k)])
        for kind in ("prompt", "trained")
    )
    print(f"{k:>2} examples: {prompted:.1%} prompted, {trained:.1%} trained")

# %% [markdown]
# It does not: to guess one of eight topics is right as often, and a difference between two guesses says nothing. But does
# the model at least read on more easily after some text of the same kind? We let it read NumPy's documentation in windows
# of 128 tokens, each after so many tokens of another part of that documentation.

# %%
base, lengths = lab.base(), (0, 64, 256)
bits = [bits_after(base, text.ids[:n], lab.domain_test, 128, 8) for n in lengths]
for n, value in zip(lengths, bits, strict=True):
    print(f"after {n} tokens: {value:.2f} bits/character")

# %% [markdown]
# The base was trained on windows of 128 tokens. At later positions it is a stranger, and the longest prompt does harm.
#
# ## The race: one sentence, seven steps
#
# Now what stands in front trains. Four ways, each on three sentences of NumPy's documentation, and the mean of their losses
# before each step.

# %%
P = 8
first = [int(token) for token in text.ids[:P]]
ways = {
    "prefix, real tokens": PrefixTuningConfig(
        num_virtual_tokens=P, init_token_ids=first
    ),
    "prefix, random": PrefixTuningConfig(num_virtual_tokens=P),
    "soft prompt, real tokens": PromptTuningConfig(
        num_virtual_tokens=P, init_token_ids=first
    ),
    "soft prompt, random": PromptTuningConfig(num_virtual_tokens=P),
}
sentences = lab.domain_test.ids[: 3 * 32].reshape(3, 1, 32)


def race(way: str, ids: np.ndarray, seed: int) -> list[float]:
    """Return the loss on one sentence (1, T) before each of eight steps.

    Its first token does not count, since the base has nothing to predict it from.
    """
    model = get_peft_model(lab.base(), ways[way], seed=seed)
    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    labels, losses = ids.copy(), []
    labels[:, 0] = -100
    for _ in range(8):
        loss = model(ids, labels=labels).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


losses = {
    way: np.mean([race(way, ids, i) for i, ids in enumerate(sentences)], axis=0)
    for way in ways
}
pictures.show(
    pictures.curves(
        "Eight virtual tokens learn a sentence",
        {way: (range(8), values) for way, values in losses.items()},
        "steps",
        "loss on the sentence (nats per token)",
    ),
    "Compare the four curves at step 0, where they begin together, and at step 7.",
)

# %%
for way, values in losses.items():
    print(f"{way}: loss {values[0]:.1f} before, {values[-1]:.1f} after seven steps")

# %% [markdown]
# Before the first step there is little between the four. After seven, with so little to learn from, both methods are ahead
# where they started from real tokens: the model knows what to do with such keys, values and vectors.
#
# ## More text, more steps
#
# Sixteen steps on eight windows each, for the two prefixes.

# %%
config = TrainConfig(steps=16, warmup=2, eval_every=16, peak_lr=0.3)
trained = {}
print(f"the base: {lab.bits(lab.base(), lab.domain_validation):.2f} bits/character")
for way in ("prefix, real tokens", "prefix, random"):
    trained[way] = get_peft_model(lab.base(), ways[way], seed=0)
    lab.train_on(trained[way], lab.batches(text, 8, seed=0), config)
    bits = lab.bits(trained[way], lab.domain_validation)
    trains = trained[way].get_nb_trainable_parameters()[0]
    print(f"{way}: {trains:,} numbers train, {bits:.2f} bits/character")

# %% [markdown]
# Here, in one run, the two end alike: given time, the random prefix finds its own way. Both learn little beside what methods of
# lessons 08 and 09 learn, with few numbers.
#
# ## The picture: attention on the prefix
#
# Who listens to a prefix? We put a listener in the place of each layer's attention. It does the same, and writes down the
# weights.

# %%
Attention = type(lab.base().model.layers[0].self_attn)


class Listener(nn.Module):
    """Attention that also writes down its weights (H, T, P + T), for one sequence."""

    def __init__(self, attention: Attention):
        self.attention = attention

    def forward(self, x, cos, sin, mask=None, cache=None):
        a, length = self.attention, x.shape[1]
        q, k, v = (
            t.reshape(1, length, -1, a.head_dim)
            for t in (a.q_proj(x), a.k_proj(x), a.v_proj(x))
        )
        q, k = (F.rotary(t, cos, sin).swapaxes(1, 2) for t in (q, k))
        keys = cache.update(a.layer, k, v.swapaxes(1, 2))[0].numpy()[0]  # (H_kv, S, D)
        keys = np.repeat(keys, q.shape[1] // len(keys), axis=0)  # (H, S, D)
        scores = q.numpy()[0] @ keys.swapaxes(-1, -2) / np.sqrt(a.head_dim)
        span = scores.shape[-1]
        seen = np.tril(np.ones((length, span), dtype=bool), span - length)
        e = np.exp(scores - scores.max(axis=-1, keepdims=True)) * seen
        self.weights = e / e.sum(axis=-1, keepdims=True)
        return a(x, cos, sin, mask, cache)


def weights_of(model, ids: np.ndarray) -> np.ndarray:
    """Return the weights (L, H, T, P + T) of a model with a prefix, and restore it."""
    layers = model.base_model.model.base_layer.layers
    for layer in layers:
        layer.self_attn = Listener(layer.self_attn)
    with no_grad():
        model(ids[None])
    weights = np.stack([layer.self_attn.weights for layer in layers])
    for layer in layers:
        layer.self_attn = layer.self_attn.attention
    return weights


ids = lab.tokenizer.encode("Return an array of the same shape, sorted.")
weights = weights_of(trained["prefix, real tokens"], ids)
share = weights[..., :P].sum(axis=-1)  # (L, H, T)
layer, head = np.unravel_index(share.mean(axis=-1).argmax(), share.shape[:2])
words = [lab.tokenizer.decode([int(token)]).strip() for token in ids]
names = [f"virtual {i + 1}" for i in range(P)] + words


def draw(layer: int, head: int) -> None:
    title = f"Who looks at the prefix: layer {layer}, head {head}"
    pictures.show(
        internals.attention_map(weights[layer - 1, head - 1], names, title, first=P),
        f"The first {P} columns are the prefix: in which rows are they bright?",
    )


draw(layer + 1, head + 1)

# %% [markdown]
# Rows are real tokens. The first eight columns are the prefix: all rows may look there, and most do. Behind it stands the
# usual triangle. This is the head that listens most; the next picture has all layers. With a kernel running, move the
# sliders to see the other heads.

# %%
depth, heads = share.shape[:2]
_ = ipywidgets.interact(draw, layer=(1, depth), head=(1, heads))

# %%
shares = {}
for way, model in {
    "real tokens, trained": trained["prefix, real tokens"],
    "random, trained": trained["prefix, random"],
    "real tokens, at the start": get_peft_model(
        lab.base(), ways["prefix, real tokens"]
    ),
    "random, at the start": get_peft_model(lab.base(), ways["prefix, random"]),
}.items():
    shares[way] = weights_of(model, ids)[..., :P].sum(axis=-1).mean(axis=(1, 2))
pictures.show(
    pictures.curves(
        "How much of its attention a layer spends on the prefix",
        {way: (range(1, depth + 1), values) for way, values in shares.items()},
        "layer",
        "share of the weights",
    ),
    "The gap between the two curves of a start is what training did.",
)

# %%
for way, values in shares.items():
    print(f"{way}: {values.mean():.0%} of all attention is on the prefix")

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/10_prompts/exercise.py](../lessons/10_prompts/exercise.py), then `minilora check 10`.
#
# <details><summary>1. A soft prompt has P · d numbers, a prefix P · 2 · L · H_kv · D. What can the second do that the
# first cannot?</summary>
# Say something else in every layer. What a soft prompt says in later layers is computed from it by the frozen layers
# below; a prefix is written there directly.
# </details>
#
# <details><summary>2. Why do gradients reach the prefix of layer 1, although all weights are frozen?</summary>
# Frozen means that weights get no gradient of their own. It still passes through them, from the loss down to whatever
# trains below.
# </details>
#
# <details><summary>3. Why does a prefix that starts from real tokens not begin as the base?</summary>
# It begins as the base that has read these tokens. Its attention is spent on them, too, so its answers are those after a
# plain prompt.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your own prefix and your own soft prompt run the race.

# %%
mine = yours.functions("10")
shape = (6, 3, P, 32)  # layers, heads of keys, virtual tokens, numbers


def random_prefix(model):
    return mine.Prefix(model, *np.random.default_rng(0).normal(0, 0.02, (2, *shape)))


starts = {
    "prefix, real tokens": lambda b: mine.Prefix(b, *mine.real_start(b, first)),
    "prefix, random": random_prefix,
    "soft prompt, real tokens": lambda b: mine.SoftPrompt(b, first),
}


def own_race(way, ids):
    model = starts[way](lab.base())
    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(ids)[:, :-1], ids[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


raced = {way: np.mean([own_race(way, s) for s in sentences], axis=0) for way in starts}
for way, values in raced.items():
    print(f"{way}: loss {values[0]:.1f} before, {values[-1]:.1f} after seven steps")
pictures.show(
    pictures.curves(
        "The race, with your virtual tokens",
        {way: (range(8), values) for way, values in raced.items()},
        "steps",
        "loss on the sentence (nats per token)",
    ),
    "Compare the curves with those of the same names above.",
)
