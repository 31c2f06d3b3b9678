"""`--config`: the settings of a run's record in place of the defaults of a command's flags."""

from __future__ import annotations

from argparse import Action
from collections.abc import Iterable, Sequence
from pathlib import Path

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import read_json, show_path
from minilora.peft.method import known_options
from minilora.train.run import FORMAT, RECORD


def read_record(path: str | Path) -> dict:
    """The record of a run, in its file or in the run's folder. MiniloraError where it is none."""
    path = Path(path) / RECORD if Path(path).is_dir() else Path(path)
    record = read_json(path)
    if record.get("format") != FORMAT or not isinstance(record.get("config"), dict):
        raise MiniloraError(f"--config {show_path(path)} is no record of a run; give a {RECORD} or its folder")
    return record


def set_defaults(path: str, actions: Iterable[Action], args: Sequence[str]) -> None:
    """Give the flags in `actions` the values of the run recorded at `path`, as if they were typed before `args`.

    What follows from a setting that `args` change does not come along: the rate and the options from the method, the
    rate from the model. MiniloraError for settings that no flag has.
    """
    config = {name: value for name, value in read_record(path)["config"].items() if value is not None}
    flags = {action.dest: action for action in actions}
    if strange := sorted(config.keys() - flags.keys()):
        raise MiniloraError(
            f"--config {show_path(path)} is of another command: no flag here sets {escape(', '.join(strange))}"
        )
    typed = {argument.partition("=")[0] for argument in args}
    left_out = {"--epochs": ("steps",), "--model": ("lr",), "--method": ("lr", *known_options())}
    for flag in typed & left_out.keys():
        config = {name: value for name, value in config.items() if name not in left_out[flag]}
    for name, value in config.items():
        flags[name].required = False
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        flags[name].default = value if isinstance(value, bool) else text  # argparse checks it as if it were typed
