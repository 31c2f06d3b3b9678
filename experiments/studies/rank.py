"""The study of how much rank LoRA needs, and whether its best learning rate depends on the rank."""

from itertools import product
from math import exp, log

from experiments.bench import Bench, measured
from experiments.studies.bracket import bracketed, optimum
from experiments.studies.study import Study, StudySettings, compared
from minilora.measure.records import Records
from minilora.measure.statistics import Interval, paired_interval
from minilora.show.grids import Grid
from minilora.show.style import SERIES, log_ticks, single, styled, with_legend
from minilora.train.methods import Options

# alpha as a function of the rank. The update is scaled by alpha / r, so rsLoRA's 16 / sqrt(r) is alpha = 16 sqrt(r).
RULES = {"2r": lambda rank: 2 * rank, "16": lambda rank: 16, "rs": lambda rank: 16 * rank**0.5}
DEFAULT = "2r"  # the library's
WORDS = {"2r": "alpha = 2r", "16": "alpha = 16", "rs": "rsLoRA, alpha = 16"}
MARGIN = 0.01  # a rate within these bits per character of the best counts as good


class Rank(Study):
    name = "rank"
    question = "How much rank does LoRA need, and does its best rate depend on it?"
    published = (
        "On WikiSQL, LoRA reaches 73.4, 73.3, 73.7, 73.8 and 73.5 % at r = 1, 2, 4, 8 and 64 on q and v of GPT-3 (Hu "
        "et al. 2021, table 6). With a fixed alpha, the best rate is approximately independent of the rank (Schulman "
        "et al. 2025, LoRA without regret); if the update is divided by sqrt(r), learning is said to be stable at "
        "every rank (Kalajdzievski 2023)."
    )
    full = StudySettings(values=(1, 64, 8, 16, 4), kinds=tuple(RULES), seeds=(0, 1, 2, 3, 4, 5))
    quick = full.quick(values=(1, 32, 8))
    large = full.large(values=(1, 64, 8))

    def __init__(self, records: Records):
        super().__init__(records)
        self.values = sorted(self.values)  # the settings measure the ends first

    @staticmethod
    def cells(settings: StudySettings) -> list[tuple]:
        return [(rule, rank, seed) for rank, seed, rule in product(settings.values, settings.seeds, settings.kinds)]

    @staticmethod
    def measure(bench: Bench, rule: str, rank: int, seed: int) -> dict:
        alpha = float(RULES[rule](rank))

        def loss(rate: float) -> float | None:
            train = lambda: bench.adapt("lora", rate, seed, Options(rank=rank, alpha=alpha))[1].best  # noqa: E731
            return bench.records.measured(("rate", rank, alpha, rate, seed), measured, train)["loss"]

        # Adam's first steps change B by the rate alone, so that the update grows with rate · alpha / sqrt(r) or so.
        start = bench.first_rate("lora") * 6 * rank**0.5 / alpha
        return {"alpha": alpha} | optimum(bracketed(start, loss, MARGIN), MARGIN)

    def logs(self, number: str, rule: str, rank: int) -> list[float]:
        """Return the logarithms of a rate, by rising seed."""
        rows = sorted(self.records.of(rule, rank), key=lambda row: row["key"][-1])
        return [log(row[number]) for row in rows]

    def rate(self, number: str, rule: str, rank: int) -> float:
        """Return the geometric mean of a rate over the seeds."""
        logs = self.logs(number, rule, rank)
        return exp(sum(logs) / len(logs))

    def change(self, rule: str) -> Interval:
        """Return the change of log(best rate) from the lowest rank to the highest, paired by seed."""
        first, last = (self.logs("lr", rule, rank) for rank in (self.values[0], self.values[-1]))
        return paired_interval([b - a for a, b in zip(first, last, strict=True)], comparisons=len(self.kinds) + 1)

    def gain(self) -> Interval:
        """Return how many bits per character the highest rank saves over the lowest, each at its best rate."""
        return self.paired("loss", (DEFAULT, self.values[0]), (DEFAULT, self.values[-1]), len(self.kinds) + 1)

    def grid(self) -> Grid:
        rows = []
        for rank in self.values:
            rates = [f"{self.rate('lr', rule, rank):.2g}" for rule in self.kinds]
            rows.append((str(rank), *rates, self.spread("loss", DEFAULT, rank).show(3)))
        rule = WORDS[DEFAULT]
        return Grid(
            "LoRA's best learning rate by rank",
            ("r", *(f"best rate,\n{WORDS[rule]}" for rule in self.kinds), f"bits/char,\n{rule}"),
            rows,
            "LoRA on all linears; bits/char are on numpy-docs' validation text, at the best rate. The best rate is "
            "the lowest point of a parabola through rates in steps of √3, as a geometric mean over the seeds. "
            f"{self.in_words()}",
        )

    @styled
    def figure(self):
        """LoRA's best learning rate against its rank, for three ways to set alpha; bars show the rates that come
        within 0.01 bits per character.
        """
        figure, axes = single("LoRA's best learning rate, by rank and by alpha")
        for place, (rule, look) in enumerate(zip(self.kinds, SERIES, strict=False)):
            low, best, high = ([self.rate(n, rule, rank) for rank in self.values] for n in ("low", "lr", "high"))
            beside = [rank * 1.06 ** (place - 1) for rank in self.values]  # so that the bars do not overlap
            bars = [[b - a for a, b in zip(*ends, strict=True)] for ends in ((low, best), (best, high))]
            axes.errorbar(beside, best, bars, **look, label=WORDS[rule])
        axes.set_yscale("log")
        log_ticks(axes, self.values)
        axes.set(xlabel="rank r (logarithmic)", ylabel=f"best learning rate;\nbars: within {MARGIN} bits/character")
        return with_legend(figure, 3)

    def sentence(self) -> str:
        first, last = self.values[0], self.values[-1]
        changes = " ".join(f"With {WORDS[rule]}, {self.change_in_words(rule)}." for rule in self.kinds)
        return (
            f"Each at its best learning rate, rank {last} saves {self.gain().show(3)} bits/character over rank "
            f"{first}. How that rate changes from rank {first} to rank {last} depends on alpha. {changes}"
        )

    def in_texts(self) -> dict[str, str]:
        """Return `RULE.RANK.rate`, the best one, and `RULE.RANK.bits` at it; `RULE.factor` between the best rates of
        the lowest and the highest rank; and `difference`, the bits per character of the default rule less those of
        alpha = 16, both at the highest rank.
        """
        numbers, top = {}, self.values[-1]
        for rule in self.kinds:
            for rank in self.values:
                numbers[f"{rule}.{rank}.rate"] = f"{self.rate('lr', rule, rank):.2g}"
                numbers[f"{rule}.{rank}.bits"] = f"{self.spread('loss', rule, rank).mean:.3f}"
            change = self.change(rule)
            numbers[f"{rule}.factor"] = f"{exp(change.mean):.2g} ({exp(change.low):.2g} to {exp(change.high):.2g})"
        return numbers | {"difference": self.paired("loss", (DEFAULT, top), ("16", top)).show(3)}

    def change_in_words(self, rule: str) -> str:
        """Say by which factor the best rate of the highest rank differs from that of the lowest."""
        change = self.change(rule)
        bounds = f"{exp(change.low):.2g} to {exp(change.high):.2g}" if change.count > 1 else "one seed"
        verb = compared(change, "it grows", "it falls", "it is not shown to change: it comes")
        return f"{verb} to {exp(change.mean):.2g} times what it was ({bounds})"
