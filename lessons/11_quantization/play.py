"""Lesson 11's page: weights of the base, and the values that they are rounded to. See lessons/pages.py."""

import numpy as np

from minilora.errors import MiniloraError
from minilora.models.llama import LlamaForCausalLM
from minilora.quant import plain
from minilora.quant.codebooks import CODEBOOKS, midpoints, order
from minilora.train import load

TITLE = "4 bits: sixteen marks for every weight"
NAME = "4 bits"  # in the links of other pages
SHOWN = "weight=15&value=1.67"  # in the picture for sharing
LAYER = "model.layers.0.self_attn.q_proj"
KINDS = {"nf4": "NF4", "int4": "INT4"}
TIMES = 10  # as large becomes the largest weight


def weights_of(data: dict) -> tuple[np.ndarray, int]:
    """Return the weights, and the place of the largest. Raises MiniloraError if one is not finite, or all are 0."""
    weights = np.array(data["weights"], dtype=np.float32)
    if not np.isfinite(weights).all() or not weights.any():
        raise MiniloraError("lesson 11's page: weights are finite numbers, and not all zero")
    return weights, int(np.abs(weights).argmax())


def error(weights: np.ndarray, kind: str, blocksize: int) -> float:
    """Return the root of the mean square of the errors."""
    codes, absmax = plain.quantize_4bit(weights, blocksize, midpoints(kind), order(kind))
    back = plain.dequantize_4bit(codes, absmax, CODEBOOKS[kind](), blocksize, weights.size)
    return float(np.sqrt(np.square(back - weights, dtype=float).mean()))


def summary(data: dict) -> str:
    weights, place = weights_of(data)
    ruined = np.where(np.arange(weights.size) == place, TIMES * weights, weights)
    (nf4, int4), (nf4_now, int4_now) = ([error(one, kind, 16) for kind in KINDS] for one in (weights, ruined))
    return (
        f"NF4's error for these weights is {nf4:.4f}, INT4's {int4:.4f}. With weight {place + 1} ten times as large "
        f"they are {nf4_now:.4f} and {int4_now:.4f}: {nf4_now / nf4:.1f} and {int4_now / int4:.1f} times. In blocks of "
        f"four, which leave it at most three neighbours, NF4's is {error(ruined, 'nf4', 4):.4f}."
    )


def body(data: dict) -> str:
    weights, place = weights_of(data)
    most = float(f"{1.2 * TIMES * abs(weights[place]):.2g}")  # that a weight can be made
    return f"""
<div class="say">
<p class="lead">In 4 bits, each weight must become one of sixteen marks on a ruler. NF4, QLoRA's ruler, has its marks
closer together near zero; INT4's are evenly spaced. The ruler of a block is stretched until its last mark meets the
block's largest weight. So what if one weight is far larger than the others?</p>
<form id="guess" class="row"><label><span>Your guess first: weight {place + 1} becomes ten times as large. How many
times as large is NF4's error then (the root of the mean square over all {weights.size})?</span> <input type="number"
name="guess" min="0.1" max="100" step="0.1" value="10" required></label> <button>Commit</button></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
</div>
<section class="stage">
  <figure><svg class="picture" id="ruler" viewBox="0 0 400 270" role="img" aria-label="{weights.size} weights, the
    marks of their blocks, and the mark that each goes to"></svg></figure>
  <div class="after">
    <div class="gauge" id="nf4-gauge"><span>NF4 error</span><span><i style="background:
    var(--memory-gradients)"></i></span>
      <b></b></div>
    <div class="gauge" id="int4-gauge"><span>INT4 error</span><span><i style="background:
    var(--memory-gradients)"></i></span>
      <b></b></div>
    <div class="row"><label class="long">its value <input type="range" id="value" min="{-most}" max="{most}"
      step="{most / 400}"></label>
      <label class="long">weight <input type="range" id="which" min="1" max="{weights.size}"
      value="{place + 1}"></label></div>
    <div class="row"><label>weights per block <select id="block"><option>4</option><option>8</option><option
      selected>16</option></select></label>
      <button type="button" id="tenfold">× 10</button> <button type="button" id="reset">as they were</button>
      <label>ruler <select id="book"></select></label></div>
    <output class="said" id="said" aria-live="polite"></output>
  </div>
</section>
<div class="more">
  <p class="after">The lines are the marks that a weight of the block can become. With the outlier, they lie so far
  apart that all its neighbours fall on two or three of them. Shorter blocks confine the damage to the outlier's own
  block: choose 4. That is why real formats cut weights into blocks, of 64 in QLoRA, where a weight takes 4.5
  bits.</p>
  <p class="soft">The first {weights.size} weights of the first layer's <code>q_proj</code>. Circle: a weight. Bar: the
  mark that is nearest, which is what is read back.<span class="after"> Red between them: the error. Drag a circle up or
  down, or use the two sliders; a value beyond the picture is written at its edge.</span></p>
  <div class="after">
    <h3>What is stored</h3>
    <p><output id="nf4-says"></output></p>
    <p><output id="int4-says"></output></p>
    <p class="soft">Codes are hexadecimal digits; two share a byte, the first in the high half. Error: the root of the
    mean square over all {weights.size}; in the bars above, 100 % is an error as large as the weights before: the
    root of their mean square.</p>
  </div>
  <p><a href="README.md">The reading</a> says where the marks come from, and <a href="exercise.py">the exercise</a>
  builds them.</p>
</div>
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
