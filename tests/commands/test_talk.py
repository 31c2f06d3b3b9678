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
    """Return a function that sets the model's next answers and returns a list for the calls, (prompt, settings)."""
    tokenizer, calls, texts = folder_tokenizer(model), [], []

    def stream(self, ids, max_new_tokens, **settings):
        calls.append((tokenizer._inner.decode(ids[0].tolist(), skip_special_tokens=False), settings))
        text = texts.pop(0)
        yield from (np.array([token]) for token in tokenizer.encode(text)[:max_new_tokens])
        if text == "^C":
            raise KeyboardInterrupt
        if len(tokenizer.encode(text)) < max_new_tokens:
            yield np.array([tokenizer.eos_token_id])

    def says(*answers):
        texts[:] = answers
        return calls

    monkeypatch.setattr(LlamaForCausalLM, "generate_stream", stream)
    return says


@pytest.fixture
def typed(model, capsys, monkeypatch):
    """Return a function that runs a command with the model and with lines on standard input."""

    def run(command, *arguments, lines="", code=0):
        raw = lines if isinstance(lines, bytes) else lines.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
        capsys.readouterr()
        assert main([command, "--model", model, *map(str, arguments)]) == code
        return capsys.readouterr()

    return run


def test_an_answer_is_the_likeliest_unless_asked_otherwise(says, typed):
    calls = says("It is so.", "b", "a")
    ask = ["generate", "--prompt", "What?"]
    assert typed(*ask, "--chat") == ("It is so.\n", "")
    for flags in (["--chat", "--temperature", 0.5], []):
        typed(*ask, *flags)
    assert [settings["temperature"] for _, settings in calls] == [0, 0.5, 0.8]
    assert [settings["prompt_lookup_num_tokens"] for _, settings in calls] == [NUM_TOKENS, None, None]


def test_a_cut_answer_says_so(says, typed):
    ask = ["generate", "--chat", "--prompt", "What?"]
    says("xyz" * 100, "xyz", "xyz")
    assert "note: the answer was cut after 2" in typed(*ask).err  # what 256 positions leave
    out, err = typed(*ask, "--max-new-tokens", 2)
    assert (out, err) == (
        "xy\n",
        "minilora: note: the answer was cut after 2 tokens; raise --max-new-tokens for more\n",
    )
    out, err = typed(*ask, "--max-new-tokens", 2, "--json")
    assert json.loads(out) == {"prompt": "What?", "continuation": "xy", "cut": True} and err == ""


def test_no_control_character_of_an_answer_reaches_the_terminal(says, typed):
    text = "a\x1b[2Jb\rc\x9b1md\x00\x7f\té\ne"
    says(text, text, "!")
    assert typed("chat", lines="x\n").out == "a\\x1b[2Jb\\x0dc\\x9b1md\\x00\\x7f\té\ne\n"
    assert json.loads(typed("generate", "--chat", "--prompt", "x", "--json").out)["continuation"] == text
    assert typed("generate", "--prompt", "-", lines="a\x1b[2J\tb").out == "a\\x1b[2J\tb!\n"


def test_a_chat_remembers_until_it_is_told_to_forget(says, typed):
    calls = says("It is.", "So.", "Is it?")
    lines = "What?\n\n  \nWhy?\n/forget\n/reset\nHow?\n/quit\nAnd?\n"
    out, err = typed("chat", "--system", "Be kind.", lines=lines)
    assert out == "It is.\nSo.\nIs it?\n" and err.count("\n") == 1
    assert "unknown command '/forget'" in err and "/quit, /reset" in err
    system = "<|im_start|>system\nBe kind.<|im_end|>\n"
    turn = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert [prompt for prompt, _ in calls] == [
        system + turn.format("What?"),
        f"{system}{turn.format('What?')}It is.<|im_end|>\n{turn.format('Why?')}",
        system + turn.format("How?"),
    ]
    assert all(settings["temperature"] == 0 for _, settings in calls)


def test_ctrl_c_stops_an_answer_and_at_the_prompt_the_chat(says, typed, monkeypatch):
    calls = says("^C", "So.")
    assert typed("chat", lines="What?\nWhy?\n") == ("^C\nSo.\n", "minilora: note: stopped\n")
    assert "assistant\n^C<|im_end|>" in calls[1][0]

    def interrupt(prompt=""):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    assert typed("chat", code=130) == ("", "minilora: interrupted\n")


def test_what_does_not_fit_is_said_and_the_chat_goes_on(says, typed):
    says(*["It is so." * 4] * 8)
    out, err = typed("chat", "--max-new-tokens", 60, lines="word " * 300 + "\n" + "What is it?\n" * 8)
    assert out.count("It is so.\n") == 6
    assert (
        err.count("tokens, which leaves no room for an answer in the context of 256: reset it, or shorten the question")
        == 3
    )


@pytest.mark.parametrize(
    "arguments, lines, words",
    [
        (["chat", "--model", "base"], "", "base model; choose a chat model, such as --model smollm2 (minilora"),
        (["chat"], b"a\xff\n", "standard input is not UTF-8"),
        (["generate", "--prompt", "-"], b"a\xff\n", "standard input is not UTF-8"),
        (["chat", "--max-new-tokens", "0"], "", "--max-new-tokens must be"),
    ],
)
def test_bad_input_is_one_line(typed, arguments, lines, words):
    out, err = typed(*arguments, lines=lines, code=2)
    assert out == "" and err.count("\n") == 1 and words in err
