"""pytest tests/classroom/test_course.py: a course as it is written. tests/teach takes it through nbgrader."""

import csv
import re
import sys
from importlib.util import module_from_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from lessons.build import exercise_of
from minilora.classroom.course import CONFIG, POINTS, QUESTION_POINTS, mark, notebook, questions_of
from minilora.classroom.grading import nbcheck
from minilora.classroom.grading.grade import Result
from minilora.classroom.grading.submission import Submission, calls_of
from minilora.classroom.lessons.lesson import all_lessons, find_lesson
from minilora.classroom.sandbox import isolated
from minilora.cli import main
from tests.helpers.answers import with_answers

pytestmark = pytest.mark.host

LESSONS, LORA = all_lessons(), find_lesson("08")
every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
COUNT = "def count_parameters(d_in, d_out, r):\n    return r * (d_in + d_out), d_in * d_out"
NO_COUNT = (
    'def count_parameters(d_in, d_out, r):\n    """Count."""\n    # YOUR CODE HERE\n    raise NotImplementedError()'
)


def source_of(cell) -> str:
    return "".join(cell["source"])


def marks_of(cell) -> dict:
    return cell["metadata"]["nbgrader"]


# What is written


@every_lesson
def test_a_notebook_is_the_solution_with_a_test_a_task_and_two_questions(lesson):
    cells = notebook(lesson)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    text = "\n".join(source_of(cell) for cell in code if not source_of(cell).count("nbcheck"))
    expected = [line for line in lesson.source.lines if line and not line.startswith("#")]
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == expected
    named = {marks_of(cell)["grade_id"]: cell for cell in cells}
    assert len(named) == len({cell["id"] for cell in cells}) == len(cells)
    assert [f"task-{task}" for task in lesson.source.titles] == [name for name in named if name.startswith("task-")]
    for task, title in lesson.source.titles.items():
        text = source_of(named[f"task-{task}"])
        assert f'nbcheck.task("{lesson.number:02}", {task})' in text and title in text
    for name, cell in named.items():
        is_words, marks = name.startswith("words-"), marks_of(cell)
        is_answer = is_words or cell["cell_type"] == "code" and "### BEGIN SOLUTION" in source_of(cell)
        assert marks["solution"] is is_answer and marks["locked"] is not is_answer
        assert marks.get("points") == (QUESTION_POINTS if is_words else POINTS if marks["grade"] else None)
        assert marks["grade"] is (is_words or name.startswith("task-"))
    (_, first), (question, rubric) = questions_of(lesson)
    assert question in source_of(named["question-2"]) and source_of(named["words-2"]) == rubric
    for words in (first, rubric):
        assert [line[2:7] for line in words.splitlines() if line.startswith("- ")] == ["**2**", "**1**", "**0**"]


def test_the_syllabus_has_the_lessons_minutes_and_what_they_need_before_them():
    page = (LESSONS[0].folder.parents[1] / "docs" / "syllabus.md").read_text("utf-8")
    minutes, needs = {}, {}
    for lesson in LESSONS:
        first = (lesson.folder / "README.md").read_text("utf-8").partition("\n")[0]
        minutes[lesson.number], *needs[lesson.number] = map(int, re.findall(r"\d+", first))
    tables = [
        re.findall(r"^\| \d+ \| ([\d, ]+) \| (\d+) \| ([\w, ]+) \|", part, re.M) for part in page.split("## ")[1:4]
    ]
    assert [len(table) for table in tables] == [14, 7, 7]
    for table in tables:
        seen = set()
        for row in table:
            numbers, total, before = ([int(n) for n in re.findall(r"\d+", cell)] for cell in row)
            assert total == [sum(minutes[number] for number in numbers)], row
            assert before == sorted({n for number in numbers for n in needs[number]} - set(numbers)), row
            assert set(before) <= seen, row
            seen |= set(numbers)


@pytest.mark.slow
@every_lesson
def test_each_test_stands_where_its_task_can_pass(lesson, sandbox):
    cells = [cell for cell in notebook(lesson)["cells"] if cell["cell_type"] == "code"]
    above = [(number, source_of(cell)) for number, cell in enumerate(cells)]
    for number, text in above:
        for _, task in calls_of(text) or ():
            assert nbcheck.judge(lesson, task, above[: number + 1], sandbox)[0], task


def test_the_command_writes_what_nbgrader_looks_for(tmp_path, capsys):
    folder = tmp_path / "course"
    assert main(["course", str(folder), "--lessons", "03, autograd,02"]) == 0
    assert capsys.readouterr().out.count("wrote ") == 2
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.*") if "/pictures/" not in str(path)}
    parts = ("source/{0}/{0}.ipynb", "source/{0}/README.md", "teacher/{0}.md")
    named = {part.format(name) for name in ("02_autograd", "03_backend") for part in parts}
    assert files == {CONFIG, "source/03_backend/device.py"} | named
    compile((folder / CONFIG).read_text(), CONFIG, "exec")


@pytest.mark.parametrize(
    "typed, says",
    [
        (["in"], "in exists and is not an empty folder; choose another"),
        (["in/08_lora.py"], "in/08_lora.py exists and is not an empty folder"),
        (["course", "--lessons", "77"], "unknown lesson 77: there are"),
        (["course", "--lessons", ","], "--lessons names no lesson"),
        (["--mark", "in", "--out", "in"], "--out in exists already; choose another --out"),
        (
            ["--mark", "empty"],
            "no exercises in empty: it needs a folder for each student, with 01_why_transfer.py in it",
        ),
        (["--mark", "two"], "a student has two answers to lesson 08, remove one: ada/08_lora.py and ada/a/08_lora.py"),
        (["course", "--mark", "in"], "give either a folder for an nbgrader course, or --mark FOLDER"),
        (["course", "--out", "a.csv"], "--out is for --mark"),
    ],
)
def test_a_mistake_is_told_in_a_line(typed, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("in/08_lora.py", "two/ada/a/08_lora.py", "two/ada/08_lora.py", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(COUNT)
    before = sorted(tmp_path.rglob("*"))
    assert main(["course", *typed]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "in" / "08_lora.py").read_text() == COUNT


# Checking from inside a notebook


class Shell:
    """A shell that runs cells as a kernel does, as far as nbcheck can tell."""

    def __init__(self):
        self.history_manager, self.count = SimpleNamespace(input_hist_raw=["", "x = 1", COUNT]), 2
        self.events = SimpleNamespace(register=lambda event, call: setattr(self, event, call))

    def run(self, text: str, cell_id: str | None = None, error: BaseException | None = None) -> None:
        self.count += 1
        info = SimpleNamespace(cell_id=cell_id, raw_cell=text)
        self.post_run_cell(SimpleNamespace(execution_count=self.count, info=info, error_in_exec=error))


@pytest.fixture
def shell(monkeypatch) -> Shell:
    monkeypatch.setattr(nbcheck, "_cells", {})
    shell = Shell()
    shell.post_run_cell = nbcheck._note
    return shell


def says(number: int = 1) -> str:
    """Return the report of a failed task in one line."""
    with pytest.raises(nbcheck.NotPassed) as caught:
        nbcheck.task("08", number)
    assert caught.value._render_traceback_() == str(caught.value).splitlines()
    return " ".join(str(caught.value).split())


def test_cells_from_before_the_import_count(monkeypatch, capsys):
    shell = Shell()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    module = module_from_spec(nbcheck.__spec__)
    nbcheck.__spec__.loader.exec_module(module)
    module.task("08", 1)
    shell.run(COUNT.replace("return", "return 0,"))
    with pytest.raises(module.NotPassed, match="It should be 2 results"):
        module.task("08", 1)


def test_what_the_cells_define_is_checked(shell, capsys):
    assert "does not define count_parameters" in says()
    shell.run("from minilora.classroom.grading import nbcheck")
    shell.run(NO_COUNT)
    assert says().startswith("task 1 not started count what trains")
    shell.run("def count_parameters(d_in, d_out, r):\n    return d_in * d_out, r * (d_in + d_out)")
    assert "LoRA's count comes first" in says()
    shell.run("def count_parameters(d_in, d_out, r):\n    return nothing")
    assert "name 'nothing' is not defined (cell [6], line 2)" in says()
    shell.run(COUNT)
    nbcheck.task("08", 1)
    assert capsys.readouterr().out.startswith("task 1   passed       count what trains")
    shell.run("def lora_forward(x):\n    return x")
    nbcheck.task("08", 1)
    assert "lora_forward() takes 1 positional argument but 6 were given" in says(3)


def test_the_last_text_of_a_cell_counts(shell):
    shell.run("from minilora import peft", "a")
    shell.run(COUNT, "b")
    assert "uses minilora.peft" in says()
    shell.run("import numpy", "a")
    nbcheck.task("08", 1)
    shell.run(COUNT.replace("return", "return 0,"), "c")
    assert "It should be 2 results" in says()
    shell.run(COUNT, "b")  # again, and so it is the last
    nbcheck.task("08", 1)


def test_a_cell_that_is_no_python_or_was_interrupted_does_not_count(shell):
    shell.run(f"while True: pass\n{COUNT}", error=KeyboardInterrupt())
    assert "does not define count_parameters" in says()
    shell.run("def lora_forward(x, W, A, B, alpha, r)\n    return x")
    shell.run(f"%matplotlib inline\n{COUNT}")
    shell.run("%%bash\necho def")
    nbcheck.task("08", 1)
    assert "does not define lora_forward" in says(3)


def test_a_mistaken_call_says_so(shell):
    assert says(9) == "lesson 08 has no task 9; it has 1, 2, 3, 4, 5, 6"


# Marks of .py files; the slow ones need bubblewrap

READS = f"exec(open({str(LORA.folder.resolve() / 'solution.py')!r}).read())\n"
HANDED_IN = {  # student: file, text
    "ada": ("08_lora.py", LORA.source.text),
    "ben": ("lessons/08_lora/exercise.py", with_answers(LORA.source, {"start_matrices": "return None, None"})),
    "cem": ("08_lora.py", exercise_of(LORA.source)),
    "dan": ("08_lora.py", exercise_of(LORA.source) + READS),
    "eve": ("08_lora.py", "def count_parameters(:"),
    "fay": ("notes.py", "x = 1"),
    "=1+1": ("08_lora.py", with_answers(LORA.source, {"count_parameters": "while True: pass"})),
    "hal": ("08_lora.py", None),  # a link
}


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_a_class_gets_a_table(tmp_path, capsys):
    for student, (name, text) in HANDED_IN.items():
        if text is not None:
            put(tmp_path / "in" / student / name, text)
    (tmp_path / "in" / "hal").mkdir()
    (tmp_path / "in" / "hal" / "08_lora.py").symlink_to(LORA.folder.resolve() / "solution.py")
    out = tmp_path / "marks.csv"
    assert main(["course", "--mark", str(tmp_path / "in"), "--lessons", "08,02", "--out", str(out)]) == 0
    assert f"wrote {out}: 8 students" in capsys.readouterr().out
    with out.open(encoding="utf-8", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert list(rows["ada"]) == ["student", "08_lora (of 60)", "02_autograd (of 50)", "sum", "notes"]
    points = {"ada": "60", "ben": "20", "'=1+1": "50"}  # of the others none
    assert {student: row["sum"] for student, row in rows.items()} == dict.fromkeys(rows, "0") | points
    assert rows["ada"]["notes"] == "" and {row["02_autograd (of 50)"] for row in rows.values()} <= {""}
    for student, says in {
        "ben": "task 2 failed",
        "cem": "08_lora: task 1 not started",
        "dan": "task 1 not started",
        "eve": "08_lora.py, line 1: invalid syntax",
        "'=1+1": "task 1 failed (still running after 10 s of processor time): Is there an endless loop?",
        "hal": "it is a link",
    }.items():
        assert says in rows[student]["notes"], student
    assert rows["fay"]["08_lora (of 60)"] == ""


def test_the_page_for_teachers_names_the_tasks_that_build_on_others():
    page = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text("utf-8")
    listed = re.search(r"build on earlier ones are, by lesson: ([^.]+)\.", page)[1]
    behind = {}
    for lesson in LESSONS:
        answers = Submission(lesson.folder / "solution.py", lesson)
        if tasks := [str(task) for task in lesson.source.titles if answers.builds_on(task)]:
            behind[f"{lesson.number:02}"] = ", ".join(tasks)
    assert dict(re.findall(r"(\d\d) \(([\d, ]+)\)", " ".join(listed.split()))) == behind


def test_a_note_has_the_result_and_the_hint_apart(monkeypatch):
    results = [
        Result(1, "", "not started"),
        Result(2, "", "failed", "double(x)", "[6.]", "[9.]", "That is the square."),
        Result(3, "", "failed", "double(x)", "[6.]", "abcd " * 30, "Too long."),
        Result(4, "", "failed", got="still running", hint="Is there an endless loop?"),
        Result(5, "", "passed"),
    ]
    monkeypatch.setattr("minilora.classroom.course.grade", lambda *_: results)
    assert mark(LORA.exercise.resolve(), LORA) == (
        10,
        "task 1 not started; task 2 failed (got [9.]): That is the square; "
        f"task 3 failed (got {'abcd ' * 15}…): Too long; task 4 failed (still running): Is there an endless loop?",
    )


def test_a_check_that_fails_itself_stops_no_class(monkeypatch):
    monkeypatch.setattr("minilora.classroom.course.grade", lambda *_: 1 // 0)
    points, note = mark(LORA.exercise.resolve(), LORA)
    assert points == 0 and "the checks themselves failed (ZeroDivisionError" in note and "grade it by hand" in note


@pytest.mark.slow  # it needs bubblewrap
def test_with_one_lesson_a_file_is_a_student(tmp_path):
    put(tmp_path / "in" / "ada.py", exercise_of(LORA.source))
    assert main(["course", "--mark", str(tmp_path / "in"), "--lessons", "08", "--out", str(tmp_path / "m.csv")]) == 0
    assert (tmp_path / "m.csv").read_text("utf-8").splitlines()[1].startswith("ada,0,0,")


def test_without_bubblewrap_marks_are_refused_in_a_line(tmp_path, monkeypatch, capsys):
    put(tmp_path / "in" / "ada.py", exercise_of(LORA.source))
    isolated.bubblewrap.cache_clear()
    monkeypatch.setattr(isolated.shutil, "which", lambda name: None)
    assert main(["course", "--mark", str(tmp_path / "in"), "--lessons", "08", "--out", str(tmp_path / "m.csv")]) == 2
    error = capsys.readouterr().err
    assert "marks need bubblewrap" in error and "Linux container" in error and error.count("\n") == 1
    isolated.bubblewrap.cache_clear()
