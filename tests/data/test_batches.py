"""Batches: `pytest tests/data/test_batches.py`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilora.data.batches import ChatBatches, LanguageModelBatches, evaluation_windows
from minilora.data.chat import ChatTokens
from minilora.errors import MiniloraError
from notebooks.figures.labelled import ClassificationBatches, classification_windows

pytestmark = pytest.mark.host

IDS = np.arange(1, 106)  # each token names its own place in the stream
TEXTS = [np.arange(1, length + 1) * 10 for length in (3, 1, 7, 2, 5)]
LABELS = [0, 1, 2, 3, 4]


def make_language_model():
    return LanguageModelBatches(IDS, batch_size=3, seq_len=10, seed=1)


def make_classification():
    return ClassificationBatches(TEXTS, LABELS, batch_size=3, seq_len=64, seed=1, pad_token_id=9)


def make_chats():
    return ChatBatches(ChatTokens([(ids, ids > 10) for ids in TEXTS if len(ids) > 1], [1] * 4), 3, 64, 1)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], strict=True)


def test_an_epoch_has_each_token_once_and_another_has_other_windows():
    batches = LanguageModelBatches(IDS, batch_size=1, seq_len=10, seed=1)
    epochs = {}
    while len(epochs) < 40:
        batch = batches.next_batch()
        window = batch["input_ids"][0]
        assert batch["labels"].tolist() == [window.tolist()] == [list(range(window[0], window[0] + 10))]
        epochs.setdefault(batches.state()["epoch"], []).append(window)
    for windows in list(epochs.values())[:-1]:  # the last is not over
        tokens = np.concatenate(windows)
        assert len(set(tokens)) == len(tokens)
        assert len(tokens) > len(IDS) - 2 * 10  # less than a window is left over at either end
    starts = [[window[0] for window in windows] for windows in epochs.values()]
    assert {windows[0] % 10 for windows in starts} == set(range(10))  # every offset
    assert sum(windows == sorted(windows) for windows in starts) < 3  # in random order


@pytest.mark.parametrize("make", [make_language_model, make_classification, make_chats])
def test_resume_gives_the_same_batches(make):
    reference = make()
    expected, states = [], []
    for _ in range(20):
        states.append(reference.state())
        expected.append(reference.next_batch())
    assert states[-1]["epoch"] >= 3
    for start in (0, 1, 3, 4, 17):
        resumed = make()
        resumed.next_batch()
        resumed.load_state(states[start])
        for batch in expected[start:]:
            same(resumed.next_batch(), batch)


def test_a_state_that_fits_no_epoch():
    batches, expected = make_language_model(), make_language_model()
    same(batches.next_batch(), expected.next_batch())
    with pytest.raises(MiniloraError, match="other data: it continues at item 99 of an epoch of 10"):
        batches.load_state({"epoch": 1, "index": 99})
    same(batches.next_batch(), expected.next_batch())


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LanguageModelBatches(IDS[:9], 4, 10, 0), "the text has 9 tokens, shorter than a context of 10"),
        (lambda: LanguageModelBatches(IDS, 0, 10, 0), "batch size must be at least 1, not 0"),
        (lambda: list(evaluation_windows(IDS[:1], 8, 2)), "1 tokens"),
        (lambda: list(evaluation_windows(IDS, 1, 2)), "a context of 1"),
        (lambda: ClassificationBatches([], [], 2, 8, 0, 0), "0 labels: give one label per text"),
        (lambda: ClassificationBatches([IDS[:0]], [0], 2, 8, 0, 0), "without tokens"),
    ],
)
def test_sizes_that_make_no_batch(make, message):
    with pytest.raises(MiniloraError, match=message):
        make()


def test_a_stream_of_one_window_fills_a_batch():
    batch = LanguageModelBatches(IDS[:10], batch_size=4, seq_len=10, seed=0).next_batch()
    assert (batch["input_ids"] == IDS[:10]).all() and len(batch["input_ids"]) == 4


@given(st.integers(2, 60), st.integers(2, 12), st.integers(1, 5))
def test_evaluation_predicts_each_token_once(count, seq_len, batch_size):
    predicted = []
    for batch in evaluation_windows(IDS[:count], seq_len, batch_size):
        input_ids, labels = batch["input_ids"], batch["labels"]
        assert input_ids.shape == labels.shape and input_ids.dtype == labels.dtype == np.int64
        assert len(input_ids) <= batch_size and input_ids.shape[1] <= seq_len
        # The model's shift: position t predicts label t + 1, from what came before it in its own window.
        targets, given_before = labels[:, 1:], input_ids[:, :-1]
        counts = targets != -100
        assert counts.any(axis=1).all()  # no row for nothing
        assert (labels[:, 0] == -100).all()
        np.testing.assert_array_equal(given_before[counts], targets[counts] - 1)
        predicted.extend(targets[counts])
    assert predicted == IDS[1:count].tolist()


def test_classification_batches_are_padded_on_the_right():
    (batch,) = classification_windows(TEXTS[:3], LABELS[:3], seq_len=4, batch_size=3, pad_token_id=9)
    assert batch["input_ids"].tolist() == [[10, 20, 30, 9], [10, 9, 9, 9], [10, 20, 30, 40]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [0, 1, 2]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


def test_classification_epochs_have_each_text_once():
    batches = make_classification()
    drawn = [batches.next_batch() for _ in range(100)]
    labels = np.concatenate([batch["labels"] for batch in drawn]).reshape(60, 5)
    assert (np.sort(labels, axis=1) == LABELS).all()
    assert len({tuple(row) for row in labels}) > 20
    for batch in drawn:  # text and label stay together
        assert batch["attention_mask"].sum(axis=1).tolist() == [len(TEXTS[label]) for label in batch["labels"]]
