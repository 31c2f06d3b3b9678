"""What a curve's records say: a table, a figure and a sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilora.errors import escape
from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.measure.task_report import CALIBRATED
from minilora.show import style
from minilora.show.grids import IN_SENTENCES, NAMES, Grid, Spread, drawn, listed, seeds_in_words, show_seconds
from minilora.train.metrics import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console


class CurveResult(Result):
    """Results of a curve. Accuracy and F1 are in percent."""

    def __init__(self, records: Records):
        super().__init__(records)
        self.has_labels = self.settings["labels"] is not None
        self.number, self.unit = ("accuracy", "right") if self.has_labels else ("f1", "F1")
        model, data = (escape(Path(self.settings[name]).name, 40) for name in ("model", "data"))
        self.where = f"{model} on {data}"
        self.trained = [(method, n) for method in self.parts("trained") for n in self.parts("trained", method)]

    def reached(self, *start) -> Spread:
        """Return accuracy or F1 over the seeds."""
        return self.spread(self.number, *start, scale=100)

    def calibrated(self, *start) -> Spread | None:
        """Return accuracy after calibration; None if it was not measured."""
        is_measured = any("calibrated" in row for row in self.records.of(*start))
        return self.spread("calibrated", *start, scale=100) if is_measured else None

    def best_prompt(self) -> tuple[int, Spread]:
        """Return how many examples in the prompt have the highest accuracy, calibrated or not, and that accuracy."""
        reached = {}
        for k in self.parts("prompt"):
            plain, calibrated = self.reached("prompt", k), self.calibrated("prompt", k)
            reached[k] = calibrated if calibrated and calibrated.mean > plain.mean else plain
        return max(reached.items(), key=lambda item: (item[1].mean, -item[0]))

    def best_trained(self) -> tuple[str, int, Spread]:
        """Return the method and the number of examples with the highest accuracy."""
        reached = [(method, n, self.reached("trained", method, n)) for method, n in self.trained]
        return max(reached, key=lambda one: one[2].mean)

    def best_bayes(self) -> Spread | None:
        """Return the highest accuracy of naive Bayes; None for free answers."""
        return max((self.reached("bayes", n) for n in self.parts("bayes")), key=lambda one: one.mean, default=None)

    def cost(self, *kind) -> dict:
        """Return milliseconds and tokens of a query; nothing for naive Bayes. It is the same for any training."""
        return self.records.rows.get(("cost", *(kind[1:2] if kind[0] == "trained" else kind)), {})

    def crossover(self, method: str, n: int) -> int | None:
        """Return queries after which the time of training is saved, against the best prompt."""
        prompted, trained = self.cost("prompt", self.best_prompt()[0]), self.cost(method)
        saved = prompted["milliseconds"] - trained["milliseconds"]
        if prompted["tokens"] <= trained["tokens"] or saved <= 0:  # as many tokens take as long
            return None
        return ceil(1000 * self.spread("seconds", "trained", method, n).mean / saved)

    # Shown

    def grid(self) -> Grid:
        rows: dict[str, tuple] = {_prompted(k): ("prompt", k) for k in self.parts("prompt")}
        rows |= {f"naive Bayes, {n:,} examples": ("bayes", n) for n in self.parts("bayes")}
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
        count, best, trained = self.settings["test_examples"], self.best_prompt(), self.best_trained()
        words = f"On {count:,} held-out examples."
        if self.has_labels:
            words = interval_in_words(count, max(best[-1].mean, trained[-1].mean)) + f" Calibrated: {CALIBRATED}."
        words += " Tokens and milliseconds per query, one at a time on one thread, the whole prompt read for each. "
        words += f"Pays off: queries that save the time of training, against {_in_words(best[0])}. "
        if rates := sorted({row["lr"] for row in self.records.of("trained") if "lr" in row}):
            words += f"Trained at a learning rate of {listed(f'{rate:g}' for rate in rates)}. "
        return words + seeds_in_words(len(list(self.records.of("trained", *cell))) for cell in self.trained)

    @style.styled
    def figure(self) -> Figure:
        """Accuracy against the examples that were trained on, and the prompts as levels."""
        figure, axes = style.single(f"Prompt or fine-tune? {self.where}")
        lines: list[tuple] = [(method, NAMES[method], "trained", method) for method in self.parts("trained")]
        for look, label, *start in [*lines, *[("scratch", "naive Bayes", "bayes")] * any(self.records.of("bayes"))]:
            sizes = self.parts(*start)
            style.errorbar(axes, look, sizes, [self.reached(*start, n) for n in sizes], label)
        for looks, k in zip(style.SERIES, self.parts("prompt"), strict=False):
            calibrated = self.calibrated("prompt", k)
            level = calibrated or self.reached("prompt", k)
            label = f"{_prompted(k)}{', calibrated' if calibrated else ''}"
            axes.axhline(level.mean, color=style.GREY, linestyle=looks["linestyle"], linewidth=1.4, label=label)
        style.log_ticks(axes, sorted({n for _, n in self.trained}))
        axes.set(xlabel="examples to train on (logarithmic)", ylabel=f"{self.number} on held-out examples (%)")
        axes.set_ylim(None, 102)
        return style.with_legend(figure)

    def outcome(self) -> str:
        """Say what to do: "fine-tune" or "prompt"; "count words" if naive Bayes is no worse than either."""
        best, trained, words = self.best_prompt(), self.best_trained(), self.best_bayes()
        if words is not None and not trained[-1].above(words) and not best[1].above(words):
            return "count words"
        return "fine-tune" if trained[-1].above(best[1]) else "prompt"

    def figures(self) -> str:
        """Return the best of each way."""
        best, trained, words = self.best_prompt(), self.best_trained(), self.best_bayes()
        text = f"{trained[-1].show(1)} % {self.unit} by {IN_SENTENCES[trained[0]]} on {trained[1]:,} examples, "
        text += f"{best[1].show(1)} % by {_in_words(best[0])}"
        return text + (f", {words.show(1)} % by naive Bayes" if words else "")

    def sentence(self) -> str:
        """Say what to do, and the numbers that say so."""
        outcome = self.outcome()
        text = f"{outcome.capitalize()}: {self.figures()}."
        if outcome == "count words":
            return f"{text} No language model is needed for this task."
        if outcome == "prompt":
            return f"{text} Training is not ahead by more than the seeds scatter."
        (method, most, _), best = self.best_trained(), self.best_prompt()[1]
        sizes = self.parts("trained", method)
        behind = [n for n in sizes if not self.reached("trained", method, n).above(best)]
        ahead = [n for n in sizes if not behind or n > behind[-1]]
        if not ahead:
            return f"{text} Training is ahead with {most:,} examples."
        return f"{text} Training is ahead from {ahead[0]:,} examples on{'' if behind else ', the fewest tried'}."


def interval_in_words(count: int, percent: float) -> str:
    """Say how far a percentage of so many examples reaches."""
    low, high = wilson(round(count * percent / 100), count)
    return f"On {count:,} held-out examples, for which {percent:.0f} % means {100 * low:.0f} to {100 * high:.0f} %."


def _prompted(k: int) -> str:
    return f"prompt, {k} example{'' if k == 1 else 's'}"


def _in_words(k: int) -> str:
    return f"the prompt with {k} example{'' if k == 1 else 's'}" if k else "the prompt without examples"


def show(records: Records, out: Path, console: Console) -> None:
    """Print the table and the sentence, and write the figure to `out`."""
    result = CurveResult(records)
    console.print(drawn(result.grid()))
    notes = dict.fromkeys(note for row in records.of("trained") for note in row["notes"])
    for line in (result.sentence(), *notes):
        console.print(f"\n{line}", markup=False)
    paths = style.save_all({"curve": CurveResult.figure}, result, out)
    console.print(f"\nFigure: {', '.join(path.name for path in paths)} in {out}", markup=False)
