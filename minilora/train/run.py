"""The folder of one run: what was asked for, what was measured, and the checkpoints to go on from.

    run.json           configuration, versions, hash of the text, command, times, result: the run described by itself
    metrics.jsonl      one JSON object a line, each step once; step 0 is the evaluation before the first
    checkpoints/       a file each, `step-00000120.safetensors`: arrays as tensors, all else as JSON in the metadata
    .lock              held by the one process that writes here: the system frees it when that ends or is killed

Checkpoints survive what interrupts training: kill -9, a power cut, a full disk, a flipped bit. One file has one rename,
so it is there whole or not at all; a SHA-256 over all of it catches what happens to it later; and the one before it
stays, to fall back on.

Nothing else in the folder is read or removed here; what else a run leaves in it (a model, a report) is its own affair.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from minilora import __version__
from minilora.errors import FormatError, MiniloraError, escape, first_few, flag_of
from minilora.formats import atomic, safetensors
from minilora.formats.atomic import show_path

RECORD = "run.json"
METRICS = "metrics.jsonl"
LOCK = ".lock"  # it stays in the folder
FORMAT = "minilora run"
MAY_CHANGE = {"data", "validation", "test", "labels", "save_every", "checkpointing"}  # the hash tells what files hold
KEPT = 2
SERIES = ("loss", "evaluation", "lr", "norm")  # what the loop logs


@dataclass(frozen=True)
class Checkpoint:
    """State to go on from after `step` steps. `notes` says which newer checkpoints were damaged, and how."""

    step: int
    arrays: dict[str, np.ndarray]
    state: dict
    notes: tuple[str, ...] = ()


def save_checkpoint(folder: str | os.PathLike, step: int, arrays: dict[str, np.ndarray], state: dict) -> Path:
    """Write a checkpoint into `folder`; then remove all but it and the one before, and those of later steps.

    A checkpoint of a later step is of a run that training has gone back behind.
    `state` is anything that JSON holds (whole numbers of any size and infinities included; tuples come back as lists,
    keys as text). Returns the file's path. Errors: MiniloraError; every earlier checkpoint is then still there.
    """
    folder = Path(folder)
    arrays = {name: safetensors.on_disk(name, array) for name, array in arrays.items()}
    content = json.dumps({"step": step, "state": state})
    for leftover in folder.glob(".step-*.tmp"):  # of a training that was killed while it saved
        atomic.remove_file(leftover)
    path = folder / f"step-{step:08d}.safetensors"
    safetensors.save_file(path, arrays, metadata={"checkpoint": content, "sha256": _checksum(content, arrays)})
    remove_checkpoints(folder, step + 1)
    for _, old in _saved(folder)[KEPT:]:
        atomic.remove_file(old)
    return path


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """The checkpoint in the file at `path`, its checksum verified. Errors: FormatError."""
    arrays, metadata = safetensors.load_file(path)
    content, digest = metadata.get("checkpoint", ""), metadata.get("sha256")
    if digest != _checksum(content, arrays):
        raise FormatError(f"{show_path(path)} is no checkpoint, or damaged: its content does not match its checksum")
    saved = atomic.parse_json(content.encode(), show_path(path))
    if type(saved.get("step")) is not int or not isinstance(saved.get("state"), dict):
        raise FormatError(f"{show_path(path)} is no checkpoint: it has no step or no state")
    return Checkpoint(saved["step"], arrays, saved["state"])


def latest_checkpoint(folder: str | os.PathLike) -> Checkpoint | None:
    """The newest checkpoint in `folder` that is whole; None where there is none at all.

    Only reads, so it may be called beside a training that is writing. Errors: FormatError when every one is damaged.
    """
    notes: list[str] = []
    for _, path in _saved(Path(folder)):
        try:
            return replace(load_checkpoint(path), notes=tuple(notes))
        except FormatError as error:
            notes.append(str(error))
    if notes:
        raise FormatError(f"no checkpoint in {show_path(folder)} can be read: {'; '.join(notes)}")
    return None


def remove_checkpoints(folder: str | os.PathLike, step: int) -> Path | None:
    """Remove the checkpoints of step `step` and later, and nothing else; returns the newest that is left."""
    saved = _saved(Path(folder))
    for saved_step, path in saved:
        if saved_step >= step:
            atomic.remove_file(path)
    return next((path for saved_step, path in saved if saved_step < step), None)


def _saved(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of each checkpoint in `folder` by its name, newest first."""
    names = os.listdir(folder) if folder.is_dir() else []
    named = [(re.fullmatch(r"step-([0-9]+)\.safetensors", name), folder / name) for name in names]
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)


def _checksum(content: str, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over the JSON text, then each array's name, dtype, shape and bytes. Arrays as from `on_disk`."""
    digest = hashlib.sha256(content.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


class RunFolder:
    """A run folder held open by its single writer.

        with RunFolder("runs/first", config={"lr": 3e-4}) as run:
            start = run.checkpoint.step if run.checkpoint else 0      # after resume=True
            run.log({"step": 1, "loss": 2.5})
            run.save(1, arrays, state)

    `resume` goes on from the newest whole checkpoint (`.checkpoint`), or starts anew where there is no run or no
    checkpoint; `overwrite` removes the record, metrics and checkpoints of the run that is there and starts anew.
    Either touches only a folder that a run wrote. `.notes` holds lines for the reader: what was started anew, which
    checkpoint was damaged. A run does not go on with another text or other settings than it began with. accept: raises
    MiniloraError for a checkpoint that is of another model.

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
        accept: Callable[[Checkpoint], None] = lambda checkpoint: None,
    ):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.checkpoint: Checkpoint | None = None
        self.notes: list[str] = []
        self.before: dict | None = None
        self._resume, self._overwrite, self._accept = resume, overwrite, accept
        self._start = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "versions": {"python": platform.python_version(), "numpy": np.__version__, "minilora": __version__},
        }
        config = json.loads(json.dumps(config or {}))  # as the file will have it: lists for tuples, text for keys
        self._record: dict[str, Any] = {"format": FORMAT, "config": config, "text_sha256": text_hash}
        self._record |= self._start | {"resumed": []}

    def __enter__(self) -> RunFolder:
        from filelock import FileLock, Timeout  # takes a while to import

        self.check()  # refuse before anything is written ...
        atomic.make_folder(self.path)
        with ExitStack() as stack:
            try:
                stack.enter_context(FileLock(self.path / LOCK).acquire(blocking=False))
            except Timeout:
                raise MiniloraError(f"the run folder {show_path(self.path)} is in use by another process") from None
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
        line = (json.dumps(_plain(record), allow_nan=False) + "\n").encode()
        if self._metrics.write(line) != len(line):
            raise MiniloraError(f"there is no space left for {show_path(self.path / METRICS)}")

    def save(self, step: int, arrays: dict[str, np.ndarray], state: dict) -> Path:
        """Save a checkpoint (see `save_checkpoint`) of a training whose metrics up to `step` are safe on the disk."""
        os.fsync(self._metrics.fileno())
        return save_checkpoint(self.checkpoints, step, arrays, state)

    def keep(self, before: dict) -> None:
        """Write what was measured before the first step into run.json, from where a resumed run has it (`before`)."""
        self._record["before"] = self.before = before
        atomic.write_json(self.path / RECORD, self._record)

    def finish(self, result: dict) -> None:
        """Write what the run came to into run.json."""
        atomic.write_json(self.path / RECORD, self._record | {"result": _plain(result)})

    def check(self) -> dict | None:
        """The record of the run that is in the folder; None for a folder that is new or empty. Nothing is changed.

        Raises MiniloraError where this run must not write, as entering would.
        """
        where = show_path(self.path)
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return None
        if all(name == LOCK or name.endswith(".tmp") for name in names):
            return None
        if not (self._resume or self._overwrite):
            raise MiniloraError(
                f"the run folder {where} is not empty: add --resume to go on with its run, --overwrite to start it "
                "again, or choose another"
            )
        if RECORD not in names:
            raise MiniloraError(f"{where} is not empty and has no {RECORD}: choose another folder")
        return read_record(self.path / RECORD)

    def _open(self, previous: dict | None) -> None:
        """Bring the folder into its state at the start: metrics cut back, run.json written."""
        if previous and self._resume:
            self.checkpoint = latest_checkpoint(self.checkpoints)
        if previous and self.checkpoint:
            self._check_changes(previous)  # before anything is changed
            self._accept(self.checkpoint)
            self.notes += self.checkpoint.notes
            again = {"step": self.checkpoint.step, **self._start}
            self._record |= {key: previous.get(key) for key in self._start}
            self.before = previous.get("before")
            self._record["resumed"] = [*previous["resumed"], again]
        elif self._resume:
            self.notes.append(f"no checkpoint to resume from in {show_path(self.path)}: starting anew")
        last = self.checkpoint.step if self.checkpoint else -1
        lines = [line for step, _, line in _metrics(self.path) if step <= last]
        if previous and self._overwrite:
            remove_checkpoints(self.checkpoints, 0)
        atomic.write_json(self.path / RECORD, self._record)  # first: it tells that the rest is a run's
        atomic.write_atomic(self.path / METRICS, b"".join(lines))
        self._metrics = open(self.path / METRICS, "ab", buffering=0)  # noqa: SIM115 (closed in __exit__)

    def _check_changes(self, previous: dict) -> None:
        """Raise MiniloraError for other settings or another text: a resumed run is to end as an unbroken one would."""
        before, now = previous["config"], self._record["config"]
        changes = [
            f"{flag_of(name)} was {escape(before.get(name))}, not {escape(now.get(name))}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name) and name not in MAY_CHANGE
        ]
        if previous["text_sha256"] != self._record["text_sha256"]:
            changes.insert(0, "--data was another text, or was divided in another way")
        if changes:
            raise MiniloraError(
                f"--resume goes on with the run in {show_path(self.path)}, whose {first_few(changes, separator='; ')}: "
                "leave such flags out, or choose another --out"
            )


def _plain(record: dict) -> dict:
    """The record with NumPy's scalars as numbers, and None for what is not finite."""
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in record.items()}
    return {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in values.items()}


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a run.json. FormatError for one that is damaged, or that something else wrote."""
    record = atomic.read_json(path)
    kinds = {"config": dict, "text_sha256": str | None, "resumed": list}
    is_whole = all(key in record and isinstance(record[key], kind) for key, kind in kinds.items())
    is_whole &= all(isinstance(record.get(key), dict | None) for key in ("result", "before"))
    if not is_whole or record.get("format") != FORMAT:
        raise FormatError(f"{show_path(path)} is damaged, or not the record of a run; choose another folder")
    return record


def _metrics(folder: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """(step, record, line) of each line of metrics, each step once; a line that is no record, as a killed writer leaves
    it, is passed over.
    """
    if not os.path.lexists(path := Path(folder) / METRICS):
        return
    last = -1
    with atomic.open_regular(path) as file:
        for line in file:
            with suppress(MiniloraError):
                record = atomic.parse_json(line, "the line")
                step = record.get("step")
                if type(step) is int and last < step < 2**53 and line.endswith(b"\n"):
                    yield (last := step), record, line


def read_metrics(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, dict[int, float]]]:
    """The record of the run in a folder and its numbers, {name of SERIES: {step: number}}, while it runs, after it was
    broken off, or when it is done. FormatError for what is no run folder.
    """
    if not os.path.lexists(path := Path(folder) / RECORD):
        raise FormatError(f"{show_path(folder)} is no run folder: there is no {RECORD} in it")
    series: dict[str, dict[int, float]] = {name: {} for name in SERIES}
    for step, row, _ in _metrics(folder):
        for name in SERIES & row.keys():
            if isinstance(value := row[name], int | float) and abs(value) < 1e300:
                series[name][step] = float(value)
    return read_record(path), series
