"""Hugging Face model folders: config.json with model.safetensors, or with shards that an index lists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from minilora.errors import FormatError, escape, first_few
from minilora.formats.atomic import make_folder, read_json, remove_file, show_path, to_json, write_atomic
from minilora.formats.safetensors import open_file, save_file
from minilora.formats.stored import StoredTensor

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def open_folder(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """Read the configuration of a model folder and open its tensors, which stay in their files until they are read.

    The folder need not be trusted. Links are followed, because the Hugging Face cache consists of links to blobs; so
    names in an index are checked as text only. Raises FormatError, which names the files or tensors that are missing.
    """
    folder = Path(folder)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise FormatError(f"cannot read the model folder {show_path(folder)}: {error.strerror}") from error
    if WEIGHTS in names:
        return read_json(folder / CONFIG), open_file(folder / WEIGHTS)[0]
    if INDEX in names:
        return read_json(folder / CONFIG), _open_shards(folder / INDEX)
    if pickles := [name for name in names if name.endswith(_PICKLES)]:
        raise FormatError(
            f"{show_path(folder)} has its weights in a pickle ({escape(pickles[0])}), which can run any code when "
            "opened; minilora reads only safetensors: save the model in that format"
        )
    raise FormatError(f"{show_path(folder)} has neither {WEIGHTS} nor {INDEX}")


def shards_of(index: Path) -> dict[str, list[str]]:
    """Read an index: {safetensors file: names of its tensors}. Raises FormatError if it is damaged."""
    where = show_path(index)
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{where} has no weight_map that says which file holds which tensor")

    names_in: dict[str, list[str]] = {}  # shard -> names of its tensors
    for name, shard in weight_map.items():
        # Checked as text: on every system, such a name can only mean a file in the folder of the index.
        is_plain = isinstance(shard, str) and shard.isprintable() and not set(shard) & set("/\\:")
        if not is_plain or not shard.endswith(".safetensors"):
            raise FormatError(f"{where}: tensor {escape(name)} is in {escape(shard)}, not a safetensors file beside it")
        names_in.setdefault(shard, []).append(name)
    return names_in


def _open_shards(index: Path) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for shard, names in shards_of(index).items():
        present, _ = open_file(index.parent / shard)
        if missing := [name for name in names if name not in present]:
            where = show_path(index)
            raise FormatError(f"{where} does not match its files: {escape(shard)} has no tensor {first_few(missing)}")
        tensors |= {name: present[name] for name in names}
    return tensors


def write_folder(folder: str | os.PathLike[str], config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write a model folder that transformers can load: config.json and model.safetensors.

    Existing files of these names are replaced, each atomically. The index of an earlier, sharded model is removed after
    the new weights are written. config.json is written last, so that a folder without it is recognizably incomplete.
    """
    folder = Path(folder)
    config_json = to_json(config)
    make_folder(folder)
    save_file(folder / WEIGHTS, tensors, metadata={"format": "pt"})  # as transformers marks its own
    remove_file(folder / INDEX)
    write_atomic(folder / CONFIG, config_json)
