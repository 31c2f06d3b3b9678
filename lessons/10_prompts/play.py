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
SENTENCE = "Return the same type as the object."
P = 4  # virtual tokens
BODY = """
<p>A small language model reads eight tokens. Each row says how one of them shares out its attention, in per cent: the
sum is 100. It may look at itself and at what came before. Four trained keys and values are then put in front, in
every layer: a prefix, which learned from NumPy's documentation (2.394 bits per character without it, 2.331 with
it).</p>
<form id="guess" class="row">
  <label>Your guess first: with the prefix on, how many per cent of all attention go to it (the mean over all layers,
  heads and tokens)?
  <input type="number" name="guess" min="0" max="100" value="10" required></label>
  <button>Commit</button>
</form>
<p class="answer" id="verdict" role="status"></p>
<div class="row">
  <label>layer <input type="range" id="layer" min="1" max="6" value="1"></label>
  <label>head <input type="range" id="head" min="1" max="6" value="3"></label>
  <label>who looks <select id="token"></select></label>
</div>
<div class="row after">
  <label><input type="checkbox" id="prefix" checked> prefix on</label>
  <label><input type="checkbox" id="mask" checked> mask on</label>
</div>
<p><output id="said" aria-live="polite"></output></p>
<figure><svg class="picture" id="grid" viewBox="0 0 400 282" role="img"
  aria-label="Attention weights: rows look, columns are looked at"></svg>
  <figcaption>Rows look, columns are looked at; v1 to v4 are the prefix. A stroke: not seen. A frame: who looks.
  </figcaption></figure>
<noscript><p>Scripts are off here, so nothing is drawn. 38 % of all attention go to the prefix. Were all positions
alike that a token sees, it would be 51 %. One head gives it 99 %, another 1 %.</p></noscript>
<div class="after">
  <div class="wide"><table><thead><tr><th scope="col">looks at</th><th scope="col">without prefix</th>
  <th scope="col">with prefix</th><th scope="col">with, of the text's part</th></tr></thead>
  <tbody id="weights"></tbody></table></div>
  <p class="soft">In layer 1, the last column equals the one without prefix: the prefix takes a share, and leaves the
  proportions within the text as they were. In later layers they change, since the layers before have given other
  numbers. With the mask off, in this layer alone, each token sees what comes after it as well. The model was never
  trained like this.</p>
  <figure><svg class="picture" id="shares" viewBox="0 0 400 212" role="img"
    aria-label="The prefix's share in each layer and head"></svg>
    <figcaption>The prefix's share in each head, in per cent, the mean over the eight tokens.</figcaption></figure>
</div>
<p><a href="README.md">The reading</a> says where a prefix comes from, and <a href="exercise.py">the exercise</a> puts
one into every layer.</p>
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
