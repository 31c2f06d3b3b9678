"""pytest tests/show/test_grids.py: what a table says of itself."""

import pytest

from minilora.show.grids import seeds_in_words


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([], "One seed, so no spread."),
        ([1, 1], "One seed, so no spread."),
        ([3, 3], "Mean ± standard deviation over 3 seeds."),
        ([2, 3, 3], "Mean ± standard deviation over 2 to 3 seeds."),
        ([2, 3, 1, 3], "Mean ± standard deviation over 1 to 3 seeds; without ±, one seed."),
    ],
)
def test_the_seeds_of_all_rows_are_told_by_the_fewest_and_the_most(counts, words):
    assert seeds_in_words(counts) == words
