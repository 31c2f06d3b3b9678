"""The diagrams of lesson 13: python -m lessons.diagrams"""

from lessons.drawing import SECOND, SMALL, THIRD, Diagram

QUESTIONS = (  # the answers that speak for a prompt, and for training, each + a weight of one
    ("examples?", ["fewer than 16 ++"], ["100 or more +", "1,000 or more ++"]),
    ("queries per day?", ["fewer than 100 +"], ["100 or more ++"]),
    ("special language?", ["no +"], ["yes ++"]),
    ("exact format?", [], ["yes +"]),
    ("still changing?", ["yes +"], []),
    ("a prototype?", ["yes ++"], []),
)
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
    left, wide, high = 184, 152, 36
    for x, side, words in ((86, SECOND, "prompt"), (434, THIRD, "fine-tune")):
        d.box(x - 60, 10, 120, 32, words, side)
    for i, (question, prompt, tune) in enumerate(QUESTIONS):
        y = 62 + 50 * i
        d.box(left, y, wide, high, question, size=SMALL)
        for answers, x, end, anchor in ((prompt, left - 6, 158, "end"), (tune, left + wide + 6, 362, "start")):
            if answers:
                d.arrow((x, y + high / 2), (end, y + high / 2))
                middle = y + high / 2 - 10 * (len(answers) - 1)
                d.text(
                    end - 6 if anchor == "end" else end + 6,
                    middle,
                    "\n".join(answers),
                    SMALL,
                    anchor,
                )
    d.text(260, 384, "the heavier side wins; a tie: prompt first", look="bold")
    return d
