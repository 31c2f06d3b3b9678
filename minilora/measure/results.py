"""Results read from records: numbers over the seeds, and tables with declared columns.

The curve, the demo and the experiments each have a subclass of `Result` with their own numbers. A table is made of a
list of `Column`s and the rows to evaluate them for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minilora.measure.records import Records
from minilora.show import grids
from minilora.show.grids import Grid, Spread


class Result:
    """Results of records, which may be incomplete."""

    def __init__(self, records: Records):
        self.records, self.settings = records, records.header["settings"]

    def spread(self, number: str, *start: Any, scale: float = 1) -> Spread:
        """Return `number` over the seeds, from the cells whose key begins with `start` and that have it."""
        return Spread.of(scale * row[number] for row in self.records.of(*start) if number in row)

    def parts(self, *start: Any) -> list:
        """Return the distinct parts that follow `start` in the keys: names in the order of tables, or sorted numbers.

        Raises MiniloraError for a name that the tables do not know.
        """
        measured = {key[len(start)] for key in self.records.rows if key[: len(start)] == start}
        return grids.in_order(measured) if any(isinstance(part, str) for part in measured) else sorted(measured)


@dataclass(frozen=True)
class Column:
    """A column of a table. value: function of a row's key, None if it was not measured. show: formats the value."""

    header: str  # a newline breaks the line in the terminal
    value: Callable[..., Any]
    show: Callable[[Any], str] = str

    def cell(self, *row: Any) -> str:
        value = self.value(*row)
        return "–" if value is None else self.show(value)


def table(
    title: str, columns: Sequence[Column], rows: Mapping[str, tuple], caption: str, first: str = "method"
) -> Grid:
    """Return the table of these columns. rows: {name in the first column: arguments of `Column.value`}."""
    lines = [(name, *(column.cell(*row) for column in columns)) for name, row in rows.items()]
    return Grid(title, (first, *(column.header for column in columns)), lines, caption)
