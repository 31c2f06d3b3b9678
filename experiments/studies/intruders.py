"""Which directions of a weight are new after fine-tuning, and do they forget?"""

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from experiments.bench import Bench
from experiments.studies.study import Point, Study, StudySettings, apart, compared, draw_curve, seen
from minilora import backend
from minilora.measure.statistics import Interval, paired_interval
from minilora.nn import Linear, Module
from minilora.peft.model import PeftModel
from minilora.quant import linears_of_blocks
from minilora.show.grids import Grid, Spread, listed, show_signed
from minilora.show.style import LOOKS, SERIES, figure_of, styled, with_legend
from minilora.train import load
from minilora.train.config import TrainConfig
from minilora.train.loop import train
from minilora.train.methods import Options

FULL = 0  # among the ranks: full fine-tuning
TOP = 10  # singular vectors per matrix that are looked at
EPSILON = 0.5  # an intruder's cosine with every singular vector of the base is below it
Run = tuple[str, int]  # at its "own" learning rate or "faster", and the rank
EPSILONS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class IntrudersSettings(StudySettings):
    """values: ranks."""

    scales: tuple[float, ...] = (1.0, 0.75, 0.5, 0.0)  # of the intruders' singular values
    faster: tuple[int, ...] = (8,)  # ranks that are trained at `times` their learning rate as well
    times: float = 3.0
    gain: float = 0.4  # bits per character of validation text nearest to which training ends
    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=60, eval_every=3, patience=3, warmup=3, lr_floor=0.3)
    )


class Change:
    """A weight (out, in) before and after fine-tuning, by singular vectors."""

    def __init__(self, before: np.ndarray, after: np.ndarray):
        self.after = after
        self.u, self.s, self.vt = np.linalg.svd(after, full_matrices=False)
        known = np.linalg.svd(before, full_matrices=False)[0]
        self.nearest = np.abs(known.T @ self.u[:, :TOP]).max(axis=0)  # (TOP,): the largest cosine of each
        self.effective_rank = effective_rank(after - before)

    def intruders(self, epsilon: float = EPSILON) -> np.ndarray:
        """Which of the first TOP singular vectors have a cosine below epsilon with every one of the base."""
        return np.flatnonzero(self.nearest < epsilon)

    def scaled(self, scale: float) -> np.ndarray:
        """The weight after, with the singular values of its intruders times `scale` (Shuttleworth et al. 2024)."""
        new = self.intruders()
        return self.after - (1 - scale) * (self.u[:, new] * self.s[new]) @ self.vt[new]


def effective_rank(matrix: np.ndarray) -> float:
    """exp of the entropy of the singular values, which are divided by their sum (Roy & Vetterli 2007)."""
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def weights_of(model: Module) -> dict[str, np.ndarray]:
    """Return the matrices of the blocks by path, in float64."""
    linears = {path: model.get_submodule(path) for path in linears_of_blocks(model)}
    return {p: backend.to_numpy(one.weight.data).astype(float) for p, one in linears.items() if isinstance(one, Linear)}


def trained(bench: Bench, rank: int, times: float, seed: int) -> tuple[Module, dict[str, Change], dict]:
    """A plain model where it had gained most nearly what the settings say, the changes of its matrices, and facts.

    times: the learning rate, in multiples of the one found.
    """
    lab, settings = bench.lab, bench.settings
    method, options = ("full", None) if rank == FULL else ("lora", Options(rank=rank))
    rate = float(f"{times * bench.text_rate(method, options, ('text', rank)):.2g}")
    base = lab.base()
    model = lab.fresh(method, seed, options)
    goal = lab.bits(base, lab.domain_validation) - settings.gain
    distance = lambda: abs(lab.bits(model, lab.domain_validation) - goal)  # noqa: E731
    batches = lab.batches(lab.domain_text(settings.characters, seed), lab.batch_size, seed)
    config = bench.trained_by(settings.adapt, method, rate, seed)
    history = train(model, batches, config, evaluate=distance, show_progress=False)
    trainable = load.count_parameters(model)[0]
    plain: Module = model.merge_and_unload() if isinstance(model, PeftModel) else model
    before, after = weights_of(base), weights_of(plain)
    changes = {path: Change(before[path], after[path]) for path in after}
    by_epsilon = [float(np.mean([len(one.intruders(e)) for one in changes.values()])) for e in EPSILONS]
    return (
        plain,
        changes,
        {
            "lr": rate,
            "trainable": trainable,
            "best_step": history.best_step,
            "by_epsilon": by_epsilon,
            "intruders": by_epsilon[EPSILONS.index(EPSILON)],
            "effective_rank": float(np.mean([one.effective_rank for one in changes.values()])),
            "seconds": history.seconds,
        },
    )


class Intruders(Study):
    name = "intruders"
    question = "Which directions of the weights are new after fine-tuning, and do they forget?"
    published = (
        "LoRA has singular vectors among the first that are like none of the base's, above all at low rank, full "
        "fine-tuning hardly any; scaling them down brings back much of what was forgotten at little cost of what was "
        "learned (Shuttleworth et al. 2024)."
    )
    full = IntrudersSettings(values=(1, 8, 64), rates=2)
    quick = full.quick(values=(1, 8), gain=0.2)
    large = full.large(values=(8,), faster=(), gain=0.12)

    @staticmethod
    def runs(settings: IntrudersSettings) -> list[tuple]:
        return [*(("own", rank) for rank in (FULL, *settings.values)), *(("faster", rank) for rank in settings.faster)]

    @classmethod
    def cells(cls, settings: IntrudersSettings) -> list[tuple]:
        runs = product(cls.runs(settings), settings.seeds, settings.scales)
        return [("base",), *((*run, scale, seed) for run, seed, scale in runs)]

    @staticmethod
    def measure(bench: Bench, kind: str, rank: int, scale: float, seed: int) -> dict:
        times = bench.settings.times if kind == "faster" else 1.0
        plain, changes, facts = bench.once((kind, rank, seed), lambda: trained(bench, rank, times, seed))
        for path, change in changes.items():
            weight = plain.get_submodule(path).weight
            weight.data = backend.asarray(change.scaled(scale), dtype=weight.dtype)
        return facts | bench.quality(plain)

    def __init__(self, records):
        super().__init__(records)
        self.scales = self.settings["scales"]
        self.own: list[Run] = [("own", rank) for rank in self.values]
        self.faster: list[Run] = [("faster", rank) for rank in self.settings["faster"]]
        self.all: list[Run] = [("own", FULL), *self.own, *self.faster]

    def of(self, number: str, run: Run) -> Spread:
        """Return a number of the trained model."""
        return self.spread(number, *run, 1.0)

    def point(self, run: Run, scale: float) -> Point:
        return self.gained(*run, scale), self.forgot(*run, scale)

    def name_of(self, run: Run) -> str:
        kind, rank = run
        faster = f", {self.settings['times']:g} × rate" * (kind == "faster")
        return f"r = {rank}{faster}" if rank else "full"

    def grid(self) -> Grid:
        rows = []
        for run, scale in product(self.all, self.scales):
            found = ["", "", ""]
            if scale == 1:
                effective = self.of("effective_rank", run).show(1)
                found = [f"{self.first('lr', *run):g}", self.of("intruders", run).show(2), effective]
            rows.append((self.name_of(run), *found, f"{scale:g}", *(one.show(3) for one in self.point(run, scale))))
        return Grid(
            "Intruder dimensions, and what is left as they are scaled back",
            ("method", "rate", f"intruders\nof {TOP}", "effective\nrank of Δ", "λ", "gained", "forgot"),
            rows,
            f"Full fine-tuning and LoRA. Intruders: of the first {TOP} left singular vectors of a weight, those whose "
            f"cosine with every one of the base is below {EPSILON:g}, on average over the matrices of the blocks; "
            "effective rank: of the update, by entropy. λ: what their singular values are multiplied by. Gained and "
            "forgotten: bits/char on held-out numpy-docs and python-docs. Training ends nearest to "
            f"{self.settings['gain']:g} gained on validation text; rates by search. "
            f"{self.in_words(self.of('intruders', run).count for run in self.all)}",
        )

    @styled
    def figure(self):
        """Intruders by the threshold, and what is learned and forgotten as they are scaled back."""
        figure = figure_of("Intruder dimensions: how many, and what they forget", 4.6)
        left, right = figure.subplots(1, 2)
        looks, drawn = [LOOKS["full"], *SERIES[1:]], [scale for scale in self.scales if scale]  # at 0, far to the left
        for run, look in zip(self.all, looks, strict=False):
            rows = [row["by_epsilon"] for row in self.records.of(*run, 1.0)]
            found = [Spread.of(numbers) for numbers in zip(*rows, strict=True)]
            means, bars = [one.mean for one in found], [one.deviation for one in found]
            left.errorbar(EPSILONS, means, bars, **look, label=self.name_of(run))
            points = [self.point(run, scale) for scale in drawn]
            draw_curve(right, points, "", look)
            won, lost = points[0]
            right.plot(won.mean, lost.mean, "o", markersize=14, fillstyle="none", color=look["color"])
        left.set(xlabel="cosine ε below which a vector is new", ylabel=f"intruders per matrix, of {TOP}")
        right.set(xlabel="bits/character gained", ylabel="bits/character forgotten")
        right.set_title(f"in a ring λ = 1; then {', '.join(f'{s:g}' for s in drawn[1:])}", fontsize=9)
        return with_legend(figure)

    def sentence(self) -> str:
        counts, ranks = ({run: self.of(of, run) for run in self.all} for of in ("intruders", "effective_rank"))
        gains = [self.point(run, 1.0)[0].mean for run in self.all]
        steps = sorted({row["best_step"] for run in self.all for row in self.records.of(*run, 1.0)})
        after = f"{steps[0]} to {steps[-1]} steps" if len(steps) > 1 else f"{steps[0]} steps"
        full = counts["own", FULL]
        beside = {rank: self.than_full(rank) for _, rank in self.own}
        more = apart(beside)[0]
        times = self.settings["times"]
        said = (
            f"Where {min(gains):.3f} to {max(gains):.3f} bits/character are gained, after {after}, {full.show(2)} of "
            f"the first {TOP} singular vectors of a matrix are new after full fine-tuning and, with LoRA, "
            f"{listed(f'{counts[run].show(2)} at rank {run[1]}' for run in self.own)}: "
        )
        if more:
            all_of = (
                ", as published" if len(more) == len(self.own) else f" at rank {listed(more)}, in part as published"
            )
            said += f"more than with full fine-tuning{all_of}. "
        else:
            said += f"not shown to be more than with full fine-tuning.{seen(beside.values(), 2)} "
        said += "".join(
            f"At {times:g} times the learning rate, rank {run[1]} has {counts[run].show(2)} instead of "
            f"{counts['own', run[1]].show(2)}. "
            for run in self.faster
        )
        said += (
            f"The update's effective rank is {ranks['own', FULL].show(0)} with full fine-tuning and "
            f"{listed(f'{ranks[run].show(1)} at rank {run[1]}' for run in self.own)}. "
        )
        most = max([*self.own, *self.faster], key=lambda run: counts[run].mean)
        if not counts[most].mean:
            return said + "There are no intruders to scale back."
        return said + self.scaled_back(most)

    def scaled_back(self, most: Run) -> str:
        """Say what scaling intruders changes, first of the run that has most of them."""
        mild, least = self.scales[1], self.scales[-1]
        (won, lost), (gained, forgot) = self.point(most, 1.0), self.changes(most, mild)
        share = self.larger_share(most, mild)
        larger, smaller = "the larger share: as published", "not the larger share: unlike published"
        verdict = compared(share, smaller, larger, "undecided which is the larger share")
        said = (
            f"With {self.name_of(most)}, intruders at {mild:g} of their size change what is gained ({won.mean:.3f}) by "
            f"{gained.in_words(3)} and what is forgotten ({lost.mean:.3f}) by {forgot.in_words(3)}: {verdict}. "
        )
        gained, forgot = self.changes(most, least)
        said += f"At {least:g} of it these are {show_signed(gained.mean)} and {show_signed(forgot.mean)}."
        others = [run for run in [*self.own, *self.faster] if run != most]
        if not others:
            return said
        by = listed(f"{show_signed(self.changes(run, mild)[1].mean)} ({self.name_of(run)})" for run in others)
        return f"{said} Elsewhere intruders at {mild:g} of their size change what is forgotten by {by}."

    @property
    def comparisons(self) -> int:
        """Return how many the sentence makes: each rank with full fine-tuning, and three of what scaling changes."""
        return len(self.own) + 3

    def than_full(self, rank: int) -> Interval:
        """By how many a matrix has more intruders than after full fine-tuning."""
        return self.paired("intruders", ("own", rank, 1.0), ("own", FULL, 1.0), self.comparisons)

    def changes(self, run: Run, scale: float) -> tuple[Interval, Interval]:
        """By how much more is gained and forgotten when the intruders are scaled, seed by seed."""
        here, before = (*run, scale), (*run, 1.0)
        return self.gains(here, before, self.comparisons), self.paired("base_text", here, before, self.comparisons)

    def larger_share(self, run: Run, scale: float) -> Interval:
        """By how much more scaling changes of what was forgotten than of what was gained, as shares, times both."""
        products = []
        for before, here in zip(self.records.of(*run, 1.0), self.records.of(*run, scale), strict=True):
            won, lost = self.base["domain"] - before["domain"], before["base_text"] - self.base["base_text"]
            gained, forgot = before["domain"] - here["domain"], here["base_text"] - before["base_text"]
            products.append(forgot * won - gained * lost)  # its sign is that of forgot / lost - gained / won
        return paired_interval(products, comparisons=self.comparisons)
