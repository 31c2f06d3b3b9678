"""What a comparison on a published model says: tables and figures, each a function of the records alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.compare_model import KIND, PROBE, PROMPTED, RECORDS, ROWS
from experiments.comparison_report import megabytes, plot_forgetting, plot_quality, show_size
from minilora.errors import escape
from minilora.measure.curve_report import interval_in_words
from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.measure.statistics import Interval, items_interval, paired_interval
from minilora.show import style
from minilora.show.grids import NAMES, Grid, Spread, listed, seeds_in_words, show_share, show_signed
from minilora.train.defaults import BATCH_SIZE, TEXT_LENGTH
from notebooks.figures.memory import KINDS
from notebooks.figures.pictures import name_far_point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = NAMES | {
    "feature-extraction": "vocabulary head",  # a copy of it trains, with a number for each token
    PROBE: "feature extraction (probe)",
    "pfeiffer": "adapters",
    "houlsby": "adapters, two per block",
    "lora-qv": "LoRA on q and v",
    "lora": "LoRA on all linears",
}
REFERENCE = "lora"  # that rows are compared with, example by example
VARIANTS = ("rslora", "lora-plus", "dora", "pissa", "vera", "qlora")  # of LoRA on all linears
# Claims of the ledger and the founding table about gains against these rows. They share the 5 %, so that a contrast has
# the same interval wherever it is printed: full: three rows are near it, LoRA gains less; LoRA: its variants, a prompt.
FAMILY = {"full": 4, "lora": len(VARIANTS) + 1}


def look_of(row: str) -> dict[str, Any]:
    """Return the plot style of a row: its method's, with a hollow marker for variants."""
    if row == PROBE:
        return style.LOOKS["feature-extraction"] | {"markerfacecolor": "white"}
    if row not in ROWS or row in style.LOOKS:
        return style.LOOKS[row]
    filled = {} if row == "pfeiffer" else {"markerfacecolor": "white"}
    return style.LOOKS[ROWS[row].method] | filled


class ModelResult(Result):
    """The records of a comparison, which may be half measured. Accuracies are in percent."""

    def __init__(self, records: Records):
        super().__init__(records)
        self.has_labels = "labels" in self.settings
        self.number, self.scale, self.digits = ("accuracy", 100, 1) if self.has_labels else ("bits", 1, 3)
        self.base = records.rows.get(("base",), {})
        self.rows = [row for row in (PROBE, *ROWS) if self.cells(row)]
        model, data = (escape(Path(self.settings[name]).name, 40) for name in ("model", "data"))
        self.where = f"{model} on {data}"

    @classmethod
    def read(cls, folder: Path) -> ModelResult:
        """Return the records in a comparison's folder. Raises FormatError."""
        return cls(Records.read(Path(folder) / RECORDS, KIND))

    def cells(self, row: str) -> list[dict]:
        """Return what was learned with each seed, the last part of a cell's key; a cell that diverged has nothing."""
        return [one for one in self.records.of(*self._start(row)) if self.number in one]

    @staticmethod
    def _start(row: str) -> tuple[str, ...]:
        return {PROMPTED: ("prompt",), PROBE: (PROBE,)}.get(row, ("trained", row))

    def flaw(self, row: str) -> str:
        """Return what keeps a row from being judged, in two words, or ""."""
        start = self._start(row)
        cells = list(self.records.of(*start))
        if any("error" in one for one in cells):
            return "diverged"
        if any(len(one["key"]) <= len(start) for one in cells):
            return "no seed"
        if not self.has_labels:
            return "" if "window" in self.settings else "no window"
        name = "calibrated_right" if row == PROMPTED else "right"
        has_items = "tested" in self.settings and all(name in one for one in cells)
        return "" if has_items else "no items"

    def bases(self) -> dict[str, dict]:
        """Return the model as it is, and as methods start that quantize it, by label."""
        name = lambda rows: LABELS["base"] + "".join(f", for {LABELS[row]}" for row in rows)  # noqa: E731
        return {name(one["key"][1:]): one for one in self.records.of("base")}

    def level(self, one: dict) -> str:
        """Return accuracy, or bits per character, of a record, as it is shown."""
        return f"{self.scale * one[self.number]:.{self.digits}f}"

    def reached(self, row: str) -> Spread:
        """Return accuracy, or bits per character, over the seeds."""
        return Spread.of(self.scale * one[self.number] for one in self.cells(row))

    def prompted(self) -> Spread:
        """Return what the few-shot prompt reached, calibrated if that was recorded."""
        return Spread.of(self.scores(PROMPTED).values())

    def scores(self, row: str) -> dict[int, float]:
        """Return accuracy, or bits per character, by seed; accuracy of the prompt is calibrated, if it was recorded."""
        rows = {one["key"][-1]: one for one in self.cells(row)}
        is_calibrated = row == PROMPTED and all("calibrated" in one for one in rows.values())
        number = "calibrated" if is_calibrated else self.number
        return {seed: self.scale * one[number] for seed, one in rows.items()}

    def gain(self, reached: Spread) -> float:
        """Points of accuracy more than the base has, or bits per character fewer."""
        return (1 if self.has_labels else -1) * (reached.mean - self.scale * self.base[self.number])

    def share(self, row: str) -> float:
        """Of the base's parameters, how many train."""
        return self.cells(row)[0]["trainable"] / self.base["total"]

    def best_rate(self, row: str) -> float | None:
        """Of the learning rates that were searched; None where none was."""
        found = {one["key"][2]: one["loss"] for one in self.records.of("rate", row) if one["loss"] is not None}
        return min(found, key=found.__getitem__, default=None)

    def forgot(self, row: str, number: str, scale: float = 1) -> Spread:
        """Return how much more of "english" or "quiz" an adapted model has than the base, which a probe leaves."""
        return Spread.of(scale * (one.get(number, self.base[number]) - self.base[number]) for one in self.cells(row))

    def quiz(self, row: str) -> str:
        """Return points of general knowledge won, as they are shown."""
        return f"{self.forgot(row, 'quiz', 100).mean:+.1f}".replace("-", "−")

    def ahead(self, row: str, other: str = REFERENCE, comparisons: int = 1, part: float = 1) -> Interval | None:
        """Return by how much the gain of `row` is above a `part` of the gain of `other`, with the same seeds: points of
        accuracy, or bits saved.

        Over seeds and questions, or over seeds for a text; 95 %, corrected for so many `comparisons`. None if it is the
        same row, no seed was measured of both, one of them has a `flaw`, or the base lacks the items of a part.
        """
        ours, theirs = self.scores(row), self.scores(other)
        seeds = sorted(ours.keys() & theirs.keys())
        if row == other or not seeds or self.flaw(row) or self.flaw(other):
            return None
        if part < 1 and self.has_labels and "right" not in self.base:
            return None
        if self.has_labels and len(seeds) > 1:
            one, beside = self.answers(row), self.answers(other)
            start = (1 - part) * self.right(self.base) if part < 1 else 0.0
            points = np.array([100 * (one[s] - part * beside[s] - start) for s in seeds])
            return items_interval(points, comparisons=comparisons)
        level = (1 - part) * self.scale * self.base[self.number] if part < 1 else 0.0
        better = 1 if self.has_labels else -1
        return paired_interval([better * (ours[s] - part * theirs[s] - level) for s in seeds], comparisons=comparisons)

    def answers(self, row: str) -> dict[int, np.ndarray]:
        """Return `right` of a row, by seed."""
        return {one["key"][-1]: self.right(one) for one in self.cells(row)}

    def right(self, one: dict) -> np.ndarray:
        """(N,): 1 for each question that was answered as expected, by a prompt after calibration."""
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(one.get("calibrated_right", one["right"])), dtype=np.uint8))
        return bits[: self.settings["tested"]].astype(float)

    # Tables

    def quality_grid(self) -> Grid:
        """What each row learned, and what it forgot."""
        rows: list[tuple[str, ...]] = []
        for name, one in self.bases().items():
            rows.append((name, "–", "–", self.level(one), "–", f"{one['english']:.3f}", f"{100 * one['quiz']:.1f}"))
        if self.cells(PROMPTED):
            rows.append((LABELS[PROMPTED], "–", "–", self.reached(PROMPTED).show(self.digits), "–", "–", "–"))
        families = dict.fromkeys(VARIANTS, FAMILY[REFERENCE]) | {"full": FAMILY["full"]}
        others = sum(len(self.scores(row)) > 1 for row in self.rows if row not in (*families, REFERENCE))
        for row in self.rows:
            ahead = self.ahead(row, comparisons=families.get(row, max(1, others)))
            against = ahead.show(self.digits) if ahead else self.flaw(row) or "–"
            knows = (
                ("same", "same") if row == PROBE else (show_signed(self.forgot(row, "english").mean), self.quiz(row))
            )
            rate, level = self.cells(row)[0].get("lr"), self.reached(row).show(self.digits)
            numbers = (show_share(self.share(row)), f"{rate:g}" if rate else "–", level, against, *knows)
            rows.append((LABELS[row], *numbers))
        bad = {row: flaw for row in ROWS if row not in self.rows and (flaw := self.flaw(row))}
        rows += [(LABELS[row], "–", "–", flaw, "–", "–", "–") for row, flaw in bad.items()]
        unit = "accuracy\n%" if self.has_labels else "domain\nbits/char"
        header = ("", "trains", "rate", unit, f"against\n{LABELS[REFERENCE].split()[0]}", "English", "quiz\n%")
        return Grid(f"Learned and forgotten: {self.where}", header, rows, self._caption())

    def _caption(self) -> str:
        settings = self.settings
        if self.has_labels:
            top = max((self.reached(row).mean for row in self.rows), default=50)
            words = f"{settings['examples']} examples to learn from. {interval_in_words(settings['tested'], top)} "
            prompts = {LABELS["base"]: [self.base] * bool(self.base), LABELS[PROMPTED]: [*self.records.of("prompt")]}
            known = {n: Spread.of(100 * one["calibrated"] for one in ones) for n, ones in prompts.items() if ones}
            if known:
                words += f"Calibrated: {', '.join(f'{name} {one.show(1)} %' for name, one in known.items())}. "
        else:
            words = f"{settings['characters']:,} characters to learn from, {settings['text_steps']} steps. "
        words += f"{seeds_in_words(len(self.cells(row)) for row in self.rows)} "
        paired = "seeds and questions" if self.has_labels else "seeds"
        return words + (
            f"Against LoRA: better by so much on the same {paired}, and the 95 % interval of that, corrected for the "
            f"claims about LoRA's variants ({FAMILY[REFERENCE]}), about full fine-tuning ({FAMILY['full']}), and for "
            "all other rows. English and quiz: the base's level, and what an adapted model has more: bits/char of "
            f"plain English lost, points of 60 questions won. {self.window_in_words()}"
        )

    def window_in_words(self) -> str:
        """Return the sentence on how much of a text is read at a time."""
        window = self.settings.get("window")
        return f"Texts are read in windows of {window} tokens." if window else "The window is not recorded."

    def cost_grid(self) -> Grid:
        """What each row needs, as far as it was measured."""

        def column(cell: str, name: str, header: str, show: Callable[[Any], str]) -> Column:
            return Column(header, lambda row: self.records.rows.get((cell, row), {}).get(name), show)

        columns = [
            *(column("memory", kind, kind[:3], megabytes) for kind in (*KINDS, "peak")),
            column("memory", "process", "all", megabytes),
            Column("file", lambda row: self.cells(row)[0]["file_bytes"], show_size),
            column("cost", "step_seconds", "s per\nstep", "{:.2f}".format),
            column("cost", "adapted", "tok/s", "{:.0f}".format),
            column("cost", "milliseconds", "ms per\nquery", "{:.0f}".format),
        ]
        measured = {row for kind in ("memory", "cost") for _, row in (one["key"] for one in self.records.of(kind))}
        size = "examples, padded to the longest," if self.has_labels else f"windows of {TEXT_LENGTH} tokens"
        caption = (
            f"MB of a training step of {BATCH_SIZE} {size} in float32 on one thread: weights, gradients, optimizer and "
            "activations alive after a forward pass, the most bytes alive at once (pea), the whole process with Python "
            "(all). File: what is saved. Seconds of a step with all cores; tokens per second and milliseconds of a "
            "question on one thread."
        )
        if names := sorted({one["processor"] for one in self.records.of("cost") if "processor" in one}):
            caption += f" Times: {escape(listed(names))}."
        rows = {LABELS[row]: (row,) for row in self.rows if row in measured}
        return table(f"What it costs: {self.where}", columns, rows, caption, first="")

    def grids(self) -> list[Grid]:
        """Return the tables of which anything was measured."""
        return [grid for grid in (self.quality_grid(), self.cost_grid()) if grid.rows]

    # Figures

    @style.styled
    def quality_against_share(self) -> Figure | None:
        """Quality on held-out data against the share of the parameters that trains."""
        if not self.rows:
            return None
        points = {row: (100 * self.share(row), self.reached(row)) for row in self.rows}
        levels = {"base": self.scale * self.base[self.number]} if self.base else {}
        levels |= {PROMPTED: self.prompted().mean} if self.cells(PROMPTED) else {}
        figure, axes = plot_quality(f"Quality against what trains: {self.where}", points, levels, look_of, LABELS)
        if not self.has_labels:  # then less is better, and far up is bad
            name_far_point(axes, points, levels.values())
        window = f" in windows of {self.settings.get('window', '?')} tokens"
        unit = "right on held-out questions (%)" if self.has_labels else f"bits/character{window}\n(less is better)"
        axes.set(xlabel="share of the parameters that trains (%, logarithmic)", ylabel=unit)
        return style.with_legend(figure, 3)

    @style.styled
    def learned_against_forgotten(self) -> Figure | None:
        """What was learned against what was forgotten: of plain English where labels were learned, of general knowledge
        where a text was, since training on a text brings a chat model closer to any plain text.
        """
        aside = {"scratch", PROBE} | ({"feature-extraction"} if self.has_labels else set())  # heads for labels
        rows = [row for row in self.rows if row not in aside]
        if not rows or not self.base:
            return None
        points = {}
        for row in rows:
            won, lost = self.reached(row), self.forgot(row, *(("english", 1) if self.has_labels else ("quiz", -100)))
            points[row] = (self.gain(won), won.deviation, lost.mean, lost.deviation)
        window = f"in windows of {self.settings.get('window', '?')} tokens"
        learned = "points of accuracy" if self.has_labels else f"bits/character saved on the domain, {window}"
        lost_unit = "bits/character\nlost on plain English" if self.has_labels else "points lost\non general knowledge"
        title = f"Learned against forgotten: {self.where}"
        figure, _ = plot_forgetting(title, points, look_of, LABELS, learned, f"forgotten: {lost_unit}")
        return style.with_legend(figure, 3)


FIGURES = {draw.__name__: draw for draw in (ModelResult.quality_against_share, ModelResult.learned_against_forgotten)}
