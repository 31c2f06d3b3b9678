"""`python -m experiments study`: run one, or list them."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.studies import STUDIES, Study, find
from minilora.commands.common import Parser, add_flag, add_resume
from minilora.errors import MiniloraError
from minilora.show.grids import drawn
from minilora.show.style import save_all


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments study rank --quick"
    parser.add_argument("name", nargs="?", help="of the study; without one, they are listed")
    parser.add_argument("--list", action="store_true", help="list the studies with their questions")
    parser.add_argument("--out", help="folder of the results (default: runs/study-NAME)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a smaller model, fewer seeds: about a minute")
    size.add_argument("--model", help="a published one in place of the base, such as smollm2; one seed")
    add_resume(parser)
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    console = Console(width=80, highlight=False, stderr=arguments.json)
    if arguments.list or arguments.name is None:
        if given := [flag for flag in ("quick", "model", "resume", "overwrite", "out") if getattr(arguments, flag)]:
            raise MiniloraError(f"--{given[0]} needs the name of a study; there are {', '.join(STUDIES)}")
        if arguments.json:
            print(json.dumps({name: study.question for name, study in STUDIES.items()}))
        else:
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
    show(measured, out, console)
    if arguments.json:
        print(json.dumps(as_json(measured)))


def show(study: Study, out: Path, console: Console) -> None:
    """Print question, table, sentence and what was published; write the figure to `out`."""
    console.print(study.question, style="bold", markup=False)
    console.print()
    console.print(drawn(study.grid()))
    console.print(f"\n{study.sentence()}\n\nPublished: {study.published}\n", markup=False)
    paths = save_all({study.name: type(study).figure}, study, out)
    console.print(f"Figure: {paths[0].name} in {out}", markup=False)


def as_json(study: Study) -> dict:
    """Question, what was published, our sentence, header and cells, for a script."""
    facts = {"study": study.name, "question": study.question, "published": study.published}
    return facts | {"sentence": study.sentence()} | study.records.as_json()
