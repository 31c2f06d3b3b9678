"""Measurements as they come: a file of JSON lines that a run that was cut off goes on with.

The first line says what the measurements are of: kind, version, settings, machine. Every other line is one cell: `key`,
what was measured, and the numbers. `complete` measures the cells that are missing; `Result` reads them for tables,
figures and sentences.
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

VERSION = 1  # of the format; one more whenever older files cannot be read any more
LIMIT = 50_000_000  # bytes
CPUINFO, STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")


class Records:
    """The cells of one file. header: the first line; rows: {key: cell}, in the order in which they were measured."""

    def __init__(self, path: Path, header: dict, rows: dict[tuple, dict]):
        self.path, self.header, self.rows = path, header, rows
        self.notes: list[str] = []

    @classmethod
    def open(cls, path: Path, kind: str, settings: dict, resume: bool = False, overwrite: bool = False) -> "Records":
        """Return a new file at `path`, or with `resume` the one that is there, less a last line that was cut off.

        Raises MiniloraError where there is a file and neither `resume` nor `overwrite`, or where it is of other
        settings; FormatError where it is damaged or of another version.
        """
        path, settings = Path(path), json.loads(json.dumps(settings))
        if path.exists() and resume:
            records = cls.read(path, kind, cut_off=True)
            there = records.header["settings"]
            if differ := sorted(name for name in there | settings if there.get(name) != settings.get(name)):
                raise MiniloraError(
                    f"{show_path(path)} was measured with other settings ({', '.join(differ)}); "
                    "choose another --out, or --overwrite"
                )
            return records
        if path.exists() and not overwrite:
            raise MiniloraError(f"{show_path(path)} exists; go on with it by --resume, or --overwrite it")
        header = {"minilora": kind, "version": VERSION, "settings": settings, "machine": machine()}
        header["date"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_atomic(path, _line(header))
        return cls(path, header, {})

    @classmethod
    def read(cls, path: Path, kind: str, cut_off: bool = False) -> "Records":
        """Return the measurements in the file at `path`.

        cut_off: a last line without an end is dropped, in the file too, and a note says so. Raises FormatError for
        a file that is damaged, half written, of another kind or another version.
        """
        where, raw = show_path(path), read_bytes(path, LIMIT)
        *lines, rest = raw.split(b"\n")
        if rest and not cut_off:
            raise FormatError(f"{where} is half written: its last line has no end; go on with the run by --resume")
        if not lines:
            raise FormatError(f"{where} holds no measurements")
        header, *cells = (parse_json(line, f"{where}, line {number}") for number, line in enumerate(lines, 1))
        types = {"minilora": str, "version": int, "settings": dict, "machine": dict}
        is_whole = all(isinstance(header.get(name), one) for name, one in types.items())
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
            records.notes.append(f"the last line of {where} was cut off; it is measured again")
        return records

    def add(self, key: Iterable, **numbers) -> dict:
        """Append a cell, on the disk when this returns."""
        row = {"key": list(key)} | numbers
        with open(self.path, "ab") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())
        self.rows[tuple(key)] = row
        return row

    def measured(self, key: tuple, measure: Callable[..., dict], *arguments: Any) -> dict:
        """Return the cell of `key`: `measure(*arguments)`, if it is not there."""
        if key not in self:
            self.add(key, **measure(*arguments))
        return self.rows[key]

    def complete(
        self, keys: Sequence[tuple], measure: Callable[..., dict], title: str, go_on: str = "; go on with --resume"
    ) -> None:
        """Measure the cells of `keys` that are missing, in this order, each by `measure(*key)`, with a progress bar.

        Raises Stopped where that is interrupted, with how many cells there are and how to go on.
        """
        print_notes(self.notes)
        try:
            with progress_bar(title, len(keys)) as advance:
                for key in keys:
                    self.measured(key, measure, *key)
                    advance(1, " ".join(map(str, key)))
        except (KeyboardInterrupt, Stopped) as error:
            done = f"{sum(key in self for key in keys)} of {len(keys)} cells are measured{go_on}"
            raise Stopped(getattr(error, "signum", signal.SIGINT), done) from error

    def __contains__(self, key: Iterable) -> bool:
        return tuple(key) in self.rows

    def of(self, *start) -> Iterator[dict]:
        """Return the cells whose key begins so."""
        return (row for key, row in self.rows.items() if key[: len(start)] == start)


def results_folder() -> Path:
    """Return the folder of the records that come with the package, which notebooks show."""
    return Path(str(resources.files("minilora"))) / "assets" / "results"


def _line(value: dict) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def machine() -> dict:
    """Return versions, cores, matrix kernels and the processor, which the last digits and every time depend on.

    Of the processor its name and, if Linux says them, the maker's numbers for its family and model.
    """
    fields: dict[str, str] = {}
    with suppress(OSError):
        for line in CPUINFO.read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), " ".join(value.split()))
    name = fields.get("model name") or platform.processor() or platform.machine() or "unknown"
    known = {"name": name, "family": fields.get("cpu family"), "model": fields.get("model")}
    kernels = (f"{b['internal_api']} {b['version']} ({b.get('architecture', '?')})" for b in blas.describe())
    return {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "minilora": __version__,
        "cores": blas.cores(),
        "blas": "; ".join(kernels),
        "processor": {part: value for part, value in known.items() if value},
    }


def peak_rss() -> int | None:
    """Return the most bytes that this process has had in memory (resident set); None on systems other than Linux."""
    try:  # not `getrusage`: its maximum begins with that of the process that started this one
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(peak[1]) * 1024 if peak else None
