"""Write docs/results.md, its figures, and every measured number in the project's texts, from the records.

    python -m experiments.results.page

A number in a text stands between marks that name it, and is replaced by the number in the records:

    LoRA trains <!-- measured: comparison.lora.share -->12 %<!-- / --> of the parameters.

A test fails if a text differs from the records. `values` lists the names.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments import check, compare_model, compare_model_report, comparison_report, dollars, judged, published, rates
from experiments import format as json_format
from experiments.figures import save_all
from experiments.results import curves, founding, jargon, scaling, speed, summary, titles
from experiments.results.measured import (
    CURVES,
    LARGE,
    PACKAGED,
    RECORDS,
    ROOT,
    measured_comparison,
    measured_curves,
    measured_ledger,
    measured_studies,
    measured_windows,
)
from experiments.results.tables import markdown
from experiments.studies import STUDIES
from experiments.what_each_buys import PICTURE, labels_grid, leads, sentence, what_each_buys
from experiments.windows_report import WindowsResult
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import read_json, write_atomic
from minilora.measure import curve
from minilora.measure.curve_report import CurveResult
from minilora.measure.records import Records
from minilora.show.grids import Grid

PAGE = Path("docs") / "results.md"
FIGURES = Path("docs") / "figures"
TABLES_ON_LARGE = ("data-types",)  # studies whose repetition on SmolLM2 is shown with its table
JUDGED: tuple[tuple[str, str, str, Callable], ...] = (  # question, kind of records, file, reader
    ("Does a format come by a prompt, or by training?", json_format.KIND, "format.jsonl", json_format.FormatResult),
    ("What do adapted models write?", judged.KIND, "judged.jsonl", judged.JudgedResult),
)
MARKED = re.compile(r"<!--\s+measured:\s+(?P<name>[^>]*?)\s+-->.*?<!--\s+/\s+-->", re.DOTALL)


def measured_judged(root: Path = ROOT) -> dict[str, tuple[str, Any]]:
    """Return {name: (question, result)} of the experiments that a program judges, if they are measured."""
    results = {}
    for title, kind, file, report in JUDGED:
        if (path := root / RECORDS / file).is_file():
            results[path.stem] = title, report(Records.read(path, kind))
    return results


# Numbers in texts


def texts(root: Path = ROOT) -> list[Path]:
    """Return the texts that may hold measured numbers."""
    paths = [root / "README.md", *sorted((root / "lessons").glob("*/*.md")), *sorted((root / "docs").glob("*.md"))]
    return [path for path in paths if path.is_file() and path != root / PAGE]


def values(root: Path = ROOT) -> dict[str, str]:
    """Return {name: text} of everything that a text may quote.

    `comparison.METHOD.NAME`, with a name of `comparison_report.IN_TEXTS`; `study.NAME` and `study.NAME.smollm2`, a
    study's sentence, and both with `.table`, and `study.NAME.X` with the names of its `in_texts`; `TASK.sentence` and
    `TASK.table` of each task of CURVES; `jargon.NAME`, see `jargon.values`; `scaling.speeds`, two ranks over each
    link, and `scaling.sentence`; `windows.table`, `windows.sentence`, `windows.base.SIZE`; `ahead of the
    prompt.TASK.WAY`; and the names of `Founding.values` and `Ledger.values`.
    """
    compared, steps = measured_comparison(root), scaling.read(root / PACKAGED / scaling.FILE)
    studies, large, curves_of = measured_studies(root), measured_studies(root, LARGE), measured_curves(root)
    grids = {f"{task}.table": result.grid() for task, result in curves_of.items()}
    grids |= {f"study.{name}.table": study.grid() for name, study in studies.items()}
    grids |= {f"study.{name}.{LARGE}.table": study.grid() for name, study in large.items()}
    grids["scaling.speeds"] = scaling.speeds(steps)
    known = {name: f"\n\n{markdown(grid)}\n\n" for name, grid in grids.items()}
    for method in compared.methods:
        in_texts = comparison_report.in_texts(compared, method)
        known |= {f"comparison.{method}.{name}": text for name, text in in_texts.items()}
    known |= {f"{task}.sentence": result.sentence() for task, result in curves_of.items()}
    known |= {f"study.{name}": study.sentence() for name, study in studies.items()}
    known |= {f"study.{name}.{one}": text for name, study in studies.items() for one, text in study.in_texts().items()}
    known |= {f"study.{name}.{LARGE}": study.sentence() for name, study in large.items()}
    founded = founding.Founding(root / RECORDS)
    known |= founded.values()
    by_task = leads(_labelled(founded)).items()
    known |= {f"ahead of the prompt.{task}.{way}": lead.show(1) for task, of in by_task for way, lead in of.items()}
    known |= measured_ledger(root).values()
    known |= jargon.values(jargon.read(root / PACKAGED / jargon.FILE))
    if windows := measured_windows(root):
        known |= {"windows.table": f"\n\n{markdown(windows.grid())}\n\n", "windows.sentence": windows.sentence()}
        known |= {f"windows.base.{size}": f"{windows.base(size):.3f}" for size in windows.sizes}
    known |= {f"{name}.sentence": result.sentence() for name, (_, result) in measured_judged(root).items()}
    return known | {"scaling.sentence": scaling.sentence(steps)}


def fill(text: str, known: dict[str, str], where: str = "the text") -> str:
    """Return `text` with each marked number replaced. Raises MiniloraError for a name that is not in `known`."""

    def number(match: re.Match) -> str:
        name = match["name"]
        if name not in known:
            raise MiniloraError(f"{where}: nothing measured is called {escape(name)}")
        return f"<!-- measured: {name} -->{known[name]}<!-- / -->"

    return MARKED.sub(number, text)


# The page

INTRODUCTION = (
    "`python -m experiments.results.page` makes this page from the records in `experiments/records` and "
    "`minilora/assets/results`. The first line of a record names the machine and the versions of all packages.",
    "**The model.** Unless a section names another, it is the package's base of 2.8 M parameters, pretrained on "
    "Python's documentation (`python-docs`) and adapted to NumPy's (`numpy-docs`). On text, quality is in bits per "
    "character of held-out text (bits/char), where less is better; a gain is the number of bits per character that "
    "training saves.",
    "**The numbers.** 0.383 ± 0.016 is a mean over seeds and their standard deviation. +0.143 (+0.092 to +0.195) is a "
    "difference and its 95 % interval. Both sides of a difference share their seeds, so it is taken seed by seed, and "
    "the interval is Student's t over these differences. Where several intervals stand in one column or sentence, "
    "each is made wider, so that all of them hold together with 95 % (Bonferroni). If an interval holds 0, the seeds "
    "do not show which side is ahead.",
)


def page(root: Path = ROOT) -> str:
    """Return the content of docs/results.md: findings, contents, and the sections."""
    sections = dict(_sections(root))
    findings = [f"- [{subject}]({anchor(title)}): {sentence}" for subject, title, sentence in summary.findings(root)]
    contents = [f"- [{title}]({anchor(title)})" for title in sections]
    paragraphs = ["# Results", *INTRODUCTION, "## What was found", "\n".join(findings)]
    paragraphs += ["## Contents", "\n".join(contents)]
    for title, parts in sections.items():
        paragraphs += [f"## {title}", *parts]
    return "\n\n".join(paragraphs) + "\n"


def anchor(title: str) -> str:
    """Return the link to a section, as GitHub and Sphinx name headings."""
    return f"#{re.sub(r'[^a-z0-9_ -]', '', title.lower()).replace(' ', '-')}"


def _sections(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Return the title and the paragraphs of each section."""
    compared, founded, windows = measured_comparison(root), founding.Founding(root / RECORDS), measured_windows(root)
    yield titles.LEDGER, [_table(measured_ledger(root).grid(), numbers=False)]
    if founded.results:
        yield titles.MODELS, [*_models(root, founded.results)]
    figures = (_figure(name, draw) for name, draw in comparison_report.FIGURES.items())
    origin = _origin(root, compared.records, "python -m experiments compare")
    yield titles.BASE, [_table(comparison_report.grid(compared)), *figures, *origin]
    if windows:
        yield titles.WINDOWS, [*_windows(root, windows, founded)]
    for name, (title, result) in measured_judged(root).items():
        origin = _origin(root, result.records, f"python -m experiments.{name} {name}")
        yield title, [result.sentence(), _table(result.grid()), *origin]
    yield titles.CURVES, [*_curves(root)]
    yield titles.JARGON, [*_jargon(root)]
    yield from _studies(root)
    on_base = Records.read(root / RECORDS / rates.FILE, rates.KIND)
    on_large = [Records.read(root / RECORDS / founding.file_of(name), compare_model.KIND) for name in founding.SUBJECTS]
    table = _table(rates.grid(on_base, on_large))
    yield titles.RATES, [founded.rates_in_words(), table, *_origin(root, on_base, "python -m experiments.rates")]
    speeds = speed.read_all(root / RECORDS)
    yield speed.TITLE, [part for one in speeds for part in (_titled(speed.grid(one)), _provenance(one, one["command"]))]
    by_shape = Records.read(root / RECORDS / curves.FILE, curves.KIND)
    figures = (_figure(name, draw.func) for name, draw in curves.FIGURES.items())
    measured = _provenance(by_shape.header, "python -m benchmarks.curves")
    yield titles.SHAPES, [curves.in_words(by_shape), *figures, measured]
    steps = Records.read(root / PACKAGED / scaling.FILE, scaling.KIND)
    rows, measured = list(steps.rows.values()), _provenance(steps.header, "python -m benchmarks.scaling")
    yield scaling.TITLE, [scaling.sentence(rows), _table(scaling.speeds(rows)), measured]
    yield (
        titles.PLANNER,
        ["Computed by `minilora plan`, so the numbers are the same on every machine.", _table(published.grid())],
    )
    yield titles.DOLLARS, [_titled(dollars.grid()), _titled(dollars.one_gpu()), "`python -m experiments.dollars`"]


def _models(root: Path, results: dict[str, compare_model_report.ModelResult]) -> Iterator[str]:
    """Return the section on every method on a published model."""
    yield _table(compare_model_report.side_by_side(_by_subject(results)))
    for subject in results:
        yield from (_figure(f"model-{subject}-{name}", draw) for name, draw in compare_model_report.FIGURES.items())
    for subject, result in results.items():
        yield from _origin(root, result.records, f"python -m experiments compare --model {LARGE} --data {subject}")


def _windows(root: Path, windows: WindowsResult, founded: founding.Founding) -> Iterator[str]:
    """Return the section on what context, a probe, a prompt and training buy."""
    labelled = _labelled(founded)
    yield f"{windows.sentence()} The whole table, window by window, is among [the claims](claims.md)."
    yield sentence(labelled)
    yield _table(labels_grid(labelled))
    yield _figure(PICTURE, what_each_buys)
    yield from _origin(root, windows.records, "python -m experiments windows")


def _by_subject(results: dict[str, compare_model_report.ModelResult]) -> dict[str, compare_model_report.ModelResult]:
    """Return {subject: its comparison}."""
    return {founding.SUBJECTS[subject].partition(",")[0]: result for subject, result in results.items()}


def _labelled(founded: founding.Founding) -> dict[str, compare_model_report.ModelResult]:
    """Return {subject: its comparison} for tasks with labels."""
    return {name: result for name, result in _by_subject(founded.results).items() if result.has_labels}


def _curves(root: Path) -> Iterator[str]:
    """Return the section on examples in the prompt against examples to train on, task by task."""
    yield "The tables, with tokens and milliseconds per query, are in [Your own data](own-data.md)."
    for task, result in measured_curves(root).items():
        sizes = result.settings["sizes"]
        flags = f" --sizes {','.join(map(str, sizes))}" if tuple(sizes) != curve.CurveSettings.sizes else ""
        yield f"**{CURVES[task]}.** {result.sentence()}"
        yield _figure(f"curve-{task}", CurveResult.figure)
        yield from _origin(root, result.records, f"minilora curve --data {task}{flags}")


def _studies(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Return the title and the paragraphs of each study, those that are not measured yet last."""
    small, large = measured_studies(root), measured_studies(root, LARGE)
    for name, study in small.items():
        quick = " --quick" * (study.settings["base"] is not None)  # a smaller base than the package's
        parts = [study.sentence(), f"*Published:* {study.published}", _table(study.grid())]
        parts.append(_figure(f"study-{name}", study.figure))
        parts += _origin(root, study.records, f"python -m experiments study {name}{quick}")
        if name in large:
            date = large[name].records.header["date"][:10]
            parts.append(f"*On SmolLM2-135M* (`--model {LARGE}`, {date}): {large[name].sentence()}")
            parts += _warning(root, large[name].records)
            parts += [markdown(large[name].grid())] * (name in TABLES_ON_LARGE)
        yield study.question, parts
    for name, kind in STUDIES.items():
        if name not in small:
            yield kind.question, [f"Not measured yet: `python -m experiments study {name}`."]


def _jargon(root: Path) -> Iterator[str]:
    """Return the section on teaching a published model a glossary."""
    path = root / PACKAGED / jargon.FILE
    records, runs = Records.read(path, jargon.KIND), jargon.read(path)
    training = runs[0]["training"]
    yield jargon.sentence(runs)
    yield from (_figure(name, draw) for name, draw in jargon.FIGURES.items())
    yield _titled(jargon.samples_grid(runs), numbers=False)
    yield (
        f"SmolLM2-135M-Instruct in 4 bits; QLoRA of rank {training['rank']}, {training['steps']} steps at a learning "
        f"rate of {training['lr']:g}, with {runs[0]['replay']} of its own answers to general questions mixed in. All "
        "scores and times are in [lesson 13](../lessons/13_choosing/giant.md)."
    )
    yield from _origin(root, records, f"python -m experiments jargon --seeds {len(runs)}")


def _origin(root: Path, records: Records, command: str) -> Iterator[str]:
    """Return the line on how records were measured, and a warning if they are stale."""
    yield _provenance(records.header, command)
    yield from _warning(root, records)


def _warning(root: Path, records: Records) -> Iterator[str]:
    """Return a warning if today's code would not reproduce the records."""
    if reason := read_json(root / check.STALE).get(records.path.name):
        yield f"**Stale:** measured with other code ({escape(reason, 300)})."


def _provenance(header: dict, command: str) -> str:
    return f"`{command}`, {header['date'][:10]}"


def _table(grid: Grid, numbers: bool = True) -> str:
    """Return a table and its caption; sections with several tables use `_titled`."""
    return f"{markdown(grid, numbers)}\n\n{grid.caption}"


def _titled(grid: Grid, numbers: bool = True) -> str:
    return f"**{grid.title}**\n\n{_table(grid, numbers)}"


def _figure(name: str, draw: Callable) -> str:
    """Return the figure with the docstring of the function that draws it as its caption."""
    return f"![{name.replace('-', ' ')}](figures/{name}.png)\n\n*{' '.join((draw.__doc__ or '').split())}*"


def figures(root: Path = ROOT) -> dict[str, tuple[Callable, Any]]:
    """Return {name: (function that draws it, its argument)} of the page's figures."""
    drawings: list[tuple[Mapping[str, Callable], Any]] = [(comparison_report.FIGURES, measured_comparison(root))]
    drawings += [({f"study-{name}": STUDIES[name].figure}, study) for name, study in measured_studies(root).items()]
    for subject, result in founding.Founding(root / RECORDS).results.items():
        drawings.append(({f"model-{subject}-{n}": draw for n, draw in compare_model_report.FIGURES.items()}, result))
    if windows := measured_windows(root):
        tasks = _labelled(founding.Founding(root / RECORDS))
        drawings.append(({PICTURE: lambda one: what_each_buys(one, tasks)}, windows))
    drawings += [({f"curve-{task}": CurveResult.figure}, result) for task, result in measured_curves(root).items()]
    drawings.append((jargon.FIGURES, jargon.read(root / PACKAGED / jargon.FILE)))
    drawings.append((curves.FIGURES, Records.read(root / RECORDS / curves.FILE, curves.KIND)))
    return {name: (draw, measured) for draws, measured in drawings for name, draw in draws.items()}


def write(root: Path = ROOT) -> None:
    """Write the page and its figures, and update the marked numbers in all texts."""
    write_atomic(root / PAGE, page(root))
    for name, (draw, measured) in figures(root).items():
        save_all({name: draw}, measured, root / FIGURES)
    known = values(root)
    for path in texts(root):
        before = path.read_text()
        if (after := fill(before, known, path.name)) != before:
            write_atomic(path, after)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    try:
        write()
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
