"""Courses for nbgrader, with one assignment per lesson, and a table of marks for .py files.

    nbgrader_config.py            nbgrader's settings; its folder is the course's folder
    source/08_lora/08_lora.ipynb  solution.py as a notebook: answers between nbgrader's marks, and after each task a
                                  locked cell worth POINTS points, which calls `nbcheck.py`
    source/08_lora/README.md      the lesson's reading
    teacher/08_lora.md            what to do in class: the lesson's teaching.md

Nothing here needs nbgrader; docs/teachers.md explains the next steps with it. `course --mark` works without it. It
grades these files, each in a sandbox of its own (`sandbox/isolated.py`):

    submitted/ada/08_lora/exercise.py  ada's answer to lesson 08; also ada/08_lora.py, or in a subfolder
    submitted/ada.py                   if there is a single lesson
"""

import csv
import io
import json
import re
from pathlib import Path
from textwrap import shorten

from minilora.classroom.grading.grade import PASSED, Result, grade
from minilora.classroom.grading.submission import NBCHECK, Submission
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.sandbox.isolated import Isolated, bubblewrap
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic
from minilora.train.progress import progress_bar

CONFIG = "nbgrader_config.py"
TEACHER = "teacher"  # folder of the pages that students do not get
TEACHING, RUBRIC = "teaching.md", "### Rubric"
POINTS = 10  # points per task
QUESTION_POINTS = 2  # points per open question, which a person marks
CONFIG_TEXT = '''"""Settings of nbgrader for this course. Run nbgrader's commands in this folder."""

c = get_config()
c.CourseDirectory.course_id = "minilora"

# No student's cell runs in nbgrader: `nbgrader autograde` checks its text in a process that can change nothing.
c.Autograde.exporter_class = "minilora.classroom.grading.by_text.HandedIn"
c.Autograde.autograde_preprocessors = [
    "minilora.classroom.grading.by_text.GradeByText",  # instead of nbgrader's Execute
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
# Keep scripts in a student's text from running in the page on which you mark it.
c.HTMLExporter.filters = {"markdown2html": "minilora.classroom.grading.by_text.safe_html"}
'''
METADATA = {  # metadata of each notebook
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
INTRO = """Replace each `raise NotImplementedError()` with your code. The cell below a task checks what you have run so
far and says what is wrong. Before you hand in, restart the kernel and run all cells from the top."""


def write_course(folder: Path, lessons: list[Lesson]) -> list[Path]:
    """Write the course, and return the paths of its notebooks.

    Raises MiniloraError, before anything is written, if `folder` exists and is not an empty folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MiniloraError(f"{escape(str(folder))} exists and is not an empty folder; choose another")
    copies: dict[Path, Path] = {}
    notebooks = []
    for lesson in lessons:
        source = folder / "source" / lesson.name
        copies |= {source / name: path for name, path in lesson.readings.items()}
        copies |= {source / path.name: path for path in lesson.beside}
        copies[folder / TEACHER / f"{lesson.name}.md"] = lesson.folder / TEACHING
        notebooks.append(source / f"{lesson.name}.ipynb")
        write_atomic(notebooks[-1], json.dumps(notebook(lesson), indent=1, ensure_ascii=False) + "\n")
    for target, path in copies.items():
        write_atomic(target, path.read_bytes())
    write_atomic(folder / CONFIG, CONFIG_TEXT)
    return notebooks


def notebook(lesson: Lesson) -> dict:
    """Make the source notebook of a lesson, in nbformat 4.5."""
    cells: list[dict] = []

    def add(kind: str, name: str, text: str, **marks: object) -> None:
        marks = {"grade": False, "locked": True, "solution": False, "task": False} | marks
        marks |= {"grade_id": name, "schema_version": 3}
        cell = {"cell_type": kind, "id": f"{lesson.name[:2]}-{name}", "metadata": {"nbgrader": marks}}
        cell["source"] = text.splitlines(keepends=True)
        cells.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))

    parts = parts_of(lesson.source.lines)
    last = {gap.task: max(i for i, part in enumerate(parts) if part[0] <= gap.first) for gap in lesson.source.gaps}
    for i, (_, is_markdown, text) in enumerate(parts):
        if is_markdown:
            text = re.sub(rf"`minilora check {lesson.number:02}", rf"\g<0> --file {lesson.name}.ipynb", text)
            add("markdown", f"text-{i:02}", text)
        elif "### BEGIN SOLUTION" in text:
            add("code", f"answer-{i:02}", text, solution=True, locked=False)
        else:
            add("code", f"given-{i:02}", text)
        if i == 0:
            add("markdown", "how", INTRO)
            add("code", "start", f"{NBCHECK}  # notes which cells run after this one")
        for task in [task for task, part in last.items() if part == i]:
            head = f"# Task {task}, {POINTS} points: {lesson.source.titles[task]}"
            text = f'{head}\n{NBCHECK}\n\nnbcheck.task("{lesson.number:02}", {task})'
            add("code", f"task-{task}", text, grade=True, points=POINTS)
    for number, (question, rubric) in enumerate(questions_of(lesson), start=1):
        add("markdown", f"question-{number}", f"## Question {number}, {QUESTION_POINTS} points\n\n{question}")
        add("markdown", f"words-{number}", rubric, grade=True, solution=True, locked=False, points=QUESTION_POINTS)
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def questions_of(lesson: Lesson) -> list[tuple[str, str]]:
    """Read the open questions and their rubrics from the lesson's teaching.md."""
    path = lesson.folder / TEACHING
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    parts = [part.partition(RUBRIC) for part in re.split(r"^## Question \d+$", text, flags=re.MULTILINE)[1:]]
    return [(question.strip(), rubric.strip()) for question, _, rubric in parts]


def parts_of(lines: list[str]) -> list[tuple[int, bool, str]]:
    """Split a py:percent file into cells: (index of the first line, True if it is Markdown, text)."""
    parts = []
    starts = [i for i, line in enumerate(lines) if line.startswith("# %%")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        is_markdown = "[markdown]" in lines[start]
        body = [line.removeprefix("#").removeprefix(" ") if is_markdown else line for line in lines[start + 1 : end]]
        if text := "\n".join(body).strip("\n"):
            parts.append((start, is_markdown, text))
    return parts


# Marks of .py files


def write_marks(folder: Path, lessons: list[Lesson], out: Path) -> int:
    """Grade the students' files in a folder, write the table of marks, and return the number of students.

    A row has the student, the points for each lesson (empty if nothing was handed in), their sum, and notes. Raises
    MiniloraError.
    """
    if out.exists():
        raise MiniloraError(f"--out {escape(str(out))} exists already; choose another --out")
    students = find_answers(folder, lessons)
    bubblewrap()
    table = io.StringIO()
    rows = csv.writer(table)
    titles = [f"{lesson.name} (of {POINTS * len(lesson.source.titles)})" for lesson in lessons]
    rows.writerow(["student", *titles, "sum", "notes"])
    with progress_bar("mark", len(students)) as advance:
        for student, answers in students.items():
            marks = {lesson.name: mark(answers[lesson.name], lesson) for lesson in lessons if lesson.name in answers}
            points = [marks[lesson.name][0] if lesson.name in marks else "" for lesson in lessons]
            notes = "; ".join(f"{name}: {note}" for name, (_, note) in marks.items() if note)
            rows.writerow([plain(student), *points, sum(gained for gained, _ in marks.values()), plain(notes)])
            advance()
    write_atomic(out, table.getvalue())
    return len(students)


def find_answers(folder: Path, lessons: list[Lesson]) -> dict[str, dict[str, Path]]:
    """Return {student: {lesson: file}}. Raises MiniloraError if there is no file, or a student has two for a lesson."""
    top = folder.resolve()
    students: dict[str, dict[str, Path]] = {path.name: {} for path in sorted(top.glob("[!.]*/"))}
    for student, answers in students.items():
        for lesson in lessons:
            files = [*(top / student).rglob(f"{lesson.name}.py"), *(top / student).rglob(f"{lesson.name}/exercise.py")]
            if len(files) > 1:
                both = escape(" and ".join(str(file.relative_to(top)) for file in sorted(files)[:2]), 200)
                raise MiniloraError(f"a student has two answers to lesson {lesson.number:02}, remove one: {both}")
            if files:
                answers[lesson.name] = files[0]
    if len(lessons) == 1:
        students |= {path.stem: {lessons[0].name: path} for path in sorted(top.glob("*.py"))}
    if not any(students.values()):
        name = f"{lessons[0].name}.py"
        raise MiniloraError(
            f"no exercises in {escape(str(folder))}: it needs a folder for each student, with {name} in it"
        )
    return students


def mark(path: Path, lesson: Lesson) -> tuple[int, str]:
    """Grade a file, and return its points and a note. Never raises, whatever is in the file."""
    if path.resolve() != path:
        return 0, "it is a link, or in a linked folder"
    try:
        with Isolated() as sandbox:
            results = grade(lesson, Submission(path, lesson), sandbox)
    except (MiniloraError, OSError) as error:
        return 0, str(error)
    except Exception as error:  # noqa: BLE001 (a bug in a check must not stop the grading of the other students)
        return 0, f"the checks themselves failed ({type(error).__name__}: {escape(str(error))}); grade it by hand"
    not_passed = [result for result in results if result.verdict != PASSED]
    return POINTS * (len(results) - len(not_passed)), "; ".join(map(note_on, not_passed))


def note_on(result: Result) -> str:
    """Say in a line why a task did not pass."""
    note = f"task {result.task} {result.verdict}"
    if result.got:
        note += f" ({'got ' * bool(result.call)}{shorten(result.got, 80, placeholder=' …')})"
    return f"{note}: {result.hint.rstrip('.')}" if result.hint else note


def plain(text: str) -> str:
    """Return text on one line, behind an apostrophe if a spreadsheet would take it for a formula."""
    text = escape(" ".join(text.split()), 10_000)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
