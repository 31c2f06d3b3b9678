"""Audit hook of the child: refuses what Python announces before it happens.

Refused are reading a lesson's files, changing anything outside the scratch folder, and starting processes. `limits.py`
does all of this better, below Python, but not on every system. Everything is held in closures, and files are known by
their inodes: a submission may have changed the functions of `os`, and hands over paths whose methods it wrote.
"""

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

ANSWERS = ("solution", "checks", "mistakes")  # of a lesson's files, those that are no business of a submission
Attempts = list[tuple[str, int | None]]  # to read one of ANSWERS: the file's name, and the submission's line
Inode = tuple[int, int]  # with its device

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# event -> which of its arguments are paths, and which are folders that a path is relative to (-1: none)
CHANGING: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    **{f"os.{verb}": ((0,), (-1,)) for verb in "remove rmdir mkdir chmod chown utime".split()},
    **{f"os.{verb}": ((0, 1), (2, 3)) for verb in ("rename", "link")},
    "os.symlink": ((1,), (2,)),
    "os.truncate": ((0,), ()),
}
STARTING = {"os.fork", "os.forkpty", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.kill"}
UNSEEN = {"sqlite3.connect"}  # what opens files without a word


def line_in(file: str) -> int | None:
    """The line of the file that is running."""
    frame = sys._getframe().f_back
    while frame is not None and frame.f_code.co_filename != file:
        frame = frame.f_back
    return frame and frame.f_lineno


def files_below(path: str) -> dict[Inode, str]:
    """Names of a file, or of a folder and all that is in it; of "", nothing."""
    found: dict[Inode, str] = {}
    for root, folders, files in [*os.walk(path)] or [("", [], [path])]:
        for name in [".", *folders, *files] if root else files:
            with suppress(OSError):
                info = os.lstat(os.path.join(root, name))
                found[info.st_dev, info.st_ino] = name
    return found


def watch(scratch: str, hidden: dict[Inode, str], file: str, attempts: Attempts) -> None:
    """Refuse, from now on, what `guard` refuses."""
    sys.addaudithook(guard(scratch, hidden, file, attempts))


def guard(
    scratch: str, hidden: dict[Inode, str], file: str, attempts: Attempts
) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that refuses to read `hidden`, to change anything outside `scratch`, and to start processes.

    Who tries to read one of ANSWERS is noted in `attempts`. file: the submission's name.
    """
    check_open, check_change = _checks(scratch, hidden, file, attempts)
    refusal, changing, starting, unseen = PermissionError, CHANGING.copy(), STARTING.copy(), UNSEEN.copy()

    def look(event: str, arguments: tuple) -> None:
        if event == "open" and not isinstance(arguments[0], int):
            check_open(arguments[0], bool(arguments[2] & WRITING))
        elif event in changing:
            paths, folders = changing[event]
            for i in paths:
                check_change(arguments[i], all(arguments[i] == -1 for i in folders))
        elif event in starting:
            raise refusal(f"an exercise may not start or signal processes ({event})")
        elif event in unseen:
            raise refusal(f"an exercise may not open databases ({event})")

    return look


def _checks(
    scratch: str, hidden: dict[Inode, str], file: str, attempts: Attempts
) -> tuple[Callable[[object, bool], None], Callable[[object, bool], None]]:
    """Two functions that raise PermissionError: for a path to open (and whether to write), and for one to change."""
    may_change, is_in_scratch = _scratch_rules(scratch)
    stat_of, fspath, is_folder, line, as_bytes = os.stat, os.fspath, stat.S_ISDIR, line_in, _as_bytes
    refusal, answers = PermissionError, [f"{name}.py" for name in ANSWERS]

    def check_open(given: object, is_written: bool) -> None:
        if (path := as_bytes(given)) is None:
            check_open(fspath(given), False)  # type: ignore[call-overload]  # it may say something else the next time
            raise refusal(f"an exercise names files by text, not {type(given).__name__}")
        try:
            info = stat_of(path)
        except OSError:
            if not is_written:
                raise
        else:
            if (name := hidden.get((info.st_dev, info.st_ino))) is not None:
                if name in answers:
                    attempts.append((name, line(file)))
                raise refusal("an exercise may not read the lessons' files")
            if is_folder(info.st_mode) and not is_in_scratch(path):  # files could be opened relative to it
                raise refusal(f"an exercise may not open the folder {given}")
        if is_written and path != b"/dev/null" and not may_change(path, True):
            raise refusal(f"an exercise may not write {given}")

    def check_change(given: object, is_plain: bool) -> None:
        if not is_plain or (path := as_bytes(given)) is None or not may_change(path, False):
            raise refusal(f"an exercise may not change {given}")

    return check_open, check_change


def _as_bytes(path: object, encode: Callable[[str, str, str], bytes] = str.encode) -> bytes | None:
    """A path as the system gets it: of text of a derived class, too; None for what is no text."""
    if isinstance(path, str):
        return encode(path, "utf-8", "surrogateescape")
    return path if type(path) is bytes else None


def _scratch_rules(scratch: str) -> tuple[Callable[[bytes, bool], bool], Callable[[bytes], bool]]:
    """Two functions: whether a path may be changed (as a link, too?), and whether a folder is in scratch."""
    stat_of, lstat_of, is_link = os.stat, os.lstat, stat.S_ISLNK

    def inode(folder: bytes) -> Inode:
        info = stat_of(folder)
        return info.st_dev, info.st_ino

    home = inode(os.fsencode(scratch))

    def is_in_scratch(folder: bytes) -> bool:
        below = None
        while (here := inode(folder)) != home:
            if here == below:  # the root is its own parent
                return False
            below, folder = here, folder + b"/.."
        return True

    def may_change(path: bytes, no_link: bool) -> bool:
        parent, slash, name = path.rstrip(b"/").rpartition(b"/")
        try:
            if name in (b"", b"..") or not is_in_scratch(parent or slash or b"."):
                return False
        except OSError:
            return False
        try:
            return not (no_link and is_link(lstat_of(path).st_mode))
        except OSError:  # it is to be made
            return True

    return may_change, is_in_scratch
