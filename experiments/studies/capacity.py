"""The study of how many bits of made-up facts an update of rank r can store.

A fact is a made-up name of two words and four attributes, each drawn at random from 256 words: 4 · log2 256 = 32 bits
that cannot be guessed. LoRA changes a single matrix, because in more of them it could store all the facts that a short
run can learn.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from math import ceil, log, log2, log10

import numpy as np

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings
from minilora.data.batches import IGNORED
from minilora.data.tokenizer import Tokenizer
from minilora.measure.lr_search import SEED
from minilora.show.grids import Grid, Spread, listed
from minilora.show.style import LOOKS, SERIES, base_line, log_ticks, single, styled, with_legend
from minilora.tensor import no_grad
from minilora.train import load
from minilora.train.config import TrainConfig
from minilora.train.loop import History, train
from minilora.train.methods import Options

NAME = 2  # words of a name
ATTRIBUTES, ALTERNATIVES = 4, 256
BITS = round(ATTRIBUTES * log2(ALTERNATIVES))  # per fact
FULL = 0  # the "rank" of full fine-tuning
LEVEL = 0.9  # share recalled up to the knee


@dataclass(frozen=True)
class CapacitySettings(StudySettings):
    """values: ranks."""

    facts: tuple[int, ...] = (2, 8, 32, 128)
    searched: int = 32  # number of facts with which learning rates are searched
    target: str = "layers.3.mlp.down_proj"  # the matrix that LoRA changes
    lora_rate: float = 0.1  # first rate of the search
    longer: tuple[tuple[int, int], ...] = ((1, 8), (4, 32), (8, 128))  # (rank, facts) that are also trained longer
    times: int = 3  # multiple of the steps for `longer`
    adapt: TrainConfig = field(default_factory=lambda: TrainConfig(steps=100, warmup=5, weight_decay=0.0))


@dataclass(frozen=True)
class Facts:
    """N facts. rows (N, 6): their tokens; alternatives (256,): the possible tokens of an attribute, sorted."""

    rows: np.ndarray
    alternatives: np.ndarray

    def next_batch(self) -> dict[str, np.ndarray]:
        """Return all facts, so that a step is an epoch; there is no loss on the names."""
        labels = self.rows.copy()
        labels[:, :NAME] = IGNORED
        return {"input_ids": self.rows, "labels": labels}


def made_up(tokenizer: Tokenizer, count: int, seed: int) -> Facts:
    """Make up `count` facts about different names, of words that are one token each."""
    rng = np.random.default_rng([seed, count])
    pieces = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    words = rng.permutation([token for token, piece in enumerate(pieces) if re.fullmatch(" ?[a-zA-Z]{2,}", piece)])
    alternatives, names = np.sort(words[:ALTERNATIVES]), words[ALTERNATIVES:]
    pairs = rng.choice(len(names) ** NAME, count, replace=False)
    drawn = alternatives[rng.integers(ALTERNATIVES, size=(count, ATTRIBUTES))]
    return Facts(np.column_stack([names[pairs // len(names)], names[pairs % len(names)], drawn]), alternatives)


def known(model, facts: Facts) -> dict:
    """Return "recalled", the share of attributes that the model finds likeliest among the alternatives, and "known",
    the bits by which all attributes cost less than by chance.
    """
    with no_grad():
        logits = model(facts.rows).logits.numpy()[:, NAME - 1 : -1][..., facts.alternatives]  # (N, 4, 256)
    answers = np.searchsorted(facts.alternatives, facts.rows[:, NAME:])  # (N, 4)
    logits = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    gold = np.take_along_axis(log_probs, answers[..., None], axis=-1)
    recalled = float((logits.argmax(axis=-1) == answers).mean())
    return {"recalled": recalled, "known": float((log2(ALTERNATIVES) + gold / log(2)).sum())}


def learn(bench: Bench, rank: int, facts: Facts, rate: float, seed: int, times: int = 1) -> tuple[object, History]:
    """Train a model on the facts; return it and its history."""
    method, options = ("full", None) if rank == FULL else ("lora", Options(rank=rank, targets=[bench.settings.target]))
    model = bench.lab.fresh(method, seed, options)
    config = bench.trained_by(bench.settings.adapt, method, rate, seed)
    config.steps *= times
    return model, train(model, facts, config, show_progress=False)


def rate_of(bench: Bench, rank: int) -> float:
    """Return the best learning rate of a rank, found by search."""
    facts = made_up(bench.lab.tokenizer, bench.settings.searched, SEED)

    def missing(rate: float) -> float:
        return 1 - known(learn(bench, rank, facts, rate, SEED)[0], facts)["known"] / (BITS * len(facts.rows))

    return bench.rate(("facts", rank), bench.settings.lora_rate if rank else bench.first_rate("full"), missing)


def knee(shares: Mapping[int, float]) -> float:
    """Interpolate the bits up to which LEVEL is recalled from the shares {bits: share recalled}.

    Between two amounts the axis is logarithmic; below the first, a line starts from 0 bits, all recalled. If no share
    falls below LEVEL, returns the last amount.
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
        "LoRA learns like full fine-tuning until the data exceed the adapter's capacity (Schulman et al. 2025, LoRA "
        "without regret). A model that sees each fact 1000 times stores 2 bits per parameter, one that sees it 100 "
        "times 1 bit (Allen-Zhu & Li 2024, Physics of language models 3.3)."
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

    def recalled(self, kind: str, rank: int, count: int) -> Spread:
        """Return the percentage of the attributes that are recalled."""
        return self.spread("recalled", kind, rank, count, scale=100)

    def stored(self, kind: str, rank: int, count: int) -> Spread:
        """Return the bits known per trainable parameter."""
        return self.spread("known", kind, rank, count, scale=1 / self.first("trainable", "facts", rank))

    def knee(self, rank: int) -> Spread:
        """Return the knee in bits, over the seeds."""
        rows = [[row["recalled"] for row in self.records.of("facts", rank, count)] for count in self.amounts]
        curves = zip(*rows, strict=True)
        return Spread.of(knee(dict(zip(self.amounts.values(), curve, strict=True))) for curve in curves)

    def knee_in_words(self, rank: int, with_deviation: bool = True) -> str:
        """Write the knee for the table and the sentence; if it lies beyond the amounts that were tried, say only on
        which side.
        """
        one, least, most = self.knee(rank), min(self.amounts.values()), max(self.amounts.values())
        if self.recalled("facts", rank, min(self.amounts)).mean < 100 * LEVEL:
            return f"below {least:,}"
        if one.mean + one.deviation >= most:
            return f"above {most:,}"
        return one.show(0) if with_deviation else f"{one.mean:,.0f}"

    def grid(self) -> Grid:
        rows = []
        for rank in (*self.values, FULL):
            recalled = [self.recalled("facts", rank, count).show(0) for count in self.amounts]
            stored = max((self.stored("facts", rank, count) for count in self.amounts), key=lambda one: one.mean)
            digits = max(3, 1 + ceil(-log10(stored.mean))) if stored.mean > 0 else 3
            rows.append((str(rank or "full"), *recalled, self.knee_in_words(rank), stored.show(digits)))
        bits = (f"{bits:,}\nbits" for bits in self.amounts.values())
        return Grid(
            f"Percent recalled of facts: LoRA on {self.settings['target']}, by rank",
            ("r", *bits, "knee\nbits", "bits per\nparam."),
            rows,
            f"A fact has {BITS} bits. The columns of bits have the percentage of attributes recalled, those that the "
            f"model finds likeliest of {ALTERNATIVES} words; chance is {100 / ALTERNATIVES:.1f} %. Knee: the number "
            f"of bits up to which {100 * LEVEL:.0f} % are recalled (interpolated). Bits per parameter: the most bits "
            f"known, divided by the number of trained parameters. Training takes {self.settings['adapt']['steps']} "
            f"steps, each with all facts. {self.in_words()}",
        )

    @styled
    def figure(self):
        """Percent of made-up facts recalled against their bits, by rank of LoRA on one matrix and for full fine-tuning;
        hollow marks: three times the steps.
        """
        figure, axes = single("Capacity: made-up facts recalled, by rank")
        bits = [*self.amounts.values()]
        looks = {FULL: LOOKS["full"]} | dict(zip(self.values, SERIES[1:], strict=False))
        for rank, look in looks.items():
            recalled = [self.recalled("facts", rank, count) for count in self.amounts]
            words = f"r = {rank}: {self.first('trainable', 'facts', rank):,} parameters" if rank else "full fine-tuning"
            axes.errorbar(
                bits, [one.mean for one in recalled], [one.deviation for one in recalled], **look, label=words
            )
        for kind, rank, count in self.longer:
            look = looks[rank] | {"fillstyle": "none", "linestyle": "", "markersize": 11}
            label = f"hollow: {self.settings['times']} times the steps" if rank == self.longer[0][1] else None
            axes.plot(self.amounts[count], self.recalled(kind, rank, count).mean, **look, label=label)
        base_line(axes, 100 * LEVEL, f"{100 * LEVEL:.0f} %")
        log_ticks(axes, bits)
        axes.set(xlabel="bits of the facts (logarithmic)", ylabel="attributes recalled (%)", ylim=(-3, 105))
        return with_legend(figure)

    def sentence(self) -> str:
        most, (steps, times) = max(self.amounts.values()), (self.settings["adapt"]["steps"], self.settings["times"])
        least = min(self.recalled("facts", FULL, count).mean for count in self.amounts)
        knees = listed(f"{self.knee_in_words(rank, with_deviation=False)} at rank {rank}" for rank in self.values)
        stored = {run: self.stored(*run) for run in [*product(["facts"], self.values, self.amounts), *self.longer]}
        best = max(stored, key=lambda run: stored[run].mean)
        return (
            f"Full fine-tuning recalls {'all' if least == 100 else f'at least {least:.0f} %'} of the facts, up to the "
            f"largest amount, {most:,} bits. LoRA on one matrix recalls {100 * LEVEL:.0f} % of them only up to a "
            f"number of bits that depends on its rank, the knee: {knees}. For each parameter that trains, it stores "
            f"at most {stored[best].show(2)} bits (rank {best[1]}, {steps * (times if best[0] == 'longer' else 1)} "
            "steps)."
        )
