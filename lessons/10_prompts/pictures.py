"""The diagrams of lesson 10: python -m lessons.diagrams"""

import numpy as np

from lessons.drawing import FROZEN, MASKED, PLAIN, SECOND, SMALL, TRAINED, Diagram

FROM_NOTEBOOK = {
    "race.svg": "Eight virtual tokens learn a sentence",
}


def ways() -> Diagram:
    d = Diagram(
        520,
        330,
        "A frozen model: a table of embeddings and three layers above it. A plain prompt enters below, as words beside "
        "the text. A soft prompt enters above the table, as vectors. A prefix enters each layer, as keys and values.",
    )
    left, wide, middle = 236, 264, 368
    for i in range(3):
        y = 116 - 50 * i
        d.box(left, y, wide, 34, f"layer {i + 1}", FROZEN)
        d.arrow((middle, y), (middle, y - 14))
        d.box(156, y, 52, 34, "k, v", TRAINED)
        d.arrow((208, y + 17), (left - 2, y + 17))
    d.text(24, 83, "prefix", anchor="start", look="bold")
    d.text(24, 104, "in every layer", SMALL, "start", "soft")
    d.arrow((middle + 40, 216), (middle + 40, 152))
    d.box(left, 170, 96, 28, "vectors", TRAINED)
    d.arrow((left + 48, 170), (left + 48, 152))
    d.text(24, 177, "soft prompt", anchor="start", look="bold")
    d.text(24, 198, "rows of no table", SMALL, "start", "soft")
    d.box(left, 216, wide, 34, "table of embeddings", FROZEN)
    d.box(left, 276, 96, 34, "examples", PLAIN)
    d.box(left + 108, 276, wide - 108, 34, "the text", SECOND)
    d.arrow((left + 48, 276), (left + 48, 252))
    d.arrow((middle + 40, 276), (middle + 40, 252))
    d.text(24, 283, "plain prompt", anchor="start", look="bold")
    d.text(24, 304, "nothing trains", SMALL, "start", "soft")
    return d


def mask() -> Diagram:
    P, real = 2, np.array([0, 1, 1, 1])
    T = len(real)
    positions = P + np.cumsum(real) - 1
    d = Diagram(
        520,
        330,
        "A grid of who looks at whom. Rows are a text with one padding token in front, columns two virtual tokens and "
        "that text. Each real token sees both virtual tokens, itself and the real tokens before it, never the padding. "
        "The real tokens stand at the positions 2, 3 and 4.",
    )
    left, top, cell = 128, 62, 46
    names = ["pad", "a", "b", "c"]

    def sees(i: int, j: int) -> bool:
        return bool(real[i]) and (j < P or (j - P <= i and bool(real[j - P])))

    d.text(left + cell * 3, 16, "keys: who is seen", SMALL, look="soft")
    d.text(left + cell * P / 2, 46, "virtual")
    for i, name in enumerate(names):
        d.text(left + cell * (P + i + 0.5), 46, name)
        d.text(left - 14, top + cell * (i + 0.5), name, anchor="end")
    d.text(8, top + cell * 2, "queries:\nwho sees", SMALL, "start", "soft")
    d.grid(
        left,
        top,
        T,
        P + T,
        cell,
        lambda i, j: MASKED if not sees(i, j) else TRAINED if j < P else SECOND,
        lambda i, j: "yes" if sees(i, j) else "",
    )
    d.text(left + cell * (P + T) + 18, 46, "position", SMALL, "start", "soft")
    for i in range(T):
        d.text(left + cell * (P + T) + 46, top + cell * (i + 0.5), str(positions[i]) if real[i] else "free")
    for y, kind, words in (
        (266, TRAINED, "virtual tokens: seen by every real token"),
        (296, SECOND, "the text: itself, and what came before"),
    ):
        d.box(left, y, 20, 20, "", kind, corner=0)
        d.text(left + 32, y + 10, words, SMALL, "start")
    return d


def share() -> Diagram:
    text, prefix = np.array([4, 2, 2]), np.array([3, 1])  # exp of the scores, as on the page
    alone = text / text.sum()
    both = np.concatenate([prefix, text]) / (prefix.sum() + text.sum())
    part = both[:2].sum()
    d = Diagram(
        520,
        214,
        "Two bars of attention weights, each of length 1. Alone, three text tokens share it. With a prefix, two "
        "virtual tokens take a part, lambda, and the three text tokens share the rest in the same proportions.",
    )
    left, wide = 20, 480

    def bar(y: float, weights: np.ndarray, virtual: int) -> None:
        x = float(left)
        for number, weight in enumerate(weights):
            kind = TRAINED if number < virtual else SECOND
            d.box(x, y, wide * weight, 36, f"{weight:.2f}", kind, SMALL, corner=0)
            x += wide * weight

    d.text(left, 16, "the text alone", SMALL, "start", "soft")
    bar(30, alone, 0)
    d.text(left + wide - 10, 104, "with a prefix of two", SMALL, "end", "soft")
    bar(118, both, 2)
    edge = left + wide * part
    for a, b, words in ((left, edge, f"λ = {part:.2f}"), (edge, left + wide, f"1 - λ = {1 - part:.2f}")):
        d.line((a + 3, 164), (a + 3, 172), (b - 3, 172), (b - 3, 164))
        d.text((a + b) / 2, 190, words)
    for a, b in ((left, edge), (left + wide, left + wide)):
        d.line((a, 66), (b, 118), look="faint")
    return d
