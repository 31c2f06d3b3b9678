"""Does LoRA pay more for large batches than full fine-tuning does?"""

from dataclasses import dataclass, replace
from itertools import product
from math import inf

from experiments.bench import Bench, measured
from experiments.studies.bracket import bracketed
from experiments.studies.study import Study, StudySettings, seen
from minilora.measure.lr_search import SEED
from minilora.measure.statistics import Interval, paired_interval, verdict
from minilora.show.grids import NAMES, Grid, Spread, listed
from minilora.show.style import errorbar, log_ticks, single, styled, with_legend

MARGIN = 0.01  # bits per character that LoRA's lag has to grow by to count


@dataclass(frozen=True)
class BatchSettings(StudySettings):
    """values: windows of 128 tokens in a batch. All trainings see equally many: the larger a batch, the fewer steps."""

    rows: int = 768


def train(bench: Bench, method: str, batch: int, rate: float, seed: int):
    """Return a model trained with batches of `batch` windows, and its history."""
    settings, lab = bench.settings, bench.lab
    steps = settings.rows // batch
    config = replace(settings.adapt, steps=steps, warmup=max(1, steps // 16), eval_every=0)
    stream, model = lab.domain_text(settings.characters, seed), lab.fresh(method, seed)
    return model, lab.train_on(model, lab.batches(stream, batch, seed), bench.trained_by(config, method, rate, seed))


class BatchSize(Study):
    name = "batch-size"
    question = "Does LoRA pay more for large batches than full fine-tuning does?"
    published = (
        "Yes: with large batches LoRA falls behind full fine-tuning, and the more so the larger they are, whatever its "
        "rank (Schulman et al. 2025, LoRA without regret, on 10,000 examples of OpenThoughts)."
    )
    full = BatchSettings(values=(2, 8, 32, 64), kinds=("full", "lora"), characters=120_000)
    quick = full.quick(values=(2, 8, 32), rows=128)
    large = full.large(values=(2, 16), rows=64)

    @staticmethod
    def runs(settings: StudySettings) -> list[tuple]:
        return list(product(settings.kinds, settings.values))

    @staticmethod
    def measure(bench: Bench, method: str, batch: int, seed: int) -> dict:
        def loss(rate: float) -> float | None:
            search = lambda: train(bench, method, batch, rate, SEED)[1].best  # noqa: E731
            return bench.records.measured(("rate", method, batch, rate), measured, search)["loss"]

        # The noise of a gradient falls with the root of the batch, and Adam's best rate grows about so.
        losses = bracketed(bench.first_rate(method) * (batch / 8) ** 0.5, loss)
        rate = min(losses, key=losses.__getitem__)
        model, history = train(bench, method, batch, rate, seed)
        return bench.facts(model, history, rate)

    def lags(self, batch: int) -> list[float]:
        """Return how many bits per character LoRA is behind full fine-tuning, one a seed."""
        pairs = zip(self.records.of("lora", batch), self.records.of("full", batch), strict=True)
        return [lora["domain"] - full["domain"] for lora, full in pairs]

    def growth(self) -> Interval:
        """Return by how much that is greater with the largest batches than with the smallest, by pairs of one seed."""
        first, last = self.lags(self.values[0]), self.lags(self.values[-1])
        return paired_interval([b - a for a, b in zip(first, last, strict=True)])

    def grid(self) -> Grid:
        rows = []
        for batch in self.values:
            steps = str(self.settings["rows"] // batch)
            runs = [(method, batch) for method in self.kinds]
            rates = " / ".join(f"{self.first('lr', *run):g}" for run in runs)
            lag = paired_interval(self.lags(batch), comparisons=len(self.values))
            rows.append(
                (
                    str(batch),
                    steps,
                    rates,
                    *(self.spread("domain", *run).show(3) for run in runs),
                    lag.show(3),
                )
            )
        return Grid(
            "Batches of one amount of text",
            ("batch", "steps", "rates", *(f"{NAMES[method]}\nbits/char" for method in self.kinds), "LoRA behind"),
            rows,
            f"{self.settings['rows']} windows of 128 tokens in each training; rates by a search for each batch size, "
            "in steps of √3. Bits/char of held-out numpy-docs. LoRA behind: with 95 % intervals of pairs of one seed, "
            f"corrected for all batch sizes. {self.in_words([self.growth().count])}",
        )

    @styled
    def figure(self):
        """Bits per character after training with small and large batches of the same text."""
        figure, axes = single("Batch size: the same text in fewer, larger steps")
        for method in self.kinds:
            errorbar(axes, method, self.values, [self.spread("domain", method, n) for n in self.values], NAMES[method])
        log_ticks(axes, self.values)
        axes.set(xlabel="windows in a batch (logarithmic)", ylabel="bits/character on the domain\n(less is better)")
        return with_legend(figure)

    def sentence(self) -> str:
        first, last = self.values[0], self.values[-1]
        growth = self.growth()
        claim = {
            "shown": f"LoRA pays more for large batches, as published, by {MARGIN} bits or more",
            "refuted": f"unlike published, LoRA does not pay {MARGIN} bits more for large batches",
            "undecided": f"it is undecided whether LoRA pays {MARGIN} bits more for large batches",
        }
        lags = [f"{Spread.of(self.lags(batch)).mean:+.3f} with batches of {batch}" for batch in (first, last)]
        return (
            f"LoRA's bits/character less full fine-tuning's are {listed(lags)}, a change of {growth.show(3)} with a "
            f"95 % interval: {claim[verdict(growth, MARGIN, inf)]}.{seen([growth])}"
        )
