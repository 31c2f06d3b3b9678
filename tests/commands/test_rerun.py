"""A run's record as flags of the next, and a rate that is searched: `pytest tests/commands/test_rerun.py`."""

import json
from importlib import import_module

import numpy as np
import pytest

from minilora import threads
from minilora.cli import main
from minilora.commands import common
from minilora.data.chat import ChatTokens
from minilora.measure import lr_search
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.train.answers import Chats
from minilora.train.config import TrainConfig

pytestmark = pytest.mark.host

EMPTY = {"format": "minilora run", "config": {}, "text_sha256": None, "resumed": []}
SIZES = ["--hidden-size", 16, "--intermediate-size", 16, "--num-layers", 1, "--num-heads", 2, "--vocab-size", 300]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A text, a base that was pretrained for a step, and an adapter of it."""
    folder = tmp_path_factory.mktemp("rerun")
    (folder / "text.txt").write_text("".join(f"line {n} of a text about boats\n" for n in range(400)))
    train = ["--data", folder / "text.txt", "--seq-len", 16, "--steps", 2]
    finetune = ["--model", folder / "base", "--rank", 2, "--targets", "q_proj,v_proj", "--dropout", 0.1]
    assert run("pretrain", *train, *SIZES, "--out", folder / "base") == 0
    assert run("finetune", *train, *finetune, "--lr", 0.02, "--warmup", 1, "--out", folder / "lora") == 0
    return folder


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def record(folder) -> dict:
    return json.loads((folder / "run.json").read_text())


def weights(folder) -> bytes:
    return next(folder.glob("*/*model.safetensors")).read_bytes()


@pytest.mark.parametrize("command, name", [("pretrain", "base"), ("finetune", "lora")])
def test_a_run_is_run_again(place, tmp_path, capsys, command, name):
    for path in (place / name, place / name / "run.json"):
        assert run(command, "--config", path, "--out", tmp_path / path.name) == 0
        assert record(tmp_path / path.name)["config"] == record(place / name)["config"]
        assert weights(tmp_path / path.name) == weights(place / name)
    assert "is not the one" not in capsys.readouterr().err


def test_a_resumed_run_has_the_settings_of_its_folder(place, tmp_path, capsys):
    """Without its flags, a run of 2 rows of 32 tokens at 0.001 went on as one of 8 rows of 128 at the default rate."""
    out = tmp_path / "run"
    own = ["--seq-len", 16, "--batch-size", 2, "--lr", 0.001, "--rank", 2, "--steps", 4, "--save-every", 2]
    assert run("finetune", "--model", place / "base", "--data", place / "text.txt", *own, "--out", out) in (0, 3)
    before = record(out)
    for typed, message in (
        (["--batch-size", 8], "--batch-size was 2, not 8"),
        (["--steps", 9], "--steps was 4, not 9"),
        (["--epochs", 0.5], "--steps was 4, not "),
        (["--method", "ia3"], "--method was lora, not ia3"),
        (["--lr", 0.1, "--rank", 4], "--lr was 0.001, not 0.1; --rank was 2, not 4"),
    ):
        assert run("finetune", "--resume", "--out", out, *typed) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
        assert record(out) == before
    assert run("finetune", "--resume", "--out", out) in (0, 3)  # nothing else has to be said again
    after = record(out)
    assert after["config"] == before["config"] and after["command"] == before["command"]
    assert [one["step"] for one in after["resumed"]] == [4]
    assert run("finetune", "--resume", "--out", out, *own, "--model", place / "base") in (0, 3)  # nor does it harm


def test_flags_beside_it_win(place, tmp_path, capsys):
    (tmp_path / "other.txt").write_text((place / "text.txt").read_text() + "one more line\n" * 50)
    other = ["--data", tmp_path / "other.txt", "--epochs", 0.1, "--seq-len", 16]
    assert run("finetune", "--config", place / "lora", *other, "--method", "ia3", "--out", tmp_path / "ia3") == 0
    config, before = record(tmp_path / "ia3")["config"], record(place / "lora")["config"]
    assert (config["method"], config["seq_len"], config["model"]) == ("ia3", 16, str(place / "base"))
    assert "rank" not in config and config["lr"] != before["lr"] and config["steps"] > before["steps"]
    assert "the text is not the one that the run of --config" in capsys.readouterr().err


def defaults(command: str, path, *args) -> dict:
    """The flags' defaults beside --config, those that the record does not set left out."""
    parser = common.Parser(add=import_module(f"minilora.commands.{command}").add)
    parser.parse_known_args(["--out", "x", "--config", str(path), *args])
    return {action.dest: action.default for action in parser._actions}


@pytest.mark.parametrize(
    "typed, anew",
    [
        (["--steps", "20"], {"warmup", "eval_every", "eval_examples"}),
        (["--batch-size=4"], {"warmup", "eval_every", "eval_examples"}),
        (["--eval-every", "5"], {"eval_examples"}),
        (["--rank", "2"], set()),
        (["--model", "base"], {"lr"}),
        (["--data", "z"], {"warmup", "eval_every", "eval_examples", "steps", "seq_len", "validation", "test"}),
    ],
)
def test_what_follows_from_a_typed_flag_is_not_taken_from_the_record(tmp_path, typed, anew):
    config = {"steps": 600, "warmup": 30, "eval_every": 60, "eval_examples": 64, "seq_len": 32, "lr": 0.1}
    config |= {"validation": "v", "test": "t", "data": "d", "rank": 4, "alpha": None}
    (tmp_path / "run.json").write_text(json.dumps(EMPTY | {"config": config}))
    found = defaults("finetune", tmp_path, *typed)
    assert {name for name, value in config.items() if value is not None and found[name] != str(value)} == anew
    assert found["alpha"] is None  # twice the rank, whichever it is


def test_what_the_run_was_told_is_no_default(tmp_path):
    config = {"steps": 600, "warmup": 30, "seq_len": 32, "test": "t"}
    told = {"config": config, "command": "minilora finetune --warmup 30 --seq-len=32 --test t"}
    (tmp_path / "run.json").write_text(json.dumps(EMPTY | told))
    found = defaults("finetune", tmp_path, "--data", "z")
    assert [found[name] for name in config] == [None, "30", "32", None]


def test_what_cannot_be_run_again_is_refused(place, tmp_path, capsys):
    (tmp_path / "text.json").write_text("{}")
    (tmp_path / "lab.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 2)
    (tmp_path / "rank.json").write_text(json.dumps(record(place / "lora") | {"config": {"rank": 0.5}}))
    words = {
        ("pretrain", place / "lora"): "is of another command: no flag here sets dropout, method",
        ("finetune", place / "base"): "is of another command: no flag here sets hidden_size, ",
        ("finetune", tmp_path / "text.json"): "; give a run.json of minilora, or its folder",
        ("finetune", tmp_path / "lab.jsonl"): "lab.jsonl is not valid JSON",
        ("finetune", tmp_path / "rank.json"): "--rank must be a whole number, not 0.5",
        ("finetune", tmp_path / "nothing"): "No such file",
    }
    for (command, path), expected in words.items():
        assert run(command, "--config", path, "--out", tmp_path / "out") == 2
        assert expected in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert run("finetune", "--steps", 3, "--epochs", 1, "--data", place / "text.txt", "--out", tmp_path / "out") == 2
    assert "--epochs and --steps exclude each other" in capsys.readouterr().err


def test_a_search_finds_the_rate_and_leaves_the_model():
    config = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(**config, num_attention_heads=1, max_position_embeddings=16), seed=0)
    rows = ChatTokens([(np.arange(8), np.arange(8) > 3)] * 20, [4] * 20)
    before, told = {n: p.data.copy() for n, p in model.named_parameters()}, {}
    start = TrainConfig(steps=20, peak_lr=1e-5)
    with threads.using(1):
        best = lr_search.find_lr(model, Chats("x", "", rows, rows, rows), start, told.__setitem__)
    assert best == max(told) == pytest.approx(2.7e-4) and len(told) == 5  # too small, so the largest tried
    assert list(told.values())[-1] == min(told.values())
    assert all((p.data == before[n]).all() for n, p in model.named_parameters())


def test_the_command_says_what_it_found_and_trains_by_it(place, tmp_path, capsys):
    arguments = ["finetune", "--config", place / "lora", "--lr", "auto", "--out", tmp_path / "run", "--steps", 20]
    assert run(*arguments, "--save-every", 5) == 0
    out = capsys.readouterr().out
    tried = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert 3 <= len(tried) <= 5 and "--lr auto: each rate for 15 steps" in out
    losses = {rate: float(loss) for rate, _, loss, _ in tried}
    assert losses[f"{record(tmp_path / 'run')['config']['lr']:g}"] == min(losses.values())
    assert run(*arguments, "--save-every", 5, "--resume") == 0
    assert "--lr auto" not in capsys.readouterr().out  # it was found before
