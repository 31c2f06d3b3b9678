"""Naive Bayes over counts of words: what a task takes that no language model is needed for.

Multinomial, with one added to each count (Manning, Raghavan and Schütze 2008, "Introduction to Information Retrieval",
section 13.2). It trains in milliseconds, and each word speaks for itself.
"""

import re
from collections.abc import Sequence

import numpy as np


class NaiveBayes:
    """Trained on texts and the label of each; labels that never occur are never chosen."""

    def __init__(self, texts: Sequence[str], labels: Sequence[str]):
        self.labels = sorted(set(labels))
        self.place = {word: i for i, word in enumerate(sorted({word for text in texts for word in _words(text)}))}
        counts = np.ones((len(self.labels), len(self.place)))  # (L, V), with Laplace's one
        for text, label in zip(texts, labels, strict=True):
            counts[self.labels.index(label)] += self.count(text)
        self.prior = np.log([labels.count(label) / len(labels) for label in self.labels])  # (L,)
        self.likelihood = np.log(counts / counts.sum(axis=1, keepdims=True))  # (L, V)

    def count(self, text: str) -> np.ndarray:
        """Count how often each word of the vocabulary is in the text, (V,); other words do not count."""
        places = [self.place[word] for word in _words(text) if word in self.place]
        return np.bincount(places, minlength=len(self.place))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the likeliest label of each text."""
        return [self.labels[(self.prior + self.likelihood @ self.count(text)).argmax()] for text in texts]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
