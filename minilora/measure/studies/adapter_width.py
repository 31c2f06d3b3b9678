"""How wide must an adapter be to come up to full fine-tuning?"""

from dataclasses import replace

from minilora.measure.records import Records
from minilora.measure.studies.study import (
    FULL,
    LEARNED,
    QUICK,
    Bench,
    Plan,
    Study,
    base_row,
    caption,
    compared,
    gained,
    learned,
    spread,
)
from minilora.show.grids import Grid, show_share
from minilora.show.style import GREY, LOOKS, errorbar, log_ticks, single, styled, with_legend
from minilora.train.methods import Options

PLACEMENTS = {"pfeiffer": "Pfeiffer", "houlsby": "Houlsby"}
LOOK = {"pfeiffer": {}, "houlsby": {"color": LOOKS["scratch"]["color"], "marker": "D", "linestyle": "--"}}
SEARCHED = 16  # the width whose learning rate all have
SHARE = 0.036  # of the parameters, at which the published adapters come within 0.4 points of full fine-tuning


def cells(plan: Plan) -> list[tuple]:
    widths = [(kind, width, seed) for kind in plan.kinds for width in plan.values for seed in plan.seeds]
    return [("base",), *(("full", 0, seed) for seed in plan.seeds), *widths]


def measure(bench: Bench, kind: str, width: int = 0, seed: int = 0) -> dict:
    if kind == "base":
        return bench.base()
    if kind == "full":
        return bench.adapted("full", bench.text_rate("full"), seed)
    rate = bench.text_rate("bottleneck", Options(bottleneck_size=SEARCHED))
    return bench.adapted("bottleneck", rate, seed, Options(bottleneck_size=width, placement=kind))


def adapters(records: Records) -> list[tuple[str, int]]:
    settings = records.header["settings"]
    return [(kind, width) for kind in settings["kinds"] for width in settings["values"]]


def grid(records: Records) -> Grid:
    rows = [("full", "–", *learned(records, "full"))]
    rows += [(PLACEMENTS[kind], str(width), *learned(records, kind, width)) for kind, width in adapters(records)]
    counts = [spread(records, "domain", kind, width).count for kind, width in adapters(records)]
    return Grid("Adapters by width", ("adapters", "m", *LEARNED), rows, caption(records, counts))


@styled
def figure(records: Records):
    """What adapters learn against their width, beside full fine-tuning."""
    figure, axes = single("Adapter width: what m numbers between layers learn")
    settings, full = records.header["settings"], gained(records, "full")
    axes.axhspan(full.mean - full.half_range, full.mean + full.half_range, color="#D9D9D9", linewidth=0)
    axes.axhline(full.mean, color=GREY, linewidth=1.4, linestyle=LOOKS["base"]["linestyle"], label="full fine-tuning")
    for kind in settings["kinds"]:
        found = [gained(records, kind, width) for width in settings["values"]]
        label = f"{PLACEMENTS[kind]} ({'two' if kind == 'houlsby' else 'one'} a block)"
        errorbar(axes, "bottleneck", settings["values"], found, label, **LOOK[kind])
    log_ticks(axes, settings["values"])
    axes.set(xlabel="width m (logarithmic)", ylabel="bits/character gained on the domain\n(more is better)")
    return with_legend(figure)


def share(records: Records, kind: str, width: int) -> float:
    return next(records.of(kind, width))["trainable"] / base_row(records)["total"]


def sentence(records: Records) -> str:
    full = gained(records, "full")
    kind, width = min(adapters(records), key=lambda one: abs(share(records, *one) - SHARE))
    near = gained(records, kind, width)
    order = compared(near, full, "more than", "less than", "level with")
    verdict = {
        "more than": "not only near full fine-tuning, as published, but beyond it",
        "less than": "unlike the published ones, which lose almost nothing there",
        "level with": "near full fine-tuning, as published",
    }
    said = (
        f"{PLACEMENTS[kind]} adapters of width {width} train {show_share(share(records, kind, width))} of the "
        f"parameters and gain {near.show(3)} bits/character, {order} full fine-tuning ({full.show(3)}): "
        f"{verdict[order]}. "
    )
    level = [one for one in adapters(records) if gained(records, *one).mean + gained(records, *one).half_range
             >= full.mean - full.half_range]  # fmt: skip
    if not level:
        return said + "No width comes up to it."
    least = min(level, key=lambda one: share(records, *one))
    return said + (
        f"The smallest that come up to it are {PLACEMENTS[least[0]]} of width {least[1]} "
        f"({show_share(share(records, *least))})."
    )


STUDY = Study(
    name="adapter-width",
    question="How wide must adapters be to come up to full fine-tuning?",
    published="Within 0.4 points of full fine-tuning on GLUE with 3.6 % of the parameters (Houlsby et al. 2019); one "
    "adapter a block does about as well as two (Pfeiffer et al. 2021).",
    full=replace(FULL, values=(4, 16, 64, 256), kinds=tuple(PLACEMENTS)),
    quick=replace(QUICK, values=(4, 16, 64), kinds=tuple(PLACEMENTS)),
    cells=cells,
    measure=measure,
    grid=grid,
    figure=figure,
    sentence=sentence,
)
