"""`minilora curve`: prompt or fine-tune? Measured on your own examples."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from minilora.commands.common import DEFAULT, Parser, add_columns, add_flag, add_resume, whole


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora curve --data mine.jsonl --model smollm2 --out runs/curve"
    add_flag(parser, "--model", default="smollm2")
    words = "examples (.csv, .jsonl), some 50 or more without --test, or a name of minilora models list"
    add_flag(parser, "--data", words, required=True)
    words = "a file of at least 10 held-out examples (default: the task's own, or a fifth of --data)"
    add_flag(parser, "--test", words)
    add_columns(parser)
    add_flag(parser, "--shots", f"examples in the prompt {DEFAULT}", _wholes(0), "0,2,4,8")
    words = f"examples to train on, all of --data among them {DEFAULT}"
    add_flag(parser, "--sizes", words, _wholes(2), "32,128,512,all")
    add_flag(parser, "--methods", f"to train by, with commas: lora,full,qlora {DEFAULT}", default="lora")
    add_flag(parser, "--seeds", f"how many {DEFAULT}", whole(1, 100), 3)
    add_flag(parser, "--test-examples", f"at most {DEFAULT}", whole(10), 200)
    add_flag(parser, "--out", f"folder of the results {DEFAULT}", default="runs/curve")
    words = "the fewest and the most --shots, the least --sizes, one seed, 60 tested: some minutes"
    add_flag(parser, "--quick", words, bool)
    add_resume(parser)
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    from rich.console import Console

    from minilora.data.examples import Columns
    from minilora.measure import curve, curve_report
    from minilora.train import methods

    names = tuple(dict.fromkeys(methods.find(name.strip()) for name in arguments.methods.split(",")))
    same = {name: getattr(arguments, name) for name in ("model", "data", "test", "shots", "sizes", "test_examples")}
    same |= {"methods": names, "seeds": tuple(range(arguments.seeds)), "columns": Columns.of(vars(arguments))}
    settings = curve.CurveSettings(**same)
    settings = settings.quick() if arguments.quick else settings
    out, console = Path(arguments.out), Console(width=80, highlight=False, stderr=arguments.json)
    records = curve.run(out, settings, arguments.resume, arguments.overwrite)
    curve_report.show(records, out, console)
    if arguments.json:
        print(json.dumps({"header": records.header, "cells": [*records.rows.values()]}))


def _wholes(least: int) -> Callable[[str], tuple[int | str, ...]]:
    """A flag's type: whole numbers of at least `least`, with commas between them; sorted, each once, "all" last."""

    def parse(text: str) -> tuple[int | str, ...]:
        parts = {part.strip() for part in text.split(",")}
        ends = ("all",) if least and "all" in parts else ()  # of --sizes alone
        return (*sorted({whole(least)(part) for part in parts.difference(ends)}), *ends)

    return parse
