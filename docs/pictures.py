"""The three pictures on the front page of the site. Draw them with python -m lessons.diagrams."""

from experiments.results.page import measured_comparison
from lessons.drawing import FROZEN, MASKED, PLAIN, SMALL, TRAINED, Diagram

COMPARED = measured_comparison()
LAYERS, WIDTH, HEIGHT = 6, 260, 210
SHOWN = {  # method -> its label, and where to put it beside the point
    "full": ("full", -2, -17, "middle"),
    "lora": ("LoRA", -11, 0, "end"),
    "prefix": ("prefix", 11, 0, "start"),
    "feature-extraction": ("head only", -2, 18, "middle"),
}


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
    d.text(12, 188, f"much text, once: {COMPARED.trainable('full') / 1e6:.1f} M weights", SMALL, "start", "soft")
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
    d.text(12, 188, f"a few pages: {100 * COMPARED.share('lora'):.0f} % of it trains", SMALL, "start", "soft")
    return d


def measure() -> Diagram:
    base = COMPARED.domain("base").mean
    points = {name: (base - COMPARED.domain(name).mean, COMPARED.forgot(name)) for name in SHOWN}
    listed = "; ".join(f"{SHOWN[name][0]} {learned:.2f} and {forgot:.2f}" for name, (learned, forgot) in points.items())
    d = Diagram(WIDTH, HEIGHT, f"Measure: bits per character that each method learned and forgot. {listed}.")
    d.text(12, 18, "3  Measure", anchor="start", look="bold")
    d.arrow((40, 166), (252, 166))
    d.arrow((40, 166), (40, 36))
    d.text(146, 188, "learned", SMALL, look="soft")
    d.text(22, 101, "forgot", SMALL, look="soft", turn=-90)
    for name, (learned, forgot) in points.items():
        x, y = 40 + 560 * learned, 166 - 850 * forgot
        d.circle(x, y, 6, kind=MASKED if name == "feature-extraction" else TRAINED)
        words, right, down, anchor = SHOWN[name]
        d.text(x + right, y + down, words, SMALL, anchor)
    return d
