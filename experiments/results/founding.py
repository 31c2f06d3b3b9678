"""The founding table: what the project's founding text says of five methods, beside what was measured on SmolLM2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.compare_model import KIND, PROMPTED
from experiments.compare_model_report import LABELS, ModelResult
from experiments.results.tables import markdown
from minilora.measure.records import Records
from minilora.peft import METHODS
from minilora.peft.method import SIZES
from minilora.show.grids import Grid, Spread, listed, show_bytes, show_share, show_signed

SUBJECTS = {
    "reviews": "film reviews, % ↑",
    "r8": "Reuters' topics, % ↑",
    "numpy-docs": "NumPy's docs, bits/char ↓",
}


def file_of(subject: str) -> str:
    return f"model-{subject}.jsonl"


@dataclass(frozen=True)
class Claim:
    """What the text says of a row."""

    share: tuple[float, float]  # of the parameters, from and to
    share_in_words: str
    memory: str
    quality: str
    near: str = ""  # the row that it is said to be near
    below: tuple[str, ...] = ()  # rows that need more memory


CLAIMS = {
    "full": Claim((1, 1), "100 %", "very high", "best"),
    "lora-qv": Claim((0.001, 0.01), "0.1–1 %", "low", "near full", "full", ("full",)),
    "lora": Claim((0.001, 0.01), "0.1–1 %", "low", "near full", "full", ("full",)),
    "qlora": Claim((0.001, 0.01), "0.1–1 %", "very low", "near LoRA", "lora", ("full", "lora")),
    "prefix": Claim((0, 0.001), "< 0.1 %", "very low", "good for generation", PROMPTED, ("full", "lora")),
    "pfeiffer": Claim((0.01, 0.05), "1–5 %", "low", "good across tasks", PROMPTED, ("full",)),
    PROMPTED: Claim((0, 0), "–", "–", "similar results", "lora"),
}


def is_measured(row: str, result: ModelResult) -> bool:
    return bool(result.cells(PROMPTED)) if row == PROMPTED else row in result.rows


def reached(row: str, result: ModelResult) -> Spread:
    return result.prompted() if row == PROMPTED else result.reached(row)


NEAR = 0.9  # of a gain


class Founding:
    """The records of what was measured, by subject."""

    def __init__(self, folder: Path):
        files = {subject: folder / file_of(subject) for subject in SUBJECTS}
        self.results = {s: ModelResult(Records.read(path, KIND)) for s, path in files.items() if path.is_file()}
        self.rows = [row for row in CLAIMS if any(is_measured(row, result) for result in self.results.values())]

    def peak(self, row: str) -> int | None:
        """Bytes alive at once in a training step, of the first subject that has it measured."""
        found = (result.records.rows.get(("memory", row)) for result in self.results.values())
        return next((cell["peak"] for cell in found if cell), None)

    def share(self, row: str) -> float:
        return (
            0 if row == PROMPTED else next(result.share(row) for result in self.results.values() if row in result.rows)
        )

    def disagreements(self, row: str) -> Iterator[str]:
        """What of the claim does not show, in a few words each."""
        claim, share, peak = CLAIMS[row], self.share(row), self.peak(row)
        if not claim.share[0] <= share <= claim.share[1]:
            yield f"trains {'more' if share > claim.share[1] else 'less'} than said"
        larger = [other for other in claim.below if (theirs := self.peak(other)) and peak and peak >= theirs]
        if larger:
            yield f"no less memory than {listed(LABELS[other] for other in larger)}"
        behind: dict[str, list[str]] = {}
        for subject, result in self.results.items():
            if is_measured(row, result) and (other := self._ahead_of(result, row)):
                kept = 100 * result.gain(reached(row, result)) / result.gain(reached(other, result))
                gain = "" if other in behind else f" of the gain of {LABELS[other].removesuffix(' on all linears')}"
                behind.setdefault(other, []).append(f"{kept:.0f} %{gain} on {SUBJECTS[subject].partition(',')[0]}")
        yield from map(listed, behind.values())

    def _ahead_of(self, result: ModelResult, row: str) -> str:
        """The row that this one is said to be near and is not, or, of full fine-tuning, that it is said to beat; or "".

        Near is nine tenths of the other's gain. Rows are told apart if the whole interval of their difference, seed by
        seed and question by question, lies on one side of 0; of a prompt, seed by seed.
        """
        near = CLAIMS[row].near
        others = [near] if near else [other for other in result.rows if other in self.rows]
        for other in others:
            if not is_measured(other, result):
                continue
            lead = result.ahead(other, row, len(others) * len(self.results))
            mine, theirs = (result.gain(reached(name, result)) for name in (row, other))
            if lead and lead.low > 0 and mine < (NEAR if near else 1) * theirs:
                return other
        return ""

    def grid(self) -> Grid:
        """What the text says beside what was measured."""
        full = self.peak("full")
        rows: list[tuple[str, ...]] = [(LABELS["base"], *["–"] * 5, *self._as_it_came(), "")]
        for row in self.rows:
            claim, peak = CLAIMS[row], self.peak(row)
            memory = "–" if peak is None else show_bytes(peak) + (f" ({peak / full:.2f})" if full else "")
            against = "; ".join(self.disagreements(row))
            verdict = f"partly: {against}" if against else "yes"
            said = (claim.share_in_words, self._share_in_words(row), claim.memory, memory, claim.quality)
            rows.append((LABELS[row], *said, *self._levels(row), verdict))
        names = map(self._title, self.results)
        header = (
            "",
            "trains: said",
            "measured",
            "memory: said",
            "peak (of full's)",
            "quality: said",
            *names,
            "agrees?",
        )
        return Grid("The founding table, and what was measured", header, rows, CAPTION)

    def levels(self) -> Grid:
        """What each row trains and reaches, from the fewest parameters to the most."""
        rows = [(LABELS["base"], "–", *self._as_it_came())]
        rows += [(LABELS[r], self._share_in_words(r), *self._levels(r)) for r in sorted(self.rows, key=self.share)]
        names = map(self._title, self.results)
        return Grid("What trains, and what it reaches", ("", "trains", *names), rows, CAPTION)

    def rates_in_words(self) -> str:
        """LoRA's best learning rate in multiples of full fine-tuning's, on the small base and on each subject."""
        small = METHODS["lora"].rate(SIZES[0]) / METHODS["full"].rate(SIZES[0])
        found = [f"{small:.2g} times for the package's base"]
        for subject, result in self.results.items():
            lora, full = (result.best_rate(row) for row in ("lora", "full"))
            if lora and full:
                found.append(f"{lora / full:.2g} for SmolLM2 on {SUBJECTS[subject].partition(',')[0]}")
        return (
            f"LoRA's best learning rate against full fine-tuning's, each found by a search: {listed(found)}; "
            "published: about 10 times (Schulman et al. 2025, LoRA without regret)."
        )

    def _title(self, subject: str) -> str:
        """Return the subject's column, with the window that its text is read in."""
        result = self.results[subject]
        window = f", windows of {result.settings.get('window', '?')} tokens"
        return SUBJECTS[subject] + window * (not result.has_labels)

    def _as_it_came(self) -> list[str]:
        return [r.level(r.base) if r.base else "–" for r in self.results.values()]

    def _levels(self, row: str) -> list[str]:
        return [reached(row, r).show(r.digits) if is_measured(row, r) else "–" for r in self.results.values()]

    def _share_in_words(self, row: str) -> str:
        return "–" if row == PROMPTED else show_share(self.share(row))

    def values(self) -> dict[str, str]:
        """{name: as a text says it}: `founding.table`, `founding.levels`; `model.SUBJECT.ROW`, what a row reached, of
        which `.forgot` (plain English), `.quiz` (points won), `.share` and `.peak` (memory) follow; those of the base
        and of few-shot; `model.SUBJECT.variants`, of LoRA.
        """
        grids = {"founding.table": self.grid, "founding.levels": self.levels} if self.rows else {}
        found = {name: f"\n\n{markdown(grid(), numbers=False)}\n\n" for name, grid in grids.items()}
        for subject, result in self.results.items():
            at = f"model.{subject}"
            for one in result.records.of("base"):
                found[".".join([at, *one["key"]])] = result.level(one)
            if "calibrated" in result.base:
                found[f"{at}.base.calibrated"] = f"{100 * result.base['calibrated']:.1f}"
            if any(result.records.of("prompt")):
                found[f"{at}.{PROMPTED}"] = result.reached(PROMPTED).show(result.digits)
            for row in result.rows:
                found[f"{at}.{row}"] = result.reached(row).show(result.digits)
                found[f"{at}.{row}.forgot"] = show_signed(result.forgot(row, "english").mean)
                found[f"{at}.{row}.quiz"] = result.quiz(row)
                found[f"{at}.{row}.share"] = show_share(result.share(row))
                if (memory := ("memory", row)) in result.records:
                    found[f"{at}.{row}.peak"] = show_bytes(result.records.rows[memory]["peak"])
            found[f"{at}.variants"] = variants(result)
        return found


PUBLISHED = (
    "Each with learning rates, batch sizes and ranks searched for it, nine variants end within 1 to 2 % of LoRA at "
    "four kinds of task, and want rates of their own (Lee et al. 2026, Learning rate matters)."
)
VARIANTS = ("rslora", "lora-plus", "dora", "pissa", "vera", "qlora")  # of LoRA on all linears


def variants(result: ModelResult) -> str:
    """Whether variants of LoRA differ once each has a learning rate of its own, in a sentence."""
    rows = [row for row in VARIANTS if row in result.rows]
    compared = max(1, sum(len(result.scores(row)) > 1 for row in rows))
    found = {row: ahead for row in rows if (ahead := result.ahead(row, comparisons=compared))}
    if not found:
        return "Not all is measured yet."
    means = sorted(ahead.mean for ahead in found.values())
    unit = "points" if result.has_labels else "bits per character saved"
    tell = [row for row, ahead in found.items() if ahead.count > 1]
    apart = [LABELS[row] for row in tell if found[row].excludes(0)]
    differ, to = ("differ", f" to {means[-1]:+.{result.digits}f}") if len(means) > 1 else ("differs", "")
    said = f"{listed(LABELS[row] for row in found)} {differ} from LoRA by {means[0]:+.{result.digits}f}{to} {unit} "
    said += "(more is better) on the same questions and seeds, each at the best of its own learning rates"
    if tell:
        said += f"; told apart at 95 %, corrected for {compared}: {listed(apart or ['none'])}"
    said += "."
    if few := [LABELS[row] for row in found if row not in tell]:
        said += f" One seed, so no verdict: {listed(few)}."
    return said.replace("-", "−")


CAPTION = (
    "What the text says, and beside it SmolLM2-135M after 60 steps on 128 examples, or 30 steps on 60,000 characters, "
    "each method at the best of 3 to 6 learning rates; means ± standard deviation over three seeds. ↑ more is better, "
    "↓ less. Peak: the most bytes of arrays alive in a training step on the first of the data. Near: nine tenths of "
    "what the other gains over the model as it is, or not shown to be further away (95 %, seeds paired, corrected). "
    "Good: better than the prompt. The prompt's accuracy is calibrated, which helps it most."
)
