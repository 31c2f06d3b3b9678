"""Writable copies of the checkout's folders, for tests; the originals may be read-only."""

import shutil
from pathlib import Path


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder to a new place, and make the copy writable."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
    for folder in (target, *target.rglob("*/")):
        folder.chmod(0o755)
