"""pytest tests/classroom/test_class.py: a class, from its roster to what Moodle, Canvas and Gradescope take."""

import csv
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from minilora.classroom.lessons.checking import SEED
from minilora.classroom.lessons.lesson import find_lesson
from minilora.classroom.publish.course import CONFIG, notebook
from minilora.classroom.sandbox.runner import Sandbox
from minilora.classroom.teaching import marking
from minilora.classroom.teaching.collecting import collect, why_unreadable
from minilora.classroom.teaching.rosters import read_roster
from minilora.cli import main
from minilora.errors import MiniloraError
from tests.helpers import bank
from tests.helpers.answers import with_answers

pytestmark = pytest.mark.host

LORA, AUTOGRAD = find_lesson("08"), find_lesson("02")
NAMES = """Ada Amin, Ben Bø, Cem Çelik, Dan Diaz, Eve Eng, Fay Foss, Gil Gé, Hal Hund, Ida Ito, Jan Jung, Kim Koch,
Lea Lang, Mia Mai, Ned Nagy, Oda Oz, Pia Pohl, Qi Qian, Ron Roy, Sue Said, Tom Tan, Uma Ueda, Vic Vogt, Wim Wolf,
Xia Xu, Yun Yi, Zoe Zhu, Åsa Åberg, Élie Émond, Ömer Öz, Øie Østby""".replace("\n", " ").split(", ")

SPY = """import pathlib

try:
    print(pathlib.Path({!r}).read_text()[:60])
except Exception as error:
    print(repr(error))
"""


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def wrong(lesson, where: str, name: str) -> str:
    """The solution with one of the lesson's known mistakes."""
    (found,) = [answer for answer in bank.wrong(lesson) if (answer.where, answer.name) == (where, name)]
    return with_answers(lesson.source, found.codes)


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def table_of(path: Path) -> dict[str, dict[str, str]]:
    """First column -> header -> cell."""
    header, *rows = rows_of(path)
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


# Rosters

WORKSHEET = """Identifier,Full name,Email address,Status,Grade
Participant 101,Ada Amin,ada@uni.example,Submitted,
Participant 102,Ben Bø,ben@uni.example,No submission,
"""
CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,08 LoRA (77),Final Score
,,,,,Manual Posting,
    Points Possible,,,,,60,(read only)
"Amin, Ada",101,S1,ada,Sec 1,,
"Bø, Ben",102,S2,ben,Sec 1,,
"""


@pytest.mark.parametrize(
    "text, keys, names",
    [
        ("student,name\nada,Ada Amin\n\nben,Ben Bø\n", ["ada", "ben"], ["Ada Amin", "Ben Bø"]),
        ("\ufeffstudent;name\r\nada;Ada Amin\r\nben;\r\n", ["ada", "ben"], ["Ada Amin", "ben"]),
        ('name\n"Amin, Ada"\nBen\n', ["Amin, Ada", "Ben"], ["Amin, Ada", "Ben"]),
        (WORKSHEET, ["ada@uni.example", "ben@uni.example"], ["Ada Amin", "Ben Bø"]),
        ("First name,Surname,ID number\nAda,Amin,7\nBen,Bø,8\n", ["7", "8"], ["Ada Amin", "Ben Bø"]),
        (CANVAS, ["ada", "ben"], ["Amin, Ada", "Bø, Ben"]),
    ],
)
def test_rosters(tmp_path, text, keys, names):
    roster = read_roster(put(tmp_path / "roster.csv", text))
    assert [student.key for student in roster.students] == keys
    assert [student.name for student in roster.students] == names


@pytest.mark.parametrize(
    "text, says",
    [
        ("student,name\nada,Ada\nben,Ben\nAda,Adele\n", "line 4: Ada stands in line 2 already"),
        ('name\n"Amin,\nAda"\nBen\nBen\n', "line 5: Ben stands in line 4"),
        ("who,mark\nada,1\n", "line 2: no student; the first line must name a column"),
        ("student,name\n", "has no students"),
        ("", "has no students"),
        ('student\n"ada\n', "no CSV file"),
    ],
)
def test_rosters_that_are_refused(tmp_path, text, says):
    with pytest.raises(MiniloraError, match=re.escape(says)):
        read_roster(put(tmp_path / "roster.csv", text))


def test_a_roster_in_another_encoding_or_absent_is_refused(tmp_path):
    (tmp_path / "roster.csv").write_bytes("student\nÖmer\n".encode("latin-1"))
    with pytest.raises(MiniloraError, match="UTF-8"):
        read_roster(tmp_path / "roster.csv")
    with pytest.raises(MiniloraError, match="no such file"):
        read_roster(tmp_path)


# What was handed in


@pytest.mark.parametrize(
    "place, whose",
    [
        ("ada/08_lora.ipynb", "ada"),
        ("ada/08.py", "ada"),
        ("ada/weeks/4/LoRA (2).py", "ada"),
        ("ada/lessons/08_lora/exercise.py", "ada"),
        ("Ada Amin_101_assignsubmission_file_/08_lora.py", "Ada Amin"),
        ("Ada Amin_101_assignsubmission_file_08_lora.py", "Ada Amin"),
        ("aminada_101_2002_08_lora-1.ipynb", "aminada"),
        ("aminada_LATE_101_2002_08_lora.ipynb", "aminada"),
    ],
)
def test_where_a_submission_may_lie(tmp_path, place, whose):
    path = put(tmp_path / place, "")
    for roster in (None, read_roster(put(tmp_path / "roster.csv", WORKSHEET))):
        found = collect(tmp_path, [AUTOGRAD, LORA], roster)
        in_roster = roster is not None and "101" in place
        assert found.path == {("ada@uni.example" if in_roster else whose, "08_lora"): path}
        assert [student.key for student in found.unknown] == ([whose] if roster and not in_roster else [])


def test_what_is_no_submission(tmp_path):
    put(tmp_path / "ada/08_lora.ipynb", "")
    for name in (
        "ada/08_lora.py",
        "ada/exercise.py",
        "ada/.cache/02.py",
        "ada/README.md",
        "marks/ben/08.py",
        "notes.txt",
    ):
        put(tmp_path / name, "")
    found = collect(tmp_path, [AUTOGRAD, LORA], None, leave=(tmp_path / "marks",))
    assert found.path == {("ada", "08_lora"): tmp_path / "ada/08_lora.ipynb"}
    with pytest.raises(MiniloraError, match=r"nothing of 02_autograd in .*02_autograd\.ipynb"):
        collect(tmp_path / "ada", [AUTOGRAD], None)


def test_of_one_lesson_a_file_may_have_any_name_and_a_course_has_its_folder(tmp_path):
    put(tmp_path / CONFIG, "")
    path = put(tmp_path / "submitted/ada/homework.ipynb", "")
    assert collect(tmp_path, [LORA], None).path == {("ada", "08_lora"): path}


def test_links_and_pipes_are_not_opened(tmp_path):
    real = put(tmp_path / "ada/08_lora.py", LORA.source.text)
    for student in ("ben", "cem", "dan"):
        (tmp_path / student).mkdir()
    (tmp_path / "ben/08_lora.py").symlink_to(real)
    os.mkfifo(tmp_path / "cem/08_lora.py")
    (tmp_path / "dan/08_lora.ipynb").mkdir()
    (tmp_path / "eve").symlink_to(tmp_path / "ada")
    found = collect(tmp_path, [LORA], None).path
    assert {key: why_unreadable(path).partition(" is ")[2] for (key, _), path in found.items()} == {
        "ada": "",
        "ben": "a link, not a file",
        "cem": "not a file that can be read",
        "dan": "not a file that can be read",
        "eve": "a link, not a file",
    }


# What it comes to


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


def points(facts: dict) -> list[int]:
    return [result["task"] for result in facts["results"] if result["verdict"] == "passed"]


def test_a_task_is_lost_alone(tmp_path, sandbox):
    page = notebook(LORA)
    (cell,) = [c for c in page["cells"] if "def lora_forward" in "".join(c["source"])]
    cell["source"] = ["def lora_forward(x, W, A, B, alpha, r)\n"]  # no Python
    path = put(tmp_path / "08_lora.ipynb", json.dumps(page))
    facts = marking.mark(LORA, path, sandbox)
    assert points(facts) == [1, 2, 4, 5, 6] and "does not count: cell" in facts["results"][2]["hint"]
    path = put(tmp_path / "08_lora.py", LORA.source.text.replace("def lora_forward", "def lora_foward"))
    assert points(marking.mark(LORA, path, sandbox)) == [1, 2, 4, 5, 6]


def test_a_cell_that_never_ends_is_left_out(tmp_path):
    page = notebook(LORA)
    (cell,) = [c for c in page["cells"] if "def lora_forward" in "".join(c["source"])]
    cell["source"] = ["while True:\n", "    pass\n", *cell["source"]]
    with Sandbox(seconds=5) as quick:
        facts = marking.mark(LORA, put(tmp_path / "08_lora.ipynb", json.dumps(page)), quick)
    assert points(facts) == [1, 2, 4, 5, 6] and "does not count: still running" in facts["results"][2]["hint"]


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("a.ipynb", "no notebook", "a.ipynb is not a notebook that can be read"),
        ("a.ipynb", json.dumps({"cells": []}), "no cell of it defines count_parameters"),
        ("a.ipynb", "[" * 100_000, "not a notebook"),
        ("a.py", "x = 1\n", "is no exercise of lesson 08"),
        ("a.py", "def f(:\n", "invalid syntax"),
        ("a.pdf", "%PDF", "neither a .py file nor a notebook"),
        ("a.py", None, "is not UTF-8 text"),
    ],
)
def test_what_cannot_be_graded_says_why(tmp_path, sandbox, name, content, says):
    path = put(tmp_path / name, content or "")
    if content is None:
        path.write_bytes(b"\xff\xfe")
    facts = marking.mark(LORA, path, sandbox)
    assert facts["results"] == [] and says in facts["reason"]


def test_large_outputs_cost_nothing(tmp_path, sandbox):
    page = notebook(LORA)
    page["cells"][-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 30_000_000}]
    assert points(marking.mark(LORA, put(tmp_path / "a.ipynb", json.dumps(page)), sandbox)) == [1, 2, 3, 4, 5, 6]


def test_an_error_of_a_check_is_said_and_stops_nothing(tmp_path, sandbox, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("of the check")

    monkeypatch.setattr(marking, "_mark_task", broken)
    facts = marking.mark(LORA, put(tmp_path / "a.py", LORA.source.text), sandbox)
    assert facts["results"] == [] and "ZeroDivisionError: of the check); grade it by hand" in facts["reason"]


def test_a_file_that_ends_its_process_costs_itself_alone(monkeypatch):
    rounds = []

    def side_by_side(work, tasks, jobs, take):  # "b" ends the process that it is in
        rounds.append([key for key, *_ in tasks])
        for key, *_ in tasks[:2]:
            take((key,), {})
        if "b" in rounds[-1][:2]:
            raise MiniloraError("killed")
        for key, *_ in tasks:
            take((key,), {"reason": ""})

    monkeypatch.setattr(marking, "side_by_side", side_by_side)
    taken = {}
    marking._in_processes([("a",), ("b",), ("c",)], 2, lambda key, facts: taken.update({key: facts["reason"]}))
    assert taken == {"a": "", "b": marking.ENDED, "c": ""} and rounds == [["a", "b", "c"], ["a"], ["b"], ["c"]]


# A class


@pytest.fixture(scope="module")
def term(tmp_path_factory):
    """A class of thirty, two lessons, and the two worksheets of Moodle."""
    root = tmp_path_factory.mktemp("term")
    lines = ["student,name,Email address,ID number"]
    for i, name in enumerate(NAMES):
        student = name.split()[0].lower()
        lines.append(f"{student},{name},{student}@uni.example,{1000 + i}")
        put(
            root / f"class/{student}/02_autograd.py",
            AUTOGRAD.source.text if i % 3 else AUTOGRAD.exercise.read_text("utf-8"),
        )
        if i % 10 == 3:
            text = wrong(LORA, "lora_forward", "no scale")
        else:
            text = LORA.source.text if i % 10 != 4 else LORA.exercise.read_text("utf-8")
        put(root / f"class/{student}/08_lora.py", text)
    (root / "class/åsa/08_lora.py").unlink()
    (root / "class/åsa/08_lora.py").symlink_to(root / "class/ada/08_lora.py")
    (root / "class/ömer/08_lora.py").unlink()
    spy = SPY.format(str(root / "class/ada/08_lora.py"))
    put(root / "class/øie/08_lora.py", spy + wrong(LORA, "lora_forward", "no scale"))
    put(root / "class/guest/08_lora.py", LORA.source.text)
    put(root / "roster.csv", "\ufeff" + "\n".join(lines) + "\n")
    return root


def grade(root: Path, *more: str) -> int:
    command = ["grade", str(root / "class"), "--lessons", "02,08", "--roster", str(root / "roster.csv")]
    return main([*command, "--out", str(root / "marks"), "--jobs", "1", *more])


def test_with_a_secret_each_student_has_inputs_of_their_own(tmp_path, monkeypatch):
    for student in ("ada", "ben"):
        put(tmp_path / student / "08_lora.py", LORA.source.text)
    handed_in = collect(tmp_path, [LORA], None)
    given: list[dict[str, int]] = []  # file -> seed
    replays: list[list[bool]] = []
    monkeypatch.setattr(marking, "SEVERAL", 1)

    def grade_nothing(tasks, jobs, take):
        given.append({task[3].parent.name: task[4] for task in tasks})
        replays.append([task[2] is not None for task in tasks])
        for task in tasks:
            take(task[0], {"results": [], "reason": "", "held": None})

    monkeypatch.setattr(marking, "_in_processes", grade_nothing)
    for secret in ("", "sesame", "mellon", "sesame"):
        marking.mark_all(handed_in, [LORA], tmp_path / "marks", 1, [], secret)
    public, sesame, mellon, again = given
    assert replays == [[True], [False] * 2, [False] * 2, []]  # a recording is of the public inputs
    assert set(public.values()) == {SEED} and again == {}  # what was graded stays
    assert set(sesame) == {"ada", "ben"} and len({SEED, *sesame.values(), *mellon.values()}) == 5


@pytest.fixture(scope="module")
def graded(term):
    assert grade(term) == 0
    return term


def test_thirty_students_from_the_roster_to_moodle(graded):
    rows = rows_of(graded / "marks/moodle.csv")
    assert rows[0] == ["Email address", "ID number", "02_autograd", "08_lora"]
    assert [row[0] for row in rows[1:]] == [f"{name.split()[0].lower()}@uni.example" for name in NAMES]
    assert Counter(row[2] for row in rows[1:]) == {"50": 20, "0": 10}
    assert Counter(row[3] for row in rows[1:]) == {"60": 21, "50": 4, "0": 4, "": 1}
    by_name = {row[0].partition("@")[0]: row[3] for row in rows}
    assert by_name["ada"] == "60" and by_name["dan"] == "50" and by_name["eve"] == by_name["åsa"] == "0"


def test_nobody_reads_a_classmate(graded):
    facts = json.loads((graded / "marks/results/øie.json").read_text())
    (test,) = [test for test in facts["tests"] if test["status"] == "failed"]
    assert re.search(r"printed +(PermissionError|FileNotFoundError)", test["output"]), test["output"]


def test_marks_name_everybody_and_say_why(graded):
    table = table_of(graded / "marks/marks.csv")
    assert len(table) == 31
    assert table["ada"] | {"02_autograd of 50": "0", "08_lora of 60": "60", "of 110": "60", "note": ""} == table["ada"]
    assert table["åsa"]["note"] == "08_lora: 08_lora.py is a link, not a file"
    assert table["ömer"]["08_lora of 60"] == "" and table["guest"]["note"] == "not in the roster"


def test_canvas_takes_its_own_columns(graded, tmp_path):
    header, most, first, *_ = rows_of(graded / "marks/canvas.csv")
    assert header[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert most == ["    Points Possible", "", "", "", "", "50", "60"] and first == [
        "Ada Amin",
        "",
        "",
        "ada",
        "",
        "0",
        "60",
    ]
    put(graded / "canvas_export.csv", CANVAS)
    assert grade(graded, "--roster", str(graded / "canvas_export.csv"), "--out", str(graded / "marks")) == 0
    header, _, first, second = rows_of(graded / "marks/canvas.csv")
    assert header[5:] == ["02_autograd", "08 LoRA (77)"]
    assert first == ["Amin, Ada", "101", "S1", "ada", "Sec 1", "0", "60"] and second[:2] == ["Bø, Ben", "102"]


def test_gradescope_gets_a_test_a_task(graded):
    facts = json.loads((graded / "marks/results/dan.json").read_text())
    assert facts["score"] == 50 == sum(test["score"] for test in facts["tests"]) and len(facts["tests"]) == 11
    (test,) = [test for test in facts["tests"] if test["number"] == "8.3"]
    assert (test["status"], test["score"], test["max_score"]) == ("failed", 0, 10) and "not scaled" in test["output"]
    missing = json.loads((graded / "marks/results/ömer.json").read_text())
    assert "08_lora: nothing was handed in" in missing["output"] and len(missing["tests"]) == 11


def test_the_overview_counts_hints_and_names_nobody(graded):
    rows = [row for row in rows_of(graded / "marks/overview.csv") if row[:2] == ["08_lora", "3"]]
    assert [row[3:7] for row in rows] == [["22", "0", "4", "3"]] and rows[0][8] == "4" and "not scaled" in rows[0][7]
    page = (graded / "marks/overview.html").read_text()
    assert "30 of 31 handed in, 1 of them what cannot be graded" in page and "<script" not in page
    assert not [name for name in NAMES if name in page] and "ada" not in re.findall(r"\w+", page.lower())


def test_only_what_is_new_is_graded(graded, capsys):
    record = next((graded / "marks/records").glob("02_autograd-*.json"))
    record.write_text("{")
    put(graded / "class/guest/02_autograd.py", AUTOGRAD.source.text + "\n# a comment\n")
    assert grade(graded) == 0
    assert "61 files of 31 students, 2 graded now" in capsys.readouterr().out


def test_marks_do_not_go_where_something_else_is(term, capsys):
    assert grade(term, "--out", str(term / "class")) == 2
    assert "has no marks in it; choose another folder" in capsys.readouterr().err
    assert not (term / "class/marks.csv").exists()
