"""The report of `windows`: a table and a sentence, made from its records."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from experiments.compare_model import BASE
from experiments.compare_model_report import LABELS
from experiments.windows import KIND, ROWS
from minilora.errors import escape
from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.show.grids import Grid, Spread, listed, seeds_in_words, show_seconds


class WindowsResult(Result):
    """Bits per character of a text by the window in which it is read. The records may be incomplete."""

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
        """Return the bits per character in windows of `size` tokens over the seeds. start: the beginning of the key."""
        values = [one["bits"][str(size)] for one in self.records.of(*start) if str(size) in one.get("bits", {})]
        return Spread.of(values) if values and not self.flaw(*start) else None

    def flaw(self, *start: object) -> str:
        """Return why cells cannot be judged, in two words, or "". The seed is the last part of a key."""
        cells = list(self.records.of(*start))
        return (
            "diverged" if any("error" in one for one in cells) else "no seed" * ([*start] in [c["key"] for c in cells])
        )

    def seeds(self, *start: object) -> int | None:
        """Return how many seeds were measured; None for the model as it is, which has no seed."""
        return None if start == ("context", 0) else sum("bits" in one for one in self.records.of(*start))

    def seconds(self, *start: object) -> float | None:
        """Return the mean seconds until a way is ready for the first query."""
        values = [one["seconds"] for one in self.records.of(*start) if "bits" in one]
        return sum(values) / len(values) if values else None

    def base(self, size: int) -> float:
        """Return the bits per character of the model as it is."""
        return self.records.rows["context", 0, 0]["bits"][str(size)]

    def trained(self) -> list[tuple[str, int]]:
        """Return (row, window) of each training, in the order of the tables."""
        measured = {tuple(one["key"][1:3]) for one in self.records.of("trained")}
        return [(row, size) for row in ROWS for size in self.sizes if (row, size) in measured]

    def grid(self) -> Grid:
        """Return bits per character by window."""
        rows = {LABELS[BASE]: ("context", 0)} | {f"prompt, {n:,} tokens": ("context", n) for n in self.contexts}
        rows |= {f"{LABELS[row]}, in {size:,}": ("trained", row, size) for row, size in self.trained()}

        def level(size: int, *start: object) -> Spread | str | None:
            return self.bits(size, *start) or self.flaw(*start) or None

        show = lambda one: one if isinstance(one, str) else one.show(3)  # noqa: E731
        columns = [Column(f"window\n{size:,}", partial(level, size), show) for size in self.sizes]
        columns += [Column("seeds", self.seeds), Column("ready\nafter", self.seconds, show_seconds)]
        caption = (
            f"Bits per character of {self.settings['test_characters']:,} characters, less is better. A window is the "
            "stretch of text that the model reads at a time: in a wider one, more of the text's own words stand "
            "before each token. A prompt is training text in front of every window, whose own bits are not counted. "
            f"Rows that are trained learn from {self.settings['characters']:,} characters, in windows of so many "
            "tokens, at the rate found for windows of 128, and on as many tokens in all: a window of 2,048 is a step "
            "of its own, with twice the tokens, and there are half the steps. Ready after: processor seconds of "
            "training, or of reading the prompt once. "
            f"{seeds_in_words(count for start in rows.values() if (count := self.seeds(*start)))}"
        )
        return table(f"What a window, a prompt and training buy: {self.data}", columns, rows, caption, first="")

    def sentence(self) -> str:
        """Summarize what the model as it is, a prompt and LoRA reach at each window."""

        if ("context", 0, 0) not in self.records:
            return "Not all is measured yet."
        own = self.sizes[0]
        by_size = (f"{self.base(size):.3f} in {'windows of ' * (size == own)}{size:,}" for size in self.sizes)
        words = "How many bits per character the model as it is needs depends on how many tokens it reads at a time: "
        words += f"{listed(by_size)}."
        ways: dict[str, tuple] = {}
        if as_long := [tokens for tokens in self.contexts if tokens <= self.sizes[-1]]:
            prompt = f"With a prompt, {as_long[-1]:,} tokens of the training text in front of each window"
            ways[prompt] = ("context", as_long[-1])
        ways[f"After training ({LABELS['lora']}) in windows of {own}"] = ("trained", "lora", own)
        for way, start in ways.items():
            if reached := [one for size in self.sizes if (one := self.bits(size, *start))]:
                seeds = "one seed" if (count := reached[0].count) == 1 else f"mean of {count} seeds"
                words += f" {way}, it needs {listed(f'{one.mean:.3f}' for one in reached)} ({seeds})."
        return words
