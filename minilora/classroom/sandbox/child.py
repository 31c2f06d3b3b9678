"""The process in which a student's code runs. It computes and answers; nothing is judged here.

It answers requests over its socket (see `runner.Session`): first a job, then calls of functions by name. A function's
result goes back as plain values, an exception as its types' names, message and line.
"""

import __future__

import ast
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.duties import Duties
from minilora.tensor import Tensor

OUT_OF_MEMORY = 12  # the exit code of a child that could not answer for want of memory


def main(socket_fd: int, trace_fd: int, limit: Callable[[int], None]) -> None:
    """Serve one job and end the process. limit: called with the seconds of processor time that there are."""
    try:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        _serve(socket.socket(fileno=socket_fd), trace_fd, limit)
    except MemoryError:  # of what the student's code still holds there was no room for the answer
        os._exit(OUT_OF_MEMORY)
    finally:
        os._exit(0)


def _serve(connection: socket.socket, trace_fd: int, limit: Callable[[int], None]) -> None:
    job = wire.receive(connection)
    faulthandler.register(signal.SIGXCPU, file=trace_fd, chain=True)  # where it is as its processor time ends
    faulthandler.dump_traceback_later(0.9 * job["patience"], file=trace_fd)  # a thread: there may be none later
    limit(job["seconds"])
    driver = driver_of(job)
    close_library(job["uses"])

    def note(line: int, write: Callable[[int, bytes], int] = os.write) -> None:
        with suppress(OSError):
            write(trace_fd, b"%d\n" % line)

    exercise = Exercise(job, driver, note)
    connection.sendall(wire.pack({"error": exercise.error}))
    while True:
        reply = exercise.answer(wire.receive(connection))
        sys.stdout.flush()
        connection.sendall(reply)


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


def driver_of(job: dict[str, Any]) -> ModuleType:
    """Run the lesson's driver, which may import what the exercise may not."""
    driver = ModuleType("driver")
    exec(compile(job["driver"].tobytes(), "driver.py", "exec"), vars(driver))
    return driver


class Exercise:
    """A student's file that was run, and its functions to be called. error: the first of its top, or None.

    begins: called with the first line of each statement before it runs.
    """

    def __init__(self, job: dict[str, Any], driver: ModuleType, begins: Callable[[int], None]):
        self.file, self.driver = job["file"], driver
        student = ModuleType("exercise")
        sys.modules["exercise"] = student
        student.__file__ = self.file
        self.error = run_statements(job["source"].tobytes().decode(), student, self.file, begins=begins)
        self.module, self.duties = student, Duties(job["names"], job["shares"], job["switches"])

    @cached_property
    def student(self) -> Any:
        """Return the student's module, watched from now on."""
        return self.duties.watched(self.module)

    def answer(self, request: dict[str, Any]) -> bytes:
        """Call, and return the reply: the result or exception, and the first duty that has been neglected."""
        arguments = [_laid_out(x, request["layout"]) for x in request["arguments"]]
        try:
            if request["driver"]:
                value = getattr(self.driver, request["name"])(self.student, *arguments)
            else:
                value = getattr(self.student, request["name"])(*arguments)
            try:
                return wire.pack({"value": value, "breach": self.duties.breach}, Tensor)
            except OverflowError:
                value = wire.Unserializable(f"{type(value).__name__} with very many parts")
                return wire.pack({"value": value, "breach": None})
        except BaseException as error:  # noqa: BLE001 (what the student's code raises is its answer)
            return wire.pack({"raised": _describe(error, self.file), "breach": self.duties.breach})


def _laid_out(value: Any, layout: str) -> Any:
    """Lay out the arrays of an argument: "read-only", or "strided": every second element, the last axis slowest."""
    if isinstance(value, np.ndarray) and layout == "strided" and value.ndim:
        wide = np.zeros((2 * value.shape[-1], *value.shape[:-1]), value.dtype)
        wide[::2] = np.moveaxis(value, -1, 0)
        return np.moveaxis(wide[::2], 0, -1)
    if isinstance(value, np.ndarray):
        value.flags.writeable = layout != "read-only"
    elif layout and isinstance(value, (list, tuple)):
        return type(value)(_laid_out(item, layout) for item in value)
    elif layout and isinstance(value, dict):
        return {key: _laid_out(item, layout) for key, item in value.items()}
    return value


def run_statements(
    source: str,
    module: ModuleType,
    file: str,
    caught: type[BaseException] | tuple[type[BaseException], ...] = BaseException,
    begins: Callable[[int], None] = lambda line: None,
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
            described = _describe(error, file) | {"statement": statement.lineno}
            if isinstance(error, MemoryError):
                return described
            first = first or described
    return first


def _describe(error: BaseException, file: str) -> dict:
    """Describe an exception: its type's names, the message, and the last of the student's lines on its way."""
    try:
        message = str(error)[:500]
    except BaseException:  # noqa: BLE001 (the __str__ is the student's, too)
        message = ""
    line = line_of(error, file)
    return {"types": [kind.__name__ for kind in type(error).__mro__], "message": message, "line": line}


def line_of(error: BaseException, file: str) -> int | None:
    """Return the last line of the file on the way of the exception; None if there is none."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
