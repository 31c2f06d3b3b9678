"""One writer at a time in a folder: the lock is the system's, which frees it when its process ends or is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path

LOCK = ".lock"  # the file in the folder; it stays there, with the number of the process that locked it last


@contextmanager
def single_writer(folder: Path, what: str) -> Iterator[None]:
    """Lock `folder` for this process within the block. MiniloraError, which calls it `what`, if another has it."""
    from filelock import FileLock, Timeout  # takes a while to import

    path = folder / LOCK
    try:
        lock = FileLock(path).acquire(blocking=False)
    except Timeout:
        owner = path.read_text(errors="replace")[:20] if os.access(path, os.R_OK) else ""
        raise MiniloraError(f"{what} {show_path(folder)} is in use by process {escape(owner) or 'unknown'}") from None
    except OSError as error:
        raise MiniloraError(f"cannot lock {what} {show_path(folder)}: {error.strerror}") from error
    with lock:
        with suppress(OSError):  # the number only makes the refusal of others clearer
            path.write_text(str(os.getpid()))
        yield
