"""pytest tests/commands/test_forgetting.py: finetune says what it learned and forgot, replays, and can be tried dry."""

import json
import os
import re
import shlex
import shutil
import signal

import pytest

from minilora.cli import main
from minilora.commands import training
from minilora.data import jargon
from minilora.train import defaults, forgetting
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

COLOURS = ("red", "green", "blue")
ROWS = [{"prompt": f"What colour has number {i}?", "response": COLOURS[i % 3]} for i in range(40)]
FREE = [{"prompt": f"Say {i}.", "response": f"It is {i}, so."} for i in range(40)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with an untrained chat model and conversations, with labels and without."""
    folder = tmp_path_factory.mktemp("forgetting")
    texts = [*(f"{row['prompt']} {row['response']}" for row in ROWS), *(q.text for q in jargon.load_quiz().questions)]
    tiny_chat.save(folder / "model", texts, 400)
    tiny_chat.save(folder / "plain", texts, 400, template=None)
    for name, rows in (("labels", ROWS), ("free", FREE), ("own", FREE[:6])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "text.txt").write_text("\n\n".join(f"Line {i} of a text about boats." for i in range(200)))
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Shorten the quiz to five questions, of which the base answers four right and the adapted model three."""
    quiz = jargon.load_quiz()
    monkeypatch.setattr(forgetting, "load_quiz", lambda: quiz._replace(questions=quiz.questions[:5]))
    correct = {"quiz before": 4, "quiz after": 3}

    def scripted(model, tokenizer, texts, tokens, bar):
        right = [f"It is {q.answers[0]}." for q in quiz.questions]
        if bar not in correct:
            return ["It is so."] * len(texts)
        return right[: correct[bar]] + ["No."] * (len(texts) - correct[bar])

    monkeypatch.setattr(forgetting, "ask", scripted)


def finetune(capsys, place, *arguments, status=(0, 3)) -> tuple[str, str]:
    capsys.readouterr()
    sizes = ["--rank", 2, "--batch-size", 4, "--steps", 4, "--save-every", 2]
    code = main(["finetune", *map(str, (*sizes, "--model", place / "model", *arguments))])
    assert code in status, capsys.readouterr().err
    return capsys.readouterr()


def test_few_rows_are_evaluated_on_the_test_part_which_is_said(place, tmp_path, capsys):
    few = "".join((place / "labels.jsonl").read_text().splitlines(keepends=True)[:40])
    (tmp_path / "few.jsonl").write_text(few)
    out = finetune(capsys, place, "--data", tmp_path / "few.jsonl", "--out", tmp_path / "run", "--quiz", "off").out
    assert "test sequences\n(too few rows for validation: all others train, and the last step is kept)" in out
    assert "\nafter 4 steps, test " in out and out.count("validation") == 1
    main(["show", str(tmp_path / "run")])
    assert " at the start, " in (shown := capsys.readouterr().out) and "validation" not in shown


def test_few_rows_beside_a_test_file_all_train(place, tmp_path, capsys):
    flags = ["--data", place / "own.jsonl", "--test", place / "labels.jsonl", "--quiz", "off", "--steps", 1]
    out = finetune(capsys, place, *flags, "--batch-size", 1, "--out", tmp_path / "run").out
    assert "\n1 step of 1 sequence of up to " in out and "\nevaluation every 1 step on " in out
    assert (
        " sequences of --test\n(too few rows for validation: all of --data trains, and the last step is kept)\n" in out
    )


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["measure", "fit"])
def test_a_signal_before_the_first_step_says_how_to_go_on(place, tmp_path, capsys, monkeypatch, signum, moment):
    owner = training if moment == "measure" else defaults
    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, lambda *a, **k: os.kill(os.getpid(), signum))
        flags = ["--data", place / "own.jsonl", "--test", place / "labels.jsonl", "--quiz", "off"]
        err = finetune(capsys, place, *flags, "--out", tmp_path / "my run", status=(128 + signum,)).err
    word = "interrupted" if signum == signal.SIGINT else "terminated"
    command = f"minilora finetune --resume --out '{tmp_path / 'my run'}'"
    assert err.endswith(f"minilora: {word}; {command} continues the run\n")
    assert main(shlex.split(command)[1:]) in (0, 3)


def test_what_was_learned_and_forgotten_is_said_and_recorded(place, tmp_path, capsys):
    out = finetune(capsys, place, "--data", place / "labels.jsonl", "--out", tmp_path / "run", "--quiz", "on").out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    before, after = (100 * record["result"][name] for name in ("test_accuracy_before", "test_accuracy"))
    assert f"learned: test accuracy {before:.1f} → {after:.1f} % (" in out
    line = "forgot: 1 of the 4 quiz answers that it knew: 4 → 3 of 5, which may be chance (p = 1)"
    assert line in out and f"\n{line.capitalize()}.\n" in (tmp_path / "run" / "adapter" / "README.md").read_text()
    training = json.loads((tmp_path / "run" / "adapter" / "training.json").read_text())
    expected = {"asked": 5, "before": 4, "after": 3, "lost": 1, "gained": 0}
    assert training.items() >= {f"quiz_{name}": value for name, value in expected.items()}.items()
    assert record["before"]["quiz"] == [True] * 4 + [False]


def test_a_run_as_short_as_this_is_not_asked_and_bits_are_compared(place, tmp_path, capsys):
    out = finetune(capsys, place, "--data", place / "free.jsonl", "--out", tmp_path / "run").out
    result = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    assert f"learned: test {result['test_before']:.3f} → {result['test']:.3f} bits/response character" in out
    assert "forgot" not in out and "right of" not in out and not [name for name in result if name.startswith("quiz")]


def test_a_test_file_stands_beside_what_was_trained(place, tmp_path, capsys):
    for name in ("free", "labels"):
        test = place / ("own.jsonl" if name == "free" else "labels.jsonl")
        arguments = ["--data", place / f"{name}.jsonl", "--test", test, "--out", tmp_path / name, "--json"]
        result = json.loads(finetune(capsys, place, *arguments).out)
        assert 0 <= result["trained_right"] <= 1 and 0 <= result["test_right"] <= 1
        output = finetune(capsys, place, *arguments[:-1], "--overwrite").out
        assert f"right answers: a sample of the trained rows {100 * result['trained_right']:.1f} % (" in output
        assert f" of {20 if name == 'free' else 8}, --test {100 * result['test_right']:.1f} % (" in output


@pytest.mark.parametrize("model, data", [("model", "labels.jsonl"), ("model", "text.txt"), ("plain", "text.txt")])
def test_a_resumed_run_with_replay_ends_with_the_same_bits_and_does_not_ask_again(
    place, tmp_path, capsys, monkeypatch, model, data
):
    quiz = "on" if model == "model" else "auto"
    arguments = ["--model", place / model, "--data", place / data, "--replay", 0.3, "--quiz", quiz, "--seq-len", 64]
    out = finetune(capsys, place, *arguments, "--out", tmp_path / "whole").out
    assert "replay: 30 % of the rows are 5 " in out
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    (tmp_path / "broken" / "checkpoints" / "step-00000004.safetensors").unlink()
    titles, ask = [], forgetting.ask
    monkeypatch.setattr(forgetting, "ask", lambda *a: titles.append(a[-1]) or ask(*a))
    again = finetune(capsys, place, *arguments, "--out", tmp_path / "broken", "--resume").out
    assert titles == (["its own answers", "quiz after"] if model == "model" else [])
    file = "adapter/adapter_model.safetensors"
    assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    tail = [line for line in out.splitlines() if line.startswith(("learned", "forgot"))]
    assert tail == [line for line in again.splitlines() if line.startswith(("learned", "forgot"))]
    plain = finetune(capsys, place, *arguments[:4], "--seq-len", 64, "--out", tmp_path / "plain").out
    assert "replay:" not in plain
    assert (tmp_path / "plain" / file).read_bytes() != (tmp_path / "whole" / file).read_bytes()


def test_a_dry_run_shows_the_first_batch_and_writes_nothing(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--out", "run", "--replay", 0.3], ["--lr", "auto", "--validation", place / "labels.jsonl"]):
        out = finetune(capsys, place, "--data", place / "labels.jsonl", "--dry-run", *more, status=(0,)).out
        shown = [line for line in out.splitlines() if " → " in line]
        assert len(shown) == 4 and sum("→ It is so." in line for line in shown) == ("--replay" in more)
        for line in shown:
            prompt, _, answer = line.partition(" → ")
            if answer.split()[0] != "It":  # replay
                assert answer.split()[0] in COLOURS and "What colour has number" in prompt
        assert "0 longer than --seq-len" in out and " for a step" in out and "nothing was trained" in out
        assert list(tmp_path.iterdir()) == []
    short = finetune(
        capsys, place, "--data", place / "labels.jsonl", "--dry-run", "--json", "--seq-len", 16, status=(0,)
    )
    facts = json.loads(short.out)
    assert facts["too_long"] == 36 and facts["longest_tokens"] > 16 and len(facts["batch"]) == 4
    plain = ["--data", place / "text.txt", "--model", place / "plain", "--dry-run", "--steps", 20_000]
    assert re.search(r"\(\d,\d{3} epochs\)", finetune(capsys, place, *plain, status=(0,)).out)  # and not 1.2e+03


def test_bad_input_is_one_line_and_writes_nothing(place, tmp_path, capsys):
    data = ["--data", place / "labels.jsonl", "--out", tmp_path / "out"]
    text = ["--data", place / "text.txt", "--out", tmp_path / "out", "--model", place / "plain"]
    few = "--lr auto needs 24 validation rows, more than a tenth of the 40 rows of --data gives"
    for arguments, words in (
        ([*data, "--replay", 1], "--replay must be above 0 and below 1, not 1"),
        ([*data, "--replay", 0], "--replay must be above 0 and below 1, not 0"),
        ([*data, "--quiz", "never"], "--quiz must be one of auto, on, off, not never"),
        ([*data, "--lr", "auto"], few),
        ([*data, "--lr", "auto", "--dry-run"], few),
        ([*data, "--lr", "auto", "--test", place / "own.jsonl"], few),
        ([*text, "--quiz", "on"], "the model has no chat format"),
        (data[:2], "--out is missing; for example: minilora finetune --data"),
    ):
        err = finetune(capsys, place, *arguments, status=(2,)).err
        assert words in err and err.count("\n") == 1 and not (tmp_path / "out").exists()
