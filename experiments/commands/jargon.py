"""`python -m experiments jargon`: teach SmolLM2 the jargon of the invented company, once for each seed."""

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from experiments.results import jargon
from minilora.commands.common import Parser, whole
from minilora.demo import teach, teach_report
from minilora.formats.atomic import write_json
from minilora.show.grids import drawn


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments jargon --seeds 5"
    parser.add_argument("--seeds", type=whole(1, 100), default=5, help="how many (default: %(default)s)")
    parser.add_argument("--model", default="smollm2", help="a chat model, as of minilora demo (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few steps and few questions: a minute a seed")
    parser.add_argument(
        "--out", default="runs/jargon", help="folder (default: %(default)s); seeds that are there already are kept"
    )


def run(arguments: Namespace) -> None:
    """Run minilora demo at each seed that is not there yet, and make the record of all."""
    out, results = Path(arguments.out), []
    for seed in range(arguments.seeds):
        results.append(out / f"seed-{seed}" / "results.json")
        if not results[-1].is_file():
            teach.run(results[-1].parent, arguments.model, arguments.quick, seed)
        record = jargon.record_of(results)
        write_json(out / jargon.FILE, record)
    console = Console(width=80, highlight=False)
    console.print(drawn(teach_report.scores_grid(record["runs"])))
    for sentence in [*teach_report.claims(record["runs"]), jargon.in_wordings(record["runs"])]:
        console.print(f"- {sentence}", markup=False)
    console.print(f"\nThe record: {out / jargon.FILE}", markup=False)
