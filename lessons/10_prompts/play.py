"""Lesson 10's page: attention with and without a prefix. See lessons/pages.py."""

from unittest.mock import patch

import numpy as np

from lessons.pages import packed, unpacked
from minilora import functional as F
from minilora.measure.lab import Lab
from minilora.tensor import no_grad
from minilora.train import load
from minilora.train.loop import TrainConfig
from minilora.train.methods import METHODS, Options

TITLE = "Attention with a prefix"
BACKGROUND = "A prefix: trained entries that a language model reads before your words"
NAME = "prefix"  # in the links of other pages
ABOUT = "How much attention does a learned prefix take from the words?"
SENTENCE = "Return the same type as the object."
P = 4  # virtual tokens


def shares(data: dict) -> np.ndarray:
    """Return the prefix's share of the attention of each token (L, H, T), in each layer and head."""
    tokens, virtual = len(data["tokens"]), data["virtual"]
    scored = unpacked(data["on"]).reshape(data["layers"], data["heads"], tokens, virtual + tokens)
    masked = np.where(np.tri(tokens, virtual + tokens, virtual, dtype=bool), scored, -np.inf)
    weights = np.exp(masked - masked.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True))[..., :virtual].sum(axis=-1)


def ordinary(data: dict) -> tuple[int, ...]:
    """Return layer, head and token, from 1: the head whose share is nearest to the mean, and its nearest token."""
    off = np.abs((of_tokens := shares(data)) - of_tokens.mean())
    of_heads = np.abs(of_tokens.mean(axis=-1) - of_tokens.mean())
    layer, head = np.unravel_index(of_heads.argmin(), of_heads.shape)
    return int(layer) + 1, int(head) + 1, int(off[layer, head].argmin()) + 1


def summary(data: dict) -> str:
    of_heads, virtual, (off, on) = shares(data).mean(axis=-1), data["virtual"], data["bits"]
    alike = np.mean([virtual / (virtual + seen) for seen in range(1, len(data["tokens"]) + 1)])
    return (
        f"{100 * of_heads.mean():.0f} % of all attention go to the prefix. If each token shared its attention out "
        f"evenly, it would be {100 * alike:.0f} %. With the prefix, NumPy's documentation takes {on:.3f} bits per "
        f"character in place of {off:.3f}. One head gives it {100 * of_heads.max():.0f} %, another "
        f"{100 * of_heads.min():.0f} %."
    )


def body(data: dict) -> str:
    virtual, tokens = data["virtual"], data["tokens"]
    layer, head, token = ordinary(data)
    (off, on), trained = data["bits"], np.prod(data["prefix"]["shape"])
    return f"""
<div class="say">
<p class="lead">Each token of a sentence shares out its attention: 100 % in all, to itself and to the tokens before
it. A prefix puts {virtual} trained entries, v1 to v{virtual}, in front of the sentence. What it takes, the words
must give.</p>
<form id="guess" class="row"><label><span>Your guess first: how many per cent of all attention does the prefix
take? <small>(The mean over all layers, heads and tokens.)</small></span> <input type="number" name="guess" min="0"
max="100" required></label> <button>Check my guess</button></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
</div>
<section class="stage">
  <figure><svg class="picture" id="arrows" viewBox="0 0 400 330" role="img" aria-label="How much of all attention goes
  to the prefix, and arrows from the tokens of a sentence to what each looks at"></svg></figure>
  <div class="row"><label class="long">layer <input type="range" id="layer" min="1" max="{data["layers"]}"
  value="{layer}"> <b id="layer-says" style="width: 3.6rem"></b></label>
    <label class="long">head <input type="range" id="head" min="1" max="{data["heads"]}" value="{head}">
    <b id="head-says" style="width: 3.6rem"></b></label></div>
  <div class="row"><label>who looks <select id="token" data-first="{token}"></select></label>
    <label class="after"><input type="checkbox" id="prefix" checked> prefix</label>
    <label class="after"><input type="checkbox" id="mask" checked> mask: nobody looks ahead</label></div>
  <output class="said" id="said" aria-live="polite" style="min-height: 3em"></output>
</section>
<div class="more">
  <p class="after"><b>What one takes home:</b> the whole prefix is {virtual} entries in each of {data["layers"]} layers,
  a key and a value each: {trained:,} trained numbers. No weight has changed. The prefix learned from
  NumPy's documentation, which now takes {on:.3f} bits per character in place of {off:.3f} (fewer is better).</p>
  <figure class="after"><svg class="picture" id="shares" viewBox="0 0 400 212" role="img"
    aria-label="The prefix's share in each layer and head"></svg>
    <figcaption>What the prefix takes in each head, in per cent: the mean over the {len(tokens)} tokens, with the
    mask. Click one to see it. The picture opens on the head that comes nearest to the mean of all,
    {100 * shares(data).mean():.1f} %, and in this head on the token that comes nearest to it.</figcaption></figure>
  <p class="soft">A small language model, and a prefix that learned from NumPy's documentation: keys and values in every
  layer. An arrow is as thick as its share.</p>
  <details class="after"><summary>What do the prefix and the mask do?</summary>
  <p class="soft">In layer 1 the prefix takes a share and leaves the proportions among the words as they were: the
  arrows grow thin together. In later layers they change too, since the layers before have given other numbers. With
  the mask off, in this layer alone, each token sees what comes after it as well; the model was never trained like
  this.</p></details>
  <details class="after"><summary>The numbers of this token</summary>
  <div class="wide"><table><thead><tr><th scope="col">looks at</th><th scope="col">without prefix</th>
  <th scope="col">with prefix</th><th scope="col">with, of the text's part</th></tr></thead>
  <tbody id="weights"></tbody></table></div></details>
  <p><a href="README.md">The reading</a> says where a prefix comes from, and <a href="exercise.py">the exercise</a>
  puts one into every layer.</p>
</div>
"""


def scores(model, ids: np.ndarray) -> np.ndarray:
    """Return q kᵀ / √D (L, H, T, P + T) of a sequence, before the mask; P is 0 for a model without a prefix."""
    calls, attend = [], F.scaled_dot_product_attention

    def listening(q, k, v, **options):
        keys = np.repeat(k.numpy()[0], q.shape[1] // k.shape[1], axis=0)  # (H, P + T, D)
        calls.append(q.numpy()[0] @ keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))
        return attend(q, k, v, **options)

    with patch.object(F, "scaled_dot_product_attention", listening), no_grad():
        model(ids[None])
    return np.stack(calls)


def prefixed(lab: Lab, prefix: np.ndarray):
    """Return the base with the prefix (P, 2·L·H_kv·D)."""
    model = lab.fresh("prefix", 0, Options(virtual_tokens=len(prefix)), tokens=range(len(prefix)))
    (parameter,) = (p for p in model.parameters() if p.requires_grad)
    parameter.data = prefix.astype("float32")
    return model


def measure() -> dict:
    """Return the scores of the base without a prefix, and with one trained on NumPy's documentation."""
    lab = Lab(load.base_folder(), test_characters=8_000, validation_characters=4_000)
    text = lab.domain_text(40_000, seed=0)
    config = TrainConfig(steps=60, warmup=3, eval_every=20, peak_lr=METHODS["prefix"].lr)
    trained, _ = lab.adapt("prefix", text, config, Options(virtual_tokens=P))
    (parameter,) = (p for p in trained.parameters() if p.requires_grad)
    prefix = packed(parameter.numpy())
    model = prefixed(lab, unpacked(prefix))  # what the page is about, rounded as it is written
    ids = lab.tokenizer.encode(SENTENCE)
    off, on = scores(lab.base(), ids), scores(model, ids)
    return {
        "tokens": [lab.tokenizer.decode([int(token)]).strip() for token in ids],
        "layers": len(off),
        "heads": off.shape[1],
        "virtual": P,
        "bits": [round(lab.bits(one, lab.domain_test), 3) for one in (lab.base(), model)],
        "off": packed(off.reshape(-1, off.shape[-1])),  # a row per layer, head and token that looks
        "on": packed(on.reshape(-1, on.shape[-1])),
        "prefix": prefix,
    }
