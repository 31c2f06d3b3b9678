"""The study of how wide adapters must be to match full fine-tuning."""

from itertools import product
from math import inf

from experiments.bench import Bench
from experiments.beside import verdict
from experiments.studies.study import NEAR, Study, StudySettings, ends
from minilora.show.grids import Grid, show_share
from minilora.show.style import LOOKS, base_line, errorbar, log_ticks, single, styled, with_legend
from minilora.train.methods import Options

PLACEMENTS = {"pfeiffer": "one per block (Pfeiffer)", "houlsby": "two per block (Houlsby)"}
LOOK = {"pfeiffer": {}, "houlsby": {"color": LOOKS["scratch"]["color"], "marker": "D", "linestyle": "--"}}
SHARE = 0.036  # share of the parameters in the published adapters, which come within 0.4 points of full fine-tuning


class AdapterWidth(Study):
    name = "adapter-width"
    question = "How wide must adapters be?"
    published = (
        "Adapters come within 0.4 points of full fine-tuning on GLUE with 3.6 % of the parameters (Houlsby et al. "
        "2019); one adapter a block does about as well as two (Pfeiffer et al. 2021)."
    )
    full = StudySettings(values=(4, 16, 64, 256), kinds=tuple(PLACEMENTS))
    quick = full.quick(values=(4, 16, 64))

    @staticmethod
    def runs(settings: StudySettings) -> list[tuple]:
        return [("full", 0), *product(settings.kinds, settings.values)]

    @staticmethod
    def measure(bench: Bench, kind: str, width: int, seed: int) -> dict:
        if kind == "full":
            return bench.adapted("full", bench.text_rate("full"), seed)
        options = Options(bottleneck_size=width, placement=kind)
        return bench.adapted("bottleneck", bench.text_rate("bottleneck", options, (kind, width)), seed, options)

    def grid(self) -> Grid:
        full = f"Full fine-tuning: {self.gained('full').show(3)}. "
        return self.gains_grid("Adapters by width", "width m", PLACEMENTS, full)

    @styled
    def figure(self):
        """Bits per character gained on NumPy's documentation against the width m of the adapters; the grey band is full
        fine-tuning, mean ± standard deviation.
        """
        figure, axes = single("Adapter width: what m numbers between layers learn")
        full = self.gained("full")
        axes.axhspan(full.mean - full.deviation, full.mean + full.deviation, color="#D9D9D9", linewidth=0)
        base_line(axes, full.mean, "full fine-tuning")
        for kind in self.kinds:
            gains = [self.gained(kind, width) for width in self.values]
            errorbar(axes, "bottleneck", self.values, gains, PLACEMENTS[kind], **LOOK[kind])
        log_ticks(axes, self.values)
        axes.set(xlabel="width m (logarithmic)", ylabel="bits/character gained on the domain\n(more is better)")
        return with_legend(figure)

    def sentence(self) -> str:
        full, runs = self.gained("full"), [*product(self.kinds, self.values)]
        placed = {kind: PLACEMENTS[kind].partition(" (")[0] for kind in self.kinds}
        gains = {f"{width} wide, {placed[kind]}": self.gained(kind, width) for kind, width in runs}
        shares = {run: self.first("trainable", *run) / self.base["total"] for run in runs}
        kind, width = nearest = min(shares, key=lambda run: abs(shares[run] - SHARE))
        behind = self.gains(nearest, ("full",), len(runs))
        words = {"shown": "is shown", "refuted": "is refuted", "undecided": "is undecided"}
        return (
            f"Full fine-tuning gains {full.show(3)} bits/character, adapters from {ends(gains)}. Those nearest to the "
            f"published share of the parameters ({show_share(shares[nearest])}) are {width} wide, {placed[kind]}; "
            f"compared with full fine-tuning, their gain differs by {behind.show(3)}. That they come within "
            f"{100 * NEAR:.0f} % of its gain, which is {NEAR * full.mean:.3f}, "
            f"{words[verdict(behind, -NEAR * full.mean, inf)]}."
        )
