"""The settings of a run's record in place of the defaults of a command's flags: `--config RUN`, and `--resume`."""

from __future__ import annotations

from argparse import Action
from collections.abc import Iterable, Sequence
from pathlib import Path

from minilora.errors import FormatError, MiniloraError, escape, flag_of
from minilora.formats.atomic import show_path
from minilora.peft.method import known_options
from minilora.train.run import RECORD, read_record

# Flags, and what does not suit any more where they are typed: always, and where a default had been derived from them.
REPLACES = {
    "--epochs": ("steps",),
    "--data": ("validation", "test"),
    "--model": ("lr",),
    "--method": ("lr", *known_options()),
}
BY_STEPS: tuple[str, ...] = ("warmup", "eval_every", "eval_examples")
DECIDES = dict.fromkeys(("--steps", "--epochs", "--batch-size", "--accumulate"), BY_STEPS)
DECIDES |= {"--eval-every": ("eval_examples",), "--data": ("steps", "seq_len", *BY_STEPS)}


def read_config(path: str | Path) -> dict:
    """Read the record of a run, by its file or by the run's folder. FormatError if there is none."""
    path = Path(path) / RECORD if Path(path).is_dir() else Path(path)
    try:
        return read_record(path)
    except FormatError as error:
        raise FormatError(f"{error}; give a {RECORD} of minilora, or its folder") from None


def set_defaults(path: str, actions: Iterable[Action], args: Sequence[str], resumes: bool = False) -> None:
    """Give the flags in `actions` the values of the run recorded at `path`, as if they were typed before `args`.

    What follows from a setting that `args` change does not come along: the rate and the options from the method, and
    what the run had not been told itself but derived, as the warmup from the steps. The latter stays if `args` resume
    the run, which refuses every change. MiniloraError for settings that no flag has.
    """
    record = read_config(path)
    config = {name: value for name, value in record["config"].items() if value is not None}
    flags = {action.dest: action for action in actions}
    if strange := sorted(config.keys() - flags.keys()):
        raise MiniloraError(
            f"the run in {show_path(path)} is of another command: no flag here sets {escape(', '.join(strange))}"
        )
    typed, told = _flags(args), _flags(str(record.get("command")).split())
    derived = {} if resumes else DECIDES
    left_out = {name for flag in typed for name in derived.get(flag, ()) if flag_of(name) not in told}
    left_out |= {name for flag in typed for name in REPLACES.get(flag, ())}
    config = {name: value for name, value in config.items() if name not in left_out}
    for name, value in config.items():
        flags[name].required = False
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        flags[name].default = value if isinstance(value, bool) else text  # argparse checks it as if it were typed


def _flags(args: Iterable[str]) -> set[str]:
    return {argument.partition("=")[0] for argument in args}
