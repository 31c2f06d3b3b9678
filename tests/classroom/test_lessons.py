"""pytest tests/classroom/test_lessons.py

The grader is graded: every lesson's checks are tried on blank exercises, on the solution, on wrong answers (which must
fail with the hint they deserve), on answers that break a side condition (which pass with a remark) and on odd but right
ones.
"""

import doctest
import re
import time
from collections import Counter

import pytest

from lessons.build import build, exercise_of, filled
from minilora.classroom.grading.grade import FAILED, NOT_STARTED, PASSED, grade
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.lesson import all_lessons
from tests.helpers import bank
from tests.helpers.answers import solution_lines, with_answers

pytestmark = pytest.mark.host

LESSONS = all_lessons()
FILES = {"README.md", "solution.py", "exercise.py", "checks.py", "teaching.md"}
HEAD = re.compile(r"\*\d+ minutes · (easy|medium|hard) · needs .+\*")


def task_of(lesson, answer) -> int:
    return next(gap.task for gap in lesson.source.gaps if gap.where == answer.where)


def each(answers_of) -> list:
    """Return a test parameter for each answer to every lesson; the first one per task is in the quick tier."""
    parameters, seen = [], set()
    for lesson in LESSONS:
        for answer in answers_of(lesson):
            task = lesson.number, task_of(lesson, answer)
            marks = [pytest.mark.slow] if task in seen else []
            seen.add(task)
            name = f"{lesson.name[:2]}-{answer.where}-{answer.name}".replace(" ", "_")
            parameters.append(pytest.param(lesson, answer, id=name, marks=marks))
    return parameters


every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


def results_of(lesson, text, sandbox, folder, only=None):
    path = folder / "answer.py"
    path.write_text(text, encoding="utf-8")
    return grade(lesson, Submission(path, lesson), sandbox, only)


@every_lesson
def test_a_blank_exercise_is_not_started(lesson, sandbox, tmp_path):
    results = results_of(lesson, exercise_of(lesson.source), sandbox, tmp_path)
    assert {result.verdict for result in results} == {NOT_STARTED}


@every_lesson
def test_the_solution_passes_within_ten_seconds_of_processor_time(lesson, sandbox, tmp_path):
    before = time.process_time() + sandbox.used
    results = results_of(lesson, lesson.source.text, sandbox, tmp_path)
    assert {(result.verdict, *result.remarks) for result in results} == {(PASSED,)}, results
    assert time.process_time() + sandbox.used - before < 10  # not a timing: what a student may be asked to wait


ODD = ("np.array([np.inf])", "float('nan')", "10**400", "[[10**15], {'a': np.zeros((0, 3))}]", "'text'")


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD)
@every_lesson
def test_whatever_a_function_returns_is_judged(lesson, odd, sandbox, tmp_path):
    text = filled(
        lesson.source, lambda gap: [gap.indent + ("pass" if gap.where.endswith("__init__") else f"return {odd}")]
    )
    results = results_of(lesson, text, sandbox, tmp_path)
    assert {result.verdict for result in results} == {FAILED}
    assert all(result.hint for result in results)


@every_lesson
def test_a_lesson_is_whole(lesson):
    files = {path.name for path in lesson.folder.iterdir() if path.suffix in (".py", ".md")}
    optional = {"driver.py", "pictures.py", "play.py", "live.py"}
    optional |= {*lesson.readings, *(path.name for path in lesson.beside)}
    assert files - optional | {"README.md"} == FILES
    source, numbers = lesson.source, [task.number for task in lesson.tasks]
    assert numbers == sorted(source.titles) == list(range(1, max(numbers) + 1))
    markers = re.findall("### (BEGIN|END) SOLUTION", source.text)
    assert markers == ["BEGIN", "END"] * len(source.gaps)
    assert {(gap.task, gap.title) for gap in source.gaps} == set(source.titles.items())
    count = Counter(task_of(lesson, mistake) for mistake in bank.wrong(lesson))
    assert all(count[task.number] >= 5 for task in lesson.tasks), f"mistakes a task: {dict(count)}"
    assert {task_of(lesson, right) for right in bank.right(lesson)} == {task.number for task in lesson.tasks}
    reading = (lesson.folder / "README.md").read_text(encoding="utf-8")
    assert HEAD.fullmatch(reading.splitlines()[0]), "first line: *45 minutes · medium · needs lessons 02 and 06*"
    assert f"\n# {lesson.number:02} " in reading


@pytest.mark.parametrize("lesson, wrong", each(bank.wrong))
def test_a_wrong_answer_fails_with_its_hint(lesson, wrong, sandbox, tmp_path):
    text = with_answers(lesson.source, wrong.codes)
    (result,) = results_of(lesson, text, sandbox, tmp_path, task_of(lesson, wrong))
    assert result.verdict == FAILED
    assert wrong.hint in result.hint, result


@pytest.mark.parametrize("lesson, remarked", each(bank.remarked))
def test_an_answer_that_breaks_a_fine_clause_passes_with_a_remark(lesson, remarked, sandbox, tmp_path):
    text = with_answers(lesson.source, remarked.codes)
    (result,) = results_of(lesson, text, sandbox, tmp_path, task_of(lesson, remarked))
    assert result.verdict == PASSED, result
    assert any(remarked.hint in remark for remark in result.remarks), result.remarks


@pytest.mark.slow
@pytest.mark.parametrize("lesson, right", each(bank.right))
def test_an_odd_but_right_answer_passes(lesson, right, sandbox, tmp_path):
    results = results_of(lesson, with_answers(lesson.source, right.codes), sandbox, tmp_path)
    assert {(result.verdict, *result.remarks) for result in results} == {(PASSED,)}, results


def test_exercises_are_in_step_with_solutions():
    assert build(check=True) == [], "run python -m lessons.build"


@every_lesson
def test_no_line_of_a_solution_is_given_away(lesson):
    pages = [path for path in lesson.readings.values() if path.suffix == ".md"]
    shown = "".join(path.read_text("utf-8") for path in (lesson.exercise, *pages))
    lines = {line.strip() for line in shown.splitlines()}
    assert not solution_lines(lesson.source) & lines
    driver = {line.strip() for line in lesson.modules.get("driver", "").splitlines()}
    assert not solution_lines(lesson.source) & driver


@pytest.mark.slow
@every_lesson
def test_the_numbers_in_the_reading_are_computed(lesson, monkeypatch):
    monkeypatch.syspath_prepend(str(lesson.folder))
    pages = [path for path in lesson.readings.values() if path.suffix == ".md"]
    results = [doctest.testfile(str(path), module_relative=False, encoding="utf-8") for path in pages]
    assert all(tried and not failures for failures, tried in results)
