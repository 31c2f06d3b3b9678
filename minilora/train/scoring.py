"""Measuring a task: how often a chat model's answer is the expected one, and what a query costs.

    labels   the responses are few and recur (`chat.labels_of`): the answer is the label of the greatest log-likelihood,
             of its tokens and the end of the answer after the prompt; accuracy counts. Calibrated: each label's score
             minus its mean over all measured prompts, which takes off the model's liking for a word whatever is asked
             (Zhou et al. 2024, "Batch calibration", section 3; Zhao et al. 2021, "Calibrate before use", section 4,
             take a prompt without content in place of the mean). It supposes labels of about equal frequency.
    answers  the response is free: the model's greedy answer, by exact match and F1 of the words (SQuAD's).

What all prompts begin with (a system message, examples) is read once into a cache of keys and values; each prompt's own
rest is read once for all labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import sqrt
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from minilora import backend, threads
from minilora.data import chat
from minilora.data.batches import pad_rows, padded_left
from minilora.data.chat import Conversation, response_of
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, escape
from minilora.models.cache import KVCache
from minilora.tensor import no_grad
from minilora.train.answers import answers
from minilora.train.metrics import exact_match, token_f1, wilson
from minilora.train.world import split_rows

LEAST_CALIBRATED = 10  # prompts; the mean over fewer says little about the model


def answered(messages: Conversation, answer: str) -> Conversation:
    return [*messages, {"role": "assistant", "content": answer}]


def after(shots: Sequence[Conversation], messages: Conversation) -> Conversation:
    """The messages after the turns of other conversations. There is one system message, and it comes first."""
    start = 1 if messages[0]["role"] == "system" else 0
    turns = [turn for shot in shots for turn in shot if turn["role"] != "system"]
    return [*messages[:start], *turns, *messages[start:]]


@dataclass(frozen=True)
class TaskScore:
    """Result of a model on a task.

    kind: "labels", for which accuracy, calibrated, majority and confusion are known, or "answers", for which exact, f1
    and f1_error are; the others are None. An interval is Wilson's, of 95 %.
    """

    kind: str
    count: int  # conversations measured
    prompt_tokens: float  # per query, on average
    seconds: float  # per query, in batches
    predicted: list[str]  # by conversation
    labels: list[str] | None = None
    accuracy: float | None = None  # share of 1
    accuracy_interval: tuple[float, float] | None = None
    calibrated: float | None = None  # accuracy after calibration; None for fewer than 10 prompts
    calibrated_interval: tuple[float, float] | None = None
    majority: float | None = None  # accuracy of whoever always says the most frequent label
    confusion: list[list[int]] | None = None  # counts, expected x predicted, in the order of labels
    exact: float | None = None
    exact_interval: tuple[float, float] | None = None
    f1: float | None = None
    f1_error: float | None = None  # standard error of the mean; None for a single conversation

    def facts(self) -> dict[str, Any]:
        """Return what is known, for JSON."""
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
    """Measure how well a chat model gives the last message of each conversation after those before it.

    labels: the answers to choose from (`chat.labels_of`), which hold every response; None for free answers, of at most
    `max_new_tokens`. shots: conversations that come first in every prompt, as earlier turns. advance: is
    told of conversations as they are done.

    MiniloraError for no conversation, for fewer than two labels, for a response that is none of them, for prompts that
    pass the model's positions, and for a model without a chat format.
    """
    if not conversations:
        raise MiniloraError("there is no conversation to measure")
    expected = [response_of(messages) for messages in conversations]
    asked = [after(shots, messages[:-1]) for messages in conversations]
    was_training = model.training
    model.eval()
    started = perf_counter()
    try:
        if labels is None:
            lengths = check_prompts(model, tokenizer, asked, max_new_tokens)
            found = answers(model, tokenizer, asked, max_new_tokens, batch_size, advance)
            return _answers_score(found, expected, lengths, started)
        check_labels(labels, expected)
        scores, lengths = label_scores(model, tokenizer, asked, labels, batch_size, advance)
    finally:
        model.train(was_training)
    return _labels_score(scores, list(labels), expected, lengths, started)


def _answers_score(found: list[str], expected: list[str], lengths: Sequence[int], started: float) -> TaskScore:
    pairs = list(zip(found, expected, strict=True))
    right = sum(exact_match(*pair) for pair in pairs)
    f1 = [token_f1(*pair) for pair in pairs]
    count = len(pairs)
    return TaskScore(
        kind="answers",
        count=count,
        prompt_tokens=float(np.mean(lengths)),
        seconds=(perf_counter() - started) / count,
        predicted=found,
        exact=right / count,
        exact_interval=wilson(right, count),
        f1=float(np.mean(f1)),
        f1_error=float(np.std(f1, ddof=1)) / sqrt(count) if count > 1 else None,
    )


def _labels_score(
    scores: np.ndarray, labels: list[str], expected: list[str], lengths: Sequence[int], started: float
) -> TaskScore:
    """scores: (N, L)."""
    count, number = len(expected), {label: i for i, label in enumerate(labels)}
    gold, chosen = np.array([number[label] for label in expected]), scores.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(confusion, (gold, chosen), 1)
    right = int((chosen == gold).sum())
    calibrated = int(((scores - scores.mean(axis=0)).argmax(axis=1) == gold).sum())
    enough = count >= LEAST_CALIBRATED
    return TaskScore(
        kind="labels",
        count=count,
        prompt_tokens=float(np.mean(lengths)),
        seconds=(perf_counter() - started) / count,
        predicted=[labels[i] for i in chosen],
        labels=labels,
        accuracy=right / count,
        accuracy_interval=wilson(right, count),
        calibrated=calibrated / count if enough else None,
        calibrated_interval=wilson(calibrated, count) if enough else None,
        majority=max(Counter(expected).values()) / count,
        confusion=confusion.tolist(),
    )


# What can be measured


def check_labels(labels: Sequence[str], expected: Sequence[str]) -> None:
    if len(set(labels)) < max(2, len(labels)):
        raise MiniloraError(f"labels to choose from must be at least two, each once, not {escape(', '.join(labels))}")
    if strange := sorted(set(expected) - set(labels)):
        raise MiniloraError(
            f"the response {escape(strange[0], 40)!r} is none of the labels {escape(', '.join(labels))}"
        )


def check_prompts(model: Any, tokenizer: Tokenizer, asked: Sequence[Conversation], more: int) -> list[int]:
    """The tokens of each prompt. MiniloraError where one and `more` tokens after it pass the model's positions."""
    chat_format = chat.find_format(tokenizer)
    lengths = [len(ids) for ids, _ in chat_format.encode_many(tokenizer, asked, add_generation_prompt=True)]
    _check_length(model, max(lengths), more)
    return lengths


def _check_length(model: Any, prompt: int, answer: int) -> None:
    virtual, limit = model.body.virtual_tokens, model.config.max_position_embeddings
    if virtual + prompt + answer > limit:
        words = f"{virtual} virtual tokens, " if virtual else ""
        raise MiniloraError(
            f"{words}a prompt of {prompt:,} tokens and an answer of {answer:,} pass the model's {limit:,} positions: "
            "give fewer shots, or shorter messages and responses"
        )


# The likelihood of labels


class Row(NamedTuple):
    """A prompt and what may come after it."""

    prompt: np.ndarray  # token ids (P,)
    answers: list[np.ndarray]  # those that come after it, to the end of the answer, by label


def label_scores(
    model: Any,
    tokenizer: Tokenizer,
    asked: Sequence[Conversation],
    labels: Sequence[str],
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[np.ndarray, list[int]]:
    """The log-likelihood of each label, with the token that ends the answer, after each prompt, float64 (N, L), and the
    prompts' tokens. Prompts of about one length make a batch.
    """
    chat_format = chat.find_format(tokenizer)
    told = [answered(messages, label) for messages in asked for label in labels]
    encoded = chat_format.encode_many(tokenizer, told)
    rows = [_row(encoded[first : first + len(labels)]) for first in range(0, len(encoded), len(labels))]
    return row_scores(model, rows, batch_size, advance), [len(row.prompt) for row in rows]


def row_scores(
    model: Any, rows: Sequence[Row], batch_size: int = 16, advance: Callable[[int], None] = lambda n: None
) -> np.ndarray:
    """The log-likelihood of each answer after the prompt of its row, float64 (N, answers of a row)."""
    lengths = [len(row.prompt) for row in rows]
    _check_length(model, max(lengths), max(len(ids) for row in rows for ids in row.answers))
    shared = min(common_prefix([row.prompt for row in rows]), min(lengths) - 1)  # a token stays to predict from
    shared = shared if len(rows) > 1 else 0  # what one prompt begins with is not read apart
    base = getattr(model, "base_model", model)
    prefix = threads.side_by_side(partial(_read, base), [rows[0].prompt[:shared]])[0]
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    scores = np.empty((len(rows), len(rows[0].answers)))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        runs = split_rows(range(len(chosen)), min(threads.count(), len(chosen)))
        parts = [[rows[i] for i in chosen[run.start : run.stop]] for run in runs]
        found = threads.side_by_side(partial(_batch_scores, base, prefix, shared), parts)
        scores[chosen] = np.concatenate(found)
        advance(len(chosen))
    if np.isnan(scores).any():
        raise MiniloraError(
            "the likelihoods are no numbers: the model's weights or an adapter's strength are of no use"
        )
    return scores


def _row(encoded: Sequence[tuple[np.ndarray, np.ndarray]]) -> Row:
    """encoded: ids and mask of the prompt with each label. The prompt ends where an answer begins, or earlier, where a
    label's first token has text of the prompt in it.
    """
    whole, starts = [], []
    for ids, mask in encoded:
        end = int(np.flatnonzero(mask)[-1]) + 1
        starts.append(int(np.flatnonzero(~mask[:end])[-1]) + 1)
        whole.append(ids[:end])
    start = min(*starts, common_prefix(whole))
    return Row(whole[0][:start], [ids[start:] for ids in whole])


def common_prefix(rows: Sequence[np.ndarray]) -> int:
    """Count the tokens that all rows begin with."""
    shortest = min(map(len, rows))
    same = np.all([row[:shortest] == rows[0][:shortest] for row in rows], axis=0)
    return shortest if same.all() else int(same.argmin())


def _read(model: Any, ids: np.ndarray) -> KVCache:
    """A cache of one sequence that has read `ids` (T,), and the virtual tokens before them; empty where T is 0."""
    cache = KVCache(model.body.virtual_tokens + len(ids))
    if len(ids):
        with no_grad():
            model.body(ids[None], past_key_values=cache)
    return cache


def _batch_scores(model: Any, prefix: KVCache, shared: int, rows: list[Row]) -> np.ndarray:
    """(B, L). prefix: has read the first `shared` tokens of every prompt."""
    part = padded_left([row.prompt[shared:] for row in rows])  # (B, T)
    most = max(len(ids) for row in rows for ids in row.answers)
    mask = np.concatenate([np.ones((len(rows), shared), dtype=np.int64), part["attention_mask"]], axis=1)
    cache = prefix.expanded(len(rows), part["input_ids"].shape[1] + most)
    scores = np.empty((len(rows), len(rows[0].answers)))
    with no_grad():
        last = model.body(part["input_ids"], mask, cache)[:, -1:]  # (B, 1, C), predicts the answer's first token
        read, first = cache.length, _log_probabilities(model, last)
        for label in range(scores.shape[1]):
            ids, real = pad_rows([row.answers[label] for row in rows], 0)  # (B, M)
            found = [first]
            if ids.shape[1] > 1:
                cache.length = read  # forget the label before
                hidden = model.body(ids[:, :-1], np.concatenate([mask, real[:, :-1]], axis=1), cache)
                found.append(_log_probabilities(model, hidden))
            tokens = np.take_along_axis(np.concatenate(found, axis=1), ids[..., None], axis=2)[..., 0]  # (B, M)
            scores[:, label] = (tokens * real).sum(axis=1)
    return scores


def _log_probabilities(model: Any, hidden: Any) -> np.ndarray:
    """(B, T, C) -> (B, T, V), float64 on the host."""
    logits = backend.to_numpy(model.logits(hidden).data).astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits
