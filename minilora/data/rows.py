"""Reading the rows of a file: CSV and TSV as spreadsheets write them, JSON and JSON lines, compressed or not.

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
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from minilora.data.corpora import SIZE_LIMIT, decode
from minilora.errors import MiniloraError, escape, first_few, plural
from minilora.formats.atomic import open_regular, parse_json, show_path

TABLES, JSON, SHEETS = (".csv", ".tsv"), (".jsonl", ".ndjson", ".json"), (".xlsx", ".xls", ".ods", ".parquet")
OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
DELIMITERS = ",;\t|"

Row = tuple[str, dict[str, Any]]  # its place in the file, for messages; its fields


class Spelling(NamedTuple):
    """Form in which a table is written."""

    delimiter: str  # a comma if it has one column; "" for JSON lines
    mark: str  # the byte order mark at its beginning, or ""
    end: str  # of a line


def is_rows(path: str | os.PathLike[str]) -> bool:
    """Return True if a file of this name holds rows. That includes SHEETS, which are recognised but cannot be read."""
    return _suffixes(path)[0] in TABLES + JSON + SHEETS


def is_table(path: str | os.PathLike[str]) -> bool:
    """Return True if a file of this name holds a table, whose first row names the columns."""
    return _suffixes(path)[0] in TABLES


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Read the rows of a file, each with the line on which it begins, or its number in the list of a .json.

    The first row of a table names the columns; fields are text; columns without a name and empty rows are left out.
    Raises MiniloraError, which names up to three bad lines, and FormatError if the file cannot be read.
    """
    return _read(path)[0]


def spelling(path: str | os.PathLike[str]) -> Spelling:
    """Return the form in which a table is written. (A file of JSON counts as one with commas.)"""
    return _read(path)[1]


def _read(path: str | os.PathLike[str]) -> tuple[list[Row], Spelling]:
    """Return the rows of a file, and its `spelling`."""
    (kind, compression), where = _suffixes(path), show_path(path)
    if not is_rows(path):
        raise MiniloraError(
            f"{where} is not a file of examples; these end in {', '.join(TABLES + JSON)}, and compressed ones also in "
            f"{', '.join(OPENERS)}"
        )
    with open_regular(path) as file:
        try:
            raw = OPENERS.get(compression, lambda file: file)(file).read(SIZE_LIMIT + 1)
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise MiniloraError(f"{where} cannot be read: {escape(str(error))}") from error
    if len(raw) > SIZE_LIMIT:
        raise MiniloraError(f"{where} has more than {SIZE_LIMIT:,} bytes, the limit for one file: split it")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # a spreadsheet's "Unicode text"
        raw = codecs.BOM_UTF8 + raw.decode("utf-16", "replace").encode()
    text, mark = decode(raw, where), "\ufeff" * raw.startswith(codecs.BOM_UTF8)
    rows, delimiter = _table(text, where) if kind in TABLES else (_objects(text, kind, where), ",")
    if not rows:
        raise MiniloraError(f"{where} has no rows")
    # The end of the first row: spreadsheets write \n within a cell and \r\n between rows.
    end = "\r\n" if re.match(rb'(?:[^"\r\n]++|"[^"]*+")*+\r\n', raw) else "\n"
    return rows, Spelling(delimiter if delimiter in DELIMITERS else ",", mark, end)


def _suffixes(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the suffix of the file's kind, and the suffix of its compression ("" if it is not compressed)."""
    name = Path(str(path).lower())
    return (Path(name.stem).suffix, name.suffix) if name.suffix in OPENERS else (name.suffix, "")


def _table(text: str, where: str) -> tuple[list[Row], str]:
    """Return a table's rows and its delimiter: the most frequent one in the header that gives rows without problems."""
    csv.field_size_limit(SIZE_LIMIT)
    text = re.sub(r"\Asep=.(?=\n)", "", text)  # a line for Excel
    header = "".join(next(csv.reader(io.StringIO(text.lstrip("\n"), newline=""), delimiter="\x1f"), ()))
    delimiters = sorted((mark for mark in DELIMITERS if mark in header), key=header.count, reverse=True)
    tables = [(*_divided(text, mark), mark) for mark in delimiters or "\x1f"]  # a single column: no text has this
    rows, problems, delimiter = min(tables, key=lambda table: bool(table[1]))
    if problems:
        raise MiniloraError(f"{where}: {first_few(problems, separator='; ')}")
    return rows, delimiter


def _divided(text: str, delimiter: str) -> tuple[list[Row], list[str]]:
    """Return the rows of a table split by `delimiter`, and their problems in words."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows, problems, line = [], [], 1
    names: list[str] = []
    try:
        for fields in reader:
            if not names:
                names = [field.strip() for field in fields]
                while names and not names[-1]:  # empty columns at the end, which spreadsheets leave
                    names.pop()
            elif any(field.strip() for field in fields):
                if len(fields) < len(names) or any(map(str.strip, fields[len(names) :])):
                    number = plural(len(fields), "field")
                    problems.append(f"line {line:,} has {number} instead of {len(names)}: is a text not quoted?")
                rows.append((f"line {line:,}", {n: field for n, field in zip(names, fields, strict=False) if n}))
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append(f"line {line:,}: {escape(str(error))}: is a quotation mark left open, or not doubled?")
    counts = Counter(name.lower() for name in names if name)
    if repeated := [escape(repr(name), 40) for name, count in counts.items() if count > 1]:
        problems.insert(0, f"the first line names {first_few(repeated)} twice: give each column a different name")
    return rows, problems


def _objects(text: str, kind: str, where: str) -> list[Row]:
    """Read JSON objects: one per line, or in .json a list of them."""
    if kind == ".json" and text.lstrip().startswith("["):
        values = parse_json(text.encode(), where, list)
        rows = [(f"number {number:,}", value) for number, value in enumerate(values, start=1)]
        if others := [place for place, row in rows if not isinstance(row, dict)]:
            raise MiniloraError(f"{where} must be a list of objects only: see {first_few(others)}")
        return rows
    where += " is not a list of objects, and" if kind == ".json" else ":"
    lines = [(f"line {number:,}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [(place, parse_json(line.encode(), f"{where} {place}")) for place, line in lines]
