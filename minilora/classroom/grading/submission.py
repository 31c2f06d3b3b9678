"""A student's file, read: a .py file, or a notebook whose code cells are put together.

Everything here looks at the text alone; nothing of it is run.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.lessons.source import functions, used_names
from minilora.classroom.sandbox.child import covers
from minilora.classroom.sandbox.runner import RunFailed
from minilora.errors import MiniloraError, escape

SIZE_LIMIT = 5_000_000  # bytes
ANSWERS = ("solution", "checks", "mistakes")  # of a lesson's files, those that no submission may import
NBCHECK = "from minilora.classroom.grading import nbcheck"
MAGIC = re.compile(r"%%(time|capture|prun)\b")  # of cells, those below which Python stands that counts
TIMED = re.compile(r"^(\s*)%time\s+(?=\S)")  # before a statement
SHELL = re.compile(r"^(\s*)([%!].*|[^#\s].*\?|[\w, ]+=\s*[%!].*)\s*$")  # a line that only IPython reads
NBGRADER_STUB = "raise NotImplementedError()"  # what nbgrader puts in place of a solution


class Submission:
    """The text of a file for a lesson, and what it defines.

    Raises MiniloraError where the file cannot be read as Python, holds none of the lesson's names, or has one of them
    misspelled.
    """

    def __init__(self, path: Path, lesson: Lesson):
        self.path, self.lesson, self.shown = path, lesson, _shorter(path)
        self._cells: list[tuple[int | str, int]] = []  # of a notebook: (number of the cell, its first line)
        self.failed: RunFailed | None = None  # if a run of the file's own lines did not come to their end
        text = _read(path, self.shown)
        self._take(self._join_cells(self._cells_of(text)) if path.suffix == ".ipynb" else text)
        names = _names_of(lesson)
        self._check_some_are_defined(names)
        self._check_names(names)

    def _take(self, source: str) -> None:
        """Read the text, as far as that needs no lesson's names."""
        self.source = source
        try:
            with warnings.catch_warnings(action="ignore"):
                self.tree = ast.parse(self.source, str(self.path))
        except SyntaxError as error:
            raise MiniloraError(f"{self.shown}, {self._syntax_error(error)}") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise MiniloraError(f"{self.shown} cannot be read as Python: {escape(str(error))}") from error
        if self._cells:
            self.source = self._with_named_stubs()
        self.defined = dict(_defined(self.tree.body))

    def place(self, line: int) -> str:
        """Name a line of the source as the student knows it."""
        for number, first in reversed(self._cells):
            if line >= first:
                return f"cell {number}, line {line - first + 1}"
        return f"line {line}"

    def cell_at(self, line: int) -> int:
        """Return the number of the notebook's cell that a line of the source is from."""
        return int(self.place(line).removeprefix("cell ").partition(",")[0].strip("[]"))

    def missing(self, task: int) -> list[str]:
        """Return the names that a task asks for and the file does not define."""
        return [name for name in self.lesson.source.names(task) if name not in self.defined]

    def _cells_of(self, text: str) -> list[tuple[int | str, str]]:
        """Return (number, code) of a notebook's code cells."""
        try:
            cells: list[tuple[int | str, str]] = [
                (number, "".join(cell["source"]))
                for number, cell in enumerate(json.loads(text)["cells"], start=1)
                if cell["cell_type"] == "code"
            ]
        except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
            raise MiniloraError(f"{self.shown} is not a notebook that can be read") from error
        if (size := sum(len(code) for _, code in cells)) > SIZE_LIMIT:
            raise MiniloraError(f"{self.shown} has {size:,} characters of code, more than any exercise")
        return cells

    def _join_cells(self, cells: list[tuple[int | str, str]]) -> str:
        lines: list[str] = []
        for number, code in cells:
            if (python := _as_python(code)) and not is_check(python):
                self._cells.append((number, len(lines) + 1))
                lines += python
        return "\n".join(lines) + "\n"

    def _with_named_stubs(self) -> str:
        """Put the lesson's own messages into nbgrader's stubs, so that a gap is known by its task."""
        lines, source = self.source.split("\n"), self.lesson.source
        gaps = {gap.where: gap for gap in source.gaps}
        for name, node in functions(self.tree):
            for i in range(node.lineno - 1, node.end_lineno or 0) if name in gaps else ():
                if lines[i].strip() == NBGRADER_STUB:
                    lines[i] = lines[i].replace("()", f'("{source.stub(gaps[name])}")')
        return "\n".join(lines)

    def _syntax_error(self, error: SyntaxError) -> str:
        line = (error.text or "").rstrip("\n")
        column = min(max((error.offset or 1) - 1, 0), len(line))
        marked = (line[:column] + "^" + line[column:]).strip()
        return f"{self.place(error.lineno or 1)}, at the ^: {error.msg}: {escape(marked)}"

    def _check_some_are_defined(self, wanted: list[str]) -> None:
        if not set(wanted) & set(self.defined):
            what = "no cell of it defines" if self.path.suffix == ".ipynb" else "it defines none of"
            near = _near(wanted, list(self.defined))
            raise MiniloraError(
                f"{self.shown} is no exercise of lesson {self.lesson.number:02}: {what} {', '.join(wanted)}"
                + (f"; is {near[1]} meant to be {near[0]}?" if near else "")
            )

    def _check_names(self, names: list[str]) -> None:
        """Raise MiniloraError if a name is misspelled."""
        wanted = [name for name in _names_of(self.lesson) if name in names and name not in self.defined]
        others = [name for name in self.defined if name not in _names_of(self.lesson)]
        if near := _near(wanted, others):
            raise MiniloraError(f"{self.shown} has no {near[0]}; is {near[1]} meant to be it?")

    def forbidden(self, task: int) -> tuple[int, str] | None:
        """Find the first use of a part of minilora that the lesson does not open, or of its solution: (line, name).

        What the functions of other tasks use is theirs alone.
        """
        uses, closed = self.lesson.uses, []
        others = set(_names_of(self.lesson)) - set(self.lesson.source.names(task))
        blocks = [node for name, node in self.defined.items() if name in others and hasattr(node, "body")]
        theirs = [(node.lineno, node.end_lineno or 0) for node in blocks]
        for line, name in used_names(self.tree):
            if any(first <= line <= last for first, last in theirs):
                continue
            plain = name.removesuffix(".*")  # all of a module: not even where the lesson uses a part of it
            holds_used = plain == name and any(covers([plain], use) for use in uses)
            is_closed = covers(["minilora"], plain) and not (covers(uses, plain) or holds_used)
            if is_closed or covers(ANSWERS, plain):
                closed.append((line, plain))
        return min(closed, default=None)


class Cells(Submission):
    """The code cells of a notebook, (number, code) each, as an answer to one task of a lesson, or to none.

    Cells that are no Python are left out: `unreadable` says of each what is wrong. Raises MiniloraError where a name of
    this task is misspelled.
    """

    def __init__(self, cells: list[tuple[int, str]], lesson: Lesson, task: int | None = None):
        self.path, self.lesson, self.shown = Path("notebook"), lesson, "This notebook"
        self.failed = None
        self._cells = []
        self.unreadable: dict[int, str] = {}
        readable = [cell for cell in cells if self._is_readable(*cell)]
        self._cells = []
        self._take(self._join_cells([(f"[{number}]", code) for number, code in readable]))
        if task is not None:
            self._check_names(lesson.source.names(task))

    def _is_readable(self, number: int, code: str) -> bool:
        """True if a cell is Python; if not, `unreadable` says what is wrong."""
        self._cells = []
        try:
            self._take(self._join_cells([(f"[{number}]", code)]))
        except MiniloraError as error:
            self.unreadable[number] = str(error).removeprefix(f"{self.shown}, ")
        return number not in self.unreadable


def _read(path: Path, shown: str) -> str:
    if path.suffix not in (".py", ".ipynb"):
        raise MiniloraError(f"{shown} is neither a .py file nor a notebook (.ipynb)")
    if not path.exists():
        raise MiniloraError(f"no file {shown}")
    if not path.is_file():
        raise MiniloraError(f"{shown} is not a file")
    if path.stat().st_size > SIZE_LIMIT and path.suffix == ".py":
        raise MiniloraError(f"{shown} is {path.stat().st_size:,} bytes long, more than any exercise")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MiniloraError(f"{shown} is not UTF-8 text (byte {error.start})") from error


def _shorter(path: Path) -> str:
    """Shorten a path: from the current folder, if it is below that; the end of a long one."""
    try:
        text = str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        text = str(path)
    text = escape(text, 10_000)
    return text if len(text) <= 60 else f"…{text[-59:]}"


def _as_python(code: str) -> list[str]:
    """Return a cell's lines with `pass` for what only IPython reads; none if it is in another language."""
    lines = code.splitlines()
    for i, line in enumerate(lines):
        if MAGIC.match(line):
            lines[i] = "pass"
        elif line.strip():
            break
    if "\n".join(lines).lstrip().startswith("%%"):
        return []
    if _parsed("\n".join(lines)) is None:
        lines = [SHELL.sub(r"\1pass", TIMED.sub(r"\1", line)) for line in lines]
    return lines


def is_check(lines: list[str]) -> bool:
    """Return True if a cell does nothing but call `nbcheck`, which is no part of the answer."""
    text = "\n".join(lines)
    tree = _parsed(text) if "nbcheck" in text else None
    try:
        statements = [ast.unparse(node) for node in tree.body] if tree else []
    except RecursionError:
        return False
    called = ("nbcheck.task(", "nbcheck.hidden(")
    return bool(statements) and all(s == NBCHECK or s.startswith(called) for s in statements)


def _parsed(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _names_of(lesson: Lesson) -> list[str]:
    names = {name for task in lesson.source.titles for name in lesson.source.names(task)}
    return [name for name, _ in _defined(lesson.source.tree.body) if name in names]


def _defined(statements: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield (name, node) of what the top of a file binds, also inside if, try and with."""
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name.partition(".")[0], node) for alias in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((n.id, node) for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))
        else:
            for part in ("body", "orelse", "finalbody"):
                yield from _defined(getattr(node, part, []))


def _near(wanted: list[str], others: list[str]) -> tuple[str, str] | None:
    """Return (a wanted name, another that looks like it)."""
    for name in wanted:
        if close := get_close_matches(name, others, n=1, cutoff=0.75):
            return name, close[0]
    return None
