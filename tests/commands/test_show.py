"""`minilora show`, a run's metrics read back, its lines and its picture: `pytest tests/commands/test_show.py`."""

import json
from math import nan

import numpy as np
import pytest

from minilora.cli import main
from minilora.show.training import run_figure, smoothed
from minilora.train.run import RunFolder, read_metrics

pytestmark = pytest.mark.host


def rows(steps: int) -> list[dict]:
    """Return log rows whose loss falls from 9 and whose best evaluation is at step 8."""
    trained = [{"step": n, "loss": 9 - n / 4, "lr": 0.001 * n, "norm": 1.0} for n in range(1, steps + 1)]
    for row in trained[3::4]:
        row["evaluation"] = 2 + abs(row["step"] - 8) / 100
    return [{"step": 0, "evaluation": 3.0}, *trained]


def make_run(folder, records, result=None, **config):
    with RunFolder(folder, config={"data": "mine.txt", "steps": 20} | config) as run:
        for record in records:
            run.log(record)
        if result:
            run.finish(result)
    return folder


def shown(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main(["show", *map(str, arguments)]) == code
    return capsys.readouterr()


def test_a_run_that_is_done(tmp_path, capsys):
    folder = make_run(tmp_path / "run", rows(20), {"validation": 2.0})
    out = shown(capsys, folder).out
    assert out.splitlines()[:9] == [
        f"{folder}: step 20 of 20, done",
        "",
        "                      min        max       last",
        "loss                    4       8.75          4",
        "validation              2          3       2.12",
        "learning rate       0.001       0.02       0.02",
        "gradient norm           1          1          1",
        "",
        "validation (bits/character): 3 at the start, best 2 at step 8",
    ]
    assert out.endswith(f"saved {folder / 'run.png'}\n")
    assert (folder / "run.png").read_bytes().startswith(b"\x89PNG")
    facts = json.loads(shown(capsys, folder, "--json", "--out", tmp_path / "a.png").out)
    assert facts["step"] == facts["steps"] == 20 and facts["result"]["validation"] == 2.0
    assert facts["series"]["evaluation"] == {
        "first": 3.0, "last": 2.12, "min": 2.0, "max": 3.0, "min_step": 8
    }  # fmt: skip
    assert facts["picture"] == str(tmp_path / "a.png") and (tmp_path / "a.png").is_file()


def test_without_validation_rows_the_last_step_is_shown_and_not_the_best(tmp_path, capsys):
    folder = make_run(tmp_path / "run", rows(20), {"test": 2.1}, data="mine.jsonl", evaluated_on="test")
    out = shown(capsys, folder).out
    assert "test (bits/response character): 3 at the start, 2.12 at step 20" in out
    assert "\nvalidation" not in out and "best" not in out


def test_a_run_that_was_broken_off_or_has_just_begun(tmp_path, capsys):
    folder = make_run(tmp_path / "run", rows(6), data="mine.jsonl")
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 7, "loss": 7.')
    out = shown(capsys, folder).out
    assert "step 6 of 20, no result yet: still running, or interrupted" in out
    assert "validation (bits/response character): 3 at the start, best 2.04 at step 4" in out
    folder = make_run(tmp_path / "begun", [])
    out, err = shown(capsys, folder)
    assert "step 0 of 20" in out and "no picture: no step has been logged yet" in out and err == ""
    (folder / "metrics.jsonl").unlink()
    assert json.loads(shown(capsys, folder, "--json").out)["series"] == {} and not (folder / "run.png").exists()


def test_what_is_no_number_is_left_out(tmp_path, capsys):
    folder = make_run(tmp_path / "run", [{"step": 1, "loss": nan, "lr": 1e-3}, *rows(5)[2:]])
    rest = ['{"step": 6, "loss": NaN, "evaluation": null, "norm": Infinity}',
            '{"step": 9, "loss": "low", "lr": 1%s}' % ("0" * 400), "\xff"]  # fmt: skip
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write("".join(f"{line}\n" for line in rest).encode("latin1"))
    _, series = read_metrics(folder)
    assert [*series["loss"]] == [2, 3, 4, 5] and [*series["lr"]] == [1, 2, 3, 4, 5]
    assert "at the start" not in shown(capsys, folder).out


def test_the_table_comes_also_where_no_picture_can_be_written(tmp_path, capsys, monkeypatch):
    folder = make_run(tmp_path / "run", rows(20), {"validation": 2.0})
    (folder / "run.png").mkdir()
    out, err = shown(capsys, folder, code=2)
    assert out.endswith("best 2 at step 8\n") and "there is no picture: cannot write " in err and err.count("\n") == 1

    def draw(*arguments):
        raise OSError("Matplotlib requires access to a writable cache directory")

    monkeypatch.setattr("minilora.show.training.run_figure", draw)
    out, err = shown(capsys, folder, "--json", code=2)
    assert json.loads(out)["picture"] is None and "there is no picture: Matplotlib requires" in err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["{folder}/none"], "none is not a run folder: there is no run.json in it"),
        (["{folder}/other"], "other/run.json is damaged, or not the record of a run; choose another folder"),
        (["{folder}/run", "--out", "{folder}/run.pdf"], "--out must end in .png, not "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, arguments, words):
    make_run(tmp_path / "run", rows(3))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    out, err = shown(capsys, *(argument.format(folder=tmp_path) for argument in arguments), code=2)
    assert out == "" and err.count("\n") == 1 and words in err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_picture_has_a_panel_for_each_series_that_has_a_number():
    series = {name: {r["step"]: r[name] for r in rows(20) if name in r} for name in ("loss", "evaluation", "lr")}
    loss, validation, lr = run_figure(series | {"norm": {}}, "mine", "bits/character").axes
    assert (loss.get_ylabel(), validation.get_ylabel()) == ("loss\n(nats/token)", "validation\n(bits/character)")
    labels = [text.get_text() for text in validation.get_legend().get_texts()]
    assert labels == ["best: 2 at step 8", "start: 3"] and lr.get_xlabel() == "training step"
    raw, smooth = (line.get_ydata() for line in loss.get_lines())
    assert [*raw] == [*series["loss"].values()] and np.allclose(smooth, smoothed(raw))
    assert run_figure({"loss": {}}, "mine") is None
