"""Data read for training, and the summary printed before it starts: `pytest tests/train/test_data.py`."""

import json

import pytest

from minilora.cli import main
from minilora.errors import MiniloraError
from minilora.train import defaults, load
from minilora.train.text import read_data
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_chat.save(tmp_path_factory.mktemp("model") / "model", ["is it good or bad? it is a red boat."])


@pytest.fixture(scope="module")
def tokenizer(model):
    return load.tokenizer_of(model)


def write(path, *pairs) -> str:
    path.write_text("\n".join(json.dumps({"prompt": p, "response": r}) for p, r in pairs))
    return str(path)


def reviews(numbers, *labels):
    return [(f"boat {n}?", labels[n % len(labels)]) for n in numbers]


def test_files_take_the_place_of_the_parts(tmp_path, tokenizer):
    data = write(tmp_path / "x.jsonl", *reviews(range(40), "good", "bad"))
    own = write(tmp_path / "own.jsonl", *reviews(range(100, 107), "good", "bad"))

    def sizes(*files):
        chats = read_data(data, tokenizer, *files)
        return [len(part.rows) for part in (chats.train, chats.validation, chats.test)]

    assert sizes() == [36, 4, 4]  # 4 validation rows could choose nothing: they are learned, and the test part watches
    assert sizes(own) == [36, 7, 4]
    assert sizes(None, own) == [40, 7, 7]
    assert sizes(own, own) == [40, 7, 7]
    hashes = {read_data(data, tokenizer, *files).sha256 for files in ((), (own,), (own, own))}
    assert len(hashes) == 3
    assert read_data(data, tokenizer, own, own).notes == (
        "7 of 7 test conversations have the question of one in the validation part",
    )
    few = write(tmp_path / "few.jsonl", ("one?", "good"))
    assert len(read_data(few, tokenizer, own, own).train.rows) == 1  # nothing to divide


@pytest.mark.parametrize("rows, sizes", [(230, [207, 23, 23]), (240, [192, 24, 24])])
def test_a_validation_part_that_could_choose_nothing_is_trained_on(tmp_path, tokenizer, rows, sizes):
    chats = read_data(write(tmp_path / "x.jsonl", *reviews(range(rows), "good", "bad")), tokenizer)
    parts = [chats.train, chats.validation, chats.test]
    assert [len(part.rows) for part in parts] == sizes and chats.notes == ()
    learned, validation, test = (set(map(str, part.conversations)) for part in parts)
    assert len(learned | test) == rows - 24 * chats.chooses and not learned & test
    assert chats.chooses == (rows == 240) == (validation != test)
    assert defaults.chooses(chats, chats.validation) == chats.chooses


def test_what_training_cannot_teach_is_said(tmp_path, tokenizer):
    data = write(tmp_path / "x.jsonl", *reviews(range(20), "good"))
    test = write(tmp_path / "test.jsonl", *reviews(range(15, 33), "good", "bad", "odd"))
    assert read_data(data, tokenizer, data, test).notes == (
        "every response to learn is 'good': there is nothing to tell apart",
        "20 of 20 validation conversations have the question of one in the training part",
        "5 of 18 test conversations have the question of one in the training part",
        "5 of 18 test conversations have the question of one in the validation part",
        "'bad', 'odd' occurs in test, but never in the training part",
    )
    data = write(tmp_path / "y.jsonl", *reviews(range(30), "good", "bad"))
    assert read_data(data, tokenizer).notes == ()
    one = write(tmp_path / "one.jsonl", *reviews(range(50, 60), "good"))
    assert read_data(data, tokenizer, one).notes == ("the validation part has no example of 'bad', which training has",)
    assert read_data(data, tokenizer, None, one).notes == ("the test part has no example of 'bad', which training has",)


@pytest.mark.parametrize(
    "copies, why",
    [
        (6, "rows with the same question stay in one part, and its 6 rows have only 1 question"),
        (1, "too rare for a part of 1"),
    ],
)
def test_a_label_that_is_not_tested_is_said_with_the_reason(tmp_path, tokenizer, copies, why):
    rows = reviews(range(10), "good", "bad", "odd") * copies
    (note,) = (n for n in read_data(write(tmp_path / "x.jsonl", *rows), tokenizer).notes if "no example" in n)
    assert note.startswith("the test part has no example of '") and note.endswith(f": {why}")


def test_a_text_has_no_parts_of_its_own_and_says_what_is_left_out(tmp_path, tokenizer):
    (tmp_path / "texts").mkdir()
    text = "\n\n".join(f"This is paragraph {n} of a text." for n in range(90)).encode()
    for name, content in (("a.txt", text), ("latin.txt", b"caf\xe9")):
        (tmp_path / "texts" / name).write_bytes(content)
    folder = str(tmp_path / "texts")
    assert read_data(folder, tokenizer).notes == (f"left out of {folder}, as they are not UTF-8 text: latin.txt",)
    with pytest.raises(MiniloraError, match="are for a file of examples .*texts is a text"):
        read_data(folder, tokenizer, str(tmp_path / "x.jsonl"))


def test_data_are_read_before_the_model(tmp_path, model, monkeypatch, capsys):
    monkeypatch.setattr(load, "load_model", lambda *a, **k: pytest.fail("loaded"))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a"}\n')
    for data in (bad, tmp_path / "no.jsonl", tmp_path / "no.txt"):
        assert main(["finetune", "--model", str(model), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "line 1: has the columns 'prompt'" in capsys.readouterr().err and not (tmp_path / "out").exists()
