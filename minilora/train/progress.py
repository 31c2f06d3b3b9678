"""Progress, on standard error, of everything that takes more than two seconds: a bar with rate, loss and time left, or
lines if standard error is not a terminal but a log.
"""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from time import monotonic

SECONDS = 10  # from one line to the next, at least


@contextmanager
def progress_bar(description: str, total: int, show: bool = True):
    """Yield `advance(n=1, note="")`, which moves a bar, or writes a line after each tenth of the total."""
    if not show or not sys.stderr.isatty():
        yield _lines(description, total) if show else lambda n=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(description, total=total, note="", rate="")

        def advance(n: int = 1, note: str = "") -> None:
            speed = progress.tasks[0].speed
            rate = f"{speed:.1f}/s" if speed else ""
            progress.update(task, advance=n, note=note, rate=rate)

        yield advance


def _lines(description: str, total: int) -> Callable:
    begin = last = monotonic()
    done = shown = 0

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal last, done, shown
        done += n
        tenth, now = 10 * done // max(total, 1), monotonic()
        if tenth > shown and now - last >= SECONDS:
            last, shown = now, tenth
            facts = [f"{description}: {done:,} of {total:,}", note, f"{now - begin:,.0f} s"]
            print(", ".join(filter(None, facts)), file=sys.stderr, flush=True)

    return advance
