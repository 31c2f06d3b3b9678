"""pytest tests/train/test_adapters.py: what an adapter's folder says of its base and of its training."""

import json
import re
from dataclasses import replace

import pytest

from minilora import __version__
from minilora.cli import main
from minilora.data.tokenizer import folder_tokenizer
from minilora.formats.safetensors import load_file, save_file
from minilora.peft import LoraConfig, get_peft_model
from minilora.train import load
from minilora.train.catalog import CATALOG
from minilora.train.load import base_of, load_model
from minilora.train.methods import METHODS
from minilora.train.save import model_card, save_model, training_of

pytestmark = pytest.mark.host


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
    settings = {"model": base, "method": "lora", "data": data[1], "seq_len": 16, "steps": 3, "lr": METHODS["lora"].lr}
    assert training.items() >= settings.items() and training["minilora"] == __version__
    assert training["data_sha256"] == json.loads((tmp_path / "lora" / "run.json").read_text())["text_sha256"]
    folder = tmp_path / "lora" / "adapter"
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    assert folder_tokenizer(folder).config() == folder_tokenizer(tmp_path / "base" / "model").config()
    assert training["data_sha256"] in (folder / "README.md").read_text("utf-8")


TRAINING = {"model": "smollm2", "method": "lora", "data": "/home/me/a|b *films*.jsonl", "data_sha256": "abab"}
TRAINING |= {"unit": "bits/response character", "test": 1.5, "minilora": "1"}


def test_a_card_has_what_the_hub_reads_and_what_one_needs():
    front, body = model_card(TRAINING, in_peft=True).split("---\n")[1:]
    assert [json.loads(line.partition(": ")[2]) for line in front.splitlines()] == [
        "HuggingFaceTB/SmolLM2-135M-Instruct", "peft", "text-generation", ["minilora", "lora"]
    ]  # fmt: skip
    assert r"Data: a\|b \*films\*.jsonl, SHA-256 abab." in body and "Test: 1.5000 bits/response character." in body
    assert "minilora generate --model smollm2 --adapter adapter --chat --prompt" in body and "PeftModel" in body
    odd = model_card(TRAINING | {"model": 'my "old\nmodel: x'}, in_peft=False)
    assert odd.startswith('---\nbase_model: "my \\"old\\nmodel: x"\nlibrary_name: "minilora"\n')
    assert "PeftModel" not in odd and len([line for line in odd.splitlines() if "model: x" in line]) == 2


# The base, found


def adapter(folder, base_name, config=None, **edit):
    """Save an adapter of the package's base. edit: changes its configuration, as another program might."""
    adapted = get_peft_model(load_model("base")[0], config or LoraConfig(r=1))
    adapted.save_pretrained(folder, base_name)
    if edit:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    return folder


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    """Register the package's base as "tiny", cached as a file that is never read: only its size counts."""
    entry = replace(CATALOG["smollm2"], files={"tiny.gguf": 9}, hub_name="Org/Tiny")
    monkeypatch.setitem(CATALOG, "tiny", entry)
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "tiny").mkdir(parents=True)
    (tmp_path / "cache" / "tiny" / "tiny.gguf").write_bytes(bytes(9))
    return entry


def test_a_base_is_found_by_its_name(tmp_path, catalog, monkeypatch):
    assert base_of(None) == "base" == base_of(adapter(tmp_path / "named", "base"))
    assert base_of(adapter(tmp_path / "nameless" / "adapter", None).parent) == "base"  # a run folder
    own = str(save_model(*load_model("base"), tmp_path / "own model"))
    folders = {name: adapter(tmp_path / str(i), name) for i, name in enumerate((own, "tiny", "Org/Tiny"))}
    monkeypatch.setattr(load, "load_model", lambda *args: pytest.fail("a model was loaded"))
    assert [base_of(folder) for folder in folders.values()] == [own, "tiny", "tiny"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("runs/gone", "adapter belongs to runs/gone, which is not on this machine: give the base as --model"),
        (
            "Org/Other",
            "belongs to Org/Other, which is not on this machine: .*, or get it: minilora models get Org/Other",
        ),
        ("", "adapter belongs to a base without a name, which is not on this machine"),
        (["base"], "adapter belongs to a base without a name, which is not on this machine"),
        (
            "tiny",
            "belongs to tiny, which is not on this machine: give .* --model, or get it: minilora models get tiny$",
        ),
        (
            "Org/Tiny",
            "belongs to tiny, which is not on this machine: give .* --model, or get it: minilora models get tiny$",
        ),
    ],
)
def test_a_base_that_is_not_here_is_asked_for_in_a_line(tmp_path, monkeypatch, catalog, capsys, name, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "empty"))
    folder = adapter(tmp_path / "adapter", None, base_model_name_or_path=name)
    tensors, _ = load_file(folder / "adapter_model.safetensors")
    save_file(folder / "adapter_model.safetensors", tensors, {"format": "pt"})  # as PEFT's are: without fingerprint
    assert main(["generate", "--adapter", str(folder), "--prompt", "x"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and re.search(message, err.strip())
