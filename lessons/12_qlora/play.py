"""Lesson 12's page: where the memory goes. See lessons/pages.py."""

from minilora.errors import MiniloraError
from minilora.peft import METHODS
from minilora.peft.method import Options
from minilora.plan.activations import Step
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS

TITLE = "Where the memory goes"
BACKGROUND = "Memory for fine-tuning a large language model"
NAME = "memory"  # in the links of other pages
ABOUT = "What fills a graphics card while a language model is fine-tuned, and what makes it fit?"
NAMES = {
    "smollm2-135m": "SmolLM2-135M",
    "llama-7b": "LLaMA-7B",
    "llama-13b": "LLaMA-13B",
    "llama-33b": "LLaMA-33B",
    "llama-65b": "LLaMA-65B",
}
SHAPES = tuple(NAMES)
WAYS = ("full", "lora", "qlora")
LABELS = {way: METHODS[way].label for way in WAYS}
OPTIONS = Options(
    rank=64, double_quantization=True
)  # FLAGS say so: as the paper trained LLaMA-65B, and as the reading counts
FLAGS = f"--rank {OPTIONS.rank} --double-quantization"
CARDS, CARD = (8, 16, 24, 48, 80), 48  # GB
BATCHES, LENGTHS, LENGTH = (1, 4, 16, 64), (128, 512, 2048), 512
KINDS = {
    "weights": "the model itself",
    "constants": "scales of the weights in 4 bits",
    "adapters": "LoRA's two thin matrices per map",
    "gradients": "how each weight that trains should move",
    "optimizer": "AdamW's two averages of each gradient",
    "activations": "layers' results, to compute gradients from",
    "logits": "scores of all possible next tokens",
    "workspace": "what a step needs in between",
}


def plan_of(shape: str, way: str, batch: int, length: int):
    return make_plan(PRESETS[shape], way, OPTIONS, step=Step(batch, length, 2, fused=True))


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
    gb = data["plans"][f"{data['shapes'][-1]} full 1 {data['length']} 0"][0] / 1000  # of weights, 16 bits each
    name = data["names"].get(data["shapes"][-1], data["shapes"][-1])
    heads = "".join(f'<th scope="col">{label}</th>' for _, label in data["ways"])
    rows = "".join(
        f'<tr><td><i style="background: var(--memory-{kind})"></i>{kind}: <span class="soft">{meaning}</span></td>'
        f"{'<td></td>' * len(data['ways'])}</tr>"
        for kind, meaning in KINDS.items()
    )
    return f"""
<style>
  .lead em, #guess em, .lead + p em {{ font-style: normal; }} /* follow what is chosen */
  .act {{ background: var(--panel); border-radius: .4rem; padding: .1rem .6rem .3rem; }}
  .act .said {{ font-weight: 600; min-height: 3em; }}
  #command span {{ white-space: nowrap; }} /* not "-", and "-rank" in the next line */
  #kinds td:first-child {{ white-space: normal; line-height: 1.3; }}
  #kinds i {{ display: inline-block; width: .7em; height: .7em; margin-right: .4em; }}
</style>
<div class="say">
<p class="lead">The language model <em class="model">{name}</em> has <em class="count">{gb / 2:.1f} billion</em>
weights. At 2 bytes each, they alone take <em class="gb">{gb:.0f}&nbsp;GB</em>, and this graphics card has <em
class="card">{CARD}&nbsp;GB</em>. Training also stores how to change each weight, and for each text what the layers
computed.</p>
<form id="guess" class="row"><label><span>Your guess first: how many GB does it take to train all weights of
<em class="model">{name}</em>? <small>(Full fine-tuning, <em class="texts">one text of {data["length"]} tokens</em> at
a time.)</small></span> <input type="number" name="guess" min="1" max="99999" placeholder="GB" required
style="width: 6rem"></label>
<button>Check my guess</button></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
</div>
<section class="stage">
  <figure><svg class="picture" id="bars" viewBox="0 0 400 210" role="img" aria-labelledby="said"></svg></figure>
  <div class="after">
    <div class="act"><div class="row"><label><input type="checkbox" id="checkpointing"> <span><b>checkpointing</b>:
      recompute activations instead of keeping them</span></label></div>
    <output class="said" id="said" role="status"></output></div>
    <div class="row"><label>model <select id="shape"></select></label> <label>texts <select id="batch"></select></label>
      <label>of <select id="length"></select> tokens</label> <label>card <select id="card">{cards}</select>
      GB</label></div>
  </div>
</section>
<div class="more">
  <details class="after"><summary>All parts, in GB</summary>
  <div class="wide"><table><thead><tr><th scope="col">GB</th>{heads}</tr></thead>
  <tbody id="kinds">{rows}<tr><td>in all</td>{"<td></td>" * len(data["ways"])}</tr></tbody></table></div></details>
  <p class="soft">One training step, computed by <code id="command">minilora plan {SHAPES[-1]} {FLAGS}</code> (with
  <code style="white-space: nowrap">--json</code>, all parts): 16 bits per number, 32 for the optimizer's, 4 for QLoRA's
  base; rank {OPTIONS.rank} on all linear layers, as the paper trained LLaMA-65B. Checkpointing makes the step slower.
  A GB is 10⁹ bytes.</p>
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
        "kinds": list(KINDS),
        "flags": FLAGS,
        "plans": plans,
    }
