"""Where a comparison, a study and the demo measure: cells of records, each measured where it is not there yet."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minilora.measure.base import Base
from minilora.measure.lab import SCRATCH, Lab
from minilora.measure.lr_search import best_rate, measured
from minilora.measure.records import Records
from minilora.train import methods
from minilora.train.loop import TrainConfig

SCRATCH_RATE = 3e-3


@dataclass(frozen=True)
class Settings:
    """How much of everything is done."""

    base: Base | None = None  # pretrained first; None: the base that comes with the package
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: int = 3  # learning rates that a search tries, and at most two more where the best is the first or last
    characters: int = 12_000  # of the domain's text
    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=60, eval_every=10, patience=3, warmup=3, lr_floor=0.3)
    )
    labels: int = 32  # labelled sentences per class
    classify: TrainConfig = field(default_factory=lambda: TrainConfig(steps=48, warmup=5))
    test_characters: int = 20_000  # of each held-out text
    test_examples: int | None = None  # of the labelled task; None: all


class Bench:
    """The settings, the lab and the records."""

    def __init__(self, settings: Any, lab: Lab, records: Records):
        self.settings, self.lab, self.records = settings, lab, records

    def cell(self, key: tuple, measure: Callable[..., dict], *arguments) -> dict:
        """The record of `key`: `measure(*arguments)`, if it is not there."""
        if key not in self.records:
            self.records.begin(key)
            self.records.add(key, **measure(*arguments))
        return self.records.rows[key]

    def rate(self, key: tuple, start: float, loss: Callable[[float], float]) -> float:
        """The learning rate with the least loss by a search around `start`, each that is tried a record."""

        def tried(rate: float) -> float | None:
            return self.cell(("rate", *key, rate), measured, lambda: loss(rate))["loss"]

        return best_rate(start, self.settings.rates, tried)

    def quality(self, model) -> dict:
        """Bits per character on held-out text of the domain, and of what the base was pretrained on."""
        lab = self.lab
        return {"domain": lab.bits(model, lab.domain_test), "base_text": lab.bits(model, lab.base_test)}


def text_start(method: str) -> float:
    """The learning rate on text around which a search begins."""
    return SCRATCH_RATE if method == SCRATCH else methods.METHODS[method].lr


def task_start(method: str) -> float:
    """The learning rate on the labelled task around which a search begins."""
    return SCRATCH_RATE / 2 if method == SCRATCH else 2 * methods.METHODS[method].lr
