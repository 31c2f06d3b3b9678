"""Marks of an nbgrader course from the text of the students' cells. In the course's nbgrader_config.py:

    c.Autograde.exporter_class = "minilora.classroom.grading.by_text.HandedIn"
    c.Autograde.autograde_preprocessors = ["minilora.classroom.grading.by_text.GradeByText", ...]
    c.HTMLExporter.filters = {"markdown2html": "minilora.classroom.grading.by_text.safe_html"}

`HandedIn` reads what a student handed in: of each cell the kind, the text and which cell of the teacher's it is, and
nothing else; the test cells are those of the gradebook. `GradeByText` stands where nbgrader runs the notebook
(`Execute`): it gives each test cell the output that it would have, from a check in the sandbox. No line of a student's
runs in nbgrader's process or in a kernel, and where the code runs it may not read the course.
"""

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

import bleach
from nbconvert.exporters import NotebookExporter
from nbconvert.filters import markdown2html
from nbformat import v4
from nbgrader.api import Gradebook
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Float

from minilora.classroom.grading.grade import PASSED, job_of
from minilora.classroom.grading.nbcheck import judge, task_of
from minilora.classroom.grading.submission import Cells, is_check
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from minilora.classroom.sandbox.isolated import Isolated, bubblewrap
from minilora.classroom.sandbox.runner import SECONDS, WAITED, RunFailed, Sandbox
from minilora.errors import MiniloraError

FILE_LIMIT, CELLS_LIMIT, TEXT_LIMIT = 500_000_000, 1_000, 100_000  # bytes with all outputs; cells; characters
TAGS = "br dd del div dl dt h1 h2 h3 h4 h5 h6 hr img p pre s span sub sup table tbody td th thead tr".split()
ATTRIBUTES = {"*": ["class", "id"], "a": ["href"], "img": ["src", "alt"]}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


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
        names = resources["nbgrader"]
        try:
            handed_in, problem = read_cells(Path(filename)), ""
        except MiniloraError as error:
            handed_in, problem = [], str(error)
        with Gradebook(names["db_url"]) as book:
            cells = with_teachers_marks(handed_in, book.find_notebook(names["notebook"], names["assignment"]))
        if problem:
            cells.insert(0, v4.new_markdown_cell(f"**No answer here counts:** {problem}."))
        return self.from_notebook_node(v4.new_notebook(cells=cells, metadata=METADATA), resources, **named)


def read_cells(path: Path) -> list[tuple[str, str, str]]:
    """Read of each cell ("code" or "markdown", text, the id that nbgrader gave it), whoever made the file.

    Raises MiniloraError where it is no notebook of a size that people write.
    """
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        raise MiniloraError("what was handed in is a link or a folder, not a file")
    if path.stat().st_size > FILE_LIMIT:
        raise MiniloraError(f"the file is {path.stat().st_size:,} bytes long, more than {FILE_LIMIT:,}")
    try:
        page = json.loads(path.read_bytes())
        cells = page["cells"] if "cells" in page else page["worksheets"][0]["cells"]  # until nbformat 3
        parsed = [_cell(cell) for cell in cells[: CELLS_LIMIT + 1]]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise MiniloraError("what was handed in is not a notebook that can be read") from error
    if len(parsed) > CELLS_LIMIT or sum(len(text) for _, text, _ in parsed) > TEXT_LIMIT:
        raise MiniloraError(f"the notebook has more than {CELLS_LIMIT:,} cells or {TEXT_LIMIT:,} characters of text")
    return parsed


def _cell(cell: dict[str, Any]) -> tuple[str, str, str]:
    text = "".join(cell.get("source", cell.get("input", "")))
    name = cell.get("metadata", {}).get("nbgrader", {}).get("grade_id", "")
    kind = "code" if cell.get("cell_type") == "code" else "markdown"  # a raw one would be a part of the page's HTML
    return kind, text.encode("utf-8", "replace").decode(), str(name)


def with_teachers_marks(handed_in: list[tuple[str, str, str]], page: Any) -> list:
    """Return a notebook's cells; the teacher's marked and locked ones are as the gradebook has them.

    Of several with one id the last is it. A test that is missing comes back before the next cell that is still there,
    else at the end.
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
        text = known.source if known.locked else text
        if known.cell_type == "markdown":
            return v4.new_markdown_cell(text, metadata={"nbgrader": marks})
        # until it is graded, so that nothing passes where nobody grades
        outputs = [failed("This was not graded.")] if is_test(marks) else []
        return v4.new_code_cell(text, metadata={"nbgrader": marks}, outputs=outputs)

    new = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell}
    last = {name: i for i, (_, _, name) in enumerate(handed_in)}
    names = [name if name in source and last[name] == i else "" for i, (_, _, name) in enumerate(handed_in)]
    cells = [
        teachers(name, text) if name else new[kind](text)
        for name, (kind, text, _) in zip(names, handed_in, strict=True)
    ]
    place = len(cells)
    for name in reversed(source):
        if name in names:
            place = names.index(name)
        elif name in graded | tasks:
            cells.insert(place, teachers(name, source[name].source))
            names.insert(place, name)
    return cells


def is_test(marks: dict[str, Any]) -> bool:
    """Return True if a cell with these marks of nbgrader's is graded by a check."""
    return bool(marks.get("grade")) and not marks.get("solution")


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
        root = Path(CourseDirectory(config=self.config).root)
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        for number, cell in enumerate(code, start=1):
            cell.execution_count, cell.outputs = number, []
        tests = {cell.execution_count: cell for cell in code if is_test(cell.metadata.get("nbgrader", {}))}
        answers = [(cell.execution_count, cell.source) for cell in code if cell.execution_count not in tests]
        calls = {number: calls_of(cell.source) for number, cell in tests.items()}
        with Isolated(self.seconds) as sandbox:
            left_out: dict[str, dict[int, str]] = {}
            for word in {word for of_cell in calls.values() for _, word, _ in of_cell}:
                left_out[word] = find_endless(answers, lesson_of(word), sandbox)
                for number, why in left_out[word].items():
                    code[number - 1].outputs = [failed(f"This cell counts as not there. {why[0].upper()}{why[1:]}")]
            for number, cell in tests.items():
                for kind, word, task in calls[number]:
                    above = [(n, text) for n, text in answers if n < number and n not in left_out[word]]
                    lesson = lesson_of(word)
                    check = task_of(lesson, task, root if kind == "hidden" else None)
                    result, report = judge(lesson, check, above, sandbox)
                    out = v4.new_output("stream", name="stdout", text=report)
                    cell.outputs.append(out if result.verdict == PASSED else failed(report))
                if not calls[number]:
                    self.log.warning("Cell %s has other tests than minilora's: no points", cell.metadata.nbgrader)
                    cell.outputs = [failed("Only calls of nbcheck.task and nbcheck.hidden are graded; no cell is run.")]
        return nb, resources


@cache
def lesson_of(word: str) -> Lesson:
    """Find a lesson; what it has read is kept."""
    return find_lesson(word)


def calls_of(text: str) -> list[tuple[str, str, int]]:
    """Return ("task" or "hidden", lesson, number) of each call of nbcheck in a cell; none if it has other lines."""
    if not is_check(text.splitlines()):
        return []
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return [(ast.unparse(call.func)[8:], *(ast.literal_eval(a) for a in call.args)) for call in calls]


def find_endless(cells: list[tuple[int, str]], lesson: Lesson, sandbox: Sandbox) -> dict[int, str]:
    """Find cells (number, text) that do not come to their end, or ask for too much memory: {number: why}.

    All are run together, and again without the one that failed, for half of the time that is left of a task's. When
    that is used up, what follows is left out too.
    """
    left, out = float(sandbox.seconds), dict[int, str]()
    while True:
        text = Cells([(number, code) for number, code in cells if number not in out], lesson)
        used = sandbox.used
        try:
            sandbox.start(job_of(lesson, text), max(1, round(left / 2))).close()
            return out | {n: f"it is no Python: {why}" for n, why in text.unreadable.items()}
        except RunFailed as failure:
            line, why = failure.statement, f"{failure}. {failure.hint}".strip()
            left -= left / 2 if failure.hint == WAITED else sandbox.used - used
        if line is None:  # the sandbox did not come as far as the student's text
            raise MiniloraError(why)
        number = text.cell_at(line)
        out[number] = why
        if left < sandbox.seconds / 10:
            return out | {n: "a cell above used up the time" for n, _ in cells if n > number and n not in out}
