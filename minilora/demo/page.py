"""The demos' report: three numbers and a chart, in the terminal and at the head of an HTML file that loads nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from minilora.errors import line_width
from minilora.palette import BLUE, GREEN, RED
from minilora.show.grids import Grid

Numbers = Sequence[tuple[str, str]]  # pairs of a number and its explanation
COLOURS = {"learned": GREEN, "forgot": RED}  # of bars whose name ends in this word
STYLE = """
:root { color-scheme: light dark; }
body { margin: 2rem auto; max-width: 52rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
body { color: light-dark(#1f2328, #e6edf3); background: light-dark(#ffffff, #161b22); }
.lead { white-space: pre-wrap; tab-size: 5.5rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: 1rem 2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; }
dt { font-size: 2rem; font-weight: 700; line-height: 1.2; }
dd { margin: 0; }
.bars td { border: 0; }
.bars td:nth-child(2) { width: 100%; }
.bars i { display: block; height: 1.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 0.6rem; text-align: right; white-space: pre; border-bottom: 1px solid #8888; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
pre { white-space: pre-wrap; font-size: 0.85rem; }
"""


def tell(console: Console, numbers: Numbers, title: str, bars: Mapping[str, float], show: Callable) -> None:
    """Print the numbers and a chart of bars {name: length}, each with its length as `show` writes it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold", no_wrap=True)
    for number in numbers:
        table.add_row(*number)
    chart = Table.grid(padding=(0, 2))
    for name, length in bars.items():  # a negative length has no bar
        colour, width = COLOURS.get(name.split()[-1], "default"), line_width() // 2
        bar = Bar(max(*bars.values(), 1e-9), 0, max(length, 0), width=width, color=colour)
        chart.add_row(name, bar, show(length))
    console.print(table, f"\n[bold]{title}[/bold]", chart, "", sep="\n")


def chart(title: str, bars: Mapping[str, float], show: Callable) -> str:
    """Return the same chart as HTML."""
    longest, rows = max(*bars.values(), 1e-9), ""
    for name, length in bars.items():
        colour = COLOURS.get(name.split()[-1], BLUE)
        bar = f'<i style="width: {100 * max(length, 0) / longest:.1f}%; background: {colour}"></i>'
        rows += f"<tr><td>{escape(name)}</td><td>{bar}</td><td>{escape(show(length))}</td></tr>"
    return f"<h2>{escape(title)}</h2><table class=bars>{rows}</table>"


def page(title: str, lead: str, numbers: Numbers, bars: str, grid: Grid, texts: Iterable[tuple[str, str]]) -> str:
    """Return the HTML. lead: plain text below the title; bars: HTML of the chart; texts: pairs of heading and text."""
    shown = "".join(f"<div><dt>{escape(number)}</dt><dd>{escape(words)}</dd></div>" for number, words in numbers)
    rows = [[f"<td>{escape(cell)}</td>" for cell in row] for row in grid.rows]
    lines = [[f"<th>{escape(name)}</th>" for name in grid.header], *rows]
    table = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    body = [f"<h1>{escape(title)}</h1>", f"<p class=lead>{escape(lead)}</p>", f"<dl>{shown}</dl>", bars]
    body += [f"<h2>{escape(grid.title)}</h2><div class=wide><table>{table}</table></div><p>{escape(grid.caption)}</p>"]
    body += [f"<h2>{escape(heading)}</h2><pre>{escape(text)}</pre>" for heading, text in texts]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!doctype html><html lang="en">{head}<style>{STYLE}</style><body>{"".join(body)}</body></html>\n'
