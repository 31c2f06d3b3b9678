"""Files of examples: `pytest tests/data/test_examples.py`."""

import json

import pytest

from minilora.data import load_examples
from minilora.errors import MiniloraError
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
    assert notes == [f"{path}: what rows have under id, source is not read"]
    (tmp_path / "y.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "p", "response": "r"}\r\n')
    assert load_examples(tmp_path / "y.jsonl", notes=notes) == [turns("p", "r")] and len(notes) == 1


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
    "{": "line 2: it is not valid JSON",
    "[1]": "not an object",
    "{}": "has the columns none; none is called text, prompt, ",
    json.dumps(lines(messages=[])): "messages in the order none",
    json.dumps({"instruction": "a", "input": [1], "output": "b"}): "input is [1], not text",
    json.dumps(lines(prompt=3)): "prompt is 3, not text: write it in quotes",
    json.dumps({"messages": turns("a", 0)}): "content of the assistant's message is 0, not text",
    json.dumps(lines(answer="b")): "has the columns 'response', 'answer': choose one by --label-column",
    '{"messages": "a"}': "messages must be a list of objects",
    '{"messages": []}': "messages in the order none",
    '{"messages": [{"role": "user"}]}': "a message has the keys role; give role and content",
    '{"messages": [{"role": "tool", "content": "a"}]}': "the role 'tool' is none of system, user, assistant",
    json.dumps({"messages": turns("a")}): "the last message is not the assistant's",
    json.dumps({"messages": turns("a", "b") + turns("c", system="s")}): "in the order user, assistant, system, user;",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named(tmp_path, line):
    path = write(tmp_path / "x.jsonl", lines(), line, lines())
    with pytest.raises(MiniloraError) as caught:
        load_examples(path)
    message = str(caught.value)
    assert "x.jsonl: line 2: " in message and BAD_LINES[line] in message and "\n" not in message


@pytest.mark.parametrize(
    "content, words",
    [
        (b"{\n" * 7, r"line 1: .*; line 2: .*; line 3: .*; and 4 more"),
        (b"\n \n", "has no rows"),
        (b"a\0", "binary"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_bad_files(tmp_path, content, words):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(MiniloraError, match=words):
        load_examples(tmp_path / "x.jsonl")
