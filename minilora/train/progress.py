"""Progress bars, on standard error, for everything that takes more than two seconds: rate, loss, time left."""

import sys
from contextlib import contextmanager


@contextmanager
def progress_bar(description: str, total: int, show: bool = True):
    """Yield `advance(n=1, note="")`, which moves a bar. Only a terminal shows it; elsewhere, use `minilora show` to see
    how far a run is.
    """
    if not show or not sys.stderr.isatty():
        yield lambda n=1, note="": None
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
