"""Progress of everything that takes more than two seconds, on standard error: count, loss, time left."""

import sys
from contextlib import contextmanager


@contextmanager
def progress_bar(description: str, total: int, show: bool = True):
    """Yield `advance(n=1, note="")`, which moves a bar. Only a terminal shows one; elsewhere, `minilora show` tells how
    far a run is.
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
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(description, total=total, note="")
        yield lambda n=1, note="": progress.update(task, advance=n, note=note)
