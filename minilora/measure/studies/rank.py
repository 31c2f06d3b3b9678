"""How much rank does an update need?"""

from dataclasses import replace

from minilora.measure.records import Records
from minilora.measure.studies.study import (
    FULL,
    LEARNED,
    QUICK,
    Bench,
    Plan,
    Study,
    caption,
    compared,
    forgot,
    gained,
    learned,
    listed,
    spread,
)
from minilora.show.grids import Grid
from minilora.show.style import errorbar, log_ticks, single, styled, with_legend
from minilora.train.methods import Options

TARGETS = ["q_proj", "v_proj"]
SEARCHED = 8  # the rank whose learning rate all have


def cells(plan: Plan) -> list[tuple]:
    return [("base",), *(("rank", rank, seed) for rank in plan.values for seed in plan.seeds)]


def measure(bench: Bench, kind: str, rank: int = 0, seed: int = 0) -> dict:
    if kind == "base":
        return bench.base()
    rate = bench.text_rate("lora", options(SEARCHED))
    return bench.adapted("lora", rate, seed, options(rank))


def options(rank: int) -> Options:
    """alpha is twice the rank, so that the scale alpha / r is 2 at every rank."""
    return Options(rank=rank, targets=TARGETS)


def ranks(records: Records) -> list[int]:
    return records.header["settings"]["values"]


def grid(records: Records) -> Grid:
    rows = [(str(rank), *learned(records, "rank", rank)) for rank in ranks(records)]
    counts = [spread(records, "domain", "rank", rank).count for rank in ranks(records)]
    return Grid("LoRA on q and v, by rank (alpha / r = 2)", ("r", *LEARNED), rows, caption(records, counts))


@styled
def figure(records: Records):
    """Learned and forgotten against the rank."""
    figure, axes = single("Rank: what an update of r learns and forgets")
    amounts = ranks(records)
    errorbar(axes, "lora", amounts, [gained(records, "rank", r) for r in amounts], "gained on the domain")
    lost = [forgot(records, "rank", r) for r in amounts]
    errorbar(axes, "scratch", amounts, lost, "forgotten of the base's text")
    log_ticks(axes, amounts)
    axes.set(xlabel="rank r (logarithmic)", ylabel="bits/character")
    axes.set_ylim(min(0, *(one.mean - one.half_range for one in lost)) - 0.01, None)
    return with_legend(figure)


def sentence(records: Records) -> str:
    by_rank = {rank: gained(records, "rank", rank) for rank in ranks(records)}
    first, last = min(by_rank), max(by_rank)
    best = max(by_rank, key=lambda rank: by_rank[rank].mean)
    behind = [rank for rank, one in by_rank.items() if not one.overlaps(by_rank[best])]
    said = (
        f"Rank {first} gains {by_rank[first].show(3)} bits/character and rank {last}, with {last // first} times the "
        f"parameters, {by_rank[last].show(3)}: {compared(by_rank[last], by_rank[first], 'more', 'less', 'level')}. "
    )
    if not behind:
        return said + "No rank falls behind the best by more than the seeds scatter: flat, as published."
    fall = "rank {} falls" if len(behind) == 1 else "ranks {} fall"
    return said + (
        f"Unlike the published table, ours is not flat: {fall.format(listed(behind))} behind rank {best} "
        f"({by_rank[best].show(3)}) by more than the seeds scatter."
    )


STUDY = Study(
    name="rank",
    question="How much rank does LoRA's update need?",
    published="Flat: WikiSQL 73.4, 73.3, 73.7, 73.8 and 73.5 % at r = 1, 2, 4, 8 and 64 on q and v of GPT-3 (Hu et al. "
    "2021, table 6).",
    full=replace(FULL, values=(1, 2, 4, 8, 16, 64)),
    quick=replace(QUICK, values=(1, 2, 4, 8, 16, 32)),
    cells=cells,
    measure=measure,
    grid=grid,
    figure=figure,
    sentence=sentence,
)
