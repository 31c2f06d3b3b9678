"""What the strength of an adapter, set after training, reaches on the plane of learned and forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings, draw_curve
from minilora.measure.statistics import Interval, paired_interval
from minilora.show.grids import Grid, Spread, listed, show_signed
from minilora.show.style import GREY, SERIES, TALL, single, styled, with_legend
from minilora.train.loop import TrainConfig, train

Path = Sequence[tuple[float, float]]  # points, joined by lines
TRAINED = 1.0  # the strength with which an adapter is trained


@dataclass(frozen=True)
class StrengthSettings(StudySettings):
    """values: strengths."""

    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=60, eval_every=10, warmup=3, lr_floor=0.0)  # no patience: to the end
    )
    # The learning rate, in multiples of the one found, and the steps. The last one's adapter is set to the strengths.
    trainings: tuple[tuple[float, int], ...] = ((1 / 9, 60), (1 / 3, 60), (1 / 3, 120), (0.6, 60), (1.0, 60))


def least(paths: Iterable[Path], level: float) -> float | None:
    """Return the smallest y on the paths where x is at least `level`; None if no path gets there."""
    found = []
    for path in paths:
        for (x0, y0), (x1, y1) in pairwise(path):
            found += [y for x, y in ((x0, y0), (x1, y1)) if x >= level]
            if min(x0, x1) < level < max(x0, x1):
                found.append(y0 + (y1 - y0) * (level - x0) / (x1 - x0))
    return min(found, default=None)


def train_and_look(bench: Bench, factor: float, steps: int, seed: int):
    """Return a LoRA in its best state by validation text, and {step: the numbers at that step}."""
    lab, rate = bench.lab, float(f"{factor * bench.text_rate('lora'):.2g}")
    config = replace(bench.settings.adapt, steps=steps, peak_lr=rate, seed=seed)
    model, seen = lab.fresh("lora", seed), []

    def look() -> float:
        seen.append(bench.quality(model))
        return lab.bits(model, lab.domain_validation)

    batches = lab.batches(lab.domain_text(bench.settings.characters, seed), lab.batch_size, seed)
    history = train(model, batches, config, evaluate=look, show_progress=False)
    facts = {"lr": rate, "best_step": history.best_step}
    return model, {e["step"]: facts | numbers for e, numbers in zip(history.evaluations, seen, strict=True)}


class Strength(Study):
    name = "strength"
    question = "Does an adapter's strength, set after training, reach what training did not?"
    published = (
        "Weights between those of an image classifier before and after fine-tuning have 1.6 points more on ImageNet "
        "than the fine-tuned ones, and under five shifts of its distribution 4 to 6 points more than earlier work "
        "(Wortsman et al. 2022, WiSE-FT). The plane of learned and forgotten, for LoRA and by the length of training "
        "but without λ, is that of Biderman et al. 2024, section 4.3."
    )
    full = StrengthSettings(values=(0.0, 0.25, 0.5, 0.75, TRAINED, 1.25, 1.5))
    quick = full.quick()
    large = full.large(trainings=((1 / 3, 30), (1.0, 30)), adapt=replace(full.adapt, steps=30, eval_every=5))

    @classmethod
    def cells(cls, settings: StrengthSettings) -> list[tuple]:
        keys: list[tuple] = [("base",)]
        for seed in settings.seeds:
            for factor, steps in settings.trainings:
                every = settings.adapt.eval_every
                keys += [("training", factor, steps, step, seed) for step in range(every, steps + 1, every)]
            keys += [("strength", strength, seed) for strength in settings.values]
        return keys

    @staticmethod
    def measure(bench: Bench, kind: str, *what) -> dict:
        seed = what[-1]
        factor, steps = what[:2] if kind == "training" else bench.settings.trainings[-1]
        key = (factor, steps, seed)
        model, numbers = bench.once(key, lambda: train_and_look(bench, *key))
        if kind == "training":
            return numbers[what[2]]
        model.set_strength(what[0])
        return {"lr": numbers[0]["lr"], "best_step": numbers[0]["best_step"]} | bench.quality(model)

    def point(self, *key) -> tuple[float, float]:
        """What was learned and what was forgotten in the cell of `key`."""
        row = self.records.rows[key]
        return self.base["domain"] - row["domain"], row["base_text"] - self.base["base_text"]

    def steps_of(self, factor: float, steps: int) -> list[int]:
        """At which a training was looked at."""
        return sorted({row["key"][3] for row in self.records.of("training", factor, steps)})

    def beside_training(self, strength: float) -> tuple[list[float | None], list[float | None]]:
        """For each seed how much more a strength has learned, and how much more it has forgotten, than training.

        Learned: than the most that any training had where it had forgotten no more. Forgotten: than the least that any
        had where it had learned no less. None where none had.
        """
        learns: list[float | None] = []
        forgets: list[float | None] = []
        for seed in self.settings["seeds"]:
            learned, forgotten = self.point("strength", strength, seed)
            paths: list[Path] = [  # every training from the base on
                [(0.0, 0.0), *(self.point("training", *one, step, seed) for step in self.steps_of(*one))]
                for one in self.settings["trainings"]
            ]
            lost = least(paths, learned)
            missed = least([[(-lost, -won) for won, lost in path] for path in paths], -forgotten)  # the axes exchanged
            learns.append(None if missed is None else learned + missed)
            forgets.append(None if lost is None else forgotten - lost)
        return learns, forgets

    def is_new(self, strength: float) -> bool:
        """Return True if it is shown to forget less than any training that learned as much, or if none has, ever."""
        forgets = [more for more in self.beside_training(strength)[1] if more is not None]
        interval = self.interval(forgets)
        return interval is None or interval.high < 0

    def interval(self, differences: Sequence[float | None]) -> Interval | None:
        """Return that of differences by seed, corrected for the strengths; None where one of them is missing."""
        there = [one for one in differences if one is not None]
        if not there or len(there) < len(differences):
            return None
        return paired_interval(there, comparisons=2 * len(self.values))

    def grid(self) -> Grid:
        rows = []
        for strength in self.values:
            learns, forgets = map(self.interval, self.beside_training(strength))
            beside = ["–" if one is None else show_signed(one.mean) for one in (forgets, learns)]
            won, lost = self.gained("strength", strength), self.forgot("strength", strength)
            rows.append((f"λ = {strength:g}", won.show(3), lost.show(3), *beside))
        *others, own = self.settings["trainings"]
        shown = [(*one, self.steps_of(*one)[-1]) for one in others] + [(*own, step) for step in self.steps_of(*own)]
        for factor, steps, step in shown:
            key = ("training", factor, steps, step)
            name = f"{self.first('lr', *key):g}, {step}/{steps}"
            rows.append((name, self.gained(*key).show(3), self.forgot(*key).show(3), "", ""))
        counts = [self.gained("strength", strength).count for strength in self.values]
        return Grid(
            "Strengths of one LoRA after training, and trainings",
            ("λ, or rate, step", "learned", "forgot", "forgot\nmore than", "learned\nmore than"),
            rows,
            "Bits/char gained on held-out numpy-docs and lost on held-out python-docs. λ multiplies what the last "
            "training changed, in the state that validation text of the domain found best. The last two columns hold "
            "λ against the trainings, with lines between their steps: forgotten more than by the one that forgot least "
            "where it had learned as much, learned more than by the one that had learned most where it had forgotten "
            f"as little; –: with some seed no training had. {self.in_words(counts)}",
        )

    @styled
    def figure(self):
        """Bits forgotten against bits learned: the path of each training, and the path of the strengths."""
        figure, axes = single("Strength after training: right is learned, up is forgotten", TALL)
        axes.axhline(0, color=GREY, linewidth=1)
        base = (Spread(0.0, 0.0, 1), Spread(0.0, 0.0, 1))
        for one, look in zip(self.settings["trainings"], SERIES[1:], strict=False):
            keys = [("training", *one, step) for step in self.steps_of(*one)]
            rate = next(self.records.of(*keys[0]))["lr"]
            points = [(self.gained(*key), self.forgot(*key)) for key in keys]
            draw_curve(axes, [base, *points], f"training at {rate:g}, {one[1]} steps", look)
        points = [(self.gained("strength", strength), self.forgot("strength", strength)) for strength in self.values]
        draw_curve(axes, points, "λ, after the last training", SERIES[0] | {"linewidth": 2.6})
        for strength, (won, lost) in zip(self.values, points, strict=True):
            beside = (8, 2) if strength >= TRAINED else (8, -14)  # where the path does not go
            axes.annotate(f"λ = {strength:g}", (won.mean, lost.mean), beside, textcoords="offset points")
        axes.set(xlabel="bits/character gained on the domain", ylabel="bits/character\nlost on the base's text")
        axes.margins(0.1)
        return with_legend(figure)

    def sentence(self) -> str:
        changed = [self.forgot("strength", strength).mean for strength in self.values if strength]
        nothing = "Nothing is forgotten: the base's text gains, too. " * (max(changed) < 0)
        if len(self.settings["seeds"]) == 1:
            return f"{nothing}One seed was trained, so that strengths and trainings are not told apart."
        said = f"{nothing}{self.beyond_training()} {self.between_the_ends()}"
        largest = max(self.values)
        if largest <= TRAINED:
            return said
        won, lost = self.than_trained(largest)
        only_loses = "Above 1 both get worse: " * (won.high < 0 < lost.low)
        return f"{said} {only_loses}λ = {largest:g} has learned {won.in_words(3)} and forgotten {lost.in_words(3)}."

    def beyond_training(self) -> str:
        """Say which strengths are shown to be where no training came, and by how much."""
        new = [strength for strength in self.values if self.is_new(strength)]
        trainings = f"{len(self.settings['trainings'])} trainings"
        if not new:
            return f"No strength is shown to forget less for as much learned than any of {trainings} at any step."
        others = [f"{strength:g}" for strength in self.values if strength not in new]
        said = (
            f"At λ = {listed(f'{strength:g}' for strength in new)} LoRA has learned more than any of {trainings} had "
            "where it had forgotten as little"
        )
        said += f"; at {listed(others)} that is not shown." if others else "."
        learns, forgets = ({n: p for n in new if (p := self.interval(self.beside_training(n)[i]))} for i in (0, 1))
        if forgets:
            best = min(forgets, key=lambda strength: forgets[strength].mean)
            said += (
                f" At λ = {best:g} it has forgotten {forgets[best].in_words(3)} bits/character against the least that "
                f"a training forgot for as much ({self.gained('strength', best).show(3)} learned)."
            )
        if learns:
            best = max(learns, key=lambda strength: learns[strength].mean)
            said += (
                f" At λ = {best:g} it has learned {learns[best].in_words(3)} against the most that a training learned "
                f"for as little ({self.forgot('strength', best).show(3)} forgotten)."
            )
        return said

    def than_trained(self, strength: float) -> tuple[Interval, Interval]:
        """Learned and forgotten more than at the strength of training."""
        here, trained, count = ("strength", strength), ("strength", TRAINED), 2 * len(self.values)
        return self.gains(here, trained, count), self.paired("base_text", here, trained, count)

    def between_the_ends(self) -> str:
        """Say if a strength below 1 is better on both axes."""
        inner = {strength: self.than_trained(strength) for strength in self.values if 0 < strength < TRAINED}
        better = [strength for strength, (won, lost) in inner.items() if won.low > 0 > lost.high]
        best = max(better or inner, key=lambda strength: inner[strength][0].mean)
        won, lost = inner[best]
        verdict = "As published, what lies between the ends can be better on both axes"
        if not better:
            verdict = "No strength below 1 is shown to be better than 1 on both axes"
        return f"{verdict}: against λ = 1, λ = {best:g} has learned {won.in_words(3)} and forgotten {lost.in_words(3)}."
