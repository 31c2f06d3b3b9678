"""Marks for an nbgrader course, given by the text of the students' cells. In the course's nbgrader_config.py:

    c.Autograde.exporter_class = "minilora.classroom.grading.by_text.HandedIn"
    c.Autograde.autograde_preprocessors = ["minilora.classroom.grading.by_text.GradeByText", ...]
    c.HTMLExporter.filters = {"markdown2html": "minilora.classroom.grading.by_text.safe_html"}

`HandedIn` reads a student's notebook: the kind and text of each cell, and to which of the teacher's cells it belongs,
but nothing else. The test cells are taken from the gradebook. `GradeByText` replaces nbgrader's `Execute`, which would
run the notebook: it gives each test cell the output that it would have, by a check in the sandbox. So no student's code
runs in nbgrader's process or in a kernel, and where it does run it cannot read the course.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import bleach
from nbconvert.exporters import NotebookExporter
from nbconvert.filters import markdown2html
from nbformat import v4
from nbgrader.api import Gradebook
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Float

from minilora.classroom.course import METADATA
from minilora.classroom.grading.grade import job_of
from minilora.classroom.grading.nbcheck import judge
from minilora.classroom.grading.submission import Cell, Cells, calls_of, read_cells
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from minilora.classroom.sandbox.isolated import Isolated, bubblewrap
from minilora.classroom.sandbox.runner import SECONDS, RunFailed, Sandbox
from minilora.errors import MiniloraError

TAGS = "br dd del div dl dt h1 h2 h3 h4 h5 h6 hr img p pre s span sub sup table tbody td th thead tr".split()
ATTRIBUTES = {"*": ["class", "id"], "a": ["href"], "img": ["src", "alt"]}
NEW = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell}
lesson_of = cache(find_lesson)  # cached, because a Lesson keeps the files that it has read
TRIES = 4  # runs of all cells together, each without the cells that did not end in the runs before


class HandedIn(NotebookExporter):
    """An exporter that reads a student's notebook. A file that is not a notebook gives a page that says so."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        try:
            bubblewrap()
        except MiniloraError as error:  # reported here, before anything is written
            self.log.error(str(error))
            raise NbGraderException(str(error)) from error

    def from_filename(self, filename: str, resources: Any = None, **named: Any) -> Any:
        handed_in, names = cells_of(Path(filename)), resources["nbgrader"]
        with Gradebook(names["db_url"]) as book:
            cells = with_teachers_marks(handed_in, book.find_notebook(names["notebook"], names["assignment"]))
        return self.from_notebook_node(v4.new_notebook(cells=cells, metadata=METADATA), resources, **named)


def cells_of(path: Path) -> list[Cell]:
    """Read a student's notebook. If that fails, return a single cell that says why."""
    try:
        if path.is_symlink() or path.parent.is_symlink():
            raise MiniloraError(f"{path.name} is a link, or in a linked folder")
        return read_cells(path, path.name)
    except MiniloraError as error:
        return [("markdown", f"**This notebook was not graded:** {error}.", "")]


def with_teachers_marks(handed_in: list[Cell], page: Any) -> list:
    """Return a notebook's cells, with the teacher's graded and locked cells as the gradebook has them.

    If several cells have the same id, the last one counts. A missing test cell is added at the end.
    """
    source = {cell.name: cell for cell in page.source_cells}
    points = {cell.name: cell.max_score for cell in [*page.grade_cells, *page.task_cells]}
    graded, solved, tasks = (
        {cell.name for cell in part} for part in (page.grade_cells, page.solution_cells, page.task_cells)
    )

    def teachers_cell(name: str, text: str) -> Any:
        original = source[name]
        locked = original.locked
        marks = {"grade_id": name, "schema_version": 3, "cell_type": original.cell_type, "checksum": original.checksum}
        marks |= {"grade": name in graded, "solution": name in solved, "task": name in tasks, "locked": locked}
        marks |= {"points": points[name]} if name in points else {}
        cell = NEW[original.cell_type](original.source if locked else text, metadata={"nbgrader": marks})
        if is_test(cell):  # failed until it is graded, so that a test that is never graded does not pass
            cell.outputs = [failed("This was not graded.")]
        return cell

    last = {name: i for i, (_, _, name) in enumerate(handed_in)}
    cells = [
        teachers_cell(name, text) if name in source and last[name] == i else NEW[kind](text)
        for i, (kind, text, name) in enumerate(handed_in)
    ]
    missing = [name for name in source if name in points and name not in last]
    return cells + [teachers_cell(name, source[name].source) for name in missing]


def is_test(cell: Any) -> bool:
    """Return True if a cell is a test, graded by a check."""
    marks = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and bool(marks.get("grade")) and not marks.get("solution")


def failed(report: str) -> Any:
    """Make the output of a cell that gets no points, with the reason."""
    return v4.new_output("error", ename="NotPassed", evalue="", traceback=report.splitlines())


def safe_html(text: str) -> str:
    """Convert Markdown to HTML without scripts, because a student's script could change marks in the reader's name."""
    return bleach.clean(markdown2html(text), tags={*bleach.ALLOWED_TAGS, *TAGS}, attributes=ATTRIBUTES)


class GradeByText(NbGraderPreprocessor):
    """A preprocessor that gives each test cell its output; nbgrader disables those of any other base class."""

    seconds = Float(SECONDS, help="Seconds of processor time per task, and for running all cells.").tag(config=True)

    def preprocess(self, nb: Any, resources: Any) -> Any:
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        for number, cell in enumerate(code, start=1):
            cell.execution_count, cell.outputs = number, []
        answers = [(cell.execution_count, cell.source) for cell in code if not is_test(cell)]
        tests = [(cell, calls_of(cell.source) or []) for cell in code if is_test(cell)]
        lessons = [lesson_of(word) for _, calls in tests for word, _ in calls]
        with Isolated(self.seconds) as sandbox:
            left_out = find_endless(answers, lessons[0], sandbox) if lessons else {}
            for number, why in left_out.items():
                code[number - 1].outputs = [failed(f"This cell was left out: {why}")]
            for cell, calls in tests:
                above = [(n, text) for n, text in answers if n < cell.execution_count and n not in left_out]
                for word, task in calls:
                    passed, report = judge(lesson_of(word), task, above, sandbox)
                    output = v4.new_output("stream", name="stdout", text=report) if passed else failed(report)
                    cell.outputs.append(output)
                if not calls:
                    self.log.warning("Cell %s gets no points: it does not call nbcheck.task", cell.metadata.nbgrader)
                    cell.outputs = [failed("Only calls of nbcheck.task are graded; put your own tests into checks.py.")]
        return nb, resources


def find_endless(cells: list[tuple[int, str]], lesson: Lesson, sandbox: Sandbox) -> dict[int, str]:
    """Find cells (number, text) that do not end, or ask for too much memory; returns {number: why}.

    All cells are run together, then again without the one that failed, for half as long each time. After TRIES runs,
    all cells below the last failure are left out too.
    """
    out: dict[int, str] = {}
    for attempt in range(1, TRIES + 1):
        text = Cells([(number, code) for number, code in cells if number not in out], lesson)
        try:
            sandbox.start(job_of(lesson, text), max(1, round(sandbox.seconds / 2**attempt))).close()
            return out | {number: f"it is not Python: {why}" for number, why in text.unreadable.items()}
        except RunFailed as failure:
            if failure.statement is None:  # the sandbox failed before it reached the student's text
                raise MiniloraError(f"{failure}. {failure.hint}") from failure
            last = int(re.sub(r"\D", "", text.place(failure.statement).partition(",")[0]))
            out[last] = f"{failure}. {failure.hint}".strip()
    return out | {n: "cells above it used up the time" for n, _ in cells if n > last and n not in out}
