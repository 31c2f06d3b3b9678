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
import lzma
import os
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from minilora.data.corpora import SIZE_LIMIT, decode
from minilora.errors import MiniloraError, escape, first_few
from minilora.formats.atomic import open_regular, parse_json, show_path

TABLES, JSON, SHEETS = (".csv", ".tsv"), (".jsonl", ".ndjson", ".json"), (".xlsx", ".xls", ".ods", ".parquet")
OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
DELIMITERS = ",;\t|"

Row = tuple[str, dict[str, Any]]  # where it is, to readers; its fields


def is_rows(path: str | os.PathLike[str]) -> bool:
    """True if a file of this name holds rows: TABLES and JSON, maybe compressed, and SHEETS, which are not read."""
    return _suffixes(path)[0] in TABLES + JSON + SHEETS


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Read the rows of a file, each with the line that it begins in, or its number in the list of a .json.

    The first row of a table names the columns; fields are text; columns without a name and empty rows are left out.
    Errors: MiniloraError, which names up to three bad lines; FormatError if the file cannot be read.
    """
    return _read(path)[0]


def spelling(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the delimiter of a table, a comma if it needs none, and the byte order mark that it begins with, or ""."""
    _, delimiter, mark = _read(path)
    return delimiter if delimiter in DELIMITERS else ",", mark


def _read(path: str | os.PathLike[str]) -> tuple[list[Row], str, str]:
    """Return the rows of a file, and its `spelling`."""
    (kind, compression), where = _suffixes(path), show_path(path)
    if not is_rows(path):
        raise MiniloraError(
            f"{where} is no file of examples: {', '.join(TABLES + JSON)}, also with {', '.join(OPENERS)}"
        )
    with open_regular(path) as file:
        try:
            raw = OPENERS.get(compression, lambda file: file)(file).read(SIZE_LIMIT + 1)
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise MiniloraError(f"{where} cannot be read: {escape(str(error))}") from error
    if len(raw) > SIZE_LIMIT:
        raise MiniloraError(f"{where} has more than {SIZE_LIMIT:,} bytes, the most that is read of a file: divide it")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # a spreadsheet's "Unicode text"
        raw = codecs.BOM_UTF8 + raw.decode("utf-16", "replace").encode()
    text, mark = decode(raw, where), "\ufeff" * raw.startswith(codecs.BOM_UTF8)
    rows, delimiter = _table(text, where) if kind in TABLES else (_objects(text, kind, where), ",")
    if not rows:
        raise MiniloraError(f"{where} has no rows")
    return rows, delimiter, mark


def _suffixes(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the suffix that tells the kind, and that of the compression ("" if there is none)."""
    name = Path(str(path).lower())
    return (Path(name.stem).suffix, name.suffix) if name.suffix in OPENERS else (name.suffix, "")


def _table(text: str, where: str) -> tuple[list[Row], str]:
    """Read a table by the delimiter that its header has most of, or another one that divides all rows alike: both."""
    csv.field_size_limit(SIZE_LIMIT)
    header = "".join(next(csv.reader(io.StringIO(text.lstrip("\n"), newline=""), delimiter="\x1f"), ()))
    delimiters = sorted((one for one in DELIMITERS if one in header), key=header.count, reverse=True)
    tables = [(*_divided(text, one), one) for one in delimiters or "\x1f"]  # a single column: no text has this
    rows, problems, delimiter = min(tables, key=lambda table: bool(table[1]))
    if problems:
        raise MiniloraError(f"{where}: {first_few(problems, separator='; ')}")
    return rows, delimiter


def _divided(text: str, delimiter: str) -> tuple[list[Row], list[str]]:
    """Return the rows of a table by a delimiter, and what is wrong with them, in words."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows, problems, line = [], [], 1
    names: list[str] = []
    try:
        for fields in reader:
            if not names:
                names = [field.strip() for field in fields]
                while names and not names[-1]:  # empty columns, as spreadsheets leave them at the end
                    names.pop()
            elif any(field.strip() for field in fields):
                if len(fields) < len(names) or any(map(str.strip, fields[len(names) :])):
                    problems.append(f"line {line:,} has {len(fields)}, not {len(names)} fields: is a text not quoted?")
                rows.append((f"line {line:,}", {n: field for n, field in zip(names, fields, strict=False) if n}))
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append(f"line {line:,}: {escape(str(error))}: is a quotation mark left open, or not doubled?")
    counts = Counter(name.lower() for name in names if name)
    if twice := [escape(repr(name), 40) for name, count in counts.items() if count > 1]:
        problems.insert(0, f"the first line names {first_few(twice)} twice: give each column a name of its own")
    return rows, problems


def _objects(text: str, kind: str, where: str) -> list[Row]:
    """Read JSON objects: one a line, or in .json a list of them."""
    if kind == ".json" and text.lstrip().startswith("["):
        values = parse_json(text.encode(), where, list)
        rows = [(f"number {number:,}", value) for number, value in enumerate(values, start=1)]
        if strange := [place for place, row in rows if not isinstance(row, dict)]:
            raise MiniloraError(f"{where} is a list of more than objects: see {first_few(strange)}")
        return rows
    where += " is no list of objects, and" if kind == ".json" else ":"
    lines = [(f"line {number:,}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [(place, parse_json(line.encode(), f"{where} {place}")) for place, line in lines]
