"""Teaching a pretrained chat model the jargon of a company: what it knows before and after, and what that cost.

The subject is the glossary of `data.jargon`, or a reader's own questions with answers. The
model is put into 4 bits and adapted by QLoRA. Beside it stands what prompting reaches without training, and what else
the model knew before: a general quiz, and text that has nothing to do with the subject.

`run` measures everything into one dictionary (also written as results.json); tables and the page are functions of it.
"""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console

from minilora import __version__
from minilora.data import chat, chat_split, corpora, jargon
from minilora.data.chat import response_of
from minilora.data.chat_batches import ChatBatches
from minilora.data.tasks import first_sentence
from minilora.data.tokenizer import encode_documents
from minilora.demo import report, teach_report
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path
from minilora.measure.footprint import peak_rss
from minilora.measure.lab import BASE_DATA
from minilora.measure.records import machine
from minilora.peft.files import WEIGHTS
from minilora.quant import in_float
from minilora.show.grids import drawn, show_bytes
from minilora.train import load, methods, metrics, save
from minilora.train.answers import Chats, answers
from minilora.train.loop import TrainConfig, train
from minilora.train.metrics import contains, normalise
from minilora.train.progress import progress_bar
from minilora.train.scoring import TaskScore, after, answered, measure_task
from minilora.train.text import PADDING

SHORT = "Answer in a few words."
UNFINISHED = {"adapter"}  # in the folder of a run that was interrupted


@dataclass(frozen=True)
class TeachSettings:
    """How much of everything."""

    train: TrainConfig
    batch_size: int = 3  # conversations, about 120 tokens each
    together: int = 128  # tokens up to which short conversations are joined
    options: methods.Options = methods.Options(rank=4, alpha=16)
    replays: int = 1  # how often each general question comes in an epoch
    shots: int = 4
    answer_tokens: int = 16  # and as many as the longest expected answer has, up to longest_answer
    longest_answer: int = 128
    quiz_tokens: int = 32
    replay_tokens: int = 24
    most_tests: int = 100  # of the reader's own questions
    longest: int = 512  # tokens of a conversation to learn from
    test_characters: int = 8_000  # of python-docs
    seq_len: int = 128  # of text


FULL = TeachSettings(TrainConfig(steps=165, peak_lr=2e-3, warmup=6, weight_decay=0.0))
QUICK = TeachSettings(TrainConfig(steps=8, peak_lr=2e-3, warmup=1, weight_decay=0.0), test_characters=2_000)


def question(text: str) -> chat.Conversation:
    return [{"role": "user", "content": text}]


Tests = dict[str, list[chat.Conversation]]


@dataclass(frozen=True)
class Subject:
    """What to teach, as questions with answers.

    tests: by name, questions with answers that are not trained on. notes: {test: for each question, lines of the
    subject, the one that it asks for among them}, for a prompt with an open book; empty where there is no such thing.
    warning: what the reader should know of the test's figures.
    """

    name: str  # as it is shown
    train: list[chat.Conversation]
    tests: Tests
    notes: dict[str, list[str]]
    warning: str = ""


def glossary(settings: TeachSettings, quick: bool, seed: int = 0) -> Subject:
    """Return the invented company's: every term in one held-out phrasing, and the held-out uses."""
    content, terms = jargon.load_glossary(), jargon.load_terms()
    wordings = len(jargon.HELD_OUT_PHRASINGS)
    one_each = [q for i, q in enumerate(content.phrasings) if i % wordings == i // wordings % wordings]
    tests = {"phrasings": one_each, "uses": list(content.uses)}
    if quick:
        tests = {name: questions[::8] for name, questions in tests.items()}
    lines = {term.term: f"{term.term}: {term.meaning}" for term in terms}
    rng = np.random.default_rng(seed)
    notes: dict[str, list[str]] = {}
    for name, questions in tests.items():
        notes[name] = []
        for asked in questions:
            others = rng.choice([term for term in lines if term != asked.term], settings.shots - 1, replace=False)
            chosen = rng.permutation([lines[asked.term], *(lines[term] for term in others)])
            notes[name].append("\n".join(chosen))
    return Subject(
        f"the glossary of {jargon.COMPANY}",
        [answered(question(q.text), q.answer) for q in content.train],
        {name: [answered(question(q.text), q.answer) for q in questions] for name, questions in tests.items()},
        notes,
    )


NOT_FACTS = (
    "the test is a tenth of your questions, none of which is trained on, so it tells what carries over to new ones. A "
    "fact that stands in one row alone cannot be known there: to test facts, ask them in other words in a --test file"
)


def own_questions(path: str, settings: TeachSettings, test: str | None = None) -> Subject:
    """Build the subject from a JSONL file. test: a file of questions to test on; None: a tenth of the first file's."""
    conversations, warning = chat.read_jsonl(path), ""
    if test is None:
        parts = chat_split.split(conversations, path)
        train, tested = [*parts.train, *parts.validation], parts.test
        warning = "" if chat.labels_of(conversations) else NOT_FACTS
    else:
        train, tested = conversations, chat.read_jsonl(test)
    every = -(-len(tested) // settings.most_tests)
    return Subject(show_path(path), train, {"questions": tested[::every]}, {}, warning)


def run(
    out: Path,
    model: str,
    quick: bool = False,
    seed: int = 0,
    as_json: bool = False,
    jsonl: str | None = None,
    test: str | None = None,
) -> dict:
    """Teach the model, say on the terminal how it goes, and leave results.json, report.html and the folder adapter in
    `out`. jsonl: a file of the reader's own questions in place of the glossary; test: a file to test on.

    MiniloraError before anything slow, and before `out` is made, where the model or the file will not do.
    """
    started = perf_counter()
    if os.path.lexists(out):
        report.check_folder(out, UNFINISHED)
    settings = QUICK if quick else FULL
    console = Console(width=80, highlight=False, stderr=as_json)
    flags = {"--model": model, "--jsonl": jsonl, "--test": test, "--seed": str(seed) if seed else None}
    words = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        subject = glossary(settings, quick, seed) if jsonl is None else own_questions(jsonl, settings, test)
        results = _Lesson(settings, model, seed, console).teach(subject, out) | {
            "command": shlex.join(["minilora", "demo", *words, *["--quick"] * quick]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(perf_counter() - started, 1),
            "peak_rss": peak_rss(),
            "quick": quick,
            "adapter": str(out / "adapter"),
            "machine": machine(),
        }
        page = teach_report.write(results, out)
        for line in teach_report.sample_lines(results):
            console.print(line, markup=False)
        console.print()
        console.print(drawn(teach_report.scores_grid(results)))
        for sentence in teach_report.claims(results):
            console.print(f"- {sentence}", markup=False)
        console.print(f"\nAsk it yourself: {teach_report.next_command(results)}", markup=False)
        console.print(f"\nThe report: {page} ({results['seconds']:.0f} s in all)")
    if as_json:
        print(json.dumps(results))
    return results


class _Lesson:
    """One model that is taught."""

    def __init__(self, settings: TeachSettings, model: str, seed: int, console: Console):
        self.settings, self.seed = settings, seed
        self.say = partial(console.print, markup=False)
        started = perf_counter()
        self.model, self.tokenizer = load.load_model(model, quantization=settings.options.quantization)
        if self.tokenizer.chat_template is None:
            raise MiniloraError(
                f"{escape(model)} is a base model: it has no chat format to ask it in; choose a chat model"
            )
        self.chat_format = chat.find_format(self.tokenizer)
        self.limit = self.model.config.max_position_embeddings
        total = load.count_parameters(self.model)[1]
        self.facts = {"model": model, "parameters": total, "load_seconds": round(perf_counter() - started, 2)}
        documents = corpora.take(corpora.split(corpora.load(BASE_DATA)).test, settings.test_characters, seed)
        self.other_text = encode_documents(self.tokenizer, documents)
        self.quiz = jargon.load_quiz()

    def teach(self, subject: Subject, out: Path) -> dict:
        """Ask before, teach, and ask again; returns the results."""
        settings, facts = self.settings, self.facts
        longest = max(len(self.tokenizer.encode(response_of(one))) for test in subject.tests.values() for one in test)
        self.answer_tokens = min(max(settings.answer_tokens, longest + 1), settings.longest_answer)
        for test in subject.tests.values():
            self.check_length(test)
        prompted = self.prompts(subject)
        self.batches(subject.train, subject.name)  # now, rather than after minutes: one of them fits at least
        report.check_folder(out, UNFINISHED)
        self.say(
            f"{escape(facts['model'])}: {facts['parameters']:,} parameters, in 4 bits after {facts['load_seconds']} s."
        )
        counts = ", ".join(f"{len(questions)} {name}" for name, questions in subject.tests.items())
        self.say(f"The subject is {subject.name}: {len(subject.train)} answers to learn; the test has {counts}.")
        if subject.warning:
            self.say(f"Note: {subject.warning}.")

        with in_float(self.model):
            rows = {"before": self.ask_all(self.model, subject.tests, "before") | self.other(self.model, "before")}
            rows |= {name: self.ask_all(self.model, tests, name) for name, tests in prompted.items()}
            replay = self.own_answers([question(text) for text in self.quiz.general])
        replayed = replay * settings.replays
        copies = max(1, round(2 * len(replayed) / len(subject.train)))  # a small subject is not to drown in replay
        batches = self.batches(self.joined([*subject.train * copies, *replayed]), subject.name)
        for note in batches.notes:
            self.say(f"Note: {note}.")
        adapted, training = self.train(batches, out, subject)
        with in_float(adapted):
            rows["after"] = self.ask_all(adapted, subject.tests, "after") | self.other(adapted, "after")

        told = {name: row.pop("answers") for name, row in rows.items()}
        samples = [
            {"test": name, "question": messages[-2]["content"], "expected": response_of(messages)}
            | {row: texts[name][i] for row, texts in told.items()}
            for name, questions in subject.tests.items()
            for i, messages in enumerate(questions)
        ]
        shots, questions = min(settings.shots, len(subject.train)), len(self.quiz.questions)
        facts |= {"subject": subject.name, "rows": rows, "training": training, "replay": len(replay)}
        return facts | {"samples": samples, "shots": shots, "quiz_questions": questions}

    def joined(self, conversations: list[chat.Conversation]) -> list[chat.Conversation]:
        """Join short ones, in a random order, so that what they begin with is read once.
        One with a system message of its own stays alone.
        """
        order = np.random.default_rng(self.seed).permutation(len(conversations))
        done: list[chat.Conversation] = [[]]
        for messages in (conversations[i] for i in order):
            longer = done[-1] + messages
            alone = any(message["role"] == "system" for message in longer)
            if done[-1] and (alone or len(self.chat_format.encode(self.tokenizer, longer)[0]) > self.settings.together):
                done.append(messages)
            else:
                done[-1] = longer
        return done

    def prompts(self, subject: Subject) -> dict[str, Tests]:
        """Return the tests with something before each question: others with their answers (none of which has the
        expected answer in it; fewer if they do not fit), or lines of the subject.
        """
        rng, few = np.random.default_rng(self.seed), {}
        spoken = [_spoken(shot) for shot in subject.train]
        for name, questions in subject.tests.items():
            few[name] = [self.with_shots(one, subject.train, spoken, rng) for one in questions]
        book = {
            name: [
                answered(question(f"{lines}\n\n{SHORT} {one[-2]['content']}"), response_of(one))
                for one, lines in zip(subject.tests[name], notes, strict=True)
            ]
            for name, notes in subject.notes.items()
        }
        for test in book.values():
            self.check_length(test)
        return {"few-shot": few} | ({"open book": book} if book else {})

    def with_shots(
        self, one: chat.Conversation, shots: list[chat.Conversation], spoken: list[str], rng: np.random.Generator
    ) -> chat.Conversation:
        """Return the conversation after others whose answers, `spoken`, do not have the expected one in them."""
        gold = f" {normalise(response_of(one))} "
        others = [shot for shot, words in zip(shots, spoken, strict=True) if gold not in words]
        chosen = rng.choice(len(others), min(self.settings.shots, len(others)), replace=False)
        prompt = after([others[i] for i in chosen], one)
        while len(chosen) and not self.fits(prompt):
            chosen = chosen[1:]
            prompt = after([others[i] for i in chosen], one)
        return prompt

    def fits(self, messages: chat.Conversation) -> bool:
        return len(self.prompt_ids(messages)) + self.answer_tokens <= self.limit

    def check_length(self, questions: list[chat.Conversation]) -> None:
        for messages in questions:
            if not self.fits(messages):
                raise MiniloraError(
                    f"a question of {len(self.prompt_ids(messages)):,} tokens and its answer pass the model's "
                    f"{self.limit:,} positions: shorten {escape(messages[-2]['content'], 60)!r}"
                )

    def prompt_ids(self, messages: chat.Conversation) -> np.ndarray:
        return self.chat_format.encode(self.tokenizer, messages[:-1], add_generation_prompt=True)[0]

    def batches(self, conversations: list[chat.Conversation], name: str) -> ChatBatches:
        """Return batches to learn from. MiniloraError where no answer fits."""
        settings, longest = self.settings, min(self.settings.longest, self.limit)
        tokens = chat.encode_conversations(self.tokenizer, self.chat_format, conversations)
        try:
            return ChatBatches(tokens, settings.batch_size, longest, self.seed, PADDING)
        except MiniloraError:
            raise MiniloraError(f"no answer of {name} fits into {longest:,} tokens: give shorter ones") from None

    def ask_all(self, model: Any, tests: Tests, what: str) -> dict:
        """Return {"scores" and "answers": by test, "prompt_tokens" and "seconds": a question}."""
        by_test: dict[str, TaskScore] = {}
        for name, questions in tests.items():
            with progress_bar(f"{what}: {name}", len(questions)) as advance:
                by_test[name] = measure_task(
                    model, self.tokenizer, questions, max_new_tokens=self.answer_tokens, advance=advance
                )
        counts = [score.count for score in by_test.values()]
        return {
            "scores": {name: {"f1": one.f1, "exact": one.exact, "count": one.count} for name, one in by_test.items()},
            "prompt_tokens": float(np.average([one.prompt_tokens for one in by_test.values()], weights=counts)),
            "seconds": float(np.average([one.seconds for one in by_test.values()], weights=counts)),
            "answers": {name: one.predicted for name, one in by_test.items()},
        }

    def other(self, model: Any, what: str) -> dict:
        """Measure what has nothing to do with the subject: answers of the quiz, and bits per character of a text."""
        questions = [question(q.text) for q in self.quiz.questions]
        told = self.ask(model, questions, self.settings.quiz_tokens, f"{what}: quiz")
        right = sum(contains(text, q.answers) for text, q in zip(told, self.quiz.questions, strict=True))
        bits = metrics.evaluator(model, self.other_text, self.settings.seq_len, 16)()
        return {"quiz": right, "other_text": bits}

    def ask(self, model: Any, conversations: Sequence[chat.Conversation], tokens: int, what: str) -> list[str]:
        with progress_bar(what, len(conversations)) as advance:
            return answers(model, self.tokenizer, conversations, tokens, advance=advance)

    def own_answers(self, questions: list[chat.Conversation]) -> list[chat.Conversation]:
        """Answer the questions by the first sentence of the model's own answer, if that comes to an end: for replay."""
        texts = self.ask(self.model, questions, self.settings.replay_tokens, "its own answers")
        firsts = [first_sentence(text) for text in texts]
        pairs = zip(questions, firsts, strict=True)
        return [answered(asked, first) for asked, first in pairs if first.endswith((".", "!", "?"))]

    def train(self, batches: ChatBatches, out: Path, subject: Subject) -> tuple[Any, dict]:
        """Return the adapted model, saved to the folder `adapter`, and how it went."""
        settings = self.settings
        adapted = methods.adapt(self.model, "qlora", settings.options, seed=self.seed)
        trainable, _ = load.count_parameters(adapted)
        config = replace(settings.train, seed=self.seed)
        history = train(adapted, batches, config, description="fine-tuning by QLoRA")
        record: dict = {"data": subject.name, "data_sha256": chat.sha256(subject.train), "unit": Chats.unit}
        record |= {"model": self.facts["model"], "method": "qlora", "minilora": __version__, "seed": self.seed}
        record |= {"steps": config.steps, "lr": config.peak_lr, "seq_len": settings.seq_len}
        save.save_adapter(adapted, self.tokenizer, out / "adapter", record)
        size = (out / "adapter" / WEIGHTS).stat().st_size
        self.say(
            f"QLoRA, rank {settings.options.rank}: {trainable:,} parameters, {settings.train.steps} steps in "
            f"{history.seconds:.0f} s; the adapter has {show_bytes(size)}."
        )
        return adapted, {
            "trainable": trainable,
            "steps": settings.train.steps,
            "seconds": round(history.seconds, 1),
            "lr": settings.train.peak_lr,
            "rank": settings.options.rank,
            "losses": [round(step["loss"], 4) for step in history.steps],
            "adapter_bytes": size,
            "notes": batches.notes,
        }


def _spoken(shot: chat.Conversation) -> str:
    """Return what the assistant says, to look for words in."""
    return "\n".join(f" {normalise(m['content'])} " for m in shot if m["role"] == "assistant")
