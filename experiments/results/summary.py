"""The findings at the head of docs/results.md: sentences whose numbers come from the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import exp
from pathlib import Path
from typing import Any

from experiments import check
from experiments.results import jargon, measured, scaling, speed, titles
from experiments.results.founding import Founding
from experiments.results.ledger import LARGE, SMALL
from minilora.formats.atomic import read_json
from minilora.measure.records import Records
from minilora.show.grids import listed, show_bytes, show_share


def findings(root: Path) -> Iterator[tuple[str, str, str]]:
    """Return findings as (subject, title of the section, sentence)."""
    yield "Claims", titles.LEDGER, _claims(root)
    founded, studies = Founding(root / measured.RECORDS), measured.measured_studies(root)
    if "reviews" in founded.results:
        yield "Accuracy", titles.MODELS, _accuracy(founded)
        yield "Memory", titles.MODELS, _memory(founded)
    if "retention" in studies:
        yield "Forgetting", studies["retention"].question, _forgetting(studies["retention"])
    if "rank" in studies:
        yield "Rank", studies["rank"].question, _rank(studies["rank"])
    if windows := measured.measured_windows(root):
        yield "Context", titles.WINDOWS, _context(windows)
    if reviews := measured.measured_curves(root).get("reviews"):
        yield "Prompt or fine-tune", titles.CURVES, f"Film reviews. {reviews.sentence()}"
    if jargon.FILE not in read_json(root / check.STALE):
        yield "Jargon", titles.JARGON, jargon.sentence(jargon.read(root / measured.PACKAGED / jargon.FILE))
    if merged := measured.measured_studies(root, measured.LARGE).get("merge-trap"):
        yield "Merging", merged.question, _merging(merged)
    for record in speed.read_all(root / measured.RECORDS):
        yield "Speed", speed.TITLE, _speed(record)
    steps = Records.read(root / measured.PACKAGED / scaling.FILE, scaling.KIND)
    yield "Machines", scaling.TITLE, scaling.sentence(list(steps.rows.values())).partition(" The cost")[0]


def _claims(root: Path) -> str:
    """Count the verdicts of the ledger on each model."""
    lines, parts = measured.measured_ledger(root).lines, []
    for size, name in ((SMALL, f"a base of {SMALL} parameters"), (LARGE, f"SmolLM2 ({LARGE})")):
        counts = Counter(line.verdict(size) for line in lines if line.measured.get(size))
        parts.append(
            f"on {name}, {counts['shown']} are shown, {counts['refuted']} refuted, {counts['undecided']} undecided"
        )
    return f"The ledger judges claims from papers: {'; '.join(parts)}."


def _accuracy(founded: Founding) -> str:
    reviews = founded.results["reviews"]
    lora, full = (reviews.reached(row).show(1) for row in ("lora", "full"))
    return (
        f"On film reviews, SmolLM2-135M as it is gives {reviews.level(reviews.base)} % right answers. LoRA, which "
        f"trains {show_share(reviews.share('lora'))} of its parameters, brings it to {lora} %, full fine-tuning to "
        f"{full} %."
    )


def _memory(founded: Founding) -> str:
    full, lora, qlora = (show_bytes(founded.peak(row) or 0) for row in ("full", "lora", "qlora"))
    return f"A training step of SmolLM2 needs {full} with full fine-tuning, {lora} with LoRA and {qlora} with QLoRA."


def _forgetting(retention: Any) -> str:
    ranks = retention.law(retention.steps)[0].values()
    return (
        f"On the small base, full fine-tuning gains {retention.gain('full'):.3f} bits per character and LoRA "
        f"{retention.gain('lora'):.3f}. What any method forgets rises with how far its predictions move from the "
        f"base's (KL): over all methods and rates, the rank correlation is at least {min(ranks):.2f}."
    )


def _rank(rank: Any) -> str:
    fixed, default = (f"{exp(rank.change(rule).mean):.2g}" for rule in ("16", "2r"))
    return (
        f"From rank {rank.values[0]} to rank {rank.values[-1]}, LoRA's best learning rate changes by a factor of "
        f"{fixed} if alpha stays at 16, and of {default} if alpha is twice the rank."
    )


def _context(windows: Any) -> str:
    narrow, wide = windows.sizes[0], windows.sizes[-1]
    trained = windows.bits(narrow, "trained", "lora", narrow)
    lora = f"; LoRA, trained and read in windows of {narrow}, needs {trained.mean:.3f}" if trained else ""
    return (
        f"On NumPy's documentation, SmolLM2 needs {windows.base(narrow):.3f} bits per character if it reads {narrow} "
        f"tokens at a time and {windows.base(wide):.3f} if it reads {wide:,}{lora}."
    )


def _merging(study: Any) -> str:
    base = study.base["domain"]
    merged, rounded = (base - study.of_size(number, 0.0).mean for number in ("float", "requantized"))
    return (
        f"LoRA on SmolLM2 in 4 bits keeps {100 * rounded / merged:.0f} % of its gain if it is merged and the result is "
        "rounded to 4 bits again."
    )


def _speed(record: dict) -> str:
    rows = {name: f"SmolLM2-135M, 4 x 128, {name.lower()}" for name in ("LoRA", "QLoRA")}
    ratios = {name: speed.ratio(record, row) for name, row in rows.items()}
    shown = listed(f"{ratio:.2f} times ({name})" for name, ratio in ratios.items() if ratio)
    machine = record["machine"]
    return (
        f"A training step of SmolLM2 is {shown} as fast as in transformers or PyTorch, whichever is faster, on "
        f"{machine['cores']} cores of an {machine['processor']['name']}."
    )
