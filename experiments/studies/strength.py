"""The study of what an adapter's strength, set after training, reaches in learning and forgetting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings, draw_curve
from minilora.measure.statistics import Interval, paired_interval
from minilora.show.grids import Grid, Spread
from minilora.show.style import GREY, SERIES, TALL, single, styled, with_legend
from minilora.train.loop import TrainConfig, train

Path = Sequence[tuple[float, float]]  # points joined by lines
TRAINED = 1.0  # the strength with which an adapter is trained


@dataclass(frozen=True)
class StrengthSettings(StudySettings):
    """values: strengths."""

    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=60, eval_every=10, warmup=3, lr_floor=0.0)  # no patience: to the end
    )
    # (multiple of the searched learning rate, steps); the strengths are those of the last training's adapter
    trainings: tuple[tuple[float, int], ...] = ((1 / 9, 60), (1 / 3, 60), (1 / 3, 120), (0.6, 60), (1.0, 60))


def most_learned(paths: Iterable[Path], forgotten: float) -> float | None:
    """Return the most that any path of (learned, forgotten) has learned before it has forgotten more than `forgotten`.

    None if every path has forgotten more throughout.
    """
    candidates = []
    for path in paths:
        for (x0, y0), (x1, y1) in pairwise(path):
            candidates += [x for x, y in ((x0, y0), (x1, y1)) if y <= forgotten]
            if min(y0, y1) < forgotten < max(y0, y1):
                candidates.append(x0 + (x1 - x0) * (forgotten - y0) / (y1 - y0))
    return max(candidates, default=None)


def train_and_evaluate(bench: Bench, factor: float, steps: int, seed: int):
    """Train LoRA; return it in its best state by validation text, and {step: its numbers at that step}."""
    lab, rate = bench.lab, float(f"{factor * bench.text_rate('lora'):.2g}")
    config = replace(bench.settings.adapt, steps=steps, peak_lr=rate, seed=seed)
    model, evaluations = lab.fresh("lora", seed), []

    def evaluate() -> float:
        evaluations.append(bench.quality(model))
        return lab.bits(model, lab.domain_validation)

    batches = lab.batches(lab.domain_text(bench.settings.characters, seed), lab.batch_size, seed)
    history = train(model, batches, config, evaluate=evaluate, show_progress=False)
    facts = {"lr": rate, "best_step": history.best_step}
    return model, {e["step"]: facts | numbers for e, numbers in zip(history.evaluations, evaluations, strict=True)}


class Strength(Study):
    name = "strength"
    question = "Does an adapter's strength, set after training, reach what training did not?"
    published = (
        "Averaging an image classifier's weights before and after fine-tuning gains 1.6 points on ImageNet over the "
        "fine-tuned weights, and 4 to 6 points over earlier work on shifted data (Wortsman et al. 2022, WiSE-FT)."
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
        model, numbers = bench.once(key, lambda: train_and_evaluate(bench, *key))
        if kind == "training":
            return numbers[what[2]]
        model.set_strength(what[0])
        return {"lr": numbers[0]["lr"], "best_step": numbers[0]["best_step"]} | bench.quality(model)

    def point(self, *key) -> tuple[float, float]:
        """Return what was learned and what was forgotten in the cell of `key`."""
        row = self.records.rows[key]
        return self.base["domain"] - row["domain"], row["base_text"] - self.base["base_text"]

    def steps_of(self, factor: float, steps: int) -> list[int]:
        """Return the steps at which a training was evaluated."""
        return sorted({row["key"][3] for row in self.records.of("training", factor, steps)})

    def beside_trainings(self, strength: float) -> Interval | None:
        """Return how much more a strength has learned than the best training, at any step, that forgot no more.

        Paired by seed, and corrected for all strengths. None if all trainings with some seed forgot more.
        """
        differences = []
        for seed in self.settings["seeds"]:
            learned, forgotten = self.point("strength", strength, seed)
            paths: list[Path] = [  # every training from the base on
                [(0.0, 0.0), *(self.point("training", *one, step, seed) for step in self.steps_of(*one))]
                for one in self.settings["trainings"]
            ]
            if (most := most_learned(paths, forgotten)) is None:
                return None
            differences.append(learned - most)
        return paired_interval(differences, comparisons=2 * len(self.values))

    def grid(self) -> Grid:
        rows = []
        for strength in self.values:
            learned, forgot = self.gained("strength", strength), self.forgot("strength", strength)
            beside = self.beside_trainings(strength)
            rows.append((f"{strength:g}", learned.show(3), forgot.show(3), beside.show(3) if beside else "–"))
        return Grid(
            "One LoRA adapter at different strengths after training",
            ("λ", "learned", "forgot", "more than\ntrainings"),
            rows,
            "Bits/char saved on held-out numpy-docs and lost on held-out python-docs. λ multiplies the trained "
            "update. More than trainings: how much more the adapter has learned than the best training, at any step, "
            f"that forgot no more (of {len(self.settings['trainings'])}); –: with some seed, every training forgot "
            f"more. {self.in_words()}",
        )

    @styled
    def figure(self):
        """Bits per character forgotten (up) against bits learned (right), for each training as it goes on, and for the
        last one's adapter at strengths λ from 0 to 1.5.
        """
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
            beside = (8, 2) if strength >= TRAINED else (8, -14)  # on the side where the path does not run
            axes.annotate(f"λ = {strength:g}", (won.mean, lost.mean), beside, textcoords="offset points")
        axes.set(xlabel="bits/character gained on the domain", ylabel="bits/character\nlost on the base's text")
        axes.margins(0.1)
        return with_legend(figure)

    def sentence(self) -> str:
        lost = [self.forgot("strength", strength).mean for strength in self.values if strength]
        nothing = "Nothing is forgotten: the base's text improves, too. " * (max(lost) < 0)
        best = max((s for s in self.values if 0 < s < TRAINED), key=lambda s: self.gained("strength", s).mean)
        more, worse = self.than_trained(best)
        beside = self.beside_trainings(best)
        training = "No training forgot as little with every seed"
        if beside is not None:
            training = f"Its lead in learning over the best training that forgot no more is {beside.show(3)}"
        return (
            f"{nothing}At the strength λ = {best:g}, set after training, LoRA has learned "
            f"{self.gained('strength', best).show(3)} bits/character and forgotten "
            f"{self.forgot('strength', best).show(3)}. Beside full strength (λ = 1), that is {more.show(3)} in what "
            f"is learned and {worse.show(3)} in what is forgotten. {training}."
        )

    def than_trained(self, strength: float) -> tuple[Interval, Interval]:
        """Return the differences in what is learned and in what is forgotten from full strength (λ = 1)."""
        here, trained, count = ("strength", strength), ("strength", TRAINED), 2 * len(self.values)
        return self.gains(here, trained, count), self.paired("base_text", here, trained, count)
