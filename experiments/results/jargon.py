"""The record of what teaching the jargon came to: what docs/results.md, the lessons and a notebook show of it.

`python -m experiments jargon` teaches it once a seed and keeps of each run what they need. Notebook 13, which shows the
record too, is made anew by `python -m notebooks.make 13`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from experiments.results.tables import markdown
from minilora.data.jargon import HELD_OUT_PHRASINGS
from minilora.demo import teach, teach_report
from minilora.errors import FormatError, MiniloraError, escape
from minilora.formats.atomic import read_json, show_path
from minilora.show.grids import Grid, listed, show_bytes, show_count, show_seconds, show_share
from minilora.train.metrics import token_f1
from notebooks.figures import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND, FILE = "jargon", "jargon.json"
KEPT = ("model", "parameters", "subject", "rows", "training", "replay", "samples", "shots", "quiz_questions", "command",
        "date", "seconds", "peak_rss", "quick", "machine")  # fmt: skip
TRAINING = ("trainable", "steps", "seconds", "lr", "rank", "adapter_bytes")
SAMPLES = 3  # of each test
CAUTION = "This is a quick run, whose few steps teach next to nothing: its numbers say nothing of the method."


def record_of(results: Sequence[Path]) -> dict:
    """Return what is kept of the results.json of several runs: most samples and paths go. FormatError for others."""
    return {"runs": [_checked(path, read_json(path)) for path in results]}


def read(path: Path) -> dict:
    """Return the record in the file at `path`: {"runs": what is kept of each seed's}. FormatError for anything else."""
    runs = read_json(path).get("runs")
    if not isinstance(runs, list) or not runs:
        raise FormatError(f"{show_path(path)} is no record of the jargon: it has no runs")
    return {"runs": [_checked(path, run) for run in runs]}


def _checked(path: Path, run: dict) -> dict:
    try:
        if not {*KEPT} <= run.keys() or [*run["rows"]] != [*teach_report.ROWS]:
            raise KeyError("the results of minilora demo --model smollm2 have other parts")
        training = {name: run["training"][name] for name in TRAINING}
        by_wording = run["by_wording"] if "by_wording" in run else _by_wording(run["samples"])
        samples = teach_report.first_samples(run, SAMPLES)
    except (KeyError, TypeError, AttributeError, MiniloraError) as error:
        raise FormatError(f"{show_path(path)} is no record of the jargon: {escape(str(error), 300)}") from error
    return {name: run[name] for name in KEPT} | {"training": training, "samples": samples, "by_wording": by_wording}


def as_cells(record: dict) -> tuple[dict, dict[tuple, dict]]:
    """Return a header and cells, as files of other records have them: each run is a cell."""
    one, cells = record["runs"][0], {("taught", seed): run["training"] for seed, run in enumerate(record["runs"])}
    settings = {"model": one["model"]} | {name: one["training"][name] for name in ("steps", "lr", "rank")}
    return {"minilora": KIND, "settings": settings}, cells


def today(model: str) -> tuple[dict, Callable[..., dict]]:
    """Return the settings of a run as it would be now, and what runs it at a seed."""
    full = teach.FULL

    def again(_: str, seed: int) -> dict:
        with TemporaryDirectory() as folder:
            return teach.run(Path(folder), model, seed=seed)

    return {"steps": full.train.steps, "lr": full.train.peak_lr, "rank": full.options.rank}, again


def _by_wording(samples: Sequence[dict]) -> list[float]:
    """Return F1 after training over the questions in each wording that training did not have."""
    parts: list[list[float]] = []
    for start, end in (wording.split("{term}") for wording in HELD_OUT_PHRASINGS):
        of_wording = [s for s in samples if s["question"].startswith(start) and s["question"].endswith(end)]
        parts.append([token_f1(sample["after"], sample["expected"]) for sample in of_wording])
    return [float(np.mean(part)) for part in parts if part]


def values(record: dict) -> dict[str, str]:
    """Return {name: as it is printed}, each name with `jargon.` before it.

    ROW.TEST.f1, ROW.time, .quiz, .other_text of the rows before, few-shot, open-book and after; ROW.pays_off of two;
    trainable, share, train_time, time, adapter, replay; wordings, scatter; table, caution.
    """
    runs, run = record["runs"], record["runs"][0]
    training = run["training"]

    def average(row: str, name: str) -> float:
        return float(np.mean([one["rows"][row][name] for one in runs]))

    trained = float(np.mean([one["training"]["seconds"] for one in runs]))
    found = {
        "trainable": show_count(training["trainable"]),
        "share": show_share(training["trainable"] / run["parameters"]),
        "train_time": show_seconds(trained),
        "time": show_seconds(float(np.mean([one["seconds"] for one in runs]))),
        "adapter": show_bytes(training["adapter_bytes"]),
        "replay": str(run["replay"]),
        "table": f"\n\n{markdown(teach_report.scores_grid(runs))}\n\n",
        "wordings": in_wordings(runs),
        "caution": CAUTION * run["quick"],
    }
    for name in run["rows"]:
        start, seconds = name.replace(" ", "-"), average(name, "seconds")
        found |= {f"{start}.{test}.f1": teach_report.percent(runs, name, test) for test in ("phrasings", "uses")}
        found[f"{start}.time"] = f"{seconds:.2f} s"
        if "quiz" in run["rows"][name]:
            for what, digits in (("quiz", 0), ("other_text", 3)):
                found[f"{start}.{what}"] = teach_report.mean((one["rows"][name][what] for one in runs), digits)
        elif (saved := seconds - average("after", "seconds")) > 0:
            found[f"{start}.pays_off"] = f"after {trained / saved:,.0f} questions"
        else:
            found[f"{start}.pays_off"] = "never (a question by prompt took no longer)"
    return {f"jargon.{name}": text for name, text in found.items()}


def in_wordings(runs: Sequence[dict]) -> str:
    """Say how well the terms are known in each of the wordings that training did not have."""
    by_wording = zip(HELD_OUT_PHRASINGS, *(run["by_wording"] for run in runs), strict=False)  # none in an older run
    shown = [f"{teach_report.mean(100 * f1 for f1 in f1s)} % in “{w.format(term='…')}”" for w, *f1s in by_wording]
    return f"Wording by wording: {listed(shown)}." if shown else ""


def samples_grid(record: dict) -> Grid:
    """What was answered, each way of asking."""
    rows = [
        tuple(_plain(sample[name]) for name in ("question", "expected", *teach_report.ROWS))
        for sample in record["runs"][0]["samples"]
    ]
    header = ("question", "expected", *teach_report.ROWS.values())
    caption = f"The first {SAMPLES} questions of each test, of the first run; answers may be cut off."
    return Grid("In its own words", header, rows, caption)


def _plain(text: str) -> str:
    """Return a text that a model wrote, for a cell of a page's table: one line, and nothing in it is a mark."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return re.sub(r"([\\`*_{}\[\]<>|#$&~])", r"\\\1", line) or "–"


def scores(record: dict) -> Figure:
    """Words shared with the expected answer, by way of asking, for questions that were never trained on."""
    runs = record["runs"]
    groups = {
        words: {
            test: 100 * float(np.mean([run["rows"][name]["scores"][test]["f1"] for run in runs]))
            for test in runs[0]["rows"][name]["scores"]
        }
        for name, words in teach_report.ROWS.items()
    }
    title = "The glossary, asked in four ways" + " (quick run)" * runs[0]["quick"]
    return pictures.grouped_bars(title, groups, "F1 (%): words shared with the expected answer", 100)


FIGURES = {"jargon": scores}
