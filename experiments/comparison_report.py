"""Tables and figures of a comparison: a table is made of `QUALITY` or `COST`, a figure is a function.

The two plots that comparisons on the package's base and on published models (`compare_model_report`) share are here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from experiments.figures import save_all
from minilora.demo.claims import AdaptedResult, show_bits
from minilora.measure.results import Column, Result, table
from minilora.palette import MEMORY
from minilora.show import grids, style
from minilora.show.grids import NAMES, Grid, Spread
from notebooks.figures.memory import KINDS
from notebooks.figures.pictures import label_curves, name_far_point, origin_lines, stack_bars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PROMPTED = ("base", "few-shot")  # nothing trains
HATCHED = ("optimizer",)  # tells it apart from its neighbours in grey, too


class ComparisonResult(AdaptedResult):
    """What the seeds of each method came to; None where it was not measured."""

    def file_bytes(self, method: str) -> int | None:
        return max((row["file_bytes"] for row in self.records.of("text", method)), default=0) or None

    def accuracy(self, method: str) -> Spread | None:
        """In percent, by the prompt or with the settings' number of labels."""
        task = [row for row in self.records.of("task", method) if row["key"][3] in (0, self.settings["labels"])]
        return Spread.of(100 * row["accuracy"] for row in task) if task else None

    def accuracies(self) -> dict[str, dict[int, Spread]]:
        """Return accuracy in percent of each method, by the number of labels per class."""
        cells: dict[str, dict[int, list[float]]] = {method: {} for method in self.parts("task")}
        for (_, method, _, labels), row in ((row["key"], row) for row in self.records.of("task")):
            cells[method].setdefault(labels, []).append(100 * row["accuracy"])
        return {method: {n: Spread.of(of[n]) for n in sorted(of)} for method, of in cells.items()}

    def chance(self) -> float:
        """Return the percentage of the labelled task that a guess gets right."""
        return 100 / len(self.records.rows["classes",]["names"])

    def cell(self, kind: str, method: str) -> dict:
        """Return the "memory" or the "speed" of a method, empty where it was not measured."""
        return self.records.rows.get((kind, method), {})

    def rate(self, method: str) -> float | None:
        """Return the learning rate on text that the search found."""
        return next(self.records.of("text", method)).get("lr")

    def generates(self, method: str) -> float | None:
        """Return tokens per second before merging."""
        speed = self.cell("speed", method)
        return speed.get("adapted", speed.get("base"))


# Tables


def show_percent(spread: Spread) -> str:
    return f"{spread.show(1)} %"


def megabytes(number: int) -> str:
    """With one digit after the point where there is but one before it."""
    return f"{number / 1e6:.1f}" if number < 9.95e6 else f"{number / 1e6:.0f}"


def show_size(number: int) -> str:
    """Return `82 kB` or `11.3 MB`."""
    return f"{number / 1e3:.0f} kB" if number < 999_500 else f"{number / 1e6:.1f} MB"


def _of(cell: str, part: str, header: str, show: Callable[[Any], str] = "{:.0f}".format) -> Column:
    return Column(header, lambda result, method: result.cell(cell, method).get(part), show)


R = ComparisonResult
QUALITY = {  # {what texts call a number, after `comparison.METHOD.`: its column}
    "trainable": Column("trainable", R.trainable, grids.show_count),
    "share": Column("share", R.share, grids.show_share),
    "rate": Column("rate", R.rate, "{:g}".format),
    "domain": Column("domain\nbits/char", R.domain, show_bits),
    "forgot": Column("forgot", R.forgot, grids.show_signed),
    "accuracy": Column("task\naccuracy", R.accuracy, show_percent),
}
COST = {
    **{kind: _of("memory", kind, kind[:3], megabytes) for kind in KINDS},
    "peak": _of("memory", "peak", "peak", megabytes),
    "process": _of("memory", "process", "all", megabytes),
    "file": Column("file", R.file_bytes, show_size),
    "time": Column("time", R.seconds, grids.show_seconds),
    "speed": Column("tok/s", R.generates, "{:.0f}".format),
    "speed.merged": _of("speed", "merged", "merged"),
}
IN_TEXTS = QUALITY | {name: COST[name] for name in ("file", "time", "speed.merged")}
IN_TEXTS |= {f"memory.{kind}": _of("memory", kind, "", grids.show_bytes) for kind in KINDS}
IN_TEXTS |= {f"speed.{kind}": _of("speed", kind, "") for kind in ("base", "adapted")}


def in_texts(result: ComparisonResult, method: str) -> dict[str, str]:
    """Return {name of IN_TEXTS: as a text says it}, of what there is."""
    found = {name: (column, column.value(result, method)) for name, column in IN_TEXTS.items()}
    return {name: column.show(value) for name, (column, value) in found.items() if value is not None}


def quality_grid(result: ComparisonResult) -> Grid:
    """What each method learns of the domain and the task, and what it forgets of the base's text."""
    settings = result.settings
    return table(
        f"Learned and forgotten: {settings['characters']:,} characters, {settings['labels']} labels per class",
        [*QUALITY.values()],
        {NAMES[method]: (result, method) for method in result.methods},
        "Held-out text of numpy-docs (domain; less is better), bits/char lost on held-out python-docs (forgot), and "
        "held-out sentences of the labelled task. Rate: the learning rate on text, found by search on validation "
        f"text. {result.spreads_in_words()}",
    )


def cost_grid(result: ComparisonResult) -> Grid:
    """What each method needs: memory by kind, file, time, speed of generating."""
    return table(
        "What it costs",
        [*COST.values()],
        {NAMES[method]: (result, method) for method in result.methods},
        "MB of a training step: weights, gradients, optimizer and activations alive after a forward pass, the most "
        "bytes alive at once (peak), and the whole process with Python (all). File: what is saved. Time: training on "
        "the domain. Tokens per second of greedy generation, one prompt, before and after merging.",
    )


# Figures


def plot_quality(
    title: str,
    points: Mapping[str, tuple[float, Spread]],
    levels: Mapping[str, float],
    looks: Callable[[str], Mapping],
    labels: Mapping[str, str],
) -> tuple[Figure, Axes]:
    """{row: (what trains, quality)} as points over a logarithmic axis, and what nothing trains for as lines."""
    figure, axes = style.single(title, style.TALL)
    for name, (trained, one) in points.items():
        look = {**looks(name), "linestyle": ""}
        axes.errorbar([trained], [one.mean], [one.deviation], **look, label=labels[name])
    for name, level in levels.items():
        axes.axhline(level, **style.LOOKS[name] | {"marker": ""}, label=labels[name])
    axes.set_xscale("log")
    return figure, axes


def plot_forgetting(
    title: str,
    points: Mapping[str, tuple[float, float, float, float]],
    looks: Callable[[str], Mapping],
    labels: Mapping[str, str],
    learned: str,
    forgotten: str,
) -> tuple[Figure, Axes]:
    """{row: (learned, its deviation, forgotten, its deviation)} as points about the base."""
    figure, axes = style.single(title, style.TALL)
    origin_lines(axes)
    for name, (won, won_bar, lost, lost_bar) in points.items():
        look = {**looks(name), "linestyle": ""}
        axes.errorbar([won], [lost], [lost_bar], [won_bar], **look, markersize=8, label=labels[name])
    axes.set(xlabel=f"learned: {learned}", ylabel=forgotten)
    axes.margins(0.12)
    return figure, axes


@style.styled
def quality_against_parameters(result: ComparisonResult) -> Figure:
    """Domain quality against how many parameters train, every method one point."""
    trained = {method: count for method in result.methods if (count := result.trainable(method))}
    points = {method: (count, result.domain(method)) for method, count in trained.items()}
    levels = {method: result.domain(method).mean for method in PROMPTED if method in result.methods}
    title = "Quality against trainable parameters: low is good, left is cheap"
    figure, axes = plot_quality(title, points, levels, style.LOOKS.__getitem__, NAMES)
    axes.set_xlim(min(trained.values()) / 3, max(trained.values()) * 3)
    axes.set(xlabel="trainable parameters (logarithmic)", ylabel=f"domain, test\n{style.BITS}")
    axes.margins(y=0.1)
    name_far_point(axes, points, [*levels.values()])
    return style.with_legend(figure, 3)


@style.styled
def learned_against_forgotten(result: ComparisonResult) -> Figure:
    """Bits gained on the domain against bits lost on the base's text."""
    base, points = result.base, {}
    for method in result.methods:
        if result.forgot(method) is not None:
            won, lost = result.domain(method), result.base_text(method)
            learned, forgotten = base["domain"] - won.mean, lost.mean - base["base_text"]
            points[method] = (learned, won.deviation, forgotten, lost.deviation)
    figure, axes = plot_forgetting(
        "Learned against forgotten: right is learned, up is forgotten",
        points,
        style.LOOKS.__getitem__,
        NAMES,
        "bits/character gained on the domain",
        "forgotten: bits/character\nlost on the base's text",
    )
    axes.plot([0], [0], color=style.GREY, marker="X", markersize=9, linestyle="", label=NAMES["base"], clip_on=False)
    return style.with_legend(figure, 3)


@style.styled
def memory_by_kind(result: ComparisonResult) -> Figure:
    """Bars of the bytes that a training step keeps alive."""
    memories = {NAMES[method]: memory for method in result.methods if (memory := result.cell("memory", method))}
    figure, axes = style.single("Memory of a training step, by kind", 2.2 + 0.34 * len(memories))
    widths = {kind: [memory[kind] / 1e6 for memory in memories.values()] for kind in KINDS}
    peaks = [memory["peak"] / 1e6 for memory in memories.values()]
    looks = {
        kind: {
            "color": MEMORY[kind],
            "hatch": "\\\\\\\\" * (kind in HATCHED),
            "edgecolor": "black",
            "linewidth": 0.5,
            "height": 0.72,
        }
        for kind in KINDS
    }
    whole = stack_bars(axes, list(memories), widths, looks)
    axes.set_xlim(0, 1.04 * max([*whole, *peaks]))
    axes.plot(peaks, list(memories), "kD", markersize=5, mec="white", label="peak")
    axes.set_xlabel("MB")
    entries = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda entry: entry[1] == "peak")
    figure.legend(*zip(*entries, strict=True), loc="outside lower center", ncols=4, handlelength=1.6)
    return figure


@style.styled
def accuracy_against_labels(result: ComparisonResult) -> Figure | None:
    """Accuracy on the task against the labels per class, from scratch and from the base."""
    curves = {method: curve for method, curve in result.accuracies().items() if len(curve) > 1}
    if not curves:
        return None
    figure, axes = style.single("Why transfer: accuracy against labels")
    named = {NAMES[method]: curve for method, curve in curves.items()}
    label_curves(axes, named, [style.LOOKS[method] for method in curves], result.chance())
    axes.set_ylim(0, None)
    return style.with_legend(figure)


FIGURES = {
    draw.__name__: draw
    for draw in (quality_against_parameters, learned_against_forgotten, memory_by_kind, accuracy_against_labels)
}


def show(tables: Sequence[Grid], figures: Mapping, result: Result, out: Path, console: Console) -> None:
    """Print the tables and write the figures to `out`."""
    for grid in tables:
        console.print(grids.drawn(grid))
        console.print()
    paths = save_all(figures, result, out)
    console.print(f"Figures: {', '.join(path.name for path in paths) or 'none yet'} in {out}", markup=False)
