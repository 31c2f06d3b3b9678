"""The diagrams of lesson 08: python -m lessons.diagrams"""

import textwrap

from experiments.strengths import RECORD
from lessons.drawing import FROZEN, MASKED, SMALL, TRAINED, WIDTH, Diagram
from minilora.formats.atomic import read_json

FROM_NOTEBOOK = {"singular_values.svg": "Singular values of a weight and of two changes to it"}
COLUMN, ROW = (-2, 0, 2, 1), (0, 1, 0, 0)  # of the change that the reading works out


def layer() -> Diagram:
    d = Diagram(
        520,
        500,
        "The input x goes two ways: through the large frozen square W, and through the thin matrices A and B, which "
        "train. Each row of A is what to look for, each column of B what to add; between them are r numbers, how much "
        "of each is there. The second way is scaled by alpha / r. Both are added to y.",
    )
    d.box(180, 452, 140, 34, "x  (n, d_in)")
    d.arrow((210, 452), (210, 430), (130, 430), (130, 348))
    d.arrow((290, 452), (290, 430), (355, 430), (355, 368))
    d.matrix(40, 168, 180, 180, "W", FROZEN)
    d.text(130, 284, "(d_out, d_in)", SMALL, look="soft")
    d.grid(265, 332, 3, 1, (180, 12), lambda i, j: TRAINED)
    d.text(367, 384, "A  (r, d_in):\nin each row\nwhat to look for", SMALL, "start")
    d.arrow((355, 332), (355, 284))
    d.text(367, 300, "r numbers:\nhow much of each", SMALL, "start", "soft")
    d.grid(337, 104, 1, 3, (12, 180), lambda i, j: TRAINED)
    d.text(383, 168, "B  (d_out, r):\nin each column\nwhat to add", SMALL, "start")
    d.arrow((355, 104), (355, 40), (292, 40))
    d.text(365, 70, "· alpha / r", anchor="start")
    d.arrow((130, 168), (130, 40), (228, 40))
    d.circle(260, 40, 16, "+")
    d.arrow((260, 24), (260, 6))
    d.text(276, 12, "y", anchor="start", look="bold")
    d.text(40, 148, "frozen", SMALL, "start", "soft")
    d.text(383, 118, "trained", SMALL, "start", "soft")
    return d


def outer() -> Diagram:
    d = Diagram(
        520,
        212,
        "A change of a weight as a table of 4 by 4 numbers. It is the product of the column -2, 0, 2, 1, what to add, "
        "and the row 0, 1, 0, 0, what to look for: each number of the table is one of the column times one of the row.",
    )
    names, side, top = ("animal", "ship", "broken", "room"), 34, 62

    def sign(number: int) -> str:
        return f"{number}".replace("-", "−")

    def place(number: int) -> str:
        return TRAINED if number else MASKED

    d.grid(76, top, 4, 4, side, lambda i, j: place(COLUMN[i] * ROW[j]), lambda i, j: sign(COLUMN[i] * ROW[j]))
    d.grid(304, top, 4, 1, side, lambda i, j: place(COLUMN[i]), lambda i, j: sign(COLUMN[i]))
    d.grid(370, top + 1.5 * side, 1, 4, side, lambda i, j: place(ROW[j]), lambda i, j: sign(ROW[j]))
    for i, name in enumerate(names):
        d.text(68, top + side * (i + 0.5), name, SMALL, "end", "soft")
    d.text(76 + 2 * side, 28, "ΔW: 16 numbers", look="bold")
    d.text(258, top + 2 * side, "=")
    d.text(321, 28, "add", look="bold")
    d.text(354, top + 2 * side, "·")
    d.text(370 + 2 * side, top + side, "look for", look="bold")
    d.text(404, 180, "4 + 4 numbers", SMALL, look="soft")
    return d


def merge() -> Diagram:
    d = Diagram(
        520,
        190,
        "Before merging, W and the product of the strips B and A are two ways. After merging there is one matrix "
        "of the size of W, which holds both.",
    )
    d.matrix(20, 40, 110, 110, "W", FROZEN)
    d.text(142, 95, "+")
    d.text(154, 95, "s ·", anchor="start")
    d.matrix(186, 40, 24, 110, "B", TRAINED)
    d.matrix(218, 40, 110, 24, "A", TRAINED)
    d.arrow((236, 110), (380, 110))
    d.text(300, 128, "merge, once", SMALL)
    d.matrix(390, 40, 110, 110, "W + s · B A", FROZEN)
    d.text(20, 172, "two ways for each input", SMALL, "start", "soft")
    d.text(500, 172, "one way", SMALL, "end", "soft")
    return d


def strength() -> Diagram:
    record = read_json(RECORD)
    answers = [textwrap.wrap(row["answer"], 46, max_lines=2, placeholder=" …") for row in record["rows"]]
    right = ", ".join(f"{100 * row['f1']:.0f} % at {row['strength']:g}" for row in record["rows"])
    height = 92 + sum(42 + 19 * len(lines) for lines in answers)
    d = Diagram(
        WIDTH,
        height,
        f"SmolLM2 and an adapter for a company's jargon, by the adapter's strength. Of {record['questions']} questions "
        f"it answers right: {right}. Asked what brindle means, it says: "
        + " / ".join(
            f"{row['strength']:g}: {' '.join(lines)}" for row, lines in zip(record["rows"], answers, strict=True)
        ),
    )
    d.text(16, 24, "\n".join(textwrap.wrap(record["question"], 46)), anchor="start", look="bold")
    d.text(16, 72, "strength", SMALL, "start", "soft")
    d.text(100, 72, f"of {record['questions']} questions right (F1), and the answer", SMALL, "start", "soft")
    y = 104
    for row, lines in zip(record["rows"], answers, strict=True):
        long = 300 * row["f1"]
        d.text(16, y, f"{row['strength']:g}", anchor="start", look="bold")
        d.box(100, y - 8, 300, 16, kind=MASKED, corner=0)
        d.box(100, y - 8, long, 16, kind=TRAINED, corner=0)
        d.text(410, y, f"{100 * row['f1']:.0f} %", anchor="start")
        look = "" if row["answer"] == record["expected"] else "soft"
        d.text(100, y + 24, "\n".join(lines), SMALL, "start", look)
        y += 42 + 19 * len(lines)
    return d
