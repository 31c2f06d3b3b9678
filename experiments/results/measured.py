"""Readers of the records that docs/results.md and other texts are made from."""

from pathlib import Path

from experiments import comparison, comparison_report
from experiments.results import founding, ledger
from experiments.studies import STUDIES, Study
from experiments.windows_report import WindowsResult
from minilora.measure import curve
from minilora.measure.curve_report import CurveResult
from minilora.measure.records import Records

ROOT = Path(__file__).parents[2]
RECORDS = Path("experiments") / "records"  # study-NAME, curve-TASK, model-SUBJECT, curves .jsonl; speed-* .json
PACKAGED = Path("minilora") / "assets" / "results"  # records that notebooks show
LARGE = "smollm2"  # the published model on which studies are repeated
COMPARISON = "compare.jsonl"
WINDOWS = "model-numpy-docs-windows.jsonl"
CURVES = {"reviews": "Film reviews", "r8": "Reuters' news in eight topics"}  # {task: its subject}


def measured_studies(root: Path = ROOT, model: str = "") -> dict[str, Study]:
    """Return the studies that have records by name. model: a published model instead of the package's base."""
    folders, end = (root / RECORDS, root / PACKAGED), f"{'-' * bool(model)}{model}.jsonl"
    files = [(study, folder / f"study-{name}{end}") for name, study in STUDIES.items() for folder in folders]
    return {study.name: study(Records.read(path, study.kind)) for study, path in files if path.is_file()}


def measured_comparison(root: Path = ROOT) -> comparison_report.ComparisonResult:
    """Return the comparison of methods on the package's base."""
    return comparison_report.ComparisonResult(Records.read(root / PACKAGED / COMPARISON, comparison.KIND))


def measured_curves(root: Path = ROOT) -> dict[str, CurveResult]:
    """Return {task: the comparison of examples in the prompt and examples to train on}."""
    files = {task: root / RECORDS / f"curve-{task}.jsonl" for task in CURVES}
    return {task: CurveResult(Records.read(path, curve.KIND)) for task, path in files.items() if path.is_file()}


def measured_windows(root: Path = ROOT) -> WindowsResult | None:
    """Return the comparison of windows, prompts and training on a text."""
    path = root / RECORDS / WINDOWS
    return WindowsResult.read(path) if path.is_file() else None


def measured_ledger(root: Path = ROOT) -> ledger.Ledger:
    """Return the ledger of claims."""
    results = founding.Founding(root / RECORDS).results
    return ledger.Ledger(measured_studies(root), measured_studies(root, LARGE), results)
