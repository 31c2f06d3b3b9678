"""Lesson 08's page: a real ΔW as a sum of thin pieces. See lessons/pages.py."""

import numpy as np

from lessons.pages import packed
from minilora.measure.lab import Lab
from minilora.train import load
from minilora.train.loop import TrainConfig

TITLE = "LoRA as a sum of thin pieces"
LAYER = "model.layers.5.self_attn.v_proj"
PIECES = 32  # that the page can add up
BODY = """
<p>Full fine-tuning was free to change all 18,432 numbers of this weight, which maps 192 numbers to 96. Here is what it
changed, ΔW, in one layer of a small language model that learned NumPy's documentation. LoRA may only add up
<em>thin pieces</em>: each is one column times one row, with 96 + 192 numbers.</p>
<form id="guess" class="row">
  <label>Your guess first: how many pieces hold 80 % of ΔW (of the sum of its squares)?
  <input type="number" name="guess" min="1" max="96" value="48" required></label>
  <button>Commit</button>
</form>
<p class="answer" id="verdict" role="status"></p>
<div class="beside"><figure>
  <canvas id="whole" role="img" aria-label="Heat map of the change by full fine-tuning"></canvas>
  <figcaption>ΔW, as full fine-tuning left it. Blue: less; orange: more; white: as before.</figcaption></figure></div>
<noscript><p>Scripts are off here, so nothing is drawn. Eight pieces have 2,304 numbers, an eighth of the 18,432, and
hold most of ΔW: the reading has a picture of the sizes of all 96.</p></noscript>
<div class="after">
  <div class="row"><label>pieces r <input type="range" id="rank" min="0" max="32" value="1"></label>
  <output id="said" for="rank" aria-live="polite"></output></div>
  <div class="beside">
    <figure><canvas id="sum" role="img" aria-label="Heat map of the sum of the first r pieces"></canvas>
      <figcaption id="sum-says">the sum of the first pieces</figcaption></figure>
    <figure><canvas id="rest" role="img" aria-label="Heat map of what the pieces leave out"></canvas>
      <figcaption>what they leave out</figcaption></figure>
  </div>
  <figure><svg class="picture" id="spectrum" viewBox="0 0 640 200" style="max-width: none" role="img"
    aria-label="The 96 singular values of the change; those of the pieces in use are filled"></svg>
  <figcaption>The sizes of all 96 pieces (singular values). Orange: in use.</figcaption></figure>
</div>
<p><a href="README.md">The reading</a> says why LoRA bets on this, and <a href="exercise.py">the exercise</a> builds
it.</p>
"""


def measure() -> dict:
    """Return the change to one weight by 20 steps of full fine-tuning, decomposed into singular values."""
    lab = Lab(load.base_folder(), test_characters=8_000, validation_characters=4_000)
    text = lab.domain_text(8_000, seed=0)
    model, _ = lab.adapt("full", text, TrainConfig(steps=20, warmup=2, eval_every=10, peak_lr=5e-4))
    change = model.get_submodule(LAYER).weight.numpy() - lab.base().get_submodule(LAYER).weight.numpy()
    left, values, right = np.linalg.svd(change.astype("float64"), full_matrices=False)
    return {
        "change": packed(change),
        "columns": packed(left[:, :PIECES] * values[:PIECES]),
        "rows": packed(right[:PIECES]),
        "sizes": [float(f"{value:.6g}") for value in values],
    }
