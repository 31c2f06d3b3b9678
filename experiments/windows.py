"""Training and prompts on a text, by the window in which it is read.

    ("context", tokens, seed)       the model as it is, with so many tokens of the training text in front of each
                                    window (0: each window alone); "seconds" is the time to read them
    ("trained", row, window, seed)  trained in windows of so many tokens, at the rate that `compare_model` found for its
                                    own window, and on as many tokens in all

Each cell has the bits per character of the same held-out text by window, as {"128": ..., "512": ..., "2048": ...}, and
seconds of processor time, which other work on the machine does not change.
"""

from pathlib import Path
from time import process_time
from typing import Any

from experiments.compare_model import ModelComparison, ModelSettings
from experiments.subjects import DomainText, bits, rows_of
from minilora.errors import MiniloraError, escape
from minilora.measure.records import Records
from notebooks.figures.few_shot import bits_beyond, read_context

KIND = "windows of a text"
WINDOWS = (128, 512, 2048)
ROWS = ("lora", "full", "lora-qv", "prefix", "pfeiffer")  # those of the founding table that fit a text


def run(path: Path, settings: ModelSettings, compared: Records, resume: bool, overwrite: bool) -> Records:
    """Measure all of the settings into the file at `path`, or what is missing there; returns the records.

    compared: the comparison on the same text, whose learning rates are used. Raises MiniloraError if it lacks one.
    """
    rates = {row: next((cell["lr"] for cell in compared.of("trained", row)), None) for row in settings.rows}
    if missing := [row for row, rate in rates.items() if rate is None]:
        raise MiniloraError(f"no learning rate is known for {escape(missing[0])}: measure it by compare first")
    windows = Windows(settings, rates)
    records = Records.open(path, KIND, windows.facts(), resume, overwrite)
    records.complete(windows.cells(), windows.measure, "windows")
    return records


class Windows:
    """Measures the cells on the models and the texts of a comparison."""

    def __init__(self, settings: ModelSettings, rates: dict):
        self.settings, self.rates, self.comparison = settings, rates, ModelComparison(settings)
        if not isinstance(self.comparison.subject, DomainText):
            raise MiniloraError(f"{escape(settings.data)} has labels: windows are those of a text")
        self.subject = self.comparison.subject

    def facts(self) -> dict:
        """Return the settings that a resumed run must share."""
        facts, names = self.comparison.facts(), ("model", "data", "characters", "text_steps", "test_characters", "base")
        return {name: facts[name] for name in (*names, "text_sha256")}

    def cells(self) -> list[tuple]:
        """Return the keys of what is measured: all of one seed before the next, and first the cells that need no
        training.
        """
        cells: list[tuple] = [("context", 0, 0)]
        for seed in self.settings.seeds:
            cells += [("context", tokens, seed) for tokens in self.subject.contexts_before(WINDOWS[-1])]
            cells += [("trained", row, size, seed) for size in WINDOWS for row in self.settings.rows]
        return cells

    def measure(self, kind: str, *key: Any) -> dict:
        return getattr(self, f"measure_{kind}")(*key)

    def measure_context(self, tokens: int, seed: int) -> dict:
        base, tested, started = self.subject.base, self.subject.tested, process_time()
        cache = read_context(base, self.subject.data(seed).train.ids[:tokens])
        seconds = process_time() - started
        return {
            "bits": {str(size): bits_beyond(base, cache, tested, size, rows_of(size)) for size in WINDOWS},
            "seconds": seconds,
        }

    def measure_trained(self, row: str, window: int, seed: int) -> dict:
        shape = self.subject.in_windows(window)
        facts: dict[str, Any] = {"lr": self.rates[row], **shape}
        started = process_time()
        try:
            model, _ = self.comparison.train(row, self.rates[row], seed, **shape)
        except MiniloraError as error:  # it diverged
            return facts | {"error": str(error)}
        facts["seconds"] = process_time() - started
        return facts | {"bits": {str(size): bits(model, self.subject.tested, size) for size in WINDOWS}}
