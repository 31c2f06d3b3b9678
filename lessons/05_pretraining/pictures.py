"""The diagrams of lesson 05: python -m lessons.diagrams"""

from math import exp

from lessons.drawing import MASKED, NOTE, PLAIN, SECOND, SMALL, TRAINED, Diagram
from minilora.train.config import lr_factor

FROM_NOTEBOOK = {"base.svg": "The base's pretraining"}


def shift() -> Diagram:
    d = Diagram(
        520,
        250,
        "Five tokens go into the model, which gives logits at each place. Below them stands the same row of tokens, "
        "shifted by one: the logits at a place are compared with the token of the next. The last logits have none.",
    )
    words = ["the", "expert", "reads", "the", "text"]
    left, cell = 100, 82
    for y, label in ((36, "it reads"), (156, "logits"), (220, "next\ntoken")):
        d.text(10, y - 9 * label.count("\n"), label, SMALL, "start", "soft")
    d.grid(left, 18, 1, 5, (cell, 36), words=lambda i, j: words[j])
    d.box(left, 82, 5 * cell, 34, "model", TRAINED)
    d.grid(left, 140, 1, 5, (cell, 32), lambda i, j: SECOND if j < 4 else MASKED, lambda i, j: "(V,)")
    d.grid(left, 202, 1, 5, (cell, 36), lambda i, j: PLAIN if j < 4 else MASKED, lambda i, j: [*words[1:], "none"][j])
    for j in range(5):
        x = left + cell * (j + 0.5)
        d.arrow((x, 54), (x, 82))
        d.arrow((x, 116), (x, 140))
        if j < 4:
            d.line((x, 172), (x, 202))
    return d


def schedule() -> Diagram:
    steps, warmup, floor = 12, 4, 0.1
    d = Diagram(
        520,
        292,
        f"The learning rate of {steps} steps: it rises in a straight line for {warmup} steps to its peak, stays there "
        "for one step more, and falls along half a cosine. One past the last step it would be at its floor.",
    )
    left, right, bottom, height = 118, 30, 204, 160
    for share, label in ((1, "peak"), (floor, "floor · peak")):
        d.line((left - 8, bottom - height * share), (510, bottom - height * share), look="faint")
        d.text(left - 12, bottom - height * share, label, SMALL, "end", "soft")
    d.line((left - 8, bottom), (510, bottom))
    points = [
        (left + right * (step + 0.3), bottom - height * lr_factor("cosine", step, steps, warmup, floor))
        for step in range(steps + 1)
    ]
    d.line(*points, look="faint")
    for step, (x, y) in enumerate(points):
        d.circle(x, y, 6, "", TRAINED if step < steps else PLAIN)
        d.text(x, bottom + 20, str(step), SMALL)
        if step < steps:
            d.text(x, bottom + 46, str(step + 1), SMALL)
    d.text(10, bottom + 20, "step", SMALL, "start", "soft")
    d.text(10, bottom + 46, "k (AdamW)", SMALL, "start", "soft")
    d.text(left + right * 1.8, 22, "warmup", SMALL)
    d.text(left + right * 8.5, 22, "half a cosine", SMALL)
    d.text(points[-1][0], bottom + 74, "one past the last step", SMALL, "end", "soft")
    return d


def temperature() -> Diagram:
    d = Diagram(
        520,
        360,
        "Four bar charts for the logits 2, 1, 0 and -1. At temperature 0.5 nearly all is on the first token, at 1 "
        "less, at 2 the bars are more even. With top-k 2 the last two tokens have nothing.",
    )
    logits = (2, 1, 0, -1)
    charts = [
        ("temperature 0.5", 0.5, 4),
        ("temperature 1", 1, 4),
        ("temperature 2", 2, 4),
        ("temperature 1, top-k 2", 1, 2),
    ]
    for n, (title, heat, k) in enumerate(charts):
        left, bottom = 26 + 250 * (n % 2), 146 + 178 * (n // 2)
        d.text(left + 108, bottom - 128, title, look="bold")
        weights = [exp(z / heat) if i < k else 0 for i, z in enumerate(logits)]
        for i, weight in enumerate(weights):
            share, x = weight / sum(weights), left + 54 * i
            tall = 94 * share
            if share:
                d.box(x + 6, bottom - tall, 42, tall, "", SECOND, corner=0)
            d.text(x + 27, bottom - tall - 12, f"{share:.2f}" if share else "0", SMALL)
            d.text(x + 27, bottom + 15, str(logits[i]), SMALL, look="soft")
        d.line((left, bottom), (left + 216, bottom))
    return d


def writing() -> Diagram:
    d = Diagram(
        520,
        220,
        "A ring of four: the text so far goes into the model; the logits at its last place become probabilities by "
        "temperature and top-k; one token is drawn; it is appended to the text, and the ring begins again.",
    )
    d.box(16, 26, 190, 62, "text so far\n(1, T)", NOTE)
    d.box(314, 26, 190, 62, "logits at the\nlast place  (V,)", SECOND)
    d.box(314, 136, 190, 62, "probabilities\n(V,)", SECOND)
    d.box(16, 136, 190, 62, "one token,\ndrawn")
    d.arrow((206, 57), (314, 57))
    d.text(260, 40, "model", SMALL)
    d.arrow((409, 88), (409, 136))
    d.text(400, 112, "temperature, top-k", SMALL, "end")
    d.arrow((314, 167), (206, 167))
    d.text(260, 184, "draw", SMALL)
    d.arrow((111, 136), (111, 88))
    d.text(100, 112, "append", SMALL, "end")
    return d
