"""The diagrams of lesson 09: python -m lessons.diagrams"""

import numpy as np

from lessons.drawing import FROZEN, MASKED, SMALL, TRAINED, Diagram


def bottleneck() -> Diagram:
    d = Diagram(
        520,
        392,
        "The output h of a frozen module goes two ways: straight up, and through the thin matrix down, the function f, "
        "and the thin matrix up. Both are added.",
    )
    d.box(110, 348, 180, 36, "frozen module", FROZEN)
    d.line((200, 348), (200, 322), (90, 322))
    d.arrow((200, 322), (340, 322), (340, 292))
    d.text(210, 337, "h  (n, d)", SMALL, "start", "soft")
    d.arrow((90, 322), (90, 40), (181, 40))
    d.text(80, 180, "unchanged", SMALL, look="soft", turn=-90)
    d.matrix(277, 264, 126, 28, "W₁  (m, d)", TRAINED)
    d.text(415, 278, "down", SMALL, "start")
    d.arrow((340, 264), (340, 240))
    d.circle(340, 222, 18, "f")
    d.text(368, 248, "m numbers", SMALL, "start", "soft")
    d.arrow((340, 204), (340, 192))
    d.matrix(326, 66, 28, 126, "W₂", TRAINED)
    d.text(368, 120, "(d, m)", SMALL, "start", "soft")
    d.text(368, 144, "up", SMALL, "start")
    d.arrow((340, 66), (340, 40), (219, 40))
    d.text(352, 44, "the remark  (n, d)", SMALL, "start", "soft")
    d.circle(200, 40, 17, "+")
    d.arrow((200, 23), (200, 4))
    return d


def where() -> Diagram:
    d = Diagram(
        520,
        440,
        "A block on its stream, twice. By Houlsby, an adapter stands behind attention and one behind the MLP, each "
        "before the sum. By Pfeiffer, one adapter stands behind the MLP alone.",
    )
    for left, name, adapted in ((30, "Houlsby", ("attention", "MLP")), (290, "Pfeiffer", ("MLP",))):
        d.text(left + 100, 20, name, look="bold")
        d.arrow((left, 432), (left, 44))
        for bottom, module in ((424, "attention"), (238, "MLP")):
            middle = left + 130
            parts = ("norm", module, "adapter") if module in adapted else ("norm", module)
            d.line((left, bottom), (middle, bottom))
            d.arrow((middle, bottom), (middle, bottom - 14))
            for i, part in enumerate(parts):
                top = bottom - 14 - 32 - 46 * i
                d.box(middle - 55, top, 110, 32, part, TRAINED if part == "adapter" else FROZEN)
                if i:
                    d.line((middle, top + 46), (middle, top + 32))
            d.arrow((middle, bottom - 46 * len(parts)), (middle, bottom - 164), (left + 15, bottom - 164))
            d.circle(left, bottom - 164, 14, "+")
    return d


def switches() -> Diagram:
    d = Diagram(
        520,
        200,
        "One adapter of width 3 at two inputs. At each, the sums inside that are above zero keep their row of W1 "
        "and their column of W2; the others are switched off. The two inputs switch different ones.",
    )
    rng = np.random.default_rng(82)
    w1, b1 = rng.standard_normal((3, 4)), rng.standard_normal(3)
    inputs = rng.standard_normal((2, 4))
    for n, h in enumerate(inputs):
        inside, left = w1 @ h + b1, 10 + 270 * n
        opened = inside > 0

        def of(i: int, opened: np.ndarray = opened) -> str:
            return TRAINED if opened[i] else MASKED

        d.text(left + 115, 20, ("one input", "another input")[n], look="bold")
        d.grid(left, 50, 4, 3, 24, lambda i, j, of=of: of(j))
        d.grid(left + 80, 62, 3, 1, (48, 24), lambda i, j, of=of: of(i), lambda i, j, v=inside: f"{v[i]:.1f}")
        d.grid(left + 136, 62, 3, 4, 24, lambda i, j, of=of: of(i))
        for x, label in ((36, "W₂"), (104, "inside"), (184, "W₁")):
            d.text(left + x, 166, label, SMALL)
    return d
