"""The diagrams of lesson 01: python -m lessons.diagrams"""

import json
from math import log

import numpy as np

from lessons.drawing import FROZEN, SECOND, SMALL, TRAINED, Diagram
from minilora.tensor import no_grad
from minilora.train.load import base_folder, load_model

FROM_NOTEBOOK = {"hills.svg": "One number for each sentence", "accuracy.svg": "Is this sentence mixed up?"}


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


def surprise() -> Diagram:
    model, tokenizer = load_model("base")
    sentences = ("Raise an error if two objects are not equal.", "Raise not are objects error two an if equal.")
    d = Diagram(
        520,
        376,
        "The bits of each token of a sentence under the base, as bars. As written, they add up to 54.5, and only the "
        "token two costs more than 8. With the words mixed up they add up to 120.7, and most cost more than 9.",
    )
    for column, (sentence, name) in enumerate(zip(sentences, ("as written", "mixed up"), strict=True)):
        left, ids = 70 + 260 * column, tokenizer.encode(sentence)
        bits = _bits(model, tokenizer.eos_token_id, ids)
        d.text(left + 80, 20, name, look="bold")
        for row, (token, one) in enumerate(zip(ids, bits, strict=True)):
            y = 52 + 26 * row
            d.text(left - 8, y, tokenizer.decode([token]).strip(), SMALL, "end")
            d.box(left, y - 9, 8 * one, 18, kind=TRAINED if column else SECOND, corner=0)
            d.text(left + 8 * one + 6, y, f"{one:.1f}", SMALL, "start", "soft")
        d.text(left + 80, 350, f"{sum(bits):.1f} bits in all")
    return d


def _bits(model, before: int, ids) -> list[float]:
    """Return the bits of each token of a text, to two decimals."""
    row = [before, *ids]
    with no_grad():
        logits = model(np.array([row])).logits.numpy()[0].astype(float)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return [round(float(-logs[place, token] / log(2)), 2) for place, token in enumerate(row[1:])]
