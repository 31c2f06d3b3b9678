"""What commands share: the parser, the flags that several of them have, and how a result is printed.

A command is a file here with `add(parser)`, which gives the parser its flags and its example, and `run(arguments)`,
which may return an exit code; and a line in `minilora.cli`, which imports the file when its command is asked for.
"""

from __future__ import annotations

import argparse
import json
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import NoReturn

from minilora.errors import MiniloraError, escape

DATA = "python-docs, numpy-docs, matplotlib-docs, a text file, a folder, or - for standard input"
DATA_OR_CHAT = f"{DATA}; or a .jsonl file of conversations, of which the responses are learned"


class Parser(argparse.ArgumentParser):
    """argparse that reports an error in one line, as everything else does.

    add: gives the parser its flags; called when the parser is first used.
    """

    def __init__(self, *args, add: Callable[[Parser], None] | None = None, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self._add = add

    def parse_known_args(self, args=None, namespace=None):
        if self._add is not None:
            add, self._add = self._add, None
            add(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise MiniloraError(f"{escape(message, 200)} (see {self.prog} --help)")


# Flags


def add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_resume(parser: Parser, what: str) -> None:
    parser.add_argument("--resume", action="store_true", help=f"go on with the {what} in --out")
    parser.add_argument("--overwrite", action="store_true", help=f"replace the {what} in --out")


def add_model(parser: Parser, adapter: bool = True) -> None:
    parser.add_argument(
        "--model", default="base", help="base (comes with the package), a folder or a .gguf file (default: %(default)s)"
    )
    if adapter:
        parser.add_argument("--adapter", help="folder of an adapter to put on the model")


def add_training(parser: Parser, steps: int, lr: float | None, batch_size: int) -> None:
    parser.add_argument("--out", required=True, help="run folder: metrics, checkpoints and the result")
    parser.add_argument("--steps", type=int, default=steps, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=batch_size, help="sequences a step (default: %(default)s)")
    parser.add_argument("--seq-len", type=int, default=128, help="tokens a sequence (default: %(default)s)")
    parser.add_argument(
        "--lr", type=float, default=lr, help=f"learning rate (default: {'%(default)s' if lr else 'by method'})"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints (default: %(default)s)")
    parser.add_argument(
        "--checkpointing", action="store_true", help="compute blocks again in backward: less memory, a third more time"
    )
    add_resume(parser, "run")
    add_json(parser)


# Results


def print_result(arguments: Namespace, facts: dict, text: str) -> None:
    """The facts as JSON with --json, else the text."""
    print(json.dumps(facts) if arguments.json else text, flush=True)


def print_notes(notes: list[str]) -> None:
    for note in notes:
        print(f"minilora: note: {note}", file=sys.stderr)
