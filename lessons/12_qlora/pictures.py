"""The diagrams of lesson 12: python -m lessons.diagrams"""

import numpy as np

from lessons.drawing import FROZEN, SECOND, SMALL, THIRD, TRAINED, Diagram
from minilora.quant.codebooks import nf4

FROM_NOTEBOOK = {"survives.svg": "What survives of an update that is rounded to 4 bits"}


def ruler() -> Diagram:
    d = Diagram(
        520,
        384,
        "Two number lines with marks. On the first, the weight lies on a mark: a small update is rounded back to it, a "
        "large one passes the middle and reaches the next mark. On the second, the weight lies just before a middle, "
        "and the same small update takes it to the next mark.",
    )
    marks = nf4()[7:12]  # from 0 on
    places = 36 + 448 * (marks - marks[0]) / (marks[-1] - marks[0])
    middles = (places[:-1] + places[1:]) / 2
    small, large = 24.0, 72.0

    def line(y: float, title: str) -> None:
        d.text(260, y - 108, title, look="bold")
        d.line((16, y), (504, y))
        for x in places:
            d.line((x, y - 13), (x, y + 13))
        for x in middles:
            d.line((x, y - 72), (x, y + 30), look="faint")

    def moved(y: float, name: str, start: float, size: float, says: str) -> None:
        end = start + size
        target = places[np.abs(places - end).argmin()]
        d.box(start, y - 50, size, 13, "", TRAINED, corner=0)
        d.line((start, y - 50), (start, y))
        d.circle(start, y, 7, "", FROZEN)
        d.text(start, y - 84, name)
        d.text(start + size / 2, y - 64, "Δ", SMALL)
        d.line((end, y - 37), (end, y + 28), look="faint")
        d.arrow((end, y + 28), (target, y + 28))
        d.text((end + target) / 2, y + 48, says, SMALL, look="soft")

    line(124, "Ŵ lies on a mark")
    moved(124, "Ŵ", places[1], small, "springs back")
    moved(124, "Ŵ", places[3], large, "moves on")
    line(316, "W lies anywhere between marks")
    moved(316, "W", places[0] + 18, small, "springs back")
    moved(316, "W", middles[2] - 12, small, "tips over: a whole step")
    return d


def twice() -> Diagram:
    d = Diagram(
        520,
        274,
        "A step of training with three layers. In the forward pass each layer makes its float weight, uses it and drops"
        " it, one after the other; in the backward pass each makes it once more, in the other order. The codes and "
        "the updates are there all the time.",
    )
    left, column = 20, 480 / 7
    for i, layer in enumerate((1, 2, 3, 0, 3, 2, 1)):
        middle = left + (i + 0.5) * column
        if layer:
            d.matrix(middle - 29, 62, 58, 58, f"Ŵ{'₁₂₃'[layer - 1]}", FROZEN)
        else:
            d.text(middle, 92, "loss")
    for first, words in ((0, "forward"), (4, "backward")):
        d.text(left + (first + 1.5) * column, 20, words, look="bold")
        d.arrow((left + first * column + 6, 42), (left + (first + 3) * column - 6, 42))
    d.text(260, 142, "one float weight at a time", SMALL, look="soft")
    for y, words, kind, high in (
        (162, "all layers' codes, 4 bits per weight", FROZEN, 32),
        (212, "A and B", TRAINED, 30),
    ):
        d.box(left, y, 480, high, words, kind, corner=0)
    d.text(260, 258, "there all the time", SMALL, look="soft")
    return d


def memory() -> Diagram:
    layers, h, f, r, vocabulary = 80, 8192, 22016, 64, 32_000  # LLaMA-65B, as on the page
    linear, embeddings = layers * (4 * h * h + 3 * h * f), 2 * vocabulary * h
    update = r * layers * (4 * (h + h) + 3 * (h + f))
    base = linear + embeddings
    d = Diagram(
        520,
        250,
        "Bars of memory for a model of 65 billion weights, on one scale. Full fine-tuning takes 783 GB of weights, "
        "gradients and moments, LoRA 140 GB, nearly all of them frozen weights, and QLoRA 44 GB. A line marks where a "
        "card of 48 GB ends: only QLoRA stays before it.",
    )
    ways = (
        ("full", ((2 * base, TRAINED), (2 * base, SECOND), (8 * base, THIRD))),
        ("LoRA", ((2 * base, FROZEN), (12 * update, TRAINED))),
        ("QLoRA", ((4.127 / 8 * linear + 2 * embeddings, FROZEN), (12 * update, TRAINED))),
    )
    left, unit = 76, 424 / (12 * base)
    end = left + 48e9 * unit
    for i, (name, parts) in enumerate(ways):
        x, y = float(left), 14 + 42 * i
        d.text(66, y + 15, name, anchor="end")
        for size, kind in parts:
            d.box(x, y, size * unit, 30, "", kind, corner=0)
            x += size * unit
        total = sum(size for size, _ in parts)
        if name == "full":
            d.text(x - 10, y + 15, f"{total / 1e9:.0f} GB", anchor="end")
        else:
            words = f"{total / 1e9:.0f} GB, {parts[1][0] / 1e9:.0f} of them for A and B"
            d.text(max(x, end) + 12, y + 15, words, anchor="start")
    d.line((end, 6), (end, 146))
    d.text(end + 12, 148, "48 GB: here the card ends", SMALL, "start", "soft")
    for i, (words, kind) in enumerate(
        (("frozen weights", FROZEN), ("trained weights", TRAINED), ("gradients", SECOND), ("moments", THIRD))
    ):
        x, y = (20, 260)[i % 2], 178 + 34 * (i // 2)
        d.box(x, y, 20, 20, "", kind, corner=0)
        d.text(x + 28, y + 10, words, SMALL, "start")
    return d
