"""A student's file and the calls of its functions, beside their code. It computes and answers; nothing is judged here.

A function's result goes back as plain values, an exception as its types' names, message and line.
"""

import __future__

import ast
import sys
from collections.abc import Callable, Collection
from functools import cached_property
from importlib import import_module
from traceback import walk_tb
from types import ModuleType
from typing import Any

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.duties import Duties

OUT_OF_MEMORY = 12  # the exit code of a process that could not answer for want of memory


def covers(uses: Collection[str], name: str) -> bool:
    """True if `name` is one of the dotted names `uses`, or stands in one of them."""
    return any(name == use or name.startswith(f"{use}.") for use in uses)


def close_library(uses: Collection[str]) -> None:
    """Refuse to import anything of minilora that the lesson does not use: what it teaches is written, not imported.

    A submission's text is read for such imports before it runs (`submission.py`); this finds those that it makes up
    as it runs.
    """
    for name in uses:
        parent, _, last = name.rpartition(".")
        owner = import_module(parent)
        if hasattr(owner, last):
            setattr(owner, last, getattr(owner, last))  # minilora's own names are imported as they are asked for
        else:
            import_module(name)
    for name in [name for name in sys.modules if covers(["minilora"], name)]:
        if not (covers(uses, name) or any(covers([name], use) for use in uses)):
            del sys.modules[name]
    sys.meta_path.insert(0, _OnlyUsed(uses))


class _OnlyUsed:
    """An importer that stands first in line."""

    def __init__(self, uses: Collection[str]):
        self.uses = uses

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if covers(["minilora"], name) and not covers(self.uses, name):
            raise ImportError(f"this lesson may not use {name}: what it teaches is written here, not imported")


class Exercise:
    """A student's file and the lesson's driver, and their functions to be called."""

    def __init__(self, job: dict[str, Any]):
        self.job, self.module, self.driver = job, ModuleType("exercise"), ModuleType("driver")
        self.duties = Duties(job["names"], job["shares"], job["switches"])
        exec(compile(job["driver"], "driver.py", "exec"), vars(self.driver))  # it may import what the exercise may not

    def load(self, note: Callable[[bytes], object] = lambda line: None) -> bytes:
        """Run the file's own lines, and return the reply: the first exception. note: a line each statement."""
        sys.modules["exercise"] = self.module
        self.module.__file__ = self.job["file"]
        error = run_statements(
            self.job["source"], self.module, self.job["file"], begins=lambda line: note(b"%d\n" % line)
        )
        return wire.pack({"raised": error} if error else {"value": None})

    @cached_property
    def student(self) -> Any:
        """Return the student's module, watched from now on."""
        return self.duties.watched(self.module)

    def answer(self, request: dict[str, Any]) -> bytes:
        """Call, and return the reply: the result or exception, and the first duty that has been neglected."""
        owner, first = (self.driver, [self.student]) if request["driver"] else (self.student, [])
        try:
            value = getattr(owner, request["name"])(*first, *request["arguments"])
            return wire.pack({"value": value, "breach": self.duties.breach})
        except BaseException as error:  # noqa: BLE001 (what the student's code raises is its answer)
            return wire.pack({"raised": _describe(error, self.job["file"]), "breach": self.duties.breach})


def run_statements(
    source: str,
    module: ModuleType,
    file: str,
    caught: type[BaseException] | tuple[type[BaseException], ...] = BaseException,
    begins: Callable[[int], object] = lambda line: None,
) -> dict[str, Any] | None:
    """Run a file statement by statement, past those whose exception is `caught`; returns the first error.

    So a line that tries out what is not written yet does no harm to what is. A MemoryError ends the run: what follows
    would have no room, and every task would wait for it anew. begins: called with the first line of each statement
    before it runs.
    """
    first, flags = None, 0
    for statement in ast.parse(source, file).body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            flags |= sum(getattr(__future__, alias.name).compiler_flag for alias in statement.names)
        begins(statement.lineno)
        try:
            code = compile(ast.Module([statement], []), file, "exec", flags=flags, dont_inherit=True)
            exec(code, vars(module))
        except caught as error:
            described = _describe(error, file, statement.lineno)
            if isinstance(error, MemoryError):
                return described
            first = first or described
    return first


def _describe(error: BaseException, file: str, statement: int | None = None) -> dict[str, Any]:
    """Describe an exception: its type's names, the message, and the last of the student's lines on its way."""
    try:
        message = str(error)[:500]
    except BaseException:  # noqa: BLE001 (the __str__ is the student's, too)
        message = ""
    types = [kind.__name__ for kind in type(error).__mro__]
    return {"types": types, "message": message, "line": line_of(error, file), "statement": statement}


def line_of(error: BaseException, file: str) -> int | None:
    """Return the last line of the file on the way of the exception; None if there is none."""
    frames = walk_tb(error.__traceback__)
    return next((line for frame, line in reversed([*frames]) if frame.f_code.co_filename == file), None)
