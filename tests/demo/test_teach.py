"""pytest tests/demo/test_teach.py: teaching a small untrained chat model, from the files to the page."""

import json
from dataclasses import replace
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest

from minilora import threads
from minilora.cli import main
from minilora.data import jargon as content
from minilora.data.chat import Conversation
from minilora.demo import teach, teach_report
from minilora.errors import MiniloraError
from minilora.quant import Linear4bit, quantized_linears
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
    longest_answer=6,
    quiz_tokens=2,
    test_characters=500,
    seq_len=64,
)
THINGS = [f"{a} {b}" for a in ("red", "blue", "tall", "odd") for b in ("fish", "boat", "rope", "wave", "crew", "mast")]
ROWS = [{"prompt": f"What is <b>a {thing}</b>, isn't it?", "response": f"One {thing} & more."} for thing in THINGS]
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a chat model and questions."""
    folder = tmp_path_factory.mktemp("jargon")
    glossary = content.load_glossary()
    texts = [f"{q.text} {q.answer}" for q in (*glossary.train, *glossary.uses)]
    tiny_chat.save(folder / "model", texts, 1200, max_position_embeddings=512, initializer_range=0.3)
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
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
    """The results of a run on each subject, and its folder; the folders stand beside each other."""
    with pytest.MonkeyPatch.context() as patch:
        shorter(patch)
        found = {}
        for name, given in SUBJECTS.items():
            given = {flag: str(place / file) for flag, file in given.items()}
            out = place / f"out of {name}"
            found[name] = teach.run(out, str(place / "model"), quick=True, seed=3, **given), out
    return found


SUBJECTS = {"glossary": {}, "questions": {"jsonl": "own.jsonl"}}
each_subject = pytest.mark.parametrize("subject", SUBJECTS)


@pytest.fixture
def lesson(place):
    from rich.console import Console

    with threads.using(2):
        yield teach._Lesson(PLAN, str(place / "model"), 0, Console(quiet=True))


# Whole runs


@each_subject
def test_results_page_and_table_say_the_same(ran, subject):
    results, out = ran[subject]
    assert json.loads((out / "results.json").read_text("utf-8")) == results
    page = (out / "report.html").read_text("utf-8")
    grid = teach_report.scores_grid(results)
    for row in grid.rows:
        assert "".join(f"<td>{cell}</td>" for cell in row) in page
    for claim in teach_report.claims(results):
        assert claim in unescape(page).replace("\u00a0", " ")
    assert results["command"] in unescape(page) and teach_report.next_command(results) in unescape(page)
    assert "<script" not in page and "<b>" not in page
    assert max(map(len, grids.render(grids.drawn(grid)).splitlines())) <= 80
    size = (out / "adapter" / "adapter_model.safetensors").stat().st_size
    assert results["peak_rss"] > 50e6 and results["training"]["adapter_bytes"] == size
    training = training_of(out / "adapter")
    assert training["model"] == results["model"] and training["method"] == "qlora" and training["data_sha256"]


@each_subject
def test_a_row_for_each_way_to_ask(ran, subject):
    results, _ = ran[subject]
    ways = {"glossary": ["before", "few-shot", "open book", "after"], "questions": ["before", "few-shot", "after"]}
    assert list(results["rows"]) == ways[subject]
    before, after = results["rows"]["before"], results["rows"]["after"]
    assert before["other_text"] != after["other_text"] and len(results["training"]["losses"]) == 3
    counts = {name: score["count"] for name, score in before["scores"].items()}
    assert counts == ({"phrasings": 10, "uses": 3} if subject == "glossary" else {"questions": counts["questions"]})
    assert len(results["samples"]) == sum(counts.values()) > 0
    for name, row in results["rows"].items():
        for test, score in row["scores"].items():
            told = [(s[name], s["expected"]) for s in results["samples"] if s["test"] == test]
            assert score["f1"] == pytest.approx(np.mean([metrics.token_f1(*pair) for pair in told]))
            assert score["exact"] == pytest.approx(np.mean([metrics.exact_match(*pair) for pair in told]))
    prompted = [row["prompt_tokens"] for row in results["rows"].values()]
    assert prompted[0] == prompted[-1] < min(prompted[1:-1])


def test_the_same_seed_gives_the_same_results(ran, place, tmp_path):
    results, out = ran["questions"]
    again = teach.run(tmp_path / "again", str(place / "model"), quick=True, seed=3, jsonl=str(place / "own.jsonl"))
    other = teach.run(tmp_path / "other", str(place / "model"), quick=True, seed=4, jsonl=str(place / "own.jsonl"))
    for name in ("samples", "replay", "shots"):
        assert again[name] == results[name]
    assert again["training"]["losses"] == results["training"]["losses"] != other["training"]["losses"]
    file = "adapter/adapter_model.safetensors"
    assert (tmp_path / "again" / file).read_bytes() == (out / file).read_bytes()
    assert (tmp_path / "other" / file).read_bytes() != (out / file).read_bytes()


@each_subject
def test_the_adapter_can_be_asked_by_the_command_that_is_shown(ran, subject, capsys):
    import shlex

    results, out = ran[subject]
    words = shlex.split(teach_report.next_command(results))
    assert words[0] == "minilora" and "--chat" in words
    assert words[-1] == " ".join(results["samples"][0]["question"].split())
    capsys.readouterr()
    assert main([*words[1:], "--temperature", "0", "--max-new-tokens", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["continuation"] is not None
    shown = shlex.split(results["command"])
    assert shown[:2] == ["minilora", "demo"] and shown[-3:] == ["--seed", "3", "--quick"]


def test_json_alone_on_standard_output(place, tmp_path, capsys):
    code = main(["demo", "--model", str(place / "model"), "--jsonl", str(place / "own.jsonl"), "--quick", "--json"]
                + ["--out", str(tmp_path / "out")])  # fmt: skip
    out, err = capsys.readouterr()
    assert code == 0 and json.loads(out)["quick"] and "The report: " in err


def test_control_characters_do_not_reach_the_terminal(ran):
    results, _ = ran["questions"]
    sample = results["samples"][0] | {"after": "red\x1b[31m", "question": "a\x07?"}
    changed = results | {"samples": [sample]}
    assert not any("\x1b" in line or "\x07" in line for line in teach_report.sample_lines(changed))
    assert "\x1b" not in teach_report.page(changed)


# What is taught and tested


def test_the_glossary_s_tests_are_not_in_training_and_the_notes_tell():
    for quick in (False, True):
        subject = teach.glossary(PLAN, quick)
        trained = {messages[-2]["content"] for messages in subject.train}
        terms = {q.text: q.term for q in (*content.load_glossary().phrasings, *content.load_glossary().uses)}
        meanings = {term.term: term.meaning for term in content.load_terms()}
        for name, questions in subject.tests.items():
            assert len(subject.notes[name]) == len(questions)
            for messages, lines in zip(questions, subject.notes[name], strict=True):
                asked = messages[-2]["content"]
                assert asked not in trained
                lines = lines.split("\n")
                assert len(set(lines)) == PLAN.shots and f"{terms[asked]}: {meanings[terms[asked]]}" in lines
    full = teach.glossary(PLAN, False)
    assert len({terms[messages[-2]["content"]] for messages in full.tests["phrasings"]}) == 80
    places = {lines.split("\n").index(next(line for line in lines.split("\n") if line.startswith(f"{term}:")))
              for lines, term in zip(full.notes["phrasings"], (terms[m[-2]["content"]] for m in
              full.tests["phrasings"]), strict=True)}  # fmt: skip
    assert places == set(range(PLAN.shots))  # the line asked for stands anywhere
    assert teach.glossary(PLAN, False, seed=1).notes != full.notes


def said(messages: Conversation) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "assistant"]


def test_few_shot_prompts_tell_no_answer_and_open_books_do(lesson):
    lesson.answer_tokens = PLAN.answer_tokens
    subject = teach.glossary(PLAN, False)
    lesson.limit = 10_000
    few, book = lesson.prompts(subject).values()
    for name, questions in subject.tests.items():
        assert len(few[name]) == len(book[name]) == len(questions)
        for messages, prompt, opened in zip(questions, few[name], book[name], strict=True):
            expected, asked = messages[-1]["content"], opened[0]["content"]
            assert prompt[-2:] == messages[-2:] and len(said(prompt)) == PLAN.shots + 1
            assert not any(metrics.normalise(expected) in metrics.normalise(text) for text in said(prompt)[:-1])
            assert opened[1:] == messages[-1:] and asked.endswith(messages[-2]["content"])
            if name == "phrasings":
                assert metrics.normalise(expected) in metrics.normalise(asked)


def test_short_conversations_are_joined(lesson):
    """All are kept, none is split, and one with a system message of its own stays alone."""
    short = [teach.answered(teach.question(f"q{i}"), f"a{i}") for i in range(9)]
    own = teach.answered([SYSTEM, *teach.question("q")], "a")
    alone = len(lesson.chat_format.encode(lesson.tokenizer, short[0])[0])
    lesson.settings = replace(lesson.settings, together=4 * alone)
    joined = lesson.joined([*short, own])
    assert own in joined and len(joined) < 7
    rest = [messages for messages in joined if messages != own]
    assert sorted(m["content"] for c in rest for m in c) == sorted(m["content"] for c in short for m in c)
    for messages in rest:
        for asked, told in zip(messages[::2], messages[1::2], strict=True):
            assert asked["content"][1:] == told["content"][1:]
        assert len(lesson.chat_format.encode(lesson.tokenizer, messages)[0]) <= 4 * alone
    assert lesson.joined(short) != short and lesson.joined(short) == lesson.joined(short)


def test_prompts_with_system_messages_and_of_many_turns(lesson):
    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, "abcd", strict=True)]
    train = [[SYSTEM, *turns], turns[:2], [*turns[:2], {"role": "user", "content": "x"}, {"role": "assistant",
             "content": "the gold"}]]  # fmt: skip
    asked = teach.answered([{**SYSTEM, "content": "Be brief."}, {"role": "user", "content": "?"}], "Gold")
    subject = teach.Subject("s", train, {"t": [asked]}, {})
    lesson.answer_tokens = 1
    (prompt,) = lesson.prompts(subject)["few-shot"]["t"]
    assert [m["role"] for m in prompt].count("system") == 1 and prompt[0]["content"] == "Be brief."
    assert sorted(said(prompt)[:-1]) == ["b", "b", "d"]  # the third conversation ends in the answer
    lesson.prompt_ids(prompt)  # an order that can be encoded
    lesson.limit = len(lesson.prompt_ids(asked)) + 1
    assert lesson.prompts(subject)["few-shot"]["t"] == [asked]  # no shot fits
    lesson.check_length(subject.tests["t"])
    lesson.limit -= 1
    with pytest.raises(MiniloraError, match=r"pass the model's \d+ positions: shorten '\?'"):
        lesson.check_length(subject.tests["t"])


def test_own_questions_are_split_and_not_too_many_are_tested(tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"what is {i}?", "response": f"it is {i}"}) for i in range(300)))
    subject = teach.own_questions(str(path), PLAN)
    trained = {messages[0]["content"] for messages in subject.train}
    tests = subject.tests["questions"]
    assert not trained & {messages[-2]["content"] for messages in tests}
    assert len(tests) + len(trained) == 300
    fewer = teach.own_questions(str(path), replace(PLAN, most_tests=5)).tests["questions"]
    assert 3 <= len(fewer) <= 5 and all(test in tests for test in fewer)


def test_replay_holds_first_sentences_that_come_to_an_end(lesson, monkeypatch):
    own = {"a": "It is so. And then", "b": "It goes on and", "c": "", "d": "Listed\n\n1. One.", "e": "Yes! No."}
    monkeypatch.setattr(
        teach, "answers", lambda model, tokenizer, asked, *_, **__: [own[m[-1]["content"]] for m in asked]
    )
    replay = lesson.own_answers([teach.question(text) for text in own])
    assert replay == [teach.answered(teach.question("a"), "It is so."), teach.answered(teach.question("e"), "Yes!")]


def test_a_small_subject_does_not_drown_in_replay(lesson, monkeypatch, tmp_path):
    seen = {}
    general = [teach.answered(teach.question(f"g{i}"), "Yes.") for i in range(30)]
    monkeypatch.setattr(lesson, "own_answers", lambda asked: general)
    monkeypatch.setattr(lesson, "train", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    whole = lesson.batches
    monkeypatch.setattr(lesson, "batches", lambda c, name: seen.update(rows=c) or whole(c, name))
    few = [teach.answered(teach.question(text), "It is.") for text in "ab"]
    with pytest.raises(KeyboardInterrupt):
        lesson.teach(teach.Subject("s", few, {"t": [teach.answered(teach.question("x"), "y")]}, {}), tmp_path)
    told = [text for row in seen["rows"] for text in said(row)]
    assert told.count("Yes.") == 30 * PLAN.replays and told.count("It is.") == 2 * 30 * PLAN.replays


def test_the_quiz_is_counted_right(lesson, monkeypatch):
    right = {q.text: f"It is {q.answers[-1]}." for q in lesson.quiz.questions[::2]}
    monkeypatch.setattr(
        teach, "answers", lambda m, t, asked, *_, **__: [right.get(a[-1]["content"], "Perhaps.") for a in asked]
    )
    assert lesson.other(lesson.model, "x")["quiz"] == len(right) == 3


def test_what_was_in_4_bits_is_so_in_training_and_float_when_asked(place, lesson, monkeypatch, tmp_path):
    kinds = []

    def noting(work):
        return lambda model, *a, **k: kinds.append(len(quantized_linears(model))) or work(model, *a, **k)

    for name in ("answers", "measure_task", "train"):
        monkeypatch.setattr(teach, name, noting(getattr(teach, name)))
    lesson.teach(teach.own_questions(str(place / "own.jsonl"), PLAN), tmp_path)
    assert kinds == [0, 0, 0, 0, 7, 0, 0]  # test, quiz, few-shot, own answers; training; test, quiz
    layer = lesson.model.get_submodule(quantized_linears(lesson.model)[0])
    assert isinstance(layer, Linear4bit)


def test_long_conversations_are_noted_on_the_page(ran):
    results, _ = ran["questions"]
    changed = results | {"training": results["training"] | {"notes": ["3 of 9 left out"]}}
    assert "3 of 9 left out" in teach_report.page(changed) and "3 of 9" not in teach_report.page(results)
    assert "peak memory" not in teach_report.page(results | {"peak_rss": None})


# What is refused


def test_bad_input_is_one_line_and_writes_nothing(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    tiny_chat.save(tmp_path / "base model", ["a text"] * 9, template=None)
    tiny_chat.save(tmp_path / "unknown", ["a text"] * 9, template="{{ messages }}")
    tiny_chat.save(tmp_path / "short", ["a text"] * 9, max_position_embeddings=40)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    (tmp_path / "few.jsonl").write_text(json.dumps(ROWS[0]))
    (tmp_path / "few.txt").write_text("a few words. " * 9)
    (tmp_path / "bad.jsonl").write_text("not JSON")
    long = [{"prompt": f"{i} {'what ' * 700}", "response": "It is."} for i in range(30)]
    (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, long)))
    answers = [{"prompt": f"what is {i}?", "response": "so " * 900} for i in range(30)]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    model, out = ["--model", place / "model"], ["--out", tmp_path / "out"]
    own = ["--jsonl", place / "own.jsonl"]
    cases = {
        ("--model", tmp_path / "base model", *out): "is a base model: it has no chat format",
        ("--model", "base", *out): "is a base model",
        ("--model", tmp_path / "unknown", *out): "template is none of those known",
        ("--model", "smollm2", *out): "minilora models get smollm2",
        ("--model", "", *out): "--model must not be empty",
        ("--model", tmp_path / "none", *out): "is no model",
        ("--model", tmp_path / "short", *out): "pass the model's 40 positions: shorten",
        (*model, "--jsonl", tmp_path / "none.jsonl", *out): "none.jsonl",
        (*model, "--jsonl", "", *out): "--jsonl must not be empty",
        (*model, "--jsonl", tmp_path / "few.jsonl", *out): "1 conversations with 1 different questions",
        (*model, "--jsonl", tmp_path / "bad.jsonl", *out): "line 1",
        (*model, "--jsonl", tmp_path / "long.jsonl", *out): "pass the model's 512 positions",
        (*model, "--jsonl", tmp_path / "answers.jsonl", *out): "no answer of",
        (*model, "--text", tmp_path / "few.txt", *out): "demo --text is gone: `minilora finetune --model smollm2",
        (*model, "--with", "mine.py", *out): "--with goes without --model",
        (*own, *out): "--jsonl and --test go with --model",
        (*model, "--test", place / "own.jsonl", *out): "--test goes with --jsonl",
        (*model, *own, "--out", tmp_path / "full"): "holds other things and no report",
        (*model, *own, "--out", tmp_path / "few.txt"): "few.txt",
    }
    before = sorted(tmp_path.rglob("*"))
    for arguments, words in cases.items():
        capsys.readouterr()
        assert main(["demo", "--quick", *map(str, arguments)]) == 2, arguments
        said, err = capsys.readouterr()
        assert words in err and err.startswith("minilora: ") and err.count("\n") == 1 and said == "", (arguments, err)
        assert sorted(tmp_path.rglob("*")) == before, arguments


def test_an_interrupted_run_can_be_started_again(place, tmp_path, monkeypatch):
    out, run = tmp_path / "out", {"quick": True, "jsonl": str(place / "own.jsonl")}
    with monkeypatch.context() as patch:
        patch.setattr(teach.teach_report, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            teach.run(out, str(place / "model"), **run)
    assert [path.name for path in out.iterdir()] == ["adapter"]
    teach.run(out, str(place / "model"), **run)
    teach.run(out, str(place / "model"), **run)  # a finished one is replaced
    assert sorted(path.name for path in out.iterdir()) == ["adapter", "report.html", "results.json"]


def test_the_page_escapes_what_others_wrote(ran):
    results, _ = ran["questions"]
    nasty = "<script>alert('&')</script>"
    sample = {"test": "questions", **dict.fromkeys(("question", "expected", "before", "few-shot", "after"), nasty)}
    page = teach_report.page(results | {"samples": [sample], "subject": nasty, "model": nasty, "command": nasty})
    assert "<script" not in page and page.count("&lt;script&gt;") >= 8
    assert SimpleNamespace(**teach_report.html.__dict__).text("a\x00b") == "a\ufffdb"
