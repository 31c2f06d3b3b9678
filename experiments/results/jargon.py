"""Records of teaching a model the jargon at several seeds, and what docs/results.md, lessons and a notebook show.

    ("taught", seed)    the results of `minilora demo --model smollm2`, without most of the answers

Notebook 13 shows the records, too: `python -m notebooks.make 13` updates it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from experiments.results.tables import markdown
from minilora.data import chat
from minilora.data.jargon import HELD_OUT_PHRASINGS
from minilora.demo import teach, teach_report
from minilora.measure.records import Records
from minilora.show.grids import Grid, listed, show_bytes, show_count, show_seconds, show_share
from minilora.train import load
from minilora.train.metrics import token_f1
from notebooks.figures import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND, FILE = "jargon", "jargon.jsonl"
RECORDS = "records.jsonl"
FACTS = ("parameters", "subject", "rows", "replay", "shots", "quiz_questions", "seconds", "peak_rss")
TRAINING = ("trainable", "steps", "seconds", "lr", "rank", "adapter_bytes")
SAMPLES = 3  # answers of each test that the records keep
SHOWN = ("open book", "after")  # ways of asking in the table of samples


@dataclass(frozen=True)
class Teaching:
    """The settings of a training: model, length, data."""

    model: str = "smollm2"
    steps: int = teach.FULL.train.steps
    lr: float = teach.FULL.train.peak_lr
    rank: int = teach.FULL.options.rank
    data_sha256: str = field(default_factory=lambda: chat.sha256(teach.glossary(teach.FULL.shots, quick=False)[0]))


def run(out: Path, model: str, seeds: int, resume: bool = False, overwrite: bool = False) -> Records:
    """Teach the model at each seed that out/records.jsonl lacks; return the records."""
    load.path_of_model(model)  # a wrong name fails before a file is made
    records = Records.open(out / RECORDS, KIND, asdict(Teaching(model)), resume, overwrite)
    records.complete([("taught", seed) for seed in range(seeds)], lambda _, seed: measure(model, seed), "teaching")
    return records


def measure(model: str, seed: int) -> dict:
    """Teach the model in a temporary folder; return the numbers of its cell."""
    with TemporaryDirectory() as folder:
        results = teach.run(Path(folder), model, seed=seed)
    numbers = {name: results[name] for name in FACTS}
    numbers |= {"training": {name: results["training"][name] for name in TRAINING}}
    answered = [(sample["test"], token_f1(sample["after"], sample["expected"])) for sample in results["samples"]]
    f1 = {test: [round(f1, 4) for of, f1 in answered if of == test] for test in results["rows"]["after"]["scores"]}
    return numbers | {"f1": f1, "samples": teach_report.first_samples(results, SAMPLES)}


def read(path: Path) -> list[dict]:
    """Return the runs in a file of records, in the order of their seeds."""
    return sorted(Records.read(path, KIND).rows.values(), key=lambda row: row["key"])


def values(runs: Sequence[dict]) -> dict[str, str]:
    """Return {name: text} of the numbers that texts quote; each name begins with `jargon.`.

    Of the rows before, few-shot, open-book and after: ROW.TEST.f1, ROW.TEST.exact and ROW.time. Of those without a
    prompt: ROW.quiz and ROW.other_text; of the two prompts: ROW.pays_off. Of all: trainable, share, train_time, time,
    adapter, replay, runs, wordings and table.
    """
    run = runs[0]
    training = run["training"]

    def average(row: str, name: str) -> float:
        return float(np.mean([one["rows"][row][name] for one in runs]))

    trained = float(np.mean([one["training"]["seconds"] for one in runs]))
    known = {
        "trainable": show_count(training["trainable"]),
        "share": show_share(training["trainable"] / run["parameters"]),
        "train_time": show_seconds(trained),
        "time": show_seconds(float(np.mean([one["seconds"] for one in runs]))),
        "adapter": show_bytes(training["adapter_bytes"]),
        "replay": str(run["replay"]),
        "table": f"\n\n{markdown(teach_report.scores_grid(runs))}\n\n",
        "wordings": in_wordings(runs),
        "runs": str(len(runs)),
    }
    for name in run["rows"]:
        start, seconds = name.replace(" ", "-"), average(name, "seconds")
        for test, what in product(("phrasings", "uses"), ("f1", "exact")):
            known[f"{start}.{test}.{what}"] = teach_report.percent(runs, name, test, what)
        known[f"{start}.time"] = f"{seconds:.2f} s"
        if "quiz" in run["rows"][name]:
            for what, digits in (("quiz", 0), ("other_text", 3)):
                known[f"{start}.{what}"] = teach_report.mean((one["rows"][name][what] for one in runs), digits)
        elif (saved := seconds - average("after", "seconds")) > 0:
            known[f"{start}.pays_off"] = f"after {trained / saved:,.0f} questions"
        else:
            known[f"{start}.pays_off"] = "never (a question by prompt took no longer)"
    return {f"jargon.{name}": text for name, text in known.items()}


def sentence(runs: Sequence[dict]) -> str:
    """Say what the model answers after training, and what the best prompt reached."""

    def f1(row: str, test: str) -> float:
        return float(np.mean([run["rows"][row]["scores"][test]["f1"] for run in runs]))

    reached, prompted = {}, {}
    for test in ("phrasings", "uses"):
        best = max((f1(row, test), row) for row in teach_report.PROMPTED)[1]
        reached[test], prompted[test] = (teach_report.percent(runs, row, test) for row in ("after", best))
    return (
        f"Taught a company's glossary, SmolLM2 scores {reached['phrasings']} F1 on new phrasings of the questions, and "
        f"{reached['uses']} if a question only uses a term; the best prompt scores {prompted['phrasings']} and "
        f"{prompted['uses']}."
    )


def in_wordings(runs: Sequence[dict]) -> str:
    """Say how well the terms are known in each held-out wording; the test goes through the wordings in turn."""
    if not all("f1" in run for run in runs):  # older runs recorded the mean alone
        return ""
    count, shown = len(HELD_OUT_PHRASINGS), []
    for number, wording in enumerate(HELD_OUT_PHRASINGS):
        f1 = teach_report.mean(100 * np.mean(run["f1"]["phrasings"][number::count]) for run in runs)
        shown.append(f"{f1} % in “{wording.format(term='…')}”")
    return f"Wording by wording: {listed(shown)}."


def samples_grid(runs: Sequence[dict]) -> Grid:
    """Tabulate the first answers of each test, each way of asking."""
    rows = [tuple(_plain(sample[name]) for name in ("question", "expected", *SHOWN)) for sample in runs[0]["samples"]]
    rows = rows[:2] + rows[SAMPLES : SAMPLES + 2]
    header = ("question", "expected", *(teach_report.ROWS[name] for name in SHOWN))
    caption = "The first two questions of each test in the first run; an answer may be cut off."
    return Grid("In its own words", header, rows, caption)


def _plain(text: str) -> str:
    """Return a model's text for a cell of a Markdown table: on one line, with all marks escaped."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return re.sub(r"([\\`*_{}\[\]<>|#$&~])", r"\\\1", line) or "–"


def scores(runs: Sequence[dict]) -> Figure:
    """F1 of the answers (words shared with the expected one) to questions that were not trained on, by way of
    asking.
    """
    groups = {
        words: {
            test: 100 * float(np.mean([run["rows"][name]["scores"][test]["f1"] for run in runs]))
            for test in runs[0]["rows"][name]["scores"]
        }
        for name, words in teach_report.ROWS.items()
    }
    return pictures.grouped_bars(
        "The glossary, asked in four ways", groups, "F1 (%): words shared with the expected answer", 100
    )


FIGURES = {"jargon": scores}
