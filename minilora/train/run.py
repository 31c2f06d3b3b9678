"""The folder of one run: its settings, its measurements, and the checkpoints from which it can continue.

    run.json           configuration, versions, hash of the text, command, times, result: a full description of the run
    metrics.jsonl      one JSON object per line, each step once; step 0 is the evaluation before the first
    checkpoints/       one file each, `step-00000120.safetensors`: arrays as tensors, all else as JSON in the metadata
    .lock              held by the one process that writes here; the system frees it when that ends or is killed

Checkpoints survive whatever interrupts training: kill -9, a power cut, a full disk, a flipped bit. A file is renamed
once it is complete, so it is there whole or not at all; a SHA-256 over its content detects later damage; and the
checkpoint before it stays, as a fallback.

Nothing else in the folder is read or removed here, so a run may keep other files in it, such as a model or a report.
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
MAY_CHANGE = {"data", "validation", "test", "labels", "evaluated_on", "save_every", "checkpointing"}  # hashed: data
KEPT = 2
SERIES = ("loss", "evaluation", "lr", "norm")  # logged by the loop


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` steps, to continue from. `notes` says which newer checkpoints were damaged, and how."""

    step: int
    arrays: dict[str, np.ndarray]
    state: dict
    notes: tuple[str, ...] = ()


def save_checkpoint(folder: str | os.PathLike, step: int, arrays: dict[str, np.ndarray], state: dict) -> Path:
    """Write a checkpoint into `folder`, then remove all others but the one before it. Returns the file's path.

    Checkpoints of later steps are removed too: they belong to a run that has since been continued from an earlier step.
    state: anything that JSON can hold (including integers of any size and infinities; tuples come back as lists, keys
    as text). Raises MiniloraError if writing fails; all earlier checkpoints are then still there.
    """
    folder = Path(folder)
    arrays = {name: safetensors.on_disk(name, array) for name, array in arrays.items()}
    content = json.dumps({"step": step, "state": state})
    for leftover in folder.glob(".step-*.tmp"):  # from a run that was killed while saving
        atomic.remove_file(leftover)
    path = folder / f"step-{step:08d}.safetensors"
    safetensors.save_file(path, arrays, metadata={"checkpoint": content, "sha256": _checksum(content, arrays)})
    remove_checkpoints(folder, step + 1)
    for _, old in _saved(folder)[KEPT:]:
        atomic.remove_file(old)
    return path


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read the checkpoint in a file and verify its checksum. Raises FormatError."""
    arrays, metadata = safetensors.load_file(path)
    content, digest = metadata.get("checkpoint", ""), metadata.get("sha256")
    if digest != _checksum(content, arrays):
        raise FormatError(f"{show_path(path)} is damaged, or not a checkpoint: its content does not match its checksum")
    saved = atomic.parse_json(content.encode(), show_path(path))
    if type(saved.get("step")) is not int or not isinstance(saved.get("state"), dict):
        raise FormatError(f"{show_path(path)} is not a checkpoint: it has no step or no state")
    return Checkpoint(saved["step"], arrays, saved["state"])


def latest_checkpoint(folder: str | os.PathLike) -> Checkpoint | None:
    """Return the newest intact checkpoint in `folder`, or None if there are no checkpoints.

    This only reads, so it may run while training is writing. Raises FormatError if all checkpoints are damaged.
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
    """Remove the checkpoints of step `step` and later, and nothing else. Returns the newest that is left, or None."""
    saved = _saved(Path(folder))
    for saved_step, path in saved:
        if saved_step >= step:
            atomic.remove_file(path)
    return next((path for saved_step, path in saved if saved_step < step), None)


def _saved(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, path) of all files in `folder` named like a checkpoint, newest first."""
    names = os.listdir(folder) if folder.is_dir() else []
    named = [(re.fullmatch(r"step-([0-9]+)\.safetensors", name), folder / name) for name in names]
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)


def _checksum(content: str, arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of the JSON text and each array's name, dtype, shape and bytes. arrays: from `on_disk`."""
    digest = hashlib.sha256(content.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


class RunFolder:
    """A run folder, held open by its single writer.

        with RunFolder("runs/first", config={"lr": 3e-4}) as run:
            start = run.checkpoint.step if run.checkpoint else 0      # after resume=True
            run.log({"step": 1, "loss": 2.5})
            run.save(1, arrays, state)

    `resume` continues from the newest intact checkpoint (`.checkpoint`), or starts from the beginning if there is no
    run or no checkpoint; `overwrite` removes the record, metrics and checkpoints of the existing run and starts from
    the beginning. Both only touch a folder that a run wrote. `.notes` has lines for the user, such as which checkpoint
    was damaged. A run continues only with the text and settings with which it began. accept: a function that raises
    MiniloraError for a checkpoint of another model.

    Entering raises MiniloraError if the folder is not empty (and neither flag is set), is not a run folder, is in use
    by another process, or cannot be written, and FormatError if all its checkpoints are damaged. The folder is then
    unchanged.
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

        self.check()  # before anything is written ...
        atomic.make_folder(self.path)
        with ExitStack() as stack:
            try:
                stack.enter_context(FileLock(self.path / LOCK).acquire(blocking=False))
            except Timeout:
                raise MiniloraError(f"the run folder {show_path(self.path)} is in use by another process") from None
            self._open(self.check())  # ... and again under the lock, as a run may have ended here in between
            stack.callback(self._metrics.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def log(self, record: dict) -> None:
        """Append `record` to metrics.jsonl. Its "step" must be a larger integer than the step of the record before.

        NumPy scalars are written as numbers, and NaN and infinities as null, because JSON cannot express them.
        """
        line = (json.dumps(_plain(record), allow_nan=False) + "\n").encode()
        if self._metrics.write(line) != len(line):
            raise MiniloraError(f"no space is left to write {show_path(self.path / METRICS)}")

    def save(self, step: int, arrays: dict[str, np.ndarray], state: dict) -> Path:
        """Save a checkpoint (see `save_checkpoint`), after writing the metrics up to `step` safely to the disk."""
        os.fsync(self._metrics.fileno())
        return save_checkpoint(self.checkpoints, step, arrays, state)

    def keep(self, before: dict) -> None:
        """Write measurements made before the first step to run.json, where a resumed run finds them (`before`)."""
        self._record["before"] = self.before = before
        atomic.write_json(self.path / RECORD, self._record)

    def finish(self, result: dict) -> None:
        """Write the result of the run to run.json."""
        atomic.write_json(self.path / RECORD, self._record | {"result": _plain(result)})

    def check(self) -> dict | None:
        """Return the record of the run in the folder, or None if the folder is new or empty. Changes nothing.

        Raises MiniloraError, as entering does, if this run must not write to the folder.
        """
        where = show_path(self.path)
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise MiniloraError(f"--out {where} is a file; choose a folder") from None
        if all(name == LOCK or name.endswith(".tmp") for name in names):
            return None
        if not (self._resume or self._overwrite):
            raise MiniloraError(
                f"the run folder {where} is not empty: --resume continues its run, --overwrite starts again; or choose "
                "another folder"
            )
        if RECORD not in names:
            raise MiniloraError(f"{where} is not empty and has no {RECORD}: choose another folder")
        return read_record(self.path / RECORD)

    def _open(self, previous: dict | None) -> None:
        """Prepare the folder for the start: cut metrics back to the checkpoint, and write run.json."""
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
            self.notes.append(f"no checkpoint to resume from in {show_path(self.path)}: starting from the beginning")
        last = self.checkpoint.step if self.checkpoint else -1
        lines = [line for step, _, line in _metrics(self.path) if step <= last]
        if previous and self._overwrite:
            remove_checkpoints(self.checkpoints, 0)
        atomic.write_json(self.path / RECORD, self._record)  # first, because it marks the folder as a run's
        atomic.write_atomic(self.path / METRICS, b"".join(lines))
        self._metrics = open(self.path / METRICS, "ab", buffering=0)  # noqa: SIM115 (closed in __exit__)

    def _check_changes(self, previous: dict) -> None:
        """Raise MiniloraError if settings or text changed, because a resumed run must end like an unbroken one."""
        before, now = previous["config"], self._record["config"]
        changes = [
            f"{flag_of(name)} was {escape(before.get(name))}, not {escape(now.get(name))}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name) and name not in MAY_CHANGE
        ]
        if previous["text_sha256"] != self._record["text_sha256"]:
            changes.insert(0, "--data was another text, or was split in another way")
        if changes:
            raise MiniloraError(
                f"--resume continues the run in {show_path(self.path)}, whose {first_few(changes, separator='; ')}: "
                "leave such flags out, or choose another --out"
            )


def _plain(record: dict) -> dict:
    """Return the record with NumPy scalars as numbers, and None for values that are not finite."""
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in record.items()}
    return {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in values.items()}


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a run.json. Raises FormatError if it is damaged, or if something else wrote it."""
    record = atomic.read_json(path)
    kinds = {"config": dict, "text_sha256": str | None, "resumed": list}
    is_whole = all(key in record and isinstance(record[key], kind) for key, kind in kinds.items())
    is_whole &= all(isinstance(record.get(key), dict | None) for key in ("result", "before"))
    if not is_whole or record.get("format") != FORMAT:
        raise FormatError(f"{show_path(path)} is damaged, or not the record of a run; choose another folder")
    return record


def _metrics(folder: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """Yield (step, record, line) for each line of the metrics, each step once. Skips lines that a killed writer left
    incomplete.
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
    """Return the record of the run in a folder and its numbers, {name of SERIES: {step: number}}.

    The run may be running, interrupted or finished. Raises FormatError if it is not a run folder.
    """
    if not os.path.lexists(path := Path(folder) / RECORD):
        raise FormatError(f"{show_path(folder)} is not a run folder: there is no {RECORD} in it")
    series: dict[str, dict[int, float]] = {name: {} for name in SERIES}
    for step, row, _ in _metrics(folder):
        for name in SERIES & row.keys():
            if isinstance(value := row[name], int | float) and abs(value) < 1e300:
                series[name][step] = float(value)
    return read_record(path), series
