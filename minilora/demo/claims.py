"""The demo's records as two tables that fit 80 columns."""

from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.show import grids
from minilora.show.grids import NAMES, Grid, Spread, seeds_in_words, show_count, show_share

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
