"""Code that commands share: the parser, common flags, loading a model, printing a result.

A command is a file in this folder and a line in `minilora.cli`, which imports the file only if its command is run. The
file has `add(parser)`, which adds the flags and an example, and `run(arguments)`, which may return an exit code.
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
from textwrap import fill
from typing import Any, NoReturn

from minilora import fields
from minilora.data.corpora import CORPORA
from minilora.errors import MiniloraError, did_you_mean, escape, flag_of, line_width, print_notes
from minilora.train.config import OPTIMIZERS, SCHEDULES

DATA = f"a text file or folder, {', '.join(CORPORA)}"
MODEL = "a name from `models list`, a Hub ORG/NAME, a folder or a .gguf file"
CHATS = "or examples (.csv, .jsonl, reviews)"

FOREIGN = {  # our flag -> the flags of transformers, PEFT and llama.cpp that do the same
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
    """An argument parser that reports errors in one line, as the rest of minilora does, and unknown flags first.

    typed: the arguments that `parse` reads. A command may look at them while it adds its flags.
    """

    def __init__(self, typed: Sequence[str] = (), **kwargs: Any):
        form = partial(argparse.RawDescriptionHelpFormatter, width=line_width() - 2, max_help_position=25)
        super().__init__(formatter_class=form, allow_abbrev=False, add_help=False, **kwargs)
        self._optionals.title = "flags"  # the title of flags that are in no other group
        self.add_argument("-h", "--help", action="help", help=SUPPRESS)
        self.typed = typed

    def parse(self) -> Namespace:
        """Parse the arguments. Raises MiniloraError; an unknown flag is reported before a missing one."""
        for argument in takewhile(lambda argument: argument != "--", self.typed):
            flag = argument.partition("=")[0]
            is_value = flag[:1] != "-" or flag == "-" or " " in flag or re.fullmatch(r"-\.?[0-9].*", flag)
            if not is_value and flag not in self._option_string_actions:
                self.error(f"unknown flag {flag}{self._suggestion(flag)}")
        if [argument.partition("=")[0] for argument in self.typed].count("--adapter") > 1:
            self.error("--adapter can be given only once; PEFT's `add_weighted_adapter` combines adapters")
        return self.parse_args(self.typed)

    def value_of(self, flag: str) -> str | None:
        """Return the value of a flag as it was typed, or None if it was not."""
        pairs = zip_longest(self.typed, self.typed[1:], fillvalue="")
        return next((a.partition("=")[2] or after for a, after in pairs if a.partition("=")[0] == flag), None)

    def _suggestion(self, flag: str) -> str:
        """Suggest our flag for what `flag` does in another library, or else the one spelled most like it."""
        name = flag.lower().lstrip("-").replace("_", "-")
        if name == "adapter":
            return ": finetune makes a new adapter; evaluate, predict, generate, chat and merge take one"
        if same := [ours for ours, theirs in FOREIGN.items() if name in theirs.split()]:
            return next((f"; did you mean {ours!r}?" for ours in same if ours in self._option_string_actions), "")
        near = did_you_mean(name, (ours.lstrip("-") for ours in self._option_string_actions), before="; ")
        return near.replace("'", "'--", 1)

    def format_help(self):
        """Format the help so that it fits a screen: required arguments in the usage, no blank line between groups."""
        formatter = self._get_formatter()
        if self.usage is None:
            formatter.add_usage(None, [flag for flag in self._actions if flag.required or not flag.option_strings], [])
            self.usage = formatter.format_help().removeprefix("usage: ").rstrip() + " [flags]"
        for name in ("description", "epilog"):
            lines = []
            for line in (getattr(self, name) or "").splitlines():
                column = re.match(r" *\S+(?: \S+){0,2} {2,}|", line).end()  # type: ignore[union-attr]
                lines.append(fill(line, formatter._width, break_on_hyphens=False, subsequent_indent=" " * column))
            setattr(self, name, "\n".join(lines))
        return re.sub(r"(\n  [^\n]*\n)\n(?=[^\n]+:\n  -)", r"\1", super().format_help())

    def _get_value(self, action, arg_string):
        """Raise an error for an empty value, which the shell makes of a variable that is not set."""
        if arg_string == "" and action.type is None:
            raise argparse.ArgumentError(action, "must not be empty")
        return super()._get_value(action, arg_string)

    def _print_message(self, message, file=None):
        """Write help without hiding errors: argparse's own method swallows them."""
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        """Raise MiniloraError, with argparse's message in the words of our other errors."""
        if missing := message.partition("the following arguments are required: ")[2]:
            example = re.search(r"examples?:\s+(.*)", self.epilog or "")
            such = f"; for example: {example[1]}" if example else f" (see {self.prog} --help)"
            names = missing.replace(", ", " and ")
            raise MiniloraError(f"{names} {'are' if ' and ' in names else 'is'} missing{such}")
        if "--file" in self._option_string_actions:
            message = re.sub(r"^unrecognized arguments: (\S+)$", r"a file needs its flag: --file \1", message)
        message = re.sub("^argument ([^:]+): must", r"\1 must", message)
        message = re.sub("^argument ([^:]+): expected one argument", r"\1 needs a value", message)
        message = re.sub(
            "^argument ([^:]+): not allowed with argument (.*)", r"\1 and \2 cannot be used together", message
        )
        raise MiniloraError(f"{escape(message, 400)} (see {self.prog} --help)")


# Types of flags


def checked(convert: Callable[[str], Any], kind: fields.Kind, metavar: str = "X") -> Callable[[str], Any]:
    """Return a flag's type: `convert`, with an error if the value is not of the kind. metavar: its name in the help."""

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
    """Return a flag's type: a whole number of at least `least` and, if it is given, at most `most`."""
    kind: fields.Kind = fields.whole(None, least=least).metadata["kind"]
    if most is not None:
        kind = fields.Kind(f"from {least:,} to {most:,}", lambda value: least <= value <= most)
    return checked(int, kind, "N")


def number(above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    """Return a flag's type: a finite number above `above`, or of at least `least`."""
    return checked(float, fields.number(None, above=above, least=least).metadata["kind"])


def choice(names: Iterable[str]) -> Callable[[str], str]:
    """Return a flag's type: one of `names`."""
    return checked(str, fields.choice(None, *names).metadata["kind"], "NAME")


# Flags that several commands have

DEFAULT = "(default: %(default)s)"
SHARE = checked(float, fields.Kind("above 0 and at most 1", lambda part: 0 < part <= 1), "SHARE")
PART = checked(float, fields.Kind("above 0 and below 1", lambda part: 0 < part < 1), "SHARE")
QUIZ = ("auto", "on", "off")  # auto: only if it takes less than a tenth of the training's time
FLAGS: dict[str, tuple[str, Any, Any]] = {  # flag -> (help, type, default); type bool: the flag takes no value
    "--model": (f"{MODEL} {DEFAULT}", None, "base"),
    "--strength": ("scale of the adapter's update; 0 is off (default: 1)", number(), 1.0),
    "--batch-size": (f"sequences per step {DEFAULT}", whole(1), 8),
    "--seq-len": (f"tokens per sequence {DEFAULT}", whole(2), None),
    "--steps": ("", whole(1), None),
    "--epochs": ("passes over the training data, instead of --steps", number(above=0), None),
    "--accumulate": (f"accumulate gradients over N batches {DEFAULT}", whole(1), 1),
    "--warmup": ("steps until the peak of --lr (default: 5%% of all)", whole(0), None),
    "--schedule": (f"{', '.join(SCHEDULES)} {DEFAULT}", choice(SCHEDULES), "cosine"),
    "--optimizer": (f"{', '.join(OPTIMIZERS)} {DEFAULT}", choice(OPTIMIZERS), "adamw"),
    "--checkpointing": ("recompute activations: less memory, 1/3 more time", bool, False),
    "--seed": (f"random seed {DEFAULT}", whole(0), 0),
    "--eval-every": ("steps between evaluations (default: about 10 in all)", whole(1), None),
    "--patience": ("stop after N evaluations without a gain (0: never)", whole(0), 0),
    "--save-every": (f"steps between checkpoints {DEFAULT}", whole(0), 100),
    "--resume": ("continue what is in --out, with its settings", bool, False),
    "--overwrite": ("replace what is in --out", bool, False),
    "--json": ("print the result as JSON", bool, False),
    "--temperature": ("", number(least=0), None),
    "--top-k": ("sample from the N most likely tokens", whole(1), None),
    "--quiz": (f"test for forgetting: {', '.join(QUIZ)} {DEFAULT}", choice(QUIZ), "auto"),
    "--replay": ("mix in this share of rows like the base's own data", PART, None),
    "--dry-run": ("show data, memory, time, first batch; train nothing", bool, False),
    "--top-p": ("sample from the top tokens up to this total probability", SHARE, None),
}


def add_flag(
    flags: argparse._ActionsContainer, name: str, words: str = "", kind: Any = None, default: Any = None, **more: Any
) -> None:
    """Add a flag. Its help, type and default are taken from FLAGS if they are not given. more: for `add_argument`."""
    usual = FLAGS.get(name, ("", None, None))
    words, kind, default = words or usual[0], kind or usual[1], usual[2] if default is None else default
    if kind is bool:
        flags.add_argument(name, action="store_true", help=words)
    else:
        settings = {"type": kind, "default": default, "metavar": getattr(kind, "metavar", None), "help": words}
        flags.add_argument(name, **settings | more)


def add_flags(flags: argparse._ActionsContainer, *names: str) -> None:
    """Add flags just as FLAGS has them."""
    for name in names:
        add_flag(flags, name)


def add_model(parser: argparse._ActionsContainer, base: str = "base") -> None:
    """Add the flags of a model with or without an adapter. base: the default if neither is given."""
    parser.add_argument("--model", help=f"{MODEL} (default: {base}, or the adapter's base)")
    parser.add_argument("--adapter", metavar="FOLDER", help="folder of an adapter or a run, to put on the model")
    add_flag(parser, "--strength")


def add_columns(flags: argparse._ActionsContainer) -> None:
    """Add the flags of `data.examples.Columns`, which say how a file of examples is read."""
    add_flag(flags, "--text-column", "column of inputs (default: text, prompt, question …)", metavar="NAME")
    add_flag(flags, "--label-column", "column of answers (default: label, response, answer …)", metavar="NAME")
    add_flag(flags, "--instruction", "the question to put before each text", metavar="TEXT")


def add_drawing(parser: Parser, temperature: str) -> None:
    """Add the flags of sampling. temperature: its default, in words."""
    add_flag(parser, "--temperature", f"for sampling; 0 takes the likeliest token (default: {temperature})")
    add_flags(parser, "--top-k", "--top-p", "--seed")


def add_resume(parser: argparse._ActionsContainer) -> None:
    add_flags(parser.add_mutually_exclusive_group(), "--resume", "--overwrite")


def add_training(parser: Parser, training: argparse._ActionsContainer) -> None:
    """Add flags of `pretrain` and `finetune` that a first run does not need, to `training` and to a group "run"."""
    run = parser.add_argument_group("run")
    add_flags(training, "--accumulate", "--warmup", "--schedule", "--optimizer", "--checkpointing", "--seed")
    add_flags(run, "--eval-every", "--patience", "--save-every")
    add_resume(run)
    add_flags(run, "--json")


def take_settings(parser: Parser) -> None:
    """Put the settings of the run that `--resume` continues in front of what was typed, so that typed flags win.

    They are also kept as `arguments.before`. Raises MiniloraError if a setting has no flag in this command.
    """
    out = parser.value_of("--out")
    parser.set_defaults(before={})
    if "--resume" not in parser.typed or not out:
        return
    from minilora.formats.atomic import show_path  # imports NumPy, which would slow --help down

    if not Path(out, "run.json").exists():
        if parser.value_of("--data") is None:
            raise MiniloraError(f"--resume has nothing to continue: there is no run in {show_path(out)}")
        return
    from minilora.peft.method import known_options
    from minilora.train.run import RECORD, read_record

    follow = {"eval_examples", "evaluated_on", "labels"}
    left_out = follow | ({"steps"} if parser.value_of("--epochs") else set())
    left_out |= known_options().keys() if parser.value_of("--method") else set()
    config = {name: value for name, value in read_record(Path(out) / RECORD)["config"].items() if value is not None}
    if strange := sorted(config.keys() - {action.dest for action in parser._actions} - follow):
        raise MiniloraError(
            f"the run in {show_path(out)} was made by another command, which must resume it: no flag here sets "
            f"{escape(', '.join(strange))}"
        )
    parser.set_defaults(before=config)
    put_in_front(parser, {name: config[name] for name in config.keys() - left_out})


def put_in_front(parser: Parser, settings: dict[str, Any]) -> None:
    """Put the flags of the settings in front of what was typed, so that typed flags win."""
    typed = []
    for name, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        typed += [f"{flag_of(name)}={text}"] if not isinstance(value, bool) else [flag_of(name)] * value
    parser.typed = [*typed, *parser.typed]


# Loading what the arguments name, and printing results


def load_model(arguments: Namespace, base: str = "base") -> tuple[Any, Any]:
    """Load the model that `add_model`'s flags name, and print the notes; returns it with its tokenizer."""
    from minilora.train import load

    source = base if arguments.model is None and arguments.adapter is None else arguments.model
    model, tokenizer = load.load_model(source, arguments.adapter, strength=arguments.strength)
    notes = getattr(model, "notes", [])
    print_notes(notes)
    notes.clear()
    return model, tokenizer


def read_trainings(arguments: Namespace) -> tuple[list[dict], Any]:
    """Return the training records of the typed adapter and model, and the columns of examples to read.

    A column is the typed one, or else that of the first record.
    """
    from minilora.data.examples import Columns
    from minilora.train.load import base_of, path_of_model
    from minilora.train.save import training_of

    if arguments.adapter and not arguments.model:
        base_of(arguments.adapter)  # so that a mistyped folder is reported first, not the columns that are then missing
    folders = [arguments.adapter] if arguments.adapter else []
    folders += [path_of_model(arguments.model)] if arguments.model else []
    trainings = [training for folder in folders if (training := training_of(folder))]
    trained, typed = next(iter(trainings), {}), Columns.of(vars(arguments))
    if trainings and typed.instruction not in (None, trained.get("instruction")):
        print_notes(["the model was not trained with this --instruction, so its answers may be worse"])
    return trainings, Columns.of(trained | typed.settings())


def drawing(arguments: Namespace, temperature: float) -> dict[str, Any]:
    """Return `add_drawing`'s flags as arguments of `generate`, with look-up if greedy. temperature: the default."""
    from minilora.models.lookup import NUM_TOKENS

    settings = {name: getattr(arguments, name) for name in ("top_k", "top_p", "seed")}
    settings["temperature"] = temperature if arguments.temperature is None else arguments.temperature
    return settings | {"prompt_lookup_num_tokens": None if settings["temperature"] else NUM_TOKENS}


def read_stdin(read: Callable[[], str]) -> str:
    """Return what `read` reads from standard input. Raises MiniloraError if that is not text."""
    try:
        return read()
    except UnicodeDecodeError as error:
        raise MiniloraError(f"standard input is not {error.encoding.upper()} text") from error


def print_result(arguments: Namespace, facts: dict, text: str) -> None:
    """Print the facts as JSON if --json was given, otherwise the text."""
    print(json.dumps(facts) if arguments.json else text, flush=True)


def print_pieces(pieces: Iterable[str]) -> None:
    """Print text as it is generated, with control characters other than tabs and line ends escaped.

    Otherwise a text that a model learned, or that a prompt was copied from, could send commands to the terminal.
    """
    for piece in pieces:
        piece = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", piece)
        print(piece, end="", flush=True)
