"""Running a student's code, from the checker's side.

    with Sandbox() as sandbox, sandbox.start(job) as session:
        session.call("lora_forward", x, W, A, B, 16.0, 8)

Inputs and judgement stay here; what comes back are plain values. Whatever the code does, `call` returns or raises
RunFailed. The limit is of processor time, so that a right answer is right on a busy machine, too; code that waits uses
none, and is ended by the wall clock much later.

This protects against accidents, on the student's own machine. Marks run the code of others: see `isolated.py`.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.child import OUT_OF_MEMORY
from minilora.errors import MiniloraError, escape

SECONDS = 10.0  # of processor time for one task, loading the file included
PATIENCE = 6  # times as many seconds on the wall clock
MEMORY = 2_500_000_000  # bytes
PRINTED_KEPT = 20_000  # bytes of what the code prints
NO_ANSWER, ENDED = "what came back is no answer", "the process ended before it gave an answer"
NOT_IN_TIME = "no answer after {} s, in which it computed for {:.1f} s"
TOO_MUCH_MEMORY = "It asked for more memory than an exercise may have."
WAITED = "It waited: for a sleep, a lock or input? If there is none of these, the machine is busy: check again."
PACKAGE = Path(__file__).resolve().parents[2]


class RunFailed(Exception):
    """The code came to no result: it ran too long, ended its process, or sent what is no answer.

    line: of the student's file, if it is known. statement: the first line of the statement that was running, if the
    file did not come to its end.
    """

    def __init__(self, message: str, line: int | None = None, hint: str = "", statement: int | None = None):
        super().__init__(message)
        self.line, self.hint, self.statement = line, hint, statement


@dataclass
class Job:
    """Text of a student, with what the lesson lets it use."""

    source: str
    file: str  # name for messages
    uses: tuple[str, ...] = ()  # dotted names of minilora that the lesson's exercise may use
    driver: str = ""  # text of the lesson's driver.py
    names: tuple[str, ...] = ()  # of functions and "Class.method"s whose duties are watched: see duties.py
    shares: tuple[str, ...] = ()  # those whose results may share memory with their arguments
    switches: tuple[str, ...] = ()  # those that may leave a model in another mode

    def message(self) -> dict[str, Any]:
        """Return it as it is sent to a child, the texts as arrays of bytes."""
        texts = {name: np.frombuffer(getattr(self, name).encode(), "uint8") for name in ("source", "driver")}
        return {**vars(self), **texts}


@dataclass
class Raised:
    """An exception in the student's code: its type's names (the class's first), the message, the line.

    statement: of one at the top of the file, the first line of the statement.
    """

    types: list[str]
    message: str
    line: int | None
    statement: int | None = None

    def __repr__(self) -> str:
        return f"{self.types[0]}: {escape(self.message, 300)}" if self.message else self.types[0]


class Session:
    """A student's file that was run, and its functions to be called.

    How a request is answered is up to the class: in a process of its own (`ChildSession`), or in this one
    (`in_process.py`). `error`: the first exception of the file's own lines, or None.
    """

    failed: RunFailed | None = None  # how the session ended; each later call raises it again
    breach: dict | None = None  # the first duty that was neglected: see duties.py
    printed = b""

    def __init__(self, job: Job):
        self.job = job

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, name: str, *arguments: object, driver: bool = False, layout: str = "") -> object:
        """Return what the student's function (or the driver's) returns, or a Raised. Raises RunFailed.

        layout: of the arrays among the arguments, "read-only" or "strided".
        """
        if self.failed is not None:
            raise self.failed
        request = {"name": name, "arguments": list(arguments), "driver": driver, "layout": layout}
        answer = self._exchange(request)
        match answer:
            case {"breach": {"duty": str(), "function": str(), "name": str()} as breach}:
                self.breach = breach
        match answer:
            case {"value": value}:
                return value
            case {"raised": raised}:
                return self._raised(raised)
        raise self._failure(NO_ANSWER)

    def _begin(self, answer: object) -> None:
        """Read the first answer, of the file's own lines."""
        match answer:
            case {"error": error}:
                self.error = None if error is None else self._raised(error)
            case _:
                raise self._failure(NO_ANSWER)
        if self.error is not None and "MemoryError" in self.error.types:
            raise self._failure(self.error.types[0], self.error.line, TOO_MUCH_MEMORY)
        self._is_loading = False

    def _raised(self, facts: object) -> Raised:
        match facts:
            case {"types": [str(), *_] as types, "message": str(message), "line": int() | None as line, **more}:
                at = more.get("statement")
                return Raised([str(kind) for kind in types], message, line, at if isinstance(at, int) else None)
        raise self._failure(NO_ANSWER)

    def _exchange(self, request: object) -> object:
        """Send a request; return the answer. Raises RunFailed."""
        raise NotImplementedError

    def _failure(self, message: str, line: int | None = None, hint: str = "") -> RunFailed:
        """End the session; return the error to raise."""
        self.close()
        self.failed = RunFailed(message, line, hint)
        return self.failed

    def again(self) -> "Session":
        """Run the same job from its beginning; this session ends."""
        raise NotImplementedError

    def close(self) -> object:
        """End the session."""
        raise NotImplementedError


class Sandbox:
    """Runs jobs in child processes behind limits. Close it, or use it as a context.

    seconds: of processor time for each session, in whole ones; memory: bytes; patience: times as many seconds may pass
    while the code is waited for.
    """

    held: tuple[str, ...] = ("limits",)  # what keeps the code in, for reports
    environment: ClassVar[dict[str, str]] = {
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY, patience: float = PATIENCE):
        self.seconds, self.memory, self.patience = seconds, memory, patience
        self.used = 0.0  # seconds of processor time, by all sessions so far
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self) -> tuple[Sequence[str], dict[str, str]]:
        """Return what stands in front of the command, and its environment."""
        names = {"MINILORA_BACKEND", "PYTHONFAULTHANDLER"}
        return [], {name: value for name, value in os.environ.items() if name not in names}

    def _launch(self) -> None:
        if sys.platform == "win32":
            raise MiniloraError("student code in a process of its own needs Linux or macOS; on Windows, use WSL")
        prefix, environment = self._command()
        ours, theirs = socket.socketpair()
        code = (
            f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); "
            "from minilora.classroom.sandbox import server; "
            f"server.main({theirs.fileno()}, {self.memory}, is_isolated={bool(prefix)})"
        )
        with theirs:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-P", "-c", code],
                pass_fds=[theirs.fileno()],
                env=environment | self.environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.settimeout(60)
        self._control = ours
        self._replies = ours.makefile("rb")
        self._reply()

    def _reply(self) -> Any:
        line = self._replies.readline(1000)
        if not line:
            raise OSError("the process that runs the exercises ended")
        return json.loads(line)

    def start(self, job: Job, seconds: float | None = None) -> Session:
        """Start a child that runs the job. Raises RunFailed if the file does not come to its end."""
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._process is None:
            self._launch()
        ours, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as trace:
            try:
                socket.send_fds(self._control, [b"s"], [theirs.fileno(), printed.fileno(), trace.fileno()])
                self._reply()
            except OSError as error:
                ours.close()
                self._stop()
                raise RunFailed("the process that runs the exercises ended; try again") from error
            files = os.dup(printed.fileno()), os.dup(trace.fileno())
        return ChildSession(self, job, ours, files, ceil(seconds or self.seconds))  # the system counts in whole ones

    def end_child(self) -> tuple[int | None, float]:
        """End the child; return its exit code, negative for a signal, and the processor time that it took."""
        try:
            self._control.sendall(b"q")
            code, used = self._reply()
        except (OSError, ValueError):
            self._stop()
            return None, 0.0
        self.used += used
        return code, used

    def _stop(self, seconds: float = 0) -> None:
        """End the server and the child: it does so itself as its socket closes, and has so many seconds for it."""
        if self._process is None:
            return
        self._replies.close()
        self._control.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def close(self) -> None:
        """End whatever runs."""
        self._stop(8)


class ChildSession(Session):
    """One child with a student's file loaded."""

    def __init__(self, sandbox: Sandbox, job: Job, connection: socket.socket, files: tuple[int, int], seconds: int):
        super().__init__(job)
        self.sandbox, self.seconds, self._connection = sandbox, seconds, connection
        self._printed, self._trace = files
        self._patience = patience = seconds * sandbox.patience  # what is left of it
        self._is_open = self._is_loading = True
        self._begin(self._exchange(job.message() | {"seconds": seconds, "patience": patience}))

    def _exchange(self, request: object) -> object:
        begin = time.monotonic()
        try:
            self._connection.settimeout(self._patience)
            self._connection.sendall(wire.pack(request))
            answer = wire.receive(self._connection, begin + self._patience)
        except TimeoutError as error:
            raise self._failure(NOT_IN_TIME, hint=WAITED) from error
        except (OSError, EOFError) as error:
            raise self._failure(ENDED) from error
        except wire.WireError as error:
            raise self._failure(f"{NO_ANSWER} ({error})") from error
        self._patience = max(self._patience - (time.monotonic() - begin), 0.01)
        return answer

    def _failure(self, message: str, line: int | None = None, hint: str = "") -> RunFailed:
        trace = os.pread(self._trace, 2**18, 0).decode("utf-8", "replace") if self._is_open else ""
        if message == ENDED:
            time.sleep(0.02)  # so that how it ended is known
        code, used = self.close()
        is_killed = code in (None, -signal.SIGKILL) and used > 0.8 * self.seconds  # the system counts in ticks
        if code == -signal.SIGXCPU or is_killed:
            message = f"still running after {self.seconds} s of processor time"
            line, hint = self._line_in(trace), "Does a loop end?"
        elif message == NOT_IN_TIME:
            message = message.format(f"{self.seconds * self.sandbox.patience:g}", used)
            line = self._line_in(trace)
        elif code == OUT_OF_MEMORY:
            message, hint = ENDED, TOO_MUCH_MEMORY
        elif code == -signal.SIGKILL:
            message, hint = "the system killed the process before it gave an answer", TOO_MUCH_MEMORY
        elif code is not None and code < 0:
            message = f"the process crashed ({signal.Signals(-code).name}) before it gave an answer"
        begun = re.findall(r"^(\d{1,9})$", trace, re.MULTILINE) if self._is_loading else ()
        self.failed = RunFailed(message, line, hint, int(begun[-1]) if begun else None)
        return self.failed

    def _line_in(self, trace: str) -> int | None:
        """Return the student's line that ran shortly before the end, if the child could still tell it."""
        line = re.search(rf'File "{re.escape(self.job.file)}", line (\d+)', trace)
        return int(line[1]) if line else None

    def again(self) -> Session:
        self.close()
        return self.sandbox.start(self.job, self.seconds)

    def close(self) -> tuple[int | None, float]:
        """End the child; return its exit code and the processor time that it took."""
        if not self._is_open:
            return None, 0.0
        self._is_open = False
        ended = self.sandbox.end_child()
        self._connection.close()
        self.printed = os.pread(self._printed, PRINTED_KEPT, 0)
        os.close(self._printed)
        os.close(self._trace)
        return ended
