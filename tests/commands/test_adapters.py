"""`--adapter` and `--strength`: pytest tests/commands/test_adapters.py."""

import json

import pytest

from minilora.cli import main
from minilora.models.llama import LlamaForCausalLM
from minilora.peft import LoraConfig, get_peft_model
from tests.helpers import tiny_chat
from tests.helpers.peft_invariants import train

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a model, an adapter of it, and `other`, an adapter of another base."""
    place = tmp_path_factory.mktemp("adapters")
    tiny_chat.save(place / "model", ["What is it? It is so."])
    model = LlamaForCausalLM.from_pretrained(place / "model")
    train(get_peft_model(model, LoraConfig(r=2))).save_pretrained(place / "a")
    other = LlamaForCausalLM(model.config, seed=9)
    get_peft_model(other, LoraConfig()).save_pretrained(place / "other")
    return place


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--strength", "0.5"], "--strength 0.5 needs an adapter: give one with --adapter"),
        (["--adapter", "a", "--strength", "nan"], "--strength must be a number, not nan"),
        (["--adapter", "other"], "other: the adapter was trained on another base"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(flags, words, place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert main(["merge", "--model", "model", "--out", str(tmp_path / "out.gguf"), *flags]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "out.gguf").exists()


def test_evaluate_and_generate_take_both(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(place)
    (tmp_path / "words.txt").write_text("\n\n".join(f"It is so, and {n} is it." for n in range(60)))
    data = ["evaluate", "--model", "model", "--data", str(tmp_path / "words.txt"), "--seq-len", "16", "--json"]
    adapter, bits = ["--adapter", "a"], []
    for more in ([], [*adapter, "--strength", "0"], adapter):
        assert main([*data, *more]) == 0
        bits.append(json.loads(capsys.readouterr().out)["bits_per_character"])
    assert bits[1] == pytest.approx(bits[0], rel=1e-5) and abs(bits[2] - bits[0]) > 1e-3
    assert main(["generate", "--model", "model", *adapter, "--prompt", "It", "--max-new-tokens", "3"]) == 0
