"""Teaching a pretrained chat model the jargon of a company: what it knows before and after, and what that cost.

The subject is the glossary of `data.jargon`. The model is put into 4 bits and adapted by QLoRA. Beside it stands what
prompting reaches without training, and what else the model knew before: a general quiz, and text that has nothing to do
with the subject.

`run` measures everything into one dictionary (also written as results.json); tables are functions of it.
"""

import json
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
from minilora.data import chat, corpora, jargon
from minilora.data.chat import response_of
from minilora.data.tasks import first_sentence
from minilora.data.tokenizer import encode_documents
from minilora.demo import report, teach_report
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_json
from minilora.measure.footprint import peak_rss
from minilora.measure.lab import BASE_DATA
from minilora.measure.records import machine
from minilora.peft.files import WEIGHTS
from minilora.quant import in_float
from minilora.show.grids import drawn, show_bytes
from minilora.train import defaults, load, methods, metrics, save
from minilora.train.answers import answers
from minilora.train.loop import TrainConfig
from minilora.train.metrics import contains, normalise
from minilora.train.progress import progress_bar
from minilora.train.scoring import TaskScore, after, answered, measure_task
from minilora.train.text import Chats

SHORT = "Answer in a few words."
UNFINISHED = {"adapter"}  # in the folder of a run that was interrupted


@dataclass(frozen=True)
class TeachSettings:
    """How much of everything."""

    train: TrainConfig
    batch_size: int = 3  # conversations, about 120 tokens each
    together: int = 128  # tokens up to which short conversations are joined
    options: methods.Options = methods.Options(rank=4, alpha=16)
    shots: int = 4
    answer_tokens: int = 16  # and as many as the longest expected answer has, up to longest_answer
    longest_answer: int = 128
    quiz_tokens: int = 32
    replay_tokens: int = 24
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
    """The questions with answers to teach. tests: by name, questions that are not trained on; open_book: the same after
    lines of the glossary, the one that is asked for among them.
    """

    name: str  # as it is shown
    train: list[chat.Conversation]
    tests: Tests
    open_book: Tests


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
    book: Tests = {name: [] for name in tests}
    for name, questions in tests.items():
        for asked in questions:
            others = rng.choice([term for term in lines if term != asked.term], settings.shots - 1, replace=False)
            chosen = "\n".join(rng.permutation([lines[asked.term], *(lines[term] for term in others)]))
            book[name].append(answered(question(f"{chosen}\n\n{SHORT} {asked.text}"), asked.answer))
    return Subject(
        f"the glossary of {jargon.COMPANY}",
        [answered(question(q.text), q.answer) for q in content.train],
        {name: [answered(question(q.text), q.answer) for q in questions] for name, questions in tests.items()},
        book,
    )


def run(out: Path, model: str, quick: bool = False, seed: int = 0, as_json: bool = False) -> dict:
    """Teach the model, say on the terminal how it goes, and leave results.json and the folder adapter in `out`.

    MiniloraError before `out` is made, if the model will not do.
    """
    started = perf_counter()
    settings = QUICK if quick else FULL
    console = Console(width=80, highlight=False, stderr=as_json)
    words = ["minilora", "demo", "--model", model, *["--seed", str(seed)] * bool(seed), *["--quick"] * quick]
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        lesson = _Lesson(settings, model, seed, console)
        report.check_folder(out, UNFINISHED)
        results = lesson.teach(glossary(settings, quick, seed), out) | {
            "command": shlex.join(words),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(perf_counter() - started, 1),
            "peak_rss": peak_rss(),
            "quick": quick,
            "adapter": str(out / "adapter"),
            "machine": machine(),
        }
        write_json(out / report.RESULTS, results)
        for line in teach_report.sample_lines(results):
            console.print(line, markup=False)
        console.print()
        console.print(drawn(teach_report.scores_grid(results)))
        for sentence in teach_report.claims(results):
            console.print(f"- {sentence}", markup=False)
        console.print(f"\nAsk it yourself: {teach_report.next_command(results)}", markup=False)
        console.print(f"\nThe results: {out / report.RESULTS} ({results['seconds']:.0f} s in all)", markup=False)
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
        self.say(
            f"{escape(facts['model'])}: {facts['parameters']:,} parameters, in 4 bits after {facts['load_seconds']} s."
        )
        counts = ", ".join(f"{len(questions)} {name}" for name, questions in subject.tests.items())
        self.say(f"The subject is {subject.name}: {len(subject.train)} answers to learn; the test has {counts}.")

        with in_float(self.model):
            rows = {"before": self.ask_all(self.model, subject.tests, "before") | self.other(self.model, "before")}
            rows["few-shot"] = self.ask_all(self.model, self.few_shot(subject), "few-shot")
            rows["open book"] = self.ask_all(self.model, subject.open_book, "open book")
            replay = self.own_answers([question(text) for text in self.quiz.general])
        adapted, training = self.train([*subject.train, *replay], out, subject)
        with in_float(adapted):
            rows["after"] = self.ask_all(adapted, subject.tests, "after") | self.other(adapted, "after")

        told = {name: row.pop("answers") for name, row in rows.items()}
        samples = [
            {"test": name, "question": messages[-2]["content"], "expected": response_of(messages)}
            | {row: texts[name][i] for row, texts in told.items()}
            for name, questions in subject.tests.items()
            for i, messages in enumerate(questions)
        ]
        facts |= {"subject": subject.name, "rows": rows, "training": training, "replay": len(replay)}
        return facts | {"samples": samples, "shots": settings.shots, "quiz_questions": len(self.quiz.questions)}

    def joined(self, conversations: list[chat.Conversation]) -> list[chat.Conversation]:
        """Join short ones, in a random order, so that what they begin with is read once."""
        order = np.random.default_rng(self.seed).permutation(len(conversations))
        done: list[chat.Conversation] = [[]]
        for messages in (conversations[i] for i in order):
            longer = done[-1] + messages
            if done[-1] and len(self.chat_format.encode(self.tokenizer, longer)[0]) > self.settings.together:
                done.append(messages)
            else:
                done[-1] = longer
        return done

    def few_shot(self, subject: Subject) -> Tests:
        """Return the tests with others before each question, none of which has the expected answer in it."""
        rng = np.random.default_rng(self.seed)
        spoken = [f" {normalise(response_of(shot))} " for shot in subject.train]

        def with_shots(one: chat.Conversation) -> chat.Conversation:
            gold = f" {normalise(response_of(one))} "
            others = [shot for shot, words in zip(subject.train, spoken, strict=True) if gold not in words]
            chosen = rng.choice(len(others), self.settings.shots, replace=False)
            return after([others[i] for i in chosen], one)

        return {name: [with_shots(one) for one in questions] for name, questions in subject.tests.items()}

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

    def train(self, conversations: list[chat.Conversation], out: Path, subject: Subject) -> tuple[Any, dict]:
        """Return the adapted model, saved to the folder `adapter`, and how it went."""
        settings, none = self.settings, chat.ChatTokens([], [])
        tokens = chat.encode_conversations(self.tokenizer, self.chat_format, self.joined(conversations))
        data = Chats(subject.name, chat.sha256(subject.train), tokens, none, none)
        adapted = methods.adapt(self.model, "qlora", settings.options, seed=self.seed)
        trainable, _ = load.count_parameters(adapted)
        config, length = replace(settings.train, seed=self.seed), settings.longest
        history = defaults.fit(
            adapted,
            data,
            config,
            batch_size=settings.batch_size,
            seq_len=length,
            description="fine-tuning by QLoRA",
        )
        record: dict = {"data": data.name, "data_sha256": data.sha256, "unit": Chats.unit}
        record |= {"model": self.facts["model"], "method": "qlora", "minilora": __version__, "seed": self.seed}
        record |= {"steps": config.steps, "lr": config.peak_lr, "seq_len": length}
        save.save_adapter(adapted, self.tokenizer, out / "adapter", record)
        size = (out / "adapter" / WEIGHTS).stat().st_size
        self.say(
            f"QLoRA, rank {settings.options.rank}: {trainable:,} parameters, {config.steps} steps in "
            f"{history.seconds:.0f} s; the adapter has {show_bytes(size)}."
        )
        return adapted, {
            "trainable": trainable,
            "steps": config.steps,
            "seconds": round(history.seconds, 1),
            "lr": config.peak_lr,
            "rank": settings.options.rank,
            "losses": [round(step["loss"], 4) for step in history.steps],
            "adapter_bytes": size,
            "notes": history.notes,
        }
