"""What each way to adapt buys, from the records of `windows` and `compare_model` alone: two tables and one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.compare_model import BASE, PROBE, PROMPTED
from experiments.compare_model_report import LABELS, ModelResult, look_of
from experiments.windows import KIND, ROWS
from minilora.errors import escape
from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.show import style
from minilora.show.grids import Grid, Spread, listed, seeds_in_words, show_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WAYS = (BASE, PROBE, PROMPTED, "lora", "full")  # in the picture
READY = 0.4  # seconds, where the picture has what needs none
NAMES = LABELS | {
    BASE: "as it is: its own context",
    PROMPTED: "prompt",
    "lora": "adapter (LoRA)",
    "full": "all weights",
}


class WindowsResult(Result):
    """Bits per character of a text by the window that it is read in; half measured perhaps."""

    def __init__(self, records: Records):
        super().__init__(records)
        self.sizes = sorted({int(size) for row in records.rows.values() for size in row.get("bits", {})})
        self.contexts = sorted({one["key"][1] for one in records.of("context")} - {0})
        self.data = escape(Path(self.settings["data"]).name, 40)

    @classmethod
    def read(cls, path: Path) -> WindowsResult:
        """Return the records in a file. Raises FormatError."""
        return cls(Records.read(path, KIND))

    def bits(self, size: int, *start: object) -> Spread | None:
        """Return bits per character in windows of `size` tokens over the seeds: of the cells whose key begins so."""
        values = [one["bits"][str(size)] for one in self.records.of(*start) if str(size) in one.get("bits", {})]
        return Spread.of(values) if values else None

    def seconds(self, *start: object) -> float | None:
        """Return the mean of the seconds until it is ready."""
        values = [one["seconds"] for one in self.records.of(*start) if "bits" in one]
        return sum(values) / len(values) if values else None

    def base(self, size: int) -> float:
        """Return the bits of the model as it is; nothing is drawn by a seed there."""
        return self.records.rows["context", 0, 0]["bits"][str(size)]

    def best_context(self, size: int) -> int:
        """Return how many tokens in front of windows of `size` reach the fewest bits, of those measured."""
        return min(self.contexts, key=lambda tokens: self.bits(size, "context", tokens).mean)  # type: ignore[union-attr]

    def trained(self) -> list[tuple[str, int]]:
        """Return (row, window that it was trained in), as they are in tables."""
        measured = {tuple(one["key"][1:3]) for one in self.records.of("trained")}
        return [(row, size) for row in ROWS for size in self.sizes if (row, size) in measured]

    def grid(self) -> Grid:
        """Return bits per character by window."""
        rows = {LABELS[BASE]: ("context", 0)} | {f"prompt, {n:,} tokens": ("context", n) for n in self.contexts}
        rows |= {f"{LABELS[row]}, in {size:,}": ("trained", row, size) for row, size in self.trained()}

        def level(size: int, *start: object) -> Spread | str | None:
            return self.bits(size, *start) or (
                "diverged" if any("error" in one for one in self.records.of(*start)) else None
            )

        show = lambda one: one if isinstance(one, str) else one.show(3)  # noqa: E731
        columns = [Column(f"window\n{size:,}", partial(level, size), show) for size in self.sizes]
        columns.append(Column("ready\nafter", self.seconds, show_seconds))
        counts = [len(list(self.records.of(*start))) for start in rows.values() if start != ("context", 0)]
        caption = (
            f"Bits per character of {self.settings['test_characters']:,} characters, less is better. A window is what "
            "the model reads at a time: a wider one has more of the text's own words before each token. A prompt is "
            "text to learn from that stands in front of every window, and costs no bits. Trained rows: on "
            f"{self.settings['characters']:,} characters, in windows of so many tokens, at the rate found for its own "
            "window (128), on as many tokens in all. Ready after: seconds of training, or of reading the prompt once, "
            f"of processor time. {seeds_in_words(counts)}"
        )
        return table(f"What a window, a prompt and training buy: {self.data}", columns, rows, caption, first="")

    def sentence(self) -> str:
        """Return what the model as it is, a prompt and LoRA reach at each window."""

        def by_window(values: Iterable[float]) -> str:
            return listed(f"{value:.3f}" for value in values)

        base, own = [self.base(size) for size in self.sizes], self.sizes[0]
        windows = listed(f"{size:,}" for size in self.sizes)
        words = f"In windows of {windows} tokens the model as it is has {by_window(base)} bits per character"
        if self.contexts:
            best = [self.bits(size, "context", self.best_context(size)) for size in self.sizes]
            words += f", and {by_window(one.mean for one in best if one)} after the prompt that helps most"
        for row in ("lora", "full"):
            reached = [self.bits(size, "trained", row, own) for size in self.sizes]
            if gains := [as_it_is - one.mean for as_it_is, one in zip(base, reached, strict=True) if one]:
                words += f"; {LABELS[row]}, trained in windows of {own}, saves {by_window(gains)}"
        return f"{words}."


# Labels


def labels_grid(results: Mapping[str, ModelResult]) -> Grid:
    """Return accuracy, seconds until ready and tokens of a query, {what is learned: its records}."""
    columns = []
    for name, result in results.items():
        columns += [
            Column(f"{name}\n%", lambda way, r=result: _reached(r, way), lambda one: one.show(1)),
            Column("ready\nafter", lambda way, r=result: _ready(r, way), show_seconds),
            Column("tokens", lambda way, r=result: _tokens(r, way), "{:.0f}".format),
        ]
    caption = (
        "Right answers on held-out questions (of the prompt, calibrated if that is better); seconds of training, none "
        "where nothing trains; tokens that a query makes the model read. The probe reads the question alone, the "
        "others the chat format around it, too."
    )
    return table(
        "What a probe, a prompt and training buy", columns, {NAMES[way]: (way,) for way in WAYS}, caption, first=""
    )


def _cells(result: ModelResult, way: str) -> list[dict]:
    return [result.base] if way == BASE and result.base else result.cells(way)


def _reached(result: ModelResult, way: str) -> Spread | None:
    cells = _cells(result, way)
    if way == PROMPTED and cells:
        return result.prompted()
    return Spread.of(100 * one["accuracy"] for one in cells) if cells else None


def _ready(result: ModelResult, way: str) -> float | None:
    seconds = [one["seconds"] for one in _cells(result, way) if "seconds" in one]
    return sum(seconds) / len(seconds) if seconds else None


def _tokens(result: ModelResult, way: str) -> float | None:
    tokens = [one["tokens"] for one in _cells(result, way)]
    return sum(tokens) / len(tokens) if tokens else None


# The picture


def look(way: str) -> dict:
    return style.LOOKS[way] | {"marker": "o"} if way == BASE else look_of(way)


@style.styled
def what_each_buys(text: WindowsResult, results: Mapping[str, ModelResult]) -> Figure:
    """Quality against the seconds until a way is ready, and against the tokens that a query makes the model read."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.2), layout="constrained")
    figure.suptitle("What context, a probe, a prompt, an adapter and all weights buy", x=0.01, ha="left")
    above, below = figure.subplots(2, 1 + len(results), width_ratios=(1.5, *(1 for _ in results)))
    draw_text(above[0], below[0], text)
    for (name, result), *pair in zip(results.items(), above[1:], below[1:], strict=True):
        for axes, x_of in zip(pair, (_ready, _tokens), strict=True):
            for way in WAYS:
                if one := _reached(result, way):
                    x = x_of(result, way) or READY
                    axes.errorbar([x], [one.mean], [one.half_range], **look(way) | {"linestyle": ""}, markersize=8)
            axes.set(title=name, ylabel="right answers (%)")
    for axes in above:
        axes.set(xlabel="seconds until it is ready", xscale="log")
        axes.set_xticks([READY, 10, 100], ["none", "10", "100"])
    for axes in below:
        axes.set(xlabel="tokens read at each query", xscale="log")
        axes.margins(x=0.12)
        left, right = axes.get_xlim()
        ticks = [2**power for power in range(5, 15) if left < 2**power < right]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    for axes in (*above, *below):
        axes.set_xticks([], minor=True)
    for way in WAYS:
        above[0].plot([], [], **look(way), label=NAMES[way])
    return style.with_legend(figure, 3)


def draw_text(above: Axes, below: Axes, result: WindowsResult) -> None:
    """Draw bits per character in each window: over seconds above, over the tokens of a window and its prompt below."""
    prompted = look(PROMPTED) | {"markersize": 6, "linewidth": 1.2}
    for size in result.sizes:
        reached = {n: one.mean for n in result.contexts if (one := result.bits(size, "context", n))}
        above.plot([result.seconds("context", n) or READY for n in reached], list(reached.values()), **prompted)
        below.plot([size + n for n in reached], list(reached.values()), **prompted)
        named: dict = {"textcoords": "offset points", "fontsize": 9, "color": style.GREY}
        above.annotate(f"{size:,}", (READY, result.base(size)), (8, -3), **named)
        for n, level in [*reached.items()][-1:]:
            below.annotate(f"{size:,}", (size + n, level), (8, -3), **named)
    levels = {BASE: {size: result.base(size) for size in result.sizes}}
    for row in ("lora", "full"):
        levels[row] = {s: one.mean for s in result.sizes if (one := result.bits(s, "trained", row, result.sizes[0]))}
        own = {s: one.mean for s in result.sizes[1:] if (one := result.bits(s, "trained", row, s))}
        hollow = look(row) | {"markerfacecolor": "white", "linestyle": "", "markersize": 9}
        below.plot(list(own), list(own.values()), **hollow, label="trained in that window" * (row == "lora"))
    for way, by_size in levels.items():
        seconds = READY if way == BASE else result.seconds("trained", way, result.sizes[0]) or READY
        above.plot([seconds] * len(by_size), list(by_size.values()), **look(way) | {"linewidth": 0.6})
        below.plot(list(by_size), list(by_size.values()), **look(way))
    for axes in (above, below):
        axes.set(title=f"{result.data}, windows of {listed(f'{size:,}' for size in result.sizes)}", ylabel=style.BITS)
        axes.margins(x=0.08, y=0.1)
