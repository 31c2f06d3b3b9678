"""Hugging Face model folders: `pytest tests/formats/test_huggingface.py`."""

import json
import os

import numpy as np
import pytest
import safetensors.numpy as library
from safetensors import safe_open

from minilora.errors import FormatError, MiniloraError
from minilora.formats.huggingface import open_folder, write_folder
from minilora.formats.safetensors import save_file

pytestmark = pytest.mark.host

CONFIG = {"model_type": "llama", "hidden_size": 4, "rope_parameters": {"rope_theta": 1e4}}
TENSORS = {
    "model.embed_tokens.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "lm_head.weight": np.ones((4, 3), np.float16).T,
}


def assert_same(folder, tensors=TENSORS):
    config, loaded = open_folder(folder)
    assert config == CONFIG and loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(loaded[name].read(), array, strict=True)


def write_sharded(folder, weight_map=None):
    """Write TENSORS in two shards, as transformers splits large models."""
    folder.mkdir()
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for shard, (name, array) in zip(shards, TENSORS.items(), strict=True):
        save_file(folder / shard, {name: array}, {"format": "pt"})
    weight_map = weight_map or dict(zip(TENSORS, shards, strict=True))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_round_trip(tmp_path):
    write_folder(tmp_path / "deep" / "model", CONFIG, TENSORS)
    assert_same(tmp_path / "deep" / "model")
    assert sorted(os.listdir(tmp_path / "deep" / "model")) == ["config.json", "model.safetensors"]
    path = tmp_path / "deep" / "model" / "model.safetensors"
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
    np.testing.assert_array_equal(library.load_file(path)["lm_head.weight"], TENSORS["lm_head.weight"])


def test_writing_again_replaces_what_is_read(tmp_path):
    folder = write_sharded(tmp_path / "model")
    (folder / "README.md").write_text("mine")
    (folder / ".config.json.tmp").write_text("left by a killed writer")
    new = {"w": np.zeros(2)}
    write_folder(folder, CONFIG, new)
    assert_same(folder, new)
    left = sorted(name for name in os.listdir(folder) if not name.startswith("model-"))
    assert left == ["README.md", "config.json", "model.safetensors"] and (folder / "README.md").read_text() == "mine"


def test_a_stopped_writer_leaves_no_config(tmp_path):
    with pytest.raises(MiniloraError, match="dtype"):
        write_folder(tmp_path / "model", CONFIG, {"w": np.zeros(2, complex)})
    with pytest.raises(TypeError):  # a configuration that is no JSON is found before anything is written
        write_folder(tmp_path / "other", {"a": object()}, TENSORS)
    assert os.listdir(tmp_path / "model") == [] and not (tmp_path / "other").exists()


def test_the_index_decides_between_shards(tmp_path):
    folder = write_sharded(tmp_path / "model")
    second = max(folder.glob("model-*.safetensors"))
    tensors = {"lm_head.weight": TENSORS["lm_head.weight"], "model.embed_tokens.weight": np.zeros((3, 4), np.float32)}
    save_file(second, tensors)
    assert_same(folder)


@pytest.mark.parametrize("write", [write_sharded, lambda folder: write_folder(folder, CONFIG, TENSORS)])
def test_the_hugging_face_cache_loads_and_is_not_written_through(tmp_path, write):
    snapshot, blobs = tmp_path / "models--me" / "snapshots" / "0123abcd", tmp_path / "models--me" / "blobs"
    snapshot.mkdir(parents=True)
    write(blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert_same(snapshot)
    write_folder(snapshot, CONFIG, {"w": np.zeros(2)})
    assert_same(blobs)


OUTSIDE = ["../secret.safetensors", "/secret.safetensors", "a/b.safetensors", "..\\a.safetensors", "c:a.safetensors"]


@pytest.mark.parametrize("shard", [*OUTSIDE, "..", "", "x.bin", "config.json", "a\n.safetensors", None, 3, ["a"]])
def test_shard_names_are_judged_as_text(tmp_path, shard):
    save_file(tmp_path / "secret.safetensors", {"w": np.zeros(2)})
    with pytest.raises(FormatError, match="not a safetensors file beside it"):
        open_folder(write_sharded(tmp_path / "model", {"w": shard}))


def test_what_is_missing_is_named(tmp_path):
    first = "model-00001-of-00002.safetensors"
    present = {f"t{i}": first for i in range(1_000)} | {"model.embed_tokens.weight": first}
    folder = write_sharded(tmp_path / "tensors", present)
    with pytest.raises(FormatError, match=f"{first} has no tensor t0, t1, t2 and 997 more$"):
        open_folder(folder)
    (folder / first).unlink()
    with pytest.raises(FormatError, match=f"cannot read .*{first}: No such file"):
        open_folder(folder)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {}}', "["])
def test_a_bad_index(tmp_path, index):
    folder = write_sharded(tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(FormatError, match="index.json"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model/pytorch_model.bin", r"pickle \(pytorch_model.bin\)"),
        ("model/consolidated.00.pth", "pickle"),
        ("model/config.json", "has neither model.safe"),
        ("model", "Not a directory"),
        ("other", "No such file"),
    ],
)
def test_folders_that_are_none(tmp_path, name, message):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(FormatError, match=message):
        open_folder(tmp_path / "model")
