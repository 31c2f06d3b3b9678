"""Lesson 12's page: where the memory goes. See lessons/pages.py."""

from minilora.errors import MiniloraError
from minilora.peft import METHODS
from minilora.plan.activations import Step
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS

TITLE = "Where the memory goes"
NAME = "memory"  # in the links of other pages
SHOWN = "checkpointing=0"  # in the picture for sharing
NAMES = {
    "smollm2-135m": "SmolLM2-135M",
    "llama-7b": "LLaMA-7B",
    "llama-13b": "LLaMA-13B",
    "llama-33b": "LLaMA-33B",
    "llama-65b": "LLaMA-65B",
}
SHAPES = tuple(NAMES)
WAYS = ("full", "bottleneck", "lora", "qlora")
LABELS = {way: METHODS[way].label for way in WAYS}
CARDS, CARD = (8, 16, 24, 48, 80), 48  # GB
BATCHES, LENGTHS, LENGTH = (1, 4, 16, 64), (128, 512, 2048), 512
KINDS = ("weights", "constants", "adapters", "gradients", "optimizer", "activations", "logits", "workspace")


def plan_of(shape: str, way: str, batch: int, length: int):
    return make_plan(PRESETS[shape], way, step=Step(batch, length, 2, fused=True))


def gigabytes(data: dict, way: str, is_checkpointed: bool = False) -> float:
    """Return what a step of a way takes on the largest model, with one text of LENGTH tokens."""
    return sum(data["plans"][f"{data['shapes'][-1]} {way} 1 {data['length']} {int(is_checkpointed)}"]) / 1000


def summary(data: dict) -> str:
    """Tell the page's story. Raises MiniloraError if a plan cannot be: negative, NaN, infinite, or nothing at all."""
    for name, plan in data["plans"].items():
        if not all(0 <= megabytes < float("inf") for megabytes in plan) or not sum(plan):
            raise MiniloraError(f"lesson 12's page: the plan of {name} cannot be {plan}")
    full, lora, qlora = (gigabytes(data, way) for way in ("full", "lora", "qlora"))
    least = gigabytes(data, "qlora", is_checkpointed=True)
    return (
        f"Fine-tuning LLaMA-65B needs {full:.0f} GB, by LoRA {lora:.0f} GB, by QLoRA {qlora:.1f} GB, which is more "
        f"than the {CARD} GB of a card. With checkpointing, it is {least:.1f} GB."
    )


def body(data: dict) -> str:
    cards = "".join(f"<option{' selected' * (gb == CARD)}>{gb}</option>" for gb in CARDS)
    billions = data["plans"][f"{data['shapes'][-1]} full 1 {data['length']} 0"][0] / 2000  # of weights, 16 bits each
    heads = "".join(f'<th scope="col">{label}</th>' for label in LABELS.values())
    return f"""
<div class="say">
<p class="lead">One graphics card has {CARD} GB. LLaMA-65B has {billions:.0f} billion weights, and a training step
holds more than weights. What does fine-tuning it take, and which part of that does QLoRA make smaller?</p>
<form id="guess" class="row"><label><span>Your guess first: how many GB does <em>full</em> fine-tuning of LLaMA-65B
need, with one text of {data["length"]} tokens per step?</span> <input type="number" name="guess" min="1" max="99999"
value="{2 * billions:.0f}" required></label> <button>Commit</button></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
</div>
<section class="stage">
  <figure><svg class="picture" id="bars" viewBox="0 0 400 304" role="img" aria-labelledby="said"></svg></figure>
  <div class="after">
    <div class="row"><label><input type="checkbox" id="checkpointing"> checkpointing</label>
      <label>model <select id="shape"></select></label> <label>texts <select id="batch"></select></label>
      <label>of <select id="length"></select> tokens</label> <label>card <select id="card">{cards}</select>
      GB</label></div>
    <output class="said" id="said" role="status" style="min-height: 3em"></output>
  </div>
</section>
<div class="more">
  <p class="after">Look at the dashed line, where the card ends: turn checkpointing on, which computes activations
  again in the backward pass instead of keeping them, and see which methods still cross it.</p>
  <p class="soft">What <code>minilora plan</code> computes for one training step in 16 bits, and 4 for QLoRA's
  base.<span class="after"> The thick bars are all on one scale. The thin ones enlarge it around the line of the card,
  and are cut off where they go on; they are left out where they would show no more.</span></p>
  <div class="wide after"><table><thead><tr><th scope="col">GB</th>{heads}</tr></thead>
  <tbody id="kinds"></tbody></table></div>
  <p><a href="README.md">The reading</a> counts these bytes by hand.</p>
</div>
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
        "names": NAMES,
        "ways": list(LABELS.items()),
        "batches": BATCHES,
        "lengths": LENGTHS,
        "length": LENGTH,
        "kinds": KINDS,
        "plans": plans,
    }
