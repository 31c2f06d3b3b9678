"""pytest tests/demo/test_story.py: the demo's story with everything made tiny."""

import runpy
from dataclasses import replace

import pytest

from minilora.classroom.lessons.lesson import find_lesson
from minilora.cli import main
from minilora.data.tokenizer import Tokenizer
from minilora.demo import story
from minilora.demo.base import Base
from minilora.errors import MiniloraError
from minilora.measure.lab import Lab
from minilora.measure.records import Records
from minilora.train import load
from minilora.train.loop import TrainConfig
from minilora.train.methods import Options

pytestmark = pytest.mark.host

TINY = replace(
    story.QUICK,
    base=Base(
        sizes={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
        },
        config=TrainConfig(steps=4, peak_lr=1e-2, eval_every=2),
        vocab_size=300,
        seq_len=32,
        batch_size=4,
    ),
    adapt=TrainConfig(steps=2, eval_every=1),
    characters=2_000,
    seeds=(0, 1),
    test_characters=1_000,
    validation_characters=1_000,
)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(story, "QUICK", TINY)
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "out"


@pytest.mark.slow
def test_the_story_is_told_measured_and_cached(tiny, capsys, monkeypatch):
    assert main(["demo", "--quick", "--out", str(tiny)]) == 0
    output = capsys.readouterr().out
    for part in ("1. Text", "2. Pretrain", "3. Fine-tune", "4. Compare", "base as it is"):
        assert part in output
    assert max(map(len, output.splitlines())) <= 80
    records = Records.read(tiny / story.RECORDS, story.KIND)
    rows = {key[1:]: row for key, row in records.rows.items() if key[0] == "text"}
    assert set(rows) == {("base", 0)} | {(method, seed) for method in ("scratch", "full", "lora") for seed in (0, 1)}
    total = rows["full", 0]["total"]
    assert rows["full", 0]["trainable"] == rows["scratch", 0]["trainable"] == total == rows["base", 0]["total"]
    assert rows["lora", 0]["trainable"] == rows["lora", 0]["total"] - total > 0
    peaks = {method: records.rows["memory", method]["peak"] for method in ("base", "scratch", "full", "lora")}
    assert all(peak > 4 * total for peak in peaks.values())  # the float32 weights, and more
    assert peaks["full"] > 4 * 4 * total  # weights, gradients and two moments
    assert [key for key, row in records.rows.items() if "continuation" in row] == [
        ("text", method, 0) for method in ("base", "full", "lora")
    ]
    assert not records.rows["pretraining",]["cached"]
    names = {path.name for path in tiny.iterdir()}
    assert names == {"report.html", story.RECORDS}

    attack = "<script>alert(1)</script> \x1b[31m"
    monkeypatch.setattr(Tokenizer, "decode", lambda *_: attack)
    assert main(["demo", "--quick", "--out", str(tiny)]) == 0
    output, page = capsys.readouterr().out, (tiny / "report.html").read_text("utf-8")
    assert "(from the cache)" in output and "\x1b[31m" not in output + page
    assert output.count("<script>") == page.count("&lt;script&gt;") == 3 and "<script" not in page
    assert "http" not in page
    order = [
        page.index(part)
        for part in ("<dt>", "<table class=bars>", "<table>", "bits/character on held-out text", "1. Text")
    ]
    assert order == sorted(order) and page.count("<dt>") == 3
    for text in (" ".join(output.split()), page):
        assert story.BEHIND in text and story.NEXT in text
    assert "3. Fine-tune" not in page, "a heading with nothing below it"
    again = Records.read(tiny / story.RECORDS, story.KIND).rows
    same = ("domain", "base_text", "curve")  # training left the cached base as it was
    for key, row in records.rows.items():
        assert [again[key].get(name) for name in same] == [row.get(name) for name in same]


@pytest.mark.slow
def test_a_readers_own_lora_trains_in_the_lab(tiny):
    """A reader's own LoRA is passed to the lab as lesson 08's page shows it."""
    solution = runpy.run_path(str(find_lesson("08").folder / "solution.py"))

    def mine(model, options, seed):
        solution["inject"](model, ["q_proj", "v_proj"], options.rank, 2.0 * options.rank, seed)

    lab = Lab(TINY.base.cached()[0], 32, 4, 1_000, 1_000, own={"lora": mine})
    assert load.count_parameters(lab.fresh("lora", 0, Options(rank=2)))[0] == 2 * 2 * (16 + 16)  # on q and v
    _, history = lab.adapt("lora", lab.domain_text(2_000, 0), TrainConfig(steps=2, peak_lr=1e-2, eval_every=2))
    assert history.evaluations[-1]["value"] != history.evaluations[0]["value"]


def test_a_file_of_something_else_is_not_written_over(tmp_path, capsys):
    (tmp_path / "report.html").write_text("mine")
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == f"minilora: {tmp_path / 'report.html'} was not written by the demo: choose another --out\n"
    )
    (tmp_path / "results.json").write_text("mine")
    with pytest.raises(MiniloraError, match="results.json was not written by the demo"):
        story.prepare_folder(tmp_path, "results.json", "adapter")
    (tmp_path / "adapter").mkdir()
    story.prepare_folder(tmp_path, "results.json", "adapter")
    assert {path.read_text() for path in tmp_path.glob("*.*")} == {"mine"}
