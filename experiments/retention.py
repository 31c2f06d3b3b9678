"""Measuring what an adapted model has kept of its base: plain English, general knowledge, and its predictions.

All three are recorded at every cell of a search, so that methods can be compared where they have learned the same.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from experiments import english
from minilora.data import corpora
from minilora.data.batches import evaluation_windows
from minilora.data.tokenizer import Tokenizer, TokenStream, encode_documents
from minilora.tensor import no_grad
from minilora.train import metrics
from minilora.train.answers import Row, row_scores

QUIZ = Path(__file__).with_name("knowledge.txt")
ENGLISH_CHARACTERS, KL_TOKENS = 12_000, 1_024
WINDOW, ROWS = 128, 8  # tokens of a window that is scored, and windows of a batch


def questions() -> list[tuple[str, list[str]]]:
    """Return a quiz of general knowledge: the beginning of a sentence and four ends of it, the right one first; each
    end begins with a space.
    """
    rows = (line.split("|") for line in QUIZ.read_text("utf-8").splitlines())
    return [(beginning, [f" {end}" for end in ends]) for beginning, *ends in rows]


def log_probabilities(model: Any, ids: np.ndarray) -> np.ndarray:
    """Return the log-probability of each next token, float32 (B, T, V), after the tokens ids (B, T)."""
    with no_grad():
        logits = model(input_ids=ids).logits.numpy()[:, -ids.shape[1] :]  # without the logits of virtual tokens
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def kl_divergence(base: np.ndarray, adapted: np.ndarray) -> float:
    """Return KL(base ‖ adapted) in bits per token: the mean over positions of sum p_base (log p_base - log p_adapted).

    base, adapted: log-probabilities (..., V). Zero where both predict alike; it grows where the adapted model gives
    little to what the base expects.
    """
    return float((np.exp(base) * (base - adapted)).sum(axis=-1, dtype=np.float64).mean() / log(2))


class Retention:
    """The measurements, for one base.

    base: the model before training; it is not used after this call. inputs: held-out text of the new task; the
    predictions of base and adapted model are compared on its first KL_TOKENS tokens.
    """

    def __init__(self, base: Any, tokenizer: Tokenizer, inputs: TokenStream):
        self.english = encode_documents(tokenizer, corpora.take(english.documents(), ENGLISH_CHARACTERS, 0))
        encode = tokenizer.encode
        self.quiz = [Row(encode(beginning), [encode(end) for end in ends]) for beginning, ends in questions()]
        short = inputs.ids[:KL_TOKENS]
        self.windows = [batch["input_ids"] for batch in evaluation_windows(short, WINDOW, 1)]
        base.eval()
        self.expected = [log_probabilities(base, ids) for ids in self.windows]

    def measure(self, model: Any) -> dict:
        """Return "english" in bits per character; "quiz", the share of right answers (guessing: a quarter), and
        "quiz_bits", the mean of -log2 of the right end's share among the four; "quiz_right", a bit per question in
        hexadecimal; "kl" in bits per token.
        """
        model.eval()
        scores = row_scores(model, self.quiz)  # (N, 4)
        right = scores.argmax(axis=1) == 0
        surprise = np.logaddexp.reduce(scores, axis=1) - scores[:, 0]
        pairs: Iterable = zip(self.expected, self.windows, strict=True)
        divergences = [kl_divergence(expected, log_probabilities(model, ids)) for expected, ids in pairs]
        return {
            "english": metrics.evaluator(model, self.english, WINDOW, ROWS)(),
            "quiz": float(right.mean()),
            "quiz_bits": float(surprise.mean() / log(2)),
            "quiz_right": np.packbits(right).tobytes().hex(),
            "kl": float(np.average(divergences, weights=[ids.size for ids in self.windows])),
        }


def level_between(measured: Sequence[float], forgotten: Sequence[float], level: float) -> float | None:
    """Interpolate what a method has forgotten where `measured` rises past `level`, between two neighbouring trainings.

    measured, forgotten: a number for each training, in the order of their learning rates. The first crossing counts: a
    higher rate that learns less again only forgets more. None if the lowest rate is above the level already, or if no
    rate reaches it. A line from the untrained model's (0, 0) would not do below the lowest rate, because forgetting
    does not rise in proportion.
    """
    for (low, before), (high, after) in pairwise(zip(measured, forgotten, strict=True)):
        if low <= level <= high:
            share = (level - low) / (high - low) if high > low else 0.0
            return before + share * (after - before)
    return None


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation of x (N,) and y (N,), without ties."""
    return float(np.corrcoef(x.argsort().argsort(), y.argsort().argsort())[0, 1])


def rising_curve(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return for each of x (N,) the value of the curve that never falls and is nearest to y (N,) in least squares:
    neighbours in the wrong order are put together at their mean (Barlow et al. 1972, pool adjacent violators).
    """
    blocks: list[tuple[float, int]] = []  # mean and number of points
    for value in y[x.argsort(kind="stable")]:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (b, n), (a, m) = blocks.pop(), blocks.pop()
            blocks.append(((a * m + b * n) / (m + n), m + n))
    curve = np.empty(len(y))
    curve[x.argsort(kind="stable")] = np.repeat([mean for mean, _ in blocks], [count for _, count in blocks])
    return curve
