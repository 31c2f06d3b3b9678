"""The process between the checker and a student's code: forks one child a job, and sees that nothing of it stays.

It has NumPy and minilora's floors loaded, so that a child starts in milliseconds, and never runs what a student wrote.
The checker speaks to it over a socket:

    b"s" and three files     start a child on a socket, a pipe for what it prints, one for where it is in the end
    b"q"                     end it and all it started
    the end of the socket    the same, remove the scratch folder, and leave

and gets a line of JSON each time: which limits hold; how the child ended, and the processor time that it took.
"""

import json
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

from minilora.classroom.sandbox import limits


def main(control_fd: int, settings: dict[str, Any]) -> None:
    """Serve until the checker is gone. settings: memory, scratch, kinds (see `runner.Sandbox`)."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    is_first = "namespaces" in settings["kinds"] and limits.enter_namespaces()
    if is_first and (first := os.fork()):
        os.close(control_fd)
        os.waitpid(first, 0)
    else:
        _serve(control_fd, settings, is_first)
    rmtree(settings["scratch"], ignore_errors=True)  # where this is in namespaces, the process outside of them does


def _serve(control_fd: int, settings: dict[str, Any], is_first: bool) -> None:
    limits.become_subreaper()
    held = ["namespaces"] if is_first else []
    if is_first and limits.make_files_read_only(settings["scratch"]):
        held.append("read-only files")
    limits.deny_ptrace()
    from minilora.classroom.sandbox import child

    child.preload()
    control = socket.socket(fileno=control_fd)
    control.sendall(json.dumps(held).encode() + b"\n")
    running = None
    while True:
        order, files, _, _ = socket.recv_fds(control, 1, 3)
        if order == b"s":
            running = os.fork()
            if not running:
                control.close()
                child.main(settings, *files)  # never returns
            for number in files:
                os.close(number)
            control.sendall(b"true\n")
            continue
        ended = _end_all(running, is_first)
        running = None
        if not order:
            return
        _clear(settings["scratch"])
        control.sendall(json.dumps(ended).encode() + b"\n")


def _end_all(child: int | None, is_first: bool) -> tuple[int | None, float]:
    """Kill the child and everything that came from it.

    Returns the child's exit code, negative for a signal, None if it still ran, and the processor time that it took.
    """
    code, seconds, is_killed = None, 0.0, False
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code, child = os.waitstatus_to_exitcode(ended[1]), None
                    code = None if is_killed and code == -signal.SIGKILL else code
                    seconds = ended[2].ru_utime + ended[2].ru_stime
        except ChildProcessError:
            break  # none is left
        # -1: everything in the namespace but this process, at one stroke; -child: its group
        targets = {-1} if is_first else _children() | ({child, -child} if child else set())
        for pid in targets:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        is_killed = True
        time.sleep(0.002)
    return code, seconds


def _children() -> set[int]:
    """Children of this process, orphans that it took over included; none where Linux does not list them."""
    with suppress(OSError):
        return set(map(int, Path("/proc/thread-self/children").read_text().split()))
    return set()


def _clear(scratch: str) -> None:
    for entry in os.scandir(scratch):
        if entry.is_dir(follow_symlinks=False):
            rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
