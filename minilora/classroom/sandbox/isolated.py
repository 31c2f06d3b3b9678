"""Running other people's code, for marks: the sandbox of `check`, inside a namespace made by bubblewrap.

Inside, only the files of Python, its packages and minilora exist, all read-only. The folder SCRATCH is empty before
each run. There is no home folder, no lesson and so no solution, no course, no network, and no other process.
"""

import shutil
import site
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from minilora.classroom.sandbox.runner import PACKAGE, Sandbox
from minilora.errors import MiniloraError

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/nix/store")
SCRATCH = "/scratch"
CONTAINER = "or grade in a Linux container that has it (see Containers in docs/teachers.md)"


class Isolated(Sandbox):
    """A Sandbox for marks; use one per student. Raises MiniloraError if bubblewrap does not work here."""

    def _command(self) -> tuple[Sequence[str], dict[str, str]]:
        return bubblewrap(), {"LANG": "C.UTF-8", "HOME": SCRATCH, "TMPDIR": SCRATCH}


@cache
def bubblewrap() -> list[str]:
    """Return the bubblewrap command to put in front of Python. Raises MiniloraError if it does not work here."""
    program = shutil.which("bwrap")
    if program is None:
        raise MiniloraError(f"marks need bubblewrap, which is not installed: apt install bubblewrap, {CONTAINER}")
    packages = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    folders = dict.fromkeys([*SYSTEM, sys.base_prefix, sys.prefix, *packages, str(Path(sys.executable).parent)])
    command = [program, "--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    for folder in folders:
        command += ["--ro-bind-try", folder, folder]
    command += ["--ro-bind", str(PACKAGE), str(PACKAGE)]
    for answers in ("lessons", "tests"):  # hide them even if one of the folders above is the clone itself
        if (hidden := PACKAGE.parent / answers).is_dir():
            command += ["--tmpfs", str(hidden), "--remount-ro", str(hidden)]
    command += ["--dev", "/dev", "--remount-ro", "/dev", "--tmpfs", SCRATCH, "--remount-ro", "/", "--chdir", SCRATCH]
    trial = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, text=True)
    if trial.returncode:
        why = " ".join(trial.stderr.split())[:200]
        raise MiniloraError(f"marks need bubblewrap, which does not work here ({why}): allow it, {CONTAINER}")
    return command
