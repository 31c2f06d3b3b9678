"""Lesson 11's page: weights of the base, and the values that they are rounded to. See lessons/pages.py."""

from minilora.models.llama import LlamaForCausalLM
from minilora.quant.codebooks import CODEBOOKS, midpoints, order
from minilora.train import load

TITLE = "Sixteen marks"
LAYER = "model.layers.0.self_attn.q_proj"
KINDS = {"nf4": "NF4", "int4": "INT4"}
BODY = """
<p>In 4 bits, a weight becomes one of sixteen marks, times the largest magnitude of its block, the absmax. Here are
sixteen weights of a small language model, in one block. One weight that is far larger than the others makes the
absmax large, and with it the errors of all.</p>
<form id="guess" class="row">
  <label>Your guess first: weight 15 becomes ten times as large. How many times as large is NF4's error then (the root
  of the mean square over all sixteen)?
  <input type="number" name="guess" min="0.1" max="100" step="0.1" value="10" required></label>
  <button>Commit</button>
</form>
<p class="answer" id="verdict" role="status"></p>
<figure><svg class="picture" id="weights" viewBox="0 0 360 160" style="max-width: 32rem" role="img"
  aria-label="Sixteen weights as bars, up for positive ones and down for negative ones"></svg>
  <figcaption>The first sixteen weights of the first layer's <code>q_proj</code>. Orange, with its value: the weight
  that is chosen.<span class="after"> Drag one up or down, or use the two sliders.</span></figcaption></figure>
<noscript><p>Scripts are off here, so nothing is drawn. NF4's error for these weights is 0.0059, INT4's 0.0064. With
weight 15 ten times as large they are 0.0373 and 0.0540: 6.4 and 8.4 times. In blocks of four, where weight 15 has
three neighbours, NF4's is 0.0199.</p></noscript>
<div class="after">
  <div class="row">
    <label>weight <input type="range" id="which" min="1" max="16" value="15"></label>
    <label>its value <input type="range" id="value" min="-2" max="2" step="0.005"></label>
  </div>
  <div class="row">
    <label>weights per block <select id="block"><option>4</option><option>8</option><option
      selected>16</option></select>
    </label>
    <button type="button" id="tenfold">ten times as large (at most 2)</button>
    <button type="button" id="reset">as they were</button>
  </div>
  <p><output id="said" aria-live="polite"></output></p>
  <div class="beside">
    <figure><svg class="picture" id="nf4" viewBox="0 0 360 276" role="img" aria-label="NF4's marks and the
      weights"></svg>
      <figcaption><output id="nf4-says"></output></figcaption></figure>
    <figure><svg class="picture" id="int4" viewBox="0 0 360 276" role="img" aria-label="INT4's marks and the
      weights"></svg>
      <figcaption><output id="int4-says"></output></figcaption></figure>
  </div>
  <p class="soft">Lines: the marks, from -1 to 1. Circle: a weight over its block's absmax. Bar: the mark that is
  nearest. Codes are hexadecimal digits; two share a byte, the first in the high half. Error: the root of the mean
  square over all sixteen. Real blocks have 64 weights and take 4.5 bits per weight; short ones are here to be looked
  at.</p>
</div>
<p><a href="README.md">The reading</a> says where the marks come from, and <a href="exercise.py">the exercise</a>
builds them.</p>
"""


def measure() -> dict:
    """Return sixteen weights of the base, and each codebook's values by code with the midpoints between them."""
    weight = LlamaForCausalLM.from_pretrained(load.base_folder()).get_submodule(LAYER).weight.numpy()
    return {
        "weights": weight[0, :16].tolist(),
        "books": {
            kind: {
                "name": name,
                "values": CODEBOOKS[kind]().tolist(),
                "midpoints": midpoints(kind).tolist(),
                "order": order(kind).tolist(),
            }
            for kind, name in KINDS.items()
        },
    }
