"""How wide must an adapter be to come up to full fine-tuning?"""

from itertools import product

from experiments.bench import Bench
from experiments.studies.study import NEAR, Study, StudySettings, nearness
from minilora.show.grids import Grid, show_share
from minilora.show.style import LOOKS, base_line, errorbar, log_ticks, single, styled, with_legend
from minilora.train.methods import Options

PLACEMENTS = {"pfeiffer": "Pfeiffer", "houlsby": "Houlsby"}
LOOK = {"pfeiffer": {}, "houlsby": {"color": LOOKS["scratch"]["color"], "marker": "D", "linestyle": "--"}}
SHARE = 0.036  # of the parameters, at which the published adapters come within 0.4 points of full fine-tuning


class AdapterWidth(Study):
    name = "adapter-width"
    question = "How wide must adapters be to come up to full fine-tuning?"
    published = (
        "Within 0.4 points of full fine-tuning on GLUE with 3.6 % of the parameters (Houlsby et al. 2019); one adapter "
        "a block does about as well as two (Pfeiffer et al. 2021)."
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
        rows: dict[tuple, tuple] = {("full", "–"): ("full",)}
        rows |= {(PLACEMENTS[kind], str(width)): (kind, width) for kind, width in product(self.kinds, self.values)}
        note = "Pfeiffer: a Llama variant, before the residual; the published one stands after the sum and norm. "
        return self.learned_grid("Adapters by width", ("adapters", "m"), rows, ("full",), note)

    @styled
    def figure(self):
        """What adapters learn against their width, beside full fine-tuning."""
        figure, axes = single("Adapter width: what m numbers between layers learn")
        full = self.gained("full")
        axes.axhspan(full.mean - full.deviation, full.mean + full.deviation, color="#D9D9D9", linewidth=0)
        base_line(axes, full.mean, "full fine-tuning")
        for kind in self.kinds:
            found = [self.gained(kind, width) for width in self.values]
            label = f"{PLACEMENTS[kind]} ({'two' if kind == 'houlsby' else 'one'} a block)"
            errorbar(axes, "bottleneck", self.values, found, label, **LOOK[kind])
        log_ticks(axes, self.values)
        axes.set(xlabel="width m (logarithmic)", ylabel="bits/character gained on the domain\n(more is better)")
        return with_legend(figure)

    def sentence(self) -> str:
        full, runs = self.gained("full"), [*product(self.kinds, self.values)]
        shares = {run: self.first("trainable", *run) / self.base["total"] for run in runs}
        behind = {f"{PLACEMENTS[run[0]]} {run[1]}": self.gains(run, ("full",), len(runs)) for run in runs}
        judged, words = nearness(behind, NEAR * full.mean, f"within {100 * NEAR:.0f} % of its gain")
        kind, width = min(shares, key=lambda run: abs(shares[run] - SHARE))
        nearest = f"{PLACEMENTS[kind]} {width}"
        verdicts = {"shown": "near it, as published", "refuted": "further behind, unlike published"}
        word = verdicts.get(next(verdict for verdict, ones in judged.items() if nearest in ones), "undecided")
        return (
            f"Full fine-tuning gains {full.show(3)} bits/character. {words} With about the published share of the "
            f"parameters, {nearest} ({show_share(shares[kind, width])}) gains {behind[nearest].in_words(3)} beside it: "
            f"{word}."
        )
