"""The ledger: what papers and the chapter claim, and what two models of ours say to each claim.

A line has a claim as the range in which a true effect must lie, written before the measurement; and for each model the
effect with its interval of 95 %, the smallest effect that would have been seen 4 times of 5, and a verdict: shown if
the whole interval lies within the range, refuted if none of it does, else undecided. One seed decides nothing. Lines of
one family (what learns as full does, the variants of LoRA, the codes) share the 5 %, by Bonferroni's correction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import inf, log
from typing import Any

from experiments.compare_model_report import LABELS, ModelResult
from experiments.studies import targets
from minilora.measure.lab import SCRATCH
from minilora.measure.statistics import Interval, paired_interval, smallest_visible, verdict
from minilora.show.grids import Grid, listed

SMALL, LARGE = "2.8 M", "135 M"
NEAR = 0.9  # of another's gain
VARIANTS = 6  # of LoRA, lines of one family
SAME = 0.05  # of LoRA's gain, by which a variant may differ and count as level
Effect = Interval | None


@dataclass(frozen=True)
class Line:
    """A claim. low, high: where the true effect must lie; measured: what each model says, None if it was not asked."""

    claim: str
    source: str
    effect: str  # in words, with its unit
    low: float
    high: float
    measured: dict[str, Effect]
    digits: int = 3

    def verdict(self, size: str) -> str:
        interval = self.measured.get(size)
        return "not measured" if interval is None else verdict(interval, self.low, self.high)

    def cells(self, size: str) -> tuple[str, str, str]:
        """Return the effect with its interval, the smallest effect that would have been seen, and the verdict."""
        interval = self.measured.get(size)
        if interval is None:
            return "–", "–", "–"
        visible = f"{smallest_visible(interval):.{self.digits}f}" if interval.df else "–"
        return interval.show(self.digits), visible, self.verdict(size)


class Ledger:
    """The lines, from the records of studies (by name) on the small base and on SmolLM2, and of comparisons there."""

    def __init__(self, small: dict[str, Any], large: dict[str, Any], compared: dict[str, ModelResult]):
        self.small, self.large, self.compared = small, large, compared

    @cached_property
    def lines(self) -> list[Line]:
        return [*self._learning(), *self._forgetting(), *self._lora(), *self._quantizing(), *self._others()]

    def of(self, study: str, ask: Callable[..., Effect]) -> dict[str, Effect]:
        """Return what `ask` makes of a study on each model on which it was measured."""
        by_size = {SMALL: self.small.get(study), LARGE: self.large.get(study)}
        return {size: ask(one) for size, one in by_size.items() if one is not None}

    def kept(self, row: str, other: str, share: float = NEAR, comparisons: int = 4) -> dict[str, Effect]:
        """Return by how much the gain of `row` on the text is above a share of the gain of `other`, on each model.

        comparisons: lines of the family.
        """
        found: dict[str, Effect] = {}
        if retention := self.small.get("retention"):
            found[SMALL] = retention.pairs(retention.learned, row, other, share, comparisons)
        if text := self.compared.get("numpy-docs"):
            ours, theirs = text.scores(row), text.scores(other)
            base = text.base["bits"]
            pairs = [(base - ours[seed]) - share * (base - theirs[seed]) for seed in ours if seed in theirs]
            found[LARGE] = paired_interval(pairs, comparisons=comparisons) if pairs else None
        return found

    def _learning(self) -> Iterator[Line]:
        hu, bits = "Hu et al. 2021", "bits/char gained above 0.9 of full's gain"
        yield Line("LoRA on all linears is near full", hu, bits, 0, inf, self.kept("lora", "full"))
        yield Line("LoRA on q and v is near full", hu, bits, 0, inf, self.kept("lora-qv", "full"))
        yield Line("adapters are near full", "Houlsby et al. 2019", bits, 0, inf, self.kept("pfeiffer", "full"))
        yield Line("LoRA learns less than full", "Biderman et al. 2024", "bits/char gained less", 0, inf, self.less())

    def less(self) -> dict[str, Effect]:
        """Return how much less LoRA gains than full fine-tuning."""
        flipped = {}
        for size, one in self.kept("lora", "full", 1.0).items():
            flipped[size] = one and Interval(-one.mean, -one.high, -one.low, one.count, one.error, one.df)
        return flipped

    def _forgetting(self) -> Iterator[Line]:
        biderman, razor = "Biderman et al. 2024", "Shenfeld et al. 2025"
        best = self.of("retention", lambda s: s.pairs(s.forgotten, "lora", "full", comparisons=2))
        yield Line("LoRA forgets less, each at its best rate", biderman, "forgotten more by LoRA", -inf, 0, best)
        equal = self.of("retention", lambda s: s.against_full("lora", s.steps, 3 / 4))
        yield Line("LoRA forgets less where both learned as much", biderman, "forgotten more by LoRA", -inf, 0, equal)
        law = self.of("retention", lambda s: paired_interval([*s.law(s.steps)[0].values()]))
        yield Line("what is forgotten rises with KL", razor, "rank correlation", 0.9, 1, law, 2)
        for row in ("lora", "ia3"):
            claim, effect = f"at the same KL, {LABELS[row]} forgets as full", "forgotten more at the same KL"
            at_kl = self.of("retention", lambda s, row=row: s.against_full(row, s.steps, 0))
            margin = self.small["retention"].margin(self.small["retention"].steps, 0) if SMALL in at_kl else 0.0
            yield Line(claim, razor, effect, -margin, margin, at_kl)

    def _lora(self) -> Iterator[Line]:
        for row in ("rslora", "lora-plus", "dora", "pissa", "vera"):
            for size, one in self.kept(row, "lora", 1.0, VARIANTS).items():
                gain = self.gain("lora", size)
                level = {size: one}
                yield Line(
                    f"{LABELS[row]} is level with LoRA",
                    "Lee et al. 2026",
                    "bits/char gained more",
                    -SAME * gain,
                    SAME * gain,
                    level,
                )
        schulman = "Schulman et al. 2025"
        rate = self.of("retention", lambda study: study.rate_ratio("lora", "full"))
        yield Line("LoRA's best rate is 10 times full's", schulman, "ln of the ratio", log(5), log(20), rate, 1)
        rank = {SMALL: self.small["rank"].change("2r")} if "rank" in self.small else {}
        yield Line("the best rate does not depend on the rank", schulman, "ln of the change", -log(2), log(2), rank, 1)
        batch = self.of("batch-size", lambda study: study.growth())
        yield Line(
            "LoRA falls further behind with large batches", schulman, "bits/char more, 64 against 2", 0.01, inf, batch
        )
        mlp = self.of("targets", lambda s: s.gains(("targets", targets.MLP), ("targets", targets.ATTENTION)))
        yield Line("the MLP's matrices learn more", schulman, "bits/char gained more", 0, inf, mlp)

    def gain(self, row: str, size: str) -> float:
        """Return the mean of what a row gains on the text."""
        if size == LARGE:
            text = self.compared["numpy-docs"]
            return text.gain(text.reached(row))
        return self.small["retention"].gain(row)

    def _quantizing(self) -> Iterator[Line]:
        dettmers = "Dettmers et al. 2023"
        yield Line(
            "QLoRA is near LoRA",
            dettmers,
            "bits/char above 0.9 of it",
            0,
            inf,
            self.kept("qlora", "lora", NEAR, VARIANTS),
        )
        for worse, better in (("fp4", "nf4"), ("int4", "fp4")):
            loss = self.of(
                "data-types", lambda s, b=better, w=worse: s.paired("base_text", ("base", w), ("base", b), 3)
            )
            claim = f"{better.upper()} harms less than {worse.upper()}"
            yield Line(claim, dettmers, "bits/char lost more", 0, inf, loss, 4)
        gptq = self.of("gptq", lambda study: study.paired("lost", ("int4", "gptq"), ("int4", "nearest"), 3))
        yield Line("GPTQ harms less than rounding", "Frantar et al. 2022", "bits/char lost more", -inf, 0, gptq, 4)

    def _others(self) -> Iterator[Line]:
        labels = self.of("low-data", lambda s: s.paired("accuracy", ("full", 32), (SCRATCH, 32), 1, 100))
        yield Line(
            "a pretrained start is ahead at 32 labels", "Howard & Ruder 2018", "points at 32 labels", 0, inf, labels, 1
        )
        new = self.of("intruders", lambda study: study.than_full(8))
        yield Line("LoRA has more intruders than full", "Shuttleworth et al. 2024", "intruders more", 0, inf, new, 2)

    def grid(self) -> Grid:
        rows = [
            (line.claim, line.source, line.effect, *line.cells(SMALL), *line.cells(LARGE))
            for line in self.lines
            if line.measured
        ]
        sizes = [f"{name}, {size}" for size in (SMALL, LARGE) for name in ("effect", "visible", "verdict")]
        return Grid("The ledger of claims", ("claim", "source", "effect is", *sizes), rows, self.caption())

    def caption(self) -> str:
        words = []
        for size in (SMALL, LARGE):
            counts = Counter(line.verdict(size) for line in self.lines if line.measured.get(size))
            if counts:
                words.append(f"{size}: {listed(f'{count} {word}' for word, count in sorted(counts.items()))}")
        return (
            "A claim is shown if the whole 95 % interval of the effect lies where it says, refuted if none of it does, "
            "else undecided. Visible: the smallest true effect whose interval would have excluded 0 in 4 of 5 such "
            f"experiments. {'; '.join(words)}."
        )
