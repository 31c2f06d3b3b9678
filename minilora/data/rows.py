"""Rows of a file: CSV and TSV as spreadsheets write them, JSON and JSON lines, compressed or not.

    text;team
    "The invoice is wrong,
    twice";billing

gives ("line 2", {"text": "The invoice is wrong,\\ntwice", "team": "billing"}).
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import os
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from minilora.data.corpora import SIZE_LIMIT, decode
from minilora.errors import MiniloraError, escape, first_few
from minilora.formats.atomic import open_regular, parse_json, read_bytes, show_path

TABLES, JSON = (".csv", ".tsv"), (".jsonl", ".ndjson", ".json")
OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
BINARY = (b"PK\3\4", b"\xd0\xcf\x11\xe0", b"PAR1")  # how .xlsx and .ods, .xls and .parquet begin
DELIMITERS = ",;\t|"
LOOKED_AT = 50  # rows that tell the delimiter

Row = tuple[str, dict[str, Any]]


def is_rows(path: str | os.PathLike[str]) -> bool:
    """True if a file of this name holds rows: `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.json`, maybe compressed."""
    return _suffixes(path)[0] in TABLES + JSON


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Read the rows of a file, each with where it is: the line that it begins in, or its place in the list of a .json.

    The first row of a table names the columns; fields are text, those without a name and empty rows are left out.
    Errors: MiniloraError, which names up to three bad lines; FormatError if the file cannot be read.
    """
    kind, compression = _suffixes(path)
    raw, where = _read(path, compression), show_path(path)
    if raw.startswith(BINARY):
        raise MiniloraError(f"{where} is a spreadsheet or an archive, whatever its name says: save it as CSV")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # a spreadsheet's "Unicode text"
        raw = raw.decode("utf-16", "replace").encode()
    text = decode(raw, where)
    try:
        rows = _table(text) if kind in TABLES else _objects(text, kind)
    except MiniloraError as error:
        raise MiniloraError(f"{where}: {error}") from error
    if not rows:
        raise MiniloraError(f"{where} has no rows")
    return rows


def _suffixes(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the suffix that tells the kind, and that of the compression ("" if there is none)."""
    name = Path(str(path).lower())
    return (Path(name.stem).suffix, name.suffix) if name.suffix in OPENERS else (name.suffix, "")


def _read(path: str | os.PathLike[str], compression: str) -> bytes:
    """Read a file whole, unpacked: at most SIZE_LIMIT bytes."""
    if not compression:
        return read_bytes(path, SIZE_LIMIT)
    with open_regular(path) as file:
        try:
            raw = OPENERS[compression](file).read(SIZE_LIMIT + 1)
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise MiniloraError(f"{show_path(path)} is not a whole {compression} file: {escape(str(error))}") from error
    if len(raw) > SIZE_LIMIT:
        raise MiniloraError(f"{show_path(path)} unpacks to more than {SIZE_LIMIT:,} bytes, the most that is read")
    return raw


def _table(text: str) -> list[Row]:
    """Read a table by the delimiter that divides the first rows alike; for a single column, by one that no text has."""
    candidates = [one for one in DELIMITERS if one in text.lstrip("\n").partition("\n")[0]]
    delimiter = max(candidates, key=lambda one: _is_even(text, one), default="\x1f")
    records, problems, rows = _records(text, delimiter), [], []
    names = [name.strip() for name in next(records, (0, []))[1]]
    while names and not names[-1]:  # empty columns, as spreadsheets leave them at the end
        names.pop()
    lower = [name.lower() for name in names if name]
    if twice := [name for name in dict.fromkeys(lower) if lower.count(name) > 1]:
        raise MiniloraError(f"the first line names {first_few(map(repr, twice))} twice: give each column its own name")
    for line, fields in records:
        if len(fields) < len(names) or any(fields[len(names) :]):
            problems.append(f"line {line:,} has {len(fields)} fields, and the first line names {len(names)}")
        elif any(field.strip() for field in fields):
            rows.append((f"line {line:,}", {n: field for n, field in zip(names, fields, strict=False) if n}))
    if problems:
        advice = f"a text with {escape(repr(delimiter))} or a line end in it needs quotation marks around it"
        raise MiniloraError(f"{first_few(problems, separator='; ')}; {advice}")
    return rows


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not an empty line, with the line that it begins in."""
    csv.field_size_limit(SIZE_LIMIT)
    lines = io.StringIO(text, newline="")
    reader, line = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True), 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise MiniloraError(f"line {line:,}: {error}: is a quotation mark left open, or not doubled?") from error


def _is_even(text: str, delimiter: str) -> tuple[bool, int]:
    """Return how well a delimiter suits: if the first rows have as many fields as the header, and how many it has."""
    try:
        widths = [len(fields) for _, fields in islice(_records(text, delimiter), LOOKED_AT)]
    except MiniloraError:  # told when the rows are read
        return False, 0
    return len(set(widths)) == 1, widths[0]


def _objects(text: str, kind: str) -> list[Row]:
    """Read JSON objects: one a line, or in .json a list of them."""
    if kind == ".json" and text.lstrip().startswith("["):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MiniloraError(f"it is not valid JSON: {escape(str(error))}") from error
        if strange := [f"{i:,}" for i, value in enumerate(values, start=1) if not isinstance(value, dict)]:
            raise MiniloraError(f"it is a list of more than objects: see number {first_few(strange)}")
        return [(f"number {i:,}", value) for i, value in enumerate(values, start=1)]
    rows, problems = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append((f"line {number:,}", parse_json(line.encode(), "it")))
            except MiniloraError as error:
                problems.append(f"line {number:,}: {error}")
    if problems:
        advice = "; a .json file holds a list of objects, or one object a line" if kind == ".json" else ""
        raise MiniloraError(first_few(problems, separator="; ") + advice)
    return rows
