"""The demo's figures, each a function of the records, and the registry of those that the report has.

A figure whose part was not measured is None.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minilora.demo import claims
from minilora.demo.claims import FROM_THE_BASE
from minilora.measure import compare_report
from minilora.measure.compare_report import compared, methods_of
from minilora.measure.records import Records
from minilora.show import style
from minilora.show.grids import NAMES
from minilora.show.style import LOOKS, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTERS = "ABCD"  # one for each sample along the pretraining curve


@styled
def pretraining(records: Records) -> Figure | None:
    """The loss over the steps, and what the model writes at some of them."""
    from matplotlib.transforms import blended_transform_factory

    facts = records.rows.get(("pretraining",), {})
    curve = dict(facts.get("curve") or [])
    if not curve:
        return None
    samples = _spaced([(step, text) for step, text in facts.get("samples") or [] if step in curve])
    lines = []
    for letter, (step, text) in zip(LETTERS, samples, strict=False):
        lines.append(f"{letter}  step {step:,}, {curve[step]:.2f} bits/character")
        lines += [f"   {line}" for line in textwrap.wrap(style.printable(text), 76, max_lines=2, placeholder=" …")]
    heights = {"losses": 1.5 * bool(facts.get("losses")), "curve": 2.6, "samples": 0.17 * len(lines)}  # inches, about
    heights = {panel: height for panel, height in heights.items() if height}
    figure = style.figure_of("Pretraining: the loss, and what the model writes along it", sum(heights.values()) + 1)
    rows = figure.subplots(len(heights), height_ratios=list(heights.values()), squeeze=False)[:, 0]
    panels = dict(zip(heights, rows, strict=True))

    below = panels["curve"]
    below.plot([*curve], [*curve.values()], color="black", marker="o", markersize=4)
    below.set(xlabel="training step", ylabel="held-out text\n(bits/character)")
    for letter, (step, _) in zip(LETTERS, samples, strict=False):
        below.annotate(letter, (step, curve[step]), (0, 7), textcoords="offset points", ha="center", weight="bold")
    base = facts.get("base")
    if base:
        style.base_line(below, base["bits"])
        label = f"{base['name']} ({base['steps']:,} steps): {base['bits']:.2f}"
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        below.annotate(label, (0.01, base["bits"]), (0, 4), **place, color=style.GREY, fontsize=10)
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
def adaptation(records: Records) -> Figure | None:
    """Held-out domain text over the steps of adaptation: the seeds thin, their mean thick, marks on what was kept."""
    methods = {method: list(records.of("text", method)) for method in methods_of(records, "text")}
    methods = {method: rows for method, rows in methods.items() if all(row.get("curve") for row in rows)}
    if not methods:
        return None
    figure, axes = style.single("Adapting to the domain: where each method starts and ends")
    for method, rows in methods.items():
        look = LOOKS[method]
        curves = [dict(row["curve"]) for row in rows]
        for row, curve in zip(rows, curves, strict=True):
            axes.plot([*curve], [*curve.values()], color=look["color"], linewidth=0.8, alpha=0.35)
            if row["best_step"] in curve:
                axes.plot(row["best_step"], curve[row["best_step"]], color=look["color"], marker=look["marker"])
        common = [step for step in curves[0] if all(step in curve for curve in curves)]
        means = [sum(curve[step] for curve in curves) / len(curves) for step in common]
        axes.plot(common, means, **look | {"marker": ""}, linewidth=2.2)
        axes.plot([], [], **look, label=NAMES[method])
    axes.set(xlabel="training step", ylabel=f"domain, validation\n{style.BITS}")
    values = {method: [value for row in rows for _, value in row["curve"]] for method, rows in methods.items()}
    pretrained = [value for method, of_method in values.items() if method != "scratch" for value in of_method]
    if pretrained and "scratch" in values:  # its first steps would squeeze all the rest, so it enters from above
        low = min(pretrained + values["scratch"])
        high = max(*pretrained, min(values["scratch"]))
        axes.set_ylim(low - 0.08 * (high - low), high + 0.15 * (high - low))
    return style.with_legend(figure)


@styled
def data_curve(records: Records) -> Figure | None:
    """Domain quality against how much of the domain was seen, from scratch and from the base."""
    curves = claims.data_curve(records)
    if not curves:
        return None
    figure, axes = style.single("How much text pretraining is worth: where the lines meet")
    for method, curve in curves.items():
        style.errorbar(axes, method, list(curve), list(curve.values()), NAMES[method])
    base = compared(records).get("base")
    if base:
        style.base_line(axes, base.domain.mean, NAMES["base"])
    for method in FROM_THE_BASE:
        where = claims.crossover(records, method)
        if where is not None:
            look = LOOKS[method] | {"marker": "", "linewidth": 1}
            axes.axvline(where, **look, label=f"scratch meets {NAMES[method]}: {claims.rounded(where):,}")
    style.log_ticks(axes, sorted({amount for curve in curves.values() for amount in curve}))
    axes.set(xlabel="characters of the domain seen (logarithmic)", ylabel=f"domain, test\n{style.BITS}")
    return style.with_legend(figure)


def _spaced(samples: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """As many as there are LETTERS, evenly spaced, the first and the last included."""
    count = len(LETTERS)
    if len(samples) <= count:
        return samples
    return [samples[round(index * (len(samples) - 1) / (count - 1))] for index in range(count)]


# What the report has


@dataclass(frozen=True)
class Picture:
    """A figure of the report. step: of the report, where it stands; caption: what to look at in it."""

    draw: Callable[[Records], Figure | None]
    step: str
    caption: str

    def __post_init__(self):
        if self.step not in STEPS:
            raise ValueError(f"{self.draw.__name__}: there is no step {self.step!r}, only {', '.join(STEPS)}")


STEPS = ("pretraining", "adaptation", "classification")
PICTURES = (
    Picture(
        pretraining,
        "pretraining",
        "Above, what training minimizes; below, the same model on text that it never sees. The letters mark the steps "
        "at which it wrote the lines underneath. Look at what each stretch of the curve brings: letters, words, then "
        "sentences.",
    ),
    Picture(
        adaptation,
        "adaptation",
        "Thin lines are seeds, thick lines their mean over the steps that all of them reached; each mark is a step "
        "whose weights were kept. Look at where the lines start: that distance is what pretraining brought. A line "
        "that turns up again has begun to learn its few characters by heart.",
    ),
    Picture(
        compare_report.quality_against_parameters,
        "adaptation",
        "Each mark is a method, its bar half the range over seeds; the dashed line is the base before any training. "
        "Look at the difference in height between methods that train far fewer parameters and those that train all.",
    ),
    Picture(
        compare_report.learned_against_forgotten,
        "adaptation",
        "The base is at the cross. To the right is what was learned of the domain, upwards what was lost of the text "
        "that the base came from. Look for a method far to the right and near the line at 0.",
    ),
    Picture(
        data_curve,
        "adaptation",
        "The same methods with more and more of the domain's text. Look at whether, and where, training from scratch "
        "meets the others: with less text than that, the base is worth having.",
    ),
    Picture(
        compare_report.accuracy_against_labels,
        "classification",
        "Each mark is the mean over seeds, its bar half their range; marks at one number of labels are set a little "
        "apart. Look at how the distance to training from scratch changes with more labels.",
    ),
)
FIGURES = {picture.draw.__name__: picture.draw for picture in PICTURES}
