"""pytest tests/commands/test_models.py

`minilora models`, and what it says of a file, none of whose weights it reads."""

import json
from unittest.mock import Mock

import pytest

from minilora import quant
from minilora.cli import main
from minilora.data.tokenizer import train_tokenizer
from minilora.formats import gguf as gguf_format
from minilora.formats import safetensors
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, get_peft_model
from minilora.train import catalog
from minilora.train.catalog import Entry
from minilora.train.save import save_model

pytestmark = pytest.mark.host

TOKENIZER = train_tokenizer(["to be or not to be"] * 3, 270)
SIZES = dict(vocab_size=TOKENIZER.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)  # fmt: skip
TINY = Entry(
    description="a tiny model",
    licence="MIT",
    package="tiny-model",
    version="1.0",
    sha256="0" * 64,
    folder="tiny_model",
    files={"tiny.gguf": 4_000_000},
)


def llama(**other) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **other}), seed=0)


def run(capsys, *arguments) -> str:
    assert main(["models", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *arguments) -> str:
    """Return the one line of an error."""
    assert main(["models", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err[:-1].isprintable() and "Traceback" not in err
    return err


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.CATALOG, "tiny", TINY)
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tiny"


@pytest.fixture(autouse=True)
def no_weight_is_read(monkeypatch):
    refuse = Mock(side_effect=AssertionError("a weight was read"))
    monkeypatch.setattr(safetensors, "_read_array", refuse)
    monkeypatch.setattr(gguf_format, "partial", lambda *_: refuse)


def test_list_says_what_is_here_and_how_to_get_the_rest(capsys, cache):
    out = run(capsys, "list")
    assert all(len(line) <= 80 for line in out.splitlines() if "here" not in line and "CACHE" not in line)
    assert "  tiny     a tiny model; 4.00 MB\n" in out and "not here yet: minilora models get tiny\n" in out
    assert "not here yet: minilora models get reviews\n" in out and "licence: for research use only; copyright" in out
    assert out.endswith(f"downloads go to {cache.parent} (set MINILORA_CACHE to change it)\n")
    facts = json.loads(run(capsys, "list", "--json"))
    here = [one["name"] for kind in ("models", "tasks") for one in facts[kind] if one["paths"]]
    assert here == ["base"] and [one["name"] for one in facts["tasks"]] == ["reviews", "r8"]
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(bytes(4_000_000))
    assert json.loads(run(capsys, "list", "--json"))["models"][-1]["paths"] == [str(cache / "tiny.gguf")]
    assert "models get tiny" not in run(capsys, "list")


def test_get_says_where_it_is_or_refuses_in_one_line(capsys, cache, monkeypatch):
    assert "did you mean 'smollm2'?" in refused(capsys, "get", "smolm2")
    assert "did you mean 'list'?" in refused(capsys, "lst")
    assert "models get needs a name" in refused(capsys, "get") and "list, get, info" in refused(capsys, "x")
    calls = []
    monkeypatch.setattr(catalog, "get", calls.append)
    assert run(capsys, "get", "tiny") == f"licence of tiny: MIT\ntiny is here: {cache}/tiny.gguf\n"
    assert calls == ["tiny"]
    assert run(capsys, "get", "base").startswith("base comes with minilora: ")
    facts = json.loads(run(capsys, "info", "base", "--json"))
    assert (facts["parameters"], facts["stored"]) == (2_828_736, {"F16": 2_828_736})


# info


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_folder_is_described_as_it_loads(tmp_path, capsys, is_tied):
    model = llama(tie_word_embeddings=is_tied)
    save_model(model, TOKENIZER, tmp_path, "float16")
    facts = json.loads(run(capsys, "info", tmp_path, "--json"))
    total = sum(p.size for p in model.parameters())
    assert (facts["vocab_size"], facts["parameters"], facts["stored"]) == (SIZES["vocab_size"], total, {"F16": total})
    out = run(capsys, "info", tmp_path)
    assert f"  parameters                {total:,}\n" in out and max(map(len, out.splitlines()[1:])) <= 80


def test_a_gguf_file(tmp_path, capsys):
    pytest.importorskip("gguf")
    from tests.models.test_llama_gguf import model_of, write

    path, model = tmp_path / "tiny.gguf", model_of(tie_word_embeddings=True)
    write(path, model)
    facts, total = json.loads(run(capsys, "info", path, "--json")), sum(p.size for p in model.parameters())
    assert (facts["parameters"], facts["stored"], facts["rope_theta"]) == (total, {"F32": total}, 500.0)
    path.write_bytes(path.read_bytes()[:-100])
    assert "tiny.gguf: tensor" in refused(capsys, "info", path)


EVIL = "\x1b[31mevil\x1b]0;title\x07"


def edit(path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_an_adapter_says_so_and_brings_no_control_characters(tmp_path, capsys):
    adapted = get_peft_model(quant.quantize_model(llama()), LoraConfig(r=3, lora_alpha=6, target_modules="all-linear"))
    adapted.save_pretrained(tmp_path / "run" / "adapter", EVIL)
    facts = json.loads(run(capsys, "info", tmp_path / "run", "--json"))
    assert (facts["peft_type"], facts["r"], facts["lora_alpha"]) == ("LORA", 3, 6)
    assert facts["parameters"] == adapted.get_nb_trainable_parameters()[0] and len(facts["target_modules"]) == 14
    edit(tmp_path / "run" / "adapter" / "adapter_config.json", target_modules=[EVIL, "q_proj"], **{EVIL: EVIL})
    out = run(capsys, "info", tmp_path / "run" / "adapter")
    assert "\x1b" not in out and out.replace("\n", "").isprintable() and "\\x1b[31mevil" in out
    assert max(map(len, out.splitlines()[1:])) <= 80


@pytest.mark.parametrize(
    "part, change, expected",
    [
        ("m", {"model_type": "be\x1brt"}, "minilora reads llama"),
        ("a", {"peft_type": "\x1b"}, "minilora reads "),
        ("nowhere", {}, "is not a model: give base"),
        ("SmolLM", {}, "did you mean 'smollm2'?"),
        ("tiny", {}, "tiny is not on this machine yet: minilora models get tiny"),
    ],
)
def test_damage_is_one_line(tmp_path, cache, capsys, monkeypatch, part, change, expected):
    monkeypatch.chdir(tmp_path)
    save_model(llama(), TOKENIZER, tmp_path / "m")
    get_peft_model(llama(), LoraConfig()).save_pretrained(tmp_path / "a")
    if change:
        edit(tmp_path / part / ("config.json" if part == "m" else "adapter_config.json"), **change)
    assert expected in refused(capsys, "info", part)
