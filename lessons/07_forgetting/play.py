"""Lesson 07's page: learned and forgotten in training, and by λ after it. See lessons/pages.py."""

import re
from pathlib import Path

import numpy as np

from minilora.data.batches import MixedBatches
from minilora.formats.atomic import read_json
from minilora.measure.lab import Lab
from minilora.train import load
from minilora.train.loop import History, TrainConfig, train
from minilora.train.methods import METHODS

TITLE = HEADLINE = "Undo half of the training: what stays?"
BACKGROUND = "LoRA taught a language model NumPy; it forgot some Python"
NAME = "forgetting"  # in the links of other pages
ABOUT = "Undo half of what training changed in a language model, and see how much it still knows"
WAYS = {  # method, share of replay, number of runs
    "full fine-tuning": ("full", 0.0, 3),
    "full, 25 % replay": ("full", 0.25, 1),
    "LoRA": ("lora", 0.0, 3),
    "norms alone": ("norms", 0.0, 1),
}
LIVE = Path(__file__).parents[1] / "08_lora/live.py"  # whose LoRA trained longer
STRENGTHS = np.arange(11) / 10
SETTINGS = {"steps": 60, "warmup": 3, "lr_floor": 0.0, "eval_every": 10}  # as the study of strengths has them


def ends(data: dict, name: str) -> tuple[float, float, float, float]:
    """Return a way's gain (learned) and price (forgotten) at half strength, and at full strength: means of its runs."""
    (way,) = (way for way in data["ways"] if way["name"] == name)
    return (*way["strengths"][data["strengths"].index(0.5)], *way["strengths"][-1])


def shares(data: dict, name: str) -> list[str]:
    """Return the per cent of the gain and of the price that half strength has, with their spread over the runs."""
    (way,) = (way for way in data["ways"] if way["name"] == name)
    learned, forgotten, most, cost = ends(data, name)
    runs = np.array(way["runs"])
    spread = 100 * (runs[:, data["strengths"].index(0.5)] / runs[:, -1]).std(axis=0, ddof=1)
    means = (100 * learned / most, 100 * forgotten / cost)
    return [f"{mean:.0f} ± {one:.0f} %" for mean, one in zip(means, spread, strict=True)]


def summary(data: dict) -> str:
    learned, forgotten, most, cost = ends(data, "LoRA")
    gain, price = shares(data, "LoRA")
    text = (
        f"At half strength, LoRA keeps {gain} of the gain ({learned:.3f}) and pays {price} of the price "
        f"({forgotten:.3f}): the mean of three runs. At full strength, LoRA's gain is {most:.3f} bits per character of "
        f"the new text, which it learned, and its price {cost:.3f} of the old one, which it forgot in part."
    )
    learned, forgotten, most, cost = ends(data, "full fine-tuning")
    return (
        f"{text} Full fine-tuning's gain is {most:.3f} and its price {cost:.3f}; at half strength {learned:.3f} and "
        f"{forgotten:.3f}."
    )


def body(data: dict) -> str:
    replayed = next(100 * share for name, (_, share, _) in WAYS.items() if share)
    once = ", and ".join(name.replace("full,", "full fine-tuning with") for name, (*_, n) in WAYS.items() if n == 1)
    record = read_json(LIVE.with_suffix(".json"))
    steps = re.search(r"--steps (\d+)", LIVE.read_text("utf-8"))[1]
    ends = ((record["rank"][0], record["rank"][-1]), record["old"])  # without and with LoRA
    gain, price = (100 * (half - a) / (b - a) for half, (a, b) in zip(record["half"], ends, strict=True))
    return f"""
<div class="say">
<p class="lead"><span>With <em class="by">LoRA</em>, a small language model learned NumPy's documentation (the gain) and
forgot some of Python's (the price). Now turn that change down:</span> λ&nbsp;=&nbsp;1 is the trained model, 0 the old
one.</p>
<form id="guess" class="row"><label><span>Your guess first: at half strength, λ&nbsp;=&nbsp;0.5, how many per cent of
the gain does <em class="by">LoRA</em> keep?</span> <input type="number" name="guess" min="0" max="200"
placeholder="%" required></label>
<button>Check my guess</button> <small class="soft">or drag the ?</small></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
</div>
<section class="stage">
  <style>
    #plane {{ max-height: max(22rem, calc(100vh - 8rem)); }}
    #plane .other {{ opacity: .6; }}
    @media (prefers-color-scheme: dark) {{ #plane .other {{ opacity: .8; }} }}
    .by {{ font-style: normal; }}
    #plane .past {{ opacity: .55; }}
    #said {{ min-height: 3em; }}
    @media screen and (max-width: 60rem) {{ /* what λ is stays when the rest of the lead has made room */
      .open:not(.linked) .lead {{ display: block; }}
      .open:not(.linked) .lead span {{ display: none; }}
    }}
    @media (min-width: 60rem) {{
      .beside {{ grid-template-columns: minmax(0, 1fr) minmax(36rem, 60%); }}
      #plane text {{ font-size: 11.5px; }} /* of 400 units, which are wider here */
    }}
  </style>
  <figure><svg class="picture" id="plane" viewBox="0 0 400 360" role="img"
    aria-label="While they train, LoRA and full fine-tuning learn, to the right, and forget, upward. A question mark
    between LoRA's end and the old model: where is it at half strength?"></svg></figure>
  <div class="after">
    <div class="row"><label class="long">strength λ <input type="range" id="strength" min="0" max="1" step="0.1"
    value="0.5">
      <b id="lambda"></b></label> <label>of <select id="way"></select></label></div>
    <output class="said" id="said" for="strength way" aria-live="polite"></output>
  </div>
</section>
<div class="more">
  <p class="after"><b>Why?</b> The old model was trained on the old text until its loss was nearly flat there, like the
  floor of a valley: a small step costs next to nothing, and the price grows faster than the step. The new text's loss
  is a slope that gets flatter on the way, so the first half brings most. <span id="bend"></span></p>
  <p class="after"><b>What one does with it:</b> after training, try a few strengths on parts of both texts that were
  held back, and keep the best: that takes no further training. But the gain is a mean over much text, and single words
  can still swing back: <a href="../08_lora/live.html">see one do it</a>. (LoRA trained longer there,
  {steps} steps in place of {SETTINGS["steps"]}: half strength has {gain:.0f}&nbsp;% of that gain, for
  {price:.0f}&nbsp;% of the price.)</p>
  <p class="soft">Gain: by how many bits per character NumPy's text surprises the model less than before; price: by how
  many Python's surprises it more.<span class="after"> Per cent are of where training ended,
  λ&nbsp;=&nbsp;1.</span></p>
  <details class="after"><summary>All four ways, and how they were measured</summary>
  <p>{replayed:.0f} % replay: that share of each batch is Python's text. Norms alone: the weights of the normalization
  layers train, and nothing else. {SETTINGS["steps"]} steps, measured on texts that were not trained on: a path has a
  mark every {SETTINGS["eval_every"]} steps, and ends at the large mark, the step that is kept. Every point of the
  dotted line is measured, too. All are means of three runs, each with other text ({once}: one run each); ± is their
  standard deviation.</p>
  <div class="wide"><table><thead><tr><th scope="col">way, in bits per character</th><th scope="col">gain</th>
  <th scope="col">price</th></tr></thead><tbody id="ends"></tbody></table></div></details>
  <p><a href="README.md">The reading</a> says how to compare two methods on this plane, and <a href="exercise.py">the
  exercise</a> builds the probe.</p>
</div>
"""


def measure() -> dict:
    """Measure bits per character learned on NumPy's text and forgotten on Python's, during training and by λ."""
    lab = Lab(load.base_folder(), test_characters=30_000, validation_characters=6_000)

    def probe(model) -> np.ndarray:
        return np.array([lab.bits(model, lab.domain_test), lab.bits(model, lab.base_test)])

    base = probe(lab.base())
    ways = []
    for name, (method, share, runs) in WAYS.items():
        histories, paths, lines = zip(*(run(lab, method, share, seed, probe) for seed in range(runs)), strict=True)
        for history, path in zip(histories, paths, strict=True):  # after the step that is kept, a path stays there
            last = history.best_step // SETTINGS["eval_every"]
            path[last:] = [path[last]] * (len(path) - last)
        ways.append(
            {
                "name": name,
                "steps": [one["step"] for one in histories[0].evaluations],
                "path": points(base, np.mean(paths, axis=0)),
                "kept": max(history.best_step for history in histories),
                "strengths": points(base, np.mean(lines, axis=0)),
                "runs": [points(base, line) for line in lines],
            }
        )
    return {"base": base.round(5).tolist(), "strengths": STRENGTHS.round(2).tolist(), "ways": ways}


def points(base: np.ndarray, bits: np.ndarray) -> list[list[float]]:
    """Return what was learned and what was forgotten for rows of bits on the new and the old text."""
    return (((base - bits) * (1, -1)).round(5) + 0.0).tolist()  # no -0


def run(lab: Lab, method: str, share: float, seed: int, probe) -> tuple[History, list[np.ndarray], list[np.ndarray]]:
    """Train one run; return its history, its probes at each evaluation, and those at each of STRENGTHS."""
    model, path = lab.fresh(method, seed), []

    def look() -> float:
        path.append(probe(model))
        return lab.bits(model, lab.domain_validation)

    new, old = lab.domain_text(40_000, seed), lab.base_text(24_000, seed)
    batches = lab.batches(new, lab.batch_size, seed)
    if share:
        batches = MixedBatches(lab.batches(new, 1, seed), lab.batches(old, 1, seed), share, lab.batch_size)
    config = TrainConfig(peak_lr=METHODS[method].lr, seed=seed, **SETTINGS)
    history = train(model, batches, config, evaluate=look, show_progress=False)
    return history, path, strengths(lab, model, probe)


def strengths(lab: Lab, model, probe) -> list[np.ndarray]:
    """Probe the model at each of STRENGTHS of its adapter, or of the change that full fine-tuning made."""
    starts = {name: p.data for name, p in lab.base().named_parameters()}
    ends = {name: p.data for name, p in model.named_parameters()}

    def set_strength(strength: float) -> None:
        for name, p in model.named_parameters():
            p.data = ends[name] - np.float32(1 - strength) * (ends[name] - starts[name])

    probes = []
    for strength in STRENGTHS:
        getattr(model, "set_strength", set_strength)(float(strength))
        probes.append(probe(model))
    return probes
