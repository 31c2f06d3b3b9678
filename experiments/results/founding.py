"""The founding table: what the project's founding text says of five methods, beside what was measured on SmolLM2."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path

from experiments.beside import verdict
from experiments.compare_model import KIND, PROBE, PROMPTED
from experiments.compare_model_report import FAMILY, LABELS, ModelResult
from experiments.results.tables import markdown
from minilora.measure.records import Records
from minilora.show.grids import Grid, Spread, listed, show_bytes, show_share

SUBJECTS = {
    "reviews": "film reviews, % ↑",
    "r8": "Reuters' topics, % ↑",
    "numpy-docs": "NumPy's docs, bits/char ↓",
}


def file_of(subject: str) -> str:
    return f"model-{subject}.jsonl"


NEAR = 0.9  # share of another row's gain from which a gain counts as near it
UNTESTED = -inf  # marks a claim that a level on one task cannot show
MOST_PEAK = {"very high": 1.0, "low": 0.5, "very low": 0.25}  # largest share of full fine-tuning's peak for each word
SIGNS = {"shown": "✓", "refuted": "✗", "undecided": "?", "": ""}


@dataclass(frozen=True)
class Claim:
    """A claim of the chapter about a row: that it gains at least `part` of what the row `than` gains. than: "" for the
    claim that it is the best row, so that no other gains more than 1 / NEAR times as much.
    """

    share: tuple[float, float]  # least and greatest share of the parameters that may train
    share_in_words: str
    memory: str
    quality: str
    than: str = ""
    part: float = NEAR


CLAIMS = {
    PROBE: Claim((0, 0.001), "few", "–", "least adaptable", part=UNTESTED),
    "full": Claim((1, 1), "100 %", "very high", "best"),
    "lora-qv": Claim((0.001, 0.01), "0.1–1 %", "low", "near full", "full"),
    "lora": Claim((0.001, 0.01), "0.1–1 %", "low", "near full", "full"),
    "qlora": Claim((0.001, 0.01), "0.1–1 %", "very low", "near LoRA", "lora"),
    "prefix": Claim((0, 0.001), "< 0.1 %", "very low", "good for generation", part=UNTESTED),
    "pfeiffer": Claim((0.01, 0.05), "1–5 %", "low", "good across tasks", part=UNTESTED),
    PROMPTED: Claim((0, 0), "–", "–", "similar results", "lora"),
}


class Founding:
    """The records of what was measured, by subject."""

    def __init__(self, folder: Path):
        files = {subject: folder / file_of(subject) for subject in SUBJECTS}
        self.results = {s: ModelResult(Records.read(path, KIND)) for s, path in files.items() if path.is_file()}
        self.rows = [row for row in CLAIMS if any(result.cells(row) for result in self.results.values())]

    def peak(self, row: str) -> int | None:
        """Return the peak memory of a training step in bytes, from the first subject that has it."""
        cells = (result.records.rows.get(("memory", row)) for result in self.results.values())
        return next((cell["peak"] for cell in cells if cell), None)

    def share(self, row: str) -> float:
        """Return the share of the parameters that trains, from the first subject that has it."""
        if row == PROMPTED:
            return 0
        return next(result.share(row) for result in self.results.values() if row in result.rows)

    def _trains(self, row: str) -> str:
        """Write the share of trained parameters with ✓ or ✗. It is counted, so it is never undecided."""
        if row == PROMPTED:
            return "–"
        least, most = CLAIMS[row].share
        share = show_share(self.share(row)).replace("0.000 %", "< 0.001 %")
        return f"{share} {SIGNS['shown' if least <= self.share(row) <= most else 'refuted']}"

    def _memory(self, row: str) -> str:
        """Write the peak, its ratio to full fine-tuning's, and ✓ if the chapter's word for it holds, else ✗."""
        peak, full = self.peak(row), self.peak("full")
        if peak is None or not full:
            return "–"
        fits = peak / full <= MOST_PEAK[CLAIMS[row].memory]
        return f"{show_bytes(peak)} ({peak / full:.2f}) {SIGNS['shown' if fits else 'refuted']}"

    def verdict(self, subject: str, row: str) -> str:
        """Return the verdict on the chapter's claim about a row's quality: "shown", "refuted" or "undecided"; "" if
        this subject cannot show it, or if the records lack the numbers.
        """
        claim, result = CLAIMS[row], self.results[subject]
        if claim.part < 0 or not result.cells(row):
            return ""
        if claim.than:
            lead = result.ahead(row, claim.than, FAMILY[claim.than], claim.part)
            return verdict(lead, 0, inf) if lead else ""
        others = [other for other in self.rows if other not in (row, PROMPTED) and result.cells(other)]
        leads = [result.ahead(row, other, len(others), claim.part) for other in others]
        verdicts = {verdict(lead, 0, inf) if lead else "" for lead in leads}
        return next((word for word in ("", "refuted", "undecided", "shown") if word in verdicts), "")

    def grid(self) -> Grid:
        """Return the chapter's table beside what was measured, with a verdict on each cell."""
        rows: list[tuple[str, ...]] = [(LABELS["base"], *["–"] * 5, *self._as_it_came())]
        for row in self.rows:
            claim = CLAIMS[row]
            levels = zip(self._levels(row), self.results, strict=True)
            judged = [f"{level} {SIGNS[self.verdict(subject, row)]}".strip() for level, subject in levels]
            needs = (claim.share_in_words, self._trains(row), claim.memory, self._memory(row))
            rows.append((LABELS[row], *needs, claim.quality, *judged))
        titles = map(self._title, self.results)
        header = ("", "trains: said", "measured", "memory: said", "peak (of full's)", "quality: said", *titles)
        return Grid("The founding table, and what was measured", header, rows, "")

    def levels(self) -> Grid:
        """Return what each row trains and reaches, from the fewest parameters to the most."""
        rows = [(LABELS["base"], "–", *self._as_it_came())]
        rows += [(LABELS[r], self._share_in_words(r), *self._levels(r)) for r in sorted(self.rows, key=self.share)]
        names = map(self._title, self.results)
        return Grid("What trains, and what it reaches", ("", "trains", *names), rows, "")

    def rates_in_words(self) -> str:
        """Return LoRA's best learning rate in multiples of full fine-tuning's on each subject, in a sentence."""
        ratios = []
        for subject, result in self.results.items():
            lora, full = (result.best_rate(row) for row in ("lora", "full"))
            if lora and full:
                ratios.append(f"{lora / full:.2g} on {SUBJECTS[subject].partition(',')[0]}")
        if not ratios:
            return "LoRA's best learning rate was not searched on SmolLM2."
        return (
            f"On SmolLM2, LoRA's best learning rate as a multiple of full fine-tuning's is {listed(ratios)}. Each "
            "rate was found by a search with one seed, so these ratios give no verdict. The ledger judges the claim "
            "on the package's base."
        )

    def _title(self, subject: str) -> str:
        """Return the header of the subject's column, with the window in which its text is read."""
        result = self.results[subject]
        window = f", windows of {result.settings.get('window', '?')} tokens"
        return SUBJECTS[subject] + window * (not result.has_labels)

    def _as_it_came(self) -> list[str]:
        return [r.level(r.base) if r.base else "–" for r in self.results.values()]

    def _levels(self, row: str) -> list[str]:
        results = self.results.values()
        return [Spread.of(r.scores(row).values()).show(r.digits) if r.cells(row) else "–" for r in results]

    def _share_in_words(self, row: str) -> str:
        return "–" if row == PROMPTED else show_share(self.share(row))

    def values(self) -> dict[str, str]:
        """{name: as a text says it}: `founding.table`, `founding.levels`; `model.SUBJECT.ROW`, what a row reached, of
        which `.share`, `.peak` (memory) and `.speed` (over the base's) follow; those of the base and of few-shot.
        """
        grids = {"founding.table": self.grid, "founding.levels": self.levels} if self.rows else {}
        values = {name: f"\n\n{markdown(grid(), numbers=False)}\n\n" for name, grid in grids.items()}
        for subject, result in self.results.items():
            at = f"model.{subject}"
            for one in result.records.of("base"):
                values[".".join([at, *one["key"]])] = result.level(one)
            if "calibrated" in result.base:
                values[f"{at}.base.calibrated"] = f"{100 * result.base['calibrated']:.1f}"
            if result.cells(PROMPTED):
                values[f"{at}.{PROMPTED}"] = result.reached(PROMPTED).show(result.digits)
                values[f"{at}.{PROMPTED}.calibrated"] = result.prompted().show(result.digits)
            for row in result.rows:
                values[f"{at}.{row}"] = result.reached(row).show(result.digits)
                values[f"{at}.{row}.share"] = show_share(result.share(row))
                if rate := result.generates(row):
                    values[f"{at}.{row}.speed"] = f"{rate:.2f}"
                if (memory := ("memory", row)) in result.records:
                    values[f"{at}.{row}.peak"] = show_bytes(result.records.rows[memory]["peak"])
        return values
