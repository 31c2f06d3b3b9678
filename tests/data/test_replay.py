"""pytest tests/data/test_replay.py: batches of two sources have each in its share, and come again from a place."""

import json

import numpy as np
import pytest

from minilora.data.batches import ChatBatches, LanguageModelBatches, MixedBatches, unpadded
from minilora.data.chat import ChatTokens

pytestmark = pytest.mark.host


def of_one(first: int) -> LanguageModelBatches:
    return LanguageModelBatches(np.arange(first, first + 40), 1, 4, seed=first)


@pytest.mark.parametrize("share, others", [(0.0, [0, 0, 0, 0]), (0.1, [0, 0, 1, 0]), (0.25, [1, 1, 1, 1])])
def test_mixed_batches_have_the_share_over_several_batches(share, others):
    batches = MixedBatches(of_one(0), of_one(1000), share, 4)
    mixed = [batches.next_batch() for _ in others]
    assert [int((batch["input_ids"][:, 0] >= 1000).sum()) for batch in mixed] == others
    assert all(batch["input_ids"].shape == batch["labels"].shape == (4, 4) for batch in mixed)
    alone = of_one(0)
    rows = [batch["input_ids"][batch["input_ids"][:, 0] < 1000] for batch in mixed]
    assert np.array_equal(np.concatenate(rows), [alone.next_batch()["input_ids"][0] for _ in np.concatenate(rows)])


def ragged() -> ChatBatches:
    """Make rows of 3 to 9 tokens whose last two are an answer."""
    rows = [(np.arange(100 * n, 100 * n + n), np.arange(n) >= n - 2) for n in range(3, 10)]
    return ChatBatches(ChatTokens(rows, [2] * len(rows)), 4, 9, seed=0)


@pytest.mark.parametrize("main", [ragged, lambda: of_one(0)])
def test_rows_of_several_lengths_keep_their_labels_and_a_place_comes_back(main):
    def mixed() -> MixedBatches:
        return MixedBatches(main(), of_one(1000), 0.3, 4)

    batches, again = mixed(), mixed()
    for _ in range(3):
        batch = batches.next_batch()
        assert all((labels[labels >= 0] == ids[-np.sum(labels >= 0) :]).all() for ids, labels in unpadded(batch))
    again.load_state(json.loads(json.dumps(batches.state())))
    for _ in range(5):
        ours, theirs = batches.next_batch(), again.next_batch()
        assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
