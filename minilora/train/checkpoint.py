"""Checkpoints that survive what interrupts training: kill -9, a power cut, a full disk, a flipped bit.

A checkpoint is one file, `step-00000120.safetensors`: the arrays as tensors, everything else as JSON in the metadata,
and a SHA-256 over both. One file has one rename, so it is there whole or not at all; the checksum catches what happens
to it later; and the one before it stays, to fall back on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minilora.errors import FormatError
from minilora.formats.atomic import parse_json, remove_file, show_path
from minilora.formats.safetensors import load_file, on_disk, save_file

KEPT = 2
_NAME = re.compile(r"step-(\d{8,})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """State to go on from after `step` steps. `notes` says which newer checkpoints were damaged, and how."""

    step: int
    arrays: dict[str, np.ndarray]
    state: dict
    path: Path
    notes: tuple[str, ...] = ()


def save(folder: str | os.PathLike, step: int, arrays: dict[str, np.ndarray], state: dict) -> Path:
    """Write a checkpoint into `folder`; then remove all but it and the one before, and those of later steps.

    A checkpoint of a later step is of a run that training has gone back behind.
    `state` is anything that JSON holds (whole numbers of any size and infinities included; tuples come back as lists,
    keys as text). Returns the file's path. Errors: MiniloraError; every earlier checkpoint is then still there.
    """
    folder = Path(folder)
    arrays = {name: on_disk(name, array) for name, array in arrays.items()}
    content = json.dumps({"step": step, "state": state})
    for leftover in folder.glob(".step-*.tmp"):  # of a training that was killed while it saved
        remove_file(leftover)
    path = folder / f"step-{step:08d}.safetensors"
    save_file(path, arrays, metadata={"checkpoint": content, "sha256": _checksum(content, arrays)})
    remove_from(folder, step + 1)
    for _, old in _saved(folder)[KEPT:]:
        remove_file(old)
    return path


def load(path: str | os.PathLike) -> Checkpoint:
    """The checkpoint in the file at `path`, its checksum verified. Errors: FormatError."""
    arrays, metadata = load_file(path)
    where = show_path(path)
    if not {"checkpoint", "sha256"} <= metadata.keys():
        raise FormatError(f"{where} is a safetensors file, but no checkpoint of minilora")
    if _checksum(metadata["checkpoint"], arrays) != metadata["sha256"]:
        raise FormatError(f"{where} is damaged: its content does not match its checksum")
    content = parse_json(metadata["checkpoint"].encode(), where)
    if type(content.get("step")) is not int or not isinstance(content.get("state"), dict):
        raise FormatError(f"{where} is no checkpoint of minilora: it has no step or no state")
    return Checkpoint(content["step"], arrays, content["state"], Path(path))


def latest(folder: str | os.PathLike) -> Checkpoint | None:
    """The newest checkpoint in `folder` that is whole; None where there is none at all.

    Only reads, so it may be called beside a training that is writing. Errors: FormatError when every one is damaged.
    """
    notes: list[str] = []
    for _, path in _saved(Path(folder)):
        try:
            return replace(load(path), notes=tuple(notes))
        except FormatError as error:
            notes.append(str(error))
    if notes:
        raise FormatError(f"no checkpoint in {show_path(folder)} can be read: {'; '.join(notes)}")
    return None


def remove_from(folder: str | os.PathLike, step: int) -> None:
    """Remove the checkpoints of step `step` and later, and nothing else."""
    for saved_step, path in _saved(Path(folder)):
        if saved_step >= step:
            remove_file(path)


def _saved(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of each checkpoint in `folder` by its name, newest first."""
    named = [(_NAME.fullmatch(path.name), path) for path in folder.glob("step-*")]
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)


def _checksum(content: str, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over the JSON text, then each array's name, dtype, shape and bytes. Arrays as from `on_disk`."""
    digest = hashlib.sha256(content.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
