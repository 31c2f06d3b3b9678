"""Teach a pretrained chat model the jargon of a company, and measure what it learns, what it forgets and the cost.

The subject is the glossary of `data.jargon`. The model is quantized to 4 bits and adapted by QLoRA. It is compared with
prompting, which needs no training. A general quiz and text about something else measure what the model forgets.

`run` measures everything into one dictionary, which is also written as results.json; the tables are made from it.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console

from minilora.data import chat, corpora, jargon
from minilora.data.chat import Conversation, response_of
from minilora.data.tokenizer import encode_documents
from minilora.demo import teach_report
from minilora.demo.story import PAGE, command, prepare_folder
from minilora.errors import line_width
from minilora.formats.atomic import write_atomic, write_json
from minilora.measure.lab import BASE_DATA
from minilora.measure.records import machine, peak_rss
from minilora.peft.files import WEIGHTS
from minilora.quant import in_float
from minilora.train import defaults, load, methods, metrics, save
from minilora.train.forgetting import answer_quiz, own_answers, question
from minilora.train.loop import TrainConfig
from minilora.train.metrics import TaskScore, after, answered, measure_task, normalise
from minilora.train.progress import progress_bar
from minilora.train.text import Chats

SUBJECT = f"the glossary of {jargon.COMPANY}"
Tests = dict[str, list[Conversation]]


@dataclass(frozen=True)
class TeachSettings:
    """Settings of the lesson: training, prompts and tests."""

    train: TrainConfig
    batch_size: int = 3  # conversations, about 120 tokens each
    together: int = 128  # short conversations are joined up to this many tokens
    options: methods.Options = methods.Options(rank=4, alpha=16)
    shots: int = 4
    answer_tokens: int = 16  # the longest expected answer has 10 of SmolLM2's tokens
    quiz_tokens: int = 32
    longest: int = 512  # tokens of a training conversation
    test_characters: int = 8_000  # characters of python-docs
    seq_len: int = 128  # tokens of a window of text


FULL = TeachSettings(TrainConfig(steps=165, peak_lr=2e-3, warmup=6, weight_decay=0.0))
QUICK = TeachSettings(TrainConfig(steps=8, peak_lr=2e-3, warmup=1, weight_decay=0.0), test_characters=2_000)


def glossary(shots: int, quick: bool, seed: int = 0) -> tuple[list[Conversation], Tests, Tests]:
    """Return (training conversations, tests by name, the same tests as open-book questions).

    The tests ask for every term in one held-out phrasing, and contain the held-out uses. An open-book question comes
    after `shots` lines of the glossary, one of which has the answer.
    """
    content, wordings = jargon.load_glossary(), len(jargon.HELD_OUT_PHRASINGS)
    one_each = [q for i, q in enumerate(content.phrasings) if i % wordings == i // wordings % wordings]
    held_out = {"phrasings": one_each, "uses": list(content.uses)}
    if quick:
        held_out = {name: questions[::8] for name, questions in held_out.items()}
    lines = {term.term: f"{term.term}: {term.meaning}" for term in jargon.load_terms()}
    rng = np.random.default_rng(seed)

    def open_book(q: jargon.Question) -> Conversation:
        others = rng.choice([term for term in lines if term != q.term], shots - 1, replace=False)
        chosen = "\n".join(rng.permutation([lines[q.term], *(lines[term] for term in others)]))
        return answered(question(f"{chosen}\n\nAnswer in a few words. {q.text}"), q.answer)

    tests = {name: [answered(question(q.text), q.answer) for q in questions] for name, questions in held_out.items()}
    book = {name: [open_book(q) for q in questions] for name, questions in held_out.items()}
    return [answered(question(q.text), q.answer) for q in content.train], tests, book


def run(out: Path, model: str, quick: bool = False, seed: int = 0) -> dict:
    """Teach the model, print the results, and write report.html, results.json and the folder `adapter` to `out`.

    Raises MiniloraError, before `out` is made, if the model cannot be used.
    """
    started = perf_counter()
    settings, console = QUICK if quick else FULL, Console(width=line_width(), highlight=False)
    lesson, (training, tests, open_book) = _Lesson(settings, model, seed), glossary(settings.shots, quick, seed)
    prepare_folder(out, "results.json", "adapter")
    counts = ", ".join(f"{len(questions)} {name}" for name, questions in tests.items())
    console.print(f"The subject is {SUBJECT}: {len(training)} answers to train on, and {counts} as tests.")
    results = {"model": model, "subject": SUBJECT} | lesson.teach(training, tests, open_book, out / "adapter")
    results |= {
        "command": command(quick, seed, "--model", model),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(perf_counter() - started, 1),
        "peak_rss": peak_rss(),
        "quick": quick,
        "adapter": str(out / "adapter"),
        "machine": machine(),
    }
    write_json(out / "results.json", results)
    write_atomic(out / PAGE, teach_report.tell(results, console))
    console.print(f"\nThe report: {out / PAGE} ({results['seconds']:.0f} s in all)", markup=False)
    return results


class _Lesson:
    """The lesson for one model, which it measures and trains."""

    def __init__(self, settings: TeachSettings, model: str, seed: int):
        self.settings, self.name, self.seed, self.quiz = settings, model, seed, jargon.load_quiz()
        self.model, self.tokenizer = load.load_model(model, quantization=settings.options.quantization)
        self.chat_format = chat.find_format(self.tokenizer)
        documents = corpora.take(corpora.split(corpora.load(BASE_DATA)).test, settings.test_characters, seed)
        self.other_text = encode_documents(self.tokenizer, documents)

    def teach(self, training: list[Conversation], tests: Tests, open_book: Tests, folder: Path) -> dict:
        """Measure the model, train it, and measure it again. folder: where to save the adapter."""
        tokens = self.settings.answer_tokens
        parameters = load.count_parameters(self.model)[1]
        with in_float(self.model):
            rows = {"before": self.ask_all(self.model, tests, tokens, "before") | self.other(self.model, "before")}
            rows["few-shot"] = self.ask_all(self.model, self.few_shot(training, tests), tokens, "few-shot")
            rows["open book"] = self.ask_all(self.model, open_book, tokens, "open book")
            replay = own_answers(self.model, self.tokenizer, self.quiz.general)
        adapted, trained = self.train([*training, *replay], chat.sha256(training), folder)
        with in_float(adapted):
            rows["after"] = self.ask_all(adapted, tests, tokens, "after") | self.other(adapted, "after")
        answers = {name: row.pop("answers") for name, row in rows.items()}
        samples = [
            {"test": name, "question": messages[-2]["content"], "expected": response_of(messages)}
            | {row: texts[name][i] for row, texts in answers.items()}
            for name, questions in tests.items()
            for i, messages in enumerate(questions)
        ]
        counts = {"replay": len(replay), "shots": self.settings.shots, "quiz_questions": len(self.quiz.questions)}
        return {"parameters": parameters, "rows": rows, "training": trained, "samples": samples} | counts

    def joined(self, conversations: list[Conversation]) -> list[Conversation]:
        """Join short conversations, in random order, so that their common beginning is read only once."""
        order = np.random.default_rng(self.seed).permutation(len(conversations))
        joined: list[Conversation] = [[]]
        for messages in (conversations[i] for i in order):
            longer = joined[-1] + messages
            if joined[-1] and len(self.chat_format.encode(self.tokenizer, longer)[0]) > self.settings.together:
                joined.append(messages)
            else:
                joined[-1] = longer
        return joined

    def few_shot(self, training: list[Conversation], tests: Tests) -> Tests:
        """Return the tests with training examples before each question, none of which contains the expected answer."""
        rng = np.random.default_rng(self.seed)

        def with_shots(messages: Conversation) -> Conversation:
            gold = f" {normalise(response_of(messages))} "
            others = [shot for shot in training if gold not in f" {normalise(response_of(shot))} "]
            chosen = rng.choice(len(others), self.settings.shots, replace=False)
            return after([others[i] for i in chosen], messages)

        return {name: list(map(with_shots, questions)) for name, questions in tests.items()}

    def ask_all(self, model: Any, tests: Tests, tokens: int, what: str) -> dict:
        """Return {"scores", "answers": both by test; "prompt_tokens", "seconds": mean per question}."""
        scores: dict[str, TaskScore] = {}
        for name, questions in tests.items():
            with progress_bar(f"{what}: {name}", len(questions)) as advance:
                scores[name] = measure_task(model, self.tokenizer, questions, max_new_tokens=tokens, advance=advance)
        per_question = partial(np.average, weights=[score.count for score in scores.values()])
        return {
            "scores": {name: {"f1": s.f1, "exact": s.exact, "count": s.count} for name, s in scores.items()},
            "prompt_tokens": float(per_question([score.prompt_tokens for score in scores.values()])),
            "seconds": float(per_question([score.seconds for score in scores.values()])),
            "answers": {name: score.predicted for name, score in scores.items()},
        }

    def other(self, model: Any, what: str) -> dict:
        """Measure what the model may forget: correct answers in the quiz, and bits per character on other text."""
        bar, tokens = f"{what}: quiz", self.settings.quiz_tokens
        right = answer_quiz(model, self.tokenizer, self.quiz.questions, bar, tokens)
        return {
            "quiz": sum(right),
            "other_text": metrics.evaluator(model, self.other_text, self.settings.seq_len, 16)(),
        }

    def train(self, conversations: list[Conversation], sha256: str, folder: Path) -> tuple[Any, dict]:
        """Train an adapter, save it to `folder`, and return (adapted model, facts of the run). sha256: of the data."""
        settings, none = self.settings, chat.ChatTokens([], [])
        tokens = chat.encode_conversations(self.tokenizer, self.chat_format, self.joined(conversations))
        data = Chats(SUBJECT, sha256, tokens, none, none)
        adapted = methods.adapt(self.model, "qlora", settings.options, seed=self.seed)
        config = replace(settings.train, seed=self.seed)
        size, length = settings.batch_size, settings.longest
        history = defaults.fit(
            adapted, data, config, batch_size=size, seq_len=length, description="fine-tuning by QLoRA"
        )
        made_by = {"model": self.name, "method": "qlora", "seed": self.seed}
        made_by |= {"steps": config.steps, "lr": config.peak_lr, "seq_len": length}
        save.save_adapter(adapted, self.tokenizer, folder, save.training_record(data, made_by, {}))
        return adapted, {
            "trainable": load.count_parameters(adapted)[0],
            "steps": config.steps,
            "seconds": round(history.seconds, 1),
            "lr": config.peak_lr,
            "rank": settings.options.rank,
            "losses": [round(step["loss"], 4) for step in history.steps],
            "adapter_bytes": (folder / WEIGHTS).stat().st_size,
            "notes": history.notes,
        }
