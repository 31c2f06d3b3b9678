"""The diagrams of lesson 13: python -m lessons.diagrams"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.results.advise import FEW, MANY, RARE, VERY_MANY, Measured, Situation, advise
from lessons.drawing import SECOND, SMALL, THIRD, Diagram

FROM_NOTEBOOK = {
    "crossing.png": "What was read, after so many queries",
    "quality.png": "Quality against memory: every method one point",
    "step.png": "A step of LoRA on SmolLM2-135M",
    "glossary.png": "The glossary, asked in four ways",
}


def advice() -> Diagram:
    d = Diagram(
        520,
        408,
        "Six questions in the middle column, from the number of examples to whether it is a prototype. Answers that "
        "speak for a prompt stand to the left, those that speak for training to the right, each with its weight of one "
        "or two. The heavier side wins, and prompting wins a tie.",
    )
    neutral = Situation(FEW, RARE, jargon=False, strict_format=False, changes=False, prototype=False)

    def weight(instead: dict[str, Any], **answers: Any) -> str:
        """How heavily `answers` speak, as so many +; `instead`: other answers to the same question."""
        mine, other = (
            advise(replace(neutral, **given), Measured(Path("nothing measured"))).reasons
            for given in (answers, instead)
        )
        (only,) = [reason for reason in mine if reason not in other]
        return "+" * only.weight

    yes, no = (lambda name: {name: True}), (lambda name: {name: False})
    rows = (
        (
            "examples?",
            [(f"fewer than {FEW}", weight({}, examples=FEW - 1))],
            [
                (f"{MANY} or more", weight({}, examples=MANY)),
                (f"{VERY_MANY:,} or more", weight({}, examples=VERY_MANY)),
            ],
        ),
        (
            "queries per day?",
            [(f"fewer than {RARE}", weight({}, queries=RARE - 1))],
            [(f"{RARE} or more", weight({"queries": RARE - 1}))],
        ),
        (
            "special language?",
            [("no", weight(yes("jargon"), **no("jargon")))],
            [("yes", weight(no("jargon"), **yes("jargon")))],
        ),
        ("exact format?", [], [("yes", weight({}, **yes("strict_format")))]),
        ("still changing?", [("yes", weight({}, **yes("changes")))], []),
        ("a prototype?", [("yes", weight({}, **yes("prototype")))], []),
    )
    left, wide, high = 184, 152, 36
    for x, side, words in ((86, SECOND, "prompt"), (434, THIRD, "fine-tune")):
        d.box(x - 60, 10, 120, 32, words, side)
    for i, (question, prompt, tune) in enumerate(rows):
        y = 62 + 50 * i
        d.box(left, y, wide, high, question, size=SMALL)
        for answers, x, end, anchor in ((prompt, left - 6, 158, "end"), (tune, left + wide + 6, 362, "start")):
            if answers:
                d.arrow((x, y + high / 2), (end, y + high / 2))
                middle = y + high / 2 - 10 * (len(answers) - 1)
                d.text(
                    end - 6 if anchor == "end" else end + 6,
                    middle,
                    "\n".join(f"{a} {w}" for a, w in answers),
                    SMALL,
                    anchor,
                )
    d.text(260, 384, "the heavier side wins; a tie: prompt first", look="bold")
    return d
