"""Teaching a pretrained chat model the jargon of a company: what it knows before and after, and what that cost.

The subject is the glossary of `data.jargon`. The model is put into 4 bits and adapted by QLoRA. Beside it stands what
prompting reaches without training, and what else the model knew before: a general quiz, and text that has nothing to do
with the subject.

`run` measures everything into one dictionary (also written as results.json); tables are functions of it.
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
from minilora.demo.story import command, prepare_folder
from minilora.formats.atomic import write_json
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
    """How much of everything."""

    train: TrainConfig
    batch_size: int = 3  # conversations, about 120 tokens each
    together: int = 128  # tokens up to which short conversations are joined
    options: methods.Options = methods.Options(rank=4, alpha=16)
    shots: int = 4
    answer_tokens: int = 16  # of SmolLM2's, the longest expected answer has 10
    quiz_tokens: int = 32
    longest: int = 512  # tokens of a conversation to learn from
    test_characters: int = 8_000  # of python-docs
    seq_len: int = 128  # of text


FULL = TeachSettings(TrainConfig(steps=165, peak_lr=2e-3, warmup=6, weight_decay=0.0))
QUICK = TeachSettings(TrainConfig(steps=8, peak_lr=2e-3, warmup=1, weight_decay=0.0), test_characters=2_000)


def glossary(shots: int, quick: bool, seed: int = 0) -> tuple[list[Conversation], Tests, Tests]:
    """Return what to train on, the tests by name, and the same after lines of the glossary, as an open book.

    The tests have every term in one held-out phrasing, and the held-out uses. shots: lines of an open book, the one
    that is asked for among them.
    """
    content, wordings = jargon.load_glossary(), len(jargon.HELD_OUT_PHRASINGS)
    one_each = [q for i, q in enumerate(content.phrasings) if i % wordings == i // wordings % wordings]
    asked = {"phrasings": one_each, "uses": list(content.uses)}
    if quick:
        asked = {name: questions[::8] for name, questions in asked.items()}
    lines = {term.term: f"{term.term}: {term.meaning}" for term in jargon.load_terms()}
    rng = np.random.default_rng(seed)

    def opened(q: jargon.Question) -> Conversation:
        others = rng.choice([term for term in lines if term != q.term], shots - 1, replace=False)
        chosen = "\n".join(rng.permutation([lines[q.term], *(lines[term] for term in others)]))
        return answered(question(f"{chosen}\n\nAnswer in a few words. {q.text}"), q.answer)

    tests = {name: [answered(question(q.text), q.answer) for q in questions] for name, questions in asked.items()}
    book = {name: [opened(q) for q in questions] for name, questions in asked.items()}
    return [answered(question(q.text), q.answer) for q in content.train], tests, book


def run(out: Path, model: str, quick: bool = False, seed: int = 0) -> dict:
    """Teach the model, say on the terminal how it goes, and leave results.json and the folder adapter in `out`.

    MiniloraError before `out` is made, if the model will not do.
    """
    started = perf_counter()
    settings, console = QUICK if quick else FULL, Console(width=80, highlight=False)
    lesson, (training, tests, open_book) = _Lesson(settings, model, seed), glossary(settings.shots, quick, seed)
    prepare_folder(out, "results.json", "adapter")
    counts = ", ".join(f"{len(questions)} {name}" for name, questions in tests.items())
    console.print(f"The subject is {SUBJECT}: {len(training)} answers to learn; the test has {counts}.")
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
    teach_report.tell(results, console)
    console.print(f"\nThe results: {out / 'results.json'} ({results['seconds']:.0f} s in all)", markup=False)
    return results


class _Lesson:
    """One model that is taught."""

    def __init__(self, settings: TeachSettings, model: str, seed: int):
        self.settings, self.name, self.seed, self.quiz = settings, model, seed, jargon.load_quiz()
        self.model, self.tokenizer = load.load_model(model, quantization=settings.options.quantization)
        self.chat_format = chat.find_format(self.tokenizer)
        documents = corpora.take(corpora.split(corpora.load(BASE_DATA)).test, settings.test_characters, seed)
        self.other_text = encode_documents(self.tokenizer, documents)

    def teach(self, training: list[Conversation], tests: Tests, open_book: Tests, folder: Path) -> dict:
        """Ask before, teach, and ask again; returns the results. folder: of the adapter."""
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
        told = {name: row.pop("answers") for name, row in rows.items()}
        samples = [
            {"test": name, "question": messages[-2]["content"], "expected": response_of(messages)}
            | {row: texts[name][i] for row, texts in told.items()}
            for name, questions in tests.items()
            for i, messages in enumerate(questions)
        ]
        counts = {"replay": len(replay), "shots": self.settings.shots, "quiz_questions": len(self.quiz.questions)}
        return {"parameters": parameters, "rows": rows, "training": trained, "samples": samples} | counts

    def joined(self, conversations: list[Conversation]) -> list[Conversation]:
        """Join short ones, in a random order, so that what they begin with is read once."""
        order = np.random.default_rng(self.seed).permutation(len(conversations))
        done: list[Conversation] = [[]]
        for messages in (conversations[i] for i in order):
            longer = done[-1] + messages
            if done[-1] and len(self.chat_format.encode(self.tokenizer, longer)[0]) > self.settings.together:
                done.append(messages)
            else:
                done[-1] = longer
        return done

    def few_shot(self, training: list[Conversation], tests: Tests) -> Tests:
        """Return the tests with others before each question, none of which has the expected answer in it."""
        rng = np.random.default_rng(self.seed)

        def with_shots(one: Conversation) -> Conversation:
            gold = f" {normalise(response_of(one))} "
            others = [shot for shot in training if gold not in f" {normalise(response_of(shot))} "]
            chosen = rng.choice(len(others), self.settings.shots, replace=False)
            return after([others[i] for i in chosen], one)

        return {name: [with_shots(one) for one in questions] for name, questions in tests.items()}

    def ask_all(self, model: Any, tests: Tests, tokens: int, what: str) -> dict:
        """Return {"scores" and "answers": by test, "prompt_tokens" and "seconds": a question}."""
        scores: dict[str, TaskScore] = {}
        for name, questions in tests.items():
            with progress_bar(f"{what}: {name}", len(questions)) as advance:
                scores[name] = measure_task(model, self.tokenizer, questions, max_new_tokens=tokens, advance=advance)
        each = partial(np.average, weights=[score.count for score in scores.values()])
        return {
            "scores": {name: {"f1": one.f1, "exact": one.exact, "count": one.count} for name, one in scores.items()},
            "prompt_tokens": float(each([one.prompt_tokens for one in scores.values()])),
            "seconds": float(each([one.seconds for one in scores.values()])),
            "answers": {name: one.predicted for name, one in scores.items()},
        }

    def other(self, model: Any, what: str) -> dict:
        """Measure what has nothing to do with the subject: answers of the quiz, and bits per character of a text."""
        bar, tokens = f"{what}: quiz", self.settings.quiz_tokens
        right = answer_quiz(model, self.tokenizer, self.quiz.questions, bar, tokens)
        return {
            "quiz": sum(right),
            "other_text": metrics.evaluator(model, self.other_text, self.settings.seq_len, 16)(),
        }

    def train(self, conversations: list[Conversation], sha256: str, folder: Path) -> tuple[Any, dict]:
        """Return the adapted model, saved to a folder, and how it went. sha256: of what is taught."""
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
