"""The process between the checker and a student's code: it forks a child for each job, and ends it.

NumPy and the parts of minilora that most lessons use are loaded here, so that a child starts in milliseconds. No
student's code ever runs in this process. The checker talks to it over a socket. Every order, and the end of the socket,
ends the previous child. The order b"s" starts a new one and brings three files: a socket, a file for what the child
prints, and a file for its trace. The reply has the previous child's exit code and the processor time it took.
"""

import faulthandler
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from functools import partial
from importlib import import_module

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.child import OUT_OF_MEMORY, Exercise

LIMITS = {
    "RLIMIT_AS": 2_500_000_000,  # bytes
    "RLIMIT_FSIZE": 16 * 2**20,  # bytes per file, including the printed text
    "RLIMIT_NOFILE": 64,
    "RLIMIT_CORE": 0,
    "RLIMIT_NPROC": 4096,  # processes of the user in all, to stop a fork bomb; it does not bind the superuser
}


def main(control_fd: int, is_isolated: bool) -> None:
    """Serve orders until the checker closes the socket. is_isolated: True in a process namespace of its own."""
    assert not is_isolated or os.getpid() < 9, "every process of this namespace is killed after each job"
    for name in ("optim", "nn", "ops"):  # most lessons use these
        import_module(f"minilora.{name}")
    control = socket.socket(fileno=control_fd)
    folder = os.getcwd() if is_isolated else tempfile.mkdtemp(prefix="minilora-check-")
    child, order = 0, b"-"
    while order:
        order, files, _, _ = socket.recv_fds(control, 1, 3)
        ended = end(child, is_isolated) if child else (None, 0.0)
        clear(folder)
        child = os.fork() if order == b"s" else 0
        if order == b"s" and not child:
            control.close()
            run(folder, *files)  # never returns
        for number in files:
            os.close(number)
        if order:
            with suppress(BrokenPipeError):  # the checker has ended meanwhile, by Ctrl-C: the next order is none
                control.sendall(wire.pack(ended))
    if not is_isolated:
        os.rmdir(folder)


def end(child: int, is_isolated: bool) -> tuple[int | None, float]:
    """Kill the child and its process group, or every process if the namespace is our own.

    Returns the child's exit code (negative for a signal, None if it was still running) and the processor time it took.
    """
    is_over, status, usage = os.wait4(child, os.WNOHANG)
    for pid in (-1,) if is_isolated else (-child,) if is_over else (-child, child):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    if not is_over:
        _, _, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status) if is_over else None, usage.ru_utime + usage.ru_stime


def clear(folder: str) -> None:
    """Remove everything that a child left in its folder."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


def run(folder: str, connection_fd: int, printed: int, trace: int) -> None:
    """Answer the requests of one job in this new child. Ends the process, so it never returns."""
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), printed, printed)):
            os.dup2(file, number)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        connection = socket.socket(fileno=connection_fd)
        job = wire.receive(connection)
        faulthandler.register(signal.SIGXCPU, file=trace, chain=True)  # writes the line on which the time ran out
        faulthandler.dump_traceback_later(0.9 * job["patience"], file=trace)  # now: later it may not get a thread
        limit(job["seconds"])
        exercise = Exercise(job)
        connection.sendall(exercise.load(partial(os.write, trace)))
        while True:
            reply = exercise.answer(wire.receive(connection))
            sys.stdout.flush()
            connection.sendall(reply)
    except MemoryError:  # the student's code holds so much that no room is left for the answer
        os._exit(OUT_OF_MEMORY)
    finally:
        os._exit(0)


def limit(seconds: int) -> None:
    """Set the limits of this process; they cannot be raised again. seconds: processor time."""
    for name, most in {**LIMITS, "RLIMIT_CPU": seconds}.items():
        grace = int(name == "RLIMIT_CPU")  # one second from SIGXCPU, which can be ignored, to SIGKILL
        with suppress(OSError, ValueError):  # macOS rejects some limits; a lower limit that is already set stays
            resource.setrlimit(getattr(resource, name), (most, most + grace))
