"""The command line `python -m experiments`, with the exit codes and errors of `minilora`."""

import sys

from minilora.cli import Program

COMMANDS = {  # {module in commands/: its summary}
    "study": "reproduce a published finding in small, or list the studies",
    "compare": "compare all methods, each at its own learning rate",
    "windows": "compare training and prompts on a text, by the window it is read in",
    "jargon": "teach a published model a company's jargon at several seeds",
    "check": "check that today's code would reproduce the records",
}
EXPERIMENTS = Program(
    "python -m experiments",
    "experiments.commands",
    {"commands": COMMANDS},
    "Measure the figures of minilora's documentation again; experiments/README.md has the costs.",
    "example: python -m experiments study rank --quick",
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return EXPERIMENTS.run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
