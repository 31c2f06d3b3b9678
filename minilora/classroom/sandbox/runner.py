"""Running a student's code in child processes: the checker's side.

    with Sandbox() as sandbox, sandbox.start(job) as session:
        session.call("lora_forward", x, W, A, B, 16.0, 8)

Inputs and judgement stay in this process, and only plain values come back. Whatever the code does, `call` returns or
raises RunFailed. Processor time is limited, so that a right answer also passes on a busy machine. Code that only waits
uses none, so a much longer limit of wall-clock time ends it.

This protects students from accidents on their own machine. Marks run other people's code: see `isolated.py`.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.child import OUT_OF_MEMORY
from minilora.errors import escape

SECONDS = 10.0  # processor time for one task, including loading the file
PATIENCE = 6  # wall-clock time allowed, as a multiple of the processor time
PRINTED_KEPT, TRACE_KEPT = 20_000, 2**18  # bytes to keep of the printed text, and of the trace
NO_ANSWER, ENDED = "the process sent something that is not an answer", "the process ended before it gave an answer"
TOO_MUCH_MEMORY = "Your code asked for more memory than an exercise may have."
WAITED = (
    "Does it wait for a sleep, a lock or input? If not, the machine may be busy: check again. "
    "There, a loop that never ends looks the same."
)
PACKAGE = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}


class RunFailed(Exception):
    """The code gave no result: it ran too long, ended its process, or sent something that is not an answer.

    line: the line of the student's file, if it is known. statement: if the file did not run to its end, the first line
    of the statement that was running.
    """

    def __init__(self, message: str, line: int | None = None, hint: str = "", statement: int | None = None):
        super().__init__(message)
        self.line, self.hint, self.statement = line, hint, statement


@dataclass
class Job:
    """A student's code, with the modules that the lesson puts beside it."""

    source: str
    file: str  # name for messages
    modules: dict[str, str] = field(default_factory=dict)  # name -> text: "driver", and modules that it may import
    watched: dict[str, list[str]] = field(default_factory=dict)  # name -> duties that do not bind it (see duties.py)


@dataclass
class Raised:
    """An exception in the student's code: the names of its type and base types, the message, and the line."""

    types: list[str]
    message: str
    line: int | None

    def __repr__(self) -> str:
        return f"{self.types[0]}: {escape(self.message, 300)}" if self.message else self.types[0]


class Session(AbstractContextManager):
    """A child process that has run a student's file and whose functions can be called.

    `error`: the first exception at the top level of the file, or None.
    """

    breach: dict | None = None  # the first neglected duty (see duties.py)
    called: Collection[str] = ()  # names of the functions that were called so far, also by each other
    printed = trace = b""  # set when the session is closed
    _is_open = _is_loading = True

    def __init__(self, sandbox: "Sandbox", job: Job, seconds: float):
        self.sandbox, self.job, self.seconds = sandbox, job, ceil(seconds)  # setrlimit takes whole seconds
        self._patience = self.seconds * sandbox.patience  # seconds of wall-clock time that are left
        self._open()
        answer = self._ask(vars(job) | {"seconds": self.seconds, "patience": self._patience})
        self.error = answer if isinstance(answer, Raised) else None
        if self.error and "MemoryError" in self.error.types:
            raise self._failure(self.error.types[0], TOO_MUCH_MEMORY, self.error.line)
        self._is_loading = False

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, name: str, *arguments: object, driver: bool = False) -> object:
        """Call a function of the student's file, or of the driver; returns its result or a Raised. Raises RunFailed."""
        return self._ask({"name": name, "arguments": arguments, "driver": driver})

    def again(self) -> "Session":
        """Close this session, and start another one with the same job."""
        self.close()
        return self.sandbox.start(self.job, self.seconds)

    def close(self) -> tuple[int | None, float]:
        """End the session; return the child's exit code (negative for a signal) and the processor time it took."""
        if not self._is_open:
            return None, 0.0
        self._is_open = False
        ended = self._end()
        with self._printed, self._trace:
            self._printed.seek(0)
            self._trace.seek(0)
            self.printed, self.trace = self._printed.read(PRINTED_KEPT), self._trace.read(TRACE_KEPT)
        return ended

    def _ask(self, request: dict[str, Any]) -> object:
        """Send a request, and return the value of the answer, or a Raised."""
        answer = self._exchange(wire.pack(request))
        match answer:
            case {"breach": {"duty": str(), "function": str(), "name": str()} as breach}:
                self.breach = breach
        match answer:
            case {"called": [*names]}:
                self.called = {str(name) for name in names}
        match answer:
            case {"value": value}:
                return value
            case {"raised": {"types": [str(), *_] as types, "message": str() as message, **more}}:
                line = more.get("line")
                return Raised([str(kind) for kind in types], message, line if isinstance(line, int) else None)
        raise self._failure(NO_ANSWER)

    # Communication with the child; in_process.py overrides these methods

    def _open(self) -> None:
        self._printed: IO[bytes] = TemporaryFile()  # noqa: SIM115 (`close` closes them)
        self._trace: IO[bytes] = TemporaryFile()  # noqa: SIM115 (`close` closes them)
        self._connection, theirs = socket.socketpair()
        with theirs:
            self.sandbox.order(b"s", [theirs.fileno(), self._printed.fileno(), self._trace.fileno()])

    def _exchange(self, request: bytes) -> object:
        """Send a packed request, and return the answer. Raises RunFailed."""
        deadline = time.monotonic() + self._patience
        try:
            self._connection.settimeout(self._patience)
            self._connection.sendall(request)
            answer = wire.receive(self._connection, deadline)
        except TimeoutError as error:
            raise self._failure("", WAITED) from error
        except (OSError, EOFError) as error:
            raise self._failure(ENDED) from error
        except ValueError as error:
            raise self._failure(f"{NO_ANSWER} ({error})") from error
        self._patience = max(deadline - time.monotonic(), 0.01)
        return answer

    def _end(self) -> tuple[int | None, float]:
        self._connection.close()
        return self.sandbox.order(b"q")

    def _failure(self, message: str, hint: str = "", line: int | None = None) -> RunFailed:
        """End the session, and return the error to raise, with the cause as far as the child's exit code shows it."""
        if message == ENDED:
            time.sleep(0.02)  # so that the child's exit code is known
        code, used = self.close()
        trace = self.trace.decode("utf-8", "replace")
        ran_out = used > 0.8 * self.seconds  # below 1, because the system counts time in ticks
        if code == -signal.SIGXCPU or code in (None, -signal.SIGKILL) and ran_out:
            message, hint = f"still running after {self.seconds} s of processor time", "Is there an endless loop?"
        elif hint == WAITED:
            wall = self.seconds * self.sandbox.patience
            message = f"no answer after {wall:g} s ({used:.1f} s of them on the processor)"
        elif code in (OUT_OF_MEMORY, -signal.SIGKILL):
            message, hint = ENDED, TOO_MUCH_MEMORY
        elif code is not None and code < 0:
            message = f"the process crashed ({signal.Signals(-code).name}) before it gave an answer"
        at = re.search(rf'File "{re.escape(self.job.file)}", line (\d+)', trace)  # if the child lived to write it
        started = re.findall(r"^(\d{1,9})$", trace, re.MULTILINE) if self._is_loading else ()
        return RunFailed(message, line or (int(at[1]) if at else None), hint, int(started[-1]) if started else None)


class Sandbox(AbstractContextManager):
    """A runner of jobs in child processes with limits. Close it, or use it as a context manager.

    seconds: processor time for each session, rounded up to whole seconds. patience: the wall-clock time that a session
    may take, as a multiple of `seconds`.
    """

    def __init__(self, seconds: float = SECONDS, patience: float = PATIENCE):
        self.seconds, self.patience = seconds, patience
        self.used = 0.0  # seconds of processor time used by all sessions so far
        self._process: subprocess.Popen | None = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self) -> tuple[Sequence[str], dict[str, str]]:
        """Return the words to put in front of the server's command, and its environment."""
        names = {"MINILORA_BACKEND", "PYTHONFAULTHANDLER"}
        return [], {name: value for name, value in os.environ.items() if name not in names}

    def _launch(self) -> None:
        gettempdir()  # if there is none, the error is raised here, not in the server
        prefix, environment = self._command()
        self._control, theirs = socket.socketpair()
        code = (
            f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); "
            "from minilora.classroom.sandbox import server; "
            f"server.main({theirs.fileno()}, is_isolated={bool(prefix)})"
        )
        with theirs:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-P", "-c", code],
                pass_fds=[theirs.fileno()],
                env=environment | ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, job: Job, seconds: float | None = None) -> Session:
        """Start a child that runs the job. Raises RunFailed if the file does not run to its end."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._launch()
        return Session(self, job, seconds or self.seconds)

    def order(self, order: bytes, files: Sequence[int] = ()) -> tuple[int | None, float]:
        """Send an order to the server; return the previous child's exit code and the processor time it took."""
        try:
            socket.send_fds(self._control, [order], files)
            code, used = wire.receive(self._control, time.monotonic() + 60)
        except (OSError, EOFError, ValueError):
            self.close()
            return None, 0.0
        self.used += used
        return code, used

    def close(self) -> None:
        """End the server, which ends its child when its socket closes."""
        if self._process is None:
            return
        self._control.close()
        try:
            self._process.wait(8)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None
