"""The diagrams of lesson 07: python -m lessons.diagrams"""

from lessons.drawing import FROZEN, SECOND, SMALL, THIRD, TRAINED, Diagram

FROM_NOTEBOOK = {"learned_forgotten.svg": "Right is learned, up is forgotten"}


def four_ways() -> Diagram:
    d = Diagram(
        520,
        270,
        "Four stacks of three layers. Touch less: one layer trains, two are frozen. Show it again: all train, and one "
        "of the four rows of the batch is old text. Hold back: all train, each tied to where it began. Put it "
        "elsewhere: all are frozen, and a small part beside them trains, with a switch.",
    )
    labels = ("touch less", "show it\nagain", "hold the\nweights back", "put it\nelsewhere")
    for n, label in enumerate(labels):
        left = 16 + 128 * n
        wide = 64 if n == 3 else 84
        for i in range(3):
            y = 18 + 44 * i
            if n == 2:
                d.box(left + 18, y - 6, 84, 32, "", FROZEN)
                d.box(left, y, 84, 32, "", TRAINED)
            else:
                d.box(left, y, wide, 32, "", FROZEN if n == 3 or n == 0 and i else TRAINED)
        d.arrow((left + wide / 2, 176), (left + wide / 2, 140))
        for i in range(4):
            d.box(left + 84 / 4 * i, 176, 84 / 4, 22, "", THIRD if n == 1 and i == 3 else SECOND, corner=0)
        d.text(left + 42, 222, label, SMALL)
    left = 16 + 128 * 3
    d.box(left + 78, 62, 26, 32, "", TRAINED)
    d.line((left + 32, 158), (left + 91, 158), (left + 91, 134))
    d.line((left + 91, 134), (left + 105, 112))  # the switch, open
    d.line((left + 91, 108), (left + 91, 94))
    d.line((left + 91, 62), (left + 91, 6), (left + 32, 6), (left + 32, 18))
    return d


WORDS = ("array", "axis", "data", "file")
P_NEW, P_OLD, SHARE = (1 / 2, 1 / 4, 1 / 4, 0), (0, 1 / 8, 3 / 8, 1 / 2), 0.1


def mixture() -> Diagram:
    d = Diagram(
        520,
        190,
        "Three bar charts over the words array, axis, data and file: what comes in the new text, 0.50, 0.25, 0.25 and "
        "nothing; in the old text, nothing, 0.12, 0.38 and 0.50; and in nine parts of new and one of old: 0.45, 0.24, "
        "0.26 and 0.05.",
    )
    mixed = [(1 - SHARE) * new + SHARE * old for new, old in zip(P_NEW, P_OLD, strict=True)]
    charts = (("new text", P_NEW, SECOND), ("old text", P_OLD, THIRD), ("0.9 new + 0.1 old", mixed, TRAINED))
    for n, (title, shares, kind) in enumerate(charts):
        left, bottom = 14 + 172 * n, 162
        d.text(left + 74, 20, title, SMALL, look="bold")
        for i, share in enumerate(shares):
            x, tall = left + 37 * i, 190 * share
            if share:
                d.box(x + 4, bottom - tall, 29, tall, "", kind, corner=0)
            d.text(x + 18.5, bottom - tall - 12, f"{share:.2f}" if share else "0", SMALL)
            d.text(x + 18.5, bottom + 16, WORDS[i], SMALL, look="soft")
        d.line((left, bottom), (left + 148, bottom))
    return d
