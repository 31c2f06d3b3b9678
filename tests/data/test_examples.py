"""Files of examples: `pytest tests/data/test_examples.py`."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tracemalloc
from math import nan

import pytest

from minilora.data import load_examples, rows
from minilora.data.examples import Columns, read_examples, read_questions
from minilora.errors import MiniloraError
from minilora.measure.curve import read_task
from minilora.train.text import split_chats
from tests.data.test_chat import turns

pytestmark = pytest.mark.host


def write(path, *lines) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


def test_kinds_of_lines_and_keys_that_are_not_read(tmp_path):
    messages, notes = turns("a", "b\u2028c", "d", "é\n", system="s"), []
    rows = [
        {"prompt": "p", "completion": "r", "id": 7, "empty": ""},
        "",
        {"instruction": "p", "input": "", "output": "r"},
        {"instruction": "p", "input": "q", "response": "r"},
        "  ",
        {"messages": messages},
        {"messages": [{"role": "user", "content": "p"}, turns("p", "r")[1]], "source": "s", "id": 8},
    ]
    path = write(tmp_path / "x.jsonl", *rows)
    expected = [turns("p", "r"), turns("p", "r"), turns("p\n\nq", "r"), messages, turns("p", "r")]
    assert load_examples(path, notes=notes) == expected
    assert notes[0] == f"{path}: columns not used: id, source"
    (tmp_path / "y.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "p", "response": "r"}\r\n')
    assert load_examples(tmp_path / "y.jsonl", notes=notes) == [turns("p", "r")] and len(notes) == 2


def test_labels_lose_the_spaces_around_them_and_other_answers_keep_them(tmp_path):
    notes = []
    rows = [{"prompt": f"p{i}", "completion": " yes" if i % 2 else "no"} for i in range(8)]
    read = load_examples(write(tmp_path / "x.jsonl", *rows), notes=notes)
    assert {messages[-1]["content"] for messages in read} == {"yes", "no"}
    assert notes == [f"{tmp_path / 'x.jsonl'}: 4 of 8 responses lose the spaces around them"]
    code = [{"prompt": f"p{i}", "response": f"    return {i}"} for i in range(8)]
    assert load_examples(write(tmp_path / "y.jsonl", *code))[1][-1]["content"] == "    return 1"


def lines(**changes) -> dict:
    return {"prompt": "p", "response": "r"} | changes


BAD_LINES = {
    "{": "line 2 is not valid JSON",
    "[1]": "not an object",
    "{}": "has the columns none; none is called prompt or ",
    json.dumps(lines(messages=[])): "messages come in the order none",
    json.dumps({"instruction": "a", "input": [1], "output": "b"}): "input is [1], not text",
    json.dumps(lines(prompt=3)): "prompt is 3, not text: write it in quotes",
    '{"prompt": "a", "labels": "b"}': "none is called response or completion or output or label or answer: rename one",
    '{"messages": "a"}': "has the columns 'messages'",
    '{"messages": [{"role": "user", "content": 1}]}': "content is 1, not text",
    '{"messages": [{"role": "tool", "content": "a"}]}': "in the order tool; ",
    json.dumps({"messages": turns("a")}): "the last message is not the assistant's",
    json.dumps({"messages": turns("a", "b") + turns("c", system="s")}): "in the order user, assistant, system, user;",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named(tmp_path, line):
    path = write(tmp_path / "x.jsonl", lines(), line, line)
    with pytest.raises(MiniloraError) as caught:
        load_examples(path)
    message = str(caught.value)
    assert "x.jsonl: line 2" in message and BAD_LINES[line] in message and "\n" not in message


# Tables.

TEXTS = ['Häuser, "alt"; neu', "two\nlines\n\nand more", "1,5 | 2\ttabs", "x" * 200_000]
LABELS = ["a", "b; c"]


def table(delimiter: str, end: str, around=("", "")) -> str:
    """Write a table as spreadsheets do. around: empty cells in front of each row, and behind it."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow([*around[0], " Text ", "LABEL", *around[1]])
    for i in range(12):
        writer.writerow([*around[0], TEXTS[i % 4].replace("\n", end), f" {LABELS[i % 2]}", *around[1]])
    empty = delimiter.join(["", "", *around[0], *around[1]]) + end
    return file.getvalue() + empty + empty


def pack(suffix: str, content: bytes) -> bytes:
    packers = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    return packers[suffix](content)


EXPECTED = [turns(TEXTS[i % 4], LABELS[i % 2]) for i in range(12)]


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter, end", [(",", "\r\n"), (";", "\n"), ("\t", "\r\n"), ("|", "\r"), (";", "\r\n")])
def test_tables_as_spreadsheets_write_them(tmp_path, delimiter, end, coding, suffix):
    for kind, around in ((".csv", ("", "")), (".TSV", ([""], ["", ""]))):
        path = tmp_path / f"x{kind}{suffix}"
        path.write_bytes(pack(suffix, table(delimiter, end, around).encode(coding)))
        examples = read_examples(path)
        assert examples.conversations == EXPECTED
        assert examples.summary == [
            f"{path}: 12 examples, from the columns Text and LABEL",
            "2 labels: a (6), b; c (6)",
        ]


def test_delimiters_in_names_and_rows_without_their_empty_end(tmp_path):
    (tmp_path / "x.csv").write_text('"the\ntext";"label, or so";;\na, b;x, y\n;;;\nc, d;z;;\n')
    expected = [turns("a, b", "x, y"), turns("c, d", "z")]
    assert load_examples(tmp_path / "x.csv", "The\ntext", "label, or so") == expected


def test_json_as_pandas_writes_it(tmp_path):
    made = [{"question": f"q{i}", "label": (i % 2, True, 1.5)[i % 3], "id": 7} for i in range(12)]
    (tmp_path / "x.json").write_text(json.dumps(made, indent=2))
    read = load_examples(tmp_path / "x.json")
    assert [one[-1]["content"] for one in read[:4]] == ["0", "true", "1.5", "1"] and read[3][0]["content"] == "q3"
    (tmp_path / "x.json").write_text("\n".join(map(json.dumps, made)))
    assert load_examples(tmp_path / "x.json") == read


def test_columns_and_an_instruction(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("Subject,Body,Team,label\n" + "".join(f"s,b{i},t{i // 30},{i}\n" for i in range(90)))
    examples = read_examples(path, columns := Columns("body", "TEAM ", "Which team?"))
    assert examples.conversations[31] == turns("Which team?\n\nb31", "t1") and examples.labels == ["t0", "t1", "t2"]
    assert examples.notes == [f"{path}: columns not used: Subject, label"]
    assert Columns.of(columns.settings() | {"seed": 1}) == columns and Columns.of({"instruction": None}) == Columns()
    assert load_examples(path, "Body", "label") == [turns(f"b{i}", str(i)) for i in range(90)]
    assert read_examples(path, Columns("Body", "label")).labels is None  # none comes twice
    with pytest.raises(MiniloraError, match="has the columns 'Subject', .*none is called 'Bodi': did you mean 'Body'?"):
        load_examples(path, "Bodi")


COLUMNS = {  # the columns of a table -> the end of its error
    "mail,category": "header has the columns 'mail', 'category'; none is called prompt or .* input, and none is "
    "called response or .* answer: rename them, or add --text-column mail --label-column category",
    "category,E-mail text": "rename them, or add --text-column 'E-mail text' --label-column category",
    "text,team": "none is called response .*: rename one, or add --label-column team",
    "mail,label": "none is called prompt .*: rename one, or add --text-column mail",
    "mail,team,n": "rename them, or choose two with --text-column and --label-column",
    "text,team,n": "rename one, or choose one with --label-column",
}


@pytest.mark.parametrize("header", COLUMNS)
def test_all_missing_columns_are_named_at_once(tmp_path, header):
    names = header.split(",")
    values = ["x" * (9 if "mail" in name else 2) for name in names]
    (tmp_path / "x.csv").write_text("\n".join([header, ",".join(values), ""]))
    with pytest.raises(MiniloraError, match=COLUMNS[header] + "$"):
        read_examples(tmp_path / "x.csv")
    rows = [json.dumps(dict(zip(names, values, strict=True)))] * 2
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    with pytest.raises(MiniloraError, match=COLUMNS[header].replace("header", "x.jsonl: line 1:") + "$"):
        read_examples(tmp_path / "x.jsonl")


def test_a_chosen_column_is_not_proposed_for_the_other(tmp_path):
    (tmp_path / "x.csv").write_text("mail,category\na,b\n")
    with pytest.raises(MiniloraError, match="rename one, or add --label-column category$"):
        load_examples(tmp_path / "x.csv", "Mail")


def test_a_mistyped_column_is_named_with_one_that_is_missing(tmp_path):
    (tmp_path / "x.csv").write_text("Body,Team,n\na,b,c\n")
    words = "none is called 'Bodi', and none is called response .* answer: did you mean 'Body'?.* --label-column"
    with pytest.raises(MiniloraError, match=re.escape("the header has the columns 'Body', 'Team', 'n'") + ".*" + words):
        load_examples(tmp_path / "x.csv", "Bodi")


def test_a_label_column_has_labels_whatever_their_number(tmp_path):
    for name, labelled in (("label", True), ("answer", False)):
        path = tmp_path / f"{name}.csv"
        path.write_text(f"text,{name}\n" + "".join(f"t{i},topic {i % 40}\n" for i in range(80)) + "once,only here\n")
        examples = read_examples(path)
        assert len(examples.labels or ()) == (41 if labelled else 0)
    assert read_examples(tmp_path / "answer.csv", Columns(label="answer")).labels == sorted(
        {f"topic {i}" for i in range(40)} | {"only here"}
    )


def test_rare_labels_come_into_the_test_part_first(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,label\n" + "".join(f"t{i},{'often' if i < 60 else f'rare {i % 30}'}\n" for i in range(120)))
    for test in (split_chats(path)[0].test, read_task(str(path)).test[:12]):
        assert len(test) == 12 and len({one[-1]["content"] for one in test}) == 12
    mixed = [{"text": f"t{i}", ("label", "answer")[i % 2]: f"a {i % 40}"} for i in range(100)]
    assert read_examples(write(tmp_path / "x.jsonl", *mixed)).labels is None  # not all are labels


def test_rows_without_a_text_or_a_label_are_left_out(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,label\nA,1\n,2\nB,1\nC,1\n")
    one = read_examples(path)
    assert one.notes == [f"{path}: 1 row without a text or an answer is left out: line 3"]
    assert one.summary[1] == "1 label: 1 (3)"
    path.write_text('text,label\nA,1\n,2\n"B\n",2\nC,\n')
    assert load_examples(path, notes=(notes := [])) == [turns("A", "1"), turns("B\n", "2")]
    assert notes == [f"{path}: 2 rows without a text or an answer are left out: line 3, line 6"]
    rows = [{"text": "A", "label": 1}, {"text": "B", "label": nan}, {"text": nan, "label": 2}, lines(response=nan)]
    path = write(tmp_path / "x.jsonl", *rows)  # as pandas writes them
    assert load_examples(path, notes=(notes := [])) == [turns("A", "1")]
    assert notes == [f"{path}: 3 rows without a text or an answer are left out: line 2, line 3, line 4"]


def test_a_column_cannot_be_both_text_and_answer(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,label\nA,1\nB,2\n")
    for columns in (Columns(text="Label"), Columns(label="text")):
        with pytest.raises(MiniloraError, match="line 2: column (label|text) is both the text and the answer: choose"):
            read_examples(path, columns)


def test_questions_keep_the_rows_as_they_are(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,text,label\n1,A,x\n2,,\n3,C,\n")
    rows, questions, places = read_questions(path, Columns(instruction="Which?"))
    assert [row["id"] for row in rows] == ["1", "2", "3"] and rows[0]["label"] == "x"
    assert places == ["line 2", "line 3", "line 4"]
    assert questions == [turns("Which?\n\nA"), "line 3: there is no text", turns("Which?\n\nC")]
    path.write_text("text\nOne, and two\nThree\n")  # a single column
    assert read_questions(path)[1] == [turns("One, and two"), turns("Three")]
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": turns("a", "b", "c", "d")}))
    assert read_questions(tmp_path / "x.jsonl")[1] == [turns("a", "b", "c")]
    path.write_text("a,b\nc,d\n")
    with pytest.raises(MiniloraError, match="x.csv: the header has the columns 'a', 'b'; none is called prompt or"):
        read_questions(path)


def test_a_line_for_excel_is_not_the_header(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"sep=;\r\ntext;label\r\nOne, and two;a\r\nThree;b\r\n")
    assert [messages[0]["content"] for messages in read_examples(tmp_path / "x.csv").conversations] == [
        "One, and two",
        "Three",
    ]
    (tmp_path / "x.csv").write_text("sep=;\ntext;label\na;b;c\n")
    with pytest.raises(MiniloraError, match="line 3 has 3 fields instead of 2"):
        read_examples(tmp_path / "x.csv")


BAD_FILES = {
    "brackets.jsonl": (b"{\n" * 7, "line 1 is not valid JSON"),
    "zero.jsonl": (b"a\0", "binary"),
    "empty.csv": (b"", "has no rows"),
    "header.csv": (b"text,label\n", "has no rows"),
    "data.csv": (b"My card was charged,billing\nA,b\n", "has the columns 'My card was charged', 'billing'; none is"),
    "one.csv": (b"text\na, b\n", "has the columns 'text'; none is called response or .*--label-column"),
    "ragged.csv": (
        b"text,label\na,b\n\na,b,c\nd\n",
        "line 4 has 3 fields instead of 2: .*; line 5 has 1 field instead of 2",
    ),
    "open.csv": (b'text,label\na,b\n"a\nb,c\n', "line 3: .* is a quotation mark left open"),
    "twice.csv": (b"text,Team, team \na,b,c\n", "the first line names 'team' twice"),
    "latin.csv": ("text,label\nHäuser,b\n".encode("latin1"), "not UTF-8: .*a table as CSV UTF-8"),
    "sheet.xlsx": (b"PK\3\4\0\0", "binary, .*a spreadsheet as CSV"),
    "object.json": (b'{\n"a": 1}', "is not a list of objects, and line 1 is not valid JSON"),
    "number.json": (b'[{"text": "a", "label": "b"}, 3]', "must be a list of objects only: see number 2"),
    "broken.json": (b"[{", "is not valid JSON"),
    "cut.csv.gz": (gzip.compress(b"text,label\na,b\n")[:-9], "cannot be read: "),
    "plain.csv.xz": (b"text,label\na,b\n", "cannot be read: "),
    "x.txt": (b"a", r"is not a file of examples; these end in \.csv, \.tsv, "),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path, name):
    content, words = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MiniloraError, match=words) as caught:
        load_examples(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_is_too_large_is_not_read_whole(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(rows, "SIZE_LIMIT", 1000)
    path = tmp_path / f"x.csv{suffix}"
    path.write_bytes(pack(suffix, b"text,label\n" + b"a" * 10**7))
    tracemalloc.start()
    with pytest.raises(MiniloraError, match="has more than 1,000 bytes"):
        load_examples(path)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
