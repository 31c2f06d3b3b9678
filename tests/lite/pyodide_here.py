"""Pyodide on this machine, for a kernel without the net: its core from npm, and what the kernel imports from PyPI.

NumPy and matplotlib are not in it: their builds for Pyodide are on Pyodide's own server only.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

KERNEL = ("micropip", "ipython", "jedi")  # what the kernel loads when it starts, by names in Pyodide's lock file
COMM = "comm"  # and what that file lacks: with the net, the kernel takes it from PyPI


def problem() -> str | None:
    """Why there can be none, or None."""
    return None if shutil.which("npm") else "npm, which fetches Pyodide's core, is not installed"


def fetch(folder: Path) -> None:
    """Fill the folder. CalledProcessError where a registry does not answer."""
    from jupyterlite_pyodide_kernel.constants import PYODIDE_VERSION

    quiet = {"check": True, "capture_output": True}
    subprocess.run(["npm", "pack", "--silent", f"pyodide@{PYODIDE_VERSION}"], cwd=folder, **quiet)
    (archive,) = folder.glob("pyodide-*.tgz")
    subprocess.run(["tar", "xzf", archive.name, "--strip-components=1"], cwd=folder, **quiet)
    archive.unlink()

    lock_file = folder / "pyodide-lock.json"
    lock = json.loads(lock_file.read_text())
    names, waiting = set(), list(KERNEL)
    while waiting:
        if (name := waiting.pop()) not in names:
            names.add(name)
            waiting += [dependency.lower().replace("_", "-") for dependency in lock["packages"][name]["depends"]]
    lock["packages"][COMM] = dict.fromkeys(("version", "file_name", "sha256"), "") | {
        "name": COMM,
        "imports": [COMM],
        "depends": ["traitlets"],
        "install_dir": "site",
        "package_type": "package",
        "unvendored_tests": False,
    }
    wanted = [COMM] + [f"{name}=={lock['packages'][name]['version']}" for name in sorted(names)]
    options = (
        "--quiet --no-deps --only-binary=:all: --implementation=py --abi=none --platform=any --python-version=3.14"
    )
    subprocess.run([sys.executable, "-m", "pip", "download", *options.split(), *wanted], cwd=folder, **quiet)
    for name in [*names, COMM]:  # PyPI's wheels are not byte for byte those that Pyodide's lock file names
        (wheel,) = [
            path for path in folder.glob("*.whl") if path.name.partition("-")[0].lower().replace("_", "-") == name
        ]
        lock["packages"][name] |= {
            "file_name": wheel.name,
            "version": wheel.name.split("-")[1],
            "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        }
    lock_file.write_text(json.dumps(lock))
