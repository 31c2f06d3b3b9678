"""Lesson 08's page: a real ΔW as a sum of thin pieces. See lessons/pages.py."""

import numpy as np

from lessons.pages import packed
from minilora.errors import MiniloraError
from minilora.measure.lab import Lab
from minilora.train import load
from minilora.train.loop import TrainConfig

TITLE = HEADLINE = "How few pieces hold what training changed?"
BACKGROUND = "The change of one matrix in a language model"
NAME = "pieces"  # in the links of other pages
ABOUT = "Guess how few columns and rows rebuild what training changed in a language model"
LAYER = "model.layers.5.self_attn.v_proj"  # the last one
LAYOUT = "across"
SOME = 8  # pieces of which the summary tells, a usual r of LoRA


def held(sizes: list[float], pieces: int) -> float:
    """Return the share of a matrix, of the sum of its squares, that its first pieces hold. sizes: of all its pieces."""
    squares = np.square(sizes)
    return float(squares[:pieces].sum() / squares.sum())


def needed(sizes: list[float]) -> int:
    """Return how many of the first pieces hold 80 % of a matrix."""
    return next(r for r in range(1, len(sizes) + 1) if held(sizes, r) >= 0.8)


def summary(data: dict) -> str:
    """Tell the page's story. Raises MiniloraError if the pieces' sizes cannot be: NaN, below 0, rising, all 0."""
    if not (np.diff([*data["sizes"], 0]) <= 0).all() or not data["sizes"][0] > 0:
        raise MiniloraError("lesson 08's page: singular values of a change fall from one above 0 to 0")
    (height, width), sizes = data["change"]["shape"], data["sizes"]
    numbers, whole = SOME * (height + width), height * width
    return (
        f"Full fine-tuning changed all {whole:,} numbers of a weight. The first {SOME} of {len(sizes)} thin "
        f"pieces have {numbers:,} numbers, {100 * numbers / whole:.1f} %, and hold {100 * held(sizes, SOME):.1f} % of "
        f"the change. 80 % need {needed(sizes)} pieces. With as few of the change of every matrix, {SOME}, the model "
        f"keeps {100 * data['gain'][SOME]:.0f} % of what it gained on new text."
    )


def body(data: dict) -> str:
    (height, width), sizes, chance = data["change"]["shape"], data["sizes"], data["random"]
    most, all_pieces, others = needed(sizes), len(sizes), data["needed"]
    return f"""
<div class="say">
<p class="lead">Full fine-tuning was free to change all {height * width:,} numbers of this weight, the last
layer's value matrix (it makes what attention passes on, {height} numbers out of {width}). ΔW is what
it changed. LoRA may only add up <em>thin pieces</em>: each is one column times one row, so it
has {height} + {width} numbers.</p>
<div>
<form id="guess" class="row"><label><span>Your guess first: ΔW is the sum of {all_pieces} thin pieces. How many of
them, largest first, hold 80 % of it (its numbers squared, added up)?</span>
<input type="number" name="guess" min="1" max="{all_pieces}" placeholder="pieces" required></label>
<button>Check my guess</button></form>
<p class="answer" id="verdict" role="status"></p>
</div>
<!-- summary -->
</div>
<section class="stage">
  <style>
    .sums {{ display: grid; gap: 5px; align-items: center; text-align: center; margin-bottom: .4rem;
      grid: ". . . last . ." auto
        ". . . row . ." auto "whole is column sum plus rest" auto "whole-says . sum-says sum-says . rest-says" auto
        / 1fr auto 4% 1fr auto 1fr; }}
    .sums #last {{ grid-area: last; margin: 0; text-align: left; color: var(--lora); font-weight: 600; }}
    #row {{ grid-area: row; height: .7rem; }} #column {{ grid-area: column; height: 0; min-height: 100%; }}
    #whole {{ grid-area: whole; }} #sum {{ grid-area: sum; }} #rest {{ grid-area: rest; }}
    body:not(.open) .sums {{ grid-template-columns: 1fr 0 4% 1fr 0 0; }} /* before the guess: ΔW and one piece */
    .sums b {{ padding: 0 .2rem; }}
    .sums p {{ margin: .2rem 0 0; font-size: .9rem; line-height: 1.3; color: var(--soft); align-self: start; }}
    #whole-says {{ grid-area: whole-says; }} #sum-says {{ grid-area: sum-says; }} #rest-says {{ grid-area: rest-says; }}
    #whole, #sum, #rest {{ outline: 1px solid var(--line); }} /* a map of zeros has the page's colour */
    #row, #column {{ outline: 2px solid var(--lora); }}
    @media (prefers-color-scheme: dark) {{
      .sums canvas {{ filter: brightness(1.7); }}
      #row, #column {{ outline-color: color-mix(in srgb, var(--lora), black 41%); }} /* as bright as elsewhere */
    }}
    @media print {{ .sums canvas {{ filter: none; }} }}
    @media (max-width: 40rem) {{ /* what moves comes first, and is as wide as the screen: sum + rest = ΔW */
      body:not(.open) .sums {{ grid: ". whole" auto ". whole-says" auto ". row" auto "column sum" auto ". sum-says" auto
        / 5% 1fr; }} /* first ΔW, then a piece of it */
      .open .sums {{ grid: ". last last last" auto ". row row row" auto "column sum sum sum" auto
        "sum-says sum-says sum-says sum-says" auto "plus rest is whole" auto ". rest-says . whole-says" auto
        / 5% 1fr 5% 1fr; }}
      .sums b {{ padding: 0; }}
      #row {{ height: .6rem; }}
      .sums p {{ margin: 0; font-size: .8rem; }}
      .open #whole-says span:last-child {{ display: none; }}
    }}
    #said {{ min-height: 3em; }}
    @media (max-width: 40rem) {{ #said {{ font-size: .9rem; line-height: 1.35; }} }}
    @media (min-width: 60rem) {{ #said {{ min-height: 1.5em; }} }}
    #spectrum {{ height: 8.5rem; }}
    .gauge {{ grid-template-columns: 6.5rem 1fr 4.7rem; }} .gauge b {{ white-space: nowrap; }}
    .gauge > span:nth-child(2) {{ margin-right: 2.8rem; }}
    .gauge > span:nth-child(2)::after {{ content: "100 %"; position: absolute; left: calc(100% + 5px);
      font-size: 12px; line-height: .9rem; white-space: nowrap; }}
    #held u {{ position: absolute; inset: -2px 20% -2px auto; border-right: 2px solid; padding: 0 3px;
      font: 600 13px/1.4 system-ui, sans-serif; text-decoration: none; background: var(--page); }}
    @media (min-width: 60rem) {{ /* who follows a link has the question and its answer beside what they are about */
      .linked .say {{ grid-template-rows: auto 1fr; }}
      .linked .lead {{ grid-row: 1 / 3; }}
    }}
  </style>
  <figure class="sums">
    <p id="last" class="after"></p>
    <canvas id="row" aria-hidden="true"></canvas>
    <canvas id="whole" role="img" aria-label="Heat map of the change by full fine-tuning"></canvas>
    <b style="grid-area: is" class="after">=</b>
    <canvas id="column" aria-hidden="true"></canvas>
    <canvas id="sum" role="img" aria-label="Heat map of the sum of the first r pieces; its frame: the
      column and the row of the last of them"></canvas>
    <b style="grid-area: plus" class="after">+</b>
    <canvas id="rest" class="after" role="img" aria-label="Heat map of what the pieces leave out"></canvas>
    <p id="whole-says"><span>ΔW: </span>{height * width:,} numbers<span>, sorted by piece 1</span></p>
    <p id="sum-says"></p>
    <p id="rest-says" class="after"></p>
  </figure>
  <div class="after">
    <div class="row"><label class="long">pieces r (up to {all_pieces})
      <input type="range" id="rank" min="0" max="{all_pieces}" value="0">
      <b id="r" style="width: 1.6rem"></b></label></div>
    <div class="gauge" id="held"><span>of ΔW</span><span>
      <i style="background: var(--lora)"></i><u>80 %</u></span><b></b></div>
    <div class="gauge" id="gained"><span>of the gain</span><span>
      <i style="background: var(--full)"></i></span><b></b></div>
    <output class="said" id="said" for="rank" aria-live="polite"></output>
    <figure><svg class="picture" id="spectrum" role="img" aria-label="The shares of the change that
      {all_pieces} pieces hold; those of the pieces in use are green"></svg></figure>
  </div>
</section>
<div class="more">
  <p class="after"><b>What one takes home:</b> each piece costs {height} + {width} numbers, and the first ones bring
  the most. What counts is the text: with {SOME} pieces of every matrix's change, the model keeps
  {100 * data["gain"][SOME]:.0f}&nbsp;% of its gain. But this matrix is an easy one: the model's
  {len(others) - 1} linear maps and its embedding need from {others[0]} to {others[-1]} pieces for 80&nbsp;%, the
  middle one {others[len(others) // 2]}. And of random numbers, the first {most} hold only
  {100 * held(chance, most):.0f}&nbsp;%, and 80&nbsp;% need {needed(chance)}. LoRA does not cut ΔW afterwards: it
  trains its r pieces from the start. <a href="live.html">See LoRA at work on your own
  sentence.</a></p>
  <p class="soft">A small language model learned NumPy's documentation. Blue: less than before; orange: more; no colour:
  as before. The framed column times the framed row is one piece<span class="after">, the last of the sum</span>. What a
  piece holds: square all numbers of ΔW and add them up; a piece has its share of this sum<span class="after">, the
  square of its singular value. Gain: by how many bits per character held-out text surprises the model less than before;
  100 % with the whole change of every matrix</span>.</p>
  <p><a href="README.md">The reading</a> says why LoRA bets on this, and <a href="exercise.py">the exercise</a> builds
  it.</p>
</div>
"""


def measure() -> dict:
    """Return the change to one weight by 20 steps of full fine-tuning, taken apart, and what cutting all of them costs.

    gain: the share of the gain in text that the first r pieces of every matrix's change bring, for each r from 0 on;
    needed: how many pieces of each matrix's change hold 80 % of it.
    """
    lab = Lab(load.base_folder(), test_characters=20_000, validation_characters=4_000)
    text, model = lab.domain_text(8_000, seed=0), lab.base()
    trained, _ = lab.adapt("full", text, TrainConfig(steps=20, warmup=2, eval_every=10, peak_lr=5e-4))
    ends = {name: p.numpy() for name, p in trained.named_parameters()}
    starts = {name: p.numpy().copy() for name, p in model.named_parameters()}
    changes = {name: ends[name] - start for name, start in starts.items() if start.ndim == 2}
    parts = {name: np.linalg.svd(change.astype("float64"), full_matrices=False) for name, change in changes.items()}

    def bits(pieces: int | None) -> float:
        for name, p in model.named_parameters():
            if name in parts:
                left, values, right = parts[name]
                p.data = (starts[name] + (left[:, :pieces] * values[:pieces]) @ right[:pieces]).astype("float32")
        return lab.bits(model, lab.domain_test)

    apart = taken_apart(changes[f"{LAYER}.weight"])
    cut = np.array([bits(r) for r in range(len(apart["sizes"]) + 1)])
    return apart | {
        "gain": ((cut[0] - cut) / (cut[0] - bits(None))).round(4).tolist(),
        "needed": sorted(needed(values) for _, values, _ in parts.values()),
    }


def taken_apart(change: np.ndarray) -> dict:
    """Return a matrix, its singular values, and the columns and rows of its pieces; sorted by the first piece.

    Inputs and outputs of a layer have no order of their own; in this one, the eye finds the first piece in the whole.
    """
    left, values, right = np.linalg.svd(change.astype("float64"), full_matrices=False)
    down, across = np.argsort(left[:, 0], kind="stable"), np.argsort(right[0], kind="stable")
    return {
        "change": packed(change[down][:, across]),
        "columns": packed((left * values)[down]),
        "rows": packed(right[:, across]),
        "sizes": six_digits(values),
        "random": six_digits(np.linalg.svd(np.random.default_rng(0).standard_normal(change.shape), compute_uv=False)),
    }


def six_digits(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
