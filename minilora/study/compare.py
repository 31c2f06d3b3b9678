"""Every method on one base, one domain, one task and one budget: what each learns, forgets, needs and costs.

A method is trained on the domain's text and on the labelled task, each with the learning rate that a small search finds
best on validation data, over several seeds. Prompting, which trains nothing, searches the length of its prompt in the
same way. Everything measured goes into a file of records, cell by cell, and a run that was cut off goes on there;
`compare_views.py` makes the tables and figures of it.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from rich.console import Console

from ..errors import MiniloraError, show
from ..train import methods, recipes
from ..train.loop import TrainConfig
from ..train.parallel import Workers
from ..train.progress import progress_bar
from .base import QUICK_BASE, Base
from .footprint import file_bytes, memory_of, tokens_per_second
from .lab import SCRATCH, Lab
from .prompting import bits_after, classify_by_prompt
from .records import Records
from .search import SEED as SEARCH_SEED
from .search import best_rate, measured

KIND = "comparison"
RECORDS = "records.jsonl"
PROMPTED = "few-shot"
METHODS = (
    "base",
    PROMPTED,
    SCRATCH,
    "feature-extraction",
    "full",
    "norms",
    "ia3",
    "prompt",
    "prefix",
    "bottleneck",
    "lora",
    "dora",
    "qlora",
)
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
        every = [*others, *methods.METHODS]
        near = get_close_matches(name, every, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise MiniloraError(f"unknown method {show(repr(name))}: {hint}There are {', '.join(every)}") from None


def run(out: Path, plan: Plan, resume: bool = False, overwrite: bool = False) -> Records:
    """Measure all of the plan into out/records.jsonl, or what is missing there; returns the records.

    Raises MiniloraError where the file is there already or was measured with other settings.
    """
    records = Records.open(Path(out) / RECORDS, KIND, asdict(plan), resume, overwrite)
    for note in records.notes:
        print(f"minilora: note: {note}", file=sys.stderr)
    with Workers() as workers:
        folder = recipes.base_folder() if plan.base is None else plan.base.cached(workers)[0]
        lab = Lab(folder, workers, test_characters=plan.test_characters, test_examples=plan.test_examples)
        _Comparison(plan, lab, records).run()
    return records


class _Comparison:
    def __init__(self, plan: Plan, lab: Lab, records: Records):
        self.plan, self.lab, self.records = plan, lab, records

    def run(self) -> None:
        plan = self.plan
        cells = {method: 2 * (plan.rates + len(plan.seeds)) + 2 for method in plan.methods}
        with progress_bar("comparing", sum(cells.values())) as advance:
            for method in plan.methods:
                self.advance, self.left = advance, cells[method]
                steps = {"base": (self.base,), PROMPTED: (self.prompted_text, self.prompted_task)}
                for step in steps.get(method, (self.text, self.task, self.memory)):
                    step(method)
                advance(self.left, method)

    def cell(self, *key, measure: Callable[[], dict]) -> dict:
        """The record of `key`, measured if it is not there."""
        if key not in self.records:
            self.records.add(key, **measure())
        if self.left:
            self.left -= 1
            self.advance(1, " ".join(map(str, key)))
        return self.records.rows[key]

    def search(self, part: str, method: str, start: float, loss: Callable[[float], float]) -> float:
        """The learning rate with the least loss, each that is tried a record."""

        def tried(rate: float) -> float | None:
            return self.cell("rate", part, method, rate, measure=lambda: measured(lambda: loss(rate)))["loss"]

        return best_rate(start, self.plan.rates, tried)

    # Text

    def base(self, method: str) -> None:
        def text() -> dict:
            model = lab.base()
            total = recipes.count_parameters(model)[1]
            return self.quality(model) | {"trainable": 0, "total": total, "file_bytes": 0, "seconds": 0.0}

        def task() -> dict:
            return self.accuracy_by_prompt(0, 0, lab.test_examples)

        lab = self.lab
        self.cell("text", method, 0, measure=text)
        self.cell("task", method, 0, 0, measure=task)
        self.cell("speed", method, measure=lambda: self.speed(lab.base(), None))

    def text(self, method: str) -> None:
        lab, plan = self.lab, self.plan

        def adapt(rate: float, seed: int):
            config = replace(plan.adapt, lr=rate, lora_plus=self.lora_plus(method), seed=seed)
            return lab.adapt(method, lab.domain_text(plan.characters, seed), config)

        start = SCRATCH_RATE if method == SCRATCH else methods.METHODS[method].lr
        rate = self.search("text", method, start, lambda rate: adapt(rate, SEARCH_SEED)[1].best)
        for seed in plan.seeds:

            def measure(seed=seed) -> dict:
                model, history = adapt(rate, seed)
                trainable, total = recipes.count_parameters(model)
                facts = {"lr": rate, "trainable": trainable, "total": total, "file_bytes": file_bytes(model)}
                facts |= {"seconds": history.seconds, "best_step": history.best_step} | self.quality(model)
                if ("speed", method) not in self.records:
                    self.records.add(("speed", method), **self.speed(lab.base(), model))
                return facts

            self.cell("text", method, seed, measure=measure)

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
                measure=lambda length=length: {"loss": bits(length, SEARCH_SEED, lab.domain_validation)},
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

    def task(self, method: str) -> None:
        lab, plan = self.lab, self.plan

        def classify(rate: float, labels: int, seed: int):
            config = replace(plan.classify, lr=rate, lora_plus=self.lora_plus(method), seed=seed)
            return lab.classify(method, lab.task.few(labels, seed), config)

        def error(rate: float) -> float:
            return 1 - lab.accuracy(classify(rate, plan.labels, SEARCH_SEED)[0], lab.task.validation)

        start = SCRATCH_RATE / 2 if method == SCRATCH else 2 * methods.METHODS[method].lr
        rate = self.search("task", method, start, error)
        more = plan.label_curve if method in plan.curve_methods else ()
        for labels in (plan.labels, *more):
            for seed in plan.seeds:

                def measure(labels=labels, seed=seed) -> dict:
                    model, history = classify(rate, labels, seed)
                    trainable = recipes.count_parameters(model)[0]
                    facts = {"lr": rate, "trainable": trainable, "seconds": history.seconds}
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
                    "loss": 1 - self.accuracy_by_prompt(shots, SEARCH_SEED, lab.task.validation)["accuracy"]
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

    # Needs

    def memory(self, method: str) -> None:
        lab = self.lab
        measure = lambda: memory_of(lab.base_folder, method, lab.seq_len, lab.batch_size)  # noqa: E731
        self.cell("memory", method, measure=measure)

    def speed(self, base, adapted) -> dict:
        """Tokens a second of generation by the base, the adapted model, and the merged one where there is one.

        On one thread of the matrix library for all.
        """
        models = {"base": base} | ({} if adapted is None else {"adapted": adapted})
        found = tokens_per_second(models, self.lab.tokenizer, rounds=self.plan.speed_rounds)
        if hasattr(adapted, "merge_and_unload"):
            try:
                merged = adapted.merge_and_unload()
            except MiniloraError:  # no change of weights
                return found
            pair = tokens_per_second(
                {"base": base, "merged": merged}, self.lab.tokenizer, rounds=self.plan.speed_rounds
            )
            found["merged"] = pair["merged"]
        return found


# The command


def command(arguments) -> None:
    """`minilora compare`."""
    from . import compare_views

    plan = plan_for(arguments.quick, arguments.methods, arguments.seeds)
    out, console = Path(arguments.out), Console(width=80, highlight=False, stderr=arguments.json)
    records = run(out, plan, arguments.resume, arguments.overwrite)
    compare_views.show(records, out, console)
    if arguments.json:
        print(json.dumps(compare_views.as_json(records)))
