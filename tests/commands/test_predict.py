"""pytest tests/commands/test_predict.py"""

import csv
import json
from pathlib import Path

import pytest

from minilora.cli import main
from minilora.commands import common
from minilora.formats.atomic import read_json
from minilora.train import answers, load
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

ASKS = "Yes or no?"
TRAINED = [{"text": f"Is {i} even?", "label": "yes" if i % 2 == 0 else "no"} for i in range(30)]
TEXTS = [*(f"Is {i} odd or even?" + " Say." * (i % 3) for i in range(18)), 'a "b",\n c;\té', "Is 7 even?"]
ROWS = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]


def write(path, rows, delimiter=",", encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        table = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
    return path


def table_of(path, delimiter=",") -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def objects(path) -> list[dict]:
    return list(map(json.loads, Path(path).read_text("utf-8").splitlines()))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with a chat model, an adapter that learned labels, and rows to answer."""
    place = tmp_path_factory.mktemp("predict")
    tiny_chat.save(place / "model", [row["text"] + row["label"] for row in TRAINED], max_position_embeddings=96)
    write(place / "trained.csv", TRAINED)
    write(place / "new.csv", ROWS)
    flags = ["--model", place / "model", "--data", place / "trained.csv", "--out", place / "run", "--steps", 3]
    flags += ["--instruction", ASKS]
    assert main(["finetune", *map(str, flags)]) in (0, 3)  # what it learned does not matter here
    return place


@pytest.fixture
def predict(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*flags, data=place / "new.csv", out="out.csv", adapter=True, status=0) -> tuple[str, str]:
        capsys.readouterr()
        model = ["--adapter", place / "run"] if adapter else ["--model", place / "model"]
        flags = ["predict", *model, "--data", data, "--out", out, "--batch-size", 2, *flags]
        assert main(list(map(str, flags))) == status
        return capsys.readouterr()

    return run


def likeliest(place) -> list[tuple[str, float]]:
    """Return label and probability of each row, asked alone and in the format of the training."""
    model, tokenizer = load.load_model(None, str(place / "run"))
    prompts = [[{"role": "user", "content": f"{ASKS}\n\n{text}"}] for text in TEXTS]
    scores = [answers.label_scores(model, tokenizer, [one], ["no", "yes"])[0] for one in prompts]
    shares = [answers.label_probabilities(one)[0] for one in scores]
    return [(["no", "yes"][share.argmax()], share.max()) for share in shares]


@pytest.mark.parametrize("suffix, delimiter", [("csv", ","), ("tsv", "\t")])
def test_rows_keep_their_columns_and_order_and_get_the_likeliest_label(predict, place, suffix, delimiter):
    assert read_json(place / "run" / "adapter" / "training.json")["labels"] == ["no", "yes"]
    captured = predict(out=f"made/out.{suffix}")
    rows = table_of(f"made/out.{suffix}", delimiter)
    assert [list(row) for row in rows] == [["id", "text", "prediction", "probability"]] * len(ROWS)
    assert [{name: row[name] for name in ("id", "text")} for row in rows] == ROWS
    expected = likeliest(place)
    assert [row["prediction"] for row in rows] == [label for label, _ in expected]
    assert [float(row["probability"]) for row in rows] == pytest.approx([share for _, share in expected], abs=1e-4)
    assert f"wrote 20 rows to made/out.{suffix}: " in captured.out and captured.err.count("note") == 1
    assert "1 of 20 rows were trained on" in captured.err  # "Is 7 even?"


def test_rows_that_were_trained_on_are_counted_also_where_their_file_was_moved(predict, place, tmp_path):
    moved = (place / "trained.csv").rename(tmp_path / "moved.csv")
    assert "of 30 rows were trained on" in predict(data=moved).err
    moved.rename(place / "trained.csv")


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_table_keeps_its_line_end(predict, tmp_path, end):
    (tmp_path / "in.csv").write_bytes(end.join([b'id,"text\n"', b'1,"Is 3 even?\nOr odd?\n"', b"2,Is 4 even?", b""]))
    for out in ("out.csv", "out.tsv"):
        predict("--text-column", "text", data="in.csv", out=out)
        lines = Path(out).read_bytes().split(b"\n")
        assert len(lines) == 6 and sum(line.endswith(b"\r") for line in lines) == 3 * (end == b"\r\n")


def test_free_answers_without_labels(predict, place):
    rows = [{"prompt": text, "n": [i, None]} for i, text in enumerate(TEXTS[:5])]
    (place / "new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    facts = json.loads(
        predict("--max-new-tokens", 4, "--json", data=place / "new.jsonl", out="out.jsonl", adapter=False).out
    )
    assert facts == {"out": "out.jsonl", "rows": 5, "failed": 0, "labels": {}}
    predicted = objects("out.jsonl")
    prompts = [[{"role": "user", "content": text}] for text in TEXTS[:5]]
    expected = answers.answers(*load.load_model(str(place / "model")), prompts, 4)
    assert predicted == [row | {"prediction": text} for row, text in zip(rows, expected, strict=True)] and any(expected)
    predict("--max-new-tokens", 4, data=place / "new.jsonl", adapter=False)
    assert table_of("out.csv")[1]["n"] == "[1, null]"


def test_free_answers_are_written_after_every_batch(predict, monkeypatch):
    predict("--max-new-tokens", 2, out="whole.csv", adapter=False)
    generate, calls = answers.answers, []

    def interrupted(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(*arguments)

    monkeypatch.setattr(answers, "answers", interrupted)
    assert "stopped after 4 of 20 rows" in predict("--max-new-tokens", 2, adapter=False, status=130).err
    predict("--max-new-tokens", 2, "--resume", adapter=False)
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes() and calls == [2] * 11


def test_a_model_without_a_chat_format_is_no_fault_of_the_rows(predict):
    message = "minilora: the model has no chat format, as it is a base model; choose"
    assert f"\n{message}" in f"\n{predict('--model', 'base', adapter=False, status=2).err}"


def test_rows_that_cannot_be_asked_stay_without_an_answer(predict, tmp_path):
    rows = [dict(ROWS[i]) for i in range(8)]
    rows[3]["text"], rows[6]["text"] = "", "even " * 90
    captured = predict(data=write("some.csv", rows))
    assert "no prediction for 2 of 8 rows: line 5: there is no text; line 8: a prompt of" in captured.err
    written = table_of("out.csv")
    assert [row["text"] for row in written] == [row["text"] for row in rows]
    assert [i for i, row in enumerate(written) if not row["prediction"] and not row["probability"]] == [3, 6]
    captured = predict(data=write("long.csv", [rows[6]] * 2), out="none.csv", status=2)
    assert (
        "none of the rows can be answered; line 2: a prompt of" in captured.err and not (tmp_path / "none.csv").exists()
    )
    predict(data=write("some.csv", rows), out="out.jsonl")
    assert objects("out.jsonl")[3]["prediction"] is None


def test_answers_that_are_there_are_left_to_evaluate(predict):
    rows = [row | {"Label": label} for row, label in zip(ROWS, ["yes", *[""] * 19], strict=True)]
    assert "--data has answers, which are ignored; `minilora evaluate`" in predict(data=write("both.csv", rows)).err
    blank = [row | {"label": ""} for row in ROWS]
    assert "which are ignored" not in predict("--overwrite", data=write("blank.csv", blank)).err


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_what_is_interrupted_goes_on_to_the_same_bytes(predict, tmp_path, monkeypatch, suffix):
    rows = [*ROWS[:3], {"id": "3", "text": ""}, *ROWS[3:]]
    name, data = f"out.{suffix}", write("rows.csv", rows, ";", "utf-8-sig")
    predict(data=data, out=f"whole.{suffix}")
    whole, out = (tmp_path / f"whole.{suffix}").read_bytes(), tmp_path / name
    header = "\ufeffid;text;prediction;probability\r\n"  # as --data has it
    assert suffix == "jsonl" or whole.startswith(header.encode())
    scores, calls = answers.label_scores, []

    def interrupted(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return scores(*arguments)

    monkeypatch.setattr(answers, "label_scores", interrupted)
    assert "stopped after 16 of 21 rows; --resume continues" in predict(data=data, out=name, status=130).err
    assert whole.startswith(out.read_bytes()) and calls == [15, 5]
    lines = out.read_bytes().splitlines(keepends=True)
    assert (
        f"{name} exists already; --resume continues it, --overwrite starts again"
        in predict(data=data, out=name, status=2).err
    )
    predict("--resume", data=data, out=name)
    assert out.read_bytes() == whole and calls[2:] == [5]
    out.write_bytes(b"".join(lines[:9]))  # cut by hand: what has not all of its batches is answered again
    predict("--resume", data=data, out=name)
    assert out.read_bytes() == whole and calls[3:] == [15, 5]
    monkeypatch.setattr(common, "load_model", None)  # not needed
    assert "no prediction for 1 of 21 rows" in predict("--resume", data=data, out=name).err
    assert out.read_bytes() == whole


def test_a_small_table_is_written_after_every_batch(predict, tmp_path, monkeypatch):
    data, scores, calls = write("rows.csv", ROWS[:9]), answers.label_scores, []
    predict(data=data, out="whole.csv")

    def interrupted(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return scores(*arguments)

    monkeypatch.setattr(answers, "label_scores", interrupted)
    assert "stopped after 4 of 9 rows; --resume continues" in predict(data=data, status=130).err
    assert len((tmp_path / "out.csv").read_bytes().splitlines()) == 5 and calls == [2, 2, 2]
    predict("--resume", data=data)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("change", [{"id": "x"}, {"more": "1"}])
def test_answers_to_other_rows_are_not_gone_on_with(predict, tmp_path, change):
    predict()
    before = (tmp_path / "out.csv").read_bytes()
    other = write("other.csv", [*ROWS[:-1], ROWS[-1] | change] if "id" in change else [row | change for row in ROWS])
    assert "out.csv has other rows than --data" in predict("--resume", data=other, status=2).err
    assert "other rows" in predict("--resume", data=write("few.csv", ROWS[:9]), status=2).err
    assert "or was edited" in predict("--resume", adapter=False, status=2).err  # it has no probability
    assert (tmp_path / "out.csv").read_bytes() == before


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"out": "out.xlsx"}, "--out out.xlsx must end in one of .csv, .tsv, .jsonl"),
        ({"data": "none.csv"}, "none.csv: No such file"),
        ({"data": "answered.csv"}, "--data already has a column Prediction; rename it"),
        ({"data": "answered.csv", "out": "answered.csv"}, "answered.csv exists already"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(predict, tmp_path, flags, words):
    write("answered.csv", [row | {"Prediction": "yes"} for row in ROWS])
    captured = predict(status=2, **flags)
    assert words in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["answered.csv"]
    if "out" in flags and flags["out"] == "answered.csv":
        assert "is also the file of --data" in predict("--overwrite", status=2, **flags).err


def test_rows_with_line_ends_and_split_characters_stay_rows(predict, tmp_path):
    rows = [{"text": f"Is {i} even?", "of": "one\rtwo" if i else "\ud83d"} for i in range(40)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict(data=data, out="whole.csv")
    assert len(table_of("whole.csv")) == 40
    whole = Path("whole.csv").read_bytes()
    predict("--resume", data=data, out="whole.csv")
    assert Path("whole.csv").read_bytes() == whole


def test_another_instruction_than_the_trainings_is_noted(predict):
    words = "the model was not trained with this --instruction"
    assert words in predict("--instruction", "Which?")[1] and words not in predict("--overwrite")[1]


def test_a_folder_without_an_adapter_is_told_before_the_table(place, tmp_path, capsys):
    (tmp_path / "begun").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "run.json").write_text("{}")
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "run.json").write_text("{}")
    (tmp_path / "full" / "model").mkdir(parents=True)
    (tmp_path / "full" / "run.json").write_text("{}")
    (tmp_path / "full" / "model" / "config.json").write_text("{}")
    other = write(tmp_path / "other.csv", [{"Nachricht": "a"}])
    cases = {
        "nope": "nope is not the folder of an adapter or a run: there is no such folder",
        "empty": "empty is not the folder of an adapter or a run",
        "begun": f"begun has no adapter yet; minilora finetune --resume --out {tmp_path / 'begun'} completes it",
        "my run": f"my run has no adapter yet; minilora finetune --resume --out '{tmp_path / 'my run'}' completes it",
        "full": "full holds a whole model, not an adapter: give it as --model",
    }
    for name, says in cases.items():
        flags = ["--adapter", tmp_path / name, "--data", other, "--out", tmp_path / "out.csv"]
        assert main(["predict", *map(str, flags)]) == 2 and says in capsys.readouterr().err
