"""Who is in a class: a CSV file of one's own, or one that Moodle or Canvas exports.

student,name,email                                  of one's own: `student` is what a folder is called
Student,ID,SIS User ID,SIS Login ID,Section,…       Canvas: Grades, Export
Identifier,Full name,Email address,Status,…         Moodle: an assignment's grading worksheet
First name,Last name,ID number,Email address,…      Moodle: Grades, Export; or its list of participants
"""

import csv
import io
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from minilora.errors import MiniloraError, escape

# Columns by which a student is known: the first that a roster has, and that says something, names the student
KEYS = "student_, username, sis login id, id number, email address, email, id, identifier".split(", ")
NAMES = ("name", "full name", "student name")
PARTS = (("first name", "last name"), ("first name", "surname"))  # a full name in two columns
SIZE_LIMIT = 20_000_000  # bytes


@dataclass(frozen=True)
class Student:
    """key: names the student in tables and files; row: the roster's, by lower-case headers."""

    key: str
    name: str
    row: dict[str, str]

    @cached_property
    def aliases(self) -> set[str]:
        """What a folder may be called, in lower case."""
        known = {self.row.get(column, "") for column in KEYS} | {self.key, self.name}
        known |= {self.row.get("identifier", "").removeprefix("Participant "), self.row.get("sis user id", "")}
        return {alias.lower() for alias in known if alias}


@dataclass(frozen=True)
class Roster:
    """The students of a file, and its columns as they are spelled there. A class without one has no columns."""

    students: list[Student]
    columns: list[str]

    def find(self, *labels: str) -> Student | None:
        """Who is meant by the first of the labels that means one student."""
        for label in labels:
            found = [student for student in self.students if label and label.lower() in student.aliases]
            if len(found) == 1:
                return found[0]
        return None


def read_roster(path: Path) -> Roster:
    """Raises MiniloraError, with the line, for a file that is none, and where a student stands in it twice."""
    shown = f"--roster {escape(str(path))}"
    if not path.is_file():
        raise MiniloraError(f"{shown}: no such file")
    if path.stat().st_size > SIZE_LIMIT:
        raise MiniloraError(f"{shown} is {path.stat().st_size:,} bytes long, more than any class's")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        first = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise MiniloraError(f"{shown} is no CSV file in UTF-8: {escape(str(error))}") from error
    columns = rows[0][1] if rows else []
    students: dict[str, tuple[int, Student]] = {}
    for line, cells in rows[1:]:
        student = _student(dict(zip(_lower(columns), cells, strict=False)))
        if student is None:
            continue
        if not student.key:
            raise MiniloraError(
                f"{shown}, line {line}: no student; the first line must name a column student, name, Email address, "
                "ID number, Username or SIS Login ID"
            )
        if (key := student.key.lower()) in students:
            raise MiniloraError(
                f"{shown}, line {line}: {escape(student.key)} stands in line {students[key][0]} already; give each "
                "student a name, number or address of their own in the column student"
            )
        students[key] = line, student
    if not students:
        raise MiniloraError(f"{shown} has no students: a first line such as student,name and a line for each")
    return Roster([student for _, student in students.values()], columns)


def _lower(columns: list[str]) -> list[str]:
    """Headers as they are looked up. "Student" is Canvas's word for the name, and what a folder is called elsewhere."""
    names = [re.sub(r"\s+", " ", column.lower()) for column in columns]
    is_canvas = "sis login id" in names or "sis user id" in names
    return [{"student": "student name" if is_canvas else "student_"}.get(name, name) for name in names]


def _student(row: dict[str, str]) -> Student | None:
    """None for Canvas's rows that are no students."""
    if "student name" in row and row["student name"] in ("", "Points Possible"):
        return None
    name = next((row[column] for column in NAMES if row.get(column)), "")
    name = name or next((" ".join(row[c] for c in part) for part in PARTS if all(row.get(c) for c in part)), "")
    key = next((row[column] for column in KEYS if row.get(column)), name)
    return Student(key, name or key, row)
