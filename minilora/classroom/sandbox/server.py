"""The process between the checker and a student's code: it forks one child a job, and ends it.

It has NumPy and minilora's floors loaded, so that a child starts in milliseconds, and never runs what a student wrote.
The checker speaks to it over a socket. Each order, and the socket's end, ends the child before; b"s" with three files
starts one: on a socket, with a file for what it prints and one for where it is in the end. The reply says how the child
before ended, and the processor time that it took.
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
    "RLIMIT_FSIZE": 16 * 2**20,  # bytes, of what is printed as well
    "RLIMIT_NOFILE": 64,
    "RLIMIT_CORE": 0,
    "RLIMIT_NPROC": 4096,  # of this user altogether, so that a bomb of processes ends; it does not bind the superuser
}


def main(control_fd: int, is_isolated: bool) -> None:
    """Serve until the checker is gone. is_isolated: in a namespace of its own."""
    assert not is_isolated or os.getpid() < 9, "every process here is killed after each job"
    for name in ("optim", "nn", "ops"):  # what most lessons use
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
            control.sendall(wire.pack(ended))
    if not is_isolated:
        os.rmdir(folder)


def end(child: int, is_isolated: bool) -> tuple[int | None, float]:
    """Kill the child and its group; in a namespace of its own, everything there.

    Returns the child's exit code, negative for a signal, None if it still ran, and the processor time that it took.
    """
    is_over, status, usage = os.wait4(child, os.WNOHANG)
    for pid in (-1,) if is_isolated else (-child,) if is_over else (-child, child):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    if not is_over:
        _, _, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status) if is_over else None, usage.ru_utime + usage.ru_stime


def clear(folder: str) -> None:
    """Remove what a child left in its folder."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


def run(folder: str, connection_fd: int, printed: int, trace: int) -> None:
    """Answer a job's requests in this new child, and end the process."""
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), printed, printed)):
            os.dup2(file, number)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        connection = socket.socket(fileno=connection_fd)
        job = wire.receive(connection)
        faulthandler.register(signal.SIGXCPU, file=trace, chain=True)  # where it is as its processor time ends
        faulthandler.dump_traceback_later(0.9 * job["patience"], file=trace)  # a thread: there may be none later
        limit(job["seconds"])
        exercise = Exercise(job)
        connection.sendall(exercise.load(partial(os.write, trace)))
        while True:
            reply = exercise.answer(wire.receive(connection))
            sys.stdout.flush()
            connection.sendall(reply)
    except MemoryError:  # of what the student's code still holds there was no room for the answer
        os._exit(OUT_OF_MEMORY)
    finally:
        os._exit(0)


def limit(seconds: int) -> None:
    """Limit this process for good. seconds: of processor time."""
    for name, most in {**LIMITS, "RLIMIT_CPU": seconds}.items():
        later = int(name == "RLIMIT_CPU")  # a second from SIGXCPU, which can be ignored, to SIGKILL
        with suppress(OSError, ValueError):  # macOS refuses some; a limit that is lower already stays
            resource.setrlimit(getattr(resource, name), (most, most + later))
