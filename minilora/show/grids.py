"""Tables for the terminal and for pages, and the formats of the numbers in them.

A number that was measured with several seeds is shown as mean ± standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group, JustifyMethod, RenderableType

from minilora.errors import MiniloraError, line_width, unknown
from minilora.peft import METHODS

# The names of the rows of tables, in their order. Figures and sentences use them too; an unknown key is an error.
NAMES = {"base": "base as it is", "few-shot": "few-shot prompt", "scratch": "from scratch"}
NAMES |= {name: method.label for name, method in METHODS.items()}
IN_SENTENCES = NAMES | {"full": "full fine-tuning"}
IN_SENTENCES |= {"base": "the base"}


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of what was measured, each once, in the order of NAMES. Raises MiniloraError for any other name."""
    measured = set(names)
    if unknown_names := sorted(measured - NAMES.keys()):
        raise MiniloraError(unknown("method in the records", unknown_names[0], NAMES))
    return [name for name in NAMES if name in measured]


@dataclass(frozen=True)
class Spread:
    """A number measured over seeds: its mean, its standard deviation (0 for a single seed), and the number of seeds."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        return cls(mean, sqrt(squares / max(1, len(values) - 1)), len(values))

    def show(self, digits: int) -> str:
        """Format as `2.523 ± 0.012`, or without ± if there is one seed."""
        text = f"{self.mean:.{digits}f}".replace("-", "−")
        return text if self.count == 1 else f"{text} ± {self.deviation:.{digits}f}"


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn: the terminal and the report draw the same one."""

    title: str
    header: tuple[str, ...]  # the terminal breaks a line at a newline
    rows: Sequence[tuple[str, ...]]
    caption: str


def render(table: RenderableType) -> str:
    """Return the table as plain text, without colours."""
    from rich.console import Console

    file = StringIO()
    plain = {"color_system": None, "force_terminal": False, "force_jupyter": False, "legacy_windows": False}
    Console(file=file, width=line_width(), **plain).print(table)  # type: ignore[arg-type]
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def drawn(grid: Grid) -> Group:
    """Make a table for the terminal. One that is too wide is cut between columns, and the parts go below each other."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    padding = 0 if len(grid.header) > 5 else 1
    between = 2 * padding + 1
    columns = zip(grid.header, *grid.rows, strict=True)
    widths = [between + max(cell_len(line) for cell in column for line in cell.split("\n")) for column in columns]
    parts = [[0]]  # the indices of the columns of each; all begin with the first
    for index in range(1, len(widths)):
        if len(parts[-1]) > 1 and sum(widths[i] for i in (*parts[-1], index)) - between > line_width():
            parts.append([0])
        parts[-1].append(index)
    shown: list[RenderableType] = [Text(grid.title, style="bold")] if grid.title else []
    for part in parts:
        shown += [""] * (part is not parts[0])
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, padding))
        for i in part:
            justify: JustifyMethod = "right" if i else "left"
            table.add_column(Text(grid.header[i]), justify=justify, vertical="bottom", no_wrap=i == 0)
        for row in grid.rows:
            table.add_row(*(Text(row[i]) for i in part))
        shown.append(table)
    return Group(*shown, *([Text(grid.caption, style="dim")] if grid.caption else []))


def seeds_in_words(counts: Iterable[int]) -> str:
    """Explain ± below a table. counts: the number of seeds behind each of its numbers."""
    different = sorted(set(counts))
    if different in ([], [1]):
        return "One seed, so no spread."
    ends = dict.fromkeys((different[0], different[-1]))
    one = "; without ±, one seed" if 1 in ends else ""
    return f"Mean ± standard deviation over {' to '.join(map(str, ends))} seeds{one}."


def listed(names: Iterable[object]) -> str:
    """Join names as in a sentence: `a`, `a and b`, `a, b and c`."""
    *before, last = map(str, names)
    return f"{', '.join(before)} and {last}" if before else last


_BYTES = ((1e18, "EB"), (1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"))


def show_count(number: int) -> str:
    """Format a count: `167,424`, or in millions `10.2 M`."""
    return f"{number:,}" if number < 10_000_000 else f"{number / 1e6:,.1f} M"


def show_share(share: float) -> str:
    """Format a share in percent, small ones with more decimals: 100 %, 4.1 %, 0.18 %, 0.004 %."""
    percent = 100 * share
    digits = 0 if percent >= 9.95 else 1 if percent >= 0.995 else 2 if percent >= 0.0095 else 3
    return f"{percent:.{digits}f} %"


def show_bytes(number: float) -> str:
    """Format measured bytes with few digits, because they vary from run to run: `41 MB`, `1.2 GB`."""
    return f"{number / 1e6:.0f} MB" if number < 999.5e6 else f"{number / 1e9:.1f} GB"


def show_size(number: float) -> str:
    """Format counted bytes with three digits: `37.7 MB`, `349 GB`."""
    for size, unit in _BYTES:
        if (units := number / size) >= 0.9995:
            return f"{units:,.{0 if units >= 99.95 else 1 if units >= 9.995 else 2}f} {unit}"
    return f"{number:.0f} B"


def show_seconds(seconds: float) -> str:
    """Format seconds: `4.2 s`, `31 s`."""
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def show_signed(value: float) -> str:
    """Format a difference with its sign: `+0.123`, `−0.123`."""
    return f"{round(value, 3) + 0:+.3f}".replace("-", "−")
