"""`python -m experiments jargon`: teach a chat model the jargon of an invented company, once per seed."""

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from experiments.results import jargon
from minilora.commands.common import Parser, add_resume, whole
from minilora.demo import teach_report
from minilora.show.grids import drawn


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments jargon --seeds 5"
    parser.add_argument("--out", default="runs/jargon", help="output folder (default: %(default)s)")
    parser.add_argument("--seeds", type=whole(1, 100), default=5, help="number of seeds (default: %(default)s)")
    parser.add_argument("--model", default="smollm2", help="a model, as for minilora demo (default: %(default)s)")
    add_resume(parser)


def run(arguments: Namespace) -> None:
    where = Path(arguments.out), arguments.model, arguments.seeds
    jargon.run(*where, arguments.resume, arguments.overwrite)
    runs, console = jargon.read(where[0] / jargon.RECORDS), Console(width=80, highlight=False)
    console.print(drawn(teach_report.scores_grid(runs)))
    for sentence in (*teach_report.claims(runs), jargon.in_wordings(runs)):
        console.print(f"- {sentence}", markup=False)
