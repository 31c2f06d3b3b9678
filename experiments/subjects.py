"""Subjects of `compare_model`: a labelled task or a text to learn, and the knowledge that may be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from time import process_time
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from experiments import probe
from experiments.costs import seconds_in_turns
from experiments.retention import questions
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

TOKENS = defaults.BATCH_SIZE * defaults.TEXT_LENGTH  # tokens of text in a batch
TEMPERATURES = 2.0 ** np.arange(-2, 6.25, 0.25)


# Subjects to learn


class LabelledTask:
    """Conversations whose responses are labels, measured by accuracy."""

    training: ClassVar[dict[str, int]] = {}  # steps and batches as `minilora finetune` chooses them

    def __init__(self, settings: ModelSettings):
        self.settings = settings
        self.task = read_task(settings.data)
        if self.task.labels is None:
            raise MiniloraError("--data has free responses: compare methods on labelled conversations, or on a text")
        held_back = min(settings.validation_examples, len(self.task.train) // 3)
        self.held_back = self.task.order(SEED)[:held_back]
        held_back_questions = set(map(chat.question_of, self.held_back))
        train = [one for one in self.task.train if chat.question_of(one) not in held_back_questions]
        self.amounts = tuple(n for n in settings.shots if n <= len(train))
        if len(train) < (least := max(min(settings.shots), 2 * len(self.task.labels))):
            raise MiniloraError(
                f"--data leaves {len(train)} examples to learn from, besides those for the test and for the search of "
                f"learning rates; {least} are needed"
            )
        self.task = replace(self.task, train=train)
        tested = min(settings.test_examples, len(self.task.test))
        self.curve = Curve(
            CurveSettings(settings.model, settings.data, shots=self.amounts, sizes=(), test_examples=tested),
            self.task,
        )
        self.base, self.tokenizer = self.curve.base, self.curve.tokenizer

    def forget_base(self) -> None:
        self.base = self.curve.base = None

    def facts(self) -> dict:
        return {
            "labels": self.task.labels,
            "examples": min(self.settings.examples, len(self.task.train)),  # there may be fewer than the settings say
            "validation_examples": len(self.held_back),
            "tested": len(self.curve.test),
            "train_sha256": chat.sha256(self.task.train),
        }

    def data(self, seed: int) -> Chats:
        none = chat.ChatTokens([], [])
        tokens = self.curve.encode(self.task.order(seed)[: self.settings.examples])
        return Chats(self.settings.data, "", tokens, none, none)

    def validation(self, model: Any, shots: Sequence = ()) -> dict:
        """Return the accuracy, and as the loss the nats per label at the best temperature for the model.

        With few examples, a loss separates learning rates better than accuracy does. The temperature corrects for
        overconfidence, which accuracy ignores (Guo et al. 2017, section 4.2).
        """
        model.eval()
        labels = self.task.labels or []
        questions = [after(shots, one[:-1]) for one in self.held_back]
        scores, _ = label_scores(model, self.tokenizer, questions, labels)
        gold = np.array([labels.index(chat.response_of(one)) for one in self.held_back])
        loss = min(cross_entropy(scores / temperature, gold) for temperature in TEMPERATURES)
        return {"loss": loss, "accuracy": float((scores.argmax(axis=1) == gold).mean())}

    def test(self, model: Any, shots: Sequence = ()) -> dict:
        score = self.curve.score(model, self.curve.test, shots)
        facts = {"calibrated": score.calibrated, "tokens": score.prompt_tokens}
        if shots and score.calibrated_predicted:
            facts["calibrated_right"] = self._graded(score.calibrated_predicted)["right"]
        return self._graded(score.predicted) | facts

    def _graded(self, predicted: Sequence[str]) -> dict:
        """Return the accuracy, and "right": one bit per question, in hexadecimal."""
        expected = map(chat.response_of, self.curve.test)
        right = [answer == label for answer, label in zip(predicted, expected, strict=True)]
        return {"accuracy": float(np.mean(right)), "right": np.packbits(right).tobytes().hex()}

    def probe(self, seed: int) -> dict:
        """Fit a probe on as many examples as a training sees and test it; "seconds" is the time until it is fitted."""
        examples = self.task.order(seed)[: self.settings.examples]
        started = process_time()
        fitted = probe.fit(self._features(examples)[0], list(map(chat.response_of, examples)), seed)
        seconds, head = process_time() - started, fitted[-1]
        tested, tokens = self._tested
        facts = {
            "trainable": head.coef_.size + head.intercept_.size,
            "C": float(head.C),
            "seconds": seconds,
            "tokens": tokens,
        }
        return facts | self._graded(fitted.predict(tested))

    @cached_property
    def _tested(self) -> tuple[np.ndarray, float]:
        return self._features(self.curve.test)

    def _features(self, conversations: Sequence[chat.Conversation]) -> tuple[np.ndarray, float]:
        """Return the probe's features of the questions, (N, C), and the mean number of tokens per question."""
        prompts = self.tokenizer.encode_many(list(map(chat.question_of, conversations)))
        return probe.features(self.base, prompts), float(np.mean(list(map(len, prompts))))

    def query(self, model: Any) -> dict:
        """Return the median milliseconds of a question, asked alone."""
        answer = lambda one: self.curve.score(model, [one])  # noqa: E731
        queries = self.curve.test[: self.curve.settings.timed]
        return {"milliseconds": 1000 * seconds_in_turns({"query": answer}, queries)["query"]}

    def prompted(self, shots: int, seed: int, searching: bool) -> dict:
        chosen = self.task.shots(shots, seed)
        return (self.validation if searching else self.test)(self.base, chosen) | {"shots": shots}


class DomainText:
    """The text of a domain, measured in bits per character. It is read in windows, each by itself, so that a wider
    window gives more context to each token.
    """

    def __init__(self, settings: ModelSettings):
        self.settings = settings
        self.base, self.tokenizer = load.load_model(settings.model)
        self.amounts = self.contexts_before(settings.window)
        self.training = self.in_windows(settings.window)
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

    def contexts_before(self, window: int) -> list[int]:
        """Return the numbers of tokens before a window that fit the model's positions."""
        positions = self.base.config.max_position_embeddings
        return [tokens for tokens in self.settings.contexts if tokens + window <= positions]

    def in_windows(self, window: int) -> dict[str, int]:
        """Return the shape of a training in windows of `window` tokens, with the default number of tokens in all.

        A step has the default number of tokens, too, or one window if that is longer.
        """
        rows = rows_of(window)
        return {"seq_len": window, "batch_size": rows, "steps": self.settings.text_steps * TOKENS // (rows * window)}

    def validation(self, model: Any) -> dict:
        model.eval()
        return {"loss": bits(model, self.held_back, self.settings.window)}

    def test(self, model: Any) -> dict:
        return {"bits": bits(model, self.tested, self.settings.window)}

    def query(self, model: Any) -> dict:
        return {}

    def prompted(self, context: int, seed: int, searching: bool) -> dict:
        """Measure the model with the first `context` tokens of the training text in front of each window."""
        ids, window = self.data(seed).train.ids[:context], self.settings.window
        stream = self.held_back if searching else self.tested
        measured = bits_after(self.base, ids, stream, window, rows_of(window))
        return {"loss" if searching else "bits": measured, "context": context}


def rows_of(window: int) -> int:
    """Return the number of windows in a batch."""
    return max(1, TOKENS // window)


def bits(model: Any, stream: TokenStream, window: int) -> float:
    """Return the bits per character of the stream, read in windows of `window` tokens."""
    return metrics.evaluator(model, stream, window, rows_of(window))()


def cross_entropy(scores: np.ndarray, gold: np.ndarray) -> float:
    """Return the cross-entropy in nats. scores: log-likelihoods (N, L); gold: integers (N,)."""
    scores = scores - scores.max(axis=1, keepdims=True)
    return float((np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(gold)), gold]).mean())


# Knowledge that may be forgotten

QUESTIONS = 60  # how many of the quiz are asked, from the first: as many as in the records of `compare_model`


class GeneralKnowledge:
    """Plain English (the held-out questions of a task) and a quiz: the model's answer is the likeliest of four ends of
    a sentence, so that guessing gets a quarter right.
    """

    def __init__(self, settings: ModelSettings, tokenizer: Any):
        self.window = settings.window
        texts = [chat.question_of(one).rpartition("\n\n")[2] for one in read_task(settings.english).test]
        documents = [corpora.Document(str(i), text) for i, text in enumerate(texts)]
        self.english = encode_documents(tokenizer, corpora.take(documents, settings.validation_characters, 0))
        encode = tokenizer.encode
        self.quiz = [
            Row(encode(beginning), [encode(end) for end in ends]) for beginning, ends in questions()[:QUESTIONS]
        ]

    def measure(self, model: Any) -> dict:
        right = row_scores(model, self.quiz).argmax(axis=1) == 0
        return {"english": bits(model, self.english, self.window), "quiz": float(right.mean())}
