"""Running a student's code in this process, where there are no others: in a page of a browser.

    with InProcess() as sandbox, sandbox.start(job) as session:
        session.call("lora_forward", x, W, A, B, 16.0, 8)

The answers are those of `runner.Sandbox`, whose interface this has: values pass through the same frames, the lesson's
closed parts of minilora cannot be imported, its solution cannot be opened. The process is missing: nobody ends an
endless loop, memory has no limit, and whoever changes NumPy changes it for the checker. That is good enough for a
student's own use. Marks come from the sandbox.
"""

import io
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import copy_context
from shutil import rmtree
from types import ModuleType
from typing import Any

import numpy as np

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.audit import Attempts, files_below, guard, line_in
from minilora.classroom.sandbox.child import Exercise, driver_of
from minilora.classroom.sandbox.imports import close_library, covers
from minilora.classroom.sandbox.runner import IN_PROCESS, PRINTED_KEPT, Job, RunFailed, Sandbox, Session

_RANDOM = random.getstate(), np.random.get_state()  # every session begins with them, as every forked child does
_guards: list[Callable[[str, tuple], None]] = []  # of the code that is running: the last one


def sandbox_here() -> Sandbox:
    """The sandbox, where there are processes."""
    return InProcess() if sys.platform in ("emscripten", "win32") else Sandbox()


class InProcess(Sandbox):
    """As Sandbox, without processes and limits."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.mkdtemp(prefix="minilora-check-")

    def start(self, job: Job, seconds: float | None = None) -> "LocalSession":
        """The file run; seconds means nothing."""
        self.held = [IN_PROCESS]
        return LocalSession(self, job)

    def close(self) -> None:
        """Remove the scratch folder."""
        rmtree(self.scratch, ignore_errors=True)


class LocalSession(Session):
    """As Session, with the student's file in this process."""

    def __init__(self, sandbox: InProcess, job: Job):
        self.sandbox, self.job, self.seconds = sandbox, job, int(sandbox.seconds)
        self._output = io.TextIOWrapper(io.BytesIO(), "utf-8", "replace", write_through=True)
        self._attempts: Attempts = []
        self._guard = guard(sandbox.scratch, files_below(job.hidden), job.file, self._attempts)
        self._modules, self._finders, self._float_errors = _library(), sys.meta_path[:], np.geterr()
        self._random, self._context = _RANDOM, copy_context()  # of which no_grad is a part
        message: Any = wire.plain(job.message())
        driver = driver_of(message)
        with self._inside():
            close_library(message["uses"], lambda name: self._attempts.append((name, line_in(job.file))))
            self._exercise = self._context.run(Exercise, message, driver, lambda line: None)
        error = wire.plain(self._exercise.error)
        self.error = None if error is None else self._raised(error)
        self._give()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """As in a child: what may be imported and opened, where files are written, what is printed and warned of."""
        if not _guards:
            sys.addaudithook(lambda event, arguments: _guards[-1](event, arguments))
            _guards.append(lambda event, arguments: None)
        ours, finders, folder, draws = _library(), sys.meta_path[:], os.getcwd(), _set_random(self._random)
        os.chdir(self.sandbox.scratch)
        _swap(ours, self._modules)
        sys.meta_path[:] = self._finders
        _guards.append(self._guard)
        try:
            with redirect_stdout(self._output), redirect_stderr(self._output), warnings.catch_warnings():
                warnings.simplefilter("default")
                with np.errstate(**self._float_errors):
                    yield
                    self._float_errors = np.geterr()
        finally:
            _guards.pop()
            self._modules, self._finders = _library(), sys.meta_path[:]
            sys.meta_path[:] = finders
            _swap(self._modules, ours)
            os.chdir(folder)
            self._random = _set_random(draws)

    def _exchange(self, request: object) -> object:
        asked: Any = wire.plain(request)
        with self._inside():
            reply = self._context.run(self._exercise.answer, asked)
        return wire.unpack(wire.pack({"refused": self._attempts[0]}) if self._attempts else reply)

    def _failure(self, says: str, line: int | None = None, hint: str = "") -> RunFailed:
        self.close()
        self.failed = RunFailed(says, line, hint)
        return self.failed

    def close(self) -> tuple[int | None, float]:
        self.printed = self._output.buffer.getvalue()[:PRINTED_KEPT]
        return None, 0.0


def _set_random(state: tuple[Any, Any]) -> tuple[Any, Any]:
    """Of the generators that all share; returns the one before."""
    before = random.getstate(), np.random.get_state()
    random.setstate(state[0])
    np.random.set_state(state[1])
    return before


def _library() -> dict[str, ModuleType]:
    """The modules of minilora, and the student's, as they are imported now."""
    return {name: module for name, module in sys.modules.items() if covers(("minilora", "exercise"), name)}


def _swap(out: dict[str, ModuleType], back: dict[str, ModuleType]) -> None:
    for name in out:
        sys.modules.pop(name, None)
    sys.modules.update(back)
