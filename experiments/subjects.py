"""What a published model learns, in `compare_model`: a task with labels, or a text; and what it may forget by that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.costs import seconds_in_turns
from minilora.data import chat, corpora
from minilora.data.tokenizer import TokenStream, encode_documents
from minilora.errors import MiniloraError, print_notes
from minilora.measure.curve import Curve, CurveSettings, read_task
from minilora.measure.lr_search import SEED
from minilora.train import defaults, load, metrics
from minilora.train.answers import Row, label_scores, row_scores
from minilora.train.metrics import after
from minilora.train.text import Chats, Text
from notebooks.figures.few_shot import bits_after

if TYPE_CHECKING:
    from experiments.compare_model import ModelSettings

TEMPERATURES = 2.0 ** np.arange(-2, 6.25, 0.25)


# What is learned


class LabelledTask:
    """Conversations whose responses are labels; accuracy counts."""

    steps = None  # as `minilora finetune` has it

    def __init__(self, settings: ModelSettings):
        self.settings = settings
        self.task = read_task(settings.data)
        if self.task.labels is None:
            raise MiniloraError("--data has free responses: methods are compared on labels, or on a text")
        self.amounts = settings.shots
        held_back = min(settings.validation_examples, len(self.task.train) // 3)
        self.held_back = self.task.order(SEED)[:held_back]
        known = set(map(chat.question_of, self.held_back))
        train = [one for one in self.task.train if chat.question_of(one) not in known]
        if len(train) < (least := max(*settings.shots, 2 * len(self.task.labels))):
            raise MiniloraError(
                f"--data leaves {len(train)} examples to learn from, beside the test and those that learning rates are "
                f"chosen by: give enough for {least}"
            )
        self.task = replace(self.task, train=train)
        tested = min(settings.test_examples, len(self.task.test))
        self.curve = Curve(
            CurveSettings(settings.model, settings.data, shots=settings.shots, sizes=(), test_examples=tested),
            self.task,
        )
        self.base, self.tokenizer = self.curve.base, self.curve.tokenizer

    def forget_base(self) -> None:
        self.base = self.curve.base = None

    def facts(self) -> dict:
        return {
            "labels": self.task.labels,
            "examples": min(self.settings.examples, len(self.task.train)),  # there may be fewer than were asked for
            "validation_examples": len(self.held_back),
            "tested": len(self.curve.test),
            "train_sha256": chat.sha256(self.task.train),
        }

    def data(self, seed: int) -> Chats:
        none = chat.ChatTokens([], [])
        tokens = self.curve.encode(self.task.order(seed)[: self.settings.examples])
        return Chats(self.settings.data, "", tokens, none, none)

    def validation(self, model: Any, shots: Sequence = ()) -> dict:
        """accuracy; and loss: nats per label at the temperature that suits the model best.

        A few examples decide between learning rates better by a loss than by accuracy. Where a model is too sure of
        itself, which accuracy does not see, the temperature takes that off (Guo et al. 2017, section 4.2).
        """
        model.eval()
        labels = self.task.labels or []
        asked = [after(shots, one[:-1]) for one in self.held_back]
        scores, _ = label_scores(model, self.tokenizer, asked, labels)
        gold = np.array([labels.index(chat.response_of(one)) for one in self.held_back])
        loss = min(cross_entropy(scores / temperature, gold) for temperature in TEMPERATURES)
        return {"loss": loss, "accuracy": float((scores.argmax(axis=1) == gold).mean())}

    def test(self, model: Any, shots: Sequence = ()) -> dict:
        """right: a bit per question, in hexadecimal."""
        score = self.curve.score(model, self.curve.test, shots)
        pairs = zip(score.predicted, map(chat.response_of, self.curve.test), strict=True)
        right = np.packbits([found == expected for found, expected in pairs]).tobytes().hex()
        return {
            "accuracy": score.accuracy,
            "calibrated": score.calibrated,
            "tokens": score.prompt_tokens,
            "right": right,
        }

    def query(self, model: Any) -> dict:
        """Return the median time of one question at a time."""
        ask = lambda one: self.curve.score(model, [one])  # noqa: E731
        queries = self.curve.test[: self.curve.settings.timed]
        return {"milliseconds": 1000 * seconds_in_turns({"query": ask}, queries)["query"]}

    def prompted(self, shots: int, seed: int, searching: bool) -> dict:
        chosen = self.task.shots(shots, seed)
        return (self.validation if searching else self.test)(self.base, chosen) | {"shots": shots}


class DomainText:
    """The text of a domain; bits per character count."""

    def __init__(self, settings: ModelSettings):
        self.settings = settings
        self.base, self.tokenizer = load.load_model(settings.model)
        self.steps = settings.text_steps
        self.amounts = settings.contexts
        self.corpus = corpora.load(settings.data)
        print_notes(self.corpus.notes)
        self.parts = corpora.split(self.corpus)
        self.held_back = self._stream(self.parts.validation, settings.validation_characters)
        self.tested = self._stream(self.parts.test, settings.test_characters)

    def forget_base(self) -> None:
        self.base = None

    def facts(self) -> dict:
        return {"text_sha256": self.corpus.sha256}

    def _stream(self, documents: Sequence[corpora.Document], characters: int, seed: int = 0) -> TokenStream:
        return encode_documents(self.tokenizer, corpora.take(documents, characters, seed))

    def data(self, seed: int) -> Text:
        none = TokenStream(np.empty(0, dtype=np.int64), 0)
        train = self._stream(self.parts.train, self.settings.characters, seed)
        return Text(self.corpus.name, self.corpus.sha256, train, none, none)

    def validation(self, model: Any) -> dict:
        model.eval()
        return {"loss": bits(model, self.held_back)}

    def test(self, model: Any) -> dict:
        return {"bits": bits(model, self.tested)}

    def query(self, model: Any) -> dict:
        return {}

    def prompted(self, context: int, seed: int, searching: bool) -> dict:
        ids = self.data(seed).train.ids[:context]
        stream = self.held_back if searching else self.tested
        found = bits_after(self.base, ids, stream, defaults.TEXT_LENGTH, defaults.BATCH_SIZE)
        return {"loss" if searching else "bits": found, "context": context}


def bits(model: Any, stream: TokenStream) -> float:
    """Return bits per character."""
    return metrics.evaluator(model, stream, defaults.TEXT_LENGTH, defaults.BATCH_SIZE)()


def cross_entropy(scores: np.ndarray, gold: np.ndarray) -> float:
    """scores: log-likelihoods (N, L); gold: integers (N,). Nats."""
    scores = scores - scores.max(axis=1, keepdims=True)
    return float((np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(gold)), gold]).mean())


# What is forgotten

QUIZ = Path(__file__).with_name("knowledge.txt")


def questions() -> list[tuple[str, list[str]]]:
    """Return a small quiz of general knowledge: the beginning of a sentence and four ends of it, the right one first;
    each end begins with a space.
    """
    rows = (line.split("|") for line in QUIZ.read_text("utf-8").splitlines())
    return [(beginning, [f" {end}" for end in ends]) for beginning, *ends in rows]


class GeneralKnowledge:
    """Plain English, the held-out questions of a task, and the quiz, where a model's answer is the end that it finds
    likeliest after the beginning; guessing gets a quarter right.
    """

    def __init__(self, settings: ModelSettings, tokenizer: Any):
        texts = [chat.question_of(one).rpartition("\n\n")[2] for one in read_task(settings.english).test]
        documents = [corpora.Document(str(i), text) for i, text in enumerate(texts)]
        self.english = encode_documents(tokenizer, corpora.take(documents, settings.validation_characters, 0))
        encode = tokenizer.encode
        self.quiz = [Row(encode(beginning), [encode(end) for end in ends]) for beginning, ends in questions()]

    def measure(self, model: Any) -> dict:
        found = row_scores(model, self.quiz).argmax(axis=1) == 0
        return {"english": bits(model, self.english), "quiz": float(found.mean())}
