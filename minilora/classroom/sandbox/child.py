"""The process in which a student's code runs. It computes and answers; nothing is judged here.

It answers requests over its socket (see `runner.Session`): first a job, then calls of functions by name. What a
function returns goes back as plain values, what it raises as the exception's names, message and line.
"""

import __future__

import ast
import faulthandler
import os
import signal
import socket
import sys
from importlib import import_module
from types import ModuleType

from minilora.classroom.sandbox import fence, wire


def preload() -> None:
    """Import what most lessons use, once, before the first child is forked."""
    for name in ("optim", "nn", "ops"):
        import_module(f"minilora.{name}")


def main(socket_fd: int, printed_fd: int, trace_fd: int, settings: dict) -> None:
    """Serve one job and end the process."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(printed_fd, 1)
        os.dup2(printed_fd, 2)
        for number in range(3, 256):
            if number not in (socket_fd, trace_fd):
                _close(number)
        sys.stdout.reconfigure(line_buffering=True)
        faulthandler.dump_traceback_later(0.9 * settings["seconds"], file=trace_fd)  # a thread: there may be none later
        held = fence.close_in(settings["seconds"], settings["memory"], settings["scratch"], settings["kinds"])
        _serve(socket.socket(fileno=socket_fd), held, settings["scratch"])
    finally:
        os._exit(0)


def _close(number: int) -> None:
    try:
        os.close(number)
    except OSError:
        pass


def _serve(connection: socket.socket, held: list[str], scratch: str) -> None:
    from minilora.tensor import Tensor

    job = wire.receive(connection)
    driver = ModuleType("driver")
    exec(compile(job["driver"].tobytes(), "driver.py", "exec"), vars(driver))
    _close_library(job["uses"])
    _watch_files(scratch, job["hidden"])
    student = ModuleType("exercise")
    sys.modules["exercise"] = student
    student.__file__ = job["file"]
    error = run_statements(job["source"].tobytes().decode(), student, job["file"])
    connection.sendall(wire.pack({"held": held, "names": list(map(str, vars(student))), "error": error}))
    while True:
        request = wire.receive(connection)
        try:
            if request["driver"]:
                value = getattr(driver, request["name"])(student, *request["arguments"])
            else:
                value = getattr(student, request["name"])(*request["arguments"])
            try:
                reply = wire.pack({"value": value}, Tensor)
            except OverflowError:
                reply = wire.pack({"value": wire.Unserializable(f"{type(value).__name__} with very many parts")})
        except BaseException as error:
            reply = wire.pack({"raised": _describe(error, job["file"])})
        sys.stdout.flush()
        connection.sendall(reply)


def run_statements(source: str, module: ModuleType, file: str, caught=BaseException) -> dict | None:
    """Run a file statement by statement, past those whose exception is `caught`; returns the first error.

    So a line that tries out what is not written yet does no harm to what is.
    """
    first, flags = None, 0
    for statement in ast.parse(source, file).body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            flags |= sum(getattr(__future__, alias.name).compiler_flag for alias in statement.names)
        try:
            code = compile(ast.Module([statement], []), file, "exec", flags=flags, dont_inherit=True)
            exec(code, vars(module))
        except caught as error:
            first = first or _describe(error, file)
    return first


def _describe(error: BaseException, file: str) -> dict:
    """An exception in plain values: its type's names, the message, and the last of the student's lines on its way."""
    try:
        message = str(error)[:500]
    except BaseException:
        message = ""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return {"types": [kind.__name__ for kind in type(error).__mro__], "message": message, "line": line}


def covers(uses: list[str], name: str) -> bool:
    """Whether `name` is one of the dotted names `uses`, or stands in one of them."""
    return any(name == use or name.startswith(f"{use}.") for use in uses)


def _close_library(uses: list[str]) -> None:
    """Leave of minilora what the lesson may use; importing anything else of it fails."""
    found = {name: _resolve(name) for name in uses}
    for name in [name for name in sys.modules if name.partition(".")[0] == "minilora" and not covers(uses, name)]:
        del sys.modules[name]
    for name, thing in found.items():
        parts = name.split(".")
        for i in range(len(parts) - 1, 0, -1):
            parent = ".".join(parts[:i])
            if parent in found:
                break
            if parent not in sys.modules:
                sys.modules[parent] = ModuleType(parent)
                sys.modules[parent].__path__ = []
            setattr(sys.modules[parent], parts[i], thing)
            thing = sys.modules[parent]
    sys.meta_path.insert(0, _Refuse())


def _resolve(name: str) -> object:
    """What a dotted name means: a module, or something in one."""
    parts = name.split(".")
    thing = import_module(parts[0])
    for i, part in enumerate(parts[1:], start=1):
        try:
            thing = getattr(thing, part)
        except AttributeError:
            thing = import_module(".".join(parts[: i + 1]))
    return thing


class _Refuse:
    """An importer that stands first in line and says no to the rest of minilora and to a lesson's other files."""

    def find_spec(self, name: str, path=None, target=None):
        if name.partition(".")[0] in ("minilora", "solution", "checks", "mistakes"):
            raise ImportError(f"this lesson may not use {name}: what it teaches is written here, not imported")
        return None


def _watch_files(scratch: str, hidden: str) -> None:
    """Refuse what Python says beforehand: reading below `hidden`, changing anything outside `scratch`, new processes.

    The other fences do the last two better, and not everywhere.
    """
    realpath, decode, refusal = os.path.realpath, os.fsdecode, PermissionError
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    scratch, hidden = realpath(scratch) + os.sep, realpath(hidden) + os.sep if hidden else None
    # event -> which of its arguments are paths, and which are folders that a path is relative to (-1: none)
    changing = {f"os.{verb}": ((0,), (-1,)) for verb in "remove rmdir mkdir chmod chown utime".split()}
    changing |= {"os.rename": ((0, 1), (2, 3)), "os.link": ((0, 1), (2, 3))}
    changing |= {"os.symlink": ((1,), (2,)), "os.truncate": ((0,), ())}
    starting = {"os.fork", "os.forkpty", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.kill"}

    def look(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = decode(realpath(arguments[0]))
            if hidden and (path + os.sep).startswith(hidden):
                raise refusal("an exercise may not read the lessons' files")
            if arguments[2] & writing and not path.startswith(scratch) and path != os.devnull:
                raise refusal(f"an exercise may not write {path}")
        elif event in changing:
            paths, folders = changing[event]
            for path in [arguments[i] for i in paths]:
                is_path = isinstance(path, (str, bytes)) and all(arguments[i] == -1 for i in folders)
                if not is_path or not decode(realpath(path)).startswith(scratch):
                    raise refusal(f"an exercise may not change {path!r}")
        elif event in starting:
            raise refusal(f"an exercise may not start or signal processes ({event})")

    sys.addaudithook(look)
