"""Lesson 11's page: weights of the base, and the values that they are rounded to. See lessons/pages.py."""

import numpy as np

from minilora.errors import MiniloraError
from minilora.models.llama import LlamaForCausalLM
from minilora.quant import plain
from minilora.quant.codebooks import CODEBOOKS, midpoints, order
from minilora.train import load

TITLE = "4 bits: sixteen values to choose from"
BACKGROUND = "A language model's weights, rounded to 4 bits each"
NAME = "4 bits"  # in the links of other pages
HEADLINE = "One weight grows tenfold. What happens to the other 15?"
ABOUT = "Make one weight of a language model ten times as large, and see what becomes of its neighbours"
LAYER = "model.layers.0.self_attn.q_proj"
KINDS = {"nf4": "NF4", "int4": "INT4"}
TIMES, SIZE = 10, 16  # as large becomes the largest weight, in blocks of so many


def weights_of(data: dict) -> tuple[np.ndarray, int]:
    """Return the weights, and the place of the largest. Raises MiniloraError if one is not finite, or all are 0."""
    weights = np.array(data["weights"], dtype=np.float32)
    if not np.isfinite(weights).all() or not weights.any():
        raise MiniloraError("lesson 11's page: weights are finite numbers, and not all zero")
    return weights, int(np.abs(weights).argmax())


def quantized(weights: np.ndarray, kind: str, blocksize: int) -> tuple[int, float]:
    """Return how many marks the others in the largest weight's block use, and the root mean square error."""
    packed, absmax = plain.quantize_4bit(weights, blocksize, midpoints(kind), order(kind))
    back = plain.dequantize_4bit(packed, absmax, CODEBOOKS[kind](), blocksize, weights.size)
    place = int(np.abs(weights).argmax())
    block = np.arange(weights.size) // blocksize == place // blocksize
    block[place] = False
    return np.unique(back[block]).size, float(np.sqrt(np.square(back - weights, dtype=float).mean()))


def ruined(data: dict) -> np.ndarray:
    """Return the weights after the largest has grown."""
    weights, place = weights_of(data)
    return np.where(np.arange(weights.size) == place, TIMES * weights, weights)


def summary(data: dict) -> str:
    weights, place = weights_of(data)
    (before, error), (after, error_now) = (quantized(one, "nf4", SIZE) for one in (weights, ruined(data)))
    (even, int4), (even_now, int4_now) = (quantized(one, "int4", SIZE) for one in (weights, ruined(data)))
    return (
        f"In 4 bits, the weights beside the largest use {before} marks of NF4's ruler and {even} of INT4's. With "
        f"weight {place + 1} ten times as large, they use {after} and {even_now}: the error is "
        f"{error_now / error:.1f} and {int4_now / int4:.1f} times as large. In blocks of four, which leave it at most "
        f"three neighbours, NF4's error is {quantized(ruined(data), 'nf4', 4)[1] / error:.1f} times as large."
    )


def body(data: dict) -> str:
    weights, place = weights_of(data)
    beside = min(SIZE, weights.size - place // SIZE * SIZE) - 1
    return f"""
<style>.gauge s {{ position: absolute; inset: -2px auto -2px 0; border-left: 2px solid var(--ink); }}</style>
<div class="say">
<p class="lead">To fit into 4 bits, each weight of a model is rounded to one of sixteen marks on a ruler. The ruler is
stretched to the largest weight: here, number {place + 1}. What if that one were far larger?</p>
<form id="guess" class="row"><label><span>Your guess first: the other {beside} weights use
{quantized(weights, "nf4", SIZE)[0]} of the sixteen marks. How many will they use when weight {place + 1} is ten times
as large?</span> <input type="number" name="guess" min="1" max="16" placeholder="marks" required></label>
<button>Check my guess</button></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
</div>
<section class="stage">
  <figure><svg class="picture" id="ruler" viewBox="0 -3 400 290" role="img" aria-label="{weights.size} weights, the
    marks of their blocks, the mark that each goes to, and how many marks are used"></svg></figure>
  <div class="after">
    <div class="gauge" id="nf4-gauge"><span>NF4 error</span><span><i style="background:
    var(--memory-gradients)"></i><s></s></span><b></b></div>
    <div class="gauge" id="int4-gauge"><span>INT4 error</span><span><i style="background:
    var(--memory-gradients)"></i><s></s></span><b></b></div>
    <div class="row"><label class="long">weight <input type="range" id="which" min="1" max="{weights.size}"></label>
      <label class="long">its value <input type="range" id="slide" min="-1" max="1"
      step="0.002"><input type="number" step="any" id="value" hidden></label></div>
    <div class="row"><button type="button" id="tenfold">original × 10</button>
      <button type="button" id="reset">original</button>
      <label>block <select id="block"><option>4</option><option>8</option><option
      selected>{SIZE}</option></select></label> <label>ruler <select id="book"></select></label></div>
    <output class="said" id="said" aria-live="polite"></output>
  </div>
</section>
<div class="more">
  <p class="after">How to limit the damage? With blocks of 4, each block has a ruler of its own, so only the
  outlier's neighbours suffer. But each ruler costs 32 bits for its scale.
  <button type="button" id="remedy">Try blocks of 4</button><output id="remedied"></output>
  QLoRA takes blocks of 64, which is 4.5 bits per weight, and 4.13 once the scales are rounded as well.</p>
  <p class="soft">Circle: a weight, from a language model's first layer. Bar: the mark that it is rounded to. Lines:
  the other marks. On the right: the whole ruler, which ends at the block's largest weight, with the marks
  that the other weights use in green.<span class="after"> Drag a circle, or use the sliders; one weight at a time is
  changed. Red: the error. Its bars: of all {weights.size} weights, the outlier's included; at 100 %, it is as large as
  these weights were before anything was changed (root mean squares). The tick: the error at that time. NF4 has its
  marks closer together near zero, INT4's are evenly spaced.</span></p>
  <details class="after"><summary>What is stored</summary>
    <p><output id="nf4-says"></output></p>
    <p><output id="int4-says"></output></p>
    <p class="soft">A code is a mark's number, one hexadecimal digit. Two share a byte, the first in its high half.
    Scale: the size of the block's largest weight, which lies on mark 1 or -1. (INT4 has one more, below -1.)</p>
  </details>
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
