"""Marks of an nbgrader course from the text of the students' cells. In the course's nbgrader_config.py:

    c.Autograde.exporter_class = "minilora.classroom.grading.by_text.HandedIn"
    c.Autograde.autograde_preprocessors = ["minilora.classroom.grading.by_text.GradeByText", ...]
    c.HTMLExporter.filters = {"markdown2html": "minilora.classroom.grading.by_text.safe_html"}

`HandedIn` reads what a student handed in: of each cell the kind, the text and which cell of the teacher's it is, and
nothing else; the test cells are those of the gradebook. `GradeByText` stands where nbgrader runs the notebook
(`Execute`): it gives each test cell the output that it would have, from a check in the sandbox. No line of a student's
runs in nbgrader's process or in a kernel, and where the code runs it may not read the course.
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
lesson_of = cache(find_lesson)  # what a lesson has read is kept
TRIES = 4  # of running all cells together, each without those that did not come to their end before


class HandedIn(NotebookExporter):
    """Exporter that reads a student's notebook; a file that is none gives a page that says so."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        try:
            bubblewrap()
        except MiniloraError as error:  # here, before anything is written
            self.log.error(str(error))
            raise NbGraderException(str(error)) from error

    def from_filename(self, filename: str, resources: Any = None, **named: Any) -> Any:
        handed_in, names = cells_of(Path(filename)), resources["nbgrader"]
        with Gradebook(names["db_url"]) as book:
            cells = with_teachers_marks(handed_in, book.find_notebook(names["notebook"], names["assignment"]))
        return self.from_notebook_node(v4.new_notebook(cells=cells, metadata=METADATA), resources, **named)


def cells_of(path: Path) -> list[Cell]:
    """Read what a student handed in. A file that is no notebook becomes a cell that says so."""
    try:
        if path.is_symlink() or path.parent.is_symlink():
            raise MiniloraError(f"{path.name} is a link, or lies in one")
        return read_cells(path, path.name)
    except MiniloraError as error:
        return [("markdown", f"**No answer here counts:** {error}.", "")]


def with_teachers_marks(handed_in: list[Cell], page: Any) -> list:
    """Return a notebook's cells; the teacher's marked and locked ones are as the gradebook has them.

    Of several with one id the last is it. A test that is missing comes back at the end.
    """
    source = {cell.name: cell for cell in page.source_cells}
    points = {cell.name: cell.max_score for cell in [*page.grade_cells, *page.task_cells]}
    graded, solved, tasks = (
        {cell.name for cell in part} for part in (page.grade_cells, page.solution_cells, page.task_cells)
    )

    def teachers(name: str, text: str) -> Any:
        known = source[name]
        marks = {"grade_id": name, "schema_version": 3, "cell_type": known.cell_type, "checksum": known.checksum}
        marks |= {"grade": name in graded, "solution": name in solved, "task": name in tasks, "locked": known.locked}
        marks |= {"points": points[name]} if name in points else {}
        cell = NEW[known.cell_type](known.source if known.locked else text, metadata={"nbgrader": marks})
        if is_test(cell):  # until it is graded, so that nothing passes where nobody grades
            cell.outputs = [failed("This was not graded.")]
        return cell

    last = {name: i for i, (_, _, name) in enumerate(handed_in)}
    cells = [
        teachers(name, text) if name in source and last[name] == i else NEW[kind](text)
        for i, (kind, text, name) in enumerate(handed_in)
    ]
    return cells + [teachers(name, source[name].source) for name in source if name in points and name not in last]


def is_test(cell: Any) -> bool:
    """Return True if a cell is graded by a check."""
    marks = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and bool(marks.get("grade")) and not marks.get("solution")


def failed(report: str) -> Any:
    """Make the output of a cell that gets no points."""
    return v4.new_output("error", ename="NotPassed", evalue="", traceback=report.splitlines())


def safe_html(text: str) -> str:
    """Make HTML of Markdown, without scripts: one in a student's page could set marks as its reader can."""
    return bleach.clean(markdown2html(text), tags={*bleach.ALLOWED_TAGS, *TAGS}, attributes=ATTRIBUTES)


class GradeByText(NbGraderPreprocessor):
    """Preprocessor that gives each test cell its output. One that is no NbGraderPreprocessor is off by default."""

    seconds = Float(SECONDS, help="Seconds of processor time for a task, and once for all cells.").tag(config=True)

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
                code[number - 1].outputs = [failed(f"This cell counts as not there. {why[0].upper()}{why[1:]}")]
            for cell, calls in tests:
                above = [(n, text) for n, text in answers if n < cell.execution_count and n not in left_out]
                for word, task in calls:
                    passed, report = judge(lesson_of(word), task, above, sandbox)
                    shown = v4.new_output("stream", name="stdout", text=report) if passed else failed(report)
                    cell.outputs.append(shown)
                if not calls:
                    self.log.warning("Cell %s has other tests than minilora's: no points", cell.metadata.nbgrader)
                    cell.outputs = [failed("Only calls of nbcheck.task are graded: put your own into checks.py.")]
        return nb, resources


def find_endless(cells: list[tuple[int, str]], lesson: Lesson, sandbox: Sandbox) -> dict[int, str]:
    """Find cells (number, text) that do not come to their end, or ask for too much memory: {number: why}.

    All are run together, and again without the one that failed, each time for half as long as before. After so many
    tries, what follows is left out too.
    """
    out: dict[int, str] = {}
    for attempt in range(1, TRIES + 1):
        text = Cells([(number, code) for number, code in cells if number not in out], lesson)
        try:
            sandbox.start(job_of(lesson, text), max(1, round(sandbox.seconds / 2**attempt))).close()
            return out | {number: f"it is no Python: {why}" for number, why in text.unreadable.items()}
        except RunFailed as failure:
            if failure.statement is None:  # the sandbox did not come as far as the student's text
                raise MiniloraError(f"{failure}. {failure.hint}") from failure
            last = int(re.sub(r"\D", "", text.place(failure.statement).partition(",")[0]))
            out[last] = f"{failure}. {failure.hint}".strip()
    return out | {n: "a cell above used up the time" for n, _ in cells if n > last and n not in out}
