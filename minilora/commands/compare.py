"""`minilora compare`: every method on one base, one domain and one task."""

import json
from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, add_json, add_resume, whole


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora compare --quick --methods lora,full"
    parser.add_argument("--out", default="runs/compare", help="folder of the results (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer steps: three minutes")
    parser.add_argument("--methods", help="only these, with commas: lora,full,few-shot")
    parser.add_argument("--seeds", type=whole(1, 100), help="how many (default: 3)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="processes side by side, for the same results (default: %(default)s); each has a thread for every core, "
        "and takes about 160 MB",
    )
    add_resume(parser, "comparison")
    add_json(parser)


def run(arguments: Namespace) -> None:
    from rich.console import Console

    from minilora.measure import compare, compare_report

    out, console = Path(arguments.out), Console(width=80, highlight=False, stderr=arguments.json)
    settings = compare.settings_for(arguments.quick, arguments.methods, arguments.seeds)
    records = compare.run(out, settings, arguments.resume, arguments.overwrite, arguments.jobs)
    compare_report.show(records, out, console)
    if arguments.json:
        print(json.dumps(records.as_json()))
