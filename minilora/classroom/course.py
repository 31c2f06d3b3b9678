"""`minilora course`: an nbgrader course, one assignment a lesson.

    nbgrader_config.py            settings; the course's folder is where this file lies
    source/08_lora/08_lora.ipynb  solution.py as a notebook: answers between nbgrader's marks, and a locked cell of
                                  POINTS points after each task, which calls `nbcheck.py`
    source/08_lora/README.md      the lesson's reading
    teacher/08_lora.md            what to do in class: the lesson's teaching.md
    hidden/08_lora.py             a teacher's private checks, where there are some

Nothing here needs nbgrader; docs/teachers.md says how to go on with it.
"""

import json
import re
from collections.abc import Set
from pathlib import Path

from minilora.classroom.grading.grade import PASSED, grade_task
from minilora.classroom.grading.nbcheck import CONFIG, HIDDEN
from minilora.classroom.grading.submission import NBCHECK, Submission
from minilora.classroom.lessons.checking import Task
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.lessons.source import BEGIN
from minilora.classroom.sandbox.runner import Sandbox
from minilora.errors import MiniloraError, escape, first_few
from minilora.formats.atomic import write_atomic

TEACHER = "teacher"  # the folder of pages that students do not get
TEACHING, RUBRIC = "teaching.md", "### Rubric"
POINTS = 10  # of a task; as many again where there is a private check
QUESTION_POINTS = 2  # of an open question, which a person marks
CONFIG_TEXT = '''"""Settings of nbgrader for this course. Run nbgrader's commands in this folder."""

c = get_config()
c.CourseDirectory.course_id = "minilora"

# No cell of a student runs here: `nbgrader autograde` has its text checked in a process that may change nothing.
c.Autograde.exporter_class = "minilora.classroom.grading.by_text.HandedIn"
c.Autograde.autograde_preprocessors = [
    "minilora.classroom.grading.by_text.GradeByText",  # in place of nbgrader's Execute
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
# A script in a student's text does not run in the page that you mark it on.
c.HTMLExporter.filters = {"markdown2html": "minilora.classroom.grading.by_text.safe_html"}
'''
INTRO = """Write in place of `raise NotImplementedError()`. The cell below each task checks what you have run so far and
says what is wrong. Before you hand in, restart the kernel and run all cells from the top."""


def write_course(folder: Path, lessons: list[Lesson], hidden: Path | None = None) -> list[Path]:
    """Write the course; returns the notebooks' paths.

    hidden: a folder of private checks, 08_lora.py and so on. Raises MiniloraError, and has then written
    nothing, where the folder has something in it, the lessons have no solution, or it fails a private check.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MiniloraError(f"{escape(str(folder))} exists and is not an empty folder; choose another")
    private = {} if hidden is None else _private(hidden, lessons)
    notebooks = []
    for lesson in lessons:
        target = folder / "source" / lesson.name
        target.mkdir(parents=True)
        tried = {task.number for task in private.get(lesson.name, (None, ()))[1]}
        text = json.dumps(notebook(lesson, tried), indent=1, ensure_ascii=False)
        notebooks.append(target / f"{lesson.name}.ipynb")
        write_atomic(notebooks[-1], f"{text}\n")
        for name, path in lesson.readings.items():
            (target / name).parent.mkdir(exist_ok=True)
            write_atomic(target / name, path.read_bytes())
        (folder / TEACHER).mkdir(exist_ok=True)
        write_atomic(folder / TEACHER / f"{lesson.name}.md", (lesson.folder / TEACHING).read_bytes())
    for name, (path, _) in private.items():
        (folder / HIDDEN).mkdir(exist_ok=True)
        write_atomic(folder / HIDDEN / f"{name}.py", path.read_bytes())
    write_atomic(folder / CONFIG, CONFIG_TEXT)
    return notebooks


def notebook(lesson: Lesson, with_hidden: Set[int] = frozenset()) -> dict:
    """Make the source notebook of a lesson, as nbformat 4.5 has it. with_hidden: tasks that have a private check."""
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
        else:
            is_answer = any(BEGIN.fullmatch(line) for line in text.splitlines())
            add("code", f"{'answer' if is_answer else 'given'}-{i:02}", text, solution=is_answer, locked=not is_answer)
        if i == 0:
            add("markdown", "how", INTRO)
            add("code", "start", f"{NBCHECK}  # notes from here on which cells have run")
        for number in [task for task, part in last.items() if part == i]:
            call = f'("{lesson.number:02}", {number})'
            text = f"# Task {number}, {POINTS} points: {lesson.source.titles[number]}\n{NBCHECK}\n\n"
            add("code", f"task-{number}", f"{text}nbcheck.task{call}", grade=True, points=POINTS)
            if number in with_hidden:
                text = (
                    f"# Task {number}, {POINTS} points more, when it is graded\n### BEGIN HIDDEN TESTS\n{NBCHECK}\n\n"
                )
                text += f"nbcheck.hidden{call}\n### END HIDDEN TESTS"
                add("code", f"task-{number}-hidden", text, grade=True, points=POINTS)
    for number, (question, rubric) in enumerate(questions_of(lesson), start=1):
        points = QUESTION_POINTS
        add("markdown", f"question-{number}", f"## Question {number}, {points} points\n\n{question}")
        add("markdown", f"words-{number}", rubric, grade=True, solution=True, locked=False, points=points)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def questions_of(lesson: Lesson) -> list[tuple[str, str]]:
    """Read the open questions, with their rubrics, from the lesson's teaching.md."""
    path = lesson.folder / TEACHING
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    parts = [part.partition(RUBRIC) for part in re.split(r"^## Question \d+$", text, flags=re.MULTILINE)[1:]]
    return [(question.strip(), rubric.strip()) for question, _, rubric in parts]


def parts_of(lines: list[str]) -> list[tuple[int, bool, str]]:
    """Read the cells of a py:percent file: (line where it begins, is it Markdown?, text)."""
    parts = []
    starts = [i for i, line in enumerate(lines) if line.startswith("# %%")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        is_markdown = "[markdown]" in lines[start]
        body = [line.removeprefix("#").removeprefix(" ") if is_markdown else line for line in lines[start + 1 : end]]
        if text := "\n".join(body).strip("\n"):
            parts.append((start, is_markdown, text))
    return parts


def _private(folder: Path, lessons: list[Lesson]) -> dict[str, tuple[Path, list[Task]]]:
    """Return {lesson: (the file of its private checks, the checks)}, each tried on the solution."""
    others = {path.stem for path in folder.glob("*.py")} - {lesson.name for lesson in lessons}
    if others:
        raise MiniloraError(
            f"private checks in {escape(str(folder))} are of no lesson in this course: {first_few(sorted(others))}"
        )
    checks: dict[str, tuple[Path, list[Task]]] = {}
    for lesson in lessons:
        if (path := folder / f"{lesson.name}.py").is_file():
            checks[lesson.name] = path, lesson.private_tasks(path)
            solution = Submission(lesson.folder / "solution.py", lesson)
            with Sandbox() as sandbox:
                results = [grade_task(lesson, task, solution, sandbox) for task in checks[lesson.name][1]]
            for result in results:
                if result.verdict != PASSED:
                    says = escape(" ".join([result.call, result.hint]).strip(), 200)
                    raise MiniloraError(
                        f"private checks {escape(str(path))}: the solution fails task {result.task}: {says}"
                    )
    if not checks:
        raise MiniloraError(
            f"no private checks in {escape(str(folder))}: they stand in {lessons[0].name}.py, and so on"
        )
    return checks
