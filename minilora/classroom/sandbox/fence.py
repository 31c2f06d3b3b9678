"""What keeps a student's code from doing harm by accident: limits everywhere, and on Linux what else is offered.

    limits        memory, file size, open files, processor time (setrlimit)
    namespaces    processes, files, network of its own: the file system read-only but for a scratch folder, and no
                  process outlives the first one
    landlock      no writing outside the scratch folder, no network, no signals to other programs
    seccomp       no new processes (threads are allowed)

Each is tried and left out where the system refuses. None of this is a security boundary.
"""

import ctypes
import os
import platform
import resource
import struct
import sys

KINDS = ("namespaces", "landlock", "seccomp")  # beside limits, which are always there

NEW_NAMESPACES = 0x00020000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x08000000  # mount, user, pid, network, ipc
MS_REC_PRIVATE = 0x4000 | 0x40000
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 22, 36, 38, 4
# The same numbers on x86-64 and on ARM64
SYS_MOUNT_SETATTR, SYS_LANDLOCK_CREATE, SYS_LANDLOCK_ADD, SYS_LANDLOCK_RESTRICT = 442, 444, 445, 446
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
# audit architecture, and the calls that make processes: fork, vfork, clone, clone3
SECCOMP = {"x86_64": (0xC000003E, (57, 58), 56, 435), "aarch64": (0xC00000B7, (), 220, 435)}

_libc = ctypes.CDLL(None, use_errno=True)


def _call(function, *arguments) -> int:
    """A C function that returns -1 on failure; raises OSError then."""
    as_c = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if (result := function(*as_c)) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _is_linux() -> bool:
    return sys.platform == "linux" and platform.machine() in SECCOMP and struct.calcsize("P") == 8


def become_subreaper() -> None:
    """Have orphans among the descendants become children of this process (Linux)."""
    if sys.platform == "linux":
        _call(_libc.prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def enter_namespaces() -> bool:
    """Move into namespaces of one's own; the next child is the first process there. False where that is refused."""
    if not _is_linux():
        return False
    if not (probe := os.fork()):  # half a move could not be taken back
        try:
            _enter_namespaces()
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(probe, 0)[1]:
        return False
    _enter_namespaces()
    return True


def _enter_namespaces() -> None:
    uid, gid = os.getuid(), os.getgid()
    _call(_libc.unshare, NEW_NAMESPACES)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def make_files_read_only() -> None:
    """Everything that is mounted, in this mount namespace. Raises OSError where that is refused."""
    _call(_libc.mount, b"none", b"/", None, MS_REC_PRIVATE, None)
    attributes = struct.pack("<4Q", 1, 0, 0, 0)  # MOUNT_ATTR_RDONLY
    _call(_libc.syscall, SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, attributes, len(attributes))


def fresh_scratch(folder: str, again: bool) -> None:
    """Mount an empty file system in memory on `folder`; `again`: in place of the one before."""
    if again:
        _call(_libc.umount2, os.fsencode(folder), MNT_DETACH)
    _call(_libc.mount, b"scratch", os.fsencode(folder), b"tmpfs", 2 | 4, b"size=64m,mode=700")  # nosuid, nodev


def hide() -> None:
    """Keep other processes of this user from reading or changing this one's memory (Linux)."""
    if sys.platform == "linux":
        _call(_libc.prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)


def close_in(seconds: float, memory: int, scratch: str, kinds: tuple[str, ...]) -> list[str]:
    """Limit this process for good; returns which of landlock and seccomp hold.

    seconds: of processor time, as a second line behind the parent's clock; memory: bytes of address space.
    """
    os.chdir(scratch)
    done = []
    if _is_linux():
        _call(_libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for kind, close in (("landlock", lambda: _landlock(scratch)), ("seccomp", _forbid_processes)):
            try:
                if kind in kinds:
                    close()
                    done.append(kind)
            except OSError:
                pass
        _drop_capabilities()
    limits = {
        "RLIMIT_AS": memory,
        "RLIMIT_CPU": int(seconds) + 5,
        "RLIMIT_FSIZE": 16 * 2**20,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }
    if "seccomp" not in done:
        limits["RLIMIT_NPROC"] = 0  # no process nor thread more (it does not bind the superuser)
    for name, most in limits.items():
        hard = resource.getrlimit(number := getattr(resource, name))[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(number, (most, most))
        except (OSError, ValueError):  # macOS refuses some
            pass
    return done


def _landlock(scratch: str) -> None:
    version = _call(_libc.syscall, SYS_LANDLOCK_CREATE, None, 0, 1)
    writing = 1 << 1 | sum(1 << bit for bit in range(4, 13))  # write, remove, make
    writing |= (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)  # move, truncate
    rules = struct.pack("<3Q", writing, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _call(_libc.syscall, SYS_LANDLOCK_CREATE, rules, len(rules), 0)
    try:
        for path, rights in ((scratch, writing), (os.devnull, 1 << 1)):
            target = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                _call(_libc.syscall, SYS_LANDLOCK_ADD, ruleset, 1, struct.pack("<Qi", rights, target), 0)
            finally:
                os.close(target)
        _call(_libc.syscall, SYS_LANDLOCK_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


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
