"""Tables and figures of comparisons on a published model, each a function of the records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.compare_model import KIND, PROBE, PROMPTED, RECORDS, ROWS
from experiments.comparison_report import megabytes, plot_forgetting, plot_quality
from minilora.errors import escape
from minilora.measure.records import Records
from minilora.measure.results import Column, Result
from minilora.measure.statistics import Interval, items_interval, paired_interval
from minilora.show import style
from minilora.show.grids import NAMES, Grid, Spread, show_share
from minilora.train.defaults import BATCH_SIZE
from notebooks.figures.pictures import name_far_point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = NAMES | {
    "feature-extraction": "vocabulary head",  # trained as a copy, with one more number for each token
    PROBE: "feature extraction (probe)",
    "pfeiffer": "adapters",
    "houlsby": "adapters, two per block",
    "lora-qv": "LoRA on q and v",
    "lora": "LoRA on all linears",
}
REFERENCE = "lora"  # the row that others are compared with, example by example
VARIANTS = ("rslora", "lora-plus", "dora", "pissa", "vera", "qlora")  # variants of LoRA on all linears
# Claims of the ledger and the founding table about gains against these rows. They share the 5 %, so that a contrast has
# the same interval wherever it is printed. Four claims are about full: that three rows are near it, and that LoRA gains
# less. Those about LoRA are one for each variant, and one for the prompt.
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
    """The records of one comparison, which may be incomplete. Accuracies are in percent."""

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
        """Read the records in a comparison's folder. Raises FormatError."""
        return cls(Records.read(Path(folder) / RECORDS, KIND))

    def cells(self, row: str) -> list[dict]:
        """Return the cells of a row, one per seed, without those that diverged. The seed is the last part of the
        key.
        """
        return [one for one in self.records.of(*self._start(row)) if self.number in one]

    @staticmethod
    def _start(row: str) -> tuple[str, ...]:
        return {PROMPTED: ("prompt",), PROBE: (PROBE,)}.get(row, ("trained", row))

    def flaw(self, row: str) -> str:
        """Return why a row cannot be judged, in two words, or ""."""
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
        """Return the cells of the model as it is, and as quantized for some methods, by label."""
        name = lambda rows: LABELS["base"] + "".join(f", for {LABELS[row]}" for row in rows)  # noqa: E731
        return {name(one["key"][1:]): one for one in self.records.of("base")}

    def level(self, one: dict) -> str:
        """Write the accuracy, or the bits per character, of a cell."""
        return f"{self.scale * one[self.number]:.{self.digits}f}"

    def reached(self, row: str) -> Spread:
        """Return accuracy, or bits per character, over the seeds."""
        return Spread.of(self.scale * one[self.number] for one in self.cells(row))

    def prompted(self) -> Spread:
        """Return what the few-shot prompt reached, calibrated if that was recorded."""
        return Spread.of(self.scores(PROMPTED).values())

    def scores(self, row: str) -> dict[int, float]:
        """Return accuracy, or bits per character, by seed; a prompt's accuracy is calibrated if that was recorded."""
        cells = {one["key"][-1]: one for one in self.cells(row)}
        is_calibrated = row == PROMPTED and all("calibrated" in one for one in cells.values())
        number = "calibrated" if is_calibrated else self.number
        return {seed: self.scale * one[number] for seed, one in cells.items()}

    def gain(self, reached: Spread) -> float:
        """Return the points of accuracy won, or the bits per character saved, relative to the base."""
        return (1 if self.has_labels else -1) * (reached.mean - self.scale * self.base[self.number])

    def share(self, row: str) -> float:
        """Return the number of trainable parameters as a share of the base's."""
        return self.cells(row)[0]["trainable"] / self.base["total"]

    def best_rate(self, row: str) -> float | None:
        """Return the best learning rate that was searched, None if there was no search."""
        losses = {one["key"][2]: one["loss"] for one in self.records.of("rate", row) if one["loss"] is not None}
        return min(losses, key=losses.__getitem__, default=None)

    def forgot(self, row: str, number: str, scale: float = 1) -> Spread:
        """Return how much "english" or "quiz" has risen over the base's; a probe changes neither."""
        return Spread.of(scale * (one.get(number, self.base[number]) - self.base[number]) for one in self.cells(row))

    def ahead(self, row: str, other: str = REFERENCE, comparisons: int = 1, part: float = 1) -> Interval | None:
        """Return the interval of the gain of `row` minus `part` times the gain of `other`, seed by seed, in points of
        accuracy or in bits saved.

        The interval covers other seeds and other questions (for a text, other seeds), with 95 % corrected for the
        number of `comparisons`. None if it is the same row, no seed was measured of both, one of them has a `flaw`, or
        the base lacks the items of a part.
        """
        ours, theirs = self.scores(row), self.scores(other)
        seeds = sorted(ours.keys() & theirs.keys())
        if row == other or not seeds or self.flaw(row) or self.flaw(other):
            return None
        if part < 1 and self.has_labels and "right" not in self.base:
            return None
        if self.has_labels and len(seeds) > 1:
            answers, others = self.answers(row), self.answers(other)
            start = (1 - part) * self.right(self.base) if part < 1 else 0.0
            points = np.array([100 * (answers[s] - part * others[s] - start) for s in seeds])
            return items_interval(points, comparisons=comparisons)
        level = (1 - part) * self.scale * self.base[self.number] if part < 1 else 0.0
        better = 1 if self.has_labels else -1
        return paired_interval([better * (ours[s] - part * theirs[s] - level) for s in seeds], comparisons=comparisons)

    def answers(self, row: str) -> dict[int, np.ndarray]:
        """Return the right answers of a row by seed; see `right`."""
        return {one["key"][-1]: self.right(one) for one in self.cells(row)}

    def right(self, one: dict) -> np.ndarray:
        """Return (N,): 1 for each question that a cell answered as expected (a prompt: after calibration), else 0."""
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(one.get("calibrated_right", one["right"])), dtype=np.uint8))
        return bits[: self.settings["tested"]].astype(float)

    # Tables

    def generates(self, row: str) -> float | None:
        """Return a row's tokens per second over those of the base, which took turns with it.

        Rates of two rows cannot be compared: the machine's own speed changed from row to row.
        """
        cost = self.records.rows.get(("cost", row), {})
        return cost["adapted"] / cost["base"] if "adapted" in cost else None

    def cost_columns(self) -> list[Column]:
        """Return the columns of what a row costs."""

        def column(cell: str, name: str, header: str, show: Callable[[Any], str]) -> Column:
            return Column(header, lambda row: self.records.rows.get((cell, row), {}).get(name), show)

        return [
            column("memory", "peak", "peak\nMB", megabytes),
            column("cost", "step_seconds", "s per\nstep", "{:.2f}".format),
            Column("writes\n× base", self.generates, "{:.2f}".format),
        ]

    def against(self) -> Column:
        """Return the column of how far a row is ahead of LoRA, corrected for the claims that it belongs to, or of the
        flaw for which it is not compared.
        """
        families = dict.fromkeys(VARIANTS, FAMILY[REFERENCE]) | {"full": FAMILY["full"]}
        others = sum(len(self.scores(row)) > 1 for row in self.rows if row not in (*families, REFERENCE))

        def ahead(row: str) -> str | None:
            lead = self.ahead(row, comparisons=families.get(row, max(1, others))) if row in self.rows else None
            return lead.show(self.digits) if lead else self.flaw(row) or None

        return Column("ahead of\nLoRA", ahead)

    # Figures

    @style.styled
    def quality_against_share(self) -> Figure | None:
        """Quality on held-out data against the share of the parameters that trains; the lines are the base and the
        few-shot prompt.
        """
        if not self.rows:
            return None
        points = {row: (100 * self.share(row), self.reached(row)) for row in self.rows}
        levels = {"base": self.scale * self.base[self.number]} if self.base else {}
        levels |= {PROMPTED: self.prompted().mean} if self.cells(PROMPTED) else {}
        figure, axes = plot_quality(f"Quality against what trains: {self.where}", points, levels, look_of, LABELS)
        if not self.has_labels:  # bits: less is better, and scratch lies far up
            name_far_point(axes, points, levels.values())
        window = f" in windows of {self.settings.get('window', '?')} tokens"
        unit = "right on held-out questions (%)" if self.has_labels else f"bits/character{window}\n(less is better)"
        axes.set(xlabel="share of the parameters that trains (%, logarithmic)", ylabel=unit)
        return style.with_legend(figure, 3)

    @style.styled
    def learned_against_forgotten(self) -> Figure | None:
        """Learning (right) against forgetting of plain English or of general knowledge (up), a mark for each method."""
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


def side_by_side(results: Mapping[str, ModelResult]) -> Grid:
    """Tabulate what each row trains, reaches on several data sets, and costs. results: {data set: its comparison}.

    For one data set alone, the table says how far each row is ahead of LoRA, too.
    """
    columns = [one.cost_columns() for one in results.values()]
    leads = [one.against() for one in results.values()] if len(results) == 1 else []
    rows: list[tuple[str, ...]] = []
    for name in {name: None for result in results.values() for name in result.bases()}:
        cells = [(result, result.bases().get(name)) for result in results.values()]
        levels = (result.level(cell) if cell else "–" for result, cell in cells)
        rows.append((name, "–", *levels, *["–"] * len(leads + columns[0])))
    for row in (PROMPTED, PROBE, *ROWS):
        measured = [result for result in results.values() if result.cells(row)]
        reached = [_reached(result, row) for result in results.values()]
        if {*reached} != {"–"}:
            share = "–" if row == PROMPTED or not measured else show_share(measured[0].share(row))
            by_data = ([column.cell(row) for column in of_data] for of_data in columns)
            # the costs are those of the comparison that measured most of them
            costs = max(by_data, key=lambda cells: sum(cell != "–" for cell in cells))
            rows.append((LABELS[row], share, *reached, *(lead.cell(row) for lead in leads), *costs))
    names = (f"{name}, {'%' if result.has_labels else 'bits/char'}" for name, result in results.items())
    header = ("", "trains", *names, *(column.header for column in leads + columns[0]))
    return Grid("What each method reaches and costs", header, rows, _caption(results.values()))


def _reached(result: ModelResult, row: str) -> str:
    """Write what a row reached, or the flaw for which it has nothing that counts."""
    reached = result.scores(row).values()
    return Spread.of(reached).show(result.digits) if reached else result.flaw(row) or "–"


def _caption(results: Iterable[ModelResult]) -> str:
    words = "A row is a method at its best searched learning rate; without a ±, it has one seed. "
    for one in {result.has_labels: result.settings for result in results}.values():
        if "labels" in one:
            words += (
                f"In %: the share of {one['tested']} held-out questions that are answered right, after learning from "
                f"{one['examples']} examples; the prompt's answers are calibrated. "
            )
        else:
            words += (
                f"Bits/char: of held-out text, after {one['text_steps']} steps on {one['characters']:,} characters, in "
                f"windows of {one.get('window', '?')} tokens. "
            )
    return words + (
        f"Peak MB and s per step: the memory and the time of a training step on {BATCH_SIZE} rows in float32. Writes × "
        "base: tokens per second over the base's, on one thread, LoRA not merged. The base took turns with each row, "
        "but rows that compute the same (base, full, head) still differ by up to 7 %, so smaller differences mean "
        "nothing. Seconds per step were measured without such turns, so they are rougher."
    )
