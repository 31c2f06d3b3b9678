"""Numbers and table of the demo's records. The table fits 80 columns."""

from __future__ import annotations

from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.show import grids
from minilora.show.grids import NAMES, Grid, Spread, seeds_in_words, show_count, show_share, show_signed

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

    def learned(self, method: str) -> float:
        """Return the decrease in bits per character on the domain's text, compared with the base."""
        return self.base["domain"] - self.domain(method).mean

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
    Column("forgot", AdaptedResult.forgot, show_signed),
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


def three_numbers(result: AdaptedResult) -> list[tuple[str, str]]:
    """Return three numbers with their explanations: what pretraining saves, what LoRA trains, what it forgot."""
    texts = result.records.rows["texts",]
    domain, base_text, full, lora = texts["domain"]["name"], texts["base"]["name"], "full", "lora"
    worth = result.domain("scratch").mean - result.domain(full).mean
    return [
        (
            f"{worth:.2f}",
            f"bits/character that pretraining saves on {domain}: fine-tuned, the base needs that much less than the "
            "same network trained from scratch",
        ),
        (
            show_share(result.share(lora) or 0),
            f"of the base's weights is all that LoRA trains. It gains {result.learned(lora):.3f} bits/character on "
            f"{domain}; full fine-tuning, which trains all of them, {result.learned(full):.3f}",
        ),
        (
            show_signed(result.forgot(lora) or 0),
            f"bits/character on {base_text}, from which the base came, is what LoRA has forgotten; full fine-tuning "
            f"{show_signed(result.forgot(full) or 0)}",
        ),
    ]


def learned_and_forgot(result: AdaptedResult) -> dict[str, float]:
    """Return the bars of the demo's chart: what full fine-tuning and LoRA learned and forgot."""
    methods = ("full", "lora")
    learned = {f"{NAMES[method]} learned": result.learned(method) for method in methods}
    return learned | {f"{NAMES[method]} forgot": result.forgot(method) or 0 for method in methods}
