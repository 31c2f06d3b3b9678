"""Running a student's code, from the checker's side.

    with Sandbox() as sandbox, sandbox.start(job) as session:
        session.call("lora_forward", x, W, A, B, 16.0, 8)

Inputs and judgement stay here; what comes back are plain values. Whatever the code does, `call` returns or raises
RunFailed, and nothing that it started outlives the session. The limit is of processor time, so that a right answer is
right on a busy machine, too; code that waits uses none, and is ended by the wall clock much later.
"""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from shutil import rmtree
from typing import IO, Any

import numpy as np

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.child import GIVE, OUT_OF_MEMORY
from minilora.errors import MiniloraError, escape

SECONDS = 10.0  # of processor time for one task, loading the file included
PATIENCE = 6  # times as many seconds on the wall clock
MEMORY = 2_500_000_000  # bytes
KINDS = ("namespaces", "landlock", "seccomp")
IN_PROCESS = "in this process"  # in place of all of them: see in_process.py
PRINTED_KEPT = 20_000  # bytes of what the code prints
PRINTED_LIMIT = 20_000_000
NO_ANSWER, ENDED = "what came back is no answer", "the process ended before it gave an answer"
NOT_IN_TIME = "no answer after {} s, in which it computed for {:.1f} s"
MAY_NOT_READ = "An exercise may not read the lesson's solution, checks or mistakes: write your own answer."
TOO_MUCH_MEMORY = "It asked for more memory than an exercise may have."
WAITED = "It waited: for a sleep, a lock or input? If there is none of these, the machine is busy: check again."
PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])


class RunFailed(Exception):
    """The code came to no result: it ran too long, ended its process, sent what is no answer, or read the lesson's.

    line: of the student's file, where it is known. statement: where the file did not come to its end, the first line of
    the statement that was running.
    """

    def __init__(self, says: str, line: int | None = None, hint: str = "", statement: int | None = None):
        super().__init__(says)
        self.line, self.hint, self.statement = line, hint, statement


@dataclass
class Job:
    """What a child runs: the student's text, and what the lesson lets it use."""

    source: str
    file: str  # name for messages
    uses: tuple[str, ...] = ()  # dotted names of minilora that the lesson's exercise may use
    driver: str = ""  # text of the lesson's driver.py
    hidden: str = ""  # folder that the code may not read: the lessons
    closed: tuple[str, ...] = ()  # further folders and files that it may not read
    names: tuple[str, ...] = ()  # of functions and "Class.method"s whose duties are watched: see duties.py
    changes: tuple[str, ...] = ()  # those that may change their arguments
    shares: tuple[str, ...] = ()  # those whose results may share memory with them
    switches: tuple[str, ...] = ()  # those that may leave a model in another mode
    given: str = ""  # text of functions that come in place of the student's once the file has run

    def message(self) -> dict[str, Any]:
        """As it is sent to a child, the texts as arrays of bytes."""
        texts = {name: np.frombuffer(getattr(self, name).encode(), "uint8") for name in ("source", "driver")}
        return {**vars(self), **texts, "given": ""}  # so that the file cannot read it while it runs


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


class Sandbox:
    """Starts children and ends them; see `supervisor.py`. Close it, or use it as a context.

    seconds: of processor time for each session, in whole ones; memory: bytes; kinds: which of KINDS to try beside
    limits; patience: times as many seconds may pass while the code is waited for. `held` says which kinds hold.
    """

    def __init__(
        self,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        kinds: tuple[str, ...] = KINDS,
        patience: float = PATIENCE,
    ):
        self.seconds, self.memory, self.kinds, self.patience = seconds, memory, kinds, patience
        self.used = 0.0  # seconds of processor time, by all sessions so far
        self.held: list[str] | None = None  # until something has run
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _launch(self) -> None:
        if sys.platform == "win32":
            raise MiniloraError("student code in a process of its own needs Linux or macOS; on Windows, use WSL")
        try:
            self._launch_with(self.kinds)
        except OSError:  # in namespaces, the superuser may not read what belongs to others, Python itself included
            self._stop()
            self._launch_with(tuple(kind for kind in self.kinds if kind != "namespaces"))

    def _launch_with(self, kinds: tuple[str, ...]) -> None:
        ours, theirs = socket.socketpair()
        self.scratch = tempfile.mkdtemp(prefix="minilora-check-")  # the supervisor removes it, also if this is killed
        settings = {"memory": self.memory, "scratch": self.scratch, "kinds": kinds}
        code = (
            f"import sys; sys.path.insert(0, {PACKAGE_ROOT!r}); "
            f"from minilora.classroom.sandbox import supervisor; supervisor.main({theirs.fileno()}, {settings!r})"
        )
        environment = {k: v for k, v in os.environ.items() if k not in ("MINILORA_BACKEND", "PYTHONFAULTHANDLER")}
        environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                pass_fds=[theirs.fileno()],
                env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if "namespaces" in kinds else None,
                start_new_session=True,
            )
        ours.settimeout(30)
        self._control = ours
        self._replies = ours.makefile("rb")
        self.held = self._reply()

    def _reply(self) -> Any:
        line = self._replies.readline(10_000)
        if not line:
            raise OSError("the process that runs the exercises ended")
        return json.loads(line)

    def start(self, job: Job, seconds: float | None = None) -> "Session":
        """Start a child that runs the job. Raises RunFailed if the file does not come to its end."""
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._process is None:
            self._launch()
        ours, theirs = socket.socketpair()
        printed, printed_end = os.pipe()
        trace = tempfile.TemporaryFile()  # noqa: SIM115 (the session closes it)
        try:
            with theirs:
                socket.send_fds(self._control, [b"s"], [theirs.fileno(), printed_end, trace.fileno()])
            self._reply()
        except OSError as error:
            ours.close()
            os.close(printed)
            trace.close()
            self._stop()
            raise RunFailed("the process that runs the exercises ended; try again") from error
        finally:
            os.close(printed_end)
        return Session(self, job, ours, printed, trace, seconds or self.seconds)

    def _end_child(self) -> tuple[int | None, float]:
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
        """End the supervisor and all that it runs: it does so itself when its socket closes, and has so long for it."""
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
        rmtree(self.scratch, ignore_errors=True)

    def close(self) -> None:
        """End whatever runs."""
        self._stop(8)


class Session:
    """One child with a student's file loaded. `error`: the first exception of the file's own lines, or None."""

    failed: RunFailed | None = None  # how the session ended; each later call raises it again
    breach: dict | None = None  # the first duty that was neglected: see duties.py
    printed = b""

    def __init__(
        self, sandbox: Sandbox, job: Job, connection: socket.socket, printed: int, trace: IO[bytes], seconds: float
    ):
        self.sandbox, self.job, self.seconds = sandbox, job, ceil(seconds)  # the system counts in whole ones
        self._connection, self._trace = connection, trace
        self._printed: int | None = printed
        self._printed_count = 0
        self._patience = patience = self.seconds * sandbox.patience  # what is left of it
        self._is_open = self._is_loading = True
        connection.setblocking(False)
        os.set_blocking(printed, False)
        match self._exchange(job.message() | {"seconds": self.seconds, "patience": patience}):
            case {"held": [*held], "error": error}:
                before = sandbox.held or []
                sandbox.held = before + [kind for kind in KINDS if kind in held and kind not in before]
                self.error = None if error is None else self._raised(error)
                if self.error is not None and "MemoryError" in self.error.types:
                    raise self._failure(self.error.types[0], self.error.line, TOO_MUCH_MEMORY)
                self._is_loading = False
            case _:
                raise self._failure(NO_ANSWER)
        self._give()

    def _give(self) -> None:
        if self.job.given and isinstance(error := self.call(GIVE, self.job.given), Raised):
            raise self._failure(f"the solution's part does not go with this file ({error})")

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, name: str, *arguments: object, driver: bool = False, layout: str = "") -> object:
        """What the student's function (or the driver's) returns, or a Raised. Raises RunFailed.

        layout: of the arrays among the arguments, "read-only" or "strided".
        """
        request = {"name": name, "arguments": list(arguments), "driver": driver, "layout": layout}
        if self.failed is not None:
            raise self.failed
        answer = self._exchange(request)
        match answer:
            case {"breach": {"duty": str(), "function": str(), "name": str()} as breach}:
                self.breach = breach
        match answer:
            case {"value": value}:
                return value
            case {"raised": raised}:
                return self._raised(raised)
            case {"refused": (str() as file, int() | None as line)}:
                raise self._failure(f"it tried to read the lesson's {file}", line, MAY_NOT_READ)
        raise self._failure(NO_ANSWER)

    def _raised(self, facts: object) -> Raised:
        match facts:
            case {"types": [str(), *_] as types, "message": str(message), "line": int() | None as line, **more}:
                at = more.get("statement")
                return Raised([str(kind) for kind in types], message, line, at if isinstance(at, int) else None)
        raise self._failure(NO_ANSWER)

    def _exchange(self, request: object) -> object:
        """Send, and read what is printed, until the answer is whole."""
        frame, outgoing = wire.read_frame(), memoryview(wire.pack(request))
        wanted, deadline = next(frame), time.monotonic() + self._patience
        while True:
            self._patience = left = deadline - time.monotonic()
            if left <= 0:
                raise self._failure(NOT_IN_TIME, hint=WAITED)
            watched: list[Any] = [self._connection] + ([] if self._printed is None else [self._printed])
            readable, writable, _ = select.select(watched, [self._connection] if outgoing else [], [], left)
            try:
                if self._printed in readable:
                    self._read_printed()
                if writable:
                    outgoing = outgoing[self._connection.send(outgoing[: 2**20]) :]
                if self._connection in readable:
                    piece = self._connection.recv(min(wanted, 2**20))
                    if not piece:
                        raise self._failure(ENDED)
                    wanted = frame.send(piece)
            except StopIteration as whole:
                return whole.value
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._failure(ENDED) from error
            except wire.WireError as error:
                raise self._failure(f"{NO_ANSWER} ({error})") from error

    def _read_printed(self) -> None:
        assert self._printed is not None
        piece = os.read(self._printed, 2**16)
        if not piece:
            os.close(self._printed)
            self._printed = None
        self._printed_count += len(piece)
        self.printed = (self.printed + piece)[:PRINTED_KEPT]
        if self._printed_count > PRINTED_LIMIT:
            raise self._failure(f"it printed more than {PRINTED_LIMIT // 10**6} MB")

    def _failure(self, says: str, line: int | None = None, hint: str = "") -> RunFailed:
        """End the session; the error to raise."""
        statement, where = self._statement() if self._is_loading else None, self._where()
        if says == ENDED:
            time.sleep(0.02)  # so that how it ended is known
        code, used = self.close()
        is_killed = code in (None, -signal.SIGKILL) and used > 0.8 * self.seconds  # the system counts in ticks
        if code == -signal.SIGXCPU or is_killed:
            says, line, hint = f"still running after {self.seconds} s of processor time", where, "Does a loop end?"
        elif says == NOT_IN_TIME:
            says, line = says.format(f"{self.seconds * self.sandbox.patience:g}", used), where
        elif code == OUT_OF_MEMORY:
            says, hint = ENDED, TOO_MUCH_MEMORY
        elif code == -signal.SIGKILL:
            says, hint = "the system killed the process before it gave an answer", TOO_MUCH_MEMORY
        elif code is not None and code < 0:
            says = f"the process crashed ({signal.Signals(-code).name}) before it gave an answer"
        self.failed = RunFailed(says, line, hint, statement)
        return self.failed

    def _statement(self) -> int | None:
        """The line of the last statement that the child began to run."""
        self._trace.seek(0)
        begun = re.findall(rb"^(\d{1,9})$", self._trace.read(2**18), re.MULTILINE)
        return int(begun[-1]) if begun else None

    def _where(self) -> int | None:
        """The student's line that ran shortly before the end, where the child could still say it."""
        self._trace.seek(0)
        text = self._trace.read(2**18).decode("utf-8", "replace")
        line = re.search(rf'File "{re.escape(self.job.file)}", line (\d+)', text)
        return int(line[1]) if line else None

    def again(self) -> "Session":
        """The same job in a child of its own; this one ends."""
        self.close()
        return self.sandbox.start(self.job, self.seconds)

    def close(self) -> tuple[int | None, float]:
        """End the child and all that it started; return its exit code and the processor time that it took."""
        if not self._is_open:
            return None, 0.0
        self._is_open = False
        ended = self.sandbox._end_child()
        self._connection.close()
        if self._printed is not None:
            with suppress(OSError):
                self.printed = (self.printed + os.read(self._printed, 2**16))[:PRINTED_KEPT]
            os.close(self._printed)
        self._trace.close()
        return ended
