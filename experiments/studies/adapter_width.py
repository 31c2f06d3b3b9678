"""How wide must an adapter be to come up to full fine-tuning?"""

from itertools import product

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings, compared
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
        return self.learned_grid("Adapters by width", ("adapters", "m"), rows, note)

    @styled
    def figure(self):
        """What adapters learn against their width, beside full fine-tuning."""
        figure, axes = single("Adapter width: what m numbers between layers learn")
        full = self.gained("full")
        axes.axhspan(full.mean - full.half_range, full.mean + full.half_range, color="#D9D9D9", linewidth=0)
        base_line(axes, full.mean, "full fine-tuning")
        for kind in self.kinds:
            found = [self.gained(kind, width) for width in self.values]
            label = f"{PLACEMENTS[kind]} ({'two' if kind == 'houlsby' else 'one'} a block)"
            errorbar(axes, "bottleneck", self.values, found, label, **LOOK[kind])
        log_ticks(axes, self.values)
        axes.set(xlabel="width m (logarithmic)", ylabel="bits/character gained on the domain\n(more is better)")
        return with_legend(figure)

    def sentence(self) -> str:
        full = self.gained("full")
        shares = {one: self.first("trainable", *one) / self.base["total"] for one in product(self.kinds, self.values)}
        kind, width = min(shares, key=lambda one: abs(shares[one] - SHARE))
        near = self.gained(kind, width)
        order = compared(near, full, "more than", "less than", "level with")
        verdict = {
            "more than": "not only near full fine-tuning, as published, but beyond it",
            "less than": "unlike the published ones, which lose almost nothing there",
            "level with": "near full fine-tuning, as published",
        }
        said = (
            f"{PLACEMENTS[kind]} adapters of width {width} train {show_share(shares[kind, width])} of the parameters "
            f"and gain {near.show(3)} bits/character, {order} full fine-tuning ({full.show(3)}): {verdict[order]}. "
        )
        level = [one for one in shares if not full.above(self.gained(*one))]
        if not level:
            return said + "No width comes up to it."
        (kind, width), share = min(((one, shares[one]) for one in level), key=lambda found: found[1])
        return f"{said}The smallest that come up to it are {PLACEMENTS[kind]} of width {width} ({show_share(share)})."
