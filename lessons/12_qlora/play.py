"""Lesson 12's page: where the memory goes. See lessons/pages.py."""

from minilora.peft import METHODS
from minilora.plan.activations import Step
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS

TITLE = "Where the memory goes"
SHAPES = ("smollm2-135m", "llama-7b", "llama-13b", "llama-33b", "llama-65b")
WAYS = ("full", "lora", "qlora", "bottleneck", "prefix")
BATCHES, LENGTHS = (1, 4, 16, 64), (128, 512, 2048)
KINDS = ("weights", "constants", "adapters", "gradients", "optimizer", "activations", "logits", "workspace")


def plan_of(shape: str, way: str, batch: int, length: int):
    return make_plan(PRESETS[shape], way, step=Step(batch, length, 2, fused=True))


FULL, LORA, QLORA = (plan_of("llama-65b", way, 1, 512) for way in ("full", "lora", "qlora"))
BODY = f"""
<p>One graphics card has 48 GB. LLaMA-65B has 65 billion weights. What does fine-tuning it take, and which part of
that does QLoRA make smaller? The bar is what <code>minilora plan</code> computes for one training step, in 16
bits, and 4 for QLoRA's base. (The reading's 1,045 GB are in 32 bits.)</p>
<form id="guess" class="row">
  <label><span>Your guess first: how many GB does <em>full</em> fine-tuning of LLaMA-65B need, with one text of 512
  tokens per step?</span>
  <input type="number" name="guess" min="1" max="99999" value="130" required></label>
  <button>Commit</button>
</form>
<p class="answer" id="verdict" role="status"></p>
<noscript><p>Scripts are off here, so nothing is drawn. Full fine-tuning of LLaMA-65B needs
{FULL.memory.peak / 1e9:.0f} GB, LoRA {LORA.memory.peak / 1e9:.0f} GB and QLoRA {QLORA.memory.peak / 1e9:.0f} GB; with
checkpointing QLoRA needs {QLORA.checkpointed.peak / 1e9:.0f} GB, which fits into 48. <code>minilora plan llama-65b
--method qlora</code> prints it.</p></noscript>
<div class="after">
  <div class="row">
    <label>model <select id="shape"></select></label>
    <label>method <select id="way"></select></label>
    <label>texts per step <select id="batch"></select></label>
    <label>tokens per text <select id="length"></select></label>
    <label><input type="checkbox" id="checkpointing"> checkpointing</label>
  </div>
  <p id="said" class="answer" role="status"></p>
  <figure><svg class="picture" id="bar" viewBox="0 0 400 290" role="img" aria-labelledby="said"></svg>
  <figcaption>One kind of memory per row, in GB; each bar begins where the one above ends. Dashed: the card of 48
  GB. With checkpointing, activations are computed again in the backward pass instead of kept.</figcaption></figure>
</div>
<p><a href="README.md">The reading</a> counts these bytes by hand.</p>
"""


def data() -> dict:
    """Return the megabytes by kind for every choice: {"shape way batch length checkpointing": [weights, …]}."""
    plans = {}
    for shape in SHAPES:
        for way in WAYS:
            for batch in BATCHES:
                for length in LENGTHS:
                    plan = plan_of(shape, way, batch, length)
                    for flag, memory in enumerate((plan.memory, plan.checkpointed)):
                        megabytes = [round(memory.kinds.get(kind, 0) / 1e6, 1) for kind in KINDS]
                        plans[f"{shape} {way} {batch} {length} {flag}"] = megabytes
    return {
        "shapes": SHAPES,
        "ways": [[way, METHODS[way].label] for way in WAYS],
        "batches": BATCHES,
        "lengths": LENGTHS,
        "kinds": KINDS,
        "plans": plans,
    }
