"""`--adapter`, once and several times, and `--strength`: pytest tests/commands/test_adapters.py."""

import json

import numpy as np
import pytest

from minilora.cli import main
from minilora.models.llama import LlamaForCausalLM
from minilora.peft import IA3Config, LoraConfig, get_peft_model
from tests.helpers import tiny_chat
from tests.helpers.peft_invariants import logits, train

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model and adapters of it: LoRA a and b, ia3, and `other`, of another base."""
    place = tmp_path_factory.mktemp("adapters")
    tiny_chat.save(place / "model", ["What is it? It is so."])
    for seed, (name, config) in enumerate({"a": LoraConfig(r=2), "b": LoraConfig(r=3), "ia3": IA3Config()}.items()):
        model = LlamaForCausalLM.from_pretrained(place / "model")
        train(get_peft_model(model, config, seed)).save_pretrained(place / name)
    other = LlamaForCausalLM(model.config, seed=9)
    get_peft_model(other, LoraConfig()).save_pretrained(place / "other")
    return place


def merged(place, out, *flags) -> np.ndarray:
    assert main(["merge", "--model", str(place / "model"), "--out", str(out), *flags]) == 0
    return logits(LlamaForCausalLM.from_pretrained(out))


def test_merged_at_a_strength_is_the_sum_of_what_each_changes(place, tmp_path):
    merged(place, tmp_path / "a", "--adapter", f"{place}/a")
    merged(place, tmp_path / "b", "--adapter", f"{place}/b")
    merged(place, tmp_path / "sum", "--adapter", f"{place}/a", "--adapter", f"{place}/b", "--strength", "0.5")
    folders = [place / "model", *(tmp_path / name for name in ("a", "b", "sum"))]
    base, a, b, total = (LlamaForCausalLM.from_pretrained(folder).state_dict() for folder in folders)
    for name, weight in base.items():
        expected = weight + 0.5 * (a[name] - weight + b[name] - weight)
        np.testing.assert_allclose(total[name], expected, atol=1e-6)
    assert any(abs(total[name] - base[name]).max() > 1e-3 for name in base)


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--strength", "0.5"], "--strength 0.5 is that of an adapter: give one by --adapter"),
        (["--adapter", "a", "--strength", "nan"], "--strength must be a number, not nan"),
        (["--adapter", "a", "--adapter", "other"], "other: the adapter was trained on another base"),
        (["--adapter", "a", "--adapter", "ia3"], "ia3' is of type IA3"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(flags, words, place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert main(["merge", "--model", "model", "--out", str(tmp_path / "out.gguf"), *flags]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "out.gguf").exists()


def test_evaluate_and_generate_take_them(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(place)
    (tmp_path / "words.txt").write_text("\n\n".join(f"It is so, and {n} is it." for n in range(60)))
    data = ["evaluate", "--model", "model", "--data", str(tmp_path / "words.txt"), "--seq-len", "16", "--json"]
    both, bits = ["--adapter", "a", "--adapter", "b"], []
    for more in ([], [*both, "--strength", "0"], both):
        assert main([*data, *more]) == 0
        bits.append(json.loads(capsys.readouterr().out)["bits_per_character"])
    assert bits[1] == pytest.approx(bits[0], rel=1e-5) and abs(bits[2] - bits[0]) > 1e-3
    assert main(["generate", "--model", "model", *both, "--prompt", "It", "--max-new-tokens", "3"]) == 0
