"""What commands share: the parser, the flags that several of them have, and how a result is printed.

A command is a file here with `add(parser)`, which gives the parser its flags and its example, and `run(arguments)`,
which may return an exit code; and a line in `minilora.cli`, which imports the file when its command is asked for.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from argparse import SUPPRESS, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import takewhile, zip_longest
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Any, NoReturn

from minilora import fields
from minilora.data.corpora import CORPORA
from minilora.errors import MiniloraError, did_you_mean, escape, flag_of, print_notes
from minilora.train.config import OPTIMIZERS, SCHEDULES

DATA = f"{', '.join(CORPORA)}, a text file or a folder"
MODEL = "a name of `models list`, ORG/NAME of the Hub, a folder or a .gguf file"
CHATS = "examples (.csv, .jsonl), a task (reviews)"

FOREIGN = {  # flags of transformers, PEFT and llama.cpp that are not spelled like ours, by ours that do the same
    "--lr": "learning-rate",
    "--steps": "max-iters num-train-steps",
    "--batch-size": "per-device-train-batch-size",
    "--accumulate": "gradient-accumulation-steps grad-accum",
    "--seq-len": "max-length block-size context-length model-max-length ctx-size",
    "--max-new-tokens": "max-length n-predict n",
    "--out": "output-dir save-dir",
    "--model": "model-name-or-path pretrained-model-name-or-path",
    "--data": "dataset-name train-file input",
    "--rank": "lora-r lora-rank lora-dim r",
}


# The parser


class Parser(argparse.ArgumentParser):
    """argparse that reports an error in one line, as everything else does, and first of all a flag that is unknown.

    typed: what `parse` reads; a command may look at it while it adds its flags.
    """

    def __init__(self, typed: Sequence[str] = (), **kwargs: Any):
        width = min(get_terminal_size().columns, 80) - 2  # 80 columns also in a wide terminal
        form = partial(argparse.RawDescriptionHelpFormatter, width=width, max_help_position=25)
        super().__init__(formatter_class=form, allow_abbrev=False, add_help=False, **kwargs)
        self.add_argument("-h", "--help", action="help", help=SUPPRESS)
        self.typed = typed

    def parse(self) -> Namespace:
        """Read what was typed. Raises MiniloraError, for a flag that is unknown before anything that is missing."""
        for argument in takewhile(lambda argument: argument != "--", self.typed):
            flag = argument.partition("=")[0]
            is_value = flag[:1] != "-" or flag == "-" or " " in flag or re.fullmatch(r"-\.?[0-9].*", flag)
            if not is_value and flag not in self._option_string_actions:
                self.error(f"unknown flag {flag}{self._suggestion(flag)}")
        if [argument.partition("=")[0] for argument in self.typed].count("--adapter") > 1:
            self.error("--adapter must be given once; PEFT's `add_weighted_adapter` adds adapters")
        return self.parse_args(self.typed)

    def value_of(self, flag: str) -> str | None:
        """Return the value of a flag as it was typed; None if it was not."""
        pairs = zip_longest(self.typed, self.typed[1:], fillvalue="")
        return next((a.partition("=")[2] or after for a, after in pairs if a.partition("=")[0] == flag), None)

    def _suggestion(self, flag: str) -> str:
        """Ask for the flag of this parser that does what `flag` does elsewhere, or that is spelled most like it."""
        name = flag.lower().lstrip("-").replace("_", "-")
        if meant := [ours for ours, theirs in FOREIGN.items() if name in theirs.split()]:
            return next((f"; did you mean {ours!r}?" for ours in meant if ours in self._option_string_actions), "")
        return did_you_mean(f"--{name}", self._option_string_actions, before="; ")

    def format_help(self):
        """Format the help: a usage of what must be given, texts wrapped line by line, groups without a line before."""
        formatter = self._get_formatter()
        if self.usage is None:
            formatter.add_usage(None, [one for one in self._actions if one.required or not one.option_strings], [])
            self.usage = formatter.format_help().removeprefix("usage: ").rstrip() + " [flags]"
        for name in ("description", "epilog"):
            lines = (getattr(self, name) or "").splitlines()
            setattr(self, name, "\n".join(fill(line, formatter._width, break_on_hyphens=False) for line in lines))
        return re.sub(r"([^\n]\n)\n(?=[^\n]+:\n  -)", r"\1", super().format_help())

    def _get_value(self, action, arg_string):
        """Refuse an empty value, such as the shell makes of a variable that is not set, where no `type` accepts it."""
        if arg_string == "" and action.type is None:
            raise argparse.ArgumentError(action, "must not be empty")
        return super()._get_value(action, arg_string)

    def _print_message(self, message, file=None):
        """Write help as everything else is written: argparse swallows what goes wrong."""
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        """Raise MiniloraError, in the words that other errors have."""
        message = re.sub("^argument ([^:]+): must", r"\1 must", message)
        message = re.sub("^argument ([^:]+): expected one argument", r"\1 needs a value", message)
        message = re.sub("^argument ([^:]+): not allowed with argument (.*)", r"\1 and \2 exclude each other", message)
        raise MiniloraError(f"{escape(message, 400)} (see {self.prog} --help)")


# Types of flags


def checked(convert: Callable[[str], Any], kind: fields.Kind, metavar: str = "X") -> Callable[[str], Any]:
    """Return a flag's type: `convert`, with an error for a value that is not of the kind. metavar: as in the help."""

    def parse(text: str) -> Any:
        value: Any = None
        with suppress(ValueError):
            value = convert(text)
        if value is None or not kind.allows(value):
            raise ArgumentTypeError(f"must be {kind.words}, not {text}{kind.hint(value)}")
        return value

    parse.metavar = metavar  # type: ignore[attr-defined]
    return parse


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A flag's type: a whole number of at least `least` and, where it is given, at most `most`."""
    kind: fields.Kind = fields.whole(None, least=least).metadata["kind"]
    if most is not None:
        kind = fields.Kind(f"from {least:,} to {most:,}", lambda value: least <= value <= most)
    return checked(int, kind, "N")


def number(above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    """A flag's type: a finite number above a bound, or of at least one."""
    return checked(float, fields.number(None, above=above, least=least).metadata["kind"])


def choice(names: Iterable[str]) -> Callable[[str], str]:
    """A flag's type: one of some names."""
    return checked(str, fields.choice(None, *names).metadata["kind"], "NAME")


# Flags that several commands have

DEFAULT = "(default: %(default)s)"
SHARE = checked(float, fields.Kind("above 0 and at most 1", lambda part: 0 < part <= 1), "SHARE")
PART = checked(float, fields.Kind("above 0 and below 1", lambda part: 0 < part < 1), "SHARE")
QUIZ = ("auto", "on", "off")  # auto: if it takes less than a tenth of the training's time
FLAGS: dict[str, tuple[str, Any, Any]] = {  # help, type, default; of a flag without a value, bool
    "--model": (f"{MODEL} {DEFAULT}", None, "base"),
    "--strength": ("multiplies what the adapter changes; 0 is the model alone", number(), 1.0),
    "--batch-size": (f"sequences per step {DEFAULT}", whole(1), 8),
    "--seq-len": (f"tokens per sequence {DEFAULT}", whole(2), None),
    "--steps": ("", whole(1), None),
    "--epochs": ("passes over the training data, in place of --steps", number(above=0), None),
    "--accumulate": (f"batches whose gradients make a step {DEFAULT}", whole(1), 1),
    "--warmup": ("steps to the peak of --lr (default: a 20th of all)", whole(0), None),
    "--schedule": (f"{', '.join(SCHEDULES)} {DEFAULT}", choice(SCHEDULES), "cosine"),
    "--optimizer": (f"{', '.join(OPTIMIZERS)} {DEFAULT}", choice(OPTIMIZERS), "adamw"),
    "--checkpointing": ("compute blocks twice: less memory, a third more time", bool, False),
    "--seed": (f"of all that is drawn {DEFAULT}", whole(0), 0),
    "--eval-every": ("steps between evaluations (default: some 10 in all)", whole(1), None),
    "--patience": ("stop after so many evaluations without a gain", whole(0), 0),
    "--save-every": (f"steps between checkpoints {DEFAULT}", whole(0), 100),
    "--resume": ("go on with what is in --out, by its settings", bool, False),
    "--overwrite": ("replace what is in --out", bool, False),
    "--json": ("print the result as JSON", bool, False),
    "--temperature": ("", number(least=0), None),
    "--top-k": ("draw among so many of the likeliest tokens", whole(1), None),
    "--quiz": (f"what does it forget? {', '.join(QUIZ)} {DEFAULT}", choice(QUIZ), "auto"),
    "--replay": ("share of rows of the base's own kind, such as 0.1", PART, None),
    "--dry-run": ("show data, time and the first batch; train nothing", bool, False),
    "--top-p": ("draw among the likeliest that reach this share together", SHARE, None),
}


def add_flag(
    flags: argparse._ActionsContainer, name: str, words: str = "", kind: Any = None, default: Any = None, **more: Any
) -> None:
    """Add a flag with its help, its type and its default, or those that FLAGS has. more: of `add_argument`."""
    known = FLAGS.get(name, ("", None, None))
    words, kind, default = words or known[0], kind or known[1], known[2] if default is None else default
    if kind is bool:
        flags.add_argument(name, action="store_true", help=words)
    else:
        settings = {"type": kind, "default": default, "metavar": getattr(kind, "metavar", None), "help": words}
        flags.add_argument(name, **settings | more)


def add_flags(flags: argparse._ActionsContainer, *names: str) -> None:
    """Add flags as FLAGS has them."""
    for name in names:
        add_flag(flags, name)


def add_model(parser: argparse._ActionsContainer, base: str = "base") -> None:
    """Add the flags of a model with or without an adapter. base: the model if neither names one."""
    parser.add_argument("--model", help=f"{MODEL} (default: that of --adapter, else {base})")
    parser.add_argument("--adapter", metavar="FOLDER", help="adapter to put on the model")
    add_flag(parser, "--strength")


def add_columns(flags: argparse._ActionsContainer) -> None:
    """Add the flags that `data.examples.Columns` is made of."""
    add_flag(flags, "--text-column", "of examples (default: text, prompt, question …)", metavar="NAME")
    add_flag(flags, "--label-column", "of examples (default: label, response, answer …)", metavar="NAME")
    add_flag(flags, "--instruction", "what is asked of each text, in front of it", metavar="TEXT")


def add_drawing(parser: Parser, temperature: str) -> None:
    """Add the flags by which an answer is drawn, token by token. temperature: its default, in words."""
    add_flag(parser, "--temperature", f"0 is greedy (default: {temperature})")
    add_flags(parser, "--top-k", "--top-p", "--seed")


def add_resume(parser: argparse._ActionsContainer) -> None:
    add_flags(parser.add_mutually_exclusive_group(), "--resume", "--overwrite")


def add_training(parser: Parser) -> None:
    """Add the flags of `pretrain` and `finetune` that are no longer the first to think of, in two groups."""
    training, run = (parser.add_argument_group(title) for title in ("training", "run"))
    add_flags(training, "--accumulate", "--warmup", "--schedule", "--optimizer", "--checkpointing", "--seed")
    add_flags(run, "--eval-every", "--patience", "--save-every")
    add_resume(run)
    add_flags(run, "--json")


def take_settings(parser: Parser) -> None:
    """Put the settings of the run that `--resume` goes on with in front of what was typed, and as `before` beside it.

    MiniloraError for settings that no flag has.
    """
    out = parser.value_of("--out")
    parser.set_defaults(before={})
    if "--resume" not in parser.typed or not out or not Path(out, "run.json").exists():
        return
    from minilora.formats.atomic import show_path  # with NumPy, which --help does without
    from minilora.peft.method import known_options
    from minilora.train.run import RECORD, read_record

    follow = {"eval_examples", "labels"}
    left_out = follow | ({"steps"} if parser.value_of("--epochs") else set())
    left_out |= known_options().keys() if parser.value_of("--method") else set()
    config = {name: value for name, value in read_record(Path(out) / RECORD)["config"].items() if value is not None}
    if strange := sorted(config.keys() - {action.dest for action in parser._actions} - follow):
        raise MiniloraError(
            f"the run in {show_path(out)} is of another command: no flag here sets {escape(', '.join(strange))}"
        )
    parser.set_defaults(before=config)
    typed = []
    for name in config.keys() - left_out:
        value = config[name]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        typed += [f"{flag_of(name)}={text}"] if not isinstance(value, bool) else [flag_of(name)] * value
    parser.typed = [*typed, *parser.typed]


# From arguments to what a command works on, and out again


def load_model(arguments: Namespace, base: str = "base") -> tuple[Any, Any]:
    """Return the model that `add_model`'s flags ask for, and its tokenizer; notes on the way are printed."""
    from minilora.train import load

    source = base if arguments.model is None and arguments.adapter is None else arguments.model
    model, tokenizer = load.load_model(source, arguments.adapter, strength=arguments.strength)
    notes = getattr(model, "notes", [])
    print_notes(notes)
    notes.clear()
    return model, tokenizer


def read_trainings(arguments: Namespace) -> tuple[list[dict], Any]:
    """Return how the model and the adapter of `add_model`'s flags came to be, as far as that is known, and the columns
    of examples: those that were typed, else those of the first training.
    """
    from minilora.data.examples import Columns
    from minilora.train.load import base_of, path_of_model
    from minilora.train.save import training_of

    if arguments.adapter and not arguments.model:
        base_of(arguments.adapter)  # a mistyped folder is told before its columns are missed
    folders = [arguments.adapter] if arguments.adapter else []
    folders += [path_of_model(arguments.model)] if arguments.model else []
    trainings = [training for folder in folders if (training := training_of(folder))]
    trained, typed = next(iter(trainings), {}), Columns.of(vars(arguments))
    if trainings and typed.instruction not in (None, trained.get("instruction")):
        print_notes(["the model was trained with another --instruction, or with none: its answers may be worse"])
    return trainings, Columns.of(trained | typed.settings())


def drawing(arguments: Namespace, temperature: float) -> dict[str, Any]:
    """The flags of `add_drawing` as arguments of `generate`, with look-up if it is greedy. temperature: the default."""
    from minilora.models.lookup import NUM_TOKENS

    settings = {name: getattr(arguments, name) for name in ("top_k", "top_p", "seed")}
    settings["temperature"] = temperature if arguments.temperature is None else arguments.temperature
    return settings | {"prompt_lookup_num_tokens": None if settings["temperature"] else NUM_TOKENS}


def read_stdin(read: Callable[[], str]) -> str:
    """Return what `read` takes from standard input. MiniloraError if that is not text."""
    try:
        return read()
    except UnicodeDecodeError as error:
        raise MiniloraError(f"standard input is not {error.encoding.upper()}") from error


def print_result(arguments: Namespace, facts: dict, text: str) -> None:
    """The facts as JSON with --json, else the text."""
    print(json.dumps(facts) if arguments.json else text, flush=True)


def print_pieces(pieces: Iterable[str]) -> None:
    """Text as it comes. Control characters other than tabs and line ends are escaped: no text that a model learned, or
    that a prompt was copied from, may work the terminal."""
    for piece in pieces:
        piece = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", piece)
        print(piece, end="", flush=True)
