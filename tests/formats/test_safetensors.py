"""The safetensors format and atomic files: `pytest tests/formats/test_safetensors.py`."""

import json
import os
import random
import signal
import stat
from contextlib import contextmanager

import numpy as np
import pytest
import safetensors.numpy as library

from minilora.errors import FormatError, MiniloraError
from minilora.formats import atomic, safetensors
from minilora.formats.atomic import read_json, write_atomic, write_json
from minilora.formats.safetensors import load_file, save_file

pytestmark = pytest.mark.host

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((3, 5)).astype(np.float32)


def write_raw(path, fields, data=b"", length=None):
    """Write a safetensors file with any header: `fields` as an object or as bytes."""
    head = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    path.write_bytes((len(head) if length is None else length).to_bytes(8, "little") + head + data)
    return path


def entry(dtype="F32", shape=(2,), start=0, stop=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


@contextmanager
def time_limit(seconds):
    def stop(*_):
        raise AssertionError(f"still busy after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Round trips

DTYPES = ["<u8", "<i8", "<f8", "<f4", "<u4", "<i4", "<f2", "<u2", "<i2", "i1", "u1", "?"]


def every_dtype():
    return {f"{name}.{dtype}": RNG.integers(0, 2, (2, 3)).astype(dtype) for name in "ba" for dtype in DTYPES}


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {'quote " and \n \x1f \x7f': "ü\\/"}])
def test_every_dtype_comes_back_and_the_bytes_are_those_of_the_library(tmp_path, metadata):
    arrays = every_dtype() | {"ü\n": np.array(1.5, np.float32), "empty": np.zeros((0, 4), np.int32)}
    save_file(tmp_path / "a", arrays, metadata)
    assert (tmp_path / "a").read_bytes() == library.save(arrays, metadata or None)
    loaded, read = load_file(tmp_path / "a")
    assert read == metadata and loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)


LAYOUTS = {
    "transposed": WEIGHT.T,
    "strided": WEIGHT[::-1, ::2],
    "fortran": np.asfortranarray(WEIGHT),
    "broadcast": np.broadcast_to(WEIGHT[0], (4, 5)),
    "big-endian": WEIGHT.astype(">f4"),
    "0 columns": np.zeros((3, 0), np.float32),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_come_back(tmp_path, name):
    array = LAYOUTS[name]
    save_file(tmp_path / "a", {"w": array})
    for loaded in (load_file(tmp_path / "a")[0]["w"], library.load_file(tmp_path / "a")["w"]):
        np.testing.assert_array_equal(loaded, array)
        assert loaded.shape == array.shape and loaded.dtype == np.float32
    assert safetensors.on_disk("w", array).flags.c_contiguous


def test_loaded_arrays_are_independent_and_writable(tmp_path):
    save_file(tmp_path / "a", {"x": WEIGHT, "y": WEIGHT})
    loaded, _ = load_file(tmp_path / "a")
    loaded["x"][:] = 0
    np.testing.assert_array_equal(loaded["y"], WEIGHT)


def test_bfloat16_widens_exactly(tmp_path):
    bits = np.array([0x0000, 0x8000, 0x3F80, 0xC000, 0x7F80, 0x0001, 0x7FC0], np.uint16)
    path = write_raw(tmp_path / "a", {"w": entry("BF16", (7, 1), 0, 14)}, bits.tobytes())
    loaded, expected = load_file(path)[0]["w"], [0.0, -0.0, 1.0, -2.0, np.inf, 2.0**-133, np.nan]
    np.testing.assert_array_equal(loaded, np.array(expected, np.float32)[:, None], strict=True)
    assert np.signbit(loaded[1, 0])
    scalar = load_file(write_raw(tmp_path / "a", {"w": entry("BF16", (), 0, 2)}, b"\x80\x3f"))[0]["w"]
    scalar[...] *= 2  # an array, which can be written to
    np.testing.assert_array_equal(scalar, np.array(2, np.float32), strict=True)


def test_booleans_are_normalized(tmp_path):
    loaded = load_file(write_raw(tmp_path / "a", {"w": entry("BOOL", (1, 3), 0, 3)}, b"\x00\x01\x02"))[0]["w"]
    assert loaded.tobytes() == b"\x00\x01\x01" and loaded.dtype == bool and loaded.shape == (1, 3)


@pytest.mark.parametrize(
    "tensors, metadata, words",
    [
        ({"layer.weight": np.zeros(2, complex)}, None, "tensor layer.weight has dtype"),
        ({"__metadata__": WEIGHT}, None, "metadata"),
        ({}, {"step": 3}, "metadata"),
    ],
)
def test_what_could_not_be_read_back_is_not_saved(tmp_path, tensors, metadata, words):
    with pytest.raises(MiniloraError, match=words):
        save_file(tmp_path / "a", tensors, metadata)
    assert os.listdir(tmp_path) == []


# Files that lie

TWO = {"a": entry(), "b": entry(start=8, stop=16)}
BAD = {
    "shape and bytes differ": ({"a": entry(shape=(3,))}, 8, "does not fill"),
    "a hole": ({"a": entry(), "b": entry(start=12, stop=20)}, 20, "tensor b leaves a gap"),
    "an overlap": ({"a": entry(), "b": entry(start=4, stop=12)}, 12, "tensor b overlaps"),
    "data cut off": (TWO, 15, "need"),
    "offsets beyond the file": ({"a": entry(shape=(2**40,), stop=2**42)}, 8, "need"),
    "offsets backwards": ({"a": entry(start=8, stop=0)}, 8, "does not fill"),
    "a product that wraps to the right size": ({"a": entry(shape=(2**62 + 1, 2))}, 8, "does not fill"),
    "nothing, hugely": ({"a": entry(shape=(0, 2**62, 2**62), stop=0)}, 0, "does not fill"),
    "true for a size": ({"a": entry(shape=(True, 2))}, 8, "has shape"),
    "too many axes": ({"a": entry(shape=(1,) * 65 + (2,))}, 8, "has shape"),
    "a shape that is text": ({"a": entry() | {"shape": "2"}}, 8, "has shape"),
    "an unknown dtype": ({"a": entry("F8_E4M3")}, 8, "dtype F8_E4M3"),
    "no dtype": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, 8, "lacks"),
    "metadata with numbers": ({"__metadata__": {"a": 1}}, 0, "metadata"),
    "nested deep": (b'{"a":' * 100_000, 0, "not valid JSON"),
    "a number of 5,000 digits": (b'{"a": ' + b"1" * 5_000 + b"}", 0, "not valid JSON"),
}


@pytest.mark.parametrize("fields, nbytes, message", BAD.values(), ids=BAD.keys())
def test_bad_headers_are_refused(tmp_path, fields, nbytes, message):
    with pytest.raises(FormatError, match=message) as caught:
        load_file(write_raw(tmp_path / "bad.safetensors", fields, bytes(nbytes)))
    assert "bad.safetensors" in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("length", [2**40, safetensors.HEADER_LIMIT + 1])
def test_bad_lengths_are_refused_and_a_header_over_the_limit_is_not_read(tmp_path, length):
    with open(tmp_path / "a", "wb") as file:  # sparse: takes no space on the disk
        file.write(length.to_bytes(8, "little") + b"{}")
        file.truncate(2 * safetensors.HEADER_LIMIT)
    with pytest.raises(FormatError, match=f"header needs {length:,} bytes"):
        load_file(tmp_path / "a")


def test_control_characters_in_names_are_escaped(tmp_path):
    with pytest.raises(FormatError) as caught:
        load_file(write_raw(tmp_path / "a", {"\x1b[2J\n" + "x" * 500: 3}))
    assert "\\x1b[2J\\n" in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 400


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    with time_limit(5):
        for path in (tmp_path / "fifo", tmp_path / "link", "/dev/zero", tmp_path, tmp_path / "nothing"):
            with pytest.raises(FormatError, match="cannot read"):
                load_file(path)
            with pytest.raises(FormatError, match="cannot read"):
                read_json(path)


def mutate(raw, rng):
    """Damage a file a little: flip bits, change 8-byte numbers, move or drop pieces."""
    raw = bytearray(raw)
    kind = rng.randrange(6)
    if kind < 2:  # bits of the first half, where most of the meaning is, or anywhere
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(len(raw) // (2 - kind))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        del raw[rng.randrange(len(raw)) :]
    elif kind == 3:
        raw += rng.randbytes(rng.randint(1, 64))
    elif kind == 4:
        at = rng.choice([0, rng.randrange(len(raw) - 8)])
        raw[at : at + 8] = rng.choice([0, 1, 9, 2**31, 2**48, 2**63, 2**64 - 1]).to_bytes(8, "little")
    else:
        start, stop = sorted(rng.choices(range(len(raw)), k=2))
        piece, place = raw[start:stop], rng.randrange(len(raw))
        if rng.random() < 0.5:
            del raw[start:stop]
        raw[place:place] = piece
    return bytes(raw)


def mutate_header(raw, rng):
    """Replace a word in the header, and correct the header's length."""
    head = raw[8 : 8 + int.from_bytes(raw[:8], "little")]
    words = [b'"a"', b'"bb"', b"F32", b"I64", b"BF16", b"BOOL", b"[2,3]", b"[]", b"[0,24]", b"24", b"3", b":", b","]
    new = rng.choice([*words, b"-1", b"0", b"1e3", b"null", b"9" * 30, b"[" * 50, b'"__metadata__"', b"[0,0]"])
    old = rng.choice([word for word in words if word in head])
    changed = head.replace(old, new, rng.choice([1, -1]))
    return len(changed).to_bytes(8, "little") + changed + raw[8 + len(head) :]


@pytest.mark.slow
def test_mutated_files_load_or_give_one_error(tmp_path):
    rng = random.Random(20)
    arrays = {"a": WEIGHT[:2, :3], "bb": np.arange(3), "c": np.ones(200, bool), "d": np.zeros((0, 2), np.float16)}
    save_file(tmp_path / "whole", arrays, {"format": "pt"})
    whole = (tmp_path / "whole").read_bytes()
    path, loaded, refused = tmp_path / "mutated", 0, 0
    with time_limit(60):
        for _ in range(5_000):
            raw = rng.choice([mutate, mutate_header])(whole, rng)
            path.write_bytes(raw)
            try:
                ours, _ = load_file(path)
            except FormatError as error:
                assert "mutated" in str(error) and "\n" not in str(error)
                refused += 1
                continue
            loaded += 1
            try:  # we are never laxer than the library, and read the same
                theirs = library.load(raw)
            except KeyError as error:
                assert error.args == ("BF16",)  # which its NumPy side cannot read
                continue
            assert ours.keys() == theirs.keys()
            for name, array in ours.items():
                expected = theirs[name]
                assert array.shape == expected.shape and array.dtype == expected.dtype
                assert array.dtype == bool or array.tobytes() == expected.tobytes()
    assert loaded > 100 and refused > 2_000


# Atomic files


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_point_leaves_the_old_file_alone(tmp_path, monkeypatch, failing, error):
    write_atomic(tmp_path / "a", b"old")

    def fail(*_):
        raise error

    if failing != "write":
        monkeypatch.setattr(atomic.os, failing, fail)
    with pytest.raises(MiniloraError if isinstance(error, OSError) else KeyboardInterrupt):
        write_atomic(tmp_path / "a", fail if failing == "write" else b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_file_and_folder_are_flushed_in_order(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle):
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_replace(*names):
        calls.append("rename")
        replace(*names)

    monkeypatch.setattr(atomic.os, "fsync", note_fsync)
    monkeypatch.setattr(atomic.os, "replace", note_replace)
    write_atomic(tmp_path / "a", b"x")
    assert calls == ["file", "rename", "folder"]


def test_an_ordinary_file_mode(tmp_path):
    before = os.umask(0o027)
    try:
        save_file(tmp_path / "a", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("path", "words"),
    [("file/a", "cannot create the folder .*file: File exists"), ("/proc/a", "cannot write"), ("", "cannot write")],
)
def test_unwritable_places_are_one_line(tmp_path, path, words):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").write_text("")
    with pytest.raises(MiniloraError, match=words):
        write_atomic(tmp_path / "here" / path, b"x")
    assert os.listdir(tmp_path / "here") == ["file"] and os.listdir(tmp_path) == ["here"]


def test_what_a_killed_writer_left_is_overwritten(tmp_path):
    (tmp_path / "deep").mkdir()
    write_atomic(tmp_path / "deep" / "a", lambda file: (tmp_path / os.path.basename(file.name)).write_text("left"))
    (left,) = set(os.listdir(tmp_path)) - {"deep"}
    write_atomic(tmp_path / "a", b"whole")
    assert left.startswith(".") and (tmp_path / "a").read_text() == "whole"
    assert sorted(os.listdir(tmp_path)) == ["a", "deep"]


def test_json_round_trip_and_limits(tmp_path):
    path, value = tmp_path / "a.json", {"ü": [1, 2**100], "nested": {"a": None}}
    with pytest.raises(MiniloraError, match=r"a\\udcff.* is not UTF-8"):
        write_json(path, {"path": os.fsdecode(b"a\xff")})
    assert not path.exists()
    write_json(path, value)
    assert read_json(path, limit=path.stat().st_size) == value
    with pytest.raises(FormatError, match="more than [0-9]+ bytes"):
        read_json(path, limit=path.stat().st_size - 1)
    path.write_bytes(b"[1]")
    with pytest.raises(FormatError, match="not an object"):
        read_json(path)
