"""The diagrams of lesson 06: python -m lessons.diagrams"""

from lessons.drawing import FROZEN, GRADIENT, SMALL, TRAINED, Diagram
from minilora.models.llama import LlamaForSequenceClassification
from minilora.train import load


def where() -> Diagram:
    d = Diagram(
        520,
        396,
        "Four stacks of an embedding, six layers and a head, and the gradient's way down from the loss. The head alone "
        "trains: it ends there. Two upper layers train, too: it goes down two layers. Everything trains: it goes all "
        "the way. The lowest layer alone trains: it goes nearly all the way, past frozen layers.",
    )
    base, _ = load.load_model("base")
    model = LlamaForSequenceClassification.from_language_model(base, 8)
    paths = ["model.embed_tokens", *(f"model.layers.{i}" for i in range(6)), "score"]
    sizes = [sum(p.size for p in model.get_submodule(path).parameters()) for path in paths]
    norm = sum(p.size for p in model.model.norm.parameters())
    cases = (
        ("head alone", {7}),
        ("upper layers\nas well", {5, 6, 7}),
        ("everything", set(range(8))),
        ("low layer", {1}),
    )
    for n, (label, trains) in enumerate(cases):
        left = 10 + 128 * n
        for i in range(8):
            words = "head" if i == 7 else "embedding" if i == 0 else ""
            d.box(left, 294 - 36 * i, 98, 26, words, TRAINED if i in trains else FROZEN, SMALL)
        end = 294 - 36 * min(trains) + 13
        d.text(left + 49, 18, "loss", SMALL)
        d.arrow((left + 68, 18), (left + 112, 18), (left + 112, end), (left + 98, end), kind=GRADIENT)
        count = sum(sizes[i] for i in trains) + norm * (len(trains) > 1)
        d.text(left + 49, 338, f"{count:,}", SMALL, look="bold")
        d.text(left + 49, 361, label, SMALL)
    return d


def groups() -> Diagram:
    d = Diagram(
        520,
        200,
        "A table of four groups. Matrices of the head: head_lr, and weight decay. Vectors of the head: head_lr, no "
        "decay. Matrices of the body: body_lr, and weight decay. Vectors of the body: body_lr, no decay.",
    )
    for j, label in enumerate(("matrices (two axes)", "vectors (one axis)")):
        d.text(193 + 205 * j, 22, label, SMALL)
    for i, label in enumerate(("head", "body")):
        d.text(14, 76 + 74 * i, label, anchor="start")
    decay = ("weight decay", "no decay")
    d.grid(
        90,
        42,
        2,
        2,
        (206, 72),
        lambda i, j: TRAINED,
        lambda i, j: f"{('head', 'body')[i]}_lr\n{decay[j]}",
    )
    return d
