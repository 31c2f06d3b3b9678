"""What a study is: one question, what was published about it, and cells that measure the same in small.

A study's cells are keys; `measure` gives the numbers of one, which go into a file of records, so that a run that was
cut off goes on there. The table, the figure and the sentence are functions of the records alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilora.data.tasks import Example
from minilora.measure import lr_search
from minilora.measure.base import QUICK_BASE, Base
from minilora.measure.lab import SCRATCH, Lab
from minilora.measure.records import Records
from minilora.show.grids import Grid, Spread, seeds_in_words, show_count, show_share, show_signed
from minilora.train import methods, recipes
from minilora.train.loop import History, TrainConfig
from minilora.train.methods import Options
from minilora.train.parallel import Workers
from minilora.train.progress import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORDS = "records.jsonl"
SCRATCH_RATE = 3e-3


@dataclass(frozen=True)
class Plan:
    """How much of everything a study does."""

    values: tuple = ()  # what it varies
    kinds: tuple[str, ...] = ()  # for what else it varies them
    base: Base | None = None  # pretrained first; None: the base that comes with the package
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: int = 3  # learning rates that a search tries, and at most two more where the best is the first or last
    characters: int = 40_000  # of the domain's text
    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=50, eval_every=25, patience=3, warmup=3, lr_floor=0.3)
    )
    labels: int = 32  # labelled sentences a class, where a study does not vary them
    classify: TrainConfig = field(default_factory=lambda: TrainConfig(steps=48, warmup=5))
    test_characters: int = 30_000  # of each held-out text
    validation_characters: int = 12_000  # that searches and early stopping look at
    test_examples: int | None = None  # of the labelled task; None: all


FULL = Plan()
QUICK = Plan(
    base=QUICK_BASE,
    seeds=(0, 1),
    rates=2,
    adapt=replace(FULL.adapt, steps=60, eval_every=20),
)


@dataclass(frozen=True)
class Study:
    """A question and how it is answered."""

    name: str
    question: str
    published: str  # the published figure in words, with its source
    full: Plan
    quick: Plan
    cells: Callable[[Any], list[tuple]]  # the keys of what is measured, in this order; a seed comes last
    measure: Callable[..., dict]  # (bench, *key): the numbers of one cell
    grid: Callable[[Records], Grid]
    figure: Callable[[Records], Figure]
    sentence: Callable[[Records], str]  # what the numbers say, and whether that is what was published

    @property
    def kind(self) -> str:
        """Of its records."""
        return f"study {self.name}"

    def run(self, out: Path, plan: Plan, resume: bool = False, overwrite: bool = False) -> Records:
        """Measure all cells into out/records.jsonl, or what is missing there; returns the records.

        Raises MiniloraError where the file is there already, or was measured with other settings.
        """
        records = Records.open(Path(out) / RECORDS, self.kind, asdict(plan), resume, overwrite)
        for note in records.notes:
            print(f"minilora: note: {note}", file=sys.stderr)
        with Workers() as workers:
            folder = recipes.base_folder() if plan.base is None else plan.base.cached(workers)[0]
            lab = Lab(
                folder,
                workers,
                test_characters=plan.test_characters,
                validation_characters=plan.validation_characters,
                test_examples=plan.test_examples,
            )
            bench, cells = Bench(plan, lab, records), self.cells(plan)
            with progress_bar(self.name, len(cells)) as advance:
                for key in cells:
                    bench.cell(*key, measure=partial(self.measure, bench, *key))
                    advance(1, " ".join(map(str, key)))
        return records


class Bench:
    """Where a study measures: its plan, the lab and the records."""

    plan: Any  # the study's own class of Plan

    def __init__(self, plan: Plan, lab: Lab, records: Records):
        self.plan, self.lab, self.records = plan, lab, records
        self._kept: tuple = (None, None)

    def cell(self, *key, measure: Callable[[], dict]) -> dict:
        """The record of `key`, measured if it is not there."""
        if key not in self.records:
            self.records.add(key, **measure())
        return self.records.rows[key]

    def once(self, key, make: Callable[[], object]):
        """What `make` gives, kept until another key is asked for."""
        if self._kept[0] != key:
            self._kept = (key, make())
        return self._kept[1]

    # On text

    def base(self) -> dict:
        """The base's quality and size."""
        model = self.lab.base()
        return {"total": recipes.count_parameters(model)[1]} | self.quality(model)

    def quality(self, model) -> dict:
        """Bits a character on held-out text of the domain, and of what the base was pretrained on."""
        lab = self.lab
        return {"domain": lab.bits(model, lab.domain_test), "base_text": lab.bits(model, lab.base_test)}

    def adapt(self, method: str, rate: float, seed: int, options: Options | None = None) -> tuple[object, History]:
        """A model adapted to the domain's text, which the seed draws as well, and its history."""
        config = replace(self.plan.adapt, lr=rate, seed=seed)
        return self.lab.adapt(method, self.lab.domain_text(self.plan.characters, seed), config, options)

    def adapted(self, method: str, rate: float, seed: int, options: Options | None = None) -> dict:
        """The numbers of a model adapted so."""
        return self.facts(*self.adapt(method, rate, seed, options), rate)

    def facts(self, model, history: History, rate: float) -> dict:
        """The numbers of a model that was adapted."""
        facts = {"lr": rate, "trainable": recipes.count_parameters(model)[0], "best_step": history.best_step}
        return facts | {"seconds": history.seconds} | self.quality(model)

    def text_rate(self, method: str, options: Options | None = None) -> float:
        """The learning rate that a search finds for a method on text; later calls for the method give the same."""
        loss = lambda rate: self.adapt(method, rate, lr_search.SEED, options)[1].best  # noqa: E731
        return self.rate(method, methods.METHODS[method].lr, loss)

    # On the labelled task

    def classify(
        self, method: str, rate: float, examples: Sequence[Example], seed: int, steps: int | None = None
    ) -> tuple[object, History]:
        """A classifier trained on the examples, in batches of at most 32, and its history. steps: None: the plan's."""
        config = self.plan.classify
        config = replace(config, steps=steps or config.steps, lr=rate, seed=seed)
        return self.lab.classify(method, examples, config, batch_size=min(32, len(examples)))

    def label_rate(self, method: str) -> float:
        """The learning rate that a search finds for a classifier, at the plan's number of labels."""
        lab = self.lab

        def error(rate: float) -> float:
            model = self.classify(method, rate, lab.task.few(self.plan.labels, lr_search.SEED), lr_search.SEED)[0]
            return 1 - lab.accuracy(model, lab.task.validation)

        return self.rate(method, SCRATCH_RATE / 2 if method == SCRATCH else 2 * methods.METHODS[method].lr, error)

    def rate(self, name: str, start: float, loss: Callable[[float], float]) -> float:
        """The learning rate with the least loss by a search under this name, each that is tried a record."""

        def tried(rate: float) -> float | None:
            return self.cell("rate", name, rate, measure=lambda: lr_search.measured(lambda: loss(rate)))["loss"]

        return lr_search.best_rate(start, self.plan.rates, tried)


# Reading records


def spread(records: Records, number: str, *start) -> Spread:
    """A number over the seeds of the cells whose key begins so."""
    return Spread.of(row[number] for row in records.of(*start))


def base_row(records: Records) -> dict:
    return next(records.of("base"))


def gained(records: Records, *start) -> Spread:
    """Bits a character fewer on the domain than the base needs."""
    base = base_row(records)["domain"]
    return Spread.of(base - row["domain"] for row in records.of(*start))


def forgot(records: Records, *start) -> Spread:
    """Bits a character more on the base's text than the base needs."""
    base = base_row(records)["base_text"]
    return Spread.of(row["base_text"] - base for row in records.of(*start))


LEARNED = ("trainable", "share", "rate", "domain\nbits/char", "gained", "forgot")  # the header over `learned`


def learned(records: Records, *start) -> tuple[str, ...]:
    """What adapting came to in the cells whose key begins so, as a table shows it."""
    row = next(records.of(*start))
    return (
        show_count(row["trainable"]),
        show_share(row["trainable"] / base_row(records)["total"]),
        f"{row['lr']:g}",
        spread(records, "domain", *start).show(3),
        gained(records, *start).show(3),
        show_signed(forgot(records, *start).mean),
    )


CAPTION = (
    "Domain: held-out numpy-docs (less is better); gained: bits/char fewer than the base; forgot: bits/char more on "
    "held-out python-docs."
)


def caption(records: Records, counts: Iterable[int], first: str = CAPTION) -> str:
    """`first`, the base and its numbers, and what ± means."""
    return f"{first} {base_in_words(records)} {seeds_in_words(counts)}"


def base_in_words(records: Records) -> str:
    made = records.header["settings"]["base"]
    return "Base: the package's." if made is None else f"Base: a small one, {made['config']['steps']} steps."


# Sentences


def compared(one: Spread, other: Spread, more: str, less: str, level: str = "level with") -> str:
    """`more`, `less`, or `level` where the means are no further apart than the seeds scatter."""
    return level if one.overlaps(other) else more if one.mean > other.mean else less


def listed(names: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *before, last = map(str, names)
    return f"{', '.join(before)} and {last}" if before else last
