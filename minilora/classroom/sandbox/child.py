"""Running a student's file and calling its functions, in the process of their code. Nothing is judged here.

A function's result is sent back as plain values, an exception as the names of its types, its message and its line.
"""

import ast
import sys
from collections.abc import Callable
from traceback import walk_tb
from types import ModuleType
from typing import Any

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.duties import Duties

OUT_OF_MEMORY = 12  # exit code of a process that had no memory left to answer


class Exercise:
    """A student's file and the lesson's driver, whose functions can be called."""

    def __init__(self, job: dict[str, Any]):
        self.source, self.file = job["source"], job["file"]
        self.modules = {name: ModuleType(name) for name in ("exercise", "driver", *job["modules"])}
        self.module, self.driver = self.modules["exercise"], self.modules["driver"]
        self.duties = Duties(self.module, job["watched"])
        sys.modules.update(self.modules)
        for name, text in job["modules"].items():
            exec(compile(text, f"{name}.py", "exec"), vars(self.modules[name]))

    def load(self, note: Callable[[bytes], object] = lambda line: None) -> bytes:
        """Run the file statement by statement, continue after those that fail, and reply with the first exception.

        So a line that tries out an unfinished function does not stop the rest of the file. A MemoryError does end the
        run, because the rest would have no memory either, and every task would wait for it again. note: called with the
        line number of each statement before it runs.
        """
        self.module.__file__ = self.file
        first = None
        for statement in ast.parse(self.source, self.file).body:
            note(b"%d\n" % statement.lineno)
            try:
                code = compile(ast.Module([statement], []), self.file, "exec", dont_inherit=True)
                exec(code, vars(self.module))
            except BaseException as error:  # noqa: BLE001 (an exception of the student's code is its answer)
                described = self._describe(error)
                if isinstance(error, MemoryError):
                    return wire.pack({"raised": described})
                first = first or described
        self.duties.watch()
        return wire.pack({"raised": first} if first else {"value": None})

    def answer(self, request: dict[str, Any]) -> bytes:
        """Call a function, and reply with its result or exception and the first neglected duty so far."""
        try:
            owner, first = (self.driver, [self.module]) if request["driver"] else (self.module, [])
            value = getattr(owner, request["name"])(*first, *request["arguments"])
            answer = {"value": value}
        except BaseException as error:  # noqa: BLE001 (an exception of the student's code is its answer)
            answer = {"raised": self._describe(error)}
        return wire.pack(answer | {"breach": self.duties.breach, "called": self.duties.called})

    def _describe(self, error: BaseException) -> dict[str, Any]:
        """Describe an exception: the names of its types, the message, and the innermost line of the student's file."""
        try:
            message = str(error)[:500]
        except BaseException:  # noqa: BLE001 (__str__ may be the student's code, too)
            message = ""
        types = [kind.__name__ for kind in type(error).__mro__]
        lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == self.file]
        return {"types": types, "message": message, "line": lines[-1] if lines else None}
