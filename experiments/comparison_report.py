"""What a comparison says, as tables and figures: a table is made of `COLUMNS`, a figure is a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from minilora.demo.claims import AdaptedResult, accuracy_against_labels, show_bits, show_percent
from minilora.measure.memory import KINDS
from minilora.measure.records import Records
from minilora.measure.results import Column, table
from minilora.show import grids, style
from minilora.show.grids import NAMES, Grid, Spread
from notebooks.figures.pictures import name_far_point, origin_lines, stack_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPTED = ("base", "few-shot")  # nothing trains
# Kinds of memory, in colours whose neighbours differ in grey, too; hatches tell the rest apart.
MEMORY = {
    "weights": ("#0072B2", ""),
    "constants": ("#56B4E9", "...."),
    "adapters": ("#009E73", "////"),
    "gradients": ("#F0E442", ""),
    "optimizer": ("#D55E00", "\\\\\\\\"),
    "activations": ("#CCCCCC", ""),
    "logits": ("#CC79A7", "xxxx"),
    "workspace": ("#FFFFFF", "----"),
}


class ComparisonResult(AdaptedResult):
    """What the seeds of each method came to; None where it was not measured."""

    def file_bytes(self, method: str) -> int | None:
        return max((row["file_bytes"] for row in self.records.of("text", method)), default=0) or None

    def accuracy(self, method: str) -> Spread | None:
        """In percent, by the prompt or with the settings' number of labels."""
        task = [row for row in self.records.of("task", method) if row["key"][3] in (0, self.settings["labels"])]
        return Spread.of(100 * row["accuracy"] for row in task) if task else None

    def memory(self, method: str) -> dict[str, int]:
        return self.records.rows.get(("memory", method), {})

    def speed(self, method: str) -> dict[str, float]:
        return self.records.rows.get(("speed", method), {})

    def rate(self, method: str) -> float | None:
        """Return the learning rate on text that the search found."""
        return next(self.records.of("text", method)).get("lr")


# Tables


@dataclass(frozen=True)
class Named(Column):
    """A column of tables, and a number in texts, where it is called `comparison.METHOD.NAME`."""

    name: str = ""
    grids: tuple[str, ...] = ()  # that have it, in the order of COLUMNS
    in_texts: Callable[[Any], str] | None = None  # None: as in tables


def megabytes(number: int) -> str:
    """With one digit after the point where there is but one before it."""
    return f"{number / 1e6:.1f}" if number < 9.95e6 else f"{number / 1e6:.0f}"


def show_size(number: int) -> str:
    """Return `82 kB` or `11.3 MB`."""
    return f"{number / 1e3:.0f} kB" if number < 999_500 else f"{number / 1e6:.1f} MB"


def _memory(kind: str, header: str) -> Named:
    bytes_ = lambda result, method: result.memory(method).get(kind)  # noqa: E731
    return Named(header, bytes_, megabytes, f"memory.{kind}", ("cost",), grids.show_bytes)


def _speed(kind: str, header: str = "", *tables: str) -> Named:
    return Named(
        header, lambda result, method: result.speed(method).get(kind), "{:.0f}".format, f"speed.{kind}", tables
    )


def _generates(result: ComparisonResult, method: str) -> float | None:
    speed = result.speed(method)
    return speed.get("adapted", speed.get("base"))


R = ComparisonResult
COLUMNS = (
    Named("trainable", R.trainable, grids.show_count, "trainable", ("quality",)),
    Named("share", R.share, grids.show_share, "share", ("quality",)),
    Named("rate", R.rate, "{:g}".format, "rate", ("quality",)),
    *(_memory(kind, kind[:3]) for kind in KINDS),
    _memory("peak", "peak"),
    _memory("process", "all"),
    Named("peak\nmemory", R.peak, grids.show_bytes, "peak"),
    Named("file", R.file_bytes, show_size, "file", ("cost",)),
    Named("time", R.seconds, grids.show_seconds, "time", ("cost",)),
    Named("domain\nbits/char", R.domain, show_bits, "domain", ("quality",)),
    Named("base text\nbits/char", R.base_text, show_bits, "base_text"),
    Named("forgot", R.forgot, grids.show_signed, "forgot", ("quality",)),
    Named("task\naccuracy", R.accuracy, show_percent, "accuracy", ("quality",)),
    _speed("base"),
    _speed("adapted"),
    Named("tok/s", _generates, "{:.0f}".format, "speed", ("cost",)),
    _speed("merged", "merged", "cost"),
)


def grid_of(result: ComparisonResult, grid: str, title: str, caption: str) -> Grid:
    """Return the table of the columns that `grid` has, a row per method."""
    columns = [column for column in COLUMNS if grid in column.grids]
    return table(title, columns, {NAMES[method]: (result, method) for method in result.methods}, caption)


def in_texts(result: ComparisonResult, method: str) -> dict[str, str]:
    """Return {name of a column: as a text says it}, of what there is."""
    found = ((column, column.value(result, method)) for column in COLUMNS)
    return {column.name: (column.in_texts or column.show)(value) for column, value in found if value is not None}


def quality_grid(result: ComparisonResult) -> Grid:
    """What each method learns of the domain and the task, and what it forgets of the base's text."""
    settings = result.settings
    return grid_of(
        result,
        "quality",
        f"Learned and forgotten: {settings['characters']:,} characters, {settings['labels']} labels per class",
        "Held-out text of numpy-docs (domain; less is better), bits/char lost on held-out python-docs (forgot), and "
        "held-out sentences of the labelled task. Rate: the learning rate on text, found by search on validation "
        f"text. {result.spreads_in_words()}",
    )


def cost_grid(result: ComparisonResult) -> Grid:
    """What each method needs: memory by kind, file, time, speed of generating."""
    return grid_of(
        result,
        "cost",
        "What it costs",
        "MB of a training step: weights, gradients, optimizer and activations alive after a forward pass, the most "
        "bytes alive at once (peak), and the whole process with Python (all). File: what is saved. Time: training on "
        "the domain. Tokens per second of greedy generation, one prompt, before and after merging.",
    )


# Figures


@style.styled
def quality_against_parameters(result: ComparisonResult) -> Figure:
    """Domain quality against how many parameters train, every method one point."""
    trained = {method: count for method in result.methods if (count := result.trainable(method))}
    points = {method: (count, result.domain(method)) for method, count in trained.items()}
    levels = {method: result.domain(method).mean for method in PROMPTED if method in result.methods}
    figure, axes = style.single("Quality against trainable parameters: low is good, left is cheap", style.TALL)
    for method, (count, one) in points.items():
        style.errorbar(axes, method, [count], [one], NAMES[method], linestyle="")
    for method, level in levels.items():
        axes.axhline(level, **style.LOOKS[method] | {"marker": ""}, label=NAMES[method])
    axes.set_xscale("log")
    axes.set_xlim(min(trained.values()) / 3, max(trained.values()) * 3)
    axes.set(xlabel="trainable parameters (logarithmic)", ylabel=f"domain, test\n{style.BITS}")
    axes.margins(y=0.1)
    name_far_point(axes, points, [*levels.values()])
    return style.with_legend(figure, 3)


@style.styled
def learned_against_forgotten(result: ComparisonResult) -> Figure:
    """Bits gained on the domain against bits lost on the base's text."""
    base = {name: result.base[name] for name in ("domain", "base_text")}
    figure, axes = style.single("Learned against forgotten: right is learned, up is forgotten", style.TALL)
    origin_lines(axes)
    for method in result.methods:
        if result.forgot(method) is None:
            continue
        domain, base_text = result.domain(method), result.base_text(method)
        axes.errorbar(
            [base["domain"] - domain.mean],
            [base_text.mean - base["base_text"]],
            [base_text.half_range],
            [domain.half_range],
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


def memory_by_kind(result: ComparisonResult) -> Figure:
    """Bars of the bytes that a training step keeps alive."""
    memories = {NAMES[method]: memory for method in result.methods if (memory := result.memory(method))}
    return memory_bars("Memory of a training step, by kind", memories)


@style.styled
def memory_bars(title: str, memories: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bytes of a training step {name: {kind of MEMORY, or peak: bytes}} as stacked bars, with a mark at the peak.

    The kinds are not all at their largest together.
    """
    figure, axes = style.single(title, 2.2 + 0.34 * len(memories))
    sums = [sum(kinds.get(kind, 0) for kind in MEMORY) for kinds in memories.values()]
    peaks = [kinds["peak"] for kinds in memories.values()]
    most = max([*sums, *peaks])
    scale, unit = next(((s, u) for s, u in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if most >= s), (1e3, "KB"))
    widths = {kind: [kinds.get(kind, 0) / scale for kinds in memories.values()] for kind in MEMORY}
    looks = {
        kind: {"color": color, "hatch": hatch, "edgecolor": "black", "linewidth": 0.5, "height": 0.72}
        for kind, (color, hatch) in MEMORY.items()
        if any(kinds.get(kind, 0) > 0.002 * whole for kinds, whole in zip(memories.values(), sums, strict=True))
    }
    stack_bars(axes, list(memories), widths, looks)
    axes.set_xlim(0, 1.04 * most / scale)
    axes.plot([peak / scale for peak in peaks], list(memories), "kD", markersize=5, mec="white", label="peak")
    axes.set_xlabel(unit)
    entries = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda entry: entry[1] == "peak")
    figure.legend(*zip(*entries, strict=True), loc="outside lower center", ncols=4, handlelength=1.6)
    return figure


FIGURES = {
    draw.__name__: draw
    for draw in (quality_against_parameters, learned_against_forgotten, memory_by_kind, accuracy_against_labels)
}


# All of it


def show(records: Records, out: Path, console: Console) -> None:
    """Print the tables and write the figures to `out`."""
    result = ComparisonResult(records)
    for grid in (quality_grid(result), cost_grid(result)):
        console.print(grids.drawn(grid))
        console.print()
    paths = style.save_all(FIGURES, result, out)
    console.print(f"Figures: {', '.join(path.name for path in paths)} in {out}", markup=False)
