"""The settings of a run's record as the defaults of a command's flags: `--resume`."""

from __future__ import annotations

from argparse import Action
from collections.abc import Iterable, Sequence
from pathlib import Path

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path
from minilora.peft.method import known_options
from minilora.train.run import RECORD, read_record

REPLACES = {"--epochs": {"steps"}, "--method": set(known_options())}  # what a flag that is typed stands in place of
WITHOUT_FLAG = {"eval_examples"}  # settings that follow from others


def set_defaults(folder: str, actions: Iterable[Action], args: Sequence[str]) -> None:
    """Give the flags in `actions` the values of the run in `folder`, as if they were typed before `args`.

    MiniloraError for settings that no flag has.
    """
    config = {name: value for name, value in read_record(Path(folder) / RECORD)["config"].items() if value is not None}
    flags = {action.dest: action for action in actions}
    if strange := sorted(config.keys() - flags.keys() - WITHOUT_FLAG):
        raise MiniloraError(
            f"the run in {show_path(folder)} is of another command: no flag here sets {escape(', '.join(strange))}"
        )
    replaced = {name for flag in args for name in REPLACES.get(flag.partition("=")[0], ())}
    for name in config.keys() & flags.keys() - replaced:
        value = config[name]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        flags[name].required = False
        flags[name].default = value if isinstance(value, bool) else text  # argparse checks it as if it were typed
