"""What commands share: the parser, the flags that several of them have, and how a result is printed.

A command is a file here with `add(parser)`, which gives the parser its flags and its example, and `run(arguments)`,
which may return an exit code; and a line in `minilora.cli`, which imports the file when its command is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from argparse import SUPPRESS, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from shutil import get_terminal_size
from textwrap import fill
from typing import Any, NoReturn, TypeVar

from minilora import fields
from minilora.data.corpora import CORPORA
from minilora.errors import MiniloraError, did_you_mean, escape, unknown
from minilora.train.config import OPTIMIZERS
from minilora.train.schedule import SCHEDULES

T = TypeVar("T")

DATA = f"{', '.join(CORPORA)}, a text file or a folder"
CHATS = "conversations (.jsonl), or a task (reviews)"


FOREIGN = {  # flags of transformers, PEFT, TRL and llama.cpp, by ours that do the same
    "--lr": "learning-rate peak-lr max-lr",
    "--steps": "max-steps max-iters num-steps num-train-steps",
    "--epochs": "num-train-epochs num-epochs",
    "--batch-size": "per-device-train-batch-size per-device-eval-batch-size train-batch-size micro-batch-size",
    "--accumulate": "gradient-accumulation-steps grad-accum",
    "--seq-len": "max-length max-seq-length max-seq-len block-size context-length model-max-length ctx-size",
    "--max-new-tokens": "max-length max-tokens n-predict n",
    "--warmup": "warmup-steps warmup-ratio num-warmup-steps",
    "--schedule": "lr-scheduler-type lr-scheduler",
    "--optimizer": "optim",
    "--patience": "early-stopping-patience",
    "--eval-every": "eval-steps eval-interval eval-strategy evaluation-strategy",
    "--save-every": "save-steps save-interval save-strategy",
    "--checkpointing": "gradient-checkpointing",
    "--resume": "resume-from-checkpoint",
    "--overwrite": "overwrite-output-dir force",
    "--out": "output-dir output out-dir save-dir o",
    "--model": "model-name-or-path model-name model-id model-path base-model pretrained-model-name-or-path m",
    "--adapter": "adapter-name-or-path adapter-path peft-model-id peft-model lora lora-path",
    "--data": "dataset dataset-name dataset-path train-file train-data data-path input",
    "--validation": "validation-file eval-file eval-data val-data",
    "--test": "test-file test-data",
    "--examples": "max-eval-samples max-samples num-examples limit",
    "--method": "peft-type peft-method use-peft use-dora use-rslora load-in-4bit",
    "--rank": "lora-r lora-rank lora-dim r",
    "--alpha": "lora-alpha",
    "--dropout": "lora-dropout",
    "--targets": "target-modules lora-target-modules lora-target",
    "--quant-type": "bnb-4bit-quant-type",
    "--double-quantization": "bnb-4bit-use-double-quant use-double-quant",
    "--virtual-tokens": "num-virtual-tokens",
    "--hidden-size": "n-embd d-model dim",
    "--intermediate-size": "ffn-dim d-ff n-inner",
    "--num-layers": "num-hidden-layers n-layer n-layers",
    "--num-heads": "num-attention-heads n-head n-heads",
    "--num-kv-heads": "num-key-value-heads n-kv-heads",
    "--prompt": "text question p",
    "--system": "system-prompt system-message",
    "--quantize": "quantization outtype",
}
WORDS = {  # of argparse's errors, which begin with "argument --flag: ", and ours
    "must": r"\1 must",
    "expected one argument": r"\1 needs a value",
    "invalid int value: '(.*)'": r"\1 must be a whole number, not \2",
    "invalid float value: '(.*)'": r"\1 must be a number, not \2",
    "not allowed with argument (.*)": r"\1 and \2 exclude each other",
}
_NUMBER = re.compile(r"-\.?[0-9].*")  # a value, right or wrong, that is no flag


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help of at most 80 columns, also in a wide terminal, in which a flag takes a line where that is possible."""

    def __init__(self, prog: str, **kwargs: Any):
        super().__init__(prog, width=min(get_terminal_size().columns, 80) - 2, max_help_position=25, **kwargs)

    def _format_usage(self, usage, actions, groups, prefix):
        """Show what must be given; a list of all flags follows."""
        if usage is not None:
            return super()._format_usage(usage, actions, groups, prefix)
        required = [action for action in actions if action.required or not action.option_strings]
        return super()._format_usage(usage, required, [], prefix).rstrip() + " [flags]\n\n"

    def _fill_text(self, text, width, indent):
        """Wrap each line of a description or epilog by itself: lists and examples keep their lines."""
        indents = [line[: len(line) - len(line.lstrip())] for line in text.splitlines()]
        lines = zip(text.splitlines(), indents, strict=True)
        return "\n".join(fill(line, width, subsequent_indent=i, break_on_hyphens=False) for line, i in lines)


class Parser(argparse.ArgumentParser):
    """argparse that reports an error in one line, as everything else does, and first of all a flag that is unknown.

    add: gives the parser its flags; called when the parser is first used.
    gone: commands that there were, alone or with a flag, each with what does its work now.

    A command may append to `before` what is to look at its arguments before they are parsed.
    """

    def __init__(
        self, add: Callable[[Parser], None] = lambda parser: None, gone: Mapping[str, str] | None = None, **kwargs: Any
    ):
        super().__init__(formatter_class=HelpFormatter, allow_abbrev=False, add_help=False, **kwargs)
        self.add_argument("-h", "--help", action="help", help=SUPPRESS)
        self.before: list[Callable[[Sequence[str]], None]] = []
        self._add, self._gone = add, gone or {}

    def complete(self) -> None:
        """Give the parser its flags, if it has not got them yet."""
        add, self._add = self._add, lambda parser: None
        add(self)

    def parse_known_args(self, args=None, namespace=None):
        self.complete()
        args = sys.argv[1:] if args is None else list(args)
        for typed, instead in self._gone.items():
            command, *flags = typed.split()
            if args[:1] == [command] and {*flags} <= {argument.partition("=")[0] for argument in args}:
                raise MiniloraError(f"{self.prog} {typed} is gone: {instead}")
        self._check_flags(args)
        for look_at in self.before:
            look_at(args)
        return super().parse_known_args(args, namespace)

    def format_help(self):
        """Format the help with no empty line between groups of flags."""
        return re.sub(r"(\n +[^\n]*)\n\n(?=[^\n]+:\n  -)", r"\1\n", super().format_help())

    def add_subparsers(self, **kwargs):
        return super().add_subparsers(prog=self.prog, **kwargs)

    def _check_flags(self, args: Sequence[str]) -> None:
        """Before anything is missed, the flags that this parser is to read: those before a command's name, or all."""
        for argument in args:
            flag = argument.partition("=")[0]
            if argument == "--" or (self._subparsers is not None and not argument.startswith("-")):
                return
            if flag[0:1] != "-" or flag == "-" or " " in flag or _NUMBER.fullmatch(flag):
                continue  # a value
            if flag not in self._option_string_actions:
                self.error(f"unknown flag {flag}{self._suggestion(flag)}")

    def _suggestion(self, flag: str) -> str:
        """Ask for the flag of this parser that does what `flag` does elsewhere, or that is spelled most like it."""
        name = flag.lower().lstrip("-").replace("_", "-")
        if meant := [ours for ours, theirs in FOREIGN.items() if name in theirs.split()]:
            return next((f"; did you mean {ours!r}?" for ours in meant if ours in self._option_string_actions), "")
        return did_you_mean(f"--{name}", self._option_string_actions, before="; ")

    def _check_value(self, action, value):
        """Refuse a command or an action that there is not, with the one that may be meant."""
        if action.choices is not None and value not in action.choices:
            self.error(unknown(action.dest, value, action.choices))

    def _get_value(self, action, arg_string):
        """Refuse an empty value, such as the shell makes of a variable that is not set, where no `type` accepts it."""
        if arg_string == "" and action.type is None and action.default != "" and action.nargs != argparse.PARSER:
            raise argparse.ArgumentError(action, "must not be empty")
        return super()._get_value(action, arg_string)

    def error(self, message: str) -> NoReturn:
        """Raise MiniloraError; argparse's words for what is wrong with a flag become those that other errors have."""
        for pattern, words in WORDS.items():
            message = re.sub(f"^argument ([^:]+): {pattern}", words, message)
        raise MiniloraError(f"{escape(message, 400)} (see {self.prog} --help)")

    def _print_message(self, message, file=None):
        """Write help as everything else is written: argparse swallows what goes wrong."""
        (file or sys.stderr).write(message)


def value_of(flag: str, args: Sequence[str]) -> str | None:
    """Return the value of a flag in `args`; None if it is not there."""
    pairs = zip_longest(args, args[1:], fillvalue="")
    return next((a.partition("=")[2] or after for a, after in pairs if a.partition("=")[0] == flag), None)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A flag's type: a whole number of at least `least` and, where it is given, at most `most`."""
    if most is None:
        return _checked(int, fields.whole(None, least=least))
    return _checked(int, fields.checked(None, f"from {least:,} to {most:,}", lambda value: least <= value <= most))


def number(above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    """A flag's type: a finite number above a bound, or of at least one."""
    return _checked(float, fields.number(None, above=above, least=least))


def share(text: str) -> float:
    """A flag's type: above 0 and at most 1."""
    return _checked(float, fields.checked(None, "above 0 and at most 1", lambda part: 0 < part <= 1))(text)


def adapter_folder(text: str) -> str:
    """A flag's type: the folder of an adapter."""
    if not text:
        raise ArgumentTypeError("must not be empty")
    if re.fullmatch(r".+=[-+0-9.e]+", text) and not os.path.isdir(text):
        raise ArgumentTypeError(f"must be a folder, not {text}: for weights use peft.load_adapters in Python")
    return text


def choice(names: Iterable[str]) -> Callable[[str], str]:
    """A flag's type: one of some names."""
    return _checked(str, fields.choice(None, *names))


def _checked(convert: Callable[[str], T], checked_field: Any) -> Callable[[str], T]:
    """Return a flag's type: `convert`, with ArgumentTypeError for a value that the field may not hold."""
    kind: fields.Kind = checked_field.metadata["kind"]

    def parse(text: str) -> T:
        value: Any = None
        with suppress(ValueError):
            value = convert(text)
        if value is None or not kind.allows(value):
            raise ArgumentTypeError(f"must be {kind.words}, not {text}{kind.hint(value)}")
        return value

    return parse


# Flags


def add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_resume(parser: argparse._ActionsContainer, what: str) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true", help=f"go on with the {what} in --out, by its settings")
    either.add_argument("--overwrite", action="store_true", help=f"replace the {what} in --out")


def add_model(parser: argparse._ActionsContainer, adapter: bool = True, base: str = "base") -> None:
    """base: the model if neither --model nor --adapter names one."""
    default = f"that of --adapter, else {base}" if adapter else base
    words = f"a name of `models list`, a folder or a .gguf file (default: {default})"
    parser.add_argument("--model", default=None if adapter else base, help=words)
    if adapter:
        words = "adapter to put on the model; given several times, LoRA adapters are added up"
        parser.add_argument("--adapter", action="append", type=adapter_folder, metavar="FOLDER", help=words)
        words = "multiplies what the adapter changes; 0 is the model alone"
        parser.add_argument("--strength", type=number(), default=1.0, metavar="X", help=words)


def adapters(arguments: Namespace) -> list[tuple[str, float]] | None:
    """The flags --adapter as `load_model` takes them."""
    return [(folder, 1.0) for folder in arguments.adapter] if arguments.adapter else None


def add_drawing(parser: Parser, temperature: str) -> None:
    """Add the flags by which an answer is drawn, token by token. temperature: its default, in words."""
    words = f"0 is greedy (default: {temperature})"
    parser.add_argument("--temperature", type=number(least=0), metavar="X", help=words)
    parser.add_argument("--top-k", type=whole(1), metavar="N", help="draw among so many of the likeliest tokens")
    words = "draw among the likeliest that reach this share together"
    parser.add_argument("--top-p", type=share, metavar="SHARE", help=words)
    add_seed(parser)


def drawing(arguments: Namespace, temperature: float) -> dict[str, Any]:
    """The flags of `add_drawing` as arguments of `generate`, with look-up if it is greedy. temperature: the default."""
    from minilora.models.lookup import NUM_TOKENS

    settings = {name: getattr(arguments, name) for name in ("temperature", "top_k", "top_p", "seed")}
    if settings["temperature"] is None:
        settings["temperature"] = temperature
    return settings | {"prompt_lookup_num_tokens": None if settings["temperature"] else NUM_TOKENS}


def add_seed(parser: argparse._ActionsContainer) -> None:
    words = "of all that is drawn (default: %(default)s)"
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help=words)


def add_seq_len(parser: argparse._ActionsContainer, default: int | None) -> None:
    """default: None if it depends on the data."""
    by_data = "128; of conversations up to 512"
    words = f"tokens per sequence (default: {default or by_data})"
    parser.add_argument("--seq-len", type=whole(2), default=default, metavar="N", help=words)


def add_batch_size(parser: argparse._ActionsContainer, default: int) -> None:
    words = "sequences per step (default: %(default)s)"
    parser.add_argument("--batch-size", type=whole(1), default=default, metavar="N", help=words)


def add_training(parser: Parser) -> None:
    """The flags of `pretrain` and `finetune` that are no longer the first to think of, in two groups."""
    training = parser.add_argument_group("training")
    words = "batches whose gradients make a step (default: %(default)s)"
    training.add_argument("--accumulate", type=whole(1), default=1, metavar="N", help=words)
    words = "steps to the peak of --lr (default: a 20th of all)"
    training.add_argument("--warmup", type=whole(0), metavar="N", help=words)
    for flag, names, default in (("--schedule", SCHEDULES, "cosine"), ("--optimizer", OPTIMIZERS, "adamw")):
        words = f"{', '.join(names)} (default: %(default)s)"
        training.add_argument(flag, type=choice(names), default=default, metavar="NAME", help=words)
    words = "compute blocks twice: less memory, a third more time"
    training.add_argument("--checkpointing", action="store_true", help=words)
    add_seed(training)
    run = parser.add_argument_group("run")
    words = "steps between evaluations (default: some 10 in all)"
    run.add_argument("--eval-every", type=whole(1), metavar="N", help=words)
    words = "stop after so many evaluations without a gain"
    run.add_argument("--patience", type=whole(0), default=0, metavar="N", help=words)
    words = "steps between checkpoints (default: %(default)s)"
    run.add_argument("--save-every", type=whole(0), default=100, metavar="N", help=words)
    add_resume(run, "run")
    add_json(run)
    parser.before.append(partial(_take_settings, parser))


def add_length(flags: argparse._ActionsContainer, steps: str) -> None:
    """Add the flags of a training's length. steps: the default, in words."""
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--steps", type=whole(1), metavar="N", help=f"(default: {steps})")
    words = "passes over the training data, in place of --steps"
    length.add_argument("--epochs", type=number(above=0), metavar="X", help=words)


def _take_settings(parser: Parser, args: Sequence[str]) -> None:
    """Make the settings of a run that is resumed the defaults of the flags."""
    out = value_of("--out", args)
    if "--resume" in args and out and os.path.lexists(os.path.join(out, "run.json")):
        from minilora.commands import rerun  # with NumPy, which --help does without

        rerun.set_defaults(out, parser._actions, args)


# Input and results


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
        print(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", piece), end="", flush=True)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
