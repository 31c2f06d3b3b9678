"""The diagrams of lesson 13: python -m lessons.diagrams"""

from math import log10

from lessons.drawing import FROZEN, SECOND, SMALL, THIRD, TRAINED, Diagram
from minilora.demo.claims import AdaptedResult
from minilora.measure.records import Records, results_folder
from minilora.show.grids import NAMES

QUESTIONS = (  # the answers that speak for a prompt, and for training, each + a weight of one
    ("examples?", ["fewer than 16 ++"], ["100 or more +", "1,000 or more ++"]),
    ("queries per day?", ["fewer than 100 +"], ["100 or more ++"]),
    ("special language?", ["no +"], ["yes ++"]),
    ("exact format?", [], ["yes +"]),
    ("still changing?", ["yes +"], []),
    ("a prototype?", ["yes ++"], []),
)
FROM_NOTEBOOK = {
    "step.svg": "A step of LoRA on SmolLM2-135M",
    "glossary.svg": "The glossary, asked in four ways",
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


def crossing() -> Diagram:
    d = Diagram(
        520,
        400,
        "Tokens read against queries, both axes logarithmic. Prompts with examples of 64, 256 and 1,024 tokens rise; "
        "LoRA, at 122,880 tokens, is flat. They meet after 1,920, 480 and 120 queries, and 256 cached tokens, which "
        "cost a tenth, after 4,800.",
    )
    trained, most = 2 * 60 * 8 * 128, 20_000

    def at(queries: float, tokens: float) -> tuple[float, float]:
        return 86 + 330 * log10(queries / 10) / log10(most / 10), 340 - 62 * (log10(tokens) - 2.5)

    for power in (3, 4, 5, 6, 7):
        y = at(10, 10**power)[1]
        d.line((86, y), (416, y), look="faint")
        d.text(
            80, y, {3: "1,000", 4: "10,000", 5: "100,000", 6: "1 million", 7: "10 million"}[power], 14, "end", "soft"
        )
    for queries in (10, 100, 1000, 10_000):
        d.text(at(queries, 1)[0], 358, f"{queries:,}", SMALL, look="soft")
    d.text(251, 384, "queries", SMALL)
    d.text(10, 18, "tokens read", SMALL, "start")
    d.line(at(10, trained), at(most, trained))
    d.text(422, at(10, trained)[1], "LoRA", SMALL, "start", "bold")
    for tokens, label in ((1024, "1,024"), (256, "256"), (64, "64"), (25.6, "256 cached")):
        look = "line" if tokens >= 64 else "faint"
        d.line(at(10, 10 * tokens), at(most, most * tokens), look=look)
        d.text(422, at(most, most * tokens)[1], label, SMALL, "start")
    for tokens in (1024, 256, 64, 25.6):
        x, y = at(trained / tokens, trained)
        d.circle(x, y, 5, kind=TRAINED)
        d.text(x + 6, y + (18 if tokens >= 64 else -16), f"{trained / tokens:,.0f}", SMALL, "start")
    return d


def quality() -> Diagram:
    result = AdaptedResult(Records.read(results_folder() / "compare.jsonl", "comparison"))
    points = {n: (peak / 1e6, result.domain(n)) for n in result.methods if n != "scratch" and (peak := result.peak(n))}
    frontier, low = [], float("inf")
    for name in sorted(points, key=lambda name: (points[name][0], points[name][1].mean)):
        if points[name][1].mean < low:
            frontier.append(name)
            low = points[name][1].mean
    d = Diagram(
        520,
        420,
        "Methods as points, megabytes of a training step to the right and bits per character upward. No other point is "
        f"both cheaper and better than {', '.join(NAMES[name] for name in frontier)}.",
    )

    def at(megabytes: float, bits: float) -> tuple[float, float]:
        return 62 + 2.75 * megabytes, 350 - 720 * (bits - 2.1)

    for tenth in range(21, 26):
        x, y = at(0, tenth / 10)
        d.line((x, y), (505, y), look="faint")
        d.text(x - 8, y, f"{tenth / 10:.1f}", SMALL, "end", "soft")
    for megabytes in (0, 40, 80, 120, 160):
        d.text(at(megabytes, 0)[0], 374, str(megabytes), SMALL, look="soft")
    d.text(283, 400, "MB alive at once in a training step", SMALL)
    d.text(10, 16, "bits per character", SMALL, "start")
    for name, label in (("few-shot", "prompt"), ("base", "base as it is")):
        x, y = at(0, result.domain(name).mean)
        d.line((x, y), (505, y))
        d.text(498, y - 10 if name == "few-shot" else y + 12, label, SMALL, "end")
    stairs = [at(points[name][0], points[name][1].mean) for name in frontier]
    corners = [(after[0], before[1]) for before, after in zip(stairs, stairs[1:], strict=False)]
    d.line(
        stairs[0], *[point for pair in zip(corners, stairs[1:], strict=True) for point in pair], look="line gradient"
    )
    places = {
        "norms": (-10, 2, "end"),
        "bottleneck": (-10, 14, "end"),
        "prefix": (-10, -6, "end"),
        "prompt": (-10, 4, "end"),
    }
    places |= {"qlora": (-4, 30, "middle"), "lora": (8, -14, "start"), "full": (-10, 8, "end"), "dora": (-10, 0, "end")}
    places |= {"feature-extraction": (10, 14, "start")}
    for name, (megabytes, bits) in points.items():
        x, y = at(megabytes, bits.mean)
        d.line(at(megabytes, bits.mean - bits.deviation), at(megabytes, bits.mean + bits.deviation))
        d.circle(x, y, 6, kind=TRAINED if name in frontier else FROZEN)
        right, down, anchor = places.get(name, (10, 0, "start"))
        d.text(x + right, y + down, NAMES[name], SMALL, anchor)
    return d
