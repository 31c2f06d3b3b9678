"""Progress of everything that takes more than two seconds, on standard error: rate, loss, time left."""

import sys
from contextlib import contextmanager
from time import perf_counter

from minilora.show.grids import show_time
from minilora.train import launch

LINE_EVERY = 10.0  # seconds


@contextmanager
def progress_bar(description: str, total: int, show: bool = True, unit: str = ""):
    """Yields `advance(n=1, note="")`: a bar on a terminal, elsewhere a line every ten seconds, of rank 0 alone.

    unit: of what is counted, as "steps".
    """
    unit = unit and f" {unit}"
    if not show or not sys.stderr.isatty():
        yield _lines(description, total, unit) if show and launch.rank() == 0 else lambda n=1, note="": None
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
            rate = f"{speed:.1f}{unit}/s" if speed else ""
            progress.update(task, advance=n, note=note, rate=rate)

        yield advance


def _lines(description: str, total: int, unit: str):
    """An `advance` that writes a line every ten seconds: `finetune: 120 of 500 steps, loss 2.345, 35.0 s left`."""
    done, first, started, last = 0, None, perf_counter(), perf_counter()

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, first, last
        done, now = done + n, perf_counter()
        first = done if first is None else first  # a resumed run begins at its step
        if now - last >= LINE_EVERY and done > first:
            left = f"{show_time((total - done) * (now - started) / (done - first))} left" if done < total else ""
            told = ", ".join(filter(None, (f"{done:,} of {total:,}{unit}", note, left)))
            print(f"{description}: {told}", file=sys.stderr, flush=True)
            last = now

    return advance
