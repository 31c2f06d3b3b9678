"""pytest tests/train/test_world.py: several processes that train one model, under a real mpiexec."""

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minilora.cli import main
from minilora.train.run import LOCK, latest_checkpoint
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

HELPERS = Path(__file__).parents[1] / "helpers"
MPIEXEC = Path(sys.executable).parent / "mpiexec"
SIZES = "--hidden-size 32 --intermediate-size 48 --num-layers 1 --num-heads 2 --num-kv-heads 1 --vocab-size 300"
TRAINING = f"pretrain --data text.txt {SIZES} --seq-len 32 --batch-size 8 --lr 0.01 --save-every 2"
PATIENCE = 60  # seconds; nothing here takes more than a few


@pytest.fixture
def folder(tmp_path) -> Path:
    words = np.random.default_rng(0).choice(["array", "returns", "axis", "the", "of", "shape", "a"], (60, 12))
    (tmp_path / "text.txt").write_text("\n\n".join(" ".join(row) + "." for row in words))
    return tmp_path


def start(folder: Path, ranks: int, command: str, wrap: str = "") -> subprocess.Popen:
    """Start `python -m mpi4py -m minilora` on `ranks` ranks. wrap: shell code that each rank runs first."""
    program = f"{wrap} exec {shlex.quote(sys.executable)} -m mpi4py -m minilora {command}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([MPIEXEC, "-n", str(ranks), "bash", "-c", program], cwd=folder, **pipes)


def run(folder: Path, ranks: int, command: str, wrap: str = "") -> tuple[int, str, list[str]]:
    """Run to the end, and return exit code, output, and the lines on standard error."""
    process = start(folder, ranks, command, wrap)
    out, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, out, errors.splitlines()


def alone(folder: Path, command: str, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    assert main(command.split()) == 0


def losses(run_folder: Path) -> list[float]:
    records = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(len(records)))
    return [record["loss"] for record in records[1:]]


def until_saved(process: subprocess.Popen, run_folder: Path) -> None:
    while process.poll() is None and not list(run_folder.glob("checkpoints/*.safetensors")):
        time.sleep(0.05)
    assert process.poll() is None


def process_of(rank: int, folder: Path) -> int:
    """Return the process id of a rank that runs in `folder`."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").resolve() == folder and f"PMI_RANK={rank}\0" in (place / "environ").read_text() + "\0":
                return int(place.name)
        except OSError:
            continue
    raise AssertionError(f"rank {rank} does not run")


def has_ended(number: int) -> bool:
    """Return True if the process has ended, even if its exit code has not been read yet."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sums", "gradients", "evaluation"])
@pytest.mark.parametrize("backend_name", ["numpy", "strict"])
def test_ranks_agree(name, backend_name):
    command = [MPIEXEC, "-n", "3", sys.executable, "-m", "mpi4py", HELPERS / "ranks.py", name, backend_name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_losses_are_those_of_one_process(folder, ranks, monkeypatch):
    alone(folder, f"{TRAINING} --steps 8 --out alone", monkeypatch)
    code, out, errors = run(folder, ranks, f"{TRAINING} --steps 8 --out together")
    assert (code, errors) == (0, [])
    assert out.count("parameters train") == out.count("saved together") == 1  # the first rank alone speaks
    np.testing.assert_allclose(losses(folder / "together"), losses(folder / "alone"), rtol=1e-6)
    files = {LOCK, "checkpoints", "metrics.jsonl", "model", "run.json"}
    assert {path.name for path in (folder / "together").iterdir()} == files


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_other_ranks(folder, monkeypatch):
    training = TRAINING.replace("--lr 0.01", "--lr 0.0001 --steps 300")
    alone(folder, f"{training} --out alone", monkeypatch)
    process = start(folder, 3, f"{training} --out together")
    until_saved(process, folder / "together")
    os.kill(process_of(2, folder), signal.SIGTERM)  # one rank is told, all stop after the same step
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert re.fullmatch(r"minilora: stopped at step \d+; --resume continues the run\n", errors)
    stopped = losses(folder / "together")
    assert latest_checkpoint(folder / "together" / "checkpoints").step == len(stopped) < 300
    code, _, errors = run(folder, 2, f"{training} --out together --resume")
    assert (code, errors) == (0, ["minilora: note: resumed with 2 ranks instead of 3: last digits differ"])
    resumed = losses(folder / "together")
    assert resumed[: len(stopped)] == stopped and len(resumed) == 300
    np.testing.assert_allclose(resumed, losses(folder / "alone"), rtol=1e-5)


@pytest.mark.slow
def test_ranks_ask_the_quiz_once_and_replay_the_same(folder):
    rows = [{"prompt": f"Say {i}.", "response": f"It is {i}."} for i in range(40)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tiny_chat.save(folder / "chat", ["Say 1. It is 2. What? Yes."])
    tiny_chat.save(folder / "plain", ["Say 1. It is 2. What? Yes."], template=None)
    training = "finetune --steps 4 --save-every 2 --seq-len 32 --out"
    for command, line in (
        (f"{training} asked --model chat --data rows.jsonl --quiz on", "forgot: "),
        (f"{training} replayed --model plain --data text.txt --replay 0.3", "replay: "),
    ):
        code, out, errors = run(folder, 2, command)
        assert (code, errors, out.count(line)) == (0, [], 1)
        next(folder.glob(f"{command.split()[8]}/checkpoints/step-00000004.*")).unlink()
        code, out, errors = run(folder, 2, f"{command} --resume")
        assert (code, errors, out.count(line)) == (0, [], 1)


@pytest.mark.slow
def test_a_killed_rank_ends_all_and_harms_no_checkpoint(folder):
    process = start(folder, 3, f"{TRAINING} --steps 100000 --out killed")
    until_saved(process, folder / "killed")
    victim, *others = [process_of(rank, folder) for rank in (1, 0, 2)]
    os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=5)
    assert process.returncode != 0
    deadline = time.monotonic() + 5
    while not all(map(has_ended, others)) and time.monotonic() < deadline:  # mpiexec may end a moment before they do
        time.sleep(0.02)
    assert all(map(has_ended, others))
    assert latest_checkpoint(folder / "killed" / "checkpoints").step >= 2


def test_a_full_disk_on_the_first_rank_is_one_message(folder):
    process = start(folder, 3, f"{TRAINING} --steps 100000 --out full")
    until_saved(process, folder / "full")
    resource.prlimit(process_of(0, folder), resource.RLIMIT_FSIZE, (0, 0))  # as a disk without room
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert re.fullmatch(r"minilora: .*File too large\n", errors)
    assert latest_checkpoint(folder / "full" / "checkpoints").step >= 2


@pytest.mark.slow
def test_what_one_rank_alone_meets_is_said_by_it(folder):
    wrap = 'if [ "$PMI_RANK" = 1 ]; then cd /; fi;'
    code, _, errors = run(folder, 2, f"{TRAINING} --steps 2 --out {folder}/one", wrap)
    assert code == 2
    assert errors == [
        "minilora: rank 1: no corpus, file or folder is called text.txt; the corpora are python-docs, numpy-docs, "
        "matplotlib-docs"
    ]
    assert not (folder / "one").exists()


@pytest.mark.parametrize(
    "ranks, command, words",
    [
        (2, TRAINING.replace("text.txt", "nowhere"), "no corpus, file or folder is called nowhere"),
        (2, TRAINING.replace("--lr 0.01", "--lr x"), "--lr must be a positive number"),
        (2, "doctor", "doctor runs as one process; only pretrain and finetune support several ranks"),
    ],
)
def test_bad_input_is_one_line_for_all_ranks(folder, ranks, command, words):
    out = "" if command == "doctor" else " --out bad"
    code, _, errors = run(folder, ranks, command + out)
    assert code == 2
    assert len(errors) == 1 and words in errors[0]
    assert not (folder / "bad").exists()
