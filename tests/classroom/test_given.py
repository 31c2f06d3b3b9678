"""pytest tests/classroom/test_given.py: errors that follow from earlier ones are told apart."""

import json
from contextlib import nullcontext

import pytest

from minilora.classroom.grading.grade import FAILED, NOT_STARTED, PASSED, PASSED_GIVEN, grade, grade_all, job_of
from minilora.classroom.grading.nbcheck import judge
from minilora.classroom.grading.submission import Submission
from minilora.classroom.grading.text_report import numbered
from minilora.classroom.lessons.lesson import Lesson, all_lessons
from minilora.classroom.sandbox.in_process import InProcess
from minilora.classroom.sandbox.runner import Sandbox
from minilora.cli import main
from tests.helpers.answers import with_answers

pytestmark = pytest.mark.host

SOLUTION = '''
import numpy as np

UNIT = 2


def double(x: np.ndarray) -> np.ndarray:
    """UNIT times x."""
    ### BEGIN SOLUTION task 1: double it
    secret_name = UNIT
    return secret_name * x
    ### END SOLUTION


class Base:
    def __init__(self):
        self.offset = 1


class Shift(Base):
    """x plus a step, an offset and ONE."""

    ONE = 1

    def __init__(self, step):
        ### BEGIN SOLUTION task 2: remember the step
        super().__init__()
        self.__step = step + self.ONE
        ### END SOLUTION

    def apply(self, x):
        return x + self._Shift__step + self.offset


def twice(x):
    """double(double(x))"""
    ### BEGIN SOLUTION task 3: double it again
    return double(double(x))
    ### END SOLUTION


def both(x):
    ### BEGIN SOLUTION task 4: shift what is doubled twice
    return shifted(twice(x))
    ### END SOLUTION


def shifted(x):
    return Shift(3).apply(x)


def same(x):
    ### BEGIN SOLUTION task 5: the same as it was
    return x
    ### END SOLUTION
'''
CHECKS = """
from minilora.classroom import task

USES = ()


def check(number, name, result):
    return task(number, hints=("a", "b", "c"))(lambda student: getattr(student, name)(5.0).equals(result))


doubling = check(1, "double", 10.0)


@task(2, hints=("a", "b", "c"))
def shifting(student):
    student.driver.shift(5.0).equals(10.0)


again, together = check(3, "twice", 20.0), check(4, "both", 25.0)


@task(5, hints=("a", "b", "c"))
def staying(student):
    student.driver.same_of_double(5.0).equals(10.0)
"""
DRIVER = """
def shift(student, x): return student.Shift(3).apply(x)
def same_of_double(student, x): return student.same(student.double(x))
"""
HALF, NO_STEP = "return x / 2", "self.offset = 1\nself._Shift__step = 0"


@pytest.fixture(scope="module", params=[Sandbox, InProcess])
def sandbox(request):
    with request.param() as sandbox:
        yield sandbox


@pytest.fixture
def lesson(tmp_path):
    folder = tmp_path / "lessons" / "03_toy"
    folder.mkdir(parents=True)
    for name, text in (("solution", SOLUTION), ("checks", CHECKS), ("driver", DRIVER)):
        (folder / f"{name}.py").write_text(text)
    return Lesson(folder)


def submitted(lesson: Lesson, text: str = "", **answers) -> Submission:
    path = lesson.folder.parent / "answer.py"
    path.write_text(
        with_answers(lesson.source, {name.replace("__init", ".__init"): a for name, a in answers.items()}) + text
    )
    return Submission(path, lesson)


def verdicts(results) -> list:
    return [result.given or result.verdict for result in results]


def test_a_task_is_right_given_what_it_builds_on(lesson, sandbox):
    wrong = submitted(lesson, double=HALF)
    results = grade_all(lesson, wrong, sandbox)
    assert verdicts(results) == [FAILED, PASSED, (1,), (1,), (1,)]
    assert results[2].to_dict() == {"task": 3, "title": "double it again", "verdict": PASSED_GIVEN, "given": (1,)}
    assert [r.verdict for r in grade(lesson, wrong, sandbox)] == [FAILED, PASSED, FAILED, FAILED, FAILED]
    # one alone: what it builds on is looked at then; methods with super(), private names and class attributes
    results = grade_all(lesson, submitted(lesson, double=HALF, Shift__init__=NO_STEP), sandbox, only=4)
    assert verdicts(results) == [(1, 2)]


def test_what_is_wrong_of_its_own_stays_wrong(lesson, sandbox):
    results = grade_all(lesson, submitted(lesson, double=HALF, both="return double(x)"), sandbox)
    assert verdicts(results) == [FAILED, PASSED, (1,), FAILED, (1,)]
    assert results[3].got == "2.5"
    # and where nothing that it builds on is wrong, nothing is tried
    results = grade_all(lesson, submitted(lesson, both="return double(x)", same="return 0"), sandbox)
    assert verdicts(results) == [PASSED, PASSED, PASSED, FAILED, FAILED]


def test_a_task_before_it_may_be_blank_or_missing_but_not_itself(lesson, sandbox, monkeypatch):
    gap = f"raise NotImplementedError({lesson.source.stub(lesson.source.gaps[0])!r})"
    blank = submitted(lesson, double=gap)
    assert verdicts(grade_all(lesson, blank, sandbox)) == [NOT_STARTED, PASSED, (1,), (1,), (1,)]
    blank.path.write_text(blank.source.replace("def double(", "def other("))
    missing = Submission(blank.path, lesson)
    assert verdicts(grade_all(lesson, missing, sandbox)) == [NOT_STARTED, PASSED, (1,), (1,), (1,)]
    blank.path.write_text(lesson.source.exercise())
    starts, start = [], sandbox.start
    monkeypatch.setattr(sandbox, "start", lambda job: starts.append(job) or start(job))
    assert verdicts(grade_all(lesson, Submission(blank.path, lesson), sandbox)) == [NOT_STARTED] * 5
    assert len(starts) == 5


def test_the_students_text_does_not_read_the_solution(lesson):
    spy = """
import gc, sys
frame, seen = sys._getframe(), []
while frame is not None:
    seen.append(repr(dict(frame.f_locals)))
    frame = frame.f_back
print("secret" + "_name" in " ".join(seen) or any("secret" + "_name" in x for x in gc.get_objects() if type(x) is str))
"""
    submission = submitted(lesson, spy, double=HALF)
    with Sandbox() as sandbox, sandbox.start(job_of(lesson, submission, given=lesson.source.parts(1))) as session:
        assert session.call("double", 5.0) == 10.0
    assert session.printed == b"False\n"


def test_a_part_that_does_not_go_with_the_file_gives_nothing(lesson, sandbox):
    changed = submitted(lesson, double=HALF)
    changed.path.write_text(changed.source.replace("UNIT", "STEP"))
    assert verdicts(grade_all(lesson, Submission(changed.path, lesson), sandbox))[2:] == [FAILED] * 3


def test_the_report_counts_it_apart(lesson, sandbox, capsys, monkeypatch):
    monkeypatch.setattr("minilora.classroom.lessons.lesson.lessons_folder", lambda: lesson.folder.parent)
    monkeypatch.setattr("minilora.commands.check.sandbox_here", lambda: nullcontext(sandbox))
    (lesson.folder / "README.md").write_text("*5 minutes · easy · needs nothing*\n\n# 03 A toy\n", "utf-8")
    path = submitted(lesson, double=HALF).path
    (lesson.folder / "exercise.py").write_text(path.read_text())
    assert main(["check", "03"]) == 1
    out = capsys.readouterr().out
    assert "A toy: passed 1 of 5, 3 more right given task 1: task 1 failed\n" in out
    assert "\ntask 3   right, given task 1: double it again\ntask 4 " in out
    main(["check", "03", "--task", "3", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert (facts["passed"], facts["passed_given"], facts["of"], facts["tasks"][0]["given"]) == (0, 1, 1, [1])
    main(["check"])
    assert "passed 1 of 5: task 1 failed" in capsys.readouterr().out
    result, report = judge(lesson, lesson.tasks[2], [(1, path.read_text())], sandbox)
    assert result.given == (1,) and report.startswith("task 3   right, given task 1: double it again\n")
    assert numbered((1, 2, 4)) == "tasks 1, 2 and 4"


@pytest.mark.slow
@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda lesson: lesson.name)
def test_in_no_lesson_a_wrong_task_costs_another(lesson, tmp_path):
    """Here the second one, on which others build in most lessons."""
    path = tmp_path / "answer.py"
    wrong = {gap.where: "raise ValueError('mine')" for gap in lesson.source.gaps if gap.task == 2}
    path.write_text(with_answers(lesson.source, wrong), encoding="utf-8")
    with Sandbox() as sandbox:
        results = grade_all(lesson, Submission(path, lesson), sandbox)
    assert [r.task for r in results if r.verdict in (FAILED, NOT_STARTED)] == [2]
    assert all(r.given in ((), (2,)) for r in results)
