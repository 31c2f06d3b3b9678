"""The folder of a run: `pytest tests/train/test_run.py`."""

import json
import os
import platform
import shlex
import subprocess
import sys

import numpy as np
import pytest

from minilora.errors import FormatError, MiniloraError
from minilora.train.run import LOCK, RunFolder, read_metrics

pytestmark = pytest.mark.host

CONFIG = {"lr": 3e-4, "betas": (0.9, 0.999)}


def train(path, steps, save_at=(), **options):
    """Run and log `steps`, save at some of them, and return the notes."""
    with RunFolder(path, config=options.pop("config", CONFIG), **options) as run:
        for step in steps:
            run.log({"step": step, "loss": 1.0 / step})
            if step in save_at:
                run.save(step, {"w": np.full(3, step)}, {"step": step})
        return run.notes


def logged(path):
    return [json.loads(line)["step"] for line in (path / "metrics.jsonl").read_text().splitlines()]


def files_of(path):
    return sorted(name for name in os.listdir(path) if name != LOCK)


def contents(path):
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in path.rglob("*")}


def test_a_run_describes_itself(tmp_path):
    path = tmp_path / "runs" / "first"
    assert train(path, [1, 2, 3], save_at=[2, 3], text_hash="abc") == []
    assert files_of(path) == ["checkpoints", "metrics.jsonl", "run.json"]
    record = json.loads((path / "run.json").read_text())
    assert record["config"] == {"lr": 3e-4, "betas": [0.9, 0.999]}
    assert record["text_sha256"] == "abc" and shlex.split(record["command"])[1:] == sys.argv[1:]
    assert record["versions"]["python"] == platform.python_version()
    assert record["versions"]["numpy"] == np.__version__ and "minilora" in record["versions"]
    assert record["started"].endswith("+00:00") and record["resumed"] == []
    assert logged(path) == [1, 2, 3]
    assert sorted(os.listdir(path / "checkpoints")) == [f"step-0000000{step}.safetensors" for step in (2, 3)]


def test_an_existing_run_is_refused_without_a_flag(tmp_path):
    train(tmp_path / "run", [1], save_at=[1])
    before, touched = contents(tmp_path), (tmp_path / "run").stat().st_mtime_ns
    with pytest.raises(MiniloraError, match="is not empty: --resume continues its run, --overwrite starts again"):
        train(tmp_path / "run", [1])
    assert contents(tmp_path) == before and (tmp_path / "run").stat().st_mtime_ns == touched  # not even a lock


OTHER = '{"format": "other", "config": {}, "resumed": []}'


@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}])
@pytest.mark.parametrize("record", [None, "[]", "not json", '{"format": "minilora run"}', OTHER])
def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path, flags, record):
    home = tmp_path / "home"
    (home / "checkpoints").mkdir(parents=True)
    (home / "thesis.txt").write_text("four years")
    (home / "metrics.jsonl").write_text("mine")
    (home / "checkpoints" / "step-00000001.safetensors").write_text("mine too")
    if record:
        (home / "run.json").write_text(record)
    before = contents(tmp_path)
    with pytest.raises(MiniloraError):
        train(home, [1], **flags)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("key", ["format", "config", "text_sha256", "resumed", "minilora run"])
def test_one_flipped_bit_in_a_key_is_called_damage(tmp_path, key):
    path = tmp_path / "run"
    train(path, [1], save_at=[1])
    flipped = f'"{key[:-1]}{chr(ord(key[-1]) ^ 1)}"'
    (path / "run.json").write_text((path / "run.json").read_text().replace(f'"{key}"', flipped, 1))
    before = contents(tmp_path)
    for use in (lambda: train(path, [2], resume=True), lambda: read_metrics(path)):
        with pytest.raises(FormatError, match="run/run.json is damaged, or not the record of a run; choose another"):
            use()
    assert contents(tmp_path) == before


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("99999")  # a writer killed before its first file
    (tmp_path / "run" / ".run.json.tmp").write_text("{")
    train(tmp_path / "run", [1])
    assert files_of(tmp_path / "run") == ["metrics.jsonl", "run.json"]


def test_overwrite_removes_only_what_the_run_wrote(tmp_path):
    path = tmp_path / "run"
    train(path, [1, 2, 3], save_at=[1, 3])
    (path / "notes.txt").write_text("mine")
    (path / "checkpoints" / "notes.txt").write_text("mine")
    assert train(path, [1], overwrite=True, config={"lr": 1}) == []
    assert files_of(path) == ["checkpoints", "metrics.jsonl", "notes.txt", "run.json"]
    assert os.listdir(path / "checkpoints") == ["notes.txt"] and logged(path) == [1]
    assert json.loads((path / "run.json").read_text())["config"] == {"lr": 1}


def test_resume_goes_on_from_the_checkpoint_and_logs_each_step_once(tmp_path):
    train(tmp_path, [1, 2, 3, 4, 5], save_at=[2, 3])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    with RunFolder(tmp_path, resume=True, config=CONFIG) as run:
        assert run.notes == [] and run.checkpoint.step == 3 and run.checkpoint.state == {"step": 3}
        np.testing.assert_array_equal(run.checkpoint.arrays["w"], [3, 3, 3])
        assert logged(tmp_path) == [1, 2, 3]
        for step in (4, 5, 6):
            run.log({"step": step})
    assert logged(tmp_path) == [1, 2, 3, 4, 5, 6]
    train(tmp_path, [4], resume=True)
    record = json.loads((tmp_path / "run.json").read_text())
    assert [start["step"] for start in record["resumed"]] == [3, 3]


@pytest.mark.parametrize("bad", ['{"step": Infinity}', '{"st\0p": 2}', "[" * 10**5, '{"step": 1}', "[2]"])
def test_a_damaged_line_of_metrics_costs_no_other(tmp_path, bad):
    train(tmp_path, [1, 2, 3], save_at=[3])
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 1}}\n{bad}\n{{"step": 3, "loss": 2}}\n')
    assert read_metrics(tmp_path)[1]["loss"] == {1: 1.0, 3: 2.0}
    train(tmp_path, [], resume=True)
    assert logged(tmp_path) == [1, 3]


def test_a_checkpoint_that_is_not_accepted_leaves_the_folder_as_it_was(tmp_path):
    def refuse(checkpoint):
        raise MiniloraError(f"step {checkpoint.step} is another model's")

    train(tmp_path, [1, 2, 3], save_at=[2])
    before = contents(tmp_path)
    with pytest.raises(MiniloraError, match="step 2 is another model's"):
        train(tmp_path, [], resume=True, accept=refuse)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("bad", ["\0\0", "[1]", '{"loss": 1}', '{"step": 3', '{"step": 3}'])  # all without an end
def test_a_line_of_metrics_that_is_not_whole_goes(tmp_path, bad):
    train(tmp_path, [1, 2, 3], save_at=[3])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n' + bad)
    train(tmp_path, [4], resume=True)
    assert logged(tmp_path) == [1, 2, 4]


def test_resume_falls_back_over_a_damaged_checkpoint_and_changes_nothing_if_all_are(tmp_path):
    train(tmp_path, range(1, 5), save_at=[2, 4])
    (tmp_path / "checkpoints" / "step-00000004.safetensors").write_bytes(b"")
    with RunFolder(tmp_path, resume=True, config=CONFIG) as run:
        assert run.checkpoint.step == 2 and len(run.notes) == 1 and "step-00000004" in run.notes[0]
    assert logged(tmp_path) == [1, 2]
    (tmp_path / "checkpoints" / "step-00000002.safetensors").write_bytes(b"")
    before = contents(tmp_path)
    with pytest.raises(FormatError, match="step-00000004.*step-00000002"):
        train(tmp_path, [5], resume=True)
    assert contents(tmp_path) == before


def test_resume_without_a_run_or_checkpoint_starts_anew_and_says_so(tmp_path):
    (note,) = train(tmp_path / "run", [1, 2, 3], resume=True)
    assert "no checkpoint to resume from" in note and "starting from the beginning" in note
    (note,) = train(tmp_path / "run", [1], resume=True)
    assert "starting from the beginning" in note and logged(tmp_path / "run") == [1]


@pytest.mark.parametrize(
    "other, message",
    [
        ({"text_hash": "b"}, "whose --data was another text, or was split in another way: leave such flags out"),
        ({"config": {"model": "base", "method": "rslora"}}, "whose --method was lora, not rslora: leave such flags"),
        ({"config": {"method": "lora"}, "text_hash": None}, "--data was another text, .*; --model was base, not None"),
        ({"config": {"model": "base", "method": "lora", "batch_size": 8}}, "whose --batch-size was None, not 8: leave"),
    ],
)
def test_another_training_is_no_resumption(tmp_path, other, message):
    own = {"config": {"model": "base", "method": "lora"}, "text_hash": "a"}
    train(tmp_path, [1, 2], save_at=[1], **own)
    before = contents(tmp_path)
    with pytest.raises(MiniloraError, match=message):
        train(tmp_path, [3], resume=True, **(own | other))
    assert contents(tmp_path) == before
    train(tmp_path / "new", [1], **own)
    train(tmp_path / "new", [1], resume=True, **(own | other))  # no checkpoint: it begins anew


def test_where_files_lie_and_how_often_is_saved_may_change(tmp_path):
    for data in ("a", "b"):
        assert train(tmp_path, [1], [1], resume=data == "b", config={"lr": 0.1, "data": data, "save_every": 9}) == []


# One writer


@pytest.mark.parametrize("flags", [{"resume": True}, {"overwrite": True}])
def test_a_second_writer_is_refused(tmp_path, flags):
    with RunFolder(tmp_path) as run:
        run.log({"step": 1})
        assert logged(tmp_path) == [1]  # at once
        before = contents(tmp_path)
        with pytest.raises(MiniloraError, match="in use by another process$"):
            train(tmp_path, [1], **flags)
        assert contents(tmp_path) == before
        run.log({"step": 2})
    assert logged(tmp_path) == [1, 2]
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path, overwrite=True):
        raise KeyboardInterrupt
    train(tmp_path, [1], **flags)


HOLD = """
import sys
from minilora.train.run import RunFolder
with RunFolder(sys.argv[1]) as run:
    run.log({"step": 1})
    run.save(1, {}, {})
    run.log({"step": 2})
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_until_it_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(MiniloraError, match="in use by another process$"):
                train(tmp_path, [1], resume=True)
        finally:
            holder.kill()
    train(tmp_path, [2, 3], resume=True, config={})
    assert logged(tmp_path) == [1, 2, 3]


# Metrics


def test_numbers_that_json_lacks(tmp_path):
    with RunFolder(tmp_path) as run:
        run.log({"step": np.int64(1), "loss": np.float32(0.5), "norm": float("nan"), "best": np.float32("inf")})
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert record == {"step": 1, "loss": 0.5, "norm": None, "best": None}


def test_a_full_disk_is_an_error_and_no_checkpoint_runs_ahead_of_the_metrics(tmp_path):
    with RunFolder(tmp_path) as run:
        run._metrics.close()
        run._metrics = open("/dev/full", "ab", buffering=0)  # noqa: SIM115 (the run closes it)
        with pytest.raises(OSError, match="No space left"):
            run.log({"step": 1})
        with run._metrics, pytest.raises(OSError, match="Invalid argument"):
            run.save(1, {}, {})  # metrics that cannot be flushed
        assert not run.checkpoints.exists()
