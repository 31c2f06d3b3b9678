"""`python -m experiments compare`: methods on a published model, on labelled conversations or a text."""

import json
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from experiments import compare_model, compare_model_report
from minilora.commands.common import Parser, add_json, add_resume, whole


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments compare --model smollm2 --data reviews --methods lora,full,prefix"
    parser.add_argument(
        "--model", required=True, help="a chat model, as of evaluate. A method takes some 10 minutes on smollm2"
    )
    parser.add_argument(
        "--data",
        default="reviews",
        help="what it learns: labelled conversations (a .jsonl file, or a name of minilora models list), or a corpus "
        "(default: %(default)s)",
    )
    parser.add_argument("--out", default="runs/compare", help="folder of the results (default: %(default)s)")
    parser.add_argument("--methods", help="only these, with commas: lora,full,few-shot")
    parser.add_argument("--seeds", type=whole(1, 100), help="how many (default: 3)")
    parser.add_argument("--default-rates", action="store_true", help="the learning rates of finetune, without a search")
    add_resume(parser, "comparison")
    add_json(parser)


def run(arguments: Namespace) -> None:
    out, console = Path(arguments.out), Console(width=80, highlight=False, stderr=arguments.json)
    settings = compare_model.settings_for(
        arguments.model, arguments.data, arguments.methods, arguments.seeds, arguments.default_rates
    )
    records = compare_model.run(out, settings, arguments.resume, arguments.overwrite)
    compare_model_report.show(records, out, console)
    if arguments.json:
        print(json.dumps(records.as_json()))
