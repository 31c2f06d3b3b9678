"""Where a comparison and a study measure: cells of records, each measured where it is not there yet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from experiments.retention import Retention
from minilora.data.batches import ClassificationBatches
from minilora.data.tasks import Example
from minilora.demo.base import Base
from minilora.errors import MiniloraError
from minilora.measure.lab import SCRATCH, Lab
from minilora.measure.lr_search import SEED, best_rate
from minilora.measure.records import Records
from minilora.train import load, methods
from minilora.train.loop import History, TrainConfig, train
from minilora.train.methods import Options

SCRATCH_RATE = 3e-3


def measured(loss: Callable[[], float]) -> dict:
    """Return a record's numbers for one rate: its loss, or None and why."""
    try:
        return {"loss": loss()}
    except MiniloraError as error:  # it diverged
        return {"loss": None, "error": str(error)}


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

    _kept: tuple = (None, None)

    def __init__(self, settings: Any, lab: Lab, records: Records):
        self.settings, self.lab, self.records = settings, lab, records

    def once(self, key, make: Callable[[], Any]) -> Any:
        """Return what `make` gives, kept until another key is asked for."""
        if self._kept[0] != key:
            self._kept = (key, make())
        return self._kept[1]

    def rate(self, key: tuple, start: float, loss: Callable[[float], float]) -> float:
        """Return the learning rate with the least loss by a search around `start`, each that is tried a record."""

        def tried(rate: float) -> float | None:
            return self.records.measured(("rate", *key, rate), measured, lambda: loss(rate))["loss"]

        return best_rate(start, self.settings.rates, tried)

    def rate_key(self, part: str, method: str) -> tuple:
        """What a search for the learning rate of a method on "text" or on the "task" is kept under."""
        return (method,)

    @staticmethod
    def trained_by(config: TrainConfig, method: str, rate: float, seed: int) -> TrainConfig:
        """Return the configuration with what is the method's own."""
        lora_plus = 1.0 if method == SCRATCH else methods.METHODS[method].lora_plus
        return replace(config, peak_lr=rate, lora_plus=lora_plus, seed=seed)

    @cached_property
    def base_size(self) -> int:
        """Parameters of the base."""
        return load.count_parameters(self.lab.base())[1]

    def first_rate(self, method: str) -> float:
        """Where a search for the learning rate on text begins."""
        return SCRATCH_RATE if method == SCRATCH else methods.METHODS[method].rate(self.base_size)

    @cached_property
    def retention(self) -> Retention:
        """The measurements of what models keep of the base, and of how far they move on held-out text of the domain."""
        return Retention(self.lab.base(), self.lab.tokenizer, self.lab.domain_test)

    # On text

    def adapt(self, method: str, rate: float, seed: int, options: Options | None = None) -> tuple[Any, History]:
        """Return a model adapted to the domain's text, which the seed draws as well, and its history."""
        config = self.trained_by(self.settings.adapt, method, rate, seed)
        return self.lab.adapt(method, self.lab.domain_text(self.settings.characters, seed), config, options)

    def text_rate(self, method: str, options: Options | None = None, key: tuple | None = None) -> float:
        """The learning rate on text, by search; later calls for the method, or of the same key, give the same."""
        loss = lambda rate: self.adapt(method, rate, SEED, options)[1].best  # noqa: E731
        return self.rate(key or self.rate_key("text", method), self.first_rate(method), loss)

    def quality(self, model) -> dict:
        """Return bits per character on held-out text of the domain, and of what the base was pretrained on."""
        lab = self.lab
        return {"domain": lab.bits(model, lab.domain_test), "base_text": lab.bits(model, lab.base_test)}

    def adapted(self, method: str, rate: float, seed: int, options: Options | None = None) -> dict:
        """Return the numbers of a model adapted so."""
        return self.facts(*self.adapt(method, rate, seed, options), rate)

    def facts(self, model, history: History, rate: float) -> dict:
        """Return the numbers of a model that was adapted."""
        facts = {"lr": rate, "trainable": load.count_parameters(model)[0], "best_step": history.best_step}
        return facts | {"seconds": history.seconds} | self.quality(model)

    # On the labelled task

    def classify(
        self, method: str, rate: float, examples: Sequence[Example], seed: int, steps: int | None = None
    ) -> tuple[Any, History]:
        """Return a classifier trained on the examples, and its history. steps: None: as many as the settings say."""
        config = self.trained_by(self.settings.classify, method, rate, seed)
        config, lab = replace(config, steps=steps or config.steps), self.lab
        ids = lab.tokenizer.encode_many([example.text for example in examples])
        labels = [example.label for example in examples]
        model = lab.classifier(method, seed, tokens=[token for text in ids for token in text])
        batches = ClassificationBatches(ids, labels, min(32, len(ids)), lab.seq_len, seed, 0)
        return model, train(model, batches, config, show_progress=False)

    def first_task_rate(self, method: str) -> float:
        """Where a search for the learning rate on the task begins."""
        return self.first_rate(method) * (1 / 2 if method == SCRATCH else 2)

    def task_rate(self, method: str) -> float:
        """Return the learning rate on the task, by search at the settings' number of labels."""
        task, start = self.lab.task, self.first_task_rate(method)

        def error(rate: float) -> float:
            model, _ = self.classify(method, rate, task.few(self.settings.labels, SEED), SEED)
            return 1 - self.lab.accuracy(model, task.validation)

        return self.rate(self.rate_key("task", method), start, error)
