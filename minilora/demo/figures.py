"""The demo's figures, each a function of what its records say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minilora.demo.claims import AdaptedResult
from minilora.show import style
from minilora.show.grids import NAMES
from minilora.show.style import LOOKS, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def pretraining(result: AdaptedResult) -> Figure:
    """The training loss, and bits per character on held-out text, over the steps."""
    facts = result.records.rows["pretraining",]
    figure = style.figure_of("Pretraining: the training loss, and held-out text", 4.8)
    above, below = figure.subplots(2, sharex=True, height_ratios=(1.5, 2.6))
    above.plot(*zip(*facts["losses"], strict=True), color="#999999", linewidth=1.2)
    above.set_ylabel("training loss\n(nats/token)")
    below.plot(*zip(*facts["curve"], strict=True), color="black", marker="o", markersize=4)
    below.set(xlabel="training step", ylabel="held-out text\n(bits/character)")
    if base := facts["base"]:
        label = f"{base['name']} ({base['steps']:,} steps): {base['bits']:.2f}"
        style.base_line(below, base["bits"], label)
        return style.with_legend(figure)
    return figure


@styled
def adaptation(result: AdaptedResult) -> Figure:
    """Held-out domain text over the steps of adaptation: the seeds thin, their mean thick, marks on what was kept."""
    figure, axes = style.single("Adapting to the domain: where each method starts and ends")
    values: dict[str, list[float]] = {}
    for method in result.methods[1:]:  # the base does not train
        look, rows = LOOKS[method], list(result.records.of("text", method))
        curves = [dict(row["curve"]) for row in rows]
        values[method] = [value for curve in curves for value in curve.values()]
        for row, curve in zip(rows, curves, strict=True):
            axes.plot([*curve], [*curve.values()], color=look["color"], linewidth=0.8, alpha=0.35)
            if row["best_step"] in curve:
                axes.plot(row["best_step"], curve[row["best_step"]], color=look["color"], marker=look["marker"])
        common = [step for step in curves[0] if all(step in curve for curve in curves)]
        means = [sum(curve[step] for curve in curves) / len(curves) for step in common]
        axes.plot(common, means, **look | {"marker": ""}, linewidth=2.2)
        axes.plot([], [], **look, label=NAMES[method])
    axes.set(xlabel="training step", ylabel=f"domain, validation\n{style.BITS}")
    # The first steps from scratch would squeeze all the rest, so its line enters from above.
    scratch = values.pop("scratch")
    pretrained = [value for of_method in values.values() for value in of_method]
    low, high = min(pretrained + scratch), max(*pretrained, min(scratch))
    axes.set_ylim(low - 0.08 * (high - low), high + 0.15 * (high - low))
    return style.with_legend(figure)


@styled
def accuracy_against_labels(result: AdaptedResult) -> Figure | None:
    """Accuracy on the task against the labels per class, from scratch and from the base."""
    curves = {method: curve for method, curve in result.accuracies().items() if len(curve) > 1}
    if not curves:
        return None
    figure, axes = style.single("Why transfer: accuracy against labels")
    named = {NAMES[method]: curve for method, curve in curves.items()}
    style.label_curves(axes, named, [LOOKS[method] for method in curves], result.chance())
    axes.set_ylim(0, None)
    return style.with_legend(figure)


FIGURES = {  # each with what to look at in it
    pretraining: (
        "Above, what training minimizes; below, the same model on text that it never sees. Look at what each stretch "
        "of the curve brings to what the model writes, underneath: letters, words, then sentences."
    ),
    adaptation: (
        "Thin lines are seeds, thick lines their mean over the steps that all of them reached; each mark is a step "
        "whose weights were kept. Look at where the lines start: that distance is what pretraining brought. A line "
        "that turns up again has begun to learn its few characters by heart."
    ),
    accuracy_against_labels: (
        "Each mark is the mean over seeds, its bar half their range; marks at one number of labels are set a little "
        "apart. Look at how the distance to training from scratch changes with more labels."
    ),
}
