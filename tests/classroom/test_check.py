"""pytest tests/classroom/test_check.py"""

import json
import os
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from lessons.build import exercise_of
from minilora.classroom import raised, task
from minilora.classroom.grading.grade import grade
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons import checking
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from minilora.classroom.sandbox import runner
from minilora.classroom.sandbox.runner import Raised
from minilora.cli import main
from minilora.errors import FormatError, MiniloraError
from tests.helpers.answers import with_answers

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]
SOLUTION = '''
import numpy as np


def double(x: np.ndarray) -> np.ndarray:
    """Twice x."""
    ### BEGIN SOLUTION task 1: double it
    factor = 2
    return factor * x
    ### END SOLUTION


class Shift:
    """x plus a step."""

    def __init__(self, step: float, again: bool = False):
        ### BEGIN SOLUTION task 2: shift it
        self.step = step + step * again
        ### END SOLUTION

    def apply(self, x: np.ndarray) -> np.ndarray:
        ### BEGIN SOLUTION task 2: shift it
        return x + self.step
        ### END SOLUTION
'''
CHECKS = """
import numpy as np

from minilora.classroom import task

USES = ("minilora.Tensor", "minilora.functional.linear")


@task(1, hints=("vague", "plainer", "plain"))
def doubling(student):
    for x in (np.array([3.0]), np.array([1.0, -2.0])):
        student.double(x).equals(2 * x, instead={"That is the square.": x * x, "That is x.": x})


@task(2, hints=("vague two", "plainer two", "plain two"))
def shifting(student):
    student.driver.shifted(np.ones(2), 3.0).equals(np.full(2, 4.0))
"""
DRIVER = '''
def shifted(student, x, step):
    """Shift(step).apply(x)"""
    return student.Shift(step).apply(x)
'''


@pytest.fixture
def lesson(tmp_path, monkeypatch, sandbox):
    """Make a lesson of two tasks in a folder of lessons that `minilora check` finds."""
    folder = tmp_path / "lessons" / "03_toy"
    folder.mkdir(parents=True)
    (folder / "solution.py").write_text(SOLUTION)
    (folder / "checks.py").write_text(CHECKS)
    (folder / "driver.py").write_text(DRIVER)
    (folder / "README.md").write_text("*5 minutes · easy · needs nothing*\n\n# 03 A toy\n", "utf-8")
    (folder / "exercise.py").write_text(exercise_of(Lesson(folder).source))
    monkeypatch.setattr("minilora.classroom.lessons.lesson.lessons_folder", lambda: tmp_path / "lessons")
    monkeypatch.setattr("minilora.commands.check.sandbox_here", lambda: nullcontext(sandbox))  # one for all is faster
    return Lesson(folder)


SHIFT = """
    def __init__(self, s, again=False):
        self.s = s

    def apply(self, x):
        return x + self.s
"""


def answered(**answers) -> str:
    return "import numpy as np\n\n\ndef double(x):\n    {double}\n\n\nclass Shift:\n{shift}".format(
        double=answers.get("double", "return x + x"), shift=answers.get("shift", SHIFT)
    )


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["check", *map(str, arguments)])
    out, err = capsys.readouterr()
    width = int(os.environ.get("COLUMNS", 80))
    assert all(len(line) <= width for line in out.splitlines() if not line.startswith("{"))
    return code, out, err


def flat(text: str) -> str:
    """Return the text with its line breaks removed."""
    return " ".join(text.split())


def write(lesson, text: str, name: str = "answer.py") -> Path:
    path = lesson.folder.parent.parent / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("columns", [60, 80])
def test_blank_half_and_whole(lesson, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    half = with_answers(lesson.source, {"double": "return 2 * x"}).replace("x + self.step", "x")
    texts = {lesson.exercise.read_text(): "not started", half: "passed 1 of 2: task 2", answered(): "passed 2 of 2"}
    for text, says in texts.items():
        lesson.exercise.write_text(text)
        for words in (["toy"], []):  # one lesson; the progress over all
            code, out, _ = run(capsys, *words)
            assert code == ("of 2: " in says or says == "not started") and "A toy" in out and says in out
        assert out.endswith("all passed\n" if "2 of 2" in says else "next: minilora check 03\n")
    lesson.exercise.write_text("def")
    code, out, err = run(capsys)
    assert code == 2 and "cannot be read" in out and "exercise.py, line 1" in err


@pytest.mark.parametrize(
    "double, says",
    [
        ("print('hello'); return x * x", ["x = [3.]", "expected  [6.]", "got       [9.]", "hint      That is the squ"]),
        ("print(2 * x)", ["double(x)", "is a return missing?", "by all calls of the task: [6.]"]),
        ("return x.undouble()", ["AttributeError", "(line 5)"]),
        ("return a(x)\nfrom nothing_there import a", ["failed: ModuleNotFoundError: No module named 'noth"]),
    ],
    ids=["wrong", "no return", "exception", "import"],
)
def test_a_failure_shows_the_smallest_input_and_names_the_mistake(lesson, capsys, double, says):
    code, out, _ = run(capsys, "03", "--file", write(lesson, answered(double=double)))
    assert code == 1 and "x = [ 1. -2.]" not in out
    assert [text for text in says if text not in out and text not in flat(out)] == []


def test_what_is_printed_and_returned_cannot_disturb_the_page(lesson, capsys):
    double = r"print('y' * 500, '\x1b[2Jpassed\r\tall'); return ['\x1b[31m', np.ones((2, 2)), {1: 'z' * 5000}]"
    code, out, _ = run(capsys, "03", "--file", write(lesson, answered(double=double)))
    assert code == 1 and "\x1b" not in out and "\r" not in out and "[[1. 1.] [1. 1.]]" in flat(out)
    assert len(out) < 2000


def test_a_mask_is_shown_in_full_up_to_a_size():
    mask = np.tril(np.ones((2, 3, 5), dtype=bool))
    assert checking.show_value(mask) == str(mask)
    assert "an array of shape (4, 3, 5): 1" in checking.show_value(np.concatenate([mask, mask]))
    assert "an array of shape (2, 3, 5): 1" in checking.show_value(mask.astype(float))


@pytest.mark.parametrize(
    "top, says, line",
    [
        ("while True: pass", ("still running after 1 s of processor time", "Is there an endless loop?"), 7),
        ("kept = []\nwhile True:\n    kept.append(np.empty(10**8))", ("MemoryError", runner.TOO_MUCH_MEMORY), 9),
    ],
    ids=["loop", "memory"],
)
def test_what_the_top_of_the_file_takes_is_waited_for_once(lesson, sandbox, monkeypatch, top, says, line):
    text = answered().replace("\n\nclass", f"\n{top}\n\n\nclass")
    submission, starts, start = Submission(write(lesson, text), lesson), [], sandbox.start
    monkeypatch.setattr(sandbox, "start", lambda job: starts.append(job) or start(job, 1 if line == 7 else None))
    monkeypatch.setattr(sandbox, "patience", 60)
    results = grade(lesson, submission, sandbox)
    assert [(r.verdict, r.got, r.hint, r.place) for r in results] == [("failed", *says, f"line {line}")] * 2
    assert len(starts) == 1


def test_json_says_it_all(lesson, capsys):
    path = write(lesson, answered(double="return x"))
    code, out, _ = run(capsys, "03", "--file", path, "--json")
    facts = json.loads(out)
    assert code == 1 and (facts["lesson"], facts["passed"], facts["of"]) == ("03_toy", 1, 2)
    first, second = facts["tasks"]
    assert first["verdict"] == "failed" and first["hint"] == "That is x." and first["expected"] == "[6.]"
    assert second == {"task": 2, "title": "shift it", "verdict": "passed", "remarks": []}
    code, out, _ = run(capsys, "--json")
    assert [lesson["passed"] for lesson in json.loads(out)["lessons"]] == [0]


REMARKED = """
import numpy as np

from minilora.classroom import fine, search, task

USES = ()
WHOLE = fine("Right for floats, wrong for whole numbers.")


def numbers(d):
    return [d.fine(WHOLE, d.array(3), d.whole(3, below=9, least=3))]


@task(1, hints=("vague", "plainer", "plain"))
def doubling(student):
    search(student.double, numbers, dtypes=True)
    for x in (np.array([3.0]), np.array([300.0])):
        student.double(x).equals(2 * x, instead={fine("It stops at 500."): lambda got: got[0] == 500})


@task(2, hints=("vague two", "plainer two", "plain two"))
def shifting(student):
    student.driver.shifted(np.ones(2), 3.0).equals(np.full(2, 4.0), hint=fine("The sum is off."))
"""


@pytest.mark.parametrize(
    "double, verdict, remarks",
    [
        ("return 2 * x", "passed", []),
        ("return 2 * x * (x.dtype.kind == 'f')", "passed", ["Right for floats, wrong for whole numbers."]),
        ("return (2 * x).tolist()", "passed", ["It should be an array, not a list."]),
        ("x += 1; return 2 * x - 2", "failed", None),
        ("return 3 * x if x.dtype.kind == 'f' else 2 * x", "failed", None),
        ("return np.minimum(2 * x, 500) if len(x) == 1 else 2 * x", "passed", ["It stops at 500."]),
        ("y = np.minimum(2 * x, 500) if len(x) == 1 else 2 * x; return y + (x[0] == 3)", "failed", None),
        ("x = x.view(); x.shape = 3, -1; return 2 * x.ravel()", "failed", None),
    ],
)
def test_a_fine_clause_costs_a_remark_and_hides_no_mistake(lesson, capsys, double, verdict, remarks):
    (lesson.folder / "checks.py").write_text(REMARKED)
    path = write(lesson, answered(double=double))
    facts = json.loads(run(capsys, "03", "--file", path, "--json")[1])["tasks"][0]
    assert facts["verdict"] == verdict, facts
    shown = facts["remarks"]  # a list, if only an empty one
    assert shown == (remarks or []), shown
    _, out, _ = run(capsys, "03", "--file", path, "--task", 1)
    assert ("    remark    " in out) == bool(remarks) and all(remark in flat(out) for remark in shown)


def test_a_remark_is_no_failure(lesson, capsys):
    (lesson.folder / "checks.py").write_text(REMARKED)
    shift = SHIFT.replace("return x + self.s", "raise OSError")
    code, out, _ = run(capsys, "03", "--file", write(lesson, answered(shift=shift)))
    assert code == 0 and "passed 2 of 2" in out and "    remark    The sum is off." in out


def test_hints_come_in_three_steps(lesson, capsys, monkeypatch):
    steps = [run(capsys, "03", "--hint", *more)[1] for more in ([], ["2"], ["3"])]
    assert [re.findall("hint . +([a-z]+)", s) for s in steps] == [["vague", "plainer", "plain"][:n] for n in (1, 2, 3)]
    lesson.exercise.write_text(answered(shift="    def apply(self, x): return 1"))
    assert "vague two" in run(capsys, "03", "--hint")[1]
    assert "\nNext hint for task 1: minilora check 03 --hint 2\n" in steps[0]
    assert run(capsys, "03", "--hint", 4)[0] == 2
    monkeypatch.chdir(write(lesson, lesson.exercise.read_text(), "my answer.py").parent)
    command = "\nA hint for task 2: minilora check 03 --hint --file 'my answer.py'\n"
    assert command in run(capsys, "03", "--file", "my answer.py")[1]
    assert "--hint needs a lesson" in run(capsys, "--hint")[2] and "--task needs" in run(capsys, "--task", 2)[2]


def test_a_task_of_ones_choice_is_checked_alone_and_hinted_at(lesson, capsys):
    code, out, _ = run(capsys, "03", "--task", 2)
    assert code == 1 and "task 1" not in out and "A toy: task 2 not started" in out
    assert "\nA hint for task 2: minilora check 03 --task 2 --hint\n" in out
    _, out, _ = run(capsys, "03", "--hint", "--task", 2)
    assert "hint 1   vague two" in out and "Next hint for task 2: minilora check 03 --task 2 --hint 2" in out
    facts = json.loads(run(capsys, "03", "--task", 2, "--hint", 2, "--json")[1])
    assert facts["hints"] == {"task": 2, "texts": ["vague two", "plainer two"]} and facts["of"] == 1
    assert "hints" not in json.loads(run(capsys, "03", "--json")[1])
    lesson.exercise.write_text(answered())
    code, out, _ = run(capsys, "03", "--task", 2)
    assert code == 0 and "int for" not in out
    assert "hint 1   vague two" in run(capsys, "03", "--task", 2, "--hint")[1]
    code, out, err = run(capsys, "03", "--task", 3)
    assert (code, out, err) == (2, "", "minilora: --task 3: lesson 03 has only 2 tasks\n")


@pytest.mark.parametrize(
    "file, content, says",
    [
        ("nowhere.py", None, "cannot read .*nowhere.py: No such file"),
        ("folder.py", ..., "not a regular file"),
        ("answer.txt", b"x = 1", "neither a .py file nor a notebook"),
        ("answer.py", b"\xff\xfe\x00", "not UTF-8"),
        ("answer.py", b"x = '\0'", "answer.py.*null byte"),
        ("answer.py", b"import numpy\ndef double(x:\n    return 2", r"answer.py, line 2: .*: def double\(x:"),
        ("answer.py", b"def double(x):\n\tif x:\n        return 2", "answer.py, line 3"),
        ("answer.py", b"(" * 10_000, "answer.py"),
        ("answer.py", b"def halve(x): return x / 2", "none of double, Shift"),
        ("answer.ipynb", b'{"cells": []}', "it defines none of double, Shift"),
        ("answer.ipynb", b"{}", "cannot be read as a notebook"),
        ("answer.ipynb", b"[1]", "cannot be read as a notebook"),
    ],
)
def test_bad_input_is_one_line(lesson, capsys, file, content, says):
    path = lesson.folder.parent.parent / file
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    code, out, err = run(capsys, "03", "--file", path)
    assert (code, out) == (2, "") and err.count("\n") == 1 and re.search(says, err), err


def test_an_unknown_lesson_is_one_line(lesson, capsys):
    for word in ("4", "tpy", "x" * 500, "../03_toy/../.."):
        code, out, err = run(capsys, word)
        assert (code, out) == (2, "") and err.count("\n") == 1 and "03_toy" in err and len(err) < 200
    assert "did you mean 'toy'?" in run(capsys, "tpy")[2]


def test_where_no_lessons_are_it_says_where_to_get_them(tmp_path, monkeypatch):
    from minilora.classroom.lessons import lesson

    place = tmp_path / "site" / "minilora" / "classroom" / "lessons" / "lesson.py"
    monkeypatch.setattr(lesson, "__file__", str(place))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MiniloraError, match="repository"):
        lesson.lessons_folder()
    monkeypatch.chdir(ROOT / "lessons" / "08_lora")
    assert lesson.lessons_folder() == ROOT / "lessons"


def notebook(*cells) -> str:
    kinds = [{"cell_type": "code" if isinstance(c, str) else "markdown", "source": c} for c in cells]
    return json.dumps({"cells": kinds, "nbformat": 4})


def test_a_notebook_is_its_cells(lesson, capsys):
    head, tail = answered(double="return y * x * ok").split("\n\n\nclass")
    cells = [
        ["# words"],
        f"%matplotlib inline\n!ls\nfiles = !ls\ny = 2\n{head}",
        "%%bash\nls (",
        f"%%time\n%%capture out\nclass{tail}",
        'text = """\n! and\n"""\nok = ("!" in text and 7\n    % 3)  # 1',
        "double(undefined)",
        "double?",
    ]
    path = write(lesson, notebook(*cells), "answer.ipynb")
    assert run(capsys, "03", "--file", path)[0] == 0
    bad = notebook(["# words"], f"{head}\n", "x = 1\nclass Shift:\n    def apply(self, x): return 1 / 0\n")
    _, out, _ = run(capsys, "03", "--file", write(lesson, bad, "answer.ipynb"))
    assert "Shift() takes no arguments" in flat(out)
    wrong = notebook("a = 1", "b = 2\ndef double(x):\n    return 1 / 0")
    _, out, _ = run(capsys, "03", "--file", write(lesson, wrong, "answer.ipynb"))
    assert "(cell 2, line 3)" in out and "does not define Shift" in flat(out)
    code, _, err = run(capsys, "03", "--file", write(lesson, notebook("a = 1", "def double(x:"), "answer.ipynb"))
    assert code == 2 and "cell 2, line 1" in err


@pytest.mark.parametrize(
    "line, name",
    [
        ("from minilora.plain import *", "minilora.plain"),
        ("import minilora.peft.lora as l", "minilora.peft.lora"),
        ("from minilora import nn", "minilora.nn"),
        ("from minilora.functional import silu", "minilora.functional.silu"),
        ("import minilora.functional as F\ny = F.silu", "minilora.functional.silu"),
        ("import minilora\ny = minilora.functional.silu", "minilora.functional.silu"),
        ("import minilora.functional\ny = minilora.functional.softmax.x", "minilora.functional.softmax"),
        ("from minilora.functional import *", "minilora.functional"),
        ("from solution import double", "solution.double"),
        ("def f():\n    import solution", "solution"),
    ],
)
def test_what_is_left_to_the_student_may_not_be_imported(lesson, capsys, line, name):
    path = write(lesson, f"{answered()}\n{line}\n")
    code, out, _ = run(capsys, "03", "--file", path)
    assert code == 1 and flat(out).count(f"This uses {name}, which") == 2
    assert "From minilora you may use minilora.Tensor, minilora.functional.linear." in flat(out)


def test_what_one_task_may_not_use_fails_that_task_alone(lesson, capsys):
    for use in (
        "from minilora import functional as F; return F.silu(x)",
        "from minilora.peft import lora; return 2 * x",
    ):
        facts = json.loads(run(capsys, "03", "--json", "--file", write(lesson, answered(double=use)))[1])
        assert [task["verdict"] for task in facts["tasks"]] == ["failed", "passed"]
        assert "This uses minilora." in facts["tasks"][0]["hint"]


@pytest.mark.parametrize(
    "top, double, verdicts",
    [
        ("from minilora.functional import silu", "return silu(x)", ["failed", "passed"]),
        ("import minilora.functional as F\ndef half(x): return F.silu(x)", "return half(x)", ["failed", "passed"]),
        ("from minilora.functional import silu\ndef half(x): return silu(x)", "return half(x)", ["failed", "passed"]),
        ("from minilora.functional import silu, linear\ny = silu", "return silu(x)", ["failed", "failed"]),
    ],
)
def test_a_helper_or_an_import_that_one_task_uses_fails_that_task_alone(lesson, capsys, top, double, verdicts):
    path = write(lesson, f"{top}\n{answered(double=double)}")
    facts = json.loads(run(capsys, "03", "--json", "--file", path)[1])
    assert [task["verdict"] for task in facts["tasks"]] == verdicts
    assert "This uses minilora.functional.silu" in facts["tasks"][0]["hint"]


@pytest.mark.parametrize(
    "double",
    [
        "print('passed 2 of 2'); import os; os._exit(0)",
        "import sys; sys.exit(0)",
        "np.allclose = np.array_equal = lambda *a, **k: True; return x",
        "import minilora.classroom.lessons.checking as c; c.Answer.equals = lambda *a, **k: None; return x",
        "import sys; sys.modules['minilora.classroom.grading.grade'].PASSED; return x",
        "return type('Equal', (float,), {'__eq__': lambda *a: True})(1)",
        "raise NotImplementedError('lesson 03, task 9: x')",
        "return x.astype(object)",
        "return np.array(['2.0'])",
        "return np.full(x.shape, np.nan)",
        "return 2 * x[None]",
        "return None",
    ],
)
def test_no_trick_passes(lesson, capsys, double):
    code, out, err = run(capsys, "03", "--file", write(lesson, answered(double=double)), "--json")
    assert code == 1 and not err and json.loads(out)["tasks"][0]["verdict"] != "passed"


@pytest.mark.parametrize(
    "apply, is_behind",
    [
        ("return double(x) + self.s", True),
        ("return helper(x) + self.s", True),
        ("double = 3 * x; return double + self.s", False),  # a variable of its own
        ("return x - self.s", False),
    ],
)
def test_a_task_that_builds_on_a_failed_one_says_so(lesson, capsys, apply, is_behind):
    text = answered(double="return 3 * x", shift=SHIFT.replace("return x + self.s", apply))
    path = write(lesson, f"{text}\n\ndef helper(x): return double(x)\n")
    first, second = json.loads(run(capsys, "03", "--json", "--file", path)[1])["tasks"]
    assert "mend that" not in first["hint"] and second["verdict"] == "failed"
    assert second["hint"].startswith("Task 1 failed, and this builds on it: mend that first. ") == is_behind
    alone = json.loads(run(capsys, "03", "--json", "--task", 2, "--file", path)[1])["tasks"][0]
    assert alone["hint"] == second["hint"].removeprefix("Task 1 failed, and this builds on it: mend that first. ")


def test_a_task_that_is_handed_what_a_failed_one_made_says_so(lesson, capsys):
    handed = DRIVER.replace(".apply(x)\n", ".apply(getattr(student, 'double')(x) - x)\n")
    (lesson.folder / "driver.py").write_text(handed)
    path = write(lesson, answered(double="return 3 * x"))
    hints = [result["hint"] for result in json.loads(run(capsys, "03", "--json", "--file", path)[1])["tasks"]]
    assert hints[1].startswith("Task 1 failed, and this builds on it: mend that first. ")


def test_a_layer_of_a_wrong_start_blames_the_start(sandbox, tmp_path):
    lora, path = find_lesson("08"), tmp_path / "answer.py"
    swapped = (
        "A = rng.uniform(-1, 1, (d_in, r)) / d_in**0.5\nreturn A.astype('float32'), np.zeros((r, d_out), 'float32')"
    )
    path.write_text(with_answers(lora.source, {"start_matrices": swapped}))
    results = grade(lora, Submission(path, lora), sandbox)
    assert [result.verdict for result in results] == ["passed", "failed", "passed", *["failed"] * 3]
    assert [result.hint.startswith("Task 2 failed, and this") for result in results] == [False] * 3 + [True] * 3


def test_watch_checks_again_when_the_file_changes(lesson, capsys, monkeypatch):
    path, changes = write(lesson, answered()), iter(["def double(:", answered(double="return x")])

    def change(seconds):
        if (text := next(changes, None)) is None:
            raise KeyboardInterrupt
        path.write_text(text)

    monkeypatch.setattr("minilora.commands.check.time.sleep", change)
    code, out, err = run(capsys, "03", "--file", path, "--watch")
    assert code == 130 and re.findall("passed . of 2", out) == ["passed 2 of 2", "passed 1 of 2"]
    assert "answer.py, line 1: " in err
    assert run(capsys, "03", "--file", "nowhere.py", "--watch")[0] == 2


# How solution.py is read


def test_gaps_become_stubs_and_take_other_answers(lesson):
    text = exercise_of(lesson.source)
    assert 'def double(x: np.ndarray) -> np.ndarray:\n    """Twice x."""\n    raise NotImplementedError(' in text
    assert text.count('raise NotImplementedError("lesson 03, task 2: shift it")') == 2
    assert "factor" not in text and "SOLUTION" not in text
    other = with_answers(lesson.source, {"Shift.apply": "\n            y = x\n            return y\n"})
    assert "        y = x\n        return y\n" in other and "factor = 2" in other
    with pytest.raises(FormatError, match="no solution in Shift.aply"):
        with_answers(lesson.source, {"Shift.aply": "pass"})


def test_a_task_has_three_hints():
    with pytest.raises(ValueError, match="2 hints"):
        task(1, hints=("a", "b"))(len)
    with pytest.raises(ValueError, match="1 hints"):
        task(1)(find_lesson)  # whose docstring is one paragraph


# What counts as equal


def is_equal(expected, got) -> bool:
    return checking.difference(expected, got, checking.TOLERANCE) is None


def test_equal_is_shape_and_value_within_tolerance():
    x = np.array([1.0, 1000.0])
    assert is_equal(x, x.astype("float32")) and is_equal(x, [1, 1000]) and is_equal(np.float64(2), 2)
    assert is_equal(x, x + 0.009) and not is_equal(x, x + 0.011)  # 1e-5 of the largest
    assert is_equal(np.zeros(2), np.full(2, 1e-8)) and not is_equal(np.zeros(2), np.full(2, 1e-6))
    assert not is_equal(x, x[None]) and not is_equal(x, x[:1]) and not is_equal(2.0, np.array([2.0]))
    assert not is_equal(x, np.array([1.0, np.nan])) and not is_equal(x, np.array([1.0, np.inf]))
    assert is_equal(np.array([np.inf, np.nan]), np.array([np.inf, np.nan]))
    assert not is_equal(1, True) and not is_equal(True, 1) and is_equal(True, np.array(True))
    assert is_equal(np.array([True]), [True]) and not is_equal(np.array([True]), [1])
    assert is_equal({"a": (1, None)}, {"a": [1, None]}) and not is_equal({"a": 1}, {"a": 1, "b": 2})
    assert is_equal("a", "a") and not is_equal("a", None) and is_equal(["a"], ["a"]) and not is_equal(["a"], ["b"])
    assert is_equal(["a"], ("a",)) and not is_equal(["a", "b"], [x, x]) and not is_equal(["a"], [x])
    assert not is_equal(x, Raised(["ValueError"], "", 1)) and not is_equal(x, "text") and not is_equal(x, [[1], [1, 2]])


def test_numbers_that_differ_look_different():
    for expected, got in ((183, 183.00001), (1.0, 1.00000095), (np.array([-0.792053]), np.array([-0.792054]))):
        shown = checking.show_both(expected, got)
        assert shown[0] != shown[1], shown
    assert checking.show_both(1.5, 2.0) == ("1.5", "2") and checking.show_both(2, 2) == ("2", "2")
    far = np.arange(20.0)
    assert "at 19: 20, not 19" in checking.difference(far, far + (far == 19), checking.TOLERANCE)


def test_a_wrong_number_is_told_as_a_factor():
    says = [checking.difference(2.0, got, checking.TOLERANCE) for got in (1.0, -2.0, np.nan, 0.0)]
    assert says[0].endswith("it is 0.5 times the expected one.") and "-1 times" in says[1]
    assert says[2] == says[3] == checking.difference(0.0, 1.0, checking.TOLERANCE) == "The number is wrong."


def test_raised_fits_by_kind_and_message():
    value = Raised(["MiniloraError", "ValueError", "Exception"], "no such name", 3)
    assert raised("ValueError").fits(value) and raised("MiniloraError", "name").fits(value)
    assert not raised("TypeError").fits(value) and not raised("ValueError", "other").fits(value)
    assert not raised("ValueError").fits("ValueError")
