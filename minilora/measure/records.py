"""Records of measurements: a file of JSON lines, written one by one so that an interrupted run can be resumed.

The first line is the header: kind, version, settings, machine. Every other line is one cell: a `key` that names the
measurement, and its numbers. `complete` measures the missing cells; `Result` reads the cells for tables, figures and
sentences.
"""

import json
import os
import platform
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from minilora import __version__, blas
from minilora.errors import FormatError, MiniloraError, Stopped, print_notes
from minilora.formats.atomic import parse_json, read_bytes, show_path, write_atomic
from minilora.train.progress import progress_bar

VERSION = 1  # version of the format; raised when older files can no longer be read
LIMIT = 50_000_000  # bytes
CPUINFO, STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")


class Records:
    """The cells of one file. header: the first line; rows: {key: cell}, in the order in which they were measured."""

    def __init__(self, path: Path, header: dict, rows: dict[tuple, dict]):
        self.path, self.header, self.rows = path, header, rows
        self.notes: list[str] = []

    @classmethod
    def open(cls, path: Path, kind: str, settings: dict, resume: bool = False, overwrite: bool = False) -> "Records":
        """Create the file at `path`, or with `resume` read the existing one, dropping an incomplete last line.

        Raises MiniloraError if the file exists and neither `resume` nor `overwrite` is given, or if it has other
        settings; FormatError if it is damaged or of another version.
        """
        path, settings = Path(path), json.loads(json.dumps(settings))
        if path.exists() and resume:
            records = cls.read(path, kind, cut_off=True)
            before = records.header["settings"]
            if differ := sorted(name for name in before | settings if before.get(name) != settings.get(name)):
                raise MiniloraError(
                    f"{show_path(path)} was measured with other settings ({', '.join(differ)}); "
                    "choose another --out, or add --overwrite to start again"
                )
            return records
        if path.exists() and not overwrite:
            raise MiniloraError(f"{show_path(path)} exists already; --resume continues it, --overwrite starts again")
        header = {"minilora": kind, "version": VERSION, "settings": settings, "machine": machine()}
        header["date"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_atomic(path, _line(header))
        return cls(path, header, {})

    @classmethod
    def read(cls, path: Path, kind: str, cut_off: bool = False) -> "Records":
        """Read the measurements in the file at `path`.

        cut_off: drop an incomplete last line, in the file too, and add a note about it. Raises FormatError for a file
        that is damaged, of another kind or version, or that ends in an incomplete line without `cut_off`.
        """
        where, raw = show_path(path), read_bytes(path, LIMIT)
        *lines, rest = raw.split(b"\n")
        if rest and not cut_off:
            raise FormatError(f"{where} is half written: its last line is incomplete; --resume continues the run")
        if not lines:
            raise FormatError(f"{where} is empty: it holds no measurements")
        header, *cells = (parse_json(line, f"{where}, line {number}") for number, line in enumerate(lines, 1))
        types = {"minilora": str, "version": int, "settings": dict, "machine": dict}
        is_whole = all(isinstance(header.get(name), expected) for name, expected in types.items())
        if not is_whole or header["minilora"] != kind or header["version"] != VERSION:
            raise FormatError(f"{where} holds no measurements of {kind!r} in version {VERSION} of the format")
        records = cls(Path(path), header, {})
        for number, row in enumerate(cells, 2):
            key = row.get("key")
            if not isinstance(key, list) or not all(isinstance(part, str | int | float) for part in key):
                raise FormatError(f"{where}, line {number} does not say what it measured")
            records.rows[tuple(key)] = row
        if rest:
            write_atomic(path, raw[: -len(rest)])
            records.notes.append(f"the last line of {where} is incomplete; its cell is measured again")
        return records

    def add(self, key: Iterable, **numbers) -> dict:
        """Append a cell and flush it to disk."""
        row = {"key": list(key)} | numbers
        with open(self.path, "ab") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())
        self.rows[tuple(key)] = row
        return row

    def measured(self, key: tuple, measure: Callable[..., dict], *arguments: Any) -> dict:
        """Return the cell of `key`; if it is missing, measure it by `measure(*arguments)` first."""
        if key not in self:
            self.add(key, **measure(*arguments))
        return self.rows[key]

    def complete(
        self, keys: Sequence[tuple], measure: Callable[..., dict], title: str, advice: str = "; --resume continues"
    ) -> None:
        """Measure the missing cells of `keys`, in this order, each by `measure(*key)`, with a progress bar.

        Raises Stopped when interrupted; its message says how many cells are done and ends with `advice`.
        """
        print_notes(self.notes)
        try:
            with progress_bar(title, len(keys)) as advance:
                for key in keys:
                    kind, *rest = map(str, key)
                    label = ": ".join([kind, ", ".join(rest)] if rest else [kind])
                    advance(0, label)
                    self.measured(key, measure, *key)
                    advance(1, label)
        except (KeyboardInterrupt, Stopped) as error:
            done = f"{sum(key in self for key in keys)} of {len(keys)} cells are measured{advice}"
            raise Stopped(getattr(error, "signum", signal.SIGINT), done) from error

    def __contains__(self, key: Iterable) -> bool:
        return tuple(key) in self.rows

    def of(self, *start) -> Iterator[dict]:
        """Return the cells whose key begins with `start`."""
        return (row for key, row in self.rows.items() if key[: len(start)] == start)


def results_folder() -> Path:
    """Return the folder of the records that come with the package and that notebooks show."""
    return Path(str(resources.files("minilora"))) / "assets" / "results"


def _line(value: dict) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def machine() -> dict:
    """Describe this machine: versions, cores, matrix kernels and processor. Times and last digits depend on these.

    The processor has its name and, on Linux, the vendor's family and model numbers.
    """
    fields: dict[str, str] = {}
    with suppress(OSError):
        for line in CPUINFO.read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), " ".join(value.split()))
    name = fields.get("model name") or platform.processor() or platform.machine() or "unknown"
    processor = {"name": name, "family": fields.get("cpu family"), "model": fields.get("model")}
    kernels = (f"{b['internal_api']} {b['version']} ({b.get('architecture', '?')})" for b in blas.describe())
    return {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "minilora": __version__,
        "cores": blas.cores(),
        "blas": "; ".join(kernels),
        "processor": {part: value for part, value in processor.items() if value},
    }


def peak_rss() -> int | None:
    """Return the peak resident set size of this process in bytes; None on systems other than Linux."""
    try:  # not `getrusage`, whose maximum includes that of the parent process
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(peak[1]) * 1024 if peak else None
