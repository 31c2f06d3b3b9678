"""The bench on which comparisons and studies measure the cells that their records lack."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from experiments.retention import Retention
from minilora.demo.base import Base
from minilora.errors import MiniloraError
from minilora.measure.lab import SCRATCH
from minilora.measure.lr_search import SEED, best_rate
from minilora.measure.records import Records
from minilora.train import load, methods
from minilora.train.loop import History, TrainConfig, train
from minilora.train.methods import Options
from notebooks.figures.labelled import ClassificationBatches, Example
from notebooks.figures.topics import TopicLab

SCRATCH_RATE = 3e-3


def measured(loss: Callable[[], float]) -> dict:
    """Return a record's numbers for one rate: its loss, or None and the error if training diverged."""
    try:
        return {"loss": loss()}
    except MiniloraError as error:  # it diverged
        return {"loss": None, "error": str(error)}


@dataclass(frozen=True)
class Settings:
    """The sizes of a measurement."""

    base: Base | None = None  # pretrained first; None: the package's base
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: int = 3  # learning rates that a search tries first; if the best is at an end, it tries up to two more
    characters: int = 12_000  # characters of the domain's text to train on
    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=60, eval_every=10, patience=3, warmup=3, lr_floor=0.3)
    )
    labels: int = 32  # labelled sentences per class
    classify: TrainConfig = field(default_factory=lambda: TrainConfig(steps=48, warmup=5))
    test_characters: int = 20_000  # characters of each held-out text
    test_examples: int | None = None  # held-out examples of the labelled task; None: all of them


class Bench:
    """Settings, lab and records, with the measurements that several studies share."""

    _last: tuple = (None, None)

    def __init__(self, settings: Any, lab: TopicLab, records: Records):
        self.settings, self.lab, self.records = settings, lab, records

    def forget(self) -> None:
        """Forget the last result of `once`."""
        self._last = (None, None)

    def once(self, key, make: Callable[[], Any]) -> Any:
        """Return the result of `make`, cached until called with another key."""
        if self._last[0] != key:
            self._last = (key, make())
        return self._last[1]

    def rate(self, key: tuple, start: float, loss: Callable[[float], float]) -> float:
        """Search the learning rate with the least loss around `start`; each that is tried becomes a record."""

        def tried(rate: float) -> float | None:
            return self.records.measured(("rate", *key, rate), measured, lambda: loss(rate))["loss"]

        return best_rate(start, self.settings.rates, tried)

    def rate_key(self, part: str, method: str) -> tuple:
        """Return the key of a search for the learning rate of a method on "text" or on the "task"."""
        return (method,)

    @staticmethod
    def trained_by(config: TrainConfig, method: str, rate: float, seed: int) -> TrainConfig:
        """Return the configuration with the rate, the seed, and the settings of the method."""
        lora_plus = 1.0 if method == SCRATCH else methods.METHODS[method].lora_plus
        return replace(config, peak_lr=rate, lora_plus=lora_plus, seed=seed)

    @cached_property
    def base_size(self) -> int:
        """The number of parameters of the base."""
        return load.count_parameters(self.lab.base())[1]

    def first_rate(self, method: str) -> float:
        """Return the first rate of a search on text: the default of `minilora finetune` when the search was made.

        It is a cell of the records because searches like this one choose the defaults: a default that changes later
        must not change which rates an older search has tried.
        """

        def default() -> dict:
            return {"rate": SCRATCH_RATE if method == SCRATCH else methods.METHODS[method].rate(self.base_size)}

        return self.records.measured(("first rate", method), default)["rate"]

    @cached_property
    def retention(self) -> Retention:
        """The measurements of what a model has kept of the base, and of how far it moved on held-out text of the
        domain.
        """
        return Retention(self.lab.base(), self.lab.tokenizer, self.lab.domain_test)

    # On text

    def adapt(self, method: str, rate: float, seed: int, options: Options | None = None) -> tuple[Any, History]:
        """Adapt a model to the domain's text, which the seed draws, too; return it and its history."""
        config = self.trained_by(self.settings.adapt, method, rate, seed)
        return self.lab.adapt(method, self.lab.domain_text(self.settings.characters, seed), config, options)

    def text_rate(self, method: str, options: Options | None = None, key: tuple | None = None) -> float:
        """Return the searched learning rate on text. key: the search's key (default: the one of the method)."""
        loss = lambda rate: self.adapt(method, rate, SEED, options)[1].best  # noqa: E731
        return self.rate(key or self.rate_key("text", method), self.first_rate(method), loss)

    def quality(self, model) -> dict:
        """Return the bits per character on held-out text of the domain and of the base's own corpus."""
        lab = self.lab
        return {"domain": lab.bits(model, lab.domain_test), "base_text": lab.bits(model, lab.base_test)}

    def adapted(self, method: str, rate: float, seed: int, options: Options | None = None) -> dict:
        """Adapt a model, and return its numbers."""
        return self.facts(*self.adapt(method, rate, seed, options), rate)

    def facts(self, model, history: History, rate: float) -> dict:
        """Return the numbers of an adapted model."""
        facts = {"lr": rate, "trainable": load.count_parameters(model)[0], "best_step": history.best_step}
        return facts | {"seconds": history.seconds} | self.quality(model)

    # On the labelled task

    def classify(
        self, method: str, rate: float, examples: Sequence[Example], seed: int, steps: int | None = None
    ) -> tuple[Any, History]:
        """Train a classifier on the examples; return it and its history. steps: the number of steps (default: as in the
        settings).
        """
        config = self.trained_by(self.settings.classify, method, rate, seed)
        config, lab = replace(config, steps=steps or config.steps), self.lab
        ids = lab.tokenizer.encode_many([example.text for example in examples])
        labels = [example.label for example in examples]
        model = lab.classifier(method, seed, tokens=[token for text in ids for token in text])
        batches = ClassificationBatches(ids, labels, min(32, len(ids)), lab.seq_len, seed, 0)
        return model, train(model, batches, config, show_progress=False)

    def first_task_rate(self, method: str) -> float:
        """Return the first rate of a search on the task."""
        return self.first_rate(method) * (1 / 2 if method == SCRATCH else 2)

    def task_rate(self, method: str) -> float:
        """Return the searched learning rate on the task, at the settings' number of labels."""
        task, start = self.lab.task, self.first_task_rate(method)

        def error(rate: float) -> float:
            model, _ = self.classify(method, rate, task.few(self.settings.labels, SEED), SEED)
            return 1 - self.lab.accuracy(model, task.validation)

        return self.rate(self.rate_key("task", method), start, error)
