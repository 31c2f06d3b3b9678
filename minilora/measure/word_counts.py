"""Baseline that counts words, without a language model. Any language model ought to beat it.

If scikit-learn is installed (the extra `baseline`): logistic regression on TF-IDF features of words, pairs of words and
2 to 5 characters within a word, which capture endings and misspellings. On tickets, film reviews and news, C = 10 was
no worse than 1, 100, or a choice by cross-validation.

Otherwise: multinomial naive Bayes with add-one smoothing (Manning, Raghavan and Schütze 2008, "Introduction to
Information Retrieval", section 13.2).
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from os.path import commonprefix

import numpy as np

TF_IDF, NAIVE_BAYES = "TF-IDF", "naive Bayes"
MEANING = {
    TF_IDF: "TF-IDF: logistic regression on counts of words and characters.",
    NAIVE_BAYES: "Naive Bayes: install minilora[baseline] for TF-IDF with logistic regression, which is better.",
}


def baseline() -> str:
    """Return the name of the baseline that `predict` uses here."""
    return TF_IDF if find_spec("sklearn") else NAIVE_BAYES


def predict(texts: Sequence[str], labels: Sequence[str], questions: Sequence[str]) -> list[str]:
    """Learn from texts and their labels (at least two different ones), and return the likeliest label per question.

    Leading lines that all texts and questions share, such as an instruction, are left out.
    """
    start = commonprefix([*texts, *questions]).rfind("\n") + 1
    texts, questions = [text[start:] for text in texts], [text[start:] for text in questions]
    return (tf_idf if baseline() == TF_IDF else naive_bayes)(texts, labels, questions)


def tf_idf(texts: Sequence[str], labels: Sequence[str], questions: Sequence[str]) -> list[str]:
    """Predict by logistic regression on TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    # Punctuation marks count as words: a question mark tells a question from a complaint.
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(words, characters), LogisticRegression(C=10, max_iter=1000))
    return model.fit(texts, labels).predict(questions).tolist()


def naive_bayes(texts: Sequence[str], labels: Sequence[str], questions: Sequence[str]) -> list[str]:
    """Predict by naive Bayes over counts of words."""
    names = sorted(set(labels))
    place = {word: i for i, word in enumerate(sorted({word for text in texts for word in _words(text)}))}

    def count(text: str) -> np.ndarray:
        """Count each word of the vocabulary in the text, (V,), ignoring other words."""
        return np.bincount([place[word] for word in _words(text) if word in place], minlength=len(place))

    counts = np.ones((len(names), len(place)))  # (L, V), with add-one smoothing
    for text, label in zip(texts, labels, strict=True):
        counts[names.index(label)] += count(text)
    prior = np.log([labels.count(label) / len(labels) for label in names])  # (L,)
    likelihood = np.log(counts / counts.sum(axis=1, keepdims=True))  # (L, V)
    return [names[(prior + likelihood @ count(text)).argmax()] for text in questions]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
