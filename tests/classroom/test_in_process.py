"""pytest tests/classroom/test_in_process.py

The checker without processes says what the one in the sandbox says, on every tenth answer of the bank.

Answers that never end are left out: nobody ends them here. So are those that go by chance: by id(self), since addresses
are used again, or by numbers drawn without a seed.
"""

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from minilora.classroom.grading.grade import Result, grade
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.lesson import all_lessons, find_lesson
from minilora.classroom.sandbox.in_process import InProcess, sandbox_here
from minilora.classroom.sandbox.runner import Job
from minilora.tensor import is_recording
from tests.helpers import bank
from tests.helpers.answers import with_answers
from tests.lite import like_pyodide

pytestmark = [pytest.mark.host, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PART = slice(3, None, 10)  # of a lesson's answers
ENDLESS = "Is there an endless loop?"
CHANCE = re.compile(r"id\(self\)|np\.random\.(?!default_rng\([^)])")


def both(lesson, answer, sandboxes, folder: Path) -> list[Result]:
    """Return the results of the task in each of the sandboxes."""
    path = folder / "answer.py"
    path.write_text(with_answers(lesson.source, answer.codes), encoding="utf-8")
    task = next(gap.task for gap in lesson.source.gaps if gap.where == answer.where)
    return [grade(lesson, Submission(path, lesson), sandbox, task)[0] for sandbox in sandboxes]


@pytest.fixture(autouse=True)
def quiet():
    """Catch warnings of a student's code, which are shown to the student, so that pytest does not raise them."""
    with warnings.catch_warnings(record=True):
        yield


@pytest.fixture(scope="module")
def local():
    with InProcess() as sandbox:
        yield sandbox


@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda lesson: lesson.name)
def test_verdicts_and_hints_are_those_of_the_sandbox(lesson, sandbox, local, tmp_path):
    answers = [a for a in bank.answers(lesson)[PART] if a.hint != ENDLESS and not CHANCE.search(str(a.codes))]
    pairs = [both(lesson, answer, (sandbox, local), tmp_path) for answer in answers]
    assert pairs and not [
        pair for pair in pairs if len({(result.verdict, result.hint, *result.remarks) for result in pair}) > 1
    ]


def job(body: str) -> Job:
    return Job("import numpy as np\n" + body, "answer.py")


def test_nothing_is_left_of_it(local, capsys):
    floats, filters = np.geterr(), warnings.filters[:]
    text = "np.seterr(all='ignore')\nprint(1)\ndef f(): return __import__('exercise').f is f\n"
    text += "def g(): print(2); np.seterr(all='raise'); warnings.simplefilter('error')\nimport warnings"
    with local.start(job(text)) as session, local.start(job("x = 1")):
        assert session.error is None and session.call("f") is True and session.call("g") is None
    assert (np.geterr(), warnings.filters) == (floats, filters) and "exercise" not in sys.modules
    assert capsys.readouterr().out == "" and session.printed == b"1\n2\n"


def test_windows_has_the_check_of_a_page(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert isinstance(sandbox_here(), InProcess)


def test_again_is_a_fresh_start(local):
    session = local.start(job("seen = []\ndef f(): seen.append(1); return len(seen), np.random.rand()"))
    first, second, again = session.call("f"), session.call("f"), session.again().call("f")
    assert first == again != second and second[0] == 2


def test_gradients_that_are_left_off_stay_off_in_the_session_alone(local):
    text = "from minilora.tensor import is_recording, no_grad\nkept = []\n"
    text += "def f(): kept.append(no_grad()); kept[0].__enter__()\ndef g(): return is_recording()"
    session = local.start(job(text))
    session.call("f")
    assert session.call("g") is False and is_recording() and session.again().call("g") is True


CELLS = """
from minilora.classroom.grading import nbcheck
nbcheck._cells[1] = 1, SOURCE
for task in (1, 3, 6):
    nbcheck.task("10", task)
"""


def test_a_notebook_in_a_page_checks_its_cells():
    code = f"SOURCE = {find_lesson('10').source.text!r}\n" + CELLS
    done = like_pyodide.run(code, ROOT)
    assert done.returncode == 0, done.stderr
    assert all(f"task {task}   passed" in done.stdout for task in (1, 3, 6))
