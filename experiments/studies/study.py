"""The base class of a study: a question, what was published about it, and cells that measure the same on a small scale.

A cell is a key; `measure` returns its numbers, which go into a file of records, so that an interrupted run can
continue. The table, the figure and the sentence are functions of the records alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from experiments.bench import Bench, Settings
from minilora.demo.base import QUICK_BASE
from minilora.errors import escape
from minilora.measure.records import Records
from minilora.measure.results import Result
from minilora.measure.statistics import Interval, paired_interval, smallest_visible
from minilora.show.grids import Grid, Spread
from minilora.train import catalog, load
from minilora.train.loop import TrainConfig
from notebooks.figures.topics import TopicLab

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECORDS = "records.jsonl"
TEN = tuple(range(10))  # seeds of a study with short trainings
Point = tuple[Spread, Spread]  # learned and forgotten


@dataclass(frozen=True)
class StudySettings(Settings):
    """The sizes of a study."""

    characters: int = 40_000
    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=50, eval_every=25, patience=3, warmup=3, lr_floor=0.3)
    )
    test_characters: int = 30_000
    validation_characters: int = 12_000  # for searches and early stopping
    model: str | None = None  # instead of a base, as `load.load_model` takes it
    values: tuple = ()  # what the study varies
    kinds: tuple[str, ...] = ()  # values of a second quantity that the study varies

    def quick(self, **changes) -> Self:
        """Return these settings for a smaller base and fewer seeds."""
        adapt = replace(self.adapt, steps=60, eval_every=20)
        return replace(self, base=QUICK_BASE, seeds=(0, 1), rates=2, adapt=adapt, **changes)

    def large(self, **changes: Any) -> Self:
        """Return these settings for one seed on a published model."""
        settings: dict[str, Any] = {"adapt": replace(self.adapt, steps=30, eval_every=10), "test_characters": 10_000}
        settings |= {"validation_characters": 6_000, "characters": 60_000}
        return replace(self, model="smollm2", seeds=(0,), rates=2, **settings | changes)


class Study(Result):
    """A question and how it is measured; each study is a subclass. An instance reads the records of one run."""

    name: ClassVar[str]
    question: ClassVar[str]
    published: ClassVar[str]  # the published finding in words, with its source
    kind: ClassVar[str]  # the kind of its records
    full: ClassVar[StudySettings]
    quick: ClassVar[StudySettings]
    large: ClassVar[StudySettings]  # default: `full.large()`

    def __init_subclass__(cls) -> None:
        cls.kind = f"study {cls.name}"
        if "large" not in vars(cls):
            cls.large = cls.full.large()

    def __init__(self, records: Records):
        super().__init__(records)
        self.values, self.kinds = self.settings["values"], self.settings["kinds"]

    @staticmethod
    def runs(settings) -> Iterable[tuple]:
        """Return the keys of the cells that are measured with every seed, without the seed."""
        raise NotImplementedError

    @classmethod
    def cells(cls, settings) -> list[tuple]:
        """Return the keys of all cells in the order of measuring; the seed comes last."""
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
        """Summarize the table in one or two sentences; verdicts on published claims are in the ledger."""
        raise NotImplementedError

    def in_texts(self) -> dict[str, str]:
        """Return {name: number} of single numbers that a text may quote as `study.STUDY.NAME`."""
        return {}

    @staticmethod
    def bench(settings: StudySettings, records: Records) -> Bench:
        """Return the bench on which the cells are measured."""
        source = load.path_of_model(settings.model or catalog.BASE)
        tests = ("test_characters", "validation_characters", "test_examples")
        folder = source if settings.base is None else settings.base.cached()[0]
        return Bench(settings, TopicLab(folder, **{name: getattr(settings, name) for name in tests}), records)

    @classmethod
    def run(cls, out: Path, settings: StudySettings, resume: bool = False, overwrite: bool = False) -> Records:
        """Measure the cells that out/records.jsonl lacks; return the records.

        Raises MiniloraError if the file exists and neither flag is set, or if it has other settings.
        """
        load.path_of_model(settings.model or catalog.BASE)  # a wrong name fails before a file is made
        records = Records.open(Path(out) / RECORDS, cls.kind, asdict(settings), resume, overwrite)
        bench = cls.bench(settings, records)

        def measure(*key: Any) -> dict:
            return cls.measure_base(bench) if key == ("base",) else cls.measure(bench, *key)

        records.complete(cls.cells(settings), measure, cls.name)
        return records

    # Numbers of the cells whose key begins with `start`

    @property
    def base(self) -> dict:
        return next(self.records.of("base"))

    def first(self, number: str, *start) -> Any:
        """Return a number of the first seed, for numbers that do not depend on the seed."""
        return next(self.records.of(*start))[number]

    def gained(self, *start) -> Spread:
        """Return the bits per character saved on the domain, relative to the base."""
        return Spread.of(self.base["domain"] - row["domain"] for row in self.records.of(*start))

    def forgot(self, *start) -> Spread:
        """Return the bits per character lost on the base's text, relative to the base."""
        return Spread.of(row["base_text"] - self.base["base_text"] for row in self.records.of(*start))

    def paired(self, number: str, one: tuple, other: tuple, comparisons: int = 1, scale: float = 1) -> Interval:
        """Return how much greater a number is in `one` than in `other`, seed by seed, with both on the same text.

        comparisons: the number of comparisons that the interval is corrected for.
        """
        return paired_interval(self.differences(number, one, other, scale), comparisons=comparisons)

    def differences(self, number: str, one: tuple, other: tuple, scale: float = 1) -> list[float]:
        """Return how much greater a number is in `one` than in `other`, for each seed that both have."""
        ones, others = ({row["key"][-1]: row[number] for row in self.records.of(*start)} for start in (one, other))
        return [scale * (ones[seed] - others[seed]) for seed in ones if seed in others]

    def gains(self, one: tuple, other: tuple, comparisons: int = 1) -> Interval:
        """Return how many more bits per character `one` gains on the domain than `other`."""
        return self.paired("domain", other, one, comparisons)

    def chance(self) -> float:
        """Return the percentage of the labelled task that guessing gets right."""
        return 100 / next(row["classes"] for row in self.records.rows.values() if "classes" in row)

    def gains_grid(self, title: str, first: str, kinds: Mapping[str, str], note: str = "") -> Grid:
        """Tabulate the gains by value (rows, called `first`) and kind (columns). kinds: {kind: its header}."""
        rows = [(str(value), *(self.gained(kind, value).show(3) for kind in kinds)) for value in self.values]
        caption = f"Bits/char saved on held-out numpy-docs. {note}{self.in_words()}"
        return Grid(title, (first, *kinds.values()), rows, caption)

    def in_words(self, *counts: int) -> str:
        """Name the model, unless it is the package's base, and the number of seeds: those of the settings, or counts
        that differ from row to row.
        """
        base, model = self.settings["base"], self.settings.get("model")
        name = "" if base is None else f"Base: a small one, {base['config']['steps']} steps. "
        seeds = [str(count) for count in sorted({*counts} or {len(self.settings["seeds"])})]
        words = "One seed." if seeds == ["1"] else f"{' to '.join(dict.fromkeys((seeds[0], seeds[-1])))} seeds."
        return f"{name if model is None else f'Base: {escape(Path(model).name)}. '}{words}"


def draw_curve(axes: Axes, points: Sequence[Point], label: str, look: Mapping) -> None:
    """Draw a line through (learned, forgotten) points, with standard deviations."""
    won, lost = zip(*points, strict=True)
    x, y = [one.mean for one in won], [one.mean for one in lost]
    axes.errorbar(x, y, [one.deviation for one in lost], [one.deviation for one in won], **look, label=label)


# Sentences


def compared(difference: Interval, more: str, less: str, undecided: str = "not told apart from") -> str:
    """Return `more` or `less` if the whole interval lies on one side of 0, else `undecided`."""
    return undecided if not difference.excludes(0) else more if difference.mean > 0 else less


def apart(differences: Mapping[int, Interval]) -> tuple[list[int], list[int]]:
    """Return the keys whose interval lies above 0, and those whose interval lies below."""
    return [n for n, one in differences.items() if one.low > 0], [n for n, one in differences.items() if one.high < 0]


NEAR = 0.1  # share of a gain within which another counts as near it


def ends(values: Mapping[str, Spread], digits: int = 3) -> str:
    """Write the least and the greatest of some values with their names, such as `0.13 (k) to 0.38 (all MLP)`."""
    order = sorted(values, key=lambda name: values[name].mean)
    return " to ".join(f"{values[name].show(digits)} ({name})" for name in (order[0], order[-1]))


def seen(intervals: Iterable[Interval], digits: int = 3) -> str:
    """Return a sentence on the smallest differences that would have shown, "" if no interval holds 0."""
    intervals = list(intervals)
    sizes = sorted(smallest_visible(one) for one in intervals if one.df and not one.excludes(0))
    if not sizes:
        return " One seed gives no verdict." if any(one.count == 1 for one in intervals) else ""
    ends = dict.fromkeys(f"{size:.{digits}f}" for size in (sizes[0], sizes[-1]))
    return f" Where an interval holds 0, a true difference of {' to '.join(ends)} would have shown 4 times out of 5."
