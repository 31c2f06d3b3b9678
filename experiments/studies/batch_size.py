"""The study of whether large batches cost LoRA more than full fine-tuning."""

from dataclasses import dataclass, replace
from itertools import product

from experiments.bench import Bench, measured
from experiments.studies.bracket import bracketed
from experiments.studies.study import Study, StudySettings
from minilora.measure.lr_search import SEED
from minilora.measure.statistics import Interval, paired_interval
from minilora.show.grids import NAMES, Grid, Spread
from minilora.show.style import errorbar, log_ticks, single, styled, with_legend


@dataclass(frozen=True)
class BatchSettings(StudySettings):
    """values: windows of 128 tokens per batch. All trainings see the same number of windows, so larger batches mean
    fewer steps.
    """

    rows: int = 768


def train(bench: Bench, method: str, batch: int, rate: float, seed: int):
    """Train a model with batches of `batch` windows; return it and its history."""
    settings, lab = bench.settings, bench.lab
    steps = settings.rows // batch
    config = replace(settings.adapt, steps=steps, warmup=max(1, steps // 16), eval_every=0)
    stream, model = lab.domain_text(settings.characters, seed), lab.fresh(method, seed)
    return model, lab.train_on(model, lab.batches(stream, batch, seed), bench.trained_by(config, method, rate, seed))


class BatchSize(Study):
    name = "batch-size"
    question = "Do large batches cost LoRA more than full fine-tuning?"
    published = (
        "Yes: with large batches LoRA falls behind full fine-tuning, and the more so the larger they are, whatever its "
        "rank (Schulman et al. 2025, LoRA without regret, on 10,000 examples of OpenThoughts)."
    )
    full = BatchSettings(values=(2, 8, 32, 64), kinds=("full", "lora"), seeds=(0, 1, 2, 3, 4, 5), characters=120_000)
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

        # The noise of a gradient falls with the square root of the batch size, and Adam's best rate grows about as
        # fast.
        losses = bracketed(bench.first_rate(method) * (batch / 8) ** 0.5, loss)
        rate = min(losses, key=losses.__getitem__)
        model, history = train(bench, method, batch, rate, seed)
        return bench.facts(model, history, rate)

    def lags(self, batch: int) -> list[float]:
        """Return how many bits per character LoRA is behind full fine-tuning, one number per seed."""
        by_seed = {kind: {row["key"][-1]: row["domain"] for row in self.records.of(kind, batch)} for kind in self.kinds}
        return [bits - by_seed["full"][seed] for seed, bits in sorted(by_seed["lora"].items())]

    def growth(self) -> Interval:
        """Return how much LoRA's lag grows from the smallest batches to the largest, paired by seed."""
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
            f"{self.settings['rows']} windows of 128 tokens in each training; the rate is searched for each batch "
            "size. Bits/char of held-out numpy-docs. LoRA behind: its bits/char less those of full fine-tuning, with "
            f"95 % intervals over the seeds, corrected for all batch sizes. {self.in_words()}",
        )

    @styled
    def figure(self):
        """Bits per character on NumPy's documentation against the batch size. All trainings read the same text, so
        larger batches mean fewer steps.
        """
        figure, axes = single("Batch size: the same text in fewer, larger steps")
        for method in self.kinds:
            errorbar(axes, method, self.values, [self.spread("domain", method, n) for n in self.values], NAMES[method])
        log_ticks(axes, self.values)
        axes.set(xlabel="windows in a batch (logarithmic)", ylabel="bits/character on the domain\n(less is better)")
        return with_legend(figure)

    def sentence(self) -> str:
        ends = (self.values[0], self.values[-1])
        lags = [f"{Spread.of(self.lags(batch)).show(3)} with batches of {batch}" for batch in ends]
        return f"In bits/character, LoRA is behind full fine-tuning by {' and by '.join(lags)}."
