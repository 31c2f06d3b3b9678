"""A table as --data, from training to what is measured: `pytest tests/commands/test_table.py`."""

import json

import pytest

from minilora.cli import main
from minilora.measure.curve import read_task
from minilora.train.text import Columns, split_chats
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

TEAMS = [f"team {i % 25}" for i in range(50)]
COLUMNS = ["--text-column", "mail", "--label-column", "Team", "--instruction", "Which team?"]


def write(path, header: str, teams=TEAMS) -> str:
    path.write_text(f"{header}\n" + "".join(f"No {i},{team},{i % 3}\n" for i, team in enumerate(teams)))
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with a tiny chat model and two tables, one with unusual names of columns, one with the usual."""
    folder = tmp_path_factory.mktemp("table")
    tiny_chat.save(folder / "model", [f"Which team? No {i} {team}" for i, team in enumerate(TEAMS)])
    write(folder / "mails.csv", "Mail,team,n")
    write(folder / "new.csv", "text,label,n", TEAMS[:3])
    return folder


@pytest.fixture(scope="module")
def trained(place):
    flags = ["--model", str(place / "model"), "--data", str(place / "mails.csv"), "--steps", "2", "--batch-size", "4"]
    assert main(["finetune", *flags, *COLUMNS, "--out", str(place / "run"), "--save-every", "1"]) in (0, 3)
    return place / "run"


def test_what_was_understood_is_shown(place, tmp_path, capsys):
    flags = ["finetune", "--model", str(place / "model"), "--data", str(place / "mails.csv"), *COLUMNS, "--steps", "1"]
    assert main([*flags, "--out", str(tmp_path / "a")]) in (0, 3)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == f"{place / 'mails.csv'}: 50 examples, from the columns Mail and team"
    counted = ", ".join(f"team {i} (2)" for i in range(8))
    assert f"{lines[1]} {lines[2].strip()}" == f"25 labels: {counted} and 17 more" and len(lines[1]) <= 80
    assert lines[3] == "the first example as the model reads it:"
    shown = ["  <|im_start|>user", "  Which team?", "  ", "  No ", "  <|im_start|>assistant", "  team "]
    assert all(line.startswith(start) for line, start in zip(lines[4:10], shown, strict=True))
    assert "the test part has no example of 'team " in err
    assert main([*flags, "--out", str(tmp_path / "b"), "--json"]) in (0, 3)
    json.loads(capsys.readouterr().out)


def test_a_run_holds_how_its_rows_were_read_and_goes_on_with_it(place, trained, capsys):
    expected = {
        "text_column": "mail",
        "label_column": "Team",
        "instruction": "Which team?",
        "labels": sorted(set(TEAMS)),
    }
    for settings in (json.loads((trained / "run.json").read_text())["config"],
                     json.loads((trained / "adapter" / "training.json").read_text())):  # fmt: skip
        assert expected.items() <= settings.items()
    flags = ["finetune", "--data", str(place / "mails.csv"), "--out", str(trained), "--resume"]
    assert main(flags) in (0, 3)
    assert main([*flags, "--instruction", "Who?"]) == 2
    assert "--instruction was Which team?, not Who?" in capsys.readouterr().err


def test_an_adapter_is_measured_as_it_was_trained(place, trained, capsys):
    def facts(*flags) -> dict:
        capsys.readouterr()
        assert main(["evaluate", "--adapter", str(trained), *map(str, flags), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    own = facts("--data", place / "mails.csv")
    columns = Columns("Mail", "Team", "Which team?")
    parts, digest, _ = split_chats(place / "mails.csv", columns=columns)
    assert own["split"] == "test" and own["text_sha256"] == digest and own["trained_on"] == 0
    assert own["conversations"] == len(parts.test) and own["task"]["labels"] == sorted(set(TEAMS))
    other = ("--data", place / "new.csv", "--text-column", "text", "--label-column", "label")
    new = facts(*other)
    assert new["trained_on"] == 3 and new["task"]["labels"] == sorted(set(TEAMS))  # three answers are no labels
    (place / "mails.csv").rename(place / "moved.csv")
    assert facts(*other)["task"]["labels"] == sorted(set(TEAMS))  # as its record has them


def test_a_curve_reads_a_table(place, tmp_path, capsys):
    data = write(tmp_path / "mails.csv", "Mail,team,n")
    assert main(["curve", "--model", str(place / "model"), "--data", data, *COLUMNS, "--shots", "99"]) == 2
    assert "--shots asks for 99 examples, but --data has only 40 to train on" in capsys.readouterr().err
    assert read_task(data, columns=Columns("Mail", "Team")).labels == sorted(set(TEAMS))


def test_no_columns_of_a_text(place, tmp_path, capsys):
    (tmp_path / "x.txt").write_text("a text\n" * 500)
    for command in ("finetune", "evaluate"):
        flags = ["--model", str(place / "model"), "--data", str(tmp_path / "x.txt"), "--instruction", "What?"]
        assert main([command, *flags, *(["--out", str(tmp_path / "o")] if command == "finetune" else [])]) == 2
        assert "instruction" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
