"""pytest tests/teach: a course through nbgrader, from the release to the grades. Needs the teach extra.

Each lesson is an assignment that several students hand in. A test looks at one student's points, task by task.
"""

import csv
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from minilora.classroom.course import QUESTION_POINTS
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from tests.helpers import bank
from tests.helpers.answers import solution_lines
from tests.teach.hostile import (
    HOSTILE,
    SLEEP,
    exits,
    has_a_script,
    has_large_outputs,
    has_odd_text,
    is_a_link,
    is_no_notebook,
    never_ends,
    takes_all_memory,
    takes_all_memory_in_an_answer,
)
from tests.teach.life import SECONDS, Course, cell_of, digests, environment_in, fill, full_marks, grade, hand_in

pytestmark = pytest.mark.host

ENDLESS = "while True:\n    pass"
FREE_TASK = {"02_autograd": 5, "08_lora": 1}  # one that no other task needs

LESSONS = [find_lesson("08"), find_lesson("02")]
every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


def free_task(lesson: Lesson) -> int:
    return FREE_TASK[lesson.name]


def gap_of(lesson: Lesson, task: int) -> str:
    return next(gap.where for gap in lesson.source.gaps if gap.task == task)


def first(answers: list, lesson: Lesson, task: int):
    """Return the first wrong answer to a task that leaves the other functions unchanged."""
    where = {gap.where for gap in lesson.source.gaps if gap.task == task}
    return next(answer for answer in answers if answer.codes.keys() <= where)


# Students: each changes a copy of the released notebook. Those in ALL hand in every lesson, the others lesson 08.


def right(notebook, lesson):
    chosen = first(bank.right(lesson), lesson, free_task(lesson))
    fill(notebook, lesson, chosen.codes)
    (words,) = [cell for cell in notebook["cells"] if cell["metadata"]["nbgrader"]["grade_id"] == "words-1"]
    words["source"] = "Because each gradient contains the other matrix."


def wrong(notebook, lesson):
    chosen = first(bank.wrong(lesson), lesson, free_task(lesson))
    fill(notebook, lesson, chosen.codes)


def remarked(notebook, lesson):
    """Answer in a way that breaks only a side condition."""
    fill(notebook, lesson, first(bank.remarked(lesson), lesson, free_task(lesson)).codes)


def blank(notebook, lesson):
    pass


def endless(notebook, lesson):
    fill(notebook, lesson, {gap_of(lesson, free_task(lesson)): ENDLESS})


def stuck(notebook, lesson):
    """Put a loop into the cell itself, above the answer."""
    fill(notebook, lesson)
    cell = notebook["cells"][cell_of(notebook, free_task(lesson))]
    cell["source"] = f"{ENDLESS}\n\n{cell['source']}"


def typing(notebook, lesson):
    """Answer with text that is not Python."""
    fill(notebook, lesson)
    cell = notebook["cells"][cell_of(notebook, free_task(lesson))]
    cell["source"] = cell["source"].replace("):", ")", 1).replace("]:", "]", 1)


def forger(notebook, lesson):
    """Give no answer, but fake the tests: one claims success, the next is worth more, and the third is deleted."""
    tests = [cell for cell in notebook["cells"] if cell["metadata"]["nbgrader"]["grade"]]
    tests[0]["source"] = "print('passed')"
    tests[1]["metadata"]["nbgrader"]["points"] = 1000
    notebook["cells"].remove(tests[2])


ALL, ONLY_08 = (right, wrong, remarked, blank, endless), (stuck, typing, forger, *HOSTILE)


def students(lesson: Lesson) -> tuple:
    return ALL + ONLY_08 if lesson.name == "08_lora" else ALL


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    home = tmp_path_factory.mktemp("home")
    environment = environment_in(home)
    folders = {lesson.name: tmp_path_factory.mktemp("teacher") / "course" for lesson in LESSONS}

    changed = set()

    def scores_of(lesson: Lesson) -> dict[str, dict[str, float]]:
        folder = folders[lesson.name]
        hand_in(folder, lesson, students(lesson), environment)
        before = digests(folder)
        scores = grade(folder, lesson, environment)
        changed.update(path for path, _ in before.items() ^ digests(folder).items())
        return scores

    with ThreadPoolExecutor(2) as pool:  # endless loops are mostly waited for
        scores = {name: scores for part in pool.map(scores_of, LESSONS) for name, scores in part.items()}
    return Course(folders, scores, changed)


@every_lesson
def test_nothing_is_given_away(course, lesson):
    released = list((course.folders[lesson.name] / "release" / lesson.name).rglob("*.*"))
    assert {path.suffix for path in released} - {".png"} == {".ipynb", ".md", ".svg"}
    for path in released:
        text = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        assert not solution_lines(lesson.source) & {line.strip() for line in text.splitlines()}
        assert not re.search(r"\*\*2\*\*|SOLUTION", text)


@every_lesson
def test_right_answers_get_all_points_and_a_blank_page_none(course, lesson):
    assert course.of(lesson, right) == full_marks(lesson) | {"words-1": None}  # which is left for the teacher
    assert course.of(lesson, blank) == dict.fromkeys(full_marks(lesson), 0)
    assert "not started" in course.feedback(lesson, blank)


@every_lesson
def test_a_fine_clause_costs_a_remark_and_no_points(course, lesson):
    assert course.of(lesson, remarked) == full_marks(lesson)
    assert first(bank.remarked(lesson), lesson, free_task(lesson)).hint in course.feedback(lesson, remarked)


@every_lesson
def test_a_mistake_and_an_endless_loop_cost_their_task_and_are_named(course, lesson):
    hint = first(bank.wrong(lesson), lesson, free_task(lesson)).hint
    for student, says in ((wrong, hint), (endless, f"still running after {SECONDS} s")):
        assert course.of(lesson, student) == full_marks(lesson) | {f"task-{free_task(lesson)}": 0}
        assert says in course.feedback(lesson, student)
    assert "most recent call last" not in course.feedback(lesson, wrong)


def test_a_cell_that_cannot_run_costs_its_task_and_the_tests_are_the_teachers(course):
    lesson = LESSONS[0]
    for student in (stuck, typing):
        assert course.of(lesson, student) == full_marks(lesson) | {f"task-{free_task(lesson)}": 0}
    assert course.of(lesson, forger) == dict.fromkeys(full_marks(lesson), 0)


@every_lesson
def test_the_exported_grades_are_the_sums(course, lesson):
    with open(course.folders[lesson.name] / "grades.csv", encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    for student in students(lesson):
        row = rows[student.__name__]
        assert float(row["score"]) == sum(filter(None, course.of(lesson, student).values()))
        assert float(row["max_score"]) == sum(full_marks(lesson).values()) + 2 * QUESTION_POINTS


@pytest.mark.parametrize("student", HOSTILE, ids=lambda student: student.__name__)
def test_a_hostile_notebook_gets_its_honest_mark(course, student):
    passed = {name for name, score in course.of(LESSONS[0], student).items() if score}
    assert passed == {f"task-{task}" for task in HOSTILE[student]}


def test_nothing_is_changed_and_nothing_goes_on(course):
    assert course.changed == set()
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if str(SLEEP).encode() in line]


def test_what_is_wrong_is_said_on_the_page(course):
    says = partial(course.feedback, LESSONS[0])
    looped = f"still running after {round(SECONDS / 2)} s of processor time. Is there an endless loop?"
    assert f"This cell was left out: {looped}" in says(never_ends)
    assert "This cell was left out: the process ended before it gave an answer." in says(exits)
    for student in (takes_all_memory, takes_all_memory_in_an_answer):
        assert "Your code asked for more memory than an exercise may have." in says(student)
    assert "This notebook was not graded: 08_lora.ipynb is not UTF-8 text (byte 0)." in says(is_no_notebook)
    assert "This notebook was not graded: 08_lora.ipynb is a link, or in a linked folder." in says(is_a_link)
    assert "it is not Python: cell [4], line 1" in says(has_odd_text)


def test_without_bubblewrap_nothing_is_graded_and_a_line_says_so(course, tmp_path):
    lesson = LESSONS[1]
    environment = environment_in(tmp_path) | {"PATH": str(Path(sys.executable).parent)}
    grades = course.folders[lesson.name] / "autograded"
    before = {path: path.stat().st_mtime_ns for path in grades.rglob("*")}
    command = [sys.executable, "-m", "nbgrader", "autograde", lesson.name, "--force"]
    done = subprocess.run(command, cwd=grades.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "marks need bubblewrap, which is not installed: apt install bubblewrap" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in grades.rglob("*")}


def test_a_students_text_is_no_program_on_the_page(course):
    page = course.page(LESSONS[0], has_a_script)
    assert page.count("<a>link</a> <strong>bold</strong>") == 2
    assert "<script>fetch" not in page and 'src="x"' in page
    assert not re.search(r"<[^>]*(onerror|javascript:steal)", page)
    assert len(course.page(LESSONS[0], has_large_outputs)) < 10**6
