"""docs/results.md and every measured number in the project's texts, made from the records.

    python -m experiments.results.page                 writes the page, its figures, and the marked numbers in the texts
    python -m experiments.results.page --jargon FILE   and first takes for the record of the jargon what it needs of
                                                       FILE, the results.json of minilora demo --model smollm2

A number in a text stands between marks that name it, and is replaced by what the records say:

    LoRA trains <!-- measured: comparison.lora.share -->12 %<!-- / --> of the parameters.

A test fails where a text says anything else than the records. See `values` for the names.
"""

import argparse
import re
import sys
from pathlib import Path

from experiments import compare_model, compare_model_report, comparison, comparison_report, rates
from experiments.published import published
from experiments.results import curves, founding, jargon, scaling, speed
from experiments.results.advise import curve_file
from experiments.results.tables import markdown
from experiments.studies import STUDIES, Study
from minilora.demo import teach_report
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic, write_json
from minilora.measure import curve
from minilora.measure.curve_report import CurveResult
from minilora.measure.records import Records
from minilora.show.grids import Grid, show_bytes
from minilora.show.style import save_all

ROOT = Path(__file__).parents[2]
RECORDS = Path("experiments") / "records"  # study-NAME, curve-TASK, model-SUBJECT, curves .jsonl; speed-* .json
PACKAGED = Path("minilora") / "assets" / "results"  # compare, scaling, study-prompting .jsonl; jargon .json
LARGE = "smollm2"  # the published model on which studies are confirmed
PAGE = Path("docs") / "results.md"
FIGURES = Path("docs") / "figures"
COMPARISON = "compare.jsonl"
CURVES = {"reviews": "Film reviews", "r8": "News of Reuters in eight topics"}  # {task: what it is about}
MARKED = re.compile(r"<!--\s+measured:\s+(?P<name>[^>]*?)\s+-->.*?<!--\s+/\s+-->", re.DOTALL)


def texts(root: Path = ROOT) -> list[Path]:
    """Return the texts that may hold measured numbers."""
    found = [root / "README.md", *sorted((root / "lessons").glob("*/*.md")), *sorted((root / "docs").glob("*.md"))]
    return [path for path in found if path.is_file() and path != root / PAGE]


def values(root: Path = ROOT) -> dict[str, str]:
    """Return {name: as it is printed}.

    `comparison.METHOD.COLUMN` with a name from `comparison_report.COLUMNS`; `comparison.table`, all methods;
    `study.NAME`, a sentence, and `study.NAME.smollm2`; `study.NAME.table`, all its runs; `jargon.NAME`, see
    `jargon.values`; `scaling.speeds`, two ranks over each link; `scaling.sentence`, `reviews.table` and
    `reviews.sentence`, and so of each task of CURVES; those of `Founding.values`.
    """
    compared = measured_comparison(root)
    found = {"comparison.table": f"\n\n{markdown(comparison_report.quality_grid(compared))}\n\n"}
    for method in compared.methods:
        texts = comparison_report.in_texts(compared, method)
        found |= {f"comparison.{method}.{name}": text for name, text in texts.items()}
    for task, result in measured_curves(root).items():
        found |= {f"{task}.table": f"\n\n{markdown(result.grid())}\n\n", f"{task}.sentence": result.sentence()}
    found |= founding.Founding(root / RECORDS).values()
    found |= jargon.values(jargon.read(root / PACKAGED / jargon.FILE))
    steps = scaling.read(root / PACKAGED / scaling.FILE)
    found["scaling.speeds"] = f"\n\n{markdown(scaling.speeds(steps))}\n\n"
    found["scaling.sentence"] = scaling.sentence(steps)
    for name, study in measured_studies(root).items():
        found |= {f"study.{name}": study.sentence(), f"study.{name}.table": f"\n\n{markdown(study.grid())}\n\n"}
    found |= {f"study.{name}.{LARGE}": study.sentence() for name, study in measured_studies(root, LARGE).items()}
    return found


def fill(text: str, known: dict[str, str], where: str = "the text") -> str:
    """`text` with each marked number as the records have it. Raises MiniloraError for a name that there is not."""

    def number(match: re.Match) -> str:
        name = match["name"]
        if name not in known:
            raise MiniloraError(f"{where}: nothing measured is called {escape(name)}")
        return f"<!-- measured: {name} -->{known[name]}<!-- / -->"

    return MARKED.sub(number, text)


def measured_studies(root: Path = ROOT, model: str = "") -> dict[str, Study]:
    """Each study that has records, by its name. model: a published one instead of the package's base."""
    folders, end = (root / RECORDS, root / PACKAGED), f"{'-' * bool(model)}{model}.jsonl"
    files = [(study, folder / f"study-{name}{end}") for name, study in STUDIES.items() for folder in folders]
    return {study.name: study(Records.read(path, study.kind)) for study, path in files if path.is_file()}


def page(root: Path = ROOT) -> str:
    """Return the content of docs/results.md."""
    compared = measured_comparison(root)
    parts = [
        "# Results",
        "Made by `python -m experiments.results.page` from the records in `experiments/records` and, for what "
        "notebooks show too, in `minilora/assets/results`; measured by the commands that stand with the tables, or "
        "with those that a table sums up. Numbers over seeds are means ± half their range. Bits per character of the "
        "same model on the same text differ between sections, which test on excerpts of different lengths.",
        "## Methods on one base, one domain and one task",
        provenance(compared.records.header, "minilora compare"),
        *(_table(grid(compared)) for grid in (comparison_report.quality_grid, comparison_report.cost_grid)),
        *(_figure(name, draw.__doc__) for name, draw in comparison_report.FIGURES.items()),
    ]
    large = measured_studies(root, LARGE)
    for name, study in measured_studies(root).items():
        quick = " --quick" * (study.settings["base"] is not None)  # a smaller base than the package's
        parts += [
            f"## {study.question}",
            provenance(study.records.header, f"python -m experiments study {name}{quick}"),
            _table(study.grid()),
            _figure(f"study-{name}", study.figure.__doc__ or study.question),
            f"**Ours.** {study.sentence()}",
            f"**Published.** {study.published}",
        ]
        if name in large:
            parts += [
                f"**Once more on SmolLM2-135M.** {large[name].sentence()}",
                provenance(large[name].records.header, f"python -m experiments study {name} --model {LARGE}"),
                _table(large[name].grid()),
            ]
    found = founding.Founding(root / RECORDS)
    parts += _model_sections(found)
    for task, result in measured_curves(root).items():
        parts += _curve_section(task, result)
    parts += _jargon_section(jargon.read(root / PACKAGED / jargon.FILE))
    parts += _speed_section(speed.read_all(root / RECORDS))
    parts += _curves_section(Records.read(root / RECORDS / curves.FILE, curves.KIND))
    parts += _scaling_section(Records.read(root / PACKAGED / scaling.FILE, scaling.KIND))
    rates_found = Records.read(root / RECORDS / rates.FILE, rates.KIND)
    searched = [root / RECORDS / founding.file_of(subject) for subject in founding.SUBJECTS]
    on_large = [Records.read(path, compare_model.KIND) for path in searched]
    parts += ["## Which learning rate does `finetune` take where none is given?"]
    parts += [
        provenance(rates_found.header, "python -m experiments.rates"),
        found.rates_in_words(),
        _table(rates.grid(rates_found, on_large), False),
    ]
    parts += ["## The planner beside published figures", "`minilora plan`; arithmetic, so that no machine matters."]
    parts.append(_table(planned_grid()))
    return "\n\n".join(parts) + "\n"


def measured_comparison(root: Path = ROOT) -> comparison_report.ComparisonResult:
    """Every method on the package's base."""
    return comparison_report.ComparisonResult(Records.read(root / PACKAGED / COMPARISON, comparison.KIND))


def measured_curves(root: Path = ROOT) -> dict[str, CurveResult]:
    """Return {task: examples in the prompt and trained on, on a real pretrained model}."""
    files = {task: root / RECORDS / curve_file(task) for task in CURVES}
    return {task: CurveResult(Records.read(path, curve.KIND)) for task, path in files.items() if path.is_file()}


def _model_sections(found: founding.Founding) -> list[str]:
    """Methods on a model that others pretrained, as far as it is measured."""
    parts = []
    if found.rows:
        parts += ["## The founding table, on a published model", _table(found.grid(), numbers=False)]
    for subject, result in found.results.items():
        if result.rows:
            missing = [compare_model_report.LABELS[row] for row in compare_model.ROWS if row not in result.rows]
            parts += [
                f"## Methods on {result.where}",
                provenance(result.records.header, f"python -m experiments compare --model smollm2 --data {subject}"),
                *map(_table, result.grids()),
                *[f"Not measured: {', '.join(missing)}. A row takes three to seven trainings to find its rate by."]
                * bool(missing),
                *(_figure(name, words) for name, words in _figures_of(subject).items()),
            ]
    if found.rows:
        parts += [
            "## Are LoRA's variants better, once each has its own learning rate?",
            *(f"**Ours, {result.where}.** {founding.variants(result)}" for result in found.results.values()),
            f"**Published.** {founding.PUBLISHED}",
        ]
    return parts


def _figures_of(subject: str) -> dict[str, str]:
    """Return {name of the file: what the figure shows}."""
    drawn = compare_model_report.FIGURES.items()
    return {f"model-{subject}-{name}": draw.__doc__ or name for name, draw in drawn}


def _curve_section(task: str, result: CurveResult) -> list[str]:
    """Examples in the prompt against examples trained on, where the labels are people's."""
    sizes = result.settings["sizes"]
    flags = f" --sizes {','.join(map(str, sizes))}" if tuple(sizes) != curve.CurveSettings.sizes else ""
    return [
        f"## Prompt or fine-tune? {CURVES[task]}, and a real pretrained model",
        provenance(result.records.header, f"minilora curve --data {task}{flags}"),
        _table(result.grid()),
        _figure(f"curve-{task}", CurveResult.figure.__doc__),
        f"**Ours.** {result.sentence()}",
    ]


def _jargon_section(record: dict) -> list[str]:
    """What a real pretrained model learned of a glossary, and what prompts reach without learning."""
    training = record["training"]
    settings = (
        f"SmolLM2-135M-Instruct in 4 bits; QLoRA of rank {training['rank']}, {training['steps']} steps at a learning "
        f"rate of {training['lr']:g}, with {record['replay']} of its own answers to general questions for replay. "
        f"{record['seconds']:.0f} seconds in all, at most {show_bytes(record['peak_rss'])} of memory. One seed."
    )
    return [
        "## What does a real pretrained model learn of a company's jargon, and what does a prompt do?",
        provenance(record, record["command"]),
        *[f"**{jargon.CAUTION}**"] * record["quick"],
        settings,
        _table(teach_report.scores_grid(record)),
        *(_figure(name, draw.__doc__) for name, draw in jargon.FIGURES.items()),
        f"**Ours.** {' '.join(teach_report.claims(record))}",
        _table(jargon.samples_grid(record), numbers=False),
    ]


def _speed_section(records: list[dict]) -> list[str]:
    """Every row of the speed table on each processor, and where the seconds go."""
    parts = [f"## {speed.TITLE}", _table(speed.grid(records)), speed.ELSEWHERE]
    for record in records:
        parts += [
            f"### On {speed.heading(record)}",
            f"{provenance(record, record['command'])} {speed.about(record)}",
            _table(speed.details(record)),
        ]
        if profiles := speed.profiles(record):
            parts += ["Where the CPU seconds go (`python -m benchmarks.profile`):", profiles]
    return parts


def _curves_section(records: Records) -> list[str]:
    """How the speed of training changes with the shape, and why."""
    return [
        "## How does the speed of a training step change with the model's shape?",
        provenance(records.header, "python -m benchmarks.curves"),
        curves.in_words(records),
        *(_figure(name, f"{name}: tokens per second on each axis.") for name in curves.FIGURES),
        *(_table(curves.grid(records, method)) for method in curves.METHODS),
        curves.causes(records),
    ]


def _scaling_section(records: Records) -> list[str]:
    """What more ranks bring, over which links, and whether the cost model knew."""
    rows = list(records.rows.values())
    return [
        f"## {scaling.TITLE}",
        provenance(records.header, "python -m benchmarks.scaling"),
        _table(scaling.grid(rows)),
        f"{scaling.sentence(rows)} {scaling.further(rows)}",
    ]


def planned_grid() -> Grid:
    """What the planner says beside what was published."""
    rows = [
        (
            row.what,
            row.source,
            show_bytes(row.published),
            show_bytes(row.planned),
            f"{row.planned / row.published - 1:+.1%}",
        )
        for row in published()
    ]
    header = ("what", "source", "published", "planned", "difference")
    return Grid("Memory and files", header, rows, "GB are 10⁹ bytes.")


def provenance(header: dict, command: str) -> str:
    """Command, date, machine and versions, in a sentence."""
    machine = header["machine"]
    name = f"{machine['processor']['name']}, " if "processor" in machine else ""
    cores = machine["cores"]
    return (
        f"`{command}`, {header['date'][:10]}: {name}{cores} core{'s' * (cores != 1)}, {machine['blas']}, "
        f"Python {machine['python']}, NumPy {machine['numpy']}, minilora {machine['minilora']}."
    )


def _table(grid: Grid, numbers: bool = True) -> str:
    return f"**{grid.title}**\n\n{markdown(grid, numbers)}\n\n{grid.caption}"


def _figure(name: str, words: str | None) -> str:
    return f"![{' '.join((words or '').split())}](figures/{name}.png)"


def write(root: Path = ROOT) -> None:
    """Write the page and its figures, and bring the marked numbers of all texts up to date."""
    write_atomic(root / PAGE, page(root))
    save_all(comparison_report.FIGURES, measured_comparison(root), root / FIGURES)
    for name, study in measured_studies(root).items():
        save_all({f"study-{name}": STUDIES[name].figure}, study, root / FIGURES)
    for subject, result in founding.Founding(root / RECORDS).results.items():
        draws = compare_model_report.FIGURES.values()
        save_all(dict(zip(_figures_of(subject), draws, strict=True)), result, root / FIGURES)
    for task, measured in measured_curves(root).items():
        save_all({f"curve-{task}": CurveResult.figure}, measured, root / FIGURES)
    record = jargon.read(root / PACKAGED / jargon.FILE)
    save_all(jargon.FIGURES, record, root / FIGURES)
    records = Records.read(root / RECORDS / curves.FILE, curves.KIND)
    save_all(curves.FIGURES, records, root / FIGURES)
    known = values(root)
    for path in texts(root):
        before = path.read_text()
        if (after := fill(before, known, path.name)) != before:
            write_atomic(path, after)


def keep_jargon(path: Path, root: Path = ROOT) -> None:
    """Take what is needed of the demo's results in the file at `path`, which may be the record itself, for the record.

    FormatError for other files.
    """
    write_json(root / PACKAGED / jargon.FILE, jargon.read(path))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kept = ROOT / PACKAGED / jargon.FILE
    parser.add_argument(
        "--jargon", type=Path, default=kept, metavar="FILE", help="results.json of minilora demo --model smollm2"
    )
    arguments = parser.parse_args(argv)
    try:
        keep_jargon(arguments.jargon)
        write()
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
