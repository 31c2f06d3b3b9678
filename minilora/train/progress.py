"""Progress bars for everything that takes more than two seconds: rate, loss, time left. Quiet where nobody watches."""

import sys
from contextlib import contextmanager
from time import perf_counter

from minilora.train import launch

LINE_EVERY = 10.0  # seconds


@contextmanager
def progress_bar(description: str, total: int | None, show: bool = True):
    """Yields `advance(n=1, note="")`. The bar goes to standard error, and only if that is a terminal.

    mpiexec stands between its ranks and the terminal: there, the first writes a line now and then.
    """
    if not show or not sys.stderr.isatty():
        is_first = show and launch.ranks() > 1 and launch.rank() == 0
        yield _lines(description, total) if is_first and total else lambda n=1, note="": None
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


def _lines(description: str, total: int):
    """An `advance` that writes a line every ten seconds."""
    done, first, started, last = 0, None, perf_counter(), perf_counter()

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, first, last
        done, now = done + n, perf_counter()
        first = done if first is None else first  # a resumed run begins at its step
        if now - last >= LINE_EVERY and done > first:
            left = (total - done) * (now - started) / (done - first)
            print(f"{description} {done:,}/{total:,}  {note}  {left:,.0f} s left", file=sys.stderr, flush=True)
            last = now

    return advance
