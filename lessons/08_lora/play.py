"""Lesson 08's page: a real ΔW as a sum of thin pieces. See lessons/pages.py."""

import numpy as np

from lessons.pages import packed
from minilora.measure.lab import Lab
from minilora.train import load
from minilora.train.loop import TrainConfig

TITLE = "LoRA as a sum of thin pieces"
SHOWN = "r=8"  # in the picture for sharing
LAYER = "model.layers.5.self_attn.v_proj"
PIECES = 32  # that the page can add up
LAYOUT = "across"
SOME = 8  # pieces of which the summary tells


def held(data: dict, pieces: int) -> float:
    """Return the share of the change, of the sum of its squares, that its first pieces hold."""
    squares = np.square(data["sizes"])
    return float(squares[:pieces].sum() / squares.sum())


def summary(data: dict) -> str:
    height, width = data["change"]["shape"]
    numbers, whole = SOME * (height + width), height * width
    needed = next(r for r in range(1, len(data["sizes"]) + 1) if held(data, r) >= 0.8)
    return (
        f"Full fine-tuning changed all {whole:,} numbers of a weight. The first {SOME} of {len(data['sizes'])} thin "
        f"pieces have {numbers:,} numbers, {100 * numbers / whole:.1f} %, and hold {100 * held(data, SOME):.1f} % of "
        f"the change; 80 % need {needed} pieces."
    )


def body(data: dict) -> str:
    height, width = data["change"]["shape"]
    return f"""
<div class="say">
<p class="lead">Full fine-tuning was free to change all {height * width:,} numbers of this weight, which maps {width}
numbers to {height}. ΔW is what it changed. LoRA may only add up <em>thin pieces</em>: each is one column times one
row, so it has {height} + {width} numbers.</p>
<div>
<form id="guess" class="row"><label><span>Your guess first: how many pieces hold 80 % of ΔW (of the sum of its
squares)?</span> <input type="number" name="guess" min="1" max="{len(data["sizes"])}" value="48" required></label>
<button>Commit</button></form>
<p class="answer" id="verdict" role="status"></p>
</div>
<!-- summary -->
</div>
<section class="stage">
  <style>
    .sums {{ display: grid; grid-template-columns: 1fr auto 4% 1fr auto 1fr; gap: 5px; align-items: center;
      text-align: center; margin-bottom: .4rem; }}
    .row-piece, .column-piece {{ outline: 2px solid var(--lora); }}
    .sums b {{ padding: 0 .2rem; }}
    .sums .row-piece {{ grid-column: 4; height: .7rem; }}
    .sums .column-piece {{ height: 0; min-height: 100%; }}
    .sums p {{ margin: .2rem 0 0; font-size: .9rem; line-height: 1.3; color: var(--soft); align-self: start; }}
    #spectrum {{ height: 8.5rem; }}
    @media (max-width: 60rem) {{ .sums .row-piece {{ height: .5rem; }} .sums p {{ font-size: .8rem; }} }}
  </style>
  <figure class="sums">
    <canvas id="row" class="row-piece after" aria-hidden="true"></canvas>
    <canvas id="whole" style="grid-area: 2 / 1" role="img" aria-label="Heat map of the change by full
    fine-tuning"></canvas>
    <b style="grid-area: 2 / 2" class="after">=</b>
    <canvas id="column" class="column-piece after" style="grid-area: 2 / 3" aria-hidden="true"></canvas>
    <canvas id="sum" class="after" style="grid-area: 2 / 4" role="img" aria-label="Heat map of the sum of the first r
      pieces; its frame: the column and the row of the last of them"></canvas>
    <b style="grid-area: 2 / 5" class="after">+</b>
    <canvas id="rest" class="after" style="grid-area: 2 / 6" role="img" aria-label="Heat map of what the pieces leave
      out"></canvas>
    <p style="grid-area: 3 / 1">ΔW</p>
    <p style="grid-area: 3 / 3 / 4 / 5" id="sum-says" class="after"></p>
    <p style="grid-area: 3 / 6" class="after">the rest</p>
  </figure>
  <div class="after">
    <div class="row"><label class="long">pieces r <input type="range" id="rank" min="0" max="{PIECES}" value="0">
      <b id="r" style="width: 1.6rem"></b></label></div>
    <div class="gauge" id="count"><span>numbers</span><span><i style="background: var(--soft)"></i></span><b></b></div>
    <div class="gauge" id="held"><span>of ΔW</span><span><i style="background: var(--lora)"></i></span><b></b></div>
    <output class="said" id="said" for="rank" aria-live="polite" style="min-height: 3em"></output>
    <figure><svg class="picture" id="spectrum" viewBox="0 0 640 130" preserveAspectRatio="none" role="img"
    aria-label="The
      {len(data["sizes"])} singular values of the change; those of the pieces in use are filled"></svg></figure>
  </div>
</section>
<div class="more">
  <p class="soft">One layer of a small language model that learned NumPy's documentation. Blue: less than before;
  orange: more; white: as before.<span class="after"> Beside the sum and above it are the column and the row of the
  piece that was added last: their product is the piece. Bars: the sizes of all {len(data["sizes"])} pieces (singular
  values); green: in use.</span></p>
  <p><a href="README.md">The reading</a> says why LoRA bets on this, and <a href="exercise.py">the exercise</a> builds
  it.</p>
</div>
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
