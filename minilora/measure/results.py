"""What records say: numbers over the seeds, and tables of declared columns.

The curve, the demo and the experiments each have a `Result` with the numbers that only they have. A table is a list of
`Column`s and the rows that they are asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minilora.measure.records import Records
from minilora.show import grids
from minilora.show.grids import Grid, Spread


class Result:
    """Records, which may be half measured, and what their cells say."""

    def __init__(self, records: Records):
        self.records, self.settings = records, records.header["settings"]

    def spread(self, number: str, *start: Any, scale: float = 1) -> Spread:
        """Return a number over the seeds: of the cells whose key begins with `start`, as far as it was measured."""
        return Spread.of(scale * row[number] for row in self.records.of(*start) if number in row)

    def parts(self, *start: Any) -> list:
        """Return what comes after `start` in the keys, each once: names in the order of tables, or numbers, sorted.

        Raises MiniloraError for a name that tables do not have.
        """
        measured = {key[len(start)] for key in self.records.rows if key[: len(start)] == start}
        return grids.in_order(measured) if any(isinstance(part, str) for part in measured) else sorted(measured)


@dataclass(frozen=True)
class Column:
    """A column of a table. value: a function of what names a row, None if it was not measured; show: how it looks."""

    header: str  # a newline where the terminal breaks the line
    value: Callable[..., Any]
    show: Callable[[Any], str] = str

    def cell(self, *row: Any) -> str:
        value = self.value(*row)
        return "–" if value is None else self.show(value)


def table(
    title: str, columns: Sequence[Column], rows: Mapping[str, tuple], caption: str, first: str = "method"
) -> Grid:
    """Return the table of these columns. rows: {name in the first column: what `Column.value` is called with}."""
    lines = [(name, *(column.cell(*row) for column in columns)) for name, row in rows.items()]
    return Grid(title, (first, *(column.header for column in columns)), lines, caption)
