"""What is forgotten for what is learned, and what replay saves."""

from dataclasses import dataclass, replace

from minilora.data.batches import MixedBatches
from minilora.measure.records import Records
from minilora.measure.studies.study import (
    FULL,
    QUICK,
    Bench,
    Plan,
    Study,
    base_in_words,
    compared,
    forgot,
    gained,
)
from minilora.show.grids import NAMES, Grid, Spread, seeds_in_words
from minilora.show.style import GREY, LOOKS, single, styled, with_legend
from minilora.train.methods import METHODS


@dataclass(frozen=True)
class ForgettingPlan(Plan):
    """values: learning rates, in multiples of the method's own."""

    replay: tuple[float, ...] = (0.1, 0.5)  # shares of a batch that are the base's text
    replay_at: float = 1.0  # the learning rate of these, as in values
    base_characters: int = 24_000  # of the base's text to replay


def cells(plan: ForgettingPlan) -> list[tuple]:
    runs = [(method, factor, 0.0) for method in plan.kinds for factor in plan.values]
    runs += [(method, plan.replay_at, share) for method in plan.kinds for share in plan.replay]
    return [("base",), *((*run, seed) for run in runs for seed in plan.seeds)]


def measure(bench: Bench, method: str, factor: float = 1.0, share: float = 0.0, seed: int = 0) -> dict:
    if method == "base":
        return bench.base()
    lab, plan, rate = bench.lab, bench.plan, float(f"{factor * METHODS[method].lr:.2g}")
    stream = lab.domain_text(plan.characters, seed)
    model = lab.fresh(method, seed)
    domain = lab.batches(stream, 1, seed)
    replayed = lab.batches(lab.base_text(plan.base_characters, seed), 1, seed)
    mixed = MixedBatches(domain, replayed, share, lab.batch_size)
    history = lab.train_on(model, mixed, replace(plan.adapt, lr=rate, seed=seed))
    return bench.facts(model, history, rate)


def methods(records: Records) -> list[str]:
    return records.header["settings"]["kinds"]


def factors(records: Records) -> list[float]:
    return records.header["settings"]["values"]


def shares(records: Records) -> list[float]:
    """Of replay, from none on."""
    return [0.0, *records.header["settings"]["replay"]]


def point(records: Records, method: str, factor: float, share: float = 0.0) -> tuple[Spread, Spread]:
    """Learned and forgotten."""
    return gained(records, method, factor, share), forgot(records, method, factor, share)


def grid(records: Records) -> Grid:
    at, rows, counts = records.header["settings"]["replay_at"], [], []
    for method in methods(records):
        runs = [(factor, 0.0) for factor in factors(records)] + [(at, share) for share in shares(records)[1:]]
        for factor, share in runs:
            row = next(records.of(method, factor, share))
            won, lost = point(records, method, factor, share)
            counts.append(won.count)
            step = Spread.of(row["best_step"] for row in records.of(method, factor, share))
            replay = f"{100 * share:.0f} %" if share else "–"
            rows.append((NAMES[method], f"{row['lr']:g}", replay, won.show(3), lost.show(3), f"{step.mean:.0f}"))
    return Grid(
        "Learned and forgotten, by learning rate and replay",
        ("method", "rate", "replay", "gained", "forgot", "best\nstep"),
        rows,
        "Bits/char gained on held-out numpy-docs and lost on held-out python-docs, at the step that validation text of "
        f"the domain found best. Replay: share of each batch. {base_in_words(records)} {seeds_in_words(counts)}",
    )


@styled
def figure(records: Records):
    """Bits forgotten against bits learned: a curve of learning rates for each method, and one of replay."""
    figure, axes = single("Forgetting: right is learned, up is forgotten")
    axes.axhline(0, color=GREY, linewidth=1)
    at = records.header["settings"]["replay_at"]
    replay = {"full": ("v", "#56B4E9"), "lora": ("P", "#E69F00")}
    for method in methods(records):
        points = [point(records, method, factor) for factor in factors(records)]
        _curve(axes, points, f"{NAMES[method]}, by learning rate", LOOKS[method])
        points = [point(records, method, at, share) for share in shares(records)]
        marker, color = replay.get(method, ("X", GREY))
        words = ", ".join(f"{100 * share:.0f}" for share in shares(records))
        look = {"color": color, "marker": marker, "linestyle": ":", "markersize": 8}
        _curve(axes, points, f"{NAMES[method]}, {words} % replay", look)
    axes.set(xlabel="bits/character gained on the domain", ylabel="bits/character\nlost on the base's text")
    axes.margins(0.1)
    return with_legend(figure)


def _curve(axes, points: list[tuple[Spread, Spread]], label: str, look: dict) -> None:
    won, lost = zip(*points, strict=True)
    x, y = [one.mean for one in won], [one.mean for one in lost]
    axes.errorbar(x, y, [one.half_range for one in lost], [one.half_range for one in won], **look, label=label)


def best_of(records: Records, method: str) -> float:
    return max(factors(records), key=lambda factor: gained(records, method, factor, 0.0).mean)


def forgot_at(points: list[tuple[Spread, Spread]], learned: float) -> float | None:
    """What a curve of learning rates forgets where it has learned so much: between its points, None outside them."""
    start = (0.0, 0.0)  # with no training, nothing is learned or forgotten
    for won, lost in points:
        end = (won.mean, lost.mean)
        if start[0] <= learned <= end[0] and end[0] > start[0]:
            return start[1] + (end[1] - start[1]) * (learned - start[0]) / (end[0] - start[0])
        start = end
    return None


def sentence(records: Records) -> str:
    at = {method: best_of(records, method) for method in ("full", "lora")}
    (full_won, full_lost), (lora_won, lora_lost) = (point(records, method, at[method]) for method in ("full", "lora"))
    less = compared(lora_won, full_won, "more", "less", "as much")
    fewer = compared(lora_lost, full_lost, "more", "less", "as much")
    agrees = (less, fewer) in (("less", "less"), ("as much", "less"))
    said = (
        f"Each at its best rate, full gains {full_won.show(3)} bits/character and forgets {full_lost.show(3)}, LoRA "
        f"gains {lora_won.show(3)} ({less}) and forgets {lora_lost.show(3)} ({fewer}): "
        f"{'as published' if agrees else 'the published pattern does not show'}. "
    )
    level = 0.9 * min(full_won.mean, lora_won.mean)  # short of the peak, where more training only forgets
    full_same, lora_same = (
        forgot_at([point(records, m, f) for f in factors(records)], level) for m in ("full", "lora")
    )
    if full_same is not None and lora_same is not None:
        less = "LoRA" if lora_same < full_same else "full"
        other = "But where" if agrees and less == "full" else "Where"
        said += (
            f"{other} both have gained {level:.3f}, full has forgotten {full_same:.3f} and LoRA {lora_same:.3f}: "
            f"{less} forgets less for the same. "
        )
    factor, most = records.header["settings"]["replay_at"], shares(records)[1]
    (won, lost), (won_more, lost_more) = (point(records, "full", factor, share) for share in (0.0, most))
    forgets = compared(lost_more, lost, "more", "less", "as much")
    gains = compared(won_more, won, "more", "less", "as much")
    return said + (
        f"With {100 * most:.0f} % replay, full fine-tuning forgets {forgets} ({lost_more.show(3)} against "
        f"{lost.show(3)}) and gains {gains}."
    )


STUDY = Study(
    name="forgetting",
    question="What is forgotten for what is learned, and what does replay save?",
    published="LoRA learns less and forgets less than full fine-tuning on code and mathematics; for the same learning "
    "both forget about as much, LoRA rather less (Biderman et al. 2024, sections 4.1 to 4.3). A few per cent of "
    "replayed text hold most forgetting off (Ibrahim et al. 2024).",
    full=ForgettingPlan(**vars(replace(FULL, values=(1 / 9, 1 / 3, 1.0, 3.0), kinds=("full", "lora")))),
    quick=ForgettingPlan(**vars(replace(QUICK, values=(1 / 3, 1.0, 3.0, 9.0), kinds=("full", "lora"))), replay_at=3.0),
    cells=cells,
    measure=measure,
    grid=grid,
    figure=figure,
    sentence=sentence,
)
