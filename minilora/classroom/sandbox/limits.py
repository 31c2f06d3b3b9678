"""What keeps a student's code from doing harm by accident: limits everywhere, and on Linux what else is offered.

    limits        memory, file size, open files, processor time (setrlimit)
    namespaces    processes, files, network of its own: the file system read-only but for a scratch folder, and no
                  process outlives the first one
    landlock      no reading of the lessons' files, no writing outside the scratch folder, no network, no signals to
                  other programs
    seccomp       no new processes (threads are allowed)

Each is tried and left out where the system refuses. None of this is a security boundary.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

NEW_MOUNTS = 0x00020000
NEW_NAMESPACES = 0x10000000 | 0x20000000 | 0x40000000 | 0x08000000  # user, pid, network, ipc
MS_REC_PRIVATE, MS_NOSUID_NODEV = 0x4000 | 0x40000, 2 | 4
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 22, 36, 38, 4
# The same numbers on x86-64 and on ARM64
SYS_MOUNT_SETATTR, SYS_LANDLOCK_CREATE, SYS_LANDLOCK_ADD, SYS_LANDLOCK_RESTRICT = 442, 444, 445, 446
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3  # Landlock's rights
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
# audit architecture, and the calls that make processes: fork, vfork, clone, clone3
SECCOMP = {"x86_64": (0xC000003E, (57, 58), 56, 435), "aarch64": (0xC00000B7, (), 220, 435)}
IS_LINUX = sys.platform == "linux" and platform.machine() in SECCOMP and struct.calcsize("P") == 8

_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: Callable[..., int], *arguments: int | bytes | ctypes.Array | None) -> int:
    """A C function that returns -1 on failure; raises OSError then."""
    as_c = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if (result := function(*as_c)) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def become_subreaper() -> None:
    """Have orphans among the descendants become children of this process (Linux)."""
    if sys.platform == "linux":
        _call(_libc.prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def deny_ptrace() -> None:
    """Keep other processes of this user from reading or changing this one's memory (Linux)."""
    if sys.platform == "linux":
        _call(_libc.prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)


def enter_namespaces() -> bool:
    """Move into namespaces of one's own; the next child is the first process there. False where that is refused.

    Raises OSError where it is refused half way; this process is then good for nothing.
    """
    if not IS_LINUX:
        return False
    uid, gid = os.getuid(), os.getgid()
    try:
        _call(_libc.unshare, NEW_NAMESPACES)
    except OSError:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return True


def make_files_read_only(scratch: str) -> bool:
    """All that is mounted, for this process and its children, but for an empty file system in memory on `scratch`.

    False where that is refused.
    """
    attributes = struct.pack("<4Q", MOUNT_ATTR_RDONLY, 0, 0, 0)
    try:
        _call(_libc.unshare, NEW_MOUNTS)
        _call(_libc.mount, b"none", b"/", None, MS_REC_PRIVATE, None)
        _call(_libc.syscall, SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, attributes, len(attributes))
        _call(_libc.mount, b"scratch", os.fsencode(scratch), b"tmpfs", MS_NOSUID_NODEV, b"size=64m,mode=700")
    except OSError:
        return False
    return True


def apply(seconds: int, memory: int, scratch: str, kinds: tuple[str, ...], hidden: list[str]) -> list[str]:
    """Limit this process for good; returns which of landlock and seccomp hold.

    seconds: of processor time; memory: bytes of address space; hidden: folders and files that may not be read.
    """
    os.chdir(scratch)
    held = []
    if IS_LINUX:
        _call(_libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for kind, restrict in (("landlock", lambda: _landlock(scratch, hidden)), ("seccomp", _forbid_processes)):
            if kind in kinds:
                with suppress(OSError):
                    restrict()
                    held.append(kind)
        _drop_capabilities()
    limits = {
        "RLIMIT_AS": memory,
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": 16 * 2**20,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }
    if "seccomp" not in held:
        limits["RLIMIT_NPROC"] = 0  # no process nor thread more (it does not bind the superuser)
    for name, most in limits.items():
        hard = resource.getrlimit(number := getattr(resource, name))[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        later = int(name == "RLIMIT_CPU" and most != hard)  # a second from SIGXCPU, which can be ignored, to SIGKILL
        with suppress(OSError, ValueError):  # macOS refuses some
            resource.setrlimit(number, (most, most + later))
    return held


def _landlock(scratch: str, hidden: list[str]) -> None:
    version = _call(_libc.syscall, SYS_LANDLOCK_CREATE, None, 0, 1)
    writing = WRITE_FILE | sum(1 << bit for bit in range(4, 13))  # write, remove, make
    writing |= (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)  # move, truncate
    reading, readable = READ_FILE | READ_DIR, list[str]()
    with suppress(PermissionError):  # of a folder above that cannot be listed: then nothing is kept from being read
        readable = list(_all_but(hidden)) if hidden else []
    handled = writing | (reading if readable else 0)
    rights = dict.fromkeys(readable, reading) | {scratch: writing | reading, os.devnull: WRITE_FILE | READ_FILE}
    rules = struct.pack("<3Q", handled, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _call(_libc.syscall, SYS_LANDLOCK_CREATE, rules, len(rules), 0)
    try:
        for path, right in rights.items():
            with suppress(FileNotFoundError):  # gone since it was listed
                _allow(ruleset, path, right & handled)
        _call(_libc.syscall, SYS_LANDLOCK_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights &= -1 if os.path.isdir(path) else WRITE_FILE | READ_FILE
        _call(_libc.syscall, SYS_LANDLOCK_ADD, ruleset, 1, struct.pack("<Qi", rights, target), 0)
    finally:
        os.close(target)


def _all_but(hidden: list[str]) -> Iterator[str]:
    """Paths that together hold all that is not in `hidden`: beside each, beside its parent, and so on."""
    closed = {os.path.realpath(path) for path in hidden}
    above = {str(parent) for path in closed for parent in Path(path).parents}
    for folder in above:
        if closed.isdisjoint([folder, *map(str, Path(folder).parents)]):
            # What a link leads to lies below another of the paths, or in `hidden`.
            yield from (e.path for e in os.scandir(folder) if e.path not in closed | above and not e.is_symlink())


def _forbid_processes() -> None:
    """A filter for system calls: new processes fail as if the system had no room for them."""
    architecture, forks, clone, clone3 = SECCOMP[platform.machine()]
    allow, again, missing = 0x7FFF0000, 0x00050000 | 11, 0x00050000 | 38  # EAGAIN, ENOSYS
    load, equal, has_bits, answer = 0x20, 0x15, 0x45, 0x06
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (answer, 0, 0, allow),
        (load, 0, 0, 0),
        (equal, 0, 1, clone3),
        (answer, 0, 0, missing),  # the C library then takes clone, whose flags a filter can read
    ]
    for number in forks:
        program += [(equal, 0, 1, number), (answer, 0, 0, again)]
    program += [
        (equal, 1, 0, clone),
        (answer, 0, 0, allow),
        (load, 0, 0, 16),  # the low half of clone's flags
        (has_bits, 0, 1, 0x10000),  # CLONE_THREAD
        (answer, 0, 0, allow),
        (answer, 0, 0, again),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in program))
    pointer = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    _call(_libc.prctl, PR_SET_SECCOMP, 2, pointer, 0, 0)


def _drop_capabilities() -> None:
    header, nothing = struct.pack("<Ii", 0x20080522, 0), bytes(24)
    _call(_libc.syscall, SYS_CAPSET[platform.machine()], header, nothing)
