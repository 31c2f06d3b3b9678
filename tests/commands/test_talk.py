"""`minilora generate` and `minilora chat`, as they are typed: `pytest tests/commands/test_talk.py`."""

import io
import json
import sys

import numpy as np
import pytest

from minilora.cli import main
from minilora.data.tokenizer import folder_tokenizer
from minilora.models.llama import LlamaForCausalLM
from minilora.models.lookup import NUM_TOKENS
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_chat.save(tmp_path_factory.mktemp("talk") / "model", ["What is it? It is so."]))


@pytest.fixture
def says(model, monkeypatch):
    """A function of texts: what the model says in its next answers. It gives a list of (prompt, settings), as asked."""
    tokenizer, asked, texts = folder_tokenizer(model), [], iter(())

    def stream(self, ids, max_new_tokens, **settings):
        asked.append((tokenizer._inner.decode(ids[0].tolist(), skip_special_tokens=False), settings))
        text = next(texts)

        def tokens():
            for token in tokenizer.encode(text)[:max_new_tokens]:
                yield np.array([token])
            if text == "^C":
                raise KeyboardInterrupt
            if len(tokenizer.encode(text)) < max_new_tokens:
                yield np.array([tokenizer.eos_token_id])

        return tokens()

    def says(*answers):
        nonlocal texts
        texts = iter(answers)
        return asked

    monkeypatch.setattr(LlamaForCausalLM, "generate_stream", stream)
    return says


def typed(capsys, monkeypatch, *arguments, lines="", code=0):
    raw = lines if isinstance(lines, bytes) else lines.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == code
    return capsys.readouterr()


def test_an_answer_is_the_likeliest_unless_asked_otherwise(model, says, capsys, monkeypatch):
    asked = says("It is so.", "b", "a")
    ask = ["generate", "--model", model, "--prompt", "What?"]
    assert typed(capsys, monkeypatch, *ask, "--chat") == ("It is so.\n", "")
    for flags in (["--chat", "--temperature", 0.5], []):
        typed(capsys, monkeypatch, *ask, *flags)
    assert [settings["temperature"] for _, settings in asked] == [0, 0.5, 0.8]
    assert [settings["prompt_lookup_num_tokens"] for _, settings in asked] == [NUM_TOKENS, None, None]


def test_a_cut_answer_says_so(model, says, capsys, monkeypatch):
    ask = ["generate", "--model", model, "--chat", "--prompt", "What?"]
    says("xyz" * 100, "xyz", "It is so.", "It is so.")
    assert "note: the answer was cut after 2" in typed(capsys, monkeypatch, *ask).err  # what 256 positions leave
    out, err = typed(capsys, monkeypatch, *ask, "--max-new-tokens", 2)
    assert (out, err) == ("xy\n", "minilora: note: the answer was cut after 2 tokens; --max-new-tokens gives it more\n")
    out, err = typed(capsys, monkeypatch, *ask, "--max-new-tokens", 2, "--json")
    assert json.loads(out)["cut"] is True and err == ""
    assert json.loads(typed(capsys, monkeypatch, *ask, "--json").out) == {
        "prompt": "What?", "continuation": "It is so.", "cut": False
    }  # fmt: skip


def test_text_comes_as_it_is_made(model, says, capsys, monkeypatch):
    written = []
    says("é€!")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys.stdout, "flush", lambda: written.append(sys.stdout.getvalue()))
    assert main(["generate", "--model", model, "--prompt", "x"]) == 0
    assert list(dict.fromkeys(written)) == ["x", "xé", "xé€", "xé€!", "xé€!\n"]


def test_no_control_character_of_an_answer_reaches_the_terminal(model, says, capsys, monkeypatch):
    text = "a\x1b[2Jb\rc\x9b1md\x00\x7f\té\ne"
    shown = "a\\x1b[2Jb\\x0dc\\x9b1md\\x00\\x7f\té\ne\n"
    says(text, text, text)
    assert typed(capsys, monkeypatch, "generate", "--model", model, "--chat", "--prompt", "x").out == shown
    assert typed(capsys, monkeypatch, "chat", "--model", model, lines="x\n").out == shown
    out = typed(capsys, monkeypatch, "generate", "--model", model, "--chat", "--prompt", "x", "--json").out
    assert json.loads(out)["continuation"] == text
    says("!")
    out = typed(capsys, monkeypatch, "generate", "--model", model, "--prompt", "-", lines="a\x1b[2J\tb").out
    assert out == "a\\x1b[2J\tb!\n"


def test_a_chat_remembers_until_it_is_told_to_forget(model, says, capsys, monkeypatch):
    asked = says("It is.", "So.", "Is it?")
    lines = "What?\n\n  \nWhy?\n/forget\n/reset\nHow?\n/quit\nAnd?\n"
    out, err = typed(capsys, monkeypatch, "chat", "--model", model, "--system", "Be kind.", lines=lines)
    assert out == "It is.\nSo.\nIs it?\n" and err.count("\n") == 1
    assert "unknown command '/forget'" in err and "/quit, /reset" in err
    system = "<|im_start|>system\nBe kind.<|im_end|>\n"
    turn = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert [prompt for prompt, _ in asked] == [
        system + turn.format("What?"),
        f"{system}{turn.format('What?')}It is.<|im_end|>\n{turn.format('Why?')}",
        system + turn.format("How?"),
    ]
    assert all(settings["temperature"] == 0 for _, settings in asked)


def test_ctrl_c_stops_an_answer_and_at_the_prompt_the_chat(model, says, capsys, monkeypatch):
    asked = says("^C", "So.")
    out, err = typed(capsys, monkeypatch, "chat", "--model", model, lines="What?\nWhy?\n")
    assert out == "^C\nSo.\n" and err == "minilora: note: stopped\n"
    assert "assistant\n^C<|im_end|>" in asked[1][0]

    def interrupt(prompt=""):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    assert typed(capsys, monkeypatch, "chat", "--model", model, code=130) == ("", "minilora: interrupted\n")


def test_what_does_not_fit_is_said_and_the_chat_goes_on(model, says, capsys, monkeypatch):
    says(*["It is so. " * 4] * 8)
    lines = "word " * 300 + "\n" + "What is it?\n" * 8
    out, err = typed(capsys, monkeypatch, "chat", "--model", model, "--max-new-tokens", 60, lines=lines)
    assert out.count("It is so.\n") == 6
    assert err.count("tokens, and 256 are kept: reset it, or shorten the question") == 3


@pytest.mark.parametrize(
    "arguments, lines, words",
    [
        (["chat", "--model", "base"], "", "base model; choose a chat model: --model smollm2 is one (minilora"),
        (["chat"], b"a\xff\n", "standard input is not UTF-8"),
        (["generate", "--prompt", "-"], b"a\xff\n", "standard input is not UTF-8"),
        (["chat", "--max-new-tokens", "0"], "", "--max-new-tokens must be"),
    ],
)
def test_bad_input_is_one_line(model, capsys, monkeypatch, arguments, lines, words):
    arguments = arguments if "base" in arguments else [*arguments, "--model", model]
    out, err = typed(capsys, monkeypatch, *arguments, lines=lines, code=2)
    assert out == "" and err.count("\n") == 1 and words in err
