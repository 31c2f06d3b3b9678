"""Tables and figures of the comparison on the package's base: the tables list `QUALITY` and `COST`, and each figure is
a function.

`compare_model_report`, on published models, shares two of the plots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

PROMPTED = ("base", "few-shot")  # methods that train nothing
HATCHED = ("optimizer",)  # hatched, so that it differs from its neighbours in grey, too


class ComparisonResult(AdaptedResult):
    """The records of the comparison, with numbers over the seeds; None for what was not measured."""

    def accuracy(self, method: str) -> Spread | None:
        """Return accuracy in percent, by the prompt or after training on the settings' number of labels."""
        task = [row for row in self.records.of("task", method) if row["key"][3] in (0, self.settings["labels"])]
        return Spread.of(100 * row["accuracy"] for row in task) if task else None

    def accuracies(self) -> dict[str, dict[int, Spread]]:
        """Return the accuracy in percent of each method by the number of labels per class."""
        cells: dict[str, dict[int, list[float]]] = {method: {} for method in self.parts("task")}
        for (_, method, _, labels), row in ((row["key"], row) for row in self.records.of("task")):
            cells[method].setdefault(labels, []).append(100 * row["accuracy"])
        return {method: {n: Spread.of(of[n]) for n in sorted(of)} for method, of in cells.items()}

    def chance(self) -> float:
        """Return the percentage of the labelled task that guessing gets right."""
        return 100 / len(self.records.rows["classes",]["names"])

    def cell(self, kind: str, method: str) -> dict:
        """Return the "memory" or the "speed" of a method, empty if it was not measured."""
        return self.records.rows.get((kind, method), {})

    def generates(self, method: str) -> float | None:
        """Return the tokens per second before merging, over those of the base, which took turns with the method.

        Rates of two rows cannot be compared: the machine's own speed changed from row to row.
        """
        speed = self.cell("speed", method)
        return speed["adapted"] / speed["base"] if "adapted" in speed else None


# Tables


def show_percent(spread: Spread) -> str:
    return f"{spread.show(1)} %"


def megabytes(number: int) -> str:
    """Write megabytes, below ten with one decimal."""
    return f"{number / 1e6:.1f}" if number < 9.95e6 else f"{number / 1e6:.0f}"


def _of(cell: str, part: str, header: str, show: Callable[[Any], str] = "{:.0f}".format) -> Column:
    return Column(header, lambda result, method: result.cell(cell, method).get(part), show)


R = ComparisonResult
QUALITY = {  # {name of a number in texts, after `comparison.METHOD.`: its column}
    "share": Column("share", R.share, grids.show_share),
    "domain": Column("domain\nbits/char", R.domain, show_bits),
    "forgot": Column("forgot", R.forgot, grids.show_signed),
    "accuracy": Column("task\naccuracy", R.accuracy, show_percent),
}
COST = {
    "peak": _of("memory", "peak", "peak\nMB", megabytes),
    "time": Column("time", R.seconds, grids.show_seconds),
    "speed": Column("writes\n× base", R.generates, "{:.2f}".format),
}
IN_TEXTS = QUALITY | {"trainable": Column("", R.trainable, grids.show_count), **COST}
IN_TEXTS |= {f"memory.{kind}": _of("memory", kind, "", grids.show_bytes) for kind in KINDS}
IN_TEXTS |= {f"speed.{kind}": _of("speed", kind, "") for kind in ("base", "adapted", "merged")}


def in_texts(result: ComparisonResult, method: str) -> dict[str, str]:
    """Return {name of IN_TEXTS: its text} for what was measured."""
    columns = {name: (column, column.value(result, method)) for name, column in IN_TEXTS.items()}
    return {name: column.show(value) for name, (column, value) in columns.items() if value is not None}


def grid(result: ComparisonResult) -> Grid:
    """Tabulate what each method learns of the domain and the task, what it forgets, and what it costs."""
    settings = result.settings
    return table(
        f"{settings['characters']:,} characters, {settings['labels']} labels per class",
        [*QUALITY.values(), *COST.values()],
        {NAMES[method]: (result, method) for method in result.methods},
        f"Domain: bits/char of held-out numpy-docs after training on {settings['characters']:,} characters; forgot: "
        "bits/char lost on held-out python-docs; task accuracy: on sentences in eight topics, after training on "
        f"{settings['labels']} labels per class. Writes: tokens per second over the base's, one thread, not merged. "
        f"{result.spreads_in_words()}",
    )


# Figures


def plot_quality(
    title: str,
    points: Mapping[str, tuple[float, Spread]],
    levels: Mapping[str, float],
    looks: Callable[[str], Mapping],
    labels: Mapping[str, str],
) -> tuple[Figure, Axes]:
    """Plot points {row: (amount that trains, quality)} on a logarithmic axis, and what needs no training as lines."""
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
    """Plot points {row: (learned, its deviation, forgotten, its deviation)} around the base at the origin."""
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
    """Bits per character on NumPy's documentation (less is better) against the number of trainable parameters."""
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
    """Bits per character gained on NumPy's documentation (right) against bits lost on Python's, which the base was
    pretrained on (up).
    """
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
    """Bytes alive after a forward pass of a training step, by kind; the diamond is the peak of the whole step."""
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
    """Accuracy on held-out sentences in eight topics against the labels per class, trained from scratch and from the
    base.
    """
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


def show(grid: Grid, figures: Mapping, result: Result, out: Path, console: Console) -> None:
    """Print the table and write the figures to `out`."""
    console.print(grids.drawn(grid))
    console.print()
    paths = save_all(figures, result, out)
    console.print(f"Figures: {', '.join(path.name for path in paths) or 'none yet'} in {out}", markup=False)
