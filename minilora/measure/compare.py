"""Every method on one base, one domain, one task and one budget: what each learns, forgets, needs and costs.

A method is trained on the domain's text and on the labelled task, each with the learning rate that a small search finds
best on validation data, over several seeds. Prompting, which trains nothing, searches the length of its prompt in the
same way. Everything measured goes into a file of records, cell by cell, and a run that was cut off goes on there;
`compare_views.py` makes the tables and figures of it.

A method's cells on text follow one another, as do those on the task; the two, and the methods, are independent, so that
several processes can share them (`sweep.py`). Each trains with as many threads as a comparison in one process, which
the last digits depend on. Time, speed and memory are measured afterwards, by one process alone.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from minilora import backend
from minilora.errors import MiniloraError, unknown
from minilora.measure.base import QUICK_BASE, Base
from minilora.measure.few_shot import bits_after, classify_by_prompt
from minilora.measure.footprint import file_bytes, memory_of, tokens_per_second
from minilora.measure.lab import SCRATCH, Lab
from minilora.measure.lr_search import SEED, best_rate, measured
from minilora.measure.records import Records
from minilora.measure.sweep import SentRecords, check_jobs, side_by_side
from minilora.train import methods, recipes
from minilora.train.loop import History, TrainConfig
from minilora.train.parallel import Workers
from minilora.train.progress import progress_bar

KIND = "comparison"
RECORDS = "records.jsonl"
PROMPTED = "few-shot"
METHODS = ("base", PROMPTED, SCRATCH, *(name for name, method in methods.METHODS.items() if method.is_compared))
PARTS = ("text", "task")
SCRATCH_RATE = 3e-3


@dataclass(frozen=True)
class Plan:
    """How much of everything a comparison does."""

    base: Base | None = None  # pretrained first; None: the base that comes with the package
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: int = 3  # learning rates that a search tries, and at most two more where the best is the first or last
    characters: int = 12_000  # of the domain's text
    adapt: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=60, eval_every=10, patience=3, warmup=3, lr_floor=0.3)
    )
    labels: int = 32  # labelled sentences a class
    label_curve: tuple[int, ...] = (8, 128)  # further numbers of labels, for the methods of `curve_methods`
    curve_methods: tuple[str, ...] = (SCRATCH, "full", "lora")
    classify: TrainConfig = field(default_factory=lambda: TrainConfig(steps=48, warmup=5))
    contexts: tuple[int, ...] = (16, 32, 64, 128, 256)  # tokens in front, that prompting tries on text
    shots: tuple[int, ...] = (2, 4, 8, 16)  # examples in front, that prompting tries on the task
    test_characters: int = 20_000
    test_examples: int | None = None
    speed_rounds: int = 5


FULL = Plan()
QUICK = Plan(
    base=QUICK_BASE,
    seeds=(0, 1, 2),
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


def plan_for(quick: bool, chosen: str | None = None, seeds: int | None = None) -> Plan:
    """The plan with only the methods in `chosen` (names with commas) and so many seeds. Raises MiniloraError."""
    plan = QUICK if quick else FULL
    if seeds is not None:
        if seeds < 1:
            raise MiniloraError(f"--seeds must be at least 1, not {seeds}")
        plan = replace(plan, seeds=tuple(range(seeds)))
    if chosen is not None:
        names = [_find(name.strip()) for name in chosen.split(",")]
        plan = replace(plan, methods=tuple(dict.fromkeys(["base", *names])))
    return plan


def _find(name: str) -> str:
    others = ("base", PROMPTED, SCRATCH)
    if name in others:
        return name
    try:
        return methods.find(name)
    except MiniloraError:
        raise MiniloraError(unknown("method", name, [*others, *methods.METHODS])) from None


def run(out: Path, plan: Plan, resume: bool = False, overwrite: bool = False, jobs: int = 1) -> Records:
    """Measure all of the plan into out/records.jsonl, or what is missing there; returns the records.

    jobs: how many processes share what can be measured side by side. Raises MiniloraError where the file is there
    already or was measured with other settings.
    """
    check_jobs(jobs)
    records = Records.open(Path(out) / RECORDS, KIND, asdict(plan), resume, overwrite)
    for note in records.notes:
        print(f"minilora: note: {note}", file=sys.stderr)
    with Workers() as workers:
        folder = recipes.base_folder() if plan.base is None else plan.base.cached(workers)[0]
        cells = {method: 2 * (plan.rates + len(plan.seeds)) + 2 for method in plan.methods}
        with progress_bar("comparing", sum(cells.values())) as advance:
            progress = _Progress(advance, cells)
            if jobs > 1:
                _share(plan, folder, workers.count, records, jobs, progress)
            lab = Lab(folder, workers, test_characters=plan.test_characters, test_examples=plan.test_examples)
            comparison = _Comparison(plan, lab, records, progress)
            for method in plan.methods:
                for part in PARTS:
                    comparison.stream(method, part)
                comparison.costs(method)
                progress.end(method)
    return records


class _Progress:
    """A bar that counts each cell once. left: by method, how many cells it will probably take."""

    def __init__(self, advance: Callable, left: dict[str, int]):
        self.advance, self.left, self.counted = advance, dict(left), set()

    def cell(self, key: tuple) -> None:
        method = _method_of(key)
        if key not in self.counted and self.left[method]:
            self.left[method] -= 1
            self.advance(1, " ".join(map(str, key)))
        self.counted.add(key)

    def end(self, method: str) -> None:
        self.advance(self.left[method], method)
        self.left[method] = 0


def _method_of(key: tuple) -> str:
    return key[2] if key[0] == "rate" else key[1]


# Side by side


def _share(plan: Plan, folder: Path, threads: int, records: Records, jobs: int, progress: _Progress) -> None:
    """Measure what is missing of all methods' text and task in `jobs` processes, each with as many threads as this."""
    tasks = []
    for method in reversed(plan.methods):  # the last ones take longest, and the end should not wait for one of them
        rows = {key: row for key, row in records.rows.items() if _method_of(key) == method}
        tasks += [(plan, folder, threads, backend.name, rows, method, part) for part in PARTS]

    def take(key: tuple, numbers: dict) -> None:
        records.add(key, **numbers)
        progress.cell(key)

    side_by_side(_stream, tasks, jobs, take)


def _stream(
    plan: Plan, folder: Path, threads: int, backend_name: str, rows: dict, method: str, part: str, tell: Callable
) -> None:
    """One method on text or on the task, in a process of a sweep."""
    lab = _lab_here(plan.test_characters, plan.test_examples, folder, threads, backend_name)
    _Comparison(plan, lab, SentRecords(rows, tell)).stream(method, part)


@cache
def _lab_here(test_characters: int, test_examples: int | None, folder: Path, threads: int, backend_name: str) -> Lab:
    """The lab of a process of a sweep, kept until the process ends."""
    backend.use(backend_name)
    return Lab(folder, Workers(threads).__enter__(), test_characters=test_characters, test_examples=test_examples)


# The cells


class _Comparison:
    """progress: None in a process of a sweep. That is not alone, and so leaves out times and speed."""

    def __init__(self, plan: Plan, lab: Lab, records: Records, progress: _Progress | None = None):
        self.plan, self.lab, self.records, self.progress = plan, lab, records, progress
        self.alone = progress is not None

    def stream(self, method: str, part: str) -> None:
        """All cells of a method on text or on the task, each after those that it depends on."""
        text, task = {
            "base": (self.base_text, self.base_task),
            PROMPTED: (self.prompted_text, self.prompted_task),
        }.get(method, (self.text, self.task))
        {"text": text, "task": task}[part](method)

    def cell(self, *key, measure: Callable[[], dict]) -> dict:
        """The record of `key`, measured if it is not there."""
        if key not in self.records:
            self.records.begin(key)
            self.records.add(key, **measure())
        if self.progress:
            self.progress.cell(key)
        return self.records.rows[key]

    def search(self, part: str, method: str, start: float, loss: Callable[[float], float]) -> float:
        """The learning rate with the least loss, each that is tried a record."""

        def tried(rate: float) -> float | None:
            return self.cell("rate", part, method, rate, measure=lambda: measured(lambda: loss(rate)))["loss"]

        return best_rate(start, self.plan.rates, tried)

    # Text

    def base_text(self, method: str) -> None:
        def measure() -> dict:
            model = self.lab.base()
            total = recipes.count_parameters(model)[1]
            return self.quality(model) | {"trainable": 0, "total": total, "file_bytes": 0, "seconds": 0.0}

        self.cell("text", method, 0, measure=measure)

    def text(self, method: str) -> None:
        start = SCRATCH_RATE if method == SCRATCH else methods.METHODS[method].lr
        rate = self.search("text", method, start, lambda rate: self.adapt(method, rate, SEED)[1].best)
        for seed in self.plan.seeds:

            def measure(seed=seed) -> dict:
                model, history = self.adapt(method, rate, seed)
                trainable, total = recipes.count_parameters(model)
                facts = {"lr": rate, "trainable": trainable, "total": total, "file_bytes": file_bytes(model)}
                facts |= {"seconds": self.seconds(history), "best_step": history.best_step} | self.quality(model)
                if self.alone and ("speed", method) not in self.records:
                    self.speed(method, model)
                return facts

            self.cell("text", method, seed, measure=measure)

    def adapt(self, method: str, rate: float, seed: int) -> tuple[object, History]:
        """A model adapted to the domain's text, and its history."""
        config = replace(self.plan.adapt, lr=rate, lora_plus=self.lora_plus(method), seed=seed)
        return self.lab.adapt(method, self.lab.domain_text(self.plan.characters, seed), config)

    def seconds(self, history: History) -> float | None:
        """How long the training took, where nothing else ran beside it."""
        return history.seconds if self.alone else None

    @staticmethod
    def lora_plus(method: str) -> float:
        return 1.0 if method == SCRATCH else methods.METHODS[method].lora_plus

    def quality(self, model) -> dict:
        lab = self.lab
        return {"domain": lab.bits(model, lab.domain_test), "base_text": lab.bits(model, lab.base_test)}

    def prompted_text(self, method: str) -> None:
        """The domain's text in front of each window, in place of training on it."""
        lab, plan = self.lab, self.plan
        model = lab.base()
        room = model.config.max_position_embeddings - lab.seq_len

        def bits(length: int, seed: int, stream) -> float:
            context = lab.domain_text(plan.characters, seed).ids[:length]
            return bits_after(model, context, stream, lab.seq_len, lab.batch_size, lab.workers)

        lengths = [length for length in plan.contexts if length <= room]
        losses = {
            length: self.cell(
                "rate",
                "text",
                method,
                length,
                measure=lambda length=length: {"loss": bits(length, SEED, lab.domain_validation)},
            )["loss"]
            for length in lengths
        }
        best = min(losses, key=losses.get)
        for seed in plan.seeds:

            def measure(seed=seed) -> dict:
                found = {"domain": bits(best, seed, lab.domain_test), "base_text": bits(best, seed, lab.base_test)}
                return found | {"context": best, "trainable": 0, "total": 0, "file_bytes": 0, "seconds": 0.0}

            self.cell("text", method, seed, measure=measure)

    # The labelled task

    def base_task(self, method: str) -> None:
        self.cell("task", method, 0, 0, measure=lambda: self.accuracy_by_prompt(0, 0, self.lab.test_examples))

    def task(self, method: str) -> None:
        lab, plan = self.lab, self.plan

        def classify(rate: float, labels: int, seed: int):
            config = replace(plan.classify, lr=rate, lora_plus=self.lora_plus(method), seed=seed)
            return lab.classify(method, lab.task.few(labels, seed), config)

        def error(rate: float) -> float:
            return 1 - lab.accuracy(classify(rate, plan.labels, SEED)[0], lab.task.validation)

        start = SCRATCH_RATE / 2 if method == SCRATCH else 2 * methods.METHODS[method].lr
        rate = self.search("task", method, start, error)
        more = plan.label_curve if method in plan.curve_methods else ()
        for labels in (plan.labels, *more):
            for seed in plan.seeds:

                def measure(labels=labels, seed=seed) -> dict:
                    model, history = classify(rate, labels, seed)
                    trainable = recipes.count_parameters(model)[0]
                    facts = {"lr": rate, "trainable": trainable, "seconds": self.seconds(history)}
                    return facts | {"accuracy": lab.accuracy(model)}

                self.cell("task", method, seed, labels, measure=measure)

    def prompted_task(self, method: str) -> None:
        lab, plan = self.lab, self.plan
        errors = {
            shots: self.cell(
                "rate",
                "task",
                method,
                shots,
                measure=lambda shots=shots: {
                    "loss": 1 - self.accuracy_by_prompt(shots, SEED, lab.task.validation)["accuracy"]
                },
            )["loss"]
            for shots in plan.shots
        }
        best = min(errors, key=errors.get)
        for seed in plan.seeds:
            self.cell(
                "task",
                method,
                seed,
                0,
                measure=lambda seed=seed: self.accuracy_by_prompt(best, seed, lab.test_examples),
            )

    def accuracy_by_prompt(self, shots: int, seed: int, examples) -> dict:
        lab = self.lab
        classes = len(lab.task.classes)
        chosen = lab.task.few(-(-shots // classes), seed)[:shots] if shots else []
        np.random.default_rng(seed).shuffle(chosen)
        texts, labels = [e.text for e in examples], np.array([e.label for e in examples])
        predicted, tokens = classify_by_prompt(lab.base(), lab.tokenizer, lab.task.classes, chosen, texts, lab.workers)
        return {"accuracy": float((predicted == labels).mean()), "shots": shots, "tokens": tokens}

    # Costs

    def costs(self, method: str) -> None:
        """Time, speed and memory, each measured alone."""
        lab = self.lab
        if method == "base":
            self.speed(method, None)
        elif method != PROMPTED:
            self.time(method)
            measure = lambda: memory_of(lab.base_folder, method, lab.seq_len, lab.batch_size)  # noqa: E731
            self.cell("memory", method, measure=measure)

    def time(self, method: str) -> None:
        """How long training on text takes, and the speed afterwards, once more where it was not done alone."""
        rows = list(self.records.of("text", method))
        timed = ("time", method) in self.records or any(row["seconds"] is not None for row in rows)
        if timed and ("speed", method) in self.records:
            return
        model, history = self.adapt(method, rows[0]["lr"], self.plan.seeds[0])
        if not timed:
            self.cell("time", method, measure=lambda: {"seconds": history.seconds})
        self.speed(method, model)

    def speed(self, method: str, adapted) -> None:
        """Tokens a second of generation by the base, the adapted model, and the merged one where there is one.

        On one thread of the matrix library for all.
        """

        def measure() -> dict:
            base = self.lab.base()
            models = {"base": base} | ({} if adapted is None else {"adapted": adapted})
            found = rate(models)
            if hasattr(adapted, "merge_and_unload"):
                try:
                    merged = adapted.merge_and_unload()
                except MiniloraError:  # no change of weights
                    return found
                found["merged"] = rate({"base": base, "merged": merged})["merged"]
            return found

        def rate(models: dict) -> dict[str, float]:
            return tokens_per_second(models, self.lab.tokenizer, rounds=self.plan.speed_rounds)

        self.cell("speed", method, measure=measure)
