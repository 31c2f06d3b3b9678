"""Marks of a class: each file in the sandbox, several processes at a time, and none of them twice.

OUT/records/08_lora-8f2a….json     what a file came to, by the hash of the file, of the lesson and of the checker
OUT/records/08_lora-91bc….kit      what the solution gave, by the hash of the lesson and of the checker

With several files of a lesson, a search replays a recording: it draws nothing and asks the solution nothing. The
verdicts are the same, and come in half of the time.
"""

import hashlib
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import util
from pathlib import Path

from minilora import classroom
from minilora.classroom.grading.given import grade_given
from minilora.classroom.grading.grade import FAILED, SHARE, Result
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.checking import SEED, Task, seed_of
from minilora.classroom.lessons.kit import read_kit
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.lessons.reference import Reference
from minilora.classroom.publish.course import POINTS
from minilora.classroom.sandbox.runner import Sandbox
from minilora.classroom.teaching.collecting import HandedIn, why_unreadable
from minilora.classroom.teaching.kits import checks_of
from minilora.classroom.teaching.rosters import Student
from minilora.errors import MiniloraError, Stopped, escape
from minilora.formats.atomic import make_folder, write_atomic, write_json
from minilora.measure.sweep import check_jobs, side_by_side
from minilora.train.progress import progress_bar

RECORDS = "records"
CHECKER = ("lessons", "grading", "sandbox")  # the rooms whose text a verdict depends on
SEVERAL = 4  # files of a lesson from which on what its solution gives is recorded first
ENDLESS = 3  # cells of a notebook that do not come to their end and cost themselves alone, ten seconds each
ENDED = "to read it ended the process that grades, for want of memory perhaps"


def points_for(result: Result) -> int:
    return int(POINTS * SHARE.get(result.verdict, 0))


@dataclass
class Mark:
    """What a student has for a lesson. reason: why nothing was graded; held: what kept the code in."""

    results: list[Result] = field(default_factory=list)
    reason: str = ""
    held: list[str] | None = None

    @property
    def points(self) -> int:
        return sum(points_for(result) for result in self.results)


@dataclass
class Marks:
    """The marks of a class, by (student's key, lesson's name), of what was handed in. new: files graded just now."""

    lessons: list[Lesson]
    of: dict[tuple[str, str], Mark]
    new: int

    @staticmethod
    def most(lesson: Lesson) -> int:
        """Points that a lesson has."""
        return POINTS * len(lesson.source.titles)

    def reason(self, student: Student, lesson: str) -> str:
        """Why a file was not graded."""
        mark = self.of.get((student.key, lesson))
        return mark.reason if mark else ""

    def total(self, student: Student) -> int:
        found = [self.of.get((student.key, lesson.name)) for lesson in self.lessons]
        return sum(mark.points for mark in found if mark is not None)


def mark_all(
    handed_in: HandedIn, lessons: list[Lesson], out: Path, jobs: int, closed: list[Path], variants: str = ""
) -> Marks:
    """Grade what was handed in, in `jobs` processes. closed: what the code may not read, beside lessons and `out`.
    variants: a secret, by which each student has inputs of their own.

    Whatever stops it, what was graded stays in `out`. Raises MiniloraError, Stopped.
    """
    check_jobs(jobs)
    make_folder(out / RECORDS)
    places = tuple(str(path.resolve()) for path in [*closed, out] if path.exists())
    folders = {lesson.name: lesson.folder.resolve() for lesson in lessons}
    hashes = {lesson.name: _hash_of_lesson(lesson) for lesson in lessons}
    refused: dict[tuple[str, str], Mark] = {}
    keys: dict[tuple[str, str], str] = {}  # of the record
    marks: dict[str, Mark] = {}
    todo: dict[str, tuple[str, Path, int]] = {}
    for whose, path in handed_in.path.items():
        if why := why_unreadable(path):
            refused[whose] = Mark(reason=why)
            continue
        seed = seed_of(variants, whose[0])
        own = [str(seed).encode()] if variants else []
        key = keys[whose] = f"{whose[1]}-{_hash(hashes[whose[1]].encode(), path, *own)}"
        with suppress(OSError, ValueError, TypeError, KeyError):  # none yet, or a damaged one
            marks[key] = _mark_of(json.loads((out / RECORDS / f"{key}.json").read_bytes()))
        if key not in marks:
            todo[key] = (whose[1], path.absolute(), seed)
    several = {name for name, count in Counter(name for name, *_ in todo.values()).items() if count >= SEVERAL}
    kits = {name: (out / RECORDS / f"{name}-{hashes[name]}.kit").absolute() for name in several if not variants}
    with progress_bar("grade", len(todo), unit="files") as advance:

        def take(key: str, facts: dict) -> None:
            write_json(out / RECORDS / f"{key}.json", facts)
            marks[key] = _mark_of(facts)
            advance()

        try:
            tasks = [(key, folders[name], kits.get(name), *rest, places) for key, (name, *rest) in todo.items()]
            _in_processes(tasks, jobs, take)
        except Stopped as signal:
            raise Stopped(signal.signum, "stopped; the same command goes on from here") from None
    return Marks(lessons, {whose: marks[key] for whose, key in keys.items()} | refused, len(todo))


def _mark_of(facts: dict) -> Mark:
    return Mark([Result(**result) for result in facts["results"]], str(facts["reason"]), facts["held"])


def _in_processes(tasks: list[tuple], jobs: int, take) -> None:
    """`_mark` of each task. A process that dies costs the file that it was at; the others go on."""
    begun: set[str] = set()
    done: set[str] = set()

    def told(key: tuple[str], facts: dict) -> None:
        if facts:
            take(key[0], facts)
            done.add(key[0])
        else:
            begun.add(key[0])

    while left := [task for task in tasks if task[0] not in done]:
        try:
            side_by_side(_mark, left, jobs, told)
        except MiniloraError:
            if not (suspects := [task for task in left if task[0] in begun - done]):
                raise
            for task in suspects:  # which of them was it?
                try:
                    side_by_side(_mark, [task], 1, told)
                except MiniloraError:
                    told((task[0],), {"results": [], "reason": ENDED, "held": None})


def _hash(*parts: bytes | Path) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            digest.update(part)
        else:
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            digest.update(part.suffix.encode())
    return digest.hexdigest()[:32]


def _hash_of_lesson(lesson: Lesson) -> str:
    rooms = [Path(classroom.__file__).parent / room for room in CHECKER]
    files = [lesson.folder / name for name in ("solution.py", "checks.py", "driver.py")]
    files += [path for room in rooms for path in sorted(room.glob("*.py"))]
    return _hash(*[path for path in files if path.is_file()])


# In the processes that grade


def _mark(key: str, folder: Path, kit: Path | None, path: Path, seed: int, closed: tuple[str, ...], tell) -> None:
    tell((key,), {})
    tell((key,), mark(_lesson(folder, kit), path, _sandbox(), closed, seed))


def mark(lesson: Lesson, path: Path, sandbox: Sandbox, closed: tuple[str, ...] = (), seed: int = SEED) -> dict:
    """The results of a file, as a record has them. Whatever the file is, it raises nothing."""
    results, reason, sandbox.held = list[Result](), "", None
    try:
        without = dict[int, str]()
        for _ in range(1 + ENDLESS):
            submission = Submission(path, lesson, escape(path.name), by_task=True, without=without)
            submission.seed = seed
            submission.path = Path(path.name)  # whoever hands in the same text gets the same report
            results = [_mark_task(task, submission, sandbox, closed) for task in lesson.tasks]
            if (stuck := submission.failed) is None or stuck.statement is None or path.suffix != ".ipynb":
                break
            without[submission.cell_at(stuck.statement)] = str(stuck)
    except (MiniloraError, OSError) as error:
        reason = str(error)
    except MemoryError:
        reason = ENDED
    except Exception as error:  # noqa: BLE001 (of a check; the report says so)
        reason = f"the checks came to no verdict ({type(error).__name__}: {escape(str(error))}); grade it by hand"
    return {"results": [result.to_dict() for result in results], "reason": reason, "held": sandbox.held}


def _mark_task(task: Task, submission: Submission, sandbox: Sandbox, closed: tuple[str, ...]) -> Result:
    """A name that is wrong costs the tasks that ask for it alone, and so does a cell that is no Python."""
    try:
        submission.check_task(task.number)
        result = grade_given(submission.lesson, task, submission, sandbox, closed)
    except MiniloraError as error:
        return Result(task.number, submission.lesson.source.titles[task.number], FAILED, hint=str(error))
    if submission.unreadable and submission.missing(task.number):
        number, why = [*submission.unreadable.items()][-1]
        result.hint += f" Cell {number} does not count: {why}."
    return result


@cache
def _lesson(folder: Path, kit: Path | None) -> Lesson:
    """kit: a file with what the solution gave, which is made where it is not there."""
    lesson = Lesson(folder)
    if kit is not None and lesson.kit is None:
        with suppress(MiniloraError):  # the solution itself failed: it is asked each time
            if not kit.is_file() or not read_kit(kit).is_as_made:
                write_atomic(kit, checks_of(lesson))
            replay = read_kit(kit).recording
            vars(lesson)["reference"] = Reference(lesson.source.text, lesson.driver, replay=replay)
    return lesson


@cache
def _sandbox() -> Sandbox:
    """One for all files of a process."""
    sandbox = Sandbox()
    util.Finalize(None, sandbox.close, exitpriority=10)
    return sandbox
