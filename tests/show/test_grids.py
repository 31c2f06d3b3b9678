"""pytest tests/show/test_grids.py: what a table says of itself."""

import pytest

from minilora.show.grids import Grid, drawn, render, seeds_in_words


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


@pytest.mark.parametrize("columns", [60, 80])
def test_a_table_wider_than_the_terminal_goes_on_below_with_its_rows_whole(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    header = ("method", *(f"memory,\nkind {i}" for i in range(9)))
    rows = [(name, *(f"{i}.{i}{i} GB" for i in range(9))) for name in ("full", "a rather long method")]
    lines = render(drawn(Grid("Memory [a]", header, rows, "One GB is 10^9 bytes."))).splitlines()
    assert max(map(len, lines)) <= columns and (lines[0], lines[-1]) == ("Memory [a]", "One GB is 10^9 bytes.")
    for name, *cells in rows:
        parts = [line.removeprefix(name) for line in lines if line.startswith(name)]
        assert len(parts) > 1 and " ".join(" ".join(parts).split()) == " ".join(cells)


def test_names_in_brackets_stay_as_they_are():
    """A label of somebody's table may look like markup."""
    assert "[/red]" in render(drawn(Grid("", ("expected", "[/red]"), [("[/red]", "1")], "")))
