"""What a class has handed in: which file is whose, and of which lesson.

    FOLDER/ada/08_lora.ipynb, .py                                  or anywhere in ada's folder; 08.py, lora.py
    FOLDER/ada/lessons/08_lora/exercise.py                         as in a clone or a kit
    submitted/ada/08_lora/08_lora.ipynb                            nbgrader; FOLDER may be its course
    FOLDER/Ada Lovelace_12345_assignsubmission_file_/…             Moodle's download, in folders or not
    FOLDER/lovelaceada_101_2002_08_lora.ipynb                      Canvas's download

No link is followed, and no file is read here.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from minilora.classroom.grading.nbcheck import CONFIG
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.teaching.rosters import Roster, Student
from minilora.errors import MiniloraError, escape, first_few

MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_[a-z]+_?(?P<file>.*)")
CANVAS = re.compile(r"(?P<name>[^_]+)_(?:LATE_)?(?P<id>\d+)_\d+_(?P<file>.+)")
COPY = re.compile(r"(-\d+| ?\(\d+\)|_late)$")  # what a browser, or Canvas, adds to a file's name
SUFFIXES = (".ipynb", ".py")  # of two files the first counts
DEPTH = 5  # folders below a student's
FILE_LIMIT = 500_000_000  # bytes, with all outputs


@dataclass
class HandedIn:
    """Files by (student's key, lesson's name). unknown: who is not in the roster; entries: where the files lie."""

    students: list[Student]
    path: dict[tuple[str, str], Path] = field(default_factory=dict)
    unknown: list[Student] = field(default_factory=list)
    entries: list[Path] = field(default_factory=list)


def collect(folder: Path, lessons: list[Lesson], roster: Roster | None, leave: tuple[Path, ...] = ()) -> HandedIn:
    """Who handed in what. leave: what in the folder is no student's. Raises MiniloraError where nothing is found."""
    if not folder.is_dir():
        raise MiniloraError(f"no folder {escape(str(folder))}")
    if (folder / CONFIG).is_file():
        folder = folder / "submitted"
    found = HandedIn(list(roster.students) if roster else [])
    known = roster or Roster(found.students, [])
    left = {path.resolve() for path in leave}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        mark = MOODLE.fullmatch(entry.name) or CANVAS.fullmatch(entry.name)
        is_folder = entry.is_dir() and not (mark and mark["file"])
        if entry.name.startswith(".") or entry.resolve() in left or not (is_folder or mark and mark["file"]):
            continue
        labels = [mark["id"], mark["name"]] if mark else [entry.name]
        if (student := known.find(*labels)) is None:
            student = Student(labels[-1], labels[-1], {})
            found.students.append(student)
            if roster:
                found.unknown.append(student)
        files = _files(entry) if is_folder else [(entry, mark["file"] if mark else "")]
        found.entries.append(entry)
        for path, lesson in _of_lessons(list(files), lessons):
            found.path.setdefault((student.key, lesson.name), path)
    if not found.path:
        raise MiniloraError(
            f"nothing of {first_few(x.name for x in lessons)} in {escape(str(folder))}: each student has a folder "
            f"there, with {lessons[0].name}.ipynb or {lessons[0].name}.py in it"
        )
    return found


def why_unreadable(path: Path) -> str:
    """Why a file counts as nothing, before it is opened; "" where it may be read."""
    if path.is_symlink() or path.parent.is_symlink():
        return f"{escape(path.name)} is a link, not a file"
    if not path.is_file() or not os.access(path, os.R_OK):
        return f"{escape(path.name)} is not a file that can be read"
    if (size := path.stat().st_size) > FILE_LIMIT:
        return f"{escape(path.name)} is {size:,} bytes long, more than {FILE_LIMIT:,}"
    return ""


def _files(top: Path) -> Iterator[tuple[Path, str]]:
    """(path, name) of all that is no folder below a student's; links as they are."""
    for place, folders, names in os.walk(top):
        is_deep = len(Path(place).relative_to(top).parts) >= DEPTH
        ends = [name for name in folders if Path(place, name).is_symlink() or name.endswith(SUFFIXES)]
        folders[:] = [] if is_deep else sorted(n for n in folders if not n.startswith(".") and n not in ends)
        yield from ((Path(place, name), name) for name in sorted([*names, *ends]))


def _of_lessons(files: list[tuple[Path, str]], lessons: list[Lesson]) -> Iterator[tuple[Path, Lesson]]:
    """The files that are an answer to a lesson, notebooks first. Of one lesson, a single file with any name is one."""
    files.sort(key=lambda pair: ([pair[0].suffix == suffix for suffix in SUFFIXES], pair[0].name), reverse=True)
    matched = [(path, lesson) for path, name in files for lesson in lessons if _is_of(lesson, path, name)]
    alone = [path for path, _ in files if path.suffix in SUFFIXES]
    if not matched and len(lessons) == len(alone) == 1:
        matched = [(alone[0], lessons[0])]
    yield from matched


def _is_of(lesson: Lesson, path: Path, name: str) -> bool:
    stem = COPY.sub("", Path(name).stem.lower())
    if stem == "exercise":
        return path.parent.name == lesson.name
    return stem in (lesson.name, lesson.name[3:], lesson.name[:2])
