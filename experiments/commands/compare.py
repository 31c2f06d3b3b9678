"""`python -m experiments compare`: every method on the package's base, or on a published model."""

import json
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from experiments import compare_model, compare_model_report, comparison, comparison_report
from minilora.commands.common import Parser, add_flag, add_resume, whole
from minilora.errors import MiniloraError


def add(parser: Parser) -> None:
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
    parser.add_argument(
        "--default-rates", action="store_true", help="with --model: the learning rates of finetune, without a search"
    )
    add_resume(parser)
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    out, console = Path(arguments.out), Console(width=80, highlight=False, stderr=arguments.json)
    resume = arguments.resume, arguments.overwrite
    if arguments.model is None:
        if arguments.data is not None or arguments.default_rates:
            raise MiniloraError("--data and --default-rates go with --model, such as --model smollm2")
        settings = comparison.settings_for(arguments.quick, arguments.methods, arguments.seeds)
        records = comparison.run(out, settings, *resume)
        comparison_report.show(records, out, console)
    else:
        if arguments.quick:
            raise MiniloraError("--quick is of the package's base: with --model choose --methods and --seeds")
        on_model = compare_model.settings_for(
            arguments.model,
            "reviews" if arguments.data is None else arguments.data,
            arguments.methods,
            arguments.seeds,
            arguments.default_rates,
        )
        records = compare_model.run(out, on_model, *resume)
        compare_model_report.show(records, out, console)
    if arguments.json:
        print(json.dumps(records.as_json()))
