"""The experiments' command line, `python -m experiments`: exit codes and errors are those of `minilora`."""

import sys
from functools import partial
from importlib import import_module

from minilora import cli
from minilora.commands.common import Parser

COMMANDS = {  # the module in commands/, and what it does
    "study": "reproduce the shape of a published figure in small, or list what there is",
    "compare": "measure every method on one base, one domain and one task, each at its own learning rate",
    "advise": "fine-tune or prompt? Six questions, answered from what was measured",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = Parser(
        prog="python -m experiments",
        description="Measure the figures of minilora's documentation anew; README.md beside this file has their costs.",
        epilog="example: python -m experiments study rank --quick",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, does in COMMANDS.items():
        commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", add=partial(_load, name))
    return cli.run(parser, sys.argv[1:] if argv is None else argv)


def _load(name: str, parser: Parser) -> None:
    """Give a command its flags and its function."""
    command = import_module(f"experiments.commands.{name}")
    command.add(parser)
    parser.set_defaults(run=command.run)


if __name__ == "__main__":
    sys.exit(main())
