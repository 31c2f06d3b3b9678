"""pytest tests/demo/test_teach.py: teaching a small untrained chat model, from the glossary to the table."""

import json
import shlex
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from minilora import threads
from minilora.cli import main
from minilora.data import jargon as content
from minilora.data.chat import Conversation
from minilora.demo import teach, teach_report
from minilora.show import grids
from minilora.train import metrics
from minilora.train.loop import TrainConfig
from minilora.train.save import training_of
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

# As little as shows that it works: the glossary's questions take most of the time.
PLAN = teach.TeachSettings(
    TrainConfig(steps=3, peak_lr=1e-2, warmup=1, weight_decay=0.0),
    batch_size=4,
    answer_tokens=3,
    quiz_tokens=2,
    test_characters=500,
    seq_len=64,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with a chat model."""
    folder = tmp_path_factory.mktemp("jargon")
    glossary = content.load_glossary()
    texts = [f"{q.text} {q.answer}" for q in (*glossary.train, *glossary.uses)]
    tiny_chat.save(folder / "model", texts, 1200, max_position_embeddings=512, initializer_range=0.3)
    return folder


def shorter(monkeypatch) -> None:
    quiz = content.load_quiz()
    monkeypatch.setattr(teach, "QUICK", PLAN)
    monkeypatch.setattr(content, "load_quiz", lambda: content.Quiz(quiz.questions[:6], quiz.general[:5]))


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    shorter(monkeypatch)


@pytest.fixture(scope="module")
def ran(place):
    """Return the results of a run, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        shorter(patch)
        return teach.run(place / "out", str(place / "model"), quick=True, seed=3), place / "out"


@pytest.fixture
def lesson(place):
    with threads.using(2):
        yield teach._Lesson(PLAN, str(place / "model"), 0)


# Whole runs


def test_the_results_have_a_row_for_each_way_to_ask(ran):
    results, out = ran
    assert json.loads((out / "results.json").read_text("utf-8")) == results
    assert max(map(len, grids.render(grids.drawn(teach_report.scores_grid([results]))).splitlines())) <= 80
    size, training = (out / "adapter" / "adapter_model.safetensors").stat().st_size, training_of(out / "adapter")
    assert results["peak_rss"] > 50e6 and results["training"]["adapter_bytes"] == size
    assert training["model"] == results["model"] and training["method"] == "qlora" and training["data_sha256"]
    assert list(results["rows"]) == ["before", "few-shot", "open book", "after"] and len(results["samples"]) == 13
    before, after = results["rows"]["before"], results["rows"]["after"]
    assert before["other_text"] != after["other_text"] and len(results["training"]["losses"]) == 3
    assert {name: score["count"] for name, score in before["scores"].items()} == {"phrasings": 10, "uses": 3}
    for name, row in results["rows"].items():
        for test, score in row["scores"].items():
            pairs = [(s[name], s["expected"]) for s in results["samples"] if s["test"] == test]
            assert score["f1"] == pytest.approx(np.mean([metrics.token_f1(*pair) for pair in pairs]))
            assert score["exact"] == pytest.approx(np.mean([metrics.exact_match(*pair) for pair in pairs]))
    prompted = [row["prompt_tokens"] for row in results["rows"].values()]
    assert prompted[0] == prompted[-1] < min(prompted[1:-1])


def test_the_same_seed_gives_the_same_results(ran, place, tmp_path):
    results, out = ran
    again, other = (teach.run(tmp_path / str(seed), str(place / "model"), quick=True, seed=seed) for seed in (3, 4))
    for name in ("samples", "replay", "shots"):
        assert again[name] == results[name]
    assert again["training"]["losses"] == results["training"]["losses"] != other["training"]["losses"]
    file = "adapter/adapter_model.safetensors"
    assert (tmp_path / "3" / file).read_bytes() == (out / file).read_bytes() != (tmp_path / "4" / file).read_bytes()


def test_the_adapter_can_be_asked_by_the_command_that_is_shown(ran, capsys):
    results, out = ran
    sample = results["samples"][0]
    output = StringIO()
    samples = [sample | {"after": "red\x1b[31m", "expected": "a\x07?"}, *results["samples"][1:]]
    page = teach_report.tell(results | {"samples": samples}, Console(file=output, width=10_000))
    assert not {"\x1b", "\x07"} & set(page) and (out / "report.html").read_text("utf-8").startswith("<!doctype html>")
    order = [
        page.index(part)
        for part in ("expected", "Of 10 answers", "<dt>", "<table class=bars>", "<table>", "Ask it yourself")
    ]
    assert order == sorted(order) and page.count("<dt>") == 3
    assert "red" in output.getvalue() and not {"\x1b", "\x07"} & set(output.getvalue())
    words = shlex.split(output.getvalue().partition("Ask it yourself: ")[2])
    assert words[:2] == ["minilora", "generate"] and words[-1] == " ".join(sample["question"].split())
    capsys.readouterr()
    assert main([*words[1:], "--temperature", "0", "--max-new-tokens", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["continuation"] is not None
    shown = shlex.split(results["command"])
    assert shown[:2] == ["minilora", "demo"] and shown[-3:] == ["--seed", "3", "--quick"]


# What is taught and tested


def answers_in(messages: Conversation) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "assistant"]


@pytest.mark.parametrize("quick", [False, True])
def test_tests_are_not_in_training_few_shot_prompts_tell_no_answer_and_open_books_do(lesson, quick):
    training, tests, open_book = teach.glossary(PLAN.shots, quick)
    trained = {messages[-2]["content"] for messages in training}
    terms = {q.text: q.term for q in (*content.load_glossary().phrasings, *content.load_glossary().uses)}
    meanings = {term.term: term.meaning for term in content.load_terms()}
    few, places = lesson.few_shot(training, tests), set()
    for name, questions in tests.items():
        for messages, prompt, opened in zip(questions, few[name], open_book[name], strict=True):
            (text, expected), book = (m["content"] for m in messages), opened[0]["content"]
            assert text not in trained
            assert prompt[-2:] == messages[-2:] and len(answers_in(prompt)) == PLAN.shots + 1
            assert not any(
                metrics.normalise(expected) in metrics.normalise(answer) for answer in answers_in(prompt)[:-1]
            )
            assert opened[1:] == messages[-1:] and book.endswith(text)
            lines = book.split("\n")[: PLAN.shots]
            assert len(set(lines)) == PLAN.shots
            places.add(lines.index(f"{terms[text]}: {meanings[terms[text]]}"))
    assert places == set(range(PLAN.shots))  # the line asked for stands anywhere
    assert quick or len({terms[messages[-2]["content"]] for messages in tests["phrasings"]}) == 80
    assert teach.glossary(PLAN.shots, quick, seed=1)[2] != open_book


def test_short_conversations_are_joined(lesson):
    """No conversation is lost or split."""
    short = [metrics.answered(teach.question(f"q{i}"), f"a{i}") for i in range(9)]
    alone = len(lesson.chat_format.encode(lesson.tokenizer, short[0])[0])
    lesson.settings = replace(lesson.settings, together=4 * alone)
    joined = lesson.joined(short)
    assert len(joined) < 6
    assert sorted(m["content"] for c in joined for m in c) == sorted(m["content"] for c in short for m in c)
    for messages in joined:
        for question, answer in zip(messages[::2], messages[1::2], strict=True):
            assert question["content"][1:] == answer["content"][1:]
        assert len(lesson.chat_format.encode(lesson.tokenizer, messages)[0]) <= 4 * alone
    assert joined != short and joined == lesson.joined(short)


# What is refused


def test_bad_input_is_one_line_and_writes_nothing(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    tiny_chat.save(tmp_path / "base model", ["a text"] * 9, template=None)
    tiny_chat.save(tmp_path / "unknown", ["a text"] * 9, template="{{ messages }}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "results.json").write_text("x")
    model, out = ["--model", place / "model"], ["--out", tmp_path / "out"]
    cases = {
        ("--model", tmp_path / "base model", *out): "it is a base model; choose a chat model",
        ("--model", tmp_path / "unknown", *out): "template is not one that minilora knows",
        ("--model", "smollm2", *out): "minilora models get smollm2",
        ("--model", "", *out): "--model must not be empty",
        (*model, "--out", tmp_path / "full"): "results.json was not written by the demo",
    }
    before = sorted(tmp_path.rglob("*"))
    for arguments, words in cases.items():
        capsys.readouterr()
        assert main(["demo", "--quick", *map(str, arguments)]) == 2, arguments
        output, err = capsys.readouterr()
        assert words in err and err.startswith("minilora: ") and err.count("\n") == 1 and output == "", (arguments, err)
        assert sorted(tmp_path.rglob("*")) == before, arguments
