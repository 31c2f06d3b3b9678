"""Lesson 07's page: learned and forgotten in training, and by λ after it. See lessons/pages.py."""

import numpy as np

from minilora.data.batches import MixedBatches
from minilora.measure.lab import Lab
from minilora.train import load
from minilora.train.loop import TrainConfig, train
from minilora.train.methods import METHODS

TITLE = "Learned × forgotten"
WAYS = {  # method, share of replay
    "full fine-tuning": ("full", 0.0),
    "full, 25 % replay": ("full", 0.25),
    "LoRA": ("lora", 0.0),
    "norms alone": ("norms", 0.0),
}
STRENGTHS = np.arange(21) / 20
SETTINGS = {"steps": 40, "warmup": 3, "lr_floor": 0.3, "eval_every": 5}
BODY = """
<p>A small language model that knows Python's documentation is trained on NumPy's for 40 steps, in four ways. To the
right is what it has learned of NumPy's text, upward what it has forgotten of Python's, both in bits per character on
text that was not trained on. Each path begins at the base, has a mark every five steps, and ends at the large mark,
the step that is kept.</p>
<figure><svg class="picture" id="plane" viewBox="0 0 400 340" role="img"
  aria-label="Four paths of training on the plane of learned and forgotten; the table has their ends"></svg>
  <figcaption>One run of each way. 25 % replay: two rows of each batch of eight are Python's text. Norms alone: 2,496
  of 2.8 million weights train.</figcaption></figure>
<p>The change that training made can be multiplied by λ afterwards: 1 is the trained model, 0 is the base.</p>
<form id="guess" class="row">
  <label>Your guess first: at half strength, λ = 0.5, how many per cent of what LoRA had learned does it
  still have?
  <input type="number" name="guess" min="0" max="200" value="50" required></label>
  <button>Commit</button>
</form>
<p class="answer" id="verdict" role="status"></p>
<noscript><p>Scripts are off here, so nothing is drawn. LoRA learned 0.265 and forgot 0.152 bits per character. At
half strength it has learned 0.272, which is 103 %, and forgotten 0.028, which is 18 %. Full fine-tuning learned 0.289
and forgot 0.271; at half strength 0.339 and 0.053.</p></noscript>
<div class="after">
  <div class="row">
    <label>way <select id="way"></select></label>
    <label>strength λ <input type="range" id="strength" min="0" max="1" step="0.05" value="1"></label>
  </div>
  <p><output id="said" aria-live="polite"></output></p>
  <p class="soft">The dotted line, above, is where λ leads; its ring is the λ of the slider. All points are measured.
  Near the base, the old text's loss is almost flat, since the base has been trained on it: small changes cost next to
  nothing there, and the cost grows faster than the change. The new text's loss falls from the first bit on.</p>
</div>
<div class="wide"><table><thead><tr><th scope="col">way</th><th scope="col">learned</th><th scope="col">forgotten</th>
</tr></thead><tbody id="ends"></tbody></table></div>
<p><a href="README.md">The reading</a> says how to compare two methods on this plane, and <a href="exercise.py">the
exercise</a> builds the probe.</p>
"""


def measure() -> dict:
    """Measure bits per character learned on NumPy's text and forgotten on Python's, during training and by λ."""
    lab = Lab(load.base_folder(), test_characters=12_000, validation_characters=6_000)
    new_text, old_text = lab.domain_text(40_000, seed=0), lab.base_text(24_000, seed=0)

    def probe(model) -> np.ndarray:
        return np.array([lab.bits(model, lab.domain_test), lab.bits(model, lab.base_test)])

    base = probe(lab.base())

    def point(bits: np.ndarray) -> list[float]:
        learned, forgotten = (base - bits) * (1, -1)
        return [round(float(learned), 5) + 0.0, round(float(forgotten), 5) + 0.0]  # no -0

    ways = []
    for name, (method, share) in WAYS.items():
        model, path = lab.fresh(method, seed=0), []

        def look(model=model, path=path) -> float:
            path.append(point(probe(model)))
            return lab.bits(model, lab.domain_validation)

        new, old = (lab.batches(text, 1, seed=0) for text in (new_text, old_text))
        config = TrainConfig(peak_lr=METHODS[method].lr, **SETTINGS)
        mixed = MixedBatches(new, old, share, lab.batch_size)
        history = train(model, mixed, config, evaluate=look, show_progress=False)
        ways.append(
            {
                "name": name,
                "steps": [one["step"] for one in history.evaluations],
                "path": path,
                "kept": history.best_step,
                "strengths": [point(bits) for bits in strengths(lab, model, probe)],
            }
        )
    return {"base": base.round(5).tolist(), "strengths": STRENGTHS.round(2).tolist(), "ways": ways}


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
