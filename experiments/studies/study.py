"""What a study is: one question, what was published about it, and cells that measure the same in small.

A study's cells are keys; `measure` gives the numbers of one, which go into a file of records, so that a run that was
cut off goes on there. The table, the figure and the sentence are functions of the records alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from experiments.bench import Bench, Settings
from minilora.demo.base import QUICK_BASE
from minilora.errors import escape
from minilora.measure.lab import Lab
from minilora.measure.records import Records
from minilora.measure.results import Result
from minilora.measure.statistics import Interval, paired_interval, smallest_visible, verdict
from minilora.show.grids import Grid, Spread, listed, seeds_in_words, show_count, show_share, show_signed
from minilora.train import catalog, load
from minilora.train.loop import TrainConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECORDS = "records.jsonl"
TEN = tuple(range(10))  # seeds of a study whose trainings are short
Point = tuple[Spread, Spread]  # learned and forgotten


@dataclass(frozen=True)
class StudySettings(Settings):
    """How much of everything a study does."""

    characters: int = 40_000
    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=50, eval_every=25, patience=3, warmup=3, lr_floor=0.3)
    )
    test_characters: int = 30_000
    validation_characters: int = 12_000  # that searches and early stopping look at
    model: str | None = None  # in place of a base, as `load.load_model` takes it
    values: tuple = ()  # what it varies
    kinds: tuple[str, ...] = ()  # for what else it varies them

    def quick(self, **changes) -> Self:
        """Return the same for a smaller base and fewer seeds."""
        adapt = replace(self.adapt, steps=60, eval_every=20)
        return replace(self, base=QUICK_BASE, seeds=(0, 1), rates=2, adapt=adapt, **changes)

    def large(self, **changes: Any) -> Self:
        """Return the same, once, on a model that others pretrained."""
        settings: dict[str, Any] = {"adapt": replace(self.adapt, steps=30, eval_every=10), "test_characters": 10_000}
        settings |= {"validation_characters": 6_000, "characters": 60_000}
        return replace(self, model="smollm2", seeds=(0,), rates=2, **settings | changes)


class Study(Result):
    """A question and how it is answered: a class each. An instance is what records of it say."""

    name: ClassVar[str]
    question: ClassVar[str]
    published: ClassVar[str]  # the published figure in words, with its source
    kind: ClassVar[str]  # of its records
    full: ClassVar[StudySettings]
    quick: ClassVar[StudySettings]
    large: ClassVar[StudySettings]  # by default those of `full.large()`

    def __init_subclass__(cls) -> None:
        cls.kind = f"study {cls.name}"
        if "large" not in vars(cls):
            cls.large = cls.full.large()

    def __init__(self, records: Records):
        super().__init__(records)
        self.values, self.kinds = self.settings["values"], self.settings["kinds"]

    @staticmethod
    def runs(settings) -> Iterable[tuple]:
        """What is measured over the seeds beside the base: keys without a seed."""
        raise NotImplementedError

    @classmethod
    def cells(cls, settings) -> list[tuple]:
        """Return the keys of what is measured, in this order; a seed comes last."""
        return [("base",), *((*run, seed) for run in cls.runs(settings) for seed in settings.seeds)]

    @staticmethod
    def measure_base(bench: Bench) -> dict:
        """Return the numbers of the cell ("base",)."""
        model = bench.lab.base()
        return {"total": load.count_parameters(model)[1]} | bench.quality(model)

    @staticmethod
    def measure(bench: Bench, *key) -> dict:
        """Return the numbers of any other cell."""
        raise NotImplementedError

    def grid(self) -> Grid:
        raise NotImplementedError

    def figure(self) -> Figure:
        raise NotImplementedError

    def sentence(self) -> str:
        """What the numbers say, and whether that is what was published."""
        raise NotImplementedError

    @staticmethod
    def bench(settings: StudySettings, records: Records) -> Bench:
        """Return where the cells are measured."""
        source = load.path_of_model(settings.model or catalog.BASE)
        tests = ("test_characters", "validation_characters", "test_examples")
        folder = source if settings.base is None else settings.base.cached()[0]
        return Bench(settings, Lab(folder, **{name: getattr(settings, name) for name in tests}), records)

    @classmethod
    def run(cls, out: Path, settings: StudySettings, resume: bool = False, overwrite: bool = False) -> Records:
        """Measure all cells into out/records.jsonl, or what is missing there; returns the records.

        Raises MiniloraError where the file is there already, or was measured with other settings.
        """
        load.path_of_model(settings.model or catalog.BASE)  # a wrong name is told before a file is made
        records = Records.open(Path(out) / RECORDS, cls.kind, asdict(settings), resume, overwrite)
        bench = cls.bench(settings, records)

        def measure(*key: Any) -> dict:
            return cls.measure_base(bench) if key == ("base",) else cls.measure(bench, *key)

        records.complete(cls.cells(settings), measure, cls.name)
        return records

    # What the cells whose key begins with `start` say

    @property
    def base(self) -> dict:
        return next(self.records.of("base"))

    def first(self, number: str, *start) -> Any:
        """Return a number that is the same for every seed, or the first seed's."""
        return next(self.records.of(*start))[number]

    def gained(self, *start) -> Spread:
        """Return bits per character fewer on the domain than the base needs."""
        return Spread.of(self.base["domain"] - row["domain"] for row in self.records.of(*start))

    def forgot(self, *start) -> Spread:
        """Return bits per character more on the base's text than the base needs."""
        return Spread.of(row["base_text"] - self.base["base_text"] for row in self.records.of(*start))

    def paired(self, number: str, one: tuple, other: tuple, comparisons: int = 1, scale: float = 1) -> Interval:
        """By how much a number is greater in `one` than in `other`, seed by seed: both have the same text.

        comparisons: how many are made in one sentence, for which the interval is corrected.
        """
        return paired_interval(self.differences(number, one, other, scale), comparisons=comparisons)

    def differences(self, number: str, one: tuple, other: tuple, scale: float = 1) -> list[float]:
        """Return by how much a number is greater in `one` than in `other`, for each seed that both have."""
        ones, others = ({row["key"][-1]: row[number] for row in self.records.of(*start)} for start in (one, other))
        return [scale * (ones[seed] - others[seed]) for seed in ones if seed in others]

    def gains(self, one: tuple, other: tuple, comparisons: int = 1) -> Interval:
        """By how many bits per character `one` gains more on the domain than `other`."""
        return self.paired("domain", other, one, comparisons)

    def chance(self) -> float:
        """Return the percentage that a guess gets right on the labelled task."""
        return 100 / next(row["classes"] for row in self.records.rows.values() if "classes" in row)

    def learned_grid(
        self, title: str, header: Sequence[str], rows: dict, beside: tuple | None = None, note: str = ""
    ) -> Grid:
        """Tabulate what adapting came to. rows: {cells under `header`: how the keys of the row begin}.

        beside: how the keys of the row begin that the gains of all others are compared with.
        """
        lines, seeds = [], self.in_words(self.gained(*start).count for start in rows.values())
        other = " ".join(*(cells for cells, start in rows.items() if start == beside)) if beside else ""
        for names, start in rows.items():
            level = self.spread("domain", *start).show(3)
            if beside:
                level = self.gains(start, beside, len(rows) - 1).show(3) if start != beside else "–"
            learned = (
                show_count(self.first("trainable", *start)),
                show_share(self.first("trainable", *start) / self.base["total"]),
                f"{self.first('lr', *start):g}",
                self.gained(*start).show(3),
                level,
                show_signed(self.forgot(*start).mean),
            )
            lines.append((*names, *learned))
        level = f"beside: more than {other.removesuffix(' –')}, and the 95 % interval of that, corrected for the column"
        caption = (
            "Gained: bits/char fewer than the base on held-out numpy-docs; "
            f"{level if beside else 'domain: what is left of them, less is better'}; forgot: bits/char more on "
            f"held-out python-docs. {note}{seeds}"
        )
        header = (*header, "trainable", "share", "rate", "gained", "beside" if beside else "domain", "forgot")
        return Grid(title, header, lines, caption)

    def in_words(self, counts: Iterable[int]) -> str:
        """Return the base, and what ± means over so many seeds."""
        made, model = self.settings["base"], self.settings.get("model")
        base = "the package's" if made is None else f"a small one, {made['config']['steps']} steps"
        return f"Base: {base if model is None else escape(Path(model).name)}. {seeds_in_words(counts)}"


def draw_curve(axes: Axes, points: Sequence[Point], label: str, look: Mapping) -> None:
    """Draw a line through points of what was learned, to the right, and forgotten, upward, with standard deviations."""
    won, lost = zip(*points, strict=True)
    x, y = [one.mean for one in won], [one.mean for one in lost]
    axes.errorbar(x, y, [one.deviation for one in lost], [one.deviation for one in won], **look, label=label)


# Sentences


def compared(difference: Interval, more: str, less: str, undecided: str = "not told apart from") -> str:
    """Return `more` or `less` if the whole interval lies on one side of 0, else `undecided`."""
    return undecided if not difference.excludes(0) else more if difference.mean > 0 else less


def apart(differences: Mapping[int, Interval]) -> tuple[list[int], list[int]]:
    """Return where the interval lies above 0, and where below."""
    return [n for n, one in differences.items() if one.low > 0], [n for n, one in differences.items() if one.high < 0]


NEAR = 0.1  # of a gain: what is surely no further behind another is near it


def nearness(behind: Mapping[str, Interval], margin: float, within: str) -> tuple[dict[str, list[str]], str]:
    """Judge for each name if it is at most `margin` behind: returns {verdict: names}, and a sentence that says so."""
    names: dict[str, list[str]] = {"shown": [], "refuted": [], "undecided": []}
    for name, difference in behind.items():
        names[verdict(difference, -margin, inf)].append(name)
    words = {"shown": f"near it ({within})", "refuted": "further behind", "undecided": "undecided"}
    said = "; ".join(f"{words[judged]}: {listed(ones)}" for judged, ones in names.items() if ones)
    return names, f"{said[0].upper()}{said[1:]}."


def seen(intervals: Iterable[Interval], digits: int = 3) -> str:
    """Return a sentence on the smallest differences that would have shown, "" if no interval holds 0."""
    intervals = list(intervals)
    sizes = sorted(smallest_visible(one) for one in intervals if one.df and not one.excludes(0))
    if not sizes:
        return " One seed gives no verdict." if any(one.count == 1 for one in intervals) else ""
    ends = dict.fromkeys(f"{size:.{digits}f}" for size in (sizes[0], sizes[-1]))
    return f" Where an interval holds 0, a true difference of {' to '.join(ends)} would have shown 4 times of 5."
