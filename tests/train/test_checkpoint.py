"""Checkpoints that survive: `pytest tests/train/test_checkpoint.py`."""

import os
import random
import subprocess
import sys
import time
from hashlib import sha256

import numpy as np
import pytest

from minilora.errors import FormatError
from minilora.formats.safetensors import save_file
from minilora.train.run import latest_checkpoint as latest
from minilora.train.run import load_checkpoint as load
from minilora.train.run import save_checkpoint as save

pytestmark = pytest.mark.host

ARRAYS = {
    "model.w": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "big": np.arange(3, dtype=">f4"),
    "optim.step": np.array(7),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 4), np.float16),
}


def arrays_at(step):
    return {"w": np.full(1000, step, np.float32)}


def save_steps(folder, *steps):
    for step in steps:
        save(folder, step, arrays_at(step), {"position": step * 10})


def steps_in(folder):
    return sorted(int(name[5:13]) for name in os.listdir(folder) if name.startswith("step-"))


def flip_bit(path, place):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def test_round_trip(tmp_path):
    rng = np.random.default_rng(3)
    rng.standard_normal(5)
    state = {"rng": rng.bit_generator.state, "best": float("inf"), "data": [1, 2], "name": "ü\n"}
    path = save(tmp_path / "runs" / "checkpoints", 120, ARRAYS, state)
    assert path.name == "step-00000120.safetensors"
    loaded = latest(path.parent)
    assert (loaded.step, loaded.notes, loaded.state) == (120, (), state)
    assert loaded.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded.arrays[name], array, strict=name != "big")
    again = np.random.default_rng()
    again.bit_generator.state = loaded.state["rng"]
    np.testing.assert_array_equal(again.standard_normal(4), rng.standard_normal(4))


def test_the_last_two_are_kept(tmp_path):
    save_steps(tmp_path, 5, 9, 100, 1000)
    assert steps_in(tmp_path) == [100, 1000]


def test_steps_beyond_one_that_is_saved_go(tmp_path):
    """After falling back from a damaged 30 to 20, saving 25 must not count 30 among the good ones."""
    save_steps(tmp_path, 20, 30)
    flip_bit(tmp_path / "step-00000030.safetensors", -1)
    save_steps(tmp_path, 25, 25)  # and a step that is saved twice is one
    assert steps_in(tmp_path) == [20, 25] and latest(tmp_path).step == 25


def test_every_flipped_bit_is_seen(tmp_path):
    path = save(tmp_path, 3, {"w": np.arange(4, dtype=np.float32)}, {"seed": 1})
    whole = path.read_bytes()
    reference = load(path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        try:
            loaded = load(path)
        except FormatError as error:
            assert "step-00000003.safetensors" in str(error)
            continue
        assert loaded.state == reference.state and loaded.step == 3  # a bit of the padding, which means nothing
        np.testing.assert_array_equal(loaded.arrays["w"], reference.arrays["w"], strict=True)


def test_damaged_cut_off_and_foreign_files_fall_back_with_a_note(tmp_path):
    path = tmp_path / "step-00000002.safetensors"
    swap = {b'"a"': b'"?"', b'"b"': b'"a"', b'"?"': b'"b"'}  # right bytes, wrong places

    def exchange() -> None:
        raw = save(tmp_path, 2, {"a": np.zeros(2), "b": np.ones(2)}, {}).read_bytes()
        for old, new in swap.items():
            raw = raw.replace(old, new)
        path.write_bytes(raw)

    def crafted(content: str) -> None:
        save_file(path, {}, metadata={"checkpoint": content, "sha256": sha256(content.encode()).hexdigest()})

    for ruin in (
        lambda: path.write_bytes(b""), lambda: os.truncate(path, 500), lambda: save_file(path, {}), exchange,
        lambda: flip_bit(path, -1), lambda: crafted("{"),
    ):  # fmt: skip
        save_steps(tmp_path, 1, 2)
        ruin()
        loaded = latest(tmp_path)
        assert loaded.step == 1 and loaded.state == {"position": 10}
        assert len(loaded.notes) == 1 and "step-00000002.safetensors" in loaded.notes[0]


SAVE_FOREVER = """
import sys
import numpy as np
from minilora.train.run import latest_checkpoint as latest, save_checkpoint as save
folder = sys.argv[1]
found = latest(folder)
step = found.step if found else 0
while True:
    step += 1
    save(folder, step, {"w": np.full(200_000, step, np.float32)}, {"step": step})
"""


@pytest.mark.slow
def test_kill_9_never_loses_the_last_good_checkpoint(tmp_path):
    rng, last = random.Random(0), 0
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, str(tmp_path)])
        try:
            deadline = time.monotonic() + 20
            while max(steps_in(tmp_path), default=0) <= last:  # until it has saved one more
                assert writer.poll() is None and time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.03))
        finally:
            writer.kill()
            writer.wait()
        loaded = latest(tmp_path)
        assert loaded.notes == () and loaded.step > last and loaded.state == {"step": loaded.step}
        assert (loaded.arrays["w"] == loaded.step).all()
        last = loaded.step
    save(tmp_path, last + 1, {}, {})
    assert len(os.listdir(tmp_path)) == 2  # and no temporary file of a killed writer beside them


def test_a_stale_temporary_file_is_removed_by_the_next_save_only(tmp_path):
    save_steps(tmp_path, 1)
    stale = tmp_path / ".step-00000002.safetensors.tmp"
    stale.write_bytes(b"half")
    assert latest(tmp_path).step == 1 and stale.exists()  # reading beside a writer touches nothing
    save_steps(tmp_path, 2)
    assert not stale.exists() and steps_in(tmp_path) == [1, 2]
