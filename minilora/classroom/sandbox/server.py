"""The process between the checker and a student's code: it forks one child a job, and ends it.

It has NumPy and minilora's floors loaded, so that a child starts in milliseconds, and never runs what a student wrote.
The checker speaks to it over a socket:

    b"s" and three files     start a child on a socket, a file for what it prints, one for where it is in the end
    b"q"                     end it
    the end of the socket    the same, and leave

and gets a line of JSON each time; after b"q", how the child ended and the processor time that it took.
"""

import json
import os
import resource
import shutil
import signal
import socket
import tempfile
from contextlib import suppress
from importlib import import_module

FILE_LIMIT = 16 * 2**20  # bytes, of what is printed as well
PROCESSES = 4096  # of this user altogether, so that a bomb of processes ends


def main(control_fd: int, memory: int, is_isolated: bool) -> None:
    """Serve until the checker is gone. memory: bytes for each child; is_isolated: in a namespace of its own."""
    assert not is_isolated or os.getpid() < 9, "every process here is killed after each job"
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    from minilora.classroom.sandbox import child

    for name in ("optim", "nn", "ops"):  # what most lessons use
        import_module(f"minilora.{name}")
    control = socket.socket(fileno=control_fd)
    control.sendall(b"true\n")
    running, scratch = 0, ""
    while True:
        order, files, _, _ = socket.recv_fds(control, 1, 3)
        if order == b"s":
            scratch = tempfile.mkdtemp(prefix="minilora-check-")
            running = os.fork()
            if not running:
                control.close()
                prepare(scratch, *files)
                child.main(files[0], files[2], lambda seconds: limit(memory, seconds))  # never returns
            for number in files:
                os.close(number)
            control.sendall(b"true\n")
            continue
        ended = end(running, is_isolated) if running else (None, 0.0)
        running = 0
        clear(scratch, is_isolated)
        if not order:
            return
        control.sendall(json.dumps(ended).encode() + b"\n")


def prepare(scratch: str, connection: int, printed: int, trace: int) -> None:
    """Give a new child its folder, its group, and no other files than its own."""
    os.setpgid(0, 0)
    os.chdir(scratch)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    for number in set(range(3, 256)) - {connection, trace}:
        with suppress(OSError):
            os.close(number)


def limit(memory: int, seconds: int) -> None:
    """Limit this process for good. seconds: of processor time; memory: bytes of address space."""
    limits = {
        "RLIMIT_AS": memory,
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": FILE_LIMIT,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": PROCESSES,  # it does not bind the superuser
    }
    for name, most in limits.items():
        hard = resource.getrlimit(number := getattr(resource, name))[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        later = int(name == "RLIMIT_CPU" and most != hard)  # a second from SIGXCPU, which can be ignored, to SIGKILL
        with suppress(OSError, ValueError):  # macOS refuses some
            resource.setrlimit(number, (most, most + later))


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


def clear(folder: str, is_isolated: bool) -> None:
    """Remove a child's folder; in a namespace of its own, also what it left beside it."""
    if not is_isolated:
        shutil.rmtree(folder, ignore_errors=True)
        return
    place = os.path.dirname(folder)
    for root, folders, _ in os.walk(place):
        for path in [os.path.join(root, name) for name in folders]:
            if not os.path.islink(path):
                os.chmod(path, 0o700)  # whoever made it may have closed it
    for entry in os.scandir(place):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
