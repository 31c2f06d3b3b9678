"""pytest tests/train/test_hub.py: models by their names on the Hub, from a server on this machine that speaks as it."""

import json
import shutil
import signal
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from minilora.cli import main
from minilora.formats.safetensors import load_file, save_file
from minilora.show.grids import show_size
from minilora.train import hub
from minilora.train.catalog import CATALOG
from minilora.train.load import base_of, load_model
from minilora.train.save import save_gguf, training_of
from tests.helpers import tiny_chat
from tests.helpers.hub_server import GATED, serving

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Make model folders by name: good ones, in one file and in two, and ones that cannot be loaded."""
    place = tmp_path_factory.mktemp("models")
    tiny = tiny_chat.save(place / "tiny", ["What is it? It is so."])
    for name in ("README.md", "pytorch_model.bin", "model.fp16.safetensors"):  # not read
        (tiny / name).write_bytes(b"no")
    sharded = shutil.copytree(tiny, place / "sharded")
    tensors, _ = load_file(tiny / "model.safetensors")
    shards = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for shard in {*shards.values()}:
        save_file(sharded / shard, {name: tensors[name] for name in tensors if shards[name] == shard}, {"format": "pt"})
    (sharded / "model.safetensors").unlink()
    (sharded / INDEX).write_text(json.dumps({"weight_map": shards}))
    for name, change in (("bert", {"model_type": "bert"}), ("act", {"hidden_act": "gelu"})):
        other = shutil.copytree(tiny, place / name)
        config = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(config | change))
    pickled = shutil.copytree(tiny, place / "pickled")
    (pickled / "model.safetensors").unlink()
    return {f"org/{folder.name}": folder for folder in place.iterdir()} | {GATED: tiny}


@pytest.fixture
def server(models, tmp_path, monkeypatch):
    """Start a local Hub for libraries that the test imports, with an empty cache."""
    with serving(models) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        for module in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            monkeypatch.delitem(sys.modules, module)
        yield server


def run(capsys, *arguments, code: int = 0) -> str:
    """Return the output of a command, or the one line of its error."""
    assert main([*map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert err.count("\n") == (code != 0) and "Traceback" not in err
    return err if code else out


INDEX = "model.safetensors.index.json"
WEIGHTS = {
    "org/tiny": ["model.safetensors"],
    "org/sharded": ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
}
SMALL = ["chat_template.jinja", "config.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("name, weights", WEIGHTS.items())
def test_get_brings_what_is_read_and_then_no_connection_is_needed(server, models, capsys, name, weights):
    words = f"{name}: no such folder, and no model of the Hub on this machine yet: minilora models get {name}\n"
    assert words in run(capsys, "generate", "--model", name, "--prompt", "x", code=2) and not server.requests
    lines = run(capsys, "models", "get", name).splitlines()
    after = {*weights, *(file for file in SMALL if (models[name] / file).exists())} - {"config.json"}
    before = {"config.json"} | ({INDEX} if name == "org/sharded" else set())  # the size is known then
    assert sorted(server.requests) == sorted(before | after)
    size = show_size(sum((models[name] / file).stat().st_size for file in after))
    assert lines == [f"{name}: {size} to download", f"{name} is here: {hub.cached(name)}"]
    server.shutdown()
    server.server_close()
    assert run(capsys, "models", "get", name).splitlines() == lines[1:]
    for a, b in zip(load_model(name)[0].parameters(), load_model(str(models["org/tiny"]))[0].parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert run(capsys, "generate", "--model", name, "--prompt", "What", "--max-new-tokens", "3").startswith("What")
    assert '"hidden_size": 16' in run(capsys, "models", "info", name, "--json")
    assert "16" in run(capsys, "plan", name)


def test_a_missing_folder_is_not_taken_for_a_model_of_the_hub(server, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for source in ("runs/merged", "./merged", "../none/merged", str(tmp_path / "merged")):
        error = run(capsys, "generate", "--model", source, "--prompt", "x", code=2)
        assert error.endswith(f"{source}: there is no such folder\n") and "get" not in error
    (tmp_path / "org").mkdir()  # a model in the cache is read all the same
    run(capsys, "models", "get", "org/tiny")
    run(capsys, "generate", "--model", "org/tiny", "--prompt", "What", "--max-new-tokens", "3")


@pytest.mark.parametrize(
    "name, message, requests",
    [
        ("org/none", "the Hub has no such model, or it is private: hf auth login", []),
        (GATED, "accept its terms on its page of the Hub, then log in: hf auth login", []),
        ("org/bert", "it holds a 'bert' model; minilora reads llama", ["config.json"]),
        ("org/act", "hidden_act must be 'silu', not 'gelu'", ["config.json"]),
        ("org/pickled", "it lacks one of config.json, tokenizer.json and model.safetensors", []),
        ("org/\x1btiny", "a model of the Hub is called ORG/NAME", []),
    ],
)
def test_what_cannot_be_had_is_a_line_before_weights_come(server, capsys, name, message, requests):
    error = run(capsys, "models", "get", name, code=2)
    assert message in error and error[:-1].isprintable() and server.requests == requests


def test_no_connection_and_no_library_are_a_line(server, capsys, monkeypatch):
    server.shutdown()
    server.server_close()
    assert "org/tiny: cannot be downloaded: " in run(capsys, "models", "get", "org/tiny", code=2)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for command in (["models", "get", "org/tiny"], ["plan", "org/tiny"]):
        assert 'the Hub needs pip install "minilora[hub]"' in run(capsys, *command, code=2)


@pytest.mark.parametrize("name, weights", WEIGHTS.items())
def test_a_download_that_is_interrupted_keeps_the_files_that_have_come(server, capsys, name, weights):
    server.at_half = lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    run(capsys, "models", "get", name, code=130)
    assert f"minilora models get {name}\n" in run(capsys, "models", "info", name, code=2)
    server.requests.clear()
    assert f"{name} is here: " in run(capsys, "models", "get", name)
    assert sorted(server.requests) == weights and load_model(name)


def test_a_copy_is_called_by_its_original_and_found_again(server, models, tmp_path, capsys, monkeypatch):
    """The catalog's "copy" has other weights than the model on the Hub that its adapters name for PEFT."""
    entry = replace(CATALOG["smollm2"], files={"tiny.gguf": 0}, hub_name="org/tiny")
    monkeypatch.setitem(CATALOG, "copy", entry)
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    copy, tokenizer = load_model(str(models["org/tiny"]))
    copy.lm_head.weight.data += 0.01
    path = save_gguf(copy, tokenizer, tmp_path / "cache" / "copy" / "tiny.gguf")
    monkeypatch.setitem(CATALOG, "copy", replace(entry, files={"tiny.gguf": path.stat().st_size}))
    data, out = tmp_path / "text.txt", tmp_path / "run"
    data.write_text("\n\n".join(f"It is so, {n} times." for n in range(60)))
    finetune = ["finetune", "--data", data, "--steps", "2", "--rank", "1", "--seq-len", "16", "--json"]
    assert main([*map(str, finetune), "--model", "copy", "--out", str(out)]) in (0, 3)
    assert main(["models", "get", "org/tiny"]) == 0
    assert main([*map(str, finetune), "--model", "org/tiny", "--out", str(tmp_path / "own")]) in (0, 3)
    for folder, model in ((out, "copy"), (tmp_path / "own", "org/tiny")):
        config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "org/tiny" and training_of(folder)["model"] == model
        assert base_of(folder) == model and load_model(None, folder)
        assert ("trained on a 4-bit copy (Q4_1) of org/tiny" in (folder / "adapter" / "README.md").read_text()) == (
            model == "copy"
        )
        (folder / "adapter" / "training.json").unlink()  # as PEFT's own adapters
        assert base_of(folder / "adapter") == "org/tiny"


# Export


@pytest.mark.parametrize("source", ["base", "folder", "file.gguf"])
def test_an_export_is_the_model_as_a_folder(tmp_path, models, capsys, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models["org/tiny"], "folder")
    save_gguf(*load_model("folder"), tmp_path / "file.gguf")
    model, tokenizer = load_model(source)
    assert run(capsys, "merge", "--model", source, "--out", "out") == "saved out\n"
    again, words = load_model("out")
    for (name, a), (other, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert name == other and a.numpy().dtype == b.numpy().dtype == "float32"
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert words.config() == tokenizer.config() and list(words.encode("It is")) == list(tokenizer.encode("It is"))
    assert "out exists already; choose another --out" in run(capsys, "merge", "--model", source, "--out", "out", code=2)
