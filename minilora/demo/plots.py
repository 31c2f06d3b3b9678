"""The demo's figures, each a function of the results dictionary.

A figure whose part was not run is None.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minilora.demo import tables
from minilora.demo.tables import FROM_THE_BASE
from minilora.show import grids
from minilora.show.grids import NAMES
from minilora.show.style import (
    BITS,
    GREY,
    LOOKS,
    base_line,
    errorbar,
    figure_of,
    log_ticks,
    save_all,
    single,
    styled,
    with_legend,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTERS = "ABCD"  # one for each sample along the pretraining curve


def save_figures(results: dict, folder: Path | str, dpi: int = 150) -> list[Path]:
    """Write a PNG for each part that was run, and remove an older one for each that was not; returns the paths.

    Errors as for `drawing.save_all`.
    """
    return save_all(FIGURES, results, folder, dpi)


# Figures


@styled
def pretraining(results: dict) -> Figure | None:
    """The loss over the steps, and what the model writes at some of them."""
    from matplotlib.transforms import blended_transform_factory

    facts = results.get("pretraining") or {}
    curve = dict(facts.get("curve") or [])
    if not curve:
        return None
    samples = _spaced([(step, text) for step, text in facts.get("samples") or [] if step in curve])
    lines = []
    for letter, (step, text) in zip(LETTERS, samples, strict=False):
        lines.append(f"{letter}  step {step:,}, {curve[step]:.2f} bits/character")
        lines += [f"   {line}" for line in textwrap.wrap(_printable(text), 76, max_lines=2, placeholder=" …")]
    heights = {"losses": 1.5 * bool(facts.get("losses")), "curve": 2.6, "samples": 0.17 * len(lines)}  # inches, about
    heights = {panel: height for panel, height in heights.items() if height}
    figure = figure_of("Pretraining: the loss, and what the model writes along it", sum(heights.values()) + 1)
    rows = figure.subplots(len(heights), height_ratios=list(heights.values()), squeeze=False)[:, 0]
    panels = dict(zip(heights, rows, strict=True))

    below = panels["curve"]
    below.plot(curve.keys(), curve.values(), color="black", marker="o", markersize=4)
    below.set(xlabel="training step", ylabel="held-out text\n(bits/character)")
    for letter, (step, _) in zip(LETTERS, samples, strict=False):
        below.annotate(letter, (step, curve[step]), (0, 7), textcoords="offset points", ha="center", weight="bold")
    base = facts.get("base")
    if base:
        base_line(below, base["bits"])
        label = f"{base['name']} ({base['steps']:,} steps): {base['bits']:.2f}"
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        below.annotate(label, (0.01, base["bits"]), (0, 4), **place, color=GREY, fontsize=10)
    if "losses" in panels:
        above = panels["losses"]
        above.plot(*zip(*facts["losses"], strict=True), color="#999999", linewidth=1.2)
        above.sharex(below)
        above.tick_params(labelbottom=False)
        above.set_ylabel("training loss\n(nats/token)")
    if "samples" in panels:
        under = panels["samples"]
        under.axis("off")
        text = under.text(0.02, 1, "\n".join(lines), family="monospace", fontsize=9, va="top", parse_math=False)
        text.set_transform(blended_transform_factory(figure.transFigure, under.transAxes))
        text.set_in_layout(False)  # it may begin under the axis labels
    return figure


@styled
def adaptation(results: dict) -> Figure | None:
    """Held-out domain text over the steps of adaptation: the seeds thin, their mean thick, marks on what was kept."""
    methods = {
        method: rows
        for method, rows in tables.by_method(results.get("adaptation") or []).items()
        if all(row["curve"] for row in rows)
    }
    if not methods:
        return None
    figure, axes = single("Adapting to the domain: where each method starts and ends")
    for method, rows in methods.items():
        look = LOOKS[method]
        curves = [dict(row["curve"]) for row in rows]
        for row, curve in zip(rows, curves, strict=True):
            axes.plot(curve.keys(), curve.values(), color=look["color"], linewidth=0.8, alpha=0.35)
            if row["best_step"] in curve:
                axes.plot(row["best_step"], curve[row["best_step"]], color=look["color"], marker=look["marker"])
        common = [step for step in curves[0] if all(step in curve for curve in curves)]
        means = [sum(curve[step] for curve in curves) / len(curves) for step in common]
        axes.plot(common, means, **look | {"marker": ""}, linewidth=2.2)
        axes.plot([], [], **look, label=NAMES[method])
    axes.set(xlabel="training step", ylabel=f"domain, validation\n{BITS}")
    values = {method: [value for row in rows for _, value in row["curve"]] for method, rows in methods.items()}
    pretrained = [value for method, of_method in values.items() if method != "scratch" for value in of_method]
    if pretrained and "scratch" in values:  # its first steps would squeeze all the rest, so it enters from above
        low = min(pretrained + values["scratch"])
        high = max(*pretrained, min(values["scratch"]))
        axes.set_ylim(low - 0.08 * (high - low), high + 0.15 * (high - low))
    return with_legend(figure)


@styled
def quality_against_parameters(results: dict) -> Figure | None:
    """Domain quality against how many parameters train."""
    methods = tables.adapted(results)
    points = {method: one for method, one in methods.items() if one.trainable}
    if not points:
        return None
    figure, axes = single("Quality against trainable parameters: low is good, left is cheap")
    for method, one in points.items():
        label = f"{NAMES[method]} ({grids.show_share(one.trainable / one.total)})"
        errorbar(axes, method, [one.trainable], [one.domain], label, linestyle="")
    if "base" in methods:
        base_line(axes, methods["base"].domain.mean, f"{NAMES['base']} (nothing trains)")
    axes.set_xscale("log")
    counts = [one.trainable for one in points.values()]
    axes.set_xlim(min(counts) / 4, max(counts) * 4)
    axes.set(xlabel="trainable parameters (logarithmic)", ylabel=f"domain, test\n{BITS}")
    axes.margins(y=0.12)
    return with_legend(figure)


@styled
def learned_against_forgotten(results: dict) -> Figure | None:
    """Bits gained on the domain against bits lost on the base's text, for the methods that start from the base."""
    rows = tables.by_method(results.get("adaptation") or [])
    methods = [method for method in FROM_THE_BASE if method in rows]
    if "base" not in rows or not methods:
        return None
    base = tables.adapted(results)["base"]
    figure, axes = single("Learned against forgotten: right is learned, up is forgotten")
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axvline(0, color=GREY, linewidth=1)
    for method in methods:
        learned = [base.domain.mean - row["domain"] for row in rows[method]]
        forgotten = [row["base_text"] - base.base_text.mean for row in rows[method]]
        look = LOOKS[method] | {"linestyle": ""}
        axes.plot(learned, forgotten, **look, markersize=5, alpha=0.45)
        mean = ([sum(learned) / len(learned)], [sum(forgotten) / len(forgotten)])
        axes.plot(*mean, **look, markersize=11, markeredgecolor="white", label=f"{NAMES[method]} (mean; small: seeds)")
    axes.plot([0], [0], color=GREY, marker="X", markersize=9, linestyle="", label=NAMES["base"], clip_on=False)
    axes.set(
        xlabel="learned: bits/character gained on the domain",
        ylabel="forgotten: bits/character\nlost on the base's text",
    )
    axes.margins(0.15)
    return with_legend(figure)


@styled
def data_curve(results: dict) -> Figure | None:
    """Domain quality against how much of the domain was seen, from scratch and from the base."""
    curves = tables.data_curve(results)
    if not curves:
        return None
    figure, axes = single("How much text pretraining is worth: where the lines meet")
    for method, curve in curves.items():
        errorbar(axes, method, list(curve), list(curve.values()), NAMES[method])
    base = tables.adapted(results).get("base")
    if base:
        base_line(axes, base.domain.mean, NAMES["base"])
    for method in FROM_THE_BASE:
        where = tables.crossover(results, method)
        if where is not None:
            look = LOOKS[method] | {"marker": "", "linewidth": 1}
            axes.axvline(where, **look, label=f"scratch meets {NAMES[method]}: {tables.rounded(where):,}")
    log_ticks(axes, sorted({amount for curve in curves.values() for amount in curve}))
    axes.set(xlabel="characters of the domain seen (logarithmic)", ylabel=f"domain, test\n{BITS}")
    return with_legend(figure)


@styled
def accuracy_against_labels(results: dict) -> Figure | None:
    """Accuracy on the labelled task against the number of labels a class."""
    methods = tables.accuracies(results)
    if not methods:
        return None
    figure, axes = single("Why transfer: accuracy against labels")
    for index, (method, curve) in enumerate(methods.items()):
        aside = 1.03 ** (index - (len(methods) - 1) / 2)  # so that error bars stand beside each other
        values = [grids.Spread(100 * one.mean, 100 * one.half_range, one.count) for one in curve.values()]
        errorbar(axes, method, [labels * aside for labels in curve], values, NAMES[method])
    base_line(axes, 100 * results["classification"]["chance"], "chance")
    log_ticks(axes, sorted({labels for curve in methods.values() for labels in curve}))
    axes.set(xlabel="labels a class (logarithmic)", ylabel="accuracy on held-out sentences (%)")
    axes.set_ylim(0, min(100, axes.get_ylim()[1] + 3))
    return with_legend(figure)


FIGURES: dict[str, Callable[[dict], Figure | None]] = {
    draw.__name__: draw
    for draw in (
        pretraining,
        adaptation,
        quality_against_parameters,
        learned_against_forgotten,
        data_curve,
        accuracy_against_labels,
    )
}


def _spaced(samples: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """As many as there are LETTERS, evenly spaced, the first and the last included."""
    count = len(LETTERS)
    if len(samples) <= count:
        return samples
    return [samples[round(index * (len(samples) - 1) / (count - 1))] for index in range(count)]


def _printable(text: str) -> str:
    """On one line, with a replacement sign for what the figures' font may lack."""
    return "".join(c if c.isprintable() and c < "\u0250" else "\ufffd" for c in " ".join(text.split()))
