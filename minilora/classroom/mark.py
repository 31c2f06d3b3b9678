"""`minilora course --mark`: marks of exercises that were handed in as .py files, in one CSV.

    submitted/ada/08_lora/exercise.py     ada's answer to lesson 08; also ada/08_lora.py, ada/08.py, or deeper down
    submitted/ada.py                      with a single lesson

Each student's code runs in a sandbox of its own (`sandbox/isolated.py`). Notebooks are nbgrader's: see `course.py`.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from minilora.classroom.course import POINTS
from minilora.classroom.grading.grade import PASSED, Result, grade
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.sandbox.isolated import Isolated, bubblewrap
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic
from minilora.train.progress import progress_bar


def write_marks(folder: Path, lessons: list[Lesson], out: Path) -> int:
    """Grade what lies in a folder and write the table; return how many students it has. Raises MiniloraError.

    A row has the student, the points of each lesson, empty if nothing was handed in, their sum, and notes.
    """
    if out.exists():
        raise MiniloraError(f"--out {escape(str(out))} exists; choose another name")
    students = find_answers(folder, lessons)
    bubblewrap()
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(
        ["student", *(f"{one.name} (of {POINTS * len(one.source.titles)})" for one in lessons), "sum", "notes"]
    )
    with progress_bar("mark", len(students), unit="students") as advance:
        for student, answers in students.items():
            marks = {lesson.name: mark(path, lesson) for lesson in lessons if (path := answers.get(lesson.name))}
            points = [f"{marks[one.name][0]:g}" if one.name in marks else "" for one in lessons]
            notes = [f"{name}: {note}" for name, (_, note) in marks.items() if note]
            total = sum(gained for gained, _ in marks.values())
            rows.writerow([plain(student), *points, f"{total:g}", plain("; ".join(notes))])
            advance()
    write_atomic(out, table.getvalue())
    return len(students)


def find_answers(folder: Path, lessons: list[Lesson]) -> dict[str, dict[str, Path]]:
    """Return {student: {lesson: file}}. Raises MiniloraError if there is none, or a student has two for a lesson."""
    top = folder.resolve()
    students: dict[str, dict[str, Path]] = {}
    for path in sorted(top.rglob("*.py")):
        student, *inside = path.relative_to(top).parts
        if any(part.startswith(".") for part in (student, *inside)):
            continue
        students.setdefault(student if inside else path.stem, {})
        for lesson in lessons_of(path, lessons, is_alone=not inside and len(lessons) == 1):
            answers = students[student if inside else path.stem]
            if lesson.name in answers:
                both = " and ".join(str(one.relative_to(top)) for one in (answers[lesson.name], path))
                raise MiniloraError(f"two answers of one student to lesson {lesson.number:02}: {escape(both, 200)}")
            answers[lesson.name] = path
    if not any(students.values()):
        raise MiniloraError(
            f"no exercises in {escape(str(folder))}: each student has a folder there, with {lessons[0].name}.py in it"
        )
    return students


def lessons_of(path: Path, lessons: list[Lesson], is_alone: bool) -> Iterator[Lesson]:
    """Yield the lesson that a file is an answer to, by its name or by that of its folder."""
    word = path.parent.name if path.stem == "exercise" else path.stem
    yield from (lesson for lesson in lessons if is_alone or word in (lesson.name, lesson.name[:2]))


def mark(path: Path, lesson: Lesson) -> tuple[float, str]:
    """Return the points of a file, and what is to be said of it. Whatever the file is, it raises nothing."""
    if path.resolve() != path:
        return 0, "it is a link, or lies in one"
    try:
        with Isolated() as sandbox:
            results = grade(lesson, Submission(path, lesson), sandbox)
    except (MiniloraError, OSError) as error:
        return 0, str(error)
    except Exception as error:  # noqa: BLE001 (of a check; the note says so, and the class goes on)
        return 0, f"the checks came to no verdict ({type(error).__name__}: {escape(str(error))}); grade it by hand"
    points = sum(POINTS for result in results if result.verdict == PASSED)
    return points, "; ".join(note(result) for result in results if result.verdict != PASSED)


def note(result: Result) -> str:
    """Say of a task that is not passed what its report says."""
    return f"task {result.task} {result.verdict} {result.got[:80]} {result.hint}".rstrip()


def plain(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, in one line."""
    text = escape(" ".join(text.split()), 10_000)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
