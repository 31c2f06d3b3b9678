"""Marks as files: a table, Gradescope's results.json, and what Moodle and Canvas import.

marks.csv            student × lesson
moodle.csv           Grades, Import, CSV file: the roster's columns by which Moodle knows a user, and one for each
                     lesson (docs.moodle.org, "Grade import")
canvas.csv           Grades, Import: Canvas's own columns, and an assignment for each lesson ("How do I import
                     grades in the Gradebook?"); one that the roster has by the lesson's name keeps its number
results/ada.json     https://gradescope-autograders.readthedocs.io/en/latest/specs/
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from minilora.classroom.grading.text_report import task_report
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.publish.course import POINTS
from minilora.classroom.teaching.collecting import HandedIn
from minilora.classroom.teaching.marking import Marks, points_for
from minilora.classroom.teaching.rosters import Roster, Student
from minilora.formats.atomic import make_folder, to_json, write_atomic

RESULTS = "results"
MOODLE = "identifier, full name, first name, last name, surname, username, id number, email address, email".split(", ")
CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


def write_tables(out: Path, handed_in: HandedIn, marks: Marks, roster: Roster | None) -> None:
    """All of them."""
    write_csv(out / "marks.csv", _marks_table(handed_in, marks), for_people=True)
    known = [student for student in handed_in.students if student not in handed_in.unknown]
    write_csv(out / "moodle.csv", _moodle(known, marks, roster))
    write_csv(out / "canvas.csv", _canvas(known, marks, roster))
    make_folder(out / RESULTS)
    for student in handed_in.students:
        name = "".join(c if c.isalnum() or c in "-_. @" else "_" for c in student.key).lstrip(".")
        write_atomic(out / RESULTS / f"{name}.json", to_json(gradescope(student, marks)))


def write_csv(path: Path, rows: Iterable[Sequence[object]], for_people: bool = False) -> None:
    """for_people: no cell begins as a spreadsheet's formula does, and Excel is told of the encoding."""
    file = io.StringIO(newline="")
    for row in rows:
        cells = [str(cell) for cell in row]
        if for_people:
            cells = [f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in cells]
        csv.writer(file, lineterminator="\n").writerow(cells)
    write_atomic(path, file.getvalue().encode("utf-8-sig" if for_people else "utf-8", "replace"))


def _marks_table(handed_in: HandedIn, marks: Marks) -> Iterable[Sequence[object]]:
    most = {lesson.name: marks.most(lesson) for lesson in marks.lessons}
    yield ["student", "name", *(f"{x} of {n}" for x, n in most.items()), f"of {sum(most.values())}", "note"]
    for student in handed_in.students:
        notes = ["not in the roster"] if student in handed_in.unknown else []
        notes += [f"{name}: {why}" for name in most if (why := marks.reason(student, name))]
        yield [student.key, student.name, *_points(student, marks), marks.total(student), "; ".join(notes)]


def _points(student: Student, marks: Marks) -> list[object]:
    """Of each lesson; empty where nothing was handed in."""
    found = [marks.of.get((student.key, lesson.name)) for lesson in marks.lessons]
    return ["" if mark is None else mark.points for mark in found]


def _moodle(students: list[Student], marks: Marks, roster: Roster | None) -> Iterable[Sequence[object]]:
    columns = [column for column in (roster.columns if roster else []) if column.lower() in MOODLE]
    yield [*(columns or ["Username"]), *(lesson.name for lesson in marks.lessons)]
    for student in students:
        yield [*([student.row[c.lower()] for c in columns] or [student.key]), *_points(student, marks)]


def _canvas(students: list[Student], marks: Marks, roster: Roster | None) -> Iterable[Sequence[object]]:
    columns = roster.columns if roster else []
    is_canvas = "ID" in columns and any(column in columns for column in CANVAS[2:4])

    def header(lesson: Lesson) -> str:
        return next((c for c in columns if is_canvas and lesson.name in c.lower().replace(" ", "_")), lesson.name)

    yield [*CANVAS, *map(header, marks.lessons)]
    yield ["    Points Possible", "", "", "", "", *map(marks.most, marks.lessons)]
    for student in students:
        if is_canvas:
            who = [student.row.get("student name" if c == "Student" else c.lower(), "") for c in CANVAS]
        else:
            who = [student.name, "", "", student.key, ""]
        yield [*who, *_points(student, marks)]


def gradescope(student: Student, marks: Marks) -> dict:
    """results.json of a student."""
    tests: list[dict] = []
    notes = []
    for lesson in marks.lessons:
        mark = marks.of.get((student.key, lesson.name))
        results = {result.task: result for result in mark.results} if mark else {}
        why = marks.reason(student, lesson.name) or ("" if mark else "nothing was handed in")
        notes += [f"{lesson.name}: {why}"] if why else []
        for number, title in lesson.source.titles.items():
            result = results.get(number)
            score = points_for(result) if result else 0
            tests.append(
                {
                    "number": f"{lesson.number}.{number}",
                    "name": f"{lesson.name}, task {number}: {title}",
                    "score": score,
                    "max_score": POINTS,
                    "status": "passed" if score == POINTS else "failed",
                    "output": task_report(result, mark.held) if result and mark else f"not graded: {why}",
                    "output_format": "text",
                    "visibility": "visible",
                }
            )
    return {"score": marks.total(student), "output": "\n".join(notes), "output_format": "text", "tests": tests}
