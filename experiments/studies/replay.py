"""The study of how much of what is forgotten replay saves."""

from dataclasses import dataclass, replace
from itertools import product

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings, draw_curve, seen
from minilora.data.batches import MixedBatches
from minilora.measure.statistics import Interval
from minilora.show.grids import IN_SENTENCES, NAMES, Grid, listed
from minilora.show.style import GREY, LOOKS, single, styled, with_legend


@dataclass(frozen=True)
class ReplaySettings(StudySettings):
    """values: shares of a batch that are the base's text."""

    values: tuple[float, ...] = (0.0, 0.1, 0.5)
    kinds: tuple[str, ...] = ("full", "lora")
    base_characters: int = 24_000  # of the base's text to replay


class Replay(Study):
    name = "replay"
    question = "How much of what is forgotten does replay save?"
    published = "A few per cent of replayed text prevent most forgetting (Ibrahim et al. 2024)."
    full = ReplaySettings()
    quick = full.quick()

    @staticmethod
    def runs(settings: ReplaySettings) -> product:
        return product(settings.kinds, settings.values)

    @staticmethod
    def measure(bench: Bench, method: str, share: float, seed: int) -> dict:
        lab, settings, rate = bench.lab, bench.settings, float(f"{bench.first_rate(method):.2g}")
        domain = lab.batches(lab.domain_text(settings.characters, seed), 1, seed)
        model = lab.fresh(method, seed)
        replayed = lab.batches(lab.base_text(settings.base_characters, seed), 1, seed)
        mixed = MixedBatches(domain, replayed, share, lab.batch_size)
        history = lab.train_on(model, mixed, replace(settings.adapt, peak_lr=rate, seed=seed))
        return bench.facts(model, history, rate)

    def saved(self) -> dict[tuple[str, float], Interval]:
        """Return how much less is forgotten with each share of replay than without, corrected for all comparisons."""
        runs = [run for run in product(self.kinds, self.values) if run[1]]
        return {run: self.paired("base_text", (run[0], 0.0), run, len(runs)) for run in runs}

    def grid(self) -> Grid:
        runs, saved = list(product(self.kinds, self.values)), self.saved()
        rows = []
        for method, share in runs:
            numbers = (self.gained(method, share).show(3), self.forgot(method, share).show(3))
            less = saved[method, share].show(3) if share else "–"
            rows.append((NAMES[method], f"{self.first('lr', method):g}", f"{100 * share:.0f} %", *numbers, less))
        return Grid(
            "Learned and forgotten, with replay and without",
            ("method", "rate", "replay", "gained", "forgot", "forgot less"),
            rows,
            "Replay: the share of each batch that is the base's text. Bits/char gained on held-out numpy-docs and "
            "lost on held-out python-docs, at the step that is best on validation text of the domain. Forgot less: "
            "the difference from training without replay, with a 95 % interval corrected for the column. "
            f"{self.in_words()}",
        )

    @styled
    def figure(self):
        """Bits per character forgotten (up) against bits learned (right), without replay and with up to half of each
        batch replayed.
        """
        figure, axes = single("Replay: right is learned, up is forgotten")
        axes.axhline(0, color=GREY, linewidth=1)
        words = ", ".join(f"{100 * share:.0f}" for share in self.values)
        for method in self.kinds:
            points = [(self.gained(method, share), self.forgot(method, share)) for share in self.values]
            draw_curve(axes, points, f"{NAMES[method]}, {words} % replay", LOOKS[method])
        axes.set(xlabel="bits/character gained on the domain", ylabel="bits/character\nlost on the base's text")
        return with_legend(figure)

    def sentence(self) -> str:
        words, saved = "", self.saved()
        for method in self.kinds:
            forgot = self.forgot(method, 0.0).show(3)
            less = [f"by {one.show(3)} with {run[1]:.0%}" for run, one in saved.items() if run[0] == method]
            words += f" {IN_SENTENCES[method]} forgets {forgot} bits/character without replay. "
            words += f"If part of each batch is replayed text, the mean is lower {listed(less)}.".replace("%", " %")
        return f"{words[1].upper()}{words[2:]}{seen(saved.values())}"
