"""Every method on one base, one domain, one task and one budget: what each learns, forgets, needs and costs.

A method is trained on the domain's text and on the labelled task, each with the learning rate that a small search finds
best on validation data, over several seeds. Prompting, which trains nothing, searches the length of its prompt in the
same way. Everything measured goes into a file of records, cell by cell, and a run that was cut off goes on there;
`comparison.py` makes the tables and figures of it. The demo measures by the same cells.

A method's cells on text follow one another, as do those on the task; the two, and the methods, are independent, so that
several processes can share them (`sweep.py`). Each trains with as many threads as a comparison in one process, which
the last digits depend on. Time, speed and memory are measured afterwards, by one process alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from minilora import backend, threads
from minilora.errors import MiniloraError, print_notes
from minilora.measure.base import QUICK_BASE
from minilora.measure.bench import Bench, Settings
from minilora.measure.few_shot import bits_after, classify_by_prompt
from minilora.measure.footprint import file_bytes, memory_of, tokens_per_second
from minilora.measure.lab import SCRATCH, Lab
from minilora.measure.lr_search import SEED
from minilora.measure.records import Records
from minilora.measure.sweep import SentRecords, check_jobs, side_by_side
from minilora.train import methods, recipes
from minilora.train.loop import History
from minilora.train.progress import progress_bar

KIND = "comparison"
RECORDS = "records.jsonl"
PROMPTED = "few-shot"
METHODS = ("base", PROMPTED, SCRATCH, *(name for name, method in methods.METHODS.items() if method.is_compared))
PARTS = ("text", "task")


@dataclass(frozen=True)
class ComparisonSettings(Settings):
    """How much of everything a comparison does."""

    methods: tuple[str, ...] = METHODS
    label_curve: tuple[int, ...] = (8, 128)  # further numbers of labels, for the methods of `curve_methods`
    curve_methods: tuple[str, ...] = (SCRATCH, "full", "lora")
    contexts: tuple[int, ...] = (16, 32, 64, 128, 256)  # tokens in front, that prompting tries on text
    shots: tuple[int, ...] = (2, 4, 8, 16)  # examples in front, that prompting tries on the task
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
    """The settings with only the methods in `chosen` (names with commas) and so many seeds. Raises MiniloraError."""
    settings = QUICK if quick else FULL
    if seeds is not None:
        if seeds < 1:
            raise MiniloraError(f"--seeds must be at least 1, not {seeds}")
        settings = replace(settings, seeds=tuple(range(seeds)))
    if chosen is not None:
        names = [methods.find(name.strip(), ("base", PROMPTED, SCRATCH)) for name in chosen.split(",")]
        settings = replace(settings, methods=tuple(dict.fromkeys(["base", *names])))
    return settings


def run(
    out: Path, settings: ComparisonSettings, resume: bool = False, overwrite: bool = False, jobs: int = 1
) -> Records:
    """Measure all of the settings into out/records.jsonl, or what is missing there; returns the records.

    jobs: how many processes share what can be measured side by side. Raises MiniloraError where the file is there
    already or was measured with other settings.
    """
    check_jobs(jobs)
    records = Records.open(Path(out) / RECORDS, KIND, asdict(settings), resume, overwrite)
    print_notes(records.notes)
    folder = recipes.base_folder() if settings.base is None else settings.base.cached()[0]
    cells = {method: 2 * (settings.rates + len(settings.seeds)) + 2 for method in settings.methods}
    with progress_bar("comparing", sum(cells.values())) as advance:
        progress = Progress(advance, cells)
        if jobs > 1:
            _share(settings, folder, threads.count(), records, jobs, progress)
        lab = Lab(folder, **_tests(settings))
        comparison = Comparison(settings, lab, records, progress)
        comparison.classes()
        for method in settings.methods:
            for part in PARTS:
                comparison.stream(method, part)
            comparison.costs(method)
            progress.end(method)
    return records


def _tests(settings: ComparisonSettings) -> dict:
    """What the Lab is told of the tests."""
    return {"test_characters": settings.test_characters, "test_examples": settings.test_examples}


class Progress:
    """A bar that counts each cell once. left: by method, how many cells it will probably take."""

    def __init__(self, advance: Callable, left: dict[str, int]):
        self.advance, self.left = advance, dict(left)
        self.counted: set[tuple] = set()

    def cell(self, key: tuple) -> None:
        method = next((part for part in key if part in self.left), None)
        if key not in self.counted and method is not None and self.left[method]:
            self.left[method] -= 1
            self.advance(1, " ".join(map(str, key)))
        self.counted.add(key)

    def end(self, method: str) -> None:
        self.advance(self.left[method], method)
        self.left[method] = 0


# Side by side


def _share(
    settings: ComparisonSettings, folder: Path, count: int, records: Records, jobs: int, progress: Progress
) -> None:
    """Measure what is missing of all methods' text and task in `jobs` processes, each with as many threads as this."""
    tasks = []
    for method in reversed(settings.methods):  # the last ones take longest, and the end should not wait for one of them
        rows = {key: row for key, row in records.rows.items() if method in key}
        tasks += [(settings, folder, count, backend.name, rows, method, part) for part in PARTS]

    def take(key: tuple, numbers: dict) -> None:
        records.add(key, **numbers)
        progress.cell(key)

    side_by_side(_stream, tasks, jobs, take)


def _stream(
    settings: ComparisonSettings,
    folder: Path,
    count: int,
    backend_name: str,
    rows: dict,
    method: str,
    part: str,
    tell: Callable,
) -> None:
    """One method on text or on the task, in a process of a sweep."""
    lab = _lab_here(folder, count, backend_name, **_tests(settings))
    Comparison(settings, lab, SentRecords(rows, tell)).stream(method, part)


@cache
def _lab_here(folder: Path, count: int, backend_name: str, **tests) -> Lab:
    """The lab of a process of a sweep, kept until the process ends."""
    backend.use(backend_name)
    threads.using(count).__enter__()
    return Lab(folder, **tests)


# The cells


class Comparison(Bench):
    """Measures the cells. progress: None in a process of a sweep, which is not alone and takes no times."""

    def __init__(self, settings: ComparisonSettings, lab: Lab, records: Records, progress: Progress | None = None):
        super().__init__(settings, lab, records)
        self.progress, self.alone = progress, progress is not None

    def cell(self, key: tuple, measure: Callable[..., dict], *arguments) -> dict:
        row = super().cell(key, measure, *arguments)
        if self.progress:
            self.progress.cell(key)
        return row

    def stream(self, method: str, part: str) -> None:
        """All cells of a method on text or on the task, each after those that it depends on."""
        of_method = {
            "base": {"text": self.base_text, "task": self.base_task},
            PROMPTED: {"text": self.prompted_text, "task": self.prompted_task},
        }
        of_method.get(method, {"text": self.text, "task": self.task})[part](method)

    def seeds(self, part: str) -> Iterable[int]:
        """Over which a part is measured."""
        return self.settings.seeds

    def classes(self) -> None:
        """What the labelled task is: its classes, and how many examples the test has."""
        facts = {"names": list(self.lab.task.classes), "test_examples": len(self.lab.test_examples)}
        self.cell(("classes",), lambda: facts)

    # Text

    def base_text(self, method: str) -> None:
        self.cell(("text", method, 0), self.base_facts)

    def base_facts(self) -> dict:
        model = self.lab.base()
        total = recipes.count_parameters(model)[1]
        return self.quality(model) | {"trainable": 0, "total": total, "file_bytes": 0, "seconds": 0.0}

    def text(self, method: str) -> None:
        rate = self.text_rate(method)
        for seed in self.seeds("text"):
            self.cell(("text", method, seed), self.adapted, method, rate, seed)

    def adapted(self, method: str, rate: float, seed: int) -> dict:
        """The numbers of a model adapted to the domain's text."""
        model, history = self.adapt(method, rate, seed)
        trainable, total = recipes.count_parameters(model)
        facts = {"lr": rate, "trainable": trainable, "total": total} | self.quality(model)
        facts |= {"seconds": self.seconds(history), "best_step": history.best_step}
        return facts | self.more(method, seed, model, history)

    def more(self, method: str, seed: int, model, history: History) -> dict:
        """What else is measured of an adapted model, which may be changed here."""
        size = file_bytes(model)
        if self.alone and ("speed", method) not in self.records:
            self.speed(method, model)
        return {"file_bytes": size}

    def seconds(self, history: History) -> float | None:
        """How long the training took, where nothing else ran beside it."""
        return history.seconds if self.alone else None

    def prompted_text(self, method: str) -> None:
        """The domain's text in front of each window, in place of training on it."""
        lab = self.lab
        model = lab.base()
        longest = model.config.max_position_embeddings - lab.seq_len

        def bits(length: int, seed: int, **streams) -> dict:
            context = lab.domain_text(self.settings.characters, seed).ids[:length]
            found = (bits_after(model, context, s, lab.seq_len, lab.batch_size) for s in streams.values())
            return dict(zip(streams, found, strict=True))

        def tried(length: int) -> dict:
            return bits(length, SEED, loss=lab.domain_validation)

        def facts(seed: int) -> dict:
            found = bits(best, seed, domain=lab.domain_test, base_text=lab.base_test)
            return found | {"context": best, "trainable": 0, "total": 0, "file_bytes": 0, "seconds": 0.0}

        lengths = [length for length in self.settings.contexts if length <= longest]
        losses = {length: self.cell(("rate", "text", method, length), tried, length)["loss"] for length in lengths}
        best = min(losses, key=losses.__getitem__)
        for seed in self.seeds("text"):
            self.cell(("text", method, seed), facts, seed)

    # The labelled task

    def base_task(self, method: str) -> None:
        self.cell(("task", method, 0, 0), self.accuracy_by_prompt, 0, 0, self.lab.test_examples)

    def task(self, method: str) -> None:
        settings, rate = self.settings, self.task_rate(method)
        more = settings.label_curve if method in settings.curve_methods else ()
        for labels in (settings.labels, *more):
            for seed in self.seeds("task"):
                self.cell(("task", method, seed, labels), self.classified, method, rate, labels, seed)

    def classified(self, method: str, rate: float, labels: int, seed: int) -> dict:
        """The numbers of a classifier trained on so many examples per class."""
        model, history = self.classify(method, rate, self.lab.task.few(labels, seed), seed)
        trainable = recipes.count_parameters(model)[0]
        facts = {"lr": rate, "trainable": trainable, "seconds": self.seconds(history)}
        return facts | {"accuracy": self.lab.accuracy(model)}

    def prompted_task(self, method: str) -> None:
        lab, settings = self.lab, self.settings

        def error(shots: int) -> dict:
            return {"loss": 1 - self.accuracy_by_prompt(shots, SEED, lab.task.validation)["accuracy"]}

        losses = {shots: self.cell(("rate", "task", method, shots), error, shots)["loss"] for shots in settings.shots}
        best = min(losses, key=losses.__getitem__)
        for seed in self.seeds("task"):
            self.cell(("task", method, seed, 0), self.accuracy_by_prompt, best, seed, lab.test_examples)

    def accuracy_by_prompt(self, shots: int, seed: int, examples) -> dict:
        lab = self.lab
        classes = len(lab.task.classes)
        chosen = lab.task.few(-(-shots // classes), seed)[:shots] if shots else []
        np.random.default_rng(seed).shuffle(chosen)
        texts, labels = [e.text for e in examples], np.array([e.label for e in examples])
        predicted, tokens = classify_by_prompt(lab.base(), lab.tokenizer, lab.task.classes, chosen, texts)
        return {"accuracy": float((predicted == labels).mean()), "shots": shots, "tokens": tokens}

    # Costs

    def costs(self, method: str) -> None:
        """Time, speed and memory, each measured alone."""
        lab = self.lab
        if method == "base":
            self.speed(method, None)
        elif method != PROMPTED:
            self.time(method)
            self.cell(("memory", method), memory_of, lab.base_folder, method, lab.seq_len, lab.batch_size)

    def time(self, method: str) -> None:
        """How long training on text takes, and the speed afterwards, once more where it was not done alone."""
        rows = list(self.records.of("text", method))
        timed = ("time", method) in self.records or any(row["seconds"] is not None for row in rows)
        if timed and ("speed", method) in self.records:
            return
        model, history = self.adapt(method, rows[0]["lr"], self.settings.seeds[0])
        if not timed:
            self.cell(("time", method), lambda: {"seconds": history.seconds})
        self.speed(method, model)

    def speed(self, method: str, adapted) -> None:
        """Tokens per second of generation by the base, the adapted model, and the merged one where there is one.

        On one thread of the matrix library for all.
        """
        base = self.lab.base()

        def speeds(**models) -> dict[str, float]:
            return tokens_per_second(models, self.lab.tokenizer, rounds=self.settings.speed_rounds)

        def measure() -> dict:
            found = speeds(base=base) if adapted is None else speeds(base=base, adapted=adapted)
            if hasattr(adapted, "merge_and_unload"):
                try:
                    merged = adapted.merge_and_unload()
                except MiniloraError:  # no change of weights
                    return found
                found["merged"] = speeds(base=base, merged=merged)["merged"]
            return found

        self.cell(("speed", method), measure)
