"""Atomic writing of files, and careful reading of files that need not be trusted.

Writing: the bytes go to a temporary file in the same folder, are flushed to disk, and get the real name in one step
(POSIX `rename`). A reader sees the old file or the new one, never a part, even after a power failure. If a writer is
killed, its temporary file is overwritten by the next one.

Reading: a file must be a regular file (a pipe might block forever) and at most as large as a stated limit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from minilora.errors import FormatError, MiniloraError, escape

JSON_LIMIT = 50_000_000  # bytes; the index of a model with 100,000 tensors has about 10 million


def show_path(path: str | os.PathLike[str], limit: int = 160) -> str:
    """Return `path` for an error message: escaped, and if it is long only its end, which has the name of the file."""
    text = escape(str(path), limit=100_000)
    return text if len(text) <= limit else "…" + text[1 - limit :]


@contextmanager
def _explained(doing: str, path: str | os.PathLike[str], kind: type[MiniloraError] = MiniloraError) -> Iterator[None]:
    """Turn an OSError about `path` into an error of this kind, with a message of one line."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot {doing} {show_path(path)}: {error.strerror}") from error


# Writing


def write_atomic(path: str | os.PathLike[str], content: bytes | str | Callable[[BinaryIO], None]) -> None:
    """Write `content` to `path`, whole or not at all, in a folder that is created if it is missing.

    content: bytes, text (as UTF-8), or a function that writes to the open file it gets. A failure (no space, no
    permission) raises MiniloraError; a file that was at `path` before is then unchanged, and the temporary file is
    removed. Only one process may write the same file at a time.
    """
    path = Path(path)
    content = to_utf8(content) if isinstance(content, str) else content
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    with _explained("write", path):
        try:
            with open(temporary, "wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # also Ctrl-C: leave nothing half-written
            temporary.unlink(missing_ok=True)
            raise
        if os.name != "nt":  # fsync of the file does not cover its name, so sync the folder; Windows cannot do that
            handle = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def write_json(path: str | os.PathLike[str], value: dict[str, Any]) -> None:
    """Write `value` as indented JSON with `write_atomic`."""
    write_atomic(path, to_json(value))


def to_json(value: dict[str, Any]) -> bytes:
    """Encode `value` in the form that `write_json` writes: indented UTF-8 with a newline at the end."""
    return to_utf8(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def to_utf8(text: str) -> bytes:
    """Encode `text` as UTF-8. Raises MiniloraError if it cannot be, such as a path in another encoding."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        part = escape(text[max(error.start - 30, 0) : error.end + 30])
        raise MiniloraError(f"{part} is not UTF-8, but paths and texts must be") from None


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Create `folder` and its parents if they are missing. Raises MiniloraError if it cannot."""
    with _explained("create the folder", folder):
        Path(folder).mkdir(parents=True, exist_ok=True)


def remove_file(path: str | os.PathLike[str]) -> None:
    """Remove the file at `path`, if there is one. Raises MiniloraError if it cannot."""
    with _explained("remove", path):
        Path(path).unlink(missing_ok=True)


# Reading


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """Open a regular file for reading. Raises FormatError if it is missing or not a regular file, or if a read fails
    inside the `with` block.
    """
    with _explained("read", path, FormatError):
        if os.path.exists(path) and not os.path.isfile(path):
            raise FormatError(f"cannot read {show_path(path)}: not a regular file")
        with open(path, "rb") as file:
            yield file


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a whole file. Raises FormatError if it cannot be read, or has more than `limit` bytes."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise FormatError(f"{show_path(path)} has more than {limit:,} bytes, the limit for such a file")
        return file.read(limit)


def read_json(path: str | os.PathLike[str], limit: int = JSON_LIMIT) -> dict[str, Any]:
    """Read the JSON object in a file. Raises FormatError if there is none, or more than `limit` bytes."""
    return parse_json(read_bytes(path, limit), show_path(path))


def parse_json(raw: bytes, where: str, kind: type = dict) -> Any:
    """Parse a JSON object, or a list if `kind` is list. where: its name in errors.

    Raises FormatError if it is not UTF-8, not JSON, nested too deep, or not of this kind.
    """
    try:
        value = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is not valid JSON: {escape(str(error))}") from error
    if not isinstance(value, kind):
        raise FormatError(f"{where} holds JSON, but not {'an object in braces' if kind is dict else 'a list'}")
    return value
