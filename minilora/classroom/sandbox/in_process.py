"""Running a student's code in this process, for platforms without child processes: a browser page, and Windows.

    with InProcess() as sandbox, sandbox.start(job) as session:
        session.call("lora_forward", x, W, A, B, 16.0, 8)

Values are encoded as for a child process, and the answers are the same. But nothing ends an endless loop, memory has no
limit, and code that changes NumPy changes it for the checker, too. That is good enough for students who check their own
work; marks use `isolated.py`.
"""

import io
import random
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from contextvars import copy_context
from typing import Any

import numpy as np

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.child import Exercise
from minilora.classroom.sandbox.runner import Job, Sandbox, Session

_RANDOM = random.getstate(), np.random.get_state()  # every session starts from these, as every forked child does


def sandbox_here() -> Sandbox:
    """Return a sandbox with child processes if the platform has them, or else one without."""
    return InProcess() if sys.platform in ("emscripten", "win32") else Sandbox()


class InProcess(Sandbox):
    """A Sandbox without processes and limits."""

    def start(self, job: Job, seconds: float | None = None) -> Session:
        """Run the file. seconds is ignored, because there is no limit of time."""
        return LocalSession(self, job, self.seconds)


class LocalSession(Session):
    """A Session with the student's file in this process."""

    def _open(self) -> None:
        self._printed, self._trace = io.BytesIO(), io.BytesIO()
        self._output = io.TextIOWrapper(self._printed, "utf-8", "replace", write_through=True)
        self._context = copy_context()  # isolates context variables, such as no_grad's
        random.setstate(_RANDOM[0])
        np.random.set_state(_RANDOM[1])

    def _exchange(self, request: bytes) -> object:
        before = {name: sys.modules.get(name) for name in ("exercise", "driver", *self.job.modules)}
        try:
            with (
                redirect_stdout(self._output),
                redirect_stderr(self._output),
                warnings.catch_warnings(action="default"),
                np.errstate(),
            ):
                return wire.unpack(self._context.run(self._answer, wire.unpack(request)))
        finally:
            for name, module in before.items():  # restore modules of these names, which a notebook may have imported
                if module is None:
                    sys.modules.pop(name, None)
                else:
                    sys.modules[name] = module

    def _answer(self, request: dict[str, Any]) -> bytes:
        if self._is_loading:
            self._exercise = Exercise(request)
            return self._exercise.load()
        sys.modules.update(self._exercise.modules)
        return self._exercise.answer(request)

    def _end(self) -> tuple[int | None, float]:
        return None, 0.0
