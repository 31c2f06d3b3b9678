"""The pictures on the site's front page; the README has jargon and strength. Draw them with lessons.diagrams."""

import runpy
from textwrap import fill

import numpy as np

from experiments.results import jargon as taught
from experiments.results.page import PACKAGED, ROOT, measured_comparison
from lessons.drawing import FROZEN, LETTERS, PLAIN, SMALL, TRAINED, Diagram
from minilora.formats.atomic import read_json
from minilora.show.grids import show_bytes

COMPARED = measured_comparison()
LAYERS, WIDTH, HEIGHT = 6, 260, 225
FULL_WIDTH, LARGE = 840, 26  # as wide as a README is shown; letters that are legible on a telephone all the same
SCALE = 600  # units per bit per character, on both axes
SHOWN = {  # method -> its label, and where to put it beside the point
    "full": ("full", -2, -17, "middle"),
    "lora": ("LoRA", -4, -17, "middle"),
    "prefix": ("prefix", 11, 0, "start"),
    "feature-extraction": ("head only", -11, 1, "end"),
}


def jargon() -> Diagram:
    """Draw a question of the jargon's test, its answer before and after training, and how many are right over seeds."""
    runs = taught.read(ROOT / PACKAGED / taught.FILE)
    first = runs[0]["samples"][0]
    count = runs[0]["rows"]["after"]["scores"]["phrasings"]["count"]
    right = {
        row: float(np.mean([run["rows"][row]["scores"]["phrasings"]["exact"] for run in runs]))
        for row in ("before", "after")
    }
    shares = {row: f"{100 * share:.0f} % right" for row, share in right.items()}
    words = " ".join(f"{row.capitalize()} ({shares[row]} of {count} questions): {first[row]}" for row in shares)
    d = Diagram(FULL_WIDTH, 348, f"{first['question']} {words}")
    d.text(20, 36, fill(first["question"], 44), LARGE, "start", "bold")
    minutes = np.mean([run["training"]["seconds"] for run in runs]) / 60
    cost = f"{minutes:.0f} minutes, {show_bytes(runs[0]['training']['adapter_bytes'])}"
    sides = (("before", FROZEN, "SmolLM2 does not know:"), ("after", TRAINED, f"+ QLoRA ({cost})"))
    for (row, kind, title), x in zip(sides, (20, 440), strict=True):
        d.text(x, 122, title, LARGE, "start", "soft")
        d.box(x, 146, 380, 88, fill(first[row], 24), kind, LARGE)
        d.text(x, 268, shares[row], LARGE, "start", "bold")
        d.text(x + 380, 268, f"of {count} questions", LARGE, "end", "soft")
        d.box(x, 294, 380, 34, corner=3)
        d.box(x, 294, 380 * right[row], 34, kind=kind, corner=3)
    d.arrow((404, 190), (436, 190))
    return d


def strength() -> Diagram:
    """Draw what a model expects after a text, and writes, as its LoRA is turned up: lesson 08's live page in motion."""
    live = runpy.run_path(str(ROOT / "lessons/08_lora/live.py"))
    record, text, strengths = read_json(live["RECORD"])["turned"], live["PICTURED"], live["STRENGTHS"]
    rows = sorted(zip(record["words"], *record["shares"], strict=True), key=lambda row: -row[1])
    d = Diagram(
        FULL_WIDTH,
        382,
        f"What a tiny model of Python's documentation expects after “{text}”, as LoRA, trained on NumPy's, is turned "
        f"up from λ = 0 to 1: {rows[0][0]} at first, {rows[-1][0]} at the end. It writes "
        f"“{text}{record['written'][0]}” at first, and “{text}{record['written'][-1]}” at the end.",
    )
    d.text(20, 36, f"“{text} …”: five next words", LARGE, "start", "bold")
    d.text(20, 72, "A tiny model of Python's docs, as NumPy's LoRA is turned up", LARGE, "start", "soft")
    left, wide = 160, 750  # of the bars; units per 100 %
    for share in (0.2, 0.4):
        d.line((left + wide * share, 108), (left + wide * share, 308), look="faint")
        d.text(left + wide * share, 328, f"{100 * share:.0f} %", LARGE, look="soft")
    for i, (word, *shares) in enumerate(rows):
        d.text(20, 128 + 40 * i, word, LARGE, "start")
        d.moving_bar(left, 113 + 40 * i, [wide * share for share in shares], 30, TRAINED)
    d.box(520, 108, 300, 146)
    d.moving_text(540, 136, [fill(text + written, 19) for written in record["written"]], LARGE)
    d.text(520, 284, "LoRA, λ =", LARGE, "start")
    d.moving_text(656, 284, [f"{strength}" for strength in strengths], LARGE, "bold")
    d.line((530, 322), (810, 322))
    d.moving_circle([530 + 280 * strength for strength in strengths], 322, 12, TRAINED)
    d.text(520, 358, "off", LARGE, "start", "soft")
    d.text(820, 358, "as trained", LARGE, "end", "soft")
    return d


def _layers(d: Diagram, x: float, width: float, kind: str) -> None:
    for i in range(LAYERS):
        d.box(x, 40 + 21 * i, width, 16, kind=kind, corner=3)


def pretrain() -> Diagram:
    d = Diagram(WIDTH, HEIGHT, "Pretrain: much text flows into all six layers of a model, and every weight trains.")
    d.text(12, 18, "1  Pretrain", anchor="start", look="bold")
    _layers(d, 150, 90, TRAINED)
    for i in range(LAYERS):
        d.box(12 + 5 * (i % 3), 40 + 21 * i, 70, 16, kind=PLAIN, corner=2)
        d.flow((92 + 5 * (i % 3), 48 + 21 * i), (146, 48 + 21 * i))
    d.text(
        12, 186, f"much text, once:\n{COMPARED.trainable('full') / 1e6:.1f} M weights train", LETTERS, "start", "soft"
    )
    return d


def adapt() -> Diagram:
    d = Diagram(
        WIDTH, HEIGHT, "Adapt: a little text flows in. The six layers are frozen, and thin strips beside them train."
    )
    d.text(12, 18, "2  Adapt", anchor="start", look="bold")
    _layers(d, 120, 90, FROZEN)
    for i in range(LAYERS):
        d.box(216, 40 + 21 * i, 8, 16, kind=TRAINED, corner=1)
        d.box(228, 40 + 21 * i, 20, 5, kind=TRAINED, corner=1)
    d.box(12, 92, 46, 16, kind=PLAIN, corner=2)
    d.flow((62, 100), (116, 100))
    d.text(
        12, 186, f"a few pages:\n{100 * COMPARED.share('lora'):.0f} % of the weights train", LETTERS, "start", "soft"
    )
    return d


def measure() -> Diagram:
    base = COMPARED.domain("base").mean
    points = {name: (base - COMPARED.domain(name).mean, COMPARED.forgot(name)) for name in SHOWN}
    listed = "; ".join(f"{SHOWN[name][0]} {learned:.2f} and {forgot:.2f}" for name, (learned, forgot) in points.items())
    d = Diagram(WIDTH, HEIGHT, f"Measure: bits per character that each method learned and forgot. {listed}.")
    d.text(12, 18, "3  Measure", anchor="start", look="bold")
    left, low = 42, 166
    d.arrow((left, low), (250, low))
    d.arrow((left, low), (left, 36))
    for tick in (0.1, 0.2, 0.3):
        d.line((left + SCALE * tick, low), (left + SCALE * tick, low + 5))
        d.text(left + SCALE * tick, low + 15, f"{tick}", SMALL, look="soft")
        if tick < 0.2:  # higher up is the arrow
            d.line((left - 5, low - SCALE * tick), (left, low - SCALE * tick))
            d.text(left - 8, low - SCALE * tick, f"{tick}", SMALL, "end", "soft")
    d.text(WIDTH / 2 + 6, 206, "learned, bits per character", LETTERS, look="soft")
    d.text(left + 9, 44, "forgot", LETTERS, "start", "soft")
    for name, (learned, forgot) in points.items():
        x, y = left + SCALE * learned, low - SCALE * forgot
        d.circle(x, y, 6, kind=TRAINED)
        words, right, down, anchor = SHOWN[name]
        d.text(x + right, y + down, words, SMALL, anchor)
    return d
