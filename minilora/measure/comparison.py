"""The comparison's records as tables, figures and sentences. Everything here is a function of the records alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from minilora.measure.records import Records
from minilora.show.grids import (
    NAMES,
    Grid,
    Spread,
    drawn,
    in_order,
    seeds_in_words,
    show_count,
    show_seconds,
    show_share,
    show_signed,
)
from minilora.show.style import (
    BITS,
    GREY,
    LOOKS,
    base_line,
    errorbar,
    figure_of,
    log_ticks,
    name_far_point,
    save_all,
    single,
    styled,
    with_legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {  # of memory, with a look that grey keeps apart
    "weights": {"color": "#0072B2", "hatch": ""},
    "gradients": {"color": "#E69F00", "hatch": "//"},
    "optimizer": {"color": "#56B4E9", "hatch": "\\\\"},
    "activations": {"color": "#D9D9D9", "hatch": ".."},
}
PROMPTED = ("base", "few-shot")  # nothing trains


@dataclass(frozen=True)
class Compared:
    """What the seeds of one method came to; None where it was not measured."""

    trainable: int
    share: float | None  # of the base's parameters
    file_bytes: int
    seconds: float | None  # of training on text, where nothing else ran beside it
    domain: Spread
    base_text: Spread
    accuracy: Spread | None
    memory: dict[str, int] | None
    speed: dict[str, float] | None
    rates: dict[str, float]  # by part, what the search found


def compared(records: Records) -> dict[str, Compared]:
    """Each method whose text was measured, in the order of NAMES. Raises MiniloraError for one that is not there."""
    found = {}
    total = next((row["total"] for row in records.of("text", "base")), 0)
    labels = records.header["settings"]["labels"]
    for method in in_order(row["key"][1] for row in records.of("text")):
        text = list(records.of("text", method))
        task = [row for row in records.of("task", method) if row["key"][3] in (0, labels)]
        first = text[0]
        alone = [row["seconds"] for row in (*text, *records.of("time", method)) if row["seconds"] is not None]
        found[method] = Compared(
            first["trainable"],
            first["trainable"] / total if total else None,
            max(row["file_bytes"] for row in text),
            Spread.of(alone).mean if alone else None,
            Spread.of(row["domain"] for row in text),
            Spread.of(row["base_text"] for row in text),
            Spread.of(row["accuracy"] for row in task) if task else None,
            next(iter(records.of("memory", method)), None),
            next(iter(records.of("speed", method)), None),
            {part: rows[0]["lr"] for part, rows in (("text", text), ("task", task)) if rows and "lr" in rows[0]},
        )
    return found


def forgotten(methods: dict[str, Compared], method: str) -> float | None:
    """Bits a character more on the base's own text than the base itself needs."""
    if method in PROMPTED or method == "scratch" or "base" not in methods:
        return None
    return methods[method].base_text.mean - methods["base"].base_text.mean


# Tables


def quality_grid(records: Records) -> Grid:
    """What each method learns of the domain and the task, and what it forgets of the base's text."""
    methods, rows = compared(records), []
    for method, one in methods.items():
        lost = forgotten(methods, method)
        rows.append(
            (
                NAMES[method],
                show_count(one.trainable) if one.trainable else "–",
                show_share(one.share) if one.trainable and one.share is not None else "–",
                f"{one.rates['text']:g}" if "text" in one.rates else "–",
                one.domain.show(3),
                "–" if lost is None else show_signed(lost),
                "–" if one.accuracy is None else f"{one.accuracy.show(1, 100)} %",
            )
        )
    settings = records.header["settings"]
    return Grid(
        f"Learned and forgotten: {settings['characters']:,} characters, {settings['labels']} labels a class",
        ("method", "trainable", "share", "rate", "domain\nbits/char", "forgot", "task\naccuracy"),
        rows,
        "Held-out text of numpy-docs (domain; less is better), bits/char lost on held-out python-docs (forgot), and "
        "held-out sentences of the labelled task. Rate: the learning rate on text, found by search on validation "
        f"text. {seeds_in_words(one.domain.count for method, one in methods.items() if method != 'base')}",
    )


def cost_grid(records: Records) -> Grid:
    """What each method needs: memory by kind, file, time, speed of generating."""
    methods = compared(records)
    rows = []
    for method, one in methods.items():
        memory = one.memory
        sizes = [megabytes(memory[kind]) if memory else "–" for kind in (*KINDS, "peak", "process")]
        speed = one.speed or {}
        adapted = speed.get("adapted", speed.get("base"))
        rows.append(
            (
                NAMES[method],
                *sizes,
                show_size(one.file_bytes) if one.file_bytes else "–",
                show_seconds(one.seconds) if one.seconds else "–",
                f"{adapted:.0f}" if adapted else "–",
                f"{speed['merged']:.0f}" if "merged" in speed else "–",
            )
        )
    return Grid(
        "What it costs",
        ("method", "wei", "gra", "opt", "act", "peak", "all", "file", "time", "tok/s", "merged"),
        rows,
        "MB of a training step: weights, gradients, optimizer and activations alive after a forward pass, the most "
        "bytes alive at once (peak), and the whole process with Python (all). File: what is saved. Time: training on "
        "the domain. Tokens a second of greedy generation, one prompt, before and after merging.",
    )


def megabytes(number: int) -> str:
    """With one digit after the point where there is but one before it."""
    return f"{number / 1e6:.1f}" if number < 9.95e6 else f"{number / 1e6:.0f}"


def show_size(number: int) -> str:
    """`82 kB` or `11.3 MB`."""
    return f"{number / 1e3:.0f} kB" if number < 999_500 else f"{number / 1e6:.1f} MB"


# Figures


def tall(title: str) -> tuple[Figure, Axes]:
    """A figure with one plot, and with room for a legend of all methods."""
    figure = figure_of(title, 5.8)
    return figure, figure.subplots()


@styled
def quality_against_parameters(records: Records) -> Figure | None:
    """Domain quality against how many parameters train, every method one point."""
    methods = compared(records)
    points = {method: one for method, one in methods.items() if one.trainable}
    if not points:
        return None
    figure, axes = tall("Quality against trainable parameters: low is good, left is cheap")
    for method, one in points.items():
        errorbar(axes, method, [one.trainable], [one.domain], NAMES[method], linestyle="")
    for method in PROMPTED:
        if method in methods:
            axes.axhline(methods[method].domain.mean, **LOOKS[method] | {"marker": ""}, label=NAMES[method])
    axes.set_xscale("log")
    counts = [one.trainable for one in points.values()]
    axes.set_xlim(min(counts) / 3, max(counts) * 3)
    axes.set(xlabel="trainable parameters (logarithmic)", ylabel=f"domain, test\n{BITS}")
    axes.margins(y=0.1)
    levels = [methods[method].domain.mean for method in PROMPTED if method in methods]
    name_far_point(axes, {method: (one.trainable, one.domain) for method, one in points.items()}, levels)
    return with_legend(figure, 3)


@styled
def learned_against_forgotten(records: Records) -> Figure | None:
    """Bits gained on the domain against bits lost on the base's text."""
    methods = compared(records)
    points = [method for method in methods if forgotten(methods, method) is not None]
    if not points:
        return None
    base = methods["base"]
    figure, axes = tall("Learned against forgotten: right is learned, up is forgotten")
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axvline(0, color=GREY, linewidth=1)
    for method in points:
        one = methods[method]
        axes.errorbar(
            [base.domain.mean - one.domain.mean],
            [forgotten(methods, method)],
            [one.base_text.half_range],
            [one.domain.half_range],
            **LOOKS[method] | {"linestyle": ""},
            markersize=8,
            label=NAMES[method],
        )
    axes.plot([0], [0], color=GREY, marker="X", markersize=9, linestyle="", label=NAMES["base"], clip_on=False)
    axes.set(
        xlabel="learned: bits/character gained on the domain",
        ylabel="forgotten: bits/character\nlost on the base's text",
    )
    axes.margins(0.12)
    return with_legend(figure, 3)


@styled
def memory_by_kind(records: Records) -> Figure | None:
    """Bars of the bytes that a training step keeps alive."""
    methods = {method: one.memory for method, one in compared(records).items() if one.memory}
    if not methods:
        return None
    figure, axes = single("Memory of a training step, by kind")
    names = [NAMES[method] for method in methods]
    stack_bars(axes, names, [{kind: memory[kind] for kind in KINDS} for memory in methods.values()])
    axes.plot(
        [memory["peak"] / 1e6 for memory in methods.values()],
        names,
        color="black",
        marker="|",
        markersize=12,
        linestyle="",
        label="most alive at once",
    )
    return with_legend(figure)


def stack_bars(axes: Axes, names: list[str], memories: list[dict[str, int]]) -> None:
    """Horizontal bars in MB, the kinds of memory end to end, the first name at the top."""
    left = [0.0] * len(names)
    for kind in memories[0]:
        widths = [memory[kind] / 1e6 for memory in memories]
        axes.barh(names, widths, left=left, label=kind, edgecolor="white", linewidth=0.5, **KINDS[kind])
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("MB")


@styled
def accuracy_against_labels(records: Records) -> Figure | None:
    """Accuracy on the task against the labels a class, from scratch and from the base."""
    settings = records.header["settings"]
    curves: dict[str, dict[int, Spread]] = {}
    for method in settings["curve_methods"]:
        rows = list(records.of("task", method))
        amounts = sorted({row["key"][3] for row in rows})
        curves[method] = {n: Spread.of(100 * r["accuracy"] for r in rows if r["key"][3] == n) for n in amounts}
    curves = {method: curve for method, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    figure, axes = single("Why transfer: accuracy against labels")
    for index, (method, curve) in enumerate(curves.items()):
        aside = 1.03 ** (index - (len(curves) - 1) / 2)  # so that error bars stand beside each other
        errorbar(axes, method, [labels * aside for labels in curve], list(curve.values()), NAMES[method])
    base_line(axes, 100 / 8, "chance")
    log_ticks(axes, sorted({labels for curve in curves.values() for labels in curve}))
    axes.set(xlabel="labels a class (logarithmic)", ylabel="accuracy on held-out sentences (%)")
    axes.set_ylim(0, None)
    return with_legend(figure)


FIGURES = {
    draw.__name__: draw
    for draw in (quality_against_parameters, learned_against_forgotten, memory_by_kind, accuracy_against_labels)
}


# All of it


def show(records: Records, out: Path, console: Console) -> None:
    """Print the tables and write the figures to `out`."""
    for grid in (quality_grid(records), cost_grid(records)):
        console.print(drawn(grid))
        console.print()
    paths = save_all(FIGURES, records, out)
    console.print(f"Figures: {', '.join(path.name for path in paths)} in {out}", markup=False)


def as_json(records: Records) -> dict:
    """Header and cells, for a script."""
    return {"header": records.header, "cells": list(records.rows.values())}
