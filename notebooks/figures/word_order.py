"""A labelled task that anyone can judge: is a sentence as it was written, or are its words mixed up?

The sentences are first sentences of NumPy's docstrings, which the package's base has never read. Each is used once, in
one of the two classes, so that the words say nothing about the class and only their order does. Beside the task stand
the learners that lesson 01 compares: one that asks a language model how surprised it is, and two that have nothing but
the labels.
"""

from collections import Counter
from collections.abc import Sequence
from math import log

import numpy as np

from minilora import threads
from minilora.data import corpora
from minilora.data.tokenizer import Tokenizer
from minilora.models.llama import LlamaConfig, LlamaForSequenceClassification
from minilora.tensor import no_grad
from minilora.train.forgetting import first_sentence
from minilora.train.loop import TrainConfig, train

from .labelled import ClassificationBatches, Example, Task, accuracy, classification_windows

CLASSES = ("as written", "mixed up")
TEST = 0.3  # the share of all groups
SHORTEST, LONGEST = 8, 20  # words: fewer leave too little to mix, more are lists


def load_word_order(seed: int = 0) -> Task:
    """Make the task. `seed` draws which sentences are shuffled, and how. The methods of one class stay in one part."""
    places: dict[str, tuple[str, float]] = {}  # by sentence, upper and lower case alike
    for document in corpora.load("numpy-docs").documents:
        if sentence := _sentence(document):
            places.setdefault(sentence.lower(), (sentence, corpora.place(document.group or document.name)))
    rng, parts = np.random.default_rng(seed), []
    for is_test in (False, True):
        sentences = [sentence for sentence, at in places.values() if (at < TEST) == is_test]
        half = len(sentences) // 2
        chosen = [sentences[i] for i in rng.permutation(len(sentences))]
        written = [Example(sentence, 0) for sentence in chosen[:half]]
        mixed = [Example(mix_up(sentence, rng), 1) for sentence in chosen[half : 2 * half]]
        parts.append([example for pair in zip(written, mixed, strict=True) for example in pair])
    return Task("word-order", CLASSES, parts[0], [], parts[1])


def _sentence(document: corpora.Document) -> str:
    """Return the first sentence if it is prose of a suitable length, else nothing."""
    sentence = first_sentence(document.text)
    is_prose = sentence.endswith(".") and ">>>" not in sentence and "(" not in sentence
    words = sentence.split()
    return sentence if is_prose and SHORTEST <= len(words) <= LONGEST and len(set(words[1:-1])) > 1 else ""


def mix_up(sentence: str, rng: np.random.Generator) -> str:
    """Shuffle the words of a sentence; the first and the last stay in place."""
    first, *inner, last = sentence.split()
    order = inner
    while order == inner:
        order = [inner[i] for i in rng.permutation(len(inner))]
    return " ".join([first, *order, last])


# The surprise of a language model


def model_bits(model, tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Return the bits of each text (N,) under a language model, read after the end of another text."""

    def bits(text: str) -> float:
        ids = np.concatenate([[tokenizer.eos_token_id], tokenizer.encode(text)])[None]  # (1, T)
        with no_grad():
            return float(model(ids, labels=ids).loss.item()) * (ids.size - 1) / log(2)

    return np.array(threads.side_by_side(bits, texts))


def frequency_bits(tokenizer: Tokenizer, texts: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Return the bits of each text (N,) for a reader who knows only each token's frequency in the texts `known`."""
    counts = np.ones(tokenizer.vocab_size)  # one each, so that nothing is impossible
    for ids in tokenizer.encode_many(known):
        np.add.at(counts, ids, 1)
    bits = -np.log2(counts / counts.sum())
    return np.array([bits[ids].sum() for ids in tokenizer.encode_many(texts)])


# Learners that have nothing but the labels


def by_pairs(tokenizer: Tokenizer, examples: Sequence[Example], texts: Sequence[str]) -> np.ndarray:
    """Predict the class of each text (N,) by how often each class's examples have its pairs of neighbouring tokens."""
    counts: list[Counter[tuple[int, int]]] = [Counter(), Counter()]
    for example, ids in zip(examples, tokenizer.encode_many([e.text for e in examples]), strict=True):
        counts[example.label].update(_pairs(ids))
    scores = [
        sum(log((counts[1][pair] + 0.5) / (counts[0][pair] + 0.5)) for pair in _pairs(ids))
        for ids in tokenizer.encode_many(texts)
    ]
    return (np.array(scores) > 0).astype(int)


def _pairs(ids: np.ndarray) -> list[tuple[int, int]]:
    tokens = [-1, *map(int, ids), -1]  # -1: where the sentence begins and ends
    return list(zip(tokens, tokens[1:], strict=False))


def network_from_scratch(
    config: LlamaConfig,
    tokenizer: Tokenizer,
    train_on: Sequence[Example],
    test_on: Sequence[Example],
    training: TrainConfig,
) -> tuple[float, float]:
    """Return the accuracies (training, test) of a network that starts from random weights and has seen
    nothing but the labelled examples. Everything random is drawn from training.seed.
    """
    classifier = LlamaForSequenceClassification(
        LlamaConfig(**{**vars(config), "num_labels": len(CLASSES)}), seed=training.seed
    )
    sets = [(tokenizer.encode_many([e.text for e in part]), [e.label for e in part]) for part in (train_on, test_on)]
    longest, pad = config.max_position_embeddings, tokenizer.eos_token_id
    batches = ClassificationBatches(*sets[0], min(16, len(train_on)), longest, training.seed, pad)
    train(classifier, batches, training, show_progress=False)
    seen, unseen = (accuracy(classifier, classification_windows(ids, labels, longest, 64, pad)) for ids, labels in sets)
    return seen, unseen
