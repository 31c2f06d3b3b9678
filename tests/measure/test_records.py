"""pytest tests/measure/test_records.py: measurements survive a cut, and damage is named."""

import json

import pytest

from minilora.errors import FormatError, MiniloraError
from minilora.measure.records import Records

pytestmark = pytest.mark.host
SETTINGS = {"seeds": [0, 1], "quick": True}


@pytest.fixture
def path(tmp_path):
    records = Records.open(tmp_path / "new" / "results.jsonl", "comparison", SETTINGS)
    records.add(("text", "lora", 0), bits=1.5)
    records.add(("text", "lora", 1), bits=1.6)
    records.add(("task", "lora", 0), accuracy=0.5)
    return records.path


def test_what_was_measured_comes_back(path):
    records = Records.read(path, "comparison")
    assert ("text", "lora", 1) in records and ("text", "lora", 2) not in records
    assert [row["bits"] for row in records.of("text", "lora")] == [1.5, 1.6]
    assert records.header["settings"] == SETTINGS and records.header["machine"]["cores"] >= 1


def test_a_cut_line_is_dropped_and_measured_again(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(FormatError, match="half written"):
        Records.read(path, "comparison")
    records = Records.open(path, "comparison", SETTINGS, resume=True)
    assert ("task", "lora", 0) not in records and len(records.rows) == 2 and "is incomplete" in records.notes[0]
    records.add(("task", "lora", 0), accuracy=0.5)
    assert path.read_bytes() == whole


def test_a_file_that_exists_is_not_lost(path):
    before = path.read_bytes()
    with pytest.raises(MiniloraError, match="--resume"):
        Records.open(path, "comparison", SETTINGS)
    with pytest.raises(MiniloraError, match=r"other settings \(seeds\)"):
        Records.open(path, "comparison", SETTINGS | {"seeds": [0]}, resume=True)
    assert path.read_bytes() == before
    assert not Records.open(path, "comparison", SETTINGS, overwrite=True).rows


@pytest.mark.parametrize(
    "header, cells, words",
    [
        ({"version": 2}, [], "no measurements of 'comparison' in version 1"),
        ({"minilora": "study"}, [], "no measurements"),
        ({"machine": None}, [], "no measurements"),
        ({}, [{"key": "text"}], "line 2 does not say"),
    ],
)
def test_damage_is_named(path, header, cells, words):
    first = json.loads(path.read_text().splitlines()[0])
    path.write_text("".join(json.dumps(line) + "\n" for line in (first | header, *cells)))
    with pytest.raises(FormatError, match=words):
        Records.read(path, "comparison")


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b"[1]\n", b"\xff\n", b'{"minilora": "comparison"'])
def test_what_is_no_such_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(FormatError):
        Records.open(path, "comparison", SETTINGS, resume=True)
