"""`minilora compare`: every method on one base, one domain and one task; or on a published model and one of the two."""

import json
from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, add_json, add_resume, whole
from minilora.errors import MiniloraError


def add(parser: Parser) -> None:
    parser.epilog = (
        "examples:\n"
        "  minilora compare --quick --methods lora,full\n"
        "  minilora compare --model smollm2 --data reviews --methods lora,full,prefix"
    )
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
    parser.add_argument(
        "--model", help="instead of the base: a chat model, as of evaluate. A method takes some 10 minutes on smollm2"
    )
    parser.add_argument(
        "--data",
        help="what it learns: labelled conversations (a .jsonl file, or a name of minilora tasks list), or a corpus "
        "(default: reviews)",
    )
    parser.add_argument(
        "--default-rates", action="store_true", help="with --model: the learning rates of finetune, without a search"
    )
    add_resume(parser, "comparison")
    add_json(parser)


def run(arguments: Namespace) -> None:
    from rich.console import Console

    out, console = Path(arguments.out), Console(width=80, highlight=False, stderr=arguments.json)
    if arguments.model is None:
        records = _on_base(arguments, out, console)
    else:
        records = _on_model(arguments, out, console)
    if arguments.json:
        print(json.dumps(records.as_json()))


def _on_base(arguments: Namespace, out: Path, console):
    from minilora.measure import compare, compare_report

    for flag, value in (("--data", arguments.data), ("--default-rates", arguments.default_rates)):
        if value:
            raise MiniloraError(f"{flag} is of a comparison on a published model: give --model, too")
    settings = compare.settings_for(arguments.quick, arguments.methods, arguments.seeds)
    records = compare.run(out, settings, arguments.resume, arguments.overwrite, arguments.jobs)
    compare_report.show(records, out, console)
    return records


def _on_model(arguments: Namespace, out: Path, console):
    from minilora.measure import compare_model, compare_model_report

    if arguments.quick or arguments.jobs != 1:
        raise MiniloraError("with --model, leave out --quick and --jobs: choose --methods and --seeds")
    settings = compare_model.settings_for(
        arguments.model, arguments.data or "reviews", arguments.methods, arguments.seeds, arguments.default_rates
    )
    records = compare_model.run(out, settings, arguments.resume, arguments.overwrite)
    compare_model_report.show(records, out, console)
    return records
