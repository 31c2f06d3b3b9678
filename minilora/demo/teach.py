"""Teaching a pretrained chat model the jargon of a company: what it knows before and after, and what that cost.

The subject is the glossary of `data.jargon`, or a reader's own questions with answers, or a reader's own text. The
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
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console

from minilora import __version__
from minilora.data import chat, chat_split, corpora, jargon
from minilora.data.chat_batches import ChatBatches
from minilora.data.tasks import first_sentence
from minilora.data.tokenizer import TokenStream, encode_documents
from minilora.demo import report, teach_report
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path
from minilora.measure.footprint import peak_rss
from minilora.measure.lab import BASE_DATA
from minilora.measure.records import machine
from minilora.peft.files import WEIGHTS
from minilora.quant import in_float
from minilora.show.grids import drawn, show_bytes
from minilora.train import methods, recipes
from minilora.train.answers import answers
from minilora.train.loop import TrainConfig, train
from minilora.train.progress import progress_bar
from minilora.train.scoring import after, answered

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


@dataclass(frozen=True)
class Subject:
    """What to teach, as questions with answers.

    tests: by name, questions that are not trained on. notes: {test: for each question, lines of the subject, the one
    that it asks for among them}, for a prompt with an open book; empty where there is no such thing. warning: what the
    reader should know of the test's figures.
    """

    name: str  # as it is shown
    train: list[chat.Conversation]
    tests: dict[str, list[tuple[chat.Conversation, str]]]
    notes: dict[str, list[str]]
    warning: str = ""


def glossary(settings: TeachSettings, quick: bool, seed: int = 0) -> Subject:
    """The invented company's: every term in one held-out phrasing, and the held-out uses."""
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
        {name: [(question(q.text), q.answer) for q in questions] for name, questions in tests.items()},
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
    tests = [(messages[:-1], messages[-1]["content"]) for messages in tested[::every]]
    return Subject(show_path(path), train, {"questions": tests}, {}, warning)


def run(
    out: Path,
    model: str,
    quick: bool = False,
    seed: int = 0,
    as_json: bool = False,
    jsonl: str | None = None,
    text: str | None = None,
    test: str | None = None,
) -> dict:
    """Teach the model, say on the terminal how it goes, and leave results.json, report.html and the folder adapter in
    `out`. jsonl, text: a file of the reader's own in place of the glossary. test: with `jsonl`, a file to test on.

    MiniloraError before anything slow, and before `out` is made, where the model or the file will not do.
    """
    started = perf_counter()
    if os.path.lexists(out):
        report.check_folder(out, UNFINISHED)
    settings = QUICK if quick else FULL
    console = Console(width=80, highlight=False, stderr=as_json)
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        if text is not None:
            corpus = corpora.load(text)
            results = _Lesson(settings, model, seed, console).on_text(corpus, out)
        else:
            subject = glossary(settings, quick, seed) if jsonl is None else own_questions(jsonl, settings, test)
            results = _Lesson(settings, model, seed, console).on_questions(subject, out)
        given = {
            "--model": model,
            "--jsonl": jsonl,
            "--test": test,
            "--text": text,
            "--seed": str(seed) if seed else None,
        }
        words = [word for flag, value in given.items() if value is not None for word in (flag, value)]
        results |= {
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


def _said(shot: chat.Conversation) -> str:
    """What the assistant says, to look for words in."""
    return "\n".join(f" {jargon.normalise(m['content'])} " for m in shot if m["role"] == "assistant")


class _Lesson:
    """One model that is taught."""

    def __init__(self, settings: TeachSettings, model: str, seed: int, console: Console):
        self.settings, self.seed, self.console = settings, seed, console
        started = perf_counter()
        self.model, self.tokenizer = recipes.load_model(model, quantization=settings.options.quantization)
        if self.tokenizer.chat_template is None:
            raise MiniloraError(
                f"{escape(model)} is a base model: it has no chat format to ask it in; choose a chat model"
            )
        self.chat_format = chat.find_format(self.tokenizer)
        self.limit = self.model.config.max_position_embeddings
        total = recipes.count_parameters(self.model)[1]
        self.facts = {"model": model, "parameters": total, "load_seconds": round(perf_counter() - started, 2)}
        documents = corpora.take(corpora.split(corpora.load(BASE_DATA)).test, settings.test_characters, seed)
        self.other_text = encode_documents(self.tokenizer, documents)
        self.quiz = jargon.load_quiz()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def begin(self, out: Path, subject: str) -> None:
        """All that was given will do: make the folder, and say what there is."""
        report.check_folder(out, UNFINISHED)
        facts = self.facts
        self.say(
            f"{escape(facts['model'])}: {facts['parameters']:,} parameters, in 4 bits after {facts['load_seconds']} s."
        )
        self.say(f"The subject is {subject}")

    def on_questions(self, subject: Subject, out: Path) -> dict:
        settings, quiz = self.settings, self.quiz
        longest = max(len(self.tokenizer.encode(expected)) for test in subject.tests.values() for _, expected in test)
        self.answer_tokens = min(max(settings.answer_tokens, longest + 1), settings.longest_answer)
        for test in subject.tests.values():
            self.check_length(test)
        prompted = self.prompts(subject)
        self.conversations(subject.train, subject.name)  # now, rather than after minutes: one of them fits at least
        counts = ", ".join(f"{len(questions)} {name}" for name, questions in subject.tests.items())
        self.begin(out, f"{subject.name}: {len(subject.train)} answers to learn; the test has {counts}.")
        if subject.warning:
            self.say(f"Note: {subject.warning}.")
        with in_float(self.model):
            before, texts = self.measure(self.model, subject, "before")
            rows, told = {"before": before}, {"before": texts}
            for name, tests in prompted.items():
                rows[name], told[name] = self.ask_all(self.model, tests, name)
            replay = self.own_answers([question(text) for text in quiz.general])
        replayed = replay * settings.replays
        copies = max(1, round(2 * len(replayed) / len(subject.train)))  # a small subject is not to drown in replay
        batches = self.conversations(self.joined([*subject.train * copies, *replayed]), subject.name)
        for note in batches.notes:
            self.say(f"Note: {note}.")
        learned = {"data": subject.name, "data_sha256": chat.sha256(subject.train), "unit": recipes.Chats.unit}
        adapted, training = self.train(batches, batches.notes, out, learned)
        with in_float(adapted):
            rows["after"], told["after"] = self.measure(adapted, subject, "after")
        samples = [
            {"test": name, "question": messages[-1]["content"], "expected": expected}
            | {row: texts[name][i] for row, texts in told.items()}
            for name, questions in subject.tests.items()
            for i, (messages, expected) in enumerate(questions)
        ]
        facts = {"subject": subject.name, "rows": rows, "training": training, "replay": len(replay), "samples": samples}
        shots = min(settings.shots, len(subject.train))
        return self.facts | facts | {"shots": shots, "quiz_questions": len(quiz.questions)}

    def on_text(self, corpus: corpora.Corpus, out: Path) -> dict:
        """The model goes on with its training on a text; what it says is how well it guesses more of it."""
        text, name, window = recipes.read_text(corpus, self.tokenizer), show_path(corpus.name), self.settings.seq_len
        if len(text.train.ids) < window:
            raise MiniloraError(
                f"{name} has {len(text.train.ids):,} tokens to learn from, fewer than one window of {window}: give "
                "more text"
            )
        batches = recipes.training_batches(text.train, 4, window, self.seed)
        self.begin(out, f"{name}: {text.train.characters:,} characters to learn.")
        for note in text.notes:
            self.say(f"Note: {note}.")
        beginning = self.tokenizer.decode(text.test.ids[: self.settings.answer_tokens])

        def measured(model, what: str) -> tuple[dict, str]:
            with in_float(model):
                row = {"text": self.bits(model, text.test), "other_text": self.bits(model, self.other_text)}
                ids = self.tokenizer.encode(beginning)
                out = model.generate(ids[None], 2 * self.settings.quiz_tokens, temperature=0, eos_token_id=[])
                return row | {"quiz": self.quiz_score(model, what)}, self.tokenizer.decode(out[0, len(ids) :])

        before, went_on = measured(self.model, "before")
        adapted, training = self.train(batches, [], out, {"data": name, "data_sha256": text.sha256})
        after, goes_on = measured(adapted, "after")
        sample = {"test": "goes on after", "question": beginning, "before": went_on, "after": goes_on}
        facts = {"subject": name, "rows": {"before": before, "after": after}, "training": training}
        return self.facts | facts | {"samples": [sample], "quiz_questions": len(self.quiz.questions)}

    def joined(self, conversations: list[chat.Conversation]) -> list[chat.Conversation]:
        """In a random order, short ones one after another as one, so that what they begin with is read once.
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

    def prompts(self, subject: Subject) -> dict[str, dict]:
        """The tests with something before each question: other ones with their answers (none of which has the expected
        answer in it; fewer where they do not fit), or lines of the subject.
        """
        rng, settings = np.random.default_rng(self.seed), self.settings
        few: dict[str, list] = {}
        book: dict[str, list] = {}
        said = [_said(shot) for shot in subject.train]
        for name, questions in subject.tests.items():
            few[name] = []
            for messages, expected in questions:
                gold = f" {jargon.normalise(expected)} "
                others = [shot for shot, words in zip(subject.train, said, strict=True) if gold not in words]
                chosen = rng.choice(len(others), min(settings.shots, len(others)), replace=False)
                prompt = after([others[i] for i in chosen], messages)
                while len(chosen) and not self.fits(prompt):
                    chosen = chosen[1:]
                    prompt = after([others[i] for i in chosen], messages)
                few[name].append((prompt, expected))
            if name in subject.notes:
                book[name] = [
                    (question(f"{lines}\n\n{SHORT} {messages[-1]['content']}"), expected)
                    for (messages, expected), lines in zip(questions, subject.notes[name], strict=True)
                ]
                self.check_length(book[name])
        return {"few-shot": few} | ({"open book": book} if book else {})

    def fits(self, messages: chat.Conversation) -> bool:
        return len(self.prompt_ids(messages)) + self.answer_tokens <= self.limit

    def check_length(self, questions: list[tuple[chat.Conversation, str]]) -> None:
        for messages, _ in questions:
            if not self.fits(messages):
                raise MiniloraError(
                    f"a question of {len(self.prompt_ids(messages)):,} tokens and its answer pass the model's "
                    f"{self.limit:,} positions: shorten {escape(messages[-1]['content'], 60)!r}"
                )

    def conversations(self, conversations: list[chat.Conversation], name: str) -> ChatBatches:
        """Batches to learn from. MiniloraError where no answer fits."""
        settings, longest = self.settings, min(self.settings.longest, self.limit)
        tokens = chat.encode_conversations(self.tokenizer, self.chat_format, conversations)
        try:
            return ChatBatches(tokens, settings.batch_size, longest, self.seed, recipes.PADDING)
        except MiniloraError:
            raise MiniloraError(f"no answer of {name} fits into {longest:,} tokens: give shorter ones") from None

    def measure(self, model, subject: Subject, what: str) -> tuple[dict, dict]:
        """Scores of the tests, the quiz and the other text; and the answers to the tests."""
        row, texts = self.ask_all(model, subject.tests, what)
        return row | {"quiz": self.quiz_score(model, what), "other_text": self.bits(model, self.other_text)}, texts

    def quiz_score(self, model, what: str) -> int:
        """How many questions of the quiz are answered right."""
        asked = [question(q.text) for q in self.quiz.questions]
        found = self.ask(model, asked, self.settings.quiz_tokens, f"{what}: quiz")
        return sum(jargon.contains(text, q.answers) for text, q in zip(found, self.quiz.questions, strict=True))

    def ask_all(self, model, tests: dict, what: str) -> tuple[dict, dict]:
        """{"scores": by test, "prompt_tokens" and "seconds": a question}, and the answers, by test."""
        scores, texts, started = {}, {}, perf_counter()
        for name, questions in tests.items():
            asked = [messages for messages, _ in questions]
            texts[name] = self.ask(model, asked, self.answer_tokens, f"{what}: {name}")
            pairs = list(zip(texts[name], (expected for _, expected in questions), strict=True))
            f1 = float(np.mean([jargon.token_f1(text, expected) for text, expected in pairs]))
            exact = float(np.mean([jargon.exact_match(text, expected) for text, expected in pairs]))
            scores[name] = {"f1": f1, "exact": exact, "count": len(pairs)}
        count = sum(score["count"] for score in scores.values())
        seconds = (perf_counter() - started) / count
        lengths = [len(self.prompt_ids(messages)) for questions in tests.values() for messages, _ in questions]
        return {"scores": scores, "prompt_tokens": float(np.mean(lengths)), "seconds": seconds}, texts

    def prompt_ids(self, messages: chat.Conversation) -> np.ndarray:
        return self.chat_format.encode(self.tokenizer, messages, add_generation_prompt=True)[0]

    def ask(self, model, conversations: Sequence[chat.Conversation], tokens: int, what: str) -> list[str]:
        with progress_bar(what, len(conversations)) as advance:
            return answers(model, self.tokenizer, conversations, tokens, advance=advance)

    def own_answers(self, asked: list[chat.Conversation]) -> list[chat.Conversation]:
        """The questions with the first sentence of the model's own answer, where that comes to an end: for replay."""
        texts = self.ask(self.model, asked, self.settings.replay_tokens, "its own answers")
        firsts = [first_sentence(text) for text in texts]
        return [answered(q, first) for q, first in zip(asked, firsts, strict=True) if first.endswith((".", "!", "?"))]

    def bits(self, model, stream: TokenStream) -> float:
        return recipes.evaluator(model, stream, self.settings.seq_len, 16)()

    def train(self, batches, notes: list[str], out: Path, learned: dict[str, str]):
        """The adapted model, saved to the folder `adapter`, and how it went. learned: of what, for its model card."""
        settings = self.settings
        adapted = methods.adapt(self.model, "qlora", settings.options, seed=self.seed)
        trainable, _ = recipes.count_parameters(adapted)
        config = replace(settings.train, seed=self.seed)
        history = train(adapted, batches, config, description="fine-tuning by QLoRA")
        record = learned | {"model": self.facts["model"], "method": "qlora", "minilora": __version__, "seed": self.seed}
        record |= {"steps": config.steps, "lr": config.peak_lr, "seq_len": settings.seq_len}
        recipes.save_adapter(adapted, self.tokenizer, out / "adapter", record)
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
            "notes": notes,
        }
