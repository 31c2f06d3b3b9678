"""`python -m experiments windows`: how much training and prompts gain on a text, by the window in which it is read."""

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from experiments import compare_model, windows
from experiments.windows_report import WindowsResult
from minilora.commands.common import Parser, add_resume, whole
from minilora.measure.records import Records
from minilora.show import grids

FOLDER = Path("experiments/records")


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments windows --data numpy-docs --seeds 1"
    parser.add_argument("--model", default="smollm2", help="a chat model, as of evaluate (default: %(default)s)")
    parser.add_argument("--data", default="numpy-docs", help="a corpus that was compared on (default: %(default)s)")
    parser.add_argument("--methods", default=",".join(windows.ROWS), help="with commas (default: %(default)s)")
    parser.add_argument("--seeds", type=whole(1, 100), help="how many (default: 3)")
    parser.add_argument("--compared", help="the comparison with the rates (default: its record in experiments/records)")
    parser.add_argument("--out", default="runs/windows/records.jsonl", help="the records (default: %(default)s)")
    add_resume(parser)


def run(arguments: Namespace) -> None:
    settings = compare_model.settings_for(arguments.model, arguments.data, arguments.methods, arguments.seeds)
    compared = Path(arguments.compared or FOLDER / f"model-{Path(arguments.data).name}.jsonl")
    known = Records.read(compared, compare_model.KIND)
    records = windows.run(Path(arguments.out), settings, known, arguments.resume, arguments.overwrite)
    Console(width=80).print(grids.drawn(WindowsResult(records).grid()))
