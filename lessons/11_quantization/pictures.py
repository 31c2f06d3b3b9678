"""The diagrams of lesson 11: python -m lessons.diagrams"""

from statistics import NormalDist

import numpy as np

from lessons.drawing import FROZEN, NOTE, PLAIN, SECOND, SMALL, Diagram
from minilora.quant.codebooks import NF4_OFFSET, int4, nf4

FROM_NOTEBOOK = {
    "weights.svg": "The base's weights, and NF4's sixteen values",
    "outlier.svg": "One outlier among 4,096 weights",
}
WEIGHTS = np.array([-0.35, 0.5, 0.11, -0.04, 0.9, -0.3, 0.0, -1.2])
BLOCK = 4


def blocks() -> Diagram:
    d = Diagram(
        520,
        400,
        "Eight weights are cut into two blocks of four. Each block keeps its absmax, 0.5 and 1.2. Divided by it, each "
        "weight becomes the code of the nearest of sixteen values. Two codes share a byte: 1 and 15 make 0x1F. Read "
        "back, the weights are nearly what they were.",
    )
    absmax = np.abs(WEIGHTS.reshape(-1, BLOCK)).max(axis=1)
    scaled = WEIGHTS / np.repeat(absmax, BLOCK)
    codes = np.abs(scaled[:, None] - nf4()).argmin(axis=1)
    packed = codes[0::2] * 16 + codes[1::2]
    back = nf4()[codes] * np.repeat(absmax, BLOCK)
    cell, lefts = 58, (20, 268)

    def row(y: float, numbers: list[str], kind: str, share: int = 1) -> None:
        count = len(numbers) // 2
        for left, part in zip(lefts, (numbers[:count], numbers[count:]), strict=True):
            d.grid(left, y, 1, count, (cell * share, 32), lambda i, j: kind, lambda i, j, part=part: part[j], 17)

    def arrows(y: float, end: float) -> None:
        for left in lefts:
            d.arrow((left + 2 * cell, y), (left + 2 * cell, end))

    d.text(260, 20, "a row of weights, in blocks of four", SMALL, look="soft")
    row(34, [f"{x:g}" for x in WEIGHTS], FROZEN)
    for left, scale in zip(lefts, absmax, strict=True):
        d.line((left + 2 * cell, 66), (left + 2 * cell, 78))
        d.box(left + 2 * cell - 76, 78, 152, 30, f"absmax  {scale:g}", NOTE)
    arrows(108, 142)
    d.text(260, 125, "divided by it", SMALL, look="soft")
    row(144, [f"{x:.2f}" for x in scaled], PLAIN)
    arrows(176, 210)
    d.text(260, 193, "code of the nearest value", SMALL, look="soft")
    row(212, [str(code) for code in codes], PLAIN)
    row(244, [f"0x{byte:02X}" for byte in packed], SECOND, 2)
    d.text(260, 292, "bytes, two codes each", SMALL, look="soft")
    arrows(276, 336)
    d.text(260, 318, "value of the code · absmax", SMALL, look="soft")
    row(338, [f"{x:.2f}" for x in back], FROZEN)
    d.text(260, 386, "read back", SMALL, look="soft")
    return d


def slices() -> Diagram:
    d = Diagram(
        520,
        372,
        "A bell curve, cut into eight slices right of the middle, each 5.8 % of its area, and seven left of it, each "
        "6.7 %. Under its sixteen borders stand NF4's sixteen marks, close together in the middle. INT4's fifteen "
        "marks, below, are evenly spaced.",
    )
    bell = NormalDist()
    widest = bell.inv_cdf(NF4_OFFSET)  # where the largest mark stands
    middle, unit, ground, high = 260.0, 230 / widest, 200.0, 160.0

    def x(z: float) -> float:
        return middle + unit * z

    def y(z: float) -> float:
        return ground - high * bell.pdf(z) / bell.pdf(0)

    borders = nf4() * widest
    for number, (a, b) in enumerate(zip(borders[:-1], borders[1:], strict=True)):
        curve = [(x(z), y(z)) for z in np.linspace(a, b, 9)]
        d.shape((x(a), ground), *curve, (x(b), ground), kind=(FROZEN, PLAIN)[number % 2])
    for sign in (-1, 1):
        d.line(*((x(sign * z), y(z)) for z in np.linspace(widest, 2.08, 7)))
    d.text(442, 62, "8 slices", anchor="middle")
    d.text(442, 84, "of 5.8 % each", SMALL, look="soft")
    d.text(78, 62, "7 slices", anchor="middle")
    d.text(78, 84, "of 6.7 % each", SMALL, look="soft")
    for name, marks, top in (("NF4: the sixteen borders", nf4(), 214), ("INT4: evenly spaced", int4(), 294)):
        d.line((x(-widest), top + 14), (x(widest), top + 14))
        for mark in sorted(set(marks[np.abs(marks) <= 1])):
            d.line((x(mark * widest), top), (x(mark * widest), top + 28))
        d.text(middle, top + 44, name)
        d.text(x(-widest), top + 44, "-1", SMALL)
        d.text(x(widest), top + 44, "1", SMALL)
    return d
