"""pytest tests/show/test_word_order.py: the task of lesson 01 and the learners that it compares."""

from collections import Counter

import numpy as np
import pytest

from minilora import threads
from minilora.data import corpora
from minilora.models.llama import LlamaConfig
from minilora.train import load
from minilora.train.loop import TrainConfig
from notebooks.figures import word_order


@pytest.fixture(scope="module")
def task():
    return word_order.load_word_order()


@pytest.fixture(scope="module")
def base():
    return load.load_model("base")


@pytest.mark.host
def test_the_task_mixes_up_the_order_of_the_words_of_half_its_sentences_and_nothing_else(task):
    written = {}
    for document in corpora.load("numpy-docs").documents:
        if sentence := word_order._sentence(document):
            written[tuple(sorted(sentence.lower().split()))] = sentence.lower()
    for part in (task.train, task.test):
        assert Counter(example.label for example in part)[0] == len(part) / 2 >= 60
    bags = Counter(tuple(sorted(example.text.lower().split())) for example in (*task.train, *task.test))
    assert max(bags.values()) == 1  # no sentence stands twice
    for text, label in (*task.train, *task.test):
        original, now = written[tuple(sorted(text.lower().split()))].split(), text.lower().split()
        assert (now == original) == (label == 0)
        assert (now[0], now[-1]) == (original[0], original[-1])


@pytest.mark.host
def test_frequency_bits_are_of_the_tokens_alone(base, task):
    known = [example.text for example in task.train]
    often, rare, twice = word_order.frequency_bits(base[1], [" the", " zebra", " the the"], known)
    assert 0 < often < rare and twice == pytest.approx(2 * often)


@pytest.mark.slow
def test_the_base_is_more_surprised_by_what_is_mixed_up(task):
    texts = [example.text for example in task.test if example.label == 0][:12]
    mixed = [word_order.mix_up(text, np.random.default_rng(0)) for text in texts]
    with threads.using(1):
        bits = word_order.model_bits(*load.load_model("base"), texts + mixed)
    assert (bits[12:] > bits[:12]).mean() > 0.8


def test_a_network_from_scratch_knows_its_examples_by_heart(base, task):
    config = LlamaConfig(
        vocab_size=base[1].vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    few = task.few(3, 0)
    with threads.using(1):
        known, _ = word_order.network_from_scratch(
            config, base[1], few, task.test[:8], TrainConfig(steps=25, peak_lr=1e-2)
        )
    assert known == 1
