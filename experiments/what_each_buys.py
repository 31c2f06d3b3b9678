"""The gains of context, a probe, a prompt, an adapter and all weights: a table of tasks with labels, and one picture.

Both are made from the records of `windows` and `compare_model` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments.compare_model import BASE, PROBE, PROMPTED
from experiments.compare_model_report import LABELS, ModelResult, look_of
from experiments.windows_report import WindowsResult
from minilora.measure.results import Column, table
from minilora.measure.statistics import Interval
from minilora.show import style
from minilora.show.grids import Grid, Spread, listed, show_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WAYS = (BASE, PROBE, PROMPTED, "lora", "full")
TRAINED = (PROBE, "lora", "full")
NAMES = LABELS | {PROMPTED: "prompt", "lora": "adapter (LoRA)", "full": "all weights"}
READY = 0.12  # seconds at which the picture shows a way that is ready at once


def labels_grid(results: Mapping[str, ModelResult]) -> Grid:
    """Tabulate accuracy, seconds until ready and tokens per query. results: {task: its comparison}."""
    columns, ahead, shows = [], leads(results), {"show": lambda one: one.show(1)}
    for name, result in results.items():
        columns += [
            Column(f"{name}\n%", lambda way, r=result: _reached(r, way), **shows),
            Column("ahead of\nthe prompt", ahead[name].get, **shows),
            Column("ready\nafter", lambda way, r=result: _ready(r, way), show_seconds),
            Column("tokens", lambda way, r=result: _tokens(r, way), "{:.0f}".format),
        ]
    caption = (
        "Percent of held-out questions answered right; the prompt's answers are calibrated. Ahead of the prompt: the "
        "difference in points, paired by seed, with intervals corrected for all of them. Ready after: the seconds "
        "that training takes by the clock, and for the probe by the processor's time. Tokens: the number that the "
        "model reads at each query. The probe reads the question alone, the others also the chat format around it."
    )
    return table(
        "What a probe, a prompt and training buy", columns, {NAMES[way]: (way,) for way in WAYS}, caption, first=""
    )


def leads(results: Mapping[str, ModelResult]) -> dict[str, dict[str, Interval]]:
    """Return {task: {way: its points ahead of the prompt}}, with intervals corrected for all of them."""
    ahead = {
        name: {way: result.ahead(way, PROMPTED, len(TRAINED) * len(results)) for way in TRAINED if result.cells(way)}
        for name, result in results.items()
    }
    return {name: {way: lead for way, lead in of_task.items() if lead} for name, of_task in ahead.items()}


def sentence(results: Mapping[str, ModelResult]) -> str:
    """Say on each task which ways are shown to be ahead of the prompt."""
    words = []
    for name, by_way in leads(results).items():
        ahead = [NAMES[way] for way, lead in by_way.items() if lead.low > 0]
        if by_way:
            shown = f"{listed(ahead)} {'is' if len(ahead) == 1 else 'are'}" if ahead else "no way to train is"
            words.append(f"On {name}, {shown} shown to be ahead of the prompt.")
    return " ".join(words) or "Not all is measured yet."


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


PICTURE = "what-each-buys"


@style.styled
def what_each_buys(text: WindowsResult, results: Mapping[str, ModelResult]) -> Figure | None:
    """Quality against the seconds until a way is ready, and against the tokens that a query makes the model read."""
    from matplotlib.figure import Figure

    if ("context", 0, 0) not in text.records:
        return None
    figure = Figure(figsize=(11, 7.2), layout="constrained")
    figure.suptitle("What context, a probe, a prompt, an adapter and all weights buy", x=0.01, ha="left")
    above, below = figure.subplots(2, 1 + len(results), width_ratios=(1.5, *(1 for _ in results)))
    draw_text(above[0], below[0], text)
    for (name, result), *pair in zip(results.items(), above[1:], below[1:], strict=True):
        for axes, x_of in zip(pair, (_ready, _tokens), strict=True):
            for way in WAYS:
                if one := _reached(result, way):
                    x = x_of(result, way) or READY
                    axes.errorbar([x], [one.mean], [one.deviation], **look(way) | {"linestyle": ""}, markersize=8)
            axes.set(title=name, ylabel="right answers (%)")
    above[0].set_xlabel("processor seconds until it is ready")
    for axes in above[1:]:
        axes.set_xlabel("seconds by the clock until it is ready\n(of the probe: processor)", fontsize=10)
    for axes in above:
        axes.set_xscale("log")
        axes.set_xticks([READY, 1, 10, 100], ["none", "1", "10", "100"])
    for axes in below:
        axes.set(xlabel="tokens read at each query", xscale="log")
        axes.margins(x=0.12)
        left, right = axes.get_xlim()
        ticks = [2**power for power in range(5, 15, 2) if left < 2**power < right]  # 128, 512 and 2,048 among them
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
        hollow = look(row) | {"markerfacecolor": "none", "linestyle": "", "markersize": 12}
        below.plot(list(own), list(own.values()), **hollow, label="trained in that window" * (row == "lora"))
    for way, by_size in levels.items():
        seconds = READY if way == BASE else result.seconds("trained", way, result.sizes[0]) or READY
        above.plot([seconds] * len(by_size), list(by_size.values()), **look(way) | {"linewidth": 0.6})
        below.plot(list(by_size), list(by_size.values()), **look(way))
    for axes in (above, below):
        axes.set(title=f"{result.data}, windows of {listed(f'{size:,}' for size in result.sizes)}", ylabel=style.BITS)
        axes.margins(x=0.08, y=0.1)
