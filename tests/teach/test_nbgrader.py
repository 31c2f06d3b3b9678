"""pytest tests/teach: a course through nbgrader, from the release to the grades. Needs the teach extra.

Each lesson is an assignment that several students hand in. A test looks at one student's points, task by task.
"""

import csv
import html
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from minilora.classroom.lessons.lesson import Lesson, all_lessons
from minilora.classroom.publish.course import POINTS, parts_of, write_course
from tests.helpers.answers import solution_lines, with_answers

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]
CELL_SECONDS = 25  # in place of the course's 30: one student's cell never ends
ENDLESS = "while True:\n    pass"
FREE_TASK = {"02_autograd": 5, "08_lora": 1}  # one that no other task needs; of other lessons, the last
PRIVATE = """
import numpy as np

from minilora.classroom import draw, task


@task(3, hints=("", "", ""))
def computing_with_another_rank(student):
    rng = np.random.default_rng(0)
    x, W, A, B = draw(rng, 2, 9), draw(rng, 8, 9), draw(rng, 7, 9), draw(rng, 8, 7)
    right, none = x @ W.T + 2 / 7 * (x @ A.T @ B.T), x @ W.T
    student.lora_forward(x, W, A, B, 2.0, 7).equals(right, instead={"Only for small ranks?": none})
"""
SCORES = """
import json
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    print(json.dumps({
        f"{submission.assignment.name} {submission.student.id}": {grade.name: grade.score for grade in notebook.grades}
        for assignment in book.assignments
        for submission in assignment.submissions
        for notebook in submission.notebooks
    }))
"""


def three_lessons() -> list[Lesson]:
    """08, 02 and the first of the others."""
    lessons = {lesson.name: lesson for lesson in all_lessons()}
    chosen = [lessons.pop("08_lora"), lessons.pop("02_autograd")]
    return chosen + list(lessons.values())[:1]


LESSONS = three_lessons()
every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


def free_task(lesson: Lesson) -> int:
    return FREE_TASK.get(lesson.name, max(lesson.source.titles))


def gap_of(lesson: Lesson, task: int) -> str:
    return next(gap.where for gap in lesson.source.gaps if gap.task == task)


def first(answers: list, lesson: Lesson, task: int):
    """The first answer to a task that leaves the other functions as they are."""
    where = {gap.where for gap in lesson.source.gaps if gap.task == task}
    return next(answer for answer in answers if answer.where in where and {name for name, _ in answer.also} <= where)


def fill(notebook: dict, lesson: Lesson, answers: dict[str, str]) -> None:
    """Put the solution into a released notebook, with `answers` in place of some of it, as a student would."""
    parts = parts_of(with_answers(lesson.source, answers).splitlines())
    for cell in notebook["cells"]:
        name = cell["metadata"]["nbgrader"]["grade_id"]
        if name.startswith("answer-"):
            cell["source"] = parts[int(name[-2:])][2]


def cell_of(notebook: dict, task: int) -> int:
    """The place of the answer just before a task's test."""
    return [cell["metadata"]["nbgrader"]["grade_id"] for cell in notebook["cells"]].index(f"task-{task}") - 1


# Students: each changes a copy of the released notebook. Those in ALL hand in every lesson, the others lesson 08.


def right(notebook, lesson):
    chosen = first(lesson.mistakes.RIGHT, lesson, free_task(lesson))
    fill(notebook, lesson, {chosen.where: chosen.code, **dict(chosen.also)})


def wrong(notebook, lesson):
    chosen = first(lesson.mistakes.MISTAKES, lesson, free_task(lesson))
    fill(notebook, lesson, {chosen.where: chosen.code, **dict(chosen.also)})


def blank(notebook, lesson):
    pass


def endless(notebook, lesson):
    fill(notebook, lesson, {gap_of(lesson, free_task(lesson)): ENDLESS})


def stuck(notebook, lesson):
    """The loop stands in the cell itself, above the answer."""
    fill(notebook, lesson, {})
    cell = notebook["cells"][cell_of(notebook, free_task(lesson))]
    cell["source"] = f"{ENDLESS}\n\n{cell['source']}"


def typing(notebook, lesson):
    """An answer is no Python."""
    fill(notebook, lesson, {})
    cell = notebook["cells"][cell_of(notebook, free_task(lesson))]
    cell["source"] = cell["source"].replace("):", ")", 1).replace("]:", "]", 1)


def forger(notebook, lesson):
    """No answer; one test says that all is well, the next is worth more, and the third is gone."""
    tests = [cell for cell in notebook["cells"] if cell["metadata"]["nbgrader"]["grade"]]
    tests[0]["source"] = "print('passed')"
    tests[1]["metadata"]["nbgrader"]["points"] = 1000
    notebook["cells"].remove(tests[2])


def crammer(notebook, lesson):
    """An answer is right for what the public check asks."""
    fill(notebook, lesson, {"lora_forward": "return x @ W.T + (r != 7) * alpha / r * (x @ A.T @ B.T)"})


ALL, ONLY_08 = (right, wrong, blank, endless), (stuck, typing, forger, crammer)


def students(lesson: Lesson) -> tuple:
    return ALL + ONLY_08 if lesson.name == "08_lora" else ALL


class Course(NamedTuple):
    folders: dict[str, Path]  # of a lesson's name: its course, with one assignment
    scores: dict[str, dict[str, float]]  # "08_lora right" -> {"task-1": 10, ...}

    def of(self, lesson: Lesson, student) -> dict[str, float]:
        return self.scores[f"{lesson.name} {student.__name__}"]

    def feedback(self, lesson: Lesson, student) -> str:
        """The text of the page that the student gets."""
        path = self.folders[lesson.name] / "feedback" / student.__name__ / lesson.name / f"{lesson.name}.html"
        return " ".join(html.unescape(re.sub(r"<[^>]+>", "", path.read_text("utf-8"))).split())


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    home = tmp_path_factory.mktemp("home")
    (home / "private").mkdir()
    (home / "private" / "08.py").write_text(PRIVATE)
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    environment |= {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    tools = str(Path(sys.executable).parent)  # nbgrader starts alembic by its name
    environment["PATH"] = os.pathsep.join([tools, environment["PATH"]])
    folders = {lesson.name: tmp_path_factory.mktemp("teacher") / "course" for lesson in LESSONS}
    with ThreadPoolExecutor(2) as pool:  # endless loops are mostly waited for
        found = pool.map(lambda lesson: life(folders[lesson.name], lesson, home / "private", environment), LESSONS)
        return Course(folders, {name: scores for part in found for name, scores in part.items()})


def life(folder: Path, lesson: Lesson, private: Path, environment: dict) -> dict[str, dict[str, float]]:
    """A course of one lesson from the release to the grades; returns the scores."""

    def run(*words: str) -> str:
        done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    write_course(folder, [lesson.name], private if lesson.name == "08_lora" else None)
    run("-m", "nbgrader", "generate_assignment", lesson.name)
    released = (folder / "release" / lesson.name / f"{lesson.name}.ipynb").read_text("utf-8")
    for student in students(lesson):
        target = folder / "submitted" / student.__name__ / lesson.name
        target.mkdir(parents=True)
        notebook = json.loads(released)
        student(notebook, lesson)
        (target / f"{lesson.name}.ipynb").write_text(json.dumps(notebook), "utf-8")
    run("-m", "nbgrader", "autograde", lesson.name, f"--Execute.timeout={CELL_SECONDS}")
    run("-m", "nbgrader", "generate_feedback", lesson.name)
    run("-m", "nbgrader", "export", "--to", "grades.csv")
    return json.loads(run("-c", SCORES))


def full_marks(lesson: Lesson) -> dict[str, float]:
    marks = {f"task-{task}": POINTS for task in lesson.source.titles}
    return marks | ({"task-3-hidden": POINTS} if lesson.name == "08_lora" else {})


@every_lesson
def test_nothing_is_given_away(course, lesson):
    for path in (course.folders[lesson.name] / "release" / lesson.name).iterdir():
        text = path.read_text("utf-8")
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        assert not solution_lines(lesson.source) & {line.strip() for line in text.splitlines()}
        assert "SOLUTION" not in text and "HIDDEN" not in text and "nbcheck.hidden" not in text


@every_lesson
def test_right_answers_get_all_points(course, lesson):
    assert course.of(lesson, right) == full_marks(lesson)


@every_lesson
def test_a_blank_page_gets_none(course, lesson):
    assert course.of(lesson, blank) == dict.fromkeys(full_marks(lesson), 0)
    assert "not started" in course.feedback(lesson, blank)


@every_lesson
def test_a_mistake_costs_its_task_and_is_named(course, lesson):
    assert course.of(lesson, wrong) == full_marks(lesson) | {f"task-{free_task(lesson)}": 0}
    hint = first(lesson.mistakes.MISTAKES, lesson, free_task(lesson)).hint
    assert hint in course.feedback(lesson, wrong)
    assert "most recent call last" not in course.feedback(lesson, wrong)


@every_lesson
def test_an_endless_loop_costs_its_task(course, lesson):
    assert course.of(lesson, endless) == full_marks(lesson) | {f"task-{free_task(lesson)}": 0}
    assert "still running after 10 s" in course.feedback(lesson, endless)


@pytest.mark.parametrize("student", [stuck, typing], ids=lambda student: student.__name__)
def test_a_cell_that_cannot_run_costs_its_task(course, student):
    lesson = LESSONS[0]
    assert course.of(lesson, student) == full_marks(lesson) | {f"task-{free_task(lesson)}": 0}


def test_the_tests_are_the_teachers(course):
    assert course.of(LESSONS[0], forger) == dict.fromkeys(full_marks(LESSONS[0]), 0)


def test_private_checks_count_and_stay_private(course):
    assert course.of(LESSONS[0], crammer) == full_marks(LESSONS[0]) | {"task-3-hidden": 0}
    feedback = course.feedback(LESSONS[0], crammer)
    assert "Only for small ranks?" in feedback and "computing_with_another_rank" not in feedback


@every_lesson
def test_the_exported_grades_are_the_sums(course, lesson):
    with open(course.folders[lesson.name] / "grades.csv", encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    for student in students(lesson):
        row = rows[student.__name__]
        assert float(row["score"]) == sum(course.of(lesson, student).values())
        assert float(row["max_score"]) == sum(full_marks(lesson).values())
