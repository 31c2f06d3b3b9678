"""The record of what teaching the jargon came to: what docs/results.md, the lessons and a notebook show of it.

    minilora demo --model smollm2 --out runs/demo
    python -m experiments.results.page --jargon runs/demo/results.json

keeps of the demo's results what they need, and brings page and texts up to date. Notebook 13, which shows the record
too, is made anew by `python -m notebooks.make 13`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.results.tables import markdown
from minilora.demo import teach_report
from minilora.errors import FormatError, MiniloraError, escape
from minilora.formats.atomic import read_json, show_path
from minilora.show.grids import Grid, show_bytes, show_count, show_seconds, show_share
from notebooks.figures import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "jargon.json"
KEPT = ("model", "parameters", "subject", "rows", "training", "replay", "samples", "shots", "quiz_questions", "command",
        "date", "seconds", "peak_rss", "quick", "machine")  # fmt: skip
TRAINING = ("trainable", "steps", "seconds", "lr", "rank", "adapter_bytes")
SAMPLES = 3  # of each test
CAUTION = "This is a quick run, whose few steps teach next to nothing: its numbers say nothing of the method."


def trimmed(results: dict) -> dict:
    """The record of a demo's results, without its losses, its paths and most of its samples. A record stays as it is.

    Raises MiniloraError for results of a reader's own model, questions or text, and for those of another demo.
    """
    if not {*KEPT} <= results.keys() or [*results["rows"]] != [*teach_report.ROWS]:
        raise MiniloraError("these are no results of minilora demo --model smollm2")
    expected = f"minilora demo --model smollm2{' --quick' * results['quick']}"
    if results["command"] != expected:
        raise MiniloraError(f"it is of {escape(results['command'])!r}, and should be of {expected!r}")
    training = {name: results["training"][name] for name in TRAINING}
    samples = teach_report.first_samples(results, SAMPLES)
    return {name: results[name] for name in KEPT} | {"training": training, "samples": samples}


def read(path: Path) -> dict:
    """Return the record in the file at `path`, or what is kept of a results.json. FormatError for anything else."""
    content = read_json(path)
    try:
        return trimmed(content)
    except (KeyError, TypeError, AttributeError, MiniloraError) as error:
        raise FormatError(f"{show_path(path)} is no record of the jargon: {escape(str(error), 300)}") from error


def values(record: dict) -> dict[str, str]:
    """Return {name: as it is printed}, each name with `jargon.` before it.

    ROW.TEST.f1, .exact, ROW.tokens, .time, .quiz, .other_text of the rows before, few-shot, open-book and after;
    ROW.pays_off of few-shot and open-book; trainable, share, steps, train_time, time, memory, adapter, replay; table,
    claims, caution.
    """
    rows, training = record["rows"], record["training"]
    found = {
        "trainable": show_count(training["trainable"]),
        "share": show_share(training["trainable"] / record["parameters"]),
        "steps": f"{training['steps']:,}",
        "train_time": show_seconds(training["seconds"]),
        "time": show_seconds(record["seconds"]),
        "memory": show_bytes(record["peak_rss"]),
        "adapter": show_bytes(training["adapter_bytes"]),
        "replay": str(record["replay"]),
        "table": f"\n\n{markdown(teach_report.scores_grid(record))}\n\n",
        "claims": " ".join(teach_report.claims(record)),
        "caution": CAUTION * record["quick"],
    }
    for name, row in rows.items():
        start = name.replace(" ", "-")
        for test, score in row["scores"].items():
            found |= {f"{start}.{test}.{what}": f"{100 * score[what]:.0f} %" for what in ("f1", "exact")}
        found |= {f"{start}.tokens": f"{row['prompt_tokens']:.0f}", f"{start}.time": f"{row['seconds']:.2f} s"}
        if "quiz" in row:
            found |= {f"{start}.quiz": str(row["quiz"]), f"{start}.other_text": f"{row['other_text']:.3f}"}
        else:
            found[f"{start}.pays_off"] = pays_off(training["seconds"], row["seconds"], rows["after"]["seconds"])
    return {f"jargon.{name}": text for name, text in found.items()}


def pays_off(training: float, prompted: float, trained: float) -> str:
    """When training has paid for itself: from its seconds and those of a question, by prompt and trained."""
    if prompted <= trained:
        return "never (a question by prompt took no longer)"
    return f"after {training / (prompted - trained):,.0f} questions"


def samples_grid(record: dict) -> Grid:
    """What was answered, each way of asking."""
    rows = [
        tuple(_plain(sample[name]) for name in ("question", "expected", *teach_report.ROWS))
        for sample in record["samples"]
    ]
    header = ("question", "expected", *teach_report.ROWS.values())
    return Grid(
        "In its own words", header, rows, f"The first {SAMPLES} questions of each test; answers may be cut off."
    )


def _plain(text: str) -> str:
    """Return a text that a model wrote, for a cell of a page's table: one line, and nothing in it is a mark."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return re.sub(r"([\\`*_{}\[\]<>|#$&~])", r"\\\1", line) or "–"


def scores(record: dict) -> Figure:
    """Words shared with the expected answer, by way of asking, for questions that were never trained on."""
    groups = {
        teach_report.ROWS[name]: {test: 100 * score["f1"] for test, score in row["scores"].items()}
        for name, row in record["rows"].items()
    }
    title = "The glossary, asked in four ways" + " (quick run)" * record["quick"]
    return pictures.grouped_bars(title, groups, "F1 (%): words shared with the expected answer", 100)


FIGURES = {"jargon": scores}
