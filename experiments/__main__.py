"""The experiments' command line, `python -m experiments`: exit codes and errors are those of `minilora`."""

import sys

from minilora.cli import Program

COMMANDS = {  # the module in commands/, and what it does
    "study": "reproduce the shape of a published figure in small, or list what there is",
    "compare": "measure every method on one base, one domain and one task, each at its own learning rate",
    "windows": "measure what training and a prompt buy of a text, by the window that it is read in",
    "jargon": "teach a published model a company's jargon at several seeds",
    "check": "compare each file of records with what today's code does, in small",
}
EXPERIMENTS = Program(
    "python -m experiments",
    "experiments.commands",
    {"commands": COMMANDS},
    "Measure the figures of minilora's documentation anew; README.md beside this file has their costs.",
    "example: python -m experiments study rank --quick",
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return EXPERIMENTS.run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
