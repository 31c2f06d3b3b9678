"""The command line: its parser, the dispatch to a command, and the exit codes. A command is a file in `commands/`.

Exit codes: 0 done; 1 `check` found an exercise failed or not started; 2 bad input (one line on standard error); 3 no
evaluation of a training run beat the start; 130 after Ctrl-C and 143 after SIGTERM, with the checkpoint saved.
"""

import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import FrameType
from typing import Any

from minilora import __version__
from minilora.commands.common import Parser
from minilora.errors import MiniloraError, Stopped, unknown
from minilora.formats.atomic import show_path, to_utf8
from minilora.train import launch

GROUPS = {  # group -> {command: what it does}; each command is a module in commands/
    "learn": {
        "demo": "pretrain a small model, adapt it to a domain, and show the gain",
        "check": "check your answers to a lesson's exercise, or show your progress",
    },
    "adapt": {
        "pretrain": "train a language model from scratch",
        "finetune": "adapt a model to a text or to examples",
        "evaluate": "measure a model: bits per character, share of right answers",
        "predict": "answer each row of a table, and write the answers to a file",
        "generate": "continue a prompt, or answer a question",
        "chat": "talk to a chat model, which remembers the conversation",
        "merge": "merge an adapter into the weights of its base model",
        "show": "show how a training run went, as a table and a picture",
    },
    "decide": {
        "curve": "compare prompting with fine-tuning, by number of examples",
        "plan": "estimate the memory that adapting a model takes",
    },
    "get": {
        "models": "list, download, inspect or export models and example tasks",
        "doctor": "show what this machine offers, and test minilora on it",
    },
    "teach": {"course": "make an nbgrader course of the lessons, or grade answers"},
}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return MINILORA.run(sys.argv[1:] if argv is None else argv)


@dataclass(frozen=True)
class Program:
    """A command-line program: its name, the package with a module per command, the commands by group, and its help."""

    name: str
    package: str
    groups: Mapping[str, Mapping[str, str]]
    description: str
    example: str

    def parser(self, command: str = "", typed: Sequence[str] = ()) -> Parser:
        """Return the parser of one command, and import only that command. Without one: the parser of `--help`."""
        if command:
            module, does = import_module(f"{self.package}.{command}"), self.commands[command]
            parser = Parser(typed, prog=f"{self.name} {command}", description=f"{does[0].upper()}{does[1:]}.")
            module.add(parser)
            parser.set_defaults(command=command, run=module.run)
            return parser
        lines = []
        for group, commands in self.groups.items():
            lines += [group, *(f"  {name:<10}{does}" for name, does in commands.items())]
        top = Parser(typed, prog=self.name, usage=f"{self.name} COMMAND [flags]", description=self.description)
        top.epilog = "\n".join([*lines, "", self.example])
        top.add_argument("--version", action="version", version=f"minilora {__version__}", help="show the version")
        return top

    @property
    def commands(self) -> dict[str, str]:
        """The commands of all groups, {name: what it does}."""
        return {name: does for commands in self.groups.values() for name, does in commands.items()}

    def run(self, argv: Sequence[str]) -> int:
        """Run the command that `argv` begins with, print an error in one line, and return the exit code."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # an older Windows encoding has no bars and arrows
        before = {int(signum): signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
        not_ignored = [signum for signum, handler in before.items() if handler != signal.SIG_IGN]
        message = ""
        with launch.only_rank_zero_prints():
            try:
                with launch.on_signals(not_ignored, partial(_interrupt, before)):
                    code = self._dispatch(argv)
                    sys.stdout.flush()  # so that a full disk is reported as an error of the command
            except (MiniloraError, Stopped) as error:
                code, message = error.exit_code, str(error)
            except KeyboardInterrupt:
                code, message = 130, "interrupted"
            except BrokenPipeError:  # the reader of the output has closed it: end as if by SIGPIPE
                code = 128 + 13
            except OSError as error:
                where = f": {show_path(error.filename)}" if error.filename else ""
                code, message = 2, f"{error.strerror or error}{where}"
                if message.startswith("No usable temporary directory"):  # as `tempfile` says
                    message = "there is no folder for temporary files: set TMPDIR to one that you can write to"
            except MemoryError:
                code, message = 2, "out of memory; try a smaller --batch-size, --seq-len or model"
        if message:
            with suppress(OSError):  # standard error is closed or full: the exit code is all that is left
                launch.report_fatal(" ".join(message.split()))
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # Python would try to write the rest again when it exits, and complain
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return code

    def _dispatch(self, argv: Sequence[str]) -> int:
        """Parse the arguments, run their command and return its exit code."""
        for argument in argv:
            to_utf8(argument)  # raises here, because a run's record could not name such a path
        name = argv[0] if argv else ""
        try:
            if not argv or name.startswith("-"):
                self.parser(typed=argv[:1] or ["--help"]).parse()  # --help and --version end here
            if name not in self.commands:
                raise MiniloraError(f"{unknown('command', name, self.commands)} (see {self.name} --help)")
            arguments = self.parser(name, argv[1:]).parse()
            launch.check(name)
            return arguments.run(arguments) or 0
        except SystemExit as error:  # from argparse after --help and --version; from rich if the pipe is closed
            if isinstance(error.__context__, BrokenPipeError):
                raise error.__context__ from None
            return int(error.code or 0)


def _interrupt(before: Mapping[int, Any], signum: int, frame: FrameType | None) -> None:
    """Handle a signal: raise, so that the command cleans up. During an import, restore and run the handler `before`.

    The import system swallows an exception that is raised inside it, and NumPy takes one for a broken installation. So
    during an import the process ends at once (see __main__.py). Nothing is half written at that point.
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


MINILORA = Program(
    "minilora",
    "minilora.commands",
    GROUPS,
    "Transfer learning built from arrays up: pretrain a language model, adapt it, measure it.",
    "examples:\n  minilora demo --quick     the whole story in a minute\n  minilora finetune --help  a command's flags",
)


if __name__ == "__main__":
    sys.exit(main())
