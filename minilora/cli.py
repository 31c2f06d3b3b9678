"""The command line: its parser, the dispatch to a command, and the exit codes. A command is a file in `commands/`.

Exit codes: 0 done; 1 `check` found an exercise failed or not started; 2 bad input (one line on standard error); 3 a
training in which no evaluation beat the start; 130 after Ctrl-C and 143 after SIGTERM, with the checkpoint saved.
"""

import io
import os
import signal
import sys
from functools import partial
from importlib import import_module
from typing import NoReturn

from minilora import __version__
from minilora.commands.common import Parser
from minilora.errors import MiniloraError, SeenByAll, Stopped
from minilora.formats.atomic import show_path, to_utf8
from minilora.train import launch

COMMANDS = {  # the module in commands/, and what it does
    "demo": "pretrain a base, adapt it every way, show tables and pictures",
    "pretrain": "train a language model from nothing",
    "finetune": "adapt a model to a text, or to conversations",
    "evaluate": "measure a model on a text in bits per character, on a task by its answers",
    "generate": "continue a prompt, or answer a question",
    "chat": "talk to a chat model, which remembers the conversation",
    "merge": "add an adapter's update into the weights of its base",
    "show": "a run's loss, validation, learning rate and gradient norm, in the terminal and as a picture",
    "compare": "measure every method on one base, one domain and one task",
    "curve": "prompt or fine-tune? Accuracy by examples in the prompt and by examples trained on",
    "plan": "how much memory and time an adaptation would take",
    "advise": "fine-tune or prompt? Six questions, answered from what was measured",
    "study": "reproduce the shape of a published figure in small, or list what there is",
    "models": "pretrained models: which there are, get one, look into one",
    "tasks": "labelled tasks that others published: which there are, get one",
    "doctor": "what this machine offers, and whether minilora works on it",
    "check": "check a lesson's exercise, or show the progress",
    "course": "write the lessons as an nbgrader course, for teachers",
    "grade": "grade what a class handed in, for teachers",
    "similar": "find answers of a class that are alike, for teachers",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # for characters that the stream's encoding lacks
    with launch.only_rank_zero_prints():
        code, message, seen_by_all = _run(argv)
    if message:
        launch.report_fatal(" ".join(message.split()), seen_by_all)
    return code


def _run(argv: list[str] | None) -> tuple[int, str, bool]:
    """Exit code, last word, and whether every rank has the same."""
    try:
        for argument in sys.argv[1:] if argv is None else argv:
            to_utf8(argument)  # a record that names it could not be written
        arguments = _parser().parse_args(argv)
        launch.check(arguments.command)
        with launch.on_signals((signal.SIGTERM,), _terminate):
            return arguments.run(arguments) or 0, "", True
    except MiniloraError as error:
        return error.exit_code, str(error), isinstance(error, SeenByAll)
    except Stopped as error:
        return error.exit_code, str(error), True
    except KeyboardInterrupt:
        return 130, "interrupted", False
    except BrokenPipeError:
        return _cut_off()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # in rich, which ends the program
            return _cut_off()
        raise
    except OSError as error:
        return 2, f"{error.strerror or error}" + (f": {show_path(error.filename)}" if error.filename else ""), False
    except MemoryError:
        return 2, "out of memory; try a smaller --batch-size, --seq-len or model", False


def _cut_off() -> tuple[int, str, bool]:
    """Whoever reads the output has closed it: the command ends there, as by SIGPIPE."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13, "", True


def _terminate(signum: int, frame: object) -> NoReturn:
    """End the command as Ctrl-C does, with what must be cleaned up."""
    raise Stopped(signum, "terminated")


def _parser() -> Parser:
    parser = Parser(
        prog="minilora",
        description="Transfer learning built from arrays up: pretrain a language model, adapt it, measure it.",
        epilog="example: minilora demo --quick",
    )
    parser.add_argument("--version", action="version", version=f"minilora {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, does in COMMANDS.items():
        commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", add=partial(_load, name))
    return parser


def _load(name: str, parser: Parser) -> None:
    """The command's flags and function; no other command is imported."""
    command = import_module(f"minilora.commands.{name}")
    command.add(parser)
    parser.set_defaults(run=command.run)


if __name__ == "__main__":
    sys.exit(main())
