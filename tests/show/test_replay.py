"""pytest tests/show/test_replay.py: batches of two texts have each in its share."""

import numpy as np
import pytest

from minilora.data.batches import LanguageModelBatches
from notebooks.figures.replay import MixedBatches

pytestmark = pytest.mark.host


def of_one(first: int) -> LanguageModelBatches:
    return LanguageModelBatches(np.arange(first, first + 40), 1, 4, seed=first)


@pytest.mark.parametrize("share, others", [(0.0, [0, 0, 0, 0]), (0.1, [0, 0, 1, 0]), (0.25, [1, 1, 1, 1])])
def test_mixed_batches_have_the_share_over_several_batches(share, others):
    batches = MixedBatches(of_one(0), of_one(1000), share, 4)
    found = [batches.next_batch() for _ in others]
    assert [int((batch["input_ids"][:, 0] >= 1000).sum()) for batch in found] == others
    assert all(batch["input_ids"].shape == batch["labels"].shape == (4, 4) for batch in found)
    alone = of_one(0)
    rows = [batch["input_ids"][batch["input_ids"][:, 0] < 1000] for batch in found]
    assert np.array_equal(np.concatenate(rows), [alone.next_batch()["input_ids"][0] for _ in np.concatenate(rows)])
