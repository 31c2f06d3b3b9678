"""pytest tests/commands/test_plan.py: `minilora plan` says what the planner says, as text, JSON and a picture."""

import json

import pytest

from minilora import blas
from minilora.cli import main
from minilora.plan.planner import MEMORIES
from minilora.plan.shapes import PRESETS
from minilora.train.methods import METHODS

pytestmark = pytest.mark.host


def run(capsys, *arguments) -> str:
    assert main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80 or "--json" in arguments
    return out


def test_a_plan_is_a_table_and_what_fits(capsys):
    issue = ["llama-65b", "--method", "qlora", "--batch-size", "1", "--seq-len", "512", "--rank", "64"]
    out = run(capsys, *issue, "--double-quantization")
    assert "48 GB: yes, with checkpointing" in out and "40 GB: no" in out and "80 GB: yes\n" in out
    for kind in ("weights", "constants", "adapters", "gradients", "optimizer", "activations", "logits", "peak"):
        assert f"\n{kind} " in out


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_all_methods_as_one_table(capsys, dtype):
    out = run(capsys, "smollm2-135m", "--dtype", dtype, "--rank", "4", "--bottleneck-size", "16")
    assert all(out.count(f"\n{method} ") >= 2 for method in METHODS)


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
