"""pytest tests/commands/test_own_data.py: the page docs/own-data.md, run from top to bottom on made-up reviews."""

import csv
import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from experiments.__main__ import main as experiments
from minilora.cli import main
from minilora.data import load_examples
from minilora.train import defaults
from tests.helpers import tiny_chat

pytestmark = [pytest.mark.host, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "own-data.md"
BLOCK = re.compile(r"^```(json|bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {"minilora": main, "python -m experiments": experiments}
TEXTS = {"positive": "a joy", "negative": "dull"}
ROWS = [{"text": f"{TEXTS[label]}, number {i}", "label": label} for i in range(160) for label in TEXTS]


@pytest.fixture
def blocks(tmp_path, monkeypatch) -> list[tuple[str, str]]:
    """Set up a folder with reviews.csv and a tiny chat model instead of SmolLM2, and return the page's code blocks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(defaults, "LEAST_STEPS", 12)
    texts = [f"Positive or negative? {row}" for row in ROWS]
    tiny_chat.save(Path("tiny"), texts, hidden_size=64, max_position_embeddings=512)
    with open("reviews.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(ROWS)
    Path("new.csv").write_text("text\na joy again\ndull again\n")
    return [(kind, code.replace("smollm2", "tiny")) for kind, code in BLOCK.findall(PAGE.read_text("utf-8"))]


def test_the_page_runs(blocks, monkeypatch, capsys):
    names: dict = {}
    for kind, code in blocks:
        if kind == "python":
            exec(compile(code, PAGE.name, "exec"), names)
        elif kind == "bash":
            for line in code.splitlines():
                monkeypatch.setattr(sys, "stdin", io.StringIO("Positive or negative? Dull.\n/quit\n"))
                program = next(one for one in PROGRAMS if line.startswith(f"{one} "))
                flags = shlex.split(line.removeprefix(program))
                # An untrained model of 64 numbers a token may learn nothing (3): the run and what it wrote are whole.
                done = (0, 3) if flags[0] == "finetune" else (0,)
                assert PROGRAMS[program](flags) in done, (line, capsys.readouterr().err)
        else:
            Path("shown.jsonl").write_text(code)
            assert [one[-1]["content"] for one in load_examples("shown.jsonl")] == ["positive", "negative", "negative"]
    assert len(load_examples("test.csv")) == 64 and len(load_examples("mine.csv")) == 256
    assert [row["text"] for row in csv.DictReader(io.StringIO(Path("answers.csv").read_text()))] == [
        "a joy again",
        "dull again",
    ]
    runs = [json.loads(Path("runs", name, "run.json").read_text()) for name in ("chat", "auto", "short")]
    assert [one["config"]["model"] for one in runs] == ["tiny"] * 3
    assert names["adapted"].active_adapter == "short" and names["adapted"].strength == 0.5

    # In Python as by the command. The search for a rate has left the model as it was.
    assert names["history"].best == pytest.approx(runs[0]["result"]["validation"], rel=1e-6)
    assert names["rate"] == runs[1]["config"]["lr"]
