"""The folder of one run: what was asked for, what was measured, and the checkpoints to go on from.

    run.json           configuration, versions, hash of the text, command, times, result: the run described by itself
    metrics.jsonl      one JSON object a line, each step once; step 0 is the evaluation before the first
    checkpoints/       see `minilora.train.checkpoint`
    .lock              see `minilora.train.lock`

Nothing else in the folder is read or removed here; what else a run leaves in it (a model, a report) is its own affair.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from minilora import __version__
from minilora.errors import FormatError, MiniloraError, escape, first_few, flag_of
from minilora.formats import atomic
from minilora.formats.atomic import show_path
from minilora.train import checkpoint
from minilora.train.lock import LOCK, single_writer

RECORD = "run.json"
METRICS = "metrics.jsonl"
FORMAT = "minilora run"
MAY_CHANGE = {"data", "validation", "test", "save_every", "checkpointing"}  # the text's hash tells what files hold


class RunFolder:
    """A run folder held open by its single writer.

        with RunFolder("runs/first", config={"lr": 3e-4}) as run:
            start = run.checkpoint.step if run.checkpoint else 0      # after resume=True
            run.log({"step": 1, "loss": 2.5})
            run.save(1, arrays, state)

    `resume` goes on from the newest whole checkpoint (`.checkpoint`), or starts anew where there is no run or no
    checkpoint; `overwrite` removes the record, metrics and checkpoints of the run that is there and starts anew.
    Either touches only a folder that a run wrote. `.notes` holds lines for the reader: what was started anew, which
    checkpoint was damaged. A run does not go on with another text or other settings than it began with.

    `accept` is called with the checkpoint that a resumed run would go on from, and raises where it must not.

    Errors, on entering: MiniloraError for a folder that is not empty (without either flag), is no run folder, is in use
    by another process, or cannot be written; FormatError when all its checkpoints are damaged. A folder that is
    refused is left as it was.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        resume: bool = False,
        overwrite: bool = False,
        config: dict | None = None,
        text_hash: str | None = None,
        command: str | None = None,
        accept: Callable[[checkpoint.Checkpoint], None] | None = None,
    ):
        if resume and overwrite:
            raise MiniloraError("resume goes on with a run and overwrite removes it: give one of the two")
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.checkpoint: checkpoint.Checkpoint | None = None
        self.notes: list[str] = []
        self._resume, self._overwrite = resume, overwrite
        self._config = json.loads(json.dumps(config or {}))  # as the file will have it: lists for tuples, text for keys
        self._text_hash = text_hash
        self._accept = accept
        self._command = command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        self._last_step = -1
        self._record: dict = {}  # what run.json holds

    def __enter__(self) -> RunFolder:
        self.check()  # refuse before anything is written ...
        atomic.make_folder(self.path)
        with ExitStack() as stack:
            stack.enter_context(single_writer(self.path, "the run folder"))
            self._open(self.check())  # ... and again under the lock: a run may have ended here in between
            stack.callback(self._metrics.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def log(self, record: dict) -> None:
        """Append `record` to metrics.jsonl. Its "step" is an integer above that of the record before.

        NumPy scalars are written as numbers; NaN and infinities as null, since JSON has no word for them.
        """
        record = {key: _plain(value) for key, value in record.items()}
        step = record.get("step")
        if type(step) is not int or step <= self._last_step:
            raise MiniloraError(f"a record needs a step after {self._last_step}, not {escape(step)}")
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        with self._writing_metrics():
            if self._metrics.write(line) != len(line):
                raise OSError(0, "no space for the whole line")
        self._last_step = step

    def save(self, step: int, arrays: dict[str, np.ndarray], state: dict, keep: int = 2) -> Path:
        """Save a checkpoint (see `checkpoint.save`) of a training whose metrics up to `step` are safe on the disk."""
        with self._writing_metrics():
            os.fsync(self._metrics.fileno())
        return checkpoint.save(self.checkpoints, step, arrays, state, keep)

    def remove_checkpoints(self, step: int) -> Path | None:
        """Remove the checkpoints of step `step` and later; returns the newest one that stays."""
        return checkpoint.remove_from(self.checkpoints, step)

    def finish(self, result: dict) -> None:
        """Write what the run came to into run.json."""
        atomic.write_json(
            self.path / RECORD, self._record | {"result": {key: _plain(value) for key, value in result.items()}}
        )

    def check(self) -> dict | None:
        """The record of the run that is in the folder; None for a folder that is new or empty. Nothing is changed.

        Raises MiniloraError where this run must not write, as entering would.
        """
        where = show_path(self.path)
        try:
            names = {name for name in os.listdir(self.path) if name != LOCK and not name.endswith(".tmp")}
        except FileNotFoundError:
            above = next(folder for folder in self.path.absolute().parents if folder.exists())
            if not os.access(above, os.W_OK):
                raise MiniloraError(f"cannot create the folder {where}: Permission denied") from None
            return None
        except OSError as error:
            raise MiniloraError(f"cannot use {where} as a run folder: {error.strerror}") from error
        if not names:
            return None
        if not (self._resume or self._overwrite):
            raise MiniloraError(
                f"the run folder {where} is not empty: add --resume to go on with its run, --overwrite to start it "
                "again, or choose another"
            )
        if RECORD not in names:
            raise MiniloraError(f"{where} is not empty and has no {RECORD}: choose another folder")
        try:
            return read_record(self.path / RECORD)
        except FormatError as error:
            raise FormatError(f"{error}; choose another folder") from error

    def _open(self, previous: dict | None) -> None:
        """Bring the folder into its state at the start: metrics cut back, run.json written."""
        if previous and self._resume:
            self.checkpoint = checkpoint.latest(self.checkpoints)
            self.notes += self.checkpoint.notes if self.checkpoint else ()
        if previous and self.checkpoint:  # raise for one that is not of this run, before anything is changed
            self._check_changes(previous)
            if self._accept:
                self._accept(self.checkpoint)
        if self._resume and self.checkpoint is None:
            self.notes.append(f"no checkpoint to resume from in {show_path(self.path)}: starting anew")
        resumed_from = self.checkpoint.step if self.checkpoint else -1

        if previous and self._overwrite:
            checkpoint.clear(self.checkpoints)
        self._cut_metrics(resumed_from)
        self._write_record(previous if self.checkpoint else None)
        with self._writing_metrics():
            self._metrics = open(self.path / METRICS, "ab", buffering=0)  # noqa: SIM115 (closed in __exit__)

    @contextmanager
    def _writing_metrics(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MiniloraError(f"cannot write {show_path(self.path / METRICS)}: {error.strerror}") from error

    def _cut_metrics(self, last_step: int) -> None:
        """Keep the records up to `last_step`, each step once; a line that a killed writer left unfinished goes too."""
        path = self.path / METRICS
        if not os.path.lexists(path):
            return
        with atomic.open_regular(path) as file:
            lines = file.read().splitlines(keepends=True)
        kept = []
        for line in lines:
            step = parse_metrics(line).get("step", -1)
            if self._last_step < step <= last_step and line.endswith(b"\n"):
                kept.append(line)
                self._last_step = step
        if kept != lines:
            atomic.write_atomic(path, b"".join(kept))

    def _write_record(self, previous: dict | None) -> None:
        """Write run.json; on resume it keeps the first start and lists each later one."""
        start = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": self._command,
            "versions": {"python": platform.python_version(), "numpy": np.__version__, "minilora": __version__},
        }
        record = {"format": FORMAT, "config": self._config, "text_sha256": self._text_hash, **start, "resumed": []}
        if previous and self.checkpoint:
            record |= {key: previous.get(key) for key in start}
            record["resumed"] = [*previous["resumed"], {"step": self.checkpoint.step, **start}]
        self._record = record
        atomic.write_json(self.path / RECORD, record)

    def _check_changes(self, previous: dict) -> None:
        """Raise MiniloraError for other settings or another text: a resumed run is to end as an unbroken one would."""
        before, now = previous["config"], self._config
        changes = [
            f"{flag_of(name)} was {escape(before.get(name))}, not {escape(now.get(name))}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name) and name not in MAY_CHANGE
        ]
        if previous.get("text_sha256") != self._text_hash:
            changes.insert(0, "--data was another text, or was divided in another way")
        if changes:
            raise MiniloraError(
                f"--resume goes on with the run in {show_path(self.path)}, whose {first_few(changes, separator='; ')}: "
                "leave such flags out, or choose another --out"
            )


def _plain(value: object) -> object:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a run.json. FormatError for one that is damaged, or that something else wrote."""
    record = atomic.read_json(path)
    kinds = {"format": str, "config": dict, "text_sha256": str | None, "resumed": list}
    wrong = [key for key, kind in kinds.items() if key not in record or not isinstance(record[key], kind)]
    if not wrong and record["format"] != FORMAT:
        wrong = ["format"]
    if wrong:
        keys = ", ".join(wrong)
        raise FormatError(f"{show_path(path)} is damaged, or not the record of a run: it has no valid {keys}")
    return record


def parse_metrics(line: bytes) -> dict:
    """The record in a line of metrics, whose "step" is an integer; {} for a line that is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) and type(record.get("step")) is int else {}
