"""Table and figure of the demo's records. The table fits 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.show import grids, style
from minilora.show.grids import NAMES, Grid, Spread, seeds_in_words, show_count, show_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNSHARED = ("base", "few-shot", "scratch")  # these forget nothing


class AdaptedResult(Result):
    """Results of adapting one base to a text, for the demo and the comparison of methods.

    Raises MiniloraError for a method whose name the tables do not know.
    """

    def __init__(self, records: Records):
        super().__init__(records)
        self.methods, self.base = self.parts("text"), next(records.of("text", "base"))

    def trainable(self, method: str) -> int | None:
        return next(self.records.of("text", method))["trainable"] or None

    def share(self, method: str) -> float | None:
        """Return the trainable parameters as a share of the base's parameters."""
        trainable = self.trainable(method)
        return trainable / self.base["total"] if trainable else None

    def seconds(self, method: str) -> float | None:
        """Return the mean seconds of training on text."""
        return self.spread("seconds", "text", method).mean or None

    def peak(self, method: str) -> int | None:
        """Return the peak bytes of a training step."""
        return self.records.rows.get(("memory", method), {}).get("peak")

    def domain(self, method: str) -> Spread:
        """Return bits per character on the domain's held-out text."""
        return self.spread("domain", "text", method)

    def base_text(self, method: str) -> Spread:
        """Return bits per character on held-out text of the base's pretraining data."""
        return self.spread("base_text", "text", method)

    def forgot(self, method: str) -> float | None:
        """Return the increase in bits per character on the base's own text, compared with the base."""
        return None if method in UNSHARED else self.base_text(method).mean - self.base["base_text"]

    def spreads_in_words(self) -> str:
        """Say what ± means in the table: the number of seeds behind it."""
        return seeds_in_words(self.domain(method).count for method in self.methods if method != "base")


def show_bits(spread: Spread) -> str:
    return spread.show(3)


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
    """Tabulate what each method costs, learns on the domain and forgets on the base's own text."""
    texts = result.records.rows["texts",]
    domain, base_text = texts["domain"]["name"], texts["base"]["name"]
    return table(
        f"Adaptation to {domain}, {texts['domain']['characters']:,} characters",
        COLUMNS,
        {NAMES[method]: (result, method) for method in result.methods},
        f"Bits/char on held-out text of {domain} (domain) and {base_text} (base text); lower is better. "
        f"{result.spreads_in_words()} Forgot: increase in bits/char on {base_text}. Peak memory: of a training step, "
        "weights included (for the base: of evaluation).",
    )


@style.styled
def learned_against_forgotten(result: AdaptedResult) -> Figure:
    """Plot each method's bits on the domain's text against its bits on the base's own text; lower left is better."""
    figure, axes = style.single("What each method learned, and what it forgot")
    for method in result.methods:
        forgotten, learned = result.base_text(method), result.domain(method)
        style.errorbar(axes, method, [forgotten.mean], [learned], NAMES[method], linestyle="")
    axes.set(xlabel=f"the base's own text, {style.BITS}", ylabel=f"the domain, {style.BITS}")
    return style.with_legend(figure)
