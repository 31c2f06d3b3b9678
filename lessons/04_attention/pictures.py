"""The diagrams of lesson 04: python -m lessons.diagrams"""

import numpy as np

from lessons.drawing import FOURTH, MASKED, PLAIN, SECOND, SMALL, THIRD, Diagram

FROM_NOTEBOOK = {"heads.png": "Four heads, one sentence"}


def block() -> Diagram:
    d = Diagram(
        520,
        380,
        "A line of vectors, x, runs from the bottom to the top. Twice a copy branches off to the right: through a norm "
        "and attention, then through a norm and the MLP. Each result is added to the line.",
    )
    stream = 90
    d.arrow((stream, 366), (stream, 216))
    d.arrow((stream, 184), (stream, 66))
    d.arrow((stream, 34), (stream, 8))
    d.text(stream - 16, 352, "x", anchor="end", look="bold")
    d.text(stream + 16, 352, "(T, C)", SMALL, "start", "soft")
    for plus, norm, words, kind, what in (
        (200, "norm₁", "attention", SECOND, "looks at\nother tokens"),
        (50, "norm₂", "MLP", THIRD, "each token\nby itself"),
    ):
        d.circle(stream, plus, 16, "+")
        d.arrow((stream, plus + 110), (168, plus + 110))
        d.box(170, plus + 90, 80, 40, norm)
        d.arrow((250, plus + 110), (290, plus + 110))
        d.box(292, plus + 78, 110, 64, words, kind)
        d.arrow((347, plus + 78), (347, plus), (stream + 18, plus))
        d.text(414, plus + 100, what, SMALL, "start", "soft")
    d.text(240, 20, "the line is only added to", SMALL, look="soft")
    return d


def sentence() -> Diagram:
    words, cell, left, top = ("read", "the", "file", "close", "it"), (72, 38), 110, 52
    scores = np.zeros((5, 5))
    scores[4, 2] = 3 * 2 / np.sqrt(2)  # "it" looks for a thing, and "file" is one
    powers = np.tril(np.exp(scores))
    weights = powers / powers.sum(axis=1, keepdims=True)
    d = Diagram(
        520,
        268,
        "Attention weights of five words. Each row is a word that looks at itself and at the words before it; the "
        f'cells of later words are hidden. The row of "it" has {weights[4, 2]:.2f} at "file", the others are even.',
    )
    d.text(left + 2.5 * cell[0], 12, "is looked at", SMALL, look="soft")
    d.text(10, 36, "looks", SMALL, "start", "soft")
    for i, word in enumerate(words):
        d.text(left + (i + 0.5) * cell[0], 36, word, SMALL)
        d.text(left - 14, top + (i + 0.5) * cell[1], word, SMALL, "end")

    def kind(i: int, j: int) -> str:
        return MASKED if j > i else SECOND if weights[i, j] > 0.5 else PLAIN

    def share(i: int, j: int) -> str:
        return "hidden" if j > i else f"{weights[i, j]:.2f}"

    d.grid(left, top, 5, 5, cell, kind, share)
    return d


def rotary() -> Diagram:
    d = Diagram(
        520,
        240,
        "Rows of clock faces for the positions 0 to 6. The hand of the first pair turns by 1 radian per token, of the "
        "second by a tenth of that, of the third by a hundredth, which is hardly seen.",
    )
    size, theta = 8, 10_000.0
    d.text(10, 22, "radians/token", SMALL, "start", "soft")
    for t in range(7):
        d.text(150 + 56 * t, 22, f"t = {t}", SMALL, look="soft")
    for i in range(3):
        y, speed = 66 + 66 * i, theta ** (-2 * i / size)
        d.text(10, y, f"pair {i}: {speed:g}", SMALL, "start")
        for t in range(7):
            x, angle = 150 + 56 * t, t * speed
            d.circle(x, y, 23)
            d.arrow((x, y), (x + 21 * np.cos(angle), y - 21 * np.sin(angle)))
    return d


def split() -> Diagram:
    d = Diagram(
        520,
        290,
        "Two tokens of four channels, the first two of head 0, the last two of head 1. With reshape and swapaxes each "
        "head has its own channels of both tokens. With reshape alone each head has all channels of one token.",
    )
    x = np.array([[10, 11, 20, 21], [12, 13, 22, 23]])
    cell = (44, 34)

    def numbers(left: float, top: float, a: np.ndarray) -> None:
        d.grid(left, top, *a.shape, cell, lambda i, j: SECOND if a[i, j] < 20 else FOURTH, lambda i, j: str(a[i, j]))

    numbers(176, 36, x)
    d.text(264, 18, "channels of head 0, of head 1", SMALL, look="soft")
    for t in range(2):
        d.text(166, 53 + 34 * t, f"token {t}", SMALL, "end", "soft")
    right, wrong = x.reshape(2, 2, 2).swapaxes(0, 1), x.reshape(2, 2, 2)
    for left, title, heads, verdict in (
        (30, "reshape, then swapaxes", right, "each head: both tokens"),
        (290, "reshape alone", wrong, 'each "head": one token'),
    ):
        d.text(left, 142, title, anchor="start", look="bold")
        for h in range(2):
            d.text(left + 44 + 106 * h, 168, f"head {h}", SMALL, look="soft")
            numbers(left + 106 * h, 182, heads[h])
        d.text(left, 270, verdict, SMALL, "start", "soft")
    return d


def groups() -> Diagram:
    d = Diagram(
        520,
        180,
        "Six query heads in a row and three key and value heads below. Query heads 0 and 1 lead to key head 0, 2 and 3 "
        "to key head 1, 4 and 5 to key head 2.",
    )
    colours = (SECOND, THIRD, FOURTH)
    for h in range(6):
        x = 16 + 83 * h
        d.box(x, 16, 72, 44, f"q{h}", colours[h // 2])
        d.arrow((x + 36, 60), (16 + 166 * (h // 2) + 56 + 42 * (h % 2), 114))
    for h in range(3):
        d.box(16 + 166 * h, 116, 155, 44, f"k{h}, v{h}", colours[h])
    return d
