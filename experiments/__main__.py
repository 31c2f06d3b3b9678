"""The experiments' command line, `python -m experiments`: exit codes and errors are those of `minilora`."""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from minilora import cli
from minilora.commands.common import Parser, add_resume, whole
from minilora.errors import MiniloraError


def add_study(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments study rank --quick"
    parser.add_argument("name", nargs="?", help="of the study; without one, they are listed")
    parser.add_argument("--list", action="store_true", help="list the studies with their questions")
    parser.add_argument("--out", help="folder of the results (default: runs/study-NAME)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a smaller model, fewer seeds: about a minute")
    size.add_argument("--model", help="a published one in place of the base, such as smollm2; one seed")
    add_resume(parser, "study")


def run_study(arguments: Namespace) -> None:
    """Run one and print question, table, sentence and what was published; its figure goes to the folder."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from experiments.studies import STUDIES, find
    from minilora.show.grids import drawn
    from minilora.show.style import save_all

    console = Console(width=80, highlight=False)
    if arguments.list or arguments.name is None:
        table = Table.grid(padding=(0, 2))
        for name, study in STUDIES.items():
            table.add_row(Text(name), Text(study.question))
        console.print(table)
        return
    kind = find(arguments.name)
    out = Path(arguments.out or f"runs/study-{kind.name}")
    settings = kind.quick if arguments.quick else kind.full
    if arguments.model is not None:
        settings = replace(kind.large, model=arguments.model)
    measured = kind(kind.run(out, settings, arguments.resume, arguments.overwrite))
    console.print(measured.question, style="bold", markup=False)
    console.print()
    console.print(drawn(measured.grid()))
    console.print(f"\n{measured.sentence()}\n\nPublished: {measured.published}\n", markup=False)
    (path,) = save_all({measured.name: kind.figure}, measured, out)
    console.print(f"Figure: {path.name} in {out}", markup=False)


def add_compare(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments compare --model smollm2 --data reviews --methods lora,full,prefix"
    parser.add_argument("--out", default="runs/compare", help="folder of the results (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer steps: three minutes")
    parser.add_argument("--methods", help="only these, with commas: lora,full,few-shot")
    parser.add_argument("--seeds", type=whole(1, 100), help="how many (default: 3)")
    parser.add_argument("--model", help="a chat model, as of evaluate; a method takes some 10 minutes on smollm2")
    parser.add_argument(
        "--data",
        help="with --model, what it learns: labelled conversations (a .jsonl file, or a name of minilora models list; "
        "default: reviews), or a corpus",
    )
    add_resume(parser, "comparison")


def run_compare(arguments: Namespace) -> None:
    from rich.console import Console

    from experiments import compare_model, compare_model_report, comparison, comparison_report

    out, resume, console = Path(arguments.out), (arguments.resume, arguments.overwrite), Console(width=80)
    if arguments.model is None:
        if arguments.data is not None:
            raise MiniloraError("--data goes with --model, such as --model smollm2")
        settings = comparison.settings_for(arguments.quick, arguments.methods, arguments.seeds)
        result = comparison_report.ComparisonResult(comparison.run(out, settings, *resume))
        tables = [comparison_report.quality_grid(result), comparison_report.cost_grid(result)]
        comparison_report.show(tables, comparison_report.FIGURES, result, out, console)
        return
    if arguments.quick:
        raise MiniloraError("--quick is of the package's base: with --model choose --methods and --seeds")
    data = "reviews" if arguments.data is None else arguments.data
    on_model = compare_model.settings_for(arguments.model, data, arguments.methods, arguments.seeds)
    found = compare_model_report.ModelResult(compare_model.run(out, on_model, *resume))
    comparison_report.show(found.grids(), compare_model_report.FIGURES, found, out, console)


COMMANDS = {  # {name: (what it does, what adds its flags, what runs it)}
    "study": ("reproduce the shape of a published figure in small, or list what there is", add_study, run_study),
    "compare": (
        "measure every method on one base, one domain and one task, each at its own learning rate",
        add_compare,
        run_compare,
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = Parser(
        prog="python -m experiments",
        description="Measure the figures of minilora's documentation anew; README.md beside this file has their costs.",
        epilog="example: python -m experiments study rank --quick",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (does, add, run) in COMMANDS.items():
        command = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", add=add)
        command.set_defaults(run=run)
    return cli.run(parser, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
