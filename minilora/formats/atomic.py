"""Files that are whole or absent, and files that are really files.

Writing: the bytes go to a temporary name in the same folder, are flushed to the disk, and take the real name in one
step (POSIX `rename`). A reader sees the old file or the new one, never a part of either, also after a power cut.

Reading: a file that somebody else made is opened without waiting (a FIFO would never answer), must be a regular file,
and is read up to a stated size.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from minilora.errors import FormatError, MiniloraError, escape

JSON_LIMIT = 50_000_000  # bytes; the index of a model with 100,000 tensors has about 10 million
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def show_path(path: str | os.PathLike[str], limit: int = 160) -> str:
    """`path` for an error message: as `show`, but a long one keeps its end, where the name of the file is."""
    text = escape(str(path), limit=100_000)
    return text if len(text) <= limit else "…" + text[1 - limit :]


def write_atomic(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write `content` (bytes, or a function that writes to the open file it is given) to `path`, whole or not at all.

    A failure (no space, no permission) is a MiniloraError; what was at `path` before is then still there, and the
    temporary file is gone. Only a process killed outright leaves one behind: see `remove_leftovers`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # Ctrl-C included: nothing half-written stays
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise MiniloraError(f"cannot write {show_path(path)}: {error.strerror}") from error


def write_json(path: str | os.PathLike[str], value: dict[str, Any]) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, to_json(value))


def to_json(value: dict[str, Any]) -> bytes:
    """`value` as indented UTF-8 JSON with a newline at the end: what `write_json` writes."""
    return to_utf8(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def to_utf8(text: str) -> bytes:
    """`text` in UTF-8. MiniloraError for what has none, such as a path that is in another encoding."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        part = escape(text[max(error.start - 30, 0) : error.end + 30])
        raise MiniloraError(f"{part} is not UTF-8, which paths and texts must be") from None


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush the names in `folder` to the disk: a file's own fsync does not cover the name it is found by."""
    if os.name == "nt":  # Windows cannot open a folder and has no such call
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Create `folder` and its parents where they are missing. MiniloraError where that cannot be done."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "there is a file of that name" if isinstance(error, FileExistsError) else error.strerror
        raise MiniloraError(f"cannot create the folder {show_path(folder)}: {reason}") from error


def is_leftover(name: str) -> bool:
    """Whether `name` is one that `write_atomic` uses while it writes."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_leftovers(folder: str | os.PathLike[str], of: str | None = None) -> None:
    """Remove what a killed `write_atomic` left in `folder`, or of the file of one name in it. Only where nobody else is
    writing the same. A folder that cannot be read is a MiniloraError."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise MiniloraError(f"cannot write into {show_path(folder)}: {error.strerror}") from error
    for name in names:
        if is_leftover(name) and (of is None or name[1:-13] == of):  # without ".", and ".01234567.tmp"
            remove_file(Path(folder) / name)


def remove_file(path: str | os.PathLike[str]) -> None:
    """Remove the file at `path`, if there is one. MiniloraError where that cannot be done."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise MiniloraError(f"cannot remove {show_path(path)}: {error.strerror}") from error


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """Open a regular file for reading. A folder, FIFO, device or socket, a missing file and a read that fails inside
    the `with` block are each a FormatError."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))

    try:
        with open(path, "rb", opener=opener) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FormatError(f"cannot read {show_path(path)}: not a regular file")
            yield file
    except OSError as error:
        raise FormatError(f"cannot read {show_path(path)}: {error.strerror}") from error


def read_json(path: str | os.PathLike[str], limit: int = JSON_LIMIT) -> dict[str, Any]:
    """The JSON object in the file at `path`, which may have at most `limit` bytes. FormatError otherwise."""
    with open_regular(path) as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise FormatError(f"{show_path(path)} has more than the {limit:,} bytes that such a file may have")
    return parse_json(raw, show_path(path))


def parse_json(raw: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `raw`; `where` names it in errors. Not UTF-8, not JSON, nested too deep, not an object, or a
    key twice (readers differ on which one counts): FormatError."""
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is not valid JSON: {escape(str(error))}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{where} holds JSON, but not an object in braces")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {escape(twice)} appears twice")
    for text in (*result, *result.values()):
        if isinstance(text, str):
            text.encode()  # half a surrogate pair ("\ud800") is no text: UnicodeEncodeError, a ValueError
    return result
