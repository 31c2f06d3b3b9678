"""`minilora curve`: prompt or fine-tune? Measured on your own examples."""

import json
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

from minilora.commands.common import Parser, add_json, add_model, add_resume, whole


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora curve --data mine.jsonl --model smollm2 --out runs/curve"
    add_model(parser, adapter=False, base="smollm2")
    data = "a .jsonl file of prompts and responses, some 50 or more without --test, or a name of minilora models list"
    parser.add_argument("--data", required=True, help=data)
    held_out = "a .jsonl file of at least 10 held-out examples (default: the task's own, or a fifth of --data)"
    parser.add_argument("--test", help=held_out)
    for flag, least, default, what in (
        ("--shots", 0, "0,2,4,8", "examples in the prompt"),
        ("--sizes", 2, "32,128,512,all", "examples to train on, all of --data among them"),
    ):
        parser.add_argument(flag, type=_wholes(least), default=default, help=f"{what} (default: {default})")
    parser.add_argument("--methods", default="lora", help="to train by, with commas: lora,full,qlora (default: lora)")
    parser.add_argument("--seeds", type=whole(1, 100), default=3, help="how many (default: %(default)s)")
    parser.add_argument("--test-examples", type=whole(10), default=200, help="at most (default: %(default)s)")
    parser.add_argument("--out", default="runs/curve", help="folder of the results (default: %(default)s)")
    few = "the fewest and the most --shots, the least --sizes, one seed, 60 tested: some minutes"
    parser.add_argument("--quick", action="store_true", help=few)
    add_resume(parser, "curve")
    add_json(parser)


def run(arguments: Namespace) -> None:
    from rich.console import Console

    from minilora.measure import curve, curve_report
    from minilora.train import methods

    names = tuple(dict.fromkeys(methods.find(name.strip()) for name in arguments.methods.split(",")))
    same = {name: getattr(arguments, name) for name in ("model", "data", "test", "shots", "sizes", "test_examples")}
    settings = curve.CurveSettings(**same, methods=names, seeds=tuple(range(arguments.seeds)))
    settings = settings.quick() if arguments.quick else settings
    out, console = Path(arguments.out), Console(width=80, highlight=False, stderr=arguments.json)
    records = curve.run(out, settings, arguments.resume, arguments.overwrite)
    curve_report.show(records, out, console)
    if arguments.json:
        print(json.dumps(records.as_json()))


def _wholes(least: int) -> Callable[[str], tuple[int | str, ...]]:
    """A flag's type: whole numbers of at least `least`, with commas between them; sorted, each once, "all" last.

    "all" is for --sizes, whose least is above 0.
    """

    def parse(text: str) -> tuple[int | str, ...]:
        parts = {part.strip() for part in text.split(",")}
        ends = ("all",) if least and "all" in parts else ()
        try:
            return (*sorted({whole(least)(part) for part in parts.difference(ends)}), *ends)
        except ArgumentTypeError as error:
            raise ArgumentTypeError(f"{error}; with commas between them: 2,4,8") from None

    return parse
