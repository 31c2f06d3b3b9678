"""pytest tests/commands/test_plan.py: `minilora plan` says what the planner says, as text, JSON and a picture."""

import json
import os
import re

import pytest

from minilora import blas
from minilora.cli import main
from minilora.commands.plan import fits_from
from minilora.plan.planner import MEMORIES
from minilora.plan.shapes import PRESETS
from minilora.train.methods import METHODS

pytestmark = pytest.mark.host


def run(capsys, *arguments) -> str:
    assert main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= int(os.environ.get("COLUMNS", 80)) or "--json" in arguments
    return out


def test_a_plan_is_a_table_and_what_fits(capsys):
    issue = ["llama-65b", "--method", "qlora", "--batch-size", "1", "--seq-len", "512", "--rank", "64"]
    out = run(capsys, *issue, "--double-quantization")
    assert "\nGPU:   fits from 48 GB up with checkpointing, from 80 GB up without\n" in out
    for kind in ("weights", "constants", "adapters", "gradients", "optimizer", "activations", "logits", "peak"):
        assert f"\n{kind} " in out


@pytest.mark.parametrize(("dtype", "columns"), [("bfloat16", 80), ("float32", 80), ("float32", 60)])
def test_all_methods_as_one_table(capsys, monkeypatch, dtype, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = run(capsys, "smollm2-135m", "--dtype", dtype, "--rank", "4", "--bottleneck-size", "16")
    assert all(f"\n{method} " in out for method in METHODS)
    fits = " ".join(out.partition("On a GPU:")[2].split())
    assert "fits from 8 GB up: " in fits and all(re.search(f"[:,] {method}\\b", fits) for method in METHODS)


def test_from_which_memory_on_a_step_fits():
    cards = ("8 GB", "16 GB", "24 GB")
    cases = {
        ("yes", "yes", "yes"): "fits from 8 GB up",
        ("no", "no", "yes"): "fits from 24 GB up",
        ("no", "with checkpointing", "yes"): "fits from 16 GB up with checkpointing, from 24 GB up without",
        ("no", "no", "with checkpointing"): "fits from 24 GB up with checkpointing",
        ("no", "no", "no"): "does not fit into 24 GB",
    }
    for answers, words in cases.items():
        assert fits_from(dict(zip(cards, answers, strict=True))) == words


def test_json_says_everything(capsys):
    flags = ["--batch-size", "2", "--seq-len", "64", "--json"]
    facts = json.loads(run(capsys, "tinyllama-1.1b", *flags))
    assert [plan["method"] for plan in facts["plans"]] == list(METHODS)
    for plan in facts["plans"]:
        kinds = plan["memory"]
        assert kinds["peak"] == pytest.approx(sum(v for kind, v in kinds.items() if kind != "peak"), abs=8)
        assert list(plan["fits"]) == [f"{card} GB" for card in MEMORIES]
    assert facts["parameters"] == PRESETS["tinyllama-1.1b"].parameters
    own = json.loads(run(capsys, "base", "--method", "lora", "--dtype", "float32", "--json"))
    plain, again = (own["plans"][0][key] for key in ("memory", "with_checkpointing"))
    assert own["workers"] == blas.cores() and again["activations"] < plain["activations"]


BAD = {
    "model": (["llama-8b"], "did you mean 'llama-"),
    "no model": ([], "model is missing; for example: minilora plan llama-65b"),
    "positions": (["gpt-3-175b", "--seq-len", "2049"], "2,048 positions"),
    "rank": (["llama-7b", "--rank", "4097"], "larger than the width 4,096"),
    "target": (["llama-7b", "--targets", "qproj"], "did you mean 'q_proj'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    flags, message = BAD[name]
    assert main(["plan", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert not list(tmp_path.iterdir())
