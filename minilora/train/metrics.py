"""All metrics: bits per character and accuracy on batches, scores of answers in words, confidence intervals, and the
score of a chat model on a task: how often its answer is the expected one, and what a query costs.

    labels   the responses are few and recur (`chat.labels_of`). The answer is the label with the greatest
             log-likelihood after the prompt, including the end of the answer; it is scored by accuracy. For the
             calibrated accuracy, each label's score is reduced by its mean over all measured prompts, which removes the
             model's preference for a word whatever the question (Zhou et al. 2024, "Batch calibration", section 3; Zhao
             et al. 2021, "Calibrate before use", section 4, use a prompt without content instead of the mean). This
             assumes that the labels are about equally frequent.
    answers  the response is free. The model's greedy answer is scored by exact match and F1 of the words (as in SQuAD);
             if the responses are JSON objects, also field by field.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import log, sqrt
from time import perf_counter
from typing import Any

import numpy as np

from minilora.data.batches import chat_windows, evaluation_windows
from minilora.data.chat import ChatTokens, Conversation, response_of
from minilora.data.tokenizer import Tokenizer, TokenStream
from minilora.errors import FormatError, MiniloraError, escape
from minilora.formats.atomic import parse_json
from minilora.tensor import no_grad
from minilora.train.answers import answered as answered  # exported to callers
from minilora.train.answers import answers, check_prompts, label_probabilities, label_scores
from minilora.train.progress import progress_bar
from minilora.train.world import Batch, World, take

LEAST_CALIBRATED = 10  # prompts; the mean over fewer says little about the model


def bits_per_character(
    model: Any,
    batches: Iterable[Batch],
    characters: int,
    world: World | None = None,
    advance: Callable[[], None] = lambda: None,
) -> float:
    """Return -log2 of the probability that a language model assigns to a text, divided by its number of characters.

    Unlike the loss per token, this is comparable between tokenizers. batches: windows that have each token as a label
    once (`data.batches.evaluation_windows`). world: the ranks that share them. advance: called after each batch.
    """
    world, nats, was_training = world or World(), 0.0, model.training
    model.eval()
    try:
        with no_grad():
            for batch in batches:
                if mine := world.share(batch):
                    nats += float(model(**take(batch, mine), num_items_in_batch=1).loss)
                advance()
    finally:
        model.train(was_training)
    return world.sum(nats) / log(2) / characters


def evaluator(
    model: Any,
    stream: TokenStream | ChatTokens,
    seq_len: int,
    batch_size: int,
    bar: str | None = None,
    world: World | None = None,
) -> Callable[[], float]:
    """Return a function that evaluates bits per character on `stream` with the model's current weights.

    In conversations, only the assistant's answers count. bar: the text of a progress bar; None shows none. world: the
    ranks that share the work.
    """

    def evaluate() -> float:
        if isinstance(stream, ChatTokens):
            batches = list(chat_windows(stream, seq_len, batch_size))
        else:
            batches = list(evaluation_windows(stream.ids, seq_len, batch_size))
        with progress_bar(bar or "", len(batches), show=bar is not None) as advance:
            return bits_per_character(model, batches, stream.characters, world, advance)

    return evaluate


# Answers in words: the scores of SQuAD (Rajpurkar et al. 2016, section 6.1, and its evaluation script)


def normalise(text: str) -> str:
    """Reduce to lower case, without punctuation and articles, with single spaces: 'The  cat, a "Tom"!' gives 'cat tom'.

    As in SQuAD's script, a hyphen or an apostrophe leaves no space ("it's" becomes 'its')."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(answer: str, gold: str) -> bool:
    """Return True if an answer equals the expected one, word for word, after `normalise`."""
    return normalise(answer) == normalise(gold)


def token_f1(answer: str, gold: str) -> float:
    """Return the harmonic mean of the precision and recall of the answer's words; repeated words count repeatedly.

    precision = shared / answer and recall = shared / gold, so F1 = 2 shared / (answer + gold); 0 if nothing is shared.
    """
    answer_words, gold_words = Counter(normalise(answer).split()), Counter(normalise(gold).split())
    shared = (answer_words & gold_words).total()
    return 2 * shared / (answer_words.total() + gold_words.total()) if shared else 0.0


def contains(answer: str, accepted: Iterable[str]) -> bool:
    """Return True if an answer contains one of the accepted ones, as whole words after `normalise`.

    'It is Paris.' contains 'paris', but 'a comparison' does not.
    """
    padded = f" {normalise(answer)} "
    return any(f" {words} " in padded for words in map(normalise, accepted) if words)


def json_score(answers: Sequence[str], gold: Sequence[str]) -> dict[str, Any] | None:
    """Compare answers to expected ones that are JSON objects; None if an expected answer is not a JSON object.

    parsed: share of the answers that are JSON objects and nothing else. equal: share of the answers with exactly the
    expected fields and values. fields: for each field, the share of expected objects with it whose answer has the same
    value.
    """
    if any(json_fields(text) is None for text in gold):
        return None
    pairs = [(json_fields(answer), json_fields(text) or {}) for answer, text in zip(answers, gold, strict=True)]
    names = dict.fromkeys(name for _, wanted in pairs for name in wanted)
    same = {n: [(fields or {}).get(n) == wanted[n] for fields, wanted in pairs if n in wanted] for n in names}
    return {
        "parsed": float(np.mean([fields is not None for fields, _ in pairs])),
        "equal": float(np.mean([fields == wanted for fields, wanted in pairs])),
        "fields": {name: float(np.mean(matches)) for name, matches in same.items()},
    }


def json_fields(text: str) -> dict[str, str] | None:
    """Read a JSON object; None if the text is not one. Values are JSON with sorted keys, which tells 1, "1" and true
    apart.
    """
    try:
        return {name: json.dumps(value, sort_keys=True) for name, value in parse_json(text.encode(), "it").items()}
    except FormatError:
        return None


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, `right` of `count` (Wilson 1927): within 0 and 1, valid for small counts."""
    z = 1.96
    share, spread = right / count, z * z / count
    middle = share + spread / 2
    half = z * sqrt(share * (1 - share) / count + spread / count / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


# Tasks


def after(shots: Sequence[Conversation], messages: Conversation) -> Conversation:
    """Return `messages` with the turns of other conversations before them, after the one system message, if any."""
    start = 1 if messages[0]["role"] == "system" else 0
    turns = [turn for shot in shots for turn in shot if turn["role"] != "system"]
    return [*messages[:start], *turns, *messages[start:]]


@dataclass(frozen=True)
class TaskScore:
    """The result of a model on a task.

    kind: "labels", with accuracy, calibrated, majority and confusion, or "answers", with exact, f1, f1_error and
    perhaps json; the other fields are None. Intervals are Wilson's, of 95 %.
    """

    kind: str
    count: int  # conversations measured
    prompt_tokens: float  # tokens per query, on average
    seconds: float  # seconds per query, in batches
    predicted: list[str]  # the model's answer to each conversation
    labels: list[str] | None = None
    probabilities: list[float] | None = None  # probability of each predicted label, among the labels
    accuracy: float | None = None  # between 0 and 1
    accuracy_interval: tuple[float, float] | None = None
    calibrated: float | None = None  # accuracy after calibration; None for fewer than 10 prompts
    calibrated_predicted: list[str] | None = None  # the same after calibration
    calibrated_interval: tuple[float, float] | None = None
    majority: float | None = None  # accuracy of always answering with the most frequent label
    confusion: list[list[int]] | None = None  # counts, expected x predicted, in the order of labels
    exact: float | None = None
    exact_interval: tuple[float, float] | None = None
    f1: float | None = None
    f1_error: float | None = None  # standard error of the mean; None for a single conversation
    json: dict[str, Any] | None = None  # from `json_score`

    def facts(self) -> dict[str, Any]:
        """Return the fields that are not None, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure_task(
    model: Any,
    tokenizer: Tokenizer,
    conversations: Sequence[Conversation],
    *,
    labels: Sequence[str] | None = None,
    shots: Sequence[Conversation] = (),
    max_new_tokens: int = 32,
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda n: None,
) -> TaskScore:
    """Measure how well a chat model gives the last message of each conversation, after those before it.

    labels: the answers to choose from (`chat.labels_of`), which must include every response; None for free answers of
    at most `max_new_tokens`. shots: conversations that begin every prompt, as earlier turns. advance: called with the
    number of conversations just done.

    Raises MiniloraError if there are no conversations, if a response is not one of the labels, if prompts are longer
    than the model's positions, or if the model has no chat format.
    """
    if not conversations:
        raise MiniloraError("there is no conversation to measure")
    expected = [response_of(messages) for messages in conversations]
    prompts = [after(shots, messages[:-1]) for messages in conversations]
    was_training = model.training
    model.eval()
    started = perf_counter()
    try:
        if labels is None:
            lengths = check_prompts(model, tokenizer, prompts, max_new_tokens)
            predicted = answers(model, tokenizer, prompts, max_new_tokens, batch_size, advance)
            score = _score_answers(predicted, expected)
        else:
            if unlabelled := set(expected) - set(labels):
                response = escape(min(unlabelled), 40)
                raise MiniloraError(f"the response {response!r} is not one of the labels {escape(', '.join(labels))}")
            scores, lengths = label_scores(model, tokenizer, prompts, labels, batch_size, advance)
            score = _score_labels(scores, list(labels), expected)
    finally:
        model.train(was_training)
    count = len(expected)
    seconds = (perf_counter() - started) / count
    return TaskScore(count=count, prompt_tokens=float(np.mean(lengths)), seconds=seconds, **score)


def _score_answers(predicted: list[str], expected: list[str]) -> dict[str, Any]:
    """Return the fields of a TaskScore for free answers."""
    pairs, count = list(zip(predicted, expected, strict=True)), len(expected)
    right, f1 = sum(exact_match(*pair) for pair in pairs), [token_f1(*pair) for pair in pairs]
    return {
        "kind": "answers",
        "predicted": predicted,
        "exact": right / count,
        "exact_interval": wilson(right, count),
        "f1": float(np.mean(f1)),
        "f1_error": float(np.std(f1, ddof=1)) / sqrt(count) if count > 1 else None,
        "json": json_score(predicted, expected),
    }


def _score_labels(scores: np.ndarray, labels: list[str], expected: list[str]) -> dict[str, Any]:
    """Return the fields of a TaskScore for labels. scores: (N, L)."""
    count, gold = len(expected), np.array([labels.index(label) for label in expected])
    chosen, calibrated = scores.argmax(axis=1), (scores - scores.mean(axis=0)).argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(confusion, (gold, chosen), 1)
    score = {
        "kind": "labels",
        "predicted": [labels[i] for i in chosen],
        "labels": labels,
        "probabilities": label_probabilities(scores).max(axis=1).tolist(),
        "majority": max(Counter(expected).values()) / count,
        "confusion": confusion.tolist(),
    }
    for name, choice in (("accuracy", chosen), ("calibrated", calibrated)):
        if name == "accuracy" or count >= LEAST_CALIBRATED:
            right = int((choice == gold).sum())
            score |= {name: right / count, f"{name}_interval": wilson(right, count)}
    if "calibrated" in score:
        score["calibrated_predicted"] = [labels[i] for i in calibrated]
    return score
