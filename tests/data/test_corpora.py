"""Corpora and a reader's own text: `pytest tests/data/test_corpora.py`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minilora.data import corpora
from minilora.data.corpora import Corpus, Document, docstrings, load, pieces, split, take, without_near_duplicates
from minilora.errors import MiniloraError

pytestmark = pytest.mark.host

SOURCE = '''
"""About the module."""

class Box:
    """A box.

    Say:
        Indented further.
    """
    def open(self):
        """Open it."""
        def inner():
            """Never seen by a reader."""

try:
    import fast
except ImportError:
    def slow():
        """Wait."""

add_newdoc("pkg.core", "array", """
    An array.
    """)
add_newdoc("pkg.core", "array", ("size", "Its size."))
add_newdoc("pkg.core", "array", [("sum", "Its sum."), ("min", "Its minimum.")])
add_newdoc(computed, "array", "Unknown place.")
raise SystemExit("this file must not run")
'''


def texts(documents):
    return {document.name: document.text for document in documents}


def a_corpus(count=400, members=5):
    """Make a corpus with `count` groups of `members` documents."""
    names = [(f"m.C{i}.f{j}", f"m.C{i}") for i in range(count) for j in range(members)]
    return Corpus("test", tuple(Document(name, "text of " + name, group) for name, group in names))


def refused(source, *fragments):
    with pytest.raises(MiniloraError) as caught:
        load(source)
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message
    return caught.value


# Documentation.


def test_docstrings_of_a_source_tree(tmp_path):
    for name in ("mod.py", "tests/test_mod.py", "sub/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(SOURCE if name == "mod.py" else '"""Docstring of this file."""')
    documents = list(docstrings(tmp_path, "pkg"))
    assert texts(documents) == {
        "pkg.mod": "About the module.",
        "pkg.mod.Box": "A box.\n\nSay:\n    Indented further.",
        "pkg.mod.Box.open": "Open it.",
        "pkg.mod.slow": "Wait.",
        "pkg.core.array": "An array.",
        "pkg.core.array.size": "Its size.",
        "pkg.core.array.sum": "Its sum.",
        "pkg.core.array.min": "Its minimum.",
        "pkg.sub": "Docstring of this file.",
    }
    groups = {document.name: document.group for document in documents}
    assert groups["pkg.mod.Box"] == groups["pkg.mod.Box.open"] == "pkg.mod.Box"
    assert groups["pkg.core.array.sum"] == "pkg.core.array"


def test_an_archive_of_the_standard_library_is_read_where_it_lies(tmp_path, monkeypatch):
    library = tmp_path / "lib"
    for name in ("os.py", "pkg/__init__.py", "pkg/core.py", "test/test_os.py", "pkg/tests/core.py", "pkg/data.txt"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(SOURCE)
    archive = Path(shutil.make_archive(str(tmp_path / "python314"), "zip", library))
    monkeypatch.setattr(corpora.os, "__file__", str(archive / "os.py"))
    monkeypatch.setattr(corpora.sysconfig, "get_path", lambda name: str(library))
    from_folder = sorted(corpora._standard_library())
    assert len(from_folder) == 24 and {document.name for document in from_folder} >= {"os.Box.open", "pkg.core.slow"}
    shutil.rmtree(library)
    assert sorted(corpora._standard_library()) == from_folder


def test_near_duplicates_go_and_the_longest_stays():
    words = [f"word{i}" for i in range(60)]
    long, same = Document("y", " ".join(words)), Document("z", " ".join(words))
    copy = Document("a", " ".join(words[10:50]) + " and little else")
    other = Document("b", " ".join(reversed(words)))
    short = Document("c", "Return self.")
    assert without_near_duplicates([short, copy, same, long, other]) == [other, long]


def test_python_docs():
    corpus = load("python-docs")
    assert corpus.characters > 1_000_000
    documents = texts(corpus.documents)
    assert documents["json.decoder.JSONDecoder"].startswith("Simple JSON <https://json.org> decoder\n\nPerforms")
    assert "Assert statements are a convenient way" in documents["pydoc_data.topics.assert"]
    assert not any(name.startswith(("test.", "tkinter.", "idlelib.")) for name in documents)
    assert {"numpy.linalg._linalg.svd", "numpy._core.multiarray.arange"} <= texts(load("numpy-docs").documents).keys()
    train, validation, test = split(corpus)
    share = sum(len(d.text) for d in validation) / corpus.characters
    assert 0.05 < share < 0.15
    assert len(train) + len(validation) + len(test) == len(corpus.documents)


@pytest.mark.slow
def test_a_corpus_is_the_same_in_every_process_and_no_module_of_it_is_imported():
    code = (
        "import sys; from minilora.data.corpora import load; print(load('python-docs').sha256, "
        "{'asyncio', 'turtle', 'xmlrpc', 'pydoc_data', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(" ", 1) == [load("python-docs").sha256, "set()\n"]


# Splits and subsets.


def test_split_keeps_groups_whole_and_does_not_depend_on_other_documents():
    corpus = a_corpus()
    parts = split(corpus)
    groups = [{document.group for document in part} for part in parts]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert sorted(d.name for part in parts for d in part) == sorted(d.name for d in corpus.documents)
    assert all(0.07 < len(part) / len(corpus.documents) < 0.13 for part in parts[1:])
    for part, part_of_fewer in zip(parts, split(Corpus("test", corpus.documents[::-3])), strict=True):
        assert {d.name for d in part_of_fewer} <= {d.name for d in part}


def test_three_groups_give_one_to_each_part_and_two_are_refused():
    for i in range(30):  # whatever the hashes of the names say
        names = Corpus("test", tuple(Document(f"{i}:{j}", "text") for j in range(3)))
        assert [len(part) for part in split(names)] == [1, 1, 1]
    with pytest.raises(MiniloraError, match="at least 2,000"):
        split(a_corpus(2, 9))


def test_take_is_exact_and_nested():
    documents = a_corpus(40).documents
    small, large = take(documents, 100, seed=1), take(documents, 1000, seed=1)
    assert sum(len(d.text) for d in small) == 100 and sum(len(d.text) for d in large) == 1000
    assert "".join(d.text for d in large).startswith("".join(d.text for d in small))
    assert len({d.name for d in large}) == len(large)
    assert [d.name for d in large] != [d.name for d in take(documents, 1000, seed=2)]
    assert sorted(texts(take(documents, 10**9, seed=1))) == sorted(texts(documents))


# A reader's own text.

PROSE = "".join(f"Paragraph {i} says {i * i}.\nIt has two lines.\n\n" for i in range(50))


def test_a_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"\xef\xbb\xbf" + PROSE.replace("\n", "\r\n").encode())
    corpus = load(path)
    assert "\n\n".join(document.text for document in corpus.documents) + "\n\n" == PROSE
    assert all(document.text.startswith("Paragraph") for document in corpus.documents)
    assert all(split(corpus))
    path.write_text(PROSE + "One more.")
    assert load(path).sha256 != corpus.sha256


@pytest.mark.parametrize("size", [200, 2000])
def test_pieces_lose_nothing_but_blank_lines(size):
    for text in (PROSE * 3, "x" * 4567, "word " * 999, "\n\n\n" + "    indented\n" * 500):
        cut = list(pieces(text, size))
        assert "".join(cut).replace("\n", "") == text.replace("\n", "")
        assert all(size // 2 < len(piece) + 2 and len(piece) <= size for piece in cut[:-1])
    assert list(pieces(" \n\n \n", size)) == []


def test_a_folder(tmp_path):
    for name, content in {
        "b.txt": b"Second.",
        "a/deep.md": b"First.",
        "picture.png": b"\x89PNG\0\0",
        "latin.txt": b"caf\xe9",
        ".git/config": b"hidden",
        ".hidden": b"hidden",
        "empty.txt": b"",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    corpus = load(tmp_path)
    assert texts(corpus.documents) == {"b.txt:0": "Second.", "a/deep.md:0": "First."}
    assert corpus.notes == (f"left out of {tmp_path}, as they are not UTF-8 text: latin.txt, picture.png",)
    assert load(tmp_path / "a").notes == load("numpy-docs").notes == ()
    (tmp_path / "others").mkdir()
    (tmp_path / "latin.txt").rename(tmp_path / "others" / "latin.txt")
    refused(tmp_path / "others", "there is no text in", "as they are not UTF-8 text: latin.txt")


@pytest.mark.parametrize(
    "name, fragments",
    [
        ("pyton-docs", ["pyton-docs", "did you mean 'python-docs'?"]),
        ("zzz", ["the corpora are python-docs, numpy-docs, matplotlib-docs"]),
        ("", ["''"]),
        ("a\x1b[31m\0b", [r"a\x1b[31m\x00b"]),
        ("a/table.csv", ["no corpus"]),
    ],
)
def test_unknown_names(name, fragments):
    refused(name, *fragments)


@pytest.mark.parametrize(
    "content, fragments",
    [
        (b"", ["no text"]),
        (b"abc\0def", ["binary", "offset 3"]),
        (b"\xef\xbb\xbfab\xff", ["not UTF-8", "0xff", "offset 5"]),
        (b'{"prompt": "a", "response": "b"}\n', ["holds examples, not running text"]),
        (b'[\n  {"messages": []}]', ["holds examples"]),
        (b"text,label\nno refund yet,billing\n", ["holds examples"]),  # a table with another suffix
        (b'id;"Answer";n; Question \r\n1;a;2;b\r\n', ["holds examples"]),
    ],
)
def test_text_that_is_none(tmp_path, content, fragments):
    (tmp_path / "given.txt").write_bytes(content)
    refused(tmp_path / "given.txt", "given.txt", *fragments)


def test_a_sentence_with_the_names_of_columns_is_a_text(tmp_path):
    (tmp_path / "given.txt").write_text("The question, and its answer\nA text, and no label.\n")
    assert load(tmp_path / "given.txt").documents


def test_an_empty_folder_and_a_table(tmp_path):
    refused(tmp_path, "no text")
    (tmp_path / "rows.CSV").write_text("a,b")
    refused(tmp_path / "rows.CSV", "rows.CSV holds examples")
    (tmp_path / "rows.txt").write_text("text,label\na,b\n")
    refused(tmp_path, f"{tmp_path / 'rows.txt'} holds examples")


def test_text_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.txt"
    with open(path, "wb") as file:
        file.truncate(2**40)  # a hole: takes no room on the disk, and would not fit in memory
    refused(path, "huge.txt", "268,435,456 bytes")
    monkeypatch.setattr(corpora, "SIZE_LIMIT", 10)
    path.write_text("seven..")
    assert load(tmp_path).documents
    (tmp_path / "more.txt").write_text("four")
    refused(tmp_path, "more than 10 bytes of text")
