"""A course of one lesson through nbgrader, from the release to the grades."""

import hashlib
import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from minilora.classroom.course import POINTS, parts_of, write_course
from minilora.classroom.lessons.lesson import Lesson
from tests.helpers.answers import with_answers

ROOT = Path(__file__).parents[2]
FOLDERS = ("source", "release", "submitted")
SECONDS = 5  # of a task, in place of ten
SCORES = """
import json
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    print(json.dumps({
        f"{submission.assignment.name} {submission.student.id}": {
            grade.name: None if grade.needs_manual_grade else grade.score for grade in notebook.grades
        }
        for assignment in book.assignments
        for submission in assignment.submissions
        for notebook in submission.notebooks
    }))
"""


class Course(NamedTuple):
    folders: dict[str, Path]  # of a lesson's name: its course, with one assignment
    scores: dict[str, dict[str, float]]  # "08_lora right" -> {"task-1": 10, ...}; None: left for a person
    changed: set[Path]  # by the grading, of what a course has before it

    def of(self, lesson: Lesson, student) -> dict[str, float]:
        return self.scores[f"{lesson.name} {student.__name__}"]

    def page(self, lesson: Lesson, student) -> str:
        """Return the page that the student gets, as HTML."""
        path = self.folders[lesson.name] / "feedback" / student.__name__ / lesson.name / f"{lesson.name}.html"
        return path.read_text("utf-8")

    def feedback(self, lesson: Lesson, student) -> str:
        """Return the text of a student's feedback."""
        return " ".join(html.unescape(re.sub(r"<[^>]+>", "", self.page(lesson, student))).split())


def environment_in(home: Path) -> dict[str, str]:
    """Return the environment for nbgrader's commands, without anything of the user's own."""
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    environment |= {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    tools = str(Path(sys.executable).parent)  # nbgrader starts alembic by its name
    return environment | {"PATH": os.pathsep.join([tools, environment["PATH"]])}


def run(folder: Path, environment: dict[str, str], *words: str) -> str:
    """Run Python with these arguments in a course's folder, and return its output."""
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hand_in(folder: Path, lesson: Lesson, students: tuple, environment: dict[str, str]) -> None:
    """Write and release a course of one lesson; each student changes a copy of the notebook and hands it in.

    A student may return what is handed in instead: bytes, or the Path that a link leads to. COURSE in it is the folder.
    """
    write_course(folder, [lesson])
    run(folder, environment, "-m", "nbgrader", "generate_assignment", lesson.name)
    released = (folder / "release" / lesson.name / f"{lesson.name}.ipynb").read_text("utf-8")
    for student in students:
        target = folder / "submitted" / student.__name__ / lesson.name
        target.mkdir(parents=True)
        notebook = json.loads(released)
        submitted = student(notebook, lesson)
        if isinstance(submitted, Path):
            (target / f"{lesson.name}.ipynb").symlink_to(submitted)
        else:
            text = json.dumps(notebook).encode() if submitted is None else submitted
            (target / f"{lesson.name}.ipynb").write_bytes(text.replace(b"COURSE", bytes(folder)))


def digests(folder: Path) -> dict[Path, str]:
    """Return {path: sha256} of the files of a course before grading, without the gradebook."""
    by_path = {}
    for path in [*folder.glob("*.py"), *(p for name in FOLDERS for p in (folder / name).rglob("*"))]:
        text = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        by_path[path] = hashlib.sha256(text).hexdigest()
    return by_path


def grade(folder: Path, lesson: Lesson, environment: dict[str, str]) -> dict[str, dict[str, float]]:
    """Grade what was handed in, and return the scores."""
    run(folder, environment, "-m", "nbgrader", "autograde", lesson.name, f"--GradeByText.seconds={SECONDS}")
    run(folder, environment, "-m", "nbgrader", "generate_feedback", lesson.name)
    run(folder, environment, "-m", "nbgrader", "export", "--to", "grades.csv")
    return json.loads(run(folder, environment, "-c", SCORES))


def full_marks(lesson: Lesson) -> dict[str, float]:
    """Return the points of the tasks, without those of the open questions, which few of these students answer."""
    return {f"task-{task}": POINTS for task in lesson.source.titles} | {"words-1": 0, "words-2": 0}


def fill(notebook: dict, lesson: Lesson, answers: dict[str, str] | None = None) -> None:
    """Put the solution into a released notebook as a student would, with `answers` replacing parts of it."""
    parts = parts_of(with_answers(lesson.source, answers or {}).splitlines())
    for cell in notebook["cells"]:
        name = cell["metadata"]["nbgrader"]["grade_id"]
        if name.startswith("answer-"):
            cell["source"] = parts[int(name[-2:])][2]


def cell_of(notebook: dict, task: int) -> int:
    """Return the index of the answer cell just before a task's test."""
    names = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in notebook["cells"]]
    return names.index(f"task-{task}") - 1


def code(text: str, **marks: object) -> dict:
    """Make a cell as a student writes it."""
    metadata = {"nbgrader": marks} if marks else {}
    return {"cell_type": "code", "metadata": metadata, "source": text, "outputs": [], "execution_count": None}
