"""The command line: its parser, the dispatch to a command, and the exit codes. A command is a file in `commands/`.

Exit codes: 0 done; 1 `check` found an exercise failed or not started; 2 bad input (one line on standard error); 3 a
training in which no evaluation beat the start; 130 after Ctrl-C and 143 after SIGTERM, with the checkpoint saved.
"""

import codecs
import io
import os
import signal
import sys
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import FrameType
from typing import Any

from minilora import __version__
from minilora.commands.common import Parser
from minilora.errors import MiniloraError, SeenByAll, Stopped
from minilora.formats.atomic import show_path, to_utf8
from minilora.train import launch

GROUPS = {  # by what one wants: commands, which are modules in commands/, and what each does
    "learn": {
        "demo": "pretrain a base, adapt it every way, show tables and pictures",
        "check": "check a lesson's exercise, or show the progress",
    },
    "adapt": {
        "pretrain": "train a language model from nothing",
        "finetune": "adapt a model to a text, or to conversations",
        "evaluate": "measure a model: bits per character, right answers",
        "generate": "continue a prompt, or answer a question",
        "chat": "talk to a chat model, which remembers the conversation",
        "merge": "add an adapter's update into the weights of its base",
        "show": "how a run went, in the terminal and as a picture",
    },
    "decide": {
        "curve": "prompt or fine-tune? Accuracy by the number of examples",
        "plan": "how much memory and time an adaptation would take",
    },
    "get": {
        "models": "pretrained models and labelled tasks: list, get, look into",
        "doctor": "what this machine offers, and whether minilora works on it",
    },
    "teach": {
        "course": "an nbgrader course of the lessons, and marks",
    },
}
COMMANDS = {name: does for commands in GROUPS.values() for name, does in commands.items()}

CHECKOUT = "in a checkout of minilora, `python -m experiments"
IN_PYTHON = "in Python does its work"
GONE = {  # a command that there was, or one with a flag, and what does its work now
    "grade": "`minilora course --mark FOLDER` writes the marks of .py files as a CSV; notebooks are nbgrader's",
    "similar": "a service made for it, such as MOSS or JPlag, finds answers that are alike",
    "study": f"{CHECKOUT} study` does its work",
    "advise": f"{CHECKOUT} advise` does its work",
    "compare": f"{CHECKOUT} compare` does its work",
    "demo --json": "results.jsonl in the folder of --out has what was measured; with --model, results.json",
    "demo --jsonl": "`minilora curve --model smollm2 --methods qlora --data FILE` measures; finetune keeps the adapter",
    "demo --test": "`minilora curve --model smollm2 --methods qlora --data FILE --test FILE` measures",
    "demo --text": "`minilora finetune --model smollm2 --data FILE` learns a text, `minilora evaluate` measures it",
    "demo --with": "in notebook 08, `Lab(…, own=…)` trains with your own LoRA: lessons/08_lora/README.md has the lines",
    "tasks": "`minilora models list` and `minilora models get reviews` do its work",
    **{
        f"{command} {flag}": instead
        for command in ("pretrain", "finetune")
        for flag, instead in {
            "--config": "type the run's command again, which is in its run.json; --resume goes on by its settings",
            "--eval-examples": f"`minilora.train.defaults.fit(…, examples=…)` {IN_PYTHON}",
        }.items()
    },
    "finetune --pack": "conversations of like length share a batch, so that little of it is padding",
    "course --kit": "GitHub's Download ZIP has the package and the lessons, for students without git",
    "plan --model": "name the model without a flag: minilora plan llama-7b",
    "plan --all": "without --method, all methods are planned",
    "plan --out": "`minilora plan --json` has the numbers of a picture",
    "plan --workers": f"`minilora.plan.planner.make_plan` with a Step(workers=…) {IN_PYTHON}",
    "plan --tflops": f"`minilora.plan.planner.tokens_per_second` {IN_PYTHON}",
    "plan --utilization": f"`minilora.plan.planner.tokens_per_second` {IN_PYTHON}",
    **{
        f"plan {flag}": f"`minilora.plan.cluster` {IN_PYTHON}, as lesson 14 shows"
        for flag in ("--machines", "--link", "--link-efficiency", "--tokens", "--steps")
    },
}

PLAIN = str.maketrans(
    dict(zip("─–−×·µ±…▁▂▃▄▅▆▇█", ("-", "-", "-", "x", "*", "u", "+-", "...", *".:-=+*#@"), strict=True))
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return run(_parser(), sys.argv[1:] if argv is None else argv)


def run(parser: Parser, argv: Sequence[str]) -> int:
    """Run the command that a parser reads from `argv`, and tell its error in one line; returns the exit code."""
    _prepare_streams()
    with launch.only_rank_zero_prints():
        code, message, seen_by_all = _run(parser, argv)
    if message:
        with suppress(OSError):  # standard error is closed or full: the code still tells
            launch.report_fatal(" ".join(message.split()), seen_by_all)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # what is left cannot be written: Python would try again at its end, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _prepare_streams() -> None:
    """Open what the shell closed (`>&-`), and replace or escape characters that an output's encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(null, mode, closefd=False))  # noqa: SIM115 (for as long as the process lives)
    codecs.register_error("minilora.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):  # the C locale's
            stream.reconfigure(errors="minilora.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks; returns the text to write, and where to go on."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def _run(parser: Parser, argv: Sequence[str]) -> tuple[int, str, bool]:
    """Return (exit code, error message, whether all ranks agree)."""
    before = {int(signum): signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    heard = [signum for signum, handler in before.items() if handler != signal.SIG_IGN]
    try:
        with launch.on_signals(heard, partial(_interrupt, before)):
            code = _dispatch(parser, argv)
            sys.stdout.flush()  # a full disk is told here, and not after the last word
            return code, "", True
    except MiniloraError as error:
        return error.exit_code, str(error), isinstance(error, SeenByAll)
    except Stopped as error:
        return error.exit_code, str(error), True
    except KeyboardInterrupt:
        return 130, "interrupted", False
    except BrokenPipeError:  # whoever reads the output has closed it: the command ends there, as by SIGPIPE
        return 128 + 13, "", True
    except OSError as error:
        return 2, f"{error.strerror or error}" + (f": {show_path(error.filename)}" if error.filename else ""), False
    except MemoryError:
        return 2, "out of memory; try a smaller --batch-size, --seq-len or model", False


def _dispatch(parser: Parser, argv: Sequence[str]) -> int:
    """Read the arguments and run their command; returns its exit code."""
    for argument in argv:
        to_utf8(argument)  # a record that names it could not be written
    try:
        arguments = parser.parse_args(argv)
        launch.check(arguments.command)
        return arguments.run(arguments) or 0
    except SystemExit as error:  # argparse, after --help and --version; rich, when whoever reads has left
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        return int(error.code or 0)


def _interrupt(before: Mapping[int, Any], signum: int, frame: FrameType | None) -> None:
    """End the command, with what must be cleaned up; within an import, do as the handler that was there `before`.

    The machinery of imports swallows an exception that hits it, and NumPy takes one for a broken installation. So the
    process ends there and then: see __main__.py. In an import, nothing is half written.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.signal(signum, before[signum])
            signal.raise_signal(signum)
            return
        frame = frame.f_back
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(signum, "terminated")


def _parser() -> Parser:
    parser = Parser(
        prog="minilora",
        usage="minilora command [flags]",
        description="Transfer learning built from arrays up: pretrain a language model, adapt it, measure it.",
        epilog=_command_list(),
        gone=GONE,
    )
    parser.add_argument("--version", action="version", version=f"minilora {__version__}", help="show the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", help=SUPPRESS)
    for name, does in COMMANDS.items():
        commands.add_parser(name, description=f"{does[0].upper()}{does[1:]}.", add=partial(_load, name))
    return parser


def _command_list() -> str:
    lines = []
    for group, commands in GROUPS.items():
        lines += [f"{group}", *(f"  {name:<10}{does}" for name, does in commands.items())]
    return "\n".join([*lines, "", "example: minilora demo --quick; minilora finetune --help tells of a command"])


def _load(name: str, parser: Parser) -> None:
    """The command's flags and function; no other command is imported."""
    command = import_module(f"minilora.commands.{name}")
    command.add(parser)
    parser.set_defaults(run=command.run)


if __name__ == "__main__":
    sys.exit(main())
