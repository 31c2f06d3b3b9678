"""pytest tests/classroom/test_mark.py: marks of .py files in one CSV. The slow ones need bubblewrap."""

import csv
from pathlib import Path

import pytest

from minilora.classroom.course import mark
from minilora.classroom.lessons.lesson import all_lessons, find_lesson
from minilora.classroom.sandbox import isolated
from minilora.cli import main
from tests.helpers.answers import with_answers

pytestmark = pytest.mark.host

LORA = find_lesson("08")
READS = f"exec(open({str(LORA.folder.resolve() / 'solution.py')!r}).read())\n"
HANDED_IN = {  # student: file, text
    "ada": ("08_lora.py", LORA.source.text),
    "ben": ("lessons/08_lora/exercise.py", with_answers(LORA.source, {"start_matrices": "return None, None"})),
    "cem": ("08.py", LORA.source.exercise()),
    "dan": ("08_lora.py", LORA.source.exercise() + READS),
    "eve": ("08.py", "def count_parameters(:"),
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
        "eve": "08.py, line 1: invalid syntax",
        "'=1+1": "task 1 failed still running after 10 s of processor time Does a loop end?",
        "hal": "it is a link",
    }.items():
        assert says in rows[student]["notes"], student
    assert rows["fay"]["08_lora (of 60)"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda lesson: lesson.name)
def test_every_solution_gets_all_points(lesson):
    assert mark(lesson.folder.resolve() / "solution.py", lesson) == (10 * len(lesson.tasks), "")


def test_a_check_that_fails_itself_stops_no_class(monkeypatch):
    monkeypatch.setattr("minilora.classroom.course.grade", lambda *_: 1 // 0)
    points, note = mark(LORA.exercise.resolve(), LORA)
    assert points == 0 and "the checks came to no verdict (ZeroDivisionError" in note and "grade it by hand" in note


@pytest.mark.slow  # it needs bubblewrap
def test_with_one_lesson_a_file_is_a_student(tmp_path):
    put(tmp_path / "in" / "ada.py", LORA.source.exercise())
    assert main(["course", "--mark", str(tmp_path / "in"), "--lessons", "08", "--out", str(tmp_path / "m.csv")]) == 0
    assert (tmp_path / "m.csv").read_text("utf-8").splitlines()[1].startswith("ada,0,0,")


def test_without_bubblewrap_marks_are_refused_in_a_line(tmp_path, monkeypatch, capsys):
    put(tmp_path / "in" / "ada.py", LORA.source.exercise())
    isolated.bubblewrap.cache_clear()
    monkeypatch.setattr(isolated.shutil, "which", lambda name: None)
    assert main(["course", "--mark", str(tmp_path / "in"), "--lessons", "08", "--out", str(tmp_path / "m.csv")]) == 2
    error = capsys.readouterr().err
    assert "marks need bubblewrap" in error and "Linux container" in error and error.count("\n") == 1
    isolated.bubblewrap.cache_clear()
