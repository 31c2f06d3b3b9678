"""Reading a student's file: a .py file, or a notebook whose code cells are joined.

Nothing in the file is run here; only its text is read.
"""

import ast
import json
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.lessons.source import functions, used_names
from minilora.classroom.sandbox.runner import RunFailed
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import read_bytes, show_path

SIZES = {".py": 5_000_000, ".ipynb": 500_000_000}  # maximum bytes; a notebook includes its outputs
CELLS_LIMIT, TEXT_LIMIT = 1_000, 100_000  # most cells that a notebook may have, and most characters in them
ANSWERS = ("solution", "checks", "mistakes")  # files of a lesson that no submission may import
NBCHECK = "from minilora.classroom.grading import nbcheck"
MAGIC = re.compile(r"^%%(time|capture|prun)\b.*", re.MULTILINE)  # cell magics that run the Python code below them
SHELL = re.compile(r"^(\s*)([%!].*|[^#\s].*\?|[\w, ]+=\s*[%!].*)\s*$")  # a line that only IPython understands
CALL = re.compile(r"nbcheck\.task\('(\w+)', (\d+)\)")
NBGRADER_STUB = "raise NotImplementedError()"  # nbgrader replaces a solution by this

Cell = tuple[str, str, str]  # "code" or "markdown", the text, the id that nbgrader gave the cell


class Submission:
    """The text of a file for a lesson, and the names it defines.

    Raises MiniloraError if the file cannot be read as Python, or defines none of the lesson's names.
    """

    failed: RunFailed | None = None  # set if a run of the file did not end

    def __init__(self, path: Path, lesson: Lesson):
        self.path, self.lesson, here = path, lesson, Path.cwd()
        self.called: dict[int, set[str]] = {}  # task -> the functions that its check has called, also through others
        whole = path.absolute()
        self.shown = show_path(whole.relative_to(here) if whole.is_relative_to(here) else path, 60)
        if path.suffix == ".ipynb":
            cells = enumerate(read_cells(path, self.shown), start=1)
            self._take((str(number), code) for number, (kind, code, _) in cells if kind == "code")
        else:
            self._take([("", _read(path, self.shown))])
        names = lesson.source.names()
        if not set(names) & self.defined:
            wanted = f"lesson {lesson.number:02}: it defines none of {', '.join(names)}"
            raise MiniloraError(f"{self.shown} is not an exercise of {wanted}")

    def _take(self, cells: Iterable[tuple[str, str]]) -> None:
        """Parse cells, pairs (name, text); a .py file is a single cell without a name. Raises MiniloraError."""
        self._cells: list[tuple[str, int]] = []  # (name, its first line)
        lines: list[str] = []
        for name, text in cells:
            if not name or (text := _as_python(text)):
                self._cells.append((name, len(lines) + 1))
                lines += re.sub("\r\n?", "\n", text).split("\n")
        try:
            with warnings.catch_warnings(action="ignore"):
                self.tree = ast.parse("\n".join(lines), str(self.path))
        except SyntaxError as error:
            where, text = self.place(error.lineno or 1), escape((error.text or "").strip())
            raise MiniloraError(f"{self.shown}, {where}: {error.msg}: {text}") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise MiniloraError(f"{self.shown} cannot be read as Python: {escape(str(error))}") from error
        named = (ast.FunctionDef, ast.ClassDef, ast.alias)
        nodes = list(ast.walk(self.tree))
        self.defined = {getattr(node, "asname", None) or node.name for node in nodes if isinstance(node, named)}
        self.defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        self._name_stubs(lines)
        self.source = "\n".join(lines)

    def _name_stubs(self, lines: list[str]) -> None:
        """Put the lesson's own messages into nbgrader's stubs, so that the checker recognises each gap's task."""
        gaps = {gap.where: gap for gap in self.lesson.source.gaps}
        for name, node in functions(self.tree):
            for i in range(node.lineno - 1, node.end_lineno or 0) if name in gaps else ():
                if lines[i].strip() == NBGRADER_STUB:
                    lines[i] = lines[i].replace("()", f'("{self.lesson.source.stub(gaps[name])}")')

    def place(self, line: int) -> str:
        """Describe a line of the joined source as the student sees it: "cell 3, line 2"."""
        name, first = next((cell for cell in reversed(self._cells) if line >= cell[1]), ("", 1))
        return f"{f'cell {name}, ' if name else ''}line {line - first + 1}"

    def forbidden(self, task: int) -> tuple[int, str] | None:
        """Find the first use of a part of minilora that the lesson does not allow, or of its solution: (line, name).

        Uses in the functions of other tasks do not count, nor do helpers and imports that only those functions use.
        """
        uses, closed, own, names = self.lesson.uses, [], self.lesson.source.names(task), self.lesson.source.names()
        defined = self._definitions
        helpers = {name: node for name, node in defined.items() if name not in names}
        others = set(names) - set(own)
        ours = [node for node in self.tree.body if getattr(node, "name", own[0]) in own]
        theirs = [defined[name] for name in others if name in defined]
        only_theirs = _reach(theirs, helpers) - _reach(ours, helpers)
        nodes = [node for node in self.tree.body if getattr(node, "name", "") in others or _bound(node) <= only_theirs]
        places = [(node.lineno, node.end_lineno or 0) for node in nodes]
        for line, name in used_names(self.tree):
            if any(first <= line <= last for first, last in places):
                continue
            plain = name.removesuffix(".*")  # `import *` is forbidden even if the lesson uses a part of the module
            holds_used = plain == name and any(_covers([plain], use) for use in uses)
            is_closed = _covers(["minilora"], plain) and not (_covers(uses, plain) or holds_used)
            if is_closed or _covers(ANSWERS, plain):
                closed.append((line, plain))
        return min(closed, default=None)

    def builds_on(self, task: int) -> set[int]:
        """Return the earlier tasks whose functions this task's functions use, also through others of the file, or that
        its check has called.
        """
        own, defined = self.lesson.source.names(task), self._definitions
        starts = {*own, *(name.partition(".")[0] for name in self.called.get(task, ()))}
        reached = starts | _reach([defined[name] for name in starts if name in defined], defined)
        gaps = [gap for gap in self.lesson.source.gaps if gap.task < task]
        return {gap.task for gap in gaps if gap.where.partition(".")[0] in reached - {*own}}

    @property
    def _definitions(self) -> dict[str, ast.stmt]:
        """The functions and classes at the top level of the file."""
        return {getattr(node, "name", ""): node for node in self.tree.body}


def _reach(statements: Iterable[ast.stmt], defined: Mapping[str, ast.stmt]) -> set[str]:
    """Return the names that these statements use, and those that the definitions behind these names use."""
    reached: set[str] = set()
    to_see = [*statements]
    while to_see:
        new = _uses(to_see.pop()) - reached
        reached |= new
        to_see += [defined[name] for name in new if name in defined]
    return reached


def _uses(node: ast.stmt) -> set[str]:
    """Return the names that a statement uses, without the variables of its own that a definition has."""
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    own = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    own |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return {name.id for name in names} - (own if hasattr(node, "name") else set())


def _bound(node: ast.stmt) -> set[str]:
    """Return the name that a definition binds, or those of an import; {""} for any other statement."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return {getattr(node, "name", "")}


class Cells(Submission):
    """The code cells of a notebook, pairs (number, code). Cells that are not Python are in `unreadable`, with why."""

    def __init__(self, cells: list[tuple[int, str]], lesson: Lesson):
        self.path, self.lesson, self.shown, self.called = Path("notebook"), lesson, "This notebook", {}
        self.unreadable: dict[int, str] = {}
        for number, code in cells:
            try:
                self._take([(f"[{number}]", code)])
            except MiniloraError as error:
                self.unreadable[number] = str(error).removeprefix(f"{self.shown}, ")
        self._take((f"[{number}]", code) for number, code in cells if number not in self.unreadable)


def _covers(uses: Collection[str], name: str) -> bool:
    """Return True if `name` is one of the dotted names `uses`, or a part of one of them."""
    return any(name == use or name.startswith(f"{use}.") for use in uses)


def _read(path: Path, shown: str) -> str:
    if path.suffix not in SIZES:
        raise MiniloraError(f"{shown} is neither a .py file nor a notebook (.ipynb)")
    try:
        return read_bytes(path, SIZES[path.suffix]).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MiniloraError(f"{shown} is not UTF-8 text (byte {error.start})") from error


def read_cells(path: Path, shown: str) -> list[Cell]:
    """Read the cells of a notebook that may hold anything. Raises MiniloraError if it is too large or not a notebook.

    shown: its name for messages.
    """
    text = _read(path, shown)
    try:
        page = json.loads(text)
        parsed = [_cell(cell) for cell in page["cells"][: CELLS_LIMIT + 1]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise MiniloraError(f"{shown} cannot be read as a notebook") from error
    if len(parsed) > CELLS_LIMIT or sum(len(text) for _, text, _ in parsed) > TEXT_LIMIT:
        raise MiniloraError(f"{shown} has more than {CELLS_LIMIT:,} cells or {TEXT_LIMIT:,} characters of text")
    return parsed


def _cell(cell: dict) -> Cell:
    text = "".join(cell.get("source", ""))
    name = cell.get("metadata", {}).get("nbgrader", {}).get("grade_id", "")
    kind = "code" if cell.get("cell_type") == "code" else "markdown"  # never "raw", which would enter the page's HTML
    return kind, text.encode("utf-8", "replace").decode(), str(name)


def _as_python(code: str) -> str:
    """Return a cell's code with `pass` for IPython's lines; "" for another language or for calls of `nbcheck`."""
    text = MAGIC.sub("pass", code)
    if text.lstrip().startswith("%%") or calls_of(text) is not None:
        return ""
    if _parsed(text) is None:
        text = "\n".join(SHELL.sub(r"\1pass", line) for line in text.split("\n"))
    return text


def calls_of(text: str) -> list[tuple[str, int]] | None:
    """Return (lesson, number) of each call of `nbcheck.task` in a cell; None if the cell has other lines too."""
    tree = _parsed(text) if "nbcheck" in text else None
    try:
        statements = [ast.unparse(node) for node in tree.body] if tree else [""]
    except RecursionError:
        return None
    calls = [CALL.fullmatch(statement) for statement in statements if statement != NBCHECK]
    return None if None in calls else [(call[1], int(call[2])) for call in calls if call]


def _parsed(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
