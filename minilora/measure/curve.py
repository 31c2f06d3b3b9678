"""Prompt or fine-tune? A chat model on a task, by the examples in its prompt and by those that it is trained on.

    ("prompt", k, seed)            the model as it is, with k examples as earlier turns
    ("bayes", n, seed)             naive Bayes on n examples, where the responses are labels
    ("trained", method, n, seed)   trained on n examples as `minilora finetune` trains by default, to the end
    ("cost", "prompt", k)          milliseconds of processor time and tokens of a query, one at a time on one thread
    ("cost", method)               the same of an adapted model

Both ways draw on one order of the training examples for each seed: the first k and the first n of it, the labels in
turn. So k examples are among 2k, and n among 4n. All cells answer the same held-out questions.
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
from minilora.measure.naive_bayes import NaiveBayes
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
    """What is measured, and on what."""

    model: str = "smollm2"  # as `load.load_model` takes it
    data: str = "reviews"  # a file of examples, or a name of `minilora models list`
    test: str | None = None  # a file of examples; None: the task's own, or a fifth of `data`, by question
    shots: tuple[int, ...] = (0, 2, 4, 8)
    sizes: tuple[int | str, ...] = (32, 128, 512, "all")  # "all": every example that is not held out
    columns: Columns = BY_NAME  # of both files
    methods: tuple[str, ...] = ("lora",)
    seeds: tuple[int, ...] = (0, 1, 2)
    test_examples: int = 200
    timed: int = 20  # queries whose time is taken, one by one

    def quick(self) -> "CurveSettings":
        """Return the same for a first look: fewer of everything."""
        shots, tested = tuple(dict.fromkeys([self.shots[0], self.shots[-1]])), min(self.test_examples, 60)
        return replace(self, shots=shots, sizes=self.sizes[:1], seeds=self.seeds[:1], test_examples=tested, timed=5)


# The task


@dataclass(frozen=True)
class TaskData:
    """Conversations to learn from and held-out ones. labels: None where the responses are free."""

    train: list[Conversation]
    test: list[Conversation]
    labels: list[str] | None
    notes: list[str]
    summary: list[str]  # of `Examples`

    def order(self, seed: int, part: Sequence[Conversation] | None = None) -> list[Conversation]:
        """Return the conversations (by default those to learn from) in an order that the seed draws, the labels in turn
        as far as they last.
        """
        rng, part = np.random.default_rng(seed), self.train if part is None else part
        drawn = [part[i] for i in rng.permutation(len(part))]
        if self.labels is None:
            return drawn
        by_label = [[one for one in drawn if response_of(one) == label] for label in rng.permutation(self.labels)]
        return [ones[i] for i in range(len(drawn)) for ones in by_label if i < len(ones)]

    def shots(self, k: int, seed: int) -> list[Conversation]:
        """Return the first k of the order, shuffled: the last label in a prompt is not always the same."""
        chosen = self.order(seed)[:k]
        return [chosen[i] for i in np.random.default_rng([seed, k]).permutation(k)]


def read_task(data: str, test: str | None = None, columns: Columns = BY_NAME) -> TaskData:
    """Return the conversations of `CurveSettings.data` and `.test`, less what stands in both.

    MiniloraError where there are too few, or where labels do not suit: one alone, or one that is never learned.
    """
    if test is None and data in catalog.TASKS:
        test = str(catalog.find(data, "test"))
    examples = read_examples(catalog.resolve(data), columns)
    train, notes = examples.conversations, examples.notes
    if test is None:
        train, *others = chat.split(train, data, examples.is_labelled)
        held_out = [one for part in others for one in part]
    else:
        tested = read_examples(catalog.resolve(test), columns)
        held_out, notes = tested.conversations, notes + tested.notes
    questions = set(map(question_of, held_out))
    learned = [one for one in train if question_of(one) not in questions]
    if both := len(train) - len(learned):
        notes.append(f"{both:,} of the {len(train):,} examples of --data begin as some of --test: not learned from")
    if not learned:
        raise MiniloraError("every example of --data begins as one of --test does: none is left to learn from")
    labels = labels_of([*learned, *held_out], examples.is_labelled)
    if labels is not None and len(labels) == 1:
        raise MiniloraError(f"every response is {escape(repr(labels[0]))}: one label leaves nothing to tell apart")
    if unseen := sorted(set(labels or ()) - set(map(response_of, learned))):
        count = sum(response_of(one) == unseen[0] for one in held_out)
        raise MiniloraError(
            f"the label {escape(repr(unseen[0]))}, which {count:,} held-out examples have, never occurs in training: "
            "add examples of it to --data, or take it out of --test"
        )
    if len(held_out) < FEWEST_TESTED:
        where = "--test" if test else f"the fifth of {show_path(data)} that is held out"
        least = f"at least {FEWEST_TESTED}, better 200, by five times as many in --data or by a file as --test"
        raise MiniloraError(f"{where} has {len(held_out)} examples: give {least}")
    return TaskData(learned, held_out, labels, notes, examples.summary)


# The cells


def run(out: Path | str, settings: CurveSettings, resume: bool = False, overwrite: bool = False) -> Records:
    """Measure all of the settings into out/records.jsonl, or what is missing there; returns the records.

    Numbers of examples above those that there are become all. Raises MiniloraError, before anything is written, for
    data, shots and sizes that do not suit; and where the file is there already, or was measured with other settings.
    """
    task = read_task(settings.data, settings.test, settings.columns)
    there, notes = len(task.train), list(task.notes)
    if max(settings.shots, default=0) > there:
        raise MiniloraError(
            f"--data has {there:,} examples to learn from, and --shots asks for {max(settings.shots):,}"
        )
    requested = [there if n == "all" else int(n) for n in settings.sizes]
    if too_large := [f"{n:,}" for n in requested if n > there]:
        notes.append(f"--sizes {', '.join(too_large)}: there are {there:,} examples to learn from, so all are the most")
    sizes, labels = tuple(sorted({min(n, there) for n in requested})), len(task.labels or ())
    if min(sizes) < labels:
        raise MiniloraError(f"--sizes {min(sizes)} is too small for {labels} labels, each of which needs an example")
    curve = Curve(replace(settings, sizes=sizes, test_examples=min(settings.test_examples, len(task.test))), task)
    records = Records.open(Path(out) / RECORDS, KIND, curve.facts(), resume, overwrite)
    print(*task.summary, *as_read(curve.tokenizer, curve.encode(task.train[:1])), sep="\n", file=sys.stderr)
    print_notes(notes)
    records.complete(cells_of(records.header["settings"]), curve.measure, "curve")
    return records


def cells_of(facts: dict) -> list[tuple]:
    """Return the keys of a curve whose header has these settings, in the order in which they are measured."""
    shots, sizes, seeds = facts["shots"], facts["sizes"], facts["seeds"]
    cells: list[tuple] = [("prompt", k, seed) for k in shots for seed in (seeds if k else seeds[:1])]
    cells += [("bayes", n, seed) for n in sizes for seed in seeds if facts["labels"]]
    cells += [("cost", "prompt", k) for k in shots]
    for method in facts["methods"]:
        cells += [("cost", method), *(("trained", method, n, seed) for n in sizes for seed in seeds)]
    return cells


class Curve:
    """Measures the cells. The model is read anew for each that trains: what a training leaves is nowhere."""

    def __init__(self, settings: CurveSettings, task: TaskData):
        """Load the model. Raises MiniloraError if it has no chat format, or if prompts or steps do not fit."""
        self.settings, self.task = settings, task
        self.test = task.order(0, task.test)[: settings.test_examples]
        self.base, self.tokenizer = load.load_model(settings.model)
        encoded = self.encode([*task.train, *self.test]).rows
        self.longest_answer = min(LONGEST_ANSWER, max(int(mask.sum()) for _, mask in encoded))
        longest = sorted(self.test, key=lambda one: sum(len(m["content"]) for m in one))[-5:]
        for k in settings.shots:
            prompts = [after(task.shots(k, seed), one[:-1]) for seed in settings.seeds for one in longest]
            try:
                check_prompts(self.base, self.tokenizer, prompts, self.longest_answer)
            except MiniloraError as error:
                raise MiniloraError(f"--shots {k} does not fit: {error}") from error
        step = Step(defaults.BATCH_SIZE, min(defaults.LONGEST, max(len(ids) for ids, _ in encoded)))
        for method in settings.methods:
            check_fits(self.base.config, method, step)

    def facts(self) -> dict:
        """Return what a resumed run must have alike."""
        hashes = {"train_sha256": chat.sha256(self.task.train), "test_sha256": chat.sha256(self.task.test)}
        return asdict(self.settings) | {"labels": self.task.labels, "base": base_fingerprint(self.base)} | hashes

    def measure(self, kind: str, *key: Any) -> dict:
        """Return the numbers of a cell."""
        return getattr(self, kind)(*key)

    def prompt(self, k: int, seed: int) -> dict:
        return _numbers(self.score(self.base, self.test, self.task.shots(k, seed)))

    def bayes(self, n: int, seed: int) -> dict:
        learned = self.task.order(seed)[:n]
        model = NaiveBayes([_text(one) for one in learned], [response_of(one) for one in learned])
        answers = model.predict([_text(one) for one in self.test])
        right = [answer == response_of(one) for answer, one in zip(answers, self.test, strict=True)]
        return {"accuracy": sum(right) / len(right)}

    def trained(self, method: str, n: int, seed: int) -> dict:
        """By the defaults of `minilora finetune`, without evaluations."""
        model, tokens = self.adapted(method, self.task.order(seed)[:n], seed)
        none = chat.ChatTokens([], [])
        data = Chats(self.settings.data, "", tokens, none, none)
        config = defaults.finetune_config(model, methods.METHODS[method], data, seed=seed)
        history = defaults.fit(model, data, config, show_progress=False)
        facts = {"seconds": history.seconds, "lr": config.peak_lr, "steps": config.steps, "notes": history.notes}
        facts["trainable"] = load.count_parameters(model)[0]
        return facts | _numbers(self.score(model, self.test))

    def cost(self, kind: str, k: int = 0) -> dict:
        if kind == "prompt":
            model, shots = self.base, self.task.shots(k, self.settings.seeds[0])
        else:
            model, shots = self.adapted(kind, self.task.train[:1], 0)[0], []
        tokens, seconds = [], []
        with threads.using(1):
            for one in [self.test[0], *self.test[: self.settings.timed]]:  # the first warms up
                started = process_time()  # of the clock, beside other work, the same query took from 5.5 to 18.8 s
                tokens.append(self.score(model, [one], shots).prompt_tokens)
                seconds.append(process_time() - started)
        return {"milliseconds": 1000 * median(seconds[1:]), "tokens": float(np.mean(tokens))}

    # What cells are made of

    def encode(self, conversations: Sequence[Conversation]) -> chat.ChatTokens:
        return chat.encode_conversations(self.tokenizer, chat.find_format(self.tokenizer), conversations)

    def score(self, model: Any, questions: Sequence[Conversation], shots: Sequence = ()) -> TaskScore:
        how: dict[str, Any] = {"labels": self.task.labels, "shots": shots, "max_new_tokens": self.longest_answer}
        return measure_task(model, self.tokenizer, questions, **how)

    def adapted(self, method: str, conversations: Sequence[Conversation], seed: int) -> tuple[Any, chat.ChatTokens]:
        """Return a fresh model to train by the method, and the conversations as tokens."""
        tokens, options = self.encode(conversations), methods.Options()
        quantization = options.quantization if methods.METHODS[method].is_quantized else None
        model, _ = load.load_model(self.settings.model, quantization=quantization)
        return methods.adapt(model, method, options, tokens.ids, seed), tokens


def _text(messages: Conversation) -> str:
    return "\n".join(message["content"] for message in messages[:-1])


def _numbers(score: TaskScore) -> dict:
    names = ("accuracy", "calibrated", "exact", "f1")
    known = {name: getattr(score, name) for name in names if getattr(score, name) is not None}
    return known | {"tokens": score.prompt_tokens}
