"""The demo's records as three tables that fit 80 columns, the third with verdicts; and as figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.show import grids, style
from minilora.show.grids import NAMES, Grid, Spread, seeds_in_words, show_count, show_share
from minilora.show.style import LOOKS, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNSHARED = ("base", "few-shot", "scratch")  # which have nothing to forget


class AdaptedResult(Result):
    """What adapting one base to a text and to a labelled task came to: of the demo, and of the comparison of methods.

    Raises MiniloraError for a method whose name the tables do not have.
    """

    def __init__(self, records: Records):
        super().__init__(records)
        self.methods, self.on_task, self.base = self.parts("text"), self.parts("task"), next(records.of("text", "base"))

    def trainable(self, method: str) -> int | None:
        return next(self.records.of("text", method))["trainable"] or None

    def share(self, method: str) -> float | None:
        """Return what trains as a share of the base's parameters."""
        trainable = self.trainable(method)
        return trainable / self.base["total"] if trainable else None

    def seconds(self, method: str) -> float | None:
        """Return the seconds of training on text."""
        return self.spread("seconds", "text", method).mean or None

    def peak(self, method: str) -> int | None:
        """Return the most bytes alive at once in a training step."""
        return self.records.rows.get(("memory", method), {}).get("peak")

    def domain(self, method: str) -> Spread:
        """Return bits per character on the domain's held-out text."""
        return self.spread("domain", "text", method)

    def base_text(self, method: str) -> Spread:
        """Return bits per character on held-out text of what the base was pretrained on."""
        return self.spread("base_text", "text", method)

    def forgot(self, method: str) -> float | None:
        """Return bits per character more on the base's own text than the base itself needs."""
        return None if method in UNSHARED else self.base_text(method).mean - self.base["base_text"]

    def accuracies(self) -> dict[str, dict[int, Spread]]:
        """Return accuracy in percent of each method, by the number of labels per class."""
        cells: dict[str, dict[int, list[float]]] = {method: {} for method in self.on_task}
        for (_, method, _, labels), row in ((row["key"], row) for row in self.records.of("task")):
            cells[method].setdefault(labels, []).append(100 * row["accuracy"])
        return {method: {n: Spread.of(of[n]) for n in sorted(of)} for method, of in cells.items()}

    def chance(self) -> float:
        """Return the percentage of the labelled task that a guess gets right."""
        return 100 / len(self.records.rows["classes",]["names"])

    def spreads_in_words(self) -> str:
        """Say what ± means, for the text that the methods were trained on."""
        return seeds_in_words(self.domain(method).count for method in self.methods if method != "base")


def show_bits(spread: Spread) -> str:
    return spread.show(3)


def show_percent(spread: Spread) -> str:
    return f"{spread.show(1)} %"


COLUMNS = (
    Column("trainable", AdaptedResult.trainable, show_count),
    Column("share", AdaptedResult.share, show_share),
    Column("peak\nmemory", AdaptedResult.peak, grids.show_bytes),
    Column("time", AdaptedResult.seconds, grids.show_seconds),
    Column("domain\nbits/char", AdaptedResult.domain, show_bits),
    Column("base text\nbits/char", AdaptedResult.base_text, show_bits),
    Column("forgot", AdaptedResult.forgot, grids.show_signed),
)


def adaptation_grid(result: AdaptedResult) -> Grid:
    """Tabulate what each way to adapt costs, learns of the domain and forgets of the base's own text."""
    texts = result.records.rows["texts",]
    domain, base_text = texts["domain"]["name"], texts["base"]["name"]
    return table(
        f"Adaptation to {domain}, {texts['domain']['characters']:,} characters",
        COLUMNS,
        {NAMES[method]: (result, method) for method in result.methods},
        f"Held-out text of {domain} (domain) and {base_text} (base text), after adaptation; less is better. "
        f"{result.spreads_in_words()} Forgot: bits/char lost on {base_text}. Peak memory: the most bytes alive in a "
        "training step, weights included (for the base: in reading).",
    )


def classification_grid(result: AdaptedResult) -> Grid:
    """Return accuracy of each way to learn the labelled task, by the number of labels per class."""
    accuracies, task = result.accuracies(), result.records.rows["classes",]
    amounts = sorted({amount for of_method in accuracies.values() for amount in of_method})
    trainable = Column(
        "trainable", lambda method: next(result.records.of("task", method))["trainable"], grids.show_count
    )

    def column(labels: int) -> Column:
        return Column(f"{labels}\nlabels per class", lambda method: accuracies[method].get(labels), show_percent)

    return table(
        "Classification: accuracy",
        [trainable, *map(column, amounts)],
        {NAMES[method]: (method,) for method in accuracies},
        f"{task['test_examples']:,} held-out sentences of {len(task['names'])} classes; chance is "
        f"{result.chance():.1f} %. "
        f"{seeds_in_words(one.count for of_method in accuracies.values() for one in of_method.values())}",
    )


def verdict_grid(result: AdaptedResult) -> Grid:
    """Compare the ways two by two. Means that lie no further apart than their seeds scatter are called level."""
    accuracies = result.accuracies()
    scratch = accuracies.pop("scratch")
    few, many = min(scratch), max(scratch)
    best = {n: max(accuracies, key=lambda method: accuracies[method][n].mean) for n in scratch}
    rows: dict[str, tuple] = {
        f"{NAMES[a]} / {NAMES[b]}: bits/char": (result.domain(a), result.domain(b), show_bits)
        for a, b in (("full", "base"), ("lora", "base"), ("scratch", "full"), ("scratch", "lora"))
    }
    costs: dict[str, tuple] = {
        "base text": (result.base_text, show_bits),
        "parameters": (result.trainable, show_count),
        "peak memory": (result.peak, grids.show_bytes),
        "time": (result.seconds, grids.show_seconds),
    }
    rows |= {f"LoRA / full: {what}": (of("lora"), of("full"), shown) for what, (of, shown) in costs.items()}
    for n in scratch:
        rows[f"{NAMES[best[n]]} / from scratch: {n} labels"] = (accuracies[best[n]][n], scratch[n], show_percent)
    with_few = f"{NAMES[best[few]]}, {few} / from scratch, {many} labels"
    rows[with_few] = (accuracies[best[few]][few], scratch[many], show_percent)
    frozen = f"feature extraction / full: {many} labels"
    rows[frozen] = (accuracies["feature-extraction"][many], accuracies["full"][many], show_percent)
    return table(
        "What transfer bought: the first against the second",
        [
            Column("first", lambda one, other, shown: shown(one)),
            Column("second", lambda one, other, shown: shown(other)),
            Column("verdict", lambda one, other, shown: _verdict(one, other, shown is show_percent)),
        ],
        rows,
        "Level: no further apart than the seeds scatter; of one seed no spread is known, and a small difference may be "
        "chance. With labels, the best from the base is compared.",
        first="first / second",
    )


def _verdict(one: Any, other: Any, in_points: bool) -> str:
    if isinstance(one, Spread):
        if one.overlaps(other):
            return "level"
        one, other = one.mean, other.mean
    difference = f"{abs(one - other):.1f} points" if in_points else show_share(abs(one / other - 1))
    return f"{difference} {'more' if one > other else 'less'}"


# Figures


@styled
def adaptation(result: AdaptedResult) -> Figure:
    """Held-out domain text over the steps of adaptation: a line for each seed, a mark at the step that was kept.

    Where the lines start is what pretraining brought; one that turns up again learns its few characters by heart.
    """
    figure, axes = style.single("Adapting to the domain: where each method starts and ends")
    highest = 0.0
    for method in result.methods[1:]:  # the base does not train
        look = LOOKS[method]
        for row in result.records.of("text", method):
            curve = dict(row["curve"])
            axes.plot([*curve], [*curve.values()], **look | {"marker": ""}, linewidth=1.2)
            axes.plot(row["best_step"], curve[row["best_step"]], color=look["color"], marker=look["marker"])
            # The first steps from scratch would squeeze all the rest, so its line enters from above.
            highest = max(highest, min(curve.values()) if method == "scratch" else max(curve.values()))
        axes.plot([], [], **look, label=NAMES[method])
    axes.set(xlabel="training step", ylabel=f"domain, validation\n{style.BITS}")
    axes.set_ylim(None, 1.05 * highest)
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


FIGURES = {"adaptation": adaptation, "accuracy_against_labels": accuracy_against_labels}
