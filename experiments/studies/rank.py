"""How much rank does an update need?"""

from experiments.bench import Bench
from experiments.studies.study import NEAR, Study, StudySettings, nearness, seen
from minilora.show.grids import Grid
from minilora.show.style import errorbar, log_ticks, single, styled, with_legend
from minilora.train.methods import Options

TARGETS = ["q_proj", "v_proj"]
SEARCHED = 8  # the rank whose learning rate all have


def options(rank: int) -> Options:
    """alpha is twice the rank, so that the scale alpha / r is 2 at every rank."""
    return Options(rank=rank, targets=TARGETS)


class Rank(Study):
    name = "rank"
    question = "How much rank does LoRA's update need?"
    published = (
        "Flat: WikiSQL 73.4, 73.3, 73.7, 73.8 and 73.5 % at r = 1, 2, 4, 8 and 64 on q and v of GPT-3 (Hu et al. "
        "2021, table 6)."
    )
    full = StudySettings(values=(1, 2, 4, 8, 16, 64))
    quick = full.quick(values=(1, 2, 4, 8, 16, 32))

    @staticmethod
    def runs(settings: StudySettings) -> list[tuple]:
        return [("rank", rank) for rank in settings.values]

    @staticmethod
    def measure(bench: Bench, kind: str, rank: int, seed: int) -> dict:
        return bench.adapted("lora", bench.text_rate("lora", options(SEARCHED)), seed, options(rank))

    def grid(self) -> Grid:
        rows = {(str(rank),): ("rank", rank) for rank in self.values}
        return self.learned_grid(
            "LoRA on q and v, by rank (alpha / r = 2)", ("r",), rows, beside=("rank", self.values[-1])
        )

    @styled
    def figure(self):
        """Learned and forgotten against the rank."""
        figure, axes = single("Rank: what an update of r learns and forgets")
        errorbar(axes, "lora", self.values, [self.gained("rank", r) for r in self.values], "gained on the domain")
        lost = [self.forgot("rank", r) for r in self.values]
        errorbar(axes, "scratch", self.values, lost, "forgotten of the base's text")
        log_ticks(axes, self.values)
        axes.set(xlabel="rank r (logarithmic)", ylabel="bits/character")
        axes.set_ylim(min(0, *(one.mean - one.deviation for one in lost)) - 0.01, None)
        return with_legend(figure)

    def sentence(self) -> str:
        first, *_, last = self.values
        others = [rank for rank in self.values if rank != last]
        behind = {f"rank {r}": self.gains(("rank", r), ("rank", last), len(others)) for r in others}
        gain = self.gained("rank", last)
        judged, words = nearness(behind, NEAR * gain.mean, f"within {100 * NEAR:.0f} % of its gain")
        flat = "undecided" if judged["undecided"] else "flat, as published"
        flat = "not flat, unlike published" if judged["refuted"] else flat
        return (
            f"Rank {last}, with {last // first} times the parameters of rank {first}, gains {gain.show(3)} "
            f"bits/character. {words} So the gain by rank is {flat}.{seen(behind.values())}"
        )
