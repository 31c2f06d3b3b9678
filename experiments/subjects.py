"""What a published model learns, in `compare_model`: a task with labels, or a text; and what it may forget by that."""

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

TOKENS = defaults.BATCH_SIZE * defaults.TEXT_LENGTH  # of a text in a batch
TEMPERATURES = 2.0 ** np.arange(-2, 6.25, 0.25)


# What is learned


class LabelledTask:
    """Conversations whose responses are labels; accuracy counts."""

    training: ClassVar[dict[str, int]] = {}  # its steps and batches are those of `minilora finetune`

    def __init__(self, settings: ModelSettings):
        self.settings = settings
        self.task = read_task(settings.data)
        if self.task.labels is None:
            raise MiniloraError("--data has free responses: methods are compared on labels, or on a text")
        held_back = min(settings.validation_examples, len(self.task.train) // 3)
        self.held_back = self.task.order(SEED)[:held_back]
        known = set(map(chat.question_of, self.held_back))
        train = [one for one in self.task.train if chat.question_of(one) not in known]
        self.amounts = tuple(n for n in settings.shots if n <= len(train))
        if len(train) < (least := max(min(settings.shots), 2 * len(self.task.labels))):
            raise MiniloraError(
                f"--data leaves {len(train)} examples to learn from, beside the test and those that learning rates are "
                f"chosen by: give enough for {least}"
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
        score = self.curve.score(model, self.curve.test, shots)
        known = {"calibrated": score.calibrated, "tokens": score.prompt_tokens}
        if shots and score.calibrated_predicted:
            known["calibrated_right"] = self._graded(score.calibrated_predicted)["right"]
        return self._graded(score.predicted) | known

    def _graded(self, predicted: Sequence[str]) -> dict:
        """accuracy; and right: a bit per question, in hexadecimal."""
        expected = map(chat.response_of, self.curve.test)
        right = [answer == label for answer, label in zip(predicted, expected, strict=True)]
        return {"accuracy": float(np.mean(right)), "right": np.packbits(right).tobytes().hex()}

    def probe(self, seed: int) -> dict:
        """Learn as many examples as a training does, from their texts alone; seconds: until the probe is fitted."""
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

    def _features(self, asked: Sequence[chat.Conversation]) -> tuple[np.ndarray, float]:
        """Return what a probe sees of the questions, (N, C), and how many tokens one has on average."""
        prompts = self.tokenizer.encode_many(list(map(chat.question_of, asked)))
        return probe.features(self.base, prompts), float(np.mean(list(map(len, prompts))))

    def query(self, model: Any) -> dict:
        """Return the median time of one question at a time."""
        ask = lambda one: self.curve.score(model, [one])  # noqa: E731
        queries = self.curve.test[: self.curve.settings.timed]
        return {"milliseconds": 1000 * seconds_in_turns({"query": ask}, queries)["query"]}

    def prompted(self, shots: int, seed: int, searching: bool) -> dict:
        chosen = self.task.shots(shots, seed)
        return (self.validation if searching else self.test)(self.base, chosen) | {"shots": shots}


class DomainText:
    """The text of a domain; bits per character count. It is read in windows of so many tokens, each by itself: a token
    is predicted from those before it in its window, so that a wider window is more context.
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
        """Return the numbers of tokens in front of a window for which the model has positions."""
        positions = self.base.config.max_position_embeddings
        return [tokens for tokens in self.settings.contexts if tokens + window <= positions]

    def in_windows(self, window: int) -> dict[str, int]:
        """Return the shape of a training in windows of so many tokens: as many tokens a step as by default, or a whole
        window where that is more, and as many tokens in all.
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
        """Measure the model after `context` tokens of the text to learn from, in front of each window."""
        ids, window = self.data(seed).train.ids[:context], self.settings.window
        stream = self.held_back if searching else self.tested
        found = bits_after(self.base, ids, stream, window, rows_of(window))
        return {"loss" if searching else "bits": found, "context": context}


def rows_of(window: int) -> int:
    """Number of windows in a batch."""
    return max(1, TOKENS // window)


def bits(model: Any, stream: TokenStream, window: int) -> float:
    """Return bits per character in windows of so many tokens."""
    return metrics.evaluator(model, stream, window, rows_of(window))()


def cross_entropy(scores: np.ndarray, gold: np.ndarray) -> float:
    """scores: log-likelihoods (N, L); gold: integers (N,). Nats."""
    scores = scores - scores.max(axis=1, keepdims=True)
    return float((np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(gold)), gold]).mean())


# What is forgotten

ASKED = 60  # questions of the quiz, the first: as many as the records of `compare_model` have


class GeneralKnowledge:
    """Plain English, the held-out questions of a task, and the quiz, where a model's answer is the end that it finds
    likeliest after the beginning; guessing gets a quarter right.
    """

    def __init__(self, settings: ModelSettings, tokenizer: Any):
        self.window = settings.window
        texts = [chat.question_of(one).rpartition("\n\n")[2] for one in read_task(settings.english).test]
        documents = [corpora.Document(str(i), text) for i, text in enumerate(texts)]
        self.english = encode_documents(tokenizer, corpora.take(documents, settings.validation_characters, 0))
        encode = tokenizer.encode
        self.quiz = [Row(encode(beginning), [encode(end) for end in ends]) for beginning, ends in questions()[:ASKED]]

    def measure(self, model: Any) -> dict:
        found = row_scores(model, self.quiz).argmax(axis=1) == 0
        return {"english": bits(model, self.english, self.window), "quiz": float(found.mean())}
