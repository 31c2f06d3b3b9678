"""A comparison's records as tables and figures. Everything here is a function of the records alone.

The demo's records have the same cells, and so the same views: a table is made of `COLUMNS`, a figure is a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from minilora.measure.memory import KINDS
from minilora.measure.records import Records
from minilora.show import grids, pictures, style
from minilora.show.grids import NAMES, Grid, Spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPTED = ("base", "few-shot")  # nothing trains
UNSHARED = (*PROMPTED, "scratch")  # that have nothing to forget


# Summaries


@dataclass(frozen=True)
class Compared:
    """What the seeds of one method came to; None where it was not measured."""

    trainable: int
    share: float | None  # of the base's parameters
    file_bytes: int | None
    seconds: float | None  # of training on text, where nothing else ran beside it
    domain: Spread
    base_text: Spread
    forgot: float | None  # bits per character more on the base's own text than the base itself needs
    accuracy: Spread | None  # in percent
    memory: dict[str, int]
    speed: dict[str, float]
    rates: dict[str, float]  # by part, what the search found


def methods_of(records: Records, part: str) -> list[str]:
    """The methods with cells of a part, in the order of NAMES. Raises MiniloraError for one that is not there."""
    return grids.in_order(key[1] for key in records.rows if key[0] == part)


def compared(records: Records) -> dict[str, Compared]:
    """Each method whose text was measured."""
    base = next(records.of("text", "base"), None)
    labels = records.header["settings"]["labels"]
    found = {}
    for method in methods_of(records, "text"):
        text = list(records.of("text", method))
        task = [row for row in records.of("task", method) if row["key"][3] in (0, labels)]
        first, base_text = text[0], Spread.of(row["base_text"] for row in text)
        alone = [row["seconds"] for row in (*text, *records.of("time", method)) if row["seconds"] is not None]
        found[method] = Compared(
            trainable=first["trainable"],
            share=first["trainable"] / base["total"] if base else None,
            file_bytes=max((row["file_bytes"] for row in text if "file_bytes" in row), default=None),
            seconds=Spread.of(alone).mean if alone else None,
            domain=Spread.of(row["domain"] for row in text),
            base_text=base_text,
            forgot=base_text.mean - base["base_text"] if base and method not in UNSHARED else None,
            accuracy=Spread.of(100 * row["accuracy"] for row in task) if task else None,
            memory=next(iter(records.of("memory", method)), {}),
            speed=next(iter(records.of("speed", method)), {}),
            rates={part: rows[0]["lr"] for part, rows in (("text", text), ("task", task)) if rows and "lr" in rows[0]},
        )
    return found


def by_amount(records: Records, part: str, number: str, scale: float = 1) -> dict[str, dict[int, Spread]]:
    """{method: {amount: a number over the seeds}} of cells whose key is (part, method, seed, amount)."""
    found = {}
    for method in methods_of(records, part):
        rows = list(records.of(part, method))
        amounts = sorted({row["key"][3] for row in rows})
        found[method] = {n: Spread.of(scale * row[number] for row in rows if row["key"][3] == n) for n in amounts}
    return found


def accuracies(records: Records) -> dict[str, dict[int, Spread]]:
    """Accuracy in percent of each method, by the number of labels per class."""
    return by_amount(records, "task", "accuracy", 100)


def chance(records: Records) -> float | None:
    """The percentage that a guess gets right; None where the records do not say which classes there are."""
    row = records.rows.get(("classes",))
    return 100 / len(row["names"]) if row else None


# Tables


@dataclass(frozen=True)
class Column:
    """A number of each method: in the header of tables, and as `comparison.METHOD.NAME` in texts."""

    name: str
    header: str
    value: Callable[[Compared], Any]  # None: there is none
    show: Callable[[Any], str]
    grids: tuple[str, ...] = ()  # that have it, in the order of COLUMNS
    in_texts: Callable[[Any], str] | None = None  # None: as in tables

    def cell(self, one: Compared) -> str:
        return "–" if (value := self.value(one)) is None else self.show(value)


def megabytes(number: int) -> str:
    """With one digit after the point where there is but one before it."""
    return f"{number / 1e6:.1f}" if number < 9.95e6 else f"{number / 1e6:.0f}"


def show_size(number: int) -> str:
    """`82 kB` or `11.3 MB`."""
    return f"{number / 1e3:.0f} kB" if number < 999_500 else f"{number / 1e6:.1f} MB"


def show_bits(spread: Spread) -> str:
    return spread.show(3)


def show_percent(spread: Spread) -> str:
    return f"{spread.show(1)} %"


def _memory(kind: str, header: str) -> Column:
    return Column(f"memory.{kind}", header, lambda one: one.memory.get(kind), megabytes, ("cost",), grids.show_bytes)


def _speed(kind: str, header: str = "", *tables: str) -> Column:
    return Column(f"speed.{kind}", header, lambda one: one.speed.get(kind), "{:.0f}".format, tables)


COLUMNS = (
    Column("trainable", "trainable", lambda one: one.trainable or None, grids.show_count, ("quality", "demo")),
    Column("share", "share", lambda one: one.share or None, grids.show_share, ("quality", "demo")),
    Column("rate", "rate", lambda one: one.rates.get("text"), "{:g}".format, ("quality",)),
    *(_memory(kind, kind[:3]) for kind in KINDS),
    _memory("peak", "peak"),
    _memory("process", "all"),
    Column("peak", "peak\nmemory", lambda one: one.memory.get("peak"), grids.show_bytes, ("demo",)),
    Column("file", "file", lambda one: one.file_bytes or None, show_size, ("cost",)),
    Column("time", "time", lambda one: one.seconds or None, grids.show_seconds, ("cost", "demo")),
    Column("domain", "domain\nbits/char", lambda one: one.domain, show_bits, ("quality", "demo")),
    Column("base_text", "base text\nbits/char", lambda one: one.base_text, show_bits, ("demo",)),
    Column("forgot", "forgot", lambda one: one.forgot, grids.show_signed, ("quality", "demo")),
    Column("accuracy", "task\naccuracy", lambda one: one.accuracy, show_percent, ("quality",)),
    _speed("base"),
    _speed("adapted"),
    Column("speed", "tok/s", lambda one: one.speed.get("adapted", one.speed.get("base")), "{:.0f}".format, ("cost",)),
    _speed("merged", "merged", "cost"),
)


def grid_of(records: Records, grid: str, title: str, caption: str) -> Grid:
    """The table of the columns that `grid` has, a row per method."""
    columns = [column for column in COLUMNS if grid in column.grids]
    rows = [(NAMES[method], *(c.cell(one) for c in columns)) for method, one in compared(records).items()]
    return Grid(title, ("method", *(column.header for column in columns)), rows, caption)


def in_texts(one: Compared) -> dict[str, str]:
    """{name of a column: as a text says it}, of what there is."""
    found = ((column, column.value(one)) for column in COLUMNS)
    return {column.name: (column.in_texts or column.show)(value) for column, value in found if value is not None}


def spreads_in_words(records: Records) -> str:
    """What ± means, for the text that the methods were trained on."""
    return grids.seeds_in_words(one.domain.count for method, one in compared(records).items() if method != "base")


def quality_grid(records: Records) -> Grid:
    """What each method learns of the domain and the task, and what it forgets of the base's text."""
    settings = records.header["settings"]
    return grid_of(
        records,
        "quality",
        f"Learned and forgotten: {settings['characters']:,} characters, {settings['labels']} labels per class",
        "Held-out text of numpy-docs (domain; less is better), bits/char lost on held-out python-docs (forgot), and "
        "held-out sentences of the labelled task. Rate: the learning rate on text, found by search on validation "
        f"text. {spreads_in_words(records)}",
    )


def cost_grid(records: Records) -> Grid:
    """What each method needs: memory by kind, file, time, speed of generating."""
    return grid_of(
        records,
        "cost",
        "What it costs",
        "MB of a training step: weights, gradients, optimizer and activations alive after a forward pass, the most "
        "bytes alive at once (peak), and the whole process with Python (all). File: what is saved. Time: training on "
        "the domain. Tokens per second of greedy generation, one prompt, before and after merging.",
    )


# Figures


@style.styled
def quality_against_parameters(records: Records) -> Figure | None:
    """Domain quality against how many parameters train, every method one point."""
    methods = compared(records)
    points = {method: one for method, one in methods.items() if one.trainable}
    if not points:
        return None
    figure, axes = style.single("Quality against trainable parameters: low is good, left is cheap", style.TALL)
    for method, one in points.items():
        style.errorbar(axes, method, [one.trainable], [one.domain], NAMES[method], linestyle="")
    for method in PROMPTED:
        if method in methods:
            axes.axhline(methods[method].domain.mean, **style.LOOKS[method] | {"marker": ""}, label=NAMES[method])
    axes.set_xscale("log")
    counts = [one.trainable for one in points.values()]
    axes.set_xlim(min(counts) / 3, max(counts) * 3)
    axes.set(xlabel="trainable parameters (logarithmic)", ylabel=f"domain, test\n{style.BITS}")
    axes.margins(y=0.1)
    levels = [methods[method].domain.mean for method in PROMPTED if method in methods]
    style.name_far_point(axes, {method: (one.trainable, one.domain) for method, one in points.items()}, levels)
    return style.with_legend(figure, 3)


@style.styled
def learned_against_forgotten(records: Records) -> Figure | None:
    """Bits gained on the domain against bits lost on the base's text."""
    methods = compared(records)
    points = {method: one for method, one in methods.items() if one.forgot is not None}
    if not points:
        return None
    base = methods["base"]
    figure, axes = style.single("Learned against forgotten: right is learned, up is forgotten", style.TALL)
    style.origin_lines(axes)
    for method, one in points.items():
        axes.errorbar(
            [base.domain.mean - one.domain.mean],
            [one.base_text.mean - base.base_text.mean],
            [one.base_text.half_range],
            [one.domain.half_range],
            **style.LOOKS[method] | {"linestyle": ""},
            markersize=8,
            label=NAMES[method],
        )
    axes.plot([0], [0], color=style.GREY, marker="X", markersize=9, linestyle="", label=NAMES["base"], clip_on=False)
    axes.set(
        xlabel="learned: bits/character gained on the domain",
        ylabel="forgotten: bits/character\nlost on the base's text",
    )
    axes.margins(0.12)
    return style.with_legend(figure, 3)


def memory_by_kind(records: Records) -> Figure | None:
    """Bars of the bytes that a training step keeps alive."""
    methods = {method: one.memory for method, one in compared(records).items() if one.memory}
    if not methods:
        return None
    memories = {NAMES[method]: memory for method, memory in methods.items()}
    peaks = [memory["peak"] for memory in methods.values()]
    return pictures.memory_bars("Memory of a training step, by kind", memories, (), peaks)


@style.styled
def accuracy_against_labels(records: Records) -> Figure | None:
    """Accuracy on the task against the labels per class, from scratch and from the base."""
    curves = {method: curve for method, curve in accuracies(records).items() if len(curve) > 1}
    if not curves:
        return None
    figure, axes = style.single("Why transfer: accuracy against labels")
    named = {NAMES[method]: curve for method, curve in curves.items()}
    style.label_curves(axes, named, [style.LOOKS[method] for method in curves], chance(records))
    axes.set_ylim(0, None)
    return style.with_legend(figure)


FIGURES = {
    draw.__name__: draw
    for draw in (quality_against_parameters, learned_against_forgotten, memory_by_kind, accuracy_against_labels)
}


# All of it


def show(records: Records, out: Path, console: Console) -> None:
    """Print the tables and write the figures to `out`."""
    for grid in (quality_grid(records), cost_grid(records)):
        console.print(grids.drawn(grid))
        console.print()
    paths = style.save_all(FIGURES, records, out)
    console.print(f"Figures: {', '.join(path.name for path in paths)} in {out}", markup=False)
