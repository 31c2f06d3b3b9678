"""Report of a curve: a table, a figure and a sentence of advice, made from its records."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minilora.errors import escape
from minilora.measure import word_counts
from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.measure.statistics import Interval, items_interval, paired_interval
from minilora.measure.task_report import CALIBRATED
from minilora.show import style
from minilora.show.grids import IN_SENTENCES, NAMES, Grid, Spread, drawn, listed, seeds_in_words, show_seconds
from minilora.train.metrics import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console


UNDRAWN = ("prompt", 0)  # has no examples to draw and so a single cell, which is compared with every seed of others


class Way(NamedTuple):
    """A way to answer questions: the key of its cells without the seed, the metric to judge it by, and its scores."""

    key: tuple
    number: str
    spread: Spread


class CurveResult(Result):
    """Results of a curve. Accuracy and F1 are in percent."""

    def __init__(self, records: Records):
        super().__init__(records)
        self.has_labels = self.settings["labels"] is not None
        self.number, self.unit = ("accuracy", "right") if self.has_labels else ("f1", "F1")
        model, data = (escape(Path(self.settings[name]).name, 40) for name in ("model", "data"))
        self.where = f"{model} on {data}"
        self.trained = [(method, n) for method in self.parts("trained") for n in self.parts("trained", method)]
        self.words_kind = "words" if "words" in self.settings else "bayes"  # the name in older files
        self.baseline = self.settings.get("words", word_counts.NAIVE_BAYES)

    def reached(self, *start) -> Spread:
        """Return accuracy or F1, in percent, over the seeds."""
        return self.spread(self.number, *start, scale=100)

    def calibrated(self, *start) -> Spread | None:
        """Return accuracy after calibration; None if it was not measured."""
        is_measured = any("calibrated" in row for row in self.records.of(*start))
        return self.spread("calibrated", *start, scale=100) if is_measured else None

    def way(self, *key) -> Way:
        return Way(key, self.number, self.reached(*key))

    def best(self, kind: str) -> Way:
        """Return the way of this kind with the highest accuracy or F1; prompts compete with and without calibration."""
        ways = []
        for key in dict.fromkeys(key[:-1] for key in self.records.rows if key[0] == kind):
            ways.append(self.way(*key))
            if kind == "prompt" and (calibrated := self.calibrated(*key)):
                ways.append(Way(key, "calibrated", calibrated))
        return max(ways, key=lambda way: way.spread.mean)

    def best_words(self) -> Way | None:
        """Return the best word-count baseline; None for free answers."""
        return self.best(self.words_kind) if self.has_labels else None

    def lead(self, one: Way, other: Way) -> Interval:
        """Return the interval of how many points `one` is ahead of `other`, over the seeds that both have.

        The interval is corrected for comparing three ways. It covers other seeds and other questions (with one seed,
        only other questions). For free answers, and in older files without a list of the wrong answers, it covers only
        other seeds.
        """
        comparisons = 3 if self.has_labels else 1
        ours, theirs = ({row["key"][-1]: row for row in self.records.of(*way.key)} for way in (one, other))
        if one.key == UNDRAWN:
            ours = dict.fromkeys(theirs, *ours.values())
        if other.key == UNDRAWN:
            theirs = dict.fromkeys(ours, *theirs.values())
        pairs = [(row, theirs[seed]) for seed, row in ours.items() if seed in theirs]
        if pairs and all(
            f"{way.number}_wrong" in row for pair in pairs for way, row in zip((one, other), pair, strict=True)
        ):
            points = [100 * (self.right(one, row) - self.right(other, beside)) for row, beside in pairs]
            return items_interval(np.array(points), comparisons=comparisons)
        scores = [100 * (row[one.number] - beside[other.number]) for row, beside in pairs]
        return paired_interval(scores, comparisons=comparisons)

    def right(self, way: Way, row: dict) -> np.ndarray:
        """Return an array with 1 for each question that was answered right, 0 for the others."""
        return 1 - np.bincount(row[f"{way.number}_wrong"], minlength=self.settings["test_examples"])

    def is_ahead(self, one: Way, other: Way) -> bool:
        """Return True if the whole interval of the lead is above 0; without an interval (one seed), if its mean is."""
        lead = self.lead(one, other)
        return lead.low > 0 if lead.df else lead.mean > 0

    def cost(self, *kind) -> dict:
        """Return milliseconds and tokens per query, {} for word counts. All trainings of a method cost the same."""
        return self.records.rows.get(("cost", *(kind[1:2] if kind[0] == "trained" else kind)), {})

    def crossover(self, method: str, n: int) -> int | None:
        """Return the number of queries after which training has saved its own time, compared with the best prompt."""
        prompted, trained = self.cost(*self.best("prompt").key), self.cost(method)
        saved = prompted["milliseconds"] - trained["milliseconds"]
        if prompted["tokens"] <= trained["tokens"] or saved <= 0:  # shorter times at equal tokens are noise
            return None
        return ceil(1000 * self.spread("seconds", "trained", method, n).mean / saved)

    # Shown

    def grid(self) -> Grid:
        rows: dict[str, tuple] = {_prompted(k): ("prompt", k) for k in self.parts("prompt")}
        rows |= {f"{self.baseline}, {n:,} examples": (self.words_kind, n) for n in self.parts(self.words_kind)}
        rows |= {f"{NAMES[method]}, {n:,} examples": ("trained", method, n) for method, n in self.trained}

        def of_training(measure: Callable, kind: str, *of) -> Any:
            return measure(*of) if kind == "trained" else None

        seconds = partial(of_training, lambda *of: self.spread("seconds", "trained", *of).mean)
        columns = [
            Column("accuracy\n%" if self.has_labels else "F1\n%", self.reached, lambda spread: spread.show(1)),
            *[Column("calibrated\n%", self.calibrated, lambda spread: spread.show(1))] * self.has_labels,
            Column("tokens", lambda *row: self.cost(*row).get("tokens"), "{:.0f}".format),
            Column("ms", lambda *row: self.cost(*row).get("milliseconds"), "{:,.0f}".format),
            Column("training", seconds, show_seconds),
            Column("pays off\nafter", partial(of_training, self.crossover), "{:,}".format),
        ]
        return table(f"Prompt or fine-tune? {self.where}", columns, rows, self._caption(), first="")

    def _caption(self) -> str:
        count, best, trained = self.settings["test_examples"], self.best("prompt"), self.best("trained")
        words = f"On {count:,} held-out examples."
        if self.has_labels:
            words = interval_in_words(count, max(best.spread.mean, trained.spread.mean))
            words += f" Calibrated: {CALIBRATED}."
        if "words" in self.settings and self.has_labels:
            words += f" {word_counts.MEANING[self.baseline]}"
        words += " Tokens and milliseconds are per query, one at a time on one thread, each reading its whole prompt. "
        words += f"Pays off after: the queries that make up for the training time, against {_in_words(best.key[1])}. "
        if rates := sorted({row["lr"] for row in self.records.of("trained") if "lr" in row}):
            words += f"Learning rate of the training: {listed(f'{rate:g}' for rate in rates)}. "
        return words + seeds_in_words(len(list(self.records.of("trained", *cell))) for cell in self.trained)

    @style.styled
    def figure(self) -> Figure:
        """Accuracy against the number of training examples, with prompts as horizontal lines."""
        figure, axes = style.single(f"Prompt or fine-tune? {self.where}")
        lines: list[tuple] = [(method, NAMES[method], "trained", method) for method in self.parts("trained")]
        for look, label, *start in [*lines, *[("scratch", self.baseline, self.words_kind)] * self.has_labels]:
            sizes = self.parts(*start)
            style.errorbar(axes, look, sizes, [self.reached(*start, n) for n in sizes], label)
        for looks, k in zip(style.SERIES, self.parts("prompt"), strict=False):
            calibrated = self.calibrated("prompt", k)
            level = calibrated or self.reached("prompt", k)
            label = f"{_prompted(k)}{', calibrated' if calibrated else ''}"
            axes.axhline(level.mean, color=style.GREY, linestyle=looks["linestyle"], linewidth=1.4, label=label)
        style.log_ticks(axes, sorted({n for _, n in self.trained} | {*self.parts(self.words_kind)}))
        axes.set(xlabel="examples to train on (logarithmic)", ylabel=f"{self.number} on held-out examples (%)")
        axes.set_ylim(None, 102)
        return style.with_legend(figure)

    def outcome(self) -> str:
        """Return the advice: "fine-tune", "prompt", or "count words" if neither is ahead of the baseline."""
        prompt, trained, words = self.best("prompt"), self.best("trained"), self.best_words()
        ahead = [way for way in (prompt, trained) if words is None or self.is_ahead(way, words)]
        if not ahead:
            return "count words"
        return "fine-tune" if prompt not in ahead or self.is_ahead(trained, prompt) else "prompt"

    def sentence(self) -> str:
        """Return the advice in a sentence, with the numbers behind it."""
        prompt, trained, words, outcome = self.best("prompt"), self.best("trained"), self.best_words(), self.outcome()
        _, method, most = trained.key
        reached = [f"{trained.spread.show(1)} % {self.unit} by {IN_SENTENCES[method]} on {most:,} examples"]
        reached += [f"{prompt.spread.show(1)} % by {_in_words(prompt.key[1])}"]
        reached += [f"{words.spread.show(1)} % by {self.baseline}"] if words else []
        each = "" if UNDRAWN == prompt.key else " each"  # a prompt without examples has no seeds
        seeds = f" ({trained.spread.count} seeds{each})" * (trained.spread.count > 1)
        text = f"{outcome.capitalize()}: {', '.join(reached)}{seeds}."
        if words and outcome == "count words":
            if words.spread.mean >= max(prompt.spread.mean, trained.spread.mean):
                return f"{text} No language model is needed for this task."
            best = max(prompt, trained, key=lambda way: way.spread.mean)
            return f"{text} No language model is shown to be ahead: {self._undecided(best, words)}"
        if outcome == "prompt":
            return f"{text} Training is not shown to be ahead: {self._undecided(trained, prompt)}"
        if words and not self.is_ahead(trained, prompt):
            return f"{text} The prompt is not shown to be ahead of {self.baseline}: {self._undecided(prompt, words)}"
        sizes = {n: self.way("trained", method, n) for n in self.parts("trained", method)}
        # Sizes are tested from the largest down to the first that is not ahead: a fixed order needs no correction.
        behind = [n for n, way in sizes.items() if not self.is_ahead(way, prompt)]
        ahead = [n for n in sizes if not behind or n > behind[-1]]
        training = "Training" if self.lead(trained, prompt).count > 1 else "Training, with the one seed tried,"
        if not ahead:
            return f"{text} {training} is ahead with {most:,} examples."
        return f"{text} {training} is ahead from {ahead[0]:,} examples on{'' if behind else ', the fewest tried'}."

    def _undecided(self, one: Way, other: Way) -> str:
        lead = self.lead(one, other)
        return f"{lead.in_words(1)} points.{' Only one seed was tried; others may differ.' * (lead.count == 1)}"


def interval_in_words(count: int, percent: float) -> str:
    """Say in which interval the true percentage lies, if `percent` of `count` examples were right."""
    low, high = wilson(round(count * percent / 100), count)
    return f"On {count:,} held-out examples, for which {percent:.0f} % means {100 * low:.0f} to {100 * high:.0f} %."


def _prompted(k: int) -> str:
    return f"prompt, {k} example{'' if k == 1 else 's'}"


def _in_words(k: int) -> str:
    return f"the prompt with {k} example{'' if k == 1 else 's'}" if k else "the prompt without examples"


def show(records: Records, out: Path, console: Console) -> None:
    """Print the table and the advice, and write the figure to the folder `out`."""
    result = CurveResult(records)
    console.print(drawn(result.grid()))
    notes = dict.fromkeys(note for row in records.of("trained") for note in row["notes"])
    for line in (result.sentence(), *notes):
        console.print(f"\n{line}", markup=False)
    console.print(f"\nFigure: {style.save(result.figure(), out / 'curve.png').name} in {out}", markup=False)
