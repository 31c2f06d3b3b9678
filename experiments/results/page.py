"""docs/results.md and every measured number in the project's texts, made from the records.

    python -m experiments.results.page   writes the page, its figures, and the marked numbers in the texts

A number in a text stands between marks that name it, and is replaced by what the records say:

    LoRA trains <!-- measured: comparison.lora.share -->12 %<!-- / --> of the parameters.

A test fails where a text says anything else than the records. See `values` for the names.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments import (
    check,
    compare_model,
    compare_model_report,
    comparison,
    comparison_report,
    dollars,
    judged,
    published,
    rates,
)
from experiments import format as json_format
from experiments.figures import save_all
from experiments.results import curves, founding, jargon, ledger, scaling, speed
from experiments.results.tables import markdown
from experiments.studies import STUDIES, Study
from experiments.what_each_buys import PICTURE, labels_grid, sentence, what_each_buys
from experiments.windows_report import WindowsResult
from minilora.demo import teach_report
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import read_json, write_atomic
from minilora.measure import curve
from minilora.measure.curve_report import CurveResult
from minilora.measure.records import Records
from minilora.show.grids import Grid, show_bytes

ROOT = Path(__file__).parents[2]
RECORDS = Path("experiments") / "records"  # study-NAME, curve-TASK, model-SUBJECT, curves .jsonl; speed-* .json
PACKAGED = Path("minilora") / "assets" / "results"  # compare, jargon, scaling, study-prompting .jsonl
LARGE = "smollm2"  # the published model on which studies are confirmed
PAGE = Path("docs") / "results.md"
FIGURES = Path("docs") / "figures"
COMPARISON = "compare.jsonl"
JUDGED: tuple[tuple[str, str, str, Callable], ...] = (  # question, kind, file, and what reads it
    ("Does a format come by a prompt, or by training?", json_format.KIND, "format.jsonl", json_format.FormatResult),
    ("What do adapted models write?", judged.KIND, "judged.jsonl", judged.JudgedResult),
)
WINDOWS = "model-numpy-docs-windows.jsonl"
CURVES = {"reviews": "Film reviews", "r8": "News of Reuters in eight topics"}  # {task: what it is about}
MARKED = re.compile(r"<!--\s+measured:\s+(?P<name>[^>]*?)\s+-->.*?<!--\s+/\s+-->", re.DOTALL)


# Numbers in texts


def texts(root: Path = ROOT) -> list[Path]:
    """Return the texts that may hold measured numbers."""
    found = [root / "README.md", *sorted((root / "lessons").glob("*/*.md")), *sorted((root / "docs").glob("*.md"))]
    return [path for path in found if path.is_file() and path != root / PAGE]


def values(root: Path = ROOT) -> dict[str, str]:
    """Return {name: as it is printed}.

    `comparison.METHOD.NAME` with a name of `comparison_report.IN_TEXTS`; `study.NAME`, a sentence, and
    `study.NAME.smollm2`; `study.NAME.table`, all its runs; `jargon.NAME`, see `jargon.values`; `scaling.speeds`, two
    ranks over each link; `scaling.sentence`, `reviews.table` and `reviews.sentence`, and so of each task of CURVES;
    those of `Founding.values` and `Ledger.values`; `windows.table`, `windows.sentence` and `windows.base.SIZE`.
    """
    compared, steps = measured_comparison(root), scaling.read(root / PACKAGED / scaling.FILE)
    grids = {f"{task}.table": result.grid() for task, result in measured_curves(root).items()}
    grids |= {f"study.{name}.table": study.grid() for name, study in measured_studies(root).items()}
    grids["scaling.speeds"] = scaling.speeds(steps)
    found = {name: f"\n\n{markdown(grid)}\n\n" for name, grid in grids.items()}
    for method in compared.methods:
        in_texts = comparison_report.in_texts(compared, method)
        found |= {f"comparison.{method}.{name}": text for name, text in in_texts.items()}
    found |= {f"{task}.sentence": result.sentence() for task, result in measured_curves(root).items()}
    found |= {f"study.{name}": study.sentence() for name, study in measured_studies(root).items()}
    found |= {f"study.{name}.{LARGE}": study.sentence() for name, study in measured_studies(root, LARGE).items()}
    founded = founding.Founding(root / RECORDS)
    lines = ledger.Ledger(measured_studies(root), measured_studies(root, LARGE), founded.results)
    found |= founded.values() | lines.values()
    found |= jargon.values(jargon.read(root / PACKAGED / jargon.FILE))
    if windows := measured_windows(root):
        found |= {"windows.table": f"\n\n{markdown(windows.grid())}\n\n", "windows.sentence": windows.sentence()}
        found |= {f"windows.base.{size}": f"{windows.base(size):.3f}" for size in windows.sizes}
    return found | {"scaling.sentence": scaling.sentence(steps)}


def fill(text: str, known: dict[str, str], where: str = "the text") -> str:
    """`text` with each marked number as the records have it. Raises MiniloraError for a name that there is not."""

    def number(match: re.Match) -> str:
        name = match["name"]
        if name not in known:
            raise MiniloraError(f"{where}: nothing measured is called {escape(name)}")
        return f"<!-- measured: {name} -->{known[name]}<!-- / -->"

    return MARKED.sub(number, text)


# The records


def measured_studies(root: Path = ROOT, model: str = "") -> dict[str, Study]:
    """Each study that has records, by its name. model: a published one instead of the package's base."""
    folders, end = (root / RECORDS, root / PACKAGED), f"{'-' * bool(model)}{model}.jsonl"
    files = [(study, folder / f"study-{name}{end}") for name, study in STUDIES.items() for folder in folders]
    return {study.name: study(Records.read(path, study.kind)) for study, path in files if path.is_file()}


def measured_comparison(root: Path = ROOT) -> comparison_report.ComparisonResult:
    """Every method on the package's base."""
    return comparison_report.ComparisonResult(Records.read(root / PACKAGED / COMPARISON, comparison.KIND))


def measured_curves(root: Path = ROOT) -> dict[str, CurveResult]:
    """Return {task: examples in the prompt and trained on, on a real pretrained model}."""
    files = {task: root / RECORDS / f"curve-{task}.jsonl" for task in CURVES}
    return {task: CurveResult(Records.read(path, curve.KIND)) for task, path in files.items() if path.is_file()}


def measured_windows(root: Path = ROOT) -> WindowsResult | None:
    """Return what windows, prompts and training buy of a text."""
    path = root / RECORDS / WINDOWS
    return WindowsResult.read(path) if path.is_file() else None


# The page


def page(root: Path = ROOT) -> str:
    """Return the content of docs/results.md."""
    return "\n\n".join(_paragraphs(root)) + "\n"


def _paragraphs(root: Path) -> Iterator[str]:
    compared, found = measured_comparison(root), founding.Founding(root / RECORDS)
    yield "# Results"
    yield (
        "Made by `python -m experiments.results.page` from the records in `experiments/records` and, for what "
        "notebooks show too, in `minilora/assets/results`; measured by the commands that stand with the tables, or "
        "with those that a table sums up. Numbers over seeds are means ± standard deviation. After a difference "
        "stands its 95 % interval: Student's, of differences paired by seed, widened for the comparisons that its "
        "sentence or column makes (Bonferroni). Bits per character of the same model on the same text differ between "
        "sections, which test on excerpts of different lengths."
    )
    if found.rows:
        yield "## The founding table, on a published model"
        yield _table(found.grid(), numbers=False)
    yield "## The ledger of claims"
    yield _table(ledger.Ledger(measured_studies(root), measured_studies(root, LARGE), found.results).grid(), False)
    yield "## Methods on one base, one domain and one task"
    yield from _origin(root, compared.records, "python -m experiments compare")
    yield from map(_table, (comparison_report.quality_grid(compared), comparison_report.cost_grid(compared)))
    yield from (_figure(name, draw.__doc__) for name, draw in comparison_report.FIGURES.items())
    yield from _studies(root)
    if found.rows:
        yield from _models(root, found)
    if windows := measured_windows(root):
        yield "## What do context, a probe, a prompt, an adapter and all weights buy?"
        yield from _origin(root, windows.records, "python -m experiments windows")
        yield _table(windows.grid())
        yield _table(labels_grid(_labelled(found)))
        yield _figure(PICTURE, what_each_buys.__doc__)
        yield f"**Ours.** {windows.sentence()} {sentence(_labelled(found))}"
    for title, kind, file, report in JUDGED:
        if (path := root / RECORDS / file).is_file():
            records = Records.read(path, kind)
            yield f"## {title}"
            yield provenance(records.header, f"python -m experiments.{path.stem} {path.stem}")
            yield _table(report(records).grid())
    for task, on_task in measured_curves(root).items():
        sizes = on_task.settings["sizes"]
        flags = f" --sizes {','.join(map(str, sizes))}" if tuple(sizes) != curve.CurveSettings.sizes else ""
        yield f"## Prompt or fine-tune? {CURVES[task]}, and a real pretrained model"
        yield from _origin(root, on_task.records, f"minilora curve --data {task}{flags}")
        yield _table(on_task.grid())
        yield _figure(f"curve-{task}", CurveResult.figure.__doc__)
        yield f"**Ours.** {on_task.sentence()}"
    yield from _jargon(root)
    yield f"## {speed.TITLE}"
    of_processors = speed.read_all(root / RECORDS)
    yield _table(speed.grid(of_processors))
    yield speed.ELSEWHERE
    for record in of_processors:
        yield f"### On {speed.heading(record)}"
        yield f"{provenance(record, record['command'])} {speed.about(record)}"
        yield _table(speed.details(record))
        if profiles := speed.profiles(record):
            yield "Where the CPU seconds go (`python -m benchmarks.profile`):"
            yield profiles
    by_shape = Records.read(root / RECORDS / curves.FILE, curves.KIND)
    yield "## How does the speed of a training step change with the model's shape?"
    yield provenance(by_shape.header, "python -m benchmarks.curves")
    yield curves.in_words(by_shape)
    yield from (_figure(name, f"{name}: tokens per second on each axis.") for name in curves.FIGURES)
    yield from (_table(curves.grid(by_shape, method)) for method in curves.METHODS)
    yield curves.causes(by_shape)
    steps = Records.read(root / PACKAGED / scaling.FILE, scaling.KIND)
    rows = list(steps.rows.values())
    yield f"## {scaling.TITLE}"
    yield provenance(steps.header, "python -m benchmarks.scaling")
    yield _table(scaling.grid(rows))
    yield f"{scaling.sentence(rows)} {scaling.further(rows)}"
    on_base = Records.read(root / RECORDS / rates.FILE, rates.KIND)
    paths = [root / RECORDS / founding.file_of(subject) for subject in founding.SUBJECTS]
    yield "## Which learning rate does `finetune` take where none is given?"
    yield from _origin(root, on_base, "python -m experiments.rates")
    yield found.rates_in_words()
    yield _table(rates.grid(on_base, [Records.read(path, compare_model.KIND) for path in paths]), False)
    yield "## The planner beside published figures"
    yield "`minilora plan`; arithmetic, so that no machine matters."
    yield _table(published.grid())
    yield "## What do pretraining and fine-tuning cost, and what does one gaming GPU hold?"
    yield "`python -m experiments.dollars`; arithmetic, too. No such GPU was at hand."
    yield _table(dollars.grid())
    yield _table(dollars.one_gpu())


def _labelled(found: founding.Founding) -> dict[str, compare_model_report.ModelResult]:
    """Return the comparisons on tasks with labels, by what they are about."""
    names = {subject: words.partition(",")[0] for subject, words in founding.SUBJECTS.items()}
    return {names[subject]: result for subject, result in found.results.items() if result.has_labels}


def _studies(root: Path) -> Iterator[str]:
    """Return the study sections, and the names of what is not measured yet."""
    large = measured_studies(root, LARGE)
    for name, study in measured_studies(root).items():
        quick = " --quick" * (study.settings["base"] is not None)  # a smaller base than the package's
        yield f"## {study.question}"
        yield from _origin(root, study.records, f"python -m experiments study {name}{quick}")
        yield _table(study.grid())
        yield _figure(f"study-{name}", study.figure.__doc__)
        yield f"**Ours.** {study.sentence()}"
        yield f"**Published.** {study.published}"
        if name in large:
            yield f"**Once more on SmolLM2-135M.** {large[name].sentence()}"
            yield from _origin(root, large[name].records, f"python -m experiments study {name} --model {LARGE}")
            yield _table(large[name].grid())
    for name, kind in STUDIES.items():
        if name not in measured_studies(root):
            yield f"## {kind.question}"
            yield f"Not measured yet: `python -m experiments study {name}`."


def _models(root: Path, found: founding.Founding) -> Iterator[str]:
    """Methods on a model that others pretrained, as far as it is measured."""
    for subject, result in found.results.items():
        yield f"## Methods on {result.where}"
        yield from _origin(root, result.records, f"python -m experiments compare --model smollm2 --data {subject}")
        yield from map(_table, result.grids())
        missing = [compare_model_report.LABELS[row] for row in compare_model.ROWS if row not in result.rows]
        if missing:
            yield f"Not measured: {', '.join(missing)}. A row takes three to seven trainings to find its rate by."
        for name, draw in compare_model_report.FIGURES.items():
            yield _figure(f"model-{subject}-{name}", draw.__doc__)
    yield "## Are LoRA's variants better, once each has its own learning rate?"
    yield from (f"**Ours, {result.where}.** {founding.variants(result)}" for result in found.results.values())
    yield f"**Published.** {founding.PUBLISHED}"


def _jargon(root: Path) -> Iterator[str]:
    """What a real pretrained model learned of a glossary, and what prompts reach without learning."""
    path = root / PACKAGED / jargon.FILE
    records, runs = Records.read(path, jargon.KIND), jargon.read(path)
    run, training = runs[0], runs[0]["training"]
    yield "## What does a real pretrained model learn of a company's jargon, and what does a prompt do?"
    yield from _origin(root, records, f"python -m experiments jargon --seeds {len(runs)}")
    yield (
        f"SmolLM2-135M-Instruct in 4 bits; QLoRA of rank {training['rank']}, {training['steps']} steps at a learning "
        f"rate of {training['lr']:g}, with {run['replay']} of its own answers to general questions for replay. "
        f"{teach_report.mean(one['seconds'] for one in runs)} seconds a run, at most "
        f"{show_bytes(max(one['peak_rss'] for one in runs))} of memory."
    )
    yield _table(teach_report.scores_grid(runs))
    yield from (_figure(name, draw.__doc__) for name, draw in jargon.FIGURES.items())
    yield f"**Ours.** {' '.join(teach_report.claims(runs))} {jargon.in_wordings(runs)}"
    yield _table(jargon.samples_grid(runs), numbers=False)


def _origin(root: Path, records: Records, command: str) -> Iterator[str]:
    """Say how records were measured, and mark those that today's code does not give."""
    yield provenance(records.header, command)
    if reason := read_json(root / check.STALE).get(records.path.name):
        yield f"**Stale:** measured with other code ({escape(reason, 300)})."


def provenance(header: dict, command: str) -> str:
    """Command, date, machine and versions, in a sentence."""
    machine, cores = header["machine"], header["machine"]["cores"]
    name = f"{machine['processor']['name']}, " if "processor" in machine else ""
    return (
        f"`{command}`, {header['date'][:10]}: {name}{cores} core{'s' * (cores != 1)}, {machine['blas']}, "
        f"Python {machine['python']}, NumPy {machine['numpy']}, minilora {machine['minilora']}."
    )


def _table(grid: Grid, numbers: bool = True) -> str:
    return f"**{grid.title}**\n\n{markdown(grid, numbers)}\n\n{grid.caption}"


def _figure(name: str, words: str | None) -> str:
    return f"![{' '.join((words or '').split())}](figures/{name}.png)"


def figures(root: Path = ROOT) -> dict[str, tuple[Callable, Any]]:
    """Return {name: (what draws it, of what)} of the page's figures."""
    found: list[tuple[Mapping[str, Callable], Any]] = [(comparison_report.FIGURES, measured_comparison(root))]
    found += [({f"study-{name}": STUDIES[name].figure}, study) for name, study in measured_studies(root).items()]
    for subject, result in founding.Founding(root / RECORDS).results.items():
        found.append(({f"model-{subject}-{n}": draw for n, draw in compare_model_report.FIGURES.items()}, result))
    if windows := measured_windows(root):
        tasks = _labelled(founding.Founding(root / RECORDS))
        found.append(({PICTURE: lambda one: what_each_buys(one, tasks)}, windows))
    found += [({f"curve-{task}": CurveResult.figure}, result) for task, result in measured_curves(root).items()]
    found.append((jargon.FIGURES, jargon.read(root / PACKAGED / jargon.FILE)))
    found.append((curves.FIGURES, Records.read(root / RECORDS / curves.FILE, curves.KIND)))
    return {name: (draw, measured) for draws, measured in found for name, draw in draws.items()}


def write(root: Path = ROOT) -> None:
    """Write the page and its figures, and bring the marked numbers of all texts up to date."""
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
