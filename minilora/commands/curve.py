"""`minilora curve`: compare prompting with fine-tuning on your own examples."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from minilora.commands.common import DEFAULT, Parser, add_columns, add_flag, add_resume, whole
from minilora.errors import line_width


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora curve --data mine.jsonl --model smollm2 --out runs/curve"
    words = "examples: a .csv or .jsonl file (50 or more, or give --test), or a task of `models list`"
    add_flag(parser, "--data", words, required=True)
    add_flag(parser, "--model", default="smollm2")
    words = "file of 10 or more held-out examples (default: the task's own, or a fifth of --data)"
    add_flag(parser, "--test", words, metavar="FILE")
    add_columns(parser)
    words = f"numbers of examples to put in the prompt {DEFAULT}"
    add_flag(parser, "--shots", words, _wholes(0), "0,2,4,8", metavar="N,N")
    words = f"numbers of examples to train on; all: all of --data {DEFAULT}"
    add_flag(parser, "--sizes", words, _wholes(2), "32,128,512,all", metavar="N,N")
    words = f"methods to train with, separated by commas {DEFAULT}"
    add_flag(parser, "--methods", words, default="lora", metavar="NAMES")
    add_flag(parser, "--seeds", f"repetitions, each with its own seed {DEFAULT}", whole(1, 100), 3)
    add_flag(parser, "--test-examples", f"test on at most N examples {DEFAULT}", whole(10), 200)
    add_flag(parser, "--out", f"folder for the results {DEFAULT}", default="runs/curve")
    words = "take a few minutes: fewest and most --shots, smallest of --sizes, one seed, 60 test examples"
    add_flag(parser, "--quick", words, bool)
    add_resume(parser)
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    from rich.console import Console

    from minilora.data.examples import Columns
    from minilora.measure import curve, curve_report
    from minilora.train import methods

    names = tuple(dict.fromkeys(methods.find(name.strip()) for name in arguments.methods.split(",")))
    flags = {name: getattr(arguments, name) for name in ("model", "data", "test", "shots", "sizes", "test_examples")}
    flags |= {"methods": names, "seeds": tuple(range(arguments.seeds)), "columns": Columns.of(vars(arguments))}
    settings = curve.CurveSettings(**flags)
    settings = settings.quick() if arguments.quick else settings
    out, console = Path(arguments.out), Console(width=line_width(), highlight=False, stderr=arguments.json)
    records = curve.run(out, settings, arguments.resume, arguments.overwrite)
    curve_report.show(records, out, console)
    if arguments.json:
        print(json.dumps({"header": records.header, "cells": [*records.rows.values()]}))


def _wholes(least: int) -> Callable[[str], tuple[int | str, ...]]:
    """Return a flag's type: whole numbers of at least `least`, separated by commas; sorted, each once, "all" last."""

    def parse(text: str) -> tuple[int | str, ...]:
        parts = {part.strip() for part in text.split(",")}
        ends = ("all",) if least and "all" in parts else ()  # only --sizes has a bound above 0
        return (*sorted({whole(least)(part) for part in parts.difference(ends)}), *ends)

    return parse
