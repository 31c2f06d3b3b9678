"""Running a student's code in this process, where there are no others: in a page of a browser, and on Windows.

    with InProcess() as sandbox, sandbox.start(job) as session:
        session.call("lora_forward", x, W, A, B, 16.0, 8)

Values pass through the same frames as to a child, and the answers are the same. The process is missing: nobody ends an
endless loop, memory has no limit, and whoever changes NumPy changes it for the checker. That is good enough for a
student's own use; marks come from `isolated.py`.
"""

import io
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import copy_context
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import numpy as np

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.child import Exercise, driver_of
from minilora.classroom.sandbox.runner import PRINTED_KEPT, Job, Sandbox, Session

_RANDOM = random.getstate(), np.random.get_state()  # every session begins with them, as every forked child does


def sandbox_here() -> Sandbox:
    """Return a sandbox with processes, if there are processes."""
    return InProcess() if sys.platform in ("emscripten", "win32") else Sandbox()


class InProcess(Sandbox):
    """As Sandbox, without processes and limits."""

    held = ()

    def __init__(self) -> None:
        super().__init__()
        self.scratch = mkdtemp(prefix="minilora-check-")

    def start(self, job: Job, seconds: float | None = None) -> "LocalSession":
        """Run the file; seconds means nothing."""
        return LocalSession(job, self.scratch)

    def close(self) -> None:
        rmtree(self.scratch, ignore_errors=True)


class LocalSession(Session):
    """As ChildSession, with the student's file in this process."""

    def __init__(self, job: Job, scratch: str):
        super().__init__(job)
        self._scratch = scratch
        self._output = io.TextIOWrapper(io.BytesIO(), "utf-8", "replace", write_through=True)
        self._float_errors, self._random, self._context = np.geterr(), _RANDOM, copy_context()  # no_grad is part of it
        message = wire.unpack(wire.pack(job.message()))
        with self._inside():
            self._exercise = self._context.run(Exercise, message, driver_of(message), lambda line: None)
        self._begin(wire.unpack(wire.pack({"error": self._exercise.error})))

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Have, as in a child: where files are written, random numbers, what is printed and warned of."""
        folder, draws, student = os.getcwd(), _set_random(self._random), sys.modules.get("exercise")
        os.chdir(self._scratch)
        if hasattr(self, "_exercise"):
            sys.modules["exercise"] = self._exercise.module
        try:
            with redirect_stdout(self._output), redirect_stderr(self._output), warnings.catch_warnings():
                warnings.simplefilter("default")
                with np.errstate(**self._float_errors):
                    yield
                    self._float_errors = np.geterr()
        finally:
            os.chdir(folder)
            self._random = _set_random(draws)
            sys.modules.pop("exercise", None)
            if student is not None:
                sys.modules["exercise"] = student

    def _exchange(self, request: object) -> object:
        received: Any = wire.unpack(wire.pack(request))
        with self._inside():
            reply = self._context.run(self._exercise.answer, received)
        return wire.unpack(reply)

    def again(self) -> "LocalSession":
        self.close()
        return LocalSession(self.job, self._scratch)

    def close(self) -> None:
        self.printed = self._output.buffer.getvalue()[:PRINTED_KEPT]


def _set_random(state: tuple[Any, Any]) -> tuple[Any, Any]:
    """Set the generators that all share; return their states before."""
    before = random.getstate(), np.random.get_state()
    random.setstate(state[0])
    np.random.set_state(state[1])
    return before
