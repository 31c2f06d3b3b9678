"""How many bits of made-up facts does an update of rank r hold?

A fact is a made-up name of two words and four attributes, each one of 256 words drawn at random: 4 · log2 256 = 32 bits
that nothing else tells. LoRA is on one matrix alone: with more of them, all facts that a short run can learn fit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from math import ceil, inf, log, log2, log10

import numpy as np

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings, compared
from minilora.data.batches import IGNORED
from minilora.data.tokenizer import Tokenizer
from minilora.measure.lr_search import SEED
from minilora.measure.statistics import paired_interval, verdict
from minilora.show.grids import Grid, Spread, listed
from minilora.show.style import LOOKS, SERIES, base_line, log_ticks, single, styled, with_legend
from minilora.tensor import no_grad
from minilora.train import load
from minilora.train.config import TrainConfig
from minilora.train.loop import History, train
from minilora.train.methods import Options

NAME = 2  # words
ATTRIBUTES, ALTERNATIVES = 4, 256
BITS = round(ATTRIBUTES * log2(ALTERNATIVES))  # of a fact
FULL = 0  # among the ranks: full fine-tuning
LEVEL = 0.9  # recalled up to the knee
PUBLISHED = (1, 2)  # bits per parameter


@dataclass(frozen=True)
class CapacitySettings(StudySettings):
    """values: ranks."""

    facts: tuple[int, ...] = (2, 8, 32, 128)
    searched: int = 32  # facts with which learning rates are searched
    target: str = "layers.3.mlp.down_proj"  # the matrix that LoRA changes
    lora_rate: float = 0.1  # where the search begins
    longer: tuple[tuple[int, int], ...] = ((1, 8), (4, 32), (8, 128))  # (rank, facts) trained longer, too
    times: int = 3  # as many steps for these
    adapt: TrainConfig = field(default_factory=lambda: TrainConfig(steps=100, warmup=5, weight_decay=0.0))


@dataclass(frozen=True)
class Facts:
    """rows (N, 6): the tokens of N facts; alternatives (256,): the tokens that an attribute may be, in order."""

    rows: np.ndarray
    alternatives: np.ndarray

    def next_batch(self) -> dict[str, np.ndarray]:
        """All of them, so that a step is an epoch. The names are given."""
        labels = self.rows.copy()
        labels[:, :NAME] = IGNORED
        return {"input_ids": self.rows, "labels": labels}


def made_up(tokenizer: Tokenizer, count: int, seed: int) -> Facts:
    """Return so many facts about different names, of words that are one token each."""
    rng = np.random.default_rng([seed, count])
    pieces = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    words = rng.permutation([token for token, piece in enumerate(pieces) if re.fullmatch(" ?[a-zA-Z]{2,}", piece)])
    alternatives, names = np.sort(words[:ALTERNATIVES]), words[ALTERNATIVES:]
    pairs = rng.choice(len(names) ** NAME, count, replace=False)
    drawn = alternatives[rng.integers(ALTERNATIVES, size=(count, ATTRIBUTES))]
    return Facts(np.column_stack([names[pairs // len(names)], names[pairs % len(names)], drawn]), alternatives)


def known(model, facts: Facts) -> dict:
    """The share of attributes that are the likeliest of the alternatives, and the bits fewer than by chance that all
    attributes cost, of the probabilities of the alternatives.
    """
    with no_grad():
        logits = model(facts.rows).logits.numpy()[:, NAME - 1 : -1][..., facts.alternatives]  # (N, 4, 256)
    answers = np.searchsorted(facts.alternatives, facts.rows[:, NAME:])  # (N, 4)
    logits = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    found = np.take_along_axis(log_probs, answers[..., None], axis=-1)
    recalled = float((logits.argmax(axis=-1) == answers).mean())
    return {"recalled": recalled, "known": float((log2(ALTERNATIVES) + found / log(2)).sum())}


def learn(bench: Bench, rank: int, facts: Facts, rate: float, seed: int, times: int = 1) -> tuple[object, History]:
    """Return a model that was trained on the facts."""
    method, options = ("full", None) if rank == FULL else ("lora", Options(rank=rank, targets=[bench.settings.target]))
    model = bench.lab.fresh(method, seed, options)
    config = bench.trained_by(bench.settings.adapt, method, rate, seed)
    config.steps *= times
    return model, train(model, facts, config, show_progress=False)


def rate_of(bench: Bench, rank: int) -> float:
    """Return the learning rate of a rank, by search."""
    facts = made_up(bench.lab.tokenizer, bench.settings.searched, SEED)

    def missing(rate: float) -> float:
        return 1 - known(learn(bench, rank, facts, rate, SEED)[0], facts)["known"] / (BITS * len(facts.rows))

    return bench.rate(("facts", rank), bench.settings.lora_rate if rank else bench.first_rate("full"), missing)


def knee(shares: Mapping[int, float]) -> float:
    """Bits up to which LEVEL is recalled: between the amounts {bits: share} on a logarithmic axis, below the first
    by a line from no bits, of which all is recalled. The last amount where it is nowhere less.
    """
    before = (0, 1.0)
    for bits, share in shares.items():
        if share < LEVEL:
            part = (before[1] - LEVEL) / (before[1] - share)
            return before[0] ** (1 - part) * bits**part if before[0] else part * bits
        before = bits, share
    return float(bits)


class Capacity(Study):
    name = "capacity"
    question = "How many bits of made-up facts does an update of rank r hold?"
    published = (
        "LoRA learns as full fine-tuning does until the data hold more than the adapter can, and falls behind from "
        "there on (Schulman et al. 2025, LoRA without regret). A model that sees each fact 1000 times keeps 2 bits per "
        "parameter, one that sees it 100 times 1 bit (Allen-Zhu & Li 2024, Physics of language models 3.3)."
    )
    full = CapacitySettings(values=(1, 2, 4, 8, 16))
    quick = full.quick(longer=((1, 8), (4, 32)), target="layers.1.mlp.down_proj")
    large = full.large(values=(1, 4), facts=(8, 32, 128), longer=(), target="layers.15.mlp.down_proj", adapt=full.adapt)

    @staticmethod
    def runs(settings: CapacitySettings) -> list[tuple]:
        longer = [("longer", *run) for run in settings.longer]
        return [*product(["facts"], (FULL, *settings.values), settings.facts), *longer]

    @staticmethod
    def measure_base(bench: Bench) -> dict:
        return {"total": load.count_parameters(bench.lab.base())[1]}

    @staticmethod
    def measure(bench: Bench, kind: str, rank: int, count: int, seed: int) -> dict:
        rate, facts = rate_of(bench, rank), made_up(bench.lab.tokenizer, count, seed)
        model, history = learn(bench, rank, facts, rate, seed, bench.settings.times if kind == "longer" else 1)
        trainable = load.count_parameters(model)[0]
        return {"lr": rate, "trainable": trainable, "seconds": history.seconds} | known(model, facts)

    def __init__(self, records):
        super().__init__(records)
        self.amounts = {count: BITS * count for count in self.settings["facts"]}  # in bits
        self.longer = [("longer", *run) for run in self.settings["longer"]]
        self.comparisons = 2 + len(self.longer)  # that the sentence makes: of knees, of what is kept, of more steps

    def recalled(self, kind: str, rank: int, count: int) -> Spread:
        """Return the percentage of the attributes."""
        return self.spread("recalled", kind, rank, count, scale=100)

    def kept(self, kind: str, rank: int, count: int) -> Spread:
        """Return bits known per trainable parameter."""
        return self.spread("known", kind, rank, count, scale=1 / self.first("trainable", "facts", rank))

    def knees(self, rank: int) -> list[float]:
        """In bits, one a seed."""
        rows = [[row["recalled"] for row in self.records.of("facts", rank, count)] for count in self.amounts]
        return [knee(dict(zip(self.amounts.values(), curve, strict=True))) for curve in zip(*rows, strict=True)]

    def knee(self, rank: int) -> Spread:
        """In bits, over the seeds."""
        return Spread.of(self.knees(rank))

    def knee_in_words(self, rank: int) -> str:
        """As the table and the sentence have it: past the amounts, only on which side."""
        one, least, most = self.knee(rank), min(self.amounts.values()), max(self.amounts.values())
        if self.recalled("facts", rank, min(self.amounts)).mean < 100 * LEVEL:
            return f"below {least:,}"
        return f"above {most:,}" if one.mean + one.deviation >= most else one.show(0)

    def grid(self) -> Grid:
        rows = []
        for rank in (*self.values, FULL):
            recalled = [self.recalled("facts", rank, count).show(0) for count in self.amounts]
            kept = max((self.kept("facts", rank, count) for count in self.amounts), key=lambda one: one.mean)
            digits = max(3, 1 + ceil(-log10(kept.mean))) if kept.mean > 0 else 3
            trainable = f"{self.first('trainable', 'facts', rank):,}"
            rows.append((str(rank or "full"), trainable, *recalled, self.knee_in_words(rank), kept.show(digits)))
        rates = listed(f"{self.first('lr', 'facts', rank):g}" for rank in (*self.values, FULL))
        bits = (f"{bits:,}\nbits" for bits in self.amounts.values())
        return Grid(
            f"Percent recalled of facts: LoRA on {self.settings['target']}, by rank",
            ("r", "trainable", *bits, "knee\nbits", "bits per\nparam."),
            rows,
            f"A fact is {BITS} bits. Recalled: attributes that are the likeliest of {ALTERNATIVES} words; chance is "
            f"{100 / ALTERNATIVES:.1f} %. Knee: bits up to which {100 * LEVEL:.0f} % are recalled, between the amounts "
            "on a logarithmic axis. Bits per parameter: known, and trained, at the amount of which most is known. "
            f"{self.settings['adapt']['steps']} steps with all facts in each; rates by search: {rates}. "
            f"{self.in_words(self.knee(rank).count for rank in self.values)}",
        )

    @styled
    def figure(self):
        """Facts recalled against their bits, a curve for each rank and full fine-tuning."""
        figure, axes = single("Capacity: made-up facts recalled, by rank")
        bits = [*self.amounts.values()]
        looks = {FULL: LOOKS["full"]} | dict(zip(self.values, SERIES[1:], strict=False))
        for rank, look in looks.items():
            found = [self.recalled("facts", rank, count) for count in self.amounts]
            words = f"r = {rank}: {self.first('trainable', 'facts', rank):,} parameters" if rank else "full fine-tuning"
            axes.errorbar(bits, [one.mean for one in found], [one.deviation for one in found], **look, label=words)
        for kind, rank, count in self.longer:
            look = looks[rank] | {"fillstyle": "none", "linestyle": "", "markersize": 11}
            label = f"hollow: {self.settings['times']} times the steps" if rank == self.longer[0][1] else None
            axes.plot(self.amounts[count], self.recalled(kind, rank, count).mean, **look, label=label)
        base_line(axes, 100 * LEVEL, f"{100 * LEVEL:.0f} %")
        log_ticks(axes, bits)
        axes.set(xlabel="bits of the facts (logarithmic)", ylabel="attributes recalled (%)", ylim=(-3, 105))
        return with_legend(figure)

    def sentence(self) -> str:
        full = {bits: self.recalled("facts", FULL, count) for count, bits in self.amounts.items()}
        for bits, one in full.items():
            if one.mean < 100 * LEVEL:
                return (
                    f"Full fine-tuning itself recalls only {one.show(0)} % of {bits:,} bits: the steps end before a "
                    "capacity shows."
                )
        knees = {rank: self.knee(rank) for rank in self.values}
        most, (first, *_, last) = max(full), knees
        where = listed(f"{self.knee_in_words(rank)} at rank {rank}" for rank in self.values)
        least = min(one.mean for one in full.values())
        said = (
            f"Full fine-tuning recalls {'all' if least == 100 else f'at least {least:.1f} %'} of every amount up to "
            f"{most:,} bits. The knee, up to which LoRA on one matrix recalls {100 * LEVEL:.0f} %, is in bits {where}: "
        )
        if min(one.mean for one in knees.values()) >= most:
            return said + "no rank is full."
        moved = [high - low for low, high in zip(self.knees(first), self.knees(last), strict=True)]
        rise = paired_interval(moved, comparisons=self.comparisons)
        rises = rise.low > 0
        said += compared(rise, "it moves up with the rank, as published", "it moves down", "undecided if it moves up")
        said += f", {rise.in_words(0)} bits from rank {first} to {last}"
        inside = [rank for rank in self.values if self.knee_in_words(rank)[0].isdigit()]
        if rises and len(inside) > 1:
            low, high = inside[0], inside[-1]
            times = knees[high].mean / knees[low].mean
            said += f" (from rank {low} to {high}, {high // low} times the parameters, {times:.1f} times as far)"
        kept = {run: self.kept(*run) for run in [*product(["facts"], self.values, self.amounts), *self.longer]}
        best = max(kept, key=lambda run: kept[run].mean)
        steps = self.settings["adapt"]["steps"] * (self.settings["times"] if best[0] == "longer" else 1)
        trained = self.first("trainable", "facts", best[1])
        per_parameter = [row["known"] / trained - PUBLISHED[0] for row in self.records.of(*best)]
        published = verdict(paired_interval(per_parameter, comparisons=self.comparisons), 0, inf)
        words = {"shown": "at least the published", "refuted": "less than the published"}
        said += (
            f". The most that is kept is {kept[best].show(2)} bits per trained parameter (rank {best[1]}, {steps} "
            f"steps): {words.get(published, 'undecided if at least')} {PUBLISHED[0]} to {PUBLISHED[1]}."
        )
        said += " One seed gives no verdict." * (rise.count == 1)
        return said + (f" {self.longer_in_words()}" if self.longer else "")

    def longer_in_words(self) -> str:
        """Say if more steps bring half of what was missing: by that, steps bind, or parameters."""
        words: list[str] = []
        ranks: dict[str, list[int]] = {}
        steps, parameters = "more than half of what was missing", "less than half of it, so that the parameters bind,"
        for kind, rank, count in self.longer:
            one, before = self.recalled(kind, rank, count), self.recalled("facts", rank, count)
            words.append(f"{one.show(0)} % of {BITS * count:,} bits at rank {rank} (before: {before.show(0)})")
            pairs = zip(self.records.of(kind, rank, count), self.records.of("facts", rank, count), strict=True)
            beyond = [new["recalled"] - (1 + old["recalled"]) / 2 for new, old in pairs]
            interval = paired_interval(beyond, comparisons=self.comparisons)
            ranks.setdefault(compared(interval, steps, parameters, "undecided"), []).append(rank)
        parts = [f"{what} at rank {listed(alike)}" for what, alike in ranks.items()]
        return f"After {self.settings['times']} times the steps LoRA recalls {listed(words)}: {'; '.join(parts)}."
