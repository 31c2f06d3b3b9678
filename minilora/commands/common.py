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
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
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

DATA = f"{', '.join(CORPORA)}, a text file, a folder, or - for standard input"
DATA_OR_CHAT = f"{DATA}; a .jsonl file of conversations, or a task of `minilora models list`, such as reviews or r8"


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
    "--pack": "packing",
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
    """Help of at most 80 columns, also in a wide terminal."""

    def __init__(self, prog: str, **kwargs: Any):
        super().__init__(prog, width=min(get_terminal_size().columns, 80) - 2, **kwargs)

    def _fill_text(self, text, width, indent):
        """Wrap each line of a description or epilog by itself: lists and examples keep their lines."""
        indents = [line[: len(line) - len(line.lstrip())] for line in text.splitlines()]
        lines = zip(text.splitlines(), indents, strict=True)
        return "\n".join(fill(line, width, subsequent_indent=i, break_on_hyphens=False) for line, i in lines)


class Parser(argparse.ArgumentParser):
    """argparse that reports an error in one line, as everything else does, and first of all a flag that is unknown.

    add: gives the parser its flags; called when the parser is first used.
    gone: commands that there were, alone or with a flag, each with what does its work now.
    """

    def __init__(
        self, add: Callable[[Parser], None] = lambda parser: None, gone: Mapping[str, str] | None = None, **kwargs: Any
    ):
        super().__init__(formatter_class=HelpFormatter, allow_abbrev=False, **kwargs)
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
        if "--config" in self._option_string_actions:
            self._take_settings(args)
        return super().parse_known_args(args, namespace)

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

    def _take_settings(self, args: Sequence[str]) -> None:
        """Make the settings of a run the defaults: of the run that --resume goes on with, else of --config's."""
        out = _value_of("--out", args) if "--resume" in args else None
        resumes = bool(out) and os.path.lexists(os.path.join(str(out), "run.json"))
        if run := out if resumes else _value_of("--config", args):
            from minilora.commands import rerun  # with NumPy, which --help does without

            rerun.set_defaults(run, self._actions, args, resumes)

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

    def _get_values(self, action, arg_strings):
        """Refuse `--flag=--`, which argparse takes for no value before Python 3.13, and hands on an empty list."""
        if action.option_strings and arg_strings == ["--"]:
            raise argparse.ArgumentError(action, "expected one argument")
        return super()._get_values(action, arg_strings)

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


def _value_of(flag: str, args: Sequence[str]) -> str | None:
    """What a flag is given in `args`; None where it is not there."""
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


def weighted_adapter(text: str) -> tuple[str, float]:
    """A flag's type: FOLDER, or FOLDER=WEIGHT."""
    if not text:
        raise ArgumentTypeError("must not be empty")
    folder, equals, weight = text.rpartition("=")
    if not equals or os.path.isdir(text):
        return text, 1.0
    with suppress(ArgumentTypeError):
        if folder:
            return folder, number()(weight)
    raise ArgumentTypeError(f"must be a folder, or one with a number as its weight, such as runs/a=0.5, not {text}")


def choice(names: Iterable[str]) -> Callable[[str], str]:
    """A flag's type: one of some names."""
    return _checked(str, fields.choice(None, *names))


def _checked(convert: Callable[[str], T], checked_field: Any) -> Callable[[str], T]:
    """What a flag's text stands for. Raises ArgumentTypeError for what the field may not hold."""
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


def add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_resume(parser: Parser, what: str) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true", help=f"go on with the {what} in --out")
    either.add_argument("--overwrite", action="store_true", help=f"replace the {what} in --out")


def add_model(parser: Parser, adapter: bool = True, base: str = "base") -> None:
    """base: the model where neither --model nor --adapter names one."""
    default = f"that of --adapter, else {base}" if adapter else base
    parser.add_argument(
        "--model",
        default=None if adapter else base,
        help=f"base (comes with the package), a name of `models list`, a folder or a .gguf file (default: {default})",
    )
    if adapter:
        parser.add_argument(
            "--adapter",
            action="append",
            type=weighted_adapter,
            metavar="FOLDER[=WEIGHT]",
            help="adapter to put on the model; given several times, LoRA adapters are added up, each times its weight "
            "(default: 1)",
        )
        parser.add_argument(
            "--strength", type=number(), default=1.0, help="multiplies what the adapter changes; 0 is the model alone"
        )


def add_drawing(parser: Parser, temperature: str) -> None:
    """How an answer is drawn, token by token. temperature: its default, in words."""
    parser.add_argument("--temperature", type=number(least=0), help=f"0 is greedy (default: {temperature})")
    parser.add_argument("--top-k", type=whole(1), help="draw among so many of the likeliest tokens")
    parser.add_argument("--top-p", type=share, help="draw among the likeliest that reach this share together")
    add_seed(parser)


def drawing(arguments: Namespace, temperature: float) -> dict[str, Any]:
    """The flags of `add_drawing` as arguments of `generate`, with look-up where it is greedy. temperature: where none
    was asked for.
    """
    from minilora.models.lookup import NUM_TOKENS

    given = {name: getattr(arguments, name) for name in ("temperature", "top_k", "top_p", "seed")}
    if given["temperature"] is None:
        given["temperature"] = temperature
    return given | {"prompt_lookup_num_tokens": None if given["temperature"] else NUM_TOKENS}


def add_seed(parser: Parser) -> None:
    parser.add_argument("--seed", type=whole(0), default=0, help="of all that is drawn (default: %(default)s)")


def add_batch(parser: Parser, batch_size: int, seq_len: int | None = 128) -> None:
    """seq_len: None where it depends on the data."""
    parser.add_argument(
        "--batch-size", type=whole(1), default=batch_size, help="sequences per step (default: %(default)s)"
    )
    by_data = "as many as the longest conversation, up to 512; 128 for a text"
    parser.add_argument(
        "--seq-len", type=whole(2), default=seq_len, help=f"tokens per sequence (default: {seq_len or by_data})"
    )


def add_training(parser: Parser, batch_size: int, steps: int | None, seq_len: int | None = 128) -> None:
    """steps: the default, which the command fills in. steps, seq_len: None where they depend on the data."""
    parser.add_argument("--out", required=True, help="run folder: metrics, checkpoints and the result")
    parser.add_argument(
        "--config",
        metavar="RUN",
        help="a run's folder or run.json: its settings, but for what flags say and what follows from that",
    )
    length = parser.add_mutually_exclusive_group()
    by_data = "2 epochs of conversations, but 60 to 600 steps; 200 for a text"
    length.add_argument("--steps", type=whole(1), help=f"(default: {steps or by_data})")
    length.add_argument("--epochs", type=number(above=0), help="passes over the training data, in place of --steps")
    add_batch(parser, batch_size, seq_len)
    parser.add_argument(
        "--accumulate", type=whole(1), default=1, help="batches whose gradients make a step (default: %(default)s)"
    )
    parser.add_argument("--warmup", type=whole(0), help="steps to the peak of --lr (default: a twentieth of all)")
    parser.add_argument("--eval-every", type=whole(1), help="steps between evaluations (default: about 10 in a run)")
    parser.add_argument(
        "--eval-examples",
        type=whole(1),
        help="sequences of the validation part that each evaluation takes (default: so many that it is a small share "
        "of the time)",
    )
    parser.add_argument(
        "--patience", type=whole(0), default=0, help="stop after so many evaluations without a gain (default: never)"
    )
    for flag, names, default in (("--schedule", SCHEDULES, "cosine"), ("--optimizer", OPTIMIZERS, "adamw")):
        parser.add_argument(
            flag, type=choice(names), default=default, help=f"{', '.join(names)} (default: %(default)s)"
        )
    add_seed(parser)
    parser.add_argument(
        "--save-every", type=whole(0), default=100, help="steps between checkpoints (default: %(default)s)"
    )
    parser.add_argument(
        "--checkpointing",
        action="store_true",
        help="compute blocks again in backward: less memory, a quarter to a half more time",
    )
    add_resume(parser, "run")
    add_json(parser)


# Input and results


def read_stdin(read: Callable[[], str]) -> str:
    """What `read` takes from standard input. MiniloraError where that is no text."""
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
