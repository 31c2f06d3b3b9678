"""`minilora curve`: compare prompting with fine-tuning on your own examples."""

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from minilora.commands.common import DEFAULT, Parser, add_columns, add_flag, add_resume, put_in_front, whole
from minilora.errors import MiniloraError, line_width, print_notes

OUT = "runs/curve"


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
    add_flag(parser, "--out", f"folder for the results {DEFAULT}", default=OUT)
    words = "take a few minutes: fewest and most --shots, smallest of --sizes, one seed, 60 test examples"
    add_flag(parser, "--quick", words, bool)
    add_resume(parser)
    add_flag(parser, "--json")
    if "--resume" in parser.typed:
        _take_settings(parser)


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


def _take_settings(parser: Parser) -> None:
    """Put the settings of the curve that `--resume` continues in front of what was typed, so that typed flags win."""
    from minilora.data.examples import SETTINGS, Columns
    from minilora.formats.atomic import show_path  # imports NumPy, which would slow --help down
    from minilora.measure import curve
    from minilora.measure.records import Records

    out = parser.value_of("--out") or OUT
    if not (path := Path(out, curve.RECORDS)).exists():
        if parser.value_of("--data") is None:
            raise MiniloraError(f"--resume has nothing to continue: there is no curve in {show_path(out)}")
        return
    records = Records.read(path, curve.KIND, cut_off=True)
    print_notes(records.notes)
    before = records.header["settings"]
    names = ("model", "data", "test", "shots", "sizes", "methods", "test_examples")
    flags = {name: before.get(name) for name in names} | {"seeds": len(before.get("seeds") or ()) or None}
    columns = before.get("columns") or {}
    flags |= {name: columns.get(field.name) for name, field in zip(SETTINGS, fields(Columns), strict=True)}
    flags["quick"] = before.get("timed") == curve.CurveSettings().quick().timed
    put_in_front(parser, {name: value for name, value in flags.items() if value is not None})


def _wholes(least: int) -> Callable[[str], tuple[int | str, ...]]:
    """Return a flag's type: whole numbers of at least `least`, separated by commas; sorted, each once, "all" last."""

    def parse(text: str) -> tuple[int | str, ...]:
        parts = {part.strip() for part in text.split(",")}
        ends = ("all",) if least and "all" in parts else ()  # only --sizes has a bound above 0
        return (*sorted({whole(least)(part) for part in parts.difference(ends)}), *ends)

    return parse
