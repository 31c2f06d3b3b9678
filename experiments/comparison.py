"""Comparison of every method on one base, domain, task and budget: what it learns, forgets and costs.

    ("classes",)                         the classes of the labelled task
    ("text", method, seed)               adapted to the domain's text, at the best rate
    ("task", method, seed, labels)       trained on `labels` labels per class, at the best rate
    ("rate", part, method, rate)         a rate that a search tried on validation data
    ("first rate", method)               the rate that its search on text begins at (`Bench.first_rate`)
    ("speed", method), ("memory", method)

Learning rates, on text and on the task, are searched on validation data. Prompting, which trains nothing, searches the
length of its prompt in the same way.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bench import Bench, Settings
from experiments.costs import file_bytes, memory_of, tokens_per_second
from experiments.prompts import classify_by_prompt
from minilora.data.tokenizer import TokenStream
from minilora.demo.base import QUICK_BASE
from minilora.errors import MiniloraError
from minilora.measure.lab import SCRATCH
from minilora.measure.lr_search import SEED
from minilora.measure.records import Records
from minilora.train import load, methods
from notebooks.figures.few_shot import bits_after
from notebooks.figures.labelled import Example
from notebooks.figures.topics import TopicLab

KIND = "comparison"
RECORDS = "records.jsonl"
PROMPTED = "few-shot"
LEFT_OUT = {"bitfit", "rslora", "lora-plus", "pissa"}  # measured only on request
METHODS = ("base", PROMPTED, SCRATCH, *(name for name in methods.METHODS if name not in LEFT_OUT))


@dataclass(frozen=True)
class ComparisonSettings(Settings):
    """The sizes of a comparison."""

    methods: tuple[str, ...] = METHODS
    label_curve: tuple[int, ...] = (8, 128)  # further numbers of labels, for the methods of `curve_methods`
    curve_methods: tuple[str, ...] = (SCRATCH, "full", "lora")
    contexts: tuple[int, ...] = (16, 32, 64, 128, 256)  # prompts that are tried, in tokens before each window
    shots: tuple[int, ...] = (2, 4, 8, 16)  # numbers of examples that prompting tries
    speed_rounds: int = 5


FULL = ComparisonSettings()
QUICK = ComparisonSettings(
    base=QUICK_BASE,
    rates=2,
    characters=8_000,
    adapt=replace(FULL.adapt, steps=30),
    labels=16,
    label_curve=(),
    classify=replace(FULL.classify, steps=40),
    contexts=(32, 64),
    shots=(4, 8),
    test_characters=8_000,
    test_examples=160,
    speed_rounds=3,
)


def settings_for(quick: bool, chosen: str | None = None, seeds: int | None = None) -> ComparisonSettings:
    """Return the settings, limited to the methods in `chosen` (names with commas) and `seeds`. Raises MiniloraError."""
    settings = QUICK if quick else FULL
    if seeds is not None:
        settings = replace(settings, seeds=tuple(range(seeds)))
    if chosen is not None:
        names = [methods.find(name.strip(), ("base", PROMPTED, SCRATCH)) for name in chosen.split(",")]
        settings = replace(settings, methods=tuple(dict.fromkeys(["base", *names])))
    return settings


def run(out: Path, settings: ComparisonSettings, resume: bool = False, overwrite: bool = False) -> Records:
    """Measure the cells that out/records.jsonl lacks; return the records.

    Raises MiniloraError if the file exists and neither flag is set, or if it has other settings.
    """
    records = Records.open(Path(out) / RECORDS, KIND, asdict(settings), resume, overwrite)
    records.complete(cells_of(settings), Comparison(settings, lab_of(settings), records).measure, "comparing")
    return records


def lab_of(settings: ComparisonSettings) -> TopicLab:
    """Return the lab in which the cells are measured."""
    folder = load.base_folder() if settings.base is None else settings.base.cached()[0]
    return TopicLab(folder, test_characters=settings.test_characters, test_examples=settings.test_examples)


def cells_of(settings: ComparisonSettings) -> list[tuple]:
    """Return the keys of all cells in order; searches and speeds come with the cells that need them."""
    cells: list[tuple] = [("classes",)]
    for method in settings.methods:
        if method == "base":
            cells += [("text", method, 0), ("task", method, 0, 0)]
            continue
        amounts: tuple[int, ...] = (0,) if method == PROMPTED else (settings.labels,)
        amounts += settings.label_curve if method in settings.curve_methods else ()
        cells += [("text", method, seed) for seed in settings.seeds]
        cells += [("task", method, seed, labels) for labels in amounts for seed in settings.seeds]
        cells += [("memory", method)] * (method != PROMPTED)
    return cells


class Comparison(Bench):
    """Measures each cell with the method that the first part of its key names."""

    def rate_key(self, part: str, method: str) -> tuple:
        return part, method

    def measure(self, kind: str, *key: Any) -> dict:
        return getattr(self, f"measure_{kind}")(*key)

    def measure_classes(self) -> dict:
        return {"names": list(self.lab.task.classes), "test_examples": len(self.lab.test_examples)}

    # Text

    def measure_text(self, method: str, seed: int) -> dict:
        lab = self.lab
        if method == PROMPTED:
            best = self.best_context()
            streams = {"domain": lab.domain_test, "base_text": lab.base_test}
            bits = {name: self.bits_after(best, seed, stream) for name, stream in streams.items()}
            return bits | {"context": best, "trainable": 0, "total": 0, "file_bytes": 0, "seconds": 0.0}
        if method == "base":
            model = lab.base()
            self.speed(method, None)
            total = load.count_parameters(model)[1]
            return self.quality(model) | {"trainable": 0, "total": total, "file_bytes": 0, "seconds": 0.0}
        rate = self.text_rate(method)
        model, history = self.adapt(method, rate, seed)
        trainable, total = load.count_parameters(model)
        facts = {"lr": rate, "trainable": trainable, "total": total, "file_bytes": file_bytes(model)}
        facts |= {"seconds": history.seconds, "best_step": history.best_step} | self.quality(model)
        self.speed(method, model)
        return facts

    def best_amount(self, part: str, amounts: Iterable[int], loss: Callable[[int], float]) -> int:
        """Find the amount in the prompt that is best on validation data; each that is tried becomes a record."""
        tried = {
            n: self.records.measured(("rate", part, PROMPTED, n), lambda n: {"loss": loss(n)}, n)["loss"]
            for n in amounts
        }
        return min(tried, key=tried.__getitem__)

    def best_context(self) -> int:
        """Find the number of tokens in front of each window that is best on validation text."""
        longest = self.lab.base().config.max_position_embeddings - self.lab.seq_len
        lengths = [length for length in self.settings.contexts if length <= longest]
        return self.best_amount("text", lengths, lambda n: self.bits_after(n, SEED, self.lab.domain_validation))

    def bits_after(self, length: int, seed: int, stream: TokenStream) -> float:
        """Return the bits per character of the stream with `length` tokens of the domain's text before each window."""
        context = self.lab.domain_text(self.settings.characters, seed).ids[:length]
        return bits_after(self.lab.base(), context, stream, self.lab.seq_len, self.lab.batch_size)

    # The labelled task

    def measure_task(self, method: str, seed: int, labels: int) -> dict:
        lab = self.lab
        if method in ("base", PROMPTED):
            shots = 0 if method == "base" else self.best_shots()
            return self.accuracy_by_prompt(shots, seed, lab.test_examples)
        rate = self.task_rate(method)
        model, history = self.classify(method, rate, lab.task.few(labels, seed), seed)
        facts = {"lr": rate, "trainable": load.count_parameters(model)[0], "seconds": history.seconds}
        return facts | {"accuracy": lab.accuracy(model)}

    def best_shots(self) -> int:
        """Find the number of examples in the prompt that is best on validation data."""
        validation = self.lab.task.validation
        error = lambda n: 1 - self.accuracy_by_prompt(n, SEED, validation)["accuracy"]  # noqa: E731
        return self.best_amount("task", self.settings.shots, error)

    def accuracy_by_prompt(self, shots: int, seed: int, examples: Sequence[Example]) -> dict:
        lab = self.lab
        classes = len(lab.task.classes)
        examples_shown = lab.task.few(-(-shots // classes), seed)[:shots] if shots else []
        np.random.default_rng(seed).shuffle(examples_shown)
        texts, labels = [e.text for e in examples], np.array([e.label for e in examples])
        predicted, tokens = classify_by_prompt(lab.base(), lab.tokenizer, lab.task.classes, examples_shown, texts)
        return {"accuracy": float((predicted == labels).mean()), "shots": shots, "tokens": tokens}

    # Costs

    def measure_memory(self, method: str) -> dict:
        lab = self.lab
        return memory_of(lab.base_folder, method, lab.seq_len, lab.batch_size)

    def speed(self, method: str, adapted: Any) -> None:
        """Record the tokens per second of the base, the adapted model, and the merged model if there is one."""
        base = self.lab.base()

        def speeds(**models: Any) -> dict[str, float]:
            return tokens_per_second(models, self.lab.tokenizer, rounds=self.settings.speed_rounds)

        def measure() -> dict:
            rates = speeds(base=base) if adapted is None else speeds(base=base, adapted=adapted)
            if hasattr(adapted, "merge_and_unload"):
                try:
                    merged = adapted.merge_and_unload()
                except MiniloraError:  # the method changes no weights
                    return rates
                rates["merged"] = speeds(base=base, merged=merged)["merged"]
            return rates

        self.records.measured(("speed", method), measure)
