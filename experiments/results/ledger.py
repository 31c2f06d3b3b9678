"""The ledger: claims of papers and of the chapter, and what was measured for each on two models.

A claim has a margin, the range in which the true effect must lie. For each model a line has the effect with its 95 %
interval, the smallest distance from the margin's border that would have been seen 4 times out of 5, and a verdict:
shown if the whole interval lies within the margin, refuted if none of it does, else undecided. One seed decides
nothing, and a record with a flaw is not judged.

The claims of one family share the 5 %, by Bonferroni's correction. The same contrast has the same interval wherever it
is printed: gains against full fine-tuning and against LoRA belong to the families in `FAMILY`, and a contrast that a
study has in its own table or sentence is taken from the study.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, log
from typing import Any

from experiments.beside import verdict
from experiments.compare_model_report import FAMILY, LABELS, VARIANTS, ModelResult
from minilora.measure.statistics import Interval, paired_interval, smallest_visible
from minilora.show.grids import Grid, listed

SIZES = SMALL, LARGE = "2.8 M", "135 M"
NEAR = 0.9  # of another's gain
SAME = 0.05  # share of LoRA's gain by which a variant may differ and still count as level
Effect = Interval | str | None  # a string is the flaw of the record
Margin = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A claim. margin: where the true effect must lie if the claim holds, on every model or by model; measured: {model:
    effect}, without models on which it was not measured; is_ratio: the effect is the logarithm of a ratio, and the
    table shows the ratio.
    """

    claim: str
    source: str
    effect: str  # in words, with its unit
    margin: Margin | Mapping[str, Margin]
    measured: dict[str, Effect]
    digits: int = 3
    is_ratio: bool = False

    def within(self, size: str) -> Margin:
        """Return the margin on one model."""
        return self.margin if isinstance(self.margin, tuple) else self.margin[size]

    def verdict(self, size: str) -> str:
        effect = self.measured.get(size)
        if isinstance(effect, Interval):
            return verdict(effect, *self.within(size))
        return effect or "not measured"

    def cells(self, size: str) -> tuple[str, str, str]:
        """Return the effect with its interval, the smallest distance that would have been seen, and the verdict."""
        effect = self.measured.get(size)
        if not isinstance(effect, Interval):
            return "–", "–", effect or "–"
        shown, visible = effect.show(self.digits), f"{smallest_visible(effect):.{self.digits}f}"
        if self.is_ratio:
            mean, low, high = (f"{exp(value):.2g}" for value in (effect.mean, effect.low, effect.high))
            shown = f"{mean} ({low} to {high})" if effect.df else f"{mean} (one seed)"
            visible = f"× {exp(smallest_visible(effect)):.2g}"
        return shown, visible if effect.df else "–", self.verdict(size)

    def margin_in_words(self) -> str:
        """Return the margin, of each model if they differ."""
        judged = [size for size, effect in self.measured.items() if isinstance(effect, Interval)]
        words = {size: self._in_words(*self.within(size)) for size in judged}
        one = set(words.values())
        return one.pop() if len(one) == 1 else ", ".join(f"{of_size} ({size})" for size, of_size in words.items())

    def _in_words(self, low: float, high: float) -> str:
        if self.is_ratio:
            return f"{exp(low):.2g} to {exp(high):.2g}"
        if low == -high:
            return f"±{high:.{self.digits}f}"
        return f"above {low:g}" if high == inf else f"below {high:g}"


ABOVE, BELOW = (0.0, inf), (-inf, 0.0)
LONG = 960  # steps, of the longest trainings on the small base


class Ledger:
    """The lines, from the records of studies (by name) on the small base and on SmolLM2, and of comparisons there."""

    def __init__(self, small: dict[str, Any], large: dict[str, Any], compared: dict[str, ModelResult]):
        self.small, self.large, self.compared = small, large, compared

    @cached_property
    def lines(self) -> list[Line]:
        lines = [*self._learning(), *self._forgetting(), *self._lora(), *self._quantizing(), *self._others()]
        return [line for line in lines if line.measured]

    def of(self, study: str, ask: Callable[..., Any]) -> dict[str, Any]:
        """Return {model: what `ask` returns for the study}, for the models on which the study was measured."""
        by_size = {SMALL: self.small.get(study), LARGE: self.large.get(study)}
        return {size: ask(one) for size, one in by_size.items() if one is not None}

    def gains(self, row: str, other: str, part: float = 1) -> dict[str, Effect]:
        """Return the gain of `row` on the text minus `part` times the gain of `other`, on each model."""
        effects: dict[str, Effect] = {}
        if retention := self.small.get("retention"):
            effects[SMALL] = retention.pairs(retention.learned, row, other, part, FAMILY[other])
        if text := self.compared.get("numpy-docs"):
            effects[LARGE] = text.ahead(row, other, FAMILY[other], part) or text.flaw(row) or text.flaw(other) or None
        return effects

    def _learning(self) -> Iterator[Line]:
        hu, near = "Hu et al. 2021", "bits/char gained beyond 0.9 of full's gain"
        yield Line("LoRA on all linears is near full", hu, near, ABOVE, self.gains("lora", "full", NEAR))
        yield Line("LoRA on q and v is near full", hu, near, ABOVE, self.gains("lora-qv", "full", NEAR))
        yield Line("adapters are near full", "Houlsby et al. 2019", near, ABOVE, self.gains("pfeiffer", "full", NEAR))
        biderman, less = "Biderman et al. 2024", "bits/char gained more than by full"
        yield Line("LoRA learns less than full", biderman, less, BELOW, self.gains("lora", "full"))

    def _forgetting(self) -> Iterator[Line]:
        biderman, razor = "Biderman et al. 2024", "Shenfeld et al. 2025"
        units = self.of("retention", lambda s: s.unit).values()
        more = f"forgotten more than by full, {' and '.join(units)}"
        best = self.of("retention", lambda s: s.pairs(s.forgotten, "lora", "full", comparisons=2))
        yield Line("LoRA forgets less, each at its best rate", biderman, more, BELOW, best)
        if (small := self.small.get("retention")) and LONG in small.lengths:
            longer = {SMALL: small.pairs(small.forgotten, "lora", "full", comparisons=2, steps=LONG)}
            yield Line(f"the same after {LONG} steps in place of {small.steps}", biderman, more, BELOW, longer)
        equal = self.of("retention", lambda s: s.against_full("lora", s.steps, 3 / 4))
        yield Line("LoRA forgets less where both learned as much", biderman, more, BELOW, equal)
        law = self.of("retention", lambda s: paired_interval([*s.law(s.steps)[0].values()]))
        yield Line("what is forgotten follows KL", razor, "rank correlation", (0.9, inf), law, 2)
        margins = self.of("retention", lambda s: (-s.margin(s.steps, 0), s.margin(s.steps, 0)))
        for row in ("lora", "ia3"):
            at_kl = self.of("retention", lambda s, row=row: s.against_full(row, s.steps, 0))
            yield Line(f"at the same KL, {LABELS[row]} forgets as full", razor, more, margins, at_kl)

    def _lora(self) -> Iterator[Line]:
        margins = {size: (-SAME * gain, SAME * gain) for size, gain in self.gain("lora").items()}
        for row in VARIANTS[:-1]:  # QLoRA has a claim of its own
            more, source = "bits/char gained more than by LoRA", "Lee et al. 2026"
            yield Line(f"{LABELS[row]} is level with LoRA", source, more, margins, self.gains(row, "lora"))
        schulman = "Schulman et al. 2025"
        rate = self.of("retention", lambda s: s.rate_ratio("lora", "full"))
        text = self.compared.get("numpy-docs")
        if text and (lora := text.best_rate("lora")) and (full := text.best_rate("full")):
            rate[LARGE] = paired_interval([log(lora / full)])  # searched with one seed
        ten, same = (log(5), log(20)), (-log(2), log(2))
        yield Line("LoRA's best rate is 10 times full's", schulman, "ratio of the best rates", ten, rate, is_ratio=True)
        for rule, words in (("16", "alpha = 16"), ("2r", "alpha = 2r")):
            change = {SMALL: self.small["rank"].change(rule)} if "rank" in self.small else {}
            claim, effect = f"with {words}, the best rate does not depend on the rank", "ratio, highest rank to lowest"
            yield Line(claim, schulman, effect, same, change, is_ratio=True)
        batch = self.of("batch-size", lambda s: s.growth())
        claim, effect = "LoRA falls further behind with large batches", "bits/char behind full, batches of 64 against 2"
        yield Line(claim, schulman, effect, (0.01, inf), batch)
        mlp = self.of("targets", lambda s: s.mlp_lead())
        yield Line("the MLP's matrices learn more", schulman, "bits/char gained more than by attention's", ABOVE, mlp)

    def gain(self, row: str) -> dict[str, float]:
        """Return the mean of what a row gains on the text, on each model."""
        gains = {SMALL: self.small["retention"].gain(row)} if "retention" in self.small else {}
        text = self.compared.get("numpy-docs")
        return gains | ({LARGE: text.gain(text.reached(row))} if text and text.cells(row) else {})

    def _quantizing(self) -> Iterator[Line]:
        dettmers, near = "Dettmers et al. 2023", "bits/char gained beyond 0.9 of LoRA's gain"
        yield Line("QLoRA is near LoRA", dettmers, near, ABOVE, self.gains("qlora", "lora", NEAR))
        for better, worse in (("nf4+dq", "fp4"), ("fp4", "int4")):
            loss = self.of("data-types", lambda s, worse=worse: s.harms()[worse])
            names = [name.upper().replace("+", " + ") for name in (better, worse)]
            yield Line(f"{names[0]} harms less than {names[1]}", dettmers, "bits/char lost more", ABOVE, loss, 4)
        gptq = self.of("gptq", lambda s: s.paired("lost", ("int4", "gptq"), ("int4", "nearest"), 3))
        yield Line("GPTQ harms less than rounding", "Frantar et al. 2022", "bits/char lost more", BELOW, gptq, 4)

    def _others(self) -> Iterator[Line]:
        labels = self.of("low-data", lambda s: s.leads()[32])
        claim, effect = "a pretrained start is ahead at 32 labels", "points of accuracy"
        yield Line(claim, "Howard & Ruder 2018", effect, ABOVE, labels, 1)
        new = self.of("intruders", lambda s: s.than_full(8))
        yield Line("LoRA has more intruders than full", "Shuttleworth et al. 2024", "intruders more", ABOVE, new, 2)

    def grid(self) -> Grid:
        rows = [
            (line.claim, line.source, line.effect, line.margin_in_words(), *line.cells(SMALL), *line.cells(LARGE))
            for line in self.lines
        ]
        sizes = [f"{name}, {size}" for size in SIZES for name in ("effect", "visible", "verdict")]
        return Grid("The ledger of claims", ("claim", "source", "effect is", "margin", *sizes), rows, self.caption())

    def values(self) -> dict[str, str]:
        """Return {`ledger.CLAIM, SIZE`: the effect of a claim}, which texts quote."""
        return {f"ledger.{line.claim}, {size}": line.cells(size)[0] for line in self.lines for size in line.measured}

    def caption(self) -> str:
        counts = {size: Counter(line.verdict(size) for line in self.lines if line.measured.get(size)) for size in SIZES}
        words = [
            f"{size}: {listed(f'{count} {word}' for word, count in sorted(of_size.items()))}"
            for size, of_size in counts.items()
            if of_size
        ]
        return (
            "Each line has a claim and its effect as measured on our base (2.8 M) and on SmolLM2 (135 M). If the "
            "claim holds, the true effect lies within the margin. So the claim is shown if the whole 95 % interval of "
            "the measured effect lies there, refuted if none of it does, and undecided otherwise. Visible says what "
            "such an experiment can see at all: a true effect that lies so far beyond the margin's border (for a "
            "margin of ±, outside of it) would reach a verdict 4 times out of 5. *Level with LoRA* means a gain "
            f"within {100 * SAME:.0f} % of LoRA's, and *forgets as full* means within a quarter of the amount that "
            "full fine-tuning has forgotten. A best learning rate is known to half a step of its grid (steps of √3), "
            "so the interval of a ratio is a step wider at each end. The margins were set before gains and forgetting "
            "were measured at 2.8 M, except that those at the same KL were set after a look at two seeds; all were "
            f"set after the older records, which include those of 135 M. {'; '.join(words)}."
        )
