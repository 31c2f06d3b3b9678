"""How much rank does an update need?"""

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings, compared
from minilora.show.grids import Grid, listed
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
        note = f"The rate was searched at r = {SEARCHED} alone: at a fixed alpha / r, another may suit other ranks. "
        return self.learned_grid("LoRA on q and v, by rank (alpha / r = 2)", ("r",), rows, note)

    @styled
    def figure(self):
        """Learned and forgotten against the rank."""
        figure, axes = single("Rank: what an update of r learns and forgets")
        errorbar(axes, "lora", self.values, [self.gained("rank", r) for r in self.values], "gained on the domain")
        lost = [self.forgot("rank", r) for r in self.values]
        errorbar(axes, "scratch", self.values, lost, "forgotten of the base's text")
        log_ticks(axes, self.values)
        axes.set(xlabel="rank r (logarithmic)", ylabel="bits/character")
        axes.set_ylim(min(0, *(one.mean - one.half_range for one in lost)) - 0.01, None)
        return with_legend(figure)

    def sentence(self) -> str:
        by_rank = {rank: self.gained("rank", rank) for rank in self.values}
        first, last = min(by_rank), max(by_rank)
        best = max(by_rank, key=lambda rank: by_rank[rank].mean)
        behind = [rank for rank, one in by_rank.items() if not one.overlaps(by_rank[best])]
        said = (
            f"Rank {first} gains {by_rank[first].show(3)} bits/character and rank {last}, with {last // first} times "
            f"the parameters, {by_rank[last].show(3)}: "
            f"{compared(by_rank[last], by_rank[first], 'more', 'less', 'level')}. "
        )
        if not behind:
            return said + "No rank falls behind the best by more than the seeds scatter: flat, as published."
        fall = "rank {} falls" if len(behind) == 1 else "ranks {} fall"
        return said + (
            f"Unlike the published table, ours is not flat: {fall.format(listed(behind))} behind rank {best} "
            f"({by_rank[best].show(3)}) by more than the seeds scatter."
        )
