"""The diagrams of lesson 01: python -m lessons.diagrams"""

import json

from lessons.drawing import FROZEN, SMALL, TRAINED, Diagram
from minilora.train.load import base_folder

FROM_NOTEBOOK = {"hills.png": "One number for each sentence", "accuracy.png": "Is this sentence mixed up?"}


def stages() -> Diagram:
    d = Diagram(
        520,
        270,
        "Three stages from left to right. Pretraining trains the whole model on much text without labels, once. "
        "Adapting learns a small part from a few labels, per task. Use trains nothing, and costs one run per sentence.",
    )
    record = json.loads((base_folder() / "manifest.json").read_text("utf-8"))
    tokens = record["train"]["steps"] * record["batch_size"] * record["seq_len"]
    columns = (
        ("pretrain", TRAINED, "", (f"{tokens / 1e6:.1f} M tokens", "none", "once")),
        ("adapt", FROZEN, TRAINED, ("8 sentences", "8", "per task")),
        ("use", FROZEN, FROZEN, ("1 sentence", "none", "per question")),
    )
    for i, (name, model, part, costs) in enumerate(columns):
        left = 104 + 140 * i
        d.text(left + 62, 20, name, look="bold")
        d.box(left, 40, 78 if part else 124, 70, "model", model)
        if part:
            d.box(left + 78, 40, 46, 70, "task", part, SMALL)
        if i:
            d.arrow((left - 16, 75), (left - 2, 75))
        for j, words in enumerate(costs):
            d.text(left + 62, 150 + 44 * j, words, SMALL)
    for j, words in enumerate(("text read", "labels", "how often")):
        d.text(10, 150 + 44 * j, words, SMALL, "start", "soft")
        d.line((10, 128 + 44 * j), (510, 128 + 44 * j), look="faint")
    d.text(10, 64, "trained:\norange", SMALL, "start", "soft")
    return d
