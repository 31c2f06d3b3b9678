"""Reading a lesson's solution.py, from which the tasks and exercise.py are made.

The student's part is inside functions, between the lines

    ### BEGIN SOLUTION task 2: scale by alpha / r
    ### END SOLUTION
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BEGIN = re.compile(r"( *)### BEGIN SOLUTION task (\d+): (.+)")
END = re.compile(r" *### END SOLUTION *")


@dataclass(frozen=True)
class Gap:
    """A gap that the student fills: lines[first:last], without the markers, in the function `where`."""

    task: int
    title: str
    where: str
    indent: str
    first: int
    last: int


class Source:
    """A solution.py and its gaps. tests/classroom/test_lessons.py checks that markers pair up inside functions."""

    def __init__(self, path: Path, number: int):
        self.path, self.number, self.text = path, number, path.read_text(encoding="utf-8")
        self.lines = self.text.splitlines()
        self.tree = ast.parse(self.text, str(path))
        self.gaps = list(self._find_gaps())
        self.titles = {gap.task: gap.title for gap in self.gaps}  # task -> what to do

    def _find_gaps(self) -> Iterator[Gap]:
        for i, line in enumerate(self.lines, start=1):
            if begin := BEGIN.fullmatch(line):
                (indent, task, title), first = begin.groups(), i
            elif END.fullmatch(line):
                around = [name for name, node in functions(self.tree) if node.lineno <= first <= (node.end_lineno or 0)]
                yield Gap(int(task), title.strip(), around[-1], indent, first, i - 1)

    def stub(self, gap: Gap) -> str:
        """Return the message of the NotImplementedError in a gap of exercise.py."""
        return f"{stub_start(self.number, gap.task)}: {gap.title}"

    def names(self, task: int | None = None) -> list[str]:
        """Return the top-level functions and classes that a task, or any task, asks for."""
        return list(dict.fromkeys(gap.where.partition(".")[0] for gap in self.gaps if task in (None, gap.task)))


def stub_start(number: int, task: int | str) -> str:
    """Return the start of a gap's message, by which the checker recognises a task that was not started."""
    return f"lesson {number:02}, task {task}"


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield (dotted name, node) for every function, outer functions first."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            name = f"{prefix}{node.name}"
            if not isinstance(node, ast.ClassDef):
                yield name, node
            yield from functions(node, f"{name}.")
        else:
            yield from functions(node, prefix)


def used_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) for every import and each use of its attributes; "a.*" for `from a import *`."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                aliases[alias.asname or first] = alias.name if alias.asname else first
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.lineno, f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            if first in aliases and all(name.isidentifier() for name in rest):
                yield node.lineno, ".".join([aliases[first], *rest])
