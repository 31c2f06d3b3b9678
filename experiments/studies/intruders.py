"""The study of which directions of the weights are new after fine-tuning, and whether they make the model forget."""

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from experiments.bench import Bench
from experiments.studies.study import Point, Study, StudySettings, draw_curve
from minilora import backend
from minilora.measure.statistics import Interval
from minilora.nn import Linear, Module
from minilora.peft.model import PeftModel
from minilora.quant import linears_of_blocks
from minilora.show.grids import Grid, Spread, listed
from minilora.show.style import LOOKS, SERIES, figure_of, styled, with_legend
from minilora.train import load
from minilora.train.config import TrainConfig
from minilora.train.loop import train
from minilora.train.methods import Options

FULL = 0  # the "rank" of full fine-tuning
TOP = 10  # number of leading singular vectors that may be intruders
EPSILON = 0.5  # an intruder's cosine with every singular vector of the base is below this
Run = tuple[str, int]  # ("own" or "faster" learning rate, rank)
EPSILONS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class IntrudersSettings(StudySettings):
    """values: ranks."""

    scales: tuple[float, ...] = (1.0, 0.75, 0.5, 0.0)  # factors for the intruders' singular values
    faster: tuple[int, ...] = (8,)  # ranks that are also trained at `times` their learning rate
    times: float = 3.0
    gain: float = 0.4  # training ends nearest to this gain, in bits per character of validation text
    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=60, eval_every=3, patience=3, warmup=3, lr_floor=0.3)
    )


class Change:
    """The singular vectors of a weight (out, in) after fine-tuning, compared with those before."""

    def __init__(self, before: np.ndarray, after: np.ndarray):
        self.after = after
        self.u, self.s, self.vt = np.linalg.svd(after, full_matrices=False)
        old = np.linalg.svd(before, full_matrices=False)[0]
        self.nearest = np.abs(old.T @ self.u[:, :TOP]).max(axis=0)  # (TOP,): the largest cosine of each
        self.effective_rank = effective_rank(after - before)

    def intruders(self, epsilon: float = EPSILON) -> np.ndarray:
        """Return the indices of the intruders among the first TOP singular vectors."""
        return np.flatnonzero(self.nearest < epsilon)

    def scaled(self, scale: float) -> np.ndarray:
        """Return the fine-tuned weight with its intruders' singular values times `scale` (Shuttleworth et al. 2024)."""
        new = self.intruders()
        return self.after - (1 - scale) * (self.u[:, new] * self.s[new]) @ self.vt[new]


def effective_rank(matrix: np.ndarray) -> float:
    """Return exp of the entropy of the singular values, divided by their sum (Roy & Vetterli 2007)."""
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def weights_of(model: Module) -> dict[str, np.ndarray]:
    """Return the matrices of the blocks by path, in float64."""
    linears = {path: model.get_submodule(path) for path in linears_of_blocks(model)}
    return {p: backend.to_numpy(one.weight.data).astype(float) for p, one in linears.items() if isinstance(one, Linear)}


def trained(bench: Bench, rank: int, times: float, seed: int) -> tuple[Module, dict[str, Change], dict]:
    """Train until the gain is nearest to the settings' `gain`.

    Returns the plain model, the changes of its matrices, and the numbers of its cell.

    times: the learning rate as a multiple of the searched one.
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
    question = "Which directions of a weight are new after fine-tuning, and do they make the model forget?"
    published = (
        "After LoRA, above all at low rank, leading singular vectors are unlike any of the base's; after full "
        "fine-tuning hardly any are. Scaling them down restores much of what was forgotten at little cost "
        "(Shuttleworth et al. 2024)."
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
        """Return a number of the trained model, over the seeds."""
        return self.spread(number, *run, 1.0)

    def point(self, run: Run, scale: float) -> Point:
        return self.gained(*run, scale), self.forgot(*run, scale)

    def name_of(self, run: Run) -> str:
        kind, rank = run
        faster = f", {self.settings['times']:g} × rate" * (kind == "faster")
        return f"r = {rank}{faster}" if rank else "full"

    def grid(self) -> Grid:
        mild, rows = self.scales[1], []
        for run in self.all:
            (gained, forgot), (gained_mild, forgot_mild) = self.point(run, 1.0), self.point(run, mild)
            numbers = [self.of("intruders", run).show(2), self.of("effective_rank", run).show(1)]
            numbers += [one.show(3) for one in (gained, gained_mild, forgot, forgot_mild)]
            rows.append((self.name_of(run), f"{self.first('lr', *run):g}", *numbers))
        header = ("method", "rate", f"intruders\nof {TOP}", "effective\nrank of Δ", "gained", f"at λ = {mild:g}")
        return Grid(
            "Intruder dimensions, before and after they are scaled back",
            (*header, "forgot", f"at λ = {mild:g}"),
            rows,
            f"Intruders: those of a matrix's first {TOP} left singular vectors whose cosine with each of the base's is "
            f"below {EPSILON:g}. Gained: bits/char saved on held-out numpy-docs; forgot: lost on held-out python-docs. "
            f"At λ = {mild:g}: the same after the intruders' singular values are multiplied by λ. Each training ends "
            f"at the step whose gain on validation text is nearest to {self.settings['gain']:g}. "
            f"{self.in_words()}",
        )

    @styled
    def figure(self):
        """Intruders per matrix against the cosine ε below which a singular vector counts as new (left), and bits per
        character forgotten against gained as intruders are scaled back (right), by method and rank.
        """
        figure = figure_of("Intruder dimensions: how many, and what they forget", 4.6)
        left, right = figure.subplots(1, 2)
        # The points at scale 0 lie so far to the left that they would squeeze the others.
        looks, drawn = [LOOKS["full"], *SERIES[1:]], [scale for scale in self.scales if scale]
        for run, look in zip(self.all, looks, strict=False):
            rows = [row["by_epsilon"] for row in self.records.of(*run, 1.0)]
            counts = [Spread.of(numbers) for numbers in zip(*rows, strict=True)]
            means, bars = [one.mean for one in counts], [one.deviation for one in counts]
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
        counts, mild = {run: self.of("intruders", run) for run in self.all}, self.scales[1]
        gains = [self.point(run, 1.0)[0].mean for run in self.all]
        ranks = listed(f"{counts[run].show(2)} at rank {run[1]}" for run in self.own)
        sentence = (
            f"An intruder is one of a matrix's first {TOP} singular vectors that resembles none of the base's. Models "
            f"were compared that had gained {min(gains):.3f} to {max(gains):.3f} bits/character. After full "
            f"fine-tuning, a matrix has {counts['own', FULL].show(2)} intruders; after LoRA it has {ranks}"
        )
        for run in self.faster:
            times = f"{self.settings['times']:g} times the learning rate"
            sentence += f", and {counts[run].show(2)} at rank {run[1]} with {times}"
        most = max([*self.own, *self.faster], key=lambda run: counts[run].mean)
        if not counts[most].mean:
            return f"{sentence}. There are no intruders to scale back."
        gained, forgot = self.changes(most, mild)
        return (
            f"{sentence}. If the intruders of {self.name_of(most)} are scaled to {mild:g} of their size, what is "
            f"gained changes by {gained.show(3)} and what is forgotten by {forgot.show(3)}."
        )

    @property
    def comparisons(self) -> int:
        """The number of comparisons: each rank with full fine-tuning, and two changes by scaling."""
        return len(self.own) + 2

    def than_full(self, rank: int) -> Interval:
        """Return how many more intruders a matrix has than after full fine-tuning."""
        return self.paired("intruders", ("own", rank, 1.0), ("own", FULL, 1.0), self.comparisons)

    def changes(self, run: Run, scale: float) -> tuple[Interval, Interval]:
        """Return by how much scaling the intruders changes what is gained and what is forgotten, paired by seed."""
        here, before = (*run, scale), (*run, 1.0)
        return self.gains(here, before, self.comparisons), self.paired("base_text", here, before, self.comparisons)
