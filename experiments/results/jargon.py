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


def read(path: Path) -> dict:
    """Return the record in the file at `path`, or what is kept of a demo's results: without its losses, its paths and
    most of its samples. FormatError for anything else.
    """
    results = read_json(path)
    try:
        if not {*KEPT} <= results.keys() or [*results["rows"]] != [*teach_report.ROWS]:
            raise KeyError("the results of minilora demo --model smollm2 have other parts")
        training = {name: results["training"][name] for name in TRAINING}
        samples = teach_report.first_samples(results, SAMPLES)
    except (KeyError, TypeError, AttributeError, MiniloraError) as error:
        raise FormatError(f"{show_path(path)} is no record of the jargon: {escape(str(error), 300)}") from error
    return {name: results[name] for name in KEPT} | {"training": training, "samples": samples}


def values(record: dict) -> dict[str, str]:
    """Return {name: as it is printed}, each name with `jargon.` before it.

    ROW.TEST.f1, ROW.time, .quiz, .other_text of the rows before, few-shot, open-book and after; ROW.pays_off of two;
    trainable, share, train_time, time, adapter, replay; table, caution.
    """
    rows, training = record["rows"], record["training"]
    found = {
        "trainable": show_count(training["trainable"]),
        "share": show_share(training["trainable"] / record["parameters"]),
        "train_time": show_seconds(training["seconds"]),
        "time": show_seconds(record["seconds"]),
        "adapter": show_bytes(training["adapter_bytes"]),
        "replay": str(record["replay"]),
        "table": f"\n\n{markdown(teach_report.scores_grid(record))}\n\n",
        "caution": CAUTION * record["quick"],
    }
    for name, row in rows.items():
        start, seconds = name.replace(" ", "-"), row["seconds"]
        found |= {f"{start}.{test}.f1": f"{100 * score['f1']:.0f} %" for test, score in row["scores"].items()}
        found[f"{start}.time"] = f"{seconds:.2f} s"
        if "quiz" in row:
            found |= {f"{start}.quiz": str(row["quiz"]), f"{start}.other_text": f"{row['other_text']:.3f}"}
        elif (saved := seconds - rows["after"]["seconds"]) > 0:
            found[f"{start}.pays_off"] = f"after {training['seconds'] / saved:,.0f} questions"
        else:
            found[f"{start}.pays_off"] = "never (a question by prompt took no longer)"
    return {f"jargon.{name}": text for name, text in found.items()}


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
