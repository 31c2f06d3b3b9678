"""A run that goes on by its record, and a rate that is searched: `pytest tests/commands/test_rerun.py`."""

import json

import numpy as np
import pytest

from minilora import threads
from minilora.cli import main
from minilora.data.chat import ChatTokens
from minilora.measure import lr_search
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.train.config import TrainConfig
from minilora.train.text import Chats

pytestmark = pytest.mark.host

SIZES = ["--hidden-size", 16, "--intermediate-size", 16, "--num-layers", 1, "--num-heads", 2, "--vocab-size", 300]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a text, a base pretrained for one step, and an adapter of it."""
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


def test_a_resumed_run_has_the_settings_of_its_folder(place, tmp_path, capsys):
    """A run of 2 rows of 32 tokens at 0.001, resumed without its flags, once continued with all defaults."""
    out = tmp_path / "run"
    own = ["--seq-len", 16, "--batch-size", 2, "--lr", 0.001, "--rank", 2, "--steps", 4, "--save-every", 2]
    assert run("finetune", "--model", place / "base", "--data", place / "text.txt", *own, "--out", out) in (0, 3)
    before = record(out)
    before["config"]["eval_examples"] = 3  # which no flag sets any more
    (out / "run.json").write_text(json.dumps(before))
    (tmp_path / "other.txt").write_text((place / "text.txt").read_text().replace("boats", "goats"))
    for typed, message in (
        (["--batch-size", 8], "--batch-size was 2, not 8"),
        (["--data", tmp_path / "other.txt"], "--data was another text, or was split in another way: leave such"),
        (["--epochs", 0.5], "--steps was 4, not "),
        (["--method", "ia3"], "--method was lora, not ia3"),
        (["--lr", 0.1, "--rank", 4], "--lr was 0.001, not 0.1; --rank was 2, not 4"),
    ):
        assert run("finetune", "--resume", "--out", out, *typed) == 2
        assert message in capsys.readouterr().err and record(out) == before
    assert run("finetune", "--resume", "--out", out) in (0, 3)  # nothing else has to be said again
    after = record(out)
    assert after["config"] == before["config"] and after["command"] == before["command"]
    assert [one["step"] for one in after["resumed"]] == [4]
    assert run("finetune", "--resume", "--out", out, *own, "--model", place / "base") in (0, 3)  # nor does it harm


def test_a_record_that_does_not_suit_is_refused(place, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text(json.dumps(record(place / "lora") | {"config": {"rank": 0.5}}))
    for command, path, expected in (
        ("pretrain", place / "lora", "by another command, which must resume it: no flag here sets dropout, method"),
        ("finetune", tmp_path / "bad", "--rank must be a whole number of at least 1, not 0.5"),
    ):
        before = sorted(path.rglob("*"))
        assert run(command, "--resume", "--out", path) == 2
        assert expected in capsys.readouterr().err and sorted(path.rglob("*")) == before
    assert run("finetune", "--steps", 3, "--epochs", 1, "--data", place / "text.txt", "--out", tmp_path / "out") == 2
    assert "--epochs and --steps cannot be used together" in capsys.readouterr().err


def test_a_search_finds_the_rate_and_leaves_the_model():
    config = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(**config, num_attention_heads=1, max_position_embeddings=16), seed=0)
    rows = ChatTokens([(np.arange(8), np.arange(8) > 3)] * 20, [4] * 20)
    before, losses = {n: p.data.copy() for n, p in model.named_parameters()}, {}
    start = TrainConfig(steps=20, peak_lr=1e-5)
    with threads.using(1):
        best = lr_search.find_lr(model, Chats("x", "", rows, rows, rows), start, losses.__setitem__)
    assert best == max(losses) == pytest.approx(2.7e-4) and len(losses) == 5  # too small, so the largest tried
    assert list(losses.values())[-1] == min(losses.values())
    assert all((p.data == before[n]).all() for n, p in model.named_parameters())


def test_the_command_says_what_it_found_and_trains_by_it(place, tmp_path, capsys):
    data = ["--model", place / "base", "--data", place / "text.txt", "--seq-len", 16, "--rank", 2]
    arguments = ["finetune", *data, "--lr", "auto", "--out", tmp_path / "run", "--steps", 20]
    assert run(*arguments, "--save-every", 5) == 0
    out = capsys.readouterr().out
    tried = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert 3 <= len(tried) <= 5 and "--lr auto: trying each rate for 15 steps" in out
    losses = {rate: float(loss) for rate, _, loss, _ in tried}
    assert losses[f"{record(tmp_path / 'run')['config']['lr']:g}"] == min(losses.values())
    assert run(*arguments, "--save-every", 5, "--resume") == 0
    assert "--lr auto" not in capsys.readouterr().out  # it was found before
