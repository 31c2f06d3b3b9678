"""The process between the checker and a student's code: forks one child a job, and sees that nothing of it stays.

It has NumPy and minilora's floors loaded, so that a child starts in milliseconds, and never runs what a student wrote.
The checker speaks to it over a socket:

    b"s" and three files     start a child on a socket, a pipe for what it prints, one for where it is in the end
    b"q"                     end it and all it started
    the end of the socket    the same, and leave

and gets a line of JSON each time: what fences hold; how the child ended.
"""

import json
import os
import signal
import socket
import sys
import time

from minilora.classroom.sandbox import fence


def main(control_fd: int, settings: dict) -> None:
    """Serve until the checker is gone. settings: seconds, memory, scratch, kinds (see `runner.Sandbox`)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    is_first = "namespaces" in settings["kinds"] and fence.enter_namespaces()
    if is_first and (first := os.fork()):
        os.close(control_fd)
        os.waitpid(first, 0)
        return
    fence.become_subreaper()
    is_scratch_mounted = False
    if is_first:
        try:
            fence.make_files_read_only()
            fence.fresh_scratch(settings["scratch"], again=False)
            is_scratch_mounted = True
        except OSError:  # the processes are fenced, the files are not
            pass
    fence.hide()
    from minilora.classroom.sandbox import child

    child.preload()
    control = socket.socket(fileno=control_fd)
    held = (["namespaces"] if is_first else []) + (["read-only files"] if is_scratch_mounted else [])
    control.sendall(json.dumps(held).encode() + b"\n")
    running = None
    while True:
        order, files, _, _ = socket.recv_fds(control, 1, 3)
        if order == b"s":
            running = os.fork()
            if not running:
                control.close()
                child.main(*files, settings)  # never returns
            for number in files:
                os.close(number)
            control.sendall(b"true\n")
            continue
        status = _end_all(running, is_first)
        running = None
        if not order:
            return
        _clear(settings["scratch"], is_scratch_mounted)
        control.sendall(json.dumps(status).encode() + b"\n")


def _end_all(child: int | None, is_first: bool) -> int | None:
    """Kill the child and everything that came from it; returns the child's exit code, negative for a signal."""
    code = None
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if is_first:  # everything in the namespace but this process, at one stroke
            _kill(-1)
        else:
            for pid in {child, *_descendants()} - {None}:
                _kill(pid)
            if child is not None:
                _kill(-child)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # none is left
                return code
            if not pid:
                break
            if pid == child:
                code, child = os.waitstatus_to_exitcode(status), None
        time.sleep(0.002)
    return code


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _descendants() -> set[int]:
    """Of this process, by /proc; where there is none, nothing."""
    children: dict[int, list[int]] = {}
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return set()
    for name in names:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(name))
    found, todo = set(), [os.getpid()]
    while todo:
        new = [pid for pid in children.get(todo.pop(), []) if pid not in found]
        found.update(new)
        todo += new
    return found


def _clear(scratch: str, is_mounted: bool) -> None:
    if is_mounted:
        fence.fresh_scratch(scratch, again=True)
        return
    from shutil import rmtree

    for entry in os.scandir(scratch):
        if entry.is_dir(follow_symlinks=False):
            rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
