"""Learning curves of a chat model on a task, to choose between prompting and fine-tuning.

The cells that are measured, by key:

    ("prompt", k, seed)            the model unchanged, with k examples as earlier turns of the conversation
    ("words", n, seed)             the word-count baseline (`word_counts`) on n examples, if the responses are labels;
                                   also on all examples, because it is cheap. Older files call it "bayes".
    ("trained", method, n, seed)   the model trained on n examples, to the end, with the defaults of `minilora finetune`
    ("cost", "prompt", k)          processor time (ms) and tokens per query, for single queries on one thread
    ("cost", method)               the same for an adapted model

For each seed, the training examples are put into one order in which the labels alternate. Prompts take the first k of
it and training sets the first n, so every smaller set is part of the larger ones. All cells answer the same held-out
questions.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np

from minilora import threads
from minilora.data import chat
from minilora.data.chat import Conversation, labels_of, question_of, response_of
from minilora.data.examples import BY_NAME, Columns, read_examples
from minilora.errors import MiniloraError, escape, print_notes
from minilora.formats.atomic import show_path
from minilora.measure import word_counts
from minilora.measure.records import Records
from minilora.peft import base_fingerprint
from minilora.plan.activations import Step
from minilora.plan.fits import check_fits
from minilora.train import catalog, defaults, load, methods
from minilora.train.metrics import TaskScore, after, check_prompts, measure_task
from minilora.train.text import Chats, as_read

KIND = "curve"
RECORDS = "records.jsonl"
FEWEST_TESTED = 10
LONGEST_ANSWER = 64  # tokens of a free answer


@dataclass(frozen=True)
class CurveSettings:
    """Settings of a curve: the model, the data, and the cells to measure."""

    model: str = "smollm2"  # as `load.load_model` takes it
    data: str = "reviews"  # a file of examples, or a name of `minilora models list`
    test: str | None = None  # a file of examples; None: the task's own, or a fifth of `data`, by question
    shots: tuple[int, ...] = (0, 2, 4, 8)
    sizes: tuple[int | str, ...] = (32, 128, 512, "all")  # "all": every example that is not held out
    columns: Columns = BY_NAME  # columns of both files
    methods: tuple[str, ...] = ("lora",)
    seeds: tuple[int, ...] = (0, 1, 2)
    test_examples: int = 200
    timed: int = 20  # single queries to time

    def quick(self) -> "CurveSettings":
        """Return smaller settings for a first look."""
        shots, tested = tuple(dict.fromkeys([self.shots[0], self.shots[-1]])), min(self.test_examples, 60)
        return replace(self, shots=shots, sizes=self.sizes[:1], seeds=self.seeds[:1], test_examples=tested, timed=5)


# The task


@dataclass(frozen=True)
class TaskData:
    """Training and held-out conversations of a task. labels: None if the responses are free text."""

    train: list[Conversation]
    test: list[Conversation]
    labels: list[str] | None
    notes: list[str]
    summary: list[str]  # summary of the `Examples`

    def order(self, seed: int, part: Sequence[Conversation] | None = None) -> list[Conversation]:
        """Return conversations (default: the training ones) in random order; the labels alternate while they last."""
        rng, part = np.random.default_rng(seed), self.train if part is None else part
        shuffled = [part[i] for i in rng.permutation(len(part))]
        if self.labels is None:
            return shuffled
        labels = rng.permutation(self.labels)
        by_label = [[messages for messages in shuffled if response_of(messages) == label] for label in labels]
        return [group[i] for i in range(len(shuffled)) for group in by_label if i < len(group)]

    def shots(self, k: int, seed: int) -> list[Conversation]:
        """Return the first k of the order, shuffled, since otherwise every prompt would end with the same label."""
        chosen = self.order(seed)[:k]
        return [chosen[i] for i in np.random.default_rng([seed, k]).permutation(k)]


def read_task(data: str, test: str | None = None, columns: Columns = BY_NAME) -> TaskData:
    """Read `CurveSettings.data` and `.test`, and drop training conversations whose question is also held out.

    Raises MiniloraError if there are too few conversations, only one label, or a held-out label that no training
    conversation has.
    """
    if test is None and data in catalog.TASKS:
        test = str(catalog.find(data, "test"))
    examples = read_examples(catalog.resolve(data), columns)
    train, notes = examples.conversations, examples.notes
    if test is None:
        train, *others = chat.split(train, data, examples.is_labelled)
        held_out = [messages for part in others for messages in part]
    else:
        tested = read_examples(catalog.resolve(test), columns)
        held_out, notes = tested.conversations, notes + tested.notes
    questions = set(map(question_of, held_out))
    learned = [messages for messages in train if question_of(messages) not in questions]
    if both := len(train) - len(learned):
        notes.append(f"left out {both:,} of the {len(train):,} examples of --data: their questions are also in --test")
    if not learned:
        raise MiniloraError("every question of --data is also in --test, so no example is left to train on")
    labels = labels_of([*learned, *held_out], examples.is_labelled)
    if labels is not None and len(labels) == 1:
        raise MiniloraError(
            f"every response is {escape(repr(labels[0]))}: there is only one label, so there is nothing to tell apart"
        )
    if unseen := sorted(set(labels or ()) - set(map(response_of, learned))):
        count = sum(response_of(messages) == unseen[0] for messages in held_out)
        raise MiniloraError(
            f"the label {escape(repr(unseen[0]))}, which {count:,} held-out examples have, does not occur in training: "
            "add examples of it to --data, or remove it from --test"
        )
    if len(held_out) < FEWEST_TESTED:
        where = "--test" if test else f"the held-out fifth of {show_path(data)}"
        advice = "200 would be better: extend --data to five times as many, or give a file as --test"
        raise MiniloraError(f"{where} has {len(held_out)} examples; at least {FEWEST_TESTED} are needed, {advice}")
    return TaskData(learned, held_out, labels, notes, examples.summary)


# The cells


def run(out: Path | str, settings: CurveSettings, resume: bool = False, overwrite: bool = False) -> Records:
    """Measure the cells that out/records.jsonl does not have yet, and return the records.

    Sizes larger than the training set are reduced to it. Raises MiniloraError, before anything is written, if shots or
    sizes do not fit the data, or if the file exists and `resume` was not given or the file has other settings.
    """
    task = read_task(settings.data, settings.test, settings.columns)
    available, notes = len(task.train), list(task.notes)
    if max(settings.shots, default=0) > available:
        raise MiniloraError(
            f"--shots asks for {max(settings.shots):,} examples, but --data has only {available:,} to train on"
        )
    requested = [available if n == "all" else int(n) for n in settings.sizes]
    if too_large := [f"{n:,}" for n in requested if n > available]:
        notes.append(f"--sizes {', '.join(too_large)}: using all {available:,} training examples, as there are no more")
    sizes, labels = tuple(sorted({min(n, available) for n in requested})), len(task.labels or ())
    if min(sizes) < labels:
        raise MiniloraError(f"--sizes {min(sizes)} is too small: each of the {labels} labels needs an example")
    curve = Curve(replace(settings, sizes=sizes, test_examples=min(settings.test_examples, len(task.test))), task)
    records = Records.open(Path(out) / RECORDS, KIND, curve.facts(), resume, overwrite)
    print(*task.summary, *as_read(curve.tokenizer, curve.encode(task.train[:1])), sep="\n", file=sys.stderr)
    print_notes(notes)
    records.complete(cells_of(records.header["settings"]), curve.measure, "curve")
    return records


def cells_of(facts: dict) -> list[tuple]:
    """Return the keys of the cells that a header's settings ask for, in the order in which they are measured."""
    shots, sizes, seeds = facts["shots"], facts["sizes"], facts["seeds"]
    cells: list[tuple] = [("prompt", k, seed) for k in shots for seed in (seeds if k else seeds[:1])]
    counted = sorted({*sizes, facts["examples"]}) if facts["labels"] else []
    cells += [("words", n, seed) for n in counted for seed in seeds]
    cells += [("cost", "prompt", k) for k in shots]
    for method in facts["methods"]:
        cells += [("cost", method), *(("trained", method, n, seed) for n in sizes for seed in seeds)]
    return cells


class Curve:
    """The measurement of a curve's cells. Each training run loads the model again, so that no run changes another."""

    def __init__(self, settings: CurveSettings, task: TaskData):
        """Load the model. Raises MiniloraError if it has no chat format, or if prompts or steps do not fit."""
        self.settings, self.task = settings, task
        self.test = task.order(0, task.test)[: settings.test_examples]
        self.base, self.tokenizer = load.load_model(settings.model)
        encoded = self.encode([*task.train, *self.test]).rows
        self.longest_answer = min(LONGEST_ANSWER, max(int(mask.sum()) for _, mask in encoded))
        longest = sorted(self.test, key=lambda messages: sum(len(m["content"]) for m in messages))[-5:]
        for k in settings.shots:
            prompts = [after(task.shots(k, seed), messages[:-1]) for seed in settings.seeds for messages in longest]
            try:
                check_prompts(self.base, self.tokenizer, prompts, self.longest_answer)
            except MiniloraError as error:
                raise MiniloraError(f"--shots {k} does not fit: {error}") from error
        step = Step(defaults.BATCH_SIZE, min(defaults.LONGEST, max(len(ids) for ids, _ in encoded)))
        for method in settings.methods:
            check_fits(self.base.config, method, step)

    def facts(self) -> dict:
        """Return the settings and fingerprints that must match to resume a run."""
        hashes = {"train_sha256": chat.sha256(self.task.train), "test_sha256": chat.sha256(self.task.test)}
        facts = {"labels": self.task.labels, "examples": len(self.task.train), "words": word_counts.baseline()}
        return asdict(self.settings) | facts | {"base": base_fingerprint(self.base)} | hashes

    def measure(self, kind: str, *key: Any) -> dict:
        """Measure one cell by the method that its key names."""
        return getattr(self, kind)(*key)

    def prompt(self, k: int, seed: int) -> dict:
        return self.numbers(self.score(self.base, self.test, self.task.shots(k, seed)))

    def words(self, n: int, seed: int) -> dict:
        learned = self.task.order(seed)[:n]
        texts, questions = (list(map(_text, part)) for part in (learned, self.test))
        wrong = self.wrong(word_counts.predict(texts, list(map(response_of, learned)), questions))
        return {"accuracy": 1 - len(wrong) / len(questions), "accuracy_wrong": wrong}

    def trained(self, method: str, n: int, seed: int) -> dict:
        """Train with the defaults of `minilora finetune`, without evaluations, and score the result."""
        model, tokens = self.adapted(method, self.task.order(seed)[:n], seed)
        none = chat.ChatTokens([], [])
        data = Chats(self.settings.data, "", tokens, none, none)
        config = defaults.finetune_config(model, methods.METHODS[method], data, seed=seed)
        history = defaults.fit(model, data, config, show_progress=False)
        facts = {"seconds": history.seconds, "lr": config.peak_lr, "steps": config.steps, "notes": history.notes}
        facts["trainable"] = load.count_parameters(model)[0]
        return facts | self.numbers(self.score(model, self.test))

    def cost(self, kind: str, k: int = 0) -> dict:
        if kind == "prompt":
            model, shots = self.base, self.task.shots(k, self.settings.seeds[0])
        else:
            model, shots = self.adapted(kind, self.task.train[:1], 0)[0], []
        tokens, seconds = [], []
        with threads.using(1):
            for messages in [self.test[0], *self.test[: self.settings.timed]]:  # the first warms up
                # Processor time, because on a busy machine the wall time of one query varied from 5.5 to 18.8 s.
                started = process_time()
                tokens.append(self.score(model, [messages], shots).prompt_tokens)
                seconds.append(process_time() - started)
        return {"milliseconds": 1000 * median(seconds[1:]), "tokens": float(np.mean(tokens))}

    # Steps of a cell

    def encode(self, conversations: Sequence[Conversation]) -> chat.ChatTokens:
        return chat.encode_conversations(self.tokenizer, chat.find_format(self.tokenizer), conversations)

    def score(self, model: Any, questions: Sequence[Conversation], shots: Sequence = ()) -> TaskScore:
        options: dict[str, Any] = {"labels": self.task.labels, "shots": shots, "max_new_tokens": self.longest_answer}
        return measure_task(model, self.tokenizer, questions, **options)

    def adapted(self, method: str, conversations: Sequence[Conversation], seed: int) -> tuple[Any, chat.ChatTokens]:
        """Return a freshly loaded model, adapted by the method, and the encoded conversations."""
        tokens, options = self.encode(conversations), methods.Options()
        quantization = options.quantization if methods.METHODS[method].is_quantized else None
        model, _ = load.load_model(self.settings.model, quantization=quantization)
        return methods.adapt(model, method, options, tokens.ids, seed), tokens

    def numbers(self, score: TaskScore) -> dict:
        """Return the numbers to record from a score; for labels also the indices of the wrong answers."""
        names = ("accuracy", "calibrated", "exact", "f1")
        numbers = {name: getattr(score, name) for name in names if getattr(score, name) is not None}
        if score.labels:
            numbers["accuracy_wrong"] = self.wrong(score.predicted)
        if score.calibrated_predicted:
            numbers["calibrated_wrong"] = self.wrong(score.calibrated_predicted)
        return numbers | {"tokens": score.prompt_tokens}

    def wrong(self, answers: Sequence[str]) -> list[int]:
        """Return the indices of the held-out questions that `answers` gets wrong."""
        return [i for i, messages in enumerate(self.test) if answers[i] != response_of(messages)]


def _text(messages: Conversation) -> str:
    return "\n".join(message["content"] for message in messages[:-1])
