"""`python -m experiments study`: run a study, or list them."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.figures import save_all
from experiments.studies import STUDIES, find
from minilora.commands.common import Parser, add_resume
from minilora.show.grids import drawn


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments study rank --quick"
    parser.add_argument("name", nargs="?", help="name of the study (without it, all are listed)")
    parser.add_argument("--list", action="store_true", help="list the studies with their questions")
    parser.add_argument("--out", help="output folder (default: runs/study-NAME)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="use a smaller model and fewer seeds (about a minute)")
    size.add_argument("--model", help="use a published model instead of the base, such as smollm2, with one seed")
    add_resume(parser)


def run(arguments: Namespace) -> None:
    """Run a study, print its table and sentence, and save its figure."""
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
