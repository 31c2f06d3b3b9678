"""pytest tests/commands/test_evaluate.py"""

import json
import shutil

import numpy as np
import pytest

from minilora.cli import main
from minilora.formats.atomic import write_json
from minilora.formats.safetensors import load_file, save_file
from minilora.measure.task_report import confusion_grid, error_lines, score_lines, wrong_answers
from minilora.show.grids import drawn, render
from minilora.train import metrics
from minilora.train.metrics import TaskScore
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

ROWS = [{"prompt": f"Is {i} even?", "response": "yes" if i % 2 == 0 else "no"} for i in range(30)]
FILES = {"labels": ROWS, "one": ROWS[::2], "two": ROWS[:2]}
FILES["free"] = [{"prompt": row["prompt"], "response": f"{i} it is"} for i, row in enumerate(ROWS)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with an untrained chat model and files of conversations."""
    folder = tmp_path_factory.mktemp("evaluate")
    tiny_chat.save(folder / "model", [row["prompt"] + row["response"] for row in ROWS])
    for name, rows in FILES.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "text.txt").write_text("one line of a text and no more\n" * 200)
    return folder


@pytest.fixture
def evaluate(place, capsys):
    def run(name: str, *more, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        data = place / (name if "." in name else f"{name}.jsonl")
        assert main(["evaluate", "--model", str(place / "model"), "--data", str(data), *map(str, more)]) == status
        return capsys.readouterr()

    return run


def test_labels_give_accuracy_and_a_confusion_table(evaluate):
    out = evaluate("labels").out
    assert "labels.jsonl (30 conversations" in out and "among 2 labels" in out and "calibrated" in out
    assert "always answering the most frequent label: 50.0 %" in out and "expected" in out
    facts = json.loads(evaluate("labels", "--json").out)
    assert facts["split"] == "all" and facts["conversations"] == facts["of"] == facts["task"]["count"] == 30
    assert sum(map(sum, facts["task"]["confusion"])) == 30 and facts["trained_on"] is None


def test_shots_come_before_each_question(evaluate, place):
    shots = ["--shots", 2, "--shots-from", place / "labels.jsonl"]
    none, two = (json.loads(evaluate("two", "--split", "all", *more, "--json").out) for more in ([], shots))
    assert none["task"]["kind"] == "answers"  # two lines alone are no labels
    assert two["task"]["labels"] == ["no", "yes"] and two["shots"] == 2
    assert two["task"]["prompt_tokens"] > 2 * none["task"]["prompt_tokens"]


def test_free_answers_and_one_class_give_exact_match_and_f1(evaluate):
    out = evaluate("free", "--examples", 6).out
    assert "(6 of 30 conversations" in out and "exact match 0.0 % (0.0 to 39.0)" in out and "F1 " in out and "±" in out
    assert "exact match" in evaluate("one").out and "among" not in evaluate("one").out


def test_wrong_answers_are_shown_the_surest_first(evaluate):
    out, facts = (
        evaluate("labels", "--show-errors", 3).out,
        json.loads(evaluate("labels", "--show-errors", 99, "--json").out),
    )
    errors, task = facts["errors"], facts["task"]
    expected = [row["response"] for row in ROWS]
    wrong = [i for i, label in enumerate(task["predicted"]) if label != expected[i]]
    assert sorted(error["text"] for error in errors) == sorted(ROWS[i]["prompt"] for i in wrong)
    sure = [error["probability"] for error in errors]
    assert sure == sorted((task["probabilities"][i] for i in wrong), reverse=True) and 0.5 <= sure[-1] < sure[0] < 1
    shown = out[out.index(" answers are wrong; 3 of them, the most confident first:") :].splitlines()[1:]
    assert shown[::3] == [f"  {error['text']}" for error in errors[:3]] and len(shown) == 9
    assert shown[1] == f"    expected  {errors[0]['expected']}"
    assert shown[2] == f"    predicted {errors[0]['predicted']} ({100 * sure[0]:.0f} % sure)"
    assert "errors" not in json.loads(evaluate("labels", "--json").out)


def test_wrong_answers_fit_80_columns_and_those_that_share_nothing_come_first(evaluate):
    rows = [
        {"role": "user", "content": f"Say it.\n\n\x1b[2J{'long ' * 30}"},
        {"role": "assistant", "content": "a red boat"},
    ]
    score = TaskScore("answers", 3, 9, 1, ["red boat!", "red\nboats of ours", "a green car"])
    errors = wrong_answers(score, [rows] * 3, "Say it.")
    assert [error["predicted"] for error in errors] == ["a green car", "red\nboats of ours"]
    first, *lines = error_lines(errors, 9, 3)
    assert first == "2 of 3 answers are wrong, the lowest F1 first:" and lines[2] == "    predicted a green car"
    assert lines[0].startswith(r"  \x1b[2Jlong long") and all(line.isprintable() for line in lines)
    assert max(map(len, lines)) == 80
    assert error_lines([], 9, 3) == ["all 3 answers are right"]


def test_answers_that_are_json_objects_are_measured_by_field(evaluate, place, monkeypatch):
    monkeypatch.setattr(metrics, "answers", lambda *_: ['{"kind":"a","id":-1}', '{"id": 1, "kind": "b"}', "none"])
    rows = [{"prompt": str(i), "response": json.dumps({"kind": kind, "id": 1})} for i, kind in enumerate("abc")]
    (place / "objects.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = evaluate("objects", "--show-errors", 3).out
    assert "JSON objects: 66.7 % parse, 33.3 % equal the expected object; by field:\n   66.7 %  kind\n" in out
    assert "   33.3 %  id\n" in out and "2 of 3 answers are wrong, the lowest F1 first" in out  # 1 is not -1


def test_what_a_model_was_trained_on_decides_split_and_length(evaluate, place):
    facts = json.loads(evaluate("labels", "--split", "test", "--json").out)
    record = {"format": "minilora run", "config": {"seq_len": 20, "data": str(place / "labels.jsonl")}}
    write_json(place / "run.json", record | {"text_sha256": facts["text_sha256"]})
    own, same = (json.loads(evaluate("labels", *more, "--json").out) for more in ([], ["--seq-len", 64]))
    two = evaluate("two").err
    (place / "run.json").unlink()
    assert own["split"] == "test" and own["conversations"] == facts["conversations"] < 30
    assert own["trained_on"] == 0 and own["bits_per_character"] != facts["bits_per_character"]
    assert same["bits_per_character"] == facts["bits_per_character"]
    assert "2 of the 2 conversations measured were trained on" in two


def test_a_text_has_a_test_part_and_a_whole(evaluate):
    part, whole = (json.loads(evaluate("text.txt", *split, "--json").out) for split in ([], ["--split", "all"]))
    assert part["split"] == "test" and whole["characters"] > 6100 > 5 * part["characters"]
    assert "on the test part of" in evaluate("text.txt").out


@pytest.mark.parametrize(
    "name, more, words",
    [
        ("labels", ["--shots", 2], "give --shots N and --shots-from FILE together"),
        ("two", ["--shots", 25, "--shots-from", "labels"], "or give fewer shots"),
        ("text.txt", ["--examples", 2], "--examples is only for a file of examples"),
        ("text.txt", ["--show-errors", 2], "--show-errors is only for a file of examples"),
    ],
)
def test_bad_input_is_one_line(evaluate, place, name, more, words):
    more = [place / "labels.jsonl" if value == "labels" else value for value in more]
    captured = evaluate(name, *more, status=2)
    assert words in captured.err and captured.out == "" and captured.err.count("\n") == 1


def test_broken_weights_are_no_measurement(place, tmp_path, capsys):
    model = str(shutil.copytree(place / "model", tmp_path / "model"))
    tensors, _ = load_file(tmp_path / "model" / "model.safetensors")
    tensors["model.norm.weight"][0] = np.nan
    save_file(tmp_path / "model" / "model.safetensors", tensors)
    assert main(["evaluate", "--model", model, "--data", str(place / "labels.jsonl")]) == 2
    assert "the evaluation is nan: the weights are damaged" in capsys.readouterr().err


@pytest.mark.parametrize("labels", [2, 12, 20])
def test_the_lines_and_the_table_fit_80_columns(labels):
    names = [f"a rather long label {i}" for i in range(labels)]
    confusion = [[3 + i if i == j else int(j == 0) for j in range(labels)] for i in range(labels)]
    interval = {"accuracy": 0.5, "accuracy_interval": (0.4, 0.6), "majority": 0.5}
    score = TaskScore("labels", 9, 40.4, 0.0123, [], names, confusion=confusion, **interval)
    lines = score_lines(score)
    assert lines[0] == f"accuracy 50.0 % (40.0 to 60.0) among {labels} labels"
    assert lines[-1] == "40 tokens and 12 ms per query"
    grid = confusion_grid(score)
    lines = render(drawn(grid)).splitlines()
    assert max(map(len, lines)) <= 80 and "a rather long label…" in lines[-1 - (labels == 20)]
    assert len(grid.rows) == min(labels, 12)
    if labels == 20:
        assert "8 labels" in grid.caption and grid.rows[0] == ("a rather long label…", "11", *["0"] * 11)
