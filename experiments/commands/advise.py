"""`python -m experiments advise`: fine-tune or prompt? The answers come by flags, or by questions on a terminal."""

import json
import sys
from argparse import Namespace
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from minilora.commands.common import Parser, add_flag, choice, whole
from minilora.errors import MiniloraError, flag_of

QUESTIONS = {  # each a field of `results.advise.Situation`
    "examples": "how many examples of what you want have you got?",
    "queries": "how many queries per day will it answer?",
    "jargon": "is the language or the knowledge special to your field?",
    "strict_format": "must each answer have one exact format?",
    "changes": "does what you want change from week to week?",
    "prototype": "are you still finding out what you want?",
}
CURVE = "runs/curve"
NUMBERS = ("examples", "queries")


def add(parser: Parser) -> None:
    parser.epilog = (
        "example: python -m experiments advise --examples 200 --queries 5000 --jargon yes \\\n"
        "           --strict-format no --changes no --prototype no"
    )
    for name, question in QUESTIONS.items():
        kind, metavar = (whole(0, 10**12), "N") if name in NUMBERS else (choice(("yes", "no")), "{yes,no}")
        parser.add_argument(flag_of(name), type=kind, metavar=metavar, help=question)
    parser.add_argument(
        "--curve", help=f"folder of a minilora curve on your own data (default: {CURVE}, if it is there)"
    )
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    from experiments.results.advise import RECORDS, Measured, Situation, advise, in_words

    answers = {name: getattr(arguments, name) for name in QUESTIONS}
    answers = {name: {"yes": True, "no": False}.get(value, value) for name, value in answers.items()}
    missing = [name for name, value in answers.items() if value is None]
    if missing and not sys.stdin.isatty():
        raise MiniloraError(f"advise needs an answer to each question; missing: {', '.join(map(flag_of, missing))}")
    for name in missing:
        answers[name] = _ask(name)
    curve = arguments.curve or (CURVE if (Path(CURVE) / "records.jsonl").is_file() else None)
    advice = advise(Situation(**answers), Measured(RECORDS, Path(curve) if curve else None))
    print(json.dumps(asdict(advice)) if arguments.json else in_words(advice))


def _ask(name: str) -> int | bool:
    """Return the answer that is typed, asked for until it can be read."""
    question = QUESTIONS[name][0].upper() + QUESTIONS[name][1:]
    while True:
        try:
            answer = input(f"{question} ").strip().lower()
        except EOFError:
            raise MiniloraError("advise was not told everything; answer each question or give its flag") from None
        if name in NUMBERS:
            with suppress(ValueError):
                return int(answer.replace(",", ""))
            print("A whole number, please.")
        elif answer in ("y", "yes", "n", "no"):
            return answer[0] == "y"
        else:
            print("yes or no, please.")
