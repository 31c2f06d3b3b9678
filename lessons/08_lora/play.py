"""Lesson 08's page: a real ΔW as a sum of thin pieces. See lessons/pages.py."""

import numpy as np

from lessons.pages import packed
from minilora.errors import MiniloraError
from minilora.measure.lab import Lab
from minilora.train import load
from minilora.train.loop import TrainConfig

TITLE = "LoRA as a sum of thin pieces"
NAME = "pieces"  # in the links of other pages
ABOUT = "How many thin pieces make up what training changed in a model?"
LAYER = "model.layers.5.self_attn.v_proj"
PIECES = 32  # that the page can add up
LAYOUT = "across"
SOME = 8  # pieces of which the summary tells


def held(data: dict, pieces: int) -> float:
    """Return the share of the change, of the sum of its squares, that its first pieces hold."""
    squares = np.square(data["sizes"])
    return float(squares[:pieces].sum() / squares.sum())


def needed(data: dict) -> int:
    """Return how many of the first pieces hold 80 % of the change."""
    return next(r for r in range(1, len(data["sizes"]) + 1) if held(data, r) >= 0.8)


def summary(data: dict) -> str:
    """Tell the page's story. Raises MiniloraError if the pieces' sizes cannot be: NaN, below 0, rising, all 0."""
    if not (np.diff([*data["sizes"], 0]) <= 0).all() or not data["sizes"][0] > 0:
        raise MiniloraError("lesson 08's page: singular values of a change fall from one above 0 to 0")
    height, width = data["change"]["shape"]
    numbers, whole = SOME * (height + width), height * width
    return (
        f"Full fine-tuning changed all {whole:,} numbers of a weight. The first {SOME} of {len(data['sizes'])} thin "
        f"pieces have {numbers:,} numbers, {100 * numbers / whole:.1f} %, and hold {100 * held(data, SOME):.1f} % of "
        f"the change. 80 % need {needed(data)} pieces."
    )


def body(data: dict) -> str:
    (height, width), pieces = data["change"]["shape"], data["rows"]["shape"][0]
    most, all_pieces = needed(data), len(data["sizes"])
    share = 100 * most * (height + width) / (height * width)
    return f"""
<div class="say">
<p class="lead">Full fine-tuning was free to change all {height * width:,} numbers of this weight, which maps {width}
numbers to {height}. ΔW is what it changed. LoRA may only add up <em>thin pieces</em>: each is one column times one
row, so it has {height} + {width} numbers.</p>
<div>
<form id="guess" class="row"><label><span>Your guess first: how many thin pieces hold 80 % of what training
changed?<small> (Square all numbers of ΔW and add them up: a piece's share of this sum is what it
holds.)</small></span> <input type="number" name="guess" min="1" max="{all_pieces}" required></label>
<button>Check my guess</button></form>
<p class="answer" id="verdict" role="status"></p>
</div>
<!-- summary -->
</div>
<section class="stage">
  <style>
    .sums {{ display: grid; gap: 5px; align-items: center; text-align: center; margin-bottom: .4rem;
      grid: ". . . row . ." auto "whole is column sum plus rest" auto "whole-says . sum-says sum-says . rest-says" auto
        / 1fr auto 4% 1fr auto 1fr; }}
    #row, #column {{ outline: 2px solid var(--lora); }}
    #row {{ grid-area: row; height: .7rem; }} #column {{ grid-area: column; height: 0; min-height: 100%; }}
    #whole {{ grid-area: whole; }} #sum {{ grid-area: sum; }} #rest {{ grid-area: rest; }}
    body:not(.open) .sums {{ grid-template-columns: 1fr 0 4% 1fr 0 0; }} /* before the guess: ΔW and one piece */
    .sums b {{ padding: 0 .2rem; }}
    .sums p {{ margin: .2rem 0 0; font-size: .9rem; line-height: 1.3; color: var(--soft); align-self: start; }}
    #whole-says {{ grid-area: whole-says; }} #sum-says {{ grid-area: sum-says; }} #rest-says {{ grid-area: rest-says; }}
    @media (max-width: 40rem) {{ /* what moves comes first, and is as wide as the screen */
      .sums {{ grid: ". row row" auto "column sum sum" auto "sum-says sum-says sum-says" auto "whole whole rest" auto
        "whole-says whole-says rest-says" auto / 5% 1fr calc(50% - 3px); }}
      body:not(.open) .sums {{ grid-template-columns: 5% 1fr calc(50% - 3px); }}
      body:not(.open) :is(#whole, #whole-says) {{ grid-column: 1 / -1; }}
      .sums b {{ display: none; }}
      #row {{ height: .6rem; }}
      .sums p {{ margin: 0; font-size: .8rem; }}
    }}
    #spectrum {{ height: 8.5rem; }}
    #held u {{ position: absolute; inset: -2px 20% -2px auto; border-right: 2px solid; padding-right: 3px;
      font-size: 11px; line-height: 1.6; text-decoration: none;
      text-shadow: 0 0 2px var(--page), 0 0 3px var(--page), 0 0 4px var(--page); }}
    @media (min-width: 60rem) {{ /* who follows a link has the question and its answer beside what they are about */
      .linked .say {{ grid-template-rows: auto 1fr; }}
      .linked .lead {{ grid-row: 1 / 3; }}
    }}
  </style>
  <figure class="sums">
    <canvas id="row" aria-hidden="true"></canvas>
    <canvas id="whole" role="img" aria-label="Heat map of the change by full fine-tuning"></canvas>
    <b style="grid-area: is" class="after">=</b>
    <canvas id="column" aria-hidden="true"></canvas>
    <canvas id="sum" role="img" aria-label="Heat map of the sum of the first r pieces; its frame: the
      column and the row of the last of them"></canvas>
    <b style="grid-area: plus" class="after">+</b>
    <canvas id="rest" class="after" role="img" aria-label="Heat map of what the pieces leave out"></canvas>
    <p id="whole-says">ΔW</p>
    <p id="sum-says"></p>
    <p id="rest-says" class="after">the rest: ΔW − sum</p>
  </figure>
  <div class="after">
    <div class="row"><label class="long">pieces r <input type="range" id="rank" min="0" max="{pieces}" value="0">
      <b id="r" style="width: 1.6rem"></b></label></div>
    <div class="gauge" id="count"><span>numbers</span><span><i style="background: var(--soft)"></i></span><b></b></div>
    <div class="gauge" id="held"><span>of ΔW</span><span>
      <i style="background: var(--lora)"></i><u>80 %</u></span><b></b></div>
    <output class="said" id="said" for="rank" aria-live="polite" style="min-height: 3em"></output>
    <figure><svg class="picture" id="spectrum" role="img" aria-label="The shares of the change that
      {all_pieces} pieces hold; those of the pieces in use are green"></svg></figure>
  </div>
</section>
<div class="more">
  <p class="after">So {most} of the {all_pieces} pieces, with {share:.1f} % as many numbers as
  ΔW, hold {100 * held(data, most):.1f} % of it. LoRA
  bets on this, but does not cut ΔW afterwards: it trains its r pieces from the start. <a href="live.html">See
  LoRA at work on your own sentence.</a></p>
  <p class="soft">One layer of a small language model that learned NumPy's documentation. Blue: less than before;
  orange: more; white: as before. Beside the sum and above it are the column and the row of the
  piece that was added last: their product is the piece.<span class="after"> A piece's share of ΔW is its
  singular value squared, over the sum of all squares.</span></p>
  <p><a href="README.md">The reading</a> says why LoRA bets on this, and <a href="exercise.py">the exercise</a> builds
  it.</p>
</div>
"""


def measure() -> dict:
    """Return the change to one weight by 20 steps of full fine-tuning, taken apart."""
    lab = Lab(load.base_folder(), test_characters=8_000, validation_characters=4_000)
    text = lab.domain_text(8_000, seed=0)
    model, _ = lab.adapt("full", text, TrainConfig(steps=20, warmup=2, eval_every=10, peak_lr=5e-4))
    return taken_apart(model.get_submodule(LAYER).weight.numpy() - lab.base().get_submodule(LAYER).weight.numpy())


def taken_apart(change: np.ndarray) -> dict:
    """Return a matrix, its singular values, and the columns and rows of its first pieces."""
    left, values, right = np.linalg.svd(change.astype("float64"), full_matrices=False)
    return {
        "change": packed(change),
        "columns": packed(left[:, :PIECES] * values[:PIECES]),
        "rows": packed(right[:PIECES]),
        "sizes": [float(f"{value:.6g}") for value in values],
    }
