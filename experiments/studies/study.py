"""What a study is: one question, what was published about it, and cells that measure the same in small.

A study's cells are keys; `measure` gives the numbers of one, which go into a file of records, so that a run that was
cut off goes on there. The table, the figure and the sentence are functions of the records alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from experiments.bench import Bench, Settings
from minilora.demo.base import QUICK_BASE
from minilora.errors import escape
from minilora.measure.lab import Lab
from minilora.measure.records import Records
from minilora.measure.results import Result
from minilora.show.grids import Grid, Spread, listed, seeds_in_words, show_count, show_share, show_signed
from minilora.train import catalog, load
from minilora.train.loop import TrainConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECORDS = "records.jsonl"
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

    def paired(self, number: str, one: tuple, other: tuple) -> Pairs:
        """By how much a number is greater in `one` than in `other`, seed by seed: both have the same text."""
        ones, others = ({row["key"][-1]: row[number] for row in self.records.of(*start)} for start in (one, other))
        return Pairs(tuple(ones[seed] - others[seed] for seed in ones))

    @property
    def with_seeds(self) -> str:
        """Of what holds for all of them."""
        return "with every seed" if len(self.settings["seeds"]) > 1 else "with its one seed"

    def chance(self) -> float:
        """Return the percentage that a guess gets right on the labelled task."""
        return 100 / next(row["classes"] for row in self.records.rows.values() if "classes" in row)

    def learned_grid(self, title: str, header: Sequence[str], rows: dict) -> Grid:
        """What adapting came to. rows: {cells under `header`: how the keys of the row begin}."""
        lines = []
        for names, start in rows.items():
            learned = (
                show_count(self.first("trainable", *start)),
                show_share(self.first("trainable", *start) / self.base["total"]),
                f"{self.first('lr', *start):g}",
                self.spread("domain", *start).show(3),
                self.gained(*start).show(3),
                show_signed(self.forgot(*start).mean),
            )
            lines.append((*names, *learned))
        caption = (
            "Domain: held-out numpy-docs (less is better); gained: bits/char fewer than the base; forgot: bits/char "
            f"more on held-out python-docs. {self.in_words(self.gained(*start).count for start in rows.values())}"
        )
        header = (*header, "trainable", "share", "rate", "domain\nbits/char", "gained", "forgot")
        return Grid(title, header, lines, caption)

    def in_words(self, counts: Iterable[int]) -> str:
        """Return the base, and what ± means over so many seeds."""
        made, model = self.settings["base"], self.settings.get("model")
        base = "the package's" if made is None else f"a small one, {made['config']['steps']} steps"
        return f"Base: {base if model is None else escape(Path(model).name)}. {seeds_in_words(counts)}"


def draw_curve(axes: Axes, points: Sequence[Point], label: str, look: Mapping) -> None:
    """A line through points of what was learned, to the right, and forgotten, upward, with the seeds' scatter."""
    won, lost = zip(*points, strict=True)
    x, y = [one.mean for one in won], [one.mean for one in lost]
    axes.errorbar(x, y, [one.half_range for one in lost], [one.half_range for one in won], **look, label=label)


# Sentences


@dataclass(frozen=True)
class Pairs:
    """Differences between two runs, one for each seed."""

    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        return Spread.of(self.differences).mean

    @property
    def sign(self) -> int:
        """1 where all are above zero, -1 where all are below, 0 where they do not agree, or one is shown as 0."""
        shown = [round(d, 3) for d in self.differences]
        return all(d > 0 for d in shown) - all(d < 0 for d in shown)

    def show(self) -> str:
        """`+0.060 (by seed +0.058, +0.062 and +0.060)`: the mean, and what it is the mean of, where there are more."""
        of = f" (by seed {listed(map(show_signed, self.differences))})" * (len(self.differences) > 1)
        return f"{show_signed(self.mean)}{of}"


def compared(one: Spread, other: Spread, more: str, less: str, level: str = "level with") -> str:
    """Return `more`, `less`, or `level` where the means are no further apart than the seeds scatter."""
    return level if one.overlaps(other) else more if one.mean > other.mean else less


def apart(one: Mapping[int, Spread], other: Mapping[int, Spread]) -> tuple[list[int], list[int]]:
    """Where `one` is above the other by more than the seeds scatter, and where it is below."""
    return [n for n in one if one[n].above(other[n])], [n for n in one if other[n].above(one[n])]
