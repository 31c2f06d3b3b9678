"""pytest tests/train/test_adapters.py: what an adapter's folder says of its base and of its training."""

import json

import pytest

from minilora import __version__
from minilora.cli import main
from minilora.data.tokenizer import folder_tokenizer
from minilora.train.methods import METHODS
from minilora.train.model_card import model_card
from minilora.train.recipes import training_of

pytestmark = pytest.mark.host

TRAINING = {
    "model": "smollm2",
    "method": "lora",
    "data": "reviews|of *films*.jsonl",
    "data_sha256": "ab" * 32,
    "unit": "bits/response character",
    "steps": 1200,
    "batch_size": 8,
    "seq_len": 128,
    "lr": 3e-3,
    "validation": 1.23456,
    "best_step": 1100,
    "test": 1.5,
    "minilora": "9.9",
}


def test_a_folder_says_how_its_adapter_came_to_be(tmp_path, capsys):
    (tmp_path / "words.txt").write_text("\n\n".join(f"the value of {n} is {n} and no other value" for n in range(60)))
    data, out = ["--data", str(tmp_path / "words.txt"), "--seq-len", "16", "--json"], str(tmp_path / "lora")
    sizes = ["--hidden-size", "16", "--num-layers", "1", "--num-heads", "2", "--vocab-size", "280"]
    base = str(tmp_path / "base")
    assert main(["pretrain", *data, *sizes, "--steps", "2", "--out", base]) in (0, 3)
    assert main(["finetune", *data, "--model", base, "--steps", "3", "--rank", "2", "--out", out]) in (0, 3)
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    training = training_of(out)
    assert training == training_of(tmp_path / "lora" / "adapter")
    assert {name: training[name] for name in ("validation", "test", "best_step")}.items() <= facts.items()
    asked = {"model": base, "method": "lora", "data": data[1], "seq_len": 16, "steps": 3, "lr": METHODS["lora"].lr}
    assert training.items() >= asked.items() and training["minilora"] == __version__
    assert training["data_sha256"] == json.loads((tmp_path / "lora" / "run.json").read_text())["text_sha256"]
    folder = tmp_path / "lora" / "adapter"
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    assert folder_tokenizer(folder).config() == folder_tokenizer(tmp_path / "base" / "model").config()
    assert training["data_sha256"] in (folder / "README.md").read_text()


def front_matter(card: str) -> dict:
    return {
        key: json.loads(value)
        for key, value in (line.split(": ", 1) for line in card.split("---")[1].split("\n")[1:-1])
    }


def test_a_card_names_base_method_data_and_figures():
    card = model_card(TRAINING, in_peft=True)
    assert front_matter(card) == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["minilora", "lora"],
    }
    for words in (
        r"| data | reviews\|of \*films\*.jsonl, SHA-256 abab",  # no cell and no emphasis of its own
        "1,200 steps of 8 sequences of at most 128 tokens, learning rate 0.003",
        "1.2346 bits/response character, at step 1,100",
        "minilora generate --model smollm2 --adapter adapter",
        'from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")',
    ):
        assert words in card
    alone = model_card(TRAINING, in_peft=False)
    assert front_matter(alone)["library_name"] == "minilora" and "from peft" not in alone


def test_a_card_of_an_odd_name_stays_whole():
    card = model_card(TRAINING | {"model": 'my "old\nmodel: x'}, in_peft=True)
    assert front_matter(card)["base_model"] == 'my "old\nmodel: x'
    lines = [line for line in card.split("\n") if "model: x" in line and "base_model" not in line]
    assert len(lines) == 4 and all("old" in line for line in lines)  # none is torn apart


def test_a_card_is_silent_on_what_was_not_measured():
    few = {name: TRAINING[name] for name in ("model", "method", "data", "data_sha256", "minilora")}
    card = model_card(few, in_peft=True)
    assert "SHA-256 abab" in card and "| test |" not in card and "| training |" not in card
